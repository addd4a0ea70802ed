//! The limits of a partition's size.

use crate::Designator;
use crate::definition::{Definition, Encrypt, Verity};
use crate::{SectorSize, Version};

use super::Context;
use super::list::Item;

const MIB: u64 = 1 << 20;
/// What a partition without `SizeMinBytes=` has at least.
const DEFAULT_MIN: u64 = 10 * MIB;
/// What any new partition has at least.
const HARD_MIN: u64 = 4096;
/// Room for a LUKS2 header and for moving the data while encrypting.
const LUKS2: u64 = 32 * MIB;
/// The size of a signature partition.
const SIGNATURE: u64 = 16 << 10;

/// The size of sectors that the file system of `d` is made for.
pub(super) fn fs_sector(d: &Definition, context: &Context) -> u64 {
    d.fs_sector_size.unwrap_or(context.fs_sector).max(context.sector)
}

fn is_signature(item: &Item<'_>, d: &Definition) -> bool {
    d.verity == Verity::Signature || item.kind.designator().is_verity_sig()
}

/// The definition that is merged into this one by `SupplementFor=`.
fn merged_definition<'a>(item: &Item<'a>, list: &[Item<'a>]) -> Option<&'a Definition> {
    item.merged.and_then(|i| list[i].definition).map(|(_, d)| d)
}

fn smaller(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// The smallest size that the partition may get.
pub(super) fn min(item: &Item<'_>, list: &[Item<'_>], context: &Context) -> u64 {
    let current = item.existing.as_ref().map(|e| e.size);
    let Some((_, d)) = item.definition else { return current.unwrap_or(0) };
    if is_signature(item, d) {
        return SIGNATURE;
    }
    let own = current.unwrap_or_else(|| HARD_MIN.max(needed_by_content(item, d, context)));
    let tiny = d.has_read_only_format() || d.verity != Verity::Off;
    let limit = d.size_min.max(item.hash_min);
    let limit = match merged_definition(item, list) {
        None => limit,
        // The original forgets the one limit if the supplement has none.
        Some(s) if s.size_min.is_none() && context.compat.original_bugs => None,
        Some(s) => limit.max(s.size_min),
    };
    context.up(limit.unwrap_or(if tiny { 1 } else { DEFAULT_MIN })).max(own)
}

fn needed_by_content(item: &Item<'_>, d: &Definition, context: &Context) -> u64 {
    let encrypted = d.encrypt != Encrypt::Off;
    let luks = if encrypted { context.up(LUKS2) } else { 0 };
    let inner = match item.content {
        Some(content) => context.up(content),
        None if d.format.is_some() || encrypted => {
            let sector = fs_sector(d, context);
            min_fs(d, item.kind.designator(), sector, context).unwrap_or(context.grain)
        }
        None => 0,
    };
    luks.saturating_add(inner)
}

/// The smallest size that makes a usable file system, where there is one.
fn min_fs(d: &Definition, designator: Designator, sector: u64, context: &Context) -> Option<u64> {
    let boot = matches!(designator, Designator::Esp | Designator::Xbootldr);
    match d.format.as_deref()? {
        "vfat" if boot && context.compat.version >= Version::V262 => {
            Some(if sector < SectorSize::S4096.get() { 100 * MIB } else { 260 * MIB })
        }
        "ext4" => Some(32 * MIB),
        "btrfs" => Some(256 * MIB),
        "xfs" => Some(300 * MIB),
        _ => None,
    }
}

/// The largest size that the partition may get; `u64::MAX` is any.
pub(super) fn max(item: &Item<'_>, list: &[Item<'_>], context: &Context) -> u64 {
    let current = item.existing.as_ref().map(|e| e.size);
    let Some((_, d)) = item.definition else { return current.unwrap_or(0) };
    // 257 fixes only the lower limit.
    if is_signature(item, d) && context.compat.version >= Version::V262 {
        return SIGNATURE;
    }
    let Some(limit) = smaller(d.size_max, merged_definition(item, list).and_then(|s| s.size_max))
    else {
        return u64::MAX;
    };
    let limit = context.down(limit).max(current.unwrap_or(0));
    limit.max(min(item, list, context))
}

/// The limits of the free space behind the partition.
pub(super) fn padding_limits(item: &Item<'_>, list: &[Item<'_>], context: &Context) -> (u64, u64) {
    let Some((_, d)) = item.definition else { return (0, u64::MAX) };
    let Some(supplement) = merged_definition(item, list) else {
        return (d.padding_min.unwrap_or(0), d.padding_max.unwrap_or(u64::MAX));
    };
    let min = match (d.padding_min, supplement.padding_min) {
        // The original forgets the one limit if the other is not set.
        (None, _) | (_, None) if context.compat.original_bugs => None,
        (own, other) => own.max(other),
    };
    let max = smaller(d.padding_max, supplement.padding_max);
    (min.unwrap_or(0), max.unwrap_or(u64::MAX))
}

/// How much the partition and its padding take at least.
pub(super) fn required(item: &Item<'_>, list: &[Item<'_>], context: &Context) -> u64 {
    let sum = min(item, list, context).saturating_add(padding_limits(item, list, context).0);
    match &item.existing {
        Some(e) => context.up(e.offset.saturating_add(sum)).saturating_sub(e.offset),
        None => context.up(sum),
    }
}

/// Weights of the partition and of its padding.
pub(super) fn weights(item: &Item<'_>, list: &[Item<'_>]) -> (u64, u64) {
    let Some((_, d)) = item.definition else { return (1000, 0) };
    let d = merged_definition(item, list).unwrap_or(d);
    (u64::from(d.weight), u64::from(d.padding_weight))
}

/// The smallest disk on which everything fits.
pub(super) fn minimal_disk(list: &[Item<'_>], context: &Context) -> u64 {
    let table = context.up(MIB) + SIGNATURE + context.sector;
    let required = list.iter().filter(|i| !i.is_out()).map(|i| required(i, list, context));
    required.fold(table, u64::saturating_add)
}
