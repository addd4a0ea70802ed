//! Reads a squashfs 4.0 file system into a Tree. Contents stay compressed where they are
//! and are unpacked, block by block, when they are read.
//!
//! The image may come from anybody: every number is checked before use, every directory
//! is visited once, a block says beforehand how long it may be, and [`ReadLimits`] bound
//! what is taken in.
//!
//! Source: the kernel's `Documentation/filesystems/squashfs.rst` and images made by
//! mksquashfs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex};

use tree::{Blob, Content, Device, Kind, Meta, Mtime, Node, ReadAt, Tree, TreePath, Xattrs};

use super::NAME;
use super::unpack::Compression;
use crate::FsError;
use crate::bytes::*;
use crate::image::{Budget, Image, ReadLimits};

const MAGIC: u32 = 0x7371_7368;
const SUPER_LEN: usize = 96;
/// Bytes of a block of metadata.
const META_LEN: usize = 8192;
/// Bit of a metadata block's length: not compressed.
const META_PLAIN: u16 = 0x8000;
/// The same for blocks of files.
const PLAIN: u32 = 1 << 24;
const NOWHERE: u32 = u32::MAX;
const NO_TABLE: u64 = u64::MAX;
/// Blocks that are kept unpacked.
const CACHED: usize = 8;
/// The longest value of an attribute that Linux has.
const XATTR_MAX: usize = 65_536;

/// Reads the file system at `offset` of `blob` within the default limits.
pub fn read(blob: &Arc<Blob>, offset: u64) -> Result<Tree, FsError> {
    read_limited(blob, offset, ReadLimits::default())
}

/// Reads the file system at `offset` of `blob`.
pub fn read_limited(blob: &Arc<Blob>, offset: u64, limits: ReadLimits) -> Result<Tree, FsError> {
    let volume = Volume::open(Image::new(NAME, blob, offset)?)?;
    let mut walk = Walk {
        ids: volume.ids()?,
        meta: HashMap::new(),
        volume: &volume,
        budget: Budget::new(NAME, limits),
        tree: Tree::new(),
        names: HashMap::new(),
        dirs: HashSet::new(),
    };
    walk.run()?;
    Ok(walk.tree)
}

fn get64(bytes: &[u8], at: usize) -> u64 {
    u64::from(get32(bytes, at)) | u64::from(get32(bytes, at + 4)) << 32
}

/// What the superblock says.
struct Volume {
    blocks: Arc<Blocks>,
    image: Image,
    block: u64,
    fragments: u32,
    id_count: u16,
    root: u64,
    id_table: u64,
    xattr_table: u64,
    inodes: u64,
    directories: u64,
    fragment_table: u64,
}

impl Volume {
    fn open(image: Image) -> Result<Volume, FsError> {
        let sb = image.bytes(0, SUPER_LEN)?;
        if get32(&sb, 0) != MAGIC {
            return Err(image.corrupt("no squashfs superblock"));
        }
        if get16(&sb, 28) != 4 {
            return Err(FsError::Feature { fs: NAME, what: format!("version {}", get16(&sb, 28)) });
        }
        let number = get16(&sb, 20);
        let compression = Compression::of_number(number)
            .ok_or_else(|| FsError::Feature { fs: NAME, what: format!("compression {number}") })?;
        let block = u64::from(get32(&sb, 12));
        if !block.is_power_of_two() || !(4096..=1 << 20).contains(&block) {
            return Err(image.corrupt("superblock: bad block size"));
        }
        if get64(&sb, 40) > image.len {
            return Err(image.corrupt("superblock: the image is shorter than it says"));
        }
        let blocks = Blocks {
            image: image.clone(),
            compression,
            block: block as usize,
            kept: Mutex::default(),
        };
        Ok(Volume {
            blocks: Arc::new(blocks),
            block,
            fragments: get32(&sb, 16),
            id_count: get16(&sb, 26),
            root: get64(&sb, 32),
            id_table: get64(&sb, 48),
            xattr_table: get64(&sb, 56),
            inodes: get64(&sb, 64),
            directories: get64(&sb, 72),
            fragment_table: get64(&sb, 80),
            image,
        })
    }

