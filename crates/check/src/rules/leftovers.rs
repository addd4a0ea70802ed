//! R2–R5 and R7: what must simply not be there. One row per kind of thing.

use std::collections::BTreeSet;

use glob::Pattern;
use tree::{Kind, KindName, Tree, TreePath};

use super::finding;
use crate::{Finding, Fix, Outcome, Rule, Severity, Subject, Volume};

/// What exempts a file from its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unless {
    /// Nothing: identity is never configuration.
    Never,
    /// The project itself put it there.
    Project,
    /// `Hostname=` sets it.
    Hostname,
    /// The project sets it by a file.
    MachineInfo,
}

/// One kind of thing that must be absent.
pub struct Leftover {
    id: &'static str,
    title: &'static str,
    why: &'static str,
    severity: Severity,
    volume: Volume,
    /// Shell patterns without leading slash; `*` does not match a slash. A
    /// pattern that ends in `/` means what is in that directory, at any depth.
    patterns: &'static [&'static str],
    fix: Fix,
    unless: Unless,
}

const ERROR: Leftover = Leftover {
    id: "",
    title: "",
    why: "",
    severity: Severity::Error,
    volume: Volume::Root,
    patterns: &[],
    fix: Fix::Remove,
    unless: Unless::Never,
};

const WARNING: Leftover = Leftover { severity: Severity::Warning, ..ERROR };

