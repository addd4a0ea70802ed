//! Comparing two Trees, with a list of what differs.

use std::collections::BTreeMap;
use std::fmt;

use tree::{InodeId, Kind, Node, Tree, TreePath};

/// The largest file that is compared by content.
const CONTENT_LIMIT: u64 = 1 << 30;

/// What to compare.
#[derive(Debug, Clone, Copy)]
pub struct Aspects {
    /// Owner and group.
    pub owners: bool,
    /// Modification times of files and links (those of directories depend on the
    /// order in which things were made).
    pub mtimes: bool,
    /// Extended attributes.
    pub xattrs: bool,
}

impl Aspects {
    /// Everything but times.
    pub const EXACT: Aspects = Aspects { owners: true, mtimes: false, xattrs: true };
}

/// In what two nodes differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Only the left tree has the path.
    OnlyLeft,
    /// Only the right tree has it.
    OnlyRight,
    /// File, directory, link …
    Kind,
    /// Permissions.
    Mode,
    /// User and group.
    Owner,
    /// Time of the last change.
    Mtime,
    /// Extended attributes.
    Xattrs,
    /// Which paths are one file.
    Links,
    /// Bytes of a file, target of a symbolic link, numbers of a device.
    Content,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub path: TreePath,
    /// In what.
    pub what: What,
    /// In words.
    pub text: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}

/// Every difference as a line `PATH: what (left ≠ right)`, in path order.
pub fn differences(left: &Tree, right: &Tree, aspects: Aspects) -> Vec<String> {
    compare(left, right, aspects).iter().map(Difference::to_string).collect()
}

/// Every difference, in path order.
pub fn compare(left: &Tree, right: &Tree, aspects: Aspects) -> Vec<Difference> {
    let mut paths: BTreeMap<&TreePath, (Option<&Node>, Option<&Node>)> = BTreeMap::new();
    for (path, _, node) in left.iter() {
        paths.entry(path).or_default().0 = Some(node);
    }
    for (path, _, node) in right.iter() {
        paths.entry(path).or_default().1 = Some(node);
    }
    let groups = (groups(left), groups(right));
    let mut found = Vec::new();
    for (path, pair) in paths {
        let what = match pair {
            (Some(l), Some(r)) => {
                let mut what = node_differences(l, r, aspects);
                let twins = (twins(left, &groups.0, path), twins(right, &groups.1, path));
                if !l.is_dir() && !r.is_dir() && twins.0 != twins.1 {
                    let shown = [twins.0, twins.1].map(|paths| {
                        paths.iter().map(|p| format!("{p}")).collect::<Vec<_>>().join(" = ")
                    });
                    what.push((What::Links, format!("links {} ≠ {}", shown[0], shown[1])));
                }
                what
            }
            (Some(_), None) => vec![(What::OnlyLeft, "only left".to_owned())],
            (None, _) => vec![(What::OnlyRight, "only right".to_owned())],
        };
        let new =
            what.into_iter().map(|(what, text)| Difference { path: path.clone(), what, text });
        found.extend(new);
    }
    found
}

/// The names of every file that has several.
fn groups(tree: &Tree) -> BTreeMap<InodeId, Vec<&TreePath>> {
    let mut groups: BTreeMap<InodeId, Vec<&TreePath>> = BTreeMap::new();
    for (path, id, node) in tree.iter() {
        if !node.is_dir() && tree.links(path) > 1 {
            groups.entry(id).or_default().push(path);
        }
    }
    groups
}

fn twins<'a>(
    tree: &Tree,
    groups: &'a BTreeMap<InodeId, Vec<&'a TreePath>>,
    path: &TreePath,
) -> &'a [&'a TreePath] {
    tree.inode_id(path).and_then(|id| groups.get(&id)).map_or(&[], Vec::as_slice)
}

fn node_differences(left: &Node, right: &Node, aspects: Aspects) -> Vec<(What, String)> {
    let mut what = Vec::new();
    let (l, r) = (&left.meta, &right.meta);
    let kinds = (left.kind.name(), right.kind.name());
    if kinds.0 != kinds.1 {
        what.push((What::Kind, format!("kind {:?} ≠ {:?}", kinds.0, kinds.1)));
    }
    if l.mode != r.mode && !matches!(left.kind, Kind::Symlink(_)) {
        what.push((What::Mode, format!("mode {:o} ≠ {:o}", l.mode, r.mode)));
    }
    if aspects.owners && (l.uid, l.gid) != (r.uid, r.gid) {
        what.push((What::Owner, format!("owner {}:{} ≠ {}:{}", l.uid, l.gid, r.uid, r.gid)));
    }
    if aspects.mtimes && !left.is_dir() && l.mtime != r.mtime {
        what.push((What::Mtime, format!("mtime {:?} ≠ {:?}", l.mtime, r.mtime)));
    }
    if aspects.xattrs && l.xattrs != r.xattrs {
        what.push((What::Xattrs, format!("xattrs {:?} ≠ {:?}", l.xattrs, r.xattrs)));
    }
    what.extend(kind_difference(&left.kind, &right.kind).map(|text| (What::Content, text)));
    what
}

fn kind_difference(left: &Kind, right: &Kind) -> Option<String> {
    match (left, right) {
        (Kind::File(l), Kind::File(r)) if l.len() != r.len() => {
            Some(format!("size {} ≠ {}", l.len(), r.len()))
        }
        (Kind::File(l), Kind::File(r)) => {
            let read = |c: &tree::Content| c.read(CONTENT_LIMIT).expect("readable content");
            (read(l) != read(r)).then(|| "content".to_owned())
        }
        (Kind::Symlink(l), Kind::Symlink(r)) if l != r => {
            let text = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
            Some(format!("target {} ≠ {}", text(l), text(r)))
        }
        (Kind::CharDev(l) | Kind::BlockDev(l), Kind::CharDev(r) | Kind::BlockDev(r)) if l != r => {
            Some(format!("device {l:?} ≠ {r:?}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tree::{Content, Meta};

    #[test]
    fn says_what_differs() {
        let p = TreePath::literal;
        let (mut a, mut b) = (Tree::new(), Tree::new());
        a.add_file(p("same"), Meta::file(0o644), Content::inline(*b"x")).unwrap();
        b.add_file(p("same"), Meta::file(0o644), Content::inline(*b"x")).unwrap();
        a.add_file(p("f"), Meta::file(0o644), Content::inline(*b"x")).unwrap();
        b.add_file(p("f"), Meta::file(0o600).owned_by(1, 2), Content::inline(*b"y")).unwrap();
        a.add_symlink(p("l"), "x").unwrap();
        b.add_symlink(p("l"), "y").unwrap();
        a.add_link(p("twin"), &p("same")).unwrap();
        let lines = differences(&a, &b, Aspects::EXACT);
        assert_eq!(
            lines,
            [
                "/f: mode 644 ≠ 600",
                "/f: owner 0:0 ≠ 1:2",
                "/f: content",
                "/l: target x ≠ y",
                "/same: links /same = /twin ≠ ",
                "/twin: only left"
            ]
        );
        assert!(differences(&a, &a, Aspects::EXACT).is_empty());
    }
}
