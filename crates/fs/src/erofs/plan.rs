//! What goes where: inodes with attributes and tails packed into the first blocks,
//! then the blocks of directories and files. Pure.

use std::collections::{BTreeMap, HashMap};

use tree::{Content, InodeId, Kind, Node, Segment, Tree, TreePath};

use super::NAME;
use super::format::*;
use crate::FsError;
use crate::bytes::*;
use crate::output::{Data, Piece, Target, push_content};

/// Entries in a list of chunks: more, and the chunks get larger.
const CHUNKS_MAX: u64 = 65_536;
/// Largest chunk: 2^31 blocks.
const CHUNK_LOG_MAX: u32 = 31;

#[derive(Debug)]
enum Body<'a> {
    None,
    Dir(Dir<'a>),
    Target(&'a [u8]),
    File(&'a Content),
    /// A file with holes: size of a chunk as a power of two of blocks, and which
    /// chunks have data.
    Sparse {
        content: &'a Content,
        log: u32,
        present: Vec<bool>,
    },
}

#[derive(Debug, Default)]
struct Dir<'a> {
    /// Name, item, type.
    entries: Vec<(&'a [u8], usize, u8)>,
    /// How many entries each block has, and how long the last block is.
    split: Vec<usize>,
    tail: u64,
}

#[derive(Debug)]
struct Item<'a> {
    node: &'a Node,
    links: u32,
    body: Body<'a>,
    xattrs: Vec<u8>,
    size: u64,
    /// Bytes beside the inode: the end of the data, or the list of chunks.
    beside: u64,
    inline: bool,
    /// Byte offset of the inode.
    at: u64,
    /// First block of the rest of the data.
    block: u64,
}

/// The whole file system. The first item is the root.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    items: Vec<Item<'a>>,
    pub blocks: u64,
    /// True if a file is stored in chunks.
    pub chunked: bool,
}

