//! Checks that the project's own statements about its tests are true.
//!
//! - PARITY.md: every test that a row names is there (`crate: test`, a function or a file
//!   of `tests/`), and no row is without one.
//! - Ignored tests: the reason names a ring, and the test lies where that ring looks, so
//!   that none is skipped by all of them.

use std::path::{Path, PathBuf};

use crate::run::root;

/// The first word of a reason, the ring, and the files of a crate that it runs.
const RINGS: &[(&str, &str, &[&str])] = &[
    ("oracle", "oracle", &["tests/oracle_"]),
    ("long", "oracle-long", &["tests/long_"]),
    ("boot", "boot", &["tests/boot.rs", "tests/golden.rs", "tests/hostile.rs"]),
    ("campaign", "campaign", &["tests/campaign/", "tests/privileges.rs"]),
];

/// Both checks; every fault on a line of its own.
pub fn check() -> Result<(), String> {
    let sources = Source::all(&root().join("crates"))?;
    let path = root().join("PARITY.md");
    let text = read(&path)?;
    let mut faults: Vec<String> = Vec::new();
    for (number, cell) in cells(&text) {
        let found = faults_of_cell(&cell, &sources);
        faults.extend(found.into_iter().map(|fault| format!("PARITY.md:{number}: {fault}")));
    }
    faults.extend(sources.iter().flat_map(Source::faults));
    match faults.is_empty() {
        true => Ok(()),
        false => Err(format!("statements about tests that are not true:\n{}", faults.join("\n"))),
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("reading {}: {e}", path.display()))
}

/// A Rust file of a crate.
struct Source {
    crate_name: String,
    /// Below the crate.
    path: String,
    text: String,
}

impl Source {
    fn all(crates: &Path) -> Result<Vec<Source>, String> {
        let mut files: Vec<PathBuf> = Vec::new();
        let mut dirs = vec![crates.to_owned()];
        while let Some(dir) = dirs.pop() {
            let entries = std::fs::read_dir(&dir);
            let entries = entries.map_err(|e| format!("reading {}: {e}", dir.display()))?;
            for entry in entries {
                let path = entry.map_err(|e| format!("reading {}: {e}", dir.display()))?.path();
                match path.is_dir() {
                    true => dirs.push(path),
                    false => files.push(path),
                }
            }
        }
        files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
        files.sort();
        let source = |path: PathBuf| {
            let text = read(&path)?;
            let below = path.strip_prefix(crates).expect("it was found there").display();
            let below = below.to_string();
            let (crate_name, path) = below.split_once('/').ok_or("a file beside the crates")?;
            Ok(Source { crate_name: crate_name.into(), path: path.into(), text })
        };
        files.into_iter().map(source).collect()
    }

    /// Whether this is what a row calls `name`: a function, or a file of tests.
    fn is(&self, name: &str) -> bool {
        let function = format!("fn {name}(");
        let begins = |line: &str| line.trim_start().starts_with(&function);
        self.path == format!("tests/{name}.rs") || self.text.lines().any(begins)
    }

    /// Ignored tests that no ring runs.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (number, line) in self.text.lines().enumerate() {
            let Some(rest) = line.trim_start().strip_prefix("#[ignore") else { continue };
            let reason = rest.split('"').nth(1).unwrap_or_default();
            let ring = reason.split(':').next().unwrap_or_default();
            let known = RINGS.iter().find(|(word, ..)| *word == ring);
            let lies = |(_, _, files): &(&str, &str, &[&str])| {
                files.iter().any(|file| self.path.starts_with(file))
            };
            if !known.is_some_and(lies) {
                let place = format!("crates/{}/{}:{}", self.crate_name, self.path, number + 1);
                let rings: Vec<_> = RINGS.iter().map(|(word, ..)| *word).collect();
                faults.push(format!(
                    "{place}: ignored as {reason:?}, which no ring runs there ({})",
                    rings.join(", ")
                ));
            }
        }
        faults
    }
}

