//! What is in a partition, by the magic numbers of file systems and containers.
//!
//! What it is not: a reader. A superblock that says what it is may still be damaged.
//!
//! Sources: the kernel's `Documentation/filesystems/`, `include/uapi/linux/magic.h`,
//! cryptsetup's LUKS 1 and 2 on-disk formats, and images made by the original tools.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use tree::Blob;

/// What is in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Holds {
    Ext2,
    Ext3,
    Ext4,
    Vfat,
    Erofs,
    Squashfs,
    Btrfs,
    Xfs,
    F2fs,
    Bcachefs,
    Luks1,
    Luks2,
    Verity,
    Swap,
    Lvm,
    Zfs,
    Ntfs,
    Iso9660,
    BitLocker,
    MdRaid,
    /// Nothing but zeroes where something would be.
    Empty,
    /// Something else.
    Unknown,
}

impl Holds {
    /// Its name, as blkid calls it.
    pub fn name(self) -> &'static str {
        match self {
            Holds::Ext2 => "ext2",
            Holds::Ext3 => "ext3",
            Holds::Ext4 => "ext4",
            Holds::Vfat => "vfat",
            Holds::Erofs => "erofs",
            Holds::Squashfs => "squashfs",
            Holds::Btrfs => "btrfs",
            Holds::Xfs => "xfs",
            Holds::F2fs => "f2fs",
            Holds::Bcachefs => "bcachefs",
            Holds::Luks1 => "LUKS1",
            Holds::Luks2 => "LUKS2",
            Holds::Verity => "dm-verity",
            Holds::Swap => "swap",
            Holds::Lvm => "LVM2",
            Holds::Zfs => "ZFS",
            Holds::Ntfs => "ntfs",
            Holds::Iso9660 => "iso9660",
            Holds::BitLocker => "BitLocker",
            Holds::MdRaid => "Linux RAID",
            Holds::Empty => "empty",
            Holds::Unknown => "unknown",
        }
    }

    /// True for encrypted volumes.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Holds::Luks1 | Holds::Luks2 | Holds::BitLocker)
    }

    /// True for file systems that can be written, and so can grow.
    pub fn is_writable(self) -> bool {
        matches!(self, Holds::Ext4 | Holds::Ext3 | Holds::Ext2 | Holds::Btrfs | Holds::Xfs)
    }

    /// True if it has nothing to look into.
    pub fn is_no_file_system(self) -> bool {
        matches!(self, Holds::Empty | Holds::Swap | Holds::Verity)
    }
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Holds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What is in a partition, and what it calls itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// The format.
    pub holds: Holds,
    /// The file system's UUID as `/dev/disk/by-uuid` has it.
    pub uuid: Option<String>,
    /// The file system's label.
    pub label: Option<String>,
}

/// Enough for every superblock: btrfs' and ZFS' lie farthest.
const HEAD: usize = 160 << 10;

struct Magic {
    at: usize,
    bytes: &'static [u8],
    holds: Holds,
}

const fn magic(at: usize, bytes: &'static [u8], holds: Holds) -> Magic {
    Magic { at, bytes, holds }
}

/// Containers first: what is encrypted may hold anything, also another's magic number.
const MAGICS: [Magic; 19] = [
    magic(0, b"LUKS\xba\xbe\0\x01", Holds::Luks1),
    magic(0, b"LUKS\xba\xbe\0\x02", Holds::Luks2),
    magic(0, b"verity\0\0", Holds::Verity),
    magic(3, b"-FVE-FS-", Holds::BitLocker),
    magic(512, b"LABELONE", Holds::Lvm),
    magic(4096, &[0xfc, 0x4e, 0x2b, 0xa9], Holds::MdRaid),
    magic(0, b"XFSB", Holds::Xfs),
    magic(0, b"hsqs", Holds::Squashfs),
    magic(0x1_0040, b"_BHRfS_M", Holds::Btrfs),
    magic(1024, &[0xe2, 0xe1, 0xf5, 0xe0], Holds::Erofs),
    magic(1024, &[0x10, 0x20, 0xf5, 0xf2], Holds::F2fs),
    magic(
        4096 + 24,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
        Holds::Bcachefs,
    ),
    magic(1024 + 0x38, &[0x53, 0xef], Holds::Ext2),
    magic(4096 - 10, b"SWAPSPACE2", Holds::Swap),
    magic(0x2_0000, &[0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0], Holds::Zfs),
    magic(3, b"NTFS    ", Holds::Ntfs),
    magic(82, b"FAT32", Holds::Vfat),
    magic(54, b"FAT1", Holds::Vfat),
    magic(0x8001, b"CD001", Holds::Iso9660),
];

