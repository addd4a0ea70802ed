//! What the archive client keeps: a [`store::Store`] for finished objects, files
//! being downloaded beside them, and the Release files last seen.
//!
//! A finished object is there or not: it gets its name by rename, after its size
//! and SHA-256 were checked. A download goes to `partial/<aa>/<sha256>`, locked by
//! the one process that writes it: what a killed process left is taken up where it
//! ended and is never trusted, because the sum is taken over all of it again. Whoever
//! uses a finished download takes its sum, and removes it if it is another; everything
//! else that is kept is sealed by the store.
//!
//! Not here: when something is fetched, and how old a thing may be.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use store::{Key, Kind, Store, StoreError};

/// Packages, by the SHA-256 of the `.deb`.
pub const DEBS: Kind = "debs";
/// Signed `InRelease` texts (or `Release`), by their SHA-256.
pub const RELEASES: Kind = "releases";
/// Detached signatures, by the SHA-256 of the Release file they sign.
pub const SIGNATURES: Kind = "release-signatures";
/// `Packages` files as fetched (compressed), by their SHA-256.
pub const INDICES: Kind = "indices";
/// Indices as read, by the SHA-256 of `Packages` and the format's version.
pub const RECORDS: Kind = "records";
/// The Release last seen of each source, by URI and suite. Replaced, not kept.
const SEEN: Kind = "seen-releases";
const PARTIAL: &str = "partial";

/// Why the cache could not do it.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The store's own error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system refused.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No space left where the cache is.
    #[error("no space left for {}: free some, or name another cache directory", path.display())]
    Full {
        /// The file being written.
        path: PathBuf,
    },
}

impl CacheError {
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => CacheError::Full { path },
            _ => CacheError::Io { operation, path, source },
        }
    }

    fn store(error: StoreError) -> CacheError {
        match error {
            StoreError::Io { operation, path, source } => CacheError::io(operation, &path)(source),
            other => CacheError::Store(other),
        }
    }
}

/// The cache directory of downloads. Cheap to clone; safe to share between
/// threads and between processes.
#[derive(Debug, Clone)]
pub struct Cache {
    store: Store,
}

/// A download under way: ours alone until dropped.
#[derive(Debug)]
pub struct Partial {
    file: File,
    path: PathBuf,
}

/// What [`Cache::partial`] found.
#[derive(Debug)]
pub enum Claim {
    /// Ours to write.
    Write(Partial),
    /// Another process finished it while we waited.
    Done(PathBuf),
}

impl Cache {
    /// Uses `store`.
    pub fn new(store: Store) -> Cache {
        Cache { store }
    }

    /// Opens the cache at `root`, making it if it is not there.
    pub fn open(root: &Path) -> Result<Cache, CacheError> {
        Ok(Cache { store: Store::open(root).map_err(CacheError::store)? })
    }

    /// The store of finished objects.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Where the download of that kind is, if it is there with that size.
    pub fn find(&self, kind: Kind, key: &Key, size: Option<u64>) -> Option<PathBuf> {
        let file = self.store.get(kind, key).ok()??;
        let found = file.metadata().ok()?;
        let whole = found.is_file() && size.is_none_or(|size| size == found.len());
        whole.then(|| self.store.path(kind, key))
    }

    /// An object that was [`put`](Cache::put), as a whole.
    pub fn read(&self, kind: Kind, key: &Key) -> Result<Option<Vec<u8>>, CacheError> {
        self.store.read(kind, key).map_err(CacheError::store)
    }

    /// Keeps `bytes`, unless they are there.
    pub fn put(&self, kind: Kind, key: &Key, bytes: &[u8]) -> Result<(), CacheError> {
        match self.read(kind, key)?.is_some_and(|there| there == bytes) {
            true => Ok(()),
            false => self.replace(kind, key, bytes),
        }
    }

    fn replace(&self, kind: Kind, key: &Key, bytes: &[u8]) -> Result<(), CacheError> {
        let mut pending = self.store.create(kind).map_err(CacheError::store)?;
        let path = pending.path().to_owned();
        let file = pending.file_mut();
        file.write_all(bytes).map_err(CacheError::io("write", &path))?;
        file.sync_data().map_err(CacheError::io("write", &path))?;
        pending.seal(key).map_err(CacheError::store)?;
        Ok(())
    }

    /// Removes a download that is there and is not what its key says.
    pub fn remove_damaged(&self, kind: Kind, key: &Key) -> Result<(), CacheError> {
        let Some(mut file) = self.store.get(kind, key).map_err(CacheError::store)? else {
            return Ok(());
        };
        let mut hasher = Sha256::new();
        let path = self.store.path(kind, key);
        hash_into(&mut file, &path, &mut hasher)?;
        match hasher.finalize()[..] == key.0 {
            true => Ok(()),
            false => self.remove(kind, key),
        }
    }

