//! Accepting Release files: fetched anew, the ones seen last, or recorded ones.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use report::Reporter;
use serde::{Deserialize, Serialize};
use store::{Key, KeyHasher};

use super::{Accepted, Archive, ArchiveError, ArchiveErrorKind, Mode, ReleaseState, at};
use crate::cache::{self, CacheError};
use crate::fetch::FetchError;
use crate::openpgp;
use crate::release::{MAX_RELEASE, Release, Rules};
use crate::sources::Source;

/// The largest detached signature.
const MAX_SIGNATURE: u64 = 1 << 20;

/// What the cache remembers of a source.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    sha256: Key,
    date: Option<i64>,
    /// When it was accepted, in seconds since 1970: as of then its signature is
    /// checked when it is used again.
    accepted: u64,
}

/// A Release file as it came, with its detached signature if it has one.
struct Signed {
    bytes: Vec<u8>,
    signature: Option<Vec<u8>>,
    /// `InRelease`: the signature is around the text.
    clear_signed: bool,
}

impl Archive {
    /// The Release files of all sources, several at a time.
    pub(super) fn releases(
        &self,
        sources: &[Source],
        mode: Mode<'_>,
        now: SystemTime,
        reporter: &dyn Reporter,
    ) -> Result<Vec<Accepted>, ArchiveError> {
        let count = sources.len() as u64;
        let what = format!("{count} suites");
        let step = reporter.step("release", what, Some(count), report::Unit::Items);
        let one = |(number, source): (usize, &Source)| {
            let accepted = match mode {
                Mode::Newest if self.fetcher.options().offline => self.seen_release(source),
                Mode::Newest if self.fetcher.options().cached_metadata => {
                    match self.seen_release(source) {
                        Err(ArchiveErrorKind::NeverSeen) => self.newest_release(source, now),
                        seen => seen,
                    }
                }
                Mode::Newest => self.newest_release(source, now),
                Mode::Recorded(state) => match state.releases.get(number) {
                    Some(state) => self.kept_release(source, &state.sha256, now),
                    None => Err(ArchiveErrorKind::NeverSeen),
                },
            };
            accepted.map_err(at(source))
        };
        let numbered: Vec<_> = sources.iter().enumerate().collect();
        let mut accepted = Vec::with_capacity(sources.len());
        for batch in numbered.chunks(self.fetcher.options().threads.clamp(1, 64)) {
            let results: Vec<_> = std::thread::scope(|scope| {
                let one = &one;
                let threads: Vec<_> =
                    batch.iter().copied().map(|item| scope.spawn(move || one(item))).collect();
                threads.into_iter().map(|t| t.join().expect("no panic in a thread")).collect()
            });
            for result in results {
                accepted.push(result?);
            }
            step.progress(accepted.len() as u64);
        }
        step.done();
        Ok(accepted)
    }

    /// Asks the mirror, holds the answer against what was seen before, remembers it.
    fn newest_release(
        &self,
        source: &Source,
        now: SystemTime,
    ) -> Result<Accepted, ArchiveErrorKind> {
        let signed = self.fetch_release(source)?;
        let text = self.verify(source, &signed, now)?;
        let release = Release::parse(&text)?;
        let last = self.seen(source)?;
        let seconds = seconds(now);
        release.check(&Rules {
            suite: (!source.is_flat()).then_some(&*source.suite),
            now: i64::try_from(seconds).unwrap_or(i64::MAX),
            check_valid_until: source.check_valid_until,
            valid_until_max: source.valid_until_max,
            valid_until_min: source.valid_until_min,
            check_date: source.check_date,
            date_max_future: source.date_max_future,
            last: last.as_ref().and_then(|seen| seen.date),
            date_optional: !self.must_be_signed(source),
        })?;
        let sha256 = Key::of(&signed.bytes);
        if let Some(signature) = &signed.signature {
            self.cache().put(cache::SIGNATURES, &sha256, signature)?;
        }
        self.cache().put(cache::RELEASES, &sha256, &signed.bytes)?;
        let seen = Seen { sha256, date: release.date, accepted: seconds };
        self.remember(source, &seen)?;
        Ok(accepted(source, release, sha256))
    }

    /// The Release seen last.
    fn seen_release(&self, source: &Source) -> Result<Accepted, ArchiveErrorKind> {
        let seen = self.seen(source)?.ok_or(ArchiveErrorKind::NeverSeen)?;
        let then = UNIX_EPOCH.checked_add(Duration::from_secs(seen.accepted));
        self.kept_release(source, &seen.sha256, then.unwrap_or(UNIX_EPOCH))
    }

