//! ext4, written from a Tree and read into one.
//!
//! What it is: a writer with mke2fs' layout and features, so that everything that
//! works on ext4 works on the result: every kernel since 3.18, GRUB, e2fsck, and
//! above all growing, mounted or not (`resize_inode`). What it is not: a way to
//! change an existing file system.
//!
//! Data flow: Tree → [`survey`] (what is needed) → [`place`] (where it goes, given a
//! size) → [`tables`] and [`write`] (the bytes). The first two are pure; `measure`
//! stops after them. The reader goes the other way: image → [`read`] → Tree.
//!
//! Features: those of mke2fs 1.47.2's default for `ext4` except `orphan_file` and
//! `metadata_csum_seed`. Debian bookworm's mke2fs leaves these two out as well:
//! its GRUB (2.06) refuses a file system with `metadata_csum_seed`, and neither
//! has a use in an image whose UUID is chosen when it is built.
//!
//! Own code rather than the crate `mkext4` 0.0.3, which has neither `resize_inode`
//! nor `64bit` (no growth beyond its first descriptor block), takes names as
//! text only and passes every content byte through a reader.
//!
//! Source of the format: the kernel's `Documentation/filesystems/ext4/`, and images
//! made by mke2fs.

mod dir;
mod format;
mod geometry;
mod hash;
mod inode;
mod map;
mod place;
mod read;
mod survey;
mod tables;
mod write;
mod xattr;

use std::fs::File;

use tree::{Mtime, Tree};
use uuid::Uuid;

pub use read::{read, read_limited};

use crate::FsError;
use format::BLOCK;
use survey::Survey;

pub(crate) const NAME: &str = "ext4";

/// What a file system is made with. Every choice that mke2fs takes from the
/// clock or from chance is a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ext4Options {
    /// The file system's UUID; also seeds all checksums.
    pub uuid: Uuid,
    /// Seed of the directory hashes; systemd-repart takes the UUID.
    pub hash_seed: Uuid,
    /// At most 16 bytes.
    pub label: String,
    /// Bytes of the partition. What is over whole blocks stays unused.
    pub size: u64,
    /// When the file system was made, seconds since 1970.
    pub epoch: i64,
    /// Blocks of 4096 bytes for the journal: `None` for mke2fs' choice by size, 0
    /// for none.
    pub journal_blocks: Option<u64>,
    /// One inode for so many bytes, at least as many as the tree needs.
    pub bytes_per_inode: u64,
    /// Inodes at least, the 10 reserved ones included.
    pub min_inodes: u64,
    /// How many times larger it may become without moving anything.
    pub growth: u64,
    /// Bytes that must be free afterwards.
    pub free: u64,
}

impl Ext4Options {
    /// mke2fs' defaults (no blocks reserved for root), time 0.
    pub fn new(uuid: Uuid, size: u64) -> Self {
        Ext4Options {
            uuid,
            hash_seed: uuid,
            label: String::new(),
            size,
            epoch: 0,
            journal_blocks: None,
            bytes_per_inode: 16_384,
            min_inodes: 0,
            growth: 1024,
            free: 0,
        }
    }

    fn created(&self) -> Mtime {
        Mtime::secs(self.epoch)
    }

    fn check(&self) -> Result<(), FsError> {
        const JOURNAL_MIN: u64 = 1024;
        const JOURNAL_MAX: u64 = 10_240_000;
        let bad = |what: String| Err(FsError::Parameter { fs: NAME, what });
        if self.label.len() > 16 || self.label.contains('\0') {
            return bad(format!("label {:?} is over 16 bytes or has a NUL", self.label));
        }
        if self.journal_blocks.is_some_and(|n| n != 0 && !(JOURNAL_MIN..=JOURNAL_MAX).contains(&n))
        {
            return bad(format!("a journal has {JOURNAL_MIN} to {JOURNAL_MAX} blocks"));
        }
        if self.bytes_per_inode < 1024 || self.growth == 0 {
            return bad("bytes per inode below 1024, or growth 0".into());
        }
        if !inode::time_fits(self.created()) {
            return bad(format!("time {} is not between 1901 and 2446", self.epoch));
        }
        Ok(())
    }
}

/// The smallest size in bytes that holds the tree (and `options.free` bytes);
/// `options.size` is not looked at. How much more to give is the caller's policy.
pub fn measure(tree: &Tree, options: &Ext4Options) -> Result<u64, FsError> {
    options.check()?;
    let lost = survey::lost_found(options);
    let survey = Survey::new(tree, &lost, options)?;
    Ok(place::measure(&survey, options)? * BLOCK)
}

/// Writes the file system of `options.size` bytes at `offset` of `out`, which must
/// read as zeroes there (a new file, a hole) and is made longer if it is too short.
pub fn write(tree: &Tree, options: &Ext4Options, out: &File, offset: u64) -> Result<(), FsError> {
    options.check()?;
    let lost = survey::lost_found(options);
    let survey = Survey::new(tree, &lost, options)?;
    let plan = place::plan(&survey, options)?;
    write::write(&survey, &plan, options, out, offset)
}
