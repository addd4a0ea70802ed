//! One copy of each string that many records share.
//!
//! An index repeats its names, versions and dependency fields: interning them
//! halves the memory of a loaded index. Pure: no global table, the caller owns it.

use std::sync::Arc;

use hashbrown::HashSet;

/// Longer texts are hardly ever repeated; looking them up costs more than a copy.
const LONGEST: usize = 64;

/// A set of shared strings. Its iteration order is never used.
#[derive(Debug, Default)]
pub struct Interner {
    strings: HashSet<Arc<str>>,
}

impl Interner {
    /// An empty interner.
    pub fn new() -> Self {
        Self::default()
    }

    /// The shared copy of `text`.
    pub fn get(&mut self, text: &str) -> Arc<str> {
        if text.len() > LONGEST {
            return text.into();
        }
        if let Some(found) = self.strings.get(text) {
            return found.clone();
        }
        let new: Arc<str> = text.into();
        self.strings.insert(new.clone());
        new
    }
}
