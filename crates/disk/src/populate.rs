//! What goes into the file system of a partition, as a Tree.
//!
//! What it is: `CopyFiles=`, `ExcludeFiles=`, `ExcludeFilesTarget=`,
//! `MakeDirectories=`, `MakeSymlinks=` and the validatefs attributes, on Trees: no
//! mount, no root. What it is not: writing a file system.
//!
//! Specification: repart.d(5); systemd-validatefs@.service(8) for the attributes.

use std::collections::BTreeMap;

use tree::{InodeId, Kind, Meta, Mtime, Node, Tree, TreeError, TreePath};

use crate::Designator;
use crate::definition::{CopyFiles, Definition, Exclude};
use crate::plan::Identity;

/// What is never copied from these, whatever the definition: they are mounted over.
const API_FILE_SYSTEMS: [&str; 6] = ["proc", "sys", "dev", "tmp", "run", "var/tmp"];

/// From what, and for which definition.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// All definitions of the disk.
    pub definitions: &'a [Definition],
    /// Which of them.
    pub definition: usize,
    /// Those merged into it by `SupplementFor=`.
    pub supplements: &'a [usize],
    /// The names of all partitions, from [`crate::plan::identities`].
    pub identities: &'a [Identity],
    /// Where `CopyFiles=` takes its files from.
    pub source: &'a Tree,
    /// Times are clamped to this, and what is made gets it: `$SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
}

/// A tree, and what the person should know about how it came about.
#[derive(Debug, Clone)]
pub struct Populated {
    /// The content.
    pub tree: Tree,
    /// Sources that do not exist and lines that are excluded.
    pub notes: Vec<String>,
}

/// Why there is no tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PopulateError {
    /// A source is a device or the like.
    #[error("{file}: CopyFiles={source_path}: is neither a file nor a directory")]
    NotCopyable {
        /// The definition.
        file: String,
        /// The source.
        source_path: TreePath,
    },
    /// The tree does not allow it: something exists already, a parent is missing.
    #[error("{file}: {setting}={path}: {error}")]
    Tree {
        /// The definition.
        file: String,
        /// Which setting.
        setting: &'static str,
        /// Its path.
        path: TreePath,
        /// What is in the way.
        error: TreeError,
    },
}

/// Makes the tree for a definition.
pub fn populate(request: &Request<'_>) -> Result<Populated, PopulateError> {
    let mut work = Work { request, tree: Tree::new(), notes: Vec::new(), root_is_set: false };
    work.tree.get_mut(&TreePath::root()).expect("there is a root").meta.mtime = work.now();
    let members = || {
        let all = std::iter::once(&request.definition).chain(request.supplements);
        all.map(|i| &request.definitions[*i])
    };
    let own = &request.definitions[request.definition];
    let excludes = Excludes {
        source: members().flat_map(|d| &d.exclude_files).collect(),
        target: members().flat_map(|d| &d.exclude_files_target).collect(),
    };
    for line in members().flat_map(|d| &d.copy_files) {
        work.copy(own, line, &excludes)?;
    }
    for path in members().flat_map(|d| &d.make_directories) {
        work.make_directory(path).map_err(|e| wrong(own, "MakeDirectories", path, e))?;
    }
    for link in &own.make_symlinks {
        work.make_symlink(&link.path, &link.target)
            .map_err(|e| wrong(own, "MakeSymlinks", &link.path, e))?;
    }
    if own.add_validatefs == Some(true) {
        work.add_validatefs(own);
    }
    Ok(Populated { tree: work.tree, notes: work.notes })
}

fn wrong(
    d: &Definition,
    setting: &'static str,
    path: &TreePath,
    error: TreeError,
) -> PopulateError {
    PopulateError::Tree { file: d.path.clone(), setting, path: path.clone(), error }
}

struct Excludes<'a> {
    source: Vec<&'a Exclude>,
    target: Vec<&'a Exclude>,
}

/// True: only what the directory holds is left out.
type Denied = BTreeMap<InodeId, bool>;

struct Work<'a> {
    request: &'a Request<'a>,
    tree: Tree,
    notes: Vec<String>,
    root_is_set: bool,
}

