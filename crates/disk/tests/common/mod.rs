//! Cases for the planner, and what systemd-repart answers to them.
//!
//! A case is a list of runs on one image file, each with its own definitions and
//! options; the answer to a run is its exit status, its JSON, `sfdisk --dump` and the
//! hashes of both copies of the table. `generate` makes cases from a number, `replay`
//! answers one with this crate, `oracle` has the original answer many.
#![allow(dead_code)]

pub mod generate;
pub mod oracle;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use disk::definition::{self, Definition, Facts, Source, Wanted};
use disk::execute::{FillError, PartitionFiller};
use disk::gpt::{self, Table, dump};
use disk::plan::{Defer, Identity, Plan, PlannedPartition, Request, Size, plan};
use disk::repart::{Empty, Inputs, RepartError, Settings, Start};
use disk::{Architecture, Bytes, Compat, SectorSize, TypeGuid, Version};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tree::Tree;

/// One call of systemd-repart.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Run {
    /// Names and texts; a name with a slash is a drop-in.
    pub definitions: Vec<(String, String)>,
    /// Bytes, `auto`, or nothing.
    pub size: String,
    /// 0: not given.
    pub sector: u32,
    pub seed: String,
    /// Nothing is made: the answer has no dump.
    pub dry: bool,
    /// More options, each with its value: `empty` is `--empty=`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<(String, String)>,
}

impl Run {
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub ok: bool,
    /// The exit status; older recordings do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
    pub json: String,
    pub dump: String,
    pub head: String,
    pub tail: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    pub id: u64,
    /// What is there before the first run; else that one makes the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Initial>,
    pub runs: Vec<Run>,
}

/// An image that exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Initial {
    pub size: u64,
    pub sector: u32,
    pub state: State,
    pub table: Table,
}

/// What of its table is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Whole,
    NoPrimary,
    NoBackup,
    NoneOfBoth,
    /// An MBR instead.
    Mbr,
    Blank,
}

/// A case with the answers of the original; a failed run is the last one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    pub case: Case,
    pub answers: Vec<Answer>,
}

pub const IMAGE: &str = "img.raw";

/// Makes the image that a case begins with.
pub fn make_initial(initial: &Initial, path: &Path) {
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    file.set_len(initial.size).unwrap();
    let sector = u64::from(initial.sector);
    let end = initial.table.disk.0 * sector;
    let wipe = |at: u64| file.write_all_at(&vec![0xa5; sector as usize], at).unwrap();
    let mut table = file.try_clone().unwrap();
    match initial.state {
        State::Blank => {}
        State::Mbr => {
            let mut mbr = [0; 512];
            mbr[446..462].copy_from_slice(&[0, 0, 2, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0]);
            mbr[510..].copy_from_slice(&[0x55, 0xaa]);
            file.write_all_at(&mbr, 0).unwrap();
        }
        state => {
            gpt::write(&mut table, &initial.table).unwrap();
            if matches!(state, State::NoPrimary | State::NoneOfBoth) {
                wipe(sector);
            }
            if matches!(state, State::NoBackup | State::NoneOfBoth) {
                wipe(end - sector);
            }
        }
    }
}

/// Answers the case with this crate, on a sparse file. `None` where the original takes
/// a random UUID.
pub fn replay(case: &Case, version: Version) -> Option<Vec<Answer>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(IMAGE);
    if let Some(initial) = &case.disk {
        make_initial(initial, &path);
    }
    let mut answers = Vec::new();
    for (number, run) in case.runs.iter().enumerate() {
        let creates = number == 0 && case.disk.is_none();
        let answer = match answer(run, creates, &path, dir.path(), version) {
            Ok(answer) => answer?,
            Err(e) => {
                let not_allowed = e.downcast_ref().is_some_and(|e| {
                    matches!(e, RepartError::NotAllowed { .. } | RepartError::Damaged { .. })
                });
                failed(if not_allowed { 77 } else { 1 })
            }
        };
        let ok = answer.ok;
        answers.push(answer);
        if !ok {
            break;
        }
    }
    Some(answers)
}

/// Writes nothing: contents are compared elsewhere.
struct Nothing;

impl PartitionFiller for Nothing {
    fn fill(
        &self,
        _: &PlannedPartition,
        _: &Definition,
        _: Option<&Tree>,
        _: &mut File,
        _: u64,
        _: u64,
    ) -> Result<(), FillError> {
        Ok(())
    }

    fn measure(&self, _: &Definition, _: &Identity, _: &Tree) -> Result<u64, FillError> {
        Err("nothing is measured".into())
    }
}

type Failure = Box<dyn std::error::Error>;

fn facts(run: &Run) -> Facts {
    let mut facts = Facts::new(Architecture::X8664);
    facts.retype = run.option("architecture").map(|a| Architecture::from_name(a).unwrap());
    if let Some(include) = run.option("include-partitions") {
        facts.wanted = Wanted::Only(types(include, &facts));
    }
    if let Some(exclude) = run.option("exclude-partitions") {
        facts.wanted = Wanted::AllBut(types(exclude, &facts));
    }
    facts
}

