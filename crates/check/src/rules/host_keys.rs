//! R6: SSH host keys are absent, and something makes them on first boot.

use os::units::{self, UnitFile};
use tree::{Kind, Meta, Mtime, Node, Tree, TreePath};

use super::finding;
use crate::{Fix, Outcome, Rule, Subject, Volume};

/// The unit that [`add_unit`] makes.
const UNIT: &str = "mkgold-ssh-host-keys.service";
const UNIT_DIR: &str = "usr/lib/systemd/system";

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

    fn check(&self, subject: &Subject) -> Outcome {
        let root = subject.root;
        let dir = TreePath::literal("etc/ssh");
        let mut findings: Vec<_> = root
            .children(&dir)
            .filter(|(path, _)| is_host_key(path.name()))
            .map(|(path, _)| {
                finding(Volume::Root, path, "host key that clones would share", Fix::Remove)
            })
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
}

fn is_host_key(name: &[u8]) -> bool {
    name.starts_with(b"ssh_host_")
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

/// Adds a unit that makes missing keys, wanted statically so that no preset and
/// no first boot has to enable it.
pub fn add_unit(root: &mut Tree, mtime: Mtime) -> Result<(), os::OsError> {
    let dir = TreePath::literal(UNIT_DIR);
    root.make_dirs(&dir)?;
    let put = |root: &mut Tree, path: String, meta: Meta, kind: Kind| {
        let path = TreePath::new(path).map_err(tree::TreeError::from)?;
        root.put(path, Node { meta: meta.at(mtime), kind })
    };
    let content = tree::Content::inline(UNIT_TEXT.as_bytes());
    put(root, format!("{UNIT_DIR}/{UNIT}"), Meta::file(0o644), Kind::File(content))?;
    let wants = format!("{UNIT_DIR}/multi-user.target.wants");
    let wants_path = TreePath::new(&wants).map_err(tree::TreeError::from)?;
    if !root.contains(&wants_path) {
        root.make_dirs(&wants_path)?;
        root.get_mut(&wants_path).expect("just made").meta.mtime = mtime;
    }
    let target = Kind::Symlink(format!("../{UNIT}").into_bytes().into());
    put(root, format!("{wants}/{UNIT}"), Meta::symlink(), target)?;
    Ok(())
}
