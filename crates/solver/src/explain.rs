//! Why a request cannot be met, as a chain that a person can follow.

use std::collections::BTreeSet;

use crate::deps::{Positive, packages_of};
use crate::marks::Marks;
use crate::solution::{Reason, Unsolvable};
use crate::universe::{PkgId, VerId};

/// The most steps of a chain.
const MAX_STEPS: usize = 20;

impl Marks<'_> {
    /// Checks that everything present has what it needs and nothing that it excludes.
    pub fn check(&mut self) -> Result<(), Unsolvable> {
        for (id, version) in self.present() {
            let dependencies = self.dependencies(version);
            let broken = dependencies
                .positive
                .iter()
                .find(|group| group.kind.is_critical() && !self.is_satisfied(group));
            if let Some(group) = broken {
                return Err(self.explain(id, version, group));
            }
            if let Some(&other) = self.excluded_by(version).first() {
                return Err(self.explain_conflict(version, other));
            }
        }
        Ok(())
    }

    /// A package that was asked for has no version that may be installed.
    pub fn no_candidate(&self, id: PkgId, reason: &Reason) -> Unsolvable {
        let name = self.universe.display(id);
        Unsolvable { chain: vec![format!("{name}: {reason}"), self.why_no_candidate(id)] }
    }

    fn why_no_candidate(&self, id: PkgId) -> String {
        let name = self.universe.display(id);
        let versions = &self.universe.package(id).versions;
        let known: Vec<String> = versions.iter().map(|v| self.describe(*v)).collect();
        format!("no version of {name} may be installed: {}", known.join(", "))
    }

    /// `name 1.2 (source, pinned 500)`.
    fn describe(&self, version: VerId) -> String {
        let entry = self.universe.version(version);
        let name = self.universe.display(entry.package);
        let origin = self.universe.origin(version);
        format!("{name} {} ({origin}, pinned {})", entry.record.version, entry.priority)
    }

    fn explain(&mut self, id: PkgId, version: VerId, group: &Positive) -> Unsolvable {
        let mut chain = Vec::new();
        if let Some(reason) = self.reasons.get(&id) {
            chain.push(format!("{}: {reason}", self.universe.display(id)));
        }
        let mut seen = BTreeSet::from([version]);
        self.explain_group(version, group, &mut seen, &mut chain);
        Unsolvable { chain }
    }

    fn explain_group(
        &mut self,
        version: VerId,
        group: &Positive,
        seen: &mut BTreeSet<VerId>,
        chain: &mut Vec<String>,
    ) {
        if chain.len() >= MAX_STEPS {
            return;
        }
        chain.push(format!("{} {} {}", self.describe(version), group.kind.verb(), group.text));
        for alternative in &group.alternatives {
            if alternative.targets.is_empty() {
                chain.push(self.nothing_satisfies(&alternative.name));
            }
            for package in packages_of(self.universe, alternative.targets.iter().copied()) {
                let candidate = self.universe.package(package).versions.iter().copied();
                let first = candidate.into_iter().find(|v| alternative.targets.contains(v));
                let Some(first) = first else { continue };
                self.explain_version(first, seen, chain);
            }
        }
    }

    /// Why that version, which would satisfy a relation, is not there.
    fn explain_version(
        &mut self,
        version: VerId,
        seen: &mut BTreeSet<VerId>,
        chain: &mut Vec<String>,
    ) {
        if chain.len() >= MAX_STEPS || !seen.insert(version) {
            return;
        }
        let dependencies = self.dependencies(version);
        let mut others = self.excluded_by(version);
        others.extend(self.excluders_of(version));
        for other in others {
            chain.push(self.conflict(version, other));
        }
        let broken = dependencies
            .positive
            .iter()
            .find(|group| group.kind.is_critical() && !self.is_satisfied(group));
        match broken {
            Some(group) => self.explain_group(version, group, seen, chain),
            None => {
                let chosen = self.state(self.universe.package_of(version)).install;
                if let Some(chosen) = chosen
                    && chosen != version
                {
                    let line = format!(
                        "{} would do, but {} is chosen",
                        self.describe(version),
                        self.describe(chosen)
                    );
                    chain.push(line);
                } else if chosen.is_none() {
                    chain.push(format!("{} was not chosen", self.describe(version)));
                }
            }
        }
    }

    fn nothing_satisfies(&self, name: &str) -> String {
        let plain = name.strip_suffix(":any").unwrap_or(name);
        let versions =
            self.universe.group(plain).iter().flat_map(|id| {
                self.universe.package(*id).versions.iter().map(|v| self.describe(*v))
            });
        let known: Vec<String> = versions.collect();
        match known.as_slice() {
            [] => format!("no source has {name}, and no package provides it"),
            [only] => format!("{only} is the only version, and it does not satisfy that"),
            several => format!("no version satisfies that: {}", several.join(", ")),
        }
    }

    fn explain_conflict(&mut self, a: VerId, b: VerId) -> Unsolvable {
        let mut chain = Vec::new();
        for version in [a, b] {
            if let Some(reason) = self.reasons.get(&self.universe.package_of(version)) {
                chain.push(format!("{}: {reason}", self.describe(version)));
            }
        }
        chain.push(self.conflict(a, b));
        Unsolvable { chain }
    }

    /// `a conflicts with b`, whichever of the two says so.
    fn conflict(&mut self, a: VerId, b: VerId) -> String {
        for (from, to) in [(a, b), (b, a)] {
            let dependencies = self.dependencies(from);
            let said = dependencies.negative.iter().find(|n| n.targets.contains(&to));
            if let Some(negative) = said {
                return format!(
                    "{} {}, and {} is chosen",
                    self.describe(from),
                    negative.text,
                    self.describe(to)
                );
            }
        }
        format!("{} and {} exclude each other", self.describe(a), self.describe(b))
    }
}
