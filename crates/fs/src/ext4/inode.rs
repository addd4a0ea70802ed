//! Inodes and extent trees. Source: the kernel's ext4 documentation, "Index
//! Nodes", "Extent Tree", "Inode Timestamps".

use tree::{Device, Mtime};

use super::format::*;
use super::geometry::Run;
use super::xattr;
use crate::bytes::*;

/// Bytes of the extra fields after the first 128.
pub(super) const EXTRA_LEN: u16 = 32;

/// A run of blocks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Its first block within the file.
    pub logical: u32,
    /// Where it is.
    pub run: Run,
}

/// Everything an inode says.
#[derive(Debug)]
pub(super) struct RawInode<'a> {
    /// Type and permissions.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub links: u32,
    /// Blocks in use: content, extent blocks, attribute block.
    pub blocks: u64,
    pub flags: u32,
    pub mtime: Mtime,
    /// When the file system was made.
    pub created: Mtime,
    /// The 60 bytes of block pointers: extents, link target or device.
    pub pointers: [u8; 60],
    /// The block with attributes, or 0.
    pub xattr_block: u64,
    /// Attributes in the inode, from [`xattr::IBODY`] on, or empty.
    pub ibody: &'a [u8],
}

impl RawInode<'_> {
    /// The bytes on disk of inode `number`.
    pub fn encode(&self, number: u32, seed: Csum) -> [u8; INODE_LEN] {
        let mut b = [0; INODE_LEN];
        put16(&mut b, 0, self.mode);
        put16(&mut b, 2, self.uid as u16);
        put32(&mut b, 4, self.size as u32);
        put16(&mut b, 24, self.gid as u16);
        // A directory of more links than fit says 1 (dir_nlink).
        put16(&mut b, 26, if self.links > 65_000 { 1 } else { self.links as u16 });
        let sectors = self.blocks * (BLOCK / 512);
        put32(&mut b, 28, sectors as u32);
        put32(&mut b, 32, self.flags);
        b[40..100].copy_from_slice(&self.pointers);
        put32(&mut b, 104, self.xattr_block as u32);
        put32(&mut b, 108, (self.size >> 32) as u32);
        put16(&mut b, 116, (sectors >> 32) as u16);
        put16(&mut b, 118, (self.xattr_block >> 32) as u16);
        put16(&mut b, 120, (self.uid >> 16) as u16);
        put16(&mut b, 122, (self.gid >> 16) as u16);
        put16(&mut b, 128, EXTRA_LEN);
        for (at, extra, time) in [
            (8, 140, self.mtime),
            (12, 132, self.mtime),
            (16, 136, self.mtime),
            (144, 148, self.created),
        ] {
            let (low, high) = encode_time(time);
            put32(&mut b, at, low);
            put32(&mut b, extra, high);
        }
        b[xattr::IBODY..xattr::IBODY + self.ibody.len()].copy_from_slice(self.ibody);
        let sum = seed.inode(number, 0).add(&b).value();
        put16(&mut b, 124, sum as u16);
        put16(&mut b, 130, (sum >> 16) as u16);
        b
    }

    /// An unused inode of the reserved range: only its (short) checksum.
    pub fn encode_empty(number: u32, seed: Csum) -> [u8; INODE_LEN] {
        let mut b = [0; INODE_LEN];
        let sum = seed.inode(number, 0).add(&b).value();
        put16(&mut b, 124, sum as u16);
        b
    }
}

/// 32 bits of seconds as ever; the extra word has two more and the nanoseconds.
fn encode_time(time: Mtime) -> (u32, u32) {
    let low = time.secs as u32;
    let epoch = ((time.secs - i64::from(low as i32)) >> 32) as u32 & 3;
    (low, time.nanos << 2 | epoch)
}

/// The time that the two words say.
pub(super) fn decode_time(low: u32, extra: u32) -> Mtime {
    Mtime { secs: i64::from(low as i32) + (i64::from(extra & 3) << 32), nanos: extra >> 2 }
}

/// True if inodes of 256 bytes can say it: 1901 to 2446.
pub(super) fn time_fits(time: Mtime) -> bool {
    const LAST: i64 = i32::MAX as i64 + (3 << 32);
    (i64::from(i32::MIN)..=LAST).contains(&time.secs) && time.nanos < 1_000_000_000
}

/// A device number as block pointers: the old form where it fits, else the new.
/// `None` if Linux has no such number.
pub(super) fn device_pointers(device: Device) -> Option<[u8; 60]> {
    let Device { major, minor } = device;
    let mut pointers = [0; 60];
    if major < 256 && minor < 256 {
        put32(&mut pointers, 0, major << 8 | minor);
    } else if major < 1 << 12 && minor < 1 << 20 {
        put32(&mut pointers, 4, (minor & 0xff) | major << 8 | (minor & !0xff) << 12);
    } else {
        return None;
    }
    Some(pointers)
}

