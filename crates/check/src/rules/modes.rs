//! P1–P4: modes and owners that open the image to whoever logs in.

use std::collections::BTreeSet;

use os::accounts::{Accounts, Database};
use tree::{Kind, Node, Tree, TreePath};

use super::{Plain, finding};
use crate::{Fix, Outcome, Severity, Subject, Volume};

const STICKY: u16 = 0o1000;
const SETUID: u16 = 0o4000;
const SETGID: u16 = 0o2000;
const CAPABILITY: &[u8] = b"security.capability";
const ROOT: &[Volume] = &[Volume::Root];

/// P1.
pub static WRITABLE: Plain = Plain {
    id: "P1",
    title: "nothing can be written by everybody",
    looks_at: "Modes of all files and directories; /tmp and its like have the sticky bit",
    why: "Every user and every service of the machine can change it, also those that an attacker \
          got hold of.",
    mend: "chmod o-w, or chmod +t for a directory that is meant to be shared.",
    severity: Severity::Warning,
    volumes: ROOT,
    check: writable,
};

fn writable(subject: &Subject) -> Outcome {
    let open = |node: &Node| {
        let meta = &node.meta;
        meta.mode & 0o002 != 0
            && match node.kind {
                Kind::Dir => meta.mode & STICKY == 0,
                Kind::File(_) | Kind::Fifo | Kind::Socket => true,
                _ => false,
            }
    };
    let found = subject.root.iter().filter(|(_, _, node)| open(node));
    let message = |node: &Node| format!("has mode {:04o}: everybody can write it", node.meta.mode);
    let finding = |(path, _, node): (&TreePath, _, &Node)| {
        finding(Volume::Root, path, message(node), Fix::ByHand)
    };
    Outcome::of(found.map(finding).collect())
}

/// P2.
pub static PRIVILEGED: Plain = Plain {
    id: "P2",
    title: "programs with more rights than their user are those of packages",
    looks_at: "Set-user-ID and set-group-ID bits, file capabilities; dpkg's lists",
    why: "Each is a way to become somebody else. One that no package brought, that lies outside \
          of /usr, or that others can write, is one that nobody updates or expects.",
    mend: "Take the bits away (chmod u-s,g-s; setcap -r), or install the program by a package.",
    severity: Severity::Warning,
    volumes: ROOT,
    check: setuid,
};

fn setuid(subject: &Subject) -> Outcome {
    let root = subject.root;
    let own = &subject.intent.project_files;
    let usr = TreePath::literal("usr");
    let mut findings = Vec::new();
    let mut unlisted = BTreeSet::new();
    for (path, _, node) in root.iter() {
        let mode = node.meta.mode;
        let Kind::File(_) = node.kind else { continue };
        let bits = mode & SETUID != 0 || (mode & SETGID != 0 && mode & 0o010 != 0);
        let capable = node.meta.xattrs.contains_key(CAPABILITY);
        if !(bits || capable) || own.contains(path) {
            continue;
        }
        let what = if bits { format!("has mode {mode:04o}") } else { "has capabilities".into() };
        if !path.starts_with(&usr) {
            let message = format!("{what}, outside of /usr");
            findings.push(finding(Volume::Root, path, message, Fix::ByHand));
        } else if mode & 0o022 != 0 {
            let message = format!("{what}, and others than its owner can write it");
            findings.push(finding(Volume::Root, path, message, Fix::ByHand));
        } else {
            unlisted.insert((path.clone(), what));
        }
    }
    if !unlisted.is_empty() {
        forget_listed(root, &mut unlisted);
    }
    let message = |what| format!("{what}, and no package has it");
    let others = unlisted.into_iter();
    findings.extend(others.map(|(p, what)| finding(Volume::Root, &p, message(what), Fix::ByHand)));
    Outcome::of(findings)
}

