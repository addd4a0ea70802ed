//! Is this image golden? Rules that look at Trees, and the fixes that seal them.
//!
//! What it is: a registry of [`Rule`]s, one file each below `rules/`, with the
//! IDs of `shared/golden.md` (R1…M3). [`check`] runs them and changes nothing;
//! [`seal`] applies the fixes of those that fail. The same code looks at a Tree
//! that was just built and at one read from somebody else's image. [`docs`] describes
//! the registry, [`sarif`] says a report in the language of code scanners.
//!
//! What it is not: printing, exit codes (the command's), reading images (`image`).
//!
//! Data flow: Trees + [`Intent`] → [`Report`] (findings, each with a [`Fix`]) →
//! edited Trees.

pub mod docs;
#[doc(hidden)]
pub mod fuzzing;
mod rules;
pub mod sarif;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};
use tree::{Mtime, Tree, TreePath};

pub use rules::RULES;

/// The rule with this ID.
pub fn rule(id: &str) -> Option<&'static dyn Rule> {
    RULES.iter().copied().find(|rule| rule.id().eq_ignore_ascii_case(id))
}

/// Which file system of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Volume {
    /// The root file system.
    Root,
    /// The EFI system partition.
    Esp,
    /// The extended boot loader partition.
    Xbootldr,
    /// The disk itself: its table, and what partitions hold. The path of a finding is
    /// the number of a partition, or empty.
    Disk,
}

impl Volume {
    /// As in reports.
    pub fn name(self) -> &'static str {
        match self {
            Volume::Root => "root",
            Volume::Esp => "ESP",
            Volume::Xbootldr => "XBOOTLDR",
            Volume::Disk => "disk",
        }
    }
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
    /// root's password (`RootPassword=`, `Autologin=`).
    pub root_password: bool,
}

/// What is known of the disk around the file systems.
#[derive(Debug, Clone)]
pub struct Disk {
    /// How it is divided.
    pub table: image::Table,
    /// Its partitions.
    pub partitions: Vec<image::Partition>,
    /// Free bytes of file systems, by the partition's number, where they are known.
    pub free: BTreeMap<u32, u64>,
}

impl Disk {
    /// What `image` says about itself; `None` if it is no disk.
    pub fn of(image: &image::Image) -> Option<Disk> {
        let free = |p: &image::Partition| Some((p.number, image.free(p)?));
        Some(Disk {
            table: image.table.clone()?,
            free: image.partitions.iter().filter_map(free).collect(),
            partitions: image.partitions.clone(),
        })
    }
}

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The root file system.
    pub root: &'a Tree,
    /// The EFI system partition, if the image has one.
    pub esp: Option<&'a Tree>,
    /// The extended boot loader partition, if the image has one.
    pub xbootldr: Option<&'a Tree>,
    /// The disk, if there is one and not only trees.
    pub disk: Option<&'a Disk>,
    /// `/usr` is all that the image has; the rest is made on the first boot.
    pub only_usr: bool,
    /// There is a root to look at: not so if it is encrypted, for example.
    pub has_root: bool,
    /// What could not be looked into, and why.
    pub unread: &'a [image::Unread],
    /// What is set on purpose.
    pub intent: &'a Intent,
}

