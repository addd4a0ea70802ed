//! How much each package matters when two cannot be together.
//!
//! A package counts for its priority, for each package that needs or recommends it
//! (against it: for each that excludes it), and for what those count; essential packages and those asked for count for far
//! more than anything else can add up to. (Compared with
//! `apt-get -s -o Debug::pkgProblemResolver::ShowScores=true`.)

use debian::{Architecture, Constraint, PackageRecord, Priority, Relation};
use hashbrown::HashMap;

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

/// The scores of names that no package has, by name and architecture.
type Virtual = HashMap<(String, Architecture), i64>;

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
        let virtual_scores = scores.count_mentions(marks, &present);
        scores.pass_to_providers(marks, &present, &virtual_scores);
        scores.inherit(marks, &present);
        for &id in requested {
            scores.add(id, REQUESTED);
        }
        for id in marks.universe.all_packages() {
            let package = marks.universe.package(id);
            if package.essential || package.protected {
                scores.add(id, ESSENTIAL);
            }
        }
        scores
    }

    /// A package's own worth, and one for (against) each that needs (excludes) it.
    fn count_mentions(&mut self, marks: &Marks<'_>, present: &[(PkgId, VerId)]) -> Virtual {
        let mut virtual_scores = Virtual::new();
        for &(id, version) in present {
            let record = marks.universe.record(version);
            let package = marks.universe.package(id);
            let arch = &package.arch;
            let stays = marks.state(id).current.is_some() && marks.state(id).candidate.is_some();
            let essential = if package.essential { 100 } else { 0 };
            self.add(id, of_priority(record.priority) + essential + i64::from(stays));
            let needed = needs(record).map(|relation| (relation, 1));
            let excluded = record.conflicts.relations().chain(record.breaks.relations());
            for (relation, points) in needed.chain(excluded.map(|relation| (relation, -1))) {
                match marks.universe.find(relation.name, arch) {
                    Some(target) if marks.fits(target, relation.constraint) => {
                        self.add(target, points);
                    }
                    None if relation.constraint.is_none() => {
                        let key = (relation.name.to_owned(), arch.clone());
                        *virtual_scores.entry(key).or_default() += points;
                    }
                    _ => {}
                }
            }
        }
        virtual_scores
    }

    /// What provides a name counts for what that counts.
    fn pass_to_providers(
        &mut self,
        marks: &Marks<'_>,
        present: &[(PkgId, VerId)],
        virtual_scores: &Virtual,
    ) {
        for &(id, version) in present {
            let arch = &marks.universe.package(id).arch;
            for name in marks.universe.record(version).provides.names() {
                let score = match marks.universe.find(name, arch) {
                    Some(real) if real == id => 0,
                    Some(real) => self.get(real),
                    None => {
                        let key = (name.to_owned(), arch.clone());
                        virtual_scores.get(&key).copied().unwrap_or(0)
                    }
                };
                self.add(id, score.abs());
            }
        }
    }

    /// What a package that counts needs counts for as much.
    fn inherit(&mut self, marks: &Marks<'_>, present: &[(PkgId, VerId)]) {
        let before = Self(self.0.clone());
        for &(id, version) in present {
            let inherited = before.get(id).max(0);
            let arch = &marks.universe.package(id).arch;
            for relation in needs(marks.universe.record(version)) {
                if let Some(target) = marks.universe.find(relation.name, arch)
                    && marks.state(target).install.is_some()
                {
                    self.add(target, inherited);
                }
            }
        }
    }
}

fn needs(record: &PackageRecord) -> impl Iterator<Item = Relation<'_>> {
    let fields = [&record.pre_depends, &record.depends, &record.recommends];
    fields.into_iter().flat_map(|field| field.relations())
}

impl Marks<'_> {
    /// Whether what is present of a package has a version asked for.
    fn fits(&self, id: PkgId, constraint: Option<Constraint<'_>>) -> bool {
        let Some(constraint) = constraint else { return true };
        let present = self.state(id).install;
        present.is_some_and(|v| constraint.matches(&self.universe.record(v).version))
    }
}
