//! Objects that say whether they are whole: a checksum behind what they hold.
//!
//! ```text
//! payload, CRC-32C of it (u32), its length (u64), "mkgseal1"; numbers little-endian
//! ```
//!
//! What it is for: a disk, a memory or a crash that changed bytes, and a hand that did. It
//! is no protection against somebody who may write to the cache on purpose.
//! What it is not: used for downloads, whose keys are the SHA-256 of what they hold.
//!
//! An object is checked when it is opened, once per [`Store`]: one reading of it out of
//! the page cache, into which it has to come anyway. One that does not pass is removed and
//! counts as not there, so that it is made again; [`Store::damaged`] tells which.
//!
//! Where that would be waited for, it is done beside other work ([`Store::blob_later`]):
//! nothing is sealed before everything opened so far has been checked, so what was made
//! of something damaged never becomes an object, and whoever gives something else away
//! asks first ([`Store::whole`]).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use tree::Blob;

use crate::{Key, Kind, Store, StoreError, gc, lock};

const MAGIC: &[u8; 8] = b"mkgseal1";
/// Length of what stands behind the payload.
const SEAL: u64 = 4 + 8 + 8;
/// How much is read at once: it stays in the processor's cache.
const BUFFER: usize = 128 << 10;

/// Objects of a [`Store`] that are open, and those that had to be removed.
#[derive(Debug, Default)]
pub(crate) struct Seals {
    open: Mutex<BTreeMap<(Kind, Key), Weak<Blob>>>,
    damaged: Mutex<Vec<PathBuf>>,
    unchecked: Mutex<Vec<Opened>>,
    /// Read by who checks, so that others can wait for them.
    busy: RwLock<()>,
    /// What was in use when it was found damaged.
    broken: Mutex<Vec<PathBuf>>,
}

/// An object with a seal.
#[derive(Debug, Clone)]
struct Opened {
    kind: Kind,
    key: Key,
    blob: Arc<Blob>,
    len: u64,
    crc: u32,
}

