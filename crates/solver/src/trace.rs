//! What a run did and looked at, for tests: apt's trace is compared with it, and a
//! universe is cut down to the part of it that a request needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use debian::PackageRecord;

use crate::marks::Marks;
use crate::mention;
use crate::universe::{PkgId, VerId};

/// What [`crate::solve_traced`] notes.
#[derive(Debug, Default)]
pub struct Trace {
    /// What was marked, in apt's words.
    pub lines: Vec<String>,
    /// Every version that could have mattered, in the order of the universe.
    pub looked_at: Vec<LookedAt>,
    /// The names of their packages by the place of their first mention.
    pub names: BTreeMap<usize, String>,
}

/// A version that could have mattered.
#[derive(Debug)]
pub struct LookedAt {
    /// Its stanza.
    pub record: Arc<PackageRecord>,
    /// Whether its dependencies were looked at, too.
    pub walked: bool,
}

impl Trace {
    pub(crate) fn new(marks: &Marks<'_>, lines: Vec<String>) -> Self {
        let universe = marks.universe;
        let walked: BTreeSet<VerId> = marks.walked().collect();
        let mut packages = BTreeSet::new();
        for &version in &walked {
            packages.insert(universe.package_of(version));
            packages.extend(named_by(marks, version));
        }
        let mut versions: Vec<VerId> =
            packages.iter().flat_map(|id| universe.package(*id).versions.iter().copied()).collect();
        versions.sort();
        let looked_at = |version: VerId| LookedAt {
            record: Arc::clone(&universe.version(version).record),
            walked: walked.contains(&version),
        };
        let names = packages.iter().map(|id| universe.package(*id).name.as_str());
        let places = mention::places(universe, names);
        let names = places.into_iter().map(|(name, place)| (place, name.to_owned())).collect();
        Self { lines, looked_at: versions.into_iter().map(looked_at).collect(), names }
    }
}

/// The packages that the relations of `version` name, and those that provide that.
fn named_by(marks: &Marks<'_>, version: VerId) -> Vec<PkgId> {
    let universe = marks.universe;
    let record = universe.record(version);
    let fields = [
        &record.pre_depends,
        &record.depends,
        &record.recommends,
        &record.conflicts,
        &record.breaks,
        &record.provides,
    ];
    let mut found = universe.group(record.name.as_str()).to_vec();
    for name in fields.into_iter().flat_map(|field| field.names()) {
        found.extend(universe.group(name));
        found.extend(universe.providers(name).iter().map(|v| universe.package_of(*v)));
    }
    found
}
