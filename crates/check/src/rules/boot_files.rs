//! B3 and B5–B8: what the boot loader reads is whole, and what it names is there.
//!
//! Sources: the Boot Loader Specification (UAPI.1), UEFI 2.10 chapter 3.5,
//! kernel-install(8).

use boot::entry::Entry;
use boot::pe;
use disk::Designator;
use tree::{Content, Tree, TreePath};

use super::{Plain, finding, on_partition, text};
use crate::{Fix, Outcome, Severity, Subject, Volume};

const BOTH: &[Volume] = &[Volume::Esp, Volume::Xbootldr];
/// A command line is at most a few kilobytes.
const CMDLINE_MAX: u64 = 64 << 10;

/// B3.
pub static TOKEN: Plain = Plain {
    id: "B3",
    title: "boot entries are named after the entry token",
    looks_at: "/etc/kernel/entry-token; loader/entries and EFI/Linux of the ESP and XBOOTLDR",
    why: "kernel-install names the entry of the next kernel after the token: under another name \
          the old entries stay for ever, beside a second set of new ones.",
    mend: "Write the token that the entries have, or make the entries anew.",
    severity: Severity::Warning,
    volumes: &[Volume::Root, Volume::Esp, Volume::Xbootldr],
    check: token,
};

fn token(subject: &Subject) -> Outcome {
    let token = text(subject.root, &os::entry_token::path()).unwrap_or_default();
    let token = token.lines().next().unwrap_or_default().trim().to_owned();
    let named: Vec<_> = subject.boot_volumes().flat_map(bootable).collect();
    if token.is_empty() || named.is_empty() {
        return Outcome::NotApplicable;
    }
    let prefix = format!("{token}-");
    let is_other = |path: &TreePath| {
        let name = String::from_utf8_lossy(path.name()).into_owned();
        let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
        // Boot counting: `NAME+3-0.conf`.
        let stem = stem.split('+').next().unwrap_or(stem);
        stem != token && !stem.starts_with(&prefix)
    };
    let message = format!("is not named after the entry token '{token}'");
    let others = named.iter().filter(|(_, path, _)| is_other(path));
    let found = others.map(|(volume, path, _)| finding(*volume, path, &*message, Fix::ByHand));
    Outcome::of(found.collect())
}

/// Entries and unified kernel images of a boot partition.
fn bootable((volume, tree): (Volume, &Tree)) -> Vec<(Volume, TreePath, Content)> {
    let mut found = Vec::new();
    for (dir, suffix) in [("loader/entries", ".conf"), ("EFI/Linux", ".efi")] {
        let Some(dir) = without_case(tree, dir) else { continue };
        for (path, node) in tree.children(&dir) {
            let name = path.name().to_ascii_lowercase();
            if let Some(content) = node.content().filter(|_| name.ends_with(suffix.as_bytes())) {
                found.push((volume, path.clone(), content.clone()));
            }
        }
    }
    found
}

fn is_entry(path: &TreePath) -> bool {
    path.name().to_ascii_lowercase().ends_with(b".conf")
}

/// Where `path` is in a file system that does not tell cases apart.
fn without_case(tree: &Tree, path: &str) -> Option<TreePath> {
    let mut at = TreePath::root();
    for wanted in path.split(['/', '\\']).filter(|c| !c.is_empty()) {
        let same = |name: &[u8]| name.eq_ignore_ascii_case(wanted.as_bytes());
        let found =
            tree.children(&at).map(|(path, _)| path).find(|path| same(path.name())).cloned();
        at = found?;
    }
    Some(at)
}

/// B5.
pub static ENTRIES: Plain = Plain {
    id: "B5",
    title: "boot entries and unified kernel images are whole and name what is there",
    looks_at: "loader/entries/*.conf and EFI/Linux/*.efi of the ESP and XBOOTLDR",
    why: "An entry whose kernel or initrd is missing, or an image that is cut off, does not boot.",
    mend: "Make the entry anew (kernel-install add), or remove it.",
    severity: Severity::Error,
    volumes: BOTH,
    check: entries,
};

