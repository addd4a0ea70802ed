//! Laying a package's files over a Tree, as dpkg's unpacking does.
//!
//! What it is: the rules of dpkg(1), dpkg-divert(1), dpkg-statoverride(1) and
//! Debian Policy 6.6, 7.6, 10.7 for a package that is not installed yet. Which
//! rule applies to a path is decided in dpkg's order: diversion, existing
//! directory, conflict with another package, path filter, then laying it out.
//!
//! What it is not: an upgrade or a removal; both run scripts of the old package in
//! between, so the image's own dpkg does them. They are refused by name.
//!
//! Data flow: ([`Package`], Tree, [`Database`]) → both changed, [`MergeReport`].
//! After an error both are half changed: throw them away.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use tree::{Content, Kind, Node, ResolveError, Tree, TreeError, TreePath};

use crate::database::{Conffile, Directive, Id, parse_directives};
use crate::{Database, Entry, EntryKind, Installed, Package, PathFilter, State};

/// What dpkg appends to a conffile until the package is configured.
const NEW_CONFFILE: &[u8] = b".dpkg-new";

/// How to lay out.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which paths are left out.
    pub filter: PathFilter,
    /// Lay conffiles also at their place, not only beside it as `.dpkg-new`: for
    /// the packages that a system is bootstrapped with, whose scripts run before
    /// any of them is configured. Every bootstrapping tool extracts those first
    /// and lets dpkg unpack them a second time, which leaves both.
    pub bootstrap: bool,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MergeReport {
    /// Entries laid out.
    pub laid: usize,
    /// Entries left out by the filter.
    pub filtered: usize,
    /// Files that were there, belonged to no package, and were replaced.
    pub replaced: Vec<TreePath>,
    /// Files taken over from other packages (`Replaces:`): path and package.
    pub taken: Vec<(TreePath, String)>,
    /// Files not laid out because an installed package replaces them.
    pub kept: Vec<TreePath>,
}

/// Why a package cannot be laid out.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// Another version, or the same, is there.
    #[error(
        "{package} {version} is already installed (as {old}): laying out over it would be an \
         upgrade, which mkgold does not do natively; let dpkg in the tree do it"
    )]
    Upgrade {
        /// The package.
        package: String,
        /// Its version.
        version: String,
        /// What is there.
        old: String,
    },
    /// Two packages ship the same file.
    #[error("{package}: trying to overwrite '{path}', which is also in package {other} {version}")]
    Conflict {
        /// The package being laid out.
        package: String,
        /// Which file.
        path: TreePath,
        /// The package that has it.
        other: String,
        /// That package's version.
        version: String,
    },
    /// Instances of a `Multi-Arch: same` package differ in a shared file.
    #[error(
        "{package}: trying to overwrite shared '{path}', which is different from other \
         instances of the package"
    )]
    SharedDiffers {
        /// The package being laid out.
        package: String,
        /// Which file.
        path: TreePath,
    },
    /// The path is where a diversion puts another file.
    #[error("{package}: trying to overwrite '{path}', which is the diverted version of '{from}'")]
    Diverted {
        /// The package being laid out.
        package: String,
        /// Which file.
        path: TreePath,
        /// The file whose diversion leads there.
        from: TreePath,
    },
    /// A directory that holds something is where a file should go.
    #[error("{package}: '{path}' is a directory that is not empty, the package has another type")]
    DirectoryInTheWay {
        /// The package being laid out.
        package: String,
        /// Which path.
        path: TreePath,
    },
    /// A hard link leads to what is not there.
    #[error("{package}: hard link '{path}' leads to '{target}', which is not in the tree")]
    LinkTarget {
        /// The package being laid out.
        package: String,
        /// The link.
        path: TreePath,
        /// Where it leads.
        target: TreePath,
    },
    /// Every file of another package would be replaced.
    #[error(
        "{package} replaces every file of {other}, which would make {other} disappear: \
         that is not supported; remove {other} first"
    )]
    Disappears {
        /// The package being laid out.
        package: String,
        /// The one that would vanish.
        other: String,
    },
    /// A control file is malformed.
    #[error("{package}: control file {member}: {reason}")]
    Member {
        /// The package.
        package: String,
        /// Which control file.
        member: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The pack cannot be read.
    #[error("{package}: '{path}': cannot be read")]
    Read {
        /// The package.
        package: String,
        /// Which file.
        path: TreePath,
        /// What the system said.
        source: io::Error,
    },
    /// The tree does not take it.
    #[error("{package}: cannot lay out '{path}'")]
    Tree {
        /// The package.
        package: String,
        /// Which file.
        path: TreePath,
        /// Why.
        source: TreeError,
    },
}

