//! What the walk left broken: change the lesser of two packages that do not agree.
//!
//! The walk can push out a package that something still needs. apt's problem
//! resolver then goes over what is broken, from the highest score to the lowest,
//! some rounds long: a package that was not asked for is put back rather than that
//! one of at least its score is changed; one that was asked for, or is needed by such, gets what it
//! misses; what conflicts with a higher score is removed.

use std::collections::BTreeSet;

use crate::deps::{Dependencies, Positive};
use crate::marks::Marks;
use crate::scores::Scores;
use crate::universe::{PkgId, VerId};

/// Rounds after which apt gives up.
const MAX_ROUNDS: usize = 20;

/// A broken requirement of a package.
enum Problem<'d> {
    Missing(&'d Positive),
    /// Versions present that the package excludes.
    Excluded(Vec<VerId>),
}

struct Resolver<'m, 'u> {
    marks: &'m mut Marks<'u>,
    scores: Scores,
    /// Packages that were put back once; that is not tried twice.
    tried: BTreeSet<PkgId>,
}

impl Marks<'_> {
    /// Repairs what is broken as far as apt would.
    pub fn resolve(&mut self, requested: &[PkgId]) {
        if !self.any_broken() {
            return;
        }
        let scores = Scores::new(self, requested);
        let mut order: Vec<PkgId> = self.universe.all_packages().collect();
        self.sort_by_mention(&mut order);
        order.sort_by_key(|id| std::cmp::Reverse(scores.get(*id)));
        let mut resolver = Resolver { marks: self, scores, tried: BTreeSet::new() };
        for round in 0..MAX_ROUNDS {
            let mut changed = false;
            for &id in &order {
                changed |= resolver.investigate(id, round);
            }
            if !changed {
                break;
            }
        }
    }

    fn any_broken(&mut self) -> bool {
        self.present().into_iter().any(|(_, version)| self.is_broken(version))
    }

    /// Whether a version misses something critical or excludes something present.
    pub fn is_broken(&mut self, version: VerId) -> bool {
        let dependencies = self.dependencies(version);
        let missing =
            dependencies.positive.iter().any(|g| g.kind.is_critical() && !self.is_satisfied(g));
        missing || !self.excluded_present(&dependencies).is_empty()
    }

    /// The versions present that the version with these dependencies excludes.
    fn excluded_present(&self, dependencies: &Dependencies) -> Vec<VerId> {
        let targets = dependencies.negative.iter().flat_map(|n| n.targets.iter().copied());
        targets.filter(|v| self.is_present(*v)).collect()
    }
}

impl Resolver<'_, '_> {
    /// Looks at one package; true if something was changed.
    fn investigate(&mut self, id: PkgId, round: usize) -> bool {
        let Some(version) = self.marks.state(id).install else { return false };
        if !self.marks.is_broken(version) {
            return false;
        }
        self.marks.log(|m| format!("Investigating ({round}) {}", m.universe.display(id)));
        let dependencies = self.marks.dependencies(version);
        let mut changed = false;
        let mut kill = Vec::new();
        for problem in self.problems(&dependencies) {
            let done = match problem {
                Problem::Missing(group) => self.fix_missing(id, group, &mut kill, &mut changed),
                Problem::Excluded(others) => {
                    self.fix_excluded(id, &others, &mut kill, &mut changed)
                }
            };
            if done {
                break;
            }
        }
        changed | self.kill(id, &kill, round)
    }

