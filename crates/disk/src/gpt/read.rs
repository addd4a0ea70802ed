//! Reading a table from a disk that may be damaged or hostile.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use super::{Entry, MAX_ARRAY, NAME_UNITS, Name, SLOT_SIZE, Table};
use crate::{Guid, SectorSize, Sectors, TypeGuid};

const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
pub(super) const HEADER_SIZE: u32 = 92;
/// Where the four partitions of an MBR begin, and its signature.
pub(super) const MBR_PARTITIONS: usize = 446;
pub(super) const MBR_PARTITION_SIZE: usize = 16;
pub(super) const MBR_SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// The MBR type of the partition that protects a GPT.
pub(super) const MBR_GPT: u8 = 0xee;

/// A table and in what state it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The table. Its `disk` is where its backup header says the disk ends, which
    /// may be before the real end: see [`Table::fit_to`].
    pub table: Table,
    /// The size of the disk that it was read from.
    pub disk: Sectors,
    /// What is not as it should be; writing the table anew repairs all of it.
    pub damage: Vec<Damage>,
}

/// Something that is broken without the table being lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The table is the backup one.
    #[error("the primary partition table is damaged; the backup at the end of the disk was used")]
    Primary,
    /// The backup is gone.
    #[error("the backup partition table at the end of the disk is missing or damaged")]
    Backup,
    /// The disk has grown.
    #[error("the disk is larger than its partition table says")]
    DiskGrown,
    /// Another system also has its partitions in the MBR.
    #[error("the protective MBR has partitions of its own (hybrid MBR)")]
    HybridMbr,
}

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The medium.
    #[error("the disk cannot be read")]
    Io(#[from] io::Error),
    /// No protective MBR, or no header in either place.
    #[error("there is no GUID partition table on the disk")]
    None,
    /// There is one, but neither copy is whole.
    #[error("both copies of the partition table are damaged ({0})")]
    Damaged(&'static str),
}

/// Reads the table of `disk`: the primary one if it is whole, else the backup. The
/// sector size is looked for unless it is given.
pub fn read(
    disk: &mut (impl Read + Seek + ?Sized),
    sector_size: Option<SectorSize>,
) -> Result<Found, ReadError> {
    let bytes = disk.seek(SeekFrom::End(0))?;
    let hybrid = match mbr(disk, bytes)? {
        Mbr::Protective => false,
        Mbr::Hybrid => true,
        Mbr::Other => return Err(ReadError::None),
    };
    let sizes = sector_size.as_ref().map_or(&SectorSize::ALL[..], std::slice::from_ref);
    let mut worst = ReadError::None;
    for size in sizes {
        match read_with(disk, bytes, *size) {
            Ok(mut found) => {
                found.damage.extend(hybrid.then_some(Damage::HybridMbr));
                return Ok(found);
            }
            Err(ReadError::Io(e)) => return Err(ReadError::Io(e)),
            Err(ReadError::None) => {}
            Err(damaged) => worst = damaged,
        }
    }
    Err(worst)
}

enum Mbr {
    Protective,
    Hybrid,
    Other,
}

fn mbr(disk: &mut (impl Read + Seek + ?Sized), bytes: u64) -> io::Result<Mbr> {
    if bytes < 512 {
        return Ok(Mbr::Other);
    }
    let sector = read_at(disk, 0, 512)?;
    if sector[510..] != MBR_SIGNATURE {
        return Ok(Mbr::Other);
    }
    let kinds: Vec<u8> = (0..4)
        .map(|i| sector[MBR_PARTITIONS + i * MBR_PARTITION_SIZE + 4])
        .filter(|kind| *kind != 0)
        .collect();
    Ok(match kinds.contains(&MBR_GPT) {
        true if kinds.len() == 1 => Mbr::Protective,
        true => Mbr::Hybrid,
        false => Mbr::Other,
    })
}

fn read_at(disk: &mut (impl Read + Seek + ?Sized), at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; len];
    disk.seek(SeekFrom::Start(at))?;
    disk.read_exact(&mut buffer)?;
    Ok(buffer)
}

fn read_with(
    disk: &mut (impl Read + Seek + ?Sized),
    bytes: u64,
    size: SectorSize,
) -> Result<Found, ReadError> {
    let sectors = bytes / size.get();
    if sectors < 3 {
        return Err(ReadError::None);
    }
    match read_copy(disk, sectors, size, 1) {
        Ok(copy) => {
            let backup = read_copy(disk, sectors, size, copy.alternate);
            let mut damage = Vec::new();
            if !backup.is_ok_and(|b| b.same_as(&copy)) {
                damage.push(Damage::Backup);
            }
            Ok(copy.found(sectors, damage))
        }
        Err(ReadError::Io(e)) => Err(ReadError::Io(e)),
        Err(primary) => match read_copy(disk, sectors, size, sectors - 1) {
            Ok(copy) => Ok(copy.found(sectors, vec![Damage::Primary])),
            Err(ReadError::None) => Err(primary),
            Err(e) => Err(e),
        },
    }
}

