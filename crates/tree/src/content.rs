//! Where the bytes of a file are, without holding them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file on the host that holds bytes of a Tree: a pack of the store, a disk
/// image, or a single file of a directory; or bytes that are computed when they are
/// read, such as a compressed file of an image.
///
/// A pack is opened once and shared by everything in it. A single file is opened
/// at each use and not kept, so that a tree of a million files needs no million
/// descriptors.
#[derive(Debug)]
pub struct Blob {
    path: PathBuf,
    source: Source,
    id: Option<BlobId>,
}

#[derive(Debug)]
enum Source {
    Path,
    File(File),
    Computed(Box<dyn ReadAt>),
}

/// Bytes that are no range of a file: what is in a qcow2 disk, or in a compressed file
/// of a file system.
pub trait ReadAt: std::fmt::Debug + Send + Sync {
    /// How many bytes there are.
    fn size(&self) -> u64;
    /// Fills `buf` from `offset`; an error if there are not as many bytes.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

/// What a blob is called where it is kept by content (see `store`): the only
/// kind of blob that a serialised Tree may refer to.
pub type BlobId = [u8; 32];

impl Blob {
    /// A file of a directory, opened at each use.
    pub fn at_path(path: impl Into<PathBuf>) -> Arc<Blob> {
        Arc::new(Blob { path: path.into(), source: Source::Path, id: None })
    }

    /// A file that stays open, such as a pack (then with its id) or an image.
    pub fn opened(path: impl Into<PathBuf>, file: File, id: Option<BlobId>) -> Arc<Blob> {
        Arc::new(Blob { path: path.into(), source: Source::File(file), id })
    }

    /// Bytes that are made when they are read; `path` is for messages.
    pub fn computed(path: impl Into<PathBuf>, bytes: impl ReadAt + 'static) -> Arc<Blob> {
        Arc::new(Blob { path: path.into(), source: Source::Computed(Box::new(bytes)), id: None })
    }

    /// The path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content address, for blobs kept in the store.
    pub fn id(&self) -> Option<BlobId> {
        self.id
    }

    /// True if there is a file, so that the kernel can copy from it.
    pub fn is_file(&self) -> bool {
        !matches!(self.source, Source::Computed(_))
    }

    /// Calls `f` with the open file; an error if the bytes are computed.
    pub fn with_file<T>(&self, f: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        match &self.source {
            Source::File(file) => f(file),
            Source::Path => f(&File::open(&self.path)?),
            Source::Computed(_) => {
                let message = "these bytes are computed, they lie in no file";
                Err(io::Error::new(io::ErrorKind::Unsupported, message))
            }
        }
    }

    /// Fills `buf` from `offset`, wherever the bytes come from.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.source {
            Source::Computed(bytes) => bytes.read_exact_at(buf, offset),
            _ => self.with_file(|file| file.read_exact_at(buf, offset)),
        }
    }

    /// How many bytes there are, also of a block device.
    pub fn size(&self) -> io::Result<u64> {
        match &self.source {
            Source::Computed(bytes) => Ok(bytes.size()),
            _ => self.with_file(|file| match file.metadata()? {
                meta if meta.is_file() => Ok(meta.len()),
                _ => (&mut &*file).seek(SeekFrom::End(0)),
            }),
        }
    }
}

/// A run of bytes of a file.
#[derive(Debug, Clone)]
pub enum Part {
    /// `len` bytes of `blob` from `offset`.
    Data {
        /// The file that has the bytes.
        blob: Arc<Blob>,
        /// Where in that file.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// Bytes in memory, such as a header between two ranges.
    Bytes(Arc<[u8]>),
    /// `len` zero bytes that need no space.
    Hole {
        /// How many.
        len: u64,
    },
}

impl Part {
    /// How many bytes.
    pub fn len(&self) -> u64 {
        match self {
            Part::Data { len, .. } | Part::Hole { len } => *len,
            Part::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// True if it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The content of a regular file. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Content {
    len: u64,
    repr: Repr,
}

#[derive(Debug, Clone)]
enum Repr {
    Inline(Arc<[u8]>),
    Parts(Arc<[Part]>),
    // The common case has no allocation of its own.
    One(Arc<Blob>, u64),
}

/// One run as a sink sees it: bytes at hand, a range to copy, or a hole.
#[derive(Debug)]
pub enum Segment<'a> {
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// A range of a file, to be copied with `copy_file_range` or `pread`.
    Range {
        /// The file.
        blob: &'a Arc<Blob>,
        /// Where it starts.
        offset: u64,
        /// How long it is.
        len: u64,
    },
    /// Zeroes.
    Hole {
        /// How many.
        len: u64,
    },
}

impl Content {
    /// No bytes at all.
    pub fn empty() -> Self {
        Self::inline(Vec::new())
    }

