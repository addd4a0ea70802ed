//! How the space of a free area is divided by weight.
//!
//! Each partition takes twice: for itself and for the padding behind it. First those
//! whose lower limit is above their share take that, then those whose upper limit is
//! below it, then the rest is divided; what is left over is offered once more.

use super::fit::Area;
use super::list::Item;
use super::{Context, PlanError, size};
use crate::Version;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Foreign,
    Overcharge,
    Undercharge,
    Distribute,
}

/// What is still to be divided, and among what weight.
struct Pot {
    span: u64,
    weights: u64,
}

impl Pot {
    fn share(&self, weight: u64) -> u64 {
        if self.weights == 0 {
            return 0;
        }
        (u128::from(self.span) * u128::from(weight) / u128::from(self.weights)) as u64
    }

    fn charge(&mut self, taken: u64, weight: u64, context: &Context) {
        self.span = self.span.saturating_sub(context.up(taken));
        self.weights = self.weights.saturating_sub(weight);
    }
}

pub(super) fn distribute(
    list: &mut [Item<'_>],
    areas: &[Area],
    context: &Context,
) -> Result<(), PlanError> {
    for (number, area) in areas.iter().enumerate() {
        divide(list, number, area, context)?;
    }
    for item in list.iter_mut() {
        if let (Some(existing), None) = (&item.existing, item.size) {
            (item.size, item.padding) = (Some(existing.size), Some(existing.padding));
        }
    }
    Ok(())
}

/// The partitions that take from the area: the one before it and the new ones.
fn takers(list: &[Item<'_>], number: usize, area: &Area) -> Vec<usize> {
    (0..list.len())
        .filter(|i| area.after == Some(*i) || (list[*i].area == Some(number) && !list[*i].is_out()))
        .collect()
}

fn divide(
    list: &mut [Item<'_>],
    number: usize,
    area: &Area,
    context: &Context,
) -> Result<(), PlanError> {
    let takers = takers(list, number, area);
    let mut pot = Pot { span: area.size, weights: 0 };
    if let Some(before) = area.after.map(|i| &list[i]) {
        let offset = before.existing.as_ref().map_or(0, |e| e.offset);
        let covered = context.up(before.current_end()).saturating_sub(offset);
        pot.span = pot.span.saturating_add(covered);
    }
    for i in &takers {
        let (weight, padding) = size::weights(&list[*i], list);
        let sum = pot.weights.checked_add(weight).and_then(|w| w.checked_add(padding));
        pot.weights = sum.ok_or(PlanError::Weights)?;
    }
    for phase in [Phase::Foreign, Phase::Overcharge, Phase::Undercharge, Phase::Distribute] {
        while walk(list, &takers, phase, &mut pot, context) {}
    }
    give_leftover(list, &takers, area, pot, context);
    Ok(())
}

/// One walk over the takers. True if the phase has to be walked again, since the
/// shares of those before have changed.
fn walk(
    list: &mut [Item<'_>],
    takers: &[usize],
    phase: Phase,
    pot: &mut Pot,
    context: &Context,
) -> bool {
    let mut again = false;
    for i in takers {
        let (weight, padding_weight) = size::weights(&list[*i], list);
        if list[*i].size.is_none() {
            let limits = (size::min(&list[*i], list, context), size::max(&list[*i], list, context));
            let taken = match phase {
                Phase::Foreign => list[*i].is_foreign().then_some(limits.0),
                phase => take(phase, pot.share(weight), limits, context),
            };
            if let Some(taken) = taken {
                pot.charge(taken, weight, context);
                list[*i].size = Some(taken);
                again = true;
            }
        }
        if list[*i].padding.is_none() && phase != Phase::Foreign {
            let limits = size::padding_limits(&list[*i], list, context);
            if let Some(taken) = take(phase, pot.share(padding_weight), limits, context) {
                pot.charge(taken, padding_weight, context);
                list[*i].padding = Some(taken);
                again = true;
            }
        }
    }
    again && matches!(phase, Phase::Overcharge | Phase::Undercharge)
}

fn take(phase: Phase, share: u64, (min, max): (u64, u64), context: &Context) -> Option<u64> {
    match phase {
        Phase::Overcharge => (min > share).then_some(min),
        Phase::Undercharge => (max < share).then_some(max),
        Phase::Distribute => Some(context.down(share).min(max).max(min)),
        Phase::Foreign => None,
    }
}

/// Offers what rounding and limits have left to the partitions, then to the padding.
fn give_leftover(
    list: &mut [Item<'_>],
    takers: &[usize],
    area: &Area,
    mut pot: Pot,
    context: &Context,
) {
    let v262 = context.compat.version >= Version::V262;
    // 257 offers nothing to the partition before the area, but gives it the padding.
    let order = takers.iter().filter(|i| v262 || Some(**i) != area.after);
    for i in order {
        if pot.span == 0 {
            return;
        }
        let (Some(old), false) = (list[*i].size, list[*i].is_foreign()) else { continue };
        let grown = context.down(old.saturating_add(pot.span)).max(old);
        let grown = grown.min(size::max(&list[*i], list, context)).max(old);
        pot.span = pot.span.saturating_sub(context.up(grown - old));
        list[*i].size = Some(grown);
    }
    let last = if v262 { takers.last().copied() } else { area.after };
    if let Some(i) = last {
        let rest = if v262 { context.down(pot.span) } else { pot.span };
        list[i].padding = list[i].padding.map(|p| p.saturating_add(rest));
    }
}
