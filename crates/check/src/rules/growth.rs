//! S5: file systems grow to their partition.

use disk::Designator;
use tree::{Tree, TreePath};

use super::{Plain, on_partition, text};
use crate::{Outcome, Severity, Subject, Volume};

/// S5.
pub static RULE: Plain = Plain {
    id: "S5",
    title: "the root file system grows to its disk",
    looks_at: "Bit 59 of the partition, x-systemd.growfs in fstab, repart.d, systemd-growfs units \
               and cloud-init",
    why: "An image is written to disks of any size: without it, a clone has as much room as the \
          image, however large its disk is.",
    mend: "Set GrowFileSystem=yes for the partition in repart.d, or x-systemd.growfs in fstab.",
    severity: Severity::Warning,
    volumes: &[Volume::Root],
    check,
};

/// The GPT's bit for it (UAPI.2).
const GROW: u64 = 1 << 59;
const READ_ONLY: u64 = 1 << 60;

fn check(subject: &Subject) -> Outcome {
    let Some(disk) = subject.disk else { return Outcome::NotApplicable };
    let writable = |p: &&image::Partition| {
        p.role == Some(Designator::Root)
            && p.probe.holds.is_writable()
            && p.attributes & READ_ONLY == 0
    };
    let Some(root) = disk.partitions.iter().find(writable) else { return Outcome::NotApplicable };
    let grows = root.attributes & GROW != 0
        || grows_by_fstab(subject.root)
        || grows_by_repart(subject.root)
        || something_grows_it(subject.root);
    match grows {
        true => Outcome::Passed,
        false => Outcome::of(vec![on_partition(root, "nothing makes its file system larger")]),
    }
}

fn grows_by_fstab(root: &Tree) -> bool {
    let text = text(root, &TreePath::literal("etc/fstab")).unwrap_or_default();
    super::lines(&text).any(|(_, line)| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1) == Some(&"/") && fields.get(3).is_some_and(|o| o.contains("x-systemd.growfs"))
    })
}

fn grows_by_repart(root: &Tree) -> bool {
    ["etc/repart.d", "usr/lib/repart.d"].iter().any(|dir| {
        root.children(&TreePath::literal(dir)).any(|(path, _)| {
            let text = text(root, path).unwrap_or_default();
            let says = |key: &str, values: &[&str]| {
                super::lines(&text).any(|(_, line)| {
                    let pair = line.split_once('=');
                    pair.is_some_and(|(k, v)| k.trim() == key && values.contains(&v.trim()))
                })
            };
            // GrowFileSystem= is on unless it is written; it concerns the root's type only.
            text.lines().any(|l| l.trim().starts_with("Type=root"))
                && !says("GrowFileSystem", &["no", "0", "false", "off"])
        })
    })
}

/// A unit or program that grows it whatever the table says.
fn something_grows_it(root: &Tree) -> bool {
    let wants = |name: &str| {
        ["etc/systemd/system", "usr/lib/systemd/system"].iter().any(|dir| {
            let path = TreePath::literal(dir);
            let targets = root.children(&path).filter(|(p, _)| p.name().ends_with(b".wants"));
            targets
                .into_iter()
                .any(|(target, _)| target.join(name).is_ok_and(|path| root.contains(&path)))
        })
    };
    let programs = ["usr/bin/cloud-init", "usr/bin/growpart"].map(TreePath::literal);
    wants("systemd-growfs-root.service") || programs.iter().any(|p| root.contains(p))
}
