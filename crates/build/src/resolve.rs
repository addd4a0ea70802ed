//! From the configuration to a lock: the one beside it if it fits, else a new one
//! that differs from it as little as it can.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use config::Config;
use report::{Reporter, Unit};
use solver::Request;
use store::Store;

use crate::base::Base;
use crate::boot_files;
use crate::error::BuildError;
use crate::initrd;
use crate::lock::{Lock, Set};
use crate::outputs::io_error;
use crate::packages::Archives;
use crate::pipeline::Options;
use crate::tools;
use crate::workdir::same_file;

/// Where the lock is.
pub fn lock_path(project: &Path) -> PathBuf {
    project.join("mkgold.lock")
}

/// What a new lock keeps of the one that is there.
pub enum Keep<'a> {
    /// Every version that the archives still have.
    All(&'a Lock),
    /// The same, but for these packages, which get their newest versions.
    AllBut(&'a Lock, &'a [String]),
    /// Nothing.
    Nothing,
}

impl Keep<'_> {
    fn lock(&self) -> Option<&Lock> {
        match self {
            Keep::All(lock) | Keep::AllBut(lock, _) => Some(lock),
            Keep::Nothing => None,
        }
    }

    /// The files to prefer, by SHA-256. A package is renewed with the others of
    /// its source: they depend on each other's exact versions.
    fn files(&self) -> BTreeSet<String> {
        let (lock, names): (&Lock, &[String]) = match self {
            Keep::All(lock) => (lock, &[]),
            Keep::AllBut(lock, names) => (lock, names),
            Keep::Nothing => return BTreeSet::new(),
        };
        let renewed = |name: &str| names.iter().any(|n| n == name);
        let sources: BTreeSet<_> =
            lock.packages.iter().filter(|p| renewed(&p.name)).map(|p| &p.source).collect();
        let kept = lock.packages.iter().filter(|p| !sources.contains(&p.source));
        kept.map(|p| p.sha256.clone()).collect()
    }
}

/// What each set is asked for.
fn requests<'a>(
    config: &Config,
    archives: &Archives,
    names: impl FnOnce() -> BTreeSet<&'a str>,
) -> BTreeMap<Set, Request> {
    let has_base = archives.base().is_some_and(Base::has_packages);
    let mut specs = if has_base { Vec::new() } else { vec!["?essential".to_owned()] };
    specs.extend(config.content.packages.iter().cloned());
    specs.extend(config.content.volatile_packages.iter().cloned());
    let with_recommends = config.content.with_recommends;
    let image = Request { specs, with_recommends, ..Request::default() };
    let mut requests = BTreeMap::from([(Set::Image, image)]);
    if boot_files::wants_initrd(config) {
        let specs = initrd::specs(names(), &config.boot.initrd_packages);
        requests.insert(Set::Initrd, Request { specs, ..Request::default() });
    }
    // As for mkosi, they are there for build scripts alone.
    if !config.scripts.build.is_empty() && !config.content.build_packages.is_empty() {
        let specs = config.content.build_packages.clone();
        requests.insert(Set::Build, Request { specs, with_recommends, ..Request::default() });
    }
    requests
}

/// The lock of a build. One that does not fit is renewed as far as it must be, one
/// that is not there is written: from then on the image changes when somebody
/// says so, not when the archive does. What the initrd is asked for depends on
/// which packages there are, so the fit is judged by what the configuration asks for.
pub fn find(
    config: &Config,
    archives: &Archives,
    options: &Options,
    reporter: &dyn Reporter,
) -> Result<Lock, BuildError> {
    let path = lock_path(&config.project.directory);
    let refused = |reason: &str| BuildError::Locked { path: path.clone(), reason: reason.into() };
    let there = Lock::read(&path)?;
    if let Some(lock) = &there
        && lock.requests == digests(config, archives)?
        && lock.architecture == archives.architecture()
    {
        return Ok(there.expect("just seen"));
    }
    if options.locked {
        return Err(refused(match there {
            Some(_) => "does not fit the configuration",
            None => "is not there",
        }));
    }
    let keep = there.as_ref().map_or(Keep::Nothing, Keep::All);
    let lock = resolve(config, archives, options, reporter, &keep)?;
    match (write(&path, &lock), &there) {
        (Ok(()), Some(_)) => {
            reporter.note(format!("{} did not fit the configuration: renewed", path.display()));
        }
        (Ok(()), None) => reporter.note(format!("{} written; commit it", path.display())),
        // A project that may not be written to is built all the same: what was
        // chosen stands in the manifest.
        (Err(error), None) if is_read_only(&error) => {
            reporter.note(format!("no lock was written: {error}"));
        }
        (Err(error), _) => return Err(error),
    }
    Ok(lock)
}

