//! Kernel modules of a Tree: what each says about itself ([`scan`]), the indices
//! that `depmod` makes of it ([`ModuleSet::depmod`]), and choosing some with all
//! they need ([`select`]).
//!
//! What it is not: modprobe. Nothing is loaded, no configuration of
//! `modprobe.d` is read.
//!
//! Data flow: Tree → [`scan`] (parallel; the only part that reads files) →
//! [`ModuleSet`], serialisable, so that it can be kept per kernel package →
//! [`ModuleSet::depmod`] → files for the Tree, and [`select::select`] → paths.
//! Formats: kmod's depmod(8), modules.dep(5), depmod.d(5).

mod config;
pub mod defaults;
mod depmod;
mod deps;
pub mod elf;
pub mod pattern;
pub mod select;
mod symhash;
pub mod trie;

use std::collections::BTreeMap;
use std::io;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tree::{Content, Kind, Tree, TreePath};

pub use deps::Dependencies;
pub use elf::Packing;

/// `modules.order`, `modules.builtin` and the like: larger is not plausible.
const MAX_LIST: u64 = 64 << 20;

/// What can go wrong with kernel modules.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// There is no directory for the kernel.
    #[error("no modules of kernel {0} in the tree (/usr/lib/modules/{0} is not a directory)")]
    NoDirectory(String),
    /// A kernel version is one path component.
    #[error("{0:?} is not a kernel version")]
    Version(String),
    /// A file of the tree cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A module is not compressed as its name says.
    #[error("cannot unpack the kernel module {path}")]
    Unpack {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A module is not an ELF object.
    #[error("the kernel module {path} is not a valid ELF object")]
    Elf {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: object::Error,
    },
    /// Modules that need each other cannot be loaded; depmod refuses them too.
    #[error("kernel modules need each other in a cycle: {}", .0.join(" -> "))]
    Cycle(Vec<String>),
    /// A path or name below the module directory is not text.
    #[error("{0}: names of kernel modules must be UTF-8 without blanks")]
    Name(TreePath),
    /// An index cannot hold what a module declares.
    #[error("cannot write {file}")]
    Index {
        /// Which index.
        file: &'static str,
        /// Why.
        #[source]
        source: trie::TrieError,
    },
    /// A line of depmod.d that would change the result.
    #[error("{file}:{line}: depmod.d directive not supported: {text:?}")]
    Config {
        /// The file.
        file: TreePath,
        /// Counted from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// The result cannot be put into the tree.
    #[error(transparent)]
    Tree(#[from] tree::TreeError),
}

/// A list of names in one allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Names {
    /// Appends a name. Names after the first 4 GiB are dropped; no module
    /// within [`elf::MAX_MODULE`] has as many.
    pub fn push(&mut self, name: &[u8]) {
        if let Ok(end) = u32::try_from(self.bytes.len() + name.len()) {
            self.bytes.extend_from_slice(name);
            self.ends.push(end);
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// In the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(a, b)| &self.bytes[a as usize..*b as usize])
    }
}

/// One module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Below the module directory: `kernel/fs/xfs/xfs.ko.xz`.
    pub path: String,
    /// As the kernel calls it: `-` is `_`, no suffix.
    pub name: String,
    modinfo: Vec<u8>,
    exports: Names,
    wants: Names,
}

impl Module {
    /// The values of a `.modinfo` key, in order.
    pub fn info<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let records = self.modinfo.split(|b| *b == 0);
        records.filter_map(move |r| r.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
    }
}

/// All modules of one kernel, in depmod's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleSet {
    /// The kernel's version, as `uname -r` prints it.
    pub version: String,
    modules: Vec<Module>,
    builtin: Vec<u8>,
    builtin_modinfo: Vec<u8>,
}

/// Where the modules of `version` are, all links followed.
pub fn directory(tree: &Tree, version: &str) -> Result<TreePath, ModuleError> {
    if version.is_empty() || version.contains('/') || version.starts_with('.') {
        return Err(ModuleError::Version(version.into()));
    }
    let none = || ModuleError::NoDirectory(version.into());
    ["usr/lib/modules", "lib/modules"]
        .iter()
        .filter_map(|base| TreePath::literal(base).join(version).ok())
        .filter_map(|path| tree.resolve(&path).ok())
        .find(|path| tree.get(path).is_some_and(tree::Node::is_dir))
        .ok_or_else(none)
}

/// Reads all modules of a kernel. A pure function of the module directory (and
/// of depmod.d): its result may be kept.
pub fn scan(tree: &Tree, version: &str) -> Result<ModuleSet, ModuleError> {
    let dir = directory(tree, version)?;
    let config = config::read(tree)?;
    let mut files = find(tree, &dir, &config)?;
    let order = read_list(tree, &dir, "modules.order")?;
    sort(&mut files, &order);
    let modules = files.into_par_iter().map(read).collect::<Result<_, _>>()?;
    Ok(ModuleSet {
        version: version.into(),
        modules,
        builtin: read_list(tree, &dir, "modules.builtin")?,
        builtin_modinfo: read_list(tree, &dir, "modules.builtin.modinfo")?,
    })
}