/// The rows.
pub static TABLE: [Leftover; 28] = [
    Leftover {
        id: "R2",
        title: "no random seed",
        why: "Every clone would start its random numbers from the same seed.",
        patterns: &[
            "var/lib/systemd/random-seed",
            "var/lib/urandom/random-seed",
            "boot/loader/random-seed",
            "efi/loader/random-seed",
        ],
        ..ERROR
    },
    Leftover {
        id: "R3",
        title: "no random seed in the ESP",
        why: "The boot loader would hand every clone the same seed.",
        volume: Volume::Esp,
        patterns: &["loader/random-seed"],
        ..ERROR
    },
    Leftover {
        id: "R4",
        title: "no host name of the build host",
        why: "Every clone would have the same name.",
        patterns: &["etc/hostname"],
        unless: Unless::Hostname,
        ..ERROR
    },
    Leftover {
        id: "R4-machine-info",
        title: "no machine-info of the build host",
        why: "Pretty host name, location and chassis are those of one machine.",
        patterns: &["etc/machine-info"],
        unless: Unless::MachineInfo,
        ..ERROR
    },
    Leftover {
        id: "R5",
        title: "no credential secret",
        why: "Whoever has one clone can decrypt the credentials of all. Credentials that were \
              encrypted with it at build time are lost with it.",
        patterns: &["var/lib/systemd/credential.secret"],
        ..ERROR
    },
    Leftover {
        id: "R7-dhcp",
        title: "no DHCP leases and DUIDs",
        why: "Clones would ask for the same address.",
        patterns: &[
            "var/lib/dhcp/*.lease*",
            "var/lib/dhcpcd/*",
            "var/lib/NetworkManager/*.lease",
            "var/lib/systemd/network/",
            "var/lib/dhcpcd5/*",
            "var/lib/NetworkManager/*-duid*",
            "etc/dhcp/duid",
            "etc/dhcpcd.duid",
        ],
        ..ERROR
    },
    Leftover {
        id: "R7-networkmanager",
        title: "no NetworkManager secret",
        why: "Stable privacy addresses and MACs are derived from it.",
        patterns: &[
            "var/lib/NetworkManager/secret_key",
            "var/lib/NetworkManager/seen-bssids",
            "var/lib/NetworkManager/timestamps",
        ],
        ..ERROR
    },
    Leftover {
        id: "R7-connections",
        title: "no network connections that are not configured",
        why: "They hold passwords of networks, and names of interfaces, of another machine.",
        patterns: &["etc/NetworkManager/system-connections/*"],
        unless: Unless::Project,
        ..ERROR
    },
    Leftover {
        id: "R7-iscsi",
        title: "no iSCSI initiator name",
        why: "Two initiators of one name corrupt each other's sessions.",
        patterns: &["etc/iscsi/initiatorname.iscsi"],
        unless: Unless::Project,
        ..ERROR
    },
    Leftover {
        id: "R7-lvm",
        title: "no LVM devices and archives of the build host",
        why: "They name disks of another machine.",
        patterns: &["etc/lvm/devices/*", "etc/lvm/archive/*", "etc/lvm/backup/*"],
        ..ERROR
    },
    Leftover {
        id: "R7-cloud",
        title: "no cloud-init instance",
        why: "cloud-init takes the clone for the instance that it has set up already.",
        patterns: &["var/lib/cloud/"],
        ..ERROR
    },
    Leftover {
        id: "R7-keys",
        title: "no private keys of machine services",
        why: "Whoever has one clone could pass for every other.",
        patterns: &[
            "etc/krb5.keytab",
            "etc/wireguard/*.key",
            "var/lib/tailscale/*",
            "etc/salt/pki/",
            "var/lib/puppet/ssl/",
            "etc/puppetlabs/puppet/ssl/",
            "var/lib/sss/secrets/*",
            "var/lib/samba/private/*.tdb",
            "var/lib/docker/engine-id",
            "var/lib/docker/swarm/",
            "var/lib/containers/storage/db.sql",
            "var/lib/containers/cache/*",
            "var/lib/samba/*.tdb",
            "var/lib/bluetooth/*",
            "etc/docker/key.json",
        ],
        unless: Unless::Project,
        ..ERROR
    },
    Leftover {
        id: "R7-tokens",
        title: "no passwords and tokens of people and mirrors",
        why: "Whoever has one clone can use them where their owner can.",
        patterns: &[
            "root/.netrc",
            "root/.pgpass",
            "root/.git-credentials",
            "root/.vault-token",
            "root/.aws/credentials",
            "root/.docker/config.json",
            "root/.kube/config",
            "root/.config/gh/hosts.yml",
            "root/.gnupg/*",
            "home/*/.netrc",
            "home/*/.pgpass",
            "home/*/.git-credentials",
            "home/*/.vault-token",
            "home/*/.aws/credentials",
            "home/*/.docker/config.json",
            "home/*/.kube/config",
            "home/*/.config/gh/hosts.yml",
            "etc/apt/auth.conf",
            "etc/apt/auth.conf.d/*",
        ],
        unless: Unless::Project,
        ..ERROR
    },
    Leftover {
        id: "R7-accounting",
        title: "no process accounting, no tables of block devices",
        why: "They tell of the processes and disks of another machine.",
        patterns: &[
            "var/account/pacct*",
            "var/log/account/pacct*",
            "etc/blkid.tab*",
            "etc/blkid/blkid.tab*",
            "var/lib/blkid/*",
        ],
        ..ERROR
    },
    Leftover {
        id: "R7-sssd",
        title: "no directory caches of SSSD",
        why: "They hold accounts, and hashes of their passwords, of another machine's domain.",
        patterns: &["var/lib/sss/db/*", "var/lib/sss/mc/*", "var/lib/sss/pubconf/kdcinfo.*"],
        unless: Unless::Project,
        ..ERROR
    },
    Leftover {
        id: "R7-udev",
        title: "no persistent network names",
        why: "They bind interface names to the MACs of one machine.",
        patterns: &[
            "etc/udev/rules.d/70-persistent-net.rules",
            "etc/udev/rules.d/75-persistent-net-generator.rules",
        ],
        unless: Unless::Project,
        ..ERROR
    },
    Leftover {
        id: "R7-account-backups",
        title: "no backups of the account files",
        why: "They hold hashes that were replaced, and differ from build to build.",
        patterns: &[
            "etc/passwd-",
            "etc/group-",
            "etc/shadow-",
            "etc/gshadow-",
            "etc/subuid-",
            "etc/subgid-",
        ],
        ..ERROR
    },
    Leftover {
        id: "R7-spool",
        title: "no mail and cron spools",
        why: "They belong to people of the build host.",
        patterns: &[
            "var/mail/*",
            "var/spool/mail/*",
            "var/spool/cron/crontabs/*",
            "var/spool/cron/atjobs/*",
        ],
        unless: Unless::Project,
        ..ERROR
    },
    Leftover {
        id: "R7-history",
        title: "no shell histories",
        why: "They tell what was typed while the image was made, passwords among it.",
        patterns: &[
            "root/.*_history",
            "root/.lesshst",
            "root/.viminfo",
            "home/*/.*_history",
            "home/*/.lesshst",
            "home/*/.viminfo",
        ],
        ..ERROR
    },
    Leftover {
        id: "R7-authorized-keys",
        title: "no SSH keys of people that are not configured",
        why: "A forgotten key opens every clone.",
        patterns: &["root/.ssh/", "home/*/.ssh/*"],
        unless: Unless::Project,
        ..ERROR
    },
    Leftover {
        id: "R7-logins",
        title: "no login records",
        why: "They tell of another machine.",
        patterns: &[
            "var/log/wtmp",
            "var/log/btmp",
            "var/log/lastlog",
            "var/log/faillog",
            "var/lib/wtmpdb/wtmp.db",
            "var/lib/lastlog/lastlog2.db",
        ],
        fix: Fix::Truncate,
        ..ERROR
    },
    Leftover {
        id: "R7-logs",
        title: "no logs, no journal",
        why: "They tell of another machine, and differ from build to build.",
        patterns: &[
            "var/log/*.log",
            "var/log/apt/*",
            "var/log/journal/",
            "var/log/installer/",
            "var/log/*.log.*",
            "var/log/unattended-upgrades/*",
        ],
        ..ERROR
    },
    Leftover {
        id: "R7-crash",
        title: "no crash and core dumps",
        why: "They hold memory of programs of another machine.",
        patterns: &["var/crash/*", "var/lib/systemd/coredump/*", "core"],
        ..ERROR
    },
    Leftover {
        id: "R7-tmp",
        title: "/tmp and /var/tmp are empty",
        why: "Nothing there is meant to last.",
        patterns: &["tmp/", "var/tmp/", "run/", "dev/", "proc/", "sys/"],
        ..ERROR
    },
    Leftover {
        id: "R7-packages",
        title: "no package caches and lists",
        why: "They are old by the time of the first boot, and differ from build to build.",
        severity: Severity::Error,
        patterns: &[
            "var/cache/apt/*.bin",
            "var/cache/apt/archives/*.deb",
            "var/cache/apt/archives/partial/*",
            "var/lib/apt/lists/*_*",
            "var/lib/apt/lists/partial/*",
            "var/lib/apt/periodic/*",
            "var/cache/debconf/*-old",
            "var/lib/dpkg/*-old",
            "var/cache/ldconfig/aux-cache",
        ],
        ..ERROR
    },
    Leftover {
        id: "R7-resolv",
        title: "no resolv.conf copied from the build host",
        why: "It names the build network's servers.",
        patterns: &["etc/resolv.conf"],
        unless: Unless::Project,
        ..ERROR
    },
    Leftover {
        id: "R7-lock",
        title: "no lock files",
        why: "They have no meaning once their process is gone.",
        patterns: &[
            "etc/.pwd.lock",
            "var/lib/dpkg/lock",
            "var/lib/dpkg/lock-frontend",
            "var/lib/dpkg/triggers/Lock",
            "var/cache/apt/archives/lock",
            "var/lib/apt/lists/lock",
        ],
        ..WARNING
    },
    Leftover {
        id: "R9",
        title: "no key files of encrypted volumes, nothing sealed to a TPM",
        why: "Every clone's disk would open with the same key, or with that of a TPM that no \
              clone has.",
        patterns: &[
            "etc/cryptsetup-keys.d/*",
            "run/cryptsetup-keys.d/*",
            "var/lib/systemd/tpm2-srk-public-key.*",
            "var/lib/systemd/pcrlock.json",
        ],
        unless: Unless::Project,
        ..ERROR
    },
];

