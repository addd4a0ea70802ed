//! Fetching: many objects at a time, each resumed, retried and checked.
//!
//! Data flow: [`Object`]s (what, how large, which sum, where) → [`Fetcher`] →
//! paths in the [`Cache`]. Nothing gets its name in the cache before its size and
//! SHA-256 were checked; no more bytes are taken than announced.
//!
//! Not here: what to fetch and whether to believe it ([`crate::archive`]).

mod http;
mod object;
mod options;
mod proxy;
mod resolve;

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use report::{Reporter, Unit};
use store::{Key, Kind};

pub use options::{FetchOptions, Proxies};

use crate::cache::{Cache, CacheError};
use crate::uri::{Uri, UriError};
use http::Client;

/// Why something could not be fetched. Messages show the path of a URI, not its host.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "path: of the URI; the rest is in the message")]
pub enum FetchError {
    /// The mirror does not have it.
    #[error("{path}: not found on the mirror")]
    NotFound { path: String },
    /// A package that the lock or the index names is gone.
    #[error(
        "package {package} has vanished from the mirror ({path}): run `mkgold lock --update` to choose from what is there now"
    )]
    Vanished { package: String, path: String },
    /// The server wants credentials.
    #[error("{path}: the server refuses access (HTTP status {status})")]
    Denied { path: String, status: u16 },
    /// Any other answer.
    #[error("{path}: the server answers with HTTP status {status}; try again later")]
    Status { path: String, status: u16 },
    /// The server's answer to a resumed transfer makes no sense.
    #[error("{path}: the server answers with another part of the file than asked for")]
    Range { path: String },
    /// More redirections than allowed.
    #[error("{path}: redirected more than {limit} times: the mirror is misconfigured, use another")]
    Redirects { path: String, limit: u32 },
    /// A redirection that is not followed.
    #[error("{path}: redirected {why}; that is not followed")]
    Redirected { path: String, why: &'static str },
    /// No route, no name, no server.
    #[error(
        "{path}: the mirror cannot be reached ({reason}): check the network, the proxy and the mirror's name; --offline builds from the cache"
    )]
    Unreachable { path: String, reason: String },
    /// The transfer broke off or stalled.
    #[error("{path}: the transfer broke off ({reason}); run again to go on where it ended")]
    Interrupted { path: String, reason: String },
    /// Fewer bytes than there should be.
    #[error("{path}: cut short: {got} of {size} bytes; run again to go on where it ended")]
    Truncated { path: String, got: u64, size: u64 },
    /// The server's file has another size.
    #[error(
        "{path}: wrong size: the server offers {offered} bytes, {size} were announced; the mirror is being updated, or something between gives another file: try again later"
    )]
    Size { path: String, offered: u64, size: u64 },
    /// Larger than anything of its kind.
    #[error("{path}: larger than the limit of {limit} bytes")]
    TooLarge { path: String, limit: u64 },
    /// Other bytes than announced.
    #[error(
        "{path}: wrong hash: SHA-256 is {found}, announced was {expected}; the file was altered on its way or the mirror is being updated: try again later or use another mirror"
    )]
    Hash { path: String, expected: Key, found: Key },
    /// The certificate of the server is not accepted, or TLS fails.
    #[error(
        "{path}: no secure connection ({reason}): check this machine's clock and certificates (package ca-certificates), or name a certificate file"
    )]
    Tls { path: String, reason: String },
    /// The certificates to check servers with cannot be read.
    #[error("cannot read the certificates for https: {reason}")]
    Certificates { reason: String },
    /// The proxy.
    #[error("the proxy cannot be used: check the proxy settings (http_proxy, https_proxy)")]
    Proxy,
    /// Offline, and not in the cache.
    #[error(
        "{what} is not in the cache, and --offline forbids fetching it: build once with network"
    )]
    Offline { what: String },
    /// A local archive's file.
    #[error("cannot read {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// An index names a file outside the archive.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// Another download failed first.
    #[error("stopped because another download failed")]
    Stopped,
}

impl FetchError {
    /// Whether the same request may succeed a moment later.
    fn is_transient(&self) -> bool {
        match self {
            Self::Interrupted { .. } | Self::Truncated { .. } | Self::Unreachable { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Whether another place may have the right bytes.
    fn try_elsewhere(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::Size { .. } | Self::Hash { .. })
    }
}

/// Something to fetch whose bytes are known in advance.
#[derive(Debug, Clone)]
pub struct Object {
    /// What it is called in the cache.
    pub kind: Kind,
    /// Its SHA-256.
    pub sha256: Key,
    /// Its size in bytes.
    pub size: u64,
    /// Where it is; the second is tried where the first has it not.
    pub uris: Vec<Uri>,
    /// What it is, for people: a package's name and version, or the index.
    pub what: String,
}

/// Counts bytes for the reporter.
pub(crate) struct Progress<'a> {
    done: AtomicU64,
    step: Option<&'a report::Step<'a>>,
    stop: AtomicBool,
}

impl<'a> Progress<'a> {
    fn new(step: Option<&'a report::Step<'a>>) -> Self {
        Progress { done: AtomicU64::new(0), step, stop: AtomicBool::new(false) }
    }