/// Lays `package` over `tree` and records it in `database` as unpacked. See the
/// module's head.
pub fn merge(
    tree: &mut Tree,
    database: &mut Database,
    package: &Arc<Package>,
    options: &Options,
) -> Result<MergeReport, MergeError> {
    let control = package.control();
    let old = check_instances(database, package)?;
    let conffiles = conffiles(package)?;
    let directives = triggers(package)?;
    let installed = record(database, package, old, &conffiles);
    let id = database.insert(installed);
    database.apply_triggers(&id, &control.info_name(), &directives);
    let mut layer = Layer {
        conffiles: conffiles.into_iter().filter(|c| !c.remove).map(|c| c.path).collect(),
        tree,
        database,
        package,
        id,
        options,
        taken: BTreeMap::new(),
        report: MergeReport::default(),
    };
    for entry in package.entries() {
        layer.entry(entry)?;
    }
    layer.finish()
}

/// What to do with an entry whose path other packages list too.
enum Verdict {
    Lay,
    Keep,
}

struct Layer<'a> {
    tree: &'a mut Tree,
    database: &'a mut Database,
    package: &'a Arc<Package>,
    id: Arc<Id>,
    options: &'a Options,
    conffiles: BTreeSet<TreePath>,
    taken: BTreeMap<Arc<Id>, BTreeSet<TreePath>>,
    report: MergeReport,
}

