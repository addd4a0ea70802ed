//! The dependencies of one version, with the versions that would satisfy each.
//!
//! Made when a version is first looked at, and kept: a build looks at some
//! thousands of the versions of a universe.

use std::rc::Rc;

use debian::{ArchQualifier, Group, Relation, Relations};
use hashbrown::HashMap;

use crate::solution::Kind;
use crate::universe::{PkgId, Universe, VerId};

/// A group of alternatives.
#[derive(Debug)]
pub(crate) struct Positive {
    pub kind: Kind,
    /// As written, for people.
    pub text: String,
    /// In the order written.
    pub alternatives: Vec<Alternative>,
}

#[derive(Debug)]
pub(crate) struct Alternative {
    /// The name asked for.
    pub name: String,
    /// The package name that comes first among the targets.
    pub preferred: Option<String>,
    pub targets: Vec<VerId>,
}

impl Positive {
    pub fn targets(&self) -> impl Iterator<Item = VerId> + '_ {
        self.alternatives.iter().flat_map(|a| a.targets.iter().copied())
    }
}

/// Versions that may not be there at the same time.
#[derive(Debug)]
pub(crate) struct Negative {
    /// `Conflicts` or `Breaks`, as written, for people.
    pub text: String,
    /// `Breaks`: another version of the target may do.
    pub is_breaks: bool,
    pub targets: Vec<VerId>,
}

#[derive(Debug, Default)]
pub(crate) struct Dependencies {
    /// Pre-Depends, Depends, Recommends, in this order.
    pub positive: Vec<Positive>,
    /// Conflicts, Breaks, and what the multi-arch specification implies.
    pub negative: Vec<Negative>,
}

/// The dependencies of the versions seen so far.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    known: HashMap<VerId, Rc<Dependencies>>,
}

impl Cache {
    pub fn get(&mut self, universe: &Universe, version: VerId) -> Rc<Dependencies> {
        let make = || Rc::new(Dependencies::new(universe, version));
        self.known.entry(version).or_insert_with(make).clone()
    }

    pub fn versions(&self) -> impl Iterator<Item = VerId> + '_ {
        self.known.keys().copied()
    }
}

impl Dependencies {
    fn new(universe: &Universe, version: VerId) -> Self {
        let record = universe.record(version);
        let mut this = Self::default();
        for (kind, field) in [
            (Kind::PreDepends, &record.pre_depends),
            (Kind::Depends, &record.depends),
            (Kind::Recommends, &record.recommends),
        ] {
            this.positive.extend(positives(universe, version, kind, field));
        }
        for (what, is_breaks, field) in
            [("conflicts with", false, &record.conflicts), ("breaks", true, &record.breaks)]
        {
            for relation in field.relations() {
                let targets = universe.excluded(version, &relation);
                if !targets.is_empty() {
                    let text = format!("{what} {relation}");
                    this.negative.push(Negative { text, is_breaks, targets });
                }
            }
        }
        let others = universe.other_architectures(version);
        if !others.is_empty() {
            let text = "cannot be installed beside it for another architecture".to_owned();
            this.negative.push(Negative { text, is_breaks: false, targets: others });
        }
        this
    }
}

/// The groups of one field.
pub(crate) fn positives<'a>(
    universe: &'a Universe,
    version: VerId,
    kind: Kind,
    field: &'a Relations,
) -> impl Iterator<Item = Positive> + 'a {
    let arch = &universe.package(universe.package_of(version)).arch;
    field.groups().map(move |group: Group<'_>| {
        let alternative = |relation: Relation<'_>| Alternative {
            name: relation.name.to_owned(),
            preferred: preferred(&relation),
            targets: universe.satisfying(&relation, arch),
        };
        Positive {
            kind,
            text: group.to_string(),
            alternatives: group.alternatives().map(alternative).collect(),
        }
    })
}

/// A name prefers the package of that name to those that provide it. One with
/// `:any` does not, for apt treats it as a name of its own.
fn preferred(relation: &Relation<'_>) -> Option<String> {
    let any = relation.qualifier == Some(ArchQualifier::Any);
    (!any).then(|| relation.name.to_owned())
}

/// The packages of `versions`, each once, in order.
pub(crate) fn packages_of(
    universe: &Universe,
    versions: impl IntoIterator<Item = VerId>,
) -> Vec<PkgId> {
    let mut found = Vec::new();
    for version in versions {
        let package = universe.package_of(version);
        if !found.contains(&package) {
            found.push(package);
        }
    }
    found
}
