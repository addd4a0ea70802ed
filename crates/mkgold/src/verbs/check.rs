//! `check`: is this image golden? The answer for people, for scripts, for scanners.
//!
//! What it is not: the rules (`check`), reading images (`image`).
//!
//! Exit codes: 0 golden; 1 the image cannot be opened; 2 the command line is wrong;
//! 3 a rule failed (of at least `--fail-on`); 4 none failed, but some could not tell.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use check::{Disk, Finding, Intent, Outcome, Report, Rule, Severity, Subject, Verdict, Volume};
use clap::{Arg, ArgAction, ArgMatches, Command};
use image::{Image, System};

use super::{Failure, Outcome as Done, print};
use crate::arguments::Arguments;

/// A rule failed.
const FAILED: u8 = 3;
/// A rule could not tell.
const UNKNOWN: u8 = 4;
/// Findings of one rule that are named one by one.
const SHOWN: usize = 10;

/// What stands behind the verb.
pub fn command() -> Command {
    let list = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("ID")
            .action(ArgAction::Append)
            .value_delimiter(',')
            .help(help)
    };
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    let file = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help(help)
    };
    Command::new("mkgold check")
        .about("Says whether an image, a directory or a tar archive is golden; changes nothing")
        .after_help(
            "Exit codes: 0 golden; 1 it cannot be opened; 2 the command line is wrong; 3 a rule \
             failed; 4 none failed, but some could not tell.",
        )
        .arg(
            Arg::new("image")
                .value_name("IMAGE|DIR|TAR")
                .value_parser(clap::value_parser!(PathBuf))
                .required_unless_present_any(["list", "explain"]),
        )
        .arg(flag("json", "Print the whole report as JSON"))
        .arg(flag("sarif", "Print the findings as SARIF 2.1.0"))
        .arg(flag("all", "Name every finding, also of passed and not applicable rules"))
        .arg(list("explain", "Explain a rule: what it looks at, why, how it is mended"))
        .arg(
            Arg::new("list")
                .long("list")
                .value_name("FORMAT")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("text")
                .value_parser(["text", "markdown"])
                .help("List every rule"),
        )
        .arg(list("ignore", "Leave a rule out (R7 also leaves out R7-logs and its kin)"))
        .arg(
            Arg::new("fail-on")
                .long("fail-on")
                .value_name("SEVERITY")
                .value_parser(["notice", "warning", "error", "never"])
                .default_value("warning")
                .help("The least severity that makes the exit code 3"),
        )
        .arg(file("baseline", "Findings in this file are known and do not count"))
        .arg(file("write-baseline", "Write all findings into this file, for --baseline"))
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Done {
    let words = std::iter::once("check".into()).chain(arguments.rest.iter().cloned());
    let matches = match command().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            return match error.exit_code() {
                0 => Ok(()),
                _ => Err(Failure::Exit(2)),
            };
        }
    };
    if matches.contains_id("explain") {
        return explain(&matches);
    }
    match matches.get_one::<String>("list").map(String::as_str) {
        Some("markdown") => return print(&check::docs::markdown()),
        Some(_) => return list(),
        None => {}
    }
    let ignored = ignored(&matches)?;
    let path = matches.get_one::<PathBuf>("image").expect("clap requires it");
    let looked = Looked::at(path)?;
    let intent = Intent::default();
    let subject = Subject::of(&looked.system, looked.disk.as_ref(), &intent);
    let wanted = |rule: &dyn Rule| !ignored.iter().any(|id| is_of(rule.id(), id));
    let mut report = check::check_some(&subject, wanted);
    if let Some(file) = matches.get_one::<PathBuf>("write-baseline") {
        write_baseline(file, &report)?;
    }
    if let Some(file) = matches.get_one::<PathBuf>("baseline") {
        forget_known(&mut report, &read_baseline(file)?);
    }
    show(&matches, arguments.json, &looked, &report)?;
    conclude(&matches, &report)
}

/// An image that was looked at.
pub struct Looked {
    /// What it is.
    pub image: Image,
    /// What it holds.
    pub system: System,
    /// The disk, if it is one.
    pub disk: Option<Disk>,
}

