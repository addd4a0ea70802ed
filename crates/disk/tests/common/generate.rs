//! Makes cases from numbers: the same number, the same case, on every machine.

use std::collections::BTreeMap;

use disk::gpt::{Entry, Name, Table};
use disk::{Architecture, Guid, SectorSize, Sectors, TypeGuid};

use super::{Case, Initial, Run, State};

/// SplitMix64: small, well known, and nobody else's version can change it.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn uuid(&mut self) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())
    }
}

const TYPES: [&str; 24] = [
    "root",
    "root",
    "usr",
    "home",
    "srv",
    "var",
    "tmp",
    "esp",
    "xbootldr",
    "swap",
    "linux-generic",
    "user-home",
    "root-secondary",
    "root-x86_64",
    "root-verity",
    "usr-verity",
    "root-verity-sig",
    "usr-arm64",
    "root-riscv64",
    "home",
    "linux-generic",
    "root",
    "swap",
    "0fc63daf-8483-4772-8e79-3d69d8477de5",
];
const SIZES: [&str; 16] = [
    "0", "1", "4096", "5000", "100K", "1M", "3M", "10M", "12345678", "20M", "33M", "64M", "100M",
    "1.5G", "4G", "40G",
];
const DISKS: [u64; 14] = [
    1 << 20,
    2 << 20,
    4 << 20,
    5 << 20,
    12 << 20,
    32 << 20,
    50_000_000,
    64 << 20,
    100 << 20,
    256 << 20,
    1 << 30,
    5_000_000_001,
    100 << 30,
    2 << 40,
];

pub fn case(id: u64) -> Case {
    let r = &mut Random::new(id.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let sector = r.of(&[512, 512, 512, 512, 1024, 2048, 4096]);
    let mut definitions = definitions(r, 0, false);
    let at = r.below(DISKS.len() as u64) as usize;
    let mut size = DISKS[at];
    let auto = r.chance(20);
    let seed = r.uuid();
    let dry = false;
    let first = Run {
        definitions: definitions.clone(),
        size: if auto { "auto".into() } else { size.to_string() },
        sector,
        seed: seed.clone(),
        dry,
        options: vec![],
    };
    let mut runs = vec![first];
    for _ in 0..r.below(3) {
        if r.chance(70) {
            definitions.extend(self::definitions(r, runs.len() as u64 * 10, false));
            definitions.sort();
            definitions.dedup_by(|a, b| a.0 == b.0);
        }
        if r.chance(30) && !definitions.is_empty() {
            let at = r.below(definitions.len() as u64) as usize;
            definitions.remove(at);
        }
        size = size.max(r.of(&DISKS)).saturating_mul(if r.chance(30) { 2 } else { 1 });
        let seed = if r.chance(80) { seed.clone() } else { r.uuid() };
        let size = if r.chance(10) { "auto".into() } else { size.to_string() };
        let definitions = definitions.clone();
        runs.push(Run { definitions, size, sector, seed, dry, options: vec![] });
    }
    Case { id, disk: None, runs }
}

/// A disk that somebody else made, and one or two runs on it.
pub fn existing(id: u64) -> Case {
    let r = &mut Random::new(id.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(77));
    let sector = r.of(&[512, 512, 512, 1024, 2048, 4096]);
    let size = r.of(&DISKS[2..]);
    let state = match r.below(20) {
        0 => State::NoPrimary,
        1 => State::NoBackup,
        2 => State::NoneOfBoth,
        3 => State::Mbr,
        4 => State::Blank,
        _ => State::Whole,
    };
    let table = table(r, size, sector);
    let disk = Initial { size: size / u64::from(sector) * u64::from(sector), sector, state, table };
    let mut runs = Vec::new();
    let mut size = size;
    for _ in 0..1 + r.below(2) {
        let definitions = definitions(r, runs.len() as u64 * 10, true);
        if r.chance(40) {
            size = size.max(r.of(&DISKS)).saturating_mul(if r.chance(30) { 2 } else { 1 });
        }
        let size = if r.chance(10) { "auto".into() } else { size.to_string() };
        let run = Run {
            definitions,
            size: if r.chance(40) { String::new() } else { size },
            // Only sectors of this size are found without being told.
            sector: if sector == 512 && r.chance(50) { 0 } else { sector },
            seed: r.uuid(),
            dry: false,
            options: options(r),
        };
        runs.push(run);
    }
    Case { id, disk: Some(disk), runs }
}

fn options(r: &mut Random) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut put = |name: &str, value: &str| all.push((name.to_owned(), value.to_owned()));
    if r.chance(30) {
        put("empty", r.of(&["refuse", "allow", "allow", "require", "force"]));
    }
    if r.chance(15) {
        put("architecture", r.of(&["arm64", "x86-64", "riscv64"]));
    }
    match r.below(8) {
        0 => put(
            "include-partitions",
            r.of(&["root,home", "swap", "esp,xbootldr,root,usr,linux-generic"]),
        ),
        1 => put("exclude-partitions", r.of(&["root", "home,linux-generic", "root-x86-64,swap"])),
        _ => {}
    }
    if r.chance(15) {
        put("defer-partitions", r.of(&["root", "home,var", "swap,linux-generic,root-arm64"]));
    }
    if r.chance(12) && !all.iter().any(|(name, _)| name == "empty") {
        all.push(("factory-reset".into(), "yes".into()));
    }
    all
}

