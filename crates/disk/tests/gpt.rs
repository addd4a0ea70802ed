//! Tables on disks: damage, hostility, the order of the writes.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use disk::gpt::{self, Damage, Disk, Entry, Name, Problem, ReadError, Table, WriteError, dump};
use disk::{Architecture, Guid, SectorSize, Sectors, TypeGuid};

const SECTORS: u64 = 8192;

fn table() -> Table {
    let guid = "1d2ce291-7cce-4f7d-bc83-fdb49ad74ebd".parse().unwrap();
    let mut table = Table::new(guid, Sectors(SECTORS), SectorSize::S512).unwrap();
    for (slot, first, last, name) in [(0, 40, 2047, "a"), (5, 2048, 8000, "b")] {
        let entry = Entry {
            kind: TypeGuid::parse("home", Architecture::X8664).unwrap(),
            guid: Guid::from_bytes([slot as u8 + 1; 16]),
            first: Sectors(first),
            last: Sectors(last),
            attributes: 1 << 59,
            name: Name::new(name).unwrap(),
            rest: Vec::new(),
        };
        table.entries.insert(slot, entry);
    }
    table
}

fn disk() -> Cursor<Vec<u8>> {
    let mut disk = Cursor::new(vec![0; (SECTORS * 512) as usize]);
    gpt::write(&mut disk, &table()).unwrap();
    disk
}

#[test]
fn what_is_written_is_read_back() {
    for size in SectorSize::ALL {
        let mut table = Table::new(Guid::NIL, Sectors(SECTORS), size).unwrap();
        table.guid = "1d2ce291-7cce-4f7d-bc83-fdb49ad74ebd".parse().unwrap();
        let mut disk = Cursor::new(vec![0; (SECTORS * size.get()) as usize]);
        gpt::write(&mut disk, &table).unwrap();
        let found = gpt::read(&mut disk, None).unwrap();
        assert_eq!((found.table, found.damage), (table, vec![]), "sectors of {}", size.get());
    }
}

#[test]
fn either_copy_is_enough() {
    let sectors = 512..(SECTORS as usize * 512);
    for broken in [512, 600, 1024, 1030] {
        let mut disk = disk();
        disk.get_mut()[broken] ^= 1;
        let found = gpt::read(&mut disk, None).unwrap();
        assert_eq!((&found.table, &found.damage[..]), (&table(), &[Damage::Primary][..]));
        gpt::write(&mut disk, &found.table).unwrap();
        assert_eq!(gpt::read(&mut disk, None).unwrap().damage, [], "writing repairs it");
    }
    for broken in [sectors.end - 512, sectors.end - 33 * 512] {
        let mut disk = disk();
        disk.get_mut()[broken] ^= 1;
        let found = gpt::read(&mut disk, None).unwrap();
        assert_eq!((&found.table, &found.damage[..]), (&table(), &[Damage::Backup][..]));
    }
    let mut disk = disk();
    disk.get_mut()[600] ^= 1;
    disk.get_mut()[sectors.end - 500] ^= 1;
    assert!(matches!(gpt::read(&mut disk, None), Err(ReadError::Damaged(_))));
}

#[test]
fn a_larger_disk_is_noticed_and_taken_in() {
    let mut disk = disk();
    disk.get_mut().resize((2 * SECTORS * 512) as usize, 0);
    let found = gpt::read(&mut disk, None).unwrap();
    assert_eq!(found.damage, [Damage::DiskGrown]);
    let mut table = found.table;
    table.fit_to(found.disk).unwrap();
    assert_eq!(table.last_usable, Sectors(2 * SECTORS - 34));
    gpt::write(&mut disk, &table).unwrap();
    assert_eq!(gpt::read(&mut disk, None).unwrap().damage, []);
}

#[test]
fn other_systems_partitions_are_not_touched() {
    let mut mbr_only = disk();
    mbr_only.get_mut()[446 + 4] = 0x83;
    assert!(matches!(gpt::read(&mut mbr_only, None), Err(ReadError::None)));
    let mut hybrid = disk();
    hybrid.get_mut()[462 + 4] = 0x07;
    let found = gpt::read(&mut hybrid, None).unwrap();
    assert_eq!(found.damage, [Damage::HybridMbr]);
    assert!(matches!(gpt::write(&mut hybrid, &found.table), Err(WriteError::HybridMbr)));
}

#[test]
fn boot_code_survives() {
    let mut disk = disk();
    disk.get_mut()[..440].fill(0x90);
    gpt::write(&mut disk, &table()).unwrap();
    assert!(disk.get_ref()[..440].iter().all(|b| *b == 0x90));
}

