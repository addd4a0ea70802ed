//! The projects against recorded answers of mkosi: no mkosi needed.
//!
//! `long_mkosi.rs` makes the recordings, `oracle_mkosi.rs` compares some with a living mkosi.

mod common;
mod known;

use common::{generated, projects, recorded, unexplained};

#[test]
fn as_mkosi_27_answered() {
    let recording = recorded();
    assert_eq!(recording.version, "27.1");
    let mut all = projects();
    all.extend(generated());
    let found = unexplained(&recording, known::KNOWN, &all);
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

#[test]
fn there_are_enough_projects() {
    assert!(projects().len() >= 400, "{}", projects().len());
    assert!(generated().len() >= 400, "{}", generated().len());
    let several = |p: &&common::Project| p.nodes.iter().any(|(n, _)| n.starts_with("mkosi.images"));
    assert!(generated().iter().filter(several).count() >= 100);
}
