//! Where the fixed metadata lies: superblock copies, group descriptors, the room
//! to grow them, bitmaps, inode tables. Pure arithmetic from a size.
//!
//! It follows mke2fs' defaults, so that `resize2fs` and the kernel find what they
//! expect when they grow the file system; see `reserved_gdt` for how far.

use super::format::*;
use crate::FsError;

/// A run of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run {
    pub start: u64,
    pub len: u64,
}

impl Run {
    pub fn end(self) -> u64 {
        self.start + self.len
    }
}

/// What decides the geometry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Blocks of the device.
    pub blocks: u64,
    /// Inodes needed, the reserved ones included.
    pub inodes: u64,
    /// Bytes per inode, where that gives more.
    pub bytes_per_inode: u64,
    /// How many times larger the file system may become.
    pub growth: u64,
}

/// The fixed metadata of a file system.
#[derive(Debug, Clone)]
pub(super) struct Geometry {
    /// Blocks used of those given: a last group too short for its own metadata is left out.
    pub blocks: u64,
    pub groups: u32,
    pub inodes_per_group: u32,
    /// Blocks of one inode table.
    pub table_blocks: u64,
    /// Blocks of group descriptors.
    pub desc_blocks: u64,
    /// Blocks after them that are kept free for growth.
    pub reserved_gdt: u64,
    pub block_bitmap: Vec<u64>,
    pub inode_bitmap: Vec<u64>,
    pub inode_table: Vec<u64>,
    /// Everything above, sorted, without overlaps.
    pub reserved: Vec<Run>,
}

/// Groups with a copy of the superblock (`sparse_super`): 0, 1, powers of 3, 5, 7.
pub(super) fn has_super(group: u32) -> bool {
    let power_of = |base: u32| {
        let mut n = group;
        while n.is_multiple_of(base) {
            n /= base;
        }
        n == 1
    };
    group <= 1 || power_of(3) || power_of(5) || power_of(7)
}

impl Geometry {
    /// Lays out a file system, or says how many blocks it would take at least.
    pub fn new(wanted: &Wanted) -> Result<Geometry, u64> {
        let mut blocks = wanted.blocks;
        loop {
            let groups = blocks.div_ceil(BLOCKS_PER_GROUP);
            let inodes_per_group = inodes_per_group(wanted, groups.max(1))?;
            let table_blocks = u64::from(inodes_per_group / INODES_PER_BLOCK);
            let desc_blocks = groups.div_ceil(u64::from(DESCS_PER_BLOCK)).max(1);
            let reserved_gdt = reserved_gdt(blocks, desc_blocks, wanted.growth);
            // mke2fs' rule: the last group must hold its own metadata and 50 blocks.
            let last = blocks - BLOCKS_PER_GROUP * groups.saturating_sub(1);
            let copy = match has_super(groups.saturating_sub(1) as u32) {
                true => 1 + desc_blocks + reserved_gdt,
                false => 0,
            };
            let least = copy + 2 + table_blocks + 50;
            if last < least {
                if groups <= 1 {
                    return Err(least);
                }
                blocks -= last;
                continue;
            }
            let geometry = Geometry {
                blocks,
                groups: groups as u32,
                inodes_per_group,
                table_blocks,
                desc_blocks,
                reserved_gdt,
                block_bitmap: Vec::new(),
                inode_bitmap: Vec::new(),
                inode_table: Vec::new(),
                reserved: Vec::new(),
            };
            return Ok(geometry.placed());
        }
    }

    /// Blocks from which on the given size would have had one more group.
    pub fn next_group_needs(&self) -> u64 {
        self.blocks + 1 + self.desc_blocks + self.reserved_gdt + 2 + self.table_blocks + 52
    }

    pub fn group_start(&self, group: u32) -> u64 {
        u64::from(group) * BLOCKS_PER_GROUP
    }

    pub fn group_len(&self, group: u32) -> u64 {
        (self.blocks - self.group_start(group)).min(BLOCKS_PER_GROUP)
    }

    pub fn inodes(&self) -> u64 {
        u64::from(self.groups) * u64::from(self.inodes_per_group)
    }

    /// The groups with a superblock copy, group 0 among them.
    pub fn super_groups(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.groups).filter(|g| has_super(*g))
    }

    /// The superblock and descriptors of `group`, if it has a copy.
    pub fn super_run(&self, group: u32) -> Option<Run> {
        let len = 1 + self.desc_blocks + self.reserved_gdt;
        has_super(group).then(|| Run { start: self.group_start(group), len })
    }

    /// Places bitmaps and tables of every flex group at its start (`flex_bg`).
    fn placed(mut self) -> Geometry {
        let supers: Vec<Run> = (0..self.groups).filter_map(|g| self.super_run(g)).collect();
        let mut tables = Vec::new();
        let mut group = 0;
        while group < self.groups {
            let count = (self.groups - group).min(1 << LOG_FLEX);
            let mut next = self.group_start(group);
            let mut take = |len: u64| {
                while let Some(hit) = supers.iter().find(|s| s.start < next + len && next < s.end())
                {
                    next = hit.end();
                }
                let run = Run { start: next, len };
                next += len;
                tables.push(run);
                run.start
            };
            self.block_bitmap.extend((0..count).map(|_| take(1)));
            self.inode_bitmap.extend((0..count).map(|_| take(1)));
            self.inode_table.extend((0..count).map(|_| take(self.table_blocks)));
            group += count;
        }
        self.reserved = supers;
        self.reserved.append(&mut tables);
        self.reserved.sort();
        self
    }
}