    /// Removes a download.
    pub fn remove(&self, kind: Kind, key: &Key) -> Result<(), CacheError> {
        self.store.remove(kind, key, &mut Default::default()).map_err(CacheError::store)
    }

    /// What was last seen of a source.
    pub(crate) fn seen(&self, source: &Key) -> Result<Option<Vec<u8>>, CacheError> {
        self.read(SEEN, source)
    }

    /// Remembers what was seen of a source.
    pub(crate) fn set_seen(&self, source: &Key, bytes: &[u8]) -> Result<(), CacheError> {
        self.replace(SEEN, source, bytes)
    }

    fn partial_path(&self, kind: Kind, key: &Key) -> PathBuf {
        let name = format!("{kind}.{key}");
        self.store.root().join(PARTIAL).join(&key.to_string()[..2]).join(name)
    }

    /// Claims the download of an object. Waits while another process or thread
    /// has it.
    pub fn partial(&self, kind: Kind, key: &Key, size: Option<u64>) -> Result<Claim, CacheError> {
        let path = self.partial_path(kind, key);
        loop {
            let dir = path.parent().expect("a shard directory");
            fs::create_dir_all(dir).map_err(CacheError::io("make directory", dir))?;
            let mut options = OpenOptions::new();
            let file = match options.read(true).write(true).create(true).truncate(false).open(&path)
            {
                // The shard was collected just now: make it again.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(CacheError::io("create", &path))?,
            };
            file.lock().map_err(CacheError::io("lock", &path))?;
            let partial = Partial { file, path: path.clone() };
            // While we waited the file may have become the object, or been removed.
            if !partial.is_current() {
                if let Some(done) = self.find(kind, key, size) {
                    return Ok(Claim::Done(done));
                }
                continue;
            }
            if let Some(done) = self.find(kind, key, size) {
                partial.discard();
                return Ok(Claim::Done(done));
            }
            return Ok(Claim::Write(partial));
        }
    }

    /// Gives a download its name. The caller has checked its size and sum.
    pub fn commit(&self, kind: Kind, key: &Key, partial: Partial) -> Result<PathBuf, CacheError> {
        let target = self.store.path(kind, key);
        let dir = target.parent().expect("a kind directory");
        fs::create_dir_all(dir).map_err(CacheError::io("make directory", dir))?;
        partial.file.sync_data().map_err(CacheError::io("write", &partial.path))?;
        fs::rename(&partial.path, &target).map_err(CacheError::io("rename to", &target))?;
        self.store.note(kind, key);
        Ok(target)
    }

    /// Removes downloads that nobody took up for `age`. Gives how many.
    pub fn clean_partials(&self, now: SystemTime, age: Duration) -> Result<usize, CacheError> {
        let mut removed = 0;
        for shard in entries(&self.store.root().join(PARTIAL))? {
            for path in entries(&shard)? {
                let Ok(file) = File::open(&path) else { continue };
                let old = file.metadata().and_then(|m| m.modified()).is_ok_and(|modified| {
                    now.duration_since(modified).is_ok_and(|since| since >= age)
                });
                let partial = Partial { file, path };
                if old && partial.file.try_lock().is_ok() && partial.is_current() {
                    partial.discard();
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let listing = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(CacheError::io("list", dir))?,
    };
    let paths = listing.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>();
    paths.map_err(CacheError::io("list", dir))
}

fn hash_into(file: &mut File, path: &Path, hasher: &mut Sha256) -> Result<(), CacheError> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut buffer).map_err(CacheError::io("read", path))?;
        if n == 0 {
            return Ok(());
        }
        hasher.update(&buffer[..n]);
    }
}

impl Partial {
    /// How much of it is there.
    pub fn len(&self) -> Result<u64, CacheError> {
        let metadata = self.file.metadata().map_err(CacheError::io("look at", &self.path))?;
        Ok(metadata.len())
    }

    /// Whether nothing is there yet.
    pub fn is_empty(&self) -> Result<bool, CacheError> {
        Ok(self.len()? == 0)
    }

    /// Forgets what is there.
    pub fn restart(&mut self) -> Result<(), CacheError> {
        self.file.set_len(0).map_err(CacheError::io("truncate", &self.path))?;
        self.file.rewind().map_err(CacheError::io("rewind", &self.path))
    }

