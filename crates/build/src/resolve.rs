//! From the configuration to a lock: the one beside it if it fits, else a new one
//! that differs from it as little as it can.

use std::collections::{BTreeMap, BTreeSet};
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
use crate::packages::Archives;
use crate::pipeline::Options;
use crate::tools;

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

/// Writes the lock by rename.
pub fn write(path: &Path, lock: &Lock) -> Result<(), BuildError> {
    let temporary = path.with_extension(format!("lock.{}.tmp", std::process::id()));
    let written = std::fs::write(&temporary, lock.to_text())
        .map_err(crate::outputs::io_error("write", &temporary))
        .and_then(|()| {
            std::fs::rename(&temporary, path).map_err(crate::outputs::io_error("rename to", path))
        });
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    Ok(written?)
}
