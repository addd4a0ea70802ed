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

mod error;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use md5::Digest;
use tree::{Content, Kind, Node, Tree, TreeError, TreePath};

use crate::database::Id;
use crate::{Database, Entry, EntryKind, Package, PathFilter, State};

pub use error::MergeError;
use record::{check_instances, conffiles, record, triggers};

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
        directory: None,
        kept: BTreeSet::new(),
        sums: Vec::new(),
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
    /// The directory of the last entry, as listed and as it really is: entries of
    /// one directory follow one another.
    directory: Option<(TreePath, TreePath)>,
    /// Paths of its own that it does not have, for another package replaces them.
    kept: BTreeSet<TreePath>,
    /// The `md5sums` file, if it is to be made.
    sums: Vec<u8>,
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
        let real = self.resolve(&target).map_err(self.at(&entry.path))?;
        let directory_stays = self.directory_stays(entry, &target, &real);
        if !directory_stays {
            self.refuse_diverted(entry)?;
            if let Verdict::Keep = self.conflicts(entry, &real)? {
                self.kept.insert(entry.path.clone());
                self.report.kept.push(entry.path.clone());
                return Ok(());
            }
        }
        if self.options.filter.skips(entry.path.to_string().as_bytes(), &entry.kind) {
            self.report.filtered += 1;
            return Ok(());
        }
        if !directory_stays {
            let place = self.lay(entry, real)?;
            self.sum(entry, &place)?;
            self.report.laid += 1;
        }
        Ok(())
    }

    /// Where `target` is laid out: links followed, except the last component.
    fn resolve(&mut self, target: &TreePath) -> Result<TreePath, TreeError> {
        let Some(parent) = target.parent() else { return Ok(target.clone()) };
        let real = match self.directory.take() {
            Some((listed, real)) if listed == parent => real,
            _ => self.tree.resolve(&parent)?,
        };
        let place = real.join(target.name())?;
        self.directory = Some((parent, real));
        Ok(place)
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

    /// Returns where it was laid out.
    fn lay(&mut self, entry: &Entry, real: TreePath) -> Result<TreePath, MergeError> {
        if !matches!(entry.kind, EntryKind::File { .. }) {
            // It may change where other paths lead.
            self.directory = None;
        }
        let place = self.conffile_name(&entry.path, real.clone())?;
        let in_place = Some(real)
            .filter(|real| self.options.bootstrap && *real != place && !self.tree.contains(real));
        self.clear(entry, &place)?;
        let link = match &entry.kind {
            EntryKind::HardLink(target) => self.link_target(entry, target)?,
            _ => None,
        };
        if let Some(target) = link {
            for name in [in_place.as_ref(), Some(&place)].into_iter().flatten() {
                if target != *name {
                    self.tree.remove(name);
                    self.tree.add_link(name.clone(), &target).map_err(self.at(&entry.path))?;
                }
            }
            return Ok(place);
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
        self.tree.put(place.clone(), node).map_err(self.at(&entry.path))?;
        Ok(place)
    }

    /// Checks what is at `place` already: it gives way, or it is an error.
    fn clear(&mut self, entry: &Entry, place: &TreePath) -> Result<(), MergeError> {
        if let Some(there) = self.tree.get(place) {
            let is_dir = there.is_dir();
            if is_dir && self.tree.children(place).next().is_some() {
                let path = entry.path.clone();
                return Err(MergeError::DirectoryInTheWay { package: self.name(), path });
            }
            if !is_dir && self.database.owners(&entry.path).len() < 2 {
                self.report.replaced.push(place.clone());
            }
        }
        Ok(())
    }

    /// dpkg writes an `md5sums` file for packages that bring none.
    fn sum(&mut self, entry: &Entry, place: &TreePath) -> Result<(), MergeError> {
        if self.package.member("md5sums").is_some() {
            return Ok(());
        }
        let Some(content) = self.tree.get(place).and_then(Node::content) else { return Ok(()) };
        let sum = md5_hex(content).map_err(|source| MergeError::Read {
            package: self.name(),
            path: entry.path.clone(),
            source,
        })?;
        let line = [sum.as_bytes(), b"  ", entry.path.as_bytes(), b"\n"].concat();
        self.sums.extend_from_slice(&line);
        Ok(())
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
        if !self.kept.is_empty() {
            self.database.elide(&self.id, &self.kept);
        }
        if self.package.member("md5sums").is_none()
            && let Some(installed) = self.database.packages.get_mut(&self.id)
        {
            installed.sums = Some(self.sums);
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

fn md5_hex(content: &Content) -> io::Result<String> {
    let mut hasher = md5::Md5::new();
    let (mut buffer, mut offset) = (vec![0; 64 << 10], 0);
    loop {
        match content.read_at(&mut buffer, offset)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            n => {
                hasher.update(&buffer[..n]);
                offset += n as u64;
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Item, Shelf};
    use tree::{Meta, Mtime};

    fn p(path: &'static str) -> TreePath {
        TreePath::literal(path)
    }

    const DIRS: [Item<'static>; 2] = [Item("./", b'5', "", b""), Item("./etc/", b'5', "", b"")];

    fn lay(
        tree: &mut Tree,
        database: &mut Database,
        package: &Arc<Package>,
    ) -> Result<MergeReport, MergeError> {
        merge(tree, database, package, &Options::default())
    }

    #[test]
    fn owners_are_those_of_the_image() {
        let shelf = Shelf::new();
        let [root, etc] = DIRS;
        let package = shelf.package("a", "", &[], &[root, etc, Item("./etc/f", b'0', "", b"x")]);
        let mut tree = Tree::new();
        lay(&mut tree, &mut Database::new("amd64"), &package).unwrap();
        let owner = |tree: &Tree| tree.get(&p("etc/f")).map(|n| (n.meta.uid, n.meta.gid)).unwrap();
        assert_eq!(owner(&tree), (7, 8), "unknown names: the archive's numbers");
        let mut tree = Tree::new();
        tree.write(&p("etc/passwd"), 0o644, *b"who:x:1234:5::/:/bin/sh\n").unwrap();
        tree.write(&p("etc/group"), 0o644, *b"group:x:77:\n").unwrap();
        let mut database = Database::load(&tree, "amd64").unwrap();
        lay(&mut tree, &mut database, &package).unwrap();
        assert_eq!(owner(&tree), (1234, 77));
    }

    #[test]
    fn times_of_directories_are_the_archive_s() {
        // The archive's time of every entry: as `header` has it.
        const TIME: Mtime = Mtime { secs: 0o143_0000_0000, nanos: 0 };
        let shelf = Shelf::new();
        let mut tree = Tree::new();
        tree.make_dirs(&p("srv")).unwrap();
        let before = Mtime::secs(7);
        tree.get_mut(&p("srv")).unwrap().meta.mtime = before;
        let mut database = Database::new("amd64");
        for name in ["a", "b"] {
            let [root, etc] = DIRS;
            let file = format!("./etc/{name}");
            let other = format!("./srv/{name}");
            let srv = Item("./srv/", b'5', "", b"");
            let files = [Item(&file, b'0', "", b"x"), Item(&other, b'0', "", b"x")];
            let [first, second] = files;
            let package = shelf.package(name, "", &[], &[root, etc, first, srv, second]);
            lay(&mut tree, &mut database, &package).unwrap();
            let time = |path| tree.get(&p(path)).unwrap().meta.mtime;
            assert_eq!((time("etc"), time("srv")), (TIME, before), "{name}");
        }
    }

    #[test]
    fn bootstrapping_lays_conffiles_twice_unless_one_is_there() {
        let shelf = Shelf::new();
        let [root, etc] = DIRS;
        let files =
            [root, etc, Item("./etc/a", b'0', "", b"new"), Item("./etc/b", b'0', "", b"new")];
        let package = shelf.package("a", "", &[("./conffiles", "/etc/a\n/etc/b\n")], &files);
        let mut tree = Tree::new();
        tree.write(&p("etc/b"), 0o600, *b"mine").unwrap();
        let mut database = Database::new("amd64");
        let options = Options { bootstrap: true, ..Options::default() };
        merge(&mut tree, &mut database, &package, &options).unwrap();
        let read = |path| tree.read(&p(path), 9).unwrap().unwrap();
        assert_eq!((read("etc/a"), read("etc/a.dpkg-new")), (b"new".to_vec(), b"new".to_vec()));
        assert_eq!((read("etc/b"), read("etc/b.dpkg-new")), (b"mine".to_vec(), b"new".to_vec()));
    }

    #[test]
    fn a_hard_link_to_a_filtered_file_becomes_the_file() {
        let shelf = Shelf::new();
        let [root, etc] = DIRS;
        let items =
            [root, etc, Item("./etc/x", b'0', "", b"abc"), Item("./etc/y", b'1', "./etc/x", b"")];
        let package = shelf.package("a", "", &[], &items);
        let options = Options { filter: PathFilter::new().exclude("/etc/x"), bootstrap: false };
        let mut tree = Tree::new();
        let report = merge(&mut tree, &mut Database::new("amd64"), &package, &options).unwrap();
        assert_eq!(report.filtered, 1);
        assert!(!tree.contains(&p("etc/x")));
        assert_eq!(tree.read(&p("etc/y"), 9).unwrap().unwrap(), b"abc");
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let shelf = Shelf::new();
        let mut tree = Tree::new();
        tree.write(&p("etc/full/x"), 0o644, *b"").unwrap();
        let [root, etc] = DIRS;
        let a = shelf.package("a", "", &[], &[root, etc, Item("./etc/f", b'0', "", b"")]);
        let [root, etc] = DIRS;
        let vanish =
            shelf.package("b", "Replaces: a\n", &[], &[root, etc, Item("./etc/f", b'0', "", b"")]);
        let full = shelf.package("c", "", &[], &[Item("./etc/full", b'0', "", b"")]);
        let link = shelf.package("d", "", &[], &[Item("./etc/l", b'1', "./nowhere", b"")]);
        let orphan = shelf.package("e", "", &[], &[Item("./no/dir/f", b'0', "", b"")]);
        let conffiles = shelf.package("f", "", &[("./conffiles", "etc/f\n")], &[]);
        let triggers = shelf.package("g", "", &[("./triggers", "interest ../x\n")], &[]);
        for (packages, message) in [
            (vec![&a, &a], "a 1 is already installed (as a 1)"),
            (vec![&a, &vanish], "would make a disappear"),
            (vec![&full], "'/etc/full' is a directory that is not empty"),
            (vec![&link], "hard link '/etc/l' leads to '/nowhere'"),
            (vec![&orphan], "e: cannot lay out '/no/dir/f'"),
            (vec![&conffiles], "control file conffiles: “etc/f”"),
            (vec![&triggers], "cannot be the name of a trigger"),
        ] {
            let (mut tree, mut database) = (tree.clone(), Database::new("amd64"));
            let result =
                packages.iter().try_for_each(|p| lay(&mut tree, &mut database, p).map(|_| ()));
            let error = result.unwrap_err().to_string();
            assert!(error.contains(message), "{error} / {message}");
        }
    }

    #[test]
    fn links_planted_by_a_package_lead_nowhere_outside() {
        let shelf = Shelf::new();
        let package = shelf.package(
            "a",
            "",
            &[],
            &[
                Item("./", b'5', "", b""),
                Item("./out", b'2', "../../../../etc", b""),
                Item("./loop", b'2', "loop", b""),
                Item("./etc", b'5', "", b""),
                Item("./out/passwd", b'0', "", b"x"),
            ],
        );
        let mut tree = Tree::new();
        lay(&mut tree, &mut Database::new("amd64"), &package).unwrap();
        assert!(tree.contains(&p("etc/passwd")), "inside the root, as after a chroot");
        let looping = shelf.package("b", "", &[], &[Item("./loop/x", b'0', "", b"")]);
        let error = lay(&mut tree, &mut Database::new("amd64"), &looping).unwrap_err();
        assert!(matches!(error, MergeError::Tree { .. }), "{error}");
    }

    #[test]
    fn the_database_written_and_read_again_is_the_same() {
        let shelf = Shelf::new();
        let [root, etc] = DIRS;
        let control = [("./conffiles", "/etc/f\n"), ("./triggers", "interest /etc\ninterest t\n")];
        let package =
            shelf.package("a", "", &control, &[root, etc, Item("./etc/f", b'0', "", b"x")]);
        let mut tree = Tree::new();
        let mut database = Database::new("amd64");
        lay(&mut tree, &mut database, &package).unwrap();
        database.write(&mut tree, Mtime::secs(5)).unwrap();
        let read = |path| String::from_utf8(tree.read(&p(path), 9999).unwrap().unwrap()).unwrap();
        assert_eq!(read("var/lib/dpkg/info/a.list"), "/.\n/etc\n/etc/f\n");
        assert_eq!(read("var/lib/dpkg/triggers/File"), "/etc a\n");
        // md5sum of "x", as md5sum(1) prints it.
        let sums = read("var/lib/dpkg/info/a.md5sums");
        assert_eq!(sums, "9dd4e461268c8034f5c8564e155c67a6  etc/f\n");
        let mut again = Database::load(&tree, "amd64").unwrap();
        assert_eq!(again.status_text(), database.status_text());
        let before = tree.clone();
        again.write(&mut tree, Mtime::secs(5)).unwrap();
        let other =
            |t: &Tree| t.iter().map(|(p, _, n)| (p.clone(), n.meta.clone())).collect::<Vec<_>>();
        assert_eq!(other(&before), other(&tree));
        // Left behind by a dpkg that was killed.
        tree.add_file(p("var/lib/dpkg/updates/0001"), Meta::file(0o644), Content::empty()).unwrap();
        let error = Database::load(&tree, "amd64").unwrap_err().to_string();
        assert!(error.contains("was interrupted"), "{error}");
    }
}
