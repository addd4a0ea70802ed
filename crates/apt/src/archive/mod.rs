//! The archives of a build: refresh their state, load their records, fetch packages.
//!
//! Data flow: [`Source`]s → Release file (fetched, or the one seen last, or the one
//! that a lock records) → signature, dates, suite → indices (fetched by hash, parsed
//! once ever) → [`LoadedSource`]s; then [`PackageFile`]s → paths in the cache.
//!
//! A Release is remembered when it was accepted: an older one is refused from then on.
//!
//! Not here: priorities ([`crate::pins`]), choosing (`solver`).

mod indices;
mod releases;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use debian::PackageRecord;
use report::Reporter;
use serde::{Deserialize, Serialize};
use store::Key;

use crate::cache::{self, Cache, CacheError};
use crate::fetch::{FetchError, FetchOptions, Fetcher, Object};
use crate::index::{self, IndexError};
use crate::keys::KeyRoots;
use crate::local::{self, LocalError};
use crate::openpgp::OpenPgpError;
use crate::pins::Origin;
use crate::release::{Release, ReleaseError};
use crate::sources::Source;
use crate::uri::{Uri, UriError};
use indices::{Wanted, origin_of};

/// After how long a download that nobody takes up is removed.
const STALE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Why a source cannot be used, with which one it is.
#[derive(Debug, thiserror::Error)]
#[error("{source_name} ({defined_in})")]
pub struct ArchiveError {
    /// Path and suite of the source.
    pub source_name: String,
    /// Where the source is defined.
    pub defined_in: String,
    /// What went wrong.
    #[source]
    pub kind: Box<ArchiveErrorKind>,
}

/// What went wrong with a source.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveErrorKind {
    /// No Release file.
    #[error(
        "it has no InRelease and no Release file: the suite or the mirror is wrong, or the release has moved to an archive of old releases"
    )]
    NoRelease,
    /// A Release file without a signature.
    #[error(
        "its Release file is not signed: packages could be anybody's; Trusted=yes accepts that for an archive of your own"
    )]
    Unsigned,
    /// The signature.
    #[error("the signature of its Release file is not accepted")]
    Signature(#[from] OpenPgpError),
    /// The Release file.
    #[error("its Release file is not accepted")]
    Release(#[from] ReleaseError),
    /// An index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Fetching.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A URI.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// Nothing was seen yet, and nothing may be fetched.
    #[error(
        "nothing of it is in the cache, and --offline forbids fetching it: build once with network"
    )]
    NeverSeen,
}

/// What is built for, and whom to believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The architectures of the build, the native one first.
    pub architectures: Vec<String>,
    /// Where keyrings are.
    pub keys: KeyRoots,
    /// `RepositoryKeyCheck=`: no means that unsigned archives are believed.
    pub check_signatures: bool,
}

/// Which state of the archives to load.
#[derive(Debug, Clone, Copy)]
pub enum Mode<'a> {
    /// The newest: ask the mirrors. With `FetchOptions::offline`: the one seen last.
    Newest,
    /// The one recorded in a lock file.
    Recorded(&'a IndexState),
}

/// Which Release file a source had: what a lock file records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseState {
    /// Path of the archive and suite, without the host.
    pub source: String,
    /// `Codename:`.
    pub codename: String,
    /// SHA-256 of the InRelease (or Release) file.
    pub sha256: Key,
    /// Its date in seconds since 1970.
    pub date: Option<i64>,
}

/// The state of all sources of a build.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IndexState {
    /// In the order of the sources.
    pub releases: Vec<ReleaseState>,
}

/// The records of one index.
#[derive(Debug, Clone)]
pub struct LoadedIndex {
    /// Where they come from, for pins.
    pub origin: Origin,
    /// The records in the index's order.
    pub records: Vec<Arc<PackageRecord>>,
}

