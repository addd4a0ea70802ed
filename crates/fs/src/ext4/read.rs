//! Reads an ext2, ext3 or ext4 file system into a Tree. Contents stay where they
//! are: as ranges of the image.
//!
//! The image may come from anybody. Every number is checked before use, every
//! directory is visited once, and [`ReadLimits`] bound what is taken in. Refused,
//! each with a message: a journal that was not replayed, encrypted files.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tree::{Blob, Content, Kind, Meta, Node, Tree, TreePath};

use super::NAME;
use super::format::*;
use super::geometry::has_super;
use super::inode::{decode_time, pointers_device};
use super::map::{BlockMap, Mapper};
use super::survey::FAST_TARGET;
use super::xattr;
use crate::FsError;
use crate::bytes::*;
use crate::image::{Budget, ContentBuilder, Image, ReadLimits};

/// Reads the file system at `offset` of `blob` within the default limits.
pub fn read(blob: &Arc<Blob>, offset: u64) -> Result<Tree, FsError> {
    read_limited(blob, offset, ReadLimits::default())
}

/// Reads the file system at `offset` of `blob`.
pub fn read_limited(blob: &Arc<Blob>, offset: u64, limits: ReadLimits) -> Result<Tree, FsError> {
    let volume = Volume::open(Image::new(NAME, blob, offset)?)?;
    let mut walk = Walk {
        volume: &volume,
        budget: Budget::new(NAME, limits),
        tree: Tree::new(),
        names: HashMap::new(),
        dirs: HashSet::new(),
    };
    walk.run()?;
    Ok(walk.tree)
}

/// What the superblock and the group descriptors say.
pub(super) struct Volume {
    pub image: Image,
    pub block_len: usize,
    pub blocks: u64,
    inodes: u32,
    inodes_per_group: u32,
    inode_len: usize,
    /// Where the inode table of each group starts.
    tables: Vec<u64>,
    /// Where there are checksums.
    pub seed: Option<Csum>,
    /// The part of an inode table that was read last: where it is, and the bytes.
    window: RefCell<(u64, Vec<u8>)>,
}

/// Inodes are read so many bytes at a time: neighbours are asked for together.
const WINDOW: u64 = 32 << 10;
/// The largest value of an attribute (`XATTR_SIZE_MAX`).
const XATTR_MAX: u32 = 65_536;

const KNOWN: u32 = incompat::FILETYPE
    | incompat::META_BG
    | incompat::EXTENTS
    | incompat::BIT64
    | incompat::MMP
    | incompat::FLEX_BG
    | incompat::EA_INODE
    | incompat::CSUM_SEED
    | incompat::LARGEDIR
    | incompat::INLINE_DATA
    | incompat::ENCRYPT
    | incompat::CASEFOLD;

impl Volume {
    fn open(image: Image) -> Result<Volume, FsError> {
        let sb = image.bytes(SUPER_LEN as u64, SUPER_LEN)?;
        if get16(&sb, 0x38) != SUPER_MAGIC {
            return Err(image.corrupt("no ext4 superblock"));
        }
        let features = get32(&sb, 0x60);
        if features & incompat::RECOVER != 0 {
            return Err(feature("a journal that was not replayed (run e2fsck first)"));
        }
        if features & !KNOWN != 0 {
            return Err(feature(&format!("incompatible feature {:#x}", features & !KNOWN)));
        }
        let sums = get32(&sb, 0x64) & ro_compat::METADATA_CSUM != 0;
        let sum = Csum::start().add(&sb[..SUPER_LEN - 4]).value();
        if sums && sum != get32(&sb, SUPER_LEN - 4) {
            return Err(image.corrupt("the superblock's checksum is wrong"));
        }
        let seed = match features & incompat::CSUM_SEED != 0 {
            true => Csum::from_value(get32(&sb, 0x270)),
            false => Csum::start().add(&sb[0x68..0x78]),
        };
        let (log, first) = (get32(&sb, 0x18), u64::from(get32(&sb, 0x14)));
        let wide = features & incompat::BIT64 != 0;
        let high = if wide { u64::from(get32(&sb, 0x150)) << 32 } else { 0 };
        let mut volume = Volume {
            block_len: 1024usize.checked_shl(log).filter(|n| log <= 6 && *n <= 65_536).unwrap_or(0),
            blocks: u64::from(get32(&sb, 4)) | high,
            inodes: get32(&sb, 0),
            inodes_per_group: get32(&sb, 0x28),
            inode_len: if get32(&sb, 0x4c) == 0 { 128 } else { usize::from(get16(&sb, 0x58)) },
            tables: Vec::new(),
            seed: sums.then_some(seed),
            window: RefCell::default(),
            image,
        };
        let bigalloc = get32(&sb, 0x64) & ro_compat::BIGALLOC != 0;
        let cluster = if bigalloc { get32(&sb, 0x1c).checked_sub(log).unwrap_or(32) } else { 0 };
        volume.check(first, get32(&sb, 0x20), cluster)?;
        let desc_len = if wide { usize::from(get16(&sb, 0xfe)) } else { 32 };
        let meta_bg = match features & incompat::META_BG != 0 {
            true => u64::from(get32(&sb, 0x104)),
            false => u64::MAX,
        };
        volume.read_tables(first, u64::from(get32(&sb, 0x20)), desc_len, meta_bg)?;
        Ok(volume)
    }