fn inodes_per_group(wanted: &Wanted, groups: u64) -> Result<u32, u64> {
    const MOST: u64 = 8 * BLOCK;
    let ratio = (BLOCKS_PER_GROUP * BLOCK) / wanted.bytes_per_inode.max(1);
    let needed = wanted.inodes.div_ceil(groups);
    if needed > MOST {
        return Err((wanted.inodes.div_ceil(MOST) - 1) * BLOCKS_PER_GROUP + BLOCKS_PER_GROUP / 2);
    }
    let per_block = u64::from(INODES_PER_BLOCK);
    Ok(ratio.max(needed).next_multiple_of(per_block).clamp(per_block, MOST) as u32)
}

/// Room for the descriptors of a file system `growth` times as large. mke2fs
/// keeps room for a factor of 1024, up to what one indirect block can list
/// (8 TiB with descriptors of 64 bytes). The kernel grows a mounted file system
/// without moving anything as long as this room lasts.
fn reserved_gdt(blocks: u64, desc_blocks: u64, growth: u64) -> u64 {
    let most = blocks.saturating_mul(growth).min(u64::from(u32::MAX));
    let groups = most.div_ceil(BLOCKS_PER_GROUP);
    let all = groups.div_ceil(u64::from(DESCS_PER_BLOCK));
    all.saturating_sub(desc_blocks).min(u64::from(ADDRS_PER_BLOCK))
}

/// Journal blocks for a file system of `blocks`: mke2fs' table.
pub(super) fn default_journal(blocks: u64) -> u64 {
    const TABLE: [(u64, u64); 8] = [
        (2048, 0),
        (32_768, 1024),
        (256 << 10, 4096),
        (512 << 10, 8192),
        (4096 << 10, 16_384),
        (8192 << 10, 32_768),
        (16_384 << 10, 65_536),
        (32_768 << 10, 131_072),
    ];
    TABLE.iter().find(|(below, _)| blocks < *below).map_or(262_144, |(_, journal)| *journal)
}

/// Hands out blocks from low to high, around the fixed metadata. What lies below
/// the next free block is therefore in use, all of it.
pub(super) struct Allocator<'a> {
    reserved: &'a [Run],
    next: u64,
}

impl<'a> Allocator<'a> {
    pub fn new(geometry: &'a Geometry) -> Self {
        Allocator { reserved: &geometry.reserved, next: 0 }
    }

    /// `count` blocks, in as few runs as the fixed metadata allows. May run over
    /// the end: the caller compares [`Allocator::end`] with the size.
    pub fn take(&mut self, mut count: u64) -> Vec<Run> {
        let mut runs = Vec::with_capacity(1);
        while count > 0 {
            self.skip_reserved();
            let free = self.reserved.first().map_or(u64::MAX, |r| r.start - self.next);
            let len = count.min(free);
            runs.push(Run { start: self.next, len });
            self.next += len;
            count -= len;
        }
        runs
    }

    /// One block.
    pub fn one(&mut self) -> u64 {
        self.take(1)[0].start
    }

    fn skip_reserved(&mut self) {
        while let Some((first, rest)) = self.reserved.split_first() {
            if first.start > self.next {
                break;
            }
            self.next = self.next.max(first.end());
            self.reserved = rest;
        }
    }

    /// The first block that is free and above everything handed out.
    pub fn end(&mut self) -> u64 {
        self.skip_reserved();
        self.next
    }
}

/// `bytes` in whole blocks, refused above what 32-bit block numbers reach: with
/// `resize_inode` the format stops at 16 TiB.
pub(super) fn blocks_of(bytes: u64) -> Result<u64, FsError> {
    let blocks = bytes / BLOCK;
    if blocks > u64::from(u32::MAX) {
        let what = format!("{bytes} bytes are more than the 16 TiB that are supported");
        return Err(FsError::Parameter { fs: super::NAME, what });
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(blocks: u64) -> Wanted {
        Wanted { blocks, inodes: 100, bytes_per_inode: 16_384, growth: 1024 }
    }

    #[test]
    fn supers_are_at_powers_of_3_5_7() {
        let groups: Vec<u32> = (0..130).filter(|g| has_super(*g)).collect();
        assert_eq!(groups, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }

    #[test]
    fn room_to_grow_is_that_of_mke2fs() {
        // dumpe2fs of mke2fs 1.47.2 images: "Reserved GDT blocks".
        for (mib, expected) in [(300, 37), (1024, 127), (102_400, 1024), (40, 4)] {
            let g = Geometry::new(&wanted(mib * 256)).unwrap();
            assert_eq!(g.reserved_gdt, expected, "{mib} MiB");
        }
    }

    #[test]
    fn a_last_group_too_short_is_left_out() {
        let g = Geometry::new(&wanted(32_768 + 100)).unwrap();
        assert_eq!((g.blocks, g.groups), (32_768, 1));
        let g = Geometry::new(&wanted(g.next_group_needs())).unwrap();
        assert_eq!(g.groups, 2);
        assert!(Geometry::new(&wanted(100)).unwrap_err() > 500);
    }

    #[test]
    fn metadata_never_overlaps() {
        for (blocks, inodes) in [(77_000, 60_000), (5_000_000, 10), (700_000, 600_000)] {
            let g = Geometry::new(&Wanted { inodes, ..wanted(blocks) }).unwrap();
            for pair in g.reserved.windows(2) {
                assert!(pair[0].end() <= pair[1].start, "{pair:?}");
            }
            assert!(g.reserved.last().unwrap().end() <= g.blocks);
            assert!(g.inodes() >= inodes);
        }
    }
}
