//! Trees of the project laid over the image: `SkeletonTrees=`, `ExtraTrees=`,
//! `BaseTrees=`.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use config::config::TreeSource;
use store::Store;
use tree::dir::{Options, Owners};
use tree::{Blob, Content, Kind, Meta, Mtime, Node, Tree, TreePath};

use crate::error::BuildError;
use crate::outputs::io_error;
use crate::{archive, contents};

/// Reads a tree of the project: a directory is owned by root and dated `epoch`, for a
/// checkout says nothing about either; an archive says both.
fn read(source: &Path, store: &Store, epoch: Mtime) -> Result<Tree, BuildError> {
    match kind_of(source)? {
        Source::Dir => {
            let options = Options { owners: Owners::Root, mtime: Some(epoch), xattrs: true };
            Ok(tree::dir::read(source, &options)?)
        }
        Source::Tar => archive::read_tar(source, store),
        Source::Image => contents::root(source),
    }
}

/// Reads a base tree, into the store: with owners and times, as an image builder made
/// it.
pub fn read_base(source: &Path, store: &Store) -> Result<Tree, BuildError> {
    let mut tree = match kind_of(source)? {
        Source::Dir => {
            let options = Options { owners: Owners::Preserve, mtime: None, xattrs: true };
            tree::dir::read(source, &options)?
        }
        Source::Tar => archive::read_tar(source, store)?,
        Source::Image => contents::root(source)?,
    };
    archive::import(&mut tree, store)?;
    Ok(tree)
}

/// What the image starts from: `BaseTrees=` one over the other; nothing without them.
pub fn base(sources: &[PathBuf], store: &Store) -> Result<Option<Tree>, BuildError> {
    let mut base: Option<Tree> = None;
    for source in sources {
        let next = read_base(source, store)?;
        match &mut base {
            None => base = Some(next),
            Some(base) => apply(base, &next, &TreePath::root(), &mut BTreeSet::new())?,
        }
    }
    Ok(base)
}

enum Source {
    Dir,
    Tar,
    Image,
}

fn kind_of(source: &Path) -> Result<Source, BuildError> {
    let meta = std::fs::metadata(source).map_err(io_error("read", source))?;
    match meta.is_dir() {
        true => Ok(Source::Dir),
        false if archive::is_tar(source) => Ok(Source::Tar),
        false if archive::is_image(source) => Ok(Source::Image),
        false => Err(BuildError::Unsupported {
            what: format!("{}: a tree of that kind", source.display()),
            hint: Some("use a directory, a .tar (.gz, .xz, .zst) or a .raw disk image"),
        }),
    }
}

/// Lays the trees over `tree`, in order, with contents in the store. Returns every path
/// that came from them.
pub fn apply_all(
    tree: &mut Tree,
    sources: &[TreeSource],
    store: &Store,
    epoch: Mtime,
) -> Result<BTreeSet<TreePath>, BuildError> {
    let mut touched = BTreeSet::new();
    for source in sources {
        touched.extend(apply_one(tree, source, store, epoch)?);
    }
    archive::import(tree, store)?;
    Ok(touched)
}

/// Lays a tree over `tree`. Returns every path that came from it.
pub fn apply_one(
    tree: &mut Tree,
    source: &TreeSource,
    store: &Store,
    epoch: Mtime,
) -> Result<BTreeSet<TreePath>, BuildError> {
    let mut touched = BTreeSet::new();
    let (path, target) = (&source.source, &source.target);
    let place = match target {
        Some(path) => TreePath::new(path.as_os_str().as_encoded_bytes())?,
        None => TreePath::root(),
    };
    let has_tree = archive::is_tar(path) || archive::is_image(path);
    // As for mkosi, what has a target is copied, whatever it is.
    if path.is_file() && (target.is_some() || !has_tree) {
        add_file(tree, path, &place, epoch, &mut touched)?;
    } else {
        apply(tree, &read(path, store, epoch)?, &place, &mut touched)?;
    }
    Ok(touched)
}

