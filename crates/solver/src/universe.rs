//! The packages that could be installed: an index over records of several sources.
//!
//! A *package* is a name and an architecture (`all` counts as the native one, as
//! for apt); a *group* is the packages of one name. The same version offered by
//! two sources is one version with the better of the two priorities.
//!
//! Not here: what is to be installed; see [`crate::marks`].

use std::sync::Arc;

use debian::{
    ArchQualifier, Architecture, Constraint, MultiArch, PackageName, PackageRecord, Relation,
};
use hashbrown::HashMap;

/// A package: a name and an architecture. An index into the universe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PkgId(pub u32);

/// One version of a package. An index into the universe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct VerId(pub u32);

/// Where records come from.
#[derive(Debug, Clone, Default)]
pub struct SourceInfo {
    /// For explanations, such as `trixie-security/main`.
    pub label: Arc<str>,
    /// The pin priority of versions that nothing more specific pins
    /// (apt_preferences(5); 500 for an ordinary source).
    pub priority: i32,
    /// What `package/…` may call it: suite, codename, version, archive.
    pub releases: Vec<Arc<str>>,
}

#[derive(Debug)]
pub(crate) struct VersionEntry {
    pub record: Arc<PackageRecord>,
    pub package: PkgId,
    pub priority: i32,
    pub sources: Vec<u16>,
}

#[derive(Debug)]
pub(crate) struct PackageEntry {
    pub name: PackageName,
    pub arch: Architecture,
    /// Highest version first.
    pub versions: Vec<VerId>,
    /// Whether any version is `Essential`: for apt, that is a property of the package.
    pub essential: bool,
    /// The same for `Protected` (`Important`).
    pub protected: bool,
}

/// Everything that could be installed.
#[derive(Debug)]
pub struct Universe {
    pub(crate) native: Architecture,
    pub(crate) foreign: Vec<Architecture>,
    pub(crate) sources: Vec<SourceInfo>,
    pub(crate) versions: Vec<VersionEntry>,
    pub(crate) packages: Vec<PackageEntry>,
    groups: HashMap<Arc<str>, Vec<PkgId>>,
    providers: HashMap<Arc<str>, Vec<VerId>>,
}

/// Collects sources for a [`Universe`].
#[derive(Debug)]
pub struct Builder {
    universe: Universe,
}

impl Universe {
    /// Starts a universe for a machine of architecture `native` that also takes
    /// packages of the `foreign` ones (in the order of preference).
    pub fn builder(native: Architecture, foreign: Vec<Architecture>) -> Builder {
        Builder {
            universe: Self {
                native,
                foreign,
                sources: Vec::new(),
                versions: Vec::new(),
                packages: Vec::new(),
                groups: HashMap::new(),
                providers: HashMap::new(),
            },
        }
    }

    /// How many package versions are known.
    pub fn len(&self) -> usize {
        self.versions.len()
    }

    /// Whether no package version is known.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    /// The native architecture.
    pub fn native(&self) -> &Architecture {
        &self.native
    }

    pub(crate) fn version(&self, id: VerId) -> &VersionEntry {
        &self.versions[id.0 as usize]
    }

    pub(crate) fn record(&self, id: VerId) -> &PackageRecord {
        &self.version(id).record
    }

    pub(crate) fn package(&self, id: PkgId) -> &PackageEntry {
        &self.packages[id.0 as usize]
    }

    pub(crate) fn package_of(&self, id: VerId) -> PkgId {
        self.version(id).package
    }

