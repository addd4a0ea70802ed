//! Indices that the project's own files make out of date: kernel modules and the
//! hardware database; and modules that are not wanted.
//!
//! What packages bring, their own scripts have indexed. Only what changed since then is
//! looked at again.

use std::hash::{DefaultHasher, Hash, Hasher};

use boot::modules::pattern::Selection;
use boot::modules::{self, select};
use config::Config;
use sandbox::Command;
use tree::{Tree, TreePath};

use crate::context::Context;
use crate::error::BuildError;
use crate::scripts::Scripts;

const MODULES: &str = "usr/lib/modules";
/// The compiled database of the distribution, and one that would hide it.
const HWDB_BIN: [&str; 2] = ["usr/lib/udev/hwdb.bin", "etc/udev/hwdb.bin"];
const HWDB: [&str; 2] = ["usr/lib/udev/hwdb.d", "etc/udev/hwdb.d"];

/// What the indices were made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    modules: u64,
    hwdb: u64,
}

impl State {
    /// Of a tree whose indices are right.
    pub fn of(tree: &Tree) -> State {
        let is_module = |path: &TreePath| {
            let name = path.name();
            [".ko", ".ko.xz", ".ko.zst", ".ko.gz"].iter().any(|s| name.ends_with(s.as_bytes()))
        };
        State {
            modules: digest(tree, &[MODULES], is_module),
            hwdb: digest(tree, &HWDB, |path| path.name().ends_with(b".hwdb")),
        }
    }
}

fn digest(tree: &Tree, dirs: &[&str], counts: impl Fn(&TreePath) -> bool) -> u64 {
    let mut hasher = DefaultHasher::new();
    for dir in dirs {
        let Ok(dir) = TreePath::new(dir) else { continue };
        let files = tree.subtree(&dir).filter(|(path, _, node)| !node.is_dir() && counts(path));
        for (path, _, node) in files {
            path.hash(&mut hasher);
            (node.meta.mtime, node.content().map(tree::Content::len)).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Brings the indices up to date with what changed since `before`, and leaves only the
/// modules of `KernelModules=`.
pub fn run(
    mut tree: Tree,
    before: &State,
    config: &Config,
    context: &Context,
    scripts: &mut Scripts,
) -> Result<Tree, BuildError> {
    let now = State::of(&tree);
    let patterns = &config.content.kernel_modules;
    if now.modules != before.modules || !patterns.is_empty() {
        for version in versions(&tree) {
            keep_modules(&mut tree, &version, patterns)?;
            modules::run_depmod(&mut tree, &version)?;
        }
    }
    let tool = ["usr/bin/systemd-hwdb", "usr/sbin/systemd-hwdb"]
        .iter()
        .any(|path| tree.lookup(&TreePath::literal(path)).is_some());
    if now.hwdb != before.hwdb && tool {
        let update = Command::new("systemd-hwdb").args(["--usr", "--strict", "update"]);
        tree = scripts.run_in_image(tree, update, context)?;
        if tree.contains(&TreePath::literal(HWDB_BIN[0])) {
            tree.remove(&TreePath::literal(HWDB_BIN[1]));
        }
    }
    Ok(tree)
}

/// The kernels that have modules.
fn versions(tree: &Tree) -> Vec<String> {
    let dir = TreePath::literal(MODULES);
    let dirs = tree.children(&dir).filter(|(_, node)| node.is_dir());
    dirs.map(|(path, _)| String::from_utf8_lossy(path.name()).into_owned()).collect()
}

fn keep_modules(tree: &mut Tree, version: &str, patterns: &[String]) -> Result<(), BuildError> {
    if patterns.is_empty() {
        return Ok(());
    }
    let selection = Selection::parse(patterns)
        .map_err(|e| BuildError::Image(format!("KernelModules=: {e}")))?;
    let set = modules::scan(tree, version)?;
    let chosen = select::select(&set, &selection)?;
    select::prune(tree, &set, &chosen)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_indexed_counts() {
        let mut tree = Tree::new();
        let write = |tree: &mut Tree, path: &'static str| {
            tree.write(&TreePath::literal(path), 0o644, *b"x").unwrap();
        };
        write(&mut tree, "usr/lib/modules/6.1/kernel/a.ko.xz");
        let before = State::of(&tree);
        write(&mut tree, "usr/lib/modules/6.1/modules.dep");
        write(&mut tree, "etc/udev/hwdb.d/README");
        assert_eq!(State::of(&tree), before);
        write(&mut tree, "etc/udev/hwdb.d/70-mouse.hwdb");
        let hwdb = State::of(&tree);
        assert!(hwdb.hwdb != before.hwdb && hwdb.modules == before.modules);
        write(&mut tree, "usr/lib/modules/6.1/updates/b.ko");
        assert_ne!(State::of(&tree).modules, before.modules);
        assert_eq!(versions(&tree), ["6.1"]);
    }
}
