//! One object: claim it, take up what is there, retry, check, give it its name.

use std::io::{self, Read};
use std::path::PathBuf;
use std::thread::sleep;

use sha2::{Digest, Sha256};
use store::Key;

use super::http::{Answer, Client};
use super::{FetchError, Object, Progress};
use crate::cache::{Cache, Claim, Partial};
use crate::uri::Uri;

/// How much is read at a time.
const CHUNK: usize = 1 << 16;
/// The longest pause between two tries.
const MAX_DOUBLINGS: u32 = 5;

/// Fetches a file of unknown size into memory.
pub(super) fn get(client: &Client, uri: &Uri, limit: u64) -> Result<Vec<u8>, FetchError> {
    retry(client, None, || {
        let answer = client.get(uri, 0)?;
        let too_large = || FetchError::TooLarge { path: uri.path().to_owned(), limit };
        if answer.total.is_some_and(|total| total > limit) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let read = answer.body.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|e| broken(uri, &e))?;
        if bytes.len() as u64 > limit {
            return Err(too_large());
        }
        match answer.total {
            Some(size) if size != bytes.len() as u64 => {
                let got = bytes.len() as u64;
                Err(FetchError::Truncated { path: uri.path().to_owned(), got, size })
            }
            _ => Ok(bytes),
        }
    })
}

/// Fetches `object` into the cache.
pub(super) fn fetch(
    client: &Client,
    cache: &Cache,
    object: &Object,
    progress: &Progress<'_>,
) -> Result<PathBuf, FetchError> {
    let mut partial = match cache.partial(object.kind, &object.sha256, Some(object.size))? {
        Claim::Done(path) => {
            progress.add(object.size);
            return Ok(path);
        }
        Claim::Write(partial) => partial,
    };
    let mut last = None;
    for uri in &object.uris {
        match from_uri(client, object, uri, &mut partial, progress) {
            Ok(()) => return Ok(cache.commit(object.kind, &object.sha256, partial)?),
            Err(error) if error.try_elsewhere() => last = Some(keep_worst(last, error)),
            Err(error) => return Err(error),
        }
    }
    if partial.is_empty()? {
        partial.discard();
    }
    Err(last.unwrap_or_else(|| FetchError::NotFound { path: object.what.clone() }))
}

/// Of what the places said, "not found" tells the least.
fn keep_worst(before: Option<FetchError>, now: FetchError) -> FetchError {
    match before {
        Some(before) if matches!(now, FetchError::NotFound { .. }) => before,
        _ => now,
    }
}

/// Fetches from one place, trying again as long as that makes sense.
fn from_uri(
    client: &Client,
    object: &Object,
    uri: &Uri,
    partial: &mut Partial,
    progress: &Progress<'_>,
) -> Result<(), FetchError> {
    use FetchError::{Hash, Range, Size};
    retry(client, Some(progress), || {
        let resumed = !partial.is_empty()?;
        match once(client, object, uri, partial, progress) {
            // What was there before, or the server's idea of a range, may be to
            // blame: once from the start.
            Err(Hash { .. } | Range { .. } | Size { .. }) if resumed => {
                partial.restart()?;
                once(client, object, uri, partial, progress)
            }
            result => result,
        }
    })
}

/// Calls `once` until it succeeds, fails for good or patience ends.
fn retry<T>(
    client: &Client,
    progress: Option<&Progress<'_>>,
    mut once: impl FnMut() -> Result<T, FetchError>,
) -> Result<T, FetchError> {
    let options = client.options();
    let mut tries = 0;
    loop {
        match once() {
            Err(error) if error.is_transient() && tries < options.retries => {
                if progress.is_some_and(Progress::stopped) {
                    return Err(FetchError::Stopped);
                }
                sleep(options.backoff * 2_u32.pow(tries.min(MAX_DOUBLINGS)));
                tries += 1;
            }
            result => return result,
        }
    }
}

/// One request; what it brings is appended. `Ok` means: complete and right.
fn once(
    client: &Client,
    object: &Object,
    uri: &Uri,
    partial: &mut Partial,
    progress: &Progress<'_>,
) -> Result<(), FetchError> {
    if partial.len()? > object.size {
        partial.restart()?;
    }
    let mut hasher = Sha256::new();
    partial.hash_into(&mut hasher)?;
    let mut have = partial.len()?;
    progress.add(have);
    let result = if have < object.size || object.size == 0 {
        client.get(uri, have).and_then(|answer| {
            if answer.start != have {
                partial.restart()?;
                progress.take_back(have);
                have = 0;
                hasher = Sha256::new();
            }
            receive(answer, object, uri, partial, &mut hasher, &mut have, progress)
        })
    } else {
        Ok(())
    };
    let result = result.and_then(|()| check(object, uri, hasher, partial));
    if result.is_err() {
        progress.take_back(have);
    }
    result
}

/// Appends a body. Never more than the object's size.
fn receive(
    mut answer: Answer,
    object: &Object,
    uri: &Uri,
    partial: &mut Partial,
    hasher: &mut Sha256,
    have: &mut u64,
    progress: &Progress<'_>,
) -> Result<(), FetchError> {
    let path = || uri.path().to_owned();
    let size = object.size;
    if let Some(offered) = answer.total.filter(|total| *total != size) {
        return Err(FetchError::Size { path: path(), offered, size });
    }
    partial.seek_end()?;
    let mut buffer = vec![0; CHUNK];
    loop {
        if progress.stopped() {
            return Err(FetchError::Stopped);
        }
        let n = answer.body.read(&mut buffer).map_err(|e| broken(uri, &e))?;
        if n == 0 {
            break;
        }
        let after = have.saturating_add(n as u64);
        if after > size {
            partial.restart()?;
            return Err(FetchError::Size { path: path(), offered: after, size });
        }
        partial.write(&buffer[..n])?;
        hasher.update(&buffer[..n]);
        *have = after;
        progress.add(n as u64);
    }
    if *have < size {
        return Err(FetchError::Truncated { path: path(), got: *have, size });
    }
    Ok(())
}

/// The sum over everything, also over what was there before.
fn check(
    object: &Object,
    uri: &Uri,
    hasher: Sha256,
    partial: &mut Partial,
) -> Result<(), FetchError> {
    let found = Key(hasher.finalize().into());
    if found == object.sha256 {
        return Ok(());
    }
    partial.restart()?;
    Err(FetchError::Hash { path: uri.path().to_owned(), expected: object.sha256, found })
}

fn broken(uri: &Uri, error: &io::Error) -> FetchError {
    FetchError::Interrupted { path: uri.path().to_owned(), reason: error.to_string() }
}
