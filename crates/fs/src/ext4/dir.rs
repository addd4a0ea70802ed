//! Directory blocks: plain lists for small directories, hash trees for those of
//! more than one block. Source: the kernel's ext4 documentation, "Directory
//! Entries" and "Hash Tree Directories".
//!
//! How many blocks a directory takes is known before any block is placed; what
//! they hold needs inode numbers only. So [`Layout`] is made first, [`Layout::blocks`] later.

use super::format::*;
use super::hash::half_md4;
use crate::bytes::*;

/// An entry of a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub name: &'a [u8],
    pub inode: u32,
    /// The type as directory entries have it: 1 file, 2 directory …
    pub kind: u8,
}

/// A directory's numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub inode: u32,
    pub parent: u32,
}

const TAIL_LEN: usize = 12;
const ROOM: usize = BLOCK_LEN - TAIL_LEN;
/// Where the hash tree's counters are in its root and in other index nodes.
const ROOT_COUNTERS: usize = 32;
const NODE_COUNTERS: usize = 8;
const ROOT_LIMIT: usize = (BLOCK_LEN - ROOT_COUNTERS - 8) / 8;
const NODE_LIMIT: usize = (BLOCK_LEN - NODE_COUNTERS - 8) / 8;

/// How many blocks a directory takes and which entries go into which.
#[derive(Debug)]
pub(super) struct Layout {
    /// Entry numbers, in the order in which they are stored.
    order: Vec<u32>,
    /// Where in `order` each leaf begins, and the lowest hash it answers for.
    leaves: Vec<(u32, u32)>,
    indexed: bool,
    /// Empty blocks at the end (`lost+found` has some in advance).
    spare: usize,
}

fn entry_len(name_len: usize) -> usize {
    (8 + name_len).next_multiple_of(4)
}

impl Layout {
    /// Lays out a directory; `None` if it has more entries than two levels of index hold.
    pub fn new(entries: &[Entry], seed: &[u8; 16]) -> Option<Layout> {
        let all = entries.iter().map(|e| entry_len(e.name.len())).sum::<usize>() + 24;
        if all <= ROOM {
            let order = (0..entries.len() as u32).collect();
            return Some(Layout { order, leaves: vec![(0, 0)], indexed: false, spare: 0 });
        }
        let mut hashed: Vec<(u32, u32)> =
            (0..).zip(entries).map(|(i, e)| (half_md4(e.name, seed), i)).collect();
        hashed.sort_unstable();
        let mut leaves = Vec::new();
        let mut used = ROOM;
        for (at, (hash, i)) in hashed.iter().enumerate() {
            let len = entry_len(entries[*i as usize].name.len());
            if used + len > ROOM {
                // The low bit says that the hash began in the block before.
                let goes_on = at > 0 && hashed[at - 1].0 == *hash;
                leaves.push((at as u32, hash | u32::from(goes_on)));
                used = 0;
            }
            used += len;
        }
        let order = hashed.into_iter().map(|(_, i)| i).collect();
        (leaves.len() <= ROOT_LIMIT * NODE_LIMIT).then_some(Layout {
            order,
            leaves,
            indexed: true,
            spare: 0,
        })
    }

    /// An empty directory of four blocks: what e2fsck wants `lost+found` to be.
    pub fn lost_found() -> Layout {
        Layout { order: Vec::new(), leaves: vec![(0, 0)], indexed: false, spare: 3 }
    }

    pub fn indexed(&self) -> bool {
        self.indexed
    }

    /// Index nodes below the root: none while the root can list all leaves.
    fn nodes(&self) -> usize {
        match self.leaves.len() <= ROOT_LIMIT {
            true => 0,
            false => self.leaves.len().div_ceil(NODE_LIMIT),
        }
    }

    /// Blocks the directory takes.
    pub fn len(&self) -> u64 {
        let index = if self.indexed { 1 + self.nodes() } else { 0 };
        (index + self.leaves.len() + self.spare) as u64
    }