fn types(list: &str, facts: &Facts) -> Vec<TypeGuid> {
    let parse = |t: &str| TypeGuid::parse(t, Architecture::X8664).unwrap().retyped(facts.retype);
    list.split(',').map(parse).collect()
}

fn settings(run: &Run, creates: bool, compat: Compat) -> Result<Settings, Failure> {
    let empty = Empty::parse(run.option("empty").unwrap_or("refuse")).unwrap();
    let empty = if creates { Empty::Create } else { empty };
    let defer = run.option("defer-partitions");
    Ok(Settings {
        empty: if run.dry { Empty::Force } else { empty },
        size: match run.size.as_str() {
            "" => Size::Keep,
            "auto" => Size::Auto,
            bytes => Size::Fixed(Bytes(bytes.parse()?)),
        },
        seed: run.seed.parse()?,
        sector_size: (run.sector != 0).then(|| SectorSize::new(run.sector)).transpose()?,
        grain: None,
        discard: true,
        defer: Defer {
            types: defer.map(|list| types(list, &facts(run))).unwrap_or_default(),
            ..Defer::default()
        },
        epoch: None,
        device: IMAGE.into(),
        block_device: false,
        copy_on_write: true,
        compat,
    })
}

fn answer(
    run: &Run,
    creates: bool,
    path: &Path,
    dir: &Path,
    version: Version,
) -> Result<Option<Answer>, Failure> {
    let compat = Compat { version, original_bugs: true };
    if run.dry {
        // Nothing is made, so nothing has to be possible.
        let plan = planned(run, dir, compat)?;
        if plan.warnings.iter().any(|w| w.contains("another is taken")) {
            return Ok(None);
        }
        return Ok(Some(Answer { ok: true, status: Some(0), json: json(&plan), ..failed(0) }));
    }
    let definitions = load_definitions(run, dir, compat)?;
    let settings = settings(run, creates, compat)?;
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    let source = Tree::new();
    let inputs = Inputs {
        definitions: &definitions,
        source: &source,
        filler: &Nothing,
        reporter: &report::Silent,
    };
    let mut start = match creates {
        true => Start::nothing(path),
        false => Start::new(&mut file, path, &settings)?,
    };
    if run.option("factory-reset").is_some() {
        start.factory_reset(&mut file, &definitions)?;
    }
    let planned = start.plan(&inputs, &settings)?;
    let plan = &planned.plan;
    if plan.warnings.iter().any(|w| w.contains("another is taken")) {
        return Ok(None);
    }
    let mut answer = Answer { ok: true, status: Some(0), json: json(plan), ..failed(0) };
    let grown = file.metadata()?.len() < plan.disk_size.0;
    // The original moves the end of a table that it does not change otherwise only where
    // it finds it without knowing the size of the sectors, and repairs nothing then.
    if plan.changes || (grown && matches!(run.sector, 0 | 512)) {
        start.carry_out(&mut file, &planned, &inputs, &settings)?;
    } else if grown {
        file.set_len(plan.disk_size.0)?;
    }
    let sector = plan.table.sector_size;
    let found = gpt::read(&mut file, Some(sector))?;
    answer.dump = dump::text(&found.table, found.disk, IMAGE);
    (answer.head, answer.tail) = hashes(&file, sector.get())?;
    Ok(Some(answer))
}

/// What would be done on a new image; `dir` is where the definitions are laid out.
pub fn planned(run: &Run, dir: &Path, compat: Compat) -> Result<Plan, Failure> {
    let loaded = load_definitions(run, dir, compat)?;
    let settings = settings(run, false, compat)?;
    Ok(plan(&Request {
        definitions: &loaded,
        content: Default::default(),
        existing: None,
        current: Bytes(0),
        size: settings.size,
        seed: settings.seed,
        sector_size: settings.sector_size,
        grain: None,
        block_device: false,
        device: IMAGE.into(),
        defer: Default::default(),
        compat: settings.compat,
    })?)
}

fn load_definitions(run: &Run, dir: &Path, compat: Compat) -> Result<Vec<Definition>, Failure> {
    let definitions_dir = dir.join("d");
    let _ = std::fs::remove_dir_all(&definitions_dir);
    write_definitions(&definitions_dir, &run.definitions);
    let dirs = [definitions_dir.clone()];
    let mut loaded = definition::load(Source::Dirs(&dirs), &facts(run), compat)?;
    for d in &mut loaded.definitions {
        // The original sees them at another place.
        let below = |p: &str| p.replace(dir.to_str().unwrap(), "/mnt");
        d.path = below(&d.path);
        d.drop_ins.iter_mut().for_each(|p| *p = below(p));
    }
    std::fs::remove_dir_all(&definitions_dir)?;
    Ok(loaded.definitions)
}

