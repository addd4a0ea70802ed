//! What is to become of each package: the state that marking changes.
//!
//! Every package has a version that is there (`current`), one that would be
//! installed (`candidate`) and one that will be there (`install`). Marking moves
//! `install`; see [`crate::install`].

use std::collections::BTreeSet;
use std::rc::Rc;

use hashbrown::HashMap;

use crate::deps::{Cache, Dependencies, Positive};
use crate::mention::{self, Mentions};
use crate::solution::{Installed, Reason, Request};
use crate::universe::{PkgId, Universe, VerId};

#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub current: Option<VerId>,
    pub candidate: Option<VerId>,
    /// The candidate before any attempt failed.
    pub offered: Option<VerId>,
    pub install: Option<VerId>,
    /// Nobody asked for it.
    pub auto: bool,
    /// What it is to become is settled: asked for, or needed by such a one.
    pub protected: bool,
    /// The user holds it as it is.
    pub held: bool,
    /// How many walks over its dependencies are under way.
    pub walking: u32,
}

/// The state of all packages, and what is known of them.
pub(crate) struct Marks<'u> {
    pub universe: &'u Universe,
    pub with_recommends: bool,
    states: Vec<State>,
    cache: Cache,
    mentions: Mentions<'u>,
    /// Installed or to be installed, for walking them in order.
    present: BTreeSet<PkgId>,
    pub reasons: HashMap<PkgId, Reason>,
    /// What was marked, in apt's words; for comparing with apt's trace.
    pub trace: Option<Vec<String>>,
}

impl<'u> Marks<'u> {
    pub fn new(universe: &'u Universe, installed: &Installed, request: &Request) -> Self {
        let mut marks = Self {
            universe,
            with_recommends: request.with_recommends,
            states: vec![State::default(); universe.packages.len()],
            cache: Cache::default(),
            mentions: Mentions::default(),
            present: BTreeSet::new(),
            reasons: HashMap::new(),
            trace: None,
        };
        for package in &installed.packages {
            marks.add_installed(package);
        }
        for id in universe.all_packages() {
            let name = &universe.package(id).name;
            let state = &marks.states[id.0 as usize];
            let candidate = match request.forbidden.contains(name) {
                true => state.current,
                false => candidate(universe, id, state.current),
            };
            let held = request.held.contains(name);
            let state = &mut marks.states[id.0 as usize];
            state.held = held;
            state.candidate =
                if held && state.current.is_some() { state.current } else { candidate };
            state.offered = state.candidate;
        }
        marks
    }

    fn add_installed(&mut self, package: &crate::solution::InstalledPackage) {
        let record = &package.record;
        let arch = match record.architecture.is_all() {
            true => &self.universe.native,
            false => &record.architecture,
        };
        let Some(id) = self.universe.find(record.name.as_str(), arch) else { return };
        let versions = &self.universe.package(id).versions;
        let version = versions.iter().find(|v| self.universe.record(**v).version == record.version);
        let Some(&version) = version else { return };
        let state = &mut self.states[id.0 as usize];
        state.current = Some(version);
        state.auto = package.auto;
        self.set_install(id, Some(version));
    }

    pub fn state(&self, id: PkgId) -> &State {
        &self.states[id.0 as usize]
    }

    /// Makes that version the one that would be installed.
    pub fn offer(&mut self, version: VerId) {
        let state = self.state_mut(self.universe.package_of(version));
        state.candidate = Some(version);
        state.offered = Some(version);
    }

    pub fn state_mut(&mut self, id: PkgId) -> &mut State {
        &mut self.states[id.0 as usize]
    }

    /// The packages that will be there.
    pub fn present(&self) -> Vec<(PkgId, VerId)> {
        let version = |id: &PkgId| self.state(*id).install.map(|version| (*id, version));
        self.present.iter().filter_map(version).collect()
    }

    /// Sets what will be there of a package.
    pub fn set_install(&mut self, id: PkgId, version: Option<VerId>) {
        self.states[id.0 as usize].install = version;
        match version {
            None => self.present.remove(&id),
            Some(_) => self.present.insert(id),
        };
    }

    pub fn dependencies(&mut self, version: VerId) -> Rc<Dependencies> {
        self.cache.get(self.universe, version)
    }

    /// The versions whose dependencies were looked at.
    pub fn walked(&self) -> impl Iterator<Item = VerId> + '_ {
        self.cache.versions()
    }

    /// Whether that version will be there.
    pub fn is_present(&self, version: VerId) -> bool {
        self.state(self.universe.package_of(version)).install == Some(version)
    }

    /// Whether that version is what would be installed of its package.
    pub fn is_candidate(&self, version: VerId) -> bool {
        self.state(self.universe.package_of(version)).candidate == Some(version)
    }

    /// Whether a version that will be there satisfies the group.
    pub fn is_satisfied(&self, group: &Positive) -> bool {
        group.targets().any(|version| self.is_present(version))
    }

    /// The versions present that `version` excludes.
    pub fn excluded_by(&mut self, version: VerId) -> Vec<VerId> {
        let mut found = Vec::new();
        for negative in &self.dependencies(version).negative {
            for target in &negative.targets {
                if self.is_present(*target) && !found.contains(target) {
                    found.push(*target);
                }
            }
        }
        found
    }

    /// The versions present that exclude `version`.
    pub fn excluders_of(&mut self, version: VerId) -> Vec<VerId> {
        let excludes = |marks: &mut Self, other| {
            let dependencies = marks.dependencies(other);
            dependencies.negative.iter().any(|negative| negative.targets.contains(&version))
        };
        let present = self.present().into_iter().map(|(_, other)| other);
        present.filter(|other| *other != version && excludes(self, *other)).collect()
    }

    /// Whether name `a` was mentioned before name `b` in the indices.
    pub fn mentioned_before(&mut self, a: &str, b: &str) -> bool {
        self.mentions.before(self.universe, a, b)
    }

    /// Sorts packages as apt numbers them.
    pub fn sort_by_mention(&self, packages: &mut [PkgId]) {
        let universe = self.universe;
        let names: Vec<&str> =
            packages.iter().map(|id| universe.package(*id).name.as_str()).collect();
        let places = mention::places(universe, names.into_iter());
        packages.sort_by_cached_key(|id| {
            let package = universe.package(*id);
            let place = places.get(package.name.as_str()).copied();
            (place.unwrap_or(usize::MAX), universe.arch_rank(&package.arch), *id)
        });
    }

    pub fn log(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let line = line(self);
            self.trace.get_or_insert_default().push(line);
        }
    }
}

/// The version that apt would install: the highest priority above zero, then the
/// highest version; an older one than what is there only from 1000 on.
fn candidate(universe: &Universe, id: PkgId, current: Option<VerId>) -> Option<VerId> {
    let mut best: Option<(i32, VerId)> = None;
    let mut is_downgrade = false;
    for &version in &universe.package(id).versions {
        let priority = universe.version(version).priority;
        let accepted = priority > 0 && (!is_downgrade || priority >= 1000);
        if accepted && best.is_none_or(|(highest, _)| priority > highest) {
            best = Some((priority, version));
        }
        is_downgrade |= current == Some(version);
    }
    best.map(|(_, version)| version)
}
