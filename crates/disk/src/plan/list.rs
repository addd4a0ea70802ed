//! The list of partitions to be: definitions matched with what is there, foreign
//! partitions behind them, and the names and identifiers of all.

use crate::definition::{Definition, Encrypt, Verity};
use crate::gpt::{Entry, Table};
use crate::{Guid, TypeGuid, derive};

use super::fit::Area;
use super::{Context, DropReason, Request};

/// A partition in the making.
#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    /// Its definition and the index of it. A foreign partition has none.
    pub definition: Option<(usize, &'a Definition)>,
    /// What exists of it.
    pub existing: Option<Existing>,
    /// Index of the item that is merged into this one.
    pub merged: Option<usize>,
    /// Index of the item that this one is merged into.
    pub merged_into: Option<usize>,
    /// Why it makes no partition.
    pub dropped: Option<DropReason>,
    pub kind: TypeGuid,
    pub uuid: Guid,
    pub fs_uuid: Guid,
    pub luks_uuid: Guid,
    pub label: String,
    /// The size of its content where that is fixed.
    pub content: Option<u64>,
    /// At least this large because of what it holds, beyond its definition.
    pub hash_min: Option<u64>,
    /// The area that it is put into.
    pub area: Option<usize>,
    pub size: Option<u64>,
    pub padding: Option<u64>,
    pub offset: u64,
    pub slot: u32,
}

/// A partition of the table found, in bytes.
#[derive(Debug, Clone)]
pub(super) struct Existing {
    pub slot: u32,
    pub entry: Entry,
    pub offset: u64,
    pub size: u64,
    pub padding: u64,
}

impl Item<'_> {
    pub fn is_foreign(&self) -> bool {
        self.definition.is_none()
    }

    /// It is decided about elsewhere, or not at all.
    pub fn is_out(&self) -> bool {
        self.dropped.is_some() || self.merged_into.is_some()
    }

    pub fn current_end(&self) -> u64 {
        self.existing.as_ref().map_or(0, |e| e.offset.saturating_add(e.size))
    }
}

pub(super) fn build<'a>(
    request: &Request<'a>,
    context: &Context,
    warnings: &mut Vec<String>,
) -> Vec<Item<'a>> {
    let mut list: Vec<Item<'_>> = request
        .definitions
        .iter()
        .enumerate()
        .map(|(i, d)| {
            let mut item = blank(d.kind);
            item.definition = Some((i, d));
            item.content = request.content.get(&i).map(|c| c.0);
            item
        })
        .collect();
    if let Some(found) = request.existing {
        match_existing(&mut list, &found.table, context);
    }
    merge_supplements(&mut list);
    identify(&mut list, request, warnings);
    size_hashes(&mut list, context);
    list
}

fn blank<'a>(kind: TypeGuid) -> Item<'a> {
    Item {
        definition: None,
        existing: None,
        merged: None,
        merged_into: None,
        dropped: None,
        kind,
        uuid: Guid::NIL,
        fs_uuid: Guid::NIL,
        luks_uuid: Guid::NIL,
        label: String::new(),
        content: None,
        hash_min: None,
        area: None,
        size: None,
        padding: None,
        offset: 0,
        slot: 0,
    }
}

/// Gives every partition, in the order of the slots, to the first definition of its
/// type that has none yet; those left over are foreign.
fn match_existing(list: &mut Vec<Item<'_>>, table: &Table, context: &Context) {
    for (slot, entry) in &table.entries {
        let existing = Existing {
            slot: *slot,
            entry: entry.clone(),
            offset: entry.first.0.saturating_mul(context.sector),
            size: entry.sectors().map_or(0, |s| s.0.saturating_mul(context.sector)),
            padding: 0,
        };
        let free = list.iter_mut().find(|i| i.existing.is_none() && i.kind == entry.kind);
        match free {
            Some(item) => item.existing = Some(existing),
            None => list.push(Item { existing: Some(existing), ..blank(entry.kind) }),
        }
    }
}

