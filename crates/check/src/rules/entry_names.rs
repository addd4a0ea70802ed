//! B1, B2, B4: the identifiers of boot entries.

use tree::{Tree, TreePath};

use super::finding;
use crate::{Finding, Fix, Outcome, Rule, Subject, Volume};

/// B1.
pub struct EntryToken;

impl Rule for EntryToken {
    fn id(&self) -> &'static str {
        "B1"
    }

    fn title(&self) -> &'static str {
        "/etc/kernel/entry-token names the boot entries"
    }

    fn why(&self) -> &'static str {
        "Without it kernel-install names new entries after the machine ID: a kernel update on \
         a clone would make a second set of entries instead of replacing the first."
    }

    fn check(&self, subject: &Subject) -> Outcome {
        let modules = TreePath::literal("usr/lib/modules");
        if subject.esp.is_none() || subject.root.children(&modules).next().is_none() {
            return Outcome::NotApplicable;
        }
        let path = os::entry_token::path();
        let text = match subject.root.read(&path, 4096) {
            Some(Ok(text)) => String::from_utf8_lossy(&text).into_owned(),
            Some(Err(e)) => return Outcome::Unknown { reason: format!("{path}: {e}") },
            None => String::new(),
        };
        let token = text.lines().next().unwrap_or_default();
        if os::entry_token::is_valid(token) {
            return Outcome::Passed;
        }
        let message = "is missing, empty or a machine ID";
        Outcome::of(vec![finding(Volume::Root, &path, message, Fix::ByHand)])
    }

    fn places(&self, root: &Tree) -> Vec<TreePath> {
        let place = root.resolve_parent(&os::entry_token::path()).ok();
        place.into_iter().filter(|path| root.contains(path)).collect()
    }
}

/// B2 and B4.
pub struct EntryNames;

impl Rule for EntryNames {
    fn id(&self) -> &'static str {
        "B2"
    }

    fn title(&self) -> &'static str {
        "no boot entry is named after, or carries, a machine ID"
    }

    fn why(&self) -> &'static str {
        "The entry belongs to a machine that no clone is: kernel-install does not find it, and \
         a machine ID on the command line overrides the clone's own."
    }

    fn check(&self, subject: &Subject) -> Outcome {
        let Some(esp) = subject.esp else { return Outcome::NotApplicable };
        let mut findings: Vec<Finding> = esp
            .iter()
            .filter(|(path, _, _)| named_after_machine_id(path.name()))
            .map(|(path, _, _)| {
                finding(Volume::Esp, path, "is named after a machine ID", Fix::ByHand)
            })
            .collect();
        findings.extend(entries_with_machine_id(esp));
        Outcome::of(findings)
    }
}

/// A run of 32 hexadecimal digits at the start of a name.
fn named_after_machine_id(name: &[u8]) -> bool {
    let digits = name.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    digits == 32 && name.get(32).is_none_or(|b| !b.is_ascii_alphanumeric())
}

fn entries_with_machine_id(esp: &Tree) -> Vec<Finding> {
    let dir = TreePath::literal("loader/entries");
    let carries = |path: &TreePath| {
        let text = esp.read(path, 1 << 20).and_then(Result::ok).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().any(|l| l.starts_with("machine-id") || l.contains("systemd.machine_id="))
    };
    esp.children(&dir)
        .filter(|(path, _)| carries(path))
        .map(|(path, _)| finding(Volume::Esp, path, "carries a machine ID", Fix::ByHand))
        .collect()
}
