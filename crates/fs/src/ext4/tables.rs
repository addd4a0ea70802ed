//! The bytes of the fixed metadata: superblock, group descriptors, bitmaps,
//! resize inode, journal. Source: the kernel's ext4 documentation; every field was
//! compared with what mke2fs 1.47.2 writes for the same size.

use tree::Mtime;

use super::Ext4Options;
use super::format::*;
use super::geometry::{Geometry, Run};
use super::inode::{EXTRA_LEN, RawInode, extent_tree};
use super::place::Plan;
use super::survey::Survey;
use crate::bytes::*;

const INODE_UNINIT: u16 = 1;
const BLOCK_UNINIT: u16 = 2;

/// A block (or several) and where it goes.
pub(super) type Placed = (u64, Vec<u8>);

/// What all tables need.
pub(super) struct Context<'a> {
    pub survey: &'a Survey<'a>,
    pub plan: &'a Plan,
    pub options: &'a Ext4Options,
    pub seed: Csum,
}

/// Group descriptors (all of them, in whole blocks) and the bitmaps to write.
pub(super) struct Groups {
    pub descriptors: Vec<u8>,
    pub bitmaps: Vec<Placed>,
    pub free_blocks: u64,
}

impl Context<'_> {
    fn geometry(&self) -> &Geometry {
        &self.plan.geometry
    }

    /// Descriptors and bitmaps. Groups without inodes or blocks in use are marked
    /// as uninitialised: nothing is written for them, the image stays sparse.
    pub fn groups(&self) -> Groups {
        let g = self.geometry();
        let dirs = self.dirs_per_group();
        let mut descriptors = vec![0; (g.desc_blocks * BLOCK) as usize];
        let (mut bitmaps, mut free_blocks) = (Vec::new(), 0);
        for group in 0..g.groups {
            let run = Run { start: g.group_start(group), len: g.group_len(group) };
            let (inodes, per_group) = (self.inodes_used(group), g.inodes_per_group);
            let free = run.len - self.plan.used(run);
            free_blocks += free;
            let at = group as usize * DESC_LEN;
            let desc = &mut descriptors[at..at + DESC_LEN];
            let i = group as usize;
            put_split(desc, 0x00, 0x20, g.block_bitmap[i]);
            put_split(desc, 0x04, 0x24, g.inode_bitmap[i]);
            put_split(desc, 0x08, 0x28, g.inode_table[i]);
            put_split16(desc, 0x0c, 0x2c, free as u32);
            put_split16(desc, 0x0e, 0x2e, per_group - inodes);
            put_split16(desc, 0x10, 0x30, dirs[i]);
            put_split16(desc, 0x1c, 0x32, per_group - inodes);
            let mut flags = 0;
            match self.blocks_uninit(group, run) {
                true => flags |= BLOCK_UNINIT,
                false => {
                    let bitmap = self.block_bitmap(run);
                    put_split16(desc, 0x18, 0x38, self.seed.add(&bitmap).value());
                    bitmaps.push((g.block_bitmap[i], bitmap));
                }
            }
            match inodes == 0 {
                true => flags |= INODE_UNINIT,
                false => {
                    let bitmap = bitmap_of(inodes, per_group);
                    let sum = self.seed.add(&bitmap[..per_group as usize / 8]).value();
                    put_split16(desc, 0x1a, 0x3a, sum);
                    bitmaps.push((g.inode_bitmap[i], bitmap));
                }
            }
            put16(desc, 0x12, flags);
            let sum = self.seed.add32(group).add(desc).value();
            put16(desc, 0x1e, sum as u16);
        }
        Groups { descriptors, bitmaps, free_blocks }
    }

    /// Inodes in use in `group`: they are numbered without gaps.
    fn inodes_used(&self, group: u32) -> u32 {
        let per_group = u64::from(self.geometry().inodes_per_group);
        let before = u64::from(group) * per_group;
        self.survey.inodes().saturating_sub(before).min(per_group) as u32
    }

    fn dirs_per_group(&self) -> Vec<u32> {
        let mut dirs = vec![0; self.geometry().groups as usize];
        for item in self.survey.items.iter().filter(|i| i.node.is_dir()) {
            dirs[((item.number - 1) / self.geometry().inodes_per_group) as usize] += 1;
        }
        dirs
    }

    /// A group may go without a bitmap if the kernel can tell it from the
    /// superblock copy alone. Never the last one: it may be shorter.
    fn blocks_uninit(&self, group: u32, run: Run) -> bool {
        let g = self.geometry();
        let only_own = self.plan.reserved_in(run).all(|r| Some(r) == g.super_run(group));
        run.start >= self.plan.end && group + 1 < g.groups && only_own
    }

    fn block_bitmap(&self, run: Run) -> Vec<u8> {
        let mut bitmap = vec![0; BLOCK_LEN];
        let mut mark = |from: u64, to: u64| {
            let (from, to) = (from.max(run.start), to.min(run.end()));
            set_bits(&mut bitmap, from.saturating_sub(run.start), to.saturating_sub(run.start));
        };
        mark(0, self.plan.end);
        self.plan.reserved_in(run).for_each(|r| mark(r.start, r.end()));
        set_bits(&mut bitmap, run.len, BLOCKS_PER_GROUP);
        bitmap
    }

    /// The superblock as it is in `group`.
    pub fn superblock(&self, group: u32, free_blocks: u64) -> Vec<u8> {
        let (g, o) = (self.geometry(), self.options);
        let mut b = vec![0; SUPER_LEN];
        let inodes = g.inodes() as u32;
        put32(&mut b, 0x00, inodes);
        put_split(&mut b, 0x04, 0x150, g.blocks);
        put_split(&mut b, 0x0c, 0x158, free_blocks);
        put32(&mut b, 0x10, inodes - self.survey.inodes() as u32);
        put32(&mut b, 0x18, 2); // log2(block size / 1024)
        put32(&mut b, 0x1c, 2); // the same for clusters
        put32(&mut b, 0x20, BLOCKS_PER_GROUP as u32);
        put32(&mut b, 0x24, BLOCKS_PER_GROUP as u32);
        put32(&mut b, 0x28, g.inodes_per_group);
        for (at, high) in [(0x30, 0x274), (0x40, 0x277), (0x108, 0x276)] {
            // Written, checked, made.
            put32(&mut b, at, o.epoch as u32);
            b[high] = (o.epoch >> 32) as u8;
        }
        put16(&mut b, 0x36, u16::MAX); // no check after a number of mounts
        put16(&mut b, 0x38, SUPER_MAGIC);
        put16(&mut b, 0x3a, 1); // clean
        put16(&mut b, 0x3c, 1); // on errors continue
        put32(&mut b, 0x4c, 1); // dynamic revision
        put32(&mut b, 0x54, FIRST_INO);
        put16(&mut b, 0x58, INODE_LEN as u16);
        put16(&mut b, 0x5a, group as u16);
        self.features(&mut b);
        b[0x68..0x78].copy_from_slice(o.uuid.as_bytes());
        b[0x78..0x78 + o.label.len()].copy_from_slice(o.label.as_bytes());
        put16(&mut b, 0xce, g.reserved_gdt as u16);
        b[0xec..0xfc].copy_from_slice(o.hash_seed.as_bytes());
        b[0xfc] = 1; // half MD4
        put16(&mut b, 0xfe, DESC_LEN as u16);
        put32(&mut b, 0x100, 0x000c); // mount options: user_xattr, acl
        put16(&mut b, 0x15c, EXTRA_LEN);
        put16(&mut b, 0x15e, EXTRA_LEN);
        put32(&mut b, 0x160, 1); // directory hashes take characters as signed
        b[0x174] = LOG_FLEX;
        b[0x175] = 1; // crc32c
        put32(&mut b, 0x248, self.overhead() as u32);
        self.journal_backup(&mut b);
        let sum = Csum::start().add(&b[..SUPER_LEN - 4]).value();
        put32(&mut b, SUPER_LEN - 4, sum);
        b
    }

    fn features(&self, b: &mut [u8]) {
        use {compat as c, incompat as i, ro_compat as r};
        let journal = if self.plan.journal.extents.is_empty() { 0 } else { c::HAS_JOURNAL };
        let resize = if self.plan.resize.is_none() { 0 } else { c::RESIZE_INODE };
        put32(b, 0x5c, journal | resize | c::EXT_ATTR | c::DIR_INDEX);
        put32(b, 0x60, i::FILETYPE | i::EXTENTS | i::BIT64 | i::FLEX_BG);
        let names = r::DIR_NLINK | r::EXTRA_ISIZE | r::METADATA_CSUM;
        put32(b, 0x64, r::SPARSE_SUPER | r::LARGE_FILE | r::HUGE_FILE | names);
    }

    /// A copy of the journal inode's block pointers and size.
    fn journal_backup(&self, b: &mut [u8]) {
        if self.plan.journal.extents.is_empty() {
            return;
        }
        put32(b, 0xe0, JOURNAL_INO);
        b[0xfd] = 1; // the backup is that of the inode's blocks
        let (pointers, _) = self.journal_tree();
        let size = self.journal_size();
        b[0x10c..0x148].copy_from_slice(&pointers);
        put32(b, 0x148, (size >> 32) as u32);
        put32(b, 0x14c, size as u32);
    }

    /// What statfs leaves out: fixed metadata and journal.
    fn overhead(&self) -> u64 {
        let fixed = self.geometry().reserved.iter().map(|r| r.len).sum::<u64>();
        fixed + self.journal_size() / BLOCK
    }

    fn journal_size(&self) -> u64 {
        self.plan.journal.extents.iter().map(|e| e.run.len).sum::<u64>() * BLOCK
    }

    fn journal_tree(&self) -> ([u8; 60], Vec<Placed>) {
        let journal = &self.plan.journal;
        extent_tree(&journal.extents, &journal.tree, JOURNAL_INO, self.seed)
    }

    /// The inodes below [`FIRST_INO`] but the root, which is in the tree.
    pub fn reserved_inode(&self, number: u32) -> [u8; INODE_LEN] {
        let raw = match number {
            RESIZE_INO => self.resize_inode(),
            JOURNAL_INO if !self.plan.journal.extents.is_empty() => self.journal_inode(),
            _ => None,
        };
        match raw {
            Some(raw) => raw.encode(number, self.seed),
            None => RawInode::encode_empty(number, self.seed),
        }
    }

    fn journal_inode(&self) -> Option<RawInode<'static>> {
        let mut raw = reserved(self.options.created());
        raw.size = self.journal_size();
        raw.blocks = self.plan.journal.blocks();
        raw.flags = inode_flag::EXTENTS;
        raw.pointers = self.journal_tree().0;
        Some(raw)
    }

    fn resize_inode(&self) -> Option<RawInode<'static>> {
        let addrs = u64::from(ADDRS_PER_BLOCK);
        let mut raw = reserved(self.options.created());
        raw.size = (addrs * addrs + addrs + 12) * BLOCK;
        let copies = self.geometry().super_groups().count() as u64;
        raw.blocks = 1 + self.geometry().reserved_gdt * copies;
        put32(&mut raw.pointers, 13 * 4, self.plan.resize? as u32);
        Some(raw)
    }

    /// Blocks that belong to the journal and the resize inode. The first lists
    /// each descriptor block kept for growth, and these list their copies.
    pub fn reserved_blocks(&self) -> Vec<Placed> {
        let g = self.geometry();
        let mut blocks = Vec::new();
        if let Some(place) = self.plan.resize {
            let mut double = vec![0; BLOCK_LEN];
            let copies: Vec<u32> = g.super_groups().skip(1).collect();
            for i in g.desc_blocks..g.desc_blocks + g.reserved_gdt {
                let slot = (i % u64::from(ADDRS_PER_BLOCK)) as usize * 4;
                put32(&mut double, slot, 1 + i as u32);
                let mut list = vec![0; BLOCK_LEN];
                for (slot, group) in copies.iter().enumerate() {
                    put32(&mut list, slot * 4, (g.group_start(*group) + 1 + i) as u32);
                }
                if !copies.is_empty() {
                    blocks.push((1 + i, list));
                }
            }
            blocks.push((place, double));
        }
        if let Some(first) = self.plan.journal.extents.first() {
            blocks.push((first.run.start, self.journal_super()));
            blocks.extend(self.journal_tree().1);
        }
        blocks
    }

    /// An empty journal. Source: the kernel's ext4 documentation, "Journal (jbd2)".
    fn journal_super(&self) -> Vec<u8> {
        let mut b = vec![0; BLOCK_LEN];
        let mut put = |at: usize, value: u32| b[at..at + 4].copy_from_slice(&value.to_be_bytes());
        put(0x00, 0xc03b_3998);
        put(0x04, 4); // superblock, version 2
        put(0x0c, BLOCK as u32);
        put(0x10, (self.journal_size() / BLOCK) as u32);
        put(0x14, 1); // first block of the log
        put(0x18, 1); // first sequence number
        put(0x40, 1); // users
        b[0x30..0x40].copy_from_slice(self.options.uuid.as_bytes());
        b
    }
}

