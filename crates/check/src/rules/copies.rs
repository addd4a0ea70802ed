//! R8, in the tree: no copy of a secret under another name, be it another link to the
//! same inode. What the raw disk holds follows from it: an image is written from what
//! the Tree has and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use tree::{Kind, Node, Tree, TreePath};

use super::{finding, host_keys, leftovers, machine_id};
use crate::{Fix, Outcome, Rule, Subject, Volume};

/// Shorter files are not secret, and equal to others by chance.
const SHORTEST: u64 = 16;
/// Longer files are no keys, seeds and IDs.
const LONGEST: u64 = 1 << 20;

/// R8.
pub struct Copies;

impl Rule for Copies {
    fn id(&self) -> &'static str {
        "R8-copies"
    }

    fn title(&self) -> &'static str {
        "no copy of an identity under another name"
    }

    fn why(&self) -> &'static str {
        "A host key, machine ID or seed that is removed where it belongs can still be read \
         from its copy, on every clone."
    }

    fn looks_at(&self) -> String {
        "Every file as long as a key, seed or ID of the image, and with the same bytes".into()
    }

    fn mend(&self) -> &'static str {
        "The copy is removed, but for one in /usr, which belongs to a package: find out who put it there."
    }

    fn check(&self, subject: &Subject) -> Outcome {
        let message = "is a copy of, or a link to, an identity that clones would share";
        let copies = copies(subject.root, subject.intent.machine_id);
        let finding = |path: &TreePath| {
            // What belongs to the system is not removed because somebody linked to it.
            let system = path.starts_with(&TreePath::literal("usr"));
            let fix = if system { Fix::ByHand } else { Fix::Remove };
            finding(Volume::Root, path, message, fix)
        };
        Outcome::of(copies.iter().map(finding).collect())
    }

    fn places(&self, root: &Tree) -> Vec<TreePath> {
        copies(root, false)
    }
}

/// Files with the content of an identity that are none of the known places.
fn copies(root: &Tree, keep_id: bool) -> Vec<TreePath> {
    let mut known: BTreeSet<TreePath> = host_keys::private_keys(root);
    known.extend(leftovers::identities(root));
    known.extend(machine_id::ids(root, keep_id));
    let mut secrets: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    for node in known.iter().filter_map(|path| root.get(path)) {
        if let Some((len, bytes)) = candidate(node).and_then(|len| Some((len, read(node)?))) {
            secrets.entry(len).or_default().push(bytes);
        }
    }
    if secrets.is_empty() {
        return Vec::new();
    }
    let is_copy = |node: &Node| {
        let same_size = candidate(node).and_then(|len| secrets.get(&len));
        same_size.is_some_and(|secrets| read(node).is_some_and(|bytes| secrets.contains(&bytes)))
    };
    let found = root.iter().filter(|(path, _, node)| !known.contains(path) && is_copy(node));
    found.map(|(path, _, _)| path.clone()).collect()
}

fn candidate(node: &Node) -> Option<u64> {
    match &node.kind {
        Kind::File(content) => Some(content.len()).filter(|len| (SHORTEST..=LONGEST).contains(len)),
        _ => None,
    }
}

fn read(node: &Node) -> Option<Vec<u8>> {
    node.content().and_then(|content| content.read(LONGEST).ok())
}
