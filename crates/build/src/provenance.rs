//! Which step put a file there: for the gate, which is to name it.
//!
//! What it is: a light snapshot after every step of those files that a golden image
//! must not have ([`check::suspects`]), a few dozen, never the Tree.
//! What it is not: a diff of Trees, or a rule.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use tree::{Segment, Tree, TreePath};

/// Who brought each suspect, or changed it last.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    seen: BTreeMap<TreePath, (u64, usize)>,
    steps: Vec<String>,
}

impl Trail {
    /// Notes what `tree` has after `step`.
    pub fn record(&mut self, step: impl Into<String>, tree: &Tree) {
        let number = self.steps.len();
        self.steps.push(step.into());
        let mut now = BTreeMap::new();
        for path in check::suspects(tree) {
            let print = fingerprint(tree, &path);
            let from = match self.seen.get(&path) {
                Some((before, from)) if *before == print => *from,
                _ => number,
            };
            now.insert(path, (print, from));
        }
        self.seen = now;
    }

    /// The step that put `path` there, or the nearest directory above it that is known.
    pub fn origin(&self, path: &TreePath) -> Option<&str> {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if let Some((_, step)) = self.seen.get(&path) {
                return Some(&self.steps[*step]);
            }
            at = path.parent();
        }
        None
    }
}

/// What changes when somebody changes the file: meta and where its bytes are.
fn fingerprint(tree: &Tree, path: &TreePath) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (path, _, node) in tree.subtree(path) {
        (path, node.meta.mode, node.meta.uid, node.meta.gid).hash(&mut hasher);
        (node.meta.mtime, node.kind.name() as u8).hash(&mut hasher);
        if let tree::Kind::Symlink(target) = &node.kind {
            target.hash(&mut hasher);
        }
        for segment in node.content().iter().flat_map(|content| content.segments()) {
            match segment {
                Segment::Bytes(bytes) => bytes.hash(&mut hasher),
                Segment::Hole { len } => len.hash(&mut hasher),
                Segment::Range { blob, offset, len } => {
                    (blob.path(), offset, len).hash(&mut hasher);
                }
            }
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(tree: &mut Tree, path: &'static str, text: &str) {
        tree.write(&TreePath::literal(path), 0o600, text.as_bytes()).unwrap();
    }

    #[test]
    fn the_last_step_that_changed_a_file_is_its_origin() {
        let (mut tree, mut trail) = (Tree::new(), Trail::default());
        write(&mut tree, "var/lib/systemd/random-seed", "a");
        write(&mut tree, "etc/ssh/ssh_host_rsa_key", "a");
        trail.record("packages", &tree);
        write(&mut tree, "etc/ssh/ssh_host_rsa_key", "b");
        write(&mut tree, "tmp/dir/file", "x");
        trail.record("postinst script one", &tree);
        trail.record("finalize script two", &tree);
        let origin = |path| trail.origin(&TreePath::literal(path));
        assert_eq!(origin("var/lib/systemd/random-seed"), Some("packages"));
        assert_eq!(origin("etc/ssh/ssh_host_rsa_key"), Some("postinst script one"));
        assert_eq!(origin("tmp/dir/file"), Some("postinst script one"));
        assert_eq!(origin("etc/passwd"), None);
        tree.remove(&TreePath::literal("tmp/dir"));
        trail.record("seal", &tree);
        assert_eq!(trail.origin(&TreePath::literal("tmp/dir/file")), None);
    }
}