    /// Hashes what is there and leaves the position at its end.
    pub fn hash_into(&mut self, hasher: &mut Sha256) -> Result<(), CacheError> {
        self.file.rewind().map_err(CacheError::io("rewind", &self.path))?;
        hash_into(&mut self.file, &self.path, hasher)
    }

    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), CacheError> {
        self.file.write_all(bytes).map_err(CacheError::io("write", &self.path))
    }

    /// Goes to the end.
    pub fn seek_end(&mut self) -> Result<u64, CacheError> {
        self.file.seek(SeekFrom::End(0)).map_err(CacheError::io("seek in", &self.path))
    }

    /// Removes the file; the lock ends with `self`.
    pub fn discard(self) {
        // What cannot be removed is not trusted either.
        let _ = fs::remove_file(&self.path);
    }

    /// Whether the path still leads to the file that we locked.
    fn is_current(&self) -> bool {
        let (Ok(ours), Ok(there)) = (self.file.metadata(), fs::metadata(&self.path)) else {
            return false;
        };
        (ours.dev(), ours.ino()) == (there.dev(), there.ino())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(cache: &Cache, key: &Key) -> Partial {
        match cache.partial(DEBS, key, Some(5)).unwrap() {
            Claim::Write(partial) => partial,
            Claim::Done(path) => panic!("{} is there", path.display()),
        }
    }

    #[test]
    fn what_a_killed_process_left_is_taken_up_and_not_visible() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let key = Key::of(b"hello");
        let mut partial = claim(&cache, &key);
        partial.write(b"hel").unwrap();
        drop(partial); // as kill -9 would: no clean-up runs
        assert_eq!(cache.find(DEBS, &key, Some(5)), None);
        let mut partial = claim(&cache, &key);
        assert_eq!(partial.len().unwrap(), 3);
        let mut hasher = Sha256::new();
        partial.hash_into(&mut hasher).unwrap();
        partial.write(b"lo").unwrap();
        hasher.update(b"lo");
        assert_eq!(hasher.finalize()[..], key.0);
        let path = cache.commit(DEBS, &key, partial).unwrap();
        assert_eq!(fs::read(path).unwrap(), b"hello");
        assert!(matches!(cache.partial(DEBS, &key, Some(5)).unwrap(), Claim::Done(_)));
    }

    #[test]
    fn an_object_of_another_size_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let key = Key::of(b"hello");
        let mut partial = claim(&cache, &key);
        partial.write(b"hello").unwrap();
        cache.commit(DEBS, &key, partial).unwrap();
        assert!(cache.find(DEBS, &key, Some(5)).is_some());
        assert!(cache.find(DEBS, &key, None).is_some());
        assert!(cache.find(DEBS, &key, Some(6)).is_none());
    }

    #[test]
    fn a_damaged_download_is_removed_and_a_whole_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let key = Key::of(b"hello");
        let mut partial = claim(&cache, &key);
        partial.write(b"hello").unwrap();
        let path = cache.commit(DEBS, &key, partial).unwrap();
        cache.remove_damaged(DEBS, &key).unwrap();
        assert!(path.exists());
        fs::write(&path, b"hallo").unwrap();
        cache.remove_damaged(DEBS, &key).unwrap();
        assert!(!path.exists());
        cache.remove_damaged(DEBS, &key).unwrap();
    }

    #[test]
    fn old_partials_are_removed_unless_somebody_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let (left, held) = (Key::of(b"left"), Key::of(b"held"));
        drop(claim(&cache, &left));
        let holder = claim(&cache, &held);
        let later = SystemTime::now() + Duration::from_secs(100);
        assert_eq!(cache.clean_partials(later, Duration::from_secs(200)).unwrap(), 0);
        assert_eq!(cache.clean_partials(later, Duration::from_secs(50)).unwrap(), 1);
        assert!(!cache.partial_path(DEBS, &left).exists());
        assert!(holder.is_current());
    }

    #[test]
    fn one_of_many_writes_and_the_others_find_it_done() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let key = Key::of(b"hello");
        let writers: usize = std::thread::scope(|scope| {
            let one = || match cache.partial(DEBS, &key, Some(5)).unwrap() {
                Claim::Write(mut partial) => {
                    partial.restart().unwrap();
                    partial.write(b"hel").unwrap();
                    std::thread::sleep(Duration::from_millis(5));
                    partial.write(b"lo").unwrap();
                    cache.commit(DEBS, &key, partial).unwrap();
                    1
                }
                Claim::Done(path) => {
                    assert_eq!(fs::read(path).unwrap(), b"hello");
                    0
                }
            };
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(writers, 1);
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        let error = CacheError::io("write", Path::new("/c/x"))(full);
        assert!(matches!(error, CacheError::Full { .. }), "{error}");
    }
}
