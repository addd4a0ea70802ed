//! First step of writing: what the Tree needs, whatever the size of the file
//! system: inode numbers, directories, attributes, blocks of every file. Pure.

use std::collections::HashMap;

use tree::{Content, InodeId, Kind, Meta, Node, Segment, Tree, TreePath};

use super::dir::{Entry, Layout};
use super::format::*;
use super::inode;
use super::xattr;
use super::{Ext4Options, NAME};
use crate::FsError;

/// Largest target of a symbolic link (`PATH_MAX` without its NUL).
const TARGET_MAX: usize = 4095;
/// Targets below this length live in the inode.
pub(super) const FAST_TARGET: usize = 60;
/// Names one file may have.
const LINK_MAX: u32 = 65_000;
/// Inodes that may share an attribute block: the kernel's limit.
const SHARE_MAX: u32 = 1024;

/// One inode of the tree.
#[derive(Debug)]
pub(super) struct Item<'a> {
    /// The first path, for messages.
    pub path: &'a TreePath,
    pub node: &'a Node,
    pub number: u32,
    pub links: u32,
    pub body: Body<'a>,
    /// Attributes inside the inode.
    pub ibody: Vec<u8>,
    /// Which of [`Survey::shared`] has the rest.
    pub shared: Option<usize>,
}

/// What an inode needs blocks for.
#[derive(Debug)]
pub(super) enum Body<'a> {
    /// Nothing: devices, pipes, sockets, short links.
    None,
    Dir {
        layout: Layout,
        entries: Vec<Entry<'a>>,
        parent: u32,
    },
    /// A link target too long for the inode.
    Target(&'a [u8]),
    /// A file, and which of its blocks are not holes: (first, count).
    File {
        content: &'a Content,
        spans: Vec<(u64, u64)>,
    },
}

/// An attribute block and how many inodes have it.
#[derive(Debug)]
pub(super) struct Shared {
    pub block: Vec<u8>,
    pub references: u32,
}

/// Everything that will be in the file system, in order of inode numbers.
#[derive(Debug)]
pub(super) struct Survey<'a> {
    pub items: Vec<Item<'a>>,
    pub shared: Vec<Shared>,
}

/// The `lost+found` made where the tree has none; e2fsck insists on one.
pub(super) fn lost_found(options: &Ext4Options) -> (TreePath, Node) {
    let meta = Meta::new(0o700).at(options.created());
    (TreePath::literal("lost+found"), Node { meta, kind: Kind::Dir })
}

/// Directories while the tree is walked.
#[derive(Default)]
struct OpenDir<'a> {
    entries: Vec<Entry<'a>>,
    subdirs: u32,
    parent: usize,
}

struct Walk<'a> {
    items: Vec<Item<'a>>,
    dirs: HashMap<usize, OpenDir<'a>>,
    seen: HashMap<InodeId, usize>,
    shared: Vec<Shared>,
    by_block: HashMap<Vec<u8>, usize>,
}

impl<'a> Survey<'a> {
    /// Walks the tree; `lost` is what [`lost_found`] gave.
    pub fn new(
        tree: &'a Tree,
        lost: &'a (TreePath, Node),
        options: &Ext4Options,
    ) -> Result<Survey<'a>, FsError> {
        let mut walk = Walk {
            items: Vec::new(),
            dirs: HashMap::new(),
            seen: HashMap::new(),
            shared: Vec::new(),
            by_block: HashMap::new(),
        };
        let mut all = tree.iter();
        let (root_path, _, root) = all.next().expect("a tree has a root");
        walk.add(root_path, root, ROOT_INO, 0)?;
        let (lost_path, lost_node) = match tree.get(&lost.0) {
            Some(node) if !node.is_dir() => {
                return Err(unsupported(&lost.0, "must be a directory"));
            }
            Some(node) => (&lost.0, node),
            None => (&lost.0, &lost.1),
        };
        let found = walk.add(lost_path, lost_node, FIRST_INO, 0)?;
        walk.enter(0, lost_path.name(), found);
        // The directories from the root to the present one.
        let mut stack: Vec<(&TreePath, usize)> = vec![(root_path, 0)];
        for (path, id, node) in all {
            while !path.starts_with(stack.last().expect("everything is below the root").0) {
                stack.pop();
            }
            let parent = stack.last().expect("everything is below the root").1;
            let index = match walk.seen.get(&id) {
                _ if *path == lost.0 => found,
                Some(index) => {
                    walk.items[*index].links += 1;
                    *index
                }
                None => {
                    let number = walk.items.len() as u32 + FIRST_INO - 1;
                    let index = walk.add(path, node, number, parent)?;
                    walk.seen.insert(id, index);
                    index
                }
            };
            if index != found {
                walk.enter(parent, path.name(), index);
            }
            if node.is_dir() {
                stack.push((path, index));
            }
        }
        walk.finish(options)
    }

    /// Inodes in use, the reserved ones included.
    pub fn inodes(&self) -> u64 {
        self.items.len() as u64 + u64::from(FIRST_INO) - 2
    }
}

