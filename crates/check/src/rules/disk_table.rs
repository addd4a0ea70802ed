//! D2 and D3: the partition table is sound and names everything once.

use std::collections::BTreeMap;

use image::{Partition, Table};

use super::{Plain, finding, on_partition};
use crate::{Fix, Outcome, Severity, Subject, Volume};
use tree::TreePath;

/// D2.
pub static DUPLICATES: Plain = Plain {
    id: "D2",
    title: "no two partitions have the same UUID",
    looks_at: "UUIDs of partitions and of the file systems in them",
    why: "What is mounted by its UUID is then one or the other, by chance: data goes to the wrong \
          copy, and btrfs and xfs refuse, or damage, both.",
    mend: "Give one of them a new UUID (tune2fs -U random, sgdisk -u).",
    severity: Severity::Error,
    volumes: &[Volume::Disk],
    check: duplicates,
};

fn duplicates(subject: &Subject) -> Outcome {
    let Some(disk) = subject.disk else { return Outcome::NotApplicable };
    type Name = fn(&Partition) -> Option<String>;
    let names: [(&str, Name); 2] = [
        ("file-system UUID", |p| p.probe.uuid.clone()),
        ("partition UUID", |p| p.guid.map(|g| g.to_string())),
    ];
    let mut findings = Vec::new();
    for (what, name) in names {
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for partition in &disk.partitions {
            let Some(id) = name(partition) else { continue };
            if let Some(first) = seen.get(&id) {
                let message = format!("has the {what} of partition {first}: {id}");
                findings.push(on_partition(partition, message));
            } else {
                seen.insert(id, partition.number);
            }
        }
    }
    Outcome::of(findings)
}

/// D3.
pub static SOUND: Plain = Plain {
    id: "D3",
    title: "the partition table is sound",
    looks_at: "Both copies of the GPT, and whether partitions overlap or leave the disk",
    why: "Tools that see a damaged copy, a hybrid MBR or an overlap repair it each in its own \
          way, or refuse to grow the disk.",
    mend: "Write the table anew (sgdisk -e, sfdisk --relocate gpt-bak-std).",
    severity: Severity::Warning,
    volumes: &[Volume::Disk],
    check: sound,
};

fn sound(subject: &Subject) -> Outcome {
    let Some(Table::Gpt { damage, .. }) = subject.disk.map(|disk| &disk.table) else {
        return Outcome::NotApplicable;
    };
    let root = TreePath::root();
    Outcome::of(damage.iter().map(|d| finding(Volume::Disk, &root, &**d, Fix::ByHand)).collect())
}
