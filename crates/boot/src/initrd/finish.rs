//! The edits that make a tree of packages an initrd.

use std::collections::BTreeSet;

use tree::{Content, Kind, Meta, Node, Tree, TreePath};

use super::{InitrdError, recipe};
use crate::glob::Glob;

const SYSTEMD: &str = "usr/lib/systemd/systemd";

/// Adds the recipe's files. Call it before presets are applied.
pub fn prepare(tree: &mut Tree) -> Result<(), InitrdError> {
    for (path, text) in recipe::FILES {
        tree.write(&TreePath::literal(path), 0o644, text.as_bytes())?;
    }
    Ok(())
}

/// How much to remove; see [`recipe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Only what booting needs.
    Needed,
    /// What mkosi keeps: for initrds with packages of the project's own.
    Packages,
}

/// Removes what an initrd does not need and adds what makes it one. Call it
/// last. Returns how many paths were removed.
pub fn finish(tree: &mut Tree, keep: Keep) -> Result<usize, InitrdError> {
    let mut removed = remove(tree, recipe::REMOVE);
    if keep == Keep::Needed {
        removed += remove(tree, recipe::REMOVE_UNUSED);
        removed += remove_dangling(tree);
    }
    make_initrd(tree)?;
    Ok(removed)
}

/// mkosi's `MakeInitrd=`: `/init` and `/etc/initrd-release`, from which systemd
/// knows that it is in an initrd; and no machine ID.
pub fn make_initrd(tree: &mut Tree) -> Result<(), InitrdError> {
    let systemd = TreePath::literal(SYSTEMD);
    if tree.lookup(&systemd).is_none_or(|node| node.content().is_none()) {
        return Err(InitrdError::NoSystemd(systemd));
    }
    let link = |target: &str| Node {
        meta: Meta::symlink(),
        kind: Kind::Symlink(target.as_bytes().into()),
    };
    let init = TreePath::literal("init");
    if !tree.contains(&init) {
        tree.put(init, link("/usr/lib/systemd/systemd"))?;
    }
    let etc = tree.make_dirs(&TreePath::literal("etc"))?;
    let release = etc.join("initrd-release").map_err(tree::TreeError::from)?;
    if !tree.contains(&release) {
        tree.put(release, link("/etc/os-release"))?;
    }
    let machine_id = etc.join("machine-id").map_err(tree::TreeError::from)?;
    let content = Content::inline(*b"uninitialized\n");
    tree.put(machine_id, Node { meta: Meta::file(0o444), kind: Kind::File(content) })?;
    for mount_point in ["dev", "proc", "run", "sys", "sysroot", "tmp"] {
        tree.make_dirs(&TreePath::literal(mount_point))?;
    }
    Ok(())
}

/// Removes everything that one of the patterns names. Returns how many paths.
pub fn remove(tree: &mut Tree, patterns: &[&str]) -> usize {
    let mut gone = 0;
    for pattern in patterns {
        let globs: Vec<Glob> = pattern.split('/').filter_map(Glob::parse).collect();
        let mut at = vec![TreePath::root()];
        for glob in &globs {
            let children = at.iter().flat_map(|dir| tree.children(dir).map(|(p, _)| p.clone()));
            at = children.filter(|p| glob.matches(p.name())).collect();
        }
        gone += at.iter().map(|path| tree.remove(path)).sum::<usize>();
    }
    gone
}

/// Removes links into what was removed: those whose target is gone but would
/// lie in a directory for programs, libraries or units.
fn remove_dangling(tree: &mut Tree) -> usize {
    let places = ["usr/bin", "usr/sbin", "usr/lib", "etc/systemd"].map(TreePath::literal);
    let dangling = |tree: &Tree, path: &TreePath| {
        tree.resolve(path)
            .is_ok_and(|real| places.iter().any(|p| real.starts_with(p)) && !tree.contains(&real))
    };
    let found: BTreeSet<TreePath> = places
        .iter()
        .flat_map(|place| tree.subtree(place))
        .filter(|(path, _, node)| matches!(node.kind, Kind::Symlink(_)) && dangling(tree, path))
        .map(|(path, _, _)| path.clone())
        .collect();
    found.iter().map(|path| tree.remove(path)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(s: &'static str) -> TreePath {
        TreePath::literal(s)
    }

    fn base() -> Tree {
        let mut t = Tree::new();
        for file in [
            SYSTEMD,
            "etc/os-release",
            "etc/services",
            "usr/bin/perl5.40",
            "usr/bin/bash",
            "usr/share/doc/bash/copyright",
            "usr/share/locale/de/x.mo",
            "var/log/dpkg.log",
            "usr/lib/x86_64-linux-gnu/gconv/BIG5.so",
            "var/lib/dpkg/status",
        ] {
            t.write(&p(file), 0o644, *b"x").unwrap();
        }
        t.add_symlink(p("usr/bin/perl"), "perl5.40").unwrap();
        t.add_symlink(p("usr/bin/awk"), "/etc/alternatives/awk").unwrap();
        t.add_symlink(p("usr/bin/deb-tool"), "dpkg-tool").unwrap();
        t
    }

    #[test]
    fn an_initrd_has_init_and_release_and_no_identity() {
        let mut t = base();
        t.write(&p("etc/machine-id"), 0o644, *b"0123456789abcdef0123456789abcdef\n").unwrap();
        prepare(&mut t).unwrap();
        finish(&mut t, Keep::Needed).unwrap();
        assert_eq!(t.resolve(&p("init")).unwrap(), p(SYSTEMD));
        assert_eq!(t.resolve(&p("etc/initrd-release")).unwrap(), p("etc/os-release"));
        assert_eq!(t.read(&p("etc/machine-id"), 99).unwrap().unwrap(), b"uninitialized\n");
        for gone in [
            "etc/services",
            "usr/bin/perl",
            "usr/bin/perl5.40",
            "usr/share/doc",
            "usr/lib/x86_64-linux-gnu/gconv",
            "usr/bin/deb-tool",
            "var/lib/dpkg",
        ] {
            assert!(!t.contains(&p(gone)), "{gone}");
        }
        for stays in ["usr/bin/bash", "usr/share/locale", "var/log", "usr/lib/x86_64-linux-gnu"] {
            assert!(t.contains(&p(stays)), "{stays}");
        }
    }

    #[test]
    fn with_packages_of_its_own_more_is_kept() {
        let mut t = base();
        finish(&mut t, Keep::Packages).unwrap();
        assert!(t.contains(&p("usr/bin/perl5.40")) && !t.contains(&p("var/lib/dpkg")));
    }

    #[test]
    fn without_systemd_there_is_no_initrd() {
        assert!(matches!(finish(&mut Tree::new(), Keep::Needed), Err(InitrdError::NoSystemd(_))));
    }
}
