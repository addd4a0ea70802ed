//! The file systems of a disk as the running system sees them: one Tree of what is
//! mounted below the root, one each of the ESP and XBOOTLDR.

use std::collections::BTreeMap;
use std::sync::Arc;

use disk::Designator;
use serde::Serialize;
use tree::{Blob, Node, Tree, TreeError, TreePath};

use crate::{Image, ImageError, Partition, reader};

/// A partition that could not be looked into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// Its number.
    pub partition: u32,
    /// What it is, in words.
    pub title: String,
    /// What it is for.
    #[serde(serialize_with = "crate::roles::as_name")]
    pub role: Option<Designator>,
    /// Why not.
    pub reason: String,
}

/// What an image holds.
#[derive(Debug, Clone, Default)]
pub struct System {
    /// The root with everything that is mounted below it, but for boot partitions.
    /// Empty if there is none, or none that could be read.
    pub root: Tree,
    /// True if a root or a `/usr` was found and read.
    pub has_root: bool,
    /// True if `/usr` is all that the image has of the root.
    pub only_usr: bool,
    /// The EFI system partition.
    pub esp: Option<Tree>,
    /// The extended boot loader partition.
    pub xbootldr: Option<Tree>,
    /// What could not be looked into.
    pub unread: Vec<Unread>,
    /// Which partition is mounted where.
    pub mounts: BTreeMap<TreePath, u32>,
}

impl System {
    /// A root without a disk around it.
    pub fn of_tree(root: Tree) -> System {
        let only_usr =
            root.contains(&TreePath::literal("usr")) && !root.contains(&TreePath::literal("etc"));
        System { root, has_root: true, only_usr, ..System::default() }
    }
}

/// What goes below the root, in the order of mounting.
const BELOW: [Designator; 6] = [
    Designator::Usr,
    Designator::Var,
    Designator::Home,
    Designator::Srv,
    Designator::Tmp,
    Designator::UserHome,
];

/// Reads a disk.
pub fn disk(image: &Image, blob: &Arc<Blob>) -> Result<System, ImageError> {
    let mut system = System::default();
    let mut partitions = image.partitions.clone();
    if let Some((partition, tree)) = first(&partitions, Designator::Root, blob, &mut system) {
        system.root = tree;
        system.has_root = true;
        usr_alone(&mut system).map_err(|source| ImageError::Mount {
            path: image.path.clone(),
            at: TreePath::literal("usr"),
            source,
        })?;
        system.mounts.insert(TreePath::root(), partition);
        by_fstab(&mut partitions, &system.root);
    }
    for role in BELOW {
        let Some((partition, tree)) = first(&partitions, role, blob, &mut system) else { continue };
        let Some(at) = role.mount_points().first() else { continue };
        let at = TreePath::new(at.trim_start_matches('/')).expect("a normal path");
        let mounted = graft(&mut system.root, &at, &tree);
        let at = mounted.map_err(|source| ImageError::Mount {
            path: image.path.clone(),
            at: at.clone(),
            source,
        })?;
        system.mounts.insert(at, partition);
        if role == Designator::Usr {
            system.only_usr = !system.has_root;
            system.has_root = true;
        }
    }
    system.esp = first(&partitions, Designator::Esp, blob, &mut system).map(|(_, tree)| tree);
    let xbootldr = first(&partitions, Designator::Xbootldr, blob, &mut system);
    system.xbootldr = xbootldr.map(|(_, tree)| tree);
    for partition in partitions.iter().filter(|p| p.role.is_none()) {
        if !partition.probe.holds.is_no_file_system()
            && let Err(reason) = reader::read(blob, partition)
        {
            system.unread.push(unread(partition, reason));
        }
    }
    Ok(system)
}

/// A file system that is a `/usr` and not a root: it has an os-release, but no `usr`.
fn usr_alone(system: &mut System) -> Result<(), TreeError> {
    let there = |path| system.root.contains(&TreePath::literal(path));
    if there("lib/os-release") && !there("usr") && !there("etc") {
        let usr = std::mem::take(&mut system.root);
        graft(&mut system.root, &TreePath::literal("usr"), &usr)?;
        system.only_usr = true;
    }
    Ok(())
}

fn unread(partition: &Partition, reason: String) -> Unread {
    let (role, title) = (partition.role, partition.title());
    Unread { partition: partition.number, title, role, reason }
}

/// The first partition of that role that can be read. Empty ones are for later: the
/// second copy of an A/B system, for example.
fn first(
    partitions: &[Partition],
    role: Designator,
    blob: &Arc<Blob>,
    system: &mut System,
) -> Option<(u32, Tree)> {
    for partition in partitions.iter().filter(|p| p.role == Some(role)) {
        if partition.probe.holds.is_no_file_system() {
            continue;
        }
        match reader::read(blob, partition) {
            Ok(tree) => return Some((partition.number, tree)),
            Err(reason) => system.unread.push(unread(partition, reason)),
        }
    }
    None
}

/// What the root's fstab mounts where, for partitions whose type does not say it.
fn by_fstab(partitions: &mut [Partition], root: &Tree) {
    let path = TreePath::literal("etc/fstab");
    let Some(Ok(text)) = root.read(&path, 1 << 20) else { return };
    for line in String::from_utf8_lossy(&text).lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [what, at, ..] = fields[..] else { continue };
        if what.starts_with('#') {
            continue;
        }
        let role = match at {
            "/usr" => Designator::Usr,
            "/var" => Designator::Var,
            "/home" => Designator::Home,
            "/srv" => Designator::Srv,
            "/var/tmp" => Designator::Tmp,
            "/boot" => Designator::Xbootldr,
            "/efi" | "/boot/efi" => Designator::Esp,
            _ => continue,
        };
        let named = partitions.iter_mut().find(|p| p.role.is_none() && names(what, p));
        if let Some(partition) = named {
            partition.role = Some(role);
        }
    }
}

/// Whether the first field of an fstab line means this partition.
fn names(what: &str, partition: &Partition) -> bool {
    let same = |a: &str, b: Option<&str>| b.is_some_and(|b| a.eq_ignore_ascii_case(b));
    let what = what.replace('"', "");
    let guid = partition.guid.map(|g| g.to_string());
    match what.split_once('=') {
        Some(("UUID", id)) => same(id, partition.probe.uuid.as_deref()),
        Some(("LABEL", label)) => partition.probe.label.as_deref() == Some(label),
        Some(("PARTUUID", id)) => same(id, guid.as_deref()),
        Some(("PARTLABEL", label)) => partition.name == label,
        _ => false,
    }
}

/// Mounts `below` at `at` of `tree`; returns where that really is.
pub fn graft(tree: &mut Tree, at: &TreePath, below: &Tree) -> Result<TreePath, TreeError> {
    let top = tree.resolve(at)?;
    tree.remove(&top);
    if let Some(parent) = top.parent() {
        tree.make_dirs(&parent)?;
    }
    let mut first = BTreeMap::new();
    for (path, id, node) in below.iter() {
        let target = top.join(path.as_bytes())?;
        match first.get(&id) {
            Some(there) => tree.add_link(target, there)?,
            None => {
                tree.put(target.clone(), Node::clone(node))?;
                if !node.is_dir() {
                    first.insert(id, target);
                }
            }
        }
    }
    Ok(top)
}