    /// Bytes held in memory: for small and generated files.
    pub fn inline(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Content { len: bytes.len() as u64, repr: Repr::Inline(bytes) }
    }

    /// A range of a blob.
    pub fn range(blob: Arc<Blob>, offset: u64, len: u64) -> Self {
        Content { len, repr: Repr::One(blob, offset) }
    }

    /// Several ranges and holes one after the other.
    pub fn parts(parts: impl Into<Arc<[Part]>>) -> Self {
        let parts = parts.into();
        Content { len: parts.iter().map(Part::len).sum(), repr: Repr::Parts(parts) }
    }

    /// Several contents one after the other; no byte is copied.
    pub fn concat<'a>(contents: impl IntoIterator<Item = &'a Content>) -> Self {
        let parts: Vec<Part> = contents.into_iter().flat_map(Content::as_parts).collect();
        Self::parts(parts)
    }

    fn as_parts(&self) -> Vec<Part> {
        match &self.repr {
            Repr::Inline(bytes) => vec![Part::Bytes(bytes.clone())],
            Repr::One(blob, offset) => {
                vec![Part::Data { blob: blob.clone(), offset: *offset, len: self.len }]
            }
            Repr::Parts(parts) => parts.to_vec(),
        }
    }

    /// At most `len` bytes from `offset`; no byte of a file is copied.
    pub fn slice(&self, offset: u64, len: u64) -> Self {
        let end = offset.saturating_add(len).min(self.len);
        let (mut at, mut parts) = (0u64, Vec::new());
        for part in self.as_parts() {
            let next = at + part.len();
            let (from, to) = (offset.max(at), end.min(next));
            if from < to {
                let (skip, len) = (from - at, to - from);
                parts.push(match part {
                    Part::Data { blob, offset, .. } => {
                        Part::Data { blob, offset: offset + skip, len }
                    }
                    Part::Bytes(bytes) => {
                        Part::Bytes(bytes[skip as usize..(skip + len) as usize].into())
                    }
                    Part::Hole { .. } => Part::Hole { len },
                });
            }
            at = next;
        }
        Self::parts(parts)
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True if the file is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether both read the same bytes from the same place: without reading them, so
    /// what is false may still be equal. True of a clone.
    pub fn is_same_place(&self, other: &Content) -> bool {
        match (&self.repr, &other.repr) {
            (Repr::Inline(a), Repr::Inline(b)) => a == b,
            (Repr::Parts(a), Repr::Parts(b)) => Arc::ptr_eq(a, b),
            (Repr::One(a, from), Repr::One(b, at)) => {
                Arc::ptr_eq(a, b) && from == at && self.len == other.len
            }
            _ => false,
        }
    }

    /// The runs, in order.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let (one, parts) = match &self.repr {
            Repr::Inline(bytes) => (Some(Segment::Bytes(bytes)), &[][..]),
            Repr::One(blob, offset) => {
                (Some(Segment::Range { blob, offset: *offset, len: self.len }), &[][..])
            }
            Repr::Parts(parts) => (None, &parts[..]),
        };
        one.into_iter().chain(parts.iter().map(|p| match p {
            Part::Data { blob, offset, len } => Segment::Range { blob, offset: *offset, len: *len },
            Part::Bytes(bytes) => Segment::Bytes(bytes),
            Part::Hole { len } => Segment::Hole { len: *len },
        }))
    }

