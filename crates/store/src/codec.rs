//! A Tree as bytes, to be kept in the store.
//!
//! The encoding is postcard over the mirror types below. Paths are written in
//! order; hard links refer to the index of the first path of their inode, so the
//! bytes do not depend on how the Tree came about. Contents are inline or ranges
//! of blobs that the store knows by key; a content in any other file cannot be
//! encoded (put it into the store first).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tree::{Blob, Content, Device, Kind, Meta, Node, Part, Segment, Tree, TreePath};

/// Changed with every change of the encoding; part of every key that names an
/// encoded Tree.
pub const VERSION: u32 = 1;

/// Why a Tree cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// A content is in a file that the store does not know.
    #[error("{0}: its content is not in the store")]
    Foreign(TreePath),
    /// The bytes are not an encoded Tree.
    #[error("not an encoded tree: {0}")]
    Format(#[from] postcard::Error),
    /// The bytes decode, but not to a consistent Tree.
    #[error("inconsistent tree: {0}")]
    Inconsistent(String),
    /// A blob that the Tree refers to is not in the store.
    #[error("blob {0} is missing")]
    Missing(String),
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    blobs: Vec<[u8; 32]>,
    metas: Vec<Meta>,
    entries: Vec<(Box<[u8]>, Entry)>,
}

#[derive(Serialize, Deserialize)]
enum Entry {
    /// The same inode as the entry with this index.
    Link(u32),
    /// An inode: index of its meta, and its kind.
    Inode(u32, StoredKind),
}

#[derive(Serialize, Deserialize)]
enum StoredKind {
    Dir,
    Inline(Box<[u8]>),
    Range { blob: u32, offset: u64, len: u64 },
    Parts(Vec<StoredPart>),
    Symlink(Box<[u8]>),
    CharDev(Device),
    BlockDev(Device),
    Fifo,
    Socket,
}

#[derive(Serialize, Deserialize)]
enum StoredPart {
    Data { blob: u32, offset: u64, len: u64 },
    Hole(u64),
}

/// Encodes a Tree. Equal Trees give equal bytes.
pub fn encode_tree(tree: &Tree) -> Result<Vec<u8>, CodecError> {
    let mut encoder = Encoder::default();
    let mut first = HashMap::new();
    let mut entries = Vec::with_capacity(tree.len());
    for (path, id, node) in tree.iter() {
        let index = entries.len() as u32;
        let entry = match first.get(&id) {
            Some(first) => Entry::Link(*first),
            None => {
                first.insert(id, index);
                Entry::Inode(encoder.meta(&node.meta), encoder.kind(path, &node.kind)?)
            }
        };
        entries.push((path.as_bytes().into(), entry));
    }
    let Encoder { blobs, metas, .. } = encoder;
    Ok(postcard::to_stdvec(&Stored { version: VERSION, blobs, metas, entries })?)
}

#[derive(Default)]
struct Encoder {
    blobs: Vec<[u8; 32]>,
    blob_index: BTreeMap<[u8; 32], u32>,
    metas: Vec<Meta>,
    // Most metas are alike (0644 root at the package's build time).
    meta_index: HashMap<Vec<u8>, u32>,
}

impl Encoder {
    fn meta(&mut self, meta: &Meta) -> u32 {
        let bytes = postcard::to_stdvec(meta).expect("a Meta has no unserialisable part");
        *self.meta_index.entry(bytes).or_insert_with(|| {
            self.metas.push(meta.clone());
            self.metas.len() as u32 - 1
        })
    }

    fn blob(&mut self, path: &TreePath, blob: &Blob) -> Result<u32, CodecError> {
        let id = blob.id().ok_or_else(|| CodecError::Foreign(path.clone()))?;
        Ok(*self.blob_index.entry(id).or_insert_with(|| {
            self.blobs.push(id);
            self.blobs.len() as u32 - 1
        }))
    }

