//! Paths inside a Tree: relative to its root, normal, made of bytes.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The longest path Linux takes in one call (`PATH_MAX`, with its NUL).
const PATH_MAX: usize = 4096;
/// The longest name of a directory entry on every file system we write.
const NAME_MAX: usize = 255;

/// A path in a [`Tree`](crate::Tree): no leading, trailing or double slash, no
/// `.` or `..`, no NUL. The root is the empty path. Bytes, not text: Linux file
/// names need not be UTF-8.
///
/// The order is component by component, so a directory sorts directly before
/// everything below it, and a subtree is one range.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TreePath(Box<[u8]>);

/// Why bytes are not a [`TreePath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It has a `..` component, which could lead out of the root.
    #[error("path {0:?} contains '..'")]
    DotDot(String),
    /// It has a NUL byte.
    #[error("path {0:?} contains a NUL byte")]
    Nul(String),
    /// It, or one of its components, is longer than Linux takes.
    #[error("path {0:?} is too long")]
    TooLong(String),
}

impl TreePath {
    /// The root itself.
    pub fn root() -> Self {
        TreePath(Box::default())
    }

    /// Takes `usr/bin`, `/usr/bin`, `./usr//bin/` alike; refuses `..`.
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let bytes = path.as_ref();
        let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        if bytes.contains(&0) {
            return Err(PathError::Nul(shown()));
        }
        let mut normal = Vec::with_capacity(bytes.len());
        for part in bytes.split(|b| *b == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err(PathError::DotDot(shown())),
                _ if part.len() > NAME_MAX => return Err(PathError::TooLong(shown())),
                _ => {}
            }
            if !normal.is_empty() {
                normal.push(b'/');
            }
            normal.extend_from_slice(part);
        }
        if normal.len() >= PATH_MAX {
            return Err(PathError::TooLong(shown()));
        }
        Ok(TreePath(normal.into()))
    }

    /// A path known to be good at compile time. Panics on a bad one, so use it
    /// with literals only.
    pub fn literal(path: &'static str) -> Self {
        Self::new(path).expect("a literal path is normal")
    }

    /// The bytes, without a leading slash; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True for the root directory.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().unwrap_or_default()
    }

    /// The directory that holds it; `None` for the root.
    pub fn parent(&self) -> Option<TreePath> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(TreePath(self.0[..end].into()))
    }

    /// `self` with one more component, or several.
    pub fn join(&self, below: impl AsRef<[u8]>) -> Result<TreePath, PathError> {
        let mut bytes = self.0.to_vec();
        bytes.push(b'/');
        bytes.extend_from_slice(below.as_ref());
        TreePath::new(bytes)
    }

    /// The components, from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|c| !c.is_empty())
    }

    /// The proper ancestors, from the root down.
    pub fn ancestors(&self) -> impl Iterator<Item = TreePath> + '_ {
        let root = (!self.is_root()).then(TreePath::root);
        let cuts = self.0.iter().enumerate().filter(|(_, b)| **b == b'/');
        root.into_iter().chain(cuts.map(|(i, _)| TreePath(self.0[..i].into())))
    }

    /// True if `self` is `dir` or lies below it.
    pub fn starts_with(&self, dir: &TreePath) -> bool {
        dir.is_root()
            || self.0.strip_prefix(&*dir.0).is_some_and(|r| r.first().is_none_or(|b| *b == b'/'))
    }

    /// `self` relative to `dir`; `None` if it is not below it.
    pub fn strip_prefix(&self, dir: &TreePath) -> Option<TreePath> {
        if !self.starts_with(dir) {
            return None;
        }
        let rest = &self.0[dir.0.len()..];
        Some(TreePath(rest.strip_prefix(b"/").unwrap_or(rest).into()))
    }

    /// Where it lies if the tree is laid out at `dir`.
    pub fn below(&self, dir: &Path) -> PathBuf {
        if self.is_root() { dir.to_owned() } else { dir.join(OsStr::from_bytes(&self.0)) }
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        // A slash sorts before every byte that a name can have, which makes the
        // order that of the component lists without splitting anything.
        let rank = |b: &u8| if *b == b'/' { 0u8 } else { *b };
        self.0.iter().map(rank).cmp(other.0.iter().map(rank))
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for TreePath {
    /// With a leading slash, for messages; bytes that are not UTF-8 replaced.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_and_refuses() {
        for same in ["usr/bin", "/usr/bin", "./usr//bin/", "usr/./bin"] {
            assert_eq!(TreePath::new(same).unwrap(), TreePath::literal("usr/bin"));
        }
        assert!(TreePath::new("/").unwrap().is_root());
        assert!(matches!(TreePath::new("a/../b"), Err(PathError::DotDot(_))));
        assert!(matches!(TreePath::new("a\0b"), Err(PathError::Nul(_))));
        assert!(matches!(TreePath::new("x".repeat(256)), Err(PathError::TooLong(_))));
        assert!(matches!(TreePath::new("x/".repeat(2100)), Err(PathError::TooLong(_))));
    }

    #[test]
    fn a_directory_sorts_directly_before_what_it_holds() {
        let mut paths = ["a-b", "a/z", "a", "", "a.d/x", "a/b/c"].map(TreePath::literal);
        paths.sort();
        let shown: Vec<_> = paths.iter().map(|p| p.to_string()).collect();
        assert_eq!(shown, ["/", "/a", "/a/b/c", "/a/z", "/a-b", "/a.d/x"]);
    }

    #[test]
    fn relations() {
        let p = TreePath::literal("usr/lib/x");
        assert_eq!(p.parent().unwrap(), TreePath::literal("usr/lib"));
        assert_eq!(p.name(), b"x");
        assert_eq!(p.ancestors().count(), 3);
        assert!(p.starts_with(&TreePath::literal("usr")));
        assert!(!p.starts_with(&TreePath::literal("us")));
        assert_eq!(p.strip_prefix(&TreePath::literal("usr")), Some(TreePath::literal("lib/x")));
        assert_eq!(TreePath::literal("a").parent(), Some(TreePath::root()));
        assert_eq!(TreePath::root().parent(), None);
        assert_eq!(TreePath::root().ancestors().count(), 0);
    }
}
