//! How much each package matters when two cannot be together.
//!
//! A package counts for its priority, for each package that needs or recommends it
//! or something that it provides (against it: for each that excludes it), and for
//! what those count; essential packages and those asked for count for far more than
//! anything else can add up to. (Compared with
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

/// What is said of each package, and of each name that no package has.
struct Sums {
    packages: Vec<i64>,
    names: HashMap<(String, Architecture), i64>,
}

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
        let present = marks.present();
        let mentioned = Sums::of_mentions(marks, &present);
        let mut scores = Self(mentioned.packages.clone());
        for &(id, version) in &present {
            scores.add(id, worth(marks, id, version));
            scores.add(id, mentioned.of_provided(marks, id, version));
            scores.add(id, own_exclusions(marks, id, version));
        }
        let inherited = Sums::inherited(marks, &present, &scores);
        for &(id, version) in &present {
            scores.add(id, inherited.packages[id.0 as usize]);
            scores.add(id, inherited.of_provided(marks, id, version));
        }
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
}

/// What a package counts for on its own.
fn worth(marks: &Marks<'_>, id: PkgId, version: VerId) -> i64 {
    let state = marks.state(id);
    let stays = state.current.is_some() && state.candidate.is_some();
    let package = marks.universe.package(id);
    let essential = if package.essential || package.protected { 100 } else { 0 };
    of_priority(marks.universe.record(version).priority) + essential + i64::from(stays)
}

impl Sums {
    fn new(marks: &Marks<'_>) -> Self {
        Self { packages: vec![0; marks.universe.packages.len()], names: HashMap::new() }
    }

    /// One for (against) a package for each time that it is needed (excluded).
    fn of_mentions(marks: &Marks<'_>, present: &[(PkgId, VerId)]) -> Self {
        let mut this = Self::new(marks);
        for &(id, version) in present {
            let record = marks.universe.record(version);
            let arch = &marks.universe.package(id).arch;
            let needed = needs(record).map(|relation| (relation, 1));
            for (relation, points) in needed.chain(excludes(record).map(|r| (r, -1))) {
                match marks.universe.find(relation.name, arch) {
                    Some(target) if marks.fits(target, relation.constraint) => {
                        this.packages[target.0 as usize] += points;
                    }
                    None if relation.constraint.is_none() => {
                        let key = (relation.name.to_owned(), arch.clone());
                        *this.names.entry(key).or_default() += points;
                    }
                    _ => {}
                }
            }
        }
        this
    }

    /// What a package that counts needs counts for as much.
    fn inherited(marks: &Marks<'_>, present: &[(PkgId, VerId)], scores: &Scores) -> Self {
        let mut this = Self::new(marks);
        for &(id, version) in present {
            let arch = &marks.universe.package(id).arch;
            for relation in needs(marks.universe.record(version)) {
                if let Some(target) = marks.universe.find(relation.name, arch)
                    && marks.state(target).install.is_some()
                {
                    let slot = &mut this.packages[target.0 as usize];
                    *slot = slot.saturating_add(scores.get(id).max(0));
                }
            }
        }
        this
    }

    /// The sums of all that a version provides; of two provisions of one name in a
    /// row one counts.
    fn of_provided(&self, marks: &Marks<'_>, id: PkgId, version: VerId) -> i64 {
        let arch = &marks.universe.package(id).arch;
        let mut last = None;
        let mut sum: i64 = 0;
        for name in marks.universe.record(version).provides.names() {
            if last.replace(name) != Some(name) {
                sum = sum.saturating_add(match marks.universe.find(name, arch) {
                    Some(real) if real == id => 0,
                    Some(real) => self.packages[real.0 as usize],
                    None => self.names.get(&(name.to_owned(), arch.clone())).copied().unwrap_or(0),
                });
            }
        }
        sum
    }
}

/// What a package excludes and is itself does not count against it.
fn own_exclusions(marks: &Marks<'_>, id: PkgId, version: VerId) -> i64 {
    let record = marks.universe.record(version);
    let arch = &marks.universe.package(id).arch;
    let is_own = |name: &str| record.name == *name || record.provides.names().any(|p| p == name);
    let counted = |relation: &Relation<'_>| match marks.universe.find(relation.name, arch) {
        Some(target) => marks.fits(target, relation.constraint),
        None => relation.constraint.is_none(),
    };
    let own = excludes(record).filter(|relation| is_own(relation.name) && counted(relation));
    own.map(|_| 1).sum()
}

fn needs(record: &PackageRecord) -> impl Iterator<Item = Relation<'_>> {
    let fields = [&record.pre_depends, &record.depends, &record.recommends];
    fields.into_iter().flat_map(|field| field.relations())
}

fn excludes(record: &PackageRecord) -> impl Iterator<Item = Relation<'_>> {
    record.conflicts.relations().chain(record.breaks.relations())
}

impl Marks<'_> {
    /// Whether what is present of a package has a version asked for.
    fn fits(&self, id: PkgId, constraint: Option<Constraint<'_>>) -> bool {
        let Some(constraint) = constraint else { return true };
        let present = self.state(id).install;
        present.is_some_and(|v| constraint.matches(&self.universe.record(v).version))
    }
}