impl Looked {
    /// Opens and reads it.
    pub fn at(path: &Path) -> Result<Looked, Failure> {
        let failed = |e: image::ImageError| Failure::Work(Box::new(e), Vec::new());
        let image = Image::open(path).map_err(failed)?;
        let system = image.read().map_err(failed)?;
        let is_os =
            ["usr", "etc"].iter().any(|dir| system.root.contains(&tree::TreePath::literal(dir)));
        if !is_os && system.unread.is_empty() && system.esp.is_none() {
            let message = format!(
                "{}: there is no operating system in it (neither /usr nor /etc)",
                path.display()
            );
            return Err(Failure::Work(message.into(), Vec::new()));
        }
        let disk = Disk::of(&image);
        Ok(Looked { image, system, disk })
    }
}

/// `R7` means R7-logs, too.
fn is_of(id: &str, wanted: &str) -> bool {
    let rest = id.get(..wanted.len()).filter(|head| head.eq_ignore_ascii_case(wanted));
    rest.is_some() && matches!(id.as_bytes().get(wanted.len()), None | Some(b'-'))
}

fn ignored(matches: &ArgMatches) -> Result<Vec<String>, Failure> {
    let ids: Vec<String> = matches.get_many("ignore").into_iter().flatten().cloned().collect();
    for id in &ids {
        if !check::RULES.iter().any(|rule| is_of(rule.id(), id)) {
            return Err(unknown_rule("--ignore", id));
        }
    }
    Ok(ids)
}

fn unknown_rule(option: &str, id: &str) -> Failure {
    let ids = check::RULES.iter().map(|rule| rule.id());
    let hint = config::diagnostic::did_you_mean(id, ids).unwrap_or_default();
    Failure::Usage(format!("{option}: there is no rule '{id}' (mkgold check --list){hint}"))
}

fn explain(matches: &ArgMatches) -> Done {
    for id in matches.get_many::<String>("explain").into_iter().flatten() {
        let rule = check::rule(id).ok_or_else(|| unknown_rule("--explain", id))?;
        print(&check::docs::explain(rule))?;
    }
    Ok(())
}

fn list() -> Done {
    let line = |rule: &&dyn Rule| {
        format!("{:18} {:8} {}\n", rule.id(), rule.severity().name(), rule.title())
    };
    print(&check::RULES.iter().map(line).collect::<String>())
}

/// How a finding stands in a baseline: what it is, not in which words.
fn key(id: &str, finding: &Finding) -> String {
    format!("{id} {}:{}", finding.volume.name(), finding.path)
}

fn write_baseline(file: &Path, report: &Report) -> Done {
    let mut text = String::from("# Known findings of `mkgold check`; one a line, RULE PLACE.\n");
    let keys: BTreeSet<_> = report.findings(Severity::Notice).map(|(id, f)| key(id, f)).collect();
    for key in keys {
        let _ = writeln!(text, "{key}");
    }
    std::fs::write(file, text)
        .map_err(|e| Failure::Usage(format!("--write-baseline={}: {e}", file.display())))
}

fn read_baseline(file: &Path) -> Result<BTreeSet<String>, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| Failure::Usage(format!("--baseline={}: {e}", file.display())))?;
    let known = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    Ok(known.map(str::to_owned).collect())
}

fn forget_known(report: &mut Report, known: &BTreeSet<String>) {
    for verdict in &mut report.verdicts {
        let id = verdict.id;
        let Outcome::Failed { findings } = &mut verdict.outcome else { continue };
        findings.retain(|finding| !known.contains(&key(id, finding)));
        if findings.is_empty() {
            verdict.outcome = Outcome::Passed;
        }
    }
}

fn show(matches: &ArgMatches, json: bool, looked: &Looked, report: &Report) -> Done {
    let path = looked.image.path.display().to_string();
    if matches.get_flag("sarif") {
        let sarif = check::sarif::report(report, &path, env!("CARGO_PKG_VERSION"));
        return print(&sarif.to_string());
    }
    if json || matches.get_flag("json") {
        let answer = serde_json::json!({
            "event": "checked",
            "image": path,
            "format": looked.image.format,
            "table": looked.image.table,
            "partitions": looked.image.partitions,
            "unread": looked.system.unread,
            "verdicts": report.verdicts,
        });
        return print(&answer.to_string());
    }
    let text = for_people(looked, report, matches.get_flag("all"));
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|e| Failure::Work(Box::new(e), Vec::new()))
}

