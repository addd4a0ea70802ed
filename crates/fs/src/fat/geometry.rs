//! Sizes: sectors, clusters, allocation tables. Pure.
//!
//! Which FAT a file system is follows from the number of its clusters and from
//! nothing else (Microsoft's specification, "FAT Type Determination"): firmware
//! does not see a "FAT32" with fewer than 65525.

use super::{FatOptions, FatType, NAME};
use crate::FsError;

/// Clusters to stay away from the limits, as the specification advises.
const MARGIN: u64 = 16;
const FAT32_MIN: u64 = 65_525 + MARGIN;
const FAT16_MIN: u64 = 4085 + MARGIN;
const FAT32_MAX: u64 = 0x0fff_fff5 - MARGIN;
const CLUSTER_MAX: u64 = 65_536;
const FATS: u64 = 2;

/// Where things are, in sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub kind: FatType,
    pub sector: u64,
    pub sectors: u64,
    pub per_cluster: u64,
    pub reserved: u64,
    /// Sectors of one allocation table.
    pub fat: u64,
    /// Sectors of the fixed root directory (FAT12 and FAT16).
    pub root: u64,
    pub clusters: u64,
}

impl FatType {
    pub(super) fn bits(self) -> u64 {
        match self {
            FatType::Fat12 => 12,
            FatType::Fat16 => 16,
            FatType::Fat32 => 32,
        }
    }

    fn range(self) -> (u64, u64) {
        match self {
            FatType::Fat12 => (1, FAT16_MIN - 2 * MARGIN - 1),
            FatType::Fat16 => (FAT16_MIN, FAT32_MIN - 2 * MARGIN - 1),
            FatType::Fat32 => (FAT32_MIN, FAT32_MAX),
        }
    }
}

impl Geometry {
    pub fn cluster(&self) -> u64 {
        self.sector * self.per_cluster
    }

    /// Byte offset of copy `copy` of the allocation table.
    pub fn fat_at(&self, copy: u64) -> u64 {
        (self.reserved + copy * self.fat) * self.sector
    }

    /// Byte offset of the fixed root directory.
    pub fn root_at(&self) -> u64 {
        self.fat_at(FATS)
    }

    /// Byte offset of a cluster; the first is number 2.
    pub fn cluster_at(&self, number: u64) -> u64 {
        self.root_at() + self.root * self.sector + (number - 2) * self.cluster()
    }

    /// Lays out `sectors` sectors with clusters of `per_cluster`; the number of
    /// clusters comes out as it may.
    fn new(kind: FatType, sector: u64, sectors: u64, per_cluster: u64, root: u64) -> Geometry {
        let first = if kind == FatType::Fat32 { 32 } else { 1 };
        let mut g = Geometry {
            kind,
            sector,
            sectors,
            per_cluster,
            reserved: first,
            fat: 1,
            root,
            clusters: 0,
        };
        loop {
            // Clusters start at a multiple of 4096 bytes, as pages and flash do.
            let align = (4096 / sector).max(1);
            let before = g.reserved + FATS * g.fat + root;
            g.reserved += before.next_multiple_of(align) - before;
            let before = g.reserved + FATS * g.fat + root;
            g.clusters = sectors.saturating_sub(before) / per_cluster;
            let needed = ((g.clusters + 2) * kind.bits()).div_ceil(8 * sector).max(1);
            if needed <= g.fat {
                return g;
            }
            g.fat = needed;
            g.reserved = first;
        }
    }

    fn valid(&self) -> bool {
        let (least, most) = self.kind.range();
        (least..=most).contains(&self.clusters)
    }
}

fn sectors_of(root_entries: u64, sector: u64) -> u64 {
    (root_entries.max(512) * 32).div_ceil(sector)
}

fn root_sectors(kind: FatType, root_entries: u64, sector: u64) -> u64 {
    if kind == FatType::Fat32 { 0 } else { sectors_of(root_entries, sector) }
}

/// The cluster size to begin with: that of mkfs.fat for FAT32, else the smallest.
fn first_cluster(kind: FatType, size: u64, sector: u64) -> u64 {
    let wanted = match size {
        _ if kind != FatType::Fat32 => 512,
        s if s <= 260 << 20 => 512,
        s if s <= 8 << 30 => 4096,
        s if s <= 16 << 30 => 8192,
        s if s <= 32 << 30 => 16_384,
        _ => 32_768,
    };
    wanted.max(sector) / sector
}

