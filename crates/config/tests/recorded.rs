//! The projects against recorded answers of mkosi: no mkosi needed.
//!
//! `long_mkosi.rs` makes the recordings, `oracle_mkosi.rs` compares some with a living mkosi.

mod common;
mod known;

use common::{Recording, generated, projects, unexplained};

fn compare(text: &str, version: &str) {
    let recording: Recording = serde_json::from_str(text).expect("a recording");
    assert_eq!(recording.version, version);
    let mut all = projects();
    all.extend(generated());
    let found = unexplained(&recording, known::KNOWN, &all);
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

#[test]
fn as_mkosi_27_answered() {
    compare(include_str!("data/mkosi.json"), "27.1");
}

#[test]
fn there_are_enough_projects() {
    assert!(projects().len() >= 400, "{}", projects().len());
}
