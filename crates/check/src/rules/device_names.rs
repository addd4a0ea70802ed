//! D4 and D5: the tables of file systems and encrypted volumes name what every machine
//! has, not a device of the machine that the image was made on.
//!
//! Sources: fstab(5), crypttab(5), and the links of udev's `60-persistent-storage.rules`.

use tree::TreePath;

use super::{Plain, finding, lines, text};
use crate::{Disk, Fix, Outcome, Severity, Subject, Volume};

const WHY: &str = "What is named by its bus and order, or by an ID that only the build host's \
                   disks have, is missing on a clone: the boot waits for it and then fails.";
const MEND: &str = "Name it by UUID=, LABEL=, PARTUUID= or PARTLABEL= of the image's partition, \
                    add nofail, or leave it to the partition types (gpt-auto).";

/// D4.
pub static FSTAB: Plain = Plain {
    id: "D4",
    title: "fstab names no device of the build host",
    looks_at: "/etc/fstab, and the partitions of the disk",
    why: WHY,
    mend: MEND,
    severity: Severity::Warning,
    volumes: &[Volume::Root],
    check: fstab,
};

/// D5.
pub static CRYPTTAB: Plain = Plain {
    id: "D5",
    title: "crypttab names no device of the build host",
    looks_at: "/etc/crypttab, and the partitions of the disk",
    why: WHY,
    mend: MEND,
    severity: Severity::Warning,
    volumes: &[Volume::Root],
    check: crypttab,
};

fn fstab(subject: &Subject) -> Outcome {
    table(subject, "etc/fstab", |fields| Some((fields.first()?, fields.get(3).unwrap_or(&""))))
}

fn crypttab(subject: &Subject) -> Outcome {
    table(subject, "etc/crypttab", |fields| Some((fields.get(1)?, fields.get(3).unwrap_or(&""))))
}

/// The device and the options of a line.
type Fields = for<'a> fn(&'a [&'a str]) -> Option<(&'a &'a str, &'a &'a str)>;

fn table(subject: &Subject, path: &'static str, fields: Fields) -> Outcome {
    let path = TreePath::literal(path);
    let Some(text) = text(subject.root, &path) else { return Outcome::NotApplicable };
    let mut findings = Vec::new();
    for (number, line) in lines(&text) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((what, options)) = fields(&words) else { continue };
        if options.split(',').any(|o| ["noauto", "nofail"].contains(&o)) {
            continue;
        }
        if let Some(why) = wrong(what, subject.disk) {
            let message = format!("line {number} names {what}, {why}");
            findings.push(finding(Volume::Root, &path, message, Fix::ByHand));
        }
    }
    Outcome::of(findings)
}

/// Names of devices that depend on the machine.
const DEVICES: [&str; 9] = ["sd", "hd", "vd", "xvd", "nvme", "mmcblk", "md", "dm-", "disk/by-"];

/// Why `what` is no good name of a device of this disk; `None` if it is one, or if
/// nothing can be said.
pub(super) fn wrong(what: &str, disk: Option<&Disk>) -> Option<String> {
    let what = what.replace('"', "");
    let (tag, value) = match what.strip_prefix("/dev/") {
        Some(device) => {
            let by = device.strip_prefix("disk/by-").and_then(|by| by.split_once('/'));
            match by {
                Some((tag @ ("uuid" | "label" | "partuuid" | "partlabel"), value)) => {
                    (tag.to_uppercase(), value.to_owned())
                }
                _ if DEVICES.iter().any(|d| device.starts_with(d)) => {
                    return Some("which is a device of one machine".into());
                }
                _ => return None,
            }
        }
        None => what.split_once('=').map(|(tag, value)| (tag.to_owned(), value.to_owned()))?,
    };
    let has = |names: &dyn Fn(&image::Partition) -> bool| {
        disk.is_none_or(|disk| disk.partitions.iter().any(names))
    };
    let same = |a: Option<&str>| a.is_some_and(|a| a.eq_ignore_ascii_case(&value));
    let found = match tag.as_str() {
        "UUID" => has(&|p| same(p.probe.uuid.as_deref())),
        "LABEL" => has(&|p| p.probe.label.as_deref() == Some(&value)),
        "PARTUUID" => has(&|p| same(p.guid.map(|g| g.to_string()).as_deref())) || is_mbr(disk),
        "PARTLABEL" => has(&|p| p.name == value),
        _ => true,
    };
    // What is inside of containers is not known.
    let opaque = disk.is_some_and(|disk| {
        let opaque = |h: image::Holds| h.is_encrypted() || matches!(h, image::Holds::Lvm);
        disk.partitions.iter().any(|p| opaque(p.probe.holds))
    });
    (!found && !opaque).then(|| "which no partition of the disk has".into())
}

/// An MBR's PARTUUIDs are made of the disk's signature; they are not looked at.
fn is_mbr(disk: Option<&Disk>) -> bool {
    disk.is_some_and(|disk| disk.table == image::Table::Mbr)
}