impl Layer<'_> {
    fn name(&self) -> String {
        self.package.name().to_owned()
    }

    fn at(&self, path: &TreePath) -> impl Fn(TreeError) -> MergeError + use<> {
        let (package, path) = (self.name(), path.clone());
        move |source| MergeError::Tree { package: package.clone(), path: path.clone(), source }
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), MergeError> {
        let target = self.database.diverted(&entry.path, self.package.name()).clone();
        self.database.activate_path(&target, &self.id);
        let resolved = self.tree.resolve_parent(&target);
        let real = resolved.map_err(|e: ResolveError| self.at(&entry.path)(e.into()))?;
        let directory_stays = self.directory_stays(entry, &target, &real);
        if !directory_stays {
            self.refuse_diverted(entry)?;
            if let Verdict::Keep = self.conflicts(entry, &real)? {
                self.report.kept.push(entry.path.clone());
                return Ok(());
            }
        }
        if self.options.filter.skips(entry.path.to_string().as_bytes(), &entry.kind) {
            self.report.filtered += 1;
            return Ok(());
        }
        if !directory_stays {
            self.lay(entry, real)?;
            self.report.laid += 1;
        }
        Ok(())
    }

    /// A directory that is there stays as it is, also behind a link; and a link
    /// never replaces a directory, nor a link to the same directory.
    fn directory_stays(&self, entry: &Entry, target: &TreePath, real: &TreePath) -> bool {
        let leads_to_dir = || self.tree.lookup(target).is_some_and(Node::is_dir);
        match &entry.kind {
            EntryKind::Dir => leads_to_dir(),
            EntryKind::Symlink(link) => match self.tree.get(real).map(|node| &node.kind) {
                Some(Kind::Dir) => true,
                Some(Kind::Symlink(_)) if leads_to_dir() => {
                    self.tree.resolve(target).ok() == follow(self.tree, real, link)
                }
                _ => false,
            },
            _ => false,
        }
    }

    fn refuse_diverted(&self, entry: &Entry) -> Result<(), MergeError> {
        match self.database.diversion_to(&entry.path) {
            None => Ok(()),
            Some(diversion) => Err(MergeError::Diverted {
                package: self.name(),
                path: entry.path.clone(),
                from: diversion.from.clone(),
            }),
        }
    }

    fn conflicts(&mut self, entry: &Entry, real: &TreePath) -> Result<Verdict, MergeError> {
        let owners: Vec<Arc<Id>> =
            self.database.owners(&entry.path).iter().filter(|o| **o != self.id).cloned().collect();
        for owner in owners {
            let other = &self.database.packages[&owner];
            if owner.name == self.id.name {
                self.check_shared(entry, real)?;
                continue;
            }
            if self.diversion_separates(entry, &owner.name) || other.state == State::ConfigFiles {
                continue;
            }
            // A directory whose other owner has it filtered out or removed.
            if entry.kind == EntryKind::Dir && self.tree.get(real).is_none() {
                continue;
            }
            if replaces(self.package.control(), other.control()) {
                self.report.taken.push((entry.path.clone(), owner.name.clone()));
                self.taken.entry(owner).or_default().insert(entry.path.clone());
            } else if replaces(other.control(), self.package.control()) {
                return Ok(Verdict::Keep);
            } else {
                return Err(MergeError::Conflict {
                    package: self.name(),
                    path: entry.path.clone(),
                    other: owner.name.clone(),
                    version: other.control().version().to_string(),
                });
            }
        }
        Ok(Verdict::Lay)
    }

    /// One of the two is the package that the path is diverted for.
    fn diversion_separates(&self, entry: &Entry, other: &str) -> bool {
        let diversion = self.database.diversion_from(&entry.path);
        diversion
            .and_then(|d| d.package.as_deref())
            .is_some_and(|package| package == other || package == self.package.name())
    }

    fn check_shared(&self, entry: &Entry, real: &TreePath) -> Result<(), MergeError> {
        if self.conffiles.contains(&entry.path) {
            return Ok(());
        }
        let Some(there) = self.tree.get(real) else { return Ok(()) };
        let same = match (&there.kind, self.package.kind(entry)) {
            (Kind::File(a), Some(Kind::File(b))) => same_content(a, &b).map_err(|source| {
                MergeError::Read { package: self.name(), path: entry.path.clone(), source }
            })?,
            (Kind::Symlink(a), Some(Kind::Symlink(b))) => *a == b,
            // A hard link: its content was compared under its first name.
            (Kind::File(_), None) => true,
            (a, Some(b)) => a.name() == b.name(),
            (_, None) => false,
        };
        match same {
            true => Ok(()),
            false => {
                Err(MergeError::SharedDiffers { package: self.name(), path: entry.path.clone() })
            }
        }
    }

    fn lay(&mut self, entry: &Entry, real: TreePath) -> Result<(), MergeError> {
        let place = self.conffile_name(&entry.path, real.clone())?;
        let in_place = Some(real)
            .filter(|real| self.options.bootstrap && *real != place && !self.tree.contains(real));
        if let Some(there) = self.tree.get(&place) {
            let is_dir = there.is_dir();
            if is_dir && self.tree.children(&place).next().is_some() {
                let path = entry.path.clone();
                return Err(MergeError::DirectoryInTheWay { package: self.name(), path });
            }
            if !is_dir && self.database.owners(&entry.path).len() < 2 {
                self.report.replaced.push(place.clone());
            }
        }
        let link = match &entry.kind {
            EntryKind::HardLink(target) => self.link_target(entry, target)?,
            _ => None,
        };
        if let Some(target) = link {
            if target != place {
                self.tree.remove(&place);
                self.tree.add_link(place, &target).map_err(self.at(&entry.path))?;
            }
            return Ok(());
        }
        let source = self.source(entry);
        let mut meta = source.meta();
        let names = &self.database.names;
        meta.uid = names.uid(source.uname.as_deref(), source.uid);
        meta.gid = names.gid(source.gname.as_deref(), source.gid);
        if let Some(stat) = self.database.stat_override(&entry.path) {
            (meta.uid, meta.gid, meta.mode) = (stat.uid, stat.gid, stat.mode);
        }
        let kind = self.package.kind(source).expect("links are resolved to what they link");
        let node = Node { meta, kind };
        if let Some(real) = in_place {
            self.tree.put(real, node.clone()).map_err(self.at(&entry.path))?;
        }
        self.tree.put(place, node).map_err(self.at(&entry.path))
    }

    /// The entry that a hard link to a filtered file has its content from.
    fn source<'e>(&'e self, entry: &'e Entry) -> &'e Entry {
        let EntryKind::HardLink(target) = &entry.kind else { return entry };
        let named = |e: &&Entry| e.path == *target && !matches!(e.kind, EntryKind::HardLink(_));
        self.package.entries().iter().find(named).expect("link_target has found it")
    }

    /// Where a hard link's target lies; `None` if the filter left it out, so that
    /// the link becomes the file.
    fn link_target(
        &self,
        entry: &Entry,
        target: &TreePath,
    ) -> Result<Option<TreePath>, MergeError> {
        let used = self.database.diverted(target, self.package.name());
        let real = self.tree.resolve_parent(used).map_err(|e| self.at(&entry.path)(e.into()))?;
        let place = self.conffile_name(target, real)?;
        if self.tree.get(&place).is_some_and(|node| !node.is_dir()) {
            return Ok(Some(place));
        }
        let original = self.package.entries().iter().find(|e| e.path == *target);
        let filter = &self.options.filter;
        let filtered = |e: &&Entry| {
            let linked = matches!(e.kind, EntryKind::HardLink(_) | EntryKind::Dir);
            !linked && filter.skips(e.path.to_string().as_bytes(), &e.kind)
        };
        match original.filter(filtered) {
            Some(_) => Ok(None),
            None => Err(MergeError::LinkTarget {
                package: self.name(),
                path: entry.path.clone(),
                target: target.clone(),
            }),
        }
    }

    /// A conffile is laid out beside its place: configuring decides about it.
    fn conffile_name(&self, path: &TreePath, real: TreePath) -> Result<TreePath, MergeError> {
        if !self.conffiles.contains(path) {
            return Ok(real);
        }
        TreePath::new([real.as_bytes(), NEW_CONFFILE].concat()).map_err(|e| self.at(path)(e.into()))
    }

    fn finish(self) -> Result<MergeReport, MergeError> {
        let own: BTreeSet<&TreePath> = self.package.entries().iter().map(|e| &e.path).collect();
        for (id, paths) in &self.taken {
            let other = &self.database.packages[id];
            let rest = other.paths().iter().filter(|path| !own.contains(path));
            // What is left counts unless it is a directory.
            let is_left = |path: &TreePath| !self.tree.lookup(path).is_some_and(Node::is_dir);
            if !rest.into_iter().any(is_left) {
                let other = id.name.clone();
                return Err(MergeError::Disappears { package: self.name(), other });
            }
            self.database.elide(id, paths);
        }
        Ok(self.report)
    }
}

