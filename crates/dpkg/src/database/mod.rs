//! [`Database`]: dpkg's records in `/var/lib/dpkg`, read from a Tree and written
//! back to it.
//!
//! What it is: the status of packages, their file lists, diversions, overrides
//! and triggers, in memory, with an index of who owns which path. Nothing is
//! written until [`Database::write`], which writes everything at once.
//!
//! What it is not: a decision about files; that is [`crate::merge`].
//!
//! Data flow: Tree → [`Database::load`] → [`crate::merge`] for each package →
//! [`Database::write`] → Tree. After scripts ran, load again.
//!
//! Formats: dpkg(1) FILES, dpkg-divert(1), dpkg-statoverride(1), deb-triggers(5),
//! dpkg's doc/spec/triggers.txt, and dpkg 1.22's files as observed.

mod extended;
mod load;
mod names;
mod triggers;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tree::{TreeError, TreePath};

pub use extended::extended_states;
pub(crate) use names::Names;
use triggers::Triggers;
pub(crate) use triggers::{Await, Directive, parse_directives};

use crate::{Control, ControlError, Package};

/// Where the database is.
pub(crate) const DIR: &str = "var/lib/dpkg";

/// Why the database cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// A file of it cannot be read.
    #[error("{path}: cannot be read")]
    Read {
        /// Which.
        path: TreePath,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of it does not follow its format.
    #[error("{path}: line {line}: {reason}")]
    Syntax {
        /// Which.
        path: TreePath,
        /// Counted from 1; 0 if the file as a whole is meant.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A stanza of `status` makes no sense.
    #[error("{path}: package {package}: {source}")]
    Stanza {
        /// The status file.
        path: TreePath,
        /// Which package.
        package: String,
        /// What is wrong.
        source: ControlError,
    },
    /// dpkg was interrupted in the tree and left a journal.
    #[error("{0}: dpkg was interrupted there; run “dpkg --configure -a” in that tree first")]
    Interrupted(TreePath),
    /// The tree does not take the files.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// How far a package is installed, in dpkg's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum State {
    NotInstalled,
    ConfigFiles,
    HalfInstalled,
    Unpacked,
    HalfConfigured,
    TriggersAwaited,
    TriggersPending,
    Installed,
}

impl State {
    const ALL: [(State, &'static str); 8] = [
        (State::NotInstalled, "not-installed"),
        (State::ConfigFiles, "config-files"),
        (State::HalfInstalled, "half-installed"),
        (State::Unpacked, "unpacked"),
        (State::HalfConfigured, "half-configured"),
        (State::TriggersAwaited, "triggers-awaited"),
        (State::TriggersPending, "triggers-pending"),
        (State::Installed, "installed"),
    ];

    /// As it stands in `Status:`.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).expect("all are listed").1
    }

    fn parse(text: &str) -> Option<State> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(state, _)| *state)
    }
}

/// Names an instance of a package: sorted as dpkg sorts `status`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    pub(crate) name: String,
    pub(crate) architecture: String,
}

/// A configuration file as `status` knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conffile {
    /// With its leading slash.
    pub(crate) path: String,
    /// MD5 in hex, or `newconffile`; flags (`obsolete`, `remove-on-upgrade`) after it.
    pub(crate) rest: String,
}

/// One package of the database.
#[derive(Debug, Clone)]
pub struct Installed {
    pub(crate) control: Control,
    pub(crate) want: String,
    pub(crate) error: String,
    pub(crate) state: State,
    pub(crate) config_version: Option<String>,
    pub(crate) conffiles: Vec<Conffile>,
    pub(crate) triggers_pending: Vec<String>,
    pub(crate) triggers_awaited: Vec<String>,
    /// The paths of the `.list` file, in its order.
    pub(crate) list: Vec<TreePath>,
    /// The stanza as it was read; `None` once something changed.
    pub(crate) raw: Option<String>,
    /// `list` is not what the tree has.
    pub(crate) list_changed: bool,
    /// An `md5sums` file to be written.
    pub(crate) sums: Option<Vec<u8>>,
    /// Laid out by us: its control files are to be written.
    pub(crate) package: Option<Arc<Package>>,
}

