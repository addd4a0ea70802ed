//! Which packages: from the configuration to a lock, from a lock to files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use apt::archive::{Archive, LoadedSource, PackageFile, Settings};
use apt::cache::{Cache, DEBS};
use apt::fetch::FetchOptions;
use apt::keys::KeyRoots;
use apt::pins::{Origin, Pins};
use apt::sources::{Source, SourceList};
use apt::uri::Uri;
use config::Config;
use config::types::CacheOnly;
use debian::{Architecture, PackageRecord};
use dpkg::{Limits, Package};
use rayon::prelude::*;
use report::{Reporter, Unit};
use solver::{Installed, InstalledPackage, Request, Solution, SourceInfo, Universe};
use store::{Key, KeyHasher, Store};

use crate::base::Base;
use crate::error::BuildError;
use crate::lock::{Lock, LockedPackage, LockedRelease, Set};
use crate::outputs::io_error;

/// The priority of what a lock names: above all that apt gives by itself, below
/// what somebody pins on purpose (1000 and more).
const LOCKED: i32 = 999;

/// The archives of a build.
pub struct Archives {
    architecture: String,
    sources: Vec<Source>,
    directories: Vec<PathBuf>,
    pins: Pins,
    archive: Archive,
    base: Option<Base>,
}

/// Everything that the archives offer.
pub struct Offer {
    universe: Universe,
    loaded: Vec<LoadedSource>,
}

impl Archives {
    /// Reads which archives the configuration means. `host` is the host's
    /// `/etc/apt`, asked for the mirror only.
    pub fn of(
        config: &Config,
        store: &Store,
        host: &Path,
        mut fetch: FetchOptions,
    ) -> Result<Archives, BuildError> {
        fetch.offline |= config.build.cache_only == CacheOnly::Always;
        fetch.cached_metadata |= config.build.cache_only == CacheOnly::Metadata;
        let architecture = config.distribution.architecture.debian().to_owned();
        let native = native(&architecture)?;
        let mut pins = Pins::new(&native);
        let mut own = Vec::new();
        let mut replaces = false;
        let mut roots = Vec::new();
        for tree in config.build.sandbox_trees.iter().filter(|t| t.target.is_none()) {
            let etc = tree.source.join("etc/apt");
            replaces |= ["mkosi.sources", "debian.sources"]
                .iter()
                .any(|name| etc.join("sources.list.d").join(name).exists());
            own.extend(SourceList::read_strict(&etc)?);
            if let Some(more) = Some(Pins::read(&etc, &native)?).filter(|_| etc.exists()) {
                pins = more;
            }
            roots.push(tree.source.clone());
        }
        let mut sources = if replaces { Vec::new() } else { default_sources(config, host)? };
        sources.extend(own);
        roots.push("/".into());
        let settings = Settings {
            architectures: vec![architecture.clone()],
            keys: KeyRoots { roots, debian_by_default: true },
            check_signatures: config.distribution.repository_key_check,
        };
        Ok(Archives {
            architecture,
            sources,
            directories: config.content.package_directories.clone(),
            pins,
            archive: Archive::new(downloads(config, store)?, fetch, settings),
            base: Base::read(config, store)?,
        })
    }

    /// Loads the indices, newest state. The files of `prefer` (SHA-256) win over
    /// other versions, unless a pin forbids them.
    pub fn offer(
        &self,
        now: SystemTime,
        reporter: &dyn Reporter,
        prefer: &BTreeSet<String>,
    ) -> Result<Offer, BuildError> {
        let prefer: BTreeSet<Key> = prefer.iter().filter_map(|hex| Key::from_hex(hex)).collect();
        let is_preferred = |r: &PackageRecord| {
            !prefer.is_empty() && r.sha256.is_some_and(|sha256| prefer.contains(&Key(sha256.0)))
        };
        let mut loaded = self.archive.refresh(&self.sources, now, reporter)?;
        for directory in &self.directories {
            loaded.push(LoadedSource::from_dir(directory, "local")?);
        }
        let native =
            Architecture::new(&self.architecture).map_err(|e| BuildError::Image(e.to_string()))?;
        let mut builder = Universe::builder(native, Vec::new());
        for source in &loaded {
            for index in &source.indices {
                builder =
                    builder.add_pinned(&index.records, self.info(source, &index.origin), |r| {
                        let mut priority = self.pins.priority(r, &[&index.origin]);
                        if priority > 0 && is_preferred(r) {
                            priority = priority.max(LOCKED);
                        }
                        (priority != self.pins.source_priority(&index.origin)).then_some(priority)
                    });
            }
        }
        Ok(Offer { universe: builder.build(), loaded })
    }