impl Leftover {
    /// What the patterns name, and where links that are identities lead.
    fn matches(&self, tree: &Tree) -> BTreeSet<TreePath> {
        let mut found: BTreeSet<_> =
            self.patterns.iter().flat_map(|pattern| matches(tree, pattern)).collect();
        if self.volume == Volume::Root && IDENTITIES.contains(&self.id) {
            let targets: Vec<_> = found.iter().filter_map(|path| target(tree, path)).collect();
            found.extend(targets);
        }
        found
    }
}

/// The rows whose files are secrets by themselves.
const IDENTITIES: [&str; 2] = ["R2", "R5"];

/// Seeds and secrets of the root.
pub(super) fn identities(tree: &Tree) -> BTreeSet<TreePath> {
    let rows = TABLE.iter().filter(|row| IDENTITIES.contains(&row.id));
    rows.flat_map(|row| row.matches(tree)).collect()
}

/// The file that a link leads to, unless it belongs to the system: an identity is
/// removed with its link, a program is not because somebody linked to it.
pub(super) fn target(tree: &Tree, path: &TreePath) -> Option<TreePath> {
    let real = tree.resolve(path).ok()?;
    let is_file = tree.get(&real).is_some_and(|node| matches!(node.kind, Kind::File(_)));
    (is_file
        && Some(&real) != tree.resolve_parent(path).ok().as_ref()
        && !real.starts_with(&TreePath::literal("usr")))
    .then_some(real)
}

