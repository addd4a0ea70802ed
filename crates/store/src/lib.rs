//! The cache: objects by kind and key, shared by concurrent builds.
//!
//! What it is: `<root>/<kind>/<aa>/<key in hex>`, each a regular file that appears
//! by rename and is never changed afterwards. A key is the SHA-256 of what the
//! object was made from, so whoever has the inputs knows the name.
//!
//! What it is not: policy. What is worth keeping, and what a key is made of, is
//! the caller's business.
//!
//! Guarantees: an object that is there is complete (written to a temporary name,
//! then renamed); two writers of one key both succeed, the later rename wins with
//! equal bytes; a writer that was killed leaves only a file below `tmp/`, which
//! [`Store::remove_abandoned`] removes once nobody holds its lock.
//!
//! Objects are sealed with a checksum ([`seal`]), but those whose key is the SHA-256 of what
//! they hold: those are written with [`Pending::commit`], and whoever reads them checks.
//!
//! A caller may keep directories here too, as `<root>/<kind>/<key in hex>`, which it locks
//! while it uses them: [`Store::collect`] knows them.

pub mod codec;
#[doc(hidden)]
pub mod fuzzing;
mod gc;
mod key;
mod seal;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use gc::Collected;
pub use key::{Key, KeyHasher};
pub use seal::checksum;
use tree::Blob;

/// Why the store could not do it. Every error names the path and the operation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An object does not decode: the disk or another program damaged it.
    #[error("{}: damaged cache object ({reason})", path.display())]
    Damaged {
        /// The object.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl StoreError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Io { operation, path, source }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where objects are written.
const TMP: &str = "tmp";

/// A kind of object: a directory name, chosen by the crate that makes them.
pub type Kind = &'static str;

/// The cache directory. Cheap to clone, safe to share between threads and
/// between processes.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    seals: seal::Seals,
    used: Mutex<BTreeSet<(Kind, Key)>>,
}

impl Store {
    /// Opens the store at `root`, making the directory if it is not there.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        let tmp = root.join(TMP);
        fs::create_dir_all(&tmp).map_err(StoreError::io("make the cache directory", &tmp))?;
        let root = root.canonicalize().map_err(StoreError::io("resolve", root))?;
        let inner = Inner { root, seals: seal::Seals::default(), used: Mutex::default() };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// Where the store is.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Where the object is, or would be.
    pub fn path(&self, kind: &str, key: &Key) -> PathBuf {
        let hex = key.to_string();
        self.root().join(kind).join(&hex[..2]).join(hex)
    }

    /// Where it is, or would be, if it is a directory.
    pub fn directory(&self, kind: &str, key: &Key) -> PathBuf {
        self.root().join(kind).join(key.to_string())
    }

    /// Opens an object for reading, as it is; `None` if it is not there. Its time of use is
    /// renewed, which is what [`Store::collect`] goes by: its time of modification, for
    /// that of access is often not kept.
    pub fn get(&self, kind: Kind, key: &Key) -> Result<Option<File>, StoreError> {
        let path = self.path(kind, key);
        match File::open(&path) {
            Ok(file) => {
                // Best effort: a store on a read-only medium still serves.
                let _ = file.set_modified(std::time::SystemTime::now());
                self.note(kind, key);
                Ok(Some(file))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::io("open", &path)(e)),
        }
    }

    /// Whether there is an object or a directory of that name.
    pub fn has(&self, kind: &str, key: &Key) -> bool {
        self.path(kind, key).exists() || self.directory(kind, key).exists()
    }

    /// Renews the time of use of an object that is needed though nobody opens it.
    pub fn touch(&self, kind: Kind, key: &Key) {
        if let Ok(file) = File::open(self.path(kind, key)) {
            // Best effort, as in `get`.
            let _ = file.set_modified(std::time::SystemTime::now());
            self.note(kind, key);
        }
    }

    /// Notes the use of an object that the caller keeps.
    pub fn note(&self, kind: Kind, key: &Key) {
        lock(&self.inner.used).insert((kind, *key));
    }

    /// Every object that was used or made since the store was opened.
    pub fn used(&self) -> Vec<(Kind, Key)> {
        lock(&self.inner.used).iter().copied().collect()
    }

    /// Begins an object. Nothing is visible under its key until [`Pending::seal`] or
    /// [`Pending::commit`]; dropped without, the file is removed.
    pub fn create(&self, kind: Kind) -> Result<Pending, StoreError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let n = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = self.root().join(TMP).join(format!("{kind}.{}.{n}", std::process::id()));
            let mut options = OpenOptions::new();
            let file = match options.read(true).write(true).create_new(true).open(&path) {
                // Another process of this number: one of another container, or a dead one.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(StoreError::io("create", &path))?,
            };
            // The lock says "a living process writes here" to those who clean up. One of
            // them may have been quicker.
            file.lock_shared().map_err(StoreError::io("lock", &path))?;
            if gc::is_current(&file, &path) {
                return Ok(Pending { store: self.clone(), kind, path, file: Some(file) });
            }
        }
    }

    /// Stores `bytes` under `key`.
    pub fn put(&self, kind: Kind, key: &Key, bytes: &[u8]) -> Result<(), StoreError> {
        let mut pending = self.create(kind)?;
        let path = pending.path.clone();
        io::Write::write_all(pending.file_mut(), bytes).map_err(StoreError::io("write", &path))?;
        pending.seal(key).map(|_| ())
    }
}

/// An object being written. See [`Store::create`].
#[derive(Debug)]
pub struct Pending {
    store: Store,
    kind: Kind,
    path: PathBuf,
    file: Option<File>,
}

impl Pending {
    /// The file to write to; also readable.
    pub fn file_mut(&mut self) -> &mut File {
        self.file.as_mut().expect("open until commit")
    }

    /// Where it is now, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Seals the object and gives it its name. From here on it is visible, complete, and
    /// never changes.
    pub fn seal(self, key: &Key) -> Result<Arc<Blob>, StoreError> {
        self.store.whole()?;
        let file = self.file.as_ref().expect("open until commit");
        seal::seal(file).map_err(StoreError::io("write", &self.path))?;
        self.commit(key)
    }

    /// Gives the object its name as it is, without a seal.
    pub fn commit(mut self, key: &Key) -> Result<Arc<Blob>, StoreError> {
        let target = self.store.path(self.kind, key);
        let dir = target.parent().expect("a kind directory");
        fs::create_dir_all(dir).map_err(StoreError::io("make directory", dir))?;
        fs::rename(&self.path, &target).map_err(StoreError::io("rename to", &target))?;
        self.store.note(self.kind, key);
        let file = self.file.take().expect("open until commit");
        Ok(Blob::opened(target, file, Some(key.0)))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn nothing_is_visible_before_commit_and_nothing_left_after_drop() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = Key::of(b"input");
        let mut pending = store.create("pack").unwrap();
        pending.file_mut().write_all(b"abc").unwrap();
        assert!(store.get("pack", &key).unwrap().is_none());
        drop(pending);
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);

        store.put("pack", &key, b"abc").unwrap();
        store.put("pack", &key, b"abc").unwrap();
        assert_eq!(store.read("pack", &key).unwrap().unwrap(), b"abc");
        let (blob, len) = store.blob("pack", &key).unwrap().unwrap();
        assert_eq!((blob.id(), len), (Some(key.0), 3));
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn many_writers_of_one_key_all_succeed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = Key::of(b"x");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        store.put("pack", &key, &[7; 4096]).unwrap();
                        assert_eq!(store.read("pack", &key).unwrap().unwrap(), [7; 4096]);
                    }
                });
            }
        });
    }
}
