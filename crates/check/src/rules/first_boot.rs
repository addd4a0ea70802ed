//! F2: what the first boot must finish belongs to the first boot.

use std::collections::BTreeSet;

use os::units::{self, UnitFile};
use tree::{Meta, Mtime, Tree, TreePath};

use super::finding;
use crate::{Fix, Outcome, Rule, Severity, Subject, Volume};

/// The target after which a boot is no first boot any more.
const TARGET: &str = "first-boot-complete.target";
/// The drop-in that [`order`] makes.
const DROP_IN: &str = "10-mkgold-first-boot.conf";
const DROP_IN_TEXT: &str = "\
# Not done: not the end of the first boot.
[Unit]
Wants=first-boot-complete.target
Before=first-boot-complete.target
";

/// F2.
pub struct FirstBootUnits;

impl Rule for FirstBootUnits {
    fn id(&self) -> &'static str {
        "F2"
    }

    fn title(&self) -> &'static str {
        "units of the first boot are part of it"
    }

    fn why(&self) -> &'static str {
        "Power lost after first-boot-complete.target, but before such a unit is done, and it \
         is never run again: the machine stays without host keys, for example."
    }

    fn looks_at(&self) -> String {
        "Units with ConditionFirstBoot= or AssertFirstBoot=, and their drop-ins".into()
    }

    fn mend(&self) -> &'static str {
        "A drop-in orders the unit before first-boot-complete.target and lets it want that."
    }

    fn severity(&self) -> Severity {
        Severity::Warning
    }

    fn check(&self, subject: &Subject) -> Outcome {
        let root = subject.root;
        let target = TreePath::literal("usr/lib/systemd/system").join(TARGET);
        if target.ok().and_then(|path| root.lookup(&path)).is_none() {
            return Outcome::NotApplicable;
        }
        let mut findings = Vec::new();
        for (name, unit) in units::all(root, &units::SYSTEM_DIRS) {
            let UnitFile::Regular(path) = unit else { continue };
            match is_late(root, &name, &path) {
                Ok(true) => {
                    let message =
                        format!("runs on the first boot only, but {TARGET} does not wait for it");
                    findings.push(finding(Volume::Root, &path, message, Fix::OrderFirstBoot));
                }
                Ok(false) => {}
                Err(error) => return Outcome::Unknown { reason: error.to_string() },
            }
        }
        Outcome::of(findings)
    }
}

/// Whether the unit is for the first boot and the target does not wait for it.
fn is_late(root: &Tree, name: &str, path: &TreePath) -> Result<bool, os::OsError> {
    let settings = units::settings(root, &units::SYSTEM_DIRS, name, path, "Unit")?;
    let first_boot = settings.iter().any(|(key, value)| {
        matches!(key.as_str(), "ConditionFirstBoot" | "AssertFirstBoot") && is_yes(value)
    });
    // A unit that is not of this boot's first transaction: it orders itself.
    let names = |wanted: &str| -> BTreeSet<&str> {
        let values = settings.iter().filter(|(key, _)| key == wanted);
        values.flat_map(|(_, value)| value.split_whitespace()).collect()
    };
    let ordered = names("Before").contains(TARGET);
    let wanted = ["Wants", "Requires"].iter().any(|key| names(key).contains(TARGET));
    Ok(first_boot && !(ordered && wanted) && name != TARGET)
}

/// A boolean of systemd that is true, `|` for a triggering condition before it.
fn is_yes(value: &str) -> bool {
    let value = value.trim_start_matches('|').trim();
    ["1", "yes", "y", "true", "t", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

/// Makes the unit at `path` part of the first boot.
pub fn order(root: &mut Tree, path: &TreePath, mtime: Mtime) -> Result<(), os::OsError> {
    let name = String::from_utf8_lossy(path.name()).into_owned();
    let dir =
        TreePath::new(format!("usr/lib/systemd/system/{name}.d")).map_err(tree::TreeError::from)?;
    let known: BTreeSet<TreePath> = root.subtree(&dir).map(|(path, _, _)| path.clone()).collect();
    let dir = root.make_dirs(&dir)?;
    if !known.contains(&dir) {
        root.get_mut(&dir).expect("just made").meta.mtime = mtime;
    }
    let file = dir.join(DROP_IN).map_err(tree::TreeError::from)?;
    let kind = tree::Kind::File(tree::Content::inline(DROP_IN_TEXT.as_bytes()));
    root.put(file, tree::Node { meta: Meta::file(0o644).at(mtime), kind })?;
    Ok(())
}
