//! One run on an image file: what it is allowed to touch, what it repairs, what it keeps.
//! The decisions about sizes and places are compared with the original's elsewhere.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use disk::definition::{Definition, Facts, Source, Wanted, load};
use disk::execute::{FillError, PartitionFiller};
use disk::gpt::{self, Entry, Name, Table};
use disk::plan::{Identity, PlanError, PlannedPartition, Size};
use disk::repart::{Empty, Inputs, RepartError, Settings, Start};
use disk::{Architecture, Bytes, Compat, Guid, SectorSize, Sectors, TypeGuid};
use tree::{Content, Meta, Tree, TreePath};

const MIB: u64 = 1 << 20;

struct Filler;

impl PartitionFiller for Filler {
    fn fill(
        &self,
        partition: &PlannedPartition,
        _: &Definition,
        _: Option<&Tree>,
        out: &mut File,
        offset: u64,
        size: u64,
    ) -> Result<(), FillError> {
        let mut before = vec![0; size as usize];
        out.read_exact_at(&mut before, offset)?;
        assert!(before.iter().all(|b| *b == 0), "a writer gets zeroes");
        Ok(out.write_all_at(partition.label.as_bytes(), offset)?)
    }

    fn measure(&self, _: &Definition, _: &Identity, _: &Tree) -> Result<u64, FillError> {
        Err("nothing is measured here".into())
    }
}

fn kind(name: &str) -> TypeGuid {
    TypeGuid::parse(name, Architecture::X8664).unwrap()
}

fn settings(empty: Empty) -> Settings {
    Settings {
        empty,
        size: Size::Keep,
        seed: "750b6cd5-c4ae-4012-a15e-7be3c29e6a47".parse().unwrap(),
        sector_size: None,
        grain: None,
        discard: true,
        defer: Default::default(),
        epoch: Some(0),
        device: "image.raw".into(),
        block_device: false,
        copy_on_write: true,
        compat: Compat::default(),
    }
}

fn definitions_of(texts: &[&str], facts: &Facts) -> Vec<Definition> {
    let named: Vec<(String, String)> = (10..)
        .zip(texts)
        .map(|(i, t)| (format!("{i}-p.conf"), format!("[Partition]\n{t}\n")))
        .collect();
    load(Source::Texts(&named), facts, Compat::default()).unwrap().definitions
}

fn definitions(texts: &[&str]) -> Vec<Definition> {
    definitions_of(texts, &Facts::new(Architecture::X8664))
}

/// One run; what is read of the table afterwards.
fn run(
    file: &mut File,
    definitions: &[Definition],
    settings: &Settings,
    reset: bool,
) -> Result<gpt::Found, RepartError> {
    let mut source = Tree::new();
    let blocks = Content::inline(vec![7u8; 4096]);
    source.add_file(TreePath::literal("blocks"), Meta::file(0o644), blocks).unwrap();
    let inputs =
        Inputs { definitions, source: &source, filler: &Filler, reporter: &report::Silent };
    let mut start = Start::new(file, Path::new("image.raw"), settings)?;
    if reset {
        start.factory_reset(file, definitions)?;
    }
    let planned = start.plan(&inputs, settings)?;
    start.carry_out(file, &planned, &inputs, settings)?;
    Ok(gpt::read(file, None).unwrap())
}

fn blank(size: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(size).unwrap();
    file
}

/// A disk of 12 MiB, every byte of which is 0xee where no table is, with a partition of a
/// type that nobody knows and a home.
fn used() -> File {
    used_of(12)
}

