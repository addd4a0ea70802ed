//! Second step of writing: a place for every block, given a size. Pure.

use super::format::*;
use super::geometry::{Allocator, Geometry, Run, Wanted, blocks_of, default_journal};
use super::inode::{Extent, extent_blocks, push_extents};
use super::survey::{Body, Survey};
use super::{Ext4Options, NAME};
use crate::FsError;

/// Where the blocks of one inode are.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub extents: Vec<Extent>,
    /// Blocks of the extent tree.
    pub tree: Vec<u64>,
}

impl Place {
    /// Blocks in use.
    pub fn blocks(&self) -> u64 {
        self.blocks_of_content() + self.tree.len() as u64
    }

    /// Blocks in use, without those of the extent tree.
    pub fn blocks_of_content(&self) -> u64 {
        self.extents.iter().map(|e| e.run.len).sum()
    }
}

/// A place for everything.
#[derive(Debug)]
pub(super) struct Plan {
    pub geometry: Geometry,
    /// The places of [`Survey::items`].
    pub places: Vec<Place>,
    /// The places of [`Survey::shared`].
    pub shared: Vec<u64>,
    pub journal: Place,
    /// The double indirect block of the resize inode.
    pub resize: Option<u64>,
    /// Every block below is in use, and none above but fixed metadata.
    pub end: u64,
}

impl Plan {
    /// Places everything into `blocks` blocks, or says how many blocks would be
    /// closer to enough: always more than were given.
    pub fn new(survey: &Survey, options: &Ext4Options, blocks: u64) -> Result<Plan, u64> {
        let wanted = Wanted {
            blocks,
            inodes: survey.inodes().max(options.min_inodes),
            bytes_per_inode: options.bytes_per_inode,
            growth: options.growth,
        };
        let geometry = Geometry::new(&wanted).map_err(|closer| closer.max(blocks + 1))?;
        let mut free = Allocator::new(&geometry);
        let journal_blocks = options.journal_blocks.unwrap_or(default_journal(geometry.blocks));
        let mut journal = Place::default();
        place_spans(&mut free, &mut journal, &[(0, journal_blocks)]);
        let resize = (geometry.reserved_gdt > 0).then(|| free.one());
        let mut places: Vec<Place> = survey.items.iter().map(|_| Place::default()).collect();
        // What a path walk reads lies together; contents follow in path order.
        for (item, place) in survey.items.iter().zip(&mut places) {
            match &item.body {
                Body::Dir { layout, .. } => place_spans(&mut free, place, &[(0, layout.len())]),
                Body::Target(_) => place_spans(&mut free, place, &[(0, 1)]),
                _ => {}
            }
        }
        let shared = survey.shared.iter().map(|_| free.one()).collect();
        for (item, place) in survey.items.iter().zip(&mut places) {
            if let Body::File { spans, .. } = &item.body {
                place_spans(&mut free, place, spans);
            }
        }
        let end = free.end();
        let plan = Plan { places, shared, journal, resize, end, geometry };
        let needed = end + options.free.div_ceil(BLOCK);
        let usable = plan.usable();
        if needed <= usable {
            return Ok(plan);
        }
        let closer = blocks.max(plan.geometry.blocks) + (needed - usable);
        // Too little for another group would be left unused, so skip over that.
        let dropped = blocks > plan.geometry.blocks;
        Err(if dropped { closer.max(plan.geometry.next_group_needs()) } else { closer })
    }

    /// Blocks up to which content may reach, less what fixed metadata takes above.
    fn usable(&self) -> u64 {
        let all = self.geometry.reserved.iter();
        let above = all.map(|r| r.end().saturating_sub(r.start.max(self.end)));
        self.geometry.blocks - above.sum::<u64>().min(self.geometry.blocks)
    }

    /// Blocks in use within `run`.
    pub fn used(&self, run: Run) -> u64 {
        let overlap = |from: u64, to: u64| to.min(run.end()).saturating_sub(from.max(run.start));
        let above = self.reserved_in(run).map(|r| overlap(r.start.max(self.end), r.end()));
        overlap(0, self.end) + above.sum::<u64>()
    }

    /// The fixed metadata that touches `run`.
    pub fn reserved_in(&self, run: Run) -> impl Iterator<Item = Run> + '_ {
        let all = &self.geometry.reserved;
        let first = all.partition_point(|r| r.end() <= run.start);
        all[first..].iter().copied().take_while(move |r| r.start < run.end())
    }
}

fn place_spans(free: &mut Allocator, place: &mut Place, spans: &[(u64, u64)]) {
    for (first, count) in spans {
        push_extents(&mut place.extents, *first as u32, &free.take(*count));
    }
    place.tree = (0..extent_blocks(place.extents.len())).map(|_| free.one()).collect();
}

/// The plan for the size that the options give.
pub(super) fn plan(survey: &Survey, options: &Ext4Options) -> Result<Plan, FsError> {
    Plan::new(survey, options, blocks_of(options.size)?).map_err(|closer| FsError::TooSmall {
        fs: NAME,
        given: options.size,
        needed: closer * BLOCK,
    })
}

/// The smallest number of blocks that holds the survey.
pub(super) fn measure(survey: &Survey, options: &Ext4Options) -> Result<u64, FsError> {
    let mut blocks = 64;
    loop {
        match Plan::new(survey, options, blocks) {
            Ok(plan) => return Ok(plan.geometry.blocks),
            Err(closer) => blocks = closer,
        }
        blocks_of(blocks * BLOCK)?;
    }
}
