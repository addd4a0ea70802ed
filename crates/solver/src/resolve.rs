//! What the walk left broken: change the lesser of two packages that do not agree.
//!
//! The walk can push out a package that something still needs. apt's problem
//! resolver then goes over what is broken, from the highest score to the lowest,
//! some rounds long: a package that was not asked for is put back rather than that
//! one of at least its score is changed; one that was asked for, or is needed by such, gets what it
//! misses; what conflicts with a higher score is removed.

use std::collections::BTreeSet;

use crate::deps::{Alternative, Dependencies, Negative, Positive, packages_of};
use crate::marks::Marks;
use crate::scores::Scores;
use crate::universe::{PkgId, VerId};

/// Rounds after which apt gives up.
const MAX_ROUNDS: usize = 20;

/// One requirement of a package that is not met.
enum Problem<'d> {
    Missing(&'d Positive),
    Excluded(&'d Negative),
}

/// What trying one alternative came to.
#[derive(PartialEq, Eq)]
enum Tried {
    /// Nothing done; the next alternative may help.
    Nothing,
    /// The package was put back to what it was before.
    HeldBack,
}

struct Resolver<'m, 'u> {
    marks: &'m mut Marks<'u>,
    scores: Scores,
    /// Packages of which the candidate was put back once; that is not tried twice.
    tried: BTreeSet<PkgId>,
    changed: bool,
}

impl Marks<'_> {
    /// Repairs what is broken as far as apt would.
    pub fn resolve(&mut self, requested: &[PkgId]) {
        if !self.any_broken() && self.trace.is_none() {
            return;
        }
        let scores = Scores::new(self, requested);
        self.log_scores(&scores);
        let mut order: Vec<PkgId> = self.universe.all_packages().collect();
        self.sort_by_mention(&mut order);
        order.sort_by_key(|id| std::cmp::Reverse(scores.get(*id)));
        let mut resolver = Resolver { marks: self, scores, tried: BTreeSet::new(), changed: false };
        for round in 0..MAX_ROUNDS {
            resolver.changed = false;
            for &id in &order {
                resolver.investigate(id, round);
            }
            if !resolver.changed {
                break;
            }
        }
    }

    fn log_scores(&mut self, scores: &Scores) {
        let all = self.universe.all_packages().filter(|id| scores.get(*id) != 0);
        for id in all {
            self.log(|m| format!("Score {} {}", scores.get(id), m.universe.display(id)));
        }
    }

    fn any_broken(&mut self) -> bool {
        self.present().into_iter().any(|(_, version)| self.is_broken(version))
    }

    /// Whether a version misses something critical or excludes something present.
    pub fn is_broken(&mut self, version: VerId) -> bool {
        let dependencies = self.dependencies(version);
        dependencies.positive.iter().any(|g| g.kind.is_critical() && !self.is_satisfied(g))
            || dependencies.negative.iter().any(|n| self.excludes_something(n))
    }

    fn excludes_something(&self, negative: &Negative) -> bool {
        negative.targets.iter().any(|v| self.is_present(*v))
    }
}

impl Resolver<'_, '_> {
    /// Looks at one package if it is broken.
    fn investigate(&mut self, id: PkgId, round: usize) {
        let Some(version) = self.marks.state(id).install else { return };
        if !self.marks.is_broken(version) {
            return;
        }
        self.marks.log(|m| format!("Investigating ({round}) {}", m.universe.display(id)));
        let dependencies = self.marks.dependencies(version);
        let mut kill = Vec::new();
        for problem in problems(&dependencies) {
            let held_back = match problem {
                Problem::Missing(group) => self.fix_missing(id, group, round, &mut kill),
                Problem::Excluded(negative) => self.fix_excluded(id, negative, round, &mut kill),
            };
            if held_back {
                break;
            }
        }
        self.kill(id, &kill, round);
    }

    /// Tries the alternatives of a dependency. True if the package is done with.
    fn fix_missing(
        &mut self,
        id: PkgId,
        group: &Positive,
        round: usize,
        kill: &mut Vec<PkgId>,
    ) -> bool {
        let several = group.alternatives.len() > 1;
        let killed = kill.len();
        let mut keep = false;
        for alternative in &group.alternatives {
            if !keep && self.marks.is_satisfied(group) {
                return false;
            }
            if alternative.targets.is_empty() && !self.marks.state(id).protected && !several {
                self.keep(id);
                return true;
            }
            let there = self.marks.state(id).install.is_some();
            let tried = self.try_targets(id, &alternative.targets, None, round, kill);
            if tried == Tried::HeldBack {
                keep = true;
                if !several {
                    return true;
                }
                // The other alternatives are looked at as if it were there.
                let candidate = self.marks.state(id).candidate;
                if there {
                    self.marks.set_install(id, candidate);
                }
            }
        }
        if several && kill.len() == killed {
            let protected = self.marks.state(id).protected;
            if keep {
                self.keep(id);
            } else if !protected && !self.marks.is_satisfied(group) {
                self.marks.set_install(id, None);
                self.changed = true;
            }
        }
        false
    }

    /// Deals with what the package excludes. True if the package is done with.
    fn fix_excluded(
        &mut self,
        id: PkgId,
        negative: &Negative,
        round: usize,
        kill: &mut Vec<PkgId>,
    ) -> bool {
        if !self.marks.excludes_something(negative) {
            return false;
        }
        self.try_targets(id, &negative.targets, Some(negative), round, kill) == Tried::HeldBack
    }

