//! One small archive for each rule of the solver, and the text of each explanation.
//!
//! A stanza is written on one line: `name version arch; Field: value; …`.

use std::fmt::Write as _;

use debian::Architecture;
use solver::{Installed, Request, Solution, SourceInfo, Universe, Unsolvable};

fn stanzas(lines: &str) -> String {
    let mut text = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut parts = line.split("; ");
        let head: Vec<&str> = parts.next().unwrap().split(' ').collect();
        let [name, version, arch] = head.as_slice() else { panic!("{line}") };
        write!(text, "Package: {name}\nVersion: {version}\nArchitecture: {arch}\n").unwrap();
        parts.for_each(|field| writeln!(text, "{field}").unwrap());
        text.push('\n');
    }
    text
}

/// Solves over sources given as (label, priority, stanzas).
fn solve(
    sources: &[(&str, i32, &str)],
    specs: &str,
    recommends: bool,
) -> Result<Solution, Unsolvable> {
    let foreign = vec![Architecture::new("i386").unwrap()];
    let mut builder = Universe::builder(Architecture::new("amd64").unwrap(), foreign);
    for &(label, priority, lines) in sources {
        let records = debian::read_packages(&stanzas(lines)).unwrap();
        let info = SourceInfo { label: label.into(), priority, releases: vec![label.into()] };
        builder = builder.add(&records, info);
    }
    let specs = specs.split(' ').map(str::to_owned).collect();
    let request = Request { specs, with_recommends: recommends, ..Request::default() };
    solver::solve(&builder.build(), &Installed::default(), &request)
}

fn names(result: Result<Solution, Unsolvable>) -> String {
    let solution = result.unwrap_or_else(|error| panic!("{error}"));
    let show = |c: &solver::Chosen| match c.record.architecture.as_str() {
        "i386" => format!("{}:i386={}", c.record.name, c.record.version),
        _ => format!("{}={}", c.record.name, c.record.version),
    };
    solution.install.iter().map(show).collect::<Vec<_>>().join(" ")
}

const CASES: &[(&str, &str, &str, &str)] = &[
    ("first alternative", "a 1 amd64; Depends: x | y\nx 1 amd64\ny 1 amd64", "a", "a=1 x=1"),
    (
        "an alternative asked for",
        "a 1 amd64; Depends: x | y\nx 1 amd64\ny 1 amd64",
        "a y",
        "a=1 y=1",
    ),
    ("first does not exist", "a 1 amd64; Depends: x | y\ny 1 amd64", "a", "a=1 y=1"),
    (
        "first cannot be installed",
        "a 1 amd64; Depends: x | y\nx 1 amd64; Depends: gone\ny 1 amd64",
        "a",
        "a=1 y=1",
    ),
    ("a provider", "a 1 amd64; Depends: v\nx 1 amd64; Provides: v", "a", "a=1 x=1"),
    (
        "the real package before a provider",
        "a 1 amd64; Depends: v\nx 1 amd64; Provides: v; Priority: required\nv 1 amd64",
        "a",
        "a=1 v=1",
    ),
    (
        "the provider of the better priority",
        "a 1 amd64; Depends: v\nx 1 amd64; Provides: v\ny 1 amd64; Provides: v; Priority: standard",
        "a",
        "a=1 y=1",
    ),
    (
        "the provider mentioned later",
        "a 1 amd64; Depends: v\nx 1 amd64; Provides: v\ny 1 amd64; Provides: v",
        "a",
        "a=1 y=1",
    ),
    (
        "a provision needs a version where one is asked for",
        "a 1 amd64; Depends: v (>= 2)\ny 1 amd64; Provides: v\nx 1 amd64; Provides: v (= 2)",
        "a",
        "a=1 x=1",
    ),
    ("Recommends", "a 1 amd64; Recommends: r\nr 1 amd64", "a", "a=1 r=1"),
    ("Suggests", "a 1 amd64; Suggests: r\nr 1 amd64", "a", "a=1"),
    (
        "Recommends that conflict are left out",
        "a 1 amd64; Recommends: r\nr 1 amd64; Conflicts: a",
        "a",
        "a=1",
    ),
    (
        "Recommends pushed out by a Depends",
        "a 1 amd64; Recommends: r\nb 1 amd64; Conflicts: r\nr 1 amd64",
        "a b",
        "a=1 b=1",
    ),
    (
        "a package may conflict with what it provides",
        "a 1 amd64; Conflicts: v; Provides: v; Replaces: v",
        "a",
        "a=1",
    ),
    ("Breaks of another version only", "a 1 amd64; Breaks: b (<< 2)\nb 2 amd64", "a b", "a=1 b=2"),
    ("the highest version", "a 1 amd64\na 2 amd64", "a", "a=2"),
    ("a version asked for", "a 1 amd64\na 2 amd64", "a=1", "a=1"),
    ("what must not be there", "a 1 amd64; Recommends: r\nr 1 amd64", "a r-", "a=1"),
    (
        "a foreign package needs its own architecture",
        "a 1 i386; Depends: x\nx 1 amd64\nx 1 i386",
        "a:i386",
        "a:i386=1 x:i386=1",
    ),
    (
        "Multi-Arch: foreign serves every architecture",
        "a 1 i386; Depends: x\nx 1 amd64; Multi-Arch: foreign",
        "a:i386",
        "a:i386=1 x=1",
    ),
    (
        "Multi-Arch: allowed serves :any",
        "a 1 i386; Depends: x:any\nx 1 amd64; Multi-Arch: allowed",
        "a:i386",
        "a:i386=1 x=1",
    ),
    (
        "Multi-Arch: same is installed beside itself",
        "a 1 i386; Multi-Arch: same\na 1 amd64; Multi-Arch: same",
        "a a:i386",
        "a=1 a:i386=1",
    ),
    (
        "Essential is the package's",
        "a 2 amd64\na 1 amd64; Essential: yes\nb 1 amd64",
        "?essential b",
        "a=2 b=1",
    ),
];

