//! Trees of the project laid over the image: `SkeletonTrees=`, `ExtraTrees=`,
//! `BaseTrees=`.

use std::collections::BTreeSet;
use std::path::Path;

use config::config::TreeSource;
use tree::dir::{Options, Owners};
use tree::{Mtime, Node, Tree, TreePath};

use crate::error::BuildError;

/// Reads a tree of the project: owned by root, dated `epoch`, for a checkout says
/// nothing about either. Archives are not supported yet and refused.
pub fn read(source: &Path, epoch: Mtime) -> Result<Tree, BuildError> {
    let options = Options { owners: Owners::Root, mtime: Some(epoch), xattrs: true };
    if source.is_dir() {
        return Ok(tree::dir::read(source, &options)?);
    }
    Err(BuildError::Unsupported {
        what: format!("{}: a tree that is not a directory", source.display()),
        hint: Some("unpack it into a directory"),
    })
}

/// Reads a base tree: with owners and times, as an image builder made it.
pub fn read_base(source: &Path) -> Result<Tree, BuildError> {
    let options = Options { owners: Owners::Preserve, mtime: None, xattrs: true };
    if source.is_dir() {
        return Ok(tree::dir::read(source, &options)?);
    }
    Err(BuildError::Unsupported {
        what: format!("{}: a base tree that is not a directory", source.display()),
        hint: Some("unpack it into a directory"),
    })
}

/// Lays the trees over `tree`, in order. Returns every path that came from them.
pub fn apply_all(
    tree: &mut Tree,
    sources: &[TreeSource],
    epoch: Mtime,
) -> Result<BTreeSet<TreePath>, BuildError> {
    let mut touched = BTreeSet::new();
    for source in sources {
        let target = match &source.target {
            Some(path) => TreePath::new(path.as_os_str().as_encoded_bytes())?,
            None => TreePath::root(),
        };
        if source.source.is_file() {
            add_file(tree, &source.source, &target, epoch, &mut touched)?;
        } else {
            apply(tree, &read(&source.source, epoch)?, &target, &mut touched)?;
        }
    }
    Ok(touched)
}

/// A single file as a tree source: copied to its target.
fn add_file(
    tree: &mut Tree,
    file: &Path,
    target: &TreePath,
    epoch: Mtime,
    touched: &mut BTreeSet<TreePath>,
) -> Result<(), BuildError> {
    let archive = [".tar", ".cpio", ".zip", ".raw"]
        .iter()
        .any(|s| file.file_name().is_some_and(|n| n.to_string_lossy().contains(s)));
    if archive || target.is_root() {
        return Err(BuildError::Unsupported {
            what: format!("{}: a tree that is not a directory", file.display()),
            hint: Some("unpack it into a directory, or give the file a target"),
        });
    }
    let parent = file.parent().unwrap_or(Path::new("."));
    let options = Options { owners: Owners::Root, mtime: Some(epoch), xattrs: true };
    let all = tree::dir::read(parent, &options)?;
    let name = TreePath::new(file.file_name().unwrap_or_default().as_encoded_bytes())?;
    let node = all.get(&name).cloned().ok_or(tree::TreeError::NotFound(name))?;
    let path = tree.resolve(target).map_err(tree::TreeError::from)?;
    if let Some(parent) = path.parent() {
        tree.make_dirs(&parent)?;
    }
    touched.insert(path.clone());
    Ok(tree.put(path, node)?)
}

/// Lays `over` over `tree` at `target`, as `cp --recursive` does: directories
/// merge, also through links to directories; everything else replaces what is
/// there. A directory that exists keeps its mode and owner only at the target
/// itself.
pub fn apply(
    tree: &mut Tree,
    over: &Tree,
    target: &TreePath,
    touched: &mut BTreeSet<TreePath>,
) -> Result<(), BuildError> {
    let base = tree.make_dirs(target)?;
    let mut first = std::collections::HashMap::new();
    for (path, id, node) in over.iter().filter(|(path, _, _)| !path.is_root()) {
        let wanted = base.join(path.as_bytes())?;
        let place = match node.is_dir() {
            true => directory_place(tree, &wanted)?,
            false => tree.resolve_parent(&wanted).map_err(tree::TreeError::from)?,
        };
        touched.insert(place.clone());
        match first.get(&id) {
            Some(first) => {
                tree.remove(&place);
                tree.add_link(place, first)?;
            }
            None => {
                put(tree, &place, node)?;
                first.insert(id, place);
            }
        }
    }
    Ok(())
}

/// A directory merges into what a link of its name leads to.
fn directory_place(tree: &Tree, wanted: &TreePath) -> Result<TreePath, BuildError> {
    let resolved = tree.resolve(wanted).map_err(tree::TreeError::from)?;
    Ok(match tree.get(&resolved) {
        Some(node) if node.is_dir() => resolved,
        _ => tree.resolve_parent(wanted).map_err(tree::TreeError::from)?,
    })
}

fn put(tree: &mut Tree, place: &TreePath, node: &Node) -> Result<(), BuildError> {
    Ok(tree.put(place.clone(), node.clone())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tree::Kind;

    fn p(s: &'static str) -> TreePath {
        TreePath::literal(s)
    }

    #[test]
    fn merges_through_usr_merge_links_and_replaces_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("lib/systemd")).unwrap();
        std::fs::write(at("lib/systemd/x"), b"new").unwrap();
        std::fs::set_permissions(at("lib/systemd/x"), PermissionsExt::from_mode(0o600)).unwrap();
        symlink("../run/x", at("resolv")).unwrap();

        let mut t = Tree::new();
        t.write(&p("usr/lib/systemd/x"), 0o644, *b"old").unwrap();
        t.add_symlink(p("lib"), "usr/lib").unwrap();
        t.write(&p("resolv"), 0o644, *b"file").unwrap();
        let source = TreeSource { source: dir.path().to_owned(), target: None };
        let touched = apply_all(&mut t, &[source], Mtime::secs(3)).unwrap();
        let x = t.get(&p("usr/lib/systemd/x")).unwrap();
        assert_eq!(x.content().unwrap().read(9).unwrap(), b"new");
        assert_eq!((x.meta.mode, x.meta.mtime), (0o600, Mtime::secs(3)));
        assert!(matches!(t.get(&p("lib")).unwrap().kind, Kind::Symlink(_)));
        assert!(matches!(t.get(&p("resolv")).unwrap().kind, Kind::Symlink(_)));
        assert!(touched.contains(&p("usr/lib/systemd/x")) && touched.contains(&p("resolv")));
    }

    #[test]
    fn a_link_in_the_image_does_not_lead_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        std::fs::write(dir.path().join("out/file"), b"x").unwrap();
        let mut t = Tree::new();
        t.add_symlink(p("out"), "../../../outside").unwrap();
        t.make_dirs(&p("outside")).unwrap();
        let source = TreeSource { source: dir.path().to_owned(), target: None };
        apply_all(&mut t, &[source], Mtime::secs(3)).unwrap();
        assert!(t.contains(&p("outside/file")), "confined to the tree");
    }

    #[test]
    fn an_archive_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.tar");
        std::fs::write(&file, b"").unwrap();
        let source = TreeSource { source: file, target: None };
        let error = apply_all(&mut Tree::new(), &[source], Mtime::secs(3)).unwrap_err();
        assert!(error.to_string().contains("x.tar"), "{error}");
    }
}