    /// Weighs the package against each version that would satisfy a dependency, or
    /// that it excludes (`negative`).
    fn try_targets(
        &mut self,
        id: PkgId,
        targets: &[VerId],
        negative: Option<&Negative>,
        round: usize,
        kill: &mut Vec<PkgId>,
    ) -> Tried {
        for &target in targets {
            let other = self.marks.universe.package_of(target);
            if negative.is_some() && !self.marks.is_present(target) {
                continue;
            }
            let satisfied_now = targets.iter().any(|v| {
                let package = self.marks.universe.package_of(*v);
                self.marks.state(package).current == Some(*v)
            });
            let weaker = self.scores.get(id) <= self.scores.get(other);
            if weaker || (negative.is_none() && !satisfied_now) {
                if !self.marks.state(id).protected {
                    self.hold_back(id, other, round);
                    return Tried::HeldBack;
                }
                if self.reinstate(other) {
                    let score = self.scores.get(id).min(self.scores.get(other));
                    self.scores.set(other, score);
                    return Tried::Nothing;
                }
                continue;
            }
            let upgrade = self.marks.state(other).candidate;
            if let Some(negative) = negative
                && negative.is_breaks
                && upgrade.is_some_and(|v| !negative.targets.contains(&v))
            {
                self.marks.set_install(other, upgrade);
                continue;
            }
            if self.marks.state(other).protected {
                continue;
            }
            kill.push(other);
            if negative.is_none() {
                break;
            }
        }
        Tried::Nothing
    }

    /// Leaves a package as it was before.
    fn keep(&mut self, id: PkgId) {
        let current = self.marks.state(id).current;
        self.marks.set_install(id, current);
        self.changed = true;
    }

    /// Leaves a package as it was before; if that is broken, too, upgrades it after
    /// all or removes it.
    fn hold_back(&mut self, id: PkgId, other: PkgId, round: usize) {
        self.keep(id);
        self.marks.log(|m| format!("Holding Back {}", m.universe.display(id)));
        let broken = self.marks.state(id).current.is_some_and(|v| self.marks.is_broken(v));
        if broken && !self.reinstate(id) {
            self.marks.set_install(id, None);
            if round > 1 && self.scores.get(other) > self.scores.get(id) {
                self.scores.set(id, self.scores.get(other));
            }
        }
    }

    /// Marks the candidate of a package and, where they are missing, those that it
    /// needs; only if that touches nothing protected.
    fn reinstate(&mut self, id: PkgId) -> bool {
        let state = self.marks.state(id);
        let Some(candidate) = state.candidate else { return false };
        if state.protected || self.tried.contains(&id) {
            return false;
        }
        self.tried.insert(id);
        let before = state.install;
        let is_new = state.current.is_none();
        self.marks.set_install(id, Some(candidate));
        let dependencies = self.marks.dependencies(candidate);
        let fits = problems(&dependencies).all(|problem| match problem {
            Problem::Missing(group) => self.reinstate_one_of(group),
            // Others are left to the next round.
            Problem::Excluded(negative) => !self.excludes_protected(negative),
        });
        if fits {
            self.marks.state_mut(id).auto |= is_new && before.is_none();
            self.marks.log(|m| format!("Re-Instated {}", m.universe.display(id)));
        } else {
            let kept = self.marks.state(id).current.filter(|v| before == Some(*v));
            self.marks.set_install(id, kept);
        }
        fits
    }

    fn excludes_protected(&self, negative: &Negative) -> bool {
        let universe = self.marks.universe;
        let protected = |v: &VerId| self.marks.state(universe.package_of(*v)).protected;
        negative.targets.iter().any(|v| self.marks.is_present(*v) && protected(v))
    }

    /// An alternative that fails is made good only by one put back after it.
    fn reinstate_one_of(&mut self, group: &Positive) -> bool {
        let mut fits = true;
        for alternative in &group.alternatives {
            if self.marks.is_satisfied(group) {
                return fits;
            }
            fits = self.only_target(alternative).is_some_and(|package| self.reinstate(package));
            if fits {
                return true;
            }
        }
        fits
    }

    /// The package that an alternative stands for: that of its name, or its only
    /// provider. It must have a candidate that satisfies.
    fn only_target(&self, alternative: &Alternative) -> Option<PkgId> {
        let universe = self.marks.universe;
        let packages = packages_of(universe, alternative.targets.iter().copied());
        let named = |id: &&PkgId| universe.package(**id).name == *alternative.name;
        let package = match (packages.iter().find(named), packages.as_slice()) {
            (Some(named), _) => *named,
            (None, [only]) => *only,
            _ => return None,
        };
        alternative.targets.iter().any(|v| self.marks.is_candidate(*v)).then_some(package)
    }

    /// Takes away what a higher score excludes.
    fn kill(&mut self, id: PkgId, packages: &[PkgId], round: usize) {
        if self.marks.state(id).install.is_none() {
            return;
        }
        for &package in packages {
            self.marks.log(|m| format!("Fixing via keep of {}", m.universe.display(package)));
            let current = self.marks.state(package).current;
            let excluded = current.is_some_and(|v| self.marks.state(package).install == Some(v));
            self.marks.set_install(package, if excluded { None } else { current });
            if round > 1 && self.scores.get(id) > self.scores.get(package) {
                self.scores.set(package, self.scores.get(id));
            }
            self.changed = true;
        }
    }
}

/// The critical requirements in apt's order.
fn problems(dependencies: &Dependencies) -> impl Iterator<Item = Problem<'_>> {
    let positive = dependencies.positive.iter().filter(|group| group.kind.is_critical());
    positive.map(Problem::Missing).chain(dependencies.negative.iter().map(Problem::Excluded))
}
