//! What systemd makes in a root file system that it switches to: the top directories and
//! the links into `/usr`. What is there, also a dangling link, stays.
//!
//! Source: base-filesystem of systemd, as `shared/spec/populate.md` (E) states it.

use tree::{Kind, Meta, Mtime, Node, Tree, TreeError, TreePath};

/// In this order. The mode of a directory, or the targets of a link: the first that is there.
const ENTRIES: [(&str, Entry); 12] = [
    ("bin", Entry::Link("usr/bin")),
    ("lib", Entry::Link("usr/lib")),
    ("root", Entry::Directory(0o750)),
    ("sbin", Entry::Link("usr/sbin")),
    ("usr", Entry::Directory(0o755)),
    ("var", Entry::Directory(0o755)),
    ("etc", Entry::Directory(0o755)),
    ("proc", Entry::Directory(0o555)),
    ("sys", Entry::Directory(0o555)),
    ("dev", Entry::Directory(0o555)),
    ("run", Entry::Directory(0o555)),
    ("lib64", Entry::Loader),
];

/// The dynamic loaders that are found through `/lib64`.
const LOADERS: [&str; 3] = ["ld-linux-x86-64.so.2", "ld-linux-loongarch-lp64d.so.1", "ld64.so.2"];

enum Entry {
    Directory(u16),
    Link(&'static str),
    /// To where the loader of the image's architecture is.
    Loader,
}

/// Makes what is missing.
pub fn apply(tree: &mut Tree, now: Mtime) -> Result<(), TreeError> {
    for (name, entry) in ENTRIES {
        let path = TreePath::literal(name);
        if tree.contains(&path) {
            continue;
        }
        let target = match entry {
            Entry::Directory(mode) => {
                tree.add(path, Node { meta: Meta::new(mode).at(now), kind: Kind::Dir })?;
                continue;
            }
            Entry::Link(target) => tree.contains(&TreePath::literal(target)).then_some(target),
            Entry::Loader => ["usr/lib64", "usr/lib"].into_iter().find(|dir| {
                LOADERS.iter().any(|loader| {
                    let path = TreePath::new(format!("{dir}/{loader}"));
                    path.is_ok_and(|path| tree.contains(&path))
                })
            }),
        };
        if let Some(target) = target {
            let kind = Kind::Symlink(target.as_bytes().into());
            tree.add(path, Node { meta: Meta::symlink().at(now), kind })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_what_is_missing_and_leaves_what_is_there() {
        let mut t = Tree::new();
        for dir in ["usr/bin", "usr/lib64", "usr/lib"] {
            t.make_dirs(&TreePath::new(dir).unwrap()).unwrap();
        }
        t.write(&TreePath::literal("usr/lib64/ld-linux-x86-64.so.2"), 0o755, *b"").unwrap();
        t.add_symlink(TreePath::literal("etc"), "nowhere").unwrap();
        apply(&mut t, Mtime::secs(1)).unwrap();
        let link = |name| match &t.get(&TreePath::literal(name)).unwrap().kind {
            Kind::Symlink(target) => String::from_utf8_lossy(target).into_owned(),
            other => format!("{:?}", other.name()),
        };
        assert_eq!(
            ["bin", "lib", "lib64", "etc"].map(link),
            ["usr/bin", "usr/lib", "usr/lib64", "nowhere"]
        );
        let mode = |name| t.get(&TreePath::literal(name)).unwrap().meta.mode;
        assert_eq!(["root", "var", "proc", "run"].map(mode), [0o750, 0o755, 0o555, 0o555]);
        assert!(!t.contains(&TreePath::literal("sbin")), "there is no usr/sbin");
    }
}
