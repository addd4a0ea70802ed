//! What is on a range already, by the marks that formats have at fixed places.
//!
//! What it is: enough to leave alone what somebody may need. What it is not: proof that
//! it is whole, or what a mount would need to know.
//!
//! Sources: the formats' own documents, and `libblkid` as observed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Name, where it begins, and the mark.
const MARKS: &[(&str, u64, &[u8])] = &[
    ("ext2, ext3 or ext4", 1080, &[0x53, 0xef]),
    ("xfs", 0, b"XFSB"),
    ("btrfs", 65_600, b"_BHRfS_M"),
    ("f2fs", 1024, &[0x10, 0x20, 0xf5, 0xf2]),
    ("FAT", 54, b"FAT12   "),
    ("FAT", 54, b"FAT16   "),
    ("FAT", 82, b"FAT32   "),
    ("exFAT", 3, b"EXFAT   "),
    ("NTFS", 3, b"NTFS    "),
    ("BitLocker", 3, b"-FVE-FS-"),
    ("swap", 4086, b"SWAPSPACE2"),
    ("swap", 4086, b"SWAP-SPACE"),
    ("swap", 65_526, b"SWAPSPACE2"),
    ("a hibernated system", 4086, b"S1SUSPEND\0"),
    ("LUKS", 0, b"LUKS\xba\xbe"),
    ("LUKS", 16_384, b"SKUL\xba\xbe"),
    ("LUKS", 32_768, b"SKUL\xba\xbe"),
    ("LVM", 0, b"LABELONE"),
    ("LVM", 512, b"LABELONE"),
    ("LVM", 1024, b"LABELONE"),
    ("LVM", 1536, b"LABELONE"),
    ("RAID", 0, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("RAID", 4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("dm-verity", 0, b"verity\0\0"),
    ("dm-integrity", 0, b"integrt\0"),
    ("squashfs", 0, b"hsqs"),
    ("erofs", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    ("cramfs", 0, &[0x45, 0x3d, 0xcd, 0x28]),
    ("ISO 9660", 32_769, b"CD001"),
    ("UDF", 32_769, b"BEA01"),
    ("bcache", 4120, &[0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca]),
    ("bcachefs", 4120, &[0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9]),
    ("nilfs2", 1030, &[0x34, 0x34]),
    ("jfs", 32_768, b"JFS1"),
    ("reiserfs", 65_588, b"ReIsEr"),
    ("gfs2", 65_536, &[0x01, 0x16, 0x19, 0x70]),
    ("ocfs2", 8192, b"OCFSV2"),
    ("apfs", 32, b"NXSB"),
    ("hfs+", 1024, b"H+"),
    ("hfs+", 1024, b"HX"),
    ("a partition table", 512, b"EFI PART"),
    ("a partition table", 4096, b"EFI PART"),
    ("a boot sector or partition table", 510, &[0x55, 0xaa]),
];
/// Every mark at a fixed place lies before this.
const HEAD: u64 = 128 << 10;
/// Numbers of ZFS (in an uberblock of 1 KiB, of which there is an array) and RAID.
const ZFS: u64 = 0x00ba_b10c;
const RAID: [u8; 4] = [0xfc, 0x4e, 0x2b, 0xa9];
/// Where the array of ZFS is.
const ZFS_AT: (u64, u64) = (128 << 10, 128 << 10);

/// The first known mark in the first `size` bytes of a file or device.
pub fn probe(file: &File, size: u64) -> io::Result<Option<&'static str>> {
    let mut head = vec![0; size.min(HEAD) as usize];
    file.read_exact_at(&mut head, 0)?;
    let has = |(_, at, mark): &&(&str, u64, &[u8])| {
        let from = *at as usize;
        head.get(from..from + mark.len()) == Some(*mark)
    };
    if let Some((name, ..)) = MARKS.iter().find(has) {
        return Ok(Some(name));
    }
    if raid_at_end(file, size)? {
        return Ok(Some("RAID"));
    }
    zfs(file, size).map(|found| found.then_some("ZFS"))
}

/// Versions 1.0 and 0.90 of Linux's RAID have their superblock at the end.
fn raid_at_end(file: &File, size: u64) -> io::Result<bool> {
    let ends = [(size / 512).checked_sub(16).map(|s| (s & !7) * 512), {
        (size & !0xffff).checked_sub(0x1_0000)
    }];
    for at in ends.into_iter().flatten() {
        let mut mark = [0; 4];
        file.read_exact_at(&mut mark, at)?;
        if mark == RAID || mark.iter().rev().eq(&RAID) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn zfs(file: &File, size: u64) -> io::Result<bool> {
    if size < ZFS_AT.0 + ZFS_AT.1 {
        return Ok(false);
    }
    let mut array = vec![0; ZFS_AT.1 as usize];
    file.read_exact_at(&mut array, ZFS_AT.0)?;
    let mark = |block: &[u8]| {
        let bytes: [u8; 8] = block[..8].try_into().expect("a block has 1024 bytes");
        u64::from_le_bytes(bytes) == ZFS || u64::from_be_bytes(bytes) == ZFS
    };
    Ok(array.chunks_exact(1024).any(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(size: u64, marks: &[(u64, &[u8])]) -> Option<&'static str> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        marks.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).unwrap());
        probe(&file, size).unwrap()
    }

    #[test]
    fn every_mark_is_found_and_nothing_in_zeroes() {
        for (name, at, mark) in MARKS {
            let found = found(1 << 20, &[(*at, mark)]);
            assert_eq!(found, Some(*name));
        }
        for size in [0, 1, 511, 4095, 4096, 65_536, 300_000, 1 << 20] {
            assert_eq!(found(size, &[]), None, "{size}");
        }
    }

    #[test]
    fn marks_at_the_end_and_in_arrays_are_found() {
        // mdadm --metadata=1.0 and 0.90 on 1 MiB.
        assert_eq!(found(1 << 20, &[((1 << 20) - 8192, &RAID)]), Some("RAID"));
        assert_eq!(found(1 << 20, &[((1 << 20) - 65_536, &RAID)]), Some("RAID"));
        assert_eq!(found(1 << 20, &[(131_072 + 4096, &ZFS.to_le_bytes())]), Some("ZFS"));
        assert_eq!(found(1 << 20, &[(131_072 + 5000, &ZFS.to_le_bytes())]), None);
    }
}
