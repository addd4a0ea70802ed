//! Puts bytes and file contents at their places in an image, in parallel.
//!
//! A format's planner says *what goes where* as a list of [`Piece`]s; this module
//! does it. Every place is fixed beforehand, so threads and their order reach no
//! byte. Small pieces that lie close together are gathered into one buffer and
//! one write; large ranges are copied by the kernel (`copy_file_range`, which
//! shares the blocks where the file system can), else through a buffer.
//!
//! The region written to must read as zeroes beforehand: what no piece covers is
//! not touched, so it stays a hole in a sparse file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rayon::prelude::*;
use tree::{Blob, Content, Segment};

use crate::FsError;

/// Pieces are gathered into buffers of about this size.
const GATHER: u64 = 1 << 20;
/// Padding up to this long is written as zeroes rather than left out.
const GAP: u64 = 4096;
/// Larger ranges are split, so that threads can share a big file.
const SPLIT: u64 = 8 << 20;

/// Bytes for one place of the image.
pub(crate) struct Piece<'a> {
    /// Absolute offset in the output file.
    pub at: u64,
    /// The bytes.
    pub data: Data<'a>,
}

/// Where a piece's bytes come from.
pub(crate) enum Data<'a> {
    Owned(Vec<u8>),
    Borrowed(&'a [u8]),
    Range { blob: &'a Arc<Blob>, offset: u64, len: u64 },
}

impl Piece<'_> {
    /// How many bytes.
    pub fn len(&self) -> u64 {
        self.data.len()
    }
}

impl Data<'_> {
    fn len(&self) -> u64 {
        match self {
            Data::Owned(bytes) => bytes.len() as u64,
            Data::Borrowed(bytes) => bytes.len() as u64,
            Data::Range { len, .. } => *len,
        }
    }
}

/// A part of a file and its place: bytes `from..to` of the file go to `at`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub from: u64,
    pub to: u64,
    pub at: u64,
}

/// Adds the pieces that put `content` where `targets` (in file order) say. What
/// lies between two targets, or after the end of the file, goes nowhere.
pub(crate) fn push_content<'a>(
    pieces: &mut Vec<Piece<'a>>,
    content: &'a Content,
    targets: impl IntoIterator<Item = Target>,
) {
    let mut targets = targets.into_iter().peekable();
    let mut start = 0u64;
    for segment in content.segments() {
        let end = start + segment.len();
        while let Some(target) = targets.peek() {
            let (a, b) = (start.max(target.from), end.min(target.to));
            if a < b {
                let at = target.at + (a - target.from);
                push_segment(pieces, &segment, (a - start, b - a), at);
            }
            if target.to > end {
                break;
            }
            targets.next();
        }
        start = end;
    }
}

fn push_segment<'a>(
    pieces: &mut Vec<Piece<'a>>,
    segment: &Segment<'a>,
    (skip, len): (u64, u64),
    at: u64,
) {
    match *segment {
        Segment::Hole { .. } => {}
        Segment::Bytes(bytes) => {
            let data = Data::Borrowed(&bytes[skip as usize..(skip + len) as usize]);
            pieces.push(Piece { at, data });
        }
        Segment::Range { blob, offset, .. } => {
            let mut done = 0;
            while done < len {
                let n = (len - done).min(SPLIT);
                let data = Data::Range { blob, offset: offset + skip + done, len: n };
                pieces.push(Piece { at: at + done, data });
                done += n;
            }
        }
    }
}

/// Makes `out` long enough for `size` bytes at `offset`.
pub(crate) fn extend(fs: &'static str, out: &File, offset: u64, size: u64) -> Result<(), FsError> {
    let length = out.metadata().map_err(|e| FsError::output(fs, e))?.len();
    let end = offset.checked_add(size).ok_or_else(|| FsError::Parameter {
        fs,
        what: format!("offset {offset} and size {size} are too large together"),
    })?;
    // A block device has length 0 here and cannot be made longer.
    if length < end && out.metadata().is_ok_and(|m| m.is_file()) {
        out.set_len(end).map_err(|e| FsError::output(fs, e))?;
    }
    Ok(())
}