impl<'a> Plan<'a> {
    pub fn new(tree: &'a Tree) -> Result<Plan<'a>, FsError> {
        let mut plan = Plan { items: Vec::new(), blocks: 0, chunked: false };
        let mut seen: HashMap<InodeId, usize> = HashMap::new();
        let mut stack: Vec<(&TreePath, usize)> = Vec::new();
        for (path, id, node) in tree.iter() {
            while stack.last().is_some_and(|(dir, _)| !path.starts_with(dir)) {
                stack.pop();
            }
            let parent = stack.last().map_or(0, |(_, index)| *index);
            let index = match seen.get(&id) {
                Some(index) => {
                    plan.items[*index].links += 1;
                    *index
                }
                None => {
                    seen.insert(id, plan.items.len());
                    plan.add(path, node, parent)?
                }
            };
            if !path.is_root() {
                plan.enter(parent, path.name(), index, node);
            }
            if node.is_dir() {
                stack.push((path, index));
            }
        }
        plan.items.iter_mut().for_each(Item::size_up);
        plan.place();
        Ok(plan)
    }

    fn add(&mut self, path: &TreePath, node: &'a Node, parent: usize) -> Result<usize, FsError> {
        let unsupported = |why: String| FsError::Unsupported { fs: NAME, path: path.clone(), why };
        let index = self.items.len();
        let (body, size) = match &node.kind {
            Kind::Dir => {
                let entries = vec![(&b"."[..], index, 2), (b"..", parent, 2)];
                (Body::Dir(Dir { entries, ..Dir::default() }), 0)
            }
            Kind::Symlink(target) if target.is_empty() || target.len() > 4095 => {
                return Err(unsupported("has a link target of 0 or over 4095 bytes".into()));
            }
            Kind::Symlink(target) => (Body::Target(target), target.len() as u64),
            Kind::File(content) => (file(content), content.len()),
            Kind::CharDev(device) | Kind::BlockDev(device) if encode_device(*device).is_none() => {
                return Err(unsupported("has a device number that Linux does not have".into()));
            }
            _ => (Body::None, 0),
        };
        self.chunked |= matches!(body, Body::Sparse { .. });
        let xattrs = encode_xattrs(&node.meta.xattrs).map_err(unsupported)?;
        let links = if node.is_dir() { 2 } else { 1 };
        let (beside, inline, at, block) = (0, false, 0, 0);
        self.items.push(Item { node, links, body, xattrs, size, beside, inline, at, block });
        Ok(index)
    }

    fn enter(&mut self, parent: usize, name: &'a [u8], index: usize, node: &Node) {
        let kind = match node.kind {
            Kind::File(_) => 1,
            Kind::Dir => 2,
            Kind::CharDev(_) => 3,
            Kind::BlockDev(_) => 4,
            Kind::Fifo => 5,
            Kind::Socket => 6,
            Kind::Symlink(_) => 7,
        };
        let dir = &mut self.items[parent];
        dir.links += u32::from(kind == 2);
        if let Body::Dir(dir) = &mut dir.body {
            dir.entries.push((name, index, kind));
        }
    }

    /// Inodes go into the fullest block that has room, so that little is wasted;
    /// the root comes first because its number has 16 bits.
    fn place(&mut self) {
        let mut rooms: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let first = (SUPER_AT + SUPER_LEN) as u64;
        rooms.insert(BLOCK - first, vec![first]);
        let mut end = 1;
        for item in &mut self.items {
            let len = item.inode_len();
            if len > BLOCK {
                item.at = end * BLOCK;
                end += len.div_ceil(BLOCK);
                continue;
            }
            let (room, at) = match rooms.range_mut(len..).next() {
                Some((room, places)) => {
                    let room = *room;
                    let at = places.pop().expect("no empty lists are kept");
                    if places.is_empty() {
                        rooms.remove(&room);
                    }
                    (room, at)
                }
                None => {
                    end += 1;
                    (BLOCK, (end - 1) * BLOCK)
                }
            };
            item.at = at;
            let used = len.next_multiple_of(SLOT);
            if room > used {
                rooms.entry(room - used).or_default().push(at + used);
            }
        }
        for item in &mut self.items {
            item.block = end;
            end += item.data_blocks();
        }
        self.blocks = end;
    }

    pub fn inodes(&self) -> usize {
        self.items.len()
    }

    pub fn root_nid(&self) -> u64 {
        self.items[0].nid()
    }

    /// Everything but the superblock, in no particular order.
    pub fn pieces(&self, offset: u64) -> Vec<Piece<'a>> {
        let mut pieces = Vec::new();
        for (number, item) in (1..).zip(&self.items) {
            let mut head = item.inode(number).encode();
            head.extend_from_slice(&item.xattrs);
            let beside = offset + item.at + head.len() as u64;
            let rest = offset + item.block * BLOCK;
            match &item.body {
                Body::None => {}
                Body::Dir(dir) => {
                    let mut bytes = dir.bytes(&self.items);
                    let tail = bytes.split_off(bytes.len() - item.beside as usize);
                    pieces.push(Piece { at: beside, data: Data::Owned(tail) });
                    pieces.push(Piece { at: rest, data: Data::Owned(bytes) });
                }
                Body::Target(target) => {
                    let at = if item.inline { beside } else { rest };
                    pieces.push(Piece { at, data: Data::Borrowed(target) });
                }
                Body::File(content) => {
                    let cut = item.size - item.beside;
                    let blocks = Target { from: 0, to: cut, at: rest };
                    let tail = Target { from: cut, to: item.size, at: beside };
                    push_content(&mut pieces, content, [blocks, tail]);
                }
                Body::Sparse { content, log, present } => {
                    head.extend(item.chunk_list(*log, present));
                    let step = BLOCK << log;
                    let chunks = present.iter().enumerate().filter(|(_, p)| **p);
                    let targets = chunks.enumerate().map(|(place, (index, _))| {
                        let from = index as u64 * step;
                        Target { from, to: from + step, at: rest + place as u64 * step }
                    });
                    push_content(&mut pieces, content, targets);
                }
            }
            pieces.push(Piece { at: offset + item.at, data: Data::Owned(head) });
        }
        pieces.retain(|p| p.len() > 0);
        pieces
    }
}