fn for_people(looked: &Looked, report: &Report, all: bool) -> String {
    let mut text = String::new();
    for severity in Severity::ALL.into_iter().rev() {
        let failed =
            |v: &&Verdict| v.severity == severity && matches!(v.outcome, Outcome::Failed { .. });
        for verdict in report.verdicts.iter().filter(failed) {
            failure(&mut text, verdict, all);
        }
    }
    for verdict in &report.verdicts {
        if let Outcome::Unknown { reason } = &verdict.outcome {
            let _ =
                writeln!(text, "? {} could not check: {}\n    {reason}", verdict.id, verdict.title);
        }
    }
    if all {
        for verdict in &report.verdicts {
            let mark = match verdict.outcome {
                Outcome::Passed => "passed",
                Outcome::NotApplicable => "not applicable",
                _ => continue,
            };
            let _ = writeln!(text, "  {} {mark}: {}", verdict.id, verdict.title);
        }
    }
    let _ = writeln!(text, "{}", summary(looked, report));
    text
}

fn failure(text: &mut String, verdict: &Verdict, all: bool) {
    let Outcome::Failed { findings } = &verdict.outcome else { return };
    let _ = writeln!(text, "{} {}: not so: {}", verdict.severity.name(), verdict.id, verdict.title);
    let shown = if all { findings.len() } else { SHOWN };
    for finding in findings.iter().take(shown) {
        let _ = match finding.volume {
            Volume::Root => writeln!(text, "    {} {}", finding.path, finding.message),
            Volume::Disk => writeln!(text, "    {}", finding.message),
            other => writeln!(text, "    {}:{} {}", other.name(), finding.path, finding.message),
        };
    }
    if findings.len() > shown {
        let _ = writeln!(text, "    and {} more (--all)", findings.len() - shown);
    }
    if let Some(rule) = check::rule(verdict.id) {
        let _ = writeln!(text, "    fix: {}", rule.mend());
    }
}

fn summary(looked: &Looked, report: &Report) -> String {
    let count = |wanted: fn(&Verdict) -> bool| report.verdicts.iter().filter(|v| wanted(v)).count();
    let failed = |v: &Verdict, severity| {
        v.severity == severity && matches!(v.outcome, Outcome::Failed { .. })
    };
    let numbers = [
        (report.verdicts.iter().filter(|v| failed(v, Severity::Error)).count(), "errors"),
        (report.verdicts.iter().filter(|v| failed(v, Severity::Warning)).count(), "warnings"),
        (report.verdicts.iter().filter(|v| failed(v, Severity::Notice)).count(), "notices"),
        (count(|v| matches!(v.outcome, Outcome::Unknown { .. })), "could not be checked"),
        (count(|v| v.outcome == Outcome::Passed), "passed"),
        (count(|v| v.outcome == Outcome::NotApplicable), "not applicable"),
    ];
    let numbers: Vec<_> = numbers.iter().map(|(n, what)| format!("{n} {what}")).collect();
    format!(
        "{}: {} rules: {}",
        looked.image.path.display(),
        report.verdicts.len(),
        numbers.join(", ")
    )
}

fn conclude(matches: &ArgMatches, report: &Report) -> Done {
    let least = matches.get_one::<String>("fail-on").expect("it has a default");
    let Some(least) = Severity::ALL.into_iter().find(|s| s.name() == least) else { return Ok(()) };
    if report.findings(least).next().is_some() {
        return Err(Failure::Exit(FAILED));
    }
    let unknown = |v: &Verdict| v.severity >= least && matches!(v.outcome, Outcome::Unknown { .. });
    match report.verdicts.iter().any(unknown) {
        true => Err(Failure::Exit(UNKNOWN)),
        false => Ok(()),
    }
}