/// The cells of columns called `test`, with their lines.
fn cells(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut column = None;
    for (number, line) in text.lines().enumerate() {
        let cells: Vec<&str> = match line.strip_prefix('|') {
            Some(row) => row.trim_end().trim_end_matches('|').split('|').map(str::trim).collect(),
            None => {
                column = None;
                continue;
            }
        };
        if let Some(at) = cells.iter().position(|cell| *cell == "test") {
            column = Some(at);
        } else if let Some(at) = column
            && !cells.iter().all(|cell| cell.chars().all(|c| c == '-'))
        {
            found.push((number + 1, cells.get(at).copied().unwrap_or_default().to_owned()));
        }
    }
    found
}

/// `` `crate`: `test`, `test`; `crate`: `test` ``, or "the same" as the row before.
fn faults_of_cell(cell: &str, sources: &[Source]) -> Vec<String> {
    if cell == "the same" {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for part in cell.split("; ") {
        let words: Vec<&str> = part.split('`').collect();
        let [before, crate_name, rest @ ..] = words.as_slice() else {
            faults.push(format!("{cell:?} names no test"));
            continue;
        };
        let tests: Vec<&str> = rest.iter().copied().skip(1).step_by(2).collect();
        let between = rest.iter().copied().step_by(2).collect::<Vec<_>>();
        let shape = before.is_empty()
            && !tests.is_empty()
            && between.first() == Some(&": ")
            && between.last() == Some(&"")
            && between[1..between.len() - 1].iter().all(|text| *text == ", ");
        if !shape {
            faults.push(format!("{part:?} is not: `crate`: `test`, `test`"));
            continue;
        }
        let missing = |name: &&str| {
            !sources.iter().any(|source| source.crate_name == *crate_name && source.is(name))
        };
        let missing = tests.into_iter().filter(missing);
        faults.extend(missing.map(|name| format!("there is no test {name} in {crate_name}")));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(crate_name: &str, path: &str, text: &str) -> Source {
        Source { crate_name: crate_name.into(), path: path.into(), text: text.into() }
    }

    #[test]
    fn a_row_names_tests_that_are_there() {
        let sources = [
            source("fs", "src/x.rs", "    #[test]\n    fn it_holds() {\n"),
            source("fs", "tests/oracle_fat.rs", "fn other() {\n"),
            source("apt", "src/lib.rs", ""),
        ];
        for (cell, faults) in [
            ("`fs`: `it_holds`", 0),
            ("`fs`: `it_holds`, `oracle_fat`; `fs`: `other`", 0),
            ("the same", 0),
            ("`apt`: `it_holds`", 1),
            ("`fs`: `it_hold`, `holds`", 2),
            ("`fs`: `it_holds`; `it_holds`", 1),
            ("`fs`: populate tests", 1),
            ("fs: it_holds", 1),
            ("none yet", 1),
            ("", 1),
        ] {
            assert_eq!(faults_of_cell(cell, &sources).len(), faults, "{cell}");
        }
        let text =
            "| a | test |\n|---|---|\n| x | `fs`: `y` |\n\n| a | b |\n|---|---|\n| 1 | 2 |\n";
        assert_eq!(cells(text), [(3, "`fs`: `y`".to_owned())]);
    }

    #[test]
    fn an_ignored_test_lies_where_its_ring_looks() {
        // Not written as attributes: this file is no test of a ring.
        let ignored = |reason: &str| format!("#[{}{reason}]\n", "ignore");
        for (path, reason, faults) in [
            ("tests/oracle_x.rs", " = \"oracle\"", 0),
            ("tests/long_x.rs", " = \"long: an hour\"", 0),
            ("tests/x.rs", " = \"oracle\"", 1),
            ("tests/oracle_x.rs", " = \"long\"", 1),
            ("tests/oracle_x.rs", " = \"root\"", 1),
            ("tests/oracle_x.rs", "", 1),
            ("src/lib.rs", " = \"campaign: x\"", 1),
        ] {
            let source = source("fs", path, &ignored(reason));
            assert_eq!(source.faults().len(), faults, "{path}{reason}");
        }
    }
}
