//! `package/release`: the dependencies follow where they must.
//!
//! A version taken from another release may need versions that are no candidates.
//! As for apt-get, what the present candidates do not satisfy is switched to that
//! release's version, and so on with what that needs; everything else stays.

use crate::deps::Positive;
use crate::marks::Marks;
use crate::universe::VerId;

impl Marks<'_> {
    /// Switches the candidates that `version` needs to those of `release`.
    pub fn follow_release(&mut self, version: VerId, release: &str) {
        let mut todo = vec![version];
        while let Some(version) = todo.pop() {
            let dependencies = self.dependencies(version);
            for group in &dependencies.positive {
                let wanted = group.kind.is_critical() || self.with_recommends;
                if !wanted || group.targets().any(|v| self.is_candidate(v)) {
                    continue;
                }
                if let Some(found) = self.of_release(group, release) {
                    self.offer(found);
                    todo.push(found);
                }
            }
        }
    }

    fn of_release(&self, group: &Positive, release: &str) -> Option<VerId> {
        let free = |v: &VerId| !self.state(self.universe.package_of(*v)).protected;
        group.targets().find(|v| self.is_of_release(*v, release) && free(v))
    }
}
