//! The answers of systemd-repart, as recorded by `oracle_repart.rs`, without it.

mod common;

use common::{
    Digested, Recorded, TIES, data_file, difference, existing_file, generate, lost_its_table,
    replay,
};
use disk::Version;

fn check(version: Version) {
    let text = std::fs::read_to_string(data_file(version)).unwrap();
    let mut lines = text.lines();
    let name = lines.next().unwrap();
    assert!(name.contains(&version.number().to_string()), "{name} is another version");
    let all: Vec<Recorded> = lines.map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(all.len() >= 100, "only {} cases", all.len());
    let wrong: Vec<String> =
        all.iter().filter_map(|r| difference(&r.case, &r.answers, version)).collect();
    let shown = wrong.iter().take(5).cloned().collect::<String>();
    assert!(wrong.is_empty(), "{} cases differ from {name}:\n{shown}", wrong.len());
}

#[test]
fn plans_are_those_recorded_from_systemd_257() {
    check(Version::V257);
}

#[test]
fn plans_are_those_recorded_from_systemd_262() {
    check(Version::V262);
}

#[test]
fn existing_tables_are_changed_as_recorded_from_systemd_257() {
    let version = Version::V257;
    let text = std::fs::read_to_string(existing_file(version)).unwrap();
    let all: Vec<Digested> =
        text.lines().skip(1).map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(all.len() >= 1000, "only {} cases", all.len());
    let wrong: Vec<u64> = all
        .iter()
        .filter(|recorded| !TIES.contains(&recorded.id))
        .filter(|recorded| {
            let case = generate::existing(recorded.id);
            let Some(mut answers) = replay(&case, version) else { return false };
            if Digested::new(&case, &answers) == **recorded {
                return false;
            }
            let mut expected = recorded.answers.clone();
            let last = expected.len() - 1;
            if !lost_its_table(&case, &expected) || answers[last].status == Some(77) {
                return true;
            }
            answers.truncate(last);
            expected.truncate(last);
            let recorded = Digested { answers: expected, ..(*recorded).clone() };
            Digested::new(&case, &answers) != recorded
        })
        .map(|recorded| recorded.id)
        .collect();
    // `FROM=ID COUNT=1` of the test in `oracle_repart.rs` shows how they differ.
    assert!(wrong.is_empty(), "the cases {wrong:?} differ from systemd 257");
}
