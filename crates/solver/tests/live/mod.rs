//! The solver's choice against apt-get's own, on whole package sets.
//!
//! `oracle_apt.rs` compares some of the lists, `long_apt.rs` all of them. Needs
//! `MKGOLD_ORACLE` (a trixie root, whose apt 3.0 answers for trixie) and, for bookworm, an
//! apt-get 2.6 on the host (otherwise the oracle's).
//! It uses the network: apt's private roots are filled from the mirror that the
//! host's own sources name. Two variables save that work while one iterates:
//!
//! - `MKGOLD_APT_ROOTS`: a directory for the roots (`trixie`, `trixie-multi`, …);
//!   those that have indices are used as they are;
//! - `MKGOLD_APT_ANSWERS`: a directory in which apt-get's output is kept. Empty it
//!   when the indices change.
//! - `MKGOLD_APT_RECORD`: a directory for recordings of the answers, with the part of
//!   the universe that matters: `tests/data`, from which `tests/recorded.rs` replays.
//!
//! Lists: `tests/data/lists.txt`; `MKGOLD_APT_LISTS` names those to try (separated
//! by blanks).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use debian::deb822::Paragraphs;
use debian::{Architecture, Interner, PackageRecord};
use solver::{Installed, SourceInfo, Universe, solve_traced};

use crate::common::{Answer, Case, Recorder, chosen, compare, request};

const LISTS: &str = include_str!("../data/lists.txt");

struct List {
    name: &'static str,
    release: Option<&'static str>,
    specs: &'static str,
}

/// The lists with these names, or all.
fn lists(names: &[&str]) -> Vec<List> {
    let variable = std::env::var("MKGOLD_APT_LISTS").unwrap_or_default();
    let wanted: Vec<_> = variable.split_whitespace().collect();
    let wanted = if wanted.is_empty() { names.to_vec() } else { wanted };
    let parse = |line: &'static str| {
        let parts: Vec<_> = line.split('|').collect();
        match parts.as_slice() {
            [name, specs] => List { name, release: None, specs },
            [name, release, specs] => List { name, release: Some(release), specs },
            _ => panic!("{line}"),
        }
    };
    let lines = LISTS.lines().filter(|line| !line.starts_with('#'));
    lines.map(parse).filter(|l| wanted.is_empty() || wanted.contains(&l.name)).collect()
}

/// A private root for apt: one release, with or without i386.
struct AptRoot {
    name: String,
    release: &'static str,
    multi: bool,
    directory: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

/// The mirrors of the archive and of its security part, and the keyring that
/// signs them, as the host's sources have them.
fn host_sources() -> Vec<(bool, String, String)> {
    let path = "/etc/apt/sources.list.d/debian.sources";
    let text = std::fs::read_to_string(path).expect("the host has Debian's deb822 sources");
    let paragraphs = Paragraphs::with_comments(&text).map(|p| p.expect(path));
    let source = |p: debian::deb822::Paragraph<'_>| {
        let get = |name| p.get(name).unwrap_or_else(|| panic!("{path}: {name}")).to_owned();
        (get("Suites").contains("-security"), get("URIs"), get("Signed-By"))
    };
    paragraphs.map(source).collect()
}

impl AptRoot {
    fn new(release: &'static str, multi: bool) -> Self {
        let name = if multi { format!("{release}-multi") } else { release.to_owned() };
        let (directory, temporary) = match std::env::var_os("MKGOLD_APT_ROOTS") {
            Some(parent) => (PathBuf::from(parent).join(&name), None),
            None => {
                let temporary = tempfile::tempdir().unwrap();
                (temporary.path().join(&name), Some(temporary))
            }
        };
        let root = Self { name, release, multi, directory, _temporary: temporary };
        if root.indices().is_empty() {
            root.prepare();
        }
        root
    }