fn used_of(mib: u64) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all_at(&vec![0xee; (mib * MIB) as usize], 0).unwrap();
    file.write_all_at(&[0; 512], 0).unwrap();
    let guid = |n: u8| Guid::from_bytes([n; 16]);
    let mut table = Table::new(guid(1), Sectors(mib * 2048), SectorSize::S512).unwrap();
    // Space below 1 MiB is what boards have their firmware in.
    table.first_usable = Sectors(34);
    for (slot, kind, first) in [(3, TypeGuid(guid(9)), 4096), (5, kind("home"), 8192)] {
        let entry = Entry {
            kind,
            guid: guid(slot),
            first: Sectors(first),
            last: Sectors(first + 2047),
            attributes: 0x8001_0000_0000_0005,
            name: Name::new("kept").unwrap(),
            rest: vec![],
        };
        table.entries.insert(u32::from(slot), entry);
    }
    gpt::write(&mut file, &table).unwrap();
    file
}

fn bytes(file: &File) -> Vec<u8> {
    let mut all = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut all, 0).unwrap();
    all
}

const HOME: &str = "Type=home\nSizeMinBytes=1M\nSizeMaxBytes=1M";
const VAR: &str = "Type=var\nSizeMinBytes=2M\nSizeMaxBytes=2M";

#[test]
fn the_policy_decides_about_disks_with_and_without_tables() {
    let mbr = || {
        let file = blank(32 * MIB);
        file.write_all_at(&[0x55, 0xaa], 510).unwrap();
        file
    };
    let broken = || {
        let file = used();
        file.write_all_at(&[1; 16], 512).unwrap();
        file.write_all_at(&[1; 16], 12 * MIB - 512).unwrap();
        file
    };
    let refuse = [Empty::Refuse, Empty::Allow, Empty::Require];
    let all = [Empty::Refuse, Empty::Allow, Empty::Require, Empty::Force];
    // For each kind of disk: which policies leave it alone, and how many partitions there
    // are where it is not.
    type Case<'a> = (&'a str, &'a dyn Fn() -> File, &'a [Empty], [usize; 4]);
    let cases: [Case<'_>; 4] = [
        ("blank", &|| blank(32 * MIB), &refuse[..1], [0, 1, 1, 1]),
        ("table", &used, &refuse[2..], [3, 3, 0, 1]),
        ("mbr", &mbr, &refuse, [0, 0, 0, 1]),
        ("broken", &broken, &refuse, [0, 0, 0, 1]),
    ];
    let definitions = definitions(&[VAR]);
    for (name, make, left_alone, partitions) in cases {
        for (empty, partitions) in all.into_iter().zip(partitions) {
            let mut file = make();
            let before = bytes(&file);
            match run(&mut file, &definitions, &settings(empty), false) {
                Ok(found) => {
                    assert!(!left_alone.contains(&empty), "{name} {empty:?}");
                    assert_eq!(found.table.entries.len(), partitions, "{name} {empty:?}");
                }
                Err(RepartError::NotAllowed { .. } | RepartError::Damaged { .. }) => {
                    assert!(left_alone.contains(&empty), "{name} {empty:?}");
                    assert!(before == bytes(&file), "{name} {empty:?}: nothing is written");
                }
                Err(e) => panic!("{name} {empty:?}: {e}"),
            }
        }
    }
}