impl Item<'_> {
    /// Decides what lies beside the inode and what in blocks of its own.
    fn size_up(&mut self) {
        if let Body::Dir(dir) = &mut self.body {
            dir.split();
            self.size = (dir.split.len() as u64 - 1) * BLOCK + dir.tail;
        }
        if let Body::Sparse { present, .. } = &self.body {
            self.beside = present.len() as u64 * 4;
            return;
        }
        // A whole last block is no tail.
        let tail = self.size % BLOCK;
        let head = (INODE_LEN + self.xattrs.len()) as u64;
        self.inline = tail > 0 && head + tail <= BLOCK;
        self.beside = if self.inline { tail } else { 0 };
    }

    fn inode_len(&self) -> u64 {
        (INODE_LEN + self.xattrs.len()) as u64 + self.beside
    }

    fn data_blocks(&self) -> u64 {
        match &self.body {
            Body::Sparse { log, present, .. } => {
                (present.iter().filter(|p| **p).count() as u64) << log
            }
            _ => (self.size - self.beside).div_ceil(BLOCK),
        }
    }

    fn nid(&self) -> u64 {
        self.at / SLOT
    }

    fn chunk_list(&self, log: u32, present: &[bool]) -> Vec<u8> {
        let mut next = self.block;
        let entry = |present: &bool| match present {
            true => {
                next += 1 << log;
                (next - (1 << log)) as u32
            }
            false => NOWHERE,
        };
        present.iter().map(entry).flat_map(u32::to_le_bytes).collect()
    }

    fn inode(&self, number: u32) -> RawInode<'_> {
        let (kind, mut union) = match &self.node.kind {
            Kind::Dir => (0x4000, NOWHERE),
            Kind::File(_) => (0x8000, NOWHERE),
            Kind::Symlink(_) => (0xa000, NOWHERE),
            Kind::CharDev(device) => (0x2000, encode_device(*device).unwrap_or(0)),
            Kind::BlockDev(device) => (0x6000, encode_device(*device).unwrap_or(0)),
            Kind::Fifo => (0x1000, 0),
            Kind::Socket => (0xc000, 0),
        };
        let mut layout = if self.inline { layout::INLINE } else { layout::PLAIN };
        if let Body::Sparse { log, .. } = &self.body {
            (layout, union) = (layout::CHUNKS, *log);
        } else if self.data_blocks() > 0 {
            union = self.block as u32;
        }
        RawInode {
            layout,
            mode: kind | (self.node.meta.mode & 0o7777),
            meta: &self.node.meta,
            size: self.size,
            union,
            number,
            links: self.links,
            xattr_len: self.xattrs.len(),
        }
    }
}

impl Dir<'_> {
    /// Sorts the entries, as look-ups expect, and cuts them into blocks.
    fn split(&mut self) {
        self.entries.sort_unstable_by_key(|(name, _, _)| *name);
        self.split = vec![0];
        self.tail = 0;
        for (name, _, _) in &self.entries {
            let len = (DIRENT_LEN + name.len()) as u64;
            if self.tail + len > BLOCK {
                self.split.push(0);
                self.tail = 0;
            }
            self.tail += len;
            *self.split.last_mut().expect("never empty") += 1;
        }
    }

    /// The blocks: entries first, then their names. The last one ends with its names.
    fn bytes(&self, items: &[Item]) -> Vec<u8> {
        let mut all = Vec::new();
        let mut entries = &self.entries[..];
        for count in &self.split {
            let (here, later) = entries.split_at(*count);
            entries = later;
            all.resize(all.len().next_multiple_of(BLOCK as usize), 0);
            let mut name_at = count * DIRENT_LEN;
            for (name, index, kind) in here {
                let mut entry = [0; DIRENT_LEN];
                let nid = items[*index].nid();
                put32(&mut entry, 0, nid as u32);
                put32(&mut entry, 4, (nid >> 32) as u32);
                put16(&mut entry, 8, name_at as u16);
                entry[10] = *kind;
                all.extend_from_slice(&entry);
                name_at += name.len();
            }
            here.iter().for_each(|(name, _, _)| all.extend_from_slice(name));
        }
        all
    }
}

/// A file is stored in chunks if that leaves out at least one block.
fn file(content: &Content) -> Body<'_> {
    let blocks = content.len().div_ceil(BLOCK);
    let log = (0..CHUNK_LOG_MAX).find(|log| blocks.div_ceil(1 << log) <= CHUNKS_MAX);
    let log = log.unwrap_or(CHUNK_LOG_MAX);
    let has_hole = content.segments().any(|s| matches!(s, Segment::Hole { len } if len >= BLOCK));
    if !has_hole || blocks.div_ceil(1 << log) > CHUNKS_MAX {
        return Body::File(content);
    }
    let step = BLOCK << log;
    let mut present = vec![false; content.len().div_ceil(step) as usize];
    let mut at = 0;
    for segment in content.segments() {
        let end = at + segment.len();
        if !matches!(segment, Segment::Hole { .. }) && end > at {
            present[(at / step) as usize..end.div_ceil(step) as usize].fill(true);
        }
        at = end;
    }
    match present.contains(&false) {
        true => Body::Sparse { content, log, present },
        false => Body::File(content),
    }
}
