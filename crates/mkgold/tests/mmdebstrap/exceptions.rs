//! Where a golden image differs from what apt and dpkg leave, and why.
//!
//! Left is mkgold, right is mmdebstrap. `OnlyRight` is what mkgold does not keep,
//! `OnlyLeft` what it adds.

use std::collections::BTreeSet;

use testkit::compare::What::{self, *};
use testkit::explained::{Agree, Exception};

const fn row(paths: &'static str, what: &'static [What], why: &'static str) -> Exception {
    Exception { paths, what, agree: None, why }
}

const fn if_agree(paths: &'static str, agree: Agree, why: &'static str) -> Exception {
    Exception { paths, what: &[Content], agree: Some(agree), why }
}

/// The same lines in another order.
fn same_lines(left: &[u8], right: &[u8]) -> bool {
    let sorted = |text: &[u8]| {
        let mut lines: Vec<_> = text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        lines.sort();
        lines
    };
    sorted(left) == sorted(right)
}

/// Every package that apt's run marked is marked.
fn marks_more(left: &[u8], right: &[u8]) -> bool {
    let marks = |text: &[u8]| -> BTreeSet<String> {
        let text = String::from_utf8_lossy(text).into_owned();
        text.split("\n\n").map(|mark| mark.trim().to_owned()).collect()
    };
    marks(right).is_subset(&marks(left))
}

/// The same but for the name of the machine.
fn same_but_myhostname(left: &[u8], right: &[u8]) -> bool {
    let rest = |text: &[u8]| -> Vec<Vec<u8>> {
        let lines = text.split(|b| *b == b'\n');
        lines.filter(|line| !line.starts_with(b"myhostname = ")).map(<[u8]>::to_vec).collect()
    };
    rest(left) == rest(right)
}

/// The same Java key store of certificates, but for the time when each was added and
/// the digest over all.
fn same_certificates(left: &[u8], right: &[u8]) -> bool {
    let undated = |store: &[u8]| -> Option<Vec<u8>> {
        let number = |at: usize| Some(u32::from_be_bytes(store.get(at..at + 4)?.try_into().ok()?));
        let text = |at: usize| {
            Some(2 + usize::from(u16::from_be_bytes([*store.get(at)?, *store.get(at + 1)?])))
        };
        let mut out = store.get(..12)?.to_vec();
        let mut at = 12;
        for _ in 0..number(8)? {
            let alias = at + 4 + text(at + 4)?;
            let length = alias + 8 + text(alias + 8)?;
            let end = length + 4 + number(length)? as usize;
            out.extend([store.get(at..alias)?, store.get(alias + 8..end)?].concat());
            at = end;
        }
        (store.len() == at + 20).then_some(out)
    };
    undated(left).is_some_and(|l| undated(right) == Some(l))
}

const SEALED_LOCKS: &str = "lock files have no meaning once their process is gone (seal R7-lock)";
const SEALED_BACKUPS: &str = "backups of the account files (seal R7-account-backups)";
const SEALED_OLD: &str = "the state before the last change (seal R7-packages)";
const SEALED_KEYS: &str = "each machine makes its own on its first boot (seal R6, R7-snakeoil)";
const APT_FETCHES: &str = "apt prepares the directory when it first fetches";
const IDS: &str = "system ids are given in the order in which packages are configured, \
                   which Debian does not promise; the ids are translated before comparing";
const MMDEBSTRAP_MAKES: &str = "mmdebstrap's own; no package has it";

