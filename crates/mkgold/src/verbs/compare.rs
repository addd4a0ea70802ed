//! `inspect`: what an image is, on one page. `diff`: in what two images differ.
//!
//! Exit codes of `diff`: 0 equal; 1 one cannot be read; 2 the command line is wrong;
//! 3 they differ; 4 nothing differs, but something could not be looked into.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

use image::diff::{Difference, differences};
use image::summary::{Summary, summary};

use super::check::Looked;
use super::{Failure, Outcome, print};
use crate::arguments::Arguments;

/// The images differ.
const DIFFER: u8 = 3;
/// Something could not be looked into.
const UNKNOWN: u8 = 4;
/// Differences of one kind that are shown, unless all are asked for.
const SHOWN: usize = 40;

/// What stands behind the verb.
struct Words {
    paths: Vec<PathBuf>,
    json: bool,
    all: bool,
}

fn words(arguments: &Arguments, count: usize, usage: &str) -> Result<Words, Failure> {
    let mut words = Words { paths: Vec::new(), json: arguments.json, all: false };
    for word in &arguments.rest {
        match word.to_str() {
            Some("--json") => words.json = true,
            Some("--all") => words.all = true,
            Some(option) if option.starts_with("--") => {
                return Err(Failure::Usage(format!("{usage}: unknown option '{option}'")));
            }
            _ => words.paths.push(OsString::from(word).into()),
        }
    }
    match words.paths.len() == count {
        true => Ok(words),
        false => Err(Failure::Usage(format!("usage: {usage}"))),
    }
}

/// Runs `inspect`.
pub fn inspect(arguments: &Arguments) -> Outcome {
    let words = words(arguments, 1, "mkgold inspect [--json] [--all] IMAGE|DIR|TAR")?;
    let looked = Looked::at(&words.paths[0])?;
    let summary = summary(&looked.image, &looked.system);
    if words.json {
        let value = serde_json::to_value(&summary);
        return print(&value.map_err(|e| Failure::Work(Box::new(e), Vec::new()))?.to_string());
    }
    print(&page(&words.paths[0].display().to_string(), &summary, words.all))
}

/// Runs `diff`.
pub fn diff(arguments: &Arguments) -> Outcome {
    let words = words(arguments, 2, "mkgold diff [--json] [--all] A B")?;
    let (left, right) = (Looked::at(&words.paths[0])?, Looked::at(&words.paths[1])?);
    let (a, b) = (summary(&left.image, &left.system), summary(&right.image, &right.system));
    let found = differences((&a, &left.system), (&b, &right.system));
    let found = found.map_err(|e| Failure::Work(Box::new(e), Vec::new()))?;
    if words.json {
        let answer = serde_json::json!({
            "event": "compared",
            "differences": found,
            "unread": [a.unread, b.unread],
        });
        print(&answer.to_string())?;
    } else if !found.is_empty() {
        print(&listing(&found, words.all))?;
    }
    let unread = a.unread.iter().chain(&b.unread);
    for unread in unread.clone() {
        let message = format!("mkgold: could not compare {}: {}", unread.title, unread.reason);
        let _ = std::io::Write::write_fmt(&mut anstream::stderr(), format_args!("{message}\n"));
    }
    match (found.is_empty(), unread.count()) {
        (false, _) => Err(Failure::Exit(DIFFER)),
        (true, 0) => Ok(()),
        (true, _) => Err(Failure::Exit(UNKNOWN)),
    }
}

fn listing(found: &[Difference], all: bool) -> String {
    let mut text = String::new();
    let mut kinds: Vec<&str> = found.iter().map(|d| d.what).collect();
    kinds.dedup();
    for kind in kinds {
        let of: Vec<_> = found.iter().filter(|d| d.what == kind).collect();
        let shown = if all { of.len() } else { SHOWN };
        for d in of.iter().take(shown) {
            let _ = match (&d.left, &d.right) {
                (Some(left), Some(right)) => {
                    writeln!(text, "{kind} {}:\n  - {left}\n  + {right}", d.name)
                }
                (Some(left), None) => writeln!(text, "{kind} {}:\n  - {left}", d.name),
                (None, Some(right)) => writeln!(text, "{kind} {}:\n  + {right}", d.name),
                (None, None) => Ok(()),
            };
        }
        if of.len() > shown {
            let _ = writeln!(text, "and {} more of {kind} (--all)", of.len() - shown);
        }
    }
    text
}

fn page(path: &str, summary: &Summary, all: bool) -> String {
    let mut text = String::new();
    let release = |key: &str| summary.os_release.get(key).cloned().unwrap_or_default();
    let _ = writeln!(text, "{path}: {}", release("PRETTY_NAME"));
    let (id, version) = (release("IMAGE_ID"), release("IMAGE_VERSION"));
    if !(id.is_empty() && version.is_empty()) {
        let _ = writeln!(text, "image       {id} {version}");
    }
    disk(&mut text, summary);
    let list = |items: &[String]| if items.is_empty() { "none".into() } else { items.join(", ") };
    let _ = writeln!(text, "kernels     {}", list(&summary.kernels));
    for entry in &summary.entries {
        let title = entry.title.as_deref().unwrap_or("(no title)");
        let _ =
            writeln!(text, "boot entry  {title}: {}\n            {}", entry.path, entry.options);
    }
    let _ = writeln!(text, "packages    {}", summary.packages.len());
    for (name, version) in summary.packages.iter().filter(|_| all) {
        let _ = writeln!(text, "            {name} {version}");
    }
    let _ = writeln!(text, "files       {}", summary.files);
    let boot = &summary.first_boot;
    let is = if boot.expected { "is a first boot" } else { "is NO first boot" };
    let _ = writeln!(text, "next boot   {is}: {}", boot.why);
    if boot.expected {
        let _ = writeln!(text, "            units of the first boot: {}", list(&boot.units));
    }
    for (path, ty) in &boot.repart {
        let _ = writeln!(text, "            makes or grows a partition of type {ty} ({path})");
    }
    text
}

fn disk(text: &mut String, summary: &Summary) {
    if let Some(size) = summary.size {
        let table = match &summary.table {
            Some(image::Table::Gpt { guid, .. }) => format!("GPT {guid}"),
            Some(image::Table::Mbr) => "MBR".into(),
            _ => "no partition table".into(),
        };
        let _ = writeln!(text, "disk        {} MiB, {table}", size >> 20);
    }
    for partition in &summary.partitions {
        let role = partition.role.map_or("-", disk::Designator::name);
        let free = summary.free.get(&partition.number);
        let free = free.map(|free| format!(", {} MiB free", free >> 20)).unwrap_or_default();
        let id = partition.probe.uuid.as_deref().unwrap_or("-");
        let (title, name) = (partition.title(), &partition.name);
        let size = partition.size >> 20;
        let _ = writeln!(text, "  {title} '{name}': {role}, {size} MiB{free}, UUID {id}");
    }
    for unread in &summary.unread {
        let _ = writeln!(text, "  cannot look into {}: {}", unread.title, unread.reason);
    }
}