    pub fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if let Some(step) = self.step {
            step.progress(done);
        }
    }

    /// Bytes that have to be fetched once more.
    pub fn take_back(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Fetches into a cache. Keeps its connections, so use one for everything.
pub struct Fetcher {
    client: Client,
    cache: Cache,
}

impl Fetcher {
    /// Fetches into `cache`.
    pub fn new(cache: Cache, options: FetchOptions) -> Fetcher {
        Fetcher { client: Client::new(options), cache }
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The options.
    pub fn options(&self) -> &FetchOptions {
        self.client.options()
    }

    /// Fetches a small file whose sum is not known, such as `InRelease`.
    pub fn get(&self, uri: &Uri, limit: u64) -> Result<Vec<u8>, FetchError> {
        if self.options().offline {
            return Err(FetchError::Offline { what: uri.path().to_owned() });
        }
        object::get(&self.client, uri, limit)
    }

    /// Fetches all `objects` that the cache does not have; gives their paths in the
    /// same order. After an error nothing new is begun; what was fetched is kept.
    /// `step` is the step's stable name for the reporter.
    pub fn fetch(
        &self,
        objects: &[Object],
        step: &'static str,
        reporter: &dyn Reporter,
    ) -> Result<Vec<PathBuf>, FetchError> {
        let results = self.fetch_each(objects, step, reporter, |_| true);
        // Of several errors the first object's, and none that follows from another.
        let mut stopped = None;
        let mut paths = Vec::with_capacity(results.len());
        for result in results {
            match result {
                Ok(path) => paths.push(path),
                Err(FetchError::Stopped) => stopped = Some(FetchError::Stopped),
                Err(error) => return Err(error),
            }
        }
        stopped.map_or(Ok(paths), Err)
    }

    /// As [`Fetcher::fetch`], with a result for each object; only errors that `fatal`
    /// picks stop the others.
    pub(crate) fn fetch_each(
        &self,
        objects: &[Object],
        step: &'static str,
        reporter: &dyn Reporter,
        fatal: fn(&FetchError) -> bool,
    ) -> Vec<Result<PathBuf, FetchError>> {
        let find = |o: &Object| self.cache.find(o.kind, &o.sha256, Some(o.size));
        let found: Vec<Option<PathBuf>> = objects.iter().map(find).collect();
        let mut missing: Vec<usize> = (0..found.len()).filter(|i| found[*i].is_none()).collect();
        let total = missing.iter().map(|i| objects[*i].size).fold(0, u64::saturating_add);
        let what = match &missing[..] {
            [one] => objects[*one].what.clone(),
            many => format!("{} files", many.len()),
        };
        let step = reporter.step(step, what, Some(total), Unit::Bytes);
        let offline = self.options().offline;
        let mut results: Vec<Result<PathBuf, FetchError>> = (found.into_iter().zip(objects))
            .map(|(path, object)| match path {
                Some(path) => Ok(path),
                None if offline => Err(FetchError::Offline { what: object.what.clone() }),
                None => Err(FetchError::Stopped),
            })
            .collect();
        if missing.is_empty() {
            step.cached();
            return results;
        }
        if !offline {
            // The largest first: no thread is left with the kernel at the end.
            missing.sort_by_key(|i| (std::cmp::Reverse(objects[*i].size), *i));
            for (index, result) in self.fetch_missing(objects, &missing, &step, fatal) {
                results[index] = result;
            }
        }
        if results.iter().all(Result::is_ok) {
            step.done();
        }
        results
    }

    fn fetch_missing(
        &self,
        objects: &[Object],
        missing: &[usize],
        step: &report::Step<'_>,
        fatal: fn(&FetchError) -> bool,
    ) -> Vec<(usize, Result<PathBuf, FetchError>)> {
        let progress = Progress::new(Some(step));
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::with_capacity(missing.len()));
        let work = || {
            while let Some(index) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                if progress.stopped() {
                    return;
                }
                let result = object::fetch(&self.client, &self.cache, &objects[*index], &progress);
                if result.as_ref().is_err_and(fatal) {
                    progress.stop.store(true, Ordering::Relaxed);
                }
                results.lock().expect("no panic while held").push((*index, result));
            }
        };
        let threads = self.options().threads.clamp(1, 64).min(missing.len());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        results.into_inner().expect("no panic while held")
    }
}
