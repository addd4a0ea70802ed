//! tmpfiles.d(5) while an image is built: what `systemd-tmpfiles --root=… --boot
//! --create --remove` makes of a tree that has never booted.
//!
//! [`Declarations::read`] parses the files of a Tree, [`Declarations::plan`] decides the
//! order, [`apply`] carries it out on the Tree: nothing is made outside of it, and equal
//! trees give equal results. What is made is dated with the image's epoch, owned by the
//! users and groups of the image, and inherits set-group-ID bits and default ACLs of its
//! directory as on a live system.
//!
//! What it is not: cleaning by age (nothing is old when an image is built), subvolumes
//! (`v`, `q`, `Q` make directories, as on every file system but btrfs), and file
//! attributes (`h`, `H`: a Tree has none, and that is said). There are no credentials.
//! What only a running machine knows (`%b`, `%H`, `%l`, `%q`, `%v`) cannot be used.

mod argument;
mod line;
mod make;
mod pattern;
mod permissions;
mod place;
mod remove;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use tree::{Mtime, Tree, TreePath};

use crate::accounts::{Accounts, Database};
use crate::{OsError, dropin, os_release};
use argument::Names;
use line::{Item, Read, Reader, Type};
use text::Specifiers;

/// Where declarations are, highest priority first.
const DIRS: [&str; 4] =
    ["etc/tmpfiles.d", "run/tmpfiles.d", "usr/local/lib/tmpfiles.d", "usr/lib/tmpfiles.d"];

/// What the kernel and systemd mount over: nothing is made there. As mkosi.
pub const HIDDEN: [&str; 6] = ["/tmp", "/var/tmp", "/run", "/proc", "/sys", "/dev"];

/// The most lines that count.
const ITEMS_LIMIT: usize = 50_000;

/// What the lines are read with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// The image's architecture as systemd names it: `%a`.
    pub architecture: Option<&'a str>,
    /// Lines about these paths, and what is below them, do not count.
    pub exclude: &'a [&'a str],
}

/// The lines of a tree that have something to do.
#[derive(Debug, Default)]
pub struct Declarations {
    items: Vec<Item>,
    arrays: Vec<Array>,
    /// What is wrong in lines, each with file, line and column.
    pub warnings: Vec<String>,
    /// How many lines are skipped because they are wrong.
    pub wrong: usize,
}

/// All lines for one path.
#[derive(Debug, Default)]
struct Array {
    path: Vec<u8>,
    items: Vec<usize>,
    parent: Option<usize>,
    children: Vec<usize>,
}

/// Removing comes before making.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Remove,
    Create,
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    phase: Phase,
    item: usize,
}

impl Declarations {
    /// Reads every effective file of the tree.
    pub fn read(tree: &Tree, options: &Options) -> Result<Declarations, OsError> {
        let names = Names {
            users: Accounts::read(tree, Database::Passwd)?,
            groups: Accounts::read(tree, Database::Group)?,
        };
        let specifiers = Specifiers::new(options.architecture, os_release::read(tree)?);
        let (names, specifiers) = (&names, &specifiers);
        let reader = Reader { tree, names, specifiers, exclude: options.exclude };
        let mut declarations = Declarations::default();
        for file in dropin::files(tree, &DIRS, ".conf") {
            let failed = |source| OsError::Read { path: file.clone(), source };
            let text = tree.read(&file, crate::TEXT_LIMIT).transpose().map_err(failed)?;
            for (n, line) in text.iter().flat_map(|t| t.split(|b| *b == b'\n')).enumerate() {
                declarations.line(&reader, line, format!("{file}:{}", n + 1))?;
            }
        }
        declarations.arrange();
        Ok(declarations)
    }

    fn line(&mut self, reader: &Reader, line: &[u8], origin: String) -> Result<(), OsError> {
        let mut notes = Vec::new();
        let indent = line.len() - line.trim_ascii_start().len();
        match reader.line(line, &origin, &mut notes) {
            Read::Nothing => {}
            Read::Item(item) => self.items.push(*item),
            Read::Wrong(wrong) => {
                self.wrong += 1;
                notes.push(wrong);
            }
        }
        let said = notes.iter().map(|w| format!("{origin}:{}: {}", indent + w.column, w.message));
        self.warnings.extend(said);
        if self.items.len() > ITEMS_LIMIT {
            return Err(OsError::Limit { what: "lines of tmpfiles.d", limit: ITEMS_LIMIT });
        }
        Ok(())
    }

