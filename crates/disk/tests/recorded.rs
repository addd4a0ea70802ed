//! The answers of systemd-repart, as recorded by `oracle_repart.rs`, without it.

mod common;

use common::{Recorded, data_file, difference};
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