/// The geometry for the size, type and sector that the options give.
pub(super) fn geometry(options: &FatOptions, root_entries: u64) -> Result<Geometry, FsError> {
    let sector = u64::from(options.sector_size);
    let sectors = options.size / sector;
    if sectors > u64::from(u32::MAX) {
        let what = format!("{} bytes are more than 2^32 sectors of {sector}", options.size);
        return Err(FsError::Parameter { fs: NAME, what });
    }
    let kinds = match &options.fat_type {
        Some(kind) => std::slice::from_ref(kind),
        None => &[FatType::Fat32, FatType::Fat16, FatType::Fat12],
    };
    for kind in kinds {
        let root = root_sectors(*kind, root_entries, sector);
        let start = first_cluster(*kind, options.size, sector);
        // Smaller clusters where the usual ones are too few, larger where too many.
        let larger = std::iter::successors(Some(start), |n| Some(n * 2));
        let larger = larger.take_while(|n| n * sector <= CLUSTER_MAX);
        let smaller = std::iter::successors(Some(start / 2), |n| Some(n / 2));
        for per_cluster in larger.chain(smaller.take_while(|n| *n > 0)) {
            let g = Geometry::new(*kind, sector, sectors, per_cluster, root);
            if g.valid() {
                return Ok(g);
            }
        }
    }
    let least = smallest(options, 0, root_entries);
    match options.size < least {
        true => Err(FsError::TooSmall { fs: NAME, given: options.size, needed: least }),
        false => Err(FsError::Parameter {
            fs: NAME,
            what: format!("{} bytes are too many for the type of FAT asked for", options.size),
        }),
    }
}

/// A size that has at least `clusters` clusters of one sector, and is valid.
pub(super) fn smallest(options: &FatOptions, clusters: u64, root_entries: u64) -> u64 {
    let sector = u64::from(options.sector_size);
    let kind = options.fat_type.unwrap_or(match clusters {
        n if n < FatType::Fat12.range().1 => FatType::Fat12,
        n if n < FatType::Fat16.range().1 => FatType::Fat16,
        _ => FatType::Fat32,
    });
    let clusters = clusters.max(kind.range().0);
    let root = root_sectors(kind, root_entries, sector);
    let table = ((clusters + 2) * kind.bits()).div_ceil(8 * sector);
    let mut sectors = clusters + FATS * table + root + 1;
    while Geometry::new(kind, sector, sectors, 1, root).clusters < clusters {
        sectors += 1;
    }
    sectors * sector
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(size: u64, sector_size: u32, fat_type: Option<FatType>) -> FatOptions {
        FatOptions { size, sector_size, fat_type, ..FatOptions::new(1, 0) }
    }

    #[test]
    fn an_esp_is_always_seen_as_fat32() {
        for (mib, sector) in [(34, 512), (100, 512), (512, 512), (260, 4096), (512, 4096)] {
            let g = geometry(&options(mib << 20, sector, Some(FatType::Fat32)), 0).unwrap();
            assert!(g.clusters >= 65_525, "{mib} MiB at {sector}: {}", g.clusters);
        }
        for (mib, sector) in [(32, 512), (250, 4096)] {
            let error = geometry(&options(mib << 20, sector, Some(FatType::Fat32)), 0);
            assert!(matches!(error, Err(FsError::TooSmall { .. })), "{error:?}");
        }
    }

    #[test]
    fn the_cluster_count_decides_the_type_at_every_size() {
        for shift in 17..44 {
            for size in [(1u64 << shift) - 512, 1 << shift, 3 << shift] {
                for sector in [512, 4096] {
                    let Ok(g) = geometry(&options(size, sector, None), 0) else {
                        assert!(size >> 32 >= u64::from(sector), "{size} at {sector}");
                        continue;
                    };
                    let by_count = match g.clusters {
                        n if n < 4085 => FatType::Fat12,
                        n if n < 65_525 => FatType::Fat16,
                        _ => FatType::Fat32,
                    };
                    assert_eq!(g.kind, by_count, "{size} at {sector}");
                    assert!(g.cluster_at(g.clusters + 2) <= size);
                    assert_eq!(g.cluster_at(2) % 4096, 0);
                    assert!((g.clusters + 2) * g.kind.bits() <= g.fat * g.sector * 8);
                }
            }
        }
    }
}