    fn kind(&mut self, path: &TreePath, kind: &Kind) -> Result<StoredKind, CodecError> {
        Ok(match kind {
            Kind::Dir => StoredKind::Dir,
            Kind::Symlink(target) => StoredKind::Symlink(target.clone()),
            Kind::CharDev(device) => StoredKind::CharDev(*device),
            Kind::BlockDev(device) => StoredKind::BlockDev(*device),
            Kind::Fifo => StoredKind::Fifo,
            Kind::Socket => StoredKind::Socket,
            Kind::File(content) => self.content(path, content)?,
        })
    }

    fn content(&mut self, path: &TreePath, content: &Content) -> Result<StoredKind, CodecError> {
        let mut segments = content.segments().peekable();
        match (segments.next(), segments.peek()) {
            (None, _) => return Ok(StoredKind::Inline(Box::default())),
            (Some(Segment::Bytes(bytes)), None) => return Ok(StoredKind::Inline(bytes.into())),
            (Some(Segment::Range { blob, offset, len }), None) => {
                return Ok(StoredKind::Range { blob: self.blob(path, blob)?, offset, len });
            }
            _ => {}
        }
        let part = |segment| match segment {
            Segment::Hole { len } => Ok(StoredPart::Hole(len)),
            Segment::Range { blob, offset, len } => {
                Ok(StoredPart::Data { blob: self.blob(path, blob)?, offset, len })
            }
            Segment::Bytes(_) => Err(CodecError::Foreign(path.clone())),
        };
        content.segments().map(part).collect::<Result<_, _>>().map(StoredKind::Parts)
    }
}

/// Decodes a Tree; `blob` opens a blob by its key. Damaged bytes are an error,
/// never a panic.
pub fn decode_tree(
    bytes: &[u8],
    mut blob: impl FnMut(&[u8; 32]) -> Option<Arc<Blob>>,
) -> Result<Tree, CodecError> {
    let stored: Stored = postcard::from_bytes(bytes)?;
    if stored.version != VERSION {
        return Err(CodecError::Inconsistent(format!("version {}", stored.version)));
    }
    let open =
        |id: &[u8; 32]| blob(id).ok_or_else(|| CodecError::Missing(crate::Key(*id).to_string()));
    let blobs = stored.blobs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let inconsistent = |e: &dyn std::fmt::Display| CodecError::Inconsistent(e.to_string());
    let mut tree = Tree::new();
    let mut paths: Vec<TreePath> = Vec::with_capacity(stored.entries.len().min(1 << 20));
    for (path, entry) in stored.entries {
        let path = TreePath::new(path).map_err(|e| inconsistent(&e))?;
        match entry {
            Entry::Link(first) => {
                let first = paths.get(first as usize).ok_or_else(|| inconsistent(&path))?;
                tree.add_link(path.clone(), first).map_err(|e| inconsistent(&e))?;
            }
            Entry::Inode(meta, kind) => {
                let meta = stored.metas.get(meta as usize).ok_or_else(|| inconsistent(&path))?;
                let kind = decode_kind(kind, &blobs).ok_or_else(|| inconsistent(&path))?;
                let node = Node { meta: meta.clone(), kind };
                tree.put(path.clone(), node).map_err(|e| inconsistent(&e))?;
            }
        }
        paths.push(path);
    }
    Ok(tree)
}

