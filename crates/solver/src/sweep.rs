//! Taking away what was marked on the way and is not needed after all.
//!
//! A conflict can push out a package after its dependencies were marked. apt walks
//! from what was asked for along Depends, Recommends and Suggests, and drops new
//! packages that it does not reach; but not those that something left needs.

use std::collections::BTreeSet;

use crate::deps::positives;
use crate::marks::Marks;
use crate::solution::Kind;
use crate::universe::{PkgId, VerId};

impl Marks<'_> {
    /// Drops new packages that nothing reaches.
    pub fn sweep(&mut self) {
        let mut reached = BTreeSet::new();
        let roots: Vec<_> =
            self.present().into_iter().filter(|(id, _)| self.is_root(*id)).collect();
        let mut todo: Vec<VerId> = roots.into_iter().map(|(_, version)| version).collect();
        while let Some(version) = todo.pop() {
            if reached.insert(self.universe.package_of(version)) {
                todo.extend(self.needs(version));
            }
        }
        for (id, _) in self.present() {
            if !reached.contains(&id) && self.state(id).current.is_none() {
                self.log(|marks| format!("Garbage {}", marks.universe.display(id)));
                self.set_install(id, None);
            }
        }
    }

    fn is_root(&self, id: PkgId) -> bool {
        let state = self.state(id);
        let package = self.universe.package(id);
        !state.auto || state.protected || package.essential || package.protected
    }

    /// The present versions that `version` depends on, recommends or suggests.
    fn needs(&mut self, version: VerId) -> Vec<VerId> {
        let dependencies = self.dependencies(version);
        let mut found: Vec<VerId> = dependencies
            .positive
            .iter()
            .flat_map(|group| group.targets())
            .filter(|v| self.is_present(*v))
            .collect();
        let record = self.universe.record(version);
        for group in positives(self.universe, version, Kind::Suggests, &record.suggests) {
            found.extend(group.targets().filter(|v| self.is_present(*v)));
        }
        found
    }
}
