//! Every decision of the planner, against systemd-repart itself.
//!
//! `UPDATE=1` writes the answers to `tests/data`, where `recorded.rs` checks them
//! without the original.

mod common;

use common::{Case, Recorded, data_file, difference, generate, oracle};

/// How many cases are generated, and how many of them are kept as data.
const CASES: u64 = 400;
const KEPT: usize = 130;

#[test]
#[ignore = "oracle"]
fn plans_are_those_of_systemd_repart() {
    let (name, version) = oracle::version();
    let from = std::env::var("FROM").map_or(0, |n| n.parse().unwrap());
    let count = std::env::var("COUNT").map_or(CASES, |n| n.parse().unwrap());
    let cases: Vec<Case> = (from..from + count).map(generate::case).collect();
    let answered: Vec<Recorded> = oracle::answers(&cases)
        .into_iter()
        .zip(cases)
        .filter_map(|(answers, case)| Some(Recorded { case, answers: answers? }))
        .collect();
    // The original crashes now and then; what it would have answered is not known.
    assert!(answered.len() as u64 >= count - count / 50 - 1, "only {} answers", answered.len());
    let accepted = answered.iter().flat_map(|r| &r.answers).filter(|a| a.ok).count();
    assert!(accepted as u64 > count / 3, "only {accepted} runs were accepted");
    if std::env::var_os("UPDATE").is_some() {
        let records = answered.iter().take(KEPT).map(|r| serde_json::to_string(r).unwrap());
        let name = serde_json::to_string(&name).unwrap();
        let lines: Vec<String> = std::iter::once(name).chain(records).collect();
        std::fs::write(data_file(version), lines.join("\n") + "\n").unwrap();
    }
    let wrong: Vec<String> =
        answered.iter().filter_map(|r| difference(&r.case, &r.answers, version)).collect();
    let shown = wrong.iter().take(6).cloned().collect::<String>();
    assert!(wrong.is_empty(), "{} of {count} cases differ from {name}:\n{shown}", wrong.len());
}

#[test]
#[ignore = "oracle"]
fn definitions_are_taken_and_refused_as_by_systemd_repart() {
    let (name, version) = oracle::version();
    let cases: Vec<Case> = (0..800).map(generate::odd).collect();
    let answers = oracle::answers(&cases);
    let pairs = || cases.iter().zip(&answers).filter_map(|(c, a)| Some((c, a.as_ref()?)));
    let accepted = pairs().filter(|(_, a)| a[0].ok).count();
    assert!((200..700).contains(&accepted), "{accepted} were accepted");
    let wrong: Vec<String> = pairs().filter_map(|(c, a)| difference(c, a, version)).collect();
    let shown = wrong.iter().take(25).cloned().collect::<String>();
    assert!(wrong.is_empty(), "{} cases differ from {name}:\n{shown}", wrong.len());
}
