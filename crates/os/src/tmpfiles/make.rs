//! The creating phase: files, directories, links, devices, copies.

use tree::{Content, Kind, KindName, Meta, Mtime, Node, Tree, TreeError, TreePath, acl};

use super::line::{Argument, Item, Type};
use super::permissions::{self, State};
use super::{pattern, place};
use crate::OsError;

/// The most entries that all lines make together.
const ENTRIES_LIMIT: usize = 100_000;
/// The most bytes of contents and attributes that all lines write together.
pub const BYTES_LIMIT: usize = 128 << 20;

/// Why a line is not done.
pub enum Failure {
    /// The line alone: the others are.
    Line(String),
    /// Everything.
    All(OsError),
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Failure::Line(message)
    }
}

impl From<TreeError> for Failure {
    fn from(error: TreeError) -> Self {
        Failure::Line(error.to_string())
    }
}

fn line(message: String) -> Result<(), Failure> {
    Err(Failure::Line(message))
}

/// Carries lines out on a Tree.
pub struct Maker<'a> {
    pub tree: &'a mut Tree,
    epoch: Mtime,
    entries: usize,
    bytes: usize,
    /// What could not be done, and why.
    pub failures: Vec<String>,
}

impl<'a> Maker<'a> {
    pub fn new(tree: &'a mut Tree, epoch: Mtime) -> Maker<'a> {
        Maker { tree, epoch, entries: 0, bytes: 0, failures: Vec::new() }
    }

    pub fn fail(&mut self, item: &Item, message: String) {
        self.failures.push(format!("{}: {message}", item.origin));
    }

    /// Notes what could not be done; passes on what ends everything.
    pub fn settle(&mut self, item: &Item, done: Result<(), Failure>) -> Result<(), OsError> {
        match done {
            Ok(()) => Ok(()),
            Err(Failure::All(error)) => Err(error),
            Err(Failure::Line(message)) => {
                self.fail(item, message);
                Ok(())
            }
        }
    }

    /// Makes what a line says; lines of other types make nothing.
    pub fn create(&mut self, item: &Item) -> Result<(), OsError> {
        let done = match item.ty {
            ty if ty.is_pattern() => return self.matches(item),
            ty if ty.is_directory() => self.directory(item),
            Type::File | Type::FileTruncated => self.file(item),
            Type::Symlink => self.symlink(item),
            Type::Fifo | Type::CharDevice | Type::BlockDevice => self.special(item),
            _ => self.copy(item),
        };
        match done {
            Err(Failure::Line(_)) if item.may_fail => Ok(()),
            done => self.settle(item, done),
        }
    }

    /// Types whose path is a pattern: each match by itself.
    fn matches(&mut self, item: &Item) -> Result<(), OsError> {
        let recursive = matches!(
            item.ty,
            Type::AdjustRecursive
                | Type::XattrsRecursive
                | Type::SetAclRecursive
                | Type::FlagsRecursive
        );
        if matches!(
            item.ty,
            Type::Exclude | Type::ExcludeOnly | Type::Remove | Type::RemoveRecursive
        ) {
            return Ok(());
        }
        let found = match pattern::glob(self.tree, &item.path) {
            Ok(found) => found,
            Err(message) => return self.settle(item, Err(Failure::Line(message))),
        };
        for path in found {
            let done = match place::existing(self.tree, &path) {
                Err(failure) => Err(failure),
                Ok(_) if item.ty == Type::Write => self.write(&path, item),
                Ok(at) if item.ty == Type::AdjustDirectory => self.adjust_directory(&at, item),
                Ok(at) if recursive => self.below(&at, item),
                Ok(at) => self.adjust(&at, item),
            };
            match done {
                Err(Failure::Line(_)) if item.may_fail => {}
                done => self.settle(item, done)?,
            }
        }
        Ok(())
    }

    fn below(&mut self, top: &TreePath, item: &Item) -> Result<(), Failure> {
        let all: Vec<TreePath> = self.tree.subtree(top).map(|(path, _, _)| path.clone()).collect();
        all.iter().try_for_each(|path| self.adjust(path, item))
    }

    fn adjust(&mut self, at: &TreePath, item: &Item) -> Result<(), Failure> {
        match item.ty {
            Type::Adjust | Type::AdjustOld | Type::AdjustRecursive => {
                permissions::set(self.tree, at, &item.attributes, State::Old);
                Ok(())
            }
            _ => {
                permissions::adjust(self.tree, at, &item.attributes.argument, item.more)?;
                self.take_xattrs(at)
            }
        }
    }

    /// `e`: the link at the end is followed.
    fn adjust_directory(&mut self, at: &TreePath, item: &Item) -> Result<(), Failure> {
        match self.tree.lookup(at).map(Node::is_dir) {
            None => Ok(()),
            Some(false) => line(format!("{at} is not a directory")),
            Some(true) => {
                let at = place::chase(self.tree, at)?;
                permissions::set(self.tree, &at, &item.attributes, State::Old);
                Ok(())
            }
        }
    }

    /// `w`: into a file that is there, links followed, over what it has; `w+` behind it.
    fn write(&mut self, path: &TreePath, item: &Item) -> Result<(), Failure> {
        let at = self.tree.resolve(path).map_err(TreeError::from)?;
        let bytes = item.bytes().unwrap_or_default();
        self.take_bytes(bytes.len())?;
        let old = match self.tree.get(&at).map(|node| &node.kind) {
            None => return Ok(()),
            Some(Kind::File(content)) => content.clone(),
            Some(_) => return line(format!("{at} is not a regular file")),
        };
        let new = Content::inline(bytes);
        let behind = old.slice(bytes.len() as u64, u64::MAX);
        let content = match item.more {
            true => Content::concat([&old, &new]),
            false => Content::concat([&new, &behind]),
        };
        self.fill(&at, content);
        permissions::set(self.tree, &at, &item.attributes, State::Old);
        Ok(())
    }

    fn fill(&mut self, at: &TreePath, content: Content) {
        let node = self.tree.get_mut(at).expect("the caller has found it");
        node.kind = Kind::File(content);
        node.meta.mtime = self.epoch;
        permissions::drop_capabilities(&mut node.meta);
    }

    fn take_bytes(&mut self, count: usize) -> Result<(), Failure> {
        self.bytes += count;
        if self.bytes <= BYTES_LIMIT {
            return Ok(());
        }
        let limit = BYTES_LIMIT;
        Err(Failure::All(OsError::Limit { what: "bytes written by tmpfiles.d", limit }))
    }

    fn take_xattrs(&mut self, at: &TreePath) -> Result<(), Failure> {
        let size = |node: &Node| node.meta.xattrs.iter().map(|(n, v)| n.len() + v.len()).sum();
        self.take_bytes(self.tree.get(at).map_or(0, size))
    }

    /// Adds a node as a program does: with what its directory passes on.
    fn add(&mut self, at: &TreePath, kind: Kind, mode: u16) -> Result<(), Failure> {
        self.entries += 1;
        if self.entries > ENTRIES_LIMIT {
            let limit = ENTRIES_LIMIT;
            return Err(Failure::All(OsError::Limit { what: "files made by tmpfiles.d", limit }));
        }
        let (is_dir, is_link) = (matches!(kind, Kind::Dir), matches!(kind, Kind::Symlink(_)));
        let parent = at.parent().and_then(|p| self.tree.get(&p)).map(|node| &node.meta);
        let mut meta = if is_link { Meta::symlink() } else { Meta::new(mode) }.at(self.epoch);
        if let Some(parent) = parent {
            if let Some(default) = parent.xattrs.get(acl::DEFAULT).filter(|_| !is_link) {
                if let Some((access, bits)) = acl::inherit(default, u32::from(mode & 0o777)) {
                    meta.mode = mode & 0o7000 | bits as u16;
                    meta.xattrs.extend(access.map(|acl| (acl::ACCESS.to_vec(), acl)));
                }
                if is_dir {
                    meta.xattrs.insert(acl::DEFAULT.to_vec(), default.clone());
                }
            }
            if parent.mode & 0o2000 != 0 {
                meta.gid = parent.gid;
                meta.mode |= if is_dir { 0o2000 } else { 0 };
            }
        }
        self.tree.add(at.clone(), Node { meta, kind })?;
        self.take_xattrs(at)
    }

    /// Where the line's object is, with the directories above it made. With `=`, what is
    /// in the way is removed, the object itself if it is not of the kind.
    fn prepare(&mut self, item: &Item, kind: Option<KindName>) -> Result<TreePath, Failure> {
        let path = place::path(&item.path)?;
        if path.is_root() {
            return Err(Failure::Line("the root is not made; use 'z' for its mode".into()));
        }
        for dir in path.ancestors().filter(|dir| !dir.is_root()) {
            if self.tree.lookup(&dir).is_some_and(Node::is_dir) {
                continue;
            }
            let at = self.tree.resolve_parent(&dir).map_err(TreeError::from)?;
            if self.tree.contains(&at) {
                if !item.replaces {
                    return Err(Failure::Line(format!("{at} is not a directory")));
                }
                self.tree.remove(&at);
            }
            self.add(&at, Kind::Dir, 0o755)?;
            // Exactly that: neither more nor less than it would inherit.
            permissions::chmod(&mut self.tree.get_mut(&at).expect("just made").meta, 0o755);
        }
        let at = place::in_parent(self.tree, &path)?;
        let there = self.tree.get(&at).map(|node| node.kind.name());
        if item.replaces && kind.is_some() && there.is_some() && there != kind {
            self.tree.remove(&at);
        }
        Ok(at)
    }

    fn directory(&mut self, item: &Item) -> Result<(), Failure> {
        let at = self.prepare(item, Some(KindName::Directory))?;
        let mode = item.attributes.mode.map_or(item.default_mode(), |m| m.bits);
        let state = match self.tree.get(&at).map(Node::is_dir) {
            Some(true) => State::Old,
            Some(false) => return line(format!("{at} exists and is not a directory")),
            None => {
                self.add(&at, Kind::Dir, mode & 0o1777)?;
                State::New
            }
        };
        permissions::set(self.tree, &at, &item.attributes, state);
        Ok(())
    }

    fn file(&mut self, item: &Item) -> Result<(), Failure> {
        let at = self.prepare(item, Some(KindName::File))?;
        let truncates = item.ty == Type::FileTruncated || item.more;
        let bytes = item.bytes().unwrap_or_default();
        self.take_bytes(bytes.len())?;
        let content = Content::inline(bytes);
        let mode = item.attributes.mode.map_or(item.default_mode(), |m| m.bits);
        let state = match self.tree.get(&at).map(|node| &node.kind) {
            None => {
                self.add(&at, Kind::File(content), mode)?;
                State::New
            }
            Some(Kind::File(_)) => {
                if truncates {
                    self.fill(&at, content);
                }
                State::Old
            }
            Some(_) => return line(format!("{at} exists and is not a regular file")),
        };
        permissions::set(self.tree, &at, &item.attributes, state);
        Ok(())
    }

    fn symlink(&mut self, item: &Item) -> Result<(), Failure> {
        let at = self.prepare(item, Some(KindName::Symlink))?;
        let target = item.bytes().unwrap_or_default();
        let there = self.tree.get(&at).map(|node| &node.kind);
        let state = match there {
            Some(Kind::Symlink(old)) if **old == *target => State::Old,
            Some(_) if !item.more => return Ok(()),
            _ => {
                self.tree.remove(&at);
                self.add(&at, Kind::Symlink(target.into()), 0o777)?;
                State::New
            }
        };
        permissions::set(self.tree, &at, &item.attributes, state);
        Ok(())
    }

    /// A FIFO or a device.
    fn special(&mut self, item: &Item) -> Result<(), Failure> {
        let kind = match (item.ty, &item.attributes.argument) {
            (Type::CharDevice, Argument::Device(device)) => Kind::CharDev(*device),
            (Type::BlockDevice, Argument::Device(device)) => Kind::BlockDev(*device),
            _ => Kind::Fifo,
        };
        let at = self.prepare(item, Some(kind.name()))?;
        let there = self.tree.get(&at).map(|node| &node.kind);
        let state = match there {
            // A device with other numbers too: as systemd.
            Some(there) if there.name() == kind.name() => State::Old,
            Some(_) if !item.more => return line(format!("{at} exists and is something else")),
            _ => {
                self.tree.remove(&at);
                let mode = item.attributes.mode.map_or(item.default_mode(), |m| m.bits);
                self.add(&at, kind, mode)?;
                State::New
            }
        };
        permissions::set(self.tree, &at, &item.attributes, state);
        Ok(())
    }

    fn copy(&mut self, item: &Item) -> Result<(), Failure> {
        let at = self.prepare(item, None)?;
        let source = place::path(item.bytes().unwrap_or_default())?;
        let source = self.tree.resolve_parent(&source).map_err(TreeError::from)?;
        let Some(from) = self.tree.get(&source) else { return Ok(()) };
        let is_dir = from.is_dir();
        let there = self.tree.get(&at).map(Node::is_dir);
        let is_empty = self.tree.children(&at).next().is_none();
        if there.is_none() || (is_dir && there == Some(true) && (item.more || is_empty)) {
            self.copy_tree(&source, &at, item)?;
        }
        let kind = |path| self.tree.get(path).map(|node| node.kind.name());
        let leads_to = self.tree.lookup(&source).map(|node| node.kind.name());
        if leads_to.is_none() {
            return line(format!("{source} leads to nothing"));
        }
        if kind(&at) == leads_to {
            permissions::set(self.tree, &at, &item.attributes, State::New);
        }
        Ok(())
    }

    fn copy_tree(&mut self, source: &TreePath, to: &TreePath, item: &Item) -> Result<(), Failure> {
        let all = self.tree.subtree(source).map(|(path, _, node)| (path.clone(), node.clone()));
        // Not what the copy itself makes, should it lie below the source.
        let all: Vec<(TreePath, Node)> = all.filter(|(path, _)| !path.starts_with(to)).collect();
        let mut skipped: Option<TreePath> = None;
        for (path, node) in all {
            let below = path.strip_prefix(source).expect("taken from below it");
            let at = match below.is_root() {
                true => to.clone(),
                false => to.join(below.as_bytes()).map_err(TreeError::from)?,
            };
            if skipped.as_ref().is_some_and(|s| at.starts_with(s)) {
                continue;
            }
            match self.tree.get(&at).map(Node::is_dir) {
                None => self.copy_node(&at, node, item)?,
                Some(there) if there && node.is_dir() => {}
                Some(_) => skipped = Some(at),
            }
        }
        Ok(())
    }

    fn copy_node(&mut self, at: &TreePath, node: Node, item: &Item) -> Result<(), Failure> {
        let Node { meta: from, kind } = node;
        self.add(at, kind, from.mode)?;
        let made = self.tree.get_mut(at).expect("just made");
        let owner = |owner: Option<super::line::Owner>, old| owner.map_or(old, |o| o.id);
        made.meta.uid = owner(item.attributes.user, from.uid);
        made.meta.gid = owner(item.attributes.group, from.gid);
        made.meta.mtime = from.mtime;
        if !matches!(made.kind, Kind::Symlink(_)) {
            permissions::chmod(&mut made.meta, from.mode);
        }
        let own = from.xattrs.into_iter().filter(|(name, _)| name.starts_with(b"user."));
        made.meta.xattrs.extend(own);
        self.take_xattrs(at)
    }
}