fn failed(status: i32) -> Answer {
    Answer {
        ok: false,
        status: Some(status),
        json: String::new(),
        dump: String::new(),
        head: String::new(),
        tail: String::new(),
    }
}

fn json(plan: &Plan) -> String {
    serde_json::to_string(&plan.to_json()).unwrap()
}

fn hashes(file: &File, sector: u64) -> std::io::Result<(String, String)> {
    let end = file.metadata()?.len();
    let mut head = vec![0; (2 * sector + 16384) as usize];
    file.read_exact_at(&mut head, 0)?;
    let length = sector + 16384;
    let mut tail = vec![0; length as usize];
    file.read_exact_at(&mut tail, end - length)?;
    let hash = |bytes: &[u8]| hex::encode(&Sha256::digest(bytes)[..8]);
    Ok((hash(&head), hash(&tail)))
}

pub fn write_definitions(dir: &std::path::Path, definitions: &[(String, String)]) {
    std::fs::create_dir_all(dir).unwrap();
    for (name, text) in definitions {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// Where the answers of a version are kept: one case per line, after a line with the
/// version.
pub fn data_file(version: Version) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("tests/data/repart-{}.jsonl", version.number()))
}

/// The answers to a case that is made anew from its number, by the hashes of their texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Digested {
    pub id: u64,
    /// Of the case: another generator makes other cases.
    pub case: String,
    pub answers: Vec<Answer>,
}

impl Digested {
    pub fn new(case: &Case, answers: &[Answer]) -> Digested {
        let case_text = serde_json::to_string(case).unwrap();
        let answers = answers.iter().map(|a| Answer {
            json: digest(&a.json),
            dump: digest(&a.dump),
            ..a.clone()
        });
        Digested { id: case.id, case: digest(&case_text), answers: answers.collect() }
    }
}

fn digest(text: &str) -> String {
    match text {
        "" => String::new(),
        text => hex::encode(&Sha256::digest(text)[..8]),
    }
}

/// Cases in which two free areas have one size, of which the original takes the second
/// (PARITY.md).
pub const TIES: [u64; 1] = [710];

/// The original makes a file larger before it reads the table. A backup, of which there is
/// nothing but it, is then no longer at the end, and the table is lost (PARITY.md). True
/// if that happened in the last of these answers.
pub fn lost_its_table(case: &Case, theirs: &[Answer]) -> bool {
    let (Some(disk), Some(last)) = (&case.disk, theirs.last()) else { return false };
    let size = &case.runs[theirs.len() - 1].size;
    let grows = size.parse().map_or(size == "auto", |size: u64| size > disk.size);
    disk.state == State::NoPrimary && grows && last.status == Some(77)
}

/// Where the answers to the cases with existing tables are kept.
pub fn existing_file(version: Version) -> std::path::PathBuf {
    data_file(version).with_file_name(format!("existing-{}.jsonl", version.number()))
}

/// A readable difference of what this crate answers and what the original did.
pub fn difference(case: &Case, theirs: &[Answer], version: Version) -> Option<String> {
    let mut ours = replay(case, version)?;
    for (ours, theirs) in ours.iter_mut().zip(theirs) {
        ours.status = ours.status.filter(|_| theirs.status.is_some());
    }
    let rescued = |ours: &[Answer]| {
        let (last, before) = theirs.split_last().expect("there is an answer");
        lost_its_table(case, theirs)
            && ours[..before.len()] == *before
            && ours[before.len()].status != last.status
    };
    if ours == theirs || rescued(&ours) || (case.disk.is_some() && TIES.contains(&case.id)) {
        return None;
    }
    let mut out = format!("case {}\n", case.id);
    if let Some(disk) = &case.disk {
        out += &format!("{:?} {} {}\n", disk.state, disk.size, disk.sector);
        disk.table.entries.iter().for_each(|e| out += &format!("  {e:?}\n"));
    }
    for (i, run) in case.runs.iter().enumerate() {
        let (o, t) = (ours.get(i), theirs.get(i));
        let shown = (&run.size, run.sector, run.dry, &run.options);
        out += &format!("run {i}: size, sector, dry, options: {shown:?}\n");
        for (name, text) in &run.definitions {
            out += &format!("  {name}: {}\n", text.replace('\n', " "));
        }
        if o == t {
            continue;
        }
        let lines = |a: Option<&Answer>| -> Vec<String> {
            a.map_or(vec!["none".to_owned()], |a| {
                let (ok, status) = (a.ok, a.status);
                let text =
                    format!("ok={ok} {status:?} {} {}\n{}\n{}", a.head, a.tail, a.json, a.dump);
                text.replace("},{", "},\n{").lines().map(str::to_owned).collect()
            })
        };
        let (o, t) = (lines(o), lines(t));
        out.extend(o.iter().filter(|l| !t.contains(l)).map(|l| format!("  ours:   {l}\n")));
        out.extend(t.iter().filter(|l| !o.contains(l)).map(|l| format!("  theirs: {l}\n")));
        break;
    }
    Some(out)
}