/// Where a link at `link_path` with target `link` leads, if it leads anywhere.
fn follow(tree: &Tree, link_path: &TreePath, link: &[u8]) -> Option<TreePath> {
    let mut at = match link.first() {
        Some(b'/') => TreePath::root(),
        _ => link_path.parent().unwrap_or_else(TreePath::root),
    };
    // Every step is resolved, so that `..` is the parent of a real directory.
    for part in link.split(|b| *b == b'/') {
        at = match part {
            b"" | b"." => at,
            b".." => at.parent().unwrap_or(at),
            _ => tree.resolve(&at.join(part).ok()?).ok()?,
        };
    }
    Some(at)
}

fn same_content(a: &Content, b: &Content) -> io::Result<bool> {
    if a.len() != b.len() {
        return Ok(false);
    }
    let (mut x, mut y) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut offset = 0;
    while offset < a.len() {
        let n = a.read_at(&mut x, offset)?;
        if n == 0 || b.read_at(&mut y, offset)? != n || x[..n] != y[..n] {
            return Ok(false);
        }
        offset += n as u64;
    }
    Ok(true)
}

/// Whether `new` declares that it replaces files of `old`. Only real names count
/// here (Debian Policy 7.6.1).
fn replaces(new: &crate::Control, old: &crate::Control) -> bool {
    let relations = new.relations("Replaces");
    relations
        .relations()
        .any(|r| r.name == old.name() && r.constraint.is_none_or(|c| c.matches(old.version())))
}

