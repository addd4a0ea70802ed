//! Reading images that somebody else made: bounds and budgets for all readers.

use std::sync::Arc;

use tree::{Blob, Content, Part};

use crate::FsError;

/// How much a reader may take in, so that no image decides on our memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Names in all directories together.
    pub entries: u64,
    /// Bytes of paths, link targets and extended attributes together.
    pub meta_bytes: u64,
    /// Runs of blocks of all files together.
    pub parts: u64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        ReadLimits { entries: 2_000_000, meta_bytes: 256 << 20, parts: 4_000_000 }
    }
}

/// What is left of the limits.
#[derive(Debug)]
pub(crate) struct Budget {
    fs: &'static str,
    limits: ReadLimits,
    left: ReadLimits,
}

impl Budget {
    pub fn new(fs: &'static str, limits: ReadLimits) -> Self {
        Budget { fs, limits, left: limits }
    }

    pub fn entry(&mut self) -> Result<(), FsError> {
        take(self.fs, &mut self.left.entries, 1, "entries", self.limits.entries)
    }

    pub fn meta(&mut self, bytes: usize) -> Result<(), FsError> {
        let (what, limit) = ("bytes of names and attributes", self.limits.meta_bytes);
        take(self.fs, &mut self.left.meta_bytes, bytes as u64, what, limit)
    }

    pub fn part(&mut self) -> Result<(), FsError> {
        take(self.fs, &mut self.left.parts, 1, "fragments of files", self.limits.parts)
    }
}

fn take(
    fs: &'static str,
    left: &mut u64,
    count: u64,
    what: &'static str,
    limit: u64,
) -> Result<(), FsError> {
    *left = left.checked_sub(count).ok_or(FsError::Limit { fs, what, limit })?;
    Ok(())
}

/// A range of a file that holds a file system.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub fs: &'static str,
    pub blob: Arc<Blob>,
    /// Where the file system starts.
    pub offset: u64,
    /// Bytes from there to the end of the file or device.
    pub len: u64,
}

impl Image {
    pub fn new(fs: &'static str, blob: &Arc<Blob>, offset: u64) -> Result<Image, FsError> {
        let end = blob.size().map_err(|e| FsError::io(fs, "read", blob.path(), e))?;
        Ok(Image { fs, blob: blob.clone(), offset, len: end.saturating_sub(offset) })
    }

    pub fn corrupt(&self, what: impl Into<String>) -> FsError {
        FsError::Corrupt { fs: self.fs, what: what.into() }
    }

    /// Fills `buf` from byte `at` of the file system.
    pub fn read(&self, buf: &mut [u8], at: u64) -> Result<(), FsError> {
        if at.checked_add(buf.len() as u64).is_none_or(|end| end > self.len) {
            return Err(self.corrupt(format!("byte {at} lies behind the end of the image")));
        }
        self.blob
            .read_exact_at(buf, self.offset + at)
            .map_err(|e| FsError::io(self.fs, "read", self.blob.path(), e))
    }

    /// `len` bytes from `at`; the caller has bounded `len`.
    pub fn bytes(&self, at: u64, len: usize) -> Result<Vec<u8>, FsError> {
        if len as u64 > self.len {
            return Err(self.corrupt(format!("byte {at} lies behind the end of the image")));
        }
        let mut buf = vec![0; len];
        self.read(&mut buf, at)?;
        Ok(buf)
    }
}

/// Puts a file's content together from runs in file order.
pub(crate) struct ContentBuilder<'a> {
    image: &'a Image,
    size: u64,
    at: u64,
    parts: Vec<Part>,
}

impl<'a> ContentBuilder<'a> {
    pub fn new(image: &'a Image, size: u64) -> Self {
        ContentBuilder { image, size, at: 0, parts: Vec::new() }
    }

    /// Says that `len` bytes from `from` of the file are at `place` of the image.
    /// What lies behind the file's end is cut, what is between runs is a hole.
    pub fn run(&mut self, from: u64, len: u64, place: u64) -> Result<(), FsError> {
        if from < self.at {
            return Err(self.image.corrupt("runs of a file overlap"));
        }
        let len = len.min(self.size.saturating_sub(from));
        if len == 0 {
            return Ok(());
        }
        if place.checked_add(len).is_none_or(|end| end > self.image.len) {
            return Err(self.image.corrupt("a file lies behind the end of the image"));
        }
        self.hole_to(from);
        let start = self.image.offset + place;
        match self.parts.last_mut() {
            Some(Part::Data { offset, len: before, .. }) if *offset + *before == start => {
                *before += len;
            }
            _ => {
                let blob = self.image.blob.clone();
                self.parts.push(Part::Data { blob, offset: start, len });
            }
        }
        self.at = from + len;
        Ok(())
    }

    fn hole_to(&mut self, to: u64) {
        if to > self.at {
            self.parts.push(Part::Hole { len: to - self.at });
            self.at = to;
        }
    }

    pub fn finish(mut self) -> Content {
        self.hole_to(self.size);
        match &self.parts[..] {
            [] => Content::empty(),
            [Part::Data { blob, offset, len }] => Content::range(blob.clone(), *offset, *len),
            _ => Content::parts(self.parts),
        }
    }
}
