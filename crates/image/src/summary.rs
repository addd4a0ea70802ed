//! What an image is, on one page: what `inspect` shows and `diff` compares first.
//!
//! What it is not: a judgement (`check`), or the files themselves.

use std::collections::BTreeMap;

use boot::entry::Entry;
use os::machine_id::State;
use serde::Serialize;
use tree::{Tree, TreePath};

use crate::{Format, Image, Partition, System, Table, Unread};

/// Where dpkg keeps what is installed.
const STATUS: &str = "var/lib/dpkg/status";
/// Debian's whole archive has less.
const STATUS_MAX: u64 = 256 << 20;

/// See the module's head.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// What kind of thing it is.
    pub format: Format,
    /// Bytes of the disk.
    pub size: Option<u64>,
    /// How the disk is divided.
    pub table: Option<Table>,
    /// Its partitions.
    pub partitions: Vec<Partition>,
    /// Free bytes, by the partition's number.
    pub free: BTreeMap<u32, u64>,
    /// What could not be looked into.
    pub unread: Vec<Unread>,
    /// os-release(5).
    pub os_release: BTreeMap<String, String>,
    /// Versions of kernels in /usr/lib/modules.
    pub kernels: Vec<String>,
    /// What the boot loader offers.
    pub entries: Vec<BootEntry>,
    /// Installed packages: `name:architecture` → version.
    pub packages: BTreeMap<String, String>,
    /// What the next boot does with the machine's identity.
    pub first_boot: FirstBoot,
    /// Files, directories and links of the root with what is mounted below it.
    pub files: usize,
}

/// An entry of the boot menu.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootEntry {
    /// Partition and path.
    pub path: String,
    /// What people see.
    pub title: Option<String>,
    /// The kernel's command line.
    pub options: String,
}

/// Whether the next boot is a first boot, and what it will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FirstBoot {
    /// Whether it is one.
    pub expected: bool,
    /// Why.
    pub why: String,
    /// Units that run on a first boot only.
    pub units: Vec<String>,
    /// Partitions that repart.d makes or grows: file and type.
    pub repart: Vec<(String, String)>,
}

/// Summarises an image.
pub fn summary(image: &Image, system: &System) -> Summary {
    let root = &system.root;
    let free = |p: &Partition| Some((p.number, image.free(p)?));
    let modules = TreePath::literal("usr/lib/modules");
    let modules = root.resolve(&modules).unwrap_or(modules);
    let name = |path: &TreePath| String::from_utf8_lossy(path.name()).into_owned();
    Summary {
        format: image.format,
        size: image.size,
        table: image.table.clone(),
        partitions: image.partitions.clone(),
        free: image.partitions.iter().filter_map(free).collect(),
        unread: system.unread.clone(),
        os_release: os::os_release::read(root).unwrap_or_default(),
        kernels: root
            .children(&modules)
            .filter(|(_, n)| n.is_dir())
            .map(|(p, _)| name(p))
            .collect(),
        entries: entries(system),
        packages: packages(root),
        first_boot: first_boot(root),
        files: root.len(),
    }
}

fn entries(system: &System) -> Vec<BootEntry> {
    let mut found = Vec::new();
    let volumes = [("ESP", &system.esp), ("XBOOTLDR", &system.xbootldr)];
    for (volume, tree) in volumes.into_iter().filter_map(|(v, t)| Some((v, t.as_ref()?))) {
        for (path, _, node) in tree.iter() {
            let Some(content) = node.content() else { continue };
            let lower = path.to_string().to_lowercase();
            let place = format!("{volume}:{path}");
            if lower.starts_with("/loader/entries/") && lower.ends_with(".conf") {
                let entry = content.read(1 << 20).ok().and_then(|b| Entry::parse(&b).ok());
                let entry = entry.unwrap_or_default();
                let options = entry.options.join(" ");
                found.push(BootEntry { path: place, title: entry.title, options });
            } else if lower.starts_with("/efi/linux/") && lower.ends_with(".efi") {
                let sections = boot::uki::inspect(content).unwrap_or_default();
                let text = |wanted: &str| {
                    let (_, content) = sections.iter().find(|(s, _)| s.name == wanted)?;
                    let text = content.read(64 << 10).ok()?;
                    Some(String::from_utf8_lossy(&text).trim_end_matches(['\0', '\n']).to_owned())
                };
                let release = boot::osrelease::parse(text(".osrel").unwrap_or_default().as_bytes());
                let title = release.get("PRETTY_NAME").cloned();
                let options = text(".cmdline").unwrap_or_default();
                found.push(BootEntry { path: place, title, options });
            }
        }
    }
    found
}

/// What dpkg says is installed.
pub fn packages(root: &Tree) -> BTreeMap<String, String> {
    let status = root.read(&TreePath::literal(STATUS), STATUS_MAX).and_then(Result::ok);
    let text = String::from_utf8_lossy(&status.unwrap_or_default()).into_owned();
    let mut packages = BTreeMap::new();
    for paragraph in text.split("\n\n") {
        let field = |wanted: &str| {
            let mut lines = paragraph.lines();
            lines.find_map(|l| l.strip_prefix(wanted)?.strip_prefix(": ")).unwrap_or_default()
        };
        if field("Status").ends_with(" installed") {
            let name = format!("{}:{}", field("Package"), field("Architecture"));
            packages.insert(name, field("Version").to_owned());
        }
    }
    packages
}

fn first_boot(root: &Tree) -> FirstBoot {
    let state = os::machine_id::state(root);
    let why = match &state {
        Ok(State::Absent) => "there is no /etc/machine-id (and /etc must be writable)".into(),
        Ok(State::Uninitialized) => "/etc/machine-id says 'uninitialized'".into(),
        Ok(State::Empty) => "/etc/machine-id is empty".into(),
        Ok(State::Valid(id)) => format!("/etc/machine-id holds {id}"),
        Ok(State::Garbage) => "/etc/machine-id holds neither an ID nor 'uninitialized'".into(),
        Err(error) => error.to_string(),
    };
    let mut units = Vec::new();
    for (name, unit) in os::units::all(root, &os::units::SYSTEM_DIRS) {
        let os::units::UnitFile::Regular(path) = unit else { continue };
        let dirs = &os::units::SYSTEM_DIRS;
        let settings = os::units::settings(root, dirs, &name, &path, "Unit").unwrap_or_default();
        let only = |(key, value): &(String, String)| {
            key == "ConditionFirstBoot" && ["yes", "true", "1"].contains(&value.as_str())
        };
        if settings.iter().any(only) {
            units.push(name);
        }
    }
    let mut repart = Vec::new();
    for dir in ["etc/repart.d", "usr/lib/repart.d"].map(TreePath::literal) {
        for (path, _) in root.children(&dir).filter(|(p, _)| p.name().ends_with(b".conf")) {
            let text = root.read(path, 1 << 20).and_then(Result::ok).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let ty = text.lines().find_map(|l| l.trim().strip_prefix("Type="));
            repart.push((path.to_string(), ty.unwrap_or("?").trim().to_owned()));
        }
    }
    let expected = state.is_ok_and(|state| state.is_first_boot());
    FirstBoot { expected, why, units, repart }
}
