//! Is this image golden? Rules that look at Trees, and the fixes that seal them.
//!
//! What it is: a registry of [`Rule`]s, one file each below `rules/`, with the
//! IDs of `shared/golden.md` (R1…M3). [`check`] runs them and changes nothing;
//! [`seal`] applies the fixes of those that fail. The same code looks at a Tree
//! that was just built and at one read from somebody else's image.
//!
//! What it is not: printing, exit codes (the command's), reading images (`fs`).
//!
//! Data flow: Trees + [`Intent`] → [`Report`] (findings, each with a [`Fix`]) →
//! edited Trees.

#[doc(hidden)]
pub mod fuzzing;
mod rules;

use std::collections::BTreeSet;

use serde::{Serialize, Serializer};
use tree::{Mtime, Tree, TreePath};

pub use rules::RULES;

/// Which file system of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Volume {
    /// The root file system.
    Root,
    /// The EFI system partition.
    Esp,
}

/// What the configuration sets on purpose, so that it is no leftover.
#[derive(Debug, Clone, Default)]
pub struct Intent {
    /// `/etc/hostname`.
    pub hostname: bool,
    /// `/etc/machine-info`.
    pub machine_info: bool,
    /// `/etc/machine-id` with an ID (`MachineId=`).
    pub machine_id: bool,
    /// Files that the project itself put there (`mkosi.extra/` and the like):
    /// authorized keys, a hosts file, a resolv.conf in there are configuration.
    /// Identity is never configuration: R1, R2, R3, R5 and R6 hold for these too.
    pub project_files: BTreeSet<TreePath>,
    /// The token that names boot entries.
    pub entry_token: Option<String>,
}

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The root file system.
    pub root: &'a Tree,
    /// The EFI system partition, if the image has one.
    pub esp: Option<&'a Tree>,
    /// What is set on purpose.
    pub intent: &'a Intent,
}

/// How bad a failed rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Warning,
    /// The image is not golden.
    Error,
}

/// How a finding is mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fix {
    /// Remove the path and everything below it.
    Remove,
    /// Remove what is in the directory, keep the directory.
    Empty,
    /// Keep the file, remove what is in it.
    Truncate,
    /// Write `uninitialized` to `/etc/machine-id`.
    Uninitialize,
    /// Add a unit that makes SSH host keys on the first boot.
    AddHostKeyUnit,
    /// Add a unit that makes the self-signed certificate on the first boot.
    AddCertificateUnit,
    /// Add a drop-in that makes the unit part of the first boot.
    OrderFirstBoot,
    /// Nothing mkgold can do: the text of the rule says what a person can.
    ByHand,
}

/// One thing that is not golden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where.
    pub volume: Volume,
    /// The file; as text, with its leading slash, in JSON.
    #[serde(serialize_with = "as_text")]
    pub path: TreePath,
    /// What is wrong with it.
    pub message: String,
    /// What [`seal`] does about it.
    pub fix: Fix,
}

fn as_text<S: Serializer>(path: &TreePath, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(path)
}

/// What a rule says. "Failed" and "could not check" are different things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum Outcome {
    /// Golden in this respect.
    Passed,
    /// Not golden.
    Failed {
        /// Why, one per file.
        findings: Vec<Finding>,
    },
    /// The image has nothing that the rule is about.
    NotApplicable,
    /// The rule could not tell.
    Unknown {
        /// Why not.
        reason: String,
    },
}

impl Outcome {
    /// Passed if there are no findings.
    fn of(findings: Vec<Finding>) -> Outcome {
        if findings.is_empty() { Outcome::Passed } else { Outcome::Failed { findings } }
    }
}

/// One requirement of a golden image.
pub trait Rule: Sync {
    /// The ID, as `R1` or `R7-dhcp`.
    fn id(&self) -> &'static str;
    /// One line for a list.
    fn title(&self) -> &'static str;
    /// Why it matters, for people.
    fn why(&self) -> &'static str;
    /// How bad it is.
    fn severity(&self) -> Severity {
        Severity::Error
    }
    /// Looks.
    fn check(&self, subject: &Subject) -> Outcome;
    /// The files of the root that the rule judges and that are there, golden or not.
    fn places(&self, _: &Tree) -> Vec<TreePath> {
        Vec::new()
    }
}

