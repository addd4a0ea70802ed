//! Cached trees: what scripts made of a tree, kept under what went in.
//!
//! A layer is two objects: the encoded Tree, under a key of its inputs, and a
//! pack with the contents that scripts made, under a name of its own that the Tree
//! refers to. Two builds that make the same layer at once each write their own
//! pack, so neither can pull the contents away from under the other's Tree.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use config::Config;
use config::types::Incremental;
use sandbox::ContentSink;
use store::{Key, KeyHasher, Pending, Store};
use tree::{Blob, Content, Tree};

use crate::context::Context;
use crate::error::BuildError;

/// Kind of the encoded Trees.
const LAYER: &str = "layer";
/// Kind of the packs; the same as of packages, so that one lookup finds both.
const PACK: &str = "pack";

/// Loads the layer of `key`; `None` if it, or a pack it needs, is not there.
fn load(store: &Store, key: &Key) -> Result<Option<Tree>, BuildError> {
    let Some(bytes) = store.read(LAYER, key)? else { return Ok(None) };
    let Some(bytes) = decompress(&bytes) else { return Ok(None) };
    let blob = |id: &[u8; 32]| Some(store.blob(PACK, &Key(*id)).ok()??.0);
    match store::codec::decode_tree(&bytes, blob) {
        Ok(tree) => Ok(Some(tree)),
        // Collected or damaged: made again.
        Err(_) => Ok(None),
    }
}

/// What the layer was before it was compressed; `None` if it is damaged or made to harm.
fn decompress(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let input = zstd::Decoder::new(bytes).ok()?;
    input.take(MAX_LAYER + 1).read_to_end(&mut plain).ok()?;
    (plain.len() as u64 <= MAX_LAYER).then_some(plain)
}

/// The layer of `key`, unless cached trees are not to be used.
pub fn cached(context: &Context, key: &Key) -> Result<Option<Tree>, BuildError> {
    match context.rebuild {
        true => Ok(None),
        false => load(&context.store, key),
    }
}

/// `Incremental=strict`: what is not cached is not made.
pub fn refuse_strict(config: &Config, context: &Context, what: &str) -> Result<(), BuildError> {
    match config.build.incremental == Incremental::Strict && !context.rebuild {
        true => Err(BuildError::Image(format!(
            "Incremental=strict: {what} are not in the cache; build once with Incremental=yes"
        ))),
        false => Ok(()),
    }
}

/// Whether there is a layer of `key`.
pub fn is_there(store: &Store, key: &Key) -> bool {
    store.has(LAYER, key)
}

/// Keeps `tree` as the layer of `key`.
pub fn save(store: &Store, key: &Key, tree: &Tree) -> Result<(), BuildError> {
    let bytes = store::codec::encode_tree(tree)?;
    let mut compressor = zstd::bulk::Compressor::new(1).expect("level 1 exists");
    let bytes = compressor.compress(&bytes).expect("memory suffices to compress a tree");
    Ok(store.put(LAYER, key, &bytes)?)
}

/// The largest encoded Tree: a million entries take 60 MB.
const MAX_LAYER: u64 = 256 << 20;

/// A pack being written: where new contents go when a tree is read back.
pub struct Pack {
    pending: Pending,
    key: Key,
    sink: sandbox::PackSink,
}

impl Pack {
    /// Begins a pack for the layer of `key`.
    pub fn begin(store: &Store, key: &Key) -> Result<Pack, BuildError> {
        let mut pending = store.create(PACK)?;
        let mut hasher = KeyHasher::new("layer pack 1");
        hasher.add(&key.0).add(pending.path().as_os_str().as_encoded_bytes());
        hasher.add(&std::time::SystemTime::now().elapsed_since_epoch());
        let key = hasher.finish();
        let path = store.path(PACK, &key);
        let clone = |file: &File| file.try_clone().map_err(crate::outputs::io_error("open", &path));
        let file = clone(pending.file_mut())?;
        let blob = Blob::opened(&path, clone(&file)?, Some(key.0));
        Ok(Pack { pending, key, sink: sandbox::PackSink::for_blob(blob, file) })
    }

    /// Makes the pack permanent; contents added to it stay valid either way as
    /// long as they are held.
    pub fn commit(self) -> Result<Arc<Blob>, BuildError> {
        Ok(self.pending.seal(&self.key)?)
    }
}

impl ContentSink for Pack {
    fn add(&mut self, file: &File, len: u64) -> io::Result<Content> {
        self.sink.add(file, len)
    }
}

/// The clock as bytes: only to make a name that no other process makes.
trait ElapsedSinceEpoch {
    fn elapsed_since_epoch(&self) -> [u8; 16];
}

impl ElapsedSinceEpoch for std::time::SystemTime {
    fn elapsed_since_epoch(&self) -> [u8; 16] {
        let elapsed = self.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        elapsed.as_nanos().to_le_bytes()
    }
}