    /// Reads the whole file, refusing one of more than `limit` bytes: nothing
    /// that an image contains may decide how much memory we use.
    pub fn read(&self, limit: u64) -> io::Result<Vec<u8>> {
        if self.len > limit {
            let message = format!("file of {} bytes is larger than the limit of {limit}", self.len);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        let mut bytes = vec![0; self.len as usize];
        let read = self.read_at(&mut bytes, 0)?;
        if read < bytes.len() {
            return Err(self.cut_short());
        }
        Ok(bytes)
    }

    /// Fills `buf` from `offset`; returns how many bytes there were.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let want = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let (mut at, mut done) = (0u64, 0usize);
        for segment in self.segments() {
            let len = segment.len();
            let skip = (offset + done as u64).saturating_sub(at);
            if skip < len && done < want {
                let n = ((len - skip) as usize).min(want - done);
                segment.read_exact_at(&mut buf[done..done + n], skip)?;
                done += n;
            }
            at += len;
        }
        Ok(done)
    }

    /// A reader from the start.
    pub fn reader(&self) -> impl Read + '_ {
        ContentReader { content: self, offset: 0 }
    }

    fn cut_short(&self) -> io::Error {
        io::Error::new(io::ErrorKind::UnexpectedEof, "the file that holds the content is too short")
    }
}

impl Segment<'_> {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Segment::Bytes(bytes) => bytes.len() as u64,
            Segment::Range { len, .. } | Segment::Hole { len } => *len,
        }
    }

    /// True if it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read_exact_at(&self, buf: &mut [u8], skip: u64) -> io::Result<()> {
        match self {
            Segment::Bytes(bytes) => {
                buf.copy_from_slice(&bytes[skip as usize..skip as usize + buf.len()]);
                Ok(())
            }
            Segment::Hole { .. } => {
                buf.fill(0);
                Ok(())
            }
            Segment::Range { blob, offset, .. } => blob
                .read_exact_at(buf, offset + skip)
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", blob.path().display()))),
        }
    }
}

struct ContentReader<'a> {
    content: &'a Content,
    offset: u64,
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.content.read_at(buf, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concatenates_what_is_in_memory_and_holes() {
        let hole = Content::parts(vec![Part::Hole { len: 2 }]);
        let nested = Content::concat([&Content::inline(*b"ab"), &hole]);
        let all = Content::concat([&nested, &Content::empty(), &Content::inline(*b"c")]);
        assert_eq!(all.len(), 5);
        assert_eq!(all.read(9).unwrap(), b"ab\0\0c");
        let mut buf = [0; 2];
        assert_eq!(all.read_at(&mut buf, 3).unwrap(), 2);
        assert_eq!(&buf, b"\0c");
    }

    #[test]
    fn a_slice_cuts_parts() {
        let hole = Content::parts(vec![Part::Hole { len: 3 }]);
        let all = Content::concat([&Content::inline(*b"abc"), &hole, &Content::inline(*b"xyz")]);
        assert_eq!(all.slice(1, 6).read(9).unwrap(), b"bc\0\0\0x");
        assert_eq!(all.slice(7, 100).read(9).unwrap(), b"yz");
        assert!(all.slice(9, 1).is_empty() && all.slice(u64::MAX, u64::MAX).is_empty());
    }

    #[test]
    fn reads_across_parts_and_holes() {
        let dir = std::env::temp_dir().join(format!("mkgold-content-{}", std::process::id()));
        std::fs::write(&dir, b"0123456789").unwrap();
        let blob = Blob::at_path(&dir);
        let data = |offset, len| Part::Data { blob: blob.clone(), offset, len };
        let content = Content::parts(vec![data(2, 3), Part::Hole { len: 2 }, data(8, 2)]);
        assert_eq!(content.read(100).unwrap(), b"234\0\x0089");
        let mut buf = [9; 4];
        assert_eq!(content.read_at(&mut buf, 2).unwrap(), 4);
        assert_eq!(&buf, b"4\0\x008");
        let mut all = Vec::new();
        content.reader().read_to_end(&mut all).unwrap();
        assert_eq!(all.len() as u64, content.len());
        assert!(content.read(3).is_err(), "the limit holds");
        assert!(Content::range(blob, 5, 50).read(100).is_err(), "a short blob is an error");
        std::fs::remove_file(dir).unwrap();
    }
}
