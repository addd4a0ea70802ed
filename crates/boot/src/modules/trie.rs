//! kmod's binary index (`modules.*.bin`, version 2.1): a trie over 7-bit keys,
//! written in one pass.
//!
//! File: big-endian magic, version, root reference. A reference is a file offset
//! whose top bits say what the node has: prefix (NUL-terminated), children
//! (first byte, last byte, a reference for each in between), values (count, then
//! priority and NUL-terminated text each). Nodes stand in depth-first order.

const MAGIC: u32 = 0xb007_f457;
const VERSION: u32 = 0x0002_0001;
const HAS_PREFIX: u32 = 0x8000_0000;
const HAS_VALUES: u32 = 0x4000_0000;
const HAS_CHILDREN: u32 = 0x2000_0000;
/// References have 28 bits for the offset.
const MAX_FILE: usize = 1 << 28;
/// depmod takes no key of `PATH_MAX` bytes or more; it also bounds our depth.
pub const MAX_KEY: usize = 4095;

/// Why an index cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrieError {
    /// Keys are 7-bit and shorter than `PATH_MAX`.
    #[error("{0:?} cannot be a key of a module index (not ASCII, or too long)")]
    Key(String),
    /// Values are ended by NUL.
    #[error("a value of a module index contains a NUL byte")]
    Value,
    /// Offsets have 28 bits.
    #[error("a module index would be larger than 256 MiB")]
    TooLarge,
}

/// Keys with their values, to be written with [`Trie::encode`].
#[derive(Debug, Default)]
pub struct Trie<'a> {
    entries: Vec<Entry<'a>>,
}

#[derive(Debug)]
struct Entry<'a> {
    key: Vec<u8>,
    priority: u32,
    value: &'a [u8],
}

impl<'a> Trie<'a> {
    /// Adds one entry. Readers see the values of a key by ascending priority.
    pub fn insert(&mut self, key: Vec<u8>, value: &'a [u8], priority: u32) {
        self.entries.push(Entry { key, priority, value });
    }

    /// The file.
    pub fn encode(mut self) -> Result<Vec<u8>, TrieError> {
        for entry in &self.entries {
            if entry.key.len() > MAX_KEY || !entry.key.iter().all(|b| (1..128).contains(b)) {
                let shown = &entry.key[..entry.key.len().min(100)];
                return Err(TrieError::Key(String::from_utf8_lossy(shown).into_owned()));
            }
            if entry.value.contains(&0) {
                return Err(TrieError::Value);
            }
        }
        // Of equal priorities depmod's list has the one added last first.
        self.entries.reverse();
        self.entries.sort_by(|a, b| a.key.cmp(&b.key).then(a.priority.cmp(&b.priority)));
        let mut out = Vec::new();
        for word in [MAGIC, VERSION, 0] {
            out.extend(word.to_be_bytes());
        }
        let root = write_node(&self.entries, 0, 0, &mut out)?;
        out[8..12].copy_from_slice(&root.to_be_bytes());
        Ok(out)
    }
}

/// Writes the node for `entries`, which agree in the first `from` bytes, and
/// whose own prefix ends at `to`. Returns the reference to it.
fn write_node(
    entries: &[Entry<'_>],
    from: usize,
    to: usize,
    out: &mut Vec<u8>,
) -> Result<u32, TrieError> {
    let mut reference = u32::try_from(out.len()).expect("checked below");
    if out.len() >= MAX_FILE {
        return Err(TrieError::TooLarge);
    }
    if from < to {
        out.extend(&entries[0].key[from..to]);
        out.push(0);
        reference |= HAS_PREFIX;
    }
    let (here, below) = entries.split_at(entries.partition_point(|e| e.key.len() == to));
    let children: Vec<&[Entry<'_>]> = below.chunk_by(|a, b| a.key[to] == b.key[to]).collect();
    let mut table = out.len();
    if let (Some(first), Some(last)) = (children.first(), children.last()) {
        let (first, last) = (first[0].key[to], last[0].key[to]);
        out.extend([first, last]);
        table = out.len();
        out.resize(table + 4 * usize::from(last - first + 1), 0);
        reference |= HAS_CHILDREN;
    }
    if !here.is_empty() {
        out.extend(u32::try_from(here.len()).map_err(|_| TrieError::TooLarge)?.to_be_bytes());
        for entry in here {
            out.extend(entry.priority.to_be_bytes());
            out.extend(entry.value);
            out.push(0);
        }
        reference |= HAS_VALUES;
    }
    for child in &children {
        let slot = table + 4 * usize::from(child[0].key[to] - children[0][0].key[to]);
        let child = write_node(child, to + 1, common_prefix(child, to + 1), out)?;
        out[slot..slot + 4].copy_from_slice(&child.to_be_bytes());
    }
    Ok(reference)
}

/// Up to where all keys agree. They are sorted, so the first and last decide.
fn common_prefix(entries: &[Entry<'_>], from: usize) -> usize {
    let (first, last) = (&entries[0].key[from..], &entries[entries.len() - 1].key[from..]);
    from + first.iter().zip(last).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_of_two_keys_byte_by_byte() {
        let mut trie = Trie::default();
        trie.insert(b"ab".to_vec(), b"x", 1);
        trie.insert(b"ad".to_vec(), b"", 0);
        trie.insert(b"ab".to_vec(), b"y", 0);
        let mut want = vec![0xb0, 0x07, 0xf4, 0x57, 0, 2, 0, 1, 0x20, 0, 0, 12];
        want.extend([b'a', b'a', 0x20, 0, 0, 18]); // root: one child
        want.extend([b'b', b'd', 0x40, 0, 0, 32, 0, 0, 0, 0, 0x40, 0, 0, 48]);
        want.extend([0, 0, 0, 2, 0, 0, 0, 0, b'y', 0, 0, 0, 0, 1, b'x', 0]);
        want.extend([0, 0, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(trie.encode().unwrap(), want);
    }

    #[test]
    fn the_empty_index_has_an_empty_root() {
        let want = [0xb0, 0x07, 0xf4, 0x57, 0, 2, 0, 1, 0, 0, 0, 12];
        assert_eq!(Trie::default().encode().unwrap(), want);
    }

    #[test]
    fn keys_that_the_format_cannot_hold_are_refused() {
        for key in ["ä".as_bytes().to_vec(), vec![b'a'; MAX_KEY + 1], b"a\0b".to_vec()] {
            let mut trie = Trie::default();
            trie.insert(key, b"", 0);
            assert!(matches!(trie.encode(), Err(TrieError::Key(_))));
        }
    }
}
