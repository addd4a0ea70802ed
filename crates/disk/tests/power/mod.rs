//! A disk in memory that records what is written to it, and what a power cut may leave
//! of that.
//!
//! The model: what was written before a sync that returned is on the disk; what was
//! written after the last one is there in part, in units of a sector, in any order. Every
//! order leaves what some subset of the units leaves when they are written in the order
//! in which they came.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use disk::Medium;
use disk::execute::FillError;
use disk::gpt::Disk;

/// What is written at once or not at all.
const UNIT: u64 = 512;

/// Something that was done to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

/// A disk in memory.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    pub disk: Cursor<Vec<u8>>,
    pub done: Vec<Operation>,
}

impl Memory {
    pub fn new(bytes: Vec<u8>) -> Memory {
        Memory { disk: Cursor::new(bytes), done: Vec::new() }
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.done.push(Operation::Write(at, bytes.to_vec()));
        apply(self.disk.get_mut(), at, bytes);
    }
}

fn apply(disk: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let (at, end) = (at as usize, at as usize + bytes.len());
    if disk.len() < end {
        disk.resize(end, 0);
    }
    disk[at..end].copy_from_slice(bytes);
}

impl Read for Memory {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.disk.read(buf)
    }
}

impl Seek for Memory {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.disk.seek(to)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let at = self.disk.position();
        self.put(at, bytes);
        self.disk.set_position(at + bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for Memory {
    fn sync(&mut self) -> io::Result<()> {
        self.done.push(Operation::Sync);
        Ok(())
    }
}

impl Medium for Memory {
    fn len(&mut self) -> io::Result<u64> {
        Ok(self.disk.get_ref().len() as u64)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.done.push(Operation::SetLen(len));
        self.disk.get_mut().resize(len as usize, 0);
        Ok(())
    }

    fn clear(&mut self, at: u64, len: u64, _discard: bool) -> io::Result<()> {
        assert!(at + len <= self.disk.get_ref().len() as u64, "nothing is cleared behind the end");
        self.put(at, &vec![0; len as usize]);
        Ok(())
    }

    fn contents(
        &mut self,
        at: u64,
        len: u64,
        writer: &mut disk::Writer<'_>,
    ) -> Result<(), FillError> {
        let mut file = tempfile::tempfile()?;
        file.set_len(self.disk.get_ref().len() as u64)?;
        // What is around the range must stay as it is.
        let before = self.disk.get_ref().clone();
        file.write_all_at(&before, 0)?;
        writer(&mut file)?;
        let mut after = vec![0; before.len()];
        file.read_exact_at(&mut after, 0)?;
        assert_eq!(file.metadata()?.len(), before.len() as u64);
        let (at, end) = (at as usize, (at + len) as usize);
        assert!(before[..at] == after[..at] && before[end..] == after[end..], "it stays inside");
        self.put(at as u64, &after[at..end]);
        Ok(())
    }
}

/// Every moment at which the power may fail: what is on the disk for certain, and what
/// may be.
pub struct Cuts {
    epochs: Vec<(Vec<u8>, Vec<Operation>)>,
}

impl Cuts {
    pub fn new(before: &[u8], done: &[Operation]) -> Cuts {
        let mut disk = before.to_vec();
        let mut epochs = Vec::new();
        let mut pending = Vec::new();
        for operation in done.iter().chain([&Operation::Sync]) {
            match operation {
                Operation::Sync => {
                    let certain = disk.clone();
                    pending.iter().for_each(|unit| replay(&mut disk, unit));
                    epochs.push((certain, std::mem::take(&mut pending)));
                }
                Operation::SetLen(_) => pending.push(operation.clone()),
                Operation::Write(at, bytes) => pending.extend(units(*at, bytes)),
            }
        }
        assert!(pending.is_empty());
        epochs.retain(|(_, units)| !units.is_empty());
        Cuts { epochs }
    }

    pub fn epochs(&self) -> usize {
        self.epochs.len()
    }

    pub fn units(&self, epoch: usize) -> usize {
        self.epochs[epoch].1.len()
    }

    /// The disk after a cut in the epoch, of which the units that `kept` says are there.
    pub fn disk(&self, epoch: usize, mut kept: impl FnMut(usize) -> bool) -> Vec<u8> {
        let (certain, units) = &self.epochs[epoch];
        let mut disk = certain.clone();
        let there = units.iter().enumerate().filter(|(i, _)| kept(*i));
        there.for_each(|(_, unit)| replay(&mut disk, unit));
        disk
    }
}

fn units(at: u64, bytes: &[u8]) -> Vec<Operation> {
    let mut units = Vec::new();
    let (mut at, mut bytes) = (at, bytes);
    while !bytes.is_empty() {
        let n = ((UNIT - at % UNIT) as usize).min(bytes.len());
        units.push(Operation::Write(at, bytes[..n].to_vec()));
        (at, bytes) = (at + n as u64, &bytes[n..]);
    }
    units
}

fn replay(disk: &mut Vec<u8>, unit: &Operation) {
    match unit {
        Operation::Write(at, bytes) => apply(disk, *at, bytes),
        Operation::SetLen(len) => disk.resize(*len as usize, 0),
        Operation::Sync => {}
    }
}