/// Refuses what would be an upgrade; what is left of a removed one otherwise.
fn check_instances(
    database: &Database,
    package: &Package,
) -> Result<Option<Installed>, MergeError> {
    let control = package.control();
    let mut left = None;
    for other in database.packages().filter(|p| p.control().name() == control.name()) {
        let same_instance = other.control().architecture() == control.architecture();
        let together = control.is_multi_arch_same()
            && other.control().is_multi_arch_same()
            && other.control().version() == control.version();
        if same_instance && other.state() == State::ConfigFiles {
            left = Some(other.clone());
        } else if same_instance || (!together && other.state() != State::ConfigFiles) {
            return Err(MergeError::Upgrade {
                package: control.name().to_owned(),
                version: control.version().to_string(),
                old: format!("{} {}", other.control().info_name(), other.control().version()),
            });
        }
    }
    Ok(left)
}

/// A line of the `conffiles` control file.
struct NewConffile {
    path: TreePath,
    remove: bool,
}

fn conffiles(package: &Package) -> Result<Vec<NewConffile>, MergeError> {
    let text = text(package, "conffiles")?;
    let lines = text.lines().map(str::trim_ascii).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (remove, path) = match line.strip_prefix("remove-on-upgrade ") {
                Some(path) => (true, path.trim_ascii_start()),
                None => (false, line),
            };
            let path = path.starts_with('/').then(|| TreePath::new(path).ok()).flatten();
            let path = path.ok_or_else(|| bad(package, "conffiles", format!("“{line}”")))?;
            Ok(NewConffile { path, remove })
        })
        .collect()
}

fn triggers(package: &Package) -> Result<Vec<Directive>, MergeError> {
    parse_directives(&text(package, "triggers")?).map_err(|reason| bad(package, "triggers", reason))
}

fn text(package: &Package, member: &'static str) -> Result<String, MergeError> {
    let bytes = package.member(member).map_or(&[][..], |m| &m.bytes);
    String::from_utf8(bytes.to_vec())
        .map_err(|_| bad(package, member, "it is not UTF-8 text".to_owned()))
}

fn bad(package: &Package, member: &'static str, reason: String) -> MergeError {
    MergeError::Member { package: package.name().to_owned(), member, reason }
}

/// The package's record as it will stand in `status`.
fn record(
    database: &Database,
    package: &Arc<Package>,
    old: Option<Installed>,
    new_conffiles: &[NewConffile],
) -> Installed {
    let control = package.control().clone();
    let old_conffiles = old.as_ref().map_or(&[][..], |old| &old.conffiles);
    let mut conffiles: Vec<Conffile> = Vec::new();
    for NewConffile { path, remove } in new_conffiles {
        let path = path.to_string();
        let own = old_conffiles.iter().find(|c| c.path == path).map(|c| c.rest.clone());
        let known = own.or_else(|| database.shared_conffile(control.name(), &path));
        let hash = known.as_deref().and_then(|rest| rest.split(' ').next());
        let hash = hash.unwrap_or("newconffile");
        let flag = if *remove { " remove-on-upgrade" } else { "" };
        conffiles.push(Conffile { rest: format!("{hash}{flag}"), path });
    }
    for left in old_conffiles {
        if !conffiles.iter().any(|c| c.path == left.path) {
            let hash = left.rest.split(' ').next().unwrap_or_default();
            conffiles.push(Conffile { path: left.path.clone(), rest: format!("{hash} obsolete") });
        }
    }
    Installed {
        want: "install".into(),
        error: "ok".into(),
        state: State::Unpacked,
        config_version: old.and_then(|old| old.config_version),
        conffiles,
        triggers_pending: Vec::new(),
        triggers_awaited: Vec::new(),
        list: package.entries().iter().map(|e| e.path.clone()).collect(),
        raw: None,
        list_changed: true,
        package: Some(package.clone()),
        control,
    }
}
