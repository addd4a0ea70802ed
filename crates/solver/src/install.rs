//! Marking a package for installation, and with it what it needs.
//!
//! The order of the walk decides which alternative is chosen, so it is apt's:
//! depth first, dependencies in the order Pre-Depends, Depends, Recommends, each
//! as written. A group that something present satisfies is passed over. Otherwise
//! its solutions are tried one by one, and the first that can be marked is taken.
//!
//! What the user asked for is *protected*, and so is what a protected package
//! needs where only one package will do: it cannot be pushed out by a conflict.

use crate::deps::Positive;
use crate::marks::Marks;
use crate::solution::Reason;
use crate::universe::{PkgId, VerId};

/// Dependencies nested deeper than this are a loop that does not end.
const MAX_DEPTH: usize = 3000;

impl Marks<'_> {
    /// Marks what the user asked for, without its dependencies.
    pub fn select(&mut self, id: PkgId, reason: Reason) -> bool {
        let Some(candidate) = self.state(id).candidate else { return false };
        self.set_install(id, Some(candidate));
        let state = self.state_mut(id);
        state.auto = false;
        state.protected = true;
        self.reasons.insert(id, reason);
        true
    }

    /// Marks the candidate of `id` and what it needs; `why` is none for what the
    /// user asked for. `protect` settles that it stays.
    pub fn mark_install(
        &mut self,
        id: PkgId,
        why: Option<&Reason>,
        protect: bool,
        depth: usize,
    ) -> bool {
        let Some(candidate) = self.state(id).candidate else { return false };
        let already = self.state(id).install == Some(candidate);
        if depth > MAX_DEPTH || (self.state(id).protected && !already) {
            return false;
        }
        if !already && !self.has_a_chance(id, candidate, depth) {
            self.discard_candidate(id);
            return false;
        }
        let protect = protect || self.state(id).protected;
        if !self.clear_the_way(candidate, depth) && !protect {
            return false;
        }
        if !already {
            self.set_install(id, Some(candidate));
            if let Some(why) = why {
                let new = self.state(id).current.is_none();
                self.state_mut(id).auto |= new;
                self.reasons.insert(id, why.clone());
            }
        }
        if protect {
            self.state_mut(id).protected = true;
            self.bar_excluded(candidate);
        }
        self.log(|marks| format!("{:depth$}MarkInstall {}", "", marks.universe.display(id)));
        self.state_mut(id).walking += 1;
        let done = self.install_dependencies(id, candidate, depth);
        self.state_mut(id).walking -= 1;
        if !done {
            self.discard_candidate(id);
        }
        done
    }

    /// Whether each critical group of `version` has a target that was a candidate at
    /// the start. What has not is given up before anything is marked for it.
    fn has_a_chance(&mut self, id: PkgId, version: VerId, depth: usize) -> bool {
        let dependencies = self.dependencies(version);
        let hopeless = dependencies.positive.iter().find(|group| {
            let offered = |v| self.state(self.universe.package_of(v)).offered == Some(v);
            group.kind.is_critical() && !self.is_satisfied(group) && !group.targets().any(offered)
        });
        if let Some(group) = hopeless {
            self.log_unsatisfied(id, group, depth);
        }
        hopeless.is_none()
    }

    fn log_unsatisfied(&mut self, id: PkgId, group: &Positive, depth: usize) {
        self.log(|marks| {
            let name = marks.universe.display(id);
            format!("{:depth$}{name} {} {} can't be satisfied", "", group.kind.verb(), group.text)
        });
    }

    /// Pushes out what cannot be there beside `version`; false if that may not be.
    fn clear_the_way(&mut self, version: VerId, depth: usize) -> bool {
        for other in self.excluded_by(version) {
            let package = self.universe.package_of(other);
            if !self.is_present(other) {
                continue;
            }
            let state = self.state(package);
            let stays = state.protected || state.walking > 0;
            self.log(|marks| {
                let what = if stays { "Ignore MarkKeep" } else { "MarkKeep" };
                format!("{:depth$}{what} {}", "", marks.universe.display(package))
            });
            if stays {
                return false;
            }
            self.set_install(package, None);
        }
        true
    }

    /// What a protected version excludes cannot be chosen any longer.
    fn bar_excluded(&mut self, version: VerId) {
        let dependencies = self.dependencies(version);
        for target in dependencies.negative.iter().flat_map(|n| n.targets.iter().copied()) {
            let state = self.state_mut(self.universe.package_of(target));
            if state.install.is_none() && state.candidate == Some(target) {
                state.candidate = None;
                state.protected = true;
            }
        }
    }

    /// A candidate that turned out not to be installable is none any longer.
    fn discard_candidate(&mut self, id: PkgId) {
        let current = self.state(id).current;
        self.state_mut(id).candidate = current;
        if !self.state(id).protected {
            self.set_install(id, current);
        }
    }

    /// Marks what `version` needs. The first thing that cannot be met ends that, but
    /// for a protected package.
    fn install_dependencies(&mut self, id: PkgId, version: VerId, depth: usize) -> bool {
        let dependencies = self.dependencies(version);
        let mut done = true;
        for group in &dependencies.positive {
            let critical = group.kind.is_critical();
            if !critical && (!self.with_recommends || self.state(id).current.is_some()) {
                continue;
            }
            let binding = critical && self.state(id).protected;
            if self.is_satisfied(group) && !binding {
                continue;
            }
            if !self.install_group(id, group, binding, depth) && critical {
                self.log_unsatisfied(id, group, depth);
                done = false;
                if !self.state(id).protected {
                    break;
                }
            }
        }
        done
    }

    /// Marks the first solution of the group that can be marked. A group that is
    /// satisfied is looked at only to protect its only solution.
    fn install_group(&mut self, id: PkgId, group: &Positive, binding: bool, depth: usize) -> bool {
        let reason = Reason::Dependency { of: self.universe.display(id), kind: group.kind };
        let solutions = self.solutions(group);
        let protect = binding && solutions.len() == 1;
        if self.is_satisfied(group) {
            if let (true, Some(&only)) = (protect, solutions.first()) {
                let package = self.universe.package_of(only);
                if self.is_present(only) && !self.state(package).protected {
                    return self.mark_install(package, Some(&reason), true, depth + 1);
                }
            }
            return true;
        }
        for version in solutions {
            let package = self.universe.package_of(version);
            if self.is_candidate(version)
                && self.mark_install(package, Some(&reason), protect, depth + 1)
            {
                return true;
            }
        }
        false
    }
}