/// The table.
pub const EXCEPTIONS: &[Exception] = &[
    // What makes the image golden.
    row(
        "etc/machine-id",
        &[OnlyLeft, Mode, Content],
        "`uninitialized`: the next boot is a first boot (R1), which systemd would not take an \
         empty file for (bookworm); 0444 as systemd makes it",
    ),
    row("etc/kernel/entry-token", &[OnlyLeft], "boot entries are named after it (B1)"),
    row("etc/resolv.conf", &[OnlyRight], "mmdebstrap copies the build machine's (R7-resolv)"),
    row("etc/ssh/ssh_host_*", &[OnlyRight], SEALED_KEYS),
    row("etc/ssl/private/ssl-cert-snakeoil.key", &[OnlyRight], SEALED_KEYS),
    row("etc/ssl/certs/ssl-cert-snakeoil.pem", &[OnlyRight], SEALED_KEYS),
    row(
        "etc/ssl/certs/ce275665.0",
        &[OnlyRight],
        "the link by which OpenSSL finds the certificate of localhost",
    ),
    row("etc/.pwd.lock", &[OnlyRight], SEALED_LOCKS),
    row("var/lib/dpkg/lock", &[OnlyRight], SEALED_LOCKS),
    row("var/lib/dpkg/lock-frontend", &[OnlyRight], SEALED_LOCKS),
    row("var/lib/dpkg/triggers/Lock", &[OnlyRight], SEALED_LOCKS),
    row("var/cache/apt/archives/lock", &[OnlyRight], SEALED_LOCKS),
    row("var/lib/apt/lists/lock", &[OnlyRight], SEALED_LOCKS),
    row("etc/passwd-", &[OnlyRight], SEALED_BACKUPS),
    row("etc/group-", &[OnlyRight], SEALED_BACKUPS),
    row("etc/shadow-", &[OnlyRight], SEALED_BACKUPS),
    row("etc/gshadow-", &[OnlyRight], SEALED_BACKUPS),
    row("var/lib/dpkg/*-old", &[OnlyRight], SEALED_OLD),
    row("var/cache/debconf/*-old", &[OnlyRight], SEALED_OLD),
    row("var/log/*.log", &[OnlyRight], "logs (seal R7-logs)"),
    row("dev/*", &[OnlyRight], "mmdebstrap makes nodes; the kernel's devtmpfs has them"),
    row("run/**", &[OnlyRight], "a tmpfs hides it (seal R7-tmp)"),
    row("usr/lib/systemd/system/sshd-keygen.service.d", &[OnlyLeft], "the directory of the next"),
    row(
        "usr/lib/systemd/system/sshd-keygen.service.d/10-mkgold-first-boot.conf",
        &[OnlyLeft],
        "host keys are made before the first boot counts as complete (F2)",
    ),
    row(
        "usr/lib/systemd/system/mkgold-*.service",
        &[OnlyLeft],
        "make keys on the first boot where no unit of Debian's does (R6, R7-snakeoil)",
    ),
    row("usr/lib/systemd/system/*.target.wants/mkgold-*.service", &[OnlyLeft], "the same"),
    // Kernels.
    row("boot/initrd.img-*", &[OnlyRight], "mkgold makes the initrd itself, and only to boot"),
    row("initrd.img", &[OnlyRight], "the link to it"),
    row("initrd.img.old", &[OnlyRight], "the link to it"),
    // apt and dpkg, run by mmdebstrap.
    row("etc/apt/sources.list", &[OnlyRight], "mkgold writes RELEASE.sources, as mkosi does"),
    row("etc/apt/sources.list.d/*.sources", &[OnlyLeft], "the same"),
    row("etc/fstab", &[OnlyRight], MMDEBSTRAP_MAKES),
    row("var/lib/dpkg/arch", &[OnlyRight], "dpkg makes it for a foreign architecture only"),
    row("var/cache/apt/archives/partial", &[Mode, Owner], APT_FETCHES),
    row("var/lib/apt/lists/partial", &[Mode, Owner], APT_FETCHES),
    if_agree(
        "var/lib/apt/extended_states",
        marks_more,
        "mmdebstrap installs the essential set without apt, which then marks none of it; sorted",
    ),
    if_agree("var/lib/dpkg/triggers/File", same_lines, "in the order of unpacking"),
    if_agree("etc/passwd", same_lines, IDS),
    if_agree("etc/group", same_lines, IDS),
    if_agree("etc/shadow", same_lines, IDS),
    if_agree("etc/gshadow", same_lines, IDS),
    row(
        "etc/.resolv.conf.systemd-resolved.bak",
        &[OnlyRight],
        "systemd-resolved keeps the resolv.conf that mmdebstrap copied",
    ),
    row("init", &[OnlyLeft], "as mkosi makes it: where the kernel looks in an initrd"),
    row("usr/lib/clock-epoch", &[OnlyLeft], "as mkosi makes it: no clock is before the image"),
    // What no two runs make alike.
    if_agree(
        "etc/ssl/certs/java/cacerts",
        same_certificates,
        "a key store says when each certificate was added",
    ),
    if_agree(
        "etc/postfix/main.cf",
        same_but_myhostname,
        "made up from the resolv.conf that mmdebstrap copied",
    ),
    row("etc/aliases.db", &[Content], "Berkeley DB gives each file a random id"),
    row(
        "var/lib/postgresql/*/main/global/pg_control",
        &[Content],
        "initdb gives each cluster a random id",
    ),
    row("var/lib/postgresql/*/main/pg_wal/*", &[Content], "the same"),
    row("var/lib/postgresql/*/main/pg_stat/pgstat.stat", &[Content], "times"),
    row(
        "var/cache/fontconfig/*.cache-*",
        &[OnlyLeft],
        "fc-cache discards what is older than its directory: with mmdebstrap, directories are \
         made after SOURCE_DATE_EPOCH",
    ),
];
