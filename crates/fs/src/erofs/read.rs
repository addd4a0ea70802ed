//! Reads an EROFS file system into a Tree. Contents stay where they are: as ranges of
//! the image, or, if they are compressed, as what unpacks them when they are read.
//!
//! The image may come from anybody: every number is checked before use, every
//! directory is visited once, and [`ReadLimits`] bound what is taken in. Further devices
//! and long attribute prefixes are refused.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use tree::{Blob, Content, Kind, Meta, Mtime, Node, Tree, TreePath, Xattrs};

use super::NAME;
use super::format::*;
use super::packed::{Packed, Place, Shared};
use crate::FsError;
use crate::bytes::*;
use crate::image::{Budget, ContentBuilder, Image, ReadLimits};

/// A directory has at most so many bytes: enough for all entries a tree may have.
const DIR_MAX: u64 = 1 << 30;

/// Reads the file system at `offset` of `blob` within the default limits.
pub fn read(blob: &Arc<Blob>, offset: u64) -> Result<Tree, FsError> {
    read_limited(blob, offset, ReadLimits::default())
}

/// Reads the file system at `offset` of `blob`.
pub fn read_limited(blob: &Arc<Blob>, offset: u64, limits: ReadLimits) -> Result<Tree, FsError> {
    let volume = Volume::open(Image::new(NAME, blob, offset)?)?;
    let shared = volume.shared()?;
    let mut walk = Walk {
        shared,
        volume: &volume,
        budget: Budget::new(NAME, limits),
        tree: Tree::new(),
        names: HashMap::new(),
        dirs: HashSet::new(),
    };
    walk.run()?;
    Ok(walk.tree)
}

/// What the superblock says.
struct Volume {
    image: Image,
    block: u64,
    /// Where inode numbers count from.
    meta_at: u64,
    xattr_at: u64,
    root: u64,
    epoch: Mtime,
    features: u32,
    /// The inode of the file with ends of files.
    fragments: u64,
}

impl Volume {
    fn open(image: Image) -> Result<Volume, FsError> {
        let sb = image.bytes(SUPER_AT as u64, SUPER_LEN)?;
        if get32(&sb, 0) != MAGIC {
            return Err(image.corrupt("no EROFS superblock"));
        }
        let features = get32(&sb, 80);
        if features & !0x7f != 0 {
            return Err(feature(format!("incompatible feature {:#x}", features & !0x7f)));
        }
        if features & INCOMPAT_DEVICES != 0 && get16(&sb, 86) != 0 {
            return Err(feature("an image on several devices".into()));
        }
        if !(9..=16).contains(&sb[12]) {
            return Err(image.corrupt("superblock: bad block size"));
        }
        let block = 1u64 << sb[12];
        if get32(&sb, 8) & COMPAT_SUM != 0 {
            let len =
                if block > SUPER_AT as u64 { block as usize - SUPER_AT } else { block as usize };
            let all = image.bytes(SUPER_AT as u64, len)?;
            if checksum(&all) != get32(&sb, 4) {
                return Err(image.corrupt("the superblock's checksum is wrong"));
            }
        }
        if u64::from(get32(&sb, 36)) * block > image.len {
            return Err(image.corrupt("superblock: the image is shorter than it says"));
        }
        let secs = u64::from(get32(&sb, 24)) | u64::from(get32(&sb, 28)) << 32;
        Ok(Volume {
            block,
            meta_at: u64::from(get32(&sb, 40)) * block,
            xattr_at: u64::from(get32(&sb, 44)) * block,
            root: u64::from(get16(&sb, 14)),
            features,
            fragments: u64::from(get32(&sb, 96)) | u64::from(get32(&sb, 100)) << 32,
            epoch: Mtime { secs: secs as i64, nanos: get32(&sb, 32) },
            image,
        })
    }

    /// What compressed files have in common.
    fn shared(&self) -> Result<Arc<Shared>, FsError> {
        let (image, fragments) = (self.image.clone(), OnceLock::new());
        let (block, features) = (self.block, self.features);
        let shared = Arc::new(Shared { image, block, features, fragments });
        if self.features & INCOMPAT_FRAGMENTS != 0 && self.fragments != 0 {
            let inode = self.inode(self.fragments)?;
            let content = match inode.layout {
                layout::PACKED | layout::PACKED_FULL => {
                    // It has no fragments itself: no loop.
                    let (image, fragments) = (self.image.clone(), OnceLock::new());
                    let own = Arc::new(Shared { image, block, features, fragments });
                    inode.packed(&own)
                }
                layout::PLAIN => {
                    let mut content = ContentBuilder::new(&self.image, inode.size);
                    content.run(0, inode.size, u64::from(inode.union) * self.block)?;
                    content.finish()
                }
                other => return Err(feature(format!("ends of files in layout {other}"))),
            };
            shared.fragments.set(content).expect("it is set once");
        }
        Ok(shared)
    }