    /// `cluster`: log2 of the blocks that `bigalloc` gives out together.
    fn check(&self, first: u64, per_group: u32, cluster: u32) -> Result<(), FsError> {
        let bad = |what: &str| Err(self.image.corrupt(format!("superblock: bad {what}")));
        if self.block_len == 0 {
            return bad("block size");
        }
        let bytes = self.blocks.checked_mul(self.block_len as u64);
        if self.blocks <= first || bytes.is_none_or(|b| b > self.image.len) {
            return bad("block count: the image is too short for it");
        }
        let most = (8 * self.block_len as u64).checked_shl(cluster).unwrap_or(0);
        if cluster > 20 || per_group == 0 || u64::from(per_group) > most {
            return bad("blocks per group");
        }
        if self.inodes_per_group == 0 || self.inodes_per_group as usize > 8 * self.block_len {
            return bad("inodes per group");
        }
        let inode_len = self.inode_len;
        if inode_len < 128 || inode_len > self.block_len || !inode_len.is_power_of_two() {
            return bad("inode size");
        }
        Ok(())
    }

    /// Group descriptors follow the superblock, or, from group `meta_bg` blocks of
    /// them on, lie at the start of the groups that they describe.
    fn read_tables(
        &mut self,
        first: u64,
        per_group: u64,
        desc_len: usize,
        meta_bg: u64,
    ) -> Result<(), FsError> {
        if !(32..=self.block_len).contains(&desc_len) || !desc_len.is_power_of_two() {
            return Err(self.image.corrupt("superblock: bad descriptor size"));
        }
        let groups = (self.blocks - first).div_ceil(per_group);
        let per_block = (self.block_len / desc_len) as u64;
        // The superblock is 1024 bytes from the start: in block 1 of blocks of 1024, also
        // where the first group begins at block 0 (bigalloc).
        let after_super = u64::from(self.block_len == 1024) + 1;
        for index in 0..groups.div_ceil(per_block) {
            let group = index * per_block;
            let home = match index < meta_bg {
                true => after_super + index,
                false if group == 0 => after_super,
                false => first + group * per_group + u64::from(has_super(group as u32)),
            };
            let block = self.block(home)?;
            let count = (groups - index * per_block).min(per_block) as usize;
            for desc in block.chunks_exact(desc_len).take(count) {
                let high = if desc_len >= 64 { u64::from(get32(desc, 0x28)) << 32 } else { 0 };
                self.tables.push(u64::from(get32(desc, 8)) | high);
            }
        }
        Ok(())
    }

    /// One block.
    pub fn block(&self, number: u64) -> Result<Vec<u8>, FsError> {
        if number >= self.blocks {
            return Err(self.image.corrupt(format!("block {number} does not exist")));
        }
        self.image.bytes(number * self.block_len as u64, self.block_len)
    }

    /// One inode, its checksum verified.
    fn inode(&self, number: u32) -> Result<RawInode, FsError> {
        let bad = |what: &str| Err(self.image.corrupt(format!("inode {number}: {what}")));
        if number == 0 || number > self.inodes {
            return bad("does not exist");
        }
        let (group, index) =
            ((number - 1) / self.inodes_per_group, (number - 1) % self.inodes_per_group);
        let Some(table) = self.tables.get(group as usize).filter(|t| **t < self.blocks) else {
            return bad("its table does not exist");
        };
        let at = table * self.block_len as u64 + u64::from(index) * self.inode_len as u64;
        let inode = RawInode { number, bytes: self.windowed(at)? };
        if self.seed.is_some_and(|seed| !inode.sum_is_right(seed)) {
            return bad("its checksum is wrong");
        }
        Ok(inode)
    }
}

