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

use disk::definition::{self, Facts, Source};
use disk::gpt::{self, dump};
use disk::plan::{Plan, Request, Size, plan};
use disk::{Architecture, Bytes, Compat, SectorSize, Version};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::os::unix::fs::FileExt;

/// One call of systemd-repart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Names and texts; a name with a slash is a drop-in.
    pub definitions: Vec<(String, String)>,
    /// Bytes, or `auto`.
    pub size: String,
    pub sector: u32,
    pub seed: String,
    /// Nothing is made: the answer has no dump.
    pub dry: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub ok: bool,
    pub json: String,
    pub dump: String,
    pub head: String,
    pub tail: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    pub id: u64,
    pub runs: Vec<Run>,
}

/// A case with the answers of the original; a failed run is the last one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    pub case: Case,
    pub answers: Vec<Answer>,
}

pub const IMAGE: &str = "img.raw";

/// Answers the case with this crate, on a sparse file. `None` where the original takes
/// a random UUID.
pub fn replay(case: &Case, version: Version) -> Option<Vec<Answer>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(IMAGE);
    let mut answers = Vec::new();
    for (number, run) in case.runs.iter().enumerate() {
        let answer = match answer(run, number == 0, &path, dir.path(), version) {
            Ok(answer) => answer?,
            Err(_) => empty(false),
        };
        let ok = answer.ok;
        answers.push(answer);
        if !ok {
            break;
        }
    }
    Some(answers)
}

fn answer(
    run: &Run,
    first: bool,
    path: &std::path::Path,
    dir: &std::path::Path,
    version: Version,
) -> Result<Option<Answer>, Box<dyn std::error::Error>> {
    let definitions_dir = dir.join("d");
    let _ = std::fs::remove_dir_all(&definitions_dir);
    write_definitions(&definitions_dir, &run.definitions);
    let compat = Compat { version, original_bugs: true };
    let facts = Facts::new(Architecture::X8664);
    let dirs = [definitions_dir.clone()];
    let mut loaded = definition::load(Source::Dirs(&dirs), &facts, compat)?;
    for d in &mut loaded.definitions {
        // The original sees them at another place.
        let below = |p: &str| p.replace(dir.to_str().unwrap(), "/mnt");
        d.path = below(&d.path);
        d.drop_ins.iter_mut().for_each(|p| *p = below(p));
    }
    let sector = SectorSize::new(run.sector)?;
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    let found = if first { None } else { Some(gpt::read(&mut file, Some(sector))?) };
    let request = Request {
        definitions: &loaded.definitions,
        content: Default::default(),
        existing: found.as_ref(),
        size: match run.size.as_str() {
            "auto" => Size::Auto,
            bytes => Size::Fixed(Bytes(bytes.parse()?)),
        },
        seed: run.seed.parse()?,
        sector_size: Some(sector),
        grain: None,
        block_device: false,
        device: IMAGE.into(),
        compat,
    };
    let planned = plan(&request)?;
    if planned.warnings.iter().any(|w| w.contains("another is taken")) {
        return Ok(None);
    }
    if run.dry {
        return Ok(Some(Answer { json: json(&planned), ..empty(true) }));
    }
    let grown = file.metadata()?.len() < planned.disk_size.0;
    if grown {
        file.set_len(planned.disk_size.0)?;
    }
    // The original moves the end of a table that it does not change otherwise only
    // where it finds it without knowing the size of the sectors.
    if planned.changes || (grown && run.sector == 512) {
        gpt::write(&mut file, &planned.table)?;
    }
    let found = gpt::read(&mut file, Some(sector))?;
    let (head, tail) = hashes(&file, run.sector)?;
    let dump = dump::text(&found.table, found.disk, IMAGE);
    Ok(Some(Answer { ok: true, json: json(&planned), dump, head, tail }))
}

fn empty(ok: bool) -> Answer {
    Answer {
        ok,
        json: String::new(),
        dump: String::new(),
        head: String::new(),
        tail: String::new(),
    }
}

fn json(plan: &Plan) -> String {
    serde_json::to_string(&plan.to_json()).unwrap()
}

fn hashes(file: &File, sector: u32) -> std::io::Result<(String, String)> {
    let (sector, end) = (u64::from(sector), file.metadata()?.len());
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

/// A readable difference of what this crate answers and what the original did.
pub fn difference(case: &Case, theirs: &[Answer], version: Version) -> Option<String> {
    let ours = replay(case, version)?;
    if ours == theirs {
        return None;
    }
    let mut out = format!("case {}\n", case.id);
    for (i, run) in case.runs.iter().enumerate() {
        let (o, t) = (ours.get(i), theirs.get(i));
        out += &format!("run {i}: size {} sector {} dry {}\n", run.size, run.sector, run.dry);
        for (name, text) in &run.definitions {
            out += &format!("  {name}: {}\n", text.replace('\n', " "));
        }
        if o == t {
            continue;
        }
        let lines = |a: Option<&Answer>| -> Vec<String> {
            a.map_or(vec!["none".to_owned()], |a| {
                let text = format!("ok={} {} {}\n{}\n{}", a.ok, a.head, a.tail, a.json, a.dump);
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