impl<'a> Subject<'a> {
    /// Trees without a disk around them.
    pub fn new(root: &'a Tree, esp: Option<&'a Tree>, intent: &'a Intent) -> Subject<'a> {
        let (xbootldr, disk) = (None, None);
        let (only_usr, has_root, unread) = (false, true, &[][..]);
        Subject { root, esp, xbootldr, disk, only_usr, has_root, unread, intent }
    }

    /// What was read from an image.
    pub fn of(system: &'a image::System, disk: Option<&'a Disk>, intent: &'a Intent) -> Self {
        Subject {
            xbootldr: system.xbootldr.as_ref(),
            disk,
            only_usr: system.only_usr,
            has_root: system.has_root,
            unread: &system.unread,
            ..Subject::new(&system.root, system.esp.as_ref(), intent)
        }
    }

    /// The partitions that the boot loader reads.
    fn boot_volumes(&self) -> impl Iterator<Item = (Volume, &'a Tree)> + use<'a> {
        let esp = self.esp.map(|tree| (Volume::Esp, tree));
        esp.into_iter().chain(self.xbootldr.map(|tree| (Volume::Xbootldr, tree)))
    }

    /// Why a rule that looks at `volume` cannot know everything; and whether it can
    /// know anything.
    fn hidden(&self, volume: Volume) -> Option<(String, bool)> {
        let say = |unread: &image::Unread| format!("{}: {}", unread.title, unread.reason);
        let of = |unread: &&image::Unread| {
            let role = match unread.role {
                Some(disk::Designator::Esp) => Volume::Esp,
                Some(disk::Designator::Xbootldr) => Volume::Xbootldr,
                _ => Volume::Root,
            };
            role == volume
        };
        if volume == Volume::Disk {
            return None;
        }
        let reasons: Vec<_> = self.unread.iter().filter(of).map(say).collect();
        let blind = volume == Volume::Root && !self.has_root;
        match reasons.is_empty() {
            true if blind => Some(("the image has no root file system".into(), true)),
            true => None,
            false => Some((reasons.join("; "), blind)),
        }
    }
}

/// How bad a failed rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Notice,
    /// Probably not what was wanted.
    Warning,
    /// The image is not golden.
    Error,
}

impl Severity {
    /// All, the least first.
    pub const ALL: [Severity; 3] = [Severity::Notice, Severity::Warning, Severity::Error];

    /// As on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Notice => "notice",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
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
    /// What it looks at, for people.
    fn looks_at(&self) -> String;
    /// Why it matters, for people.
    fn why(&self) -> &'static str;
    /// How it is mended, for people.
    fn mend(&self) -> &'static str;
    /// The parts of an image without which it cannot tell.
    fn volumes(&self) -> &'static [Volume] {
        &[Volume::Root]
    }
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
    check_some(subject, |_| true)
}

/// Runs the rules that are wanted. Changes nothing.
pub fn check_some(subject: &Subject, wanted: impl Fn(&dyn Rule) -> bool) -> Report {
    let verdict = |rule: &&dyn Rule| Verdict {
        id: rule.id(),
        title: rule.title(),
        severity: rule.severity(),
        outcome: outcome(*rule, subject),
    };
    let rules = RULES.iter().filter(|rule| wanted(**rule));
    Report { verdicts: rules.map(verdict).collect() }
}

/// A rule that found nothing where it could not look everywhere could not tell.
fn outcome(rule: &dyn Rule, subject: &Subject) -> Outcome {
    let hidden: Vec<_> = rule.volumes().iter().filter_map(|v| subject.hidden(*v)).collect();
    let reason = || {
        let reasons: Vec<_> = hidden.iter().map(|(reason, _)| reason.as_str()).collect();
        Outcome::Unknown { reason: reasons.join("; ") }
    };
    if hidden.iter().any(|(_, blind)| *blind) {
        return reason();
    }
    match rule.check(subject) {
        Outcome::Passed | Outcome::NotApplicable if !hidden.is_empty() => reason(),
        outcome => outcome,
    }
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
    let wanted = |rule: &dyn Rule| rule.severity() >= Severity::Warning;
    let report = check_some(&Subject::new(root, esp.as_deref(), intent), wanted);
    let by_hand = |(_, finding): &(_, &Finding)| finding.fix == Fix::ByHand;
    let left = report.findings(Severity::Error).filter(by_hand);
    let left = left.map(|(rule, finding)| (rule, finding.clone())).collect();
    let mut changes: Vec<Change> = Vec::new();
    let done = |change: &Change| change.finding.fix == Fix::Uninitialize;
    for (rule, finding) in report.findings(Severity::Warning) {
        let tree = match finding.volume {
            Volume::Root => &mut *root,
            Volume::Esp => match esp.as_deref_mut() {
                Some(esp) => esp,
                None => continue,
            },
            Volume::Xbootldr | Volume::Disk => continue,
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
            // Two rules ask for it: R1, and F1 for what follows from it.
            Fix::Uninitialize if changes.iter().any(done) => continue,
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