impl Volume {
    /// The bytes of the inode at `at`, with its neighbours kept for the next time.
    fn windowed(&self, at: u64) -> Result<Vec<u8>, FsError> {
        let mut window = self.window.borrow_mut();
        let start = at - at % WINDOW;
        if window.1.is_empty() || window.0 != start {
            let len = self.image.len.saturating_sub(start).min(WINDOW);
            *window = (start, self.image.bytes(start, len as usize)?);
        }
        let inode = slice(&window.1, (at - start) as usize, self.inode_len);
        inode.map(<[u8]>::to_vec).ok_or_else(|| self.image.corrupt("an inode lies behind the end"))
    }
}

fn feature(what: &str) -> FsError {
    FsError::Feature { fs: NAME, what: what.into() }
}

/// An inode's bytes.
pub(super) struct RawInode {
    pub number: u32,
    bytes: Vec<u8>,
}

impl RawInode {
    /// Bytes of the fields after the first 128, as far as the inode has them.
    fn extra_len(&self) -> usize {
        match self.bytes.len() {
            128 => 0,
            len => usize::from(get16(&self.bytes, 128)).min(len - 128),
        }
    }

    fn sum_is_right(&self, seed: Csum) -> bool {
        let mut copy = self.bytes.clone();
        put16(&mut copy, 124, 0);
        let long = self.extra_len() >= 4;
        let mut said = u32::from(get16(&self.bytes, 124));
        if long {
            said |= u32::from(get16(&self.bytes, 130)) << 16;
            put16(&mut copy, 130, 0);
        }
        let sum = seed.inode(self.number, self.generation()).add(&copy).value();
        said == if long { sum } else { sum & 0xffff }
    }

    pub fn generation(&self) -> u32 {
        get32(&self.bytes, 100)
    }

    fn mode(&self) -> u16 {
        get16(&self.bytes, 0)
    }

    pub fn size(&self) -> u64 {
        u64::from(get32(&self.bytes, 4)) | u64::from(get32(&self.bytes, 108)) << 32
    }

    pub fn flags(&self) -> u32 {
        get32(&self.bytes, 32)
    }

    pub fn pointers(&self) -> &[u8] {
        &self.bytes[40..100]
    }

    fn xattr_block(&self) -> u64 {
        u64::from(get32(&self.bytes, 104)) | u64::from(get16(&self.bytes, 118)) << 32
    }

    fn meta(&self) -> Meta {
        let wide = |low: usize, high: usize| {
            u32::from(get16(&self.bytes, low)) | u32::from(get16(&self.bytes, high)) << 16
        };
        let extra = if self.extra_len() >= 12 { get32(&self.bytes, 136) } else { 0 };
        Meta::new(self.mode() & 0o7777)
            .owned_by(wide(2, 120), wide(24, 122))
            .at(decode_time(get32(&self.bytes, 16), extra))
    }

    fn ibody(&self) -> &[u8] {
        self.bytes.get(128 + self.extra_len()..).unwrap_or_default()
    }
}

/// A directory and what of it lies among its attributes.
type OpenDir = (RawInode, Option<Vec<u8>>);

