//! Brings a directory to another tree, writing only what differs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use tree::{Content, InodeId, Kind, Node, Segment, Tree, TreePath};

use super::Workspace;
use super::scan::{Found, scan};
use crate::ledger::Identity;
use crate::{Error, confined, sys};

pub(super) fn apply(workspace: &mut Workspace, tree: &Tree) -> Result<(), Error> {
    let found = scan(&workspace.root, &workspace.root_path)?;
    let touched = workspace.ledger.take_touched();
    let clean = |path: &TreePath| {
        let (Some(known), Some(now)) = (workspace.known.get(path), found.get(path)) else {
            return false;
        };
        let same = known.key == now.key && known.ctime == now.ctime && known.size == now.size;
        same && !touched.contains(&now.key)
    };
    let plan = Plan::new(&workspace.tree, &found, tree, clean);
    plan.carry_out(workspace, tree)?;
    workspace.remember(tree)
}

/// What has to be done, in this order.
#[derive(Default)]
struct Plan<'a> {
    remove: Vec<&'a TreePath>,
    make_dirs: Vec<&'a TreePath>,
    make: Vec<(&'a TreePath, &'a Node)>,
    links: Vec<(&'a TreePath, &'a TreePath)>,
    meta: Vec<(&'a TreePath, &'a Node)>,
    /// Directories whose attributes must be set again, because they differ or because
    /// something in them was made or removed.
    dirs: BTreeSet<&'a TreePath>,
}

impl<'a> Plan<'a> {
    fn new(
        old: &Tree,
        found: &'a BTreeMap<TreePath, Found>,
        new: &'a Tree,
        clean: impl Fn(&TreePath) -> bool,
    ) -> Plan<'a> {
        let mut plan = Plan::default();
        let groups = groups(new);
        let mut gone = BTreeSet::new();
        for path in found.keys() {
            if new.get(path).is_none() {
                gone.insert(path);
            }
        }
        for (path, id, node) in new.iter() {
            let there = found.get(path);
            if node.is_dir() {
                plan.directory(old, path, node, there, &clean, &mut gone);
                continue;
            }
            let group = groups.get(&id);
            let kept = match group {
                None => keeps(old, path, node, there, &clean, 1),
                // All names of a file stay, or it is made anew with all of them.
                Some(names) => {
                    let key = there.map(|t| t.key);
                    let one = |name: &&TreePath| found.get(*name).map(|t| t.key) == key;
                    match names.iter().all(one) {
                        true => keeps(old, path, node, there, &clean, names.len()),
                        false => Kept::No,
                    }
                }
            };
            let first = group.is_none_or(|names| names[0] == path);
            match kept {
                Kept::Whole => continue,
                Kept::Content if first => plan.meta.push((path, node)),
                Kept::Content => {}
                Kept::No => {
                    gone.extend(there.map(|_| found.get_key_value(path).expect("there").0));
                    match group {
                        Some(names) if !first => plan.links.push((path, names[0])),
                        _ => plan.make.push((path, node)),
                    }
                }
            }
        }
        plan.finish(gone, new);
        plan
    }

    fn directory(
        &mut self,
        old: &Tree,
        path: &'a TreePath,
        node: &Node,
        there: Option<&Found>,
        clean: &impl Fn(&TreePath) -> bool,
        gone: &mut BTreeSet<&'a TreePath>,
    ) {
        match there {
            Some(found) if found.is_dir() => {
                let same = clean(path) && old.get(path).is_some_and(|o| o.meta == node.meta);
                if !same {
                    self.dirs.insert(path);
                }
            }
            other => {
                if other.is_some() {
                    gone.insert(path);
                }
                self.make_dirs.push(path);
                self.dirs.insert(path);
            }
        }
    }

    fn finish(&mut self, gone: BTreeSet<&'a TreePath>, new: &'a Tree) {
        // A removed directory takes what is below it along.
        for path in gone {
            if self.remove.last().is_none_or(|above| !path.starts_with(above)) {
                self.remove.push(path);
            }
        }
        let changed = self.remove.iter().copied();
        let changed = changed.chain(self.make.iter().map(|(path, _)| *path));
        let changed = changed.chain(self.links.iter().map(|(path, _)| *path));
        let parents: Vec<TreePath> =
            changed.chain(self.make_dirs.iter().copied()).filter_map(TreePath::parent).collect();
        for (path, _, node) in new.iter().filter(|(_, _, node)| node.is_dir()) {
            if parents.contains(path) && node.is_dir() {
                self.dirs.insert(path);
            }
        }
    }

    fn carry_out(&self, workspace: &Workspace, new: &Tree) -> Result<(), Error> {
        let fail = |op, path: &TreePath| Error::io(op, path.below(&workspace.root_path));
        for path in &self.remove {
            let (parent, name) = confined::open_parent(workspace.root.as_fd(), path)
                .map_err(fail("open the directory of", path))?;
            confined::remove_all(parent.as_fd(), &name).map_err(fail("remove", path))?;
        }
        let builder = workspace.builder();
        self.make_dirs.iter().try_for_each(|path| builder.make_dir(path))?;
        builder.files(&self.make)?;
        self.links.iter().try_for_each(|(path, first)| builder.link(path, first))?;
        for (path, node) in &self.meta {
            clear_xattrs(workspace, path).map_err(fail("clear the attributes of", path))?;
            builder.finish_file(path, node)?;
        }
        for path in self.dirs.iter().rev() {
            clear_xattrs(workspace, path).map_err(fail("clear the attributes of", path))?;
            let node = new.get(path).expect("taken from the tree");
            builder.finish_dir(path, &node.meta)?;
        }
        Ok(())
    }
}

