//! The initrd: a userland part that does not depend on the kernel, the modules
//! of one kernel, and CPU microcode, one archive after the other.
//!
//! What it is not: installing packages. The build makes a tree of
//! [`recipe::packages`], has the `os` crate finish it (sysusers, presets), and calls
//! [`finish::prepare`] before and [`finish::finish`] after that.
//!
//! Data flow: Tree → [`userland`] (cacheable by the tree alone); Tree + version +
//! selection → [`kernel_modules`] (cacheable by the kernel package); both, and
//! what the project brings → [`join`].
//!
//! The kernel takes any number of archives, each compressed or not, with zeroes
//! between them; microcode must come first and uncompressed.

pub mod finish;
mod microcode;
pub mod recipe;

use std::io;

use tree::{Content, Kind, Meta, Mtime, Node, Tree, TreePath};

use crate::compress;
use crate::cpio::{self, CpioError};
use crate::modules::pattern::Selection;
use crate::modules::{self, ModuleError, ModuleSet};

pub use microcode::microcode;

/// What can go wrong with an initrd.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// The userland has no systemd.
    #[error("the initrd has no {0}: its packages must include systemd")]
    NoSystemd(TreePath),
    /// Files that belong to it cannot be read or compressed.
    #[error("cannot read or compress the content of the initrd")]
    Io(#[from] io::Error),
    /// Not an archive.
    #[error("cannot write the initrd as a cpio archive")]
    Cpio(#[from] CpioError),
    /// The kernel's modules.
    #[error("cannot put the kernel's modules into the initrd")]
    Modules(#[from] ModuleError),
    /// An edit of the tree failed.
    #[error(transparent)]
    Tree(#[from] tree::TreeError),
}

/// How archives are written. None of it but `latest` and `level` reaches a byte.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Later times are set to this one (`SOURCE_DATE_EPOCH`).
    pub latest: Option<Mtime>,
    /// zstd's level.
    pub level: i32,
    /// How many threads may compress.
    pub threads: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { latest: None, level: compress::LEVEL, threads: 1 }
    }
}

/// A tree as a compressed archive.
pub fn userland(tree: &Tree, settings: Settings) -> Result<Content, InitrdError> {
    let archive = cpio::archive(tree, settings.latest)?;
    Ok(Content::inline(compress::zstd(&archive, settings.level, settings.threads)?))
}

/// The modules of a kernel that an initrd needs, as a compressed archive of its
/// own, with depmod's files for exactly these modules, and their firmware.
pub fn kernel_modules(
    tree: &Tree,
    set: &ModuleSet,
    selection: &Selection,
    settings: Settings,
) -> Result<Content, InitrdError> {
    userland(&modules_tree(tree, set, selection)?, settings)
}

/// What [`kernel_modules`] packs.
///
/// mkosi ships the indices of all modules of the image; here they cover what is
/// there, so that modprobe does not look for files that are not, and udev does
/// not try to load them for each device.
pub fn modules_tree(
    tree: &Tree,
    set: &ModuleSet,
    selection: &Selection,
) -> Result<Tree, InitrdError> {
    let chosen = modules::select::select(set, selection)?;
    let from = modules::directory(tree, &set.version)?;
    let base = TreePath::literal("usr/lib/modules").join(&set.version);
    let base = base.map_err(tree::TreeError::from)?;
    let mut out = Tree::new();
    out.make_dirs(&base)?;
    for path in chosen.paths(set) {
        let source = from.join(path).map_err(tree::TreeError::from)?;
        copy(tree, &source, &mut out, base.join(path).map_err(tree::TreeError::from)?)?;
    }
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        let source = from.join(list).map_err(tree::TreeError::from)?;
        copy(tree, &source, &mut out, base.join(list).map_err(tree::TreeError::from)?)?;
    }
    for (name, bytes) in chosen.subset(set).depmod()? {
        let path = base.join(name).map_err(tree::TreeError::from)?;
        out.add_file(path, Meta::file(0o644), Content::inline(bytes))?;
    }
    for path in chosen.firmware(tree, set) {
        copy(tree, &path, &mut out, path.clone())?;
    }
    Ok(out)
}

/// Copies one node, links not followed but for module files, with its parents.
/// What is not there is not copied.
fn copy(from: &Tree, source: &TreePath, to: &mut Tree, path: TreePath) -> Result<(), InitrdError> {
    let Some(node) = from.get(source) else { return Ok(()) };
    let mut node = node.clone();
    let is_module = modules::Packing::of(source.name()).is_some();
    let real = from.lookup(source).filter(|_| is_module && matches!(node.kind, Kind::Symlink(_)));
    if let Some(real) = real {
        node = real.clone();
    }
    if let Some(parent) = path.parent() {
        to.make_dirs(&parent)?;
    }
    node.meta.xattrs.clear();
    to.put(path, Node { meta: node.meta, kind: node.kind })?;
    Ok(())
}

/// Several archives one after the other, each begun at a multiple of four
/// bytes, as the kernel wants it for uncompressed ones. Nothing is copied.
pub fn join<'a>(parts: impl IntoIterator<Item = &'a Content>) -> Content {
    let mut all: Vec<Content> = Vec::new();
    for part in parts.into_iter().filter(|p| !p.is_empty()) {
        all.push(part.clone());
        let pad = part.len().next_multiple_of(4) - part.len();
        all.push(Content::inline(vec![0; pad as usize]));
    }
    Content::concat(all.iter().filter(|c| !c.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_begin_at_multiples_of_four() {
        let parts = [*b"abcde", *b"12345"].map(|b| Content::inline(b.to_vec()));
        let joined = join([&parts[0], &Content::empty(), &parts[1]]);
        assert_eq!(joined.read(99).unwrap(), b"abcde\0\0\x0012345\0\0\0");
    }
}