impl Rule for Leftover {
    fn id(&self) -> &'static str {
        self.id
    }

    fn title(&self) -> &'static str {
        self.title
    }

    fn why(&self) -> &'static str {
        self.why
    }

    fn looks_at(&self) -> String {
        let path = |pattern: &&str| match pattern.strip_suffix('/') {
            Some(dir) => format!("what is in /{dir}"),
            None => format!("/{pattern}"),
        };
        self.patterns.iter().map(path).collect::<Vec<_>>().join(", ")
    }

    fn mend(&self) -> &'static str {
        match self.fix {
            Fix::Truncate => "The files are made empty.",
            _ => "What is found is removed.",
        }
    }

    fn volumes(&self) -> &'static [Volume] {
        match self.volume {
            Volume::Esp => &[Volume::Esp, Volume::Xbootldr],
            _ => &[Volume::Root],
        }
    }

    fn severity(&self) -> Severity {
        self.severity
    }

    fn check(&self, subject: &Subject) -> Outcome {
        let trees: Vec<(Volume, &Tree)> = match self.volume {
            Volume::Root => vec![(Volume::Root, subject.root)],
            _ => subject.boot_volumes().collect(),
        };
        if trees.is_empty() {
            return Outcome::NotApplicable;
        }
        let left = |(volume, tree): (Volume, &Tree)| -> Vec<Finding> {
            let found = self.matches(tree).into_iter();
            found
                .filter(|path| !self.exempt(subject, path) && self.is_leftover(tree, path))
                .map(|path| finding(volume, &path, self.title, self.fix.clone()))
                .collect()
        };
        Outcome::of(trees.into_iter().flat_map(left).collect())
    }

    fn places(&self, root: &Tree) -> Vec<TreePath> {
        match self.volume {
            Volume::Root => self.matches(root).into_iter().collect(),
            _ => Vec::new(),
        }
    }
}

impl Leftover {
    fn exempt(&self, subject: &Subject, path: &TreePath) -> bool {
        let intent = subject.intent;
        match self.unless {
            Unless::Never => false,
            Unless::Project => intent.project_files.contains(path),
            Unless::Hostname => intent.hostname || intent.project_files.contains(path),
            Unless::MachineInfo => intent.machine_info || intent.project_files.contains(path),
        }
    }

    fn is_leftover(&self, tree: &Tree, path: &TreePath) -> bool {
        let Some(node) = tree.get(path) else { return false };
        match (&self.fix, &node.kind) {
            (Fix::Truncate, Kind::File(content)) => !content.is_empty(),
            (Fix::Truncate, _) => false,
            // A link (to resolved's stub, to /run) is not a copy of anything.
            _ if self.id == "R7-resolv" => node.kind.name() != KindName::Symlink,
            _ => true,
        }
    }
}

/// What `pattern` names in `tree`, by its real path. Links in the way are followed as
/// a program would, the last one is not: it is what would be removed.
pub(super) fn matches(tree: &Tree, pattern: &str) -> BTreeSet<TreePath> {
    let (pattern, contents) = match pattern.strip_suffix('/') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    let mut found = BTreeSet::from([TreePath::root()]);
    for component in pattern.split('/') {
        let dirs = found.iter().filter_map(|dir| tree.resolve(dir).ok());
        found = dirs.flat_map(|dir| step(tree, &dir, component)).collect();
    }
    if contents {
        let dirs = found.iter().filter_map(|dir| directory(tree, dir));
        found = dirs.flat_map(|dir| children(tree, &dir)).collect();
    }
    found
}

/// Where a directory that is to be emptied really is; none if it leads to the system
/// itself, which is no leftover whatever points to it.
fn directory(tree: &Tree, dir: &TreePath) -> Option<TreePath> {
    let real = tree.resolve(dir).ok()?;
    let own = ["etc", "usr", "boot", "efi"].map(TreePath::literal);
    let protected = real.is_root() || own.iter().any(|o| real.starts_with(o));
    let unmoved = real == *dir;
    let shallow = real.components().count() == 1 && !unmoved;
    (unmoved || !(protected || shallow)).then_some(real)
}

fn children(tree: &Tree, dir: &TreePath) -> Vec<TreePath> {
    tree.children(dir).map(|(path, _)| path.clone()).collect()
}

fn step(tree: &Tree, dir: &TreePath, component: &str) -> Vec<TreePath> {
    if !component.contains(['*', '?', '[']) {
        let path = dir.join(component).ok();
        return path.into_iter().filter(|p| tree.contains(p)).collect();
    }
    let Ok(pattern) = Pattern::new(component) else { return Vec::new() };
    let name = |path: &TreePath| String::from_utf8_lossy(path.name()).into_owned();
    children(tree, dir).into_iter().filter(|p| pattern.matches(&name(p))).collect()
}
