//! FAT12, FAT16 and FAT32, for EFI system partitions: written from a Tree and read
//! into one.
//!
//! What it is: an image as mkfs.fat and mcopy would make it, with every choice a
//! parameter. What it is not: a keeper of owners, modes, xattrs or hard links, none
//! of which FAT has: owners, modes and xattrs are dropped, a hard link becomes a copy;
//! symbolic links and devices are refused.
//!
//! Data flow: Tree → [`plan`] (names, clusters; pure) → [`write`](write()) (bytes).
//! The reader goes the other way. Only used clusters are written.
//!
//! Own code: `fatfs` passes every byte through a stream and takes its time and
//! cluster size from outside only in part; `hadris-fat` refuses sizes and sectors
//! that disks have. Source: Microsoft's "FAT File System Specification", 2005.

mod geometry;
mod names;
mod plan;
mod read;

use std::fs::File;

use tree::{Mtime, Tree};

pub use read::{free, read, read_limited};

use crate::FsError;
use crate::bytes::*;
use crate::output::{self, Data, Piece, Target, push_content};
use geometry::Geometry;
use plan::Plan;

pub(crate) const NAME: &str = "vfat";

/// Which table a file system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FatType {
    Fat12,
    Fat16,
    Fat32,
}

/// What a file system is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FatOptions {
    /// The number that shows as UUID `XXXX-XXXX`.
    pub volume_id: u32,
    /// At most 11 characters of upper-case ASCII; empty for none.
    pub label: String,
    /// Bytes of the partition.
    pub size: u64,
    /// 512 to 4096: the disk's logical sector, or more.
    pub sector_size: u32,
    /// `None` for the largest type that the size has clusters for. UEFI wants FAT32
    /// on disks.
    pub fat_type: Option<FatType>,
    /// Sectors before the partition, for boot code.
    pub hidden_sectors: u32,
    /// Time of the label, seconds since 1970.
    pub epoch: i64,
}

impl FatOptions {
    /// FAT32 with sectors of 512 bytes.
    pub fn new(volume_id: u32, size: u64) -> Self {
        FatOptions {
            volume_id,
            label: String::new(),
            size,
            sector_size: 512,
            fat_type: Some(FatType::Fat32),
            hidden_sectors: 0,
            epoch: 0,
        }
    }

    fn check(&self) -> Result<(), FsError> {
        let bad = |what: String| Err(FsError::Parameter { fs: NAME, what });
        if !self.sector_size.is_power_of_two() || !(512..=4096).contains(&self.sector_size) {
            return bad(format!("sectors of {} bytes are not 512 to 4096", self.sector_size));
        }
        let allowed = |c: char| {
            (' '..='~').contains(&c) && !c.is_ascii_lowercase() && !"\"*+,./:;<=>?[\\]|".contains(c)
        };
        if self.label.len() > 11 || self.label.starts_with(' ') || !self.label.chars().all(allowed)
        {
            return bad(format!("label {:?} is not up to 11 upper-case characters", self.label));
        }
        Ok(())
    }

    fn label_bytes(&self) -> [u8; 11] {
        let mut label = [b' '; 11];
        let text = if self.label.is_empty() { "NO NAME" } else { &self.label };
        label[..text.len()].copy_from_slice(text.as_bytes());
        label
    }

    fn created(&self) -> Mtime {
        Mtime::secs(self.epoch)
    }
}

/// The smallest size that holds the tree, of `options.fat_type` if given;
/// `options.size` is not looked at. Written at that size, clusters have one sector.
pub fn measure(tree: &Tree, options: &FatOptions) -> Result<u64, FsError> {
    options.check()?;
    let sector = u64::from(options.sector_size);
    let plan = Plan::new(tree, options)?;
    // With the type left open the root directory counts, though it may not need to.
    let chained = options.fat_type.unwrap_or(FatType::Fat32) == FatType::Fat32;
    let clusters = plan.clusters(sector, chained);
    let mut size = geometry::smallest(options, clusters, plan.root_entries());
    loop {
        // A larger cluster, where the type asks for one, wastes more.
        let sized = FatOptions { size, ..options.clone() };
        let g = geometry::geometry(&sized, plan.root_entries())?;
        let needed = plan.clusters(g.cluster(), g.root == 0);
        if needed <= g.clusters {
            return Ok(size);
        }
        size += (needed - g.clusters) * g.cluster();
    }
}

