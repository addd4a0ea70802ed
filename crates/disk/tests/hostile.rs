//! Generated definitions and tables with bytes changed at random: nothing panics, and
//! what is planned is sound (`fuzzing` asserts it).
//!
//! `COUNT` runs more of them.

mod common;

use std::io::Cursor;

use common::generate::{self, Random};
use disk::gpt::{self, Entry, Name, Table};
use disk::{Architecture, Guid, SectorSize, Sectors, TypeGuid, fuzzing};

fn count() -> u64 {
    std::env::var("COUNT").map_or(400, |n| n.parse().unwrap())
}

fn spoil(bytes: &mut [u8], r: &mut Random) {
    for _ in 0..r.next() % 4 {
        let at = (r.next() % bytes.len() as u64) as usize;
        bytes[at] = match r.next() % 3 {
            0 => r.next() as u8,
            1 => b"0123456789%\\\"':=\n[]KMGTPE"[(r.next() % 25) as usize],
            _ => bytes[(r.next() % bytes.len() as u64) as usize],
        };
    }
}

#[test]
fn spoiled_definitions_are_survived() {
    for id in 0..count() {
        let r = &mut Random::new(id);
        let case = if id % 2 == 0 { generate::odd(id) } else { generate::case(id) };
        let texts = case.runs.last().unwrap().definitions.iter().map(|(_, text)| text.as_str());
        let mut bytes = texts.collect::<Vec<_>>().join("\0").into_bytes();
        bytes.push(0);
        bytes.extend_from_slice(&r.next().to_le_bytes()[..(r.next() % 7) as usize]);
        bytes.push(1);
        spoil(&mut bytes, r);
        fuzzing::fuzz_plan(&bytes);
        for part in bytes.split(|b| *b == 0) {
            fuzzing::fuzz_definition(part);
        }
    }
}

fn entry(r: &mut Random) -> Entry {
    let kinds = ["home", "root", "var", "esp", "usr-verity", "linux-generic"];
    let first = 34 + r.next() % 4000;
    let kind = kinds[(r.next() % 6) as usize];
    Entry {
        kind: TypeGuid::parse(kind, Architecture::X8664).unwrap(),
        guid: Guid::from_bytes([(r.next() % 3) as u8; 16]),
        first: Sectors(first),
        last: Sectors(first + r.next() % 2000),
        attributes: r.next(),
        name: Name::new(["", "home", "x"][(r.next() % 3) as usize]).unwrap(),
        rest: Vec::new(),
    }
}

#[test]
fn spoiled_disks_are_survived() {
    let mut planned = 0;
    for id in 0..count() {
        let r = &mut Random::new(!id);
        let guid = Guid::from_bytes([7; 16]);
        let mut table = Table::new(guid, Sectors(6000), SectorSize::S512).unwrap();
        for slot in 0..r.next() as u32 % 4 {
            table.entries.insert(slot * 3, entry(r));
        }
        let mut image = Cursor::new(vec![0; 6000 * 512]);
        if gpt::write(&mut image, &table).is_err() {
            continue;
        }
        planned += 1;
        let mut bytes = image.into_inner();
        let case = generate::odd(id);
        let mut text = case.runs[0].definitions[0].1.clone().into_bytes();
        text.truncate(400);
        text.extend_from_slice(&[0, 1, r.next() as u8 | 1, 0]);
        bytes[..text.len()].copy_from_slice(&text);
        let damaged = if r.next().is_multiple_of(2) { 1024 } else { 3000 };
        spoil(&mut bytes[..damaged], r);
        fuzzing::fuzz_plan(&bytes);
        fuzzing::fuzz_gpt(&bytes);
    }
    assert!(planned > count() / 4, "only {planned} tables were sound");
}
