//! The projects against recorded answers of mkosi: no mkosi needed.
//!
//! `long_mkosi.rs` makes the recordings, `oracle_mkosi.rs` compares some with a living mkosi.

mod common;
mod known;

use common::{Recording, projects, unexplained};

fn compare(text: &str, version: &str) {
    let recording: Recording = serde_json::from_str(text).expect("a recording");
    assert_eq!(recording.version, version);
    let found = unexplained(&recording, &known::for_version(version), &projects());
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

#[test]
fn as_mkosi_27_answered() {
    compare(include_str!("data/mkosi-27.1.json"), "27.1");
}

#[test]
fn as_mkosi_25_answered() {
    compare(include_str!("data/mkosi-25.3.json"), "25.3");
}

#[test]
fn there_are_enough_projects() {
    assert!(projects().len() >= 400, "{}", projects().len());
}
