//! GUID partition tables: what they hold, how they are read, written and shown.
//!
//! What it is: [`Table`], the found state or the wanted one; [`read`], which trusts
//! nothing; [`write`], whose order of writes leaves a good copy at every moment;
//! [`dump`], in the formats of `sfdisk`. What it is not: decisions about partitions
//! (see `plan`).
//!
//! Format: UEFI specification 2.10, chapter 5. Where the specification leaves a
//! choice (where the usable area of a new table begins), libfdisk's is taken, so
//! that tables are equal to those of systemd-repart.

pub mod dump;
mod read;
mod write;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Guid, SectorSize, Sectors, TypeGuid};

pub use read::{Damage, Found, ReadError, read};
pub use write::{Disk, WriteError, repair_primary, write};

/// How many entries a new table has room for, and how large each is.
pub const SLOTS: u32 = 128;
/// The size of an entry in every table seen so far.
pub const SLOT_SIZE: u32 = 128;
/// An array of entries larger than this is refused: with the usual entry size that
/// is 32768 partitions.
pub const MAX_ARRAY: u64 = 4 << 20;
/// The longest name, in UTF-16 units.
pub const NAME_UNITS: usize = 36;
/// Where the first partition of a new table begins at the earliest, in bytes.
const ALIGNMENT: u64 = 1 << 20;

/// The name of a partition: up to 36 UTF-16 units. What follows a NUL is kept
/// though nobody shows it.
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(Vec<u16>);

impl Name {
    /// `None` if the text is longer than a name can be or has a NUL in it.
    pub fn new(text: &str) -> Option<Name> {
        let units: Vec<u16> = text.encode_utf16().collect();
        (units.len() <= NAME_UNITS && !units.contains(&0)).then_some(Name(units))
    }

    fn from_units(mut units: Vec<u16>) -> Name {
        let used = units.iter().rposition(|u| *u != 0).map_or(0, |i| i + 1);
        units.truncate(used.min(NAME_UNITS));
        Name(units)
    }

    /// True if there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.shown().is_empty()
    }

    fn shown(&self) -> &[u16] {
        self.0.split(|u| *u == 0).next().unwrap_or_default()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf16_lossy(self.shown()))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// One partition of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is for.
    pub kind: TypeGuid,
    /// Which one it is.
    pub guid: Guid,
    /// Its first sector.
    pub first: Sectors,
    /// Its last sector, inclusive.
    pub last: Sectors,
    /// The attribute bits.
    pub attributes: u64,
    /// The name.
    pub name: Name,
    /// What entries larger than 128 bytes have beyond that: kept as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rest: Vec<u8>,
}

impl Entry {
    /// How many sectors it has; `None` if it ends before it starts.
    pub fn sectors(&self) -> Option<Sectors> {
        self.last.0.checked_sub(self.first.0)?.checked_add(1).map(Sectors)
    }
}

/// A partition table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The size of the sectors that everything is counted in.
    pub sector_size: SectorSize,
    /// How many sectors the disk has; the last one holds the backup header.
    pub disk: Sectors,
    /// Which disk it is.
    pub guid: Guid,
    /// The first sector that partitions may use.
    pub first_usable: Sectors,
    /// The last sector that partitions may use.
    pub last_usable: Sectors,
    /// Where the primary array of entries begins.
    pub array: Sectors,
    /// How many entries there is room for.
    pub slots: u32,
    /// The size of an entry in bytes.
    pub slot_size: u32,
    /// The entries in use, by slot counted from 0.
    pub entries: BTreeMap<u32, Entry>,
}

/// The disk is too small for a partition table with anything in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{sectors} sectors are too few for a partition table")]
pub struct TooSmall {
    /// The size of the disk.
    pub sectors: u64,
}

/// Something about a table that makes changing it dangerous.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The entry ends before it starts, or lies outside of the usable area.
    #[error("partition {} lies outside of the usable area of the disk", .0 + 1)]
    Outside(u32),
    /// The entries share sectors.
    #[error("partitions {} and {} overlap", .0 + 1, .1 + 1)]
    Overlap(u32, u32),
    /// The usable area is not inside the disk, or the tables are inside of it.
    #[error("the usable area of the disk is not what the table says")]
    Usable,
}

impl Table {
    /// An empty table for a disk of `disk` sectors.
    pub fn new(guid: Guid, disk: Sectors, sector_size: SectorSize) -> Result<Table, TooSmall> {
        let mut table = Table {
            sector_size,
            disk,
            guid,
            first_usable: Sectors(0),
            last_usable: Sectors(0),
            array: Sectors(2),
            slots: SLOTS,
            slot_size: SLOT_SIZE,
            entries: BTreeMap::new(),
        };
        // libfdisk aligns to 1 MiB, but on a disk of up to four times that it begins
        // right behind the array.
        let aligned = ALIGNMENT / sector_size.get();
        let packed = 2 + table.array_sectors();
        table.first_usable = Sectors(if disk.0 <= 4 * aligned { packed } else { aligned });
        table.fit_to(disk)?;
        Ok(table)
    }

    /// Moves the end of the table to the end of a disk of `disk` sectors. The
    /// entries stay: see [`Table::problems`] for those that are outside then.
    pub fn fit_to(&mut self, disk: Sectors) -> Result<(), TooSmall> {
        let too_small = TooSmall { sectors: disk.0 };
        let last = disk.0.checked_sub(2 + self.array_sectors()).ok_or(too_small)?;
        if last < self.first_usable.0 {
            return Err(too_small);
        }
        self.disk = disk;
        self.last_usable = Sectors(last);
        Ok(())
    }

    /// How many sectors the array of entries takes. UEFI asks for 16 KiB at least, which
    /// new tables have; libfdisk also makes and takes smaller ones.
    pub fn array_sectors(&self) -> u64 {
        let bytes = u64::from(self.slots) * u64::from(self.slot_size);
        bytes.div_ceil(self.sector_size.get())
    }

    /// The first slot that is not in use.
    pub fn free_slot(&self) -> Option<u32> {
        (0..self.slots).find(|slot| !self.entries.contains_key(slot))
    }

    /// What is wrong with the entries. A table with problems can be shown, but
    /// nothing that plans or writes may touch it.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let end = self.array.0.checked_add(self.array_sectors());
        let backup = self.disk.0.checked_sub(1 + self.array_sectors());
        let head_fits = self.array.0 >= 2 && end.is_some_and(|e| e <= self.first_usable.0);
        let tail_fits = backup.is_some_and(|b| self.last_usable.0 < b);
        if !head_fits || !tail_fits || self.first_usable > self.last_usable {
            problems.push(Problem::Usable);
        }
        let mut by_start: Vec<(u32, &Entry)> = Vec::new();
        for (slot, entry) in &self.entries {
            let inside = entry.first >= self.first_usable && entry.last <= self.last_usable;
            if !inside || entry.first > entry.last {
                problems.push(Problem::Outside(*slot));
            }
            by_start.push((*slot, entry));
        }
        by_start.sort_by_key(|(slot, e)| (e.first, e.last, *slot));
        let mut reach: Option<(u32, Sectors)> = None;
        for (slot, entry) in by_start {
            match reach {
                Some((other, last)) if entry.first <= last => {
                    problems.push(Problem::Overlap(other.min(slot), other.max(slot)));
                }
                _ => {}
            }
            if reach.is_none_or(|(_, last)| entry.last > last) {
                reach = Some((slot, entry.last));
            }
        }
        problems
    }
}
