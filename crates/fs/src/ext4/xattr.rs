//! Extended attributes and POSIX ACLs, to and from their on-disk form.
//!
//! They go into the inode's own spare room as far as they fit, the rest into one
//! block, which inodes with the same attributes share. Names are split into an
//! index (`user.`, `security.` …) and the rest. ACLs are stored in a form of their
//! own, not in that of `getxattr`. Source: the kernel's ext4 documentation,
//! "Extended Attributes", and `acl(5)`.

use tree::Xattrs;

use super::format::*;
use crate::bytes::*;

/// Where the attributes start inside an inode with 32 bytes of extra fields.
pub(super) const IBODY: usize = 160;
const IBODY_LEN: usize = INODE_LEN - IBODY;
const ENTRY_LEN: usize = 16;
const HEADER_LEN: usize = 32;

const PREFIXES: [(u8, &[u8]); 4] =
    [(1, b"user."), (4, b"trusted."), (6, b"security."), (7, b"system.")];
const ACL_ACCESS: (u8, &[u8]) = (2, b"system.posix_acl_access");
const ACL_DEFAULT: (u8, &[u8]) = (3, b"system.posix_acl_default");

/// The attributes of one inode as they go to disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Encoded {
    /// For the inode from [`IBODY`]: empty, or its full length.
    pub ibody: Vec<u8>,
    /// The block, without the reference count and checksum; empty if not needed.
    pub block: Vec<u8>,
}

struct Attr<'a> {
    index: u8,
    name: &'a [u8],
    value: Vec<u8>,
}

impl Attr<'_> {
    fn entry_len(&self) -> usize {
        (ENTRY_LEN + self.name.len()).next_multiple_of(4)
    }

    fn len(&self) -> usize {
        self.entry_len() + self.value.len().next_multiple_of(4)
    }
}

/// Encodes all attributes, or says which does not fit and why.
pub(super) fn encode(xattrs: &Xattrs) -> Result<Encoded, String> {
    let mut attrs =
        xattrs.iter().map(|(name, value)| split(name, value)).collect::<Result<Vec<_>, _>>()?;
    // The kernel searches a block in this order.
    attrs.sort_by(|a, b| (a.index, a.name.len(), a.name).cmp(&(b.index, b.name.len(), b.name)));
    // 4 bytes of magic before the entries, 4 of zeroes after them.
    let mut room = IBODY_LEN - 8;
    let (inside, outside): (Vec<_>, Vec<_>) = attrs.into_iter().partition(|a| {
        let fits = a.len() <= room;
        room -= if fits { a.len() } else { 0 };
        fits
    });
    let mut encoded = Encoded::default();
    if !inside.is_empty() {
        encoded.ibody = vec![0; IBODY_LEN];
        put32(&mut encoded.ibody, 0, XATTR_MAGIC);
        // Offsets count from the first entry; entries in the inode carry no hash.
        place(&inside, &mut encoded.ibody[4..], 0, false);
    }
    if !outside.is_empty() {
        let needed = HEADER_LEN + 4 + outside.iter().map(Attr::len).sum::<usize>();
        if needed > BLOCK_LEN {
            return Err(format!("extended attributes of {needed} bytes, ext4 takes {BLOCK_LEN}"));
        }
        let mut block = vec![0; BLOCK_LEN];
        place(&outside, &mut block, HEADER_LEN, true);
        put32(&mut block, 0, XATTR_MAGIC);
        put32(&mut block, 8, 1);
        let hash = block_hash(&block);
        put32(&mut block, 12, hash);
        encoded.block = block;
    }
    Ok(encoded)
}

fn split<'a>(name: &'a [u8], value: &[u8]) -> Result<Attr<'a>, String> {
    for (index, full) in [ACL_ACCESS, ACL_DEFAULT] {
        if name == full {
            return Ok(Attr { index, name: b"", value: acl_to_disk(value)? });
        }
    }
    let shown = || String::from_utf8_lossy(name).into_owned();
    let found = PREFIXES.iter().find_map(|(i, p)| Some((*i, name.strip_prefix(*p)?)));
    match found {
        Some((_, rest)) if rest.is_empty() || rest.len() > 255 || rest.contains(&0) => {
            Err(format!("extended attribute {:?} has a bad name", shown()))
        }
        Some((7, _)) | None => {
            Err(format!("extended attribute {:?} is of no class ext4 has", shown()))
        }
        Some((index, rest)) => Ok(Attr { index, name: rest, value: value.to_vec() }),
    }
}

