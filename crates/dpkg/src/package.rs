//! [`Package`]: a `.deb` that has been read once and lies in the store.
//!
//! What it is: control files in memory, the list of entries in archive order,
//! and a pack (the decompressed data tar) that the contents are ranges of.
//! What it is not: installed anywhere; see [`crate::merge`].
//!
//! Data flow: `.deb` → [`unpack`] → objects `pack` and `package` in the store, both
//! named by the `.deb`'s SHA-256; later builds → [`cached`] → the same Package.

use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use store::{Key, Store};
use tree::{Blob, Content, Device, Kind, Meta, Mtime, TreePath, Xattrs};

use crate::deb::{Contents, read_deb};
use crate::{Control, Error, Limits};

/// First bytes of a `package` object. Another layout gets another number.
const MAGIC: &[u8; 8] = b"mkgpkg\x00\x02";
const PACK: store::Kind = "pack";
const PACKAGE: store::Kind = "package";
const WRITE_BUFFER: usize = 256 << 10;

/// A file of the control archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name: `postinst`, `conffiles` …
    pub name: String,
    /// The permission bits.
    pub mode: u16,
    /// Modification time.
    pub mtime: Mtime,
    /// The content.
    pub bytes: Arc<[u8]>,
}

/// What an entry of the data archive is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A directory.
    Dir,
    /// A regular file: a range of the pack.
    File {
        /// Where its content starts in the pack.
        offset: u64,
        /// Size in bytes.
        len: u64,
    },
    /// Another name of an earlier entry.
    HardLink(TreePath),
    /// A symbolic link and its target, verbatim.
    Symlink(Box<[u8]>),
    /// A character device.
    CharDev(Device),
    /// A block device.
    BlockDev(Device),
    /// A named pipe.
    Fifo,
}

/// An entry of the data archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it belongs, as the archive says.
    pub path: TreePath,
    /// What it is.
    pub kind: EntryKind,
    /// The twelve permission bits.
    pub mode: u16,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Owner by name where that may say something else than the number.
    pub uname: Option<String>,
    /// Group by name, likewise.
    pub gname: Option<String>,
    /// Modification time.
    pub mtime: Mtime,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// A package ready to be laid out. See the module's head.
#[derive(Debug)]
pub struct Package {
    id: Key,
    control: Control,
    members: Vec<Member>,
    entries: Vec<Entry>,
    pack: Arc<Blob>,
}

/// How a Package is kept.
#[derive(Serialize, Deserialize)]
struct Stored {
    pack_len: u64,
    members: Vec<Member>,
    entries: Vec<Entry>,
}

impl Package {
    /// SHA-256 of the `.deb`.
    pub fn id(&self) -> Key {
        self.id
    }

    /// Its control paragraph.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The package's name.
    pub fn name(&self) -> &str {
        self.control.name()
    }

    /// The files of the control archive, in its order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// One file of the control archive.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|m| m.name == name)
    }

    /// The entries of the data archive, in its order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What the entry is, in the terms of a Tree; `None` for hard links.
    pub fn kind(&self, entry: &Entry) -> Option<Kind> {
        Some(match &entry.kind {
            EntryKind::Dir => Kind::Dir,
            EntryKind::File { len: 0, .. } => Kind::File(Content::empty()),
            EntryKind::File { offset, len } => {
                Kind::File(Content::range(self.pack.clone(), *offset, *len))
            }
            EntryKind::HardLink(_) => return None,
            EntryKind::Symlink(target) => Kind::Symlink(target.clone()),
            EntryKind::CharDev(device) => Kind::CharDev(*device),
            EntryKind::BlockDev(device) => Kind::BlockDev(*device),
            EntryKind::Fifo => Kind::Fifo,
        })
    }

    fn new(id: Key, stored: Stored, pack: Arc<Blob>) -> Result<Self, crate::ControlError> {
        let control = stored.members.iter().find(|m| m.name == "control");
        let control = control.ok_or(crate::ControlError::Missing("control file"))?;
        let control = Control::parse(&control.bytes)?;
        let Stored { members, entries, .. } = stored;
        Ok(Package { id, control, members, entries, pack })
    }
}

impl Entry {
    /// Mode, numeric owner, time and xattrs.
    pub fn meta(&self) -> Meta {
        let mode = match self.kind {
            EntryKind::Symlink(_) => 0o777,
            _ => self.mode,
        };
        let Entry { uid, gid, mtime, .. } = *self;
        Meta { mode, uid, gid, mtime, xattrs: self.xattrs.clone() }
    }
}

/// The package if it has been unpacked before. A package whose pack is gone or has another
/// size counts as not there. What is in the pack is checked when the store is asked to
/// ([`Store::check`], [`Store::whole`]).
pub fn cached(store: &Store, sha256: &Key) -> Result<Option<Arc<Package>>, Error> {
    let Some(bytes) = store.read(PACKAGE, sha256)? else { return Ok(None) };
    let Some(stored) = decode(&bytes) else { return Ok(None) };
    let Some((pack, len)) = store.blob_later(PACK, sha256)? else { return Ok(None) };
    if len != stored.pack_len {
        return Ok(None);
    }
    // Only what was parsed once is stored; if this one is not, make it again.
    Ok(Package::new(*sha256, stored, pack).ok().map(Arc::new))
}

pub(crate) fn decode_object(bytes: &[u8]) -> bool {
    decode(bytes).is_some()
}

