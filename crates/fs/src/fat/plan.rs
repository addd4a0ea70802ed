//! What goes into which cluster: names, sizes, chains. Pure.

use tree::{Content, Kind, Mtime, Tree, TreePath};

use super::geometry::Geometry;
use super::names::{ENTRY_LEN, Name, Names, Short, encode_time, long_entries};
use super::{FatOptions, FatType, NAME};
use crate::FsError;
use crate::bytes::*;

/// Entries of a directory: the format's limit.
const DIR_MAX: usize = 65_536;
const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const VOLUME: u8 = 0x08;

/// What a directory entry leads to.
#[derive(Debug, Clone, Copy)]
enum Child {
    Dir(usize),
    File(usize),
}

#[derive(Debug)]
struct Entry {
    name: Name,
    child: Child,
}

/// A directory. Cluster 0 is the fixed root of FAT12 and FAT16.
#[derive(Debug)]
pub(super) struct Dir {
    entries: Vec<Entry>,
    parent: usize,
    mtime: Mtime,
    pub cluster: u64,
    /// Bytes in use.
    len: u64,
}

/// A file; an empty one has no cluster.
#[derive(Debug)]
pub(super) struct FileItem<'a> {
    pub content: &'a Content,
    mtime: Mtime,
    pub cluster: Option<u64>,
}

/// The whole file system. The first directory is the root.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub dirs: Vec<Dir>,
    pub files: Vec<FileItem<'a>>,
}