#[test]
fn unsound_tables_are_named_and_not_written() {
    let change = |f: fn(&mut Table)| {
        let mut table = table();
        f(&mut table);
        table.problems()
    };
    let overlap = change(|t| t.entries.get_mut(&0).unwrap().last = Sectors(2048));
    assert_eq!(overlap, [Problem::Overlap(0, 5)]);
    let outside = change(|t| t.entries.get_mut(&5).unwrap().last = Sectors(SECTORS - 1));
    assert_eq!(outside, [Problem::Outside(5)]);
    let reversed = change(|t| t.entries.get_mut(&5).unwrap().last = Sectors(2047));
    assert_eq!(reversed, [Problem::Outside(5)]);
    let table_inside = change(|t| t.first_usable = Sectors(3));
    assert_eq!(table_inside, [Problem::Usable]);
    let mut bad = table();
    bad.entries.get_mut(&0).unwrap().last = Sectors(2048);
    assert!(matches!(gpt::write(&mut disk(), &bad), Err(WriteError::Unsound(_))));
}

#[test]
fn every_damaged_byte_of_the_header_is_survived() {
    let mut table = Table::new(Guid::from_bytes([9; 16]), Sectors(80), SectorSize::S512).unwrap();
    let mut entry = self::table().entries[&0].clone();
    (entry.first, entry.last) = (Sectors(40), Sectors(41));
    table.entries.insert(3, entry);
    let mut small = Cursor::new(vec![0; 80 * 512]);
    gpt::write(&mut small, &table).unwrap();
    let whole = small.into_inner();
    for at in (446..1024).chain(whole.len() - 512..whole.len()) {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            disk::fuzzing::fuzz_gpt(&bytes);
        }
    }
    for length in 0..whole.len() / 64 {
        disk::fuzzing::fuzz_gpt(&whole[..length * 64]);
    }
}

/// Makes headers with right checksums and wrong numbers.
#[test]
fn impossible_numbers_in_a_valid_header_are_refused() {
    let fields = [12, 24, 32, 40, 48, 72, 80, 84];
    for field in fields {
        for value in [0u64, 1, 3, 127, 1 << 20, 1 << 31, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = disk().into_inner();
            bytes[512 + field..512 + field + 4].copy_from_slice(&value.to_le_bytes()[..4]);
            if !matches!(field, 12 | 80 | 84) {
                bytes[516 + field..520 + field].copy_from_slice(&value.to_le_bytes()[4..]);
            }
            bytes[512 + 16..512 + 20].fill(0);
            let sum = crc32fast::hash(&bytes[512..604]);
            bytes[528..532].copy_from_slice(&sum.to_le_bytes());
            disk::fuzzing::fuzz_gpt(&bytes);
            let found = gpt::read(&mut Cursor::new(bytes), None).unwrap();
            let same = found.table.entries == table().entries;
            assert!(same, "field {field} = {value}: the backup has the table");
        }
    }
}

/// A disk that notes what is written where, and between which syncs.
struct Noting {
    inner: Cursor<Vec<u8>>,
    log: Vec<String>,
}

impl Read for Noting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

impl Write for Noting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.log.push(format!("{}+{}", self.inner.position() / 512, bytes.len() / 512));
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Noting {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

impl Disk for Noting {
    fn sync(&mut self) -> io::Result<()> {
        self.log.push("sync".into());
        Ok(())
    }
}

#[test]
fn the_backup_is_safe_before_the_primary_is_touched() {
    let mut disk = Noting { inner: disk(), log: Vec::new() };
    gpt::write(&mut disk, &table()).unwrap();
    let order = ["8159+32", "8191+1", "sync", "2+32", "1+1", "sync", "0+1", "sync"];
    assert_eq!(disk.log, order);
}

#[test]
fn names_keep_what_nobody_shows() {
    assert!(Name::new(&"x".repeat(37)).is_none());
    assert!(Name::new(&"😀".repeat(19)).is_none(), "38 UTF-16 units");
    assert!(Name::new("a\0b").is_none());
    assert_eq!(Name::new(&"😀".repeat(18)).unwrap().to_string(), "😀".repeat(18));
    let mut disk = disk();
    let array = 2 * 512;
    disk.get_mut()[array + 56..array + 64].copy_from_slice(&[b'x', 0, 0, 0, b'y', 0, 0, 0]);
    let entries = disk.get_ref()[array..array + 16384].to_vec();
    let sum = crc32fast::hash(&entries).to_le_bytes();
    disk.get_mut()[512 + 88..512 + 92].copy_from_slice(&sum);
    disk.get_mut()[512 + 16..512 + 20].fill(0);
    let sum = crc32fast::hash(&disk.get_ref()[512..604]).to_le_bytes();
    disk.get_mut()[528..532].copy_from_slice(&sum);
    let found = gpt::read(&mut disk, None).unwrap();
    assert_eq!(found.table.entries[&0].name.to_string(), "x");
    gpt::write(&mut disk, &found.table).unwrap();
    assert_eq!(disk.get_ref()[array..array + 16384], entries);
}

#[test]
fn nodes_are_named_as_libfdisk_names_them() {
    let cases = [("img.raw", "img.raw1"), ("/dev/nvme0n1", "/dev/nvme0n1p1"), ("x9", "x9p1")];
    for (device, node) in cases {
        assert_eq!(dump::node(device, 0), node);
    }
}