/// A rule and what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The rule's ID.
    pub id: &'static str,
    /// The rule's title.
    pub title: &'static str,
    /// How bad a failure is.
    pub severity: Severity,
    /// What it says.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What all rules say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order of the registry.
    pub verdicts: Vec<Verdict>,
}

impl Report {
    /// The findings of failed rules of at least `severity`, with the rule's ID.
    pub fn findings(&self, severity: Severity) -> impl Iterator<Item = (&'static str, &Finding)> {
        self.verdicts
            .iter()
            .filter(move |v| v.severity >= severity)
            .filter_map(|v| match &v.outcome {
                Outcome::Failed { findings } => Some(findings.iter().map(|f| (v.id, f))),
                _ => None,
            })
            .flatten()
    }

    /// True if no rule of severity "error" failed and none could not tell.
    pub fn is_golden(&self) -> bool {
        let unknown = |v: &Verdict| matches!(v.outcome, Outcome::Unknown { .. });
        self.findings(Severity::Error).next().is_none() && !self.verdicts.iter().any(unknown)
    }
}

/// The files of a root that rules judge one by one: quick enough to be asked after
/// every step of a build.
pub fn suspects(root: &Tree) -> BTreeSet<TreePath> {
    RULES.iter().flat_map(|rule| rule.places(root)).collect()
}

/// Runs every rule. Changes nothing.
pub fn check(subject: &Subject) -> Report {
    let verdict = |rule: &&dyn Rule| Verdict {
        id: rule.id(),
        title: rule.title(),
        severity: rule.severity(),
        outcome: rule.check(subject),
    };
    Report { verdicts: RULES.iter().map(verdict).collect() }
}

/// One thing that [`seal`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The rule that asked for it.
    pub rule: &'static str,
    /// What was found, and the fix that was applied.
    #[serde(flatten)]
    pub finding: Finding,
}

/// What [`seal`] did, and what is left for a person.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sealed {
    /// What was mended.
    pub changes: Vec<Change>,
    /// Errors that cannot be mended. The originals of copies are gone by now, so a check
    /// afterwards would not find those.
    pub left: Vec<(&'static str, Finding)>,
}

/// Applies the fixes of every failed rule, `Warning` ones included. A second run
/// finds nothing to do. What is made gets the time `mtime`.
pub fn seal(
    root: &mut Tree,
    mut esp: Option<&mut Tree>,
    intent: &Intent,
    mtime: Mtime,
) -> Result<Sealed, os::OsError> {
    let report = check(&Subject { root, esp: esp.as_deref(), intent });
    let by_hand = |(_, finding): &(_, &Finding)| finding.fix == Fix::ByHand;
    let left = report.findings(Severity::Error).filter(by_hand);
    let left = left.map(|(rule, finding)| (rule, finding.clone())).collect();
    let mut changes = Vec::new();
    for (rule, finding) in report.findings(Severity::Warning) {
        let tree = match finding.volume {
            Volume::Root => &mut *root,
            Volume::Esp => match esp.as_deref_mut() {
                Some(esp) => esp,
                None => continue,
            },
        };
        match finding.fix {
            Fix::ByHand => continue,
            Fix::Remove => {
                tree.remove(&finding.path);
            }
            Fix::Empty => {
                let children: Vec<_> =
                    tree.children(&finding.path).map(|(path, _)| path.clone()).collect();
                for child in children {
                    tree.remove(&child);
                }
            }
            Fix::Truncate => {
                if let Some(node) = tree.get_mut(&finding.path) {
                    node.kind = tree::Kind::File(tree::Content::empty());
                }
            }
            Fix::Uninitialize => os::machine_id::reset(tree, mtime)?,
            Fix::AddHostKeyUnit => rules::host_keys::add_unit(tree, mtime)?,
            Fix::AddCertificateUnit => rules::snakeoil::add_unit(tree, mtime)?,
            Fix::OrderFirstBoot => rules::first_boot::order(tree, &finding.path, mtime)?,
        }
        changes.push(Change { rule, finding: finding.clone() });
    }
    Ok(Sealed { changes, left })
}

#[cfg(test)]
mod tests;