impl<'a> Plan<'a> {
    pub fn new(tree: &'a Tree, options: &FatOptions) -> Result<Plan<'a>, FsError> {
        let mut plan = Plan { dirs: Vec::new(), files: Vec::new() };
        let mut children: Vec<Vec<(&'a TreePath, Child)>> = Vec::new();
        let mut stack: Vec<(&TreePath, usize)> = Vec::new();
        for (path, _, node) in tree.iter() {
            while stack.last().is_some_and(|(dir, _)| !path.starts_with(dir)) {
                stack.pop();
            }
            let parent = stack.last().map_or(0, |(_, index)| *index);
            let mtime = node.meta.mtime;
            let child = match &node.kind {
                Kind::Dir => {
                    let dir = Dir { entries: Vec::new(), parent, mtime, cluster: 0, len: 0 };
                    plan.dirs.push(dir);
                    children.push(Vec::new());
                    stack.push((path, plan.dirs.len() - 1));
                    Child::Dir(plan.dirs.len() - 1)
                }
                Kind::File(content) if content.len() > u64::from(u32::MAX) => {
                    return Err(unsupported(path, "is larger than 4 GiB"));
                }
                Kind::File(content) => {
                    plan.files.push(FileItem { content, mtime, cluster: None });
                    Child::File(plan.files.len() - 1)
                }
                _ => return Err(unsupported(path, "is neither a file nor a directory")),
            };
            if !path.is_root() {
                children[parent].push((path, child));
            }
        }
        for (index, children) in children.into_iter().enumerate() {
            plan.name(index, &children, options)?;
        }
        Ok(plan)
    }

    fn name(
        &mut self,
        index: usize,
        children: &[(&TreePath, Child)],
        options: &FatOptions,
    ) -> Result<(), FsError> {
        let names = Names::assign(children.iter().map(|(path, _)| path.name()))
            .map_err(|(i, why)| unsupported(children[i].0, &why))?;
        let own = match index {
            0 => usize::from(!options.label.is_empty()),
            _ => 2,
        };
        let count = own + names.iter().map(Name::entries).sum::<usize>();
        if count > DIR_MAX {
            let first = children.first().and_then(|(path, _)| path.parent());
            return Err(unsupported(&first.unwrap_or(TreePath::root()), "has too many entries"));
        }
        let dir = &mut self.dirs[index];
        dir.len = (count * ENTRY_LEN) as u64;
        dir.entries = names
            .into_iter()
            .zip(children)
            .map(|(name, (_, child))| Entry { name, child: *child })
            .collect();
        Ok(())
    }

    /// Entries that a fixed root directory must hold.
    pub fn root_entries(&self) -> u64 {
        self.dirs[0].len / ENTRY_LEN as u64
    }

    /// Clusters in use; the root is among them if it is a chain.
    pub fn clusters(&self, cluster: u64, root: bool) -> u64 {
        let dirs = self.dirs[usize::from(!root)..].iter().map(|d| d.len.max(1).div_ceil(cluster));
        let files = self.files.iter().map(|f| f.content.len().div_ceil(cluster));
        dirs.sum::<u64>() + files.sum::<u64>()
    }

    /// Gives everything its clusters, one after the other.
    pub fn place(&mut self, g: &Geometry) {
        let mut next = 2;
        let fixed_root = usize::from(g.kind != FatType::Fat32);
        for dir in &mut self.dirs[fixed_root..] {
            dir.cluster = next;
            next += dir.len.max(1).div_ceil(g.cluster());
        }
        for file in self.files.iter_mut().filter(|f| !f.content.is_empty()) {
            file.cluster = Some(next);
            next += file.content.len().div_ceil(g.cluster());
        }
    }

    /// The allocation table up to the last cluster in use.
    pub fn table(&self, g: &Geometry) -> Vec<u8> {
        let mut values: Vec<u32> = vec![0x0fff_fff8, 0x0fff_ffff];
        let dirs = self.dirs.iter().filter(|d| d.cluster != 0).map(|d| d.len.max(1));
        let files = self.files.iter().map(|f| f.content.len());
        for len in dirs.chain(files) {
            for left in (0..len.div_ceil(g.cluster())).rev() {
                let next = values.len() as u32 + 1;
                values.push(if left > 0 { next } else { 0x0fff_ffff });
            }
        }
        match g.kind {
            FatType::Fat32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            FatType::Fat16 => values.iter().flat_map(|v| (*v as u16).to_le_bytes()).collect(),
            FatType::Fat12 => values
                .chunks(2)
                .flat_map(|pair| {
                    let (a, b) = (pair[0] & 0xfff, pair.get(1).map_or(0, |b| b & 0xfff));
                    [a as u8, (a >> 8 | b << 4) as u8, (b >> 4) as u8]
                })
                .collect(),
        }
    }

    /// A directory's entries.
    pub fn dir_bytes(&self, dir: &Dir, options: &FatOptions, g: &Geometry) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(dir.len as usize);
        let root = std::ptr::eq(dir, &self.dirs[0]);
        if !root {
            // A parent that is the root counts as cluster 0, even on FAT32.
            let up = if dir.parent == 0 { 0 } else { self.dirs[dir.parent].cluster };
            bytes.extend(entry(b".          ", DIRECTORY, dir.mtime, dir.cluster, 0));
            let mtime = self.dirs[dir.parent].mtime;
            bytes.extend(entry(b"..         ", DIRECTORY, mtime, up, 0));
        } else if !options.label.is_empty() {
            bytes.extend(entry(&options.label_bytes(), VOLUME, options.created(), 0, 0));
        }
        for item in &dir.entries {
            bytes.extend(long_entries(&item.name).into_iter().flatten());
            let short = &item.name.short;
            bytes.extend(match item.child {
                Child::Dir(i) => {
                    let child = &self.dirs[i];
                    entry(short, DIRECTORY, child.mtime, child.cluster, 0)
                }
                Child::File(i) => {
                    let child = &self.files[i];
                    let size = child.content.len() as u32;
                    entry(short, ARCHIVE, child.mtime, child.cluster.unwrap_or(0), size)
                }
            });
        }
        debug_assert!(bytes.len() as u64 <= dir.len && g.sector >= 512);
        bytes
    }
}

fn entry(short: &Short, attributes: u8, time: Mtime, cluster: u64, size: u32) -> [u8; ENTRY_LEN] {
    let mut b = [0; ENTRY_LEN];
    b[..11].copy_from_slice(short);
    b[11] = attributes;
    let (date, clock) = encode_time(time);
    for (at, value) in [(14, clock), (16, date), (18, date), (22, clock), (24, date)] {
        put16(&mut b, at, value);
    }
    put16(&mut b, 20, (cluster >> 16) as u16);
    put16(&mut b, 26, cluster as u16);
    put32(&mut b, 28, size);
    b
}

fn unsupported(path: &TreePath, why: &str) -> FsError {
    FsError::Unsupported { fs: NAME, path: path.clone(), why: why.into() }
}