/// Entries from the front, values from the end.
fn place(attrs: &[Attr], area: &mut [u8], start: usize, hashed: bool) {
    let (mut at, mut end) = (start, area.len());
    for attr in attrs {
        end -= attr.value.len().next_multiple_of(4);
        area[end..end + attr.value.len()].copy_from_slice(&attr.value);
        area[at] = attr.name.len() as u8;
        area[at + 1] = attr.index;
        put16(area, at + 2, if attr.value.is_empty() { 0 } else { end as u16 });
        put32(area, at + 8, attr.value.len() as u32);
        put32(area, at + 12, if hashed { entry_hash(attr) } else { 0 });
        area[at + ENTRY_LEN..at + ENTRY_LEN + attr.name.len()].copy_from_slice(attr.name);
        at += attr.entry_len();
    }
}

fn entry_hash(attr: &Attr) -> u32 {
    let by_name = attr.name.iter().fold(0u32, |h, b| h.rotate_left(5) ^ u32::from(*b));
    attr.value.chunks(4).fold(by_name, |h, chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        h.rotate_left(16) ^ u32::from_le_bytes(word)
    })
}

fn block_hash(block: &[u8]) -> u32 {
    let mut hash = 0u32;
    let mut at = HEADER_LEN;
    while get32(block, at) != 0 {
        let entry = get32(block, at + 12);
        if entry == 0 {
            return 0; // "do not share", as the kernel has it
        }
        hash = hash.rotate_left(16) ^ entry;
        at += (ENTRY_LEN + usize::from(block[at])).next_multiple_of(4);
    }
    hash
}

/// Completes a block: how many inodes refer to it, and the checksum.
pub(super) fn finish_block(block: &mut [u8], references: u32, at: u64, seed: Csum) {
    put32(block, 4, references);
    put32(block, 16, 0);
    let sum = seed.add(&at.to_le_bytes()).add(block).value();
    put32(block, 16, sum);
}

const ACL_NAMED: [u16; 2] = [0x02, 0x08];
const ACL_TAGS: [u16; 6] = [0x01, 0x02, 0x04, 0x08, 0x10, 0x20];

/// From the form of `getxattr` (version 2, an id in every entry) to ext4's
/// (version 1, an id only in named entries).
fn acl_to_disk(value: &[u8]) -> Result<Vec<u8>, String> {
    let bad = || "its POSIX ACL is malformed".to_owned();
    let entries = value.strip_prefix(&2u32.to_le_bytes()).ok_or_else(bad)?;
    if entries.len() % 8 != 0 {
        return Err(bad());
    }
    let mut disk = 1u32.to_le_bytes().to_vec();
    for entry in entries.chunks(8) {
        let tag = get16(entry, 0);
        if !ACL_TAGS.contains(&tag) {
            return Err(bad());
        }
        disk.extend_from_slice(if ACL_NAMED.contains(&tag) { entry } else { &entry[..4] });
    }
    Ok(disk)
}

fn acl_from_disk(disk: &[u8]) -> Option<Vec<u8>> {
    let mut rest = disk.strip_prefix(&1u32.to_le_bytes())?;
    let mut value = 2u32.to_le_bytes().to_vec();
    while !rest.is_empty() {
        let tag = get16(slice(rest, 0, 2)?, 0);
        let len = if ACL_NAMED.contains(&tag) { 8 } else { 4 };
        value.extend_from_slice(slice(rest, 0, len)?);
        if len == 4 {
            value.extend_from_slice(&u32::MAX.to_le_bytes());
        }
        rest = &rest[len..];
    }
    Some(value)
}

/// What the attributes of an inode say.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub xattrs: Xattrs,
    /// What `inline_data` keeps of the file's bytes here.
    pub inline: Option<Vec<u8>>,
    /// Values that lie in inodes of their own (`ea_inode`): class, name, inode, length.
    pub elsewhere: Vec<(u8, Vec<u8>, u32, u32)>,
}