/// A table with gaps and partitions that nobody here knows.
fn table(r: &mut Random, size: u64, sector: u32) -> Table {
    let sectors = Sectors(size / u64::from(sector));
    let guid = |r: &mut Random| r.uuid().parse::<Guid>().unwrap();
    let mut table = Table::new(guid(r), sectors, SectorSize::new(sector).unwrap()).unwrap();
    let (mut at, end) = (table.first_usable.0, table.last_usable.0);
    let count = r.of(&[0, 1, 2, 3, 4, 6]);
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        // Mostly aligned, now and then not.
        let unit = if r.chance(85) { (1u64 << 20) / u64::from(sector) } else { 1 };
        let room = (end + 1).saturating_sub(at);
        at += if r.chance(40) { r.below(room / 4 + 1) / unit * unit } else { 0 };
        let room = (end + 1).saturating_sub(at);
        let len = (1 + r.below(room / 2 + 1)).next_multiple_of(unit);
        if at + len > end + 1 {
            break;
        }
        let slots = if r.chance(80) { 6 } else { 128 };
        let slot = r.below(slots) as u32;
        let kind = match r.chance(75) {
            true => TypeGuid::parse(r.of(&TYPES), Architecture::X8664).unwrap(),
            false => TypeGuid(guid(r)),
        };
        let entry = Entry {
            kind,
            guid: if r.chance(95) { guid(r) } else { Guid::NIL },
            first: Sectors(at),
            last: Sectors(at + len - 1),
            attributes: r.of(&[0, 0, 1 << 60, 1 << 63, 0x8001_0000_0000_0005]),
            name: Name::new(r.of(&["", "old", "Ünicode ✓", "root-x86-64", "home"])).unwrap(),
            rest: vec![],
        };
        at += len;
        entries.insert(slot, entry);
    }
    table.entries = entries;
    table
}

fn definitions(r: &mut Random, base: u64, resets: bool) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let count = r.of(&[0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 8]);
    for i in 0..count {
        let name = format!("{:02}-p.conf", (base + i) % 100);
        let (text, rest) = definition(r, &all, resets);
        if r.chance(8) {
            all.push((format!("{name}.d/10-more.conf"), format!("[Partition]\n{rest}")));
            all.push((name, text));
        } else {
            all.push((name, format!("{text}{rest}")));
        }
    }
    all
}

