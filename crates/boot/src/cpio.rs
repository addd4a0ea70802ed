//! newc archives as the kernel unpacks them into its first root file system
//! (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! The writer copies no file: an archive is a [`Content`] of headers between the
//! contents of the tree. newc has no place for xattrs, so they are left out; the
//! reader ([`read`]) is for tests, inspection and fuzzing.

use std::collections::BTreeMap;
use std::sync::Arc;

use tree::{Content, Device, InodeId, Kind, Meta, Mtime, Node, Part, Tree, TreeError, TreePath};

const MAGIC: &[u8; 6] = b"070701";
const HEADER: usize = 110;
const TRAILER: &[u8] = b"TRAILER!!!";
const PATH_MAX: usize = 4096;

const TYPE: u32 = 0o170000;
const DIR: u32 = 0o040000;
const FILE: u32 = 0o100000;
const LINK: u32 = 0o120000;
const CHAR: u32 = 0o020000;
const BLOCK: u32 = 0o060000;
const FIFO: u32 = 0o010000;
const SOCKET: u32 = 0o140000;

/// Why there is no archive, or no tree from one.
#[derive(Debug, thiserror::Error)]
pub enum CpioError {
    /// Sizes have 32 bits.
    #[error("{0}: files of 4 GiB and more do not fit into a cpio archive")]
    TooLarge(TreePath),
    /// Bytes that are no archive.
    #[error("not a newc archive: {what} at byte {at}")]
    Format {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// An archive with a path that cannot be, or a child without its parent.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Writes `tree` (without the root directory itself), in path order, inodes
/// numbered as they come. Times after `latest` are set to it.
pub fn archive(tree: &Tree, latest: Option<Mtime>) -> Result<Content, CpioError> {
    let mut writer = Writer::default();
    let mut numbers: BTreeMap<InodeId, u32> = BTreeMap::new();
    for (path, id, node) in tree.iter().filter(|(p, _, _)| !p.is_root()) {
        let next = numbers.len() as u32 + 1;
        let number = *numbers.entry(id).or_insert(next);
        let first = number == next;
        writer.entry(path, node, number, tree.links(path), first, latest)?;
    }
    Ok(writer.finish())
}

#[derive(Default)]
struct Writer {
    parts: Vec<Part>,
    pending: Vec<u8>,
    len: u64,
}

impl Writer {
    fn entry(
        &mut self,
        path: &TreePath,
        node: &Node,
        number: u32,
        links: u32,
        first: bool,
        latest: Option<Mtime>,
    ) -> Result<(), CpioError> {
        let none = Content::empty();
        let (kind, body, device) = match &node.kind {
            Kind::Dir => (DIR, none, None),
            // The kernel finds further names of a file by its inode number.
            Kind::File(content) => (FILE, if first { content.clone() } else { none }, None),
            Kind::Symlink(target) => (LINK, Content::inline(target.to_vec()), None),
            Kind::CharDev(device) => (CHAR, none, Some(*device)),
            Kind::BlockDev(device) => (BLOCK, none, Some(*device)),
            Kind::Fifo => (FIFO, none, None),
            Kind::Socket => (SOCKET, none, None),
        };
        let size = u32::try_from(body.len()).map_err(|_| CpioError::TooLarge(path.clone()))?;
        let mtime = latest.map_or(node.meta.mtime, |l| l.min(node.meta.mtime)).secs;
        let mtime = mtime.clamp(0, u32::MAX.into()) as u32;
        let device = device.unwrap_or(Device { major: 0, minor: 0 });
        let links = if node.is_dir() { 2 } else { links };
        let mode = kind | u32::from(node.meta.mode);
        let fields = [number, mode, node.meta.uid, node.meta.gid, links, mtime, size];
        self.header(fields, device, path.as_bytes());
        self.body(&body);
        Ok(())
    }

    fn header(&mut self, fields: [u32; 7], rdev: Device, name: &[u8]) {
        let start = self.pending.len();
        self.pending.extend(MAGIC);
        let name_size = name.len() as u32 + 1;
        let device = [0, 0, rdev.major, rdev.minor, name_size, 0];
        for field in fields.into_iter().chain(device) {
            self.pending.extend(format!("{field:08X}").bytes());
        }
        self.pending.extend(name);
        self.pending.push(0);
        self.len += (self.pending.len() - start) as u64;
        self.pad();
    }

    fn body(&mut self, body: &Content) {
        for segment in body.segments() {
            match segment {
                tree::Segment::Bytes(bytes) => self.pending.extend(bytes),
                tree::Segment::Hole { len } => self.part(Part::Hole { len }),
                tree::Segment::Range { blob, offset, len } => {
                    self.part(Part::Data { blob: blob.clone(), offset, len });
                }
            }
        }
        self.len += body.len();
        self.pad();
    }

    fn part(&mut self, part: Part) {
        self.flush();
        self.parts.push(part);
    }

    fn flush(&mut self) {
        if !self.pending.is_empty() {
            let bytes: Arc<[u8]> = std::mem::take(&mut self.pending).into();
            self.parts.push(Part::Bytes(bytes));
        }
    }

    fn pad(&mut self) {
        let pad = self.len.next_multiple_of(4) - self.len;
        self.pending.extend(&[0; 3][..pad as usize]);
        self.len += pad;
    }

    fn finish(mut self) -> Content {
        self.header([0, 0, 0, 0, 1, 0, 0], Device { major: 0, minor: 0 }, TRAILER);
        self.flush();
        Content::parts(self.parts)
    }
}

/// Reads one archive up to its trailer.
pub fn read(bytes: &[u8]) -> Result<Tree, CpioError> {
    let mut tree = Tree::new();
    let mut links: BTreeMap<u32, TreePath> = BTreeMap::new();
    let mut at = 0;
    loop {
        let (fields, name, body) = entry(bytes, &mut at)?;
        if name == TRAILER {
            return Ok(tree);
        }
        let path = TreePath::new(name).map_err(TreeError::from)?;
        if path.is_root() {
            continue;
        }
        let [number, mode, uid, gid, nlink, mtime, ..] = fields;
        let linked = nlink > 1 && mode & TYPE != DIR;
        if let (true, Some(first)) = (linked, links.get(&number)) {
            tree.add_link(path, &first.clone())?;
            continue;
        }
        let device = Device { major: fields[9], minor: fields[10] };
        let kind = match mode & TYPE {
            DIR => Kind::Dir,
            FILE => Kind::File(Content::inline(body.to_vec())),
            LINK => Kind::Symlink(body.into()),
            CHAR => Kind::CharDev(device),
            BLOCK => Kind::BlockDev(device),
            FIFO => Kind::Fifo,
            SOCKET => Kind::Socket,
            _ => return Err(CpioError::Format { what: "an unknown file type", at }),
        };
        let meta = Meta::new((mode & 0o7777) as u16).owned_by(uid, gid);
        let meta = meta.at(Mtime::secs(mtime.into()));
        if linked {
            links.insert(number, path.clone());
        }
        tree.add(path, Node { meta, kind })?;
    }
}

type Entry<'a> = ([u32; 13], &'a [u8], &'a [u8]);

fn entry<'a>(bytes: &'a [u8], at: &mut usize) -> Result<Entry<'a>, CpioError> {
    let start = *at;
    let bad = |what| CpioError::Format { what, at: start };
    let header = bytes.get(start..).and_then(|b| b.get(..HEADER)).ok_or(bad("a cut header"))?;
    if !header.starts_with(MAGIC) {
        return Err(bad("no header"));
    }
    let mut fields = [0; 13];
    for (field, digits) in fields.iter_mut().zip(header[6..].chunks_exact(8)) {
        let text = std::str::from_utf8(digits).ok().filter(|t| !t.starts_with('+'));
        let number = text.and_then(|t| u32::from_str_radix(t, 16).ok());
        *field = number.ok_or(bad("a field that is no number"))?;
    }
    let (size, name_size) = (fields[6] as usize, fields[11] as usize);
    if name_size == 0 || name_size > PATH_MAX {
        return Err(bad("a name of impossible length"));
    }
    let name_end = start + HEADER + name_size;
    let body = name_end.next_multiple_of(4);
    let end = body.checked_add(size).ok_or(bad("a file of impossible length"))?;
    let name = bytes.get(start + HEADER..name_end - 1).ok_or(bad("a cut name"))?;
    let content = bytes.get(body..end).ok_or(bad("a cut file"))?;
    *at = end.next_multiple_of(4);
    Ok((fields, name, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(s: &'static str) -> TreePath {
        TreePath::literal(s)
    }

    fn all_kinds() -> Tree {
        let mut t = Tree::new();
        t.make_dirs(&p("dev")).unwrap();
        let console = Kind::CharDev(Device { major: 5, minor: 1 });
        t.add(p("dev/console"), Node { meta: Meta::new(0o600), kind: console }).unwrap();
        t.add(p("dev/fifo"), Node { meta: Meta::new(0o644), kind: Kind::Fifo }).unwrap();
        let meta = Meta::file(0o4755).owned_by(1, 2).at(Mtime::secs(7_000));
        t.add_file(p("a"), meta, Content::inline(*b"hello")).unwrap();
        t.add_link(p("b"), &p("a")).unwrap();
        t.add_symlink(p("init"), "/usr/lib/systemd/systemd").unwrap();
        t
    }

    #[test]
    fn a_file_byte_by_byte() {
        let mut t = Tree::new();
        let meta = Meta::file(0o644).owned_by(1, 2).at(Mtime::secs(16));
        t.add_file(p("ab"), meta, Content::inline(*b"hello")).unwrap();
        let fields = [
            "00000001", "000081A4", "00000001", "00000002", "00000001", "00000010", "00000005",
            "00000000", "00000000", "00000000", "00000000", "00000003", "00000000",
        ];
        let want = format!("070701{}ab\0\0\0\0hello\0\0\0", fields.concat());
        let bytes = archive(&t, None).unwrap().read(1 << 20).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes[..want.len()]), want);
        assert!(bytes.windows(10).any(|w| w == TRAILER));
    }