    /// Pre-Depends and Depends before Conflicts and Breaks, as apt lists them.
    fn problems<'d>(&self, dependencies: &'d Dependencies) -> Vec<Problem<'d>> {
        let mut found: Vec<Problem<'d>> = dependencies
            .positive
            .iter()
            .filter(|group| group.kind.is_critical() && !self.marks.is_satisfied(group))
            .map(Problem::Missing)
            .collect();
        for negative in &dependencies.negative {
            let targets = negative.targets.iter().copied();
            let present: Vec<_> = targets.filter(|v| self.marks.is_present(*v)).collect();
            if !present.is_empty() {
                found.push(Problem::Excluded(present));
            }
        }
        found
    }

    /// A dependency that nothing present satisfies. True if the package was dealt with.
    fn fix_missing(
        &mut self,
        id: PkgId,
        group: &Positive,
        _kill: &mut [PkgId],
        changed: &mut bool,
    ) -> bool {
        if self.marks.is_satisfied(group) {
            return false;
        }
        if !self.marks.state(id).protected {
            *changed = true;
            self.hold_back(id);
            return true;
        }
        for alternative in &group.alternatives {
            let mut targets = alternative.targets.clone();
            targets.retain(|v| self.marks.is_candidate(*v));
            for target in targets {
                let package = self.marks.universe.package_of(target);
                if self.reinstate(package) {
                    let score = self.scores.get(id).min(self.scores.get(package));
                    self.scores.set(package, score);
                    *changed = true;
                    return false;
                }
            }
        }
        false
    }

    /// Something present that the package excludes.
    fn fix_excluded(
        &mut self,
        id: PkgId,
        others: &[VerId],
        kill: &mut Vec<PkgId>,
        changed: &mut bool,
    ) -> bool {
        for &other in others {
            let package = self.marks.universe.package_of(other);
            if !self.marks.is_present(other) {
                continue;
            }
            if self.scores.get(id) <= self.scores.get(package) && !self.marks.state(id).protected {
                *changed = true;
                self.hold_back(id);
                return true;
            }
            if self.scores.get(id) > self.scores.get(package)
                && !self.marks.state(package).protected
            {
                kill.push(package);
            }
        }
        false
    }

    /// Leaves a package as it was before; if that is broken, too, without it.
    fn hold_back(&mut self, id: PkgId) {
        let current = self.marks.state(id).current;
        self.marks.set_install(id, current);
        if current.is_some_and(|version| self.marks.is_broken(version)) {
            self.marks.set_install(id, None);
        }
        self.marks.log(|m| format!("Holding Back {}", m.universe.display(id)));
    }

    /// Puts the candidate of a package back, and what it needs; all or nothing of it.
    fn reinstate(&mut self, id: PkgId) -> bool {
        let state = self.marks.state(id);
        let Some(candidate) = state.candidate else { return false };
        if state.protected || state.install == Some(candidate) || !self.tried.insert(id) {
            return false;
        }
        let before = state.install;
        self.marks.set_install(id, Some(candidate));
        let dependencies = self.marks.dependencies(candidate);
        let holds = self.nothing_protected_is_excluded(&dependencies)
            && dependencies
                .positive
                .iter()
                .filter(|group| group.kind.is_critical())
                .all(|group| self.reinstate_for(group));
        if holds {
            self.marks.state_mut(id).auto |= before.is_none();
            self.marks.log(|m| format!("Re-Instated {}", m.universe.display(id)));
        } else {
            self.marks.set_install(id, before);
        }
        holds
    }

    fn nothing_protected_is_excluded(&self, dependencies: &Dependencies) -> bool {
        let universe = self.marks.universe;
        let excluded = self.marks.excluded_present(dependencies);
        !excluded.into_iter().any(|v| self.marks.state(universe.package_of(v)).protected)
    }

    fn reinstate_for(&mut self, group: &Positive) -> bool {
        if self.marks.is_satisfied(group) {
            return true;
        }
        let targets: Vec<VerId> = group.targets().collect();
        targets.into_iter().any(|target| {
            self.marks.is_candidate(target)
                && self.reinstate(self.marks.universe.package_of(target))
        })
    }

    /// Removes what a higher score excludes.
    fn kill(&mut self, id: PkgId, packages: &[PkgId], round: usize) -> bool {
        if self.marks.state(id).install.is_none() {
            return false;
        }
        for &package in packages {
            self.marks.set_install(package, None);
            self.marks.log(|m| format!("Fixing by remove of {}", m.universe.display(package)));
            if round > 1 {
                let score = self.scores.get(id).max(self.scores.get(package));
                self.scores.set(package, score);
            }
        }
        !packages.is_empty()
    }
}