/// A single file: copied to its target, or into the root by its own name.
fn add_file(
    tree: &mut Tree,
    file: &Path,
    target: &TreePath,
    epoch: Mtime,
    touched: &mut BTreeSet<TreePath>,
) -> Result<(), BuildError> {
    let meta = std::fs::metadata(file).map_err(io_error("read", file))?;
    let own = TreePath::new(file.file_name().unwrap_or_default().as_encoded_bytes())?;
    let mut path = tree.resolve(target).map_err(tree::TreeError::from)?;
    if target.is_root() || tree.get(&path).is_some_and(Node::is_dir) {
        path = path.join(own.as_bytes())?;
    }
    if let Some(parent) = path.parent() {
        tree.make_dirs(&parent)?;
    }
    let xattrs = tree::dir::read_xattrs(file)?;
    let mode = (meta.permissions().mode() & 0o7777) as u16;
    let meta_of = Meta { xattrs, ..Meta::file(mode).at(epoch) };
    let kind = Kind::File(Content::range(Blob::at_path(file), 0, meta.len()));
    touched.insert(path.clone());
    Ok(tree.put(path, Node { meta: meta_of, kind })?)
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
        let touched = lay(&mut t, dir.path(), None).unwrap();
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
        lay(&mut t, dir.path(), None).unwrap();
        assert!(t.contains(&p("outside/file")), "confined to the tree");
    }

    #[test]
    fn a_file_goes_to_its_target_or_into_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("motd");
        std::fs::write(&file, b"hello").unwrap();
        let mut t = Tree::new();
        t.make_dirs(&p("srv/dir")).unwrap();
        for target in [None, Some("/etc/issue"), Some("/srv/dir")] {
            lay(&mut t, &file, target).unwrap();
        }
        for path in ["motd", "etc/issue", "srv/dir/motd"] {
            assert_eq!(t.read(&p(path), 9).unwrap().unwrap(), b"hello", "{path}");
        }
        assert!(lay(&mut t, &dir.path().join("none"), None).is_err());
    }

    #[test]
    fn an_archive_without_target_is_unpacked_with_one_it_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let mut inside = Tree::new();
        inside.write(&p("etc/own"), 0o640, *b"x").unwrap();
        inside.get_mut(&p("etc/own")).unwrap().meta.gid = 42;
        let file = dir.path().join("x.tar");
        let mut bytes = Vec::new();
        tree::tar::write(&inside, &mut bytes).unwrap();
        std::fs::write(&file, bytes).unwrap();
        let mut t = Tree::new();
        lay(&mut t, &file, None).unwrap();
        assert_eq!(t.get(&p("etc/own")).unwrap().meta.gid, 42);
        lay(&mut t, &file, Some("/srv/x.tar")).unwrap();
        assert!(t.get(&p("srv/x.tar")).unwrap().content().is_some());
        let base = base(&[file, dir.path().join("x.zip")], &store(dir.path()));
        assert!(base.is_err(), "an unknown kind is refused");
    }

    fn store(dir: &Path) -> Store {
        Store::open(&dir.join(".store")).unwrap()
    }

    fn lay(
        tree: &mut Tree,
        from: &Path,
        at: Option<&str>,
    ) -> Result<BTreeSet<TreePath>, BuildError> {
        let cache = tempfile::tempdir().unwrap();
        let source = TreeSource { source: from.to_owned(), target: at.map(PathBuf::from) };
        let touched = apply_one(tree, &source, &store(cache.path()), Mtime::secs(3))?;
        // Before the store goes.
        for path in tree.iter().map(|(path, _, _)| path.clone()).collect::<Vec<_>>() {
            if let Some(node) = tree.get_mut(&path)
                && let Kind::File(content) = &node.kind
            {
                node.kind = Kind::File(Content::inline(content.read(1 << 20).unwrap()));
            }
        }
        Ok(touched)
    }
}
