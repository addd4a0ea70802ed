//! Where the partitions begin, which slot they get, and the table that results.

use std::collections::BTreeSet;

use crate::definition::Definition;
use crate::gpt::{Entry, Name, Table};
use crate::{Bytes, Guid, Sectors, TypeGuid, Version, derive};

use super::fit::Area;
use super::list::Item;
use super::{
    Activity, Context, Defer, DropReason, Dropped, Plan, PlanError, PlannedPartition, Request, size,
};

pub(super) fn place(
    list: &mut [Item<'_>],
    areas: &[Area],
    table: &Table,
    context: &Context,
    warnings: &mut Vec<String>,
) -> Result<(), PlanError> {
    let mut slots: BTreeSet<u32> = table.entries.keys().copied().collect();
    for item in list.iter_mut() {
        if let Some(existing) = &item.existing {
            (item.offset, item.slot) = (existing.offset, existing.slot);
        }
    }
    for (number, area) in areas.iter().enumerate() {
        let (mut start, end) = bounds(list, area, context);
        for item in list.iter_mut().filter(|i| i.area == Some(number) && !i.is_out()) {
            let slot = free_slot(item.kind, &slots, table, context).ok_or(PlanError::NoSlot)?;
            slots.insert(slot);
            (item.offset, item.slot) = (start, slot);
            let taken = item.size.unwrap_or(0).saturating_add(item.padding.unwrap_or(0));
            start = start.saturating_add(taken);
            if context.up(start) <= end {
                start = context.up(start);
            } else if start % context.grain != 0 {
                warnings.push(format!("what follows partition {} is not aligned", slot + 1));
            }
        }
    }
    Ok(())
}

/// Where the first new partition of the area begins, and where the area ends.
fn bounds(list: &[Item<'_>], area: &Area, context: &Context) -> (u64, u64) {
    let end = area.start.saturating_add(area.size);
    let Some(before) = area.after.map(|i| &list[i]) else { return (area.start, end) };
    let taken = before.size.unwrap_or(0).saturating_add(before.padding.unwrap_or(0));
    (context.up(before.offset.saturating_add(taken)), end)
}

/// The slot for a new partition. Since version 262 it is looked for behind the
/// existing partitions of its type, so that an A/B pair stays in order.
fn free_slot(
    kind: TypeGuid,
    taken: &BTreeSet<u32>,
    table: &Table,
    context: &Context,
) -> Option<u32> {
    let free = |from: u32| (from..table.slots).find(|slot| !taken.contains(slot));
    let same = table.entries.iter().filter(|(_, e)| e.kind == kind).map(|(slot, _)| slot + 1);
    let after = same.max().filter(|_| context.compat.version >= Version::V262);
    after.and_then(free).or_else(|| free(0))
}

pub(super) fn finish(
    request: &Request<'_>,
    list: Vec<Item<'_>>,
    mut table: Table,
    disk: u64,
    context: &Context,
    warnings: Vec<String>,
) -> Result<Plan, PlanError> {
    let mut partitions = Vec::new();
    let mut dropped = Vec::new();
    for item in &list {
        match (item.dropped, item.definition) {
            (Some(reason), Some((definition, d))) => {
                dropped.push(Dropped { definition, file: d.path.clone(), reason });
            }
            _ => {
                let mut partition = planned(item, &list, context);
                partition.deferred = is_deferred(item, &request.defer);
                partitions.push(partition);
            }
        }
    }
    let present: BTreeSet<usize> = partitions.iter().filter_map(|p| p.definition).collect();
    for (i, d) in request.definitions.iter().enumerate() {
        if !present.contains(&i) && !dropped.iter().any(|x| x.definition == i) {
            let file = d.path.clone();
            dropped.push(Dropped { definition: i, file, reason: DropReason::CannotGrow });
        }
    }
    for p in partitions.iter().filter(|p| p.definition.is_some() && !p.deferred) {
        enter(&mut table, p, context);
    }
    let changes =
        request.existing.is_none() || partitions.iter().any(|p| p.activity != Activity::Unchanged);
    Ok(Plan {
        disk_size: Bytes(disk),
        device: request.device.clone(),
        version: context.compat.version,
        grain: Bytes(context.grain),
        fresh: request.existing.is_none(),
        changes,
        partitions,
        dropped,
        verity_salt: derive::verity_salt(&request.seed),
        verity_uuid: derive::verity_superblock(&request.seed),
        table,
        warnings,
    })
}

fn planned(item: &Item<'_>, list: &[Item<'_>], context: &Context) -> PlannedPartition {
    let old = item.existing.as_ref();
    let (old_size, old_padding) = old.map_or((0, 0), |e| (e.size, e.padding));
    let size = item.size.unwrap_or(old_size);
    let d = item.definition.map(|(_, d)| d);
    let supplement = item.merged.and_then(|i| list[i].definition).map(|(i, _)| i);
    let activity = match old {
        None => Activity::Create,
        Some(_) if size != old_size => Activity::Resize,
        Some(_) => Activity::Unchanged,
    };
    PlannedPartition {
        definition: item.definition.map(|(i, _)| i),
        supplements: supplement.into_iter().collect(),
        file: d.map(|d| d.path.clone()),
        drop_ins: d.map(|d| d.drop_ins.clone()).unwrap_or_default(),
        kind: item.kind,
        label: item.label.clone(),
        uuid: item.uuid,
        fs_uuid: item.fs_uuid,
        luks_uuid: item.luks_uuid,
        flags: match (old, d) {
            (None, Some(d)) => attributes(d, context),
            (Some(e), _) => e.entry.attributes,
            (None, None) => 0,
        },
        slot: item.slot,
        offset: Bytes(item.offset),
        old_size: Bytes(old_size),
        size: Bytes(size),
        old_padding: Bytes(old_padding),
        padding: Bytes(item.padding.unwrap_or(old_padding)),
        content: item.content.map(Bytes),
        format: d.and_then(|d| d.format.clone()),
        fs_sector_size: Bytes(d.map_or(context.fs_sector, |d| size::fs_sector(d, context))),
        roothash: None,
        split_name: d.and_then(|d| split_name(d, item)),
        split_path: None,
        activity,
        deferred: false,
    }
}

fn is_deferred(item: &Item<'_>, defer: &Defer) -> bool {
    let Some((_, d)) = item.definition else { return false };
    defer.types.contains(&item.kind)
        || (defer.empty && item.label == "_empty")
        || (defer.factory_reset && d.factory_reset)
}

/// The attributes of a new partition. The original loses all of them if one of the
/// lower 48 is set, which libfdisk takes by name only.
fn attributes(d: &Definition, context: &Context) -> u64 {
    match d.attributes() {
        bits if context.compat.original_bugs && bits & ((1 << 48) - 1) != 0 => 0,
        bits => bits,
    }
}

/// `SplitName=` with its own specifiers replaced; `None` if it is disabled.
fn split_name(d: &Definition, item: &Item<'_>) -> Option<String> {
    let pattern = d.split_name.as_deref().filter(|s| *s != "-")?;
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '%' { chars.next() } else { None }) {
            ('%', Some('T')) => out.push_str(&item.kind.0.plain()),
            ('%', Some('t')) => out.push_str(&item.kind.to_string()),
            ('%', Some('U')) => out.push_str(&item.uuid.plain()),
            ('%', Some('n')) => out.push_str(&item.slot.to_string()),
            ('%', Some('%') | None) => out.push('%'),
            ('%', Some(other)) => out.extend(['%', other]),
            (c, _) => out.push(c),
        }
    }
    Some(out)
}

/// Puts a partition into the table. What exists keeps its entry but for its end, and
/// for what it did not have yet.
fn enter(table: &mut Table, p: &PlannedPartition, context: &Context) {
    let name = Name::new(&p.label).unwrap_or_default();
    let first = Sectors(p.offset.0 / context.sector);
    let last = Sectors((first.0 + p.size.0 / context.sector).saturating_sub(1));
    let fresh = Entry {
        kind: p.kind,
        guid: p.uuid,
        first,
        last,
        attributes: p.flags,
        name: name.clone(),
        rest: Vec::new(),
    };
    let entry = table.entries.entry(p.slot).or_insert(fresh);
    entry.last = last;
    if entry.guid == Guid::NIL {
        entry.guid = p.uuid;
    }
    if entry.name.is_empty() {
        entry.name = name;
    }
}