    /// Groups the lines by path and drops those that an earlier line rules out.
    fn arrange(&mut self) {
        let mut index: [BTreeMap<Vec<u8>, usize>; 2] = Default::default();
        // Lines for paths come before lines for patterns.
        for patterns in [false, true] {
            for (n, item) in self.items.iter().enumerate() {
                if item.ty.is_pattern() != patterns {
                    continue;
                }
                let arrays = &mut self.arrays;
                let at =
                    *index[usize::from(patterns)].entry(item.path.clone()).or_insert_with(|| {
                        arrays.push(Array { path: item.path.clone(), ..Array::default() });
                        arrays.len() - 1
                    });
                let earlier = &mut self.arrays[at].items;
                let fits = |e: &usize| self.items[*e].is_compatible(item);
                let adds = item.more && item.ty == Type::Write;
                if !adds && !earlier.iter().all(fits) {
                    let path = String::from_utf8_lossy(&item.path);
                    let message =
                        format!("{}: {path} has a line already, this is ignored", item.origin);
                    self.warnings.push(message);
                    continue;
                }
                earlier.push(n);
            }
        }
        let items = &self.items;
        for array in &mut self.arrays {
            array.items.sort_by_key(|n| (!items[*n].ty.owns(), items[*n].ty as u8));
        }
        self.link(&index);
    }

    /// Each path knows the next one above it that has lines.
    fn link(&mut self, index: &[BTreeMap<Vec<u8>, usize>; 2]) {
        for at in 0..self.arrays.len() {
            let path = &self.arrays[at].path;
            let slashes = (1..path.len()).rev().filter(|n| path[*n] == b'/');
            let above = slashes.map(|n| &path[..n]);
            let parent = above.into_iter().find_map(|p| index.iter().find_map(|map| map.get(p)));
            if let Some(&parent) = parent {
                self.arrays[at].parent = Some(parent);
                self.arrays[parent].children.push(at);
            }
        }
        for at in 0..self.arrays.len() {
            let mut children = std::mem::take(&mut self.arrays[at].children);
            children.sort_by(|a, b| self.arrays[*a].path.cmp(&self.arrays[*b].path));
            self.arrays[at].children = children;
        }
    }

    /// What is done, in order: removals, with what is below a path before the path, then
    /// what is made, with the path above before what is below.
    pub fn plan(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for phase in [Phase::Remove, Phase::Create] {
            let mut done = BTreeSet::new();
            for at in 0..self.arrays.len() {
                self.visit(at, phase, &mut done, &mut steps);
            }
        }
        steps
    }

    fn visit(&self, at: usize, phase: Phase, done: &mut BTreeSet<usize>, steps: &mut Vec<Step>) {
        if !done.insert(at) {
            return;
        }
        let array = &self.arrays[at];
        match phase {
            Phase::Create => {
                array.parent.into_iter().for_each(|p| self.visit(p, phase, done, steps))
            }
            Phase::Remove => array.children.iter().for_each(|c| self.visit(*c, phase, done, steps)),
        }
        steps.extend(array.items.iter().map(|item| Step { phase, item: *item }));
    }

    /// Whether a line of its own is about `path`: then nobody else removes it.
    fn is_about(&self, path: &TreePath) -> bool {
        let full = [b"/", path.as_bytes()].concat();
        self.arrays.iter().any(|array| match self.items[array.items[0]].ty.is_pattern() {
            true => pattern::covers(&array.path, path),
            false => array.path == full,
        })
    }
}

/// Makes and removes what the lines of the tree say. Returns what could not be done.
pub fn apply(
    tree: &mut Tree,
    declarations: &Declarations,
    epoch: Mtime,
) -> Result<Vec<String>, OsError> {
    let mut maker = make::Maker::new(tree, epoch);
    for step in declarations.plan() {
        let item = &declarations.items[step.item];
        match step.phase {
            Phase::Remove => maker.remove(item, declarations)?,
            Phase::Create => maker.create(item)?,
        }
    }
    Ok(maker.failures)
}