/// The slot of the partition that each definition has in `table`.
pub(super) fn matches(definitions: &[Definition], table: Option<&Table>) -> Vec<Option<u32>> {
    let mut found = vec![None; definitions.len()];
    for (slot, entry) in table.iter().flat_map(|t| &t.entries) {
        let free = |i: &usize| found[*i].is_none() && definitions[*i].kind == entry.kind;
        if let Some(i) = (0..definitions.len()).find(free) {
            found[i] = Some(*slot);
        }
    }
    found
}

/// Joins each supplement with its target, unless the supplement exists on the disk.
fn merge_supplements(list: &mut [Item<'_>]) {
    for supplement in 0..list.len() {
        let Some((_, d)) = list[supplement].definition else { continue };
        let Some(target) = d.supplement_for.as_ref().and_then(|name| target_of(list, name)) else {
            continue;
        };
        if list[supplement].existing.is_none() {
            list[supplement].merged_into = Some(target);
            list[target].merged = Some(supplement);
        }
    }
}

fn target_of(list: &[Item<'_>], name: &str) -> Option<usize> {
    list.iter().position(|i| i.definition.is_some_and(|(_, d)| stem(d) == name))
}

fn stem(d: &Definition) -> &str {
    d.name.strip_suffix(".conf").unwrap_or(&d.name)
}

/// Which definitions have a `SupplementFor=` that cannot be, by index, and why.
pub fn supplement_problems(all: &[Definition]) -> Vec<(usize, String)> {
    let mut problems = Vec::new();
    let mut supplemented: Vec<usize> = Vec::new();
    for (i, d) in all.iter().enumerate() {
        let Some(name) = &d.supplement_for else { continue };
        let mut say =
            |message: String| problems.push((i, format!("SupplementFor={name}: {message}")));
        let Some(at) = all.iter().position(|o| stem(o) == name) else {
            say("there is no such definition".into());
            continue;
        };
        let target = &all[at];
        if target.supplement_for.is_some() {
            say("that one is a supplement itself".into());
        }
        if supplemented.contains(&at) {
            say("that one has a supplement already".into());
        }
        supplemented.push(at);
        let fixed = target.copy_blocks.is_some()
            || target.encrypt != Encrypt::Off
            || target.verity != Verity::Off;
        if fixed {
            say("that one has CopyBlocks=, Encrypt= or Verity=".into());
        }
        let max = [d.size_max, target.size_max].into_iter().flatten().min();
        let min = [d.size_min, target.size_min].into_iter().flatten().max();
        let pad_max = [d.padding_max, target.padding_max].into_iter().flatten().min();
        let pad_min = [d.padding_min, target.padding_min].into_iter().flatten().max();
        let above = |a: Option<u64>, b: Option<u64>| a.zip(b).is_some_and(|(a, b)| a > b);
        if above(min, max) || above(pad_min, pad_max) {
            say("together their lower limits are above their upper ones".into());
        }
    }
    problems
}

/// UUIDs and labels of everything.
fn identify(list: &mut [Item<'_>], request: &Request<'_>, warnings: &mut Vec<String>) {
    for at in 0..list.len() {
        let current = list[at].existing.as_ref().map(|e| (e.entry.guid, e.entry.name.to_string()));
        let (old_uuid, old_label) = current.unwrap_or_default();
        let foreign = list[at].is_foreign();
        let wanted = list[at].definition.and_then(|(_, d)| d.uuid);
        let uuid = match wanted {
            _ if foreign || !old_uuid.is_nil() => old_uuid,
            Some(uuid) => uuid,
            None => unique_uuid(list, at, &request.seed, warnings),
        };
        let label = match list[at].definition {
            Some((_, d)) if old_label.is_empty() => {
                d.label.clone().unwrap_or_else(|| unique_label(list, at))
            }
            _ => old_label,
        };
        let item = &mut list[at];
        (item.uuid, item.label) = (uuid, label);
        item.fs_uuid = derive::file_system(&uuid);
        item.luks_uuid = derive::luks(&uuid);
    }
}

fn unique_uuid(list: &[Item<'_>], at: usize, seed: &Guid, warnings: &mut Vec<String>) -> Guid {
    let n = list[..at].iter().filter(|i| i.kind == list[at].kind).count() as u64;
    let derived = derive::partition(seed, list[at].kind, n);
    let taken = |uuid: Guid| {
        list.iter().enumerate().any(|(i, item)| {
            let current = item.existing.as_ref().is_some_and(|e| e.entry.guid == uuid);
            i != at && (current || item.uuid == uuid || (i > at && wants(item) == Some(uuid)))
        })
    };
    if !taken(derived) {
        return derived;
    }
    warnings.push(format!(
        "the UUID {derived} derived for a partition of type {} is in use; another is taken",
        list[at].kind
    ));
    let other = |attempt| derive::replacement(seed, &derived, attempt);
    // There are fewer partitions than this, so one of them is free.
    (0..=list.len() as u64).map(other).find(|u| !taken(*u)).unwrap_or(derived)
}

fn wants(item: &Item<'_>) -> Option<Guid> {
    item.definition.and_then(|(_, d)| d.uuid)
}

fn unique_label(list: &[Item<'_>], at: usize) -> String {
    let base = list[at].kind.identifier().unwrap_or_else(|| "linux".into());
    let taken = |label: &str| {
        list[..at].iter().any(|i| {
            let current = i.existing.as_ref().is_some_and(|e| e.entry.name.to_string() == label);
            current || i.label == label
        })
    };
    if !taken(&base) {
        return base;
    }
    let numbered = (2..).map(|n| format!("{base}-{n}")).find(|l| !taken(l));
    numbered.expect("there are more numbers than partitions")
}

/// Hash partitions without a size of their own get room for the largest data.
fn size_hashes(list: &mut [Item<'_>], context: &Context) {
    for at in 0..list.len() {
        let Some((_, d)) = list[at].definition else { continue };
        if d.verity != Verity::Hash || d.size_min.is_some() {
            continue;
        }
        let data = list.iter().find_map(|i| {
            i.definition
                .map(|(_, o)| o)
                .filter(|o| o.verity == Verity::Data && o.verity_match_key == d.verity_match_key)
        });
        let Some(max) = data.and_then(|o| o.size_max) else { continue };
        let default = super::size::fs_sector(d, context);
        let data_block = d.verity_data_block.unwrap_or(default).clamp(512, 4096);
        let hash_block = d.verity_hash_block.unwrap_or(default).clamp(512, 4096);
        list[at].hash_min = Some(hash_tree_size(max, data_block, hash_block));
    }
}

/// The size of a verity hash tree over `data` bytes with SHA-256, superblock included.
fn hash_tree_size(data: u64, data_block: u64, hash_block: u64) -> u64 {
    let per_block = hash_block / 32;
    let mut remaining = data.div_ceil(data_block);
    let mut blocks = 2u64;
    while remaining > per_block {
        remaining = remaining.div_ceil(per_block);
        blocks = blocks.saturating_add(remaining);
    }
    blocks.saturating_mul(hash_block)
}

/// Sorts by the place on the disk: existing ones by their offset, new ones behind
/// what their area begins with, those without a place last.
pub(super) fn sort_by_disk_order(list: &mut Vec<Item<'_>>, areas: &mut [Area]) {
    let key = |item: &Item<'_>| -> (bool, u64, bool) {
        if item.is_out() {
            return (true, 0, false);
        }
        if let Some(existing) = &item.existing {
            return (false, existing.offset, false);
        }
        let after = item.area.and_then(|a| areas[a].after);
        let start = after.and_then(|i| list[i].existing.as_ref()).map_or(0, |e| e.offset);
        (false, start, true)
    };
    let mut order: Vec<usize> = (0..list.len()).collect();
    order.sort_by_key(|i| key(&list[*i]));
    let mut place = vec![0; list.len()];
    for (new, old) in order.iter().enumerate() {
        place[*old] = new;
    }
    let mut moved: Vec<Option<Item<'_>>> = list.drain(..).map(Some).collect();
    for old in order {
        let mut item = moved[old].take().expect("every index comes once");
        item.merged = item.merged.map(|i| place[i]);
        item.merged_into = item.merged_into.map(|i| place[i]);
        list.push(item);
    }
    for area in areas {
        area.after = area.after.map(|i| place[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_tree_sizes_are_those_of_veritysetup() {
        // 32 MiB of data: observed with systemd-repart 262.
        assert_eq!(hash_tree_size(32 << 20, 4096, 4096), 270336);
        assert_eq!(hash_tree_size(4096, 4096, 4096), 8192);
    }
}