    /// One block of metadata, unpacked, and where the next one begins.
    fn meta_block(&self, at: u64) -> Result<(Vec<u8>, u64), FsError> {
        let head = get16(&self.image.bytes(at, 2)?, 0);
        let len = usize::from(head & !META_PLAIN);
        if len == 0 || len > META_LEN {
            return Err(self.image.corrupt("a block of metadata has a bad length"));
        }
        let packed = self.image.bytes(at + 2, len)?;
        let plain = match head & META_PLAIN != 0 {
            true => packed,
            false => self
                .blocks
                .compression
                .unpack(&packed, META_LEN)
                .map_err(|e| self.image.corrupt(format!("metadata at byte {at}: {e}")))?,
        };
        Ok((plain, at + 2 + len as u64))
    }

    /// Entry `index` of a table whose blocks are listed at `list`.
    fn table_entry(&self, list: u64, index: u64, len: usize) -> Result<Vec<u8>, FsError> {
        let at = index * len as u64;
        let slot = list.checked_add(at / META_LEN as u64 * 8);
        let slot = slot.ok_or_else(|| self.image.corrupt("a table lies behind the end"))?;
        let (block, _) = self.meta_block(get64(&self.image.bytes(slot, 8)?, 0))?;
        let entry = slice(&block, (at % META_LEN as u64) as usize, len);
        entry.map(<[u8]>::to_vec).ok_or_else(|| self.image.corrupt("a table is cut off"))
    }

    fn ids(&self) -> Result<Vec<u32>, FsError> {
        let mut ids = Vec::new();
        let count = usize::from(self.id_count);
        for n in 0..(count * 4).div_ceil(META_LEN) {
            let slot = self.image.bytes(self.id_table.saturating_add(n as u64 * 8), 8)?;
            let (block, _) = self.meta_block(get64(&slot, 0))?;
            ids.extend(block.chunks_exact(4).map(|b| get32(b, 0)));
        }
        ids.truncate(count);
        Ok(ids)
    }
}

/// Unpacks blocks of files; the last few are kept.
#[derive(Debug)]
struct Blocks {
    image: Image,
    compression: Compression,
    block: usize,
    kept: Mutex<BTreeMap<u64, Arc<Vec<u8>>>>,
}

impl Blocks {
    fn get(&self, place: u64, word: u32) -> io::Result<Arc<Vec<u8>>> {
        let mut kept = self.kept.lock().expect("nobody panics while holding it");
        if let Some(block) = kept.get(&place) {
            return Ok(block.clone());
        }
        let len = (word & !PLAIN) as usize;
        if len > self.block {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a block has a bad length"));
        }
        let packed = self.image.bytes(place, len).map_err(io::Error::other)?;
        let plain = match word & PLAIN != 0 {
            true => packed,
            false => self.compression.unpack(&packed, self.block)?,
        };
        if kept.len() >= CACHED {
            kept.clear();
        }
        let plain = Arc::new(plain);
        kept.insert(place, plain.clone());
        Ok(plain)
    }
}

/// A file: whole blocks one after the other, and an end that shares a block with others.
#[derive(Debug)]
struct Packed {
    blocks: Arc<Blocks>,
    size: u64,
    start: u64,
    words: Box<[u32]>,
    /// Where the block with the end is, its length, and where in it the end begins.
    end: Option<(u64, u32, usize)>,
}

impl ReadAt for Packed {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let len = self.blocks.block as u64;
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let (index, within) = ((at / len) as usize, (at % len) as usize);
            let n = (len as usize - within).min(buf.len() - done);
            let room = &mut buf[done..done + n];
            done += n;
            let (place, word, skip) = match self.words.get(index) {
                Some(0) => {
                    room.fill(0);
                    continue;
                }
                Some(word) => {
                    let before = self.words[..index].iter().map(|w| u64::from(w & !PLAIN));
                    (self.start + before.sum::<u64>(), *word, within)
                }
                None => {
                    let (place, word, at) = self.end.ok_or(io::ErrorKind::UnexpectedEof)?;
                    (place, word, at + within)
                }
            };
            let block = self.blocks.get(place, word)?;
            let bytes = slice(&block, skip, n).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "a block is shorter than the file needs")
            })?;
            room.copy_from_slice(bytes);
        }
        Ok(())
    }
}

/// Where something begins in a run of metadata blocks.
#[derive(Clone, Copy)]
struct Place {
    block: u64,
    offset: usize,
}

