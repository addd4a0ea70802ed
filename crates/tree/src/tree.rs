//! The Tree itself: paths, inodes, and the edits that keep them consistent.
//!
//! Invariants, kept by every method: the root is a directory; the parent of every
//! path exists and is a directory; directories have exactly one path; an inode
//! lives as long as a path leads to it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Content, PathError, ResolveError, TreePath};

/// Extended attributes: full name (`security.capability`) → value.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// A modification time. Before 1970 the seconds are negative; nanoseconds count
/// up from there.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Mtime {
    /// Seconds since 1970-01-01 UTC.
    pub secs: i64,
    /// 0…999 999 999.
    pub nanos: u32,
}

impl Mtime {
    /// A whole second.
    pub fn secs(secs: i64) -> Self {
        Mtime { secs, nanos: 0 }
    }
}

/// What every inode has, whatever its kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Meta {
    /// The twelve permission bits (`07777`), without the file type.
    pub mode: u16,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Mtime,
    /// Extended attributes, POSIX ACLs among them (`system.posix_acl_access` as
    /// the kernel hands them out).
    pub xattrs: Xattrs,
}

impl Meta {
    /// Mode `mode`, owned by root, at time 0, no xattrs.
    pub fn new(mode: u16) -> Self {
        Meta { mode, ..Meta::default() }
    }

    /// For a regular file; reads better at the call.
    pub fn file(mode: u16) -> Self {
        Self::new(mode)
    }

    /// `0755` root: what made directories get.
    pub fn dir() -> Self {
        Self::new(0o755)
    }

    /// `0777` root: what symbolic links get.
    pub fn symlink() -> Self {
        Self::new(0o777)
    }

    /// The same with another owner.
    pub fn owned_by(mut self, uid: u32, gid: u32) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    /// The same with another time.
    pub fn at(mut self, mtime: Mtime) -> Self {
        self.mtime = mtime;
        self
    }
}

/// A device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// What an inode is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A directory; what it holds is in the tree's paths.
    Dir,
    /// A regular file.
    File(Content),
    /// A symbolic link and its target, verbatim.
    Symlink(Box<[u8]>),
    /// A character device.
    CharDev(Device),
    /// A block device.
    BlockDev(Device),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// The kind alone, for comparisons and messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum KindName {
    Directory,
    File,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

impl Kind {
    /// Which kind it is.
    pub fn name(&self) -> KindName {
        match self {
            Kind::Dir => KindName::Directory,
            Kind::File(_) => KindName::File,
            Kind::Symlink(_) => KindName::Symlink,
            Kind::CharDev(_) => KindName::CharDevice,
            Kind::BlockDev(_) => KindName::BlockDevice,
            Kind::Fifo => KindName::Fifo,
            Kind::Socket => KindName::Socket,
        }
    }
}

/// Meta and kind: what a path leads to.
#[derive(Debug, Clone)]
pub struct Node {
    /// Mode, owner, time, xattrs.
    pub meta: Meta,
    /// What it is.
    pub kind: Kind,
}

impl Node {
    /// A regular file's content.
    pub fn content(&self) -> Option<&Content> {
        match &self.kind {
            Kind::File(content) => Some(content),
            _ => None,
        }
    }

    /// True for directories.
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Dir)
    }
}

/// Names an inode of one Tree, to recognise hard links. Its number depends on the
/// history of the tree: never let it reach output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(u32);

/// An inode: the node and how many paths lead to it.
#[derive(Debug, Clone)]
pub struct Inode {
    /// What the paths lead to.
    pub node: Node,
    /// How many paths.
    pub links: u32,
}

/// Why an edit cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The path is not there.
    #[error("{0}: no such file or directory in the tree")]
    NotFound(TreePath),
    /// The path is there already.
    #[error("{0}: exists already in the tree")]
    Exists(TreePath),
    /// A parent is missing or not a directory.
    #[error("{0}: its parent is not a directory in the tree")]
    NoParent(TreePath),
    /// The operation takes no directory.
    #[error("{0}: is a directory")]
    IsADirectory(TreePath),
    /// The path cannot be resolved.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Not a path.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// A root file system in memory. See the crate's head.
#[derive(Debug, Clone)]
pub struct Tree {
    paths: BTreeMap<TreePath, InodeId>,
    inodes: Vec<Option<Arc<Inode>>>,
    free: Vec<InodeId>,
}

impl Default for Tree {
    fn default() -> Self {
        Tree::new()
    }
}