impl Store {
    /// Reads an object as a whole; `None` if it is not there, or not whole.
    pub fn read(&self, kind: Kind, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(file) = self.get(kind, key)? else { return Ok(None) };
        let failed = |e| StoreError::io("read", &self.path(kind, key))(e);
        let Some((len, crc)) = read_seal(&file).map_err(failed)? else {
            return self.remove_damaged(kind, key, &file).map(|()| None);
        };
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(&file, len), &mut bytes).map_err(failed)?;
        if bytes.len() as u64 != len || crc32c::crc32c(&bytes) != crc {
            return self.remove_damaged(kind, key, &file).map(|()| None);
        }
        Ok(Some(bytes))
    }

    /// An object as a blob that Trees may refer to, and the length of what it holds; `None`
    /// if it is not there, or not whole. Who has one open shares it.
    pub fn blob(&self, kind: Kind, key: &Key) -> Result<Option<(Arc<Blob>, u64)>, StoreError> {
        let path = self.path(kind, key);
        if let Some(blob) = self.shared(kind, key) {
            return Ok(Some((blob.clone(), payload_len(&blob, &path)?)));
        }
        let Some(opened) = self.open_sealed(kind, key)? else { return Ok(None) };
        match self.is_whole(&opened)? {
            true => Ok(Some(self.share(opened))),
            false => Ok(None),
        }
    }

    /// The same, but checked later: by [`Store::check`], or when it counts.
    pub fn blob_later(
        &self,
        kind: Kind,
        key: &Key,
    ) -> Result<Option<(Arc<Blob>, u64)>, StoreError> {
        if self.shared(kind, key).is_some() {
            return self.blob(kind, key);
        }
        let Some(opened) = self.open_sealed(kind, key)? else { return Ok(None) };
        lock(&self.inner.seals.unchecked).push(opened.clone());
        Ok(Some(self.share(opened)))
    }

    fn shared(&self, kind: Kind, key: &Key) -> Option<Arc<Blob>> {
        lock(&self.inner.seals.open).get(&(kind, *key)).and_then(Weak::upgrade)
    }

    fn share(&self, opened: Opened) -> (Arc<Blob>, u64) {
        let Opened { kind, key, blob, len, .. } = opened;
        lock(&self.inner.seals.open).insert((kind, key), Arc::downgrade(&blob));
        (blob, len)
    }

    fn open_sealed(&self, kind: Kind, key: &Key) -> Result<Option<Opened>, StoreError> {
        let Some(file) = self.get(kind, key)? else { return Ok(None) };
        let path = self.path(kind, key);
        match read_seal(&file).map_err(StoreError::io("read", &path))? {
            Some((len, crc)) => {
                let blob = Blob::opened(path, file, Some(key.0));
                Ok(Some(Opened { kind, key: *key, blob, len, crc }))
            }
            None => self.remove_damaged(kind, key, &file).map(|()| None),
        }
    }

    /// Whether the object holds what was sealed; if not, it is removed.
    fn is_whole(&self, opened: &Opened) -> Result<bool, StoreError> {
        let Opened { kind, key, blob, len, crc } = opened;
        match blob.with_file(|file| checksum(file, *len)) {
            Ok(found) if found == *crc => return Ok(true),
            Ok(_) => {}
            // Cut since it was opened.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(e) => return Err(StoreError::io("read", blob.path())(e)),
        }
        lock(&self.inner.seals.open).remove(&(*kind, *key));
        let file = blob.with_file(File::try_clone).map_err(StoreError::io("open", blob.path()))?;
        self.remove_damaged(kind, key, &file)?;
        Ok(false)
    }

    /// Checks what was opened to be checked later, as one of maybe several that do.
    pub fn check(&self) -> Result<(), StoreError> {
        let seals = &self.inner.seals;
        let _busy = seals.busy.read().unwrap_or_else(PoisonError::into_inner);
        loop {
            let next = lock(&seals.unchecked).pop();
            let Some(opened) = next else { return Ok(()) };
            let whole = self.is_whole(&opened);
            if !matches!(whole, Ok(true)) {
                lock(&seals.broken).push(opened.blob.path().to_owned());
            }
            whole?;
        }
    }

    /// An error if anything that was opened is damaged, now and ever after: what has been
    /// made of it is to be thrown away, and the store opened anew.
    pub fn whole(&self) -> Result<(), StoreError> {
        self.check()?;
        let seals = &self.inner.seals;
        // Until the others have finished.
        drop(seals.busy.write().unwrap_or_else(PoisonError::into_inner));
        match lock(&seals.broken).first() {
            None => Ok(()),
            Some(path) => Err(StoreError::Damaged {
                path: path.clone(),
                reason: "its checksum is wrong; it was removed".into(),
            }),
        }
    }

    /// What was found damaged, and removed, since the store was opened or last asked.
    pub fn damaged(&self) -> Vec<PathBuf> {
        std::mem::take(&mut lock(&self.inner.seals.damaged))
    }

    fn remove_damaged(&self, kind: Kind, key: &Key, file: &File) -> Result<(), StoreError> {
        let path = self.path(kind, key);
        // Another process may have made it again.
        if gc::is_current(file, &path) {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    let reason = format!("its checksum is wrong, and it cannot be removed: {e}");
                    return Err(StoreError::Damaged { path, reason });
                }
                _ => lock(&self.inner.seals.damaged).push(path),
            }
        }
        Ok(())
    }
}

/// Puts the seal behind what `file` holds.
pub(crate) fn seal(file: &File) -> io::Result<()> {
    let len = file.metadata()?.len();
    let crc = checksum(file, len)?;
    let mut seal = Vec::with_capacity(SEAL as usize);
    seal.extend_from_slice(&crc.to_le_bytes());
    seal.extend_from_slice(&len.to_le_bytes());
    seal.extend_from_slice(MAGIC);
    file.write_all_at(&seal, len)
}

/// Length and checksum of the payload, as the seal says; `None` if there is no seal.
fn read_seal(file: &File) -> io::Result<Option<(u64, u32)>> {
    let Some(len) = file.metadata()?.len().checked_sub(SEAL) else { return Ok(None) };
    let mut seal = [0; SEAL as usize];
    file.read_exact_at(&mut seal, len)?;
    let (crc, rest) = seal.split_at(4);
    let (said, magic) = rest.split_at(8);
    let said = u64::from_le_bytes(said.try_into().expect("eight bytes"));
    let crc = u32::from_le_bytes(crc.try_into().expect("four bytes"));
    Ok((magic == MAGIC && said == len).then_some((len, crc)))
}