impl Installed {
    /// The package's own fields.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// How far it is installed.
    pub fn state(&self) -> State {
        self.state
    }

    /// The paths it lists, in its order, the root first.
    pub fn paths(&self) -> &[TreePath] {
        &self.list
    }

    /// The `Status:` field.
    fn status(&self) -> String {
        format!("{} {} {}", self.want, self.error, self.state.as_str())
    }

    fn stanza(&self) -> String {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let conffiles: String =
            self.conffiles.iter().map(|c| format!("\n {} {}", c.path, c.rest)).collect();
        self.control.status_paragraph(&[
            ("Status", &self.status()),
            ("Config-Version", self.config_version.as_deref().unwrap_or_default()),
            ("Conffiles", &conffiles),
            ("Triggers-Pending", &self.triggers_pending.join(" ")),
            ("Triggers-Awaited", &self.triggers_awaited.join(" ")),
        ])
    }
}

/// A diversion made with dpkg-divert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diversion {
    /// The path that packages ship.
    pub from: TreePath,
    /// Where it is laid instead.
    pub to: TreePath,
    /// The package to which the diversion does not apply; `None` for a local one.
    pub package: Option<String>,
}

/// An override made with dpkg-statoverride.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatOverride {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The twelve permission bits.
    pub mode: u16,
}

/// dpkg's database. See the module's head.
#[derive(Debug, Clone)]
pub struct Database {
    native: String,
    pub(crate) packages: BTreeMap<Arc<Id>, Installed>,
    /// Stanzas of packages that are not installed: kept, never looked at.
    others: BTreeMap<Id, String>,
    diversions: Vec<Diversion>,
    overrides: BTreeMap<TreePath, StatOverride>,
    triggers: Triggers,
    pub(crate) names: Names,
    // Only looked up, never iterated over.
    owners: HashMap<TreePath, Vec<Arc<Id>>>,
    /// `status` as it was read, for `status-old`.
    status: Vec<u8>,
}

impl Database {
    /// An empty database for a tree of architecture `native`.
    pub fn new(native: &str) -> Self {
        Database {
            native: native.to_owned(),
            packages: BTreeMap::new(),
            others: BTreeMap::new(),
            diversions: Vec::new(),
            overrides: BTreeMap::new(),
            triggers: Triggers::default(),
            names: Names::default(),
            owners: HashMap::new(),
            status: Vec::new(),
        }
    }

    /// The architecture of the tree.
    pub fn native(&self) -> &str {
        &self.native
    }

    /// The packages, removed ones whose configuration is left included.
    pub fn packages(&self) -> impl Iterator<Item = &Installed> {
        self.packages.values()
    }

    /// The package of that name and architecture (`all` for such packages).
    pub fn package(&self, name: &str, architecture: &str) -> Option<&Installed> {
        let id = Id { name: name.into(), architecture: architecture.into() };
        self.packages.get(&id)
    }

    /// The diversions in force.
    pub fn diversions(&self) -> &[Diversion] {
        &self.diversions
    }

    /// Where the package called `package` puts what it ships as `path`.
    pub fn diverted<'a>(&'a self, path: &'a TreePath, package: &str) -> &'a TreePath {
        let diversion = self.diversions.iter().find(|d| d.from == *path);
        match diversion {
            Some(d) if d.package.as_deref() != Some(package) => &d.to,
            _ => path,
        }
    }

    /// The diversion that leads to `path`.
    pub(crate) fn diversion_to(&self, path: &TreePath) -> Option<&Diversion> {
        self.diversions.iter().find(|d| d.to == *path)
    }

    pub(crate) fn diversion_from(&self, path: &TreePath) -> Option<&Diversion> {
        self.diversions.iter().find(|d| d.from == *path)
    }

    pub(crate) fn stat_override(&self, path: &TreePath) -> Option<StatOverride> {
        self.overrides.get(path).copied()
    }

    /// Who lists `path`.
    pub(crate) fn owners(&self, path: &TreePath) -> &[Arc<Id>] {
        self.owners.get(path).map_or(&[], Vec::as_slice)
    }