enum Kept {
    /// As it should be.
    Whole,
    /// Only its meta differs.
    Content,
    /// Must be made anew.
    No,
}

/// What of an existing file can stay.
fn keeps(
    old: &Tree,
    path: &TreePath,
    node: &Node,
    there: Option<&Found>,
    clean: &impl Fn(&TreePath) -> bool,
    links: usize,
) -> Kept {
    let (Some(there), Some(before)) = (there, old.get(path)) else { return Kept::No };
    if !clean(path) || there.links as usize != links || !same_kind(&before.kind, &node.kind) {
        return Kept::No;
    }
    if before.meta == node.meta { Kept::Whole } else { Kept::Content }
}

fn same_kind(a: &Kind, b: &Kind) -> bool {
    match (a, b) {
        (Kind::File(a), Kind::File(b)) => same_content(a, b),
        (Kind::Symlink(a), Kind::Symlink(b)) => a == b,
        (Kind::CharDev(a), Kind::CharDev(b)) | (Kind::BlockDev(a), Kind::BlockDev(b)) => a == b,
        (Kind::Fifo, Kind::Fifo) | (Kind::Socket, Kind::Socket) => true,
        _ => false,
    }
}

/// Whether two contents are the same without reading them: same bytes in memory, or
/// same ranges of the same blobs.
fn same_content(a: &Content, b: &Content) -> bool {
    let (mut a_parts, mut b_parts) = (a.segments(), b.segments());
    a.len() == b.len()
        && loop {
            match (a_parts.next(), b_parts.next()) {
                (None, None) => break true,
                (Some(Segment::Bytes(a)), Some(Segment::Bytes(b))) if a == b => {}
                (Some(Segment::Hole { len: a }), Some(Segment::Hole { len: b })) if a == b => {}
                (
                    Some(Segment::Range { blob: a, offset: at_a, len: len_a }),
                    Some(Segment::Range { blob: b, offset: at_b, len: len_b }),
                ) if at_a == at_b && len_a == len_b => {
                    let one_pack = a.id().is_some() && a.id() == b.id();
                    if !Arc::ptr_eq(a, b) && !one_pack {
                        break false;
                    }
                }
                _ => break false,
            }
        }
}

/// The files with several names, and these in order.
fn groups(tree: &Tree) -> HashMap<InodeId, Vec<&TreePath>> {
    let mut groups: HashMap<InodeId, Vec<&TreePath>> = HashMap::new();
    for (path, id, node) in tree.iter() {
        if !node.is_dir() && tree.links(path) > 1 {
            groups.entry(id).or_default().push(path);
        }
    }
    groups
}

/// Removes the attributes that a file has, so that exactly the new ones are left.
fn clear_xattrs(workspace: &Workspace, path: &TreePath) -> std::io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match path.is_root() {
        true => workspace.root.try_clone()?,
        false => {
            let (parent, name) = confined::open_parent(workspace.root.as_fd(), path)?;
            rustix::fs::openat(parent, &name, flags, Mode::empty())?
        }
    };
    let (id, stat) = Identity::of(fd.as_fd())?;
    workspace.ledger.update(&id, |over| over.xattrs.clear());
    if u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFLNK {
        return Ok(());
    }
    let link = CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    for name in sys::list_xattr(&link)? {
        if name.starts_with(b"user.") || name.starts_with(b"system.posix_acl") {
            sys::remove_xattr(&link, &CString::new(name)?)?;
        }
    }
    Ok(())
}
