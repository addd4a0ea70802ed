//! Constants and checksums of the format. Source: the kernel's
//! `Documentation/filesystems/ext4/` and what `dumpe2fs` shows of `mke2fs` images.

/// Bytes of a block: the only size we write.
pub(super) const BLOCK: u64 = 4096;
/// The same for buffers.
pub(super) const BLOCK_LEN: usize = BLOCK as usize;
/// Blocks that one bitmap block describes.
pub(super) const BLOCKS_PER_GROUP: u64 = 8 * BLOCK;
/// Bytes of an inode on disk.
pub(super) const INODE_LEN: usize = 256;
/// Inodes in a block of the inode table.
pub(super) const INODES_PER_BLOCK: u32 = (BLOCK_LEN / INODE_LEN) as u32;
/// Bytes of a group descriptor with the `64bit` feature.
pub(super) const DESC_LEN: usize = 64;
/// Descriptors in a block.
pub(super) const DESCS_PER_BLOCK: u32 = (BLOCK_LEN / DESC_LEN) as u32;
/// log2 of the groups whose metadata lies together.
pub(super) const LOG_FLEX: u8 = 4;
/// Block numbers in an indirect block.
pub(super) const ADDRS_PER_BLOCK: u32 = 1024;
/// The superblock's own length; it lies at this offset of block 0 too.
pub(super) const SUPER_LEN: usize = 1024;

pub(super) const SUPER_MAGIC: u16 = 0xef53;
pub(super) const EXTENT_MAGIC: u16 = 0xf30a;
pub(super) const XATTR_MAGIC: u32 = 0xea02_0000;

pub(super) const ROOT_INO: u32 = 2;
pub(super) const RESIZE_INO: u32 = 7;
pub(super) const JOURNAL_INO: u32 = 8;
/// The first inode that is not reserved: `lost+found`.
pub(super) const FIRST_INO: u32 = 11;

/// The longest initialised extent, in blocks.
pub(super) const MAX_EXTENT: u64 = 32768;
/// Extents that fit into the inode.
pub(super) const INODE_EXTENTS: usize = 4;
/// Extents in a block, which ends in a checksum.
pub(super) const BLOCK_EXTENTS: usize = (BLOCK_LEN - 12 - 4) / 12;

pub(super) mod compat {
    pub const HAS_JOURNAL: u32 = 0x4;
    pub const EXT_ATTR: u32 = 0x8;
    pub const RESIZE_INODE: u32 = 0x10;
    pub const DIR_INDEX: u32 = 0x20;
}

pub(super) mod incompat {
    pub const FILETYPE: u32 = 0x2;
    pub const RECOVER: u32 = 0x4;
    pub const META_BG: u32 = 0x10;
    pub const EXTENTS: u32 = 0x40;
    pub const BIT64: u32 = 0x80;
    pub const MMP: u32 = 0x100;
    pub const FLEX_BG: u32 = 0x200;
    pub const EA_INODE: u32 = 0x400;
    pub const CSUM_SEED: u32 = 0x2000;
    pub const LARGEDIR: u32 = 0x4000;
    pub const INLINE_DATA: u32 = 0x8000;
    pub const ENCRYPT: u32 = 0x1_0000;
    pub const CASEFOLD: u32 = 0x2_0000;
}

pub(super) mod ro_compat {
    pub const SPARSE_SUPER: u32 = 0x1;
    pub const LARGE_FILE: u32 = 0x2;
    pub const HUGE_FILE: u32 = 0x8;
    pub const DIR_NLINK: u32 = 0x20;
    pub const EXTRA_ISIZE: u32 = 0x40;
    pub const BIGALLOC: u32 = 0x200;
    pub const METADATA_CSUM: u32 = 0x400;
}

pub(super) mod inode_flag {
    pub const ENCRYPT: u32 = 0x800;
    pub const INDEX: u32 = 0x1000;
    pub const EXTENTS: u32 = 0x8_0000;
    pub const EA_INODE: u32 = 0x20_0000;
    pub const INLINE_DATA: u32 = 0x1000_0000;
}

pub(super) mod file_type {
    pub const REGULAR: u16 = 0x8000;
    pub const DIRECTORY: u16 = 0x4000;
    pub const SYMLINK: u16 = 0xa000;
    pub const CHAR: u16 = 0x2000;
    pub const BLOCK: u16 = 0x6000;
    pub const FIFO: u16 = 0x1000;
    pub const SOCKET: u16 = 0xc000;
    pub const MASK: u16 = 0xf000;
}

/// ext4's crc32c: chained, neither start value nor result inverted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Csum(u32);

impl Csum {
    /// The start value of the superblock's sum and of the seed.
    pub fn start() -> Self {
        Csum(!0)
    }

    /// The seed of a file system.
    pub fn seed(uuid: &[u8; 16]) -> Self {
        Csum::start().add(uuid)
    }

    /// A seed that the superblock states (`metadata_csum_seed`).
    pub fn from_value(value: u32) -> Self {
        Csum(value)
    }

    /// Takes in more bytes.
    pub fn add(self, bytes: &[u8]) -> Self {
        // The crate inverts before and after; the format does neither.
        Csum(!crc32c::crc32c_append(!self.0, bytes))
    }

    /// Takes in a number.
    pub fn add32(self, value: u32) -> Self {
        self.add(&value.to_le_bytes())
    }

    /// The seed for what belongs to inode `number` of generation `generation`.
    pub fn inode(self, number: u32, generation: u32) -> Self {
        self.add32(number).add32(generation)
    }

    pub fn value(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_vector() {
        // RFC 3720 B.4: crc32c of 32 zero bytes is 8a9136aa, inverted at the end.
        assert_eq!(!Csum::start().add(&[0; 32]).value(), 0x8a91_36aa);
    }
}
