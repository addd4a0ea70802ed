//! Where the contents of new files go when a tree is read back.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{SeekFrom, seek};
use tree::{Blob, Content, Part};

/// Keeps contents. A store implements this; [`PackSink`] is the simplest one.
pub trait ContentSink {
    /// Keeps the first `len` bytes of `file`. Holes need not be kept as zeroes: see
    /// [`data_ranges`].
    fn add(&mut self, file: &File, len: u64) -> io::Result<Content>;
}

/// Files up to this size are kept in memory by [`PackSink`].
const INLINE_MAX: u64 = 128;

/// The parts of the first `len` bytes of a file that are not holes, in order.
pub fn data_ranges(file: &File, len: u64) -> io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < len {
        let start = match seek(file.as_fd(), SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole up to the end.
            Err(rustix::io::Errno::NXIO) => break,
            // The file system knows no holes.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => at,
            Err(e) => return Err(e.into()),
        };
        if start >= len {
            break;
        }
        let end = seek(file.as_fd(), SeekFrom::Hole(start)).unwrap_or(len).min(len);
        ranges.push(start..end);
        at = end.max(start + 1);
    }
    seek(file.as_fd(), SeekFrom::Start(0))?;
    Ok(ranges)
}

/// Keeps contents one after the other in one file.
#[derive(Debug)]
pub struct PackSink {
    blob: Arc<Blob>,
    file: File,
    end: u64,
}

impl PackSink {
    /// Appends to `file` (open for reading and writing), which is at `path`.
    pub fn new(path: impl Into<PathBuf>, file: File) -> io::Result<PackSink> {
        let end = file.metadata()?.len();
        let blob = Blob::opened(path, file.try_clone()?, None);
        Ok(PackSink { blob, file, end })
    }

    /// Appends to the empty `file`, which contents will refer to as `blob`: for a
    /// store, which knows the blob's name before the file has it.
    pub fn for_blob(blob: Arc<Blob>, file: File) -> PackSink {
        PackSink { blob, file, end: 0 }
    }

    fn append(&mut self, from: &File, range: Range<u64>) -> io::Result<Part> {
        let (offset, len) = (self.end, range.end - range.start);
        copy_range(from, range.start, &self.file, offset, len)?;
        self.end += len;
        Ok(Part::Data { blob: self.blob.clone(), offset, len })
    }
}

impl ContentSink for PackSink {
    fn add(&mut self, file: &File, len: u64) -> io::Result<Content> {
        if len <= INLINE_MAX {
            let mut bytes = vec![0; len as usize];
            file.read_exact_at(&mut bytes, 0)?;
            return Ok(Content::inline(bytes));
        }
        let mut parts = Vec::new();
        let mut at = 0;
        for range in data_ranges(file, len)? {
            if range.start > at {
                parts.push(Part::Hole { len: range.start - at });
            }
            at = range.end;
            parts.push(self.append(file, range)?);
        }
        if at < len {
            parts.push(Part::Hole { len: len - at });
        }
        match &parts[..] {
            [Part::Data { blob, offset, len }] => Ok(Content::range(blob.clone(), *offset, *len)),
            _ => Ok(Content::parts(parts)),
        }
    }
}

/// How much is copied at once where the kernel does not do it.
const BUFFER: usize = 128 * 1024;

/// Copies bytes between files, in the kernel where possible.
pub(crate) fn copy_range(
    from: &File,
    mut start: u64,
    to: &File,
    mut at: u64,
    mut len: u64,
) -> io::Result<()> {
    while len > 0 {
        let chunk = usize::try_from(len).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut start), to, Some(&mut at), chunk) {
            Ok(0) | Err(_) => break,
            Ok(copied) => len -= copied as u64,
        }
    }
    let mut buffer = vec![0; BUFFER.min(usize::try_from(len).unwrap_or(BUFFER))];
    while len > 0 {
        let chunk = buffer.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        from.read_exact_at(&mut buffer[..chunk], start)?;
        to.write_all_at(&buffer[..chunk], at)?;
        (start, at, len) = (start + chunk as u64, at + chunk as u64, len - chunk as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tree::Segment;

    #[test]
    fn holes_stay_holes() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(true);
            options.open(dir.path().join(name)).unwrap()
        };
        let sparse = open("sparse");
        sparse.write_all_at(b"head", 0).unwrap();
        sparse.write_all_at(b"tail", 10 << 20).unwrap();
        let len = (20 << 20) + 5;
        sparse.set_len(len).unwrap();
        let mut sink = PackSink::new(dir.path().join("pack"), open("pack")).unwrap();
        let before = sink.add(&open("empty"), 0).unwrap();
        assert!(before.is_empty());
        let content = sink.add(&sparse, len).unwrap();
        assert_eq!(content.len(), len);
        let mut end = [1; 16];
        content.read_at(&mut end, (10 << 20) - 2).unwrap();
        assert_eq!(&end, b"\0\0tail\0\0\0\0\0\0\0\0\0\0");
        let held: u64 = content
            .segments()
            .filter(|s| !matches!(s, Segment::Hole { .. }))
            .map(|s| s.len())
            .sum();
        assert!(held < 1 << 20, "{held} bytes of a sparse file were kept");
        let small = open("small");
        small.write_all_at(&[7; 1000], 0).unwrap();
        assert_eq!(sink.add(&small, 1000).unwrap().read(1000).unwrap(), [7; 1000]);
    }
}