impl Tree {
    /// Only a root directory, `0755` root.
    pub fn new() -> Self {
        let mut tree = Tree { paths: BTreeMap::new(), inodes: Vec::new(), free: Vec::new() };
        let id = tree.allocate(Node { meta: Meta::dir(), kind: Kind::Dir });
        tree.paths.insert(TreePath::root(), id);
        tree
    }

    fn allocate(&mut self, node: Node) -> InodeId {
        let inode = Some(Arc::new(Inode { node, links: 1 }));
        match self.free.pop() {
            Some(id) => {
                self.inodes[id.0 as usize] = inode;
                id
            }
            None => {
                self.inodes.push(inode);
                InodeId(u32::try_from(self.inodes.len() - 1).expect("fewer than 2^32 inodes"))
            }
        }
    }

    fn inode(&self, id: InodeId) -> &Inode {
        self.inodes[id.0 as usize].as_ref().expect("a path leads to a live inode")
    }

    fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        Arc::make_mut(self.inodes[id.0 as usize].as_mut().expect("a path leads to a live inode"))
    }

    /// How many paths there are, the root included.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// True if there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.paths.len() == 1
    }

    /// The node at `path` itself: no link is followed.
    pub fn get(&self, path: &TreePath) -> Option<&Node> {
        self.paths.get(path).map(|id| &self.inode(*id).node)
    }

    /// The node at `path` for changing. Every hard link to it changes with it.
    pub fn get_mut(&mut self, path: &TreePath) -> Option<&mut Node> {
        let id = *self.paths.get(path)?;
        Some(&mut self.inode_mut(id).node)
    }

    /// Which inode `path` leads to: two paths with the same are hard links.
    pub fn inode_id(&self, path: &TreePath) -> Option<InodeId> {
        self.paths.get(path).copied()
    }

    /// How many paths lead to the inode at `path`; 0 if there is none.
    pub fn links(&self, path: &TreePath) -> u32 {
        self.paths.get(path).map_or(0, |id| self.inode(*id).links)
    }

    /// True if `path` exists; no link is followed.
    pub fn contains(&self, path: &TreePath) -> bool {
        self.paths.contains_key(path)
    }

    /// The node that `path` leads to with all symbolic links followed.
    pub fn lookup(&self, path: &TreePath) -> Option<&Node> {
        self.get(&self.resolve(path).ok()?)
    }

    /// Everything, parents before children, in path order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&TreePath, InodeId, &Node)> {
        self.paths.iter().map(|(path, id)| (path, *id, &self.inode(*id).node))
    }

    /// `dir` and everything below it, in path order. No link is followed.
    pub fn subtree<'a>(
        &'a self,
        dir: &'a TreePath,
    ) -> impl Iterator<Item = (&'a TreePath, InodeId, &'a Node)> {
        self.paths
            .range::<TreePath, _>((Bound::Included(dir), Bound::Unbounded))
            .take_while(|(path, _)| path.starts_with(dir))
            .map(|(path, id)| (path, *id, &self.inode(*id).node))
    }

    /// The direct entries of `dir`, in name order.
    pub fn children<'a>(
        &'a self,
        dir: &'a TreePath,
    ) -> impl Iterator<Item = (&'a TreePath, &'a Node)> {
        let depth = dir.components().count() + 1;
        self.subtree(dir)
            .filter(move |(path, _, _)| path.components().count() == depth)
            .map(|(path, _, node)| (path, node))
    }

    fn check_parent(&self, path: &TreePath) -> Result<(), TreeError> {
        let parent = path.parent().and_then(|parent| self.get(&parent));
        match parent {
            Some(node) if node.is_dir() => Ok(()),
            _ => Err(TreeError::NoParent(path.clone())),
        }
    }

    /// Adds a node at a free path whose parent exists.
    pub fn add(&mut self, path: TreePath, node: Node) -> Result<InodeId, TreeError> {
        if self.contains(&path) {
            return Err(TreeError::Exists(path));
        }
        self.check_parent(&path)?;
        let id = self.allocate(node);
        self.paths.insert(path, id);
        Ok(id)
    }

    /// Adds a regular file at a free path.
    pub fn add_file(
        &mut self,
        path: TreePath,
        meta: Meta,
        content: Content,
    ) -> Result<InodeId, TreeError> {
        self.add(path, Node { meta, kind: Kind::File(content) })
    }

    /// Adds a symbolic link, owned by root, at a free path.
    pub fn add_symlink(
        &mut self,
        path: TreePath,
        target: impl AsRef<[u8]>,
    ) -> Result<InodeId, TreeError> {
        let kind = Kind::Symlink(target.as_ref().into());
        self.add(path, Node { meta: Meta::symlink(), kind })
    }

    /// Makes `path` another name of the inode at `existing` (not a directory).
    pub fn add_link(&mut self, path: TreePath, existing: &TreePath) -> Result<(), TreeError> {
        let id = self.inode_id(existing).ok_or_else(|| TreeError::NotFound(existing.clone()))?;
        if self.inode(id).node.is_dir() {
            return Err(TreeError::IsADirectory(existing.clone()));
        }
        if self.contains(&path) {
            return Err(TreeError::Exists(path));
        }
        self.check_parent(&path)?;
        self.inode_mut(id).links += 1;
        self.paths.insert(path, id);
        Ok(())
    }

    /// Puts a node at `path`: what was there is removed first, except that a
    /// directory over a directory keeps what it holds and takes the new meta.
    /// The parent must exist.
    pub fn put(&mut self, path: TreePath, node: Node) -> Result<(), TreeError> {
        let both_dirs = node.is_dir() && self.get(&path).is_some_and(Node::is_dir);
        if both_dirs {
            self.get_mut(&path).expect("just looked up").meta = node.meta;
            return Ok(());
        }
        if path.is_root() {
            return Err(TreeError::IsADirectory(path));
        }
        self.check_parent(&path)?;
        self.remove(&path);
        self.add(path, node).map(|_| ())
    }

    /// Writes a file as a program in the image would: links in the path are
    /// followed, missing directories made (`0755` root), an existing file's mode,
    /// owner and xattrs kept (its content alone is replaced), a new one gets
    /// `mode`, root, time 0.
    pub fn write(
        &mut self,
        path: &TreePath,
        mode: u16,
        bytes: impl Into<Arc<[u8]>>,
    ) -> Result<(), TreeError> {
        let path = self.resolve(path)?;
        let content = Content::inline(bytes);
        match self.get_mut(&path) {
            Some(node) if node.is_dir() => return Err(TreeError::IsADirectory(path)),
            Some(node) => node.kind = Kind::File(content),
            None => {
                if let Some(parent) = path.parent() {
                    self.make_dirs(&parent)?;
                }
                self.add_file(path, Meta::file(mode), content)?;
            }
        }
        Ok(())
    }

    /// Makes `path` and its missing parents, `0755` root; existing directories
    /// and links to directories stay. Returns where it really is.
    pub fn make_dirs(&mut self, path: &TreePath) -> Result<TreePath, TreeError> {
        let path = self.resolve(path)?;
        for dir in path.ancestors().chain([path.clone()]) {
            match self.get(&dir) {
                Some(node) if node.is_dir() => {}
                Some(_) => return Err(TreeError::NoParent(dir)),
                None => {
                    self.add(dir, Node { meta: Meta::dir(), kind: Kind::Dir })?;
                }
            }
        }
        Ok(path)
    }

    /// Removes `path` and everything below it; the root keeps its own node.
    /// Returns how many paths went. No link is followed.
    pub fn remove(&mut self, path: &TreePath) -> usize {
        let gone: Vec<TreePath> =
            self.subtree(path).map(|(p, _, _)| p.clone()).filter(|p| !p.is_root()).collect();
        for path in &gone {
            self.unlink(path);
        }
        gone.len()
    }

    fn unlink(&mut self, path: &TreePath) {
        let Some(id) = self.paths.remove(path) else { return };
        if self.inode(id).links > 1 {
            self.inode_mut(id).links -= 1;
        } else {
            self.inodes[id.0 as usize] = None;
            self.free.push(id);
        }
    }

    /// Moves `from`, and everything below it, to the free path `to`.
    pub fn rename(&mut self, from: &TreePath, to: &TreePath) -> Result<(), TreeError> {
        if !self.contains(from) || from.is_root() {
            return Err(TreeError::NotFound(from.clone()));
        }
        if self.contains(to) {
            return Err(TreeError::Exists(to.clone()));
        }
        self.check_parent(to)?;
        if to.starts_with(from) {
            return Err(TreeError::NoParent(to.clone()));
        }
        let moved: Vec<TreePath> = self.subtree(from).map(|(p, _, _)| p.clone()).collect();
        for path in moved {
            let below = path.strip_prefix(from).expect("taken from the subtree");
            let id = self.paths.remove(&path).expect("taken from the subtree");
            let target = if below.is_root() { to.clone() } else { to.join(below.as_bytes())? };
            self.paths.insert(target, id);
        }
        Ok(())
    }

    /// Reads a file that a program in the image would open (links followed), up
    /// to `limit` bytes. `None` if there is no such regular file.
    pub fn read(&self, path: &TreePath, limit: u64) -> Option<std::io::Result<Vec<u8>>> {
        Some(self.lookup(path)?.content()?.read(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(s: &'static str) -> TreePath {
        TreePath::literal(s)
    }

    #[test]
    fn hard_links_share_everything_and_outlive_each_other() {
        let mut t = Tree::new();
        t.add_file(p("a"), Meta::file(0o600), Content::inline(*b"x")).unwrap();
        t.add_link(p("b"), &p("a")).unwrap();
        assert_eq!((t.links(&p("a")), t.inode_id(&p("a"))), (2, t.inode_id(&p("b"))));
        t.get_mut(&p("b")).unwrap().meta.mode = 0o644;
        assert_eq!(t.get(&p("a")).unwrap().meta.mode, 0o644);
        assert_eq!(t.remove(&p("a")), 1);
        assert_eq!(t.links(&p("b")), 1);
        assert_eq!(t.get(&p("b")).unwrap().content().unwrap().read(9).unwrap(), b"x");
    }

    #[test]
    fn a_clone_does_not_see_later_edits() {
        let mut t = Tree::new();
        t.add_file(p("a"), Meta::file(0o600), Content::empty()).unwrap();
        let before = t.clone();
        t.get_mut(&p("a")).unwrap().meta.mode = 0o777;
        assert_eq!(before.get(&p("a")).unwrap().meta.mode, 0o600);
    }

    #[test]
    fn parents_are_required_and_directories_not_linked() {
        let mut t = Tree::new();
        let add = t.add_file(p("x/y"), Meta::file(0o600), Content::empty());
        assert_eq!(add.unwrap_err(), TreeError::NoParent(p("x/y")));
        t.make_dirs(&p("d/e")).unwrap();
        assert!(matches!(t.add_link(p("l"), &p("d")), Err(TreeError::IsADirectory(_))));
        assert_eq!(t.remove(&TreePath::root()), 2, "the root itself stays");
        assert!(t.is_empty());
    }

    #[test]
    fn put_merges_directories_and_replaces_the_rest() {
        let mut t = Tree::new();
        t.make_dirs(&p("d/sub")).unwrap();
        t.put(p("d"), Node { meta: Meta::new(0o700), kind: Kind::Dir }).unwrap();
        assert_eq!(t.get(&p("d")).unwrap().meta.mode, 0o700);
        assert!(t.contains(&p("d/sub")));
        t.put(p("d"), Node { meta: Meta::symlink(), kind: Kind::Symlink((*b"x").into()) }).unwrap();
        assert!(!t.contains(&p("d/sub")), "a link over a directory removes what it held");
    }

    #[test]
    fn write_follows_links_and_keeps_the_meta() {
        let mut t = Tree::new();
        t.make_dirs(&p("usr/lib")).unwrap();
        t.add_symlink(p("lib"), "usr/lib").unwrap();
        t.write(&p("lib/x/conf"), 0o640, *b"one").unwrap();
        t.get_mut(&p("usr/lib/x/conf")).unwrap().meta.uid = 7;
        t.write(&p("lib/x/conf"), 0o600, *b"two").unwrap();
        let node = t.get(&p("usr/lib/x/conf")).unwrap();
        assert_eq!((node.meta.mode, node.meta.uid), (0o640, 7));
        assert_eq!(node.content().unwrap().read(9).unwrap(), b"two");
    }

    #[test]
    fn rename_moves_a_subtree() {
        let mut t = Tree::new();
        t.make_dirs(&p("a/b")).unwrap();
        assert!(matches!(t.rename(&p("a"), &p("a/b/c")), Err(TreeError::NoParent(_))));
        t.rename(&p("a"), &p("z")).unwrap();
        assert!(t.contains(&p("z/b")) && !t.contains(&p("a/b")));
        let children: Vec<_> = t.children(&TreePath::root()).map(|(p, _)| p.to_string()).collect();
        assert_eq!(children, ["/z"]);
    }
}