impl<'a> Walk<'a> {
    fn add(
        &mut self,
        path: &'a TreePath,
        node: &'a Node,
        number: u32,
        parent: usize,
    ) -> Result<usize, FsError> {
        let index = self.items.len();
        if !inode::time_fits(node.meta.mtime) {
            return Err(unsupported(path, "its time is not between 1901 and 2446"));
        }
        if node.is_dir() {
            self.dirs.insert(index, OpenDir { parent, ..OpenDir::default() });
        }
        let encoded = match node.meta.xattrs.is_empty() {
            true => xattr::Encoded::default(),
            false => xattr::encode(&node.meta.xattrs).map_err(|why| unsupported(path, &why))?,
        };
        let shared = (!encoded.block.is_empty()).then(|| self.share(encoded.block));
        let body = body(path, node)?;
        let item = Item { path, node, number, links: 1, body, ibody: encoded.ibody, shared };
        self.items.push(item);
        Ok(index)
    }

    fn share(&mut self, block: Vec<u8>) -> usize {
        if let Some(index) = self.by_block.get(&block).copied()
            && self.shared[index].references < SHARE_MAX
        {
            self.shared[index].references += 1;
            return index;
        }
        self.by_block.insert(block.clone(), self.shared.len());
        self.shared.push(Shared { block, references: 1 });
        self.shared.len() - 1
    }

    fn enter(&mut self, parent: usize, name: &'a [u8], index: usize) {
        let item = &self.items[index];
        let kind = kind_code(&item.node.kind);
        let dir = self.dirs.get_mut(&parent).expect("parents are directories");
        dir.entries.push(Entry { name, inode: item.number, kind });
        dir.subdirs += u32::from(item.node.is_dir());
    }

    fn finish(mut self, options: &Ext4Options) -> Result<Survey<'a>, FsError> {
        let numbers: Vec<u32> = self.items.iter().map(|i| i.number).collect();
        for (index, item) in self.items.iter_mut().enumerate() {
            if let Some(dir) = self.dirs.remove(&index) {
                item.links = 2 + dir.subdirs;
                let layout = match item.number == FIRST_INO && dir.entries.is_empty() {
                    true => Some(Layout::lost_found()),
                    false => Layout::new(&dir.entries, options.hash_seed.as_bytes()),
                };
                let layout =
                    layout.ok_or_else(|| unsupported(item.path, "has too many entries"))?;
                let parent = numbers[dir.parent];
                item.body = Body::Dir { layout, entries: dir.entries, parent };
            } else if item.links > LINK_MAX {
                return Err(unsupported(item.path, "has more than 65000 hard links"));
            }
        }
        Ok(Survey { items: self.items, shared: self.shared })
    }
}

fn body<'a>(path: &TreePath, node: &'a Node) -> Result<Body<'a>, FsError> {
    Ok(match &node.kind {
        Kind::File(content) => {
            if content.len().div_ceil(BLOCK) > u64::from(u32::MAX) {
                return Err(unsupported(path, "is larger than 16 TiB"));
            }
            Body::File { content, spans: spans(content) }
        }
        Kind::Symlink(target) if target.is_empty() || target.len() > TARGET_MAX => {
            return Err(unsupported(path, "has a link target that is empty or over 4095 bytes"));
        }
        Kind::Symlink(target) if target.len() >= FAST_TARGET => Body::Target(target),
        Kind::CharDev(device) | Kind::BlockDev(device)
            if inode::device_pointers(*device).is_none() =>
        {
            return Err(unsupported(path, "has a device number that Linux does not have"));
        }
        _ => Body::None,
    })
}

/// The blocks of a file that some byte other than a hole's lies in.
fn spans(content: &Content) -> Vec<(u64, u64)> {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    let mut at = 0u64;
    for segment in content.segments() {
        let end = at + segment.len();
        if !matches!(segment, Segment::Hole { .. }) && end > at {
            let (first, last) = (at / BLOCK, end.div_ceil(BLOCK));
            match spans.last_mut() {
                Some(span) if span.0 + span.1 >= first => {
                    span.1 = span.1.max(last - span.0);
                }
                _ => spans.push((first, last - first)),
            }
        }
        at = end;
    }
    spans
}

fn kind_code(kind: &Kind) -> u8 {
    match kind {
        Kind::File(_) => 1,
        Kind::Dir => 2,
        Kind::CharDev(_) => 3,
        Kind::BlockDev(_) => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Symlink(_) => 7,
    }
}

pub(super) fn unsupported(path: &TreePath, why: &str) -> FsError {
    FsError::Unsupported { fs: NAME, path: path.clone(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tree::{Blob, Part};

    #[test]
    fn blocks_that_are_all_hole_are_left_out() {
        let data = |len| Part::Data { blob: Blob::at_path("x"), offset: 0, len };
        let hole = |len| Part::Hole { len };
        for (parts, expected) in [
            (vec![hole(9000), data(1), hole(100)], vec![(2, 1)]),
            (vec![data(10), hole(5000), data(10)], vec![(0, 2)]),
            (vec![data(4096), hole(4096), data(4096)], vec![(0, 1), (2, 1)]),
            (vec![data(5), hole(20_000), data(5)], vec![(0, 1), (4, 1)]),
            (vec![hole(1 << 40)], vec![]),
        ] {
            assert_eq!(spans(&Content::parts(parts)), expected);
        }
    }
}