    /// Adds or replaces a package, and its paths to the index.
    pub(crate) fn insert(&mut self, installed: Installed) -> Arc<Id> {
        let id = Arc::new(Id {
            name: installed.control.name().to_owned(),
            architecture: installed.control.architecture().to_owned(),
        });
        for path in &installed.list {
            let owners = self.owners.entry(path.clone()).or_default();
            if owners.last() != Some(&id) && !owners.contains(&id) {
                owners.push(id.clone());
            }
        }
        self.others.remove(&*id);
        self.packages.insert(id.clone(), installed);
        id
    }

    /// Takes `paths` from the list of `id`: another package replaced them.
    pub(crate) fn elide(&mut self, id: &Id, paths: &BTreeSet<TreePath>) {
        let Some(installed) = self.packages.get_mut(id) else { return };
        installed.list.retain(|path| !paths.contains(path));
        installed.list_changed = true;
        let taken =
            |c: &&mut Conffile| TreePath::new(&c.path).is_ok_and(|path| paths.contains(&path));
        for conffile in installed.conffiles.iter_mut().filter(taken) {
            if !conffile.rest.contains(" obsolete") {
                conffile.rest.push_str(" obsolete");
                installed.raw = None;
            }
        }
        for path in paths {
            if let Some(owners) = self.owners.get_mut(path) {
                owners.retain(|owner| **owner != *id);
            }
        }
    }

    /// The MD5 that another architecture's instance has for a conffile.
    pub(crate) fn shared_conffile(&self, name: &str, path: &str) -> Option<String> {
        let instances = self.packages.iter().filter(|(id, _)| id.name == name);
        let mut conffiles = instances.flat_map(|(_, installed)| &installed.conffiles);
        conffiles.find(|c| c.path == path).map(|c| c.rest.clone())
    }

    /// Registers the package's interests and carries out its activations.
    pub(crate) fn apply_triggers(&mut self, id: &Id, info_name: &str, directives: &[Directive]) {
        for directive in directives {
            match directive {
                Directive::Interest { trigger, awaits } => {
                    self.triggers.add_interest(trigger, info_name, *awaits);
                }
                Directive::Activate { trigger } => {
                    let interested = self.triggers.interested(trigger).to_vec();
                    for (package, _) in interested {
                        self.activate(trigger, &package, Await::No, id);
                    }
                }
            }
        }
    }

    /// Activates the file triggers on `path` and the directories above it.
    pub(crate) fn activate_path(&mut self, path: &TreePath, by: &Id) {
        if self.triggers.has_no_files() {
            return;
        }
        let bytes = path.as_bytes();
        let slashes = bytes.iter().enumerate().rev().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
        for end in std::iter::once(bytes.len()).chain(slashes) {
            let interested = self.triggers.interested_in_path(&bytes[..end]).to_vec();
            for (package, interest) in interested {
                let trigger = format!("/{}", String::from_utf8_lossy(&bytes[..end]));
                self.activate(&trigger, &package, interest, by);
            }
        }
    }

    /// A package that is not configured yet will see everything then: dpkg notes
    /// triggers only for packages that have been configured.
    fn activate(&mut self, trigger: &str, package: &str, awaits: Await, by: &Id) {
        let pending = self.packages.iter_mut().find(|(_, i)| i.control.info_name() == package);
        let Some((pending_id, installed)) = pending else { return };
        if installed.state < State::TriggersAwaited || **pending_id == *by {
            return;
        }
        if !installed.triggers_pending.iter().any(|t| t == trigger) {
            installed.triggers_pending.insert(0, trigger.to_owned());
            if installed.state == State::Installed {
                installed.state = State::TriggersPending;
            }
            installed.raw = None;
        }
        let Some(activating) = self.packages.get_mut(by) else { return };
        if awaits == Await::Yes && !activating.triggers_awaited.iter().any(|p| p == package) {
            activating.triggers_awaited.insert(0, package.to_owned());
            activating.raw = None;
        }
    }
}
