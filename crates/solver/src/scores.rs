//! How much each package matters when two cannot be together.
//!
//! A package counts for its priority, for each package that needs or recommends it
//! (against it: for each that excludes it), and for what those count; essential packages and those asked for count for far
//! more than anything else can add up to. (Compared with
//! `apt-get -s -o Debug::pkgProblemResolver::ShowScores=true`.)

use debian::{Constraint, Priority, Relation};

use crate::marks::Marks;
use crate::universe::{PkgId, VerId};

/// For what the user asked for.
const REQUESTED: i64 = 10_000;
/// For essential and protected packages.
const ESSENTIAL: i64 = 5_000;

fn of_priority(priority: Priority) -> i64 {
    match priority {
        Priority::Required => 3,
        Priority::Important => 2,
        Priority::Standard => 1,
        Priority::Optional => -1,
        Priority::Extra => -2,
    }
}

/// The score of each package, by its number.
pub(crate) struct Scores(Vec<i64>);

impl Scores {
    pub fn get(&self, id: PkgId) -> i64 {
        self.0[id.0 as usize]
    }

    pub fn set(&mut self, id: PkgId, score: i64) {
        self.0[id.0 as usize] = score;
    }

    fn add(&mut self, id: PkgId, score: i64) {
        let slot = &mut self.0[id.0 as usize];
        *slot = slot.saturating_add(score);
    }

    pub fn new(marks: &Marks<'_>, requested: &[PkgId]) -> Self {
        let mut scores = Self(vec![0; marks.universe.packages.len()]);
        let present = marks.present();
        for &(id, version) in &present {
            let record = marks.universe.record(version);
            let stays = marks.state(id).current.is_some() && marks.state(id).candidate.is_some();
            let essential = if record.essential { 100 } else { 0 };
            scores.add(id, of_priority(record.priority) + essential + i64::from(stays));
            for target in marks.named_targets(version, true) {
                scores.add(target, 1);
            }
            for target in marks.named_excluded(version) {
                scores.add(target, -1);
            }
        }
        let first = Self(scores.0.clone());
        for &(id, version) in &present {
            let inherited = first.get(id).max(0);
            for target in marks.named_targets(version, false) {
                if marks.state(target).install.is_some() {
                    scores.add(target, inherited);
                }
            }
        }
        scores.pass_to_providers(marks, &present);
        for &id in requested {
            scores.add(id, REQUESTED);
        }
        for id in marks.universe.all_packages() {
            let Some(&version) = marks.universe.package(id).versions.first() else { continue };
            let record = marks.universe.record(version);
            if record.essential || record.protected {
                scores.add(id, ESSENTIAL);
            }
        }
        scores
    }

    /// What provides a package counts for what that counts.
    fn pass_to_providers(&mut self, marks: &Marks<'_>, present: &[(PkgId, VerId)]) {
        for &(id, version) in present {
            let record = marks.universe.record(version);
            let arch = &marks.universe.package(id).arch;
            for name in record.provides.names() {
                if let Some(real) = marks.universe.find(name, arch)
                    && real != id
                {
                    self.add(id, self.get(real).abs());
                }
            }
        }
    }
}

impl Marks<'_> {
    /// The packages that a version's Conflicts and Breaks name.
    fn named_excluded(&self, version: VerId) -> Vec<PkgId> {
        let record = self.universe.record(version);
        let arch = &self.universe.package(self.universe.package_of(version)).arch;
        let relations = record.conflicts.relations().chain(record.breaks.relations());
        let target = |r: Relation<'_>| {
            self.universe.find(r.name, arch).filter(|id| self.fits(*id, r.constraint))
        };
        relations.filter_map(target).collect()
    }

    /// The packages that a version's dependencies name, once for each time they are
    /// named; with `fitting` only where what is present has the version asked for.
    fn named_targets(&self, version: VerId, fitting: bool) -> Vec<PkgId> {
        let record = self.universe.record(version);
        let arch = &self.universe.package(self.universe.package_of(version)).arch;
        let fields = [&record.pre_depends, &record.depends, &record.recommends];
        let relations = fields.into_iter().flat_map(|field| field.relations());
        let target = |r: Relation<'_>| {
            let found = self.universe.find(r.name, arch);
            found.filter(|id| !fitting || self.fits(*id, r.constraint))
        };
        relations.filter_map(target).collect()
    }

    /// Whether what is present of a package has a version asked for.
    fn fits(&self, id: PkgId, constraint: Option<Constraint<'_>>) -> bool {
        let Some(constraint) = constraint else { return true };
        let present = self.state(id).install;
        present.is_some_and(|v| constraint.matches(&self.universe.record(v).version))
    }
}
