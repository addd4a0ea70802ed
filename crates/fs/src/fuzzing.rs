//! One function for each reader, taking bytes of unknown origin.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use tree::{Blob, Tree};

use crate::{FsError, ReadLimits};

const LIMITS: ReadLimits = ReadLimits { entries: 10_000, meta_bytes: 1 << 20, parts: 10_000 };

/// The readers take files, so the bytes go into one that exists in memory only.
fn blob(data: &[u8]) -> Option<Arc<Blob>> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("fuzz", flags).ok()?);
    file.write_all(data).ok()?;
    Some(Blob::opened("fuzz", file, None))
}

/// Reads and then uses what was read, as a caller would.
fn consume(tree: Result<Tree, FsError>) {
    let Ok(tree) = tree else { return };
    for (_, _, node) in tree.iter() {
        if let Some(content) = node.content() {
            let _ = content.read(1 << 16);
        }
    }
}

/// An ext2, ext3 or ext4 file system.
pub fn fuzz_ext4(data: &[u8]) {
    if let Some(blob) = blob(data) {
        consume(crate::ext4::read_limited(&blob, 0, LIMITS));
    }
}

/// A FAT12, FAT16 or FAT32 file system.
pub fn fuzz_fat(data: &[u8]) {
    if let Some(blob) = blob(data) {
        consume(crate::fat::read_limited(&blob, 0, LIMITS));
    }
}

/// An EROFS file system.
pub fn fuzz_erofs(data: &[u8]) {
    if let Some(blob) = blob(data) {
        consume(crate::erofs::read_limited(&blob, 0, LIMITS));
    }
}

/// A squashfs file system.
pub fn fuzz_squashfs(data: &[u8]) {
    if let Some(blob) = blob(data) {
        consume(crate::squashfs::read_limited(&blob, 0, LIMITS));
    }
}