/// A definition, in two parts that make one.
fn definition(r: &mut Random, before: &[(String, String)], resets: bool) -> (String, String) {
    let kind = r.of(&TYPES);
    let text = format!("[Partition]\nType={kind}\n");
    let mut rest = String::new();
    let mut put = |key: &str, value: String| rest += &format!("{key}={value}\n");
    if r.chance(60) {
        put("SizeMinBytes", r.of(&SIZES).into());
    }
    if r.chance(40) {
        put("SizeMaxBytes", r.of(&SIZES).into());
    }
    if r.chance(35) {
        put("Weight", r.of(&["0", "1", "250", "333", "1000", "3000", "1000000"]).into());
    }
    if r.chance(15) {
        put("PaddingWeight", r.of(&["0", "100", "1000", "7"]).into());
    }
    if r.chance(12) {
        put("PaddingMinBytes", r.of(&SIZES[..10]).into());
    }
    if r.chance(12) {
        put("PaddingMaxBytes", r.of(&SIZES).into());
    }
    if r.chance(25) {
        put("Priority", r.of(&["-5", "0", "1", "1", "2", "100"]).into());
    }
    if r.chance(25) {
        put("Label", r.of(&["data", "Ünicode ✓", "a \"quoted\" $x", "%a-x", "%%"]).into());
    }
    if r.chance(6) {
        let uuid = r.uuid();
        put("UUID", r.of(&["null", "", uuid.as_str()]).into());
    }
    if r.chance(10) {
        put(
            "Flags",
            r.of(&["0x8000000000000004", "1", "7", "0b101", "4611686018427387904"]).into(),
        );
    }
    for key in ["NoAuto", "ReadOnly", "GrowFileSystem"] {
        if r.chance(12) {
            put(key, r.of(&["yes", "no", "", "maybe", "on"]).into());
        }
    }
    if kind == "swap" && r.chance(90) {
        // mkswap refuses less.
        put("SizeMinBytes", "64K".into());
    }
    if resets && r.chance(20) {
        put("FactoryReset", "yes".into());
    }
    if r.chance(3) {
        put("Nonsense", "1".into());
    }
    let main = before.iter().map(|(name, _)| name).find(|name| !name.contains('/'));
    if let (true, Some(main)) = (r.chance(8), main) {
        put("SupplementFor", main.trim_end_matches(".conf").into());
    }
    (text, rest)
}