fn entries(subject: &Subject) -> Outcome {
    let (mut findings, mut any) = (Vec::new(), false);
    for (volume, tree) in subject.boot_volumes() {
        for (volume, path, content) in bootable((volume, tree)) {
            any = true;
            let wrong = match is_entry(&path) {
                true => wrong_entry(tree, &content),
                false => wrong_image(&content),
            };
            let make = |message| finding(volume, &path, message, Fix::ByHand);
            findings.extend(wrong.into_iter().map(make));
        }
    }
    if any { Outcome::of(findings) } else { Outcome::NotApplicable }
}

fn parse(content: &Content) -> Result<Entry, String> {
    let bytes = content.read(1 << 20).map_err(|e| format!("cannot be read: {e}"))?;
    Entry::parse(&bytes).map_err(|e| e.to_string())
}

fn wrong_entry(tree: &Tree, content: &Content) -> Vec<String> {
    let entry = match parse(content) {
        Ok(entry) => entry,
        Err(why) => return vec![why],
    };
    let named = [&entry.linux, &entry.efi, &entry.uki, &entry.devicetree];
    let named = named.into_iter().flatten().chain(&entry.initrd).chain(&entry.devicetree_overlay);
    let missing = named.filter(|path| {
        without_case(tree, path).and_then(|p| tree.get(&p)).and_then(|n| n.content()).is_none()
    });
    missing.map(|path| format!("names {path}, which is not there")).collect()
}

fn wrong_image(content: &Content) -> Vec<String> {
    let sections = match boot::uki::inspect(content) {
        Ok(sections) => sections,
        Err(error) => return vec![format!("is no PE image: {error}")],
    };
    let missing = [".linux", ".osrel"].into_iter().filter(|wanted| {
        !sections.iter().any(|(section, content)| section.name == *wanted && !content.is_empty())
    });
    missing.map(|name| format!("is no unified kernel image: it has no {name}")).collect()
}

/// B6.
pub static LOADER: Plain = Plain {
    id: "B6",
    title: "the ESP has a boot loader for removable disks",
    looks_at: "EFI/BOOT/BOOT*.EFI of the ESP",
    why: "On a new machine the firmware has no boot entry of its own and starts this file alone.",
    mend: "Install the boot loader there (bootctl install; grub-install --removable).",
    severity: Severity::Warning,
    volumes: &[Volume::Esp],
    check: loader,
};

fn loader(subject: &Subject) -> Outcome {
    let Some(esp) = subject.esp else { return Outcome::NotApplicable };
    let dir = without_case(esp, "EFI/BOOT");
    let programs: Vec<_> = dir
        .iter()
        .flat_map(|dir| esp.children(dir))
        .filter(|(path, _)| {
            let name = path.name().to_ascii_uppercase();
            name.starts_with(b"BOOT") && name.ends_with(b".EFI")
        })
        .collect();
    if programs.is_empty() {
        let path = TreePath::literal("EFI/BOOT");
        let message = "has no BOOT*.EFI: firmware finds nothing to start";
        return Outcome::of(vec![finding(Volume::Esp, &path, message, Fix::ByHand)]);
    }
    let mut findings = Vec::new();
    for (path, node) in programs {
        let message = match node.content().map(pe::Image::parse) {
            None => "is no file".to_owned(),
            Some(Err(error)) => format!("is no EFI program: {error}"),
            Some(Ok(_)) => continue,
        };
        findings.push(finding(Volume::Esp, path, message, Fix::ByHand));
    }
    Outcome::of(findings)
}

/// B7.
pub static SPACE: Plain = Plain {
    id: "B7",
    title: "there is room for the next kernel",
    looks_at: "Free space of the partition that has the boot entries, and what an entry takes",
    why: "An update writes the new kernel before it removes the old one: where there is no room \
          for both, the update fails, or leaves half a kernel.",
    mend: "Make the ESP or XBOOTLDR larger (SizeMinBytes= in repart.d).",
    severity: Severity::Warning,
    volumes: BOTH,
    check: space,
};

