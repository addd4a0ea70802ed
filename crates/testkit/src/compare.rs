//! Comparing two Trees, with a list of what differs.

use std::collections::BTreeMap;

use tree::{Kind, Node, Tree, TreePath};

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

/// Every difference as a line `PATH: what (left ≠ right)`, in path order.
pub fn differences(left: &Tree, right: &Tree, aspects: Aspects) -> Vec<String> {
    let mut paths: BTreeMap<&TreePath, (Option<&Node>, Option<&Node>)> = BTreeMap::new();
    for (path, _, node) in left.iter() {
        paths.entry(path).or_default().0 = Some(node);
    }
    for (path, _, node) in right.iter() {
        paths.entry(path).or_default().1 = Some(node);
    }
    let mut lines = Vec::new();
    for (path, pair) in paths {
        match pair {
            (Some(l), Some(r)) => {
                let mut what = node_differences(l, r, aspects);
                let links = (left.links(path), right.links(path));
                if !l.is_dir() && links.0 != links.1 {
                    what.push(format!("links {} ≠ {}", links.0, links.1));
                }
                lines.extend(what.into_iter().map(|w| format!("{path}: {w}")));
            }
            (Some(_), None) => lines.push(format!("{path}: only left")),
            (None, _) => lines.push(format!("{path}: only right")),
        }
    }
    lines
}

fn node_differences(left: &Node, right: &Node, aspects: Aspects) -> Vec<String> {
    let mut what = Vec::new();
    let (l, r) = (&left.meta, &right.meta);
    let kinds = (left.kind.name(), right.kind.name());
    if kinds.0 != kinds.1 {
        what.push(format!("kind {:?} ≠ {:?}", kinds.0, kinds.1));
    }
    if l.mode != r.mode && !matches!(left.kind, Kind::Symlink(_)) {
        what.push(format!("mode {:o} ≠ {:o}", l.mode, r.mode));
    }
    if aspects.owners && (l.uid, l.gid) != (r.uid, r.gid) {
        what.push(format!("owner {}:{} ≠ {}:{}", l.uid, l.gid, r.uid, r.gid));
    }
    if aspects.mtimes && !left.is_dir() && l.mtime != r.mtime {
        what.push(format!("mtime {:?} ≠ {:?}", l.mtime, r.mtime));
    }
    if aspects.xattrs && l.xattrs != r.xattrs {
        what.push(format!("xattrs {:?} ≠ {:?}", l.xattrs, r.xattrs));
    }
    what.extend(kind_difference(&left.kind, &right.kind));
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
                "/same: links 2 ≠ 1",
                "/twin: only left"
            ]
        );
        assert!(differences(&a, &a, Aspects::EXACT).is_empty());
    }
}