/// A directory's list of names.
struct Listing {
    place: Place,
    len: u64,
}

struct Walk<'a> {
    volume: &'a Volume,
    ids: Vec<u32>,
    /// Unpacked blocks of metadata: most are asked for again and again.
    meta: HashMap<u64, (Arc<Vec<u8>>, u64)>,
    budget: Budget,
    tree: Tree,
    names: HashMap<u32, TreePath>,
    dirs: HashSet<u32>,
}

impl Walk<'_> {
    fn corrupt(&self, what: impl Into<String>) -> FsError {
        self.volume.image.corrupt(what)
    }

    fn block(&mut self, at: u64) -> Result<(Arc<Vec<u8>>, u64), FsError> {
        if let Some(found) = self.meta.get(&at) {
            return Ok(found.clone());
        }
        let (plain, next) = self.volume.meta_block(at)?;
        if self.meta.len() > 1024 {
            self.meta.clear();
        }
        let found = (Arc::new(plain), next);
        self.meta.insert(at, found.clone());
        Ok(found)
    }

    /// `len` bytes from `place`, which moves on; the caller has bounded `len`.
    fn take(&mut self, place: &mut Place, len: usize) -> Result<Vec<u8>, FsError> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let (block, next) = self.block(place.block)?;
            let rest = block.get(place.offset..).unwrap_or_default();
            if rest.is_empty() {
                if place.offset > block.len() || next >= self.volume.image.len {
                    return Err(self.corrupt("metadata is cut off"));
                }
                *place = Place { block: next, offset: 0 };
                continue;
            }
            let n = rest.len().min(len - bytes.len());
            bytes.extend_from_slice(&rest[..n]);
            place.offset += n;
        }
        Ok(bytes)
    }

    fn place(&self, table: u64, reference: u64) -> Result<Place, FsError> {
        let block = table.checked_add(reference >> 16);
        let block = block.ok_or_else(|| self.corrupt("a reference leads nowhere"))?;
        Ok(Place { block, offset: (reference & 0xffff) as usize })
    }

    fn run(&mut self) -> Result<(), FsError> {
        let root = self.place(self.volume.inodes, self.volume.root)?;
        let Some((meta, listing)) = self.enter(TreePath::root(), root)? else {
            return Err(self.corrupt("the root is no directory"));
        };
        self.tree.get_mut(&TreePath::root()).expect("a tree has a root").meta = meta;
        let mut open = vec![(TreePath::root(), listing)];
        while let Some((path, listing)) = open.pop() {
            for (name, reference) in self.entries(&path, listing)? {
                let below = path.join(&name);
                let below = below.map_err(|e| self.corrupt(format!("{path}: {e}")))?;
                self.budget.meta(below.as_bytes().len())?;
                let place = self.place(self.volume.inodes, reference)?;
                if let Some((_, listing)) = self.enter(below.clone(), place)? {
                    open.push((below, listing));
                }
            }
        }
        Ok(())
    }

    /// Adds what the inode at `place` is; returns what is needed to list a directory.
    fn enter(
        &mut self,
        path: TreePath,
        mut place: Place,
    ) -> Result<Option<(Meta, Listing)>, FsError> {
        let wrap = |source| FsError::Tree { fs: NAME, source };
        let head = self.take(&mut place, 16)?;
        let (ty, number) = (get16(&head, 0), get32(&head, 12));
        if let Some(first) = self.names.get(&number) {
            self.tree.add_link(path, first).map_err(wrap)?;
            return Ok(None);
        }
        let id = |walk: &Self, at: usize| {
            let id = walk.ids.get(usize::from(get16(&head, at))).copied();
            id.ok_or_else(|| walk.corrupt(format!("{path}: its owner is not in the table")))
        };
        let mut meta = Meta::new(get16(&head, 2) & 0o7777)
            .owned_by(id(self, 4)?, id(self, 6)?)
            .at(Mtime::secs(get32(&head, 8).into()));
        let (kind, listing, xattrs) = self.kind(&path, ty, &mut place)?;
        if xattrs != NOWHERE {
            meta.xattrs = self.xattrs(&path, xattrs)?;
        }
        if let Some(listing) = listing {
            if !self.dirs.insert(number) {
                return Err(self.corrupt(format!("{path}: is a second name of a directory")));
            }
            if !path.is_root() {
                self.tree.add(path, Node { meta: meta.clone(), kind }).map_err(wrap)?;
            }
            return Ok(Some((meta, listing)));
        }
        if path.is_root() {
            return Ok(None);
        }
        self.names.insert(number, path.clone());
        self.tree.add(path, Node { meta, kind }).map_err(wrap)?;
        Ok(None)
    }

    /// Kind, listing of a directory, number of the attributes.
    fn kind(
        &mut self,
        path: &TreePath,
        ty: u16,
        place: &mut Place,
    ) -> Result<(Kind, Option<Listing>, u32), FsError> {
        let directory = |walk: &Self, block: u32, offset: u16, size: u32| -> Result<_, FsError> {
            let start = walk.volume.directories.checked_add(block.into());
            let block = start.ok_or_else(|| walk.corrupt("a directory lies behind the end"))?;
            let place = Place { block, offset: offset.into() };
            // Three bytes more than there are, for `.` and `..`.
            Ok(Listing { place, len: u64::from(size).saturating_sub(3) })
        };
        Ok(match ty {
            1 => {
                let b = self.take(place, 16)?;
                let listing = directory(self, get32(&b, 0), get16(&b, 10), get16(&b, 8).into())?;
                (Kind::Dir, Some(listing), NOWHERE)
            }
            8 => {
                let b = self.take(place, 24)?;
                let listing = directory(self, get32(&b, 8), get16(&b, 18), get32(&b, 4))?;
                (Kind::Dir, Some(listing), get32(&b, 20))
            }
            2 => {
                let b = self.take(place, 16)?;
                let end = (get32(&b, 4), get32(&b, 8));
                let start = u64::from(get32(&b, 0));
                (self.file(path, place, start, u64::from(get32(&b, 12)), end)?, None, NOWHERE)
            }
            9 => {
                let b = self.take(place, 40)?;
                let end = (get32(&b, 28), get32(&b, 32));
                let kind = self.file(path, place, get64(&b, 0), get64(&b, 8), end)?;
                (kind, None, get32(&b, 36))
            }
            3 | 10 => {
                let b = self.take(place, 8)?;
                let len = get32(&b, 4);
                if len == 0 || len > 4095 {
                    return Err(self.corrupt(format!("{path}: has an impossible link target")));
                }
                self.budget.meta(len as usize)?;
                let target = self.take(place, len as usize)?;
                let xattrs = if ty == 10 { get32(&self.take(place, 4)?, 0) } else { NOWHERE };
                (Kind::Symlink(target.into()), None, xattrs)
            }
            4..=7 | 11..=14 => {
                let wide = ty > 7;
                let is_device = matches!(ty, 4 | 5 | 11 | 12);
                let len = 4 + if is_device { 4 } else { 0 } + if wide { 4 } else { 0 };
                let b = self.take(place, len)?;
                let device = || decode_device(get32(&b, 4));
                let kind = match ty {
                    4 | 11 => Kind::BlockDev(device()),
                    5 | 12 => Kind::CharDev(device()),
                    6 | 13 => Kind::Fifo,
                    _ => Kind::Socket,
                };
                (kind, None, if wide { get32(&b, len - 4) } else { NOWHERE })
            }
            _ => return Err(self.corrupt(format!("{path}: has no known type"))),
        })
    }

    fn file(
        &mut self,
        path: &TreePath,
        place: &mut Place,
        start: u64,
        size: u64,
        (fragment, offset): (u32, u32),
    ) -> Result<Kind, FsError> {
        if size == 0 {
            return Ok(Kind::File(Content::empty()));
        }
        let block = self.volume.block;
        let shared = fragment != NOWHERE;
        let count = if shared { size / block } else { size.div_ceil(block) };
        let mut words = Vec::new();
        for _ in 0..count {
            self.budget.part()?;
            words.push(get32(&self.take(place, 4)?, 0));
        }
        let end = match shared {
            true if fragment >= self.volume.fragments => {
                return Err(self.corrupt(format!("{path}: its end is nowhere")));
            }
            true => {
                let entry =
                    self.volume.table_entry(self.volume.fragment_table, fragment.into(), 16)?;
                Some((get64(&entry, 0), get32(&entry, 8), offset as usize))
            }
            false => None,
        };
        let stored = words.iter().map(|w| u64::from(w & !PLAIN)).sum::<u64>();
        if start.checked_add(stored).is_none_or(|end| end > self.volume.image.len) {
            return Err(self.corrupt(format!("{path}: lies behind the end of the image")));
        }
        let blocks = self.volume.blocks.clone();
        let packed = Packed { blocks, size, start, words: words.into(), end };
        let blob = Blob::computed(self.volume.image.blob.path(), packed);
        Ok(Kind::File(Content::range(blob, 0, size)))
    }

    fn entries(
        &mut self,
        path: &TreePath,
        listing: Listing,
    ) -> Result<Vec<(Vec<u8>, u64)>, FsError> {
        let Listing { mut place, len } = listing;
        let (mut left, mut found) = (len, Vec::new());
        while left >= 12 {
            let head = self.take(&mut place, 12)?;
            let (count, block) = (u64::from(get32(&head, 0)) + 1, u64::from(get32(&head, 4)));
            left -= 12;
            if count > 256 {
                return Err(self.corrupt(format!("{path}: a directory header is damaged")));
            }
            for _ in 0..count {
                let entry = self.take(&mut place, 8)?;
                let name_len = usize::from(get16(&entry, 6)) + 1;
                let used = 8 + name_len as u64;
                if name_len > 255 || used > left {
                    return Err(self.corrupt(format!("{path}: a directory entry is damaged")));
                }
                left -= used;
                let name = self.take(&mut place, name_len)?;
                if name.contains(&b'/') || name.contains(&0) || name == b"." || name == b".." {
                    return Err(self.corrupt(format!("{path}: an entry has a bad name")));
                }
                self.budget.entry()?;
                found.push((name, block << 16 | u64::from(get16(&entry, 0))));
            }
        }
        Ok(found)
    }

    /// The attributes with this number.
    fn xattrs(&mut self, path: &TreePath, number: u32) -> Result<Xattrs, FsError> {
        let table = self.volume.xattr_table;
        if table == NO_TABLE {
            return Err(self.corrupt(format!("{path}: has attributes, but there is no table")));
        }
        let head = self.volume.image.bytes(table, 16)?;
        let (start, count) = (get64(&head, 0), get32(&head, 8));
        if number >= count {
            return Err(self.corrupt(format!("{path}: its attributes are nowhere")));
        }
        let entry = self.volume.table_entry(table + 16, number.into(), 16)?;
        let mut place = self.place(start, get64(&entry, 0))?;
        let mut xattrs = Xattrs::new();
        for _ in 0..get32(&entry, 8) {
            let head = self.take(&mut place, 4)?;
            let (ty, name_len) = (get16(&head, 0), usize::from(get16(&head, 2)));
            let prefix: &[u8] = match ty & 0xff {
                0 => b"user.",
                1 => b"trusted.",
                2 => b"security.",
                other => {
                    let what = format!("{path}: an extended attribute of class {other}");
                    return Err(FsError::Feature { fs: NAME, what });
                }
            };
            self.budget.meta(name_len)?;
            let name = [prefix, &self.take(&mut place, name_len)?].concat();
            let mut value = self.value(path, &mut place)?;
            if ty & 0x100 != 0 {
                let at = slice(&value, 0, 8).map(|b| get64(b, 0));
                let at = at.ok_or_else(|| self.corrupt(format!("{path}: bad attributes")))?;
                let mut elsewhere = self.place(start, at)?;
                value = self.value(path, &mut elsewhere)?;
            }
            xattrs.insert(name, value);
        }
        Ok(xattrs)
    }

    fn value(&mut self, path: &TreePath, place: &mut Place) -> Result<Vec<u8>, FsError> {
        let len = get32(&self.take(place, 4)?, 0) as usize;
        if len > XATTR_MAX {
            return Err(self.corrupt(format!("{path}: an attribute is impossibly long")));
        }
        self.budget.meta(len)?;
        self.take(place, len)
    }
}

/// A device number as Linux encodes it in 32 bits.
fn decode_device(number: u32) -> Device {
    let minor = (number & 0xff) | (number >> 12 & 0xfff00);
    Device { major: number >> 8 & 0xfff, minor }
}