fn space(subject: &Subject) -> Outcome {
    let Some(disk) = subject.disk else { return Outcome::NotApplicable };
    let (mut findings, mut known) = (Vec::new(), false);
    for (volume, tree) in subject.boot_volumes() {
        let sizes = bootable((volume, tree)).into_iter().map(|(_, path, content)| {
            if is_entry(&path) { entry_size(tree, &content) } else { content.len() }
        });
        let role = if volume == Volume::Esp { Designator::Esp } else { Designator::Xbootldr };
        let partition = disk.partitions.iter().find(|p| p.role == Some(role));
        let free = partition.and_then(|p| Some((p, *disk.free.get(&p.number)?)));
        let (Some(largest), Some((partition, free))) = (sizes.max(), free) else { continue };
        known = true;
        if free < largest {
            let (free, largest) = (free >> 20, largest.div_ceil(1 << 20));
            let message = format!("has {free} MiB free, and an entry takes {largest} MiB");
            findings.push(on_partition(partition, message));
        }
    }
    if known { Outcome::of(findings) } else { Outcome::NotApplicable }
}

fn entry_size(tree: &Tree, content: &Content) -> u64 {
    let Ok(entry) = parse(content) else { return 0 };
    let files = entry.linux.iter().chain(&entry.efi).chain(&entry.uki).chain(&entry.initrd);
    let file = |path: &String| tree.get(&without_case(tree, path)?)?.content().map(Content::len);
    files.filter_map(file).sum()
}

/// B8.
pub static ROOT: Plain = Plain {
    id: "B8",
    title: "the kernel command line names a root that the disk has",
    looks_at: "root= and mount.usr= of boot entries, unified kernel images, GRUB's configuration \
               and /etc/kernel/cmdline; the partitions",
    why: "A root that is named by a device depends on the machine's bus and order of disks; one \
          that is on no disk ends in the initrd's emergency shell.",
    mend: "Name it by PARTUUID=, UUID= or LABEL= of the image's partition, or leave root= out \
           where the partition types tell it.",
    severity: Severity::Error,
    volumes: &[Volume::Root, Volume::Esp, Volume::Xbootldr],
    check: root,
};

fn root(subject: &Subject) -> Outcome {
    let lines = command_lines(subject);
    let Some(disk) = subject.disk.filter(|_| !lines.is_empty()) else {
        return Outcome::NotApplicable;
    };
    let mut findings = Vec::new();
    for line in lines {
        for word in line.text.split_whitespace() {
            let Some((key @ ("root" | "mount.usr"), what)) = word.split_once('=') else { continue };
            if let Some(why) = super::device_names::wrong(what, Some(disk)) {
                let message = format!("has {key}={what}, {why}");
                findings.push(finding(line.volume, &line.path, message, Fix::ByHand));
            }
        }
    }
    Outcome::of(findings)
}

/// A kernel command line and where it stands.
pub(super) struct CommandLine {
    pub volume: Volume,
    pub path: TreePath,
    pub text: String,
}

/// Every kernel command line of the image.
pub(super) fn command_lines(subject: &Subject) -> Vec<CommandLine> {
    let mut found = Vec::new();
    for (volume, path, content) in subject.boot_volumes().flat_map(bootable) {
        let text = match is_entry(&path) {
            true => parse(&content).map(|entry| entry.options.join(" ")).ok(),
            false => uki_line(&content),
        };
        found.extend(text.map(|text| CommandLine { volume, path, text }));
    }
    let root = (Volume::Root, subject.root);
    for (volume, tree) in subject.boot_volumes().chain([root]) {
        for path in ["grub/grub.cfg", "boot/grub/grub.cfg", "EFI/debian/grub.cfg"] {
            let path = TreePath::literal(path);
            let config = text(tree, &path).unwrap_or_default();
            let kernels = config.lines().map(str::trim).filter(|l| {
                ["linux", "linuxefi", "linux16"]
                    .contains(&l.split_whitespace().next().unwrap_or(""))
            });
            let line = |l: &str| CommandLine { volume, path: path.clone(), text: l.to_owned() };
            found.extend(kernels.map(line));
        }
    }
    for path in ["etc/kernel/cmdline", "usr/lib/kernel/cmdline"].map(TreePath::literal) {
        let text = text(subject.root, &path);
        found.extend(text.map(|text| CommandLine { volume: Volume::Root, path, text }));
    }
    found
}

fn uki_line(content: &Content) -> Option<String> {
    let sections = boot::uki::inspect(content).ok()?;
    let (_, line) = sections.into_iter().find(|(section, _)| section.name == ".cmdline")?;
    let bytes = line.read(CMDLINE_MAX).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned())
}