#[test]
fn each_rule_holds() {
    for (rule, archive, specs, expected) in CASES {
        let found = names(solve(&[("main", 500, archive)], specs, true));
        assert_eq!(found, *expected, "{rule}");
    }
}

#[test]
fn recommends_are_left_out_on_request() {
    let archive = "a 1 amd64; Recommends: r\nr 1 amd64";
    assert_eq!(names(solve(&[("main", 500, archive)], "a", false)), "a=1");
}

#[test]
fn the_priority_decides_before_the_version() {
    let sources = |backports| [("main", 500, "a 1 amd64"), ("backports", backports, "a 2 amd64")];
    for (priority, specs, expected) in [
        (100, "a", "a=1"),
        (500, "a", "a=2"),
        (990, "a", "a=2"),
        (-1, "a", "a=1"),
        (100, "a/backports", "a=2"),
    ] {
        assert_eq!(names(solve(&sources(priority), specs, true)), expected, "{priority} {specs}");
    }
}

const EXPLANATIONS: &[(&str, &str, &[&str])] = &[
    ("apple 1 amd64", "aple", &["no source has a package “aple”", "the nearest name is apple"]),
    (
        "a 1 amd64; Depends: gone",
        "a",
        &[
            "a: requested as a",
            "a 1 (main, pinned 500) depends on gone",
            "no source has gone, and no package provides it",
        ],
    ),
    (
        "a 1 amd64; Depends: b\nb 1 amd64; Depends: c (>= 2)\nc 1 amd64",
        "a",
        &[
            "a: requested as a",
            "a 1 (main, pinned 500) depends on b",
            "b 1 (main, pinned 500) depends on c (>= 2)",
            "c 1 (main, pinned 500) is the only version, and it does not satisfy that",
        ],
    ),
    (
        "a 1 amd64; Depends: b (>= 5)\nb 1 amd64\nb 2 amd64",
        "a",
        &[
            "a: requested as a",
            "a 1 (main, pinned 500) depends on b (>= 5)",
            "no version satisfies that: b 2 (main, pinned 500), b 1 (main, pinned 500)",
        ],
    ),
    (
        "a 1 amd64; Conflicts: b\nb 1 amd64",
        "a b",
        &[
            "a 1 (main, pinned 500): requested as a",
            "b 1 (main, pinned 500): requested as b",
            "a 1 (main, pinned 500) conflicts with b, and b 1 (main, pinned 500) is chosen",
        ],
    ),
    (
        "a 1 amd64; Depends: x | y\nx 1 amd64; Depends: gone\ny 1 amd64; Depends: lost",
        "a",
        &[
            "a: requested as a",
            "a 1 (main, pinned 500) depends on x | y",
            "x 1 (main, pinned 500) depends on gone",
            "no source has gone, and no package provides it",
            "y 1 (main, pinned 500) depends on lost",
            "no source has lost, and no package provides it",
        ],
    ),
    (
        "x 1 amd64; Provides: v\ny 1 amd64; Provides: v",
        "v",
        &["“v” is a virtual package: name one of those that provide it (x, y)"],
    ),
    (
        "a 1 amd64\na 2 amd64",
        "a=3",
        &["“a=3” asks for a version of a that no source has; there is 2 (main), 1 (main)"],
    ),
    (
        "a 1 amd64; Depends: b\nb 1 amd64; Breaks: c\nc 1 amd64",
        "a c",
        &[
            "b 1 (main, pinned 500): a depends on it",
            "c 1 (main, pinned 500): requested as c",
            "b 1 (main, pinned 500) breaks c, and c 1 (main, pinned 500) is chosen",
        ],
    ),
    (
        "a 1 amd64",
        "?wrong",
        &[
            "“?wrong” is not a set of packages that is known; there are ?essential, ?required, ?important, ?standard, ?priority(…)",
        ],
    ),
];

#[test]
fn a_failure_is_explained() {
    for (archive, specs, expected) in EXPLANATIONS {
        let error = solve(&[("main", 500, archive)], specs, true).unwrap_err();
        assert_eq!(error.chain, *expected, "{specs}: {archive}");
    }
}

#[test]
fn a_pinned_package_is_explained() {
    let error = solve(&[("main", -1, "a 1 amd64")], "a", true).unwrap_err();
    let lines = "a: requested as a\nno version of a may be installed: a 1 (main, pinned -1)";
    assert_eq!(error.to_string(), lines);
}
