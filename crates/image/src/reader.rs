//! Which reader takes which file system, and in which words the others are refused.

use std::sync::Arc;

use tree::{Blob, Tree};

use crate::{Holds, Partition};

/// Reads a partition's file system; the reason if it cannot be.
pub fn read(blob: &Arc<Blob>, partition: &Partition) -> Result<Tree, String> {
    let read = match partition.probe.holds {
        Holds::Ext2 | Holds::Ext3 | Holds::Ext4 => fs::ext4::read(blob, partition.offset),
        Holds::Vfat => fs::fat::read(blob, partition.offset),
        Holds::Erofs => fs::erofs::read(blob, partition.offset),
        Holds::Squashfs => fs::squashfs::read(blob, partition.offset),
        other => return Err(refusal(other)),
    };
    read.map_err(|error| {
        let source = std::error::Error::source(&error).map(|s| format!(": {s}"));
        format!("{error}{}", source.unwrap_or_default())
    })
}

fn refusal(holds: Holds) -> String {
    match holds {
        Holds::Luks1 | Holds::Luks2 => format!("it is encrypted ({holds}) and there is no key"),
        Holds::BitLocker => "it is encrypted (BitLocker)".into(),
        Holds::Verity => "it holds hashes of another partition (dm-verity), no files".into(),
        Holds::Swap => "it is swap, no file system".into(),
        Holds::Lvm => "it is an LVM physical volume, which mkgold cannot read".into(),
        Holds::Empty => "it is empty".into(),
        Holds::Unknown => "what it holds is unknown to mkgold".into(),
        other => format!("mkgold has no reader for {other}"),
    }
}
