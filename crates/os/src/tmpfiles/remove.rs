//! The removing phase: `r`, `R` and the content of `D`.

use tree::{Kind, Tree, TreePath};

use super::line::{Item, Type};
use super::make::{Failure, Maker};
use super::{Declarations, pattern, place};
use crate::OsError;

impl Maker<'_> {
    /// Removes what a line says; lines of other types remove nothing.
    pub fn remove(&mut self, item: &Item, all: &Declarations) -> Result<(), OsError> {
        let done = match item.ty {
            Type::Remove | Type::RemoveRecursive => self.remove_matches(item, all),
            Type::DirectoryEmptied => self.empty(item, all),
            _ => return Ok(()),
        };
        self.settle(item, done)
    }

    fn remove_matches(&mut self, item: &Item, all: &Declarations) -> Result<(), Failure> {
        for found in pattern::glob(self.tree, &item.path)? {
            // Something above it may be gone by now.
            let Ok(at) = self.tree.resolve_parent(&found) else { continue };
            let Some(node) = self.tree.get(&at).filter(|_| !at.is_root()) else { continue };
            match item.ty {
                Type::RemoveRecursive if node.is_dir() => {
                    clean(self.tree, &at, all);
                    remove_if_empty(self.tree, &at);
                }
                _ if self.tree.children(&at).next().is_some() => {
                    self.fail(item, format!("{at} is not empty"));
                }
                _ => {
                    self.tree.remove(&at);
                }
            }
        }
        Ok(())
    }

    fn empty(&mut self, item: &Item, all: &Declarations) -> Result<(), Failure> {
        let at = self.tree.resolve_parent(&place::path(&item.path)?);
        let at = at.map_err(tree::TreeError::from)?;
        if self.tree.get(&at).is_some_and(|node| node.is_dir()) {
            clean(self.tree, &at, all);
        }
        Ok(())
    }
}

fn remove_if_empty(tree: &mut Tree, at: &TreePath) {
    if tree.children(at).next().is_none() {
        tree.remove(at);
    }
}

/// Removes what is in a directory but what has a line of its own, and devices.
fn clean(tree: &mut Tree, dir: &TreePath, all: &Declarations) {
    let below: Vec<TreePath> = tree.subtree(dir).map(|(path, _, _)| path.clone()).collect();
    let mut kept: Option<TreePath> = None;
    let mut directories = Vec::new();
    for path in below.into_iter().filter(|path| path != dir) {
        if kept.as_ref().is_some_and(|k| path.starts_with(k)) {
            continue;
        }
        if all.is_about(&path) {
            kept = Some(path);
            continue;
        }
        let node = tree.get(&path).expect("taken from the tree");
        match node.kind {
            Kind::Dir => directories.push(path),
            Kind::CharDev(_) | Kind::BlockDev(_) => {}
            // The sticky bit of a file says that it is to stay.
            _ if node.meta.mode & 0o1000 != 0 => {}
            _ => {
                tree.remove(&path);
            }
        }
    }
    directories.iter().rev().for_each(|path| remove_if_empty(tree, path));
}