struct File {
    path: String,
    name: String,
    packing: Packing,
    content: Content,
}

/// Every module file; of those with the same name only the one that depmod's
/// search order prefers.
fn find(tree: &Tree, dir: &TreePath, config: &config::Config) -> Result<Vec<File>, ModuleError> {
    let mut found: BTreeMap<String, File> = BTreeMap::new();
    for (path, _, node) in tree.subtree(dir) {
        let Some((packing, stem)) = Packing::of(path.name()) else { continue };
        let content = match &node.kind {
            Kind::File(content) => content.clone(),
            Kind::Symlink(_) => match tree.lookup(path).and_then(tree::Node::content) {
                Some(content) => content.clone(),
                None => continue,
            },
            _ => continue,
        };
        let below = path.strip_prefix(dir).expect("found below it");
        let text = |b: &[u8]| {
            let text = std::str::from_utf8(b).ok().filter(|t| !t.contains([' ', '\n', '\t', ':']));
            text.map(str::to_owned).ok_or_else(|| ModuleError::Name(path.clone()))
        };
        let file = File {
            path: text(below.as_bytes())?,
            name: text(stem)?.replace('-', "_"),
            packing,
            content,
        };
        let better = found.get(&file.name).is_none_or(|old| {
            config.rank(&file.name, &file.path) < config.rank(&old.name, &old.path)
        });
        if better {
            found.insert(file.name.clone(), file);
        }
    }
    let mut files: Vec<File> = found.into_values().collect();
    files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    Ok(files)
}

/// depmod's order: as in `modules.order`, what is not in it after that.
fn sort(files: &mut [File], order: &[u8]) {
    let lines = order.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    let order: BTreeMap<&[u8], usize> = lines.enumerate().map(|(i, l)| (l, i)).collect();
    files.sort_by_cached_key(|file| {
        let suffix = file.path.rfind(".ko").map_or(file.path.len(), |at| at + 3);
        order.get(&file.path.as_bytes()[..suffix]).copied().unwrap_or(usize::MAX)
    });
}

fn read(file: File) -> Result<Module, ModuleError> {
    let bytes = file
        .content
        .read(elf::MAX_MODULE)
        .map_err(|source| ModuleError::Read { path: file.path.clone(), source })?;
    let elf::Facts { modinfo, exports, wants } = elf::read(&file.path, file.packing, bytes)?;
    Ok(Module { path: file.path, name: file.name, modinfo, exports, wants })
}

fn read_list(tree: &Tree, dir: &TreePath, name: &str) -> Result<Vec<u8>, ModuleError> {
    let path = dir.join(name).map_err(tree::TreeError::from)?;
    let failed = |source| ModuleError::Read { path: path.to_string(), source };
    tree.read(&path, MAX_LIST).transpose().map_err(failed).map(Option::unwrap_or_default)
}

impl ModuleSet {
    /// The modules, in depmod's order.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// Two modules with the same facts, which need each other.
    #[doc(hidden)]
    pub fn for_fuzzing(facts: elf::Facts) -> ModuleSet {
        let elf::Facts { modinfo, exports, wants } = facts;
        let first =
            Module { path: "kernel/a.ko".into(), name: "a".into(), modinfo, exports, wants };
        let second = Module { path: "kernel/b.ko".into(), name: "b".into(), ..first.clone() };
        let builtin_modinfo = first.modinfo.clone();
        let modules = vec![first, second];
        ModuleSet {
            version: "1".into(),
            modules,
            builtin: b"kernel/c.ko\n".to_vec(),
            builtin_modinfo,
        }
    }

    /// Names of what is built into the kernel, as the kernel calls it.
    pub fn builtin_names(&self) -> impl Iterator<Item = String> {
        let lines = self.builtin.split(|b| *b == b'\n').filter(|l| !l.is_empty());
        lines.map(|line| module_name(&String::from_utf8_lossy(line)))
    }
}

/// The kernel's name for a module file or a name as people write it.
pub fn module_name(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.split(".ko").next().unwrap_or_default().replace('-', "_")
}

/// Makes depmod's files for `version` and puts them into the tree, as
/// `depmod -a VERSION` in it would.
pub fn run_depmod(tree: &mut Tree, version: &str) -> Result<ModuleSet, ModuleError> {
    let set = scan(tree, version)?;
    let dir = directory(tree, version)?;
    for (name, bytes) in set.depmod()? {
        let path = dir.join(name).map_err(tree::TreeError::from)?;
        tree.put(
            path,
            tree::Node { meta: tree::Meta::file(0o644), kind: Kind::File(Content::inline(bytes)) },
        )?;
    }
    Ok(set)
}
