//! Ways to change a disk, each cut short at every moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;

use disk::definition::{Definition, Facts, Source, load};
use disk::execute::{FillError, PartitionFiller};
use disk::gpt::{self, Entry, Name, Table};
use disk::plan::{Identity, PlannedPartition, Size};
use disk::repart::{Empty, Inputs, Settings, Start};
use disk::{Architecture, Bytes, Compat, Guid, SectorSize, Sectors, TypeGuid};
use tree::Tree;

use super::power::{Cuts, Memory};

const SEED: &str = "750b6cd5-c4ae-4012-a15e-7be3c29e6a47";
const PATH: &str = "image.raw";
const KIB: u64 = 1024;

/// Fills a partition with bytes that follow from its name.
struct Pattern;

impl PartitionFiller for Pattern {
    fn fill(
        &self,
        partition: &PlannedPartition,
        _: &Definition,
        _: Option<&Tree>,
        out: &mut File,
        offset: u64,
        size: u64,
    ) -> Result<(), FillError> {
        // Not everything is written, as with real file systems.
        let bytes = pattern(&partition.label, (size - 4096) as usize);
        Ok(out.write_all_at(&bytes, offset + 1024)?)
    }

    fn measure(&self, _: &Definition, _: &Identity, _: &Tree) -> Result<u64, FillError> {
        Err("nothing is measured here".into())
    }
}

fn pattern(label: &str, len: usize) -> Vec<u8> {
    let salt = label.bytes().fold(7u32, |n, b| n.wrapping_mul(31).wrapping_add(u32::from(b)));
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(salt) >> 24) as u8)
        .collect()
}

struct Scenario {
    name: &'static str,
    /// The disk before.
    disk: Vec<u8>,
    definitions: Vec<Definition>,
    settings: Settings,
    factory_reset: bool,
}

fn definitions(texts: &[&str]) -> Vec<Definition> {
    let named: Vec<(String, String)> = (10..)
        .zip(texts)
        .map(|(i, t)| (format!("{i}-p.conf"), format!("[Partition]\n{t}\n")))
        .collect();
    load(Source::Texts(&named), &Facts::new(Architecture::X8664), Compat::default())
        .unwrap()
        .definitions
}

fn settings(empty: Empty, size: Size) -> Settings {
    Settings {
        empty,
        size,
        seed: SEED.parse().unwrap(),
        sector_size: None,
        grain: None,
        discard: true,
        defer: Default::default(),
        epoch: Some(0),
        device: PATH.into(),
        block_device: false,
        copy_on_write: true,
        compat: Compat::default(),
    }
}

/// A disk with data of a type that nobody knows, a hole, a root, and free space.
fn used(size: u64) -> Vec<u8> {
    let mut disk = vec![0; size as usize];
    disk[..440].copy_from_slice(&pattern("boot code", 440));
    let guid = |n: u8| Guid::from_bytes([n; 16]);
    let mut table = Table::new(guid(1), Sectors(size / 512), SectorSize::S512).unwrap();
    let root = TypeGuid::parse("root", Architecture::X8664).unwrap();
    let home = TypeGuid::parse("home", Architecture::X8664).unwrap();
    let foreign = TypeGuid(guid(9));
    for (slot, kind, first, sectors) in
        [(0, foreign, 40, 64), (4, root, 128, 128), (2, home, 264, 64)]
    {
        let entry = Entry {
            kind,
            guid: guid(20 + slot as u8),
            first: Sectors(first),
            last: Sectors(first + sectors - 1),
            attributes: 1 << 60,
            name: Name::new(&format!("old {slot}")).unwrap(),
            rest: vec![],
        };
        table.entries.insert(slot, entry);
        let range = first as usize * 512..(first + sectors) as usize * 512;
        let bytes = pattern(&format!("data {slot}"), range.len());
        disk[range].copy_from_slice(&bytes);
    }
    let mut memory = Memory::new(disk);
    gpt::write(&mut memory, &table).unwrap();
    memory.disk.into_inner()
}