    fn architectures(&self) -> &'static [&'static str] {
        if self.multi { &["amd64", "i386"] } else { &["amd64"] }
    }

    /// Writes apt's configuration and fetches the indices.
    fn prepare(&self) {
        let root = self.directory.display();
        for directory in [
            "etc/apt/apt.conf.d",
            "etc/apt/preferences.d",
            "etc/apt/sources.list.d",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
            "var/lib/dpkg",
        ] {
            std::fs::create_dir_all(self.directory.join(directory)).unwrap();
        }
        let architectures: String =
            self.architectures().iter().map(|arch| format!("\"{arch}\"; ")).collect();
        let settings = format!(
            "Dir \"{root}/\";\nDir::State::status \"{root}/var/lib/dpkg/status\";\n\
             APT::Architecture \"amd64\";\nAPT::Architectures {{ {architectures}}};\n\
             Acquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\nDebug::NoLocking \"true\";\n"
        );
        std::fs::write(self.directory.join("apt.conf"), settings).unwrap();
        std::fs::write(self.directory.join("var/lib/dpkg/status"), "").unwrap();
        let mut sources = String::new();
        for (security, mirror, key) in host_sources() {
            let release = self.release;
            let suites = match (security, self.multi) {
                (true, true) => continue,
                (true, false) => format!("{release}-security"),
                (false, true) => release.to_owned(),
                (false, false) => format!("{release} {release}-updates"),
            };
            let architectures = self.architectures().join(" ");
            write!(
                sources,
                "Types: deb\nURIs: {mirror}\nSuites: {suites}\nComponents: main\n\
                 Architectures: {architectures}\nSigned-By: {key}\n\n"
            )
            .unwrap();
        }
        let path = self.directory.join("etc/apt/sources.list.d/debian.sources");
        std::fs::write(path, sources).unwrap();
        let status = Command::new("apt-get")
            .env("APT_CONFIG", self.directory.join("apt.conf"))
            .arg("update")
            .status()
            .expect("the host has apt-get");
        assert!(status.success() && !self.indices().is_empty(), "apt-get update: {status}");
    }

    /// The indices in the order in which apt reads them: as the sources name them.
    fn indices(&self) -> Vec<PathBuf> {
        let lists = self.directory.join("var/lib/apt/lists");
        let Ok(entries) = std::fs::read_dir(&lists) else { return Vec::new() };
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        found.retain(|path| path.to_string_lossy().ends_with("_Packages"));
        let rank = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let suite = ["-security_", "-updates_"].iter().position(|s| name.contains(s));
            (suite.map_or(0, |found| 2 - found), name)
        };
        found.sort_by_key(rank);
        found
    }

    fn universe(&self) -> Universe {
        let foreign = if self.multi { vec![Architecture::new("i386").unwrap()] } else { vec![] };
        let mut builder = Universe::builder(Architecture::new("amd64").unwrap(), foreign);
        let mut interner = Interner::new();
        for index in self.indices() {
            let text = std::fs::read_to_string(&index).unwrap();
            let records: Vec<Arc<PackageRecord>> =
                debian::read_packages_with(&text, &mut interner).unwrap();
            let label = index.file_name().unwrap().to_string_lossy().into();
            builder =
                builder.add(&records, SourceInfo { label, priority: 500, releases: Vec::new() });
        }
        builder.build()
    }

    /// What apt-get prints for the list.
    fn ask_apt(&self, list: &List, recommends: bool) -> String {
        let kept = std::env::var_os("MKGOLD_APT_ANSWERS")
            .map(|dir| Path::new(&dir).join(format!("{}.{}.{recommends}", self.name, list.name)));
        if let Some(answer) = kept.as_ref().and_then(|path| std::fs::read_to_string(path).ok()) {
            return answer;
        }
        let configuration = self.directory.join("apt.conf");
        let mut command = match self.release == "bookworm" && host_has_apt_2_6() {
            true => Command::new("env"),
            false => testkit::oracle::command("env", &[&self.directory]),
        };
        command.arg(format!("APT_CONFIG={}", configuration.display()));
        command.args(["apt-get", "install", "--simulate", "-o"]);
        command.arg(format!("APT::Install-Recommends={recommends}"));
        // With i386 enabled, plain `?essential` asks apt for both dpkgs, and fails.
        command.arg("?and(?essential,?architecture(amd64))").args(list.specs.split(' '));
        let output = command.output().unwrap();
        let answer = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(answer.contains("\nInst ") || answer.contains("\nE: "), "apt-get says: {answer}");
        if let Some(path) = kept {
            std::fs::write(path, &answer).unwrap();
        }
        answer
    }
}

fn host_has_apt_2_6() -> bool {
    let output = Command::new("apt-get").arg("--version").output();
    output.is_ok_and(|output| output.stdout.starts_with(b"apt 2.6"))
}

/// `Inst name[:arch] (version origin… [arch]) …`; none where apt-get failed.
fn parse_answer(answer: &str) -> Answer {
    if answer.lines().any(|line| line.starts_with("E: ")) {
        return None;
    }
    let parse = |line: &str| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (").expect(line);
        let name = name.split(':').next().expect(line);
        let (version, rest) = rest.split_once(' ').expect(line);
        let arch = rest.split_once('[').and_then(|(_, r)| r.split_once(']')).expect(line).0;
        Some(format!("{name} {version} {arch}"))
    };
    Some(answer.lines().filter_map(parse).collect())
}

/// Compares the lists with these names, or all, with and without Recommends.
#[allow(clippy::print_stdout, reason = "figures for docs/oracles.md")]
pub fn compare_lists(release: &'static str, multi: bool, names: &[&str]) {
    let lists: Vec<List> = lists(names)
        .into_iter()
        .filter(|list| list.name.ends_with("-i386") == multi)
        .filter(|list| list.release.is_none_or(|only| only == release))
        .collect();
    let root = AptRoot::new(release, multi);
    let universe = root.universe();
    let mut failures = String::new();
    let mut compared = 0;
    let mut recorder = Recorder::default();
    for list in &lists {
        for recommends in [true, false] {
            let apt = parse_answer(&root.ask_apt(list, recommends));
            let wanted = request(list.specs, recommends);
            let (solution, trace) = solve_traced(&universe, &Installed::default(), &wanted);
            let ours = solution.ok().map(|solution| chosen(&solution));
            let difference = compare(&apt, &ours);
            let case = Case {
                name: list.name.to_owned(),
                with_recommends: recommends,
                specs: list.specs.to_owned(),
                answer: apt,
            };
            recorder.add(case, trace);
            if !difference.is_empty() {
                let name = list.name;
                writeln!(failures, "{release} {name} recommends={recommends}: {difference}")
                    .unwrap();
            }
            compared += 1;
        }
    }
    println!("{release}, i386 {multi}: {compared} choices compared");
    assert!(compared > 0, "no list was compared");
    if let Some(directory) = std::env::var_os("MKGOLD_APT_RECORD") {
        let path = Path::new(&directory).join(format!("{}.xz", root.name));
        std::fs::write(path, recorder.finish()).unwrap();
    }
    assert!(failures.is_empty(), "of {compared} lists differ:\n{failures}");
}
