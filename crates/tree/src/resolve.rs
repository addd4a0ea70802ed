//! Following symbolic links inside a Tree, never out of it.

use crate::{Kind, PathError, Tree, TreePath};

/// As many links as Linux follows before it says `ELOOP`.
const MAX_LINKS: usize = 40;

/// Why a path does not resolve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Too many symbolic links: a loop.
    #[error("{0}: too many levels of symbolic links")]
    Loop(TreePath),
    /// A component that is not the last is neither a directory nor a link to one.
    #[error("{0}: not a directory")]
    NotADirectory(TreePath),
    /// A link's target is not a path (too long, NUL).
    #[error(transparent)]
    Path(#[from] PathError),
}

impl Tree {
    /// Where `path` really is: every symbolic link followed, also the last.
    /// Absolute links and `..` are taken relative to the tree's root, as after a
    /// chroot. What does not exist resolves to where it would be made.
    pub fn resolve(&self, path: &TreePath) -> Result<TreePath, ResolveError> {
        self.walk(path, true)
    }

    /// Like [`Tree::resolve`], but the last component is not followed: where an
    /// `lstat`, `unlink` or `rename` of `path` would act.
    pub fn resolve_parent(&self, path: &TreePath) -> Result<TreePath, ResolveError> {
        self.walk(path, false)
    }

    fn walk(&self, path: &TreePath, follow_last: bool) -> Result<TreePath, ResolveError> {
        let mut pending: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
        let mut at = TreePath::root();
        let mut links = 0;
        while let Some(component) = pending.pop() {
            if component == b".." {
                at = at.parent().unwrap_or(at);
                continue;
            }
            let next = at.join(&component)?;
            match self.get(&next).map(|n| &n.kind) {
                Some(Kind::Symlink(target)) if follow_last || !pending.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(ResolveError::Loop(path.clone()));
                    }
                    if target.first() == Some(&b'/') {
                        at = TreePath::root();
                    }
                    let parts = target.split(|b| *b == b'/').rev();
                    let parts = parts.filter(|c| !c.is_empty() && *c != b".");
                    pending.extend(parts.map(<[u8]>::to_vec));
                }
                Some(Kind::Dir) | None => at = next,
                Some(_) if pending.is_empty() => at = next,
                Some(_) => return Err(ResolveError::NotADirectory(next)),
            }
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, Meta};

    fn p(s: &'static str) -> TreePath {
        TreePath::literal(s)
    }

    fn tree() -> Tree {
        let mut t = Tree::new();
        for dir in ["usr/bin", "etc/deep"] {
            t.make_dirs(&p(dir)).unwrap();
        }
        t.add_file(p("usr/bin/sh"), Meta::file(0o755), Content::empty()).unwrap();
        t.add_symlink(p("bin"), "usr/bin").unwrap();
        t.add_symlink(p("etc/deep/up"), "../../../../../bin/sh").unwrap();
        t.add_symlink(p("abs"), "/etc/./deep").unwrap();
        t.add_symlink(p("loop"), "loop2").unwrap();
        t.add_symlink(p("loop2"), "loop").unwrap();
        t
    }

    #[test]
    fn follows_links_and_stays_inside() {
        let t = tree();
        assert_eq!(t.resolve(&p("bin/sh")).unwrap(), p("usr/bin/sh"));
        assert_eq!(t.resolve(&p("abs/up")).unwrap(), p("usr/bin/sh"));
        assert_eq!(t.resolve(&p("bin")).unwrap(), p("usr/bin"));
        assert_eq!(t.resolve_parent(&p("bin")).unwrap(), p("bin"));
        assert_eq!(t.resolve_parent(&p("abs/new")).unwrap(), p("etc/deep/new"));
        assert_eq!(t.resolve(&p("no/such")).unwrap(), p("no/such"));
    }

    #[test]
    fn loops_and_files_in_the_way_are_errors() {
        let t = tree();
        assert!(matches!(t.resolve(&p("loop")), Err(ResolveError::Loop(_))));
        assert!(matches!(t.resolve(&p("bin/sh/x")), Err(ResolveError::NotADirectory(_))));
    }
}