/// Looks at the `len` bytes from `offset`.
pub fn probe(blob: &Arc<Blob>, offset: u64, len: u64) -> Probe {
    let mut head = vec![0; HEAD];
    let known = len.min(HEAD as u64) as usize;
    // What lies behind the end of the file reads as nothing.
    let end = blob.size().unwrap_or(0).saturating_sub(offset).min(known as u64) as usize;
    let read = blob.read_exact_at(&mut head[..end], offset);
    if read.is_err() {
        return Probe { holds: Holds::Unknown, uuid: None, label: None };
    }
    let head = &head[..end];
    let found = MAGICS.iter().find(|m| head.get(m.at..m.at + m.bytes.len()) == Some(m.bytes));
    let holds = match found.map(|m| m.holds) {
        Some(Holds::Ext2) => ext(head),
        Some(holds) => holds,
        None if head.iter().all(|b| *b == 0) => Holds::Empty,
        None => Holds::Unknown,
    };
    let (uuid, label) = names(head, holds);
    Probe { holds, uuid, label }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes(b.try_into().expect("four bytes")))
}

/// A journal makes an ext3 of an ext2, features that ext3 does not know an ext4.
fn ext(head: &[u8]) -> Holds {
    const HAS_JOURNAL: u32 = 0x4;
    const OF_EXT3: u32 = 0x2 | 0x4 | 0x10;
    const RO_OF_EXT3: u32 = 0x7;
    let (compat, incompat, ro) =
        (u32_at(head, 1024 + 0x5c), u32_at(head, 1024 + 0x60), u32_at(head, 1024 + 0x64));
    match (incompat & !OF_EXT3 == 0 && ro & !RO_OF_EXT3 == 0, compat & HAS_JOURNAL != 0) {
        (false, _) => Holds::Ext4,
        (true, true) => Holds::Ext3,
        (true, false) => Holds::Ext2,
    }
}

/// UUID and label.
fn names(head: &[u8], holds: Holds) -> (Option<String>, Option<String>) {
    let uuid = |at: usize| head.get(at..at + 16).and_then(dashed);
    let text = |at: usize, len: usize| head.get(at..at + len).and_then(label);
    match holds {
        Holds::Ext2 | Holds::Ext3 | Holds::Ext4 => (uuid(1024 + 0x68), text(1024 + 0x78, 16)),
        Holds::Erofs => (uuid(1024 + 48), text(1024 + 64, 16)),
        Holds::Btrfs => (uuid(0x1_0020), text(0x1_012b, 256)),
        Holds::Xfs => (uuid(32), text(108, 12)),
        Holds::F2fs => (uuid(1024 + 108), None),
        Holds::Luks1 => (text(168, 40), None),
        Holds::Luks2 => (text(168, 40), text(24, 48)),
        Holds::Swap => (uuid(1036), text(1052, 16)),
        Holds::Verity => (uuid(16), None),
        Holds::Vfat => {
            let at = if head.get(82..87) == Some(b"FAT32") { 67 } else { 39 };
            let id = u32_at(head, at);
            let id = format!("{:04X}-{:04X}", id >> 16, id & 0xffff);
            (Some(id), text(at + 4, 11).filter(|label| label != "NO NAME"))
        }
        _ => (None, None),
    }
}

fn dashed(bytes: &[u8]) -> Option<String> {
    if bytes.iter().all(|b| *b == 0) {
        return None;
    }
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    Some([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

fn label(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned();
    (!text.is_empty()).then_some(text)
}

/// Free bytes in the file system at `offset`, where they are easily told.
pub fn free(blob: &Arc<Blob>, offset: u64, holds: Holds) -> Option<u64> {
    match holds {
        Holds::Vfat => fs::fat::free(blob, offset).ok(),
        Holds::Ext2 | Holds::Ext3 | Holds::Ext4 => {
            let mut sb = vec![0; 1024];
            blob.read_exact_at(&mut sb, offset + 1024).ok()?;
            let wide = u32_at(&sb, 0x60) & 0x80 != 0;
            let high = if wide { u64::from(u32_at(&sb, 0x158)) << 32 } else { 0 };
            let blocks = u64::from(u32_at(&sb, 0x0c)) | high;
            blocks.checked_mul(1024u64.checked_shl(u32_at(&sb, 0x18).min(6))?)
        }
        _ => None,
    }
}