    fn inode(&self, nid: u64) -> Result<Inode, FsError> {
        let at = nid.checked_mul(SLOT).and_then(|at| at.checked_add(self.meta_at));
        let at = at.ok_or_else(|| self.image.corrupt("an inode number is too large"))?;
        let short = self.image.bytes(at, 32)?;
        let format = get16(&short, 0);
        let wide = format & 1 != 0;
        let b = if wide { self.image.bytes(at, INODE_LEN)? } else { short };
        let meta = Meta::new(get16(&b, 4) & 0o7777);
        let (meta, size) = match wide {
            true => {
                let secs = u64::from(get32(&b, 32)) | u64::from(get32(&b, 36)) << 32;
                let time = Mtime { secs: secs as i64, nanos: get32(&b, 40) };
                let size = u64::from(get32(&b, 8)) | u64::from(get32(&b, 12)) << 32;
                (meta.owned_by(get32(&b, 24), get32(&b, 28)).at(time), size)
            }
            false => {
                let (uid, gid) = (get16(&b, 24).into(), get16(&b, 26).into());
                (meta.owned_by(uid, gid).at(self.epoch), u64::from(get32(&b, 8)))
            }
        };
        let xattrs_at = at + b.len() as u64;
        let xattr_len = xattr_bytes(get16(&b, 2));
        Ok(Inode {
            nid,
            layout: format >> 1 & 7,
            mode: get16(&b, 4),
            meta,
            size,
            union: get32(&b, 16),
            xattrs_at,
            xattr_len,
            beside: xattrs_at + xattr_len as u64,
        })
    }
}

fn feature(what: String) -> FsError {
    FsError::Feature { fs: NAME, what }
}

struct Inode {
    nid: u64,
    layout: u16,
    mode: u16,
    meta: Meta,
    size: u64,
    union: u32,
    xattrs_at: u64,
    xattr_len: usize,
    /// Where the tail or the list of chunks starts.
    beside: u64,
}

impl Inode {
    fn packed(&self, shared: &Arc<Shared>) -> Content {
        let full = self.layout == layout::PACKED_FULL;
        let place = Place { size: self.size, beside: self.beside, full };
        let path = shared.image.blob.path().to_owned();
        let packed = Packed::new(shared.clone(), place);
        Content::range(Blob::computed(path, packed), 0, self.size)
    }

    fn is_packed(&self) -> bool {
        matches!(self.layout, layout::PACKED | layout::PACKED_FULL)
    }
}

