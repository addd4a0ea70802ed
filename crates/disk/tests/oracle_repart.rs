//! Every decision of the planner, against systemd-repart itself.
//!
//! `UPDATE=1` writes the answers to `tests/data`, where `recorded.rs` checks them
//! without the original.

mod common;

use common::{Case, Recorded, data_file, difference, generate, oracle, replay};

/// How many cases are generated, and how many of them are kept as data.
const CASES: u64 = 400;
const KEPT: usize = 400;

#[test]
#[ignore = "oracle"]
fn plans_are_those_of_systemd_repart() {
    let (name, version) = oracle::version();
    let from = std::env::var("FROM").map_or(0, |n| n.parse().unwrap());
    let count = std::env::var("COUNT").map_or(CASES, |n| n.parse().unwrap());
    let cases: Vec<Case> = (from..from + count).map(generate::case).collect();
    let answers = oracle::answers(&cases);
    let accepted = answers.iter().flatten().filter(|a| a.ok).count();
    assert!(accepted as u64 > count / 3, "only {accepted} runs were accepted");
    if std::env::var_os("UPDATE").is_some() {
        let mut text = serde_json::to_string(&name).unwrap() + "\n";
        for (case, answers) in cases.iter().zip(&answers).take(KEPT) {
            let record = Recorded { case: case.clone(), answers: answers.clone() };
            text += &(serde_json::to_string(&record).unwrap() + "\n");
        }
        std::fs::write(data_file(version), text).unwrap();
    }
    let wrong: Vec<String> = cases
        .iter()
        .zip(&answers)
        .filter_map(|(case, theirs)| difference(case, &replay(case, version), theirs))
        .collect();
    let shown = wrong.iter().take(3).cloned().collect::<String>();
    assert!(wrong.is_empty(), "{} of {count} cases differ from {name}:\n{shown}", wrong.len());
}
