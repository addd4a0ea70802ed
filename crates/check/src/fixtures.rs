//! A planted defect for every rule that is not merely "must be absent", in an image that
//! is golden but for it. The image itself is the clean counterpart.

use std::collections::BTreeMap;

use disk::{Architecture, Designator, Guid, TypeGuid};
use image::{Holds, Kind as PartitionKind, Partition, Probe, Table, Unread};
use tree::{Content, Device, Kind, Meta, Node};

use super::{golden, p};
use crate::*;

/// A whole image.
pub struct Scene {
    root: Tree,
    esp: Tree,
    xbootldr: Option<Tree>,
    disk: Disk,
    only_usr: bool,
    unread: Vec<Unread>,
    has_root: bool,
}

/// The first bytes of a program for this machine.
pub fn elf(machine: u8) -> Vec<u8> {
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(18, 0);
    head.extend([machine, 0]);
    head
}

/// The smallest PE image with these sections.
pub fn pe(sections: &[(&str, &[u8])]) -> Vec<u8> {
    const OPTIONAL: usize = 0x40 + 24;
    const HEADERS: usize = 1024;
    let mut bytes = vec![0; HEADERS];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x40;
    bytes[0x40..0x44].copy_from_slice(b"PE\0\0");
    bytes[0x44..0x46].copy_from_slice(&0x8664u16.to_le_bytes());
    bytes[0x46..0x48].copy_from_slice(&(sections.len() as u16).to_le_bytes());
    bytes[0x54..0x56].copy_from_slice(&112u16.to_le_bytes());
    bytes[OPTIONAL..OPTIONAL + 2].copy_from_slice(&0x20bu16.to_le_bytes());
    for (at, value) in [(32, 4096u32), (36, 512), (60, HEADERS as u32)] {
        bytes[OPTIONAL + at..OPTIONAL + at + 4].copy_from_slice(&value.to_le_bytes());
    }
    for (n, (name, data)) in sections.iter().enumerate() {
        let at = OPTIONAL + 112 + n * 40;
        bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
        let place = bytes.len() as u32;
        let len = data.len() as u32;
        let address = 4096 * (n as u32 + 1);
        for (field, value) in [(8, len), (12, address), (16, len), (20, place)] {
            bytes[at + field..at + field + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes.extend_from_slice(data);
    }
    bytes
}

fn partition(number: u32, role: Designator, holds: Holds) -> Partition {
    let id = format!("6d6b676f-6c64-0000-0000-00000000000{number}");
    Partition {
        number,
        kind: PartitionKind::Gpt(TypeGuid::of(role, Architecture::X8664)),
        guid: Some(Guid::from_gpt([number as u8; 16])),
        name: role.name().into(),
        attributes: 0,
        offset: u64::from(number) << 30,
        size: 1 << 30,
        probe: Probe { holds, uuid: Some(id), label: Some(role.name().into()) },
        role: Some(role),
    }
}

impl Scene {
    fn golden() -> Scene {
        let (root, esp) = golden();
        let disk = Disk {
            table: Table::Gpt { guid: Guid::from_gpt([9; 16]), damage: Vec::new() },
            partitions: vec![
                partition(1, Designator::Esp, Holds::Vfat),
                partition(2, Designator::Root, Holds::Ext4),
            ],
            free: BTreeMap::from([(1, 1 << 20)]),
        };
        let (xbootldr, unread) = (None, Vec::new());
        Scene { root, esp, xbootldr, disk, only_usr: false, unread, has_root: true }
    }

    fn report(&self) -> Report {
        let intent = Intent::default();
        check(&Subject {
            xbootldr: self.xbootldr.as_ref(),
            disk: Some(&self.disk),
            only_usr: self.only_usr,
            has_root: self.has_root,
            unread: &self.unread,
            ..Subject::new(&self.root, Some(&self.esp), &intent)
        })
    }

    fn failing(&self) -> Vec<&'static str> {
        let report = self.report();
        let mut ids: Vec<_> = report.findings(Severity::Notice).map(|(id, _)| id).collect();
        ids.dedup();
        ids
    }

    fn write(&mut self, path: &str, text: &str) {
        self.root.remove(&p(path));
        self.root.write(&p(path), 0o644, text.as_bytes()).unwrap();
    }

    fn mode(&mut self, path: &str, mode: u16) {
        self.root.get_mut(&p(path)).unwrap().meta.mode = mode;
    }
}

const ID: &str = "0123456789abcdef0123456789abcdef";

/// Puts a defect into a scene.
type Plant = fn(&mut Scene);

/// Rule, and what makes it fail.
pub static DEFECTS: [(&str, Plant); 51] = [
    ("R1b", |s| s.write("var/lib/dbus/machine-id", ID)),
    ("R8-copies", |s| {
        s.write("etc/ssh/ssh_host_rsa_key", "sixteen bytes at least");
        s.write("srv/copy", "sixteen bytes at least");
    }),
    ("B1", |s| s.write("etc/kernel/entry-token", ID)),
    ("B2", |s| {
        s.write(&format!("boot/{ID}/linux"), "x");
    }),
    ("B3", |s| s.write("etc/kernel/entry-token", "other\n")),
    ("B4", |s| s.write("etc/kernel/cmdline", "systemd.machine_id=1")),
    ("B5", |s| {
        s.esp.remove(&p("debian/6.1/initrd"));
    }),
    ("B5", |s| {
        let cut = pe(&[(".osrel", b"ID=debian")]);
        s.esp.write(&p("EFI/Linux/debian-6.1.efi"), 0o644, cut).unwrap();
    }),
    ("B5", |s| s.esp.write(&p("loader/entries/debian-6.1.conf"), 0o644, *b"title x").unwrap()),
    ("B6", |s| {
        s.esp.remove(&p("EFI/BOOT/BOOTX64.EFI"));
    }),
    ("B6", |s| s.esp.write(&p("EFI/BOOT/BOOTX64.EFI"), 0o644, *b"no program").unwrap()),
    ("B7", |s| {
        s.disk.free.insert(1, 11);
    }),
    ("B8", |s| s.write("etc/kernel/cmdline", "root=/dev/sda2 quiet")),
    ("B8", |s| s.write("boot/grub/grub.cfg", "\tlinux /vmlinuz root=UUID=0000-1111 ro\n")),
    ("D1", |s| {
        s.disk.partitions[1].kind =
            PartitionKind::Gpt(TypeGuid::of(Designator::LinuxGeneric, Architecture::X8664));
    }),
    ("D1", |s| {
        s.disk.partitions[1].kind =
            PartitionKind::Gpt(TypeGuid::of(Designator::Root, Architecture::Arm64));
    }),
    ("D2", |s| {
        let uuid = s.disk.partitions[1].probe.uuid.clone();
        s.disk.partitions[0].probe.uuid = uuid;
    }),
    ("D2", |s| s.disk.partitions[0].guid = s.disk.partitions[1].guid),
    ("D3", |s| {
        let damage = vec!["partitions 1 and 2 overlap".into()];
        s.disk.table = Table::Gpt { guid: Guid::NIL, damage };
    }),
    ("D4", |s| s.write("etc/fstab", "/dev/sda1 / ext4 x-systemd.growfs 0 1\n")),
    ("D4", |s| s.write("etc/fstab", "UUID=0000-1111 / ext4 x-systemd.growfs 0 1\n")),
    ("D5", |s| s.write("etc/crypttab", "data /dev/disk/by-id/ata-X none\n")),
    ("E2", |s| {
        s.root.remove(&p("proc"));
    }),
    ("E2", |s| {
        s.root.remove(&p("lib"));
        s.root.make_dirs(&p("lib")).unwrap();
    }),
    ("E4", |s| {
        s.root.remove(&p("etc/passwd"));
        s.write("etc/nsswitch.conf", "passwd: files\ngroup: files systemd\n");
    }),
    ("E5", |s| {
        let text = "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/:/bin/sh\nd:x:99:99:D:/:/no\n";
        s.write("etc/passwd", text);
    }),
    ("E6", |s| {
        s.write("usr/lib/tmpfiles.d/all.conf", "C /etc\nd /var/lib\n");
    }),
    ("E7", |s| s.write("etc/os-release", "ID=debian\n")),
    ("E8", |s| {
        s.root.remove(&p("etc/hosts"));
        s.write("etc/nsswitch.conf", "hosts: files dns\n");
    }),
    ("F1", |s| s.write("etc/kernel/cmdline", "systemd.condition-first-boot=no")),
    ("F2", |s| {
        let dir = "usr/lib/systemd/system";
        s.write(&format!("{dir}/first-boot-complete.target"), "[Unit]\n");
        s.write(&format!("{dir}/x.service"), "[Unit]\nConditionFirstBoot=yes\n");
    }),
    ("M1", |s| {
        s.write("usr/lib/os-release", "ID=debian\nIMAGE_ID=\"A B\"\nIMAGE_VERSION=7\n");
    }),
    ("M1-present", |s| s.write("usr/lib/os-release", "ID=debian\nIMAGE_ID=box\n")),
    ("M2", |s| s.write("var/lib/dpkg/status", "Package: x\n")),
    ("M3", |s| {
        s.write("usr/lib/os-release", "ID=debian\nIMAGE_ID=box\n");
        s.write("usr/lib/sysupdate.d/a.conf", "[Source]\nMatchPattern=box_%A.raw\n");
    }),
    ("O1", |s| {
        s.write("usr/lib/os-release", "ID=debian\nIMAGE_ID=b\nIMAGE_VERSION=7\nnonsense\n");
    }),
    ("O1", |s| {
        s.write("usr/lib/os-release", "ID=Debian\nIMAGE_ID=b\nIMAGE_VERSION=7\n");
    }),
    ("O1", |s| {
        s.write("usr/lib/os-release", "ID=debian\nNAME=A B\nIMAGE_ID=b\nIMAGE_VERSION=7\n");
    }),
    ("R9-volumes", |s| {
        s.disk.partitions.push(partition(3, Designator::Home, Holds::Luks2));
    }),
    ("S5", |s| s.write("etc/fstab", "")),
    ("S6", |s| {
        s.write("etc/crypttab", "data PARTLABEL=root /etc/keys/data luks\n");
        s.write("etc/keys/data", "0123");
    }),
    ("A1", |s| s.write("etc/shadow", "root::20000:0:99999:7:::\n")),
    ("A2", |s| {
        let hash = "$y$j9T$abcdefghijklmnopqrstu.$Kcu.vggTkAWuKsbYdXVmoegT/Jmj/jPwHww.snc5sV0";
        s.write("etc/shadow", &format!("me:{hash}:20000:0:99999:7:::\n"));
    }),
    ("A3", |s| s.write("etc/shadow", "me:$6$salt$hash:20000:0:99999:7:::\n")),
    ("P1", |s| s.mode("etc/fstab", 0o666)),
    ("P1", |s| s.mode("tmp", 0o777)),
    ("P2", |s| {
        s.write("opt/tool", "x");
        s.mode("opt/tool", 0o4755);
    }),
    ("P2", |s| {
        s.write("usr/bin/sudo", "x");
        s.mode("usr/bin/sudo", 0o4755);
        s.write("usr/bin/own", "x");
        let xattrs = &mut s.root.get_mut(&p("usr/bin/own")).unwrap().meta.xattrs;
        xattrs.insert(b"security.capability".to_vec(), vec![1]);
        s.write("var/lib/dpkg/info/sudo.list", "/.\n/bin\n/bin/sudo\n");
    }),
    ("P3", |s| {
        let kind = Kind::BlockDev(Device { major: 8, minor: 0 });
        s.root.put(p("srv"), Node { meta: Meta::dir(), kind: Kind::Dir }).unwrap();
        s.root.add(p("srv/sda"), Node { meta: Meta::new(0o600), kind }).unwrap();
    }),
    ("P4", |s| s.root.get_mut(&p("etc/fstab")).unwrap().meta.uid = 501),
    ("R3", |s| {
        let mut boot = Tree::new();
        boot.write(&p("loader/random-seed"), 0o600, *b"x").unwrap();
        s.xbootldr = Some(boot);
    }),
];

/// What follows from a defect besides the rule that it is planted for.
const FOLLOWS: [(&str, &[&str]); 6] = [
    ("E7", &["M1-present"]),
    ("R8-copies", &["R6"]),
    ("B1", &["B3"]),
    ("E4", &["A1"]),
    ("M3", &["M1-present"]),
    ("A2", &["A3"]),
];

#[test]
fn a_golden_image_passes_every_rule_that_applies() {
    let report = Scene::golden().report();
    for verdict in &report.verdicts {
        let fine = matches!(verdict.outcome, Outcome::Passed | Outcome::NotApplicable);
        assert!(fine, "{verdict:?}");
    }
    let applied = report.verdicts.iter().filter(|v| v.outcome == Outcome::Passed).count();
    assert!(applied > 50, "{applied} rules have something to look at");
}

#[test]
fn each_defect_is_found_and_nothing_else_is() {
    let mut wrong = Vec::new();
    for (n, (rule, plant)) in DEFECTS.iter().enumerate() {
        let mut scene = Scene::golden();
        plant(&mut scene);
        let found = scene.failing();
        let follows = FOLLOWS.iter().find(|(id, _)| id == rule).map_or(&[][..], |(_, ids)| ids);
        let expected = |id: &str| id == *rule || follows.contains(&id);
        if !found.contains(rule) || !found.iter().all(|id| expected(id)) {
            wrong.push(format!("{rule} (defect {n}): {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_hidden_is_not_passed_but_what_is_found_stays() {
    let mut scene = Scene::golden();
    scene.unread.push(Unread {
        partition: 3,
        title: "partition 3 (var, btrfs)".into(),
        role: Some(Designator::Var),
        reason: "mkgold has no reader for btrfs".into(),
    });
    scene.write("var/lib/systemd/random-seed", "x");
    let report = scene.report();
    let of = |id: &str| &report.verdicts.iter().find(|v| v.id == id).unwrap().outcome;
    assert!(matches!(of("R2"), Outcome::Failed { .. }));
    assert!(matches!(of("R4"), Outcome::Unknown { reason } if reason.contains("btrfs")));
    assert_eq!(of("D2"), &Outcome::Passed, "the disk itself is seen");
    assert!(!report.is_golden());
    // A root that is not there says nothing, be it that nothing is found in it.
    let mut scene = Scene::golden();
    scene.root = Tree::new();
    scene.has_root = false;
    let report = scene.report();
    let of = |id: &str| &report.verdicts.iter().find(|v| v.id == id).unwrap().outcome;
    assert!(matches!(of("O1"), Outcome::Unknown { .. }));
    assert!(matches!(of("R3"), Outcome::Passed));
}

#[test]
fn an_image_of_usr_alone_needs_no_etc() {
    let mut scene = Scene::golden();
    let keep = TreePath::literal("usr");
    let all: Vec<_> = scene.root.children(&TreePath::root()).map(|(p, _)| p.clone()).collect();
    for path in all.iter().filter(|path| **path != keep) {
        scene.root.remove(path);
    }
    scene.only_usr = true;
    scene.write("usr/share/factory/etc/nsswitch.conf", "passwd: files systemd\ngroup: systemd\n");
    let failing = scene.failing();
    // No key maker, no token, nobody resolves localhost, no fstab that lets the root grow.
    assert_eq!(failing, ["R6", "B1", "E8", "S5"]);
}

#[test]
fn a_report_is_sarif_and_the_registry_a_page() {
    let mut scene = Scene::golden();
    scene.write("etc/hostname", "build host");
    let sarif = sarif::report(&scene.report(), "out/image 1.raw", "0");
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    assert_eq!(results.len(), 1);
    assert_eq!(results[0]["ruleId"], "R4");
    assert_eq!(results[0]["level"], "error");
    let place = &results[0]["locations"][0];
    assert_eq!(place["physicalLocation"]["artifactLocation"]["uri"], "out/image%201.raw");
    assert_eq!(place["logicalLocations"][0]["fullyQualifiedName"], "/etc/hostname");
    let rules = sarif["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), RULES.len());
    let page = docs::markdown();
    assert!(RULES.iter().all(|rule| page.contains(&format!("\n## {}\n", rule.id()))));
}

#[test]
fn contents_that_cannot_be_read_are_no_pass() {
    let mut scene = Scene::golden();
    let gone = tree::Blob::at_path("/nonexistent/mkgold");
    let kind = Kind::File(Content::range(gone, 0, 9));
    scene.root.put(p("etc/passwd"), Node { meta: Meta::file(0o644), kind }).unwrap();
    let report = scene.report();
    let of = |id: &str| &report.verdicts.iter().find(|v| v.id == id).unwrap().outcome;
    assert!(matches!(of("A1"), Outcome::Unknown { .. }), "{:?}", of("A1"));
}

#[test]
fn the_page_in_docs_is_current() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rules.md");
    let rendered = docs::markdown();
    if std::env::var_os("MKGOLD_BLESS").is_some() {
        std::fs::write(&path, &rendered).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == rendered, "docs/rules.md is old: run this test with MKGOLD_BLESS=1");
}
