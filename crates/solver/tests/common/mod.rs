//! What the tests share: universes from text, answers as sets, and recordings.
//!
//! A recording is a universe cut down to what a number of requests look at, with
//! apt-get's answer to each: stanzas without the fields that do not matter, the first
//! of which only mentions names (that order decides between equals); each has in
//! `Chosen` a bit (in hexadecimal, request 0 lowest) for every request whose answer
//! contains it. The requests are listed before the stanzas.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use debian::deb822::Paragraphs;
use debian::{Architecture, PackageRecord};
use solver::{Installed, Request, Solution, SourceInfo, Trace, Universe};

/// `name version architecture` of each package chosen; none where there is no solution.
pub type Answer = Option<BTreeSet<String>>;

/// The name of the stanza that only mentions names.
const ORDER: &str = "order-of-mention";

/// A universe for amd64 from the text of one index.
pub fn universe(text: &str, multi: bool) -> Universe {
    let foreign = if multi { vec![Architecture::new("i386").unwrap()] } else { vec![] };
    let records = debian::read_packages(text).unwrap();
    let info = SourceInfo { label: "test/main".into(), priority: 500, releases: Vec::new() };
    Universe::builder(Architecture::new("amd64").unwrap(), foreign).add(&records, info).build()
}

/// A request for `?essential` and what `specs` names, separated by blanks.
pub fn request(specs: &str, with_recommends: bool) -> Request {
    let specs = std::iter::once("?essential").chain(specs.split(' '));
    let specs = specs.map(str::to_owned).collect();
    Request { specs, with_recommends, ..Request::default() }
}

/// What is to be installed, as a set.
pub fn chosen(solution: &Solution) -> BTreeSet<String> {
    let id = |chosen: &solver::Chosen| id_of(&chosen.record);
    solution.install.iter().map(id).collect()
}

fn id_of(record: &PackageRecord) -> String {
    format!("{} {} {}", record.name, record.version, record.architecture)
}

/// The solver's answer.
pub fn solve(universe: &Universe, request: &Request) -> Answer {
    let solution = solver::solve(universe, &Installed::default(), request).ok()?;
    Some(chosen(&solution))
}

/// The differences between the two answers, empty where they are equal.
pub fn compare(apt: &Answer, ours: &Answer) -> String {
    match (apt, ours) {
        (None, None) => String::new(),
        (Some(_), None) => "apt finds a solution, the solver none".to_owned(),
        (None, Some(_)) => "the solver finds a solution, apt none".to_owned(),
        (Some(apt), Some(ours)) => {
            let missing: Vec<_> = apt.difference(ours).cloned().collect();
            let extra: Vec<_> = ours.difference(apt).cloned().collect();
            match missing.is_empty() && extra.is_empty() {
                true => String::new(),
                false => format!("missing {missing:?}, too much {extra:?}"),
            }
        }
    }
}

/// One request and apt-get's answer.
pub struct Case {
    pub name: String,
    pub with_recommends: bool,
    pub specs: String,
    pub answer: Answer,
}

/// Collects cases for a recording.
#[derive(Default)]
pub struct Recorder {
    cases: Vec<Case>,
    /// By place: the stanza, and whether its relations matter.
    records: BTreeMap<String, (Arc<PackageRecord>, bool)>,
    /// In the order of the universe.
    order: Vec<String>,
    names: BTreeMap<usize, String>,
}

impl Recorder {
    pub fn add(&mut self, case: Case, trace: Trace) {
        self.cases.push(case);
        self.names.extend(trace.names);
        for looked_at in trace.looked_at {
            let id = id_of(&looked_at.record);
            let order = &mut self.order;
            let entry = self.records.entry(id.clone()).or_insert_with(|| {
                order.push(id);
                (Arc::clone(&looked_at.record), false)
            });
            entry.1 |= looked_at.walked;
        }
    }

