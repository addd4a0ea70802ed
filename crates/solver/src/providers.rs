//! Which of several packages that satisfy a relation is tried first.
//!
//! For each alternative in the order written: what is installed before what is
//! not, the package of the name asked for before those that provide it, then
//! essential, important, native ones, then by priority, and at last the one
//! that the indices mention later. Found with small made-up archives;
//! `tests/rules.rs` keeps the steps.

use std::cmp::Ordering;

use debian::PackageRecord;

use crate::deps::Positive;
use crate::marks::Marks;
use crate::universe::VerId;

impl Marks<'_> {
    /// The candidates that would satisfy the group, best first.
    pub fn solutions(&mut self, group: &Positive) -> Vec<VerId> {
        let (mut there, mut new) = (Vec::new(), Vec::new());
        for alternative in &group.alternatives {
            let mut found: Vec<VerId> =
                alternative.targets.iter().copied().filter(|v| self.is_candidate(*v)).collect();
            found.sort_by(|a, b| self.compare(*a, *b, alternative.preferred.as_deref()));
            for version in found {
                let package = self.universe.package_of(version);
                let list = match self.state(package).current {
                    Some(_) => &mut there,
                    None => &mut new,
                };
                if !list.contains(&version) {
                    list.push(version);
                }
            }
        }
        there.append(&mut new);
        there
    }

    /// Less is better.
    fn compare(&mut self, a: VerId, b: VerId, asked: Option<&str>) -> Ordering {
        let (a_package, b_package) = (self.universe.package_of(a), self.universe.package_of(b));
        if a_package == b_package {
            return b.cmp(&a);
        }
        let (a_record, b_record) = (self.universe.record(a), self.universe.record(b));
        let missing = |package| self.state(package).current.is_none();
        let other_name = |record: &PackageRecord| asked.is_none_or(|name| record.name != *name);
        let arch = |package| self.universe.arch_rank(&self.universe.package(package).arch);
        let rank = |package| {
            let entry = self.universe.package(package);
            (entry.essential, entry.protected)
        };
        let order = missing(a_package)
            .cmp(&missing(b_package))
            .then_with(|| other_name(a_record).cmp(&other_name(b_record)))
            .then_with(|| rank(b_package).cmp(&rank(a_package)))
            .then_with(|| arch(a_package).cmp(&arch(b_package)))
            .then_with(|| a_record.priority.cmp(&b_record.priority));
        order.then_with(|| {
            let before = self.mentioned_before(a_record.name.as_str(), b_record.name.as_str());
            if before { Ordering::Greater } else { Ordering::Less }
        })
    }
}
