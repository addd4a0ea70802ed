//! What is made of kernel modules: depmod's indices, and the modules of an initrd.
//! Both come from one reading of the modules, which is kept per kernel.
//!
//! Reading two thousand compressed modules takes longer than most of what the
//! packages' scripts do. It needs only the files of packages, so it is done beside
//! the scripts ([`warm`]), and the scripts' own `depmod` is put off: the indices are
//! written once, when the last script has run ([`Pending`]).

use std::collections::BTreeSet;

use boot::modules::pattern::Selection;
use boot::modules::{self, ModuleSet, Packing};
use store::KeyHasher;
use tree::{Content, Kind, Meta, Node, Tree, TreePath};

use crate::context::Context;
use crate::error::BuildError;
use crate::initrd::{self, hash_content, hash_subtree};

/// Kind of the objects.
const KIND: &str = "modules";
/// Changed when reading changes.
const VERSION: &str = "2";
/// Files of a module directory that come with the kernel.
const LISTS: [&[u8]; 3] = [b"modules.builtin", b"modules.builtin.modinfo", b"modules.order"];

/// What the modules of one kernel say about themselves.
pub fn read(context: &Context, tree: &Tree, version: &str) -> Result<ModuleSet, BuildError> {
    let mut hasher = KeyHasher::new("kernel modules");
    hasher.add(VERSION.as_bytes());
    hash_modules(&mut hasher, tree, version, false)?;
    for dir in ["etc/depmod.d", "usr/lib/depmod.d", "lib/depmod.d"] {
        hash_subtree(&mut hasher, tree, &TreePath::literal(dir))?;
    }
    let key = hasher.finish();
    let found = context.store.read(KIND, &key)?;
    if let Some(set) = found.and_then(|bytes| postcard::from_bytes(&bytes).ok()) {
        return Ok(set);
    }
    let set = modules::scan(tree, version)?;
    let bytes = postcard::to_allocvec(&set).expect("plain data serialises");
    context.store.put(KIND, &key, &bytes)?;
    Ok(set)
}

/// The modules of one kernel that the initrd needs, compressed.
pub fn initrd_modules(
    context: &Context,
    tree: &Tree,
    version: &str,
    patterns: &[String],
) -> Result<Content, BuildError> {
    let selection = match patterns.is_empty() {
        true => Selection::default_initrd(),
        false => Selection::parse(patterns).map_err(|e| BuildError::Image(e.to_string()))?,
    };
    let mut hasher = KeyHasher::new("initrd modules");
    hasher.add(initrd::VERSION.as_bytes()).add(&context.epoch.secs.to_le_bytes());
    hasher.add(format!("{selection:?}").as_bytes());
    hash_modules(&mut hasher, tree, version, true)?;
    let firmware = TreePath::literal("usr/lib/firmware");
    hash_subtree(&mut hasher, tree, &firmware)?;
    initrd::cached(context, &hasher.finish(), || {
        let set = read(context, tree, version)?;
        Ok(boot::initrd::kernel_modules(tree, &set, &selection, initrd::settings(context))?)
    })
}

/// What came with the kernel, without what depmod made.
fn hash_modules(
    hasher: &mut KeyHasher,
    tree: &Tree,
    version: &str,
    with_meta: bool,
) -> Result<(), BuildError> {
    let dir = modules::directory(tree, version)?;
    for (path, _, node) in tree.subtree(&dir).filter(|(path, _, _)| **path != dir) {
        let below = path.strip_prefix(&dir).expect("found below it");
        let is_module = Packing::of(path.name()).is_some();
        let top = below.components().count() == 1;
        if top && !is_module && !node.is_dir() && !LISTS.contains(&path.name()) {
            continue;
        }
        hasher.add(below.as_bytes());
        if with_meta {
            hasher.add(format!("{:?}", node.meta).as_bytes());
        }
        match &node.kind {
            Kind::File(content) => hash_content(hasher, path, content)?,
            kind => {
                hasher.add(format!("{kind:?}").as_bytes());
            }
        }
    }
    Ok(())
}

/// Every kernel that has modules in the tree.
fn versions(tree: &Tree) -> BTreeSet<String> {
    let dirs = ["usr/lib/modules", "lib/modules"].map(TreePath::literal);
    let resolved = dirs.iter().filter_map(|dir| tree.resolve(dir).ok());
    let mut versions = BTreeSet::new();
    for dir in resolved {
        for (path, node) in tree.children(&dir).filter(|(_, node)| node.is_dir()) {
            let order = path.join("modules.order").ok();
            let name = std::str::from_utf8(path.name()).ok().map(str::to_owned);
            let is_kernel = order.is_some_and(|order| tree.contains(&order)) && node.is_dir();
            versions.extend(name.filter(|name| is_kernel && is_plain(name)));
        }
    }
    versions
}