/// Writes all pieces, which must not overlap, into `out`.
pub(crate) fn write(fs: &'static str, out: &File, mut pieces: Vec<Piece>) -> Result<(), FsError> {
    pieces.sort_by_key(|p| p.at);
    let jobs = jobs(&pieces);
    let failed = jobs.par_iter().map_init(Vec::new, |buffer, job| run(fs, out, job, buffer).err());
    // The first in image order, so that the message does not depend on threads.
    match failed.collect::<Vec<_>>().into_iter().flatten().next() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Cuts the sorted list into runs that one thread writes at once.
fn jobs<'p, 'a>(pieces: &'p [Piece<'a>]) -> Vec<&'p [Piece<'a>]> {
    let mut jobs = Vec::new();
    let mut first = 0;
    for i in 1..=pieces.len() {
        let cut = i == pieces.len() || {
            let (start, last, next) = (&pieces[first], &pieces[i - 1], &pieces[i]);
            let end = last.at + last.data.len();
            next.at.saturating_sub(end) >= GAP || next.at + next.data.len() - start.at > GATHER
        };
        if cut {
            jobs.push(&pieces[first..i]);
            first = i;
        }
    }
    jobs
}

fn run(fs: &'static str, out: &File, job: &[Piece], buffer: &mut Vec<u8>) -> Result<(), FsError> {
    if let [Piece { at, data: Data::Range { blob, offset, len } }] = job
        && *len >= GATHER
        && blob.is_file()
    {
        return blob
            .with_file(|file| copy_range(file, *offset, out, *at, *len, buffer))
            .map_err(|e| FsError::io(fs, "copy from", blob.path(), e));
    }
    let start = job[0].at;
    let end = job.last().map_or(start, |p| p.at + p.data.len());
    buffer.clear();
    buffer.resize((end - start) as usize, 0);
    for piece in job {
        let from = (piece.at - start) as usize;
        let room = &mut buffer[from..from + piece.data.len() as usize];
        load(fs, &piece.data, room)?;
    }
    out.write_all_at(buffer, start).map_err(|e| FsError::output(fs, e))
}

fn load(fs: &'static str, data: &Data, room: &mut [u8]) -> Result<(), FsError> {
    match data {
        Data::Owned(bytes) => room.copy_from_slice(bytes),
        Data::Borrowed(bytes) => room.copy_from_slice(bytes),
        Data::Range { blob, offset, .. } => blob
            .read_exact_at(room, *offset)
            .map_err(|e| FsError::io(fs, "read", blob.path(), e))?,
    }
    Ok(())
}

/// Takes the pieces that begin within `buffer`, the bytes at `start`, out of the
/// list and puts them there. None may reach over its end.
pub(crate) fn fill(
    fs: &'static str,
    buffer: &mut [u8],
    pieces: &mut Vec<Piece>,
    start: u64,
) -> Result<(), FsError> {
    let end = start + buffer.len() as u64;
    for piece in pieces.extract_if(.., |p| (start..end).contains(&p.at)) {
        let from = (piece.at - start) as usize;
        load(fs, &piece.data, &mut buffer[from..from + piece.data.len() as usize])?;
    }
    Ok(())
}

/// Copies `len` bytes in the kernel if it can, else through `buffer`.
fn copy_range(
    from: &File,
    offset: u64,
    to: &File,
    at: u64,
    len: u64,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let (mut source, mut target) = (offset, at);
    let end = offset + len;
    while source < end {
        let left = (end - source) as usize;
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), left) {
            // Nothing copied at all is also how some kernels say "cannot", so
            // let the plain read find out whether the file is too short.
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    while source < end {
        let n = (end - source).min(GATHER) as usize;
        buffer.resize(n, 0);
        from.read_exact_at(buffer, source)?;
        to.write_all_at(buffer, target)?;
        (source, target) = (source + n as u64, target + n as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tree::Part;

    #[test]
    fn places_contents_with_holes_and_reports_short_sources() {
        let mut source = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
        io::Write::write_all(&mut source, &bytes).unwrap();
        let blob = Blob::at_path(source.path());
        let parts = vec![
            Part::Data { blob: blob.clone(), offset: 5, len: 2_500_000 },
            Part::Hole { len: 100 },
            Part::Data { blob: blob.clone(), offset: 0, len: 50 },
        ];
        let content = Content::parts(parts);
        let mut pieces = Vec::new();
        push_content(&mut pieces, &content, [Target { from: 10, to: content.len(), at: 8192 }]);
        pieces.push(Piece { at: 100, data: Data::Owned(b"abc".to_vec()) });
        let out = tempfile::tempfile().unwrap();
        write("test", &out, pieces).unwrap();
        let mut all = vec![0; out.metadata().unwrap().len() as usize];
        out.read_exact_at(&mut all, 0).unwrap();
        assert_eq!(&all[100..103], b"abc");
        assert!(all[8192..] == content.read(9_999_999).unwrap()[10..]);

        let short = Content::range(blob, 2_999_990, 20);
        let mut pieces = Vec::new();
        push_content(&mut pieces, &short, [Target { from: 0, to: 20, at: 0 }]);
        let error = write("test", &out, pieces).unwrap_err();
        assert!(error.to_string().contains("read"), "{error}");
    }
}
