//! The solver's choice against apt-get's recorded answers: without apt or network.
//!
//! `tests/long_apt.rs` makes the recordings of real package sets (with
//! `MKGOLD_APT_RECORD`); `data/archives.txt` says how the random archives were made.

mod common;

use common::{compare, read_recording, request, solve, universe};

fn replay(file: &[u8], multi: bool, at_least: usize) {
    let (stanzas, cases) = read_recording(file);
    let universe = universe(&stanzas, multi);
    let mut failures = Vec::new();
    for case in &cases {
        let ours = solve(&universe, &request(&case.specs, case.with_recommends));
        let difference = compare(&case.answer, &ours);
        if !difference.is_empty() {
            let (name, recommends) = (&case.name, case.with_recommends);
            failures.push(format!("{name} recommends={recommends}: {difference}"));
        }
    }
    assert!(cases.len() >= at_least, "{} cases", cases.len());
    assert!(failures.is_empty(), "{} of {}: {failures:#?}", failures.len(), cases.len());
}

#[test]
fn trixie_is_solved_as_recorded() {
    replay(include_bytes!("data/trixie.xz"), false, 100);
}

#[test]
fn bookworm_is_solved_as_recorded() {
    replay(include_bytes!("data/bookworm.xz"), false, 100);
}

#[test]
fn trixie_with_i386_is_solved_as_recorded() {
    replay(include_bytes!("data/trixie-multi.xz"), true, 20);
}

#[test]
fn bookworm_with_i386_is_solved_as_recorded() {
    replay(include_bytes!("data/bookworm-multi.xz"), true, 20);
}

#[test]
fn random_archives_are_solved_as_recorded() {
    let text = include_str!("data/archives.txt");
    let mut failures = Vec::new();
    let mut count = 0;
    // The head of the file is split off with the first case.
    for case in text.split("\n# ").filter(|case| case.contains("\n> ")) {
        let mut parts = case.splitn(4, '\n');
        let mut next = || parts.next().unwrap_or_else(|| panic!("{case}"));
        let (header, specs, answer, stanzas) = (next(), next(), next(), next());
        let specs = specs.strip_prefix("> ").unwrap();
        let answer = answer.strip_prefix("< ").unwrap();
        let apt = (answer != "none")
            .then(|| answer.split_whitespace().map(|id| id.replace('_', " ")).collect());
        let request = solver::Request {
            specs: specs.split(' ').map(str::to_owned).collect(),
            with_recommends: true,
            ..solver::Request::default()
        };
        let ours = solve(&universe(stanzas, header.contains("multi")), &request);
        let difference = compare(&apt, &ours);
        if !difference.is_empty() {
            failures.push(format!("{header}: {difference}"));
        }
        count += 1;
    }
    assert!(count >= 90, "{count} cases");
    assert!(failures.is_empty(), "{} of {count}: {failures:#?}", failures.len());
}