fn payload_len(blob: &Blob, path: &std::path::Path) -> Result<u64, StoreError> {
    let len = blob.with_file(|file| Ok(file.metadata()?.len()));
    let len = len.map_err(|e| StoreError::io("look at", path)(e))?;
    Ok(len.saturating_sub(SEAL))
}

/// CRC-32C of the first `len` bytes of `file`.
pub fn checksum(file: &File, len: u64) -> io::Result<u32> {
    let mut buffer = vec![0; BUFFER.min(usize::try_from(len).unwrap_or(BUFFER))];
    let (mut at, mut crc) = (0, 0);
    while at < len {
        let chunk = buffer.len().min(usize::try_from(len - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut buffer[..chunk], at)?;
        crc = crc32c::crc32c_append(crc, &buffer[..chunk]);
        at += chunk as u64;
    }
    Ok(crc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_castagnoli_one() {
        // RFC 3720, B.4: 32 bytes of zeroes.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, [0; 32]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        seal(&file).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes[32..36], 0x8a91_36aa_u32.to_le_bytes());
        assert_eq!(bytes[36..44], 32u64.to_le_bytes());
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed_and_the_object_goes() {
        let dir = tempfile::tempdir().unwrap();
        let key = Key::of(b"x");
        let put = || Store::open(dir.path()).unwrap().put("pack", &key, b"0123456789").unwrap();
        let path = Store::open(dir.path()).unwrap().path("pack", &key);
        put();
        let good = fs::read(&path).unwrap();
        let flipped = (0..good.len()).map(|at| {
            let mut bytes = good.clone();
            bytes[at] ^= 0x20;
            bytes
        });
        let cut = (0..good.len()).map(|len| good[..len].to_vec());
        let mut longer = good.clone();
        longer.push(0);
        for bad in flipped.chain(cut).chain([longer]) {
            for whole in [true, false] {
                fs::write(&path, &bad).unwrap();
                let store = Store::open(dir.path()).unwrap();
                let found = match whole {
                    true => store.read("pack", &key).unwrap().is_some(),
                    false => store.blob("pack", &key).unwrap().is_some(),
                };
                assert!(!found && !path.exists(), "{bad:?}");
                assert_eq!(store.damaged(), std::slice::from_ref(&path));
                assert!(store.damaged().is_empty(), "it is told once");
            }
        }
        put();
        assert_eq!(fs::read(&path).unwrap(), good);
    }

    #[test]
    fn what_is_checked_later_keeps_anything_from_being_made_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (good, bad) = (Key::of(b"good"), Key::of(b"bad"));
        let store = Store::open(dir.path()).unwrap();
        for key in [&good, &bad] {
            store.put("pack", key, b"0123456789").unwrap();
        }
        let path = store.path("pack", &bad);
        let mut bytes = fs::read(&path).unwrap();
        bytes[3] ^= 1;
        fs::write(&path, bytes).unwrap();
        store.blob_later("pack", &good).unwrap().unwrap();
        store.whole().unwrap();
        let (blob, len) = store.blob_later("pack", &bad).unwrap().unwrap();
        assert_eq!((len, path.exists()), (10, true));
        let error = store.put("layer", &good, b"made of it").unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(!path.exists() && !store.path("layer", &good).exists());
        assert!(store.whole().is_err(), "{} is still in use", blob.path().display());
        assert_eq!(store.damaged(), [path]);
        let store = Store::open(dir.path()).unwrap();
        assert!(store.blob_later("pack", &bad).unwrap().is_none());
        store.put("layer", &good, b"made of something else").unwrap();
    }

    #[test]
    fn an_open_blob_is_shared_and_checked_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = Key::of(b"x");
        store.put("pack", &key, b"0123456789").unwrap();
        let (one, len) = store.blob("pack", &key).unwrap().unwrap();
        let (two, again) = store.clone().blob("pack", &key).unwrap().unwrap();
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!((len, again), (10, 10));
        drop((one, two));
        fs::write(store.path("pack", &key), b"other").unwrap();
        assert!(store.blob("pack", &key).unwrap().is_none());
    }
}
