//! Writing a table so that a good copy of the old or the new one exists at every
//! moment.
//!
//! The order: backup array, backup header, sync, primary array, primary header,
//! sync, protective MBR, sync. Up to the first sync the primary is the old one and
//! whole; after it the backup is the new one and whole. On a disk that had no table
//! the protective MBR comes last, so that a half-made one is not taken for a table.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::read::{HEADER_SIZE, MBR_GPT, MBR_PARTITION_SIZE, MBR_PARTITIONS, MBR_SIGNATURE};
use super::{Problem, SLOT_SIZE, Table};

/// Where tables are written: an image file, a block device, memory in tests.
pub trait Disk: Read + Write + Seek {
    /// Returns when everything written so far would survive a power cut.
    fn sync(&mut self) -> io::Result<()>;
}

/// Why a table is not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The medium.
    #[error("the partition table cannot be written")]
    Io(#[from] io::Error),
    /// The table is not one that may be written.
    #[error("the partition table is not sound: {0}")]
    Unsound(Problem),
    /// An entry does not fit the array.
    #[error("partition {} does not fit a table of {slots} partitions", .slot + 1)]
    Slot {
        /// The entry's slot, counted from 0.
        slot: u32,
        /// How many the table has.
        slots: u32,
    },
    /// Another system's partitions would be lost.
    #[error("the disk has a hybrid MBR; its partitions would be lost")]
    HybridMbr,
}

/// Writes `table` to `disk`, which has at least the size that the table says. What is on
/// the disk must have a whole primary copy, or nothing: see [`repair_primary`].
pub fn write(disk: &mut (impl Disk + ?Sized), table: &Table) -> Result<(), WriteError> {
    if let Some(problem) = table.problems().into_iter().next() {
        return Err(WriteError::Unsound(problem));
    }
    let array = array(table)?;
    let mbr = mbr(disk, table)?;
    let size = table.sector_size.get();
    let (last, sectors) = (table.disk.0 - 1, table.array_sectors());
    put(disk, (last - sectors) * size, &array)?;
    put(disk, last * size, &header(table, &array, last, 1, last - sectors))?;
    disk.sync()?;
    put(disk, table.array.0 * size, &array)?;
    put(disk, size, &header(table, &array, 1, last, table.array.0))?;
    disk.sync()?;
    put(disk, 0, &mbr)?;
    disk.sync()?;
    Ok(())
}

fn put(disk: &mut (impl Disk + ?Sized), at: u64, bytes: &[u8]) -> io::Result<()> {
    disk.seek(SeekFrom::Start(at))?;
    disk.write_all(bytes)
}

/// Writes the primary copy of a table that was read from its backup, and nothing else:
/// from then on the backup may be changed.
pub fn repair_primary(disk: &mut (impl Disk + ?Sized), table: &Table) -> Result<(), WriteError> {
    if let Some(problem) = table.problems().into_iter().next() {
        return Err(WriteError::Unsound(problem));
    }
    let array = array(table)?;
    let size = table.sector_size.get();
    put(disk, table.array.0 * size, &array)?;
    put(disk, size, &header(table, &array, 1, table.disk.0 - 1, table.array.0))?;
    disk.sync()?;
    Ok(())
}

/// The array of entries with the padding to whole sectors.
fn array(table: &Table) -> Result<Vec<u8>, WriteError> {
    let size = table.slot_size as usize;
    let mut array = vec![0; (table.array_sectors() * table.sector_size.get()) as usize];
    for (slot, entry) in &table.entries {
        if *slot >= table.slots {
            return Err(WriteError::Slot { slot: *slot, slots: table.slots });
        }
        let raw = &mut array[*slot as usize * size..][..size];
        raw[0..16].copy_from_slice(&entry.kind.0.to_gpt());
        raw[16..32].copy_from_slice(&entry.guid.to_gpt());
        raw[32..40].copy_from_slice(&entry.first.0.to_le_bytes());
        raw[40..48].copy_from_slice(&entry.last.0.to_le_bytes());
        raw[48..56].copy_from_slice(&entry.attributes.to_le_bytes());
        for (unit, to) in entry.name.0.iter().zip(raw[56..SLOT_SIZE as usize].chunks_exact_mut(2)) {
            to.copy_from_slice(&unit.to_le_bytes());
        }
        let rest = &mut raw[SLOT_SIZE as usize..];
        let kept = entry.rest.len().min(rest.len());
        rest[..kept].copy_from_slice(&entry.rest[..kept]);
    }
    Ok(array)
}

fn header(table: &Table, array: &[u8], own: u64, other: u64, entries: u64) -> Vec<u8> {
    let mut h = Vec::with_capacity(table.sector_size.bytes());
    h.extend_from_slice(b"EFI PART");
    h.extend_from_slice(&0x0001_0000u32.to_le_bytes());
    h.extend_from_slice(&HEADER_SIZE.to_le_bytes());
    h.extend_from_slice(&[0; 8]);
    for lba in [own, other, table.first_usable.0, table.last_usable.0] {
        h.extend_from_slice(&lba.to_le_bytes());
    }
    h.extend_from_slice(&table.guid.to_gpt());
    h.extend_from_slice(&entries.to_le_bytes());
    h.extend_from_slice(&table.slots.to_le_bytes());
    h.extend_from_slice(&table.slot_size.to_le_bytes());
    let used = table.slots as usize * table.slot_size as usize;
    h.extend_from_slice(&crc32fast::hash(&array[..used]).to_le_bytes());
    let sum = crc32fast::hash(&h);
    h[16..20].copy_from_slice(&sum.to_le_bytes());
    h.resize(table.sector_size.bytes(), 0);
    h
}

/// The protective MBR, 512 bytes: boot code that is there is kept.
fn mbr(disk: &mut (impl Disk + ?Sized), table: &Table) -> Result<[u8; 512], WriteError> {
    let mut mbr = [0; 512];
    disk.seek(SeekFrom::Start(0))?;
    disk.read_exact(&mut mbr)?;
    let partition = MBR_PARTITIONS..MBR_PARTITIONS + MBR_PARTITION_SIZE;
    let kinds = || (0..4).map(|i| mbr[MBR_PARTITIONS + i * MBR_PARTITION_SIZE + 4]);
    let signed = mbr[510..] == MBR_SIGNATURE;
    if signed && kinds().any(|k| k == MBR_GPT) && kinds().any(|k| k != MBR_GPT && k != 0) {
        return Err(WriteError::HybridMbr);
    }
    mbr[MBR_PARTITIONS..510].fill(0);
    let sectors = u32::try_from(table.disk.0 - 1).unwrap_or(u32::MAX);
    let entry = &mut mbr[partition];
    // From cylinder 0, head 0, sector 2 to as far as such an address reaches.
    entry[1..8].copy_from_slice(&[0, 2, 0, MBR_GPT, 0xff, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&1u32.to_le_bytes());
    entry[12..16].copy_from_slice(&sectors.to_le_bytes());
    mbr[510..].copy_from_slice(&MBR_SIGNATURE);
    Ok(mbr)
}
