//! Where a path is in the tree: links followed within it, as a careful program does.
//!
//! On a live system, whoever owns a directory may replace what is in it. So a path may
//! not lead from somebody's directory to what belongs to somebody else (systemd calls
//! that an unsafe transition): the result would depend on that user.

use tree::{Kind, Tree, TreePath};

use super::make::Failure;

/// As many links as Linux follows.
const LINKS_LIMIT: usize = 40;

/// The path as a Tree has it.
pub fn path(bytes: &[u8]) -> Result<TreePath, Failure> {
    TreePath::new(bytes).map_err(|e| Failure::Line(e.to_string()))
}

/// Where `path` is, whose last component is not followed; its directory exists.
pub fn in_parent(tree: &Tree, path: &TreePath) -> Result<TreePath, Failure> {
    let Some(parent) = path.parent() else { return Ok(path.clone()) };
    let parent = chase(tree, &parent)?;
    Ok(parent.join(path.name()).map_err(tree::TreeError::from)?)
}

/// Where `path` is, which exists; its last component is not followed.
pub fn existing(tree: &Tree, path: &TreePath) -> Result<TreePath, Failure> {
    let at = in_parent(tree, path)?;
    match tree.get(&at) {
        None => Err(Failure::Line(format!("{at} does not exist"))),
        Some(_) => {
            if let Some(parent) = at.parent() {
                check(tree, &parent, &at)?;
            }
            Ok(at)
        }
    }
}

/// Whether what a link or copy names is there; its last component is not followed.
pub fn is_there(tree: &Tree, target: &[u8]) -> bool {
    let mut parts: Vec<&[u8]> = target.split(|b| *b == b'/').collect();
    parts.retain(|c| !matches!(*c, b"" | b"."));
    let last = parts.pop_if(|last| *last != b"..");
    let Ok(dir) = walk(tree, parts.iter().rev().map(|c| c.to_vec()).collect()) else {
        return false;
    };
    last.is_none_or(|last| dir.join(last).is_ok_and(|at| tree.contains(&at)))
}

/// Where the directory `path` is, every link followed.
pub fn chase(tree: &Tree, path: &TreePath) -> Result<TreePath, Failure> {
    walk(tree, path.components().rev().map(<[u8]>::to_vec).collect())
}

/// The same of components, the first last.
fn walk(tree: &Tree, mut pending: Vec<Vec<u8>>) -> Result<TreePath, Failure> {
    let (mut at, mut links) = (TreePath::root(), 0);
    while let Some(component) = pending.pop() {
        if component == b".." {
            let parent = at.parent().unwrap_or_else(TreePath::root);
            check(tree, &at, &parent)?;
            at = parent;
            continue;
        }
        let next = at.join(&component).map_err(tree::TreeError::from)?;
        let kind = tree.get(&next).map(|node| &node.kind);
        let kind = kind.ok_or_else(|| Failure::Line(format!("{next} does not exist")))?;
        check(tree, &at, &next)?;
        match kind {
            Kind::Dir => at = next,
            Kind::Symlink(target) => {
                links += 1;
                if links > LINKS_LIMIT {
                    return Err(Failure::Line(format!(
                        "{next}: too many levels of symbolic links"
                    )));
                }
                if target.first() == Some(&b'/') {
                    check(tree, &next, &TreePath::root())?;
                    at = TreePath::root();
                }
                let parts = target.split(|b| *b == b'/').rev();
                let parts = parts.filter(|c| !matches!(*c, b"" | b"."));
                pending.extend(parts.map(<[u8]>::to_vec));
            }
            _ => return Err(Failure::Line(format!("{next} is not a directory"))),
        }
    }
    Ok(at)
}

fn check(tree: &Tree, from: &TreePath, to: &TreePath) -> Result<(), Failure> {
    let owner = |path: &TreePath| tree.get(path).map_or(0, |node| node.meta.uid);
    let (a, b) = (owner(from), owner(to));
    if a == 0 || a == b {
        return Ok(());
    }
    Err(Failure::Line(format!(
        "unsafe: {from} belongs to user {a}, {to} in it to user {b}; give them the same owner"
    )))
}