fn reserved(created: Mtime) -> RawInode<'static> {
    RawInode {
        mode: file_type::REGULAR | 0o600,
        uid: 0,
        gid: 0,
        size: 0,
        links: 1,
        blocks: 0,
        flags: 0,
        mtime: created,
        created,
        pointers: [0; 60],
        xattr_block: 0,
        ibody: &[],
    }
}

fn put_split(b: &mut [u8], low: usize, high: usize, value: u64) {
    put32(b, low, value as u32);
    put32(b, high, (value >> 32) as u32);
}

fn put_split16(b: &mut [u8], low: usize, high: usize, value: u32) {
    put16(b, low, value as u16);
    put16(b, high, (value >> 16) as u16);
}

fn bitmap_of(used: u32, count: u32) -> Vec<u8> {
    let mut bitmap = vec![0; BLOCK_LEN];
    set_bits(&mut bitmap, 0, u64::from(used));
    set_bits(&mut bitmap, u64::from(count), 8 * BLOCK);
    bitmap
}

fn set_bits(bitmap: &mut [u8], from: u64, to: u64) {
    let (mut at, to) = (from as usize, to as usize);
    while at < to {
        if at % 8 == 0 && to - at >= 8 {
            let whole = (to - at) / 8;
            bitmap[at / 8..at / 8 + whole].fill(0xff);
            at += whole * 8;
        } else {
            bitmap[at / 8] |= 1 << (at % 8);
            at += 1;
        }
    }
}