/// Writes the file system of `options.size` bytes at `offset` of `out`, which must
/// read as zeroes there and is made longer if it is too short.
pub fn write(tree: &Tree, options: &FatOptions, out: &File, offset: u64) -> Result<(), FsError> {
    options.check()?;
    let mut plan = Plan::new(tree, options)?;
    let g = geometry::geometry(options, plan.root_entries())?;
    let needed = plan.clusters(g.cluster(), g.root == 0);
    if needed > g.clusters {
        let needed = measure(tree, options)?.max(options.size + 1);
        return Err(FsError::TooSmall { fs: NAME, given: options.size, needed });
    }
    plan.place(&g);
    output::extend(NAME, out, offset, options.size)?;
    let mut pieces = Vec::new();
    let mut put = |at: u64, bytes| pieces.push(Piece { at: offset + at, data: Data::Owned(bytes) });
    let boot = boot_sectors(options, &g, g.clusters - needed, 2 + needed);
    put(0, boot);
    for copy in 0..2 {
        put(g.fat_at(copy), plan.table(&g));
    }
    for dir in &plan.dirs {
        let at = match dir.cluster {
            0 => g.root_at(),
            cluster => g.cluster_at(cluster),
        };
        put(at, plan.dir_bytes(dir, options, &g));
    }
    for file in &plan.files {
        let target = |cluster| Target { from: 0, to: u64::MAX, at: offset + g.cluster_at(cluster) };
        push_content(&mut pieces, file.content, file.cluster.map(target));
    }
    output::write(NAME, out, pieces)
}

/// The boot sector; for FAT32 also the free counts, and a copy of both.
fn boot_sectors(options: &FatOptions, g: &Geometry, free: u64, next: u64) -> Vec<u8> {
    let sector = g.sector as usize;
    let mut b = vec![0; sector];
    let fat32 = g.kind == FatType::Fat32;
    b[3..11].copy_from_slice(b"MSWIN4.1");
    put16(&mut b, 11, g.sector as u16);
    b[13] = g.per_cluster as u8;
    put16(&mut b, 14, g.reserved as u16);
    b[16] = 2;
    put16(&mut b, 17, (g.root * g.sector / 32) as u16);
    b[21] = 0xf8; // a fixed disk
    put16(&mut b, 24, 63);
    put16(&mut b, 26, 255);
    put32(&mut b, 28, options.hidden_sectors);
    match u16::try_from(g.sectors) {
        Ok(sectors) if !fat32 => put16(&mut b, 19, sectors),
        _ => put32(&mut b, 32, g.sectors as u32),
    }
    let (at, code, kind): (usize, usize, &[u8; 8]) = match g.kind {
        FatType::Fat12 => (36, 62, b"FAT12   "),
        FatType::Fat16 => (36, 62, b"FAT16   "),
        FatType::Fat32 => (64, 90, b"FAT32   "),
    };
    match fat32 {
        true => {
            put32(&mut b, 36, g.fat as u32);
            put32(&mut b, 44, 2); // the root directory's cluster
            put16(&mut b, 48, 1); // free counts
            put16(&mut b, 50, 6); // the copy
        }
        false => put16(&mut b, 22, g.fat as u16),
    }
    b[at] = 0x80;
    b[at + 2] = 0x29;
    put32(&mut b, at + 3, options.volume_id);
    b[at + 7..at + 18].copy_from_slice(&options.label_bytes());
    b[at + 18..at + 26].copy_from_slice(kind);
    // Jump to code that halts: the disk is not meant for a BIOS.
    b[..3].copy_from_slice(&[0xeb, code as u8 - 2, 0x90]);
    b[code..code + 3].copy_from_slice(&[0xf4, 0xeb, 0xfd]);
    put16(&mut b, 510, 0xaa55);
    if !fat32 {
        return b;
    }
    let mut info = vec![0; sector];
    put32(&mut info, 0, 0x4161_5252);
    put32(&mut info, 484, 0x6141_7272);
    put32(&mut info, 488, free as u32);
    put32(&mut info, 492, if free == 0 { u32::MAX } else { next as u32 });
    put32(&mut info, 508, 0xaa55_0000);
    b.extend_from_slice(&info);
    let copy = b.clone();
    b.resize(6 * sector, 0);
    b.extend_from_slice(&copy);
    b
}
