//! O1: os-release(5) can be read by everybody who reads it.

use tree::TreePath;

use super::{Plain, finding, text};
use crate::{Finding, Fix, Outcome, Severity, Subject, Volume};

/// O1.
pub static RULE: Plain = Plain {
    id: "O1",
    title: "os-release is valid",
    looks_at: "/usr/lib/os-release and /etc/os-release",
    why: "Shells source this file, and systemd, boot loaders, updates and mkgold read it: a line \
          that is no assignment, or an ID= that is no ID, is read differently by each.",
    mend: "Mend the line that is named.",
    severity: Severity::Warning,
    volumes: &[Volume::Root],
    check,
};

const PATHS: [&str; 2] = ["usr/lib/os-release", "etc/os-release"];
/// Fields of lower-case letters, digits and `._-`; `ID_LIKE=` is a list of them.
const IDS: [&str; 5] = ["ID", "VERSION_ID", "VARIANT_ID", "BUILD_ID", "IMAGE_ID"];

fn check(subject: &Subject) -> Outcome {
    let root = subject.root;
    let mut findings = Vec::new();
    let mut found = false;
    for path in PATHS.map(TreePath::literal) {
        if matches!(root.get(&path).map(|n| &n.kind), Some(tree::Kind::Symlink(_)) | None) {
            continue;
        }
        let Some(text) = text(root, &path) else { continue };
        found = true;
        wrong(&path, &text, &mut findings);
    }
    if !found {
        let path = TreePath::literal(PATHS[0]);
        findings.push(finding(Volume::Root, &path, "is missing", Fix::ByHand));
    }
    Outcome::of(findings)
}

fn wrong(path: &TreePath, text: &str, findings: &mut Vec<Finding>) {
    let mut push = |message| findings.push(finding(Volume::Root, path, message, Fix::ByHand));
    let mut has_id = false;
    for (number, line) in super::lines(text) {
        let Some((key, value)) = line.split_once('=').filter(|(key, _)| is_name(key)) else {
            push(format!("line {number} is no assignment: {line:?}"));
            continue;
        };
        let Some(value) = unquoted(value) else {
            push(format!(
                "line {number}: the value of {key}= needs quotes, or has none at its end"
            ));
            continue;
        };
        has_id |= key == "ID";
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let is_id = |value: &str| !value.is_empty() && value.chars().all(allowed);
        if IDS.contains(&key) && key != "BUILD_ID" && key != "IMAGE_ID" && !is_id(&value) {
            push(format!("{key}={value:?} is not of lower-case letters, digits, '.', '_' and '-'"));
        }
        if key == "ID_LIKE" && !value.split(' ').all(is_id) {
            push(format!("ID_LIKE={value:?} is not a list of IDs"));
        }
    }
    if !has_id {
        push("has no ID=".to_owned());
    }
}

fn is_name(key: &str) -> bool {
    let first = key.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The value without its quotes; `None` if a shell would not take it.
fn unquoted(value: &str) -> Option<String> {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            return rest.strip_suffix(quote).map(str::to_owned);
        }
    }
    let plain = |c: char| c.is_alphanumeric() || "._-+~^/:@%,=".contains(c);
    value.chars().all(plain).then(|| value.to_owned())
}