#[test]
fn nothing_but_new_partitions_and_the_table_is_written() {
    let mut file = used();
    let before = bytes(&file);
    let definitions = definitions(&[
        HOME,
        "Type=swap\nSizeMinBytes=1M\nSizeMaxBytes=1M",
        VAR,
        "Type=srv\nCopyBlocks=/blocks\nSizeMaxBytes=1M\nSizeMinBytes=1M",
    ]);
    let found = run(&mut file, &definitions, &settings(Empty::Refuse), false).unwrap();
    let after = bytes(&file);
    let new: Vec<_> =
        found.table.entries.iter().filter(|(slot, _)| ![3, 5].contains(*slot)).collect();
    assert_eq!(new.iter().map(|(slot, _)| **slot).collect::<Vec<_>>(), [0, 1, 2]);
    let range = |e: &Entry| e.first.0 as usize * 512..(e.last.0 as usize + 1) * 512;
    let mut ours = before.clone();
    for (_, entry) in &new {
        ours[range(entry)].copy_from_slice(&after[range(entry)]);
    }
    // Neither the firmware below 1 MiB nor the gaps between partitions are touched.
    let tables = (34 * 512, before.len() - 33 * 512);
    assert!(ours[tables.0..tables.1] == after[tables.0..tables.1], "everything else is as it was");
    let by_kind = |name| new.iter().find(|(_, e)| e.kind == kind(name)).unwrap().1;
    assert_eq!(&after[range(by_kind("swap"))][..5], b"swap\0", "made, after it was cleared");
    assert!(after[range(by_kind("var"))].iter().all(|b| *b == 0), "cleared");
    let srv = &after[range(by_kind("srv"))];
    assert!(srv[..4096].iter().all(|b| *b == 7) && srv[4096..].iter().all(|b| *b == 0));
    let kept = &found.table.entries[&3];
    assert_eq!((kept.attributes, kept.name.to_string()), (0x8001_0000_0000_0005, "kept".into()));
    let again = run(&mut file, &definitions, &settings(Empty::Refuse), false).unwrap();
    assert_eq!(again.table, found.table);
    assert!(bytes(&file) == after, "the second run changes nothing");
}

#[test]
fn without_discard_only_marks_are_cleared_where_nothing_is_made() {
    let mut file = used_of(32);
    let before = bytes(&file);
    let settings = Settings { discard: false, ..settings(Empty::Refuse) };
    let definitions = definitions(&[HOME, "Type=var\nSizeMinBytes=20M\nSizeMaxBytes=20M"]);
    let found = run(&mut file, &definitions, &settings, false).unwrap();
    let after = bytes(&file);
    let var = found.table.entries.values().find(|e| e.kind == kind("var")).unwrap();
    let (at, mib) = (var.first.0 as usize * 512, MIB as usize);
    let cleared = |range: std::ops::Range<usize>| after[range].iter().all(|b| *b == 0);
    assert!(cleared(at..at + 8 * mib) && cleared(at + 19 * mib..at + 20 * mib));
    let middle = at + 8 * mib..at + 19 * mib;
    assert!(after[middle.clone()] == before[middle]);
}

#[test]
fn a_broken_copy_of_the_table_is_repaired_though_nothing_else_changes() {
    for broken in [512, 12 * MIB - 512] {
        let mut file = used();
        let whole = bytes(&file);
        file.write_all_at(&[1; 16], broken).unwrap();
        run(&mut file, &definitions(&[HOME]), &settings(Empty::Refuse), false).unwrap();
        // The backup does not say where the primary array begins; here it is where it
        // always is.
        assert!(bytes(&file) == whole, "broken at {broken}");
    }
}

#[test]
fn the_table_follows_the_end_of_the_disk_though_nothing_else_changes() {
    let mut file = used();
    file.set_len(64 * MIB).unwrap();
    let found = run(&mut file, &definitions(&[HOME]), &settings(Empty::Refuse), false).unwrap();
    assert_eq!((found.damage.len(), found.table.disk), (0, Sectors(64 * 2048)));
    assert_eq!(found.table.last_usable, Sectors(64 * 2048 - 34));
}

#[test]
fn of_two_areas_of_one_size_the_first_is_used() {
    // 1 to 2 MiB, and 3 to 4 MiB: the partitions of `used` are at 2 and 4 MiB.
    let mut file = used();
    let mut table = gpt::read(&mut file, None).unwrap().table;
    table.first_usable = Sectors(2048);
    gpt::write(&mut file, &table).unwrap();
    let one = definitions(&["Type=srv\nSizeMinBytes=1M\nSizeMaxBytes=1M"]);
    let found = run(&mut file, &one, &settings(Empty::Refuse), false).unwrap();
    let srv = found.table.entries.values().find(|e| e.kind == kind("srv")).unwrap();
    assert_eq!(srv.first, Sectors(2048));
}

