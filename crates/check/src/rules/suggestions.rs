//! E5 and E6: what is in `/etc` and `/var` and would not come back if they were empty,
//! with the lines that would declare it.
//!
//! Notices: an image that ships `/etc` and `/var` is golden without them.

use std::collections::BTreeSet;

use os::accounts::{Accounts, Database};
use os::{sysusers, tmpfiles};
use tree::{Kind, Node, Tree, TreePath};

use super::{Plain, finding};
use crate::{Finding, Fix, Outcome, Severity, Subject, Volume};

/// The first ID that belongs to people.
const FIRST_PERSON: u32 = 1000;
const NOBODY: u32 = 65534;

/// E5.
pub static USERS: Plain = Plain {
    id: "E5",
    title: "system users and groups are declared in sysusers.d",
    looks_at: "/etc/passwd and /etc/group against sysusers.d",
    why: "With an empty /etc they are not made again: services that run as them fail, and their \
          files belong to nobody.",
    mend: "Put the line that is named into a file of /usr/lib/sysusers.d.",
    severity: Severity::Notice,
    volumes: &[Volume::Root],
    check: users,
};

fn users(subject: &Subject) -> Outcome {
    let root = subject.root;
    let read = || -> Result<_, os::OsError> {
        let declared = sysusers::Declarations::read(root)?;
        Ok((
            declared,
            Accounts::read(root, Database::Passwd)?,
            Accounts::read(root, Database::Group)?,
        ))
    };
    let (declared, passwd, group) = match read() {
        Ok(all) => all,
        Err(error) => return Outcome::Unknown { reason: error.to_string() },
    };
    if !passwd.exists() {
        return Outcome::NotApplicable;
    }
    let (users, groups) = declared.names();
    let is_system = |id: &str| id.parse().is_ok_and(|id: u32| id < FIRST_PERSON && id != NOBODY);
    let mut findings = Vec::new();
    for fields in passwd.iter().filter(|f| is_system(&f[2]) && f[0] != "root") {
        if !users.contains(&fields[0].as_str()) {
            let id = if fields[2] == fields[3] {
                fields[2].clone()
            } else {
                [&*fields[2], &*fields[3]].join(":")
            };
            let [name, gecos, home, shell] = [0, 4, 5, 6].map(|n| fields[n].as_str());
            let line = format!("u {name} {id} \"{gecos}\" {home} {shell}");
            findings.push(declare(Database::Passwd, name, &line));
        }
    }
    let made: BTreeSet<&str> = passwd.iter().map(|f| f[0].as_str()).collect();
    for fields in group.iter().filter(|f| is_system(&f[2]) && f[0] != "root") {
        let name = fields[0].as_str();
        if !groups.contains(&name) && !made.contains(name) {
            findings.push(declare(Database::Group, name, &format!("g {name} {}", fields[2])));
        }
    }
    Outcome::of(findings)
}

fn declare(database: Database, name: &str, line: &str) -> Finding {
    let message = format!("{name} is not declared; sysusers.d: {line}");
    finding(Volume::Root, &database.path(), message, Fix::ByHand)
}

/// E6.
pub static FILES: Plain = Plain {
    id: "E6",
    title: "files of /etc and /var are made again by tmpfiles.d",
    looks_at: "Everything below /etc and /var against tmpfiles.d",
    why: "With an empty /etc or /var they are gone, and what needs them fails.",
    mend: "Put the line that is named into a file of /usr/lib/tmpfiles.d; for C, a copy of the \
           file into /usr/share/factory.",
    severity: Severity::Notice,
    volumes: &[Volume::Root],
    check: files,
};

/// Made by systemd and the packages' own tools, or of no use to another machine.
const OWN: [&str; 13] = [
    "etc/machine-id",
    "etc/passwd",
    "etc/group",
    "etc/shadow",
    "etc/gshadow",
    "etc/subuid",
    "etc/subgid",
    "etc/ld.so.cache",
    "etc/.updated",
    "var/.updated",
    "var/cache",
    "var/lib/dpkg",
    "var/log",
];

fn files(subject: &Subject) -> Outcome {
    let root = subject.root;
    let declared = match tmpfiles::Declarations::read(root, &tmpfiles::Options::default()) {
        Ok(declared) => declared,
        Err(error) => return Outcome::Unknown { reason: error.to_string() },
    };
    let mut findings = Vec::new();
    for top in ["etc", "var"].map(TreePath::literal) {
        for (path, _) in root.children(&top) {
            uncovered(root, &declared, path, &mut findings);
        }
    }
    Outcome::of(findings)
}

/// The highest paths at and below `path` of which nothing comes back.
fn uncovered(
    root: &Tree,
    declared: &tmpfiles::Declarations,
    path: &TreePath,
    findings: &mut Vec<Finding>,
) {
    if OWN.iter().any(|own| path.as_bytes() == own.as_bytes()) || declared.copies(path) {
        return;
    }
    let all: Vec<&TreePath> = root.subtree(path).map(|(path, _, _)| path).collect();
    let any = all.iter().any(|path| declared.is_about(path));
    let Some(node) = root.get(path) else { return };
    if any {
        let children: Vec<TreePath> = root.children(path).map(|(path, _)| path.clone()).collect();
        for child in &children {
            uncovered(root, declared, child, findings);
        }
        return;
    }
    let message = format!("does not come back; tmpfiles.d: {}", line(path, node, all.len() > 1));
    findings.push(finding(Volume::Root, path, message, Fix::ByHand));
}

fn line(path: &TreePath, node: &Node, filled: bool) -> String {
    match &node.kind {
        Kind::Symlink(target) => {
            format!("L {path} - - - - {}", String::from_utf8_lossy(target))
        }
        Kind::Dir if !filled => {
            let meta = &node.meta;
            format!("d {path} {:04o} {} {} -", meta.mode, meta.uid, meta.gid)
        }
        _ => format!("C {path} - - - -"),
    }
}
