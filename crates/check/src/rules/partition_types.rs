//! D1: the types of partitions say what they are for, on this architecture.
//!
//! Source: the Discoverable Partitions Specification (UAPI.2); `e_machine` of elf(5).

use disk::{Architecture, Designator, TypeGuid};
use tree::{Tree, TreePath};

use super::{Plain, on_partition};
use crate::{Outcome, Severity, Subject, Volume};

/// D1.
pub static RULE: Plain = Plain {
    id: "D1",
    title: "partition types are those of the specification, for this architecture",
    looks_at: "The types of the partitions that hold the root, /usr and what is mounted below it, \
               and the architecture of the programs in them",
    why: "systemd finds the root, /usr, /var, /home and /srv by type, without fstab or root=, and \
          repart finds what to grow: with a generic type, or that of another architecture, it \
          finds nothing.",
    mend: "Set the type that is named (sfdisk --part-type, or Type= in repart.d).",
    severity: Severity::Warning,
    volumes: &[Volume::Root],
    check,
};

/// Programs that tell the architecture: one is in every image.
const PROGRAMS: [&str; 5] = [
    "usr/lib/systemd/systemd",
    "usr/bin/bash",
    "usr/bin/dash",
    "usr/bin/busybox",
    "usr/bin/coreutils",
];

fn check(subject: &Subject) -> Outcome {
    let Some(disk) = subject.disk else { return Outcome::NotApplicable };
    let architecture = architecture(subject.root);
    let mut findings = Vec::new();
    let mut any = false;
    for partition in &disk.partitions {
        let (Some(kind), Some(role)) = (partition.type_guid(), partition.role) else { continue };
        any = true;
        let wanted = architecture.map(|a| TypeGuid::of(role, a));
        let name = |kind: TypeGuid| kind.identifier().unwrap_or_else(|| kind.0.to_string());
        let versioned = matches!(role, Designator::Root | Designator::Usr) || role.is_verity();
        if kind.designator() != role {
            let wanted = wanted.map_or_else(|| role.name().to_owned(), name);
            findings.push(on_partition(partition, format!("should be of type {wanted}")));
        } else if let (true, Some(found), Some(own)) =
            (versioned, kind.architecture(), architecture)
            && found != own
            && own.secondary() != Some(found)
        {
            let message =
                format!("is of the type for {}, the programs are for {}", found.name(), own.name());
            findings.push(on_partition(partition, message));
        }
    }
    if any { Outcome::of(findings) } else { Outcome::NotApplicable }
}

/// The architecture of the image's programs.
fn architecture(root: &Tree) -> Option<Architecture> {
    PROGRAMS.into_iter().find_map(|path| {
        let node = root.lookup(&TreePath::literal(path))?;
        let mut head = [0; 20];
        let read = node.content()?.read_at(&mut head, 0).ok()?;
        if read < head.len() || !head.starts_with(b"\x7fELF") {
            return None;
        }
        let wide = head[4] == 2;
        let little = head[5] == 1;
        let machine = [head[18], head[19]];
        let machine =
            if little { u16::from_le_bytes(machine) } else { u16::from_be_bytes(machine) };
        Some(match (machine, wide, little) {
            (3, ..) => Architecture::X86,
            (62, ..) => Architecture::X8664,
            (40, ..) => Architecture::Arm,
            (183, ..) => Architecture::Arm64,
            (243, true, _) => Architecture::Riscv64,
            (243, false, _) => Architecture::Riscv32,
            (258, ..) => Architecture::Loongarch64,
            (22, true, _) => Architecture::S390x,
            (21, _, true) => Architecture::Ppc64Le,
            (21, _, false) => Architecture::Ppc64,
            (20, ..) => Architecture::Ppc,
            (8, true, true) => Architecture::Mips64Le,
            (8, false, true) => Architecture::MipsLe,
            _ => return None,
        })
    })
}
