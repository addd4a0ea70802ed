//! Loading indices: from the cache's records, or fetched, checked, parsed and kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use debian::PackageRecord;
use report::Reporter;
use store::{Key, KeyHasher};

use super::{Archive, ArchiveError, ArchiveErrorKind, at};
use crate::cache;
use crate::fetch::{FetchError, Object};
use crate::index::{self, Form, IndexFile};
use crate::pins::Origin;
use crate::records;
use crate::release::{Release, ReleaseFile};
use crate::sources::{ByHash, Source};
use crate::uri::UriError;

/// Indices that are parsed at the same time; each takes its text in memory.
const PARSERS: usize = 4;

/// One index to load.
pub(super) struct Wanted<'a> {
    /// Which source.
    pub number: usize,
    pub source: &'a Source,
    pub release: Arc<Release>,
    pub file: IndexFile,
}

type Records = Vec<Arc<PackageRecord>>;

/// Where an index was fetched to, and in which form.
type Fetched = (Form, PathBuf);

impl Archive {
    /// The records of each index, in order.
    pub(super) fn indices(
        &self,
        wanted: &[Wanted<'_>],
        reporter: &dyn Reporter,
    ) -> Result<Vec<Records>, ArchiveError> {
        let mut loaded: Vec<Option<Records>> =
            wanted.iter().map(|w| self.cached(&w.file)).collect();
        let missing: Vec<usize> = (0..wanted.len()).filter(|i| loaded[*i].is_none()).collect();
        if !missing.is_empty() {
            let fetched = self.fetch_indices(wanted, &missing, reporter)?;
            let parsed = self.parse_indices(wanted, &missing, &fetched, reporter)?;
            for (index, records) in missing.into_iter().zip(parsed) {
                loaded[index] = Some(records);
            }
        }
        Ok(loaded.into_iter().flatten().collect())
    }

    fn cached(&self, file: &IndexFile) -> Option<Records> {
        let bytes = self.cache().read(cache::RECORDS, &records_key(file)).ok()??;
        records::decode(&bytes)
    }

    /// Fetches in the best form; what the mirror has not got in that form, in the next.
    fn fetch_indices(
        &self,
        wanted: &[Wanted<'_>],
        missing: &[usize],
        reporter: &dyn Reporter,
    ) -> Result<Vec<Fetched>, ArchiveError> {
        let mut fetched: Vec<Option<Fetched>> = vec![None; missing.len()];
        let mut left: Vec<usize> = (0..missing.len()).collect();
        let fatal = |error: &FetchError| !matches!(error, FetchError::NotFound { .. });
        for round in 0.. {
            let object = |i: &usize| {
                let w = &wanted[missing[*i]];
                let (form, file) = w.file.forms[round];
                object(w, form, file).map_err(|e| at(w.source)(e.into()))
            };
            let objects = left.iter().map(object).collect::<Result<Vec<_>, _>>()?;
            for (i, object) in left.iter().zip(&objects) {
                let checked = self.cache().remove_damaged(object.kind, &object.sha256);
                checked.map_err(|e| at(wanted[missing[*i]].source)(e.into()))?;
            }
            let results = self.fetcher.fetch_each(&objects, "index", reporter, fatal);
            let mut next = Vec::new();
            let mut failed: Option<ArchiveError> = None;
            for (i, result) in left.into_iter().zip(results) {
                let w = &wanted[missing[i]];
                match result {
                    Ok(path) => fetched[i] = Some((w.file.forms[round].0, path)),
                    Err(FetchError::NotFound { .. }) if round + 1 < w.file.forms.len() => {
                        next.push(i);
                    }
                    Err(FetchError::Stopped) if failed.is_some() => {}
                    Err(e) => {
                        let stopped = |f: &ArchiveError| {
                            matches!(*f.kind, ArchiveErrorKind::Fetch(FetchError::Stopped))
                        };
                        if failed.as_ref().is_none_or(stopped) {
                            failed = Some(at(w.source)(e.into()));
                        }
                    }
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
            if next.is_empty() {
                break;
            }
            left = next;
        }
        Ok(fetched.into_iter().flatten().collect())
    }

    /// Decompresses, checks, parses and keeps; several at a time.
    fn parse_indices(
        &self,
        wanted: &[Wanted<'_>],
        missing: &[usize],
        fetched: &[Fetched],
        reporter: &dyn Reporter,
    ) -> Result<Vec<Records>, ArchiveError> {
        let count = missing.len() as u64;
        let what = format!("{count} indices");
        let step = reporter.step("parse", what, Some(count), report::Unit::Items);
        let next = AtomicUsize::new(0);
        let work = || {
            let mut results = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let (Some(index), Some((form, path))) = (missing.get(i), fetched.get(i)) else {
                    return results;
                };
                let w = &wanted[*index];
                let result = self.parse_index(&w.file, *form, path).map_err(at(w.source));
                results.push((i, result));
            }
        };
        let mut results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..PARSERS.min(missing.len())).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|t| t.join().expect("no panic in a thread")).collect()
        });
        results.sort_by_key(|(i, _)| *i);
        let records = results.into_iter().map(|(_, r)| r).collect::<Result<Vec<_>, _>>()?;
        step.done();
        Ok(records)
    }

    fn parse_index(
        &self,
        file: &IndexFile,
        form: Form,
        path: &std::path::Path,
    ) -> Result<Records, ArchiveErrorKind> {
        let text = index::decompress(file, form, path)?;
        let records = index::parse(&file.path, &text)?;
        self.cache().put(cache::RECORDS, &records_key(file), &records::encode(&records))?;
        Ok(records)
    }
}

fn records_key(file: &IndexFile) -> Key {
    let mut key = KeyHasher::new(records::FORMAT);
    key.add(&file.content().0);
    key.finish()
}

/// By hash where the archive offers it: a mirror that is being updated then has the
/// old and the new file. By name otherwise, or where the hash is not there.
fn object(wanted: &Wanted<'_>, form: Form, file: ReleaseFile) -> Result<Object, UriError> {
    let source = wanted.source;
    let path = wanted.file.form_path(form);
    let dir = path.rsplit_once('/').map(|(dir, _)| format!("{dir}/")).unwrap_or_default();
    let by_hash = source.dist_uri(&format!("{dir}by-hash/SHA256/{}", file.sha256))?;
    let by_name = source.dist_uri(&path)?;
    let uris = match source.by_hash {
        ByHash::Force => vec![by_hash],
        ByHash::Auto if wanted.release.acquire_by_hash => vec![by_hash, by_name],
        _ => vec![by_name],
    };
    let what = format!("{source} {path}");
    Ok(Object { kind: cache::INDICES, sha256: file.sha256, size: file.size, uris, what })
}

/// What pins look at.
pub(super) fn origin_of(source: &Source, release: &Release, file: &IndexFile) -> Origin {
    let authority = source.uri.authority();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Origin {
        origin: release.origin.clone(),
        label: release.label.clone(),
        suite: release.suite.clone(),
        codename: release.codename.clone(),
        version: release.version.clone(),
        component: file.component.clone(),
        architecture: file.architecture.clone(),
        site: host.split(':').next().unwrap_or_default().to_owned(),
        not_automatic: release.not_automatic,
        but_automatic_upgrades: release.but_automatic_upgrades,
    }
}