/// Names that need no quoting anywhere.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._~".contains(&b))
}

/// Makes ready what the boot files will need, as far as it can be known from the
/// packages alone. Best effort: what fails here fails again where it is needed.
pub fn warm(context: &Context, tree: &Tree, patterns: &[String]) {
    for version in versions(tree) {
        let _ = initrd_modules(context, tree, &version, patterns);
    }
}

/// Kernels whose indices are written at the end instead of by their scripts.
#[derive(Debug, Default)]
pub struct Pending(BTreeSet<String>);

/// The programs that scripts get instead of the image's: a `depmod` that does
/// nothing the first time it is asked to index a kernel that has just been laid out.
pub fn shims(pending: &mut Pending, tree: &Tree) -> Vec<(String, String)> {
    let new = versions(tree).into_iter().filter(|version| !has_indices(tree, version));
    let mut markers: Vec<_> = new.map(|version| (format!("depmod.{version}"), version)).collect();
    if markers.is_empty() {
        return Vec::new();
    }
    pending.0.extend(markers.iter().map(|(_, version)| version.clone()));
    let mut shims: Vec<(String, String)> =
        markers.drain(..).map(|(name, _)| (name, String::new())).collect();
    shims.push(("depmod".into(), DEPMOD.into()));
    shims
}

/// A later call may come after another package added modules: that one is real.
const DEPMOD: &str = r#"#!/bin/sh
# mkgold writes the indices of a new kernel once, after the last script.
here=/var/lib/dpkg/tmp.bin
if [ $# = 1 ] && [ -e "$here/depmod.$1" ]; then
    exec rm "$here/depmod.$1"
fi
PATH=${PATH#"$here:"}
exec depmod "$@"
"#;

fn has_indices(tree: &Tree, version: &str) -> bool {
    let dir = modules::directory(tree, version);
    dir.ok().and_then(|dir| dir.join("modules.dep").ok()).is_some_and(|dep| tree.contains(&dep))
}

impl Pending {
    /// Writes the indices that are still missing.
    pub fn finish(self, tree: &mut Tree, context: &Context) -> Result<(), BuildError> {
        for version in self.0 {
            let gone = modules::directory(tree, &version).is_err();
            if gone || has_indices(tree, &version) {
                continue;
            }
            let set = read(context, tree, &version)?;
            let dir = modules::directory(tree, &version)?;
            for (name, bytes) in set.depmod()? {
                let meta = Meta::file(0o644).at(context.epoch);
                let kind = Kind::File(Content::inline(bytes));
                tree.put(dir.join(name)?, Node { meta, kind })?;
            }
            tree.get_mut(&dir).expect("resolved").meta.mtime = context.epoch;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tree: &Tree, version: &str) -> store::Key {
        let mut hasher = KeyHasher::new("test");
        hash_modules(&mut hasher, tree, version, true).unwrap();
        hasher.finish()
    }

    fn kernel(version: &str) -> Tree {
        let mut tree = Tree::new();
        for name in ["modules.order", "modules.builtin", "kernel/fs/x.ko"] {
            let path = TreePath::new(format!("usr/lib/modules/{version}/{name}")).unwrap();
            tree.make_dirs(&path.parent().unwrap()).unwrap();
            tree.write(&path, 0o644, name.as_bytes().to_vec()).unwrap();
        }
        tree
    }

    #[test]
    fn depmods_files_are_no_part_of_the_key() {
        let mut tree = kernel("6.1");
        let before = key(&tree, "6.1");
        let path = |name: &str| TreePath::new(format!("usr/lib/modules/6.1/{name}")).unwrap();
        tree.write(&path("modules.dep"), 0o644, *b"x").unwrap();
        assert_eq!(key(&tree, "6.1"), before);
        tree.write(&path("modules.order"), 0o644, *b"x").unwrap();
        assert_ne!(key(&tree, "6.1"), before);
    }

    #[test]
    fn only_new_kernels_are_put_off() {
        let mut tree = kernel("6.1+a-b");
        let mut pending = Pending::default();
        let names: Vec<_> = shims(&mut pending, &tree).into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["depmod.6.1+a-b", "depmod"]);
        let dep = TreePath::literal("usr/lib/modules/6.1+a-b/modules.dep");
        tree.write(&dep, 0o644, *b"").unwrap();
        assert!(shims(&mut Pending::default(), &tree).is_empty());
    }
}