struct Walk<'a> {
    volume: &'a Volume,
    shared: Arc<Shared>,
    budget: Budget,
    tree: Tree,
    names: HashMap<u64, TreePath>,
    dirs: HashSet<u64>,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), FsError> {
        let root = self.volume.inode(self.volume.root)?;
        if root.mode & 0xf000 != 0x4000 {
            return Err(self.corrupt(&TreePath::root(), "is not a directory"));
        }
        let meta = self.meta(&TreePath::root(), &root)?;
        self.tree.get_mut(&TreePath::root()).expect("a tree has a root").meta = meta;
        self.dirs.insert(root.nid);
        let mut open = vec![(TreePath::root(), root)];
        while let Some((path, inode)) = open.pop() {
            for (name, nid) in self.entries(&path, &inode)? {
                let below = path.join(&name).map_err(|e| self.corrupt(&path, &e.to_string()))?;
                self.budget.meta(below.as_bytes().len())?;
                if let Some(inode) = self.enter(below.clone(), nid)? {
                    open.push((below, inode));
                }
            }
        }
        Ok(())
    }

    fn corrupt(&self, path: &TreePath, what: &str) -> FsError {
        self.volume.image.corrupt(format!("{path}: {what}"))
    }

    /// Adds one name; returns the inode if it is a directory.
    fn enter(&mut self, path: TreePath, nid: u64) -> Result<Option<Inode>, FsError> {
        let wrap = |source| FsError::Tree { fs: NAME, source };
        if let Some(first) = self.names.get(&nid) {
            self.tree.add_link(path, first).map_err(wrap)?;
            return Ok(None);
        }
        let inode = self.volume.inode(nid)?;
        let meta = self.meta(&path, &inode)?;
        let kind = self.kind(&path, &inode)?;
        let is_dir = matches!(kind, Kind::Dir);
        if is_dir && !self.dirs.insert(nid) {
            return Err(self.corrupt(&path, "is a second name of a directory"));
        }
        if !is_dir {
            self.names.insert(nid, path.clone());
        }
        self.tree.add(path, Node { meta, kind }).map_err(wrap)?;
        Ok(is_dir.then_some(inode))
    }

    fn meta(&mut self, path: &TreePath, inode: &Inode) -> Result<Meta, FsError> {
        let mut meta = inode.meta.clone();
        if meta.mtime.nanos >= 1_000_000_000 {
            return Err(self.corrupt(path, "its time has too many nanoseconds"));
        }
        if inode.xattr_len > 0 {
            self.budget.meta(inode.xattr_len)?;
            let body = self.volume.image.bytes(inode.xattrs_at, inode.xattr_len)?;
            let shared = usize::from(body[4]) * 4;
            let ids = slice(&body, 12, shared).ok_or_else(|| self.corrupt(path, "bad xattrs"))?;
            for id in ids.chunks_exact(4) {
                let at = self.volume.xattr_at + u64::from(get32(id, 0)) * 4;
                let head = self.volume.image.bytes(at, 4)?;
                let len = 4 + usize::from(head[0]) + usize::from(get16(&head, 2));
                self.budget.meta(len)?;
                let entry = self.volume.image.bytes(at, len)?;
                self.xattr(path, &entry, &mut meta.xattrs)?;
            }
            let mut rest = &body[12 + shared..];
            while rest.len() >= 4 && rest[..4] != [0; 4] {
                let used = self.xattr(path, rest, &mut meta.xattrs)?;
                rest = rest.get(used.next_multiple_of(4)..).unwrap_or_default();
            }
        }
        Ok(meta)
    }

    /// Takes in one attribute; returns its length.
    fn xattr(&self, path: &TreePath, entry: &[u8], into: &mut Xattrs) -> Result<usize, FsError> {
        let (name_len, index) = (usize::from(entry[0]), entry[1]);
        let value_len = usize::from(get16(entry, 2));
        let bad = || self.corrupt(path, "bad xattrs");
        let name = slice(entry, 4, name_len).ok_or_else(bad)?;
        let value = slice(entry, 4 + name_len, value_len).ok_or_else(bad)?;
        let name = join(index, name)
            .ok_or_else(|| feature(format!("{path}: an extended attribute of class {index}")))?;
        into.insert(name, value.to_vec());
        Ok(4 + name_len + value_len)
    }

    fn kind(&mut self, path: &TreePath, inode: &Inode) -> Result<Kind, FsError> {
        let device = || decode_device(inode.union);
        Ok(match inode.mode & 0xf000 {
            0x4000 => Kind::Dir,
            0x8000 if inode.size == 0 => Kind::File(Content::empty()),
            0x8000 if inode.is_packed() => {
                self.budget.part()?;
                Kind::File(inode.packed(&self.shared))
            }
            0x8000 => {
                let mut content = ContentBuilder::new(&self.volume.image, inode.size);
                for (from, len, place) in self.runs(path, inode)? {
                    content.run(from, len, place)?;
                }
                Kind::File(content.finish())
            }
            0xa000 => {
                if inode.size == 0 || inode.size > 4095 {
                    return Err(self.corrupt(path, "has an impossible link target"));
                }
                self.budget.meta(inode.size as usize)?;
                Kind::Symlink(self.small(path, inode)?.into())
            }
            0x2000 => Kind::CharDev(device()),
            0x6000 => Kind::BlockDev(device()),
            0x1000 => Kind::Fifo,
            0xc000 => Kind::Socket,
            _ => return Err(self.corrupt(path, "has no known type")),
        })
    }

    /// Where an inode's data is: (offset in the file, length, place).
    fn runs(&mut self, path: &TreePath, inode: &Inode) -> Result<Vec<(u64, u64, u64)>, FsError> {
        let block = self.volume.block;
        let start = u64::from(inode.union) * block;
        match inode.layout {
            layout::PLAIN => {
                self.budget.part()?;
                Ok(vec![(0, inode.size, if inode.size == 0 { 0 } else { start })])
            }
            layout::INLINE => {
                self.budget.part()?;
                let tail = inode.size % block;
                let whole = inode.size - tail;
                let first = (0, whole, if whole == 0 { 0 } else { start });
                Ok(vec![first, (whole, tail, inode.beside)])
            }
            layout::CHUNKS => self.chunks(path, inode),
            other => Err(feature(format!("{path}: data in layout {other}"))),
        }
    }

    fn chunks(&mut self, path: &TreePath, inode: &Inode) -> Result<Vec<(u64, u64, u64)>, FsError> {
        let format = inode.union as u16;
        let (wide, step) = (format & CHUNK_WIDE != 0, self.volume.block << (format & 0x1f));
        let each = if wide { 8 } else { 4 };
        let start = inode.beside.next_multiple_of(each);
        let mut runs = Vec::new();
        for index in 0..inode.size.div_ceil(step) {
            self.budget.part()?;
            let entry = self.volume.image.bytes(start + index * each, each as usize)?;
            if wide && get16(&entry, 2) != 0 {
                return Err(feature(format!("{path}: data on another device")));
            }
            let place = get32(&entry, if wide { 4 } else { 0 });
            if place != NOWHERE {
                let len = step.min(inode.size - index * step);
                runs.push((index * step, len, u64::from(place) * self.volume.block));
            }
        }
        Ok(runs)
    }

    /// The whole data of a link or directory, whose size has been checked.
    fn small(&mut self, path: &TreePath, inode: &Inode) -> Result<Vec<u8>, FsError> {
        if inode.size > self.volume.image.len {
            return Err(self.corrupt(path, "is larger than the image"));
        }
        if inode.is_packed() {
            let bytes = inode.packed(&self.shared).read(self.volume.image.len);
            return bytes.map_err(|e| self.corrupt(path, &e.to_string()));
        }
        let mut bytes = vec![0; inode.size as usize];
        for (from, len, place) in self.runs(path, inode)? {
            let room = &mut bytes[from as usize..(from + len) as usize];
            self.volume.image.read(room, place)?;
        }
        Ok(bytes)
    }

    fn entries(&mut self, path: &TreePath, dir: &Inode) -> Result<Vec<(Vec<u8>, u64)>, FsError> {
        if dir.size > DIR_MAX {
            return Err(self.corrupt(path, "is an impossibly large directory"));
        }
        let bytes = self.small(path, dir)?;
        let mut found = Vec::new();
        for block in bytes.chunks(self.volume.block as usize) {
            self.block_entries(path, block, &mut found)?;
        }
        Ok(found)
    }

    fn block_entries(
        &mut self,
        path: &TreePath,
        block: &[u8],
        found: &mut Vec<(Vec<u8>, u64)>,
    ) -> Result<(), FsError> {
        let image = &self.volume.image;
        let bad = || image.corrupt(format!("{path}: a directory block is damaged"));
        let first = usize::from(get16(slice(block, 8, 2).ok_or_else(bad)?, 0));
        let heads = slice(block, 0, first).ok_or_else(bad)?;
        if first == 0 || first % DIRENT_LEN != 0 {
            return Err(bad());
        }
        let count = first / DIRENT_LEN;
        for i in 0..count {
            let head = &heads[i * DIRENT_LEN..];
            let start = usize::from(get16(head, 8));
            let end = match i + 1 < count {
                true => usize::from(get16(head, DIRENT_LEN + 8)),
                false => block.len(),
            };
            let name = block.get(start..end).ok_or_else(bad)?;
            let name = match name.iter().position(|b| *b == 0) {
                Some(nul) if i + 1 == count => &name[..nul],
                Some(_) => return Err(bad()),
                None => name,
            };
            if name == b"." || name == b".." {
                continue;
            }
            if name.is_empty() || name.len() > 255 || name.contains(&b'/') {
                return Err(self.corrupt(path, "a directory entry has a bad name"));
            }
            self.budget.entry()?;
            let nid = u64::from(get32(head, 0)) | u64::from(get32(head, 4)) << 32;
            found.push((name.to_vec(), nid));
        }
        Ok(())
    }
}