    /// The recording as a file.
    pub fn finish(&self) -> Vec<u8> {
        let mut text = String::new();
        for case in &self.cases {
            let result = if case.answer.is_some() { "solved" } else { "unsolvable" };
            let Case { name, with_recommends, specs, .. } = case;
            writeln!(text, "{name}|{with_recommends}|{result}|{specs}").unwrap();
        }
        let names: Vec<&str> = self.names.values().map(String::as_str).collect();
        let names = names.join(", ");
        write!(text, "\nPackage: {ORDER}\nVersion: 0\nArchitecture: all\nSuggests: {names}\n")
            .unwrap();
        for id in &self.order {
            let (record, walked) = &self.records[id];
            text.push('\n');
            stanza(&mut text, record, *walked);
            let bits: Vec<bool> = self.cases.iter().map(|case| has(&case.answer, id)).collect();
            writeln!(text, "Chosen: {}", to_hex(&bits)).unwrap();
        }
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 9);
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }
}

fn has(answer: &Answer, id: &str) -> bool {
    answer.as_ref().is_some_and(|answer| answer.contains(id))
}

/// The stanza with what the solver looks at.
fn stanza(text: &mut String, record: &PackageRecord, walked: bool) {
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            writeln!(text, "{name}: {value}").unwrap();
        }
    };
    field("Package", record.name.as_str());
    field("Version", record.version.as_str());
    field("Architecture", record.architecture.as_str());
    let multi = match record.multi_arch {
        debian::MultiArch::No => "",
        debian::MultiArch::Same => "same",
        debian::MultiArch::Foreign => "foreign",
        debian::MultiArch::Allowed => "allowed",
    };
    field("Multi-Arch", multi);
    field("Essential", if record.essential { "yes" } else { "" });
    field("Protected", if record.protected { "yes" } else { "" });
    let priority = match record.priority {
        debian::Priority::Required => "required",
        debian::Priority::Important => "important",
        debian::Priority::Standard => "standard",
        debian::Priority::Optional => "optional",
        debian::Priority::Extra => "extra",
    };
    field("Priority", priority);
    field("Provides", record.provides.as_str());
    if walked {
        field("Pre-Depends", record.pre_depends.as_str());
        field("Depends", record.depends.as_str());
        field("Recommends", record.recommends.as_str());
        field("Suggests", record.suggests.as_str());
        field("Conflicts", record.conflicts.as_str());
        field("Breaks", record.breaks.as_str());
    }
}

fn to_hex(bits: &[bool]) -> String {
    let digit = |four: &[bool]| {
        let value = four.iter().rev().fold(0, |value, bit| value * 2 + u32::from(*bit));
        char::from_digit(value, 16).unwrap()
    };
    bits.chunks(4).map(digit).collect()
}

fn bit(hex: &str, index: usize) -> bool {
    let digit = hex.as_bytes()[index / 4] as char;
    digit.to_digit(16).unwrap() >> (index % 4) & 1 == 1
}

/// Reads what [`Recorder::finish`] made.
pub fn read_recording(file: &[u8]) -> (String, Vec<Case>) {
    let mut text = String::new();
    liblzma::read::XzDecoder::new(file).read_to_string(&mut text).unwrap();
    let (head, stanzas) = text.split_once("\n\n").unwrap();
    let mut cases: Vec<Case> = head.lines().map(read_case).collect();
    for paragraph in Paragraphs::new(stanzas) {
        let paragraph = paragraph.unwrap();
        let Some(hex) = paragraph.get("Chosen") else { continue };
        let get = |name| paragraph.get(name).unwrap();
        let id = format!("{} {} {}", get("Package"), get("Version"), get("Architecture"));
        for (index, case) in cases.iter_mut().enumerate() {
            if let Some(answer) = &mut case.answer
                && bit(hex, index)
            {
                answer.insert(id.clone());
            }
        }
    }
    (stanzas.to_owned(), cases)
}

fn read_case(line: &str) -> Case {
    let parts: Vec<&str> = line.splitn(4, '|').collect();
    let [name, with_recommends, result, specs] = parts.as_slice() else { panic!("{line}") };
    Case {
        name: (*name).to_owned(),
        with_recommends: *with_recommends == "true",
        specs: (*specs).to_owned(),
        answer: (*result == "solved").then(BTreeSet::new),
    }
}