    /// All blocks, checksums included.
    pub fn blocks(&self, entries: &[Entry], owner: Owner, seed: Csum) -> Vec<u8> {
        let sum = seed.inode(owner.inode, 0);
        let mut all = if self.indexed { self.index(owner, sum) } else { Vec::new() };
        for (i, (begin, _)) in self.leaves.iter().enumerate() {
            let end = self.leaves.get(i + 1).map_or(self.order.len(), |l| l.0 as usize);
            let listed = self.order[*begin as usize..end].iter().map(|i| entries[*i as usize]);
            let dots = [dot(b".", owner.inode), dot(b"..", owner.parent)];
            let dots = dots.into_iter().filter(|_| !self.indexed);
            all.extend_from_slice(&leaf(dots.chain(listed), sum));
        }
        for _ in 0..self.spare {
            all.extend_from_slice(&leaf(std::iter::empty(), sum));
        }
        all
    }

    fn index(&self, owner: Owner, sum: Csum) -> Vec<u8> {
        let nodes = self.nodes();
        let mut root = vec![0; BLOCK_LEN];
        put_entry(&mut root, 0, &dot(b".", owner.inode), 12);
        put_entry(&mut root, 12, &dot(b"..", owner.parent), BLOCK_LEN - 12);
        root[28] = 1; // half MD4
        root[29] = 8; // length of this header
        root[30] = u8::from(nodes > 0);
        let first_leaf = 1 + nodes as u32;
        let leaves: Vec<(u32, u32)> =
            (first_leaf..).zip(&self.leaves).map(|(block, leaf)| (leaf.1, block)).collect();
        if nodes == 0 {
            put_index(&mut root, ROOT_COUNTERS, ROOT_LIMIT, &leaves, sum);
            return root;
        }
        // Shared out evenly: an index node with little in it is as good as any.
        let share = leaves.len().div_ceil(nodes);
        let chunks: Vec<&[(u32, u32)]> = leaves.chunks(share).collect();
        let top: Vec<(u32, u32)> = (1..).zip(&chunks).map(|(b, chunk)| (chunk[0].0, b)).collect();
        put_index(&mut root, ROOT_COUNTERS, ROOT_LIMIT, &top, sum);
        for chunk in chunks {
            let mut node = vec![0; BLOCK_LEN];
            put16(&mut node, 4, BLOCK_LEN as u16);
            put_index(&mut node, NODE_COUNTERS, NODE_LIMIT, chunk, sum);
            root.append(&mut node);
        }
        root
    }
}

fn dot(name: &'static [u8], inode: u32) -> Entry<'static> {
    Entry { name, inode, kind: 2 }
}

fn put_entry(block: &mut [u8], at: usize, entry: &Entry, len: usize) {
    put32(block, at, entry.inode);
    put16(block, at + 4, len as u16);
    block[at + 6] = entry.name.len() as u8;
    block[at + 7] = entry.kind;
    block[at + 8..at + 8 + entry.name.len()].copy_from_slice(entry.name);
}

/// Limit and count take the place of the first entry's hash, which is 0.
fn put_index(block: &mut [u8], at: usize, limit: usize, entries: &[(u32, u32)], sum: Csum) {
    for (i, (hash, child)) in entries.iter().enumerate() {
        put32(block, at + 8 * i, *hash);
        put32(block, at + 8 * i + 4, *child);
    }
    put16(block, at, limit as u16);
    put16(block, at + 2, entries.len() as u16);
    let used = at + 8 * entries.len();
    let tail = at + 8 * limit;
    let value = sum.add(&block[..used]).add(&[0; 8]).value();
    put32(block, tail + 4, value);
}

/// A block of entries; the last one, or an unused one, fills it.
fn leaf<'a>(entries: impl Iterator<Item = Entry<'a>>, sum: Csum) -> Vec<u8> {
    let mut block = vec![0; BLOCK_LEN];
    let (mut at, mut last) = (0, 0);
    for entry in entries {
        let len = entry_len(entry.name.len());
        put_entry(&mut block, at, &entry, len);
        last = at;
        at += len;
    }
    put16(&mut block, last + 4, (ROOM - last) as u16);
    put16(&mut block, ROOM + 4, TAIL_LEN as u16);
    block[ROOM + 7] = 0xde;
    let value = sum.add(&block[..ROOM]).value();
    put32(&mut block, ROOM + 8, value);
    block
}
