//! Which partitions fit into which free area, and what is dropped until they do.

use crate::gpt::Table;

use super::list::Item;
use super::{Context, DropReason, PlanError, size};

/// All combinations of supplements are tried, so there may not be many.
const MAX_SUPPLEMENTS: usize = 12;

/// Free space on the disk.
#[derive(Debug, Clone)]
pub(super) struct Area {
    /// Index of the partition that it follows; `None` at the start of the disk.
    pub after: Option<usize>,
    pub size: u64,
    /// Where it begins if it follows no partition.
    pub start: u64,
    allocated: u64,
}

/// The free areas of `table`; also fills in how much space follows each partition.
pub(super) fn free_areas(list: &mut [Item<'_>], table: &Table, context: &Context) -> Vec<Area> {
    let start = context.up(table.first_usable.0.saturating_mul(context.sector));
    let end = context.down((table.last_usable.0.saturating_add(1)).saturating_mul(context.sector));
    let mut starts: Vec<u64> =
        list.iter().filter_map(|i| i.existing.as_ref()).map(|e| e.offset).collect();
    starts.sort_unstable();
    let first = starts.first().map_or(end, |s| context.down(*s));
    let mut areas = Vec::new();
    if first > start {
        areas.push(Area { after: None, size: first - start, start, allocated: 0 });
    }
    for (at, item) in list.iter_mut().enumerate() {
        let from = context.up(item.current_end());
        let Some(existing) = &mut item.existing else { continue };
        let next = starts.iter().find(|s| **s > existing.offset).map_or(end, |s| context.down(*s));
        existing.padding = next.saturating_sub(from);
        if existing.padding > 0 {
            let size = existing.padding;
            areas.push(Area { after: Some(at), size, start: from, allocated: 0 });
        }
    }
    areas
}

impl Area {
    /// Where the free space begins as things are.
    fn current_start(&self, list: &[Item<'_>], context: &Context) -> u64 {
        self.after.map_or(0, |i| context.up(list[i].current_end()))
    }

    /// Where it begins when the partition before it has what it needs.
    fn required_start(&self, list: &[Item<'_>], context: &Context) -> u64 {
        let Some(item) = self.after.map(|i| &list[i]) else { return 0 };
        let offset = item.existing.as_ref().map_or(0, |e| e.offset);
        context.up(offset.saturating_add(size::required(item, list, context)))
    }

    fn available(&self, list: &[Item<'_>], context: &Context) -> u64 {
        let end = self.current_start(list, context).saturating_add(self.size);
        end.saturating_sub(self.required_start(list, context))
    }
}

/// Puts every new partition into an area, dropping and un-merging what it takes.
/// False if there is no way.
pub(super) fn fit(
    list: &mut [Item<'_>],
    areas: &mut [Area],
    context: &Context,
) -> Result<bool, PlanError> {
    loop {
        if allocate(list, areas, context) || unmerge(list, areas, context)? {
            for item in list.iter_mut().filter(|i| i.merged_into.is_some()) {
                item.dropped = Some(DropReason::Supplement);
            }
            return Ok(true);
        }
        if !drop_a_priority(list) {
            return Ok(false);
        }
    }
}

/// First fit, smallest area first. True if everything has a place.
fn allocate(list: &mut [Item<'_>], areas: &mut [Area], context: &Context) -> bool {
    list.iter_mut().for_each(|i| i.area = None);
    areas.iter_mut().for_each(|a| a.allocated = 0);
    areas.sort_by_cached_key(|a| a.available(list, context));
    let squeezed = |a: &Area| {
        let end = a.current_start(list, context).saturating_add(a.size);
        end < a.required_start(list, context)
    };
    if areas.iter().any(squeezed) {
        return false;
    }
    for at in 0..list.len() {
        let item = &list[at];
        if item.is_out() || item.is_foreign() {
            continue;
        }
        let required = size::required(item, list, context);
        if let Some(e) = &item.existing {
            if e.size.saturating_add(e.padding) < required {
                return false;
            }
            continue;
        }
        let free = |a: &Area| a.available(list, context).saturating_sub(a.allocated);
        let Some(area) = areas.iter().position(|a| free(a) >= required) else { return false };
        areas[area].allocated = areas[area].allocated.saturating_add(required);
        list[at].area = Some(area);
    }
    true
}

/// Tries to give supplements partitions of their own, as few as possible.
fn unmerge(
    list: &mut [Item<'_>],
    areas: &mut [Area],
    context: &Context,
) -> Result<bool, PlanError> {
    let mergeable = |i: &usize| {
        let target = list[*i].merged_into.map(|t| &list[t]);
        list[*i].dropped.is_none() && target.is_some_and(|t| t.dropped.is_none())
    };
    let supplements: Vec<usize> = (0..list.len()).filter(mergeable).collect();
    if supplements.len() > MAX_SUPPLEMENTS {
        return Err(PlanError::TooManySupplements(MAX_SUPPLEMENTS));
    }
    for count in 1..=supplements.len() {
        for chosen in combinations(&supplements, count) {
            let saved: Vec<usize> = chosen.iter().filter_map(|i| list[*i].merged_into).collect();
            for (supplement, target) in chosen.iter().zip(&saved) {
                list[*supplement].merged_into = None;
                list[*target].merged = None;
            }
            if allocate(list, areas, context) {
                return Ok(true);
            }
            for (supplement, target) in chosen.iter().zip(&saved) {
                list[*supplement].merged_into = Some(*target);
                list[*target].merged = Some(*supplement);
            }
        }
    }
    Ok(false)
}

/// Every choice of `count` of `from`, in the order of the list.
fn combinations(from: &[usize], count: usize) -> Vec<Vec<usize>> {
    match (count, from) {
        (0, _) => vec![Vec::new()],
        (_, []) => Vec::new(),
        (_, [first, rest @ ..]) => {
            let with = combinations(rest, count - 1).into_iter().map(|mut c| {
                c.insert(0, *first);
                c
            });
            with.chain(combinations(rest, count)).collect()
        }
    }
}

/// Drops everything of the largest priority number above 0. Existing partitions
/// are kept as they are. False if nothing may be dropped.
fn drop_a_priority(list: &mut [Item<'_>]) -> bool {
    let priority = |i: &Item<'_>| i.definition.map_or(0, |(_, d)| d.priority);
    let candidates = list.iter().filter(|i| i.dropped.is_none()).map(priority);
    let Some(highest) = candidates.filter(|p| *p > 0).max() else { return false };
    for at in 0..list.len() {
        if list[at].dropped.is_some() || priority(&list[at]) != highest {
            continue;
        }
        // A supplement goes with its target, but not the other way round.
        if let Some(target) = list[at].merged_into.take() {
            list[target].merged = None;
        }
        match list[at].existing {
            Some(_) => list[at].definition = None,
            None => list[at].dropped = Some(DropReason::Priority),
        }
    }
    true
}