    #[test]
    fn what_is_written_reads_back() {
        let tree = all_kinds();
        let latest = Some(Mtime::secs(5_000));
        let bytes = archive(&tree, latest).unwrap().read(1 << 20).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let back = read(&bytes).unwrap();
        let shape = |t: &Tree| -> Vec<_> {
            t.iter()
                .map(|(p, _, n)| (p.clone(), n.kind.name(), n.meta.mode, n.meta.uid, t.links(p)))
                .collect()
        };
        assert_eq!(shape(&back), shape(&tree));
        assert_eq!(back.get(&p("a")).unwrap().meta.mtime, Mtime::secs(5_000), "clamped");
        assert_eq!(back.get(&p("b")).unwrap().content().unwrap().read(9).unwrap(), b"hello");
        let Kind::CharDev(device) = back.get(&p("dev/console")).unwrap().kind else { panic!() };
        assert_eq!(device, Device { major: 5, minor: 1 });
        let again = archive(&back, latest).unwrap().read(1 << 20).unwrap();
        assert_eq!(again, bytes, "the history of a tree does not reach the archive");
    }

    #[test]
    fn damaged_archives_are_errors() {
        let bytes = archive(&all_kinds(), None).unwrap().read(1 << 20).unwrap();
        for end in 0..bytes.len() - 4 {
            assert!(read(&bytes[..end]).is_err(), "cut at {end}");
        }
        let mut huge = bytes.clone();
        huge[6 + 48..6 + 56].copy_from_slice(b"FFFFFFFF");
        assert!(read(&huge).is_err());
    }
}