/// Lines with good and bad values of nearly every setting.
const LINES: &[&str] = &[
    "Type=home",
    "Type=usr",
    "Type=esp",
    "Type=swap",
    "Type=nonsense",
    "Type=",
    "Type=root-verity",
    "Type=4f68bce3e8cd4db196e7fbcaf984b709",
    "Type=root-amd64",
    "Type=linux-generic",
    "Label=x",
    "Label=",
    "Label=%a",
    "Label=%Z%%",
    "Label=aaaaaaaaaabbbbbbbbbbccccccccccdddddd",
    "Label=aaaaaaaaaabbbbbbbbbbccccccccccddddddd",
    "Label=with space",
    "VolumeLabel=v",
    "UUID=",
    "UUID=nil",
    "UUID=null",
    "UUID=0123456789abcdef0123456789abcdef",
    "UUID=01234567-89ab-cdef-0123-456789abcdef",
    "UUID=0123456789abcdef0123456789abcde",
    "Priority=1",
    "Priority=x",
    "Priority=4294967296",
    "Priority=",
    "Weight=0",
    "Weight=-1",
    "Weight=1000001",
    "Weight=1000000",
    "Weight=",
    "PaddingWeight=12",
    "PaddingWeight=x",
    "SizeMinBytes=12M",
    "SizeMinBytes=1.5M",
    "SizeMinBytes=",
    "SizeMinBytes=12Q",
    "SizeMinBytes=1G 1M",
    "SizeMinBytes=-1",
    "SizeMinBytes=0",
    "SizeMinBytes= 64 M",
    "SizeMaxBytes=20M",
    "SizeMaxBytes=1K",
    "SizeMaxBytes=x",
    "SizeMaxBytes=0",
    "PaddingMinBytes=1M",
    "PaddingMinBytes=y",
    "PaddingMaxBytes=2M",
    "PaddingMaxBytes=0",
    "FactoryReset=no",
    "FactoryReset=maybe",
    "FactoryReset=",
    "Format=ext4",
    "Format=vfat",
    "Format=swap",
    "Format=",
    "Format=a/b",
    "Format=.",
    "CopyFiles=/nothing",
    "CopyFiles=/nothing:/there",
    "CopyFiles=rel",
    "CopyFiles=/a:rel",
    "CopyFiles=",
    "CopyFiles=/a:/b:fsverity=off",
    "CopyFiles=/a:/b:x:y",
    "CopyFiles=/a/../b",
    "CopyFiles=/a\\x41:/b",
    "CopyFiles=/a\\qb",
    "ExcludeFiles=/a /b",
    "ExcludeFiles=rel",
    "ExcludeFiles=",
    "ExcludeFiles='/a",
    "ExcludeFilesTarget=/x/",
    "ExcludeFilesTarget=y",
    "MakeDirectories=/a /b/c",
    "MakeDirectories=a",
    "MakeDirectories=",
    "MakeDirectories=\"/a b\"",
    "MakeSymlinks=/a:b",
    "MakeSymlinks=/a",
    "MakeSymlinks=a:b",
    "MakeSymlinks=/a:b:c",
    "MakeSymlinks=",
    "Subvolumes=/a",
    "Subvolumes=",
    "DefaultSubvolume=/a",
    "DefaultSubvolume=/b",
    "DefaultSubvolume=",
    "Encrypt=off",
    "Encrypt=no",
    "Encrypt=what",
    "Encrypt=",
    "Verity=off",
    "Verity=what",
    "Verity=data",
    "VerityMatchKey=k",
    "Verity=signature",
    "VerityMatchKey=",
    "VerityDataBlockSizeBytes=4096",
    "VerityDataBlockSizeBytes=100",
    "VerityHashBlockSizeBytes=8192",
    "VerityHashBlockSizeBytes=512",
    "Flags=0x4000000000000000",
    "Flags=x",
    "Flags=",
    "Flags=-1",
    "Flags=18446744073709551616",
    "NoAuto=yes",
    "NoAuto=",
    "NoAuto=x",
    "ReadOnly=yes",
    "ReadOnly=no",
    "GrowFileSystem=off",
    "GrowFileSystem=y",
    "SplitName=-",
    "SplitName=%t.%U",
    "SplitName=",
    "Minimize=best",
    "Minimize=off",
    "Minimize=no",
    "Minimize=nonsense",
    "MountPoint=/x",
    "MountPoint=x",
    "MountPoint=/x:ro:y",
    "MountPoint=",
    "EncryptedVolume=a:b:c",
    "EncryptedVolume=a/b",
    "EncryptedVolume=",
    "Compression=zstd",
    "CompressionLevel=3",
    "SupplementFor=nobody",
    "SupplementFor=a/b",
    "SupplementFor=",
    "AddValidateFS=yes",
    "AddValidateFS=no",
    "AddValidateFS=x",
    "Integrity=inline",
    "IntegrityAlgorithm=hmac-sha512",
    "Discard=yes",
    "EncryptKDF=minimal",
    "VolumeName=x",
    "FileSystemSectorSize=512",
    "FileSystemSectorSize=1000",
    "FileSystemSectorSize=",
    "[Other]",
    "[Partition]",
    "[Broken",
    "junk",
    "=x",
    "# comment",
    "; comment",
    "weight=3",
    "Label=a\\\n b",
];

/// One or two definitions of odd lines, planned only.
pub fn odd(id: u64) -> Case {
    let r = &mut Random::new(id.wrapping_mul(0x9e6c_63d0_876a_3f6b));
    let mut definitions = Vec::new();
    for i in 0..1 + r.below(2) {
        let mut text = format!("[Partition]\nType={}\n", r.of(&["home", "root", "esp", "var"]));
        for _ in 0..1 + r.below(4) {
            text += &format!("{}\n", r.of(LINES).replace("\\n", "\n"));
        }
        definitions.push((format!("{i}0-odd.conf"), text));
    }
    let seed = r.uuid();
    let size = (1u64 << 30).to_string();
    let run = Run { definitions, size, sector: 512, seed, dry: true, options: vec![] };
    Case { id, disk: None, runs: vec![run] }
}