const NEW: &str = "Type=var\nFormat=vfat\nSizeMinBytes=24K\nSizeMaxBytes=32K";
const ROOT: &str = "Type=root\nSizeMinBytes=64K\nSizeMaxBytes=64K";

fn scenarios() -> Vec<Scenario> {
    let size = 384 * KIB;
    let scenario = |name, disk: Vec<u8>, texts: &[&str], empty, size: Size| Scenario {
        name,
        disk,
        definitions: definitions(texts),
        settings: settings(empty, size),
        factory_reset: false,
    };
    let add = [
        ROOT,
        "Type=home\nSizeMaxBytes=32K\nSizeMinBytes=4K",
        NEW,
        "Type=swap\nSizeMinBytes=16K\nSizeMaxBytes=16K",
    ];
    let grow = ["Type=home\nSizeMinBytes=4K"];
    let more = [
        ROOT,
        "Type=home\nSizeMinBytes=48K\nSizeMaxBytes=64K",
        NEW,
        NEW,
        "Type=linux-generic\nSizeMinBytes=8K\nFormat=ext4",
    ];
    let larger = Size::Fixed(Bytes(512 * KIB));
    let mut lost_primary = used(size);
    lost_primary[512..1024].fill(0xaa);
    let mut lost_backup = used(size);
    let end = lost_backup.len();
    lost_backup[end - 20 * 1024..].fill(0x55);
    let junk = pattern("junk", size as usize);
    let mut all = vec![
        scenario("create", junk, &[NEW, "Type=home\nSizeMinBytes=8K"], Empty::Allow, Size::Keep),
        scenario("add", used(size), &add, Empty::Refuse, Size::Keep),
        scenario("grow", used(size), &grow, Empty::Refuse, Size::Keep),
        scenario("a larger disk", used(size), &more[..4], Empty::Refuse, larger),
        scenario("primary lost", lost_primary.clone(), &add, Empty::Refuse, Size::Keep),
        scenario("primary lost, larger", lost_primary, &more[..4], Empty::Refuse, larger),
        scenario("backup lost, larger", lost_backup, &more[..4], Empty::Refuse, larger),
    ];
    let reset =
        [ROOT, "Type=home\nFactoryReset=yes\nFormat=vfat\nSizeMinBytes=8K\nSizeMaxBytes=40K", NEW];
    all.push(Scenario {
        factory_reset: true,
        ..scenario("factory reset", used(size), &reset, Empty::Refuse, Size::Keep)
    });
    all
}

/// One run, as the verb has it.
fn run(scenario: &Scenario, disk: &mut Memory, reset: bool) {
    let source = Tree::new();
    let inputs = Inputs {
        definitions: &scenario.definitions,
        source: &source,
        filler: &Pattern,
        reporter: &report::Silent,
    };
    let settings = &scenario.settings;
    let mut start = Start::new(disk, PATH.as_ref(), settings).unwrap();
    if reset {
        start.factory_reset(disk, &scenario.definitions).unwrap();
    }
    let planned = start.plan(&inputs, settings).unwrap();
    start.carry_out(disk, &planned, &inputs, settings).unwrap();
}

type Partitions = BTreeMap<Guid, (Entry, Vec<u8>)>;

/// The partitions with what is in them, by GUID; `None` if there is no table.
fn partitions(disk: &[u8]) -> Option<Partitions> {
    let mut memory = Memory::new(disk.to_vec());
    let found = match gpt::read(&mut memory, None) {
        Ok(found) => found,
        Err(gpt::ReadError::None) => return None,
        Err(e) => panic!("the table is lost: {e}"),
    };
    assert_eq!(found.table.problems(), []);
    let bytes = |e: &Entry| disk[e.first.0 as usize * 512..(e.last.0 as usize + 1) * 512].to_vec();
    Some(found.table.entries.values().map(|e| (e.guid, (e.clone(), bytes(e)))).collect())
}

/// How often the power was cut.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count {
    /// Ways to change a disk.
    pub scenarios: u64,
    /// Writes of these, in units that are on the disk or not.
    pub units: u64,
    /// Moments at which the power was cut.
    pub cuts: u64,
    /// Those of them that leave different sets of units.
    pub distinct: u64,
}

