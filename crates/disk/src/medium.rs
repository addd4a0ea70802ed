//! What images are written through: everything that changes a disk is one of these
//! calls, so that a test can record them and cut the power between any two.
//!
//! What it is: [`Medium`], and how an image file or a block device does it. What it is not: an order of
//! calls; the protocol stands in [`crate::execute`].

use std::fs::File;
use std::io::{self, Cursor, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;

use rustix::fs::{FallocateFlags, fallocate};

use crate::execute::FillError;
use crate::gpt::Disk;

/// Zeroes are written in pieces of this size where the kernel cannot make them.
const PIECE: usize = 1 << 20;

/// A writer of contents, which writes to one range of the file and nowhere else.
pub type Writer<'a> = dyn FnMut(&mut File) -> Result<(), FillError> + 'a;

/// An image file, a block device, or what stands for one in a test.
pub trait Medium: Disk {
    /// How many bytes there are.
    fn len(&mut self) -> io::Result<u64>;

    /// True if there is nothing.
    fn is_empty(&mut self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Makes it longer or shorter.
    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// Makes a range read as zeroes: given back to the file system below (`discard`), or
    /// kept. Never changes the length.
    fn clear(&mut self, at: u64, len: u64, discard: bool) -> io::Result<()>;

    /// Has a range written by somebody who needs a file. What is written may reach the
    /// disk in any order until the next [`Disk::sync`].
    fn contents(&mut self, at: u64, len: u64, writer: &mut Writer<'_>) -> Result<(), FillError>;
}

impl Medium for File {
    fn len(&mut self) -> io::Result<u64> {
        let metadata = self.metadata()?;
        match metadata.file_type().is_block_device() {
            true => self.seek(SeekFrom::End(0)),
            false => Ok(metadata.len()),
        }
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn clear(&mut self, at: u64, len: u64, discard: bool) -> io::Result<()> {
        let len = len.min(Medium::len(self)?.saturating_sub(at));
        if len == 0 {
            return Ok(());
        }
        let ways = [FallocateFlags::PUNCH_HOLE, FallocateFlags::ZERO_RANGE];
        for how in &ways[usize::from(!discard)..] {
            match fallocate(&*self, *how | FallocateFlags::KEEP_SIZE, at, len) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
                Err(e) => return Err(e.into()),
            }
        }
        zeroes(self, at, len)
    }

    fn contents(&mut self, _: u64, _: u64, writer: &mut Writer<'_>) -> Result<(), FillError> {
        writer(self)
    }
}

fn zeroes(file: &File, mut at: u64, len: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let (zeroes, end) = (vec![0; PIECE], at + len);
    while at < end {
        let n = (end - at).min(PIECE as u64);
        file.write_all_at(&zeroes[..n as usize], at)?;
        at += n;
    }
    Ok(())
}

impl Disk for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Disk for Cursor<Vec<u8>> {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