fn decode_kind(kind: StoredKind, blobs: &[Arc<Blob>]) -> Option<Kind> {
    let blob = |index: u32| blobs.get(index as usize).cloned();
    Some(match kind {
        StoredKind::Dir => Kind::Dir,
        StoredKind::Inline(bytes) => Kind::File(Content::inline(bytes)),
        StoredKind::Range { blob: index, offset, len } => {
            offset.checked_add(len)?;
            Kind::File(Content::range(blob(index)?, offset, len))
        }
        StoredKind::Parts(parts) => {
            let mut total = 0u64;
            let mut decoded = Vec::with_capacity(parts.len().min(1 << 16));
            for part in parts {
                decoded.push(match part {
                    StoredPart::Hole(len) => Part::Hole { len },
                    StoredPart::Data { blob: index, offset, len } => {
                        offset.checked_add(len)?;
                        Part::Data { blob: blob(index)?, offset, len }
                    }
                });
                total = total.checked_add(decoded.last()?.len())?;
            }
            Kind::File(Content::parts(decoded))
        }
        StoredKind::Symlink(target) => Kind::Symlink(target),
        StoredKind::CharDev(device) => Kind::CharDev(device),
        StoredKind::BlockDev(device) => Kind::BlockDev(device),
        StoredKind::Fifo => Kind::Fifo,
        StoredKind::Socket => Kind::Socket,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, Store};
    use tree::Mtime;

    fn p(s: &'static str) -> TreePath {
        TreePath::literal(s)
    }

    fn sample(blob: &Arc<Blob>) -> Tree {
        let mut t = Tree::new();
        t.make_dirs(&p("usr/bin")).unwrap();
        let meta = Meta::file(0o4755).owned_by(3, 4).at(Mtime { secs: -5, nanos: 7 });
        t.add_file(p("usr/bin/su"), meta, Content::range(blob.clone(), 1, 3)).unwrap();
        t.add_link(p("usr/bin/zu"), &p("usr/bin/su")).unwrap();
        let data = Part::Data { blob: blob.clone(), offset: 0, len: 2 };
        let parts = Content::parts(vec![data, Part::Hole { len: 1 << 30 }]);
        t.add_file(p("sparse"), Meta::file(0o600), parts).unwrap();
        t.add_symlink(p("bin"), "usr/bin").unwrap();
        let kind = Kind::CharDev(Device { major: 1, minor: 3 });
        t.add(p("null"), Node { meta: Meta::new(0o666), kind }).unwrap();
        let xattrs = [(b"security.x".to_vec(), vec![0, 1])].into();
        t.get_mut(&p("null")).unwrap().meta.xattrs = xattrs;
        t
    }

    #[test]
    fn a_tree_survives_the_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = Key::of(b"pack");
        store.put("pack", &key, b"0123456789").unwrap();
        let (blob, _) = store.blob("pack", &key).unwrap().unwrap();
        let tree = sample(&blob);
        let bytes = encode_tree(&tree).unwrap();
        let back =
            decode_tree(&bytes, |id| store.blob("pack", &Key(*id)).unwrap().map(|(blob, _)| blob))
                .unwrap();
        assert_eq!(encode_tree(&back).unwrap(), bytes);
        assert_eq!(back.links(&p("usr/bin/su")), 2);
        let su = back.get(&p("usr/bin/zu")).unwrap();
        assert_eq!(su.content().unwrap().read(9).unwrap(), b"123");
        assert_eq!(su.meta, tree.get(&p("usr/bin/su")).unwrap().meta);
        assert_eq!(back.get(&p("null")).unwrap().meta.xattrs.len(), 1);

        assert!(matches!(decode_tree(&bytes, |_| None), Err(CodecError::Missing(_))));
        for cut in 0..bytes.len() {
            assert!(decode_tree(&bytes[..cut], |_| Some(blob.clone())).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn the_history_of_a_tree_does_not_show() {
        let (mut one, mut two) = (Tree::new(), Tree::new());
        for name in ["a", "b"] {
            one.add_file(p(name), Meta::file(0o600), Content::empty()).unwrap();
        }
        two.add_file(p("b"), Meta::file(0o600), Content::empty()).unwrap();
        two.add_file(p("x"), Meta::file(0o600), Content::empty()).unwrap();
        two.remove(&p("x"));
        two.add_file(p("a"), Meta::file(0o600), Content::empty()).unwrap();
        assert_eq!(encode_tree(&one).unwrap(), encode_tree(&two).unwrap());
    }

    #[test]
    fn a_content_outside_the_store_is_refused() {
        let mut t = Tree::new();
        let content = Content::range(Blob::at_path("/dev/null"), 0, 1);
        t.add_file(p("a"), Meta::file(0o600), content).unwrap();
        assert!(matches!(encode_tree(&t), Err(CodecError::Foreign(_))));
    }
}