struct Walk<'a> {
    volume: &'a Volume,
    budget: Budget,
    tree: Tree,
    /// The first path of every inode that is not a directory.
    names: HashMap<u32, TreePath>,
    dirs: HashSet<u32>,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), FsError> {
        let root = self.volume.inode(ROOT_INO)?;
        if root.mode() & file_type::MASK != file_type::DIRECTORY {
            return Err(self.corrupt(&TreePath::root(), "is not a directory"));
        }
        let (meta, inline) = self.meta(&TreePath::root(), &root)?;
        self.tree.get_mut(&TreePath::root()).expect("a tree has a root").meta = meta;
        self.dirs.insert(ROOT_INO);
        let mut open = vec![(TreePath::root(), (root, inline))];
        while let Some((path, dir)) = open.pop() {
            for (name, number) in self.entries(&path, dir)? {
                let below = path.join(&name).map_err(|e| self.corrupt(&path, &e.to_string()))?;
                self.budget.meta(below.as_bytes().len())?;
                if let Some(dir) = self.enter(below.clone(), number)? {
                    open.push((below, dir));
                }
            }
        }
        Ok(())
    }

    /// Adds one name; returns the inode if it is a directory.
    fn enter(&mut self, path: TreePath, number: u32) -> Result<Option<OpenDir>, FsError> {
        let wrap = |source| FsError::Tree { fs: NAME, source };
        if let Some(first) = self.names.get(&number) {
            self.tree.add_link(path, first).map_err(wrap)?;
            return Ok(None);
        }
        let inode = self.volume.inode(number)?;
        let (meta, inline) = self.meta(&path, &inode)?;
        let kind = self.kind(&path, &inode, inline.clone())?;
        let is_dir = matches!(kind, Kind::Dir);
        match is_dir {
            true if !self.dirs.insert(number) => {
                return Err(self.corrupt(&path, "is a second name of a directory"));
            }
            true => {}
            false => {
                self.names.insert(number, path.clone());
            }
        }
        self.tree.add(path, Node { meta, kind }).map_err(wrap)?;
        Ok(is_dir.then_some((inode, inline)))
    }

    fn corrupt(&self, path: &TreePath, what: &str) -> FsError {
        self.volume.image.corrupt(format!("{path}: {what}"))
    }

    /// Mode, owner, times, attributes; and what inline data lies among these.
    fn meta(
        &mut self,
        path: &TreePath,
        inode: &RawInode,
    ) -> Result<(Meta, Option<Vec<u8>>), FsError> {
        let mut meta = inode.meta();
        if meta.mtime.nanos >= 1_000_000_000 {
            return Err(self.corrupt(path, "its time has too many nanoseconds"));
        }
        let mut found = xattr::Decoded::default();
        let mut done = xattr::decode_ibody(inode.ibody(), &mut found);
        if done.is_ok() && inode.xattr_block() != 0 {
            let block = self.volume.block(inode.xattr_block())?;
            done = xattr::decode_block(&block, &mut found);
        }
        done.map_err(|what| self.corrupt(path, what))?;
        for (class, name, number, len) in std::mem::take(&mut found.elsewhere) {
            let value = self.value(path, number, len)?;
            found.take(class, &name, &value).map_err(|what| self.corrupt(path, what))?;
        }
        for (name, value) in &found.xattrs {
            self.budget.meta(name.len() + value.len())?;
        }
        meta.xattrs = found.xattrs;
        Ok((meta, found.inline))
    }

    /// The value of an attribute that has an inode of its own.
    fn value(&mut self, path: &TreePath, number: u32, len: u32) -> Result<Vec<u8>, FsError> {
        let inode = self.volume.inode(number)?;
        if inode.flags() & inode_flag::EA_INODE == 0 || len > XATTR_MAX {
            return Err(self.corrupt(path, "an attribute's value is not where it should be"));
        }
        self.budget.meta(len as usize)?;
        let content = self.content(&inode)?;
        let bytes = content.slice(0, len.into()).read(XATTR_MAX.into());
        let bytes =
            bytes.map_err(|e| FsError::io(NAME, "read", self.volume.image.blob.path(), e))?;
        match bytes.len() == len as usize {
            true => Ok(bytes),
            false => Err(self.corrupt(path, "an attribute's value is cut off")),
        }
    }

    /// Bytes that lie in the inode itself: in place of block numbers, and beyond these
    /// among the attributes.
    fn inline(
        &mut self,
        path: &TreePath,
        inode: &RawInode,
        rest: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, FsError> {
        let mut bytes = inode.pointers().to_vec();
        bytes.extend(rest.unwrap_or_default());
        if inode.size() > bytes.len() as u64 {
            return Err(self.corrupt(path, "its inline data is cut off"));
        }
        bytes.truncate(inode.size() as usize);
        self.budget.meta(bytes.len())?;
        Ok(bytes)
    }

    fn content(&mut self, inode: &RawInode) -> Result<Content, FsError> {
        let map = self.map(inode)?;
        let mut content = ContentBuilder::new(&self.volume.image, inode.size());
        let len = self.volume.block_len as u64;
        for run in map.runs {
            content.run(run.logical * len, run.count * len, run.place * len)?;
        }
        Ok(content.finish())
    }

    fn kind(
        &mut self,
        path: &TreePath,
        inode: &RawInode,
        inline: Option<Vec<u8>>,
    ) -> Result<Kind, FsError> {
        for (flag, what) in [
            (inode_flag::ENCRYPT, "encryption"),
            (inode_flag::EA_INODE, "a name of an attribute's inode"),
        ] {
            if inode.flags() & flag != 0 {
                return Err(feature(&format!("{path}: {what}")));
            }
        }
        let device = || pointers_device(inode.pointers());
        let is_inline = inode.flags() & inode_flag::INLINE_DATA != 0;
        Ok(match inode.mode() & file_type::MASK {
            file_type::DIRECTORY => Kind::Dir,
            file_type::REGULAR if is_inline => {
                Kind::File(Content::inline(self.inline(path, inode, inline)?))
            }
            file_type::REGULAR => Kind::File(self.content(inode)?),
            file_type::SYMLINK if is_inline => {
                let target = self.inline(path, inode, inline)?;
                if target.is_empty() || target.len() >= 4096 {
                    return Err(self.corrupt(path, "has an impossible link target"));
                }
                Kind::Symlink(target.into())
            }
            file_type::SYMLINK => Kind::Symlink(self.target(path, inode)?.into()),
            file_type::CHAR => Kind::CharDev(device()),
            file_type::BLOCK => Kind::BlockDev(device()),
            file_type::FIFO => Kind::Fifo,
            file_type::SOCKET => Kind::Socket,
            _ => return Err(self.corrupt(path, "has no known type")),
        })
    }

    fn map(&mut self, inode: &RawInode) -> Result<BlockMap, FsError> {
        Mapper { volume: self.volume, inode, budget: &mut self.budget }.map()
    }

    fn target(&mut self, path: &TreePath, inode: &RawInode) -> Result<Vec<u8>, FsError> {
        let size = inode.size();
        if size == 0 || size >= 4096 {
            return Err(self.corrupt(path, "has an impossible link target"));
        }
        let size = size as usize;
        self.budget.meta(size)?;
        if size < FAST_TARGET && inode.flags() & inode_flag::EXTENTS == 0 {
            return Ok(inode.pointers()[..size].to_vec());
        }
        let map = self.map(inode)?;
        let Some(run) = map.runs.first().filter(|r| r.logical == 0) else {
            return Err(self.corrupt(path, "has no link target"));
        };
        let bytes = self.volume.block(run.place)?;
        slice(&bytes, 0, size)
            .map(<[u8]>::to_vec)
            .ok_or_else(|| self.corrupt(path, "has a link target over one block"))
    }

    /// The names in a directory but `.` and `..`. Index blocks of hash trees look
    /// like unused entries, so a plain scan finds everything.
    fn entries(&mut self, path: &TreePath, dir: OpenDir) -> Result<Vec<(Vec<u8>, u32)>, FsError> {
        let mut found = Vec::new();
        let (dir, rest) = dir;
        if dir.flags() & inode_flag::INLINE_DATA != 0 {
            // The parent's number comes first; what is among the attributes is a block of its own.
            self.block_entries(path, &dir.pointers()[4..], &mut found)?;
            self.block_entries(path, &rest.unwrap_or_default(), &mut found)?;
            return Ok(found);
        }
        let in_dir = dir.size().div_ceil(self.volume.block_len as u64);
        for run in self.map(&dir)?.runs {
            let end = (run.logical + run.count).min(in_dir);
            for i in 0..end.saturating_sub(run.logical) {
                let block = self.volume.block(run.place + i)?;
                self.block_entries(path, &block, &mut found)?;
            }
        }
        Ok(found)
    }

    fn block_entries(
        &mut self,
        path: &TreePath,
        block: &[u8],
        found: &mut Vec<(Vec<u8>, u32)>,
    ) -> Result<(), FsError> {
        let mut at = 0;
        while at < block.len() {
            let head = slice(block, at, 8)
                .ok_or_else(|| self.corrupt(path, "a directory entry is cut off"))?;
            let number = get32(head, 0);
            // In blocks of 64 KiB the full length does not fit and is 0 or ffff.
            let len = match usize::from(get16(head, 4)) {
                0 | 0xffff if block.len() == 65_536 => 65_536 - at,
                len => len,
            };
            let name = slice(block, at + 8, usize::from(head[6])).unwrap_or_default();
            if len < 8 + name.len() || len % 4 != 0 || at + len > block.len() {
                return Err(self.corrupt(path, "a directory entry has a bad length"));
            }
            at += len;
            if number == 0 || name == b"." || name == b".." {
                continue;
            }
            if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
                return Err(self.corrupt(path, "a directory entry has a bad name"));
            }
            self.budget.entry()?;
            found.push((name.to_vec(), number));
        }
        Ok(())
    }
}