/// The device that block pointers say.
pub(super) fn pointers_device(pointers: &[u8]) -> Device {
    let (old, new) = (get32(pointers, 0), get32(pointers, 4));
    match old {
        0 => Device { major: (new >> 8) & 0xfff, minor: (new & 0xff) | ((new >> 12) & 0xfff00) },
        _ => Device { major: (old >> 8) & 0xff, minor: old & 0xff },
    }
}

/// Cuts runs of blocks that follow each other in the file into extents.
pub(super) fn push_extents(extents: &mut Vec<Extent>, mut logical: u32, runs: &[Run]) {
    for run in runs {
        let mut rest = *run;
        while rest.len > 0 {
            let len = rest.len.min(MAX_EXTENT);
            extents.push(Extent { logical, run: Run { start: rest.start, len } });
            rest = Run { start: rest.start + len, len: rest.len - len };
            logical += len as u32;
        }
    }
}

/// How many blocks an extent tree takes besides the inode.
pub(super) fn extent_blocks(extents: usize) -> u64 {
    let (mut total, mut level) = (0, extents);
    while level > INODE_EXTENTS {
        level = level.div_ceil(BLOCK_EXTENTS);
        total += level as u64;
    }
    total
}

/// The extent tree of inode `number`: the root for the inode and, for each of
/// `places` (as many as [`extent_blocks`] says), a block.
pub(super) fn extent_tree(
    extents: &[Extent],
    places: &[u64],
    number: u32,
    seed: Csum,
) -> ([u8; 60], Vec<(u64, Vec<u8>)>) {
    let mut level: Vec<[u8; 12]> = extents.iter().map(leaf_entry).collect();
    let mut places = places.iter();
    let mut blocks = Vec::new();
    let mut depth = 0;
    while level.len() > INODE_EXTENTS {
        let mut above = Vec::new();
        for chunk in level.chunks(BLOCK_EXTENTS) {
            let place = *places.next().expect("as many places as extent_blocks says");
            let mut block = vec![0; BLOCK_LEN];
            put_node(&mut block, chunk, BLOCK_EXTENTS, depth);
            let sum = seed.inode(number, 0).add(&block[..BLOCK_LEN - 4]).value();
            put32(&mut block, BLOCK_LEN - 4, sum);
            blocks.push((place, block));
            above.push(index_entry(get32(&chunk[0], 0), place));
        }
        level = above;
        depth += 1;
    }
    let mut root = [0; 60];
    put_node(&mut root, &level, INODE_EXTENTS, depth);
    (root, blocks)
}

fn put_node(node: &mut [u8], entries: &[[u8; 12]], max: usize, depth: u16) {
    put16(node, 0, EXTENT_MAGIC);
    put16(node, 2, entries.len() as u16);
    put16(node, 4, max as u16);
    put16(node, 6, depth);
    for (at, entry) in node[12..].chunks_exact_mut(12).zip(entries) {
        at.copy_from_slice(entry);
    }
}

fn leaf_entry(extent: &Extent) -> [u8; 12] {
    let mut b = [0; 12];
    put32(&mut b, 0, extent.logical);
    put16(&mut b, 4, extent.run.len as u16);
    put16(&mut b, 6, (extent.run.start >> 32) as u16);
    put32(&mut b, 8, extent.run.start as u32);
    b
}

fn index_entry(logical: u32, place: u64) -> [u8; 12] {
    let mut b = [0; 12];
    put32(&mut b, 0, logical);
    put32(&mut b, 4, place as u32);
    put16(&mut b, 8, (place >> 32) as u16);
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_from_1901_to_2446() {
        // Table in the kernel's ext4 documentation, "Inode Timestamps".
        for (secs, low, extra) in [
            (-1, 0xffff_ffff, 0),
            (-0x8000_0000, 0x8000_0000, 0),
            (0x7fff_ffff, 0x7fff_ffff, 0),
            (0x8000_0000, 0x8000_0000, 1),
            (0x1_7fff_ffff, 0x7fff_ffff, 1),
            (0x3_7fff_ffff, 0x7fff_ffff, 3),
        ] {
            let time = Mtime::secs(secs);
            assert!(time_fits(time));
            assert_eq!(encode_time(time), (low, extra), "{secs}");
            assert_eq!(decode_time(low, extra), time);
        }
        assert!(!time_fits(Mtime::secs(0x3_8000_0000)));
        assert!(!time_fits(Mtime::secs(-0x8000_0001)));
    }

    #[test]
    fn devices() {
        for (major, minor, old, new) in [(8, 1, 0x801, 0), (259, 70_000, 0, 0x1111_0370)] {
            let device = Device { major, minor };
            let p = device_pointers(device).unwrap();
            assert_eq!((get32(&p, 0), get32(&p, 4)), (old, new));
            assert_eq!(pointers_device(&p), device);
        }
        assert!(device_pointers(Device { major: 4096, minor: 0 }).is_none());
    }

    #[test]
    fn deep_extent_trees() {
        assert_eq!(extent_blocks(4), 0);
        assert_eq!(extent_blocks(5), 1);
        assert_eq!(extent_blocks(4 * 340), 4);
        assert_eq!(extent_blocks(4 * 340 + 1), 5 + 1);
    }
}