    fn info(&self, source: &LoadedSource, origin: &Origin) -> SourceInfo {
        let release = &source.release;
        let names = [&release.suite, &release.codename, &origin.suite, &source.source.suite];
        let mut releases: Vec<Arc<str>> =
            names.into_iter().filter(|n| !n.is_empty()).map(|n| n.as_str().into()).collect();
        releases.dedup();
        SourceInfo {
            label: source.source.suite.as_str().into(),
            priority: self.pins.source_priority(origin),
            releases,
        }
    }

    /// A digest of what a set is asked of: the request and the archives.
    pub fn request_digest(&self, request: &Request) -> String {
        let mut hasher = KeyHasher::new("request 1");
        hasher.add(self.architecture.as_bytes());
        hasher.add(&[u8::from(request.with_recommends)]);
        request.specs.iter().for_each(|spec| {
            hasher.add(spec.as_bytes());
        });
        for source in &self.sources {
            hasher.add(source.suite.as_bytes());
            source.components.iter().for_each(|c| {
                hasher.add(c.as_bytes());
            });
        }
        hasher.add(format!("{:?}", self.pins).as_bytes());
        if let Some(base) = &self.base {
            hasher.add(&base.digest.0);
        }
        hasher.finish().to_string()[..16].to_owned()
    }

