//! Every decision of the planner, against systemd-repart itself.
//!
//! `UPDATE=1` writes the answers to `tests/data`, where `recorded.rs` checks them
//! without the original; `FROM=` and `COUNT=` choose other cases:
//!
//! ```text
//! UPDATE=1 cargo test -p mkgold-disk --test oracle_repart -- --ignored
//! ```

mod common;

use common::{Case, Digested, Recorded, data_file, difference, existing_file, generate, oracle};

/// How many cases are generated, and how many of them are kept as data.
const CASES: u64 = 400;
const KEPT: usize = 130;

/// How many cases with existing tables are kept, and how many of them are asked again.
const EXISTING: u64 = 1200;
const ASKED: u64 = 250;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |n| n.parse().unwrap())
}

#[test]
#[ignore = "oracle"]
fn existing_tables_are_changed_as_by_systemd_repart() {
    let (name, version) = oracle::version();
    let update = std::env::var_os("UPDATE").is_some();
    let from = number("FROM", 0);
    let count = number("COUNT", if update { EXISTING } else { ASKED });
    let cases: Vec<Case> = (from..from + count).map(generate::existing).collect();
    let answers = oracle::answers(&cases);
    let pairs: Vec<_> =
        cases.iter().zip(&answers).filter_map(|(c, a)| Some((c, a.as_ref()?))).collect();
    assert!(pairs.len() as u64 >= count - count / 20, "only {} answers", pairs.len());
    let runs = || pairs.iter().flat_map(|(_, a)| a.iter());
    let (accepted, refused) = (runs().filter(|a| a.ok).count(), runs().filter(|a| !a.ok).count());
    assert!(count < 100 || (accepted as u64 > count / 3 && refused as u64 > count / 10));
    if update {
        let lines = pairs.iter().map(|(c, a)| serde_json::to_string(&Digested::new(c, a)).unwrap());
        let name = serde_json::to_string(&name).unwrap();
        let lines: Vec<String> = std::iter::once(name).chain(lines).collect();
        std::fs::write(existing_file(version), lines.join("\n") + "\n").unwrap();
    }
    let wrong: Vec<String> = pairs.iter().filter_map(|(c, a)| difference(c, a, version)).collect();
    let shown = wrong.iter().take(number("SHOW", 6) as usize).cloned().collect::<String>();
    assert!(wrong.is_empty(), "{} of {count} cases differ from {name}:\n{shown}", wrong.len());
}

#[test]
#[ignore = "oracle"]
fn plans_are_those_of_systemd_repart() {
    let (name, version) = oracle::version();
    let (from, count) = (number("FROM", 0), number("COUNT", CASES));
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