fn is_read_only(error: &BuildError) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    let BuildError::Output(error) = error else { return false };
    matches!(error.source.kind(), PermissionDenied | ReadOnlyFilesystem)
}

/// A digest of what each set is asked for, without asking the archives.
pub(crate) fn digests(
    config: &Config,
    archives: &Archives,
) -> Result<BTreeMap<Set, String>, BuildError> {
    let requests = requests(config, archives, BTreeSet::new);
    let digests = requests.iter().map(|(set, request)| (*set, archives.request_digest(request)));
    Ok(digests.chain(tools::digests(config, archives)?).collect())
}

/// Chooses packages from what the archives have now.
fn resolve(
    config: &Config,
    archives: &Archives,
    options: &Options,
    reporter: &dyn Reporter,
    keep: &Keep<'_>,
) -> Result<Lock, BuildError> {
    let kept = keep.files();
    let offer = archives.offer(options.now, reporter, &kept)?;
    let step = reporter.step("solve", "packages", None, Unit::Items);
    let requests = requests(config, archives, || offer.names());
    let mut lock = offer.lock(archives, &requests)?;
    tools::choose(&mut lock, config, (archives, &offer), options, reporter, &kept)?;
    lock.requests = digests(config, archives)?;
    lock.follow(keep.lock());
    step.done();
    Ok(lock)
}

/// Chooses packages whatever the lock says, but for what `keep` keeps of it.
pub fn renew(
    config: &Config,
    options: &Options,
    reporter: &dyn Reporter,
    keep: &Keep<'_>,
) -> Result<Lock, BuildError> {
    let store = Store::open(&options.cache)?;
    let archives = Archives::of(config, &store, &options.host_apt, options.fetch.clone())?;
    resolve(config, &archives, options, reporter, keep)
}

/// Where a lock is written before it gets its name.
fn temporary(lock: &Path) -> PathBuf {
    lock.with_extension("lock.tmp")
}

/// Writes the lock by rename.
pub fn write(path: &Path, lock: &Lock) -> Result<(), BuildError> {
    let temporary = temporary(path);
    let mut file = claim(&temporary).map_err(io_error("write", &temporary))?;
    let written = std::io::Write::write_all(&mut file, lock.to_text().as_bytes())
        .map_err(io_error("write", &temporary))
        .and_then(|()| std::fs::rename(&temporary, path).map_err(io_error("rename to", path)));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    Ok(written?)
}

/// The file, empty, for this process alone: builds of one project take turns.
fn claim(path: &Path) -> std::io::Result<File> {
    loop {
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).open(path)?;
        file.lock()?;
        // Whoever had it gave it its name, or took it away.
        let ours = file.metadata()?;
        if std::fs::metadata(path).is_ok_and(|there| same_file(&there, &ours)) {
            file.set_len(0)?;
            return Ok(file);
        }
    }
}

/// Removes what a killed build left beside a lock.
pub(crate) fn remove_abandoned(project: &Path) {
    let path = temporary(&lock_path(project));
    if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
        let _ = std::fs::remove_file(&path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_appears_whole_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = lock_path(dir.path());
        std::fs::write(temporary(&path), "left by a killed build, longer than a lock").unwrap();
        let lock = Lock::new("amd64");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20).for_each(|_| write(&path, &lock).unwrap()));
            }
        });
        assert_eq!(std::fs::read_to_string(&path).unwrap(), lock.to_text());
        std::fs::write(temporary(&path), "left again").unwrap();
        remove_abandoned(dir.path());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
