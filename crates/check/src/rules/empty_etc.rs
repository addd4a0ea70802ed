//! E2, E4, E8: what an image needs whose `/etc` is empty at first.

use tree::{Kind, Tree, TreePath};

use super::{Plain, finding, text};
use crate::{Fix, Outcome, Severity, Subject, Volume};

/// E2.
pub static HIERARCHY: Plain = Plain {
    id: "E2",
    title: "the base hierarchy is there, with /usr merged",
    looks_at: "/bin, /sbin and /lib, and the directories that the kernel and systemd mount on",
    why: "systemd needs /usr merged; on a read-only root, a mount point that is missing cannot be \
          made.",
    mend: "Make the links (usrmerge) and the directories.",
    severity: Severity::Warning,
    volumes: &[Volume::Root],
    check: hierarchy,
};

const LINKS: [&str; 3] = ["bin", "sbin", "lib"];
const DIRECTORIES: [&str; 7] = ["dev", "etc", "proc", "run", "sys", "tmp", "var"];

fn hierarchy(subject: &Subject) -> Outcome {
    let root = subject.root;
    if subject.only_usr {
        return Outcome::NotApplicable;
    }
    let mut findings = Vec::new();
    for name in LINKS {
        let path = TreePath::literal(name);
        let message = match root.get(&path).map(|node| &node.kind) {
            Some(Kind::Symlink(_)) => match root.resolve(&path) {
                Ok(real) if real.starts_with(&TreePath::literal("usr")) => continue,
                _ => "is a link that does not lead into /usr",
            },
            Some(_) => "is no link into /usr: it is not merged",
            None => "is missing",
        };
        findings.push(finding(Volume::Root, &path, message, Fix::ByHand));
    }
    for path in DIRECTORIES.map(TreePath::literal) {
        if !root.lookup(&path).is_some_and(tree::Node::is_dir) {
            findings.push(finding(Volume::Root, &path, "is no directory", Fix::ByHand));
        }
    }
    Outcome::of(findings)
}

/// E4.
pub static NSS_SYSTEMD: Plain = Plain {
    id: "E4",
    title: "nss-systemd resolves root and nobody where there is no /etc/passwd",
    looks_at: "nsswitch.conf in /etc and /usr/share/factory, of images without /etc/passwd",
    why: "Without it nobody can log in, and services of system users fail, until /etc/passwd is \
          there.",
    mend: "Install libnss-systemd, and name systemd in the lines passwd: and group: of \
           nsswitch.conf.",
    severity: Severity::Warning,
    volumes: &[Volume::Root],
    check: |subject| nss(subject, "etc/passwd", &["passwd", "group"], "systemd"),
};

/// E8.
pub static NSS_MYHOSTNAME: Plain = Plain {
    id: "E8",
    title: "localhost resolves where there is no /etc/hosts",
    looks_at: "nsswitch.conf in /etc and /usr/share/factory, and whether systemd-resolved is the \
               resolver, of images without /etc/hosts",
    why: "Without it neither localhost nor the machine's own name resolves.",
    mend: "Install libnss-myhostname, and name myhostname in the line hosts: of nsswitch.conf; or \
           use systemd-resolved.",
    severity: Severity::Warning,
    volumes: &[Volume::Root],
    check: |subject| match is_resolved(subject.root) {
        true => Outcome::Passed,
        false => nss(subject, "etc/hosts", &["hosts"], "myhostname"),
    },
};

/// systemd-resolved answers for localhost and the host name itself.
fn is_resolved(root: &Tree) -> bool {
    let daemon = root.lookup(&TreePath::literal("usr/lib/systemd/systemd-resolved")).is_some();
    let config = root.get(&TreePath::literal("etc/resolv.conf")).map(|node| &node.kind);
    let stub = |target: &[u8]| String::from_utf8_lossy(target).contains("run/systemd/resolve/");
    daemon && matches!(config, Some(Kind::Symlink(target)) if stub(target))
}

fn nss(subject: &Subject, file: &'static str, databases: &[&str], module: &str) -> Outcome {
    let root = subject.root;
    // What is made on the first boot from the factory is as good as there.
    let made = ["", "usr/share/factory/"].iter().any(|prefix| exists(root, prefix, file));
    if made {
        return Outcome::NotApplicable;
    }
    let places = ["", "usr/share/factory/"];
    let config = places.iter().find_map(|prefix| {
        let path = TreePath::new(format!("{prefix}etc/nsswitch.conf")).ok()?;
        Some((text(root, &path)?, path))
    });
    let Some((text, path)) = config else {
        let path = TreePath::literal("etc/nsswitch.conf");
        let message = format!("is missing, and so is /{file}");
        return Outcome::of(vec![finding(Volume::Root, &path, message, Fix::ByHand)]);
    };
    let named = |database: &str| {
        super::lines(&text).any(|(_, line)| {
            line.split_once(':').is_some_and(|(d, rest)| {
                d.trim() == database && rest.split_whitespace().any(|m| m == module)
            })
        })
    };
    let missing = databases.iter().filter(|d| !named(d));
    let message = |d: &&str| format!("does not name {module} in '{d}:', and there is no /{file}");
    Outcome::of(missing.map(|d| finding(Volume::Root, &path, message(d), Fix::ByHand)).collect())
}

fn exists(root: &Tree, prefix: &str, file: &str) -> bool {
    TreePath::new(format!("{prefix}{file}")).is_ok_and(|path| root.lookup(&path).is_some())
}
