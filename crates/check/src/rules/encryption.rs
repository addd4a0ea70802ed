//! R9 and S6, on the disk: keys are made on the machine, never in the image.

use tree::TreePath;

use super::{Plain, finding, lines, on_partition, text};
use crate::{Fix, Outcome, Severity, Subject, Volume};

/// R9, as far as it concerns partitions.
pub static VOLUMES: Plain = Plain {
    id: "R9-volumes",
    title: "no encrypted volume was made at build time",
    looks_at: "LUKS and BitLocker headers of partitions",
    why: "Every clone has the same volume key: whoever knew it once opens the disks of all, and \
          changing the passphrase does not change it.",
    mend: "Ship the partition unencrypted or empty, and let the first boot encrypt it (Encrypt= \
           in the image's repart.d).",
    severity: Severity::Error,
    volumes: &[Volume::Disk],
    check: volumes,
};

fn volumes(subject: &Subject) -> Outcome {
    let Some(disk) = subject.disk else { return Outcome::NotApplicable };
    let encrypted = disk.partitions.iter().filter(|p| p.probe.holds.is_encrypted());
    let message = "has a volume key that all clones share";
    Outcome::of(encrypted.map(|p| on_partition(p, message)).collect())
}

/// S6.
pub static KEY_FILES: Plain = Plain {
    id: "S6",
    title: "no key of an encrypted volume is in the image",
    looks_at: "Key files that /etc/crypttab names",
    why: "A key in the image opens the disk of every clone.",
    mend: "Remove the key file; enrol a key of the machine on the first boot (TPM, recovery key).",
    severity: Severity::Error,
    volumes: &[Volume::Root],
    check: key_files,
};

fn key_files(subject: &Subject) -> Outcome {
    let path = TreePath::literal("etc/crypttab");
    let Some(text) = text(subject.root, &path) else { return Outcome::NotApplicable };
    let mut findings = Vec::new();
    for (number, line) in lines(&text) {
        let key = line.split_whitespace().nth(2).filter(|k| k.starts_with('/'));
        // Not what the kernel makes: swap gets a key of its own at each boot.
        let key = key.filter(|k| !k.starts_with("/dev/"));
        let there = key.and_then(|k| TreePath::new(k.trim_start_matches('/')).ok());
        let Some(there) = there.filter(|key| {
            let configured = subject.intent.project_files.contains(key);
            !configured && subject.root.lookup(key).is_some()
        }) else {
            continue;
        };
        let message = format!("is the key that line {number} of /etc/crypttab names");
        findings.push(finding(Volume::Root, &there, message, Fix::ByHand));
    }
    Outcome::of(findings)
}
