//! Partition tables of the BIOS's time: four entries, and a chain of logical ones.
//!
//! Source: UEFI 2.10, 5.2.1, and what fdisk writes. Sectors have 512 bytes.

use std::io;
use std::sync::Arc;

use tree::Blob;

const SECTOR: u64 = 512;
const ENTRIES: usize = 446;
const ENTRY: usize = 16;
/// More logical partitions than any disk has; also what ends a loop.
const MAX_LOGICAL: u32 = 128;
/// Types of extended partitions.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

/// An entry.
pub struct Entry {
    /// 1 to 4, logical ones from 5.
    pub number: u32,
    /// The type.
    pub kind: u8,
    /// In bytes.
    pub offset: u64,
    /// In bytes.
    pub size: u64,
}

/// The partitions of the disk, none if there is no table. A boot sector of a file
/// system ends like a table does: what would be its entries must make sense.
pub fn read(blob: &Arc<Blob>, disk: u64) -> io::Result<Vec<Entry>> {
    let Some(primary) = entries(blob, 0, disk)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (number, (kind, first, count)) in (1u32..).zip(primary) {
        if kind == 0 || count == 0 {
            continue;
        }
        if EXTENDED.contains(&kind) {
            logical(blob, disk, u64::from(first), &mut found)?;
        } else {
            found.push(entry(number, kind, u64::from(first), count));
        }
    }
    found.sort_by_key(|e| e.number);
    Ok(found)
}

fn entry(number: u32, kind: u8, first: u64, count: u32) -> Entry {
    Entry { number, kind, offset: first * SECTOR, size: u64::from(count) * SECTOR }
}

fn logical(blob: &Arc<Blob>, disk: u64, base: u64, found: &mut Vec<Entry>) -> io::Result<()> {
    let mut next = base;
    for number in 5..5 + MAX_LOGICAL {
        let Some(table) = entries(blob, next, disk)? else { return Ok(()) };
        let (kind, first, count) = table[0];
        if kind != 0 && count != 0 {
            found.push(entry(number, kind, next + u64::from(first), count));
        }
        let (kind, first, _) = table[1];
        let after = base + u64::from(first);
        if !EXTENDED.contains(&kind) || after <= next {
            return Ok(());
        }
        next = after;
    }
    Ok(())
}

type Raw = (u8, u32, u32);

/// The four entries in a sector; none if it is no table.
fn entries(blob: &Arc<Blob>, sector: u64, disk: u64) -> io::Result<Option<[Raw; 4]>> {
    let at = sector * SECTOR;
    if at + SECTOR > disk {
        return Ok(None);
    }
    let mut bytes = [0; SECTOR as usize];
    blob.read_exact_at(&mut bytes, at)?;
    if bytes[510..] != [0x55, 0xaa] {
        return Ok(None);
    }
    let mut table = [(0, 0, 0); 4];
    for (raw, slot) in bytes[ENTRIES..510].chunks_exact(ENTRY).zip(&mut table) {
        let number = |at: usize| u32::from_le_bytes(raw[at..at + 4].try_into().expect("four"));
        if raw[0] & 0x7f != 0 || (raw[4] != 0 && number(8) == 0) {
            return Ok(None);
        }
        *slot = (raw[4], number(8), number(12));
    }
    Ok(Some(table))
}