/// One header with its array.
struct Copy {
    table: Table,
    alternate: u64,
    backup: bool,
}

impl Copy {
    fn same_as(&self, other: &Copy) -> bool {
        self.table.entries == other.table.entries && self.table.guid == other.table.guid
    }

    fn found(mut self, sectors: u64, mut damage: Vec<Damage>) -> Found {
        if self.backup {
            // Where the primary array was is in the header that is lost.
            self.table.array = Sectors(2);
        }
        if self.table.disk.0 < sectors {
            damage.push(Damage::DiskGrown);
        }
        Found { table: self.table, disk: Sectors(sectors), damage }
    }
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(b[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().expect("eight bytes"))
}

fn guid_at(b: &[u8], at: usize) -> Guid {
    Guid::from_gpt(b[at..at + 16].try_into().expect("sixteen bytes"))
}

/// Reads the header in sector `lba` and its array. `sectors` is the whole disk.
fn read_copy(
    disk: &mut (impl Read + Seek + ?Sized),
    sectors: u64,
    size: SectorSize,
    lba: u64,
) -> Result<Copy, ReadError> {
    if lba == 0 || lba >= sectors {
        return Err(ReadError::None);
    }
    let header = read_at(disk, lba * size.get(), size.bytes())?;
    if &header[..8] != SIGNATURE {
        return Err(ReadError::None);
    }
    check_header(&header, lba, sectors)?;
    let (slots, slot_size) = (u32_at(&header, 80), u32_at(&header, 84));
    let array = u64_at(&header, 72);
    let length = u64::from(slots) * u64::from(slot_size);
    let end = array.checked_mul(size.get()).and_then(|at| at.checked_add(length));
    if array < 2 || end.is_none_or(|end| end > sectors * size.get()) {
        return Err(ReadError::Damaged("the entries lie outside of the disk"));
    }
    let entries = read_at(disk, array * size.get(), length as usize)?;
    if crc32fast::hash(&entries) != u32_at(&header, 88) {
        return Err(ReadError::Damaged("the entries have a wrong checksum"));
    }
    let alternate = u64_at(&header, 32);
    let table = Table {
        sector_size: size,
        disk: Sectors(alternate.max(lba) + 1),
        guid: guid_at(&header, 56),
        first_usable: Sectors(u64_at(&header, 40)),
        last_usable: Sectors(u64_at(&header, 48)),
        array: Sectors(array),
        slots,
        slot_size,
        entries: parse_entries(&entries, slot_size as usize),
    };
    Ok(Copy { table, alternate, backup: lba != 1 })
}

fn check_header(header: &[u8], lba: u64, sectors: u64) -> Result<(), ReadError> {
    let damaged = |why| Err(ReadError::Damaged(why));
    let length = u32_at(header, 12);
    if length < HEADER_SIZE || length as usize > header.len() {
        return damaged("a header has an impossible size");
    }
    let mut summed = header[..length as usize].to_vec();
    summed[16..20].fill(0);
    if crc32fast::hash(&summed) != u32_at(header, 16) {
        return damaged("a header has a wrong checksum");
    }
    if u32_at(header, 8) != REVISION {
        return damaged("its revision is not 1.0");
    }
    if u64_at(header, 24) != lba {
        return damaged("a header says that it belongs elsewhere");
    }
    let (first, last) = (u64_at(header, 40), u64_at(header, 48));
    if first > last || last >= sectors || u64_at(header, 32) >= sectors {
        return damaged("its usable area does not fit the disk");
    }
    if lba == 1 && u64_at(header, 32) <= last {
        return damaged("its backup lies inside of the usable area");
    }
    let (slots, slot_size) = (u32_at(header, 80), u32_at(header, 84));
    let power = slot_size >= SLOT_SIZE && slot_size.is_power_of_two() && slot_size <= 4096;
    if !power || slots == 0 || u64::from(slots) * u64::from(slot_size) > MAX_ARRAY {
        return damaged("it has entries of an impossible number or size");
    }
    Ok(())
}

fn parse_entries(array: &[u8], slot_size: usize) -> BTreeMap<u32, Entry> {
    let mut entries = BTreeMap::new();
    for (slot, raw) in (0u32..).zip(array.chunks_exact(slot_size)) {
        let kind = guid_at(raw, 0);
        if kind.is_nil() {
            continue;
        }
        let name = raw[56..56 + 2 * NAME_UNITS].chunks_exact(2);
        let entry = Entry {
            kind: TypeGuid(kind),
            guid: guid_at(raw, 16),
            first: Sectors(u64_at(raw, 32)),
            last: Sectors(u64_at(raw, 40)),
            attributes: u64_at(raw, 48),
            name: Name::from_units(name.map(|u| u16::from_le_bytes([u[0], u[1]])).collect()),
            rest: raw[SLOT_SIZE as usize..].to_vec(),
        };
        entries.insert(slot, entry);
    }
    entries
}
