//! Which blocks a file has, read from extent trees and from the block lists of
//! ext2 and ext3.

use super::format::*;
use super::read::{RawInode, Volume};
use crate::FsError;
use crate::bytes::*;
use crate::image::Budget;

/// Deepest extent tree that Linux makes.
const DEPTH_MAX: u16 = 5;

/// Blocks that follow each other in the file and in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MapRun {
    pub logical: u64,
    pub count: u64,
    pub place: u64,
}

/// All runs, in file order, without overlaps; unwritten ones left out.
#[derive(Debug, Default)]
pub(super) struct BlockMap {
    pub runs: Vec<MapRun>,
    next: u64,
}

pub(super) struct Mapper<'a> {
    pub volume: &'a Volume,
    pub inode: &'a RawInode,
    pub budget: &'a mut Budget,
}

impl Mapper<'_> {
    pub fn map(mut self) -> Result<BlockMap, FsError> {
        let mut map = BlockMap::default();
        let root = self.inode.pointers();
        if self.inode.flags() & inode_flag::EXTENTS != 0 {
            self.node(root, None, &mut map)?;
            return Ok(map);
        }
        // Without extents: 12 blocks, then lists of one, two, three levels.
        let end = self.inode.size().div_ceil(self.volume.block_len as u64);
        self.list(&root[..48], 0, end, &mut map)?;
        for (slot, level) in [(12, 1), (13, 2), (14, 3)] {
            self.list(&root[slot * 4..slot * 4 + 4], level, end, &mut map)?;
        }
        Ok(map)
    }

    fn corrupt(&self, what: &str) -> FsError {
        self.volume.image.corrupt(format!("inode {}: {what}", self.inode.number))
    }

    fn node(&mut self, node: &[u8], above: Option<u16>, map: &mut BlockMap) -> Result<(), FsError> {
        let (entries, depth) = (usize::from(get16(node, 2)), get16(node, 6));
        if get16(node, 0) != EXTENT_MAGIC || 12 + entries * 12 > node.len() {
            return Err(self.corrupt("an extent node is damaged"));
        }
        if above.map_or(depth > DEPTH_MAX, |above| depth + 1 != above) {
            return Err(self.corrupt("its extent tree has a wrong depth"));
        }
        for entry in node[12..12 + entries * 12].chunks_exact(12) {
            let logical = u64::from(get32(entry, 0));
            if depth == 0 {
                let (len, high) = (u64::from(get16(entry, 4)), u64::from(get16(entry, 6)));
                let place = u64::from(get32(entry, 8)) | high << 32;
                // Longer than the longest: allocated, but reads as zeroes.
                let (len, written) = match len > MAX_EXTENT {
                    true => (len - MAX_EXTENT, false),
                    false => (len, true),
                };
                self.push(map, MapRun { logical, count: len, place }, written)?;
                continue;
            }
            if logical < map.next {
                return Err(self.corrupt("its extent tree is not in order"));
            }
            self.budget.part()?;
            let place = u64::from(get32(entry, 4)) | u64::from(get16(entry, 8)) << 32;
            let block = self.volume.block(place)?;
            self.check_sum(&block)?;
            self.node(&block, Some(depth), map)?;
        }
        Ok(())
    }

    fn check_sum(&self, block: &[u8]) -> Result<(), FsError> {
        let Some(seed) = self.volume.seed else { return Ok(()) };
        let max = usize::from(get16(block, 4));
        let tail = 12 + max * 12;
        let said =
            slice(block, tail, 4).ok_or_else(|| self.corrupt("an extent node is damaged"))?;
        let sum = seed.inode(self.inode.number, self.inode.generation()).add(&block[..tail]);
        match get32(said, 0) == sum.value() {
            true => Ok(()),
            false => Err(self.corrupt("the checksum of an extent node is wrong")),
        }
    }

    fn push(&mut self, map: &mut BlockMap, run: MapRun, written: bool) -> Result<(), FsError> {
        if run.logical < map.next || run.count == 0 {
            return Err(self.corrupt("its extents overlap"));
        }
        if run.place.checked_add(run.count).is_none_or(|end| end > self.volume.blocks) {
            return Err(self.corrupt("its extents lie behind the end"));
        }
        map.next = run.logical + run.count;
        if !written {
            return Ok(());
        }
        match map.runs.last_mut() {
            Some(last)
                if last.logical + last.count == run.logical
                    && last.place + last.count == run.place =>
            {
                last.count += run.count;
            }
            _ => {
                self.budget.part()?;
                map.runs.push(run);
            }
        }
        Ok(())
    }

    /// Takes in a list of blocks, `level` levels above the contents.
    fn list(
        &mut self,
        list: &[u8],
        level: u32,
        end: u64,
        map: &mut BlockMap,
    ) -> Result<(), FsError> {
        let each = (self.volume.block_len as u64 / 4).pow(level);
        for pointer in list.chunks_exact(4) {
            if map.next >= end {
                return Ok(());
            }
            let place = u64::from(get32(pointer, 0));
            match (place, level) {
                (0, _) => map.next += each,
                (_, 0) => {
                    let run = MapRun { logical: map.next, count: 1, place };
                    self.push(map, run, true)?;
                }
                _ => {
                    self.budget.part()?;
                    let block = self.volume.block(place)?;
                    self.list(&block, level - 1, end, map)?;
                }
            }
        }
        Ok(())
    }
}