impl Work<'_> {
    fn now(&self) -> Mtime {
        Mtime::secs(self.request.epoch.unwrap_or(0))
    }

    fn copy(
        &mut self,
        d: &Definition,
        line: &CopyFiles,
        excludes: &Excludes<'_>,
    ) -> Result<(), PopulateError> {
        let fail = |e| wrong(d, "CopyFiles", &line.source, e);
        let from = self.request.source;
        if excludes_whole(&excludes.source, &line.source)
            || excludes_whole(&excludes.target, &line.target)
        {
            self.notes.push(format!("{}: CopyFiles={}: is excluded", d.path, line.source));
            return Ok(());
        }
        let real = from.resolve(&line.source).map_err(|e| fail(e.into()))?;
        let Some(node) = from.get(&real) else {
            self.notes.push(format!("{}: CopyFiles={}: does not exist", d.path, line.source));
            return Ok(());
        };
        match node.kind {
            Kind::Dir => {
                let denied = self.denied(d, line, excludes);
                self.copy_directory(&real, &line.target, &denied).map_err(fail)
            }
            Kind::File(_) => {
                let target = self.prepare_parent(&line.target).map_err(fail)?;
                let node = self.clamped(node);
                self.tree.add(target, node).map(|_| ()).map_err(fail)
            }
            _ => Err(PopulateError::NotCopyable {
                file: d.path.clone(),
                source_path: line.source.clone(),
            }),
        }
    }

    /// Makes the parents of `path`; says where it really is.
    fn prepare_parent(&mut self, path: &TreePath) -> Result<TreePath, TreeError> {
        let Some(parent) = path.parent() else { return Ok(path.clone()) };
        let parent = self.make_directory(&parent)?;
        Ok(parent.join(path.name())?)
    }

    /// What is left out of a directory that is copied, by inode.
    fn denied(&self, d: &Definition, line: &CopyFiles, excludes: &Excludes<'_>) -> Denied {
        let mut paths: Vec<(TreePath, bool)> =
            API_FILE_SYSTEMS.iter().map(|p| (TreePath::literal(p), true)).collect();
        if d.kind.designator() == Designator::Root && line.target.is_root() {
            let others = self.request.definitions.iter().map(|o| o.kind.designator());
            let mounts = others.filter(|o| *o != Designator::Root).flat_map(|o| o.mount_points());
            for below in mounts.copied().chain(API_FILE_SYSTEMS) {
                paths.extend(line.source.join(below).ok().map(|p| (p, true)));
            }
        }
        for exclude in &excludes.source {
            if exclude.path.starts_with(&line.source) {
                paths.push((exclude.path.clone(), exclude.contents_only));
            }
        }
        for exclude in &excludes.target {
            let below = exclude.path.strip_prefix(&line.target);
            let path = below.and_then(|p| line.source.join(p.as_bytes()).ok());
            paths.extend(path.map(|p| (p, exclude.contents_only)));
        }
        let mut denied = Denied::new();
        for (path, contents_only) in paths {
            // As in the original, a link stands for what it leads to.
            let real = self.request.source.resolve(&path).ok();
            if let Some(id) = real.and_then(|real| self.request.source.inode_id(&real)) {
                // To leave out the whole is more than to leave out the content.
                denied.entry(id).and_modify(|c| *c &= contents_only).or_insert(contents_only);
            }
        }
        denied
    }

    fn copy_directory(
        &mut self,
        from: &TreePath,
        target: &TreePath,
        denied: &Denied,
    ) -> Result<(), TreeError> {
        let source = self.request.source;
        let existed = self.tree.lookup(target).is_some_and(Node::is_dir);
        self.prepare_parent(target)?;
        let top = self.make_directory(target)?;
        let meta = source.get(from).map(|n| self.clamped(n).meta);
        let first_root = target.is_root() && !std::mem::replace(&mut self.root_is_set, true);
        if let (Some(meta), true) = (meta, !existed || (target.is_root() && first_root)) {
            self.tree.get_mut(&top).expect("it was just made").meta = meta;
        }
        let mut links: BTreeMap<InodeId, TreePath> = BTreeMap::new();
        let mut skipped: Option<TreePath> = None;
        if source.inode_id(from).is_some_and(|id| denied.contains_key(&id)) {
            return Ok(());
        }
        for (path, id, node) in source.subtree(from) {
            let below = path.strip_prefix(from).expect("it is in the subtree");
            if below.is_root() || skipped.as_ref().is_some_and(|s| path.starts_with(s)) {
                continue;
            }
            match denied.get(&id) {
                Some(false) => {
                    skipped = Some(path.clone());
                    continue;
                }
                Some(true) if node.is_dir() => skipped = Some(path.clone()),
                _ => {}
            }
            let to = top.join(below.as_bytes())?;
            self.place(to, id, node, &mut links)?;
        }
        Ok(())
    }

    /// Puts one node of a directory in its place: directories are merged and keep
    /// their own attributes, the rest is replaced, hard links stay such.
    fn place(
        &mut self,
        to: TreePath,
        id: InodeId,
        node: &Node,
        links: &mut BTreeMap<InodeId, TreePath>,
    ) -> Result<(), TreeError> {
        if node.is_dir() {
            if self.tree.get(&to).is_some_and(Node::is_dir) {
                return Ok(());
            }
            let node = self.clamped(node);
            return self.tree.put(to, node).map(|_| ());
        }
        if self.tree.get(&to).is_some_and(Node::is_dir) {
            return Err(TreeError::IsADirectory(to));
        }
        if let Some(first) = links.get(&id).cloned() {
            self.tree.remove(&to);
            return self.tree.add_link(to, &first).map(|_| ());
        }
        links.insert(id, to.clone());
        let node = self.clamped(node);
        self.tree.put(to, node).map(|_| ())
    }

    fn clamped(&self, node: &Node) -> Node {
        let mut node = node.clone();
        if let Some(epoch) = self.request.epoch {
            node.meta.mtime = node.meta.mtime.min(Mtime::secs(epoch));
        }
        node
    }

    /// Like `mkdir -p`, but what is made has the time of the build.
    fn make_directory(&mut self, path: &TreePath) -> Result<TreePath, TreeError> {
        let real = self.tree.resolve(path)?;
        let missing = |p: &TreePath| !self.tree.contains(p);
        let new: Vec<TreePath> =
            real.ancestors().chain([real.clone()]).filter(|p| missing(p)).collect();
        self.tree.make_dirs(&real)?;
        let now = self.now();
        for path in new {
            self.tree.get_mut(&path).expect("it was just made").meta.mtime = now;
        }
        Ok(real)
    }

    fn make_symlink(&mut self, path: &TreePath, target: &str) -> Result<(), TreeError> {
        let parent = path.parent().ok_or_else(|| TreeError::Exists(path.clone()))?;
        let parent = self.tree.resolve(&parent)?;
        let node = Node {
            meta: Meta::symlink().at(self.now()),
            kind: Kind::Symlink(target.as_bytes().into()),
        };
        self.tree.add(parent.join(path.name())?, node).map(|_| ())
    }

    /// Says on the root inode to which partition the file system belongs.
    fn add_validatefs(&mut self, d: &Definition) {
        let own = &self.request.identities[self.request.definition];
        let siblings = self.request.definitions.iter().zip(self.request.identities);
        let siblings = siblings.filter(|(o, _)| {
            d.verity_match_key.is_some() && o.verity_match_key == d.verity_match_key
        });
        let mut labels: Vec<&str> = siblings.map(|(_, i)| i.label.as_str()).collect();
        labels.push(&own.label);
        labels.sort_unstable();
        labels.dedup();
        let mut mounts: Vec<String> = d.mount_points.iter().map(|m| m.path.to_string()).collect();
        if mounts.is_empty() {
            mounts.extend(d.kind.designator().mount_points().iter().map(|m| (*m).to_owned()));
        }
        let kind = d.kind.0.to_string();
        let list = |items: &[&str]| {
            items.iter().flat_map(|i| [i.as_bytes(), b"\0"]).flatten().copied().collect()
        };
        let mounts: Vec<&str> = mounts.iter().map(String::as_str).collect();
        let root = self.tree.get_mut(&TreePath::root()).expect("there is a root");
        let mut set = |name: &str, items: &[&str]| {
            if !items.is_empty() {
                let name = format!("user.validatefs.{name}").into_bytes();
                root.meta.xattrs.insert(name, list(items));
            }
        };
        set("gpt_label", &labels);
        set("gpt_type_uuid", &[&kind]);
        set("mount_point", &mounts);
    }
}

/// True if the path is an excluded one or lies below it. Also where only the contents
/// are excluded: then a line for the directory itself has nothing to copy.
fn excludes_whole(excludes: &[&Exclude], path: &TreePath) -> bool {
    excludes.iter().any(|e| path.starts_with(&e.path))
}