    /// A Release that was accepted before: its age does not count, its signature does.
    fn kept_release(
        &self,
        source: &Source,
        sha256: &Key,
        now: SystemTime,
    ) -> Result<Accepted, ArchiveErrorKind> {
        let bytes = self.cache().read(cache::RELEASES, sha256)?;
        let bytes = bytes.ok_or(ArchiveErrorKind::NeverSeen)?;
        if Key::of(&bytes) != *sha256 {
            return Err(ArchiveErrorKind::NeverSeen);
        }
        let signature = self.cache().read(cache::SIGNATURES, sha256)?;
        let clear_signed = bytes.starts_with(b"-----BEGIN PGP SIGNED MESSAGE-----");
        let text = self.verify(source, &Signed { bytes, signature, clear_signed }, now)?;
        Ok(accepted(source, Release::parse(&text)?, *sha256))
    }

    /// `InRelease`, or where there is none `Release` with `Release.gpg`.
    fn fetch_release(&self, source: &Source) -> Result<Signed, ArchiveErrorKind> {
        match self.fetcher.get(&source.dist_uri("InRelease")?, MAX_RELEASE) {
            Ok(bytes) => return Ok(Signed { bytes, signature: None, clear_signed: true }),
            Err(FetchError::NotFound { .. }) => {}
            Err(other) => return Err(other.into()),
        }
        let bytes = match self.fetcher.get(&source.dist_uri("Release")?, MAX_RELEASE) {
            Err(FetchError::NotFound { .. }) => return Err(ArchiveErrorKind::NoRelease),
            other => other?,
        };
        let signature = match self.fetcher.get(&source.dist_uri("Release.gpg")?, MAX_SIGNATURE) {
            Ok(signature) => Some(signature),
            Err(FetchError::NotFound { .. }) if !self.must_be_signed(source) => None,
            Err(FetchError::NotFound { .. }) => return Err(ArchiveErrorKind::Unsigned),
            Err(other) => return Err(other.into()),
        };
        Ok(Signed { bytes, signature, clear_signed: false })
    }

    fn must_be_signed(&self, source: &Source) -> bool {
        self.settings.check_signatures && source.trusted != Some(true)
    }

    /// The text that counts.
    fn verify(
        &self,
        source: &Source,
        signed: &Signed,
        now: SystemTime,
    ) -> Result<Vec<u8>, ArchiveErrorKind> {
        if !self.must_be_signed(source) {
            return Ok(match signed.clear_signed {
                true => openpgp::text_unchecked(&signed.bytes)?,
                false => signed.bytes.clone(),
            });
        }
        let trust = self.settings.keys.trust(source)?;
        if signed.clear_signed {
            return Ok(openpgp::verify_clear_signed(&signed.bytes, &trust, now)?.text);
        }
        let signature = signed.signature.as_ref().ok_or(ArchiveErrorKind::Unsigned)?;
        Ok(openpgp::verify_detached(signature, &signed.bytes, &trust, now)?.text)
    }

    fn seen(&self, source: &Source) -> Result<Option<Seen>, CacheError> {
        let bytes = self.cache().seen(&seen_key(source))?;
        // One that does not decode protects nothing and hinders nothing.
        Ok(bytes.and_then(|bytes| postcard::from_bytes(&bytes).ok()))
    }

    /// Remembers a Release, unless another process saw a newer one meanwhile.
    fn remember(&self, source: &Source, seen: &Seen) -> Result<(), CacheError> {
        if self.seen(source)?.is_some_and(|other| other.date > seen.date) {
            return Ok(());
        }
        let bytes = postcard::to_stdvec(seen).expect("three plain fields");
        self.cache().set_seen(&seen_key(source), &bytes)
    }
}

fn seen_key(source: &Source) -> Key {
    let mut key = KeyHasher::new("mkgold-seen-1");
    key.add(source.uri.as_str().trim_end_matches('/').as_bytes());
    key.add(source.suite.as_bytes());
    key.finish()
}

fn accepted(source: &Source, release: Release, sha256: Key) -> Accepted {
    let state = ReleaseState {
        source: source.to_string(),
        codename: release.codename.clone(),
        sha256,
        date: release.date,
    };
    Accepted { release: Arc::new(release), state }
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