/// Cuts the power in every scenario after every prefix of its writes, and `random` times
/// in any other way.
pub fn check(random: u64) -> Count {
    let scenarios = scenarios();
    std::thread::scope(|threads| {
        let all: Vec<_> =
            scenarios.iter().map(|s| threads.spawn(move || cut_short(s, random))).collect();
        all.into_iter().fold(Count::default(), |sum, thread| {
            let one = thread.join().expect("it has said what is wrong");
            Count {
                scenarios: sum.scenarios + 1,
                units: sum.units + one.units,
                cuts: sum.cuts + one.cuts,
                distinct: sum.distinct + one.distinct,
            }
        })
    })
}

fn cut_short(scenario: &Scenario, random: u64) -> Count {
    let mut whole = Memory::new(scenario.disk.clone());
    run(scenario, &mut whole, scenario.factory_reset);
    let cuts = Cuts::new(&scenario.disk, &whole.done);
    let end = whole.disk.into_inner();
    let done = partitions(&end).expect("there is a table in the end");
    assert!(done.len() > 1, "{}: something is there", scenario.name);
    let units = (0..cuts.epochs()).map(|epoch| cuts.units(epoch) as u64).sum();
    let mut count = Count { units, ..Count::default() };
    let mut seen = BTreeSet::new();
    let mut cut = |epoch: usize, kept: &mut dyn FnMut(usize) -> bool| {
        let place = format!("{}, epoch {epoch}, cut {}", scenario.name, count.cuts);
        let kept: Vec<bool> = (0..cuts.units(epoch)).map(kept).collect();
        check_cut(scenario, cuts.disk(epoch, |i| kept[i]), &done, &place);
        count.cuts += 1;
        count.distinct += u64::from(seen.insert((epoch, kept)));
    };
    for epoch in 0..cuts.epochs() {
        // Every prefix; of long runs of contents every so many.
        let units = cuts.units(epoch);
        for kept in (0..=units).step_by(1 + units / 10) {
            cut(epoch, &mut |i| i < kept);
        }
        for left in (0..units).step_by(1 + units / 10) {
            cut(epoch, &mut |i| i != left);
            cut(epoch, &mut |i| i == left);
        }
    }
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        // Xorshift: any generator does.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..random {
        let epoch = next() as usize % cuts.epochs();
        let odds = next() % 101;
        cut(epoch, &mut |_| next() % 100 < odds);
    }
    count
}

fn check_cut(scenario: &Scenario, disk: Vec<u8>, done: &Partitions, place: &str) {
    let before = partitions(&scenario.disk);
    let now = partitions(&disk);
    assert!(before.is_none() || now.is_some(), "{place}: the table is lost");
    let resets = |e: &Entry| {
        let mut all = scenario.definitions.iter();
        scenario.factory_reset && all.any(|d| d.factory_reset && d.kind == e.kind)
    };
    let (before, now) = (before.unwrap_or_default(), now.unwrap_or_default());
    for (guid, (old, bytes)) in before.iter().filter(|(_, (e, _))| !resets(e)) {
        let (entry, kept) = now.get(guid).unwrap_or_else(|| panic!("{place}: {old:?} is lost"));
        assert!(entry.last >= old.last, "{place}: it has shrunk");
        let same = Entry { last: old.last, ..entry.clone() };
        assert_eq!(&same, old, "{place}");
        assert!(kept[..bytes.len()] == bytes[..], "{place}: {old:?} lost data");
    }
    for (guid, (entry, bytes)) in now.iter().filter(|(guid, _)| !before.contains_key(guid)) {
        let (whole, content) = &done[guid];
        assert_eq!(entry, whole, "{place}");
        assert!(bytes == content, "{place}: {entry:?} can be seen, but is not complete");
    }
    let mut again = Memory::new(disk);
    run(scenario, &mut again, scenario.factory_reset);
    let again = again.disk.into_inner();
    let after = partitions(&again).expect("there is a table");
    assert!(after == *done, "{place}: the next run does not finish");
    let mut third = Memory::new(again);
    run(scenario, &mut third, false);
    assert_eq!(third.done, [], "{place}: the third run changes something");
}