#[test]
fn what_is_not_understood_is_not_written() {
    let hybrid =
        |file: &File| file.write_all_at(&[0, 0, 2, 0, 0x83, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0], 462);
    let mut file = used();
    hybrid(&file).unwrap();
    let before = bytes(&file);
    let error = run(&mut file, &definitions(&[VAR]), &settings(Empty::Refuse), false).unwrap_err();
    assert!(error.to_string().contains("hybrid MBR"), "{error}");
    assert!(bytes(&file) == before);

    let mut file = used();
    let mut table = gpt::read(&mut file, None).unwrap().table;
    let overlapping = Entry { guid: Guid::from_bytes([7; 16]), ..table.entries[&3].clone() };
    // As if somebody else had written it: the writer here refuses.
    let kept = table.entries.insert(9, overlapping);
    assert!(kept.is_none() && gpt::write(&mut file, &table).is_err());
    let mut raw = bytes(&file);
    let (entry, to) = (1024 + 3 * 128, 1024 + 9 * 128);
    raw.copy_within(entry..entry + 128, to);
    let sum = crc32fast::hash(&raw[1024..1024 + 16384]).to_le_bytes();
    raw[512 + 88..512 + 92].copy_from_slice(&sum);
    raw[512 + 16..512 + 20].fill(0);
    let sum = crc32fast::hash(&raw[512..512 + 92]).to_le_bytes();
    raw[512 + 16..512 + 20].copy_from_slice(&sum);
    file.write_all_at(&raw, 0).unwrap();
    let error = run(&mut file, &definitions(&[VAR]), &settings(Empty::Refuse), false).unwrap_err();
    assert!(matches!(error, RepartError::Plan(PlanError::Unsound(_))), "{error}");
    assert!(bytes(&file) == raw);
}

#[test]
fn a_factory_reset_removes_what_is_marked_and_nothing_else() {
    let marked = definitions(&[&format!("{HOME}\nFactoryReset=yes"), VAR]);
    let mut file = used();
    let start = Start::new(&mut file, Path::new("x"), &settings(Empty::Refuse)).unwrap();
    assert!(start.can_factory_reset(&marked) && !start.can_factory_reset(&definitions(&[HOME])));
    let found = run(&mut file, &marked, &settings(Empty::Refuse), true).unwrap();
    let home = found.table.entries.values().find(|e| e.kind == kind("home")).unwrap();
    assert_ne!(home.guid, Guid::from_bytes([5; 16]), "it is another home");
    assert_eq!(found.table.entries[&3].guid, Guid::from_bytes([3; 16]));
    let range = home.first.0 * 512..(home.last.0 + 1) * 512;
    assert!(bytes(&file)[range.start as usize..range.end as usize].iter().all(|b| *b == 0));
}

#[test]
fn deferred_partitions_keep_their_place_for_a_later_run() {
    let texts = [
        VAR,
        "Type=srv\nSizeMinBytes=3M\nSizeMaxBytes=3M",
        "Type=tmp\nSizeMinBytes=1M\nSizeMaxBytes=1M",
    ];
    let all = definitions(&texts);
    let mut at_once = blank(32 * MIB);
    let whole = run(&mut at_once, &all, &settings(Empty::Allow), false).unwrap();
    let mut file = blank(32 * MIB);
    let mut later = settings(Empty::Allow);
    later.defer.types = vec![kind("var"), kind("srv")];
    let found = run(&mut file, &all, &later, false).unwrap();
    assert_eq!(found.table.entries.keys().collect::<Vec<_>>(), [&2]);
    assert_eq!(found.table.entries[&2], whole.table.entries[&2]);
    let found = run(&mut file, &all, &settings(Empty::Refuse), false).unwrap();
    let names = |t: &Table| t.entries.values().map(|e| e.kind).collect::<Vec<_>>();
    assert_eq!(names(&found.table), names(&whole.table));
}