/// A source with all its records.
#[derive(Debug, Clone)]
pub struct LoadedSource {
    /// The source.
    pub source: Source,
    /// Its Release file.
    pub release: Arc<Release>,
    /// Which Release file that was.
    pub state: ReleaseState,
    /// Its indices, by component and architecture.
    pub indices: Vec<LoadedIndex>,
}

/// A package to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFile {
    /// Name, version and architecture, for messages.
    pub what: String,
    /// SHA-256 of the `.deb`.
    pub sha256: Key,
    /// Its size in bytes.
    pub size: u64,
    /// Where it is; the next is tried where one has it not.
    pub uris: Vec<Uri>,
}

/// A record that cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum PackageFileError {
    /// The index has no path for it.
    #[error("package {0} has no Filename in the index")]
    NoFilename(String),
    /// The index has no SHA-256 for it.
    #[error("package {0} has no SHA256 in the index; weaker sums are refused")]
    NoSum(String),
    /// The path leads out of the archive.
    #[error("package {0}")]
    Uri(String, #[source] UriError),
}

/// The archives, their cache and the connections to them.
pub struct Archive {
    fetcher: Fetcher,
    settings: Settings,
}

/// A Release file that was accepted.
struct Accepted {
    release: Arc<Release>,
    state: ReleaseState,
}

impl Archive {
    /// Uses `cache`.
    pub fn new(cache: Cache, options: FetchOptions, settings: Settings) -> Archive {
        Archive { fetcher: Fetcher::new(cache, options), settings }
    }

    /// The fetcher, for other files.
    pub fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// Loads the newest state of all `sources`, in their order.
    pub fn refresh(
        &self,
        sources: &[Source],
        now: SystemTime,
        reporter: &dyn Reporter,
    ) -> Result<Vec<LoadedSource>, ArchiveError> {
        self.load(sources, Mode::Newest, now, reporter)
    }

    /// Loads a state of all `sources`, in their order.
    pub fn load(
        &self,
        sources: &[Source],
        mode: Mode<'_>,
        now: SystemTime,
        reporter: &dyn Reporter,
    ) -> Result<Vec<LoadedSource>, ArchiveError> {
        let accepted = self.releases(sources, mode, now, reporter)?;
        let wanted = self.wanted(sources, &accepted, reporter)?;
        let loaded = self.indices(&wanted, reporter)?;
        let with_release = |(source, accepted): (&Source, Accepted)| LoadedSource {
            source: source.clone(),
            release: accepted.release,
            state: accepted.state,
            indices: Vec::new(),
        };
        let mut result: Vec<_> = sources.iter().zip(accepted).map(with_release).collect();
        for (wanted, records) in wanted.iter().zip(loaded) {
            let origin = origin_of(wanted.source, &wanted.release, &wanted.file);
            result[wanted.number].indices.push(LoadedIndex { origin, records });
        }
        Ok(result)
    }

    /// The indices that the sources have for the build's architectures.
    fn wanted<'a>(
        &self,
        sources: &'a [Source],
        accepted: &[Accepted],
        reporter: &dyn Reporter,
    ) -> Result<Vec<Wanted<'a>>, ArchiveError> {
        let mut wanted = Vec::new();
        let mut known = BTreeSet::new();
        for (number, (source, accepted)) in sources.iter().zip(accepted).enumerate() {
            let selection = index::select(source, &accepted.release, &self.settings.architectures);
            let selection = selection.map_err(|e| at(source)(e.into()))?;
            for arch in selection.missing {
                reporter.warn(format!("{source} has no packages for the architecture {arch}"));
            }
            for file in selection.files {
                let release = accepted.release.clone();
                if known.insert((source.uri.clone(), source.suite.clone(), file.path.clone())) {
                    wanted.push(Wanted { number, source, release, file });
                } else {
                    reporter.warn(format!("{source} {} is configured twice", file.component));
                }
            }
        }
        Ok(wanted)
    }

    /// Fetches packages that the cache does not have; their paths in the same order.
    pub fn fetch_packages(
        &self,
        packages: &[PackageFile],
        reporter: &dyn Reporter,
    ) -> Result<Vec<PathBuf>, FetchError> {
        let object = |package: &PackageFile| Object {
            kind: cache::DEBS,
            sha256: package.sha256,
            size: package.size,
            uris: package.uris.clone(),
            what: package.what.clone(),
        };
        let objects: Vec<_> = packages.iter().map(object).collect();
        self.fetcher.fetch(&objects, "fetch", reporter).map_err(|error| match error {
            FetchError::NotFound { path } => {
                let has =
                    |p: &&PackageFile| p.what == path || p.uris.iter().any(|u| u.path() == path);
                let package = packages.iter().find(has).map_or(&path, |p| &p.what).clone();
                FetchError::Vanished { package, path }
            }
            other => other,
        })
    }

    /// Removes downloads that were never finished. Gives how many.
    pub fn clean(&self, now: SystemTime) -> Result<usize, CacheError> {
        self.fetcher.cache().clean_partials(now, STALE)
    }

    fn cache(&self) -> &Cache {
        self.fetcher.cache()
    }
}