    /// Fetches what the cache does not have and unpacks what the store does not
    /// have, both in parallel; in the order of `packages`.
    pub fn packages(
        &self,
        packages: &[&LockedPackage],
        store: &Store,
        reporter: &dyn Reporter,
    ) -> Result<Vec<Arc<Package>>, BuildError> {
        let cached = |p: &&LockedPackage| {
            let package = dpkg::cached(store, &key(p))?;
            if package.is_some() {
                // Not read, but what the package is made of again if it has to be.
                self.downloads().touch(DEBS, &key(p));
            }
            Ok(package)
        };
        let mut found: Vec<Option<Arc<Package>>> =
            packages.par_iter().map(cached).collect::<Result<_, BuildError>>()?;
        let missing: Vec<usize> = (0..packages.len()).filter(|i| found[*i].is_none()).collect();
        if missing.is_empty() {
            return Ok(found.into_iter().flatten().collect());
        }
        let files = missing
            .iter()
            .map(|i| self.file(packages[*i]))
            .collect::<Result<Vec<_>, BuildError>>()?;
        let paths = self.archive.fetch_packages(&files, reporter)?;
        let total = Some(missing.len() as u64);
        let step = reporter.step("unpack", "packages", total, Unit::Items);
        let done = std::sync::atomic::AtomicU64::new(0);
        let unpacked: Vec<Arc<Package>> = missing
            .par_iter()
            .zip(&paths)
            .map(|(i, path)| {
                let package = self.unpack(packages[*i], path, store, reporter)?;
                step.progress(done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1);
                Ok(package)
            })
            .collect::<Result<_, BuildError>>()?;
        step.done();
        for (i, package) in missing.into_iter().zip(unpacked) {
            found[i] = Some(package);
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// Unpacks a package that was fetched. One that was damaged since, or collected by
    /// somebody else, is fetched again.
    fn unpack(
        &self,
        package: &LockedPackage,
        path: &Path,
        store: &Store,
        reporter: &dyn Reporter,
    ) -> Result<Arc<Package>, BuildError> {
        let unpacked = unpack(package, path, store);
        let damaged = match &unpacked {
            Err(BuildError::Unpack { source, .. }) => matches!(**source, dpkg::Error::Hash { .. }),
            Err(_) => !path.exists(),
            Ok(_) => false,
        };
        if !damaged {
            return unpacked;
        }
        self.archive.fetcher().cache().remove_damaged(DEBS, &key(package))?;
        if path.exists() {
            return unpacked;
        }
        let what = &package.name;
        reporter.warn(format!("{}: {what} was damaged or is gone: fetched again", path.display()));
        let paths = self.archive.fetch_packages(&[self.file(package)?], reporter)?;
        unpack(package, &paths[0], store)
    }

    /// Where downloads are kept.
    fn downloads(&self) -> &Store {
        self.archive.fetcher().cache().store()
    }

    /// The same if that is not `store`.
    pub fn own_downloads(&self, store: &Store) -> Option<&Store> {
        Some(self.downloads()).filter(|own| own.root() != store.root())
    }

    /// Where a locked package can be had: from every source of its suite.
    fn file(&self, package: &LockedPackage) -> Result<PackageFile, BuildError> {
        let what = format!("{} {} {}", package.name, package.version, package.architecture);
        let mut uris = Vec::new();
        match &package.suite {
            Some(suite) => {
                for source in self.sources.iter().filter(|s| s.suite == *suite) {
                    let uri = source.uri.join(&package.filename);
                    uris.push(uri.map_err(|e| BuildError::Image(format!("{what}: {e}")))?);
                }
            }
            None => {
                for directory in &self.directories {
                    let path = directory.join(&package.filename);
                    if path.exists() {
                        let uri = Uri::parse(&format!("file:{}", path.display()));
                        uris.push(uri.map_err(|e| BuildError::Image(format!("{what}: {e}")))?);
                    }
                }
            }
        }
        if uris.is_empty() {
            let from = package.suite.as_deref().unwrap_or("PackageDirectories=");
            return Err(BuildError::Image(format!(
                "{what} is locked from {from}, which the configuration no longer names; \
                 run `mkgold lock --update`"
            )));
        }
        Ok(PackageFile { what, sha256: key(package), size: package.size, uris })
    }

    /// Whether a source of theirs is this suite.
    pub fn has_suite(&self, suite: &str) -> bool {
        self.sources.iter().any(|source| source.suite == suite)
    }

    /// What the image starts from.
    pub fn base(&self) -> Option<&Base> {
        self.base.as_ref()
    }

    /// The Debian architecture.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }
}

/// Unpacks a package; an error names it, not the file of the cache.
fn unpack(package: &LockedPackage, path: &Path, store: &Store) -> Result<Arc<Package>, BuildError> {
    let file = std::fs::File::open(path).map_err(io_error("open", path))?;
    let file = std::io::BufReader::with_capacity(1 << 17, file);
    let name = Path::new(&package.filename).file_name().unwrap_or_default().to_string_lossy();
    let unpacked = dpkg::unpack(store, &name, file, &key(package), &Limits::default());
    unpacked.map_err(|e| BuildError::Unpack {
        package: format!("{} {}", package.name, package.version),
        cache: store.root().to_owned(),
        source: Box::new(e),
    })
}

fn native(architecture: &str) -> Result<Architecture, BuildError> {
    Architecture::new(architecture).map_err(|e| BuildError::Image(e.to_string()))
}

/// Where downloads are kept: `PackageCacheDirectory=`, else with everything else.
fn downloads(config: &Config, store: &Store) -> Result<Cache, BuildError> {
    Ok(match &config.build.package_cache_directory {
        Some(dir) => Cache::open(dir)?,
        None => Cache::new(store.clone()),
    })
}

fn key(package: &LockedPackage) -> Key {
    Key::from_hex(&package.sha256).expect("checked when the lock was read or made")
}

fn default_sources(config: &Config, host: &Path) -> Result<Vec<Source>, BuildError> {
    let distribution = config.distribution.distribution.to_string();
    let options = crate::sources::options(config);
    let uri = |text: &String| Uri::parse(text).map_err(|e| BuildError::Image(e.to_string()));
    let mirrors = match (&config.distribution.local_mirror, &config.distribution.mirror) {
        (Some(local), _) => {
            let components = options.components.clone();
            let mut source = Source::new(uri(local)?, "./", &components, Default::default());
            source.trusted = Some(true);
            source.defined_in = "LocalMirror=".into();
            return Ok(vec![source]);
        }
        (None, Some(mirror)) => apt::sources::Mirrors::beside(&uri(mirror)?),
        (None, None) => {
            let host = SourceList::read(host);
            apt::sources::default_mirror(&distribution, &host.sources)
                .ok_or(BuildError::NoMirror { distribution })?
        }
    };
    Ok(apt::sources::debian_sources(&config.distribution.release, &mirrors, &options)?)
}

/// What a base tree or the image has already cannot be changed by what is added to it.
fn only_additions(set: Set, installed: &Installed, solution: &Solution) -> Result<(), BuildError> {
    let setting = if set == Set::Build { "BuildPackages=" } else { "Packages= over BaseTrees=" };
    if let Some((name, _)) = solution.remove.first() {
        let message = format!("{setting}: {name} would have to be removed, which is not supported");
        return Err(BuildError::Image(message));
    }
    let there = |chosen: &&solver::Chosen| {
        let (name, _, architecture) = chosen.id();
        installed.packages.iter().any(|package| {
            (&package.record.name, &package.record.architecture) == (name, architecture)
        })
    };
    match solution.install.iter().find(there) {
        None => Ok(()),
        Some(chosen) => Err(BuildError::Image(format!(
            "{setting}: {} would have to be upgraded to {}, which is not supported",
            chosen.record.name, chosen.record.version
        ))),
    }
}

impl Offer {
    /// The names of all packages.
    pub fn names(&self) -> BTreeSet<&str> {
        self.loaded.iter().flat_map(LoadedSource::records).map(|(r, _)| r.name.as_str()).collect()
    }

    /// Chooses the packages of each set.
    pub fn lock(
        &self,
        archives: &Archives,
        requests: &BTreeMap<Set, Request>,
    ) -> Result<Lock, BuildError> {
        let mut lock = Lock::new(&archives.architecture);
        for source in &self.loaded {
            let Some(date) = source.state.date else { continue };
            lock.releases.push(LockedRelease {
                suite: source.source.suite.clone(),
                date,
                sha256: source.state.sha256.to_string(),
            });
        }
        let mut image = archives.base().map(|base| base.installed.clone()).unwrap_or_default();
        for (set, request) in requests {
            let installed = match set {
                Set::Image | Set::Build => image.clone(),
                _ => Installed::default(),
            };
            let solution = solver::solve(&self.universe, &installed, request)?;
            only_additions(*set, &installed, &solution)?;
            for chosen in solution.install {
                if *set == Set::Image {
                    let (record, auto) = (chosen.record.clone(), chosen.auto);
                    image.packages.push(InstalledPackage { record, auto });
                }
                let package = self.locked(&chosen.record, *set, chosen.auto)?;
                lock.add(package);
            }
            lock.requests.insert(*set, archives.request_digest(request));
        }
        Ok(lock)
    }

    fn locked(
        &self,
        record: &Arc<PackageRecord>,
        set: Set,
        auto: bool,
    ) -> Result<LockedPackage, BuildError> {
        let what = || format!("{} {} {}", record.name, record.version, record.architecture);
        let incomplete =
            || BuildError::Image(format!("{}: the index has no file or hash of it", what()));
        let source = self.loaded.iter().find(|s| s.records().any(|(r, _)| Arc::ptr_eq(r, record)));
        let source = source.ok_or_else(incomplete)?;
        let local = source.state.date.is_none() && source.source.defined_in != "LocalMirror=";
        Ok(LockedPackage {
            name: record.name.to_string(),
            version: record.version.to_string(),
            architecture: record.architecture.to_string(),
            source: record.source.to_string(),
            suite: (!local).then(|| source.source.suite.clone()),
            filename: record.filename.as_deref().ok_or_else(incomplete)?.to_owned(),
            size: record.size,
            sha256: Key(record.sha256.ok_or_else(incomplete)?.0).to_string(),
            sets: [set].into(),
            automatic: if auto { [set].into() } else { BTreeSet::new() },
            generation: 0,
        })
    }
}
