//! mkgold's tools of the first boot against what systemd's made of the same cases, as
//! `oracle_toolbox.rs` records it. No root, no network.

mod toolbox;

use std::collections::BTreeMap;

use assert_cmd::Command;
use toolbox::{Answer, Case, cases};

const RECORDED: &str = include_str!("data/toolbox-257.jsonl");

/// Where it differs, on purpose: what the case's name has, and why. As PARITY.md has it.
const KNOWN: &[(&str, &str)] = &[
    ("--hostname=box-??", "257 knows no patterns, 262 does"),
    ("systemd-firstboot word", "a word that means nothing is refused"),
    ("firstboot.hostname=from-credential", "257 does not know this credential, 262 does"),
    ("firstboot.timezone=Mars/Base", "257 makes a link to nowhere, 262 ignores it"),
    ("firstboot.keymap=a/b", "257 takes every name, 262 ignores it"),
    ("passwd.shell.root=/bin/none", "a shell that is not there would lock root out"),
    ("machine-id-setup  on uninitialized", "the documentation says that it is replaced"),
    ("machine-id-setup  on zeroes", "not an ID, so it is replaced"),
    ("machine-id-setup  on both", "the documentation says that it is replaced"),
];

/// How many cases that is.
const DIFFERING: usize = 43;

fn run(case: &Case) -> (Answer, String) {
    let dir = tempfile::tempdir().unwrap();
    let (root, credentials) = (dir.path().join("root"), dir.path().join("credentials"));
    case.lay_out(&root, &credentials);
    let mut command = Command::cargo_bin("mkgold").unwrap();
    command.args(case.tool.rsplit(' ').next()).arg(format!("--root={}", root.display()));
    command.args(&case.arguments).env_remove("SOURCE_DATE_EPOCH");
    let output = command.env("CREDENTIALS_DIRECTORY", &credentials).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (case.answer(&root, output.status.code().unwrap_or(-1)), said)
}

#[test]
fn makes_what_systemd_makes() {
    let recorded: BTreeMap<String, Answer> = RECORDED
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|value| (value["case"].as_str().unwrap().to_owned(), Answer::of_json(&value)))
        .collect();
    let cases = cases::all();
    assert_eq!(recorded.len(), cases.len(), "names are unique, and all are recorded");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let compare = |case: &Case| {
        let expected = &recorded[&case.name];
        let (ours, said) = run(case);
        let known = KNOWN.iter().any(|(part, _)| case.name.contains(part));
        let text = format!("{}\n{}{said}", case.name, difference(expected, &ours));
        (ours != *expected).then_some((known, text))
    };
    let differences: Vec<(bool, String)> = std::thread::scope(|scope| {
        let parts = cases.chunks(cases.len().div_ceil(threads));
        let differing = |part: &[Case]| part.iter().filter_map(compare).collect::<Vec<_>>();
        let parts: Vec<_> = parts.map(|part| scope.spawn(move || differing(part))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    let (known, wrong): (Vec<_>, Vec<_>) = differences.into_iter().partition(|(known, _)| *known);
    let (differing, wrong): (_, Vec<_>) =
        (known.len(), wrong.into_iter().map(|(_, text)| text).collect());
    assert_eq!(differing, DIFFERING, "cases that are known to differ");
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn difference(theirs: &Answer, ours: &Answer) -> String {
    let mut text = String::new();
    if theirs.status != ours.status {
        text += &format!("  status {} → {}\n", theirs.status, ours.status);
    }
    let paths = theirs.after.keys().chain(ours.after.keys());
    for path in paths.collect::<std::collections::BTreeSet<_>>() {
        let (a, b) = (theirs.after.get(path), ours.after.get(path));
        if a != b && theirs.status == ours.status {
            text += &format!("  {path}: {a:?} → {b:?}\n");
        }
    }
    text
}
