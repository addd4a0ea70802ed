//! R6: SSH host keys are absent, and something makes them on first boot.

use std::collections::BTreeSet;

use os::units::{self, UnitFile};
use tree::{Mtime, Tree, TreePath};

use super::{finding, leftovers};
use crate::{Fix, Outcome, Rule, Subject, Volume};

/// The unit that [`add_unit`] makes.
const UNIT: &str = "mkgold-ssh-host-keys.service";
/// The most files that a configuration of sshd has.
const MAX_CONFIGURATION: usize = 1000;

// Not ConditionFirstBoot=: a key that is missing is missing, whatever boot it is.
// It is part of the first boot, so the boot is not complete before it (F2).
const UNIT_TEXT: &str = "\
[Unit]
Description=Make SSH host keys that are missing
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key
ConditionPathIsReadWrite=/etc
Wants=first-boot-complete.target
Before=first-boot-complete.target
Before=ssh.service ssh.socket sshd.service sshd.socket
After=local-fs.target systemd-random-seed.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
";

/// R6.
pub struct HostKeys;

impl Rule for HostKeys {
    fn id(&self) -> &'static str {
        "R6"
    }

    fn title(&self) -> &'static str {
        "SSH host keys are absent and made on first boot"
    }

    fn why(&self) -> &'static str {
        "With a shared host key, whoever has one machine can pass for every other; with none \
         and nothing that makes them, sshd does not start."
    }

    fn looks_at(&self) -> String {
        "/etc/ssh/ssh_host_*, the HostKey= of sshd's configuration, and the units that make keys"
            .into()
    }

    fn mend(&self) -> &'static str {
        "The keys are removed; if nothing would make new ones, a unit that does is added."
    }

    fn check(&self, subject: &Subject) -> Outcome {
        let root = subject.root;
        let message = "host key that clones would share";
        let mut findings: Vec<_> = host_keys(root)
            .iter()
            .map(|path| finding(Volume::Root, path, message, Fix::Remove))
            .collect();
        let has_server = root.lookup(&TreePath::literal("usr/sbin/sshd")).is_some();
        if !has_server && findings.is_empty() {
            return Outcome::NotApplicable;
        }
        if has_server && !something_makes_keys(root) {
            let path = TreePath::literal("usr/sbin/sshd");
            let message = "is there, but no unit makes host keys: sshd would not start";
            findings.push(finding(Volume::Root, &path, message, Fix::AddHostKeyUnit));
        }
        Outcome::of(findings)
    }

    fn places(&self, root: &Tree) -> Vec<TreePath> {
        host_keys(root).into_iter().collect()
    }
}

/// Host keys where they are by default, and where sshd's configuration says they are.
fn host_keys(root: &Tree) -> BTreeSet<TreePath> {
    let etc_ssh = |path: &'static str| root.resolve(&TreePath::literal(path)).ok();
    let children = |dir: Option<TreePath>| -> Vec<TreePath> {
        dir.iter().flat_map(|dir| root.children(dir)).map(|(path, _)| path.clone()).collect()
    };
    let dir = children(etc_ssh("etc/ssh"));
    let mut keys: BTreeSet<_> =
        dir.iter().filter(|path| path.name().starts_with(b"ssh_host_")).cloned().collect();
    let mut configuration = children(etc_ssh("etc/ssh/sshd_config.d"));
    configuration.retain(|path| path.name().ends_with(b".conf"));
    configuration.extend(dir.into_iter().filter(|path| path.name() == b"sshd_config"));
    let configuration = with_included(root, configuration);
    for named in configuration.iter().flat_map(|path| configured_keys(root, path)) {
        for suffix in ["", ".pub", "-cert.pub"] {
            let path = TreePath::new([&named[..], suffix].concat()).ok();
            let real = path.and_then(|path| root.resolve_parent(&path).ok());
            keys.extend(real.filter(|path| root.get(path).is_some_and(|node| !node.is_dir())));
        }
    }
    let targets: Vec<_> = keys.iter().filter_map(|path| leftovers::target(root, path)).collect();
    keys.extend(targets);
    keys
}

/// The host keys that are secret.
pub(super) fn private_keys(root: &Tree) -> BTreeSet<TreePath> {
    let keys = host_keys(root).into_iter();
    keys.filter(|path| !path.name().ends_with(b".pub")).collect()
}

/// The configuration and what its `Include` lines name, shell patterns among it,
/// relative to `/etc/ssh` (sshd_config(5)).
fn with_included(root: &Tree, configuration: Vec<TreePath>) -> BTreeSet<TreePath> {
    let mut all = BTreeSet::new();
    let mut pending = configuration;
    while let Some(path) = pending.pop() {
        let Some(path) = root.resolve(&path).ok().filter(|path| all.insert(path.clone())) else {
            continue;
        };
        if all.len() > MAX_CONFIGURATION {
            break;
        }
        let text = root.read(&path, 1 << 20).and_then(Result::ok).unwrap_or_default();
        for line in String::from_utf8_lossy(&text).lines() {
            let mut words = line.split([' ', '\t', '=']).filter(|word| !word.is_empty());
            if !words.next().is_some_and(|key| key.eq_ignore_ascii_case("include")) {
                continue;
            }
            for pattern in words.map(|word| word.trim_matches('"')) {
                let pattern = match pattern.strip_prefix('/') {
                    Some(absolute) => absolute.to_owned(),
                    None => format!("etc/ssh/{pattern}"),
                };
                pending.extend(leftovers::matches(root, pattern.trim_end_matches('/')));
            }
        }
    }
    all
}

/// The files that `HostKey` and `HostCertificate` name (sshd_config(5)).
fn configured_keys(root: &Tree, path: &TreePath) -> Vec<String> {
    let text = root.read(path, 1 << 20).and_then(Result::ok).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let value = |line: &str| {
        let (key, value) = line.trim().split_once([' ', '\t', '='])?;
        let names = ["hostkey", "hostcertificate"];
        let value = value.trim_start_matches([' ', '\t', '=']).trim_matches('"');
        let absolute = names.contains(&key.to_ascii_lowercase().as_str()) && value.starts_with('/');
        absolute.then(|| value.to_owned())
    };
    text.lines().filter_map(value).collect()
}

/// An enabled unit, or one that another wants, that runs `ssh-keygen -A`.
fn something_makes_keys(root: &Tree) -> bool {
    let wanted = |name: &str| {
        let linked = |dir: &&str| {
            let dir = TreePath::new(dir).expect("a normal path");
            root.subtree(&dir).any(|(path, _, _)| {
                let in_wants = path.parent().is_some_and(|d| {
                    d.name().ends_with(b".wants") || d.name().ends_with(b".requires")
                });
                in_wants && path.name() == name.as_bytes()
            })
        };
        units::SYSTEM_DIRS.iter().any(linked)
    };
    let makes_keys = |path: &TreePath| {
        let text = root.read(path, 1 << 20).and_then(Result::ok).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        units::section(&text, "Service")
            .iter()
            .any(|(key, value)| key.starts_with("ExecStart") && value.contains("ssh-keygen"))
    };
    units::all(root, &units::SYSTEM_DIRS).iter().any(|(name, unit)| match unit {
        UnitFile::Regular(path) => makes_keys(path) && wanted(name),
        _ => false,
    })
}

/// Adds a unit that makes missing keys.
pub fn add_unit(root: &mut Tree, mtime: Mtime) -> Result<(), os::OsError> {
    super::add_unit(root, UNIT, UNIT_TEXT, "multi-user.target", mtime)
}