/// Takes out what dpkg's lists have; everything, if there are no lists.
fn forget_listed(root: &Tree, wanted: &mut BTreeSet<(TreePath, String)>) {
    let info = TreePath::literal("var/lib/dpkg/info");
    let mut lists = root.children(&info).filter(|(p, _)| p.name().ends_with(b".list")).peekable();
    if lists.peek().is_none() {
        wanted.clear();
        return;
    }
    let mut listed: BTreeSet<Vec<u8>> = BTreeSet::new();
    // Before /usr was merged, packages had these without it.
    let names: BTreeSet<Vec<u8>> = wanted
        .iter()
        .flat_map(|(path, _)| {
            let full = path.to_string().into_bytes();
            let short = full.strip_prefix(b"/usr").map(<[u8]>::to_vec);
            [Some(full), short].into_iter().flatten()
        })
        .collect();
    for (_, node) in lists {
        let Some(Ok(text)) = node.content().map(|c| c.read(64 << 20)) else { continue };
        let lines = text.split(|b| *b == b'\n').filter(|line| names.contains(*line));
        listed.extend(lines.map(<[u8]>::to_vec));
    }
    wanted.retain(|(path, _)| {
        let full = path.to_string().into_bytes();
        let short = full.strip_prefix(b"/usr").unwrap_or_default();
        !listed.contains(&full) && !listed.contains(short)
    });
}

/// P3.
pub static DEVICES: Plain = Plain {
    id: "P3",
    title: "no device nodes outside of /dev",
    looks_at: "Character and block devices anywhere else",
    why: "A node gives its owner the device, whatever the modes in /dev say; it is also what \
          copying a running system leaves behind.",
    mend: "Remove the node.",
    severity: Severity::Warning,
    volumes: ROOT,
    check: devices,
};

fn devices(subject: &Subject) -> Outcome {
    let dev = TreePath::literal("dev");
    let found = subject.root.iter().filter(|(path, _, node)| {
        // Overlay file systems mark what is deleted with device 0:0.
        let is_device = match &node.kind {
            Kind::CharDev(device) => (device.major, device.minor) != (0, 0),
            kind => matches!(kind, Kind::BlockDev(_)),
        };
        is_device && !path.starts_with(&dev)
    });
    let message = "is a device node";
    Outcome::of(found.map(|(p, _, _)| finding(Volume::Root, p, message, Fix::ByHand)).collect())
}

/// P4.
pub static OWNERS: Plain = Plain {
    id: "P4",
    title: "every file belongs to a user and group of the image",
    looks_at: "Owners of all files against /etc/passwd, /etc/group and sysusers.d",
    why: "The next user that is made with that number owns the file. Mostly it is a file of the \
          person who built the image.",
    mend: "chown it, or declare the user.",
    severity: Severity::Warning,
    volumes: ROOT,
    check: owners,
};

/// The most that are named one by one.
const SHOWN: usize = 50;

fn owners(subject: &Subject) -> Outcome {
    let root = subject.root;
    let ids = |database| -> Result<BTreeSet<u32>, os::OsError> {
        let accounts = Accounts::read(root, database)?;
        Ok(accounts.iter().filter_map(|f| f[2].parse().ok()).collect())
    };
    let (users, groups) = match (ids(Database::Passwd), ids(Database::Group)) {
        (Ok(users), Ok(groups)) => (users, groups),
        (Err(error), _) | (_, Err(error)) => {
            return Outcome::Unknown { reason: error.to_string() };
        }
    };
    if users.is_empty() {
        return Outcome::NotApplicable;
    }
    let strange = |node: &Node| {
        let (uid, gid) = (node.meta.uid, node.meta.gid);
        (uid != 0 && !users.contains(&uid)) || (gid != 0 && !groups.contains(&gid))
    };
    let found = subject.root.iter().filter(|(_, _, node)| strange(node)).take(SHOWN);
    let message = |node: &Node| {
        format!("belongs to {}:{}, which the image does not have", node.meta.uid, node.meta.gid)
    };
    let finding = |(path, _, node): (&TreePath, _, &Node)| {
        finding(Volume::Root, path, message(node), Fix::ByHand)
    };
    Outcome::of(found.map(finding).collect())
}
