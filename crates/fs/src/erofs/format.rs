//! Constants, inode and attribute encoding. Source: the kernel's
//! `Documentation/filesystems/erofs.rst` and the on-disk format document of the EROFS project.

use tree::{Device, Meta, Xattrs};

use crate::bytes::*;

/// Bytes of a block: the only size we write.
pub(super) const BLOCK: u64 = 4096;
pub(super) const MAGIC: u32 = 0xe0f5_e1e2;
/// Where the superblock is, and its length.
pub(super) const SUPER_AT: usize = 1024;
pub(super) const SUPER_LEN: usize = 128;
/// Inodes are addressed in units of this.
pub(super) const SLOT: u64 = 32;
/// The form of an inode that has 32-bit owners and nanoseconds.
pub(super) const INODE_LEN: usize = 64;
/// "No address": holes, and inodes without blocks.
pub(super) const NOWHERE: u32 = u32::MAX;

pub(super) const COMPAT_SUM: u32 = 1;
pub(super) const COMPAT_MTIME: u32 = 2;
/// Compressed data ends, not begins, with its blocks.
pub(super) const INCOMPAT_ZERO_PADDING: u32 = 1;
/// Ends of files may lie in a file of their own.
pub(super) const INCOMPAT_FRAGMENTS: u32 = 0x20;
pub(super) const INCOMPAT_CHUNKED: u32 = 4;
pub(super) const INCOMPAT_DEVICES: u32 = 8;

/// How an inode's data is stored.
pub(super) mod layout {
    pub const PLAIN: u16 = 0;
    pub const PACKED_FULL: u16 = 1;
    pub const INLINE: u16 = 2;
    pub const PACKED: u16 = 3;
    pub const CHUNKS: u16 = 4;
}

/// Chunks: entries of eight bytes rather than four.
pub(super) const CHUNK_WIDE: u16 = 0x20;

/// Length of a directory entry without its name.
pub(super) const DIRENT_LEN: usize = 12;

const XATTR_HEADER: usize = 12;
const PREFIXES: [(u8, &[u8]); 3] = [(1, b"user."), (4, b"trusted."), (6, b"security.")];
/// ACLs have names of their own and the form of `getxattr`.
const ACLS: [(u8, &[u8]); 2] = [(2, b"system.posix_acl_access"), (3, b"system.posix_acl_default")];

/// The attributes as they follow an inode; empty if there are none.
pub(super) fn encode_xattrs(xattrs: &Xattrs) -> Result<Vec<u8>, String> {
    if xattrs.is_empty() {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; XATTR_HEADER];
    for (name, value) in xattrs {
        let shown = || String::from_utf8_lossy(name).into_owned();
        let (index, rest) = split(name)
            .ok_or_else(|| format!("extended attribute {:?} is of no class erofs has", shown()))?;
        let len = u16::try_from(value.len())
            .map_err(|_| format!("extended attribute {:?} is over 65535 bytes", shown()))?;
        bytes.extend_from_slice(&[rest.len() as u8, index]);
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    match (bytes.len() - XATTR_HEADER) / 4 < usize::from(u16::MAX) {
        true => Ok(bytes),
        false => Err("its extended attributes are over 256 KiB".into()),
    }
}

fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    if let Some((index, _)) = ACLS.iter().find(|(_, full)| *full == name) {
        return Some((*index, b""));
    }
    let (index, rest) = PREFIXES.iter().find_map(|(i, p)| Some((*i, name.strip_prefix(*p)?)))?;
    (!rest.is_empty() && rest.len() <= 255).then_some((index, rest))
}

/// The full name of an attribute as stored.
pub(super) fn join(index: u8, rest: &[u8]) -> Option<Vec<u8>> {
    if let Some((_, full)) = ACLS.iter().find(|(i, _)| *i == index && rest.is_empty()) {
        return Some(full.to_vec());
    }
    let (_, prefix) = PREFIXES.iter().find(|(i, _)| *i == index)?;
    Some([*prefix, rest].concat())
}

/// What [`encode_xattrs`] gave, in the inode's own count.
pub(super) fn xattr_count(bytes: usize) -> u16 {
    if bytes == 0 { 0 } else { ((bytes - XATTR_HEADER) / 4 + 1) as u16 }
}

/// The reverse: bytes after an inode that are attributes.
pub(super) fn xattr_bytes(count: u16) -> usize {
    if count == 0 { 0 } else { XATTR_HEADER + 4 * (usize::from(count) - 1) }
}

/// An inode.
pub(super) struct RawInode<'a> {
    pub layout: u16,
    pub mode: u16,
    pub meta: &'a Meta,
    pub size: u64,
    /// First block, device, or form of the chunks.
    pub union: u32,
    pub number: u32,
    pub links: u32,
    pub xattr_len: usize,
}

impl RawInode<'_> {
    pub fn encode(&self) -> Vec<u8> {
        let mut b = vec![0; INODE_LEN];
        put16(&mut b, 0, 1 | self.layout << 1);
        put16(&mut b, 2, xattr_count(self.xattr_len));
        put16(&mut b, 4, self.mode);
        put32(&mut b, 8, self.size as u32);
        put32(&mut b, 12, (self.size >> 32) as u32);
        put32(&mut b, 16, self.union);
        put32(&mut b, 20, self.number);
        put32(&mut b, 24, self.meta.uid);
        put32(&mut b, 28, self.meta.gid);
        put32(&mut b, 32, self.meta.mtime.secs as u32);
        put32(&mut b, 36, (self.meta.mtime.secs >> 32) as u32);
        put32(&mut b, 40, self.meta.mtime.nanos);
        put32(&mut b, 44, self.links);
        b
    }
}

/// A device number as the kernel stores it; `None` if Linux has no such number.
pub(super) fn encode_device(device: Device) -> Option<u32> {
    let Device { major, minor } = device;
    let fits = major < 1 << 12 && minor < 1 << 20;
    fits.then_some((minor & 0xff) | major << 8 | (minor & !0xff) << 12)
}

/// The reverse of [`encode_device`].
pub(super) fn decode_device(value: u32) -> Device {
    Device { major: (value >> 8) & 0xfff, minor: (value & 0xff) | ((value >> 12) & 0xf_ff00) }
}

/// The superblock's checksum: over its block, the field itself taken as 0.
pub(super) fn checksum(block: &[u8]) -> u32 {
    let mut copy = block.to_vec();
    put32(&mut copy, 4, 0);
    // Not inverted at the end.
    !crc32c::crc32c(&copy)
}