impl Decoded {
    /// Takes in one attribute.
    pub fn take(&mut self, index: u8, rest: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if index == SYSTEM && rest == b"data" {
            self.inline = Some(value.to_vec());
            return Ok(());
        }
        let (name, value) = join(index, rest, value)?;
        self.xattrs.insert(name, value);
        Ok(())
    }
}

/// The class of what the file system itself keeps as an attribute.
const SYSTEM: u8 = 7;

/// Reads the attributes of an inode's body (from its magic on).
pub(super) fn decode_ibody(ibody: &[u8], into: &mut Decoded) -> Result<(), &'static str> {
    if ibody.len() < 8 || get32(ibody, 0) != XATTR_MAGIC {
        return Ok(());
    }
    decode(&ibody[4..], 0, into)
}

/// Reads the attributes of an attribute block.
pub(super) fn decode_block(block: &[u8], into: &mut Decoded) -> Result<(), &'static str> {
    if block.len() < HEADER_LEN || get32(block, 0) != XATTR_MAGIC || get32(block, 8) != 1 {
        return Err("bad attribute block header");
    }
    decode(block, HEADER_LEN, into)
}

fn decode(area: &[u8], start: usize, into: &mut Decoded) -> Result<(), &'static str> {
    let mut at = start;
    while slice(area, at, 4).is_some_and(|b| b != [0; 4]) {
        let entry = slice(area, at, ENTRY_LEN).ok_or("attribute entry cut off")?;
        let (name_len, index) = (usize::from(entry[0]), entry[1]);
        let (offset, inode, len) = (get16(entry, 2), get32(entry, 4), get32(entry, 8));
        let rest = slice(area, at + ENTRY_LEN, name_len).ok_or("attribute name cut off")?;
        at += (ENTRY_LEN + name_len).next_multiple_of(4);
        if inode != 0 {
            into.elsewhere.push((index, rest.to_vec(), inode, len));
            continue;
        }
        let value = match len {
            0 => &[][..],
            _ => slice(area, usize::from(offset), len as usize).ok_or("attribute value cut off")?,
        };
        into.take(index, rest, value)?;
    }
    Ok(())
}

fn join(index: u8, rest: &[u8], value: &[u8]) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    for (i, full) in [ACL_ACCESS, ACL_DEFAULT] {
        if index == i && rest.is_empty() {
            return Ok((full.to_vec(), acl_from_disk(value).ok_or("malformed ACL")?));
        }
    }
    let prefix = PREFIXES.iter().find(|(i, _)| *i == index).ok_or("unknown attribute class")?.1;
    Ok(([prefix, rest].concat(), value.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_both(encoded: &Encoded) -> Xattrs {
        let mut found = Decoded::default();
        decode_ibody(&encoded.ibody, &mut found).unwrap();
        if !encoded.block.is_empty() {
            decode_block(&encoded.block, &mut found).unwrap();
        }
        found.xattrs
    }

    #[test]
    fn small_ones_stay_in_the_inode_and_all_come_back() {
        let acl = hex::decode("0200000001000700ffffffff020005000a00000004000500ffffffff10000700ffffffff20000500ffffffff").unwrap();
        let xattrs = Xattrs::from([
            (b"security.capability".to_vec(), vec![1; 20]),
            (b"user.empty".to_vec(), vec![]),
            (b"user.big".to_vec(), vec![7; 3001]),
            (b"trusted.\xff\xfe".to_vec(), vec![9; 3]),
            (b"system.posix_acl_access".to_vec(), acl),
        ]);
        let encoded = encode(&xattrs).unwrap();
        assert!(!encoded.ibody.is_empty() && !encoded.block.is_empty());
        assert_eq!(decode_both(&encoded), xattrs);
        let small = Xattrs::from([(b"security.capability".to_vec(), vec![1; 20])]);
        assert!(encode(&small).unwrap().block.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let one = |name: &[u8], len| encode(&Xattrs::from([(name.to_vec(), vec![1; len])]));
        assert!(one(b"user.a", 4040).is_ok());
        assert!(one(b"user.a", 4090).unwrap_err().contains("takes 4096"));
        assert!(one(b"odd.a", 1).unwrap_err().contains("class"));
        assert!(one(b"system.posix_acl_access", 6).unwrap_err().contains("ACL"));
    }
}