    /// The packages of that name, of whatever architecture.
    pub(crate) fn group(&self, name: &str) -> &[PkgId] {
        self.groups.get(name).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn find(&self, name: &str, arch: &Architecture) -> Option<PkgId> {
        self.group(name).iter().copied().find(|id| self.package(*id).arch == *arch)
    }

    /// The versions that provide `name`, in the order of the sources.
    pub(crate) fn providers(&self, name: &str) -> &[VerId] {
        self.providers.get(name).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn all_packages(&self) -> impl Iterator<Item = PkgId> + use<> {
        (0..u32::try_from(self.packages.len()).expect("ids are 32 bits wide")).map(PkgId)
    }

    /// `name` for a native package, `name:arch` for another.
    pub(crate) fn display(&self, id: PkgId) -> String {
        let package = self.package(id);
        if package.arch == self.native {
            package.name.to_string()
        } else {
            format!("{}:{}", package.name, package.arch)
        }
    }

    /// The rank of an architecture: native first, then the foreign ones in order.
    pub(crate) fn arch_rank(&self, arch: &Architecture) -> usize {
        if *arch == self.native {
            return 0;
        }
        1 + self.foreign.iter().position(|f| f == arch).unwrap_or(self.foreign.len())
    }

    /// The versions that satisfy `relation` of a package of architecture `arch`,
    /// those of the named package first.
    pub(crate) fn satisfying(&self, relation: &Relation<'_>, arch: &Architecture) -> Vec<VerId> {
        let mut found = Vec::new();
        for &package in self.group(relation.name) {
            for &version in &self.package(package).versions {
                let record = self.record(version);
                if self.arch_serves(version, relation.qualifier, arch)
                    && relation.constraint.is_none_or(|c| c.matches(&record.version))
                {
                    found.push(version);
                }
            }
        }
        for &version in self.providers(relation.name) {
            let record = self.record(version);
            let fits = match relation.qualifier {
                // For `name:arch`, apt compares the provider's own version.
                Some(ArchQualifier::Arch(_)) => {
                    relation.constraint.is_none_or(|c| c.matches(&record.version))
                }
                _ => provides(record, relation.name, relation.constraint),
            };
            if self.arch_serves(version, relation.qualifier, arch)
                && fits
                && !found.contains(&version)
            {
                found.push(version);
            }
        }
        found
    }

    /// Whether a version may serve a relation with that qualifier of a package of
    /// architecture `arch`.
    fn arch_serves(
        &self,
        version: VerId,
        qualifier: Option<ArchQualifier<'_>>,
        arch: &Architecture,
    ) -> bool {
        let own = &self.package(self.package_of(version)).arch;
        let multi = self.record(version).multi_arch;
        match qualifier {
            None => own == arch || multi == MultiArch::Foreign,
            Some(ArchQualifier::Any) => multi == MultiArch::Allowed,
            Some(ArchQualifier::Native) => *own == self.native,
            Some(ArchQualifier::Arch(wanted)) => *own == wanted,
        }
    }

    /// The versions that may not be there together with `version` because of
    /// the negative `relation` of it. A package never conflicts with its own
    /// name: that is how one says “only one provider of this”.
    pub(crate) fn excluded(&self, version: VerId, relation: &Relation<'_>) -> Vec<VerId> {
        let own = &self.record(version).name;
        let serves = |other: VerId| match relation.qualifier {
            Some(ArchQualifier::Arch(wanted)) => {
                self.package(self.package_of(other)).arch == wanted
            }
            _ => true,
        };
        let mut found = Vec::new();
        if *own != relation.name {
            for &package in self.group(relation.name) {
                let matching = self.package(package).versions.iter().copied().filter(|other| {
                    let version = &self.record(*other).version;
                    serves(*other) && relation.constraint.is_none_or(|c| c.matches(version))
                });
                found.extend(matching);
            }
        }
        for &other in self.providers(relation.name) {
            let record = self.record(other);
            if record.name != *own
                && serves(other)
                && provides(record, relation.name, relation.constraint)
                && !found.contains(&other)
            {
                found.push(other);
            }
        }
        found
    }

    /// The versions of the same name for other architectures that cannot be
    /// installed beside `version`: all but the same version of `Multi-Arch: same`.
    pub(crate) fn other_architectures(&self, version: VerId) -> Vec<VerId> {
        let record = self.record(version);
        let package = self.package_of(version);
        let mut found = Vec::new();
        for &other in self.group(record.name.as_str()) {
            if other == package {
                continue;
            }
            for &candidate in &self.package(other).versions {
                let theirs = self.record(candidate);
                let together = record.multi_arch == MultiArch::Same
                    && theirs.multi_arch == MultiArch::Same
                    && theirs.version == record.version;
                if !together {
                    found.push(candidate);
                }
            }
        }
        found
    }

    /// Where a version comes from, for people.
    pub(crate) fn origin(&self, version: VerId) -> String {
        let labels: Vec<&str> = self
            .version(version)
            .sources
            .iter()
            .map(|s| &*self.sources[*s as usize].label)
            .collect();
        labels.join(", ")
    }
}

/// Whether the record's `Provides` has `name` in a version that fits. A provision
/// without a version satisfies only relations without one.
fn provides(record: &PackageRecord, name: &str, constraint: Option<Constraint<'_>>) -> bool {
    record.provides.relations().filter(|provided| provided.name == name).any(|provided| {
        let Some(wanted) = constraint else { return true };
        provided.constraint.is_some_and(|own| {
            wanted.operator.accepts(debian::version::compare(own.version, wanted.version))
        })
    })
}

impl Builder {
    /// Adds the records of a source.
    pub fn add(self, records: &[Arc<PackageRecord>], info: SourceInfo) -> Self {
        self.add_pinned(records, info, |_| None)
    }

    /// As [`Builder::add`]; `pin` gives the priority of a version to which a
    /// specific pin applies.
    pub fn add_pinned(
        mut self,
        records: &[Arc<PackageRecord>],
        info: SourceInfo,
        pin: impl Fn(&PackageRecord) -> Option<i32>,
    ) -> Self {
        let priority = info.priority;
        let source = u16::try_from(self.universe.sources.len()).unwrap_or(u16::MAX);
        self.universe.sources.push(info);
        self.universe.versions.reserve(records.len());
        for record in records {
            if self.wants(&record.architecture) {
                self.insert(record, pin(record).unwrap_or(priority), source);
            }
        }
        self
    }

    fn wants(&self, arch: &Architecture) -> bool {
        arch.is_all() || *arch == self.universe.native || self.universe.foreign.contains(arch)
    }

    fn insert(&mut self, record: &Arc<PackageRecord>, priority: i32, source: u16) {
        let universe = &mut self.universe;
        let arch = match record.architecture.is_all() {
            true => universe.native.clone(),
            false => record.architecture.clone(),
        };
        let package = match universe.find(record.name.as_str(), &arch) {
            Some(package) => package,
            None => new_package(universe, record, arch),
        };
        let entry = &mut universe.packages[package.0 as usize];
        entry.essential |= record.essential;
        entry.protected |= record.protected;
        for &known in &universe.packages[package.0 as usize].versions {
            let known = &mut universe.versions[known.0 as usize];
            if same_version(&known.record, record) {
                known.priority = known.priority.max(priority);
                known.sources.push(source);
                return;
            }
        }
        let id = VerId(u32::try_from(universe.versions.len()).expect("ids are 32 bits wide"));
        for provided in record.provides.names() {
            let list = match universe.providers.get_mut(provided) {
                Some(list) => list,
                None => universe.providers.entry(provided.into()).or_default(),
            };
            if list.last() != Some(&id) {
                list.push(id);
            }
        }
        let entry =
            VersionEntry { record: record.clone(), package, priority, sources: vec![source] };
        universe.versions.push(entry);
        let versions = &universe.packages[package.0 as usize].versions;
        let place = versions.partition_point(|v| universe.record(*v).version >= record.version);
        universe.packages[package.0 as usize].versions.insert(place, id);
    }

    /// The finished universe.
    pub fn build(self) -> Universe {
        self.universe
    }
}

/// The same build: what two sources call by one version may still be two builds.
fn same_version(a: &PackageRecord, b: &PackageRecord) -> bool {
    a.version == b.version
        && a.architecture == b.architecture
        && (a.sha256 == b.sha256 || a.sha256.is_none() || b.sha256.is_none())
}

fn new_package(universe: &mut Universe, record: &PackageRecord, arch: Architecture) -> PkgId {
    let id = PkgId(u32::try_from(universe.packages.len()).expect("ids are 32 bits wide"));
    universe.groups.entry(record.name.shared().clone()).or_default().push(id);
    universe.packages.push(PackageEntry {
        name: record.name.clone(),
        arch,
        versions: Vec::new(),
        essential: false,
        protected: false,
    });
    id
}