#[test]
fn types_are_chosen_and_moved_to_another_architecture() {
    let mut facts = Facts::new(Architecture::X8664);
    facts.retype = Some(Architecture::Arm64);
    facts.wanted = Wanted::Only(vec![kind("root-arm64"), kind("home")]);
    let chosen = definitions_of(&["Type=root", VAR, "Type=usr-x86-64", "Type=home"], &facts);
    let kinds: Vec<_> = chosen.iter().map(|d| d.kind).collect();
    assert_eq!(kinds, [kind("root-arm64"), kind("home")]);
    facts.wanted = Wanted::AllBut(vec![kind("root-arm64"), kind("home")]);
    let chosen = definitions_of(&["Type=root", VAR, "Type=usr-x86-64", "Type=home"], &facts);
    assert_eq!(chosen.iter().map(|d| d.kind).collect::<Vec<_>>(), [kind("var"), kind("usr-arm64")]);
}

#[test]
fn a_new_file_appears_complete_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new.raw");
    let source = Tree::new();
    let settings = Settings { size: Size::Fixed(Bytes(8 * MIB)), ..settings(Empty::Create) };
    let make = |definitions: &[Definition]| {
        let inputs =
            Inputs { definitions, source: &source, filler: &Filler, reporter: &report::Silent };
        let start = Start::nothing(&path);
        let planned = start.plan(&inputs, &settings)?;
        start.create(&planned, &inputs, &settings)
    };
    let impossible = definitions(&["Type=srv\nEncrypt=key-file\nSizeMinBytes=1M\nFormat=vfat"]);
    make(&impossible).unwrap_err();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    make(&definitions(&[VAR])).unwrap();
    let mut all = Vec::new();
    File::open(&path).unwrap().read_to_end(&mut all).unwrap();
    assert_eq!(all.len() as u64, 8 * MIB);
    make(&definitions(&[HOME])).unwrap_err();
    assert!(std::fs::read(&path).unwrap() == all, "an existing file stays");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn definitions_below_a_root_follow_its_links_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let below = |path: &str| dir.path().join(path);
    let write = |path: &str, text: &str| {
        std::fs::create_dir_all(below(path).parent().unwrap()).unwrap();
        std::fs::write(below(path), text).unwrap();
    };
    let link = |path: &str, to: &str| {
        std::fs::create_dir_all(below(path).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(to, below(path)).unwrap();
    };
    write("usr/lib/repart.d/10-a.conf", "[Partition]\nType=root\n");
    write("usr/lib/repart.d/20-b.conf", "[Partition]\nType=home\n");
    write("usr/lib/repart.d/30-c.conf", "[Partition]\nType=srv\n");
    write("usr/lib/repart.d/40-d.conf", "[Partition]\nType=var\n");
    write("opt/e", "[Partition]\nType=swap\n");
    link("etc/repart.d/20-b.conf", "/dev/null");
    write("etc/repart.d/30-c.conf", "");
    link("etc/repart.d/50-e.conf", "/opt/e");
    link("etc/repart.d/60-f.conf", "/etc/passwd");
    link("etc/repart.d/70-g.conf", "../../../../../../../../opt/e");
    write("run/repart.d/40-d.conf.d/x.conf", "[Partition]\nLabel=dropped-in\n");
    let loaded =
        load(Source::Root(dir.path()), &Facts::new(Architecture::X8664), Compat::default());
    let loaded = loaded.unwrap().definitions;
    let shown: Vec<_> = loaded.iter().map(|d| (&d.name[..], d.kind)).collect();
    let expected = [
        ("10-a.conf", kind("root")),
        ("40-d.conf", kind("var")),
        ("50-e.conf", kind("swap")),
        ("70-g.conf", kind("swap")),
    ];
    assert_eq!(shown, expected);
    assert_eq!(loaded[1].label.as_deref(), Some("dropped-in"));
}