fn decode(bytes: &[u8]) -> Option<Stored> {
    let stored: Stored = postcard::from_bytes(bytes.strip_prefix(MAGIC)?).ok()?;
    let good = |path: &TreePath| TreePath::new(path.as_bytes()).as_ref() == Ok(path);
    let fits = |entry: &Entry| match &entry.kind {
        EntryKind::File { offset, len } => {
            offset.checked_add(*len).is_some_and(|end| end <= stored.pack_len)
        }
        EntryKind::HardLink(target) => good(target),
        _ => true,
    };
    stored.entries.iter().all(|entry| good(&entry.path) && fits(entry)).then_some(stored)
}

/// Unpacks the `.deb` file at `path`, or takes it from the store.
pub fn unpack_file(
    store: &Store,
    path: &Path,
    sha256: &Key,
    limits: &Limits,
) -> Result<Arc<Package>, Error> {
    if let Some(package) = cached(store, sha256)? {
        return Ok(package);
    }
    let file = File::open(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    unpack(store, &name, file, sha256, limits)
}

/// Unpacks a `.deb`, or takes it from the store (then nothing is read). `archive`
/// names it in errors. Nothing enters the store unless its SHA-256 is `sha256`.
pub fn unpack(
    store: &Store,
    archive: &str,
    deb: impl Read,
    sha256: &Key,
    limits: &Limits,
) -> Result<Arc<Package>, Error> {
    if let Some(package) = cached(store, sha256)? {
        return Ok(package);
    }
    let mut pending = store.create(PACK)?;
    let mut input = Hashing { inner: deb, hasher: Sha256::new() };
    let pack = BufWriter::with_capacity(WRITE_BUFFER, pending.file_mut());
    let contents = read_deb(archive, &mut input, limits, pack);
    // A damaged download is more often the reason than a bad package: say so.
    let found = input.finish(archive)?;
    if found != *sha256 {
        return Err(Error::Hash { archive: archive.into(), expected: *sha256, found });
    }
    let Contents { members, entries } = contents?;
    let length = pending.file_mut().metadata().map(|m| m.len());
    let pack_len =
        length.map_err(|source| Error::Pack { path: pending.path().to_owned(), source })?;
    let stored = Stored { pack_len, members, entries };
    let object = encode(&stored);
    let pack = pending.seal(sha256)?;
    let package = Package::new(*sha256, stored, pack)
        .map_err(|source| Error::Control { archive: archive.into(), source })?;
    store.put(PACKAGE, sha256, &object)?;
    Ok(Arc::new(package))
}

fn encode(stored: &Stored) -> Vec<u8> {
    postcard::to_extend(stored, MAGIC.to_vec()).expect("writing to memory does not fail")
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hasher.update(&buf[..n]);
        Ok(n)
    }
}

impl<R: Read> Hashing<R> {
    /// The hash of everything, the part that nobody asked for included.
    fn finish(mut self, archive: &str) -> Result<Key, Error> {
        io::copy(&mut self, &mut io::sink()).map_err(|e| crate::ArchiveError {
            archive: archive.to_owned(),
            member: "the archive".to_owned(),
            problem: e.into(),
        })?;
        Ok(Key(self.hasher.finalize().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Item, Shelf, deb};

    #[test]
    fn a_package_is_read_once() {
        let shelf = Shelf::new();
        let bytes =
            deb("a", "", &[("./postinst", "#!/bin/sh\n")], &[Item("./f", b'0', "", b"abc")]);
        let key = Key::of(&bytes);
        let first = shelf.try_unpack(&bytes).unwrap();
        // Nothing to read: it must come from the store.
        let limits = Limits::default();
        let second = unpack(&shelf.store, "a", io::empty(), &key, &limits).unwrap();
        assert_eq!(second.entries(), first.entries());
        assert_eq!(second.members(), first.members());
        let Some(Kind::File(content)) = second.kind(&second.entries()[0]) else { panic!() };
        assert_eq!(content.read(10).unwrap(), b"abc");
        // A pack that was cut counts as gone, for who has it not open.
        shelf.store.whole().unwrap();
        drop((first, second, content));
        let path = shelf.store.path(PACK, &key);
        std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(100).unwrap();
        assert!(cached(&shelf.store, &key).unwrap().is_none());
        shelf.try_unpack(&bytes).unwrap();
        assert!(cached(&shelf.store, &key).unwrap().is_some());
    }

    #[test]
    fn another_archive_never_enters_the_store() {
        let shelf = Shelf::new();
        let key = Key::of(b"expected");
        for bytes in [deb("a", "", &[], &[]), b"!<arch>\ntorn".to_vec()] {
            let error = unpack(&shelf.store, "a.deb", &bytes[..], &key, &Limits::default());
            assert!(matches!(error, Err(Error::Hash { .. })), "{error:?}");
        }
        assert!(cached(&shelf.store, &key).unwrap().is_none());
        assert!(!shelf.store.path(PACK, &key).exists());
    }

    #[test]
    fn damaged_objects_count_as_not_there() {
        let shelf = Shelf::new();
        let bytes = deb("a", "", &[], &[Item("./f", b'0', "", b"abc")]);
        let key = shelf.try_unpack(&bytes).unwrap().id();
        let object = shelf.store.read(PACKAGE, &key).unwrap().unwrap();
        assert!(decode(&object).is_some());
        assert!(decode(&object[..object.len() - 3]).is_none());
        let at = object.windows(3).position(|w| w == b"./f" || w == b"\x01f\x01").unwrap();
        let mut hostile = object.clone();
        hostile[at + 1] = b'/';
        assert!(decode(&hostile).is_none(), "a path that is not normal");
    }
}