fn at(source: &Source) -> impl Fn(ArchiveErrorKind) -> ArchiveError {
    let (source_name, defined_in) = (source.to_string(), source.defined_in.clone());
    move |kind| ArchiveError {
        source_name: source_name.clone(),
        defined_in: defined_in.clone(),
        kind: Box::new(kind),
    }
}

impl IndexState {
    /// What `sources` were loaded from.
    pub fn of(sources: &[LoadedSource]) -> IndexState {
        IndexState { releases: sources.iter().map(|s| s.state.clone()).collect() }
    }
}

impl LoadedSource {
    /// A directory of `.deb` files. Its records need no fetching:
    /// [`PackageFile::of`] gives the file's own URI.
    pub fn from_dir(dir: &Path, suite: &str) -> Result<LoadedSource, LocalError> {
        let packages = local::read_dir(dir)?;
        let text = format!("file:{}", dir.display());
        let uri = Uri::parse(&text.replace('%', "%25").replace(' ', "%20"));
        let uri = uri.map_err(|e| LocalError {
            path: dir.to_owned(),
            kind: local::LocalErrorKind::Archive(e.to_string()),
        })?;
        let mut source = Source::new(uri, "./", &[], Default::default());
        source.trusted = Some(true);
        source.defined_in = dir.display().to_string();
        let release = Release { suite: suite.to_owned(), ..Release::default() };
        let records: Vec<_> = packages.into_iter().map(|p| p.record).collect();
        let mut sums = store::KeyHasher::new("mkgold-local-1");
        for record in &records {
            sums.add(record.cache_name().as_bytes());
            sums.add(&record.sha256.map_or([0; 32], |sum| sum.0));
        }
        let state = ReleaseState {
            source: source.to_string(),
            codename: String::new(),
            sha256: sums.finish(),
            date: None,
        };
        let origin = Origin { suite: suite.to_owned(), ..Origin::default() };
        let indices = vec![LoadedIndex { origin, records }];
        Ok(LoadedSource { source, release: Arc::new(release), state, indices })
    }

    /// The records of all indices.
    pub fn records(&self) -> impl Iterator<Item = (&Arc<PackageRecord>, &Origin)> {
        self.indices.iter().flat_map(|index| index.records.iter().map(|r| (r, &index.origin)))
    }
}

impl PackageFile {
    /// The file of a record of `source`.
    pub fn of(record: &PackageRecord, source: &Source) -> Result<PackageFile, PackageFileError> {
        let what = format!("{} {} {}", record.name, record.version, record.architecture);
        let Some(filename) = record.filename.as_deref() else {
            return Err(PackageFileError::NoFilename(what));
        };
        let Some(sum) = record.sha256 else { return Err(PackageFileError::NoSum(what)) };
        match source.uri.join(filename) {
            Ok(uri) => {
                Ok(PackageFile { what, sha256: Key(sum.0), size: record.size, uris: vec![uri] })
            }
            Err(error) => Err(PackageFileError::Uri(what, error)),
        }
    }
}
