//! Keys: SHA-256 of what an object was made from.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The name of an object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Key {
        Key(Sha256::digest(bytes).into())
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(hex: &str) -> Option<Key> {
        hex::decode(hex).ok()?.try_into().ok().map(Key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// Makes a key from several named parts. Each part is framed by its length, so
/// that no two lists of parts run together to the same bytes.
#[derive(Clone)]
pub struct KeyHasher(Sha256);

impl KeyHasher {
    /// Begins a key of things of `domain`; put the format's version in there.
    pub fn new(domain: &str) -> Self {
        let mut hasher = KeyHasher(Sha256::new());
        hasher.add(domain.as_bytes());
        hasher
    }

    /// Adds one part.
    pub fn add(&mut self, part: &[u8]) -> &mut Self {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    /// The key.
    pub fn finish(&self) -> Key {
        Key(self.0.clone().finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let key = |parts: &[&[u8]]| {
            let mut hasher = KeyHasher::new("t");
            parts.iter().for_each(|p| {
                hasher.add(p);
            });
            hasher.finish()
        };
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
        assert_ne!(key(&[b"", b"a"]), key(&[b"a", b""]));
        assert_eq!(Key::from_hex(&key(&[b"a"]).to_string()), Some(key(&[b"a"])));
        assert_eq!(Key::from_hex("12"), None);
    }

    #[test]
    fn known_digest() {
        // FIPS 180-2, "abc".
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Key::of(b"abc").to_string(), hex);
    }
}
