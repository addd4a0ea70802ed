//! Choosing modules with everything they need: other modules by symbol, by
//! `softdep` and `weakdep`, and firmware.

use std::collections::{BTreeMap, BTreeSet};

use tree::{Kind, Tree, TreePath};

use crate::glob::Glob;

use super::depmod::normalise_alias;
use super::pattern::Selection;
use super::{Dependencies, ModuleError, ModuleSet, directory};

/// Where the kernel looks for firmware.
const FIRMWARE: &str = "usr/lib/firmware";

/// The result of [`select`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    modules: BTreeSet<usize>,
    /// Soft dependencies that nothing in the set provides: (who asks, for what).
    pub missing: Vec<(String, String)>,
}

/// The modules that `selection` asks for and, transitively, all they need.
pub fn select(set: &ModuleSet, selection: &Selection) -> Result<Chosen, ModuleError> {
    let deps = set.dependencies()?;
    let providers = Providers::new(set);
    let mut chosen = Chosen { modules: BTreeSet::new(), missing: Vec::new() };
    let wanted =
        |(i, module): (usize, &super::Module)| selection.matches(&module.path).then_some(i);
    let mut pending: Vec<usize> = set.modules().iter().enumerate().filter_map(wanted).collect();
    while let Some(module) = pending.pop() {
        if chosen.modules.insert(module) {
            pending.extend(needs(set, &deps, &providers, module, &mut chosen.missing));
        }
    }
    chosen.missing.sort();
    Ok(chosen)
}

fn needs(
    set: &ModuleSet,
    deps: &Dependencies,
    providers: &Providers,
    module: usize,
    missing: &mut Vec<(String, String)>,
) -> Vec<usize> {
    let mut needs: Vec<usize> = deps.direct(module).iter().map(|m| *m as usize).collect();
    let asking = &set.modules()[module];
    for key in ["softdep", "weakdep", "depends"] {
        let separator = |b: &u8| b" \t,".contains(b);
        let words = asking.info(key).flat_map(|value| value.split(separator));
        // "pre:" and "post:" say when to load, which does not matter here.
        for word in words.filter(|w| !w.is_empty() && !w.ends_with(b":")) {
            let name = String::from_utf8_lossy(word).into_owned();
            match providers.of(&name) {
                Provided::By(modules) => needs.extend(modules),
                Provided::ByKernel => {}
                Provided::Not => missing.push((asking.name.clone(), name)),
            }
        }
    }
    needs
}

enum Provided<'a> {
    By(&'a [usize]),
    ByKernel,
    Not,
}

/// Names and plain aliases → who has them. Soft dependencies name both.
struct Providers {
    modules: BTreeMap<String, Vec<usize>>,
    builtin: BTreeSet<String>,
}

impl Providers {
    fn new(set: &ModuleSet) -> Self {
        let mut modules: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (i, module) in set.modules().iter().enumerate() {
            modules.entry(module.name.clone()).or_default().push(i);
        }
        let named: BTreeSet<String> = modules.keys().cloned().collect();
        for (i, module) in set.modules().iter().enumerate() {
            for alias in module.info("alias").filter_map(normalise_alias) {
                let Ok(alias) = String::from_utf8(alias) else { continue };
                // A module of that name is meant before any alias.
                if !alias.contains(['*', '?', '[']) && !named.contains(&alias) {
                    modules.entry(alias).or_default().push(i);
                }
            }
        }
        let mut builtin: BTreeSet<String> = set.builtin_names().collect();
        let aliases = set.builtin_info().filter(|(_, key, _)| *key == b"alias");
        builtin.extend(aliases.filter_map(|(_, _, a)| String::from_utf8(normalise_alias(a)?).ok()));
        Providers { modules, builtin }
    }

    fn of(&self, name: &str) -> Provided<'_> {
        let name = name.replace('-', "_");
        match self.modules.get(&name) {
            Some(modules) => Provided::By(modules),
            None if self.builtin.contains(&name) => Provided::ByKernel,
            None => Provided::Not,
        }
    }
}

impl Chosen {
    /// How many modules.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// Paths below the module directory, in depmod's order.
    pub fn paths<'a>(&'a self, set: &'a ModuleSet) -> impl Iterator<Item = &'a str> {
        self.modules.iter().map(|i| set.modules()[*i].path.as_str())
    }

    /// The same set without the modules that were not chosen: what depmod must
    /// see once they are gone.
    pub fn subset(&self, set: &ModuleSet) -> ModuleSet {
        let modules = self.modules.iter().map(|i| set.modules()[*i].clone()).collect();
        ModuleSet { modules, ..set.clone() }
    }

    /// Firmware files in the tree that the chosen modules declare, compressed
    /// ones too, with the links that lead to them.
    pub fn firmware(&self, tree: &Tree, set: &ModuleSet) -> BTreeSet<TreePath> {
        let patterns: BTreeSet<&[u8]> =
            self.modules.iter().flat_map(|i| set.modules()[*i].info("firmware")).collect();
        let Ok(dir) = tree.resolve(&TreePath::literal(FIRMWARE)) else { return BTreeSet::new() };
        let mut found = BTreeSet::new();
        let (globs, plain): (Vec<&[u8]>, Vec<&[u8]>) =
            patterns.into_iter().partition(|p| p.iter().any(|b| b"*?[".contains(b)));
        for name in plain {
            for suffix in ["", ".xz", ".zst"] {
                if let Ok(path) = dir.join([name, suffix.as_bytes()].concat()) {
                    with_links(tree, path, &mut found);
                }
            }
        }
        let globs: Vec<FirmwareGlob> = globs.into_iter().filter_map(FirmwareGlob::new).collect();
        if !globs.is_empty() {
            for (path, _, _) in tree.subtree(&dir) {
                let below = path.strip_prefix(&dir).expect("found below it");
                if globs.iter().any(|glob| glob.matches(&below)) {
                    with_links(tree, path.clone(), &mut found);
                }
            }
        }
        found
    }
}

/// The file at `path` and every link on the way to it.
fn with_links(tree: &Tree, mut path: TreePath, found: &mut BTreeSet<TreePath>) {
    // resolve() limits how many links there can be.
    if tree.lookup(&path).and_then(tree::Node::content).is_none() {
        return;
    }
    while let Ok(real) = tree.resolve_parent(&path) {
        if !found.insert(real.clone()) {
            return;
        }
        let Some(Kind::Symlink(target)) = tree.get(&real).map(|n| &n.kind) else { return };
        let base = if target.starts_with(b"/") {
            TreePath::root()
        } else {
            real.parent().unwrap_or(TreePath::root())
        };
        // The target may climb with `..`, which only resolving can follow; the
        // last component is what is to be kept.
        match climb(&base, target) {
            Some(next) => path = next,
            None => return,
        }
    }
}

/// `base/target` with `..` taken off textually; `None` if that is no path.
fn climb(base: &TreePath, target: &[u8]) -> Option<TreePath> {
    let mut at = base.clone();
    for part in target.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".") {
        at = if part == b".." { at.parent().unwrap_or(at) } else { at.join(part).ok()? };
    }
    Some(at)
}

struct FirmwareGlob(Vec<Glob>);

impl FirmwareGlob {
    fn new(pattern: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(pattern).ok()?;
        text.split('/').map(Glob::parse).collect::<Option<_>>().map(FirmwareGlob)
    }

    fn matches(&self, path: &TreePath) -> bool {
        let name = path.as_bytes();
        let name = name.strip_suffix(b".xz").or(name.strip_suffix(b".zst")).unwrap_or(name);
        let parts: Vec<&[u8]> = name.split(|b| *b == b'/').collect();
        parts.len() == self.0.len()
            && self.0.iter().zip(parts).all(|(glob, part)| glob.matches(part))
    }
}

/// Removes every module that was not chosen, and directories left empty.
/// Returns how many files went. depmod's files are to be made anew.
pub fn prune(tree: &mut Tree, set: &ModuleSet, chosen: &Chosen) -> Result<usize, ModuleError> {
    let dir = directory(tree, &set.version)?;
    let keep: BTreeSet<&str> = chosen.paths(set).collect();
    let mut gone = 0;
    for module in set.modules().iter().filter(|m| !keep.contains(m.path.as_str())) {
        let path = dir.join(&module.path).map_err(tree::TreeError::from)?;
        gone += tree.remove(&path);
        let mut parent = path.parent();
        while let Some(at) = parent.filter(|p| *p != dir && tree.children(p).next().is_none()) {
            tree.remove(&at);
            parent = at.parent();
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::super::{Module, Names};
    use super::*;
    use tree::{Content, Meta};

    fn names(list: &[&str]) -> Names {
        let mut names = Names::default();
        list.iter().for_each(|n| names.push(n.as_bytes()));
        names
    }

    fn module(name: &str, modinfo: &str, exports: &[&str], wants: &[&str]) -> Module {
        Module {
            path: format!("kernel/{name}.ko"),
            name: name.into(),
            modinfo: modinfo.as_bytes().to_vec(),
            exports: names(exports),
            wants: names(wants),
        }
    }

    fn set(modules: Vec<Module>) -> ModuleSet {
        let builtin = b"kernel/built-in.ko\n".to_vec();
        ModuleSet { version: "1".into(), modules, builtin, builtin_modinfo: Vec::new() }
    }

    fn example() -> ModuleSet {
        let soft = "softdep=pre: crypto-md5 gone built_in post: late\0firmware=a/x.bin\0\
                    firmware=b/*.fw\0";
        set(vec![
            module("fs", soft, &[], &["helper_symbol", "printk"]),
            module("helper", "", &["helper_symbol"], &[]),
            module("md5", "alias=crypto-md5\0", &[], &[]),
            module("late", "weakdep=weak\0", &[], &[]),
            module("weak", "", &[], &[]),
            module("other", "firmware=o.bin\0", &[], &[]),
        ])
    }

    #[test]
    fn everything_a_module_needs_comes_with_it() {
        let set = example();
        let chosen = select(&set, &Selection::parse(&["fs"]).unwrap()).unwrap();
        let paths: Vec<&str> = chosen.paths(&set).collect();
        let want = ["fs", "helper", "md5", "late", "weak"].map(|n| format!("kernel/{n}.ko"));
        assert_eq!(paths, want);
        assert_eq!(chosen.missing, [("fs".to_owned(), "gone".to_owned())]);
    }

    #[test]
    fn firmware_comes_with_the_links_to_it() {
        let mut t = Tree::new();
        for file in ["real/x.bin.xz", "b/1.fw", "b/2.txt", "o.bin"] {
            let path = TreePath::literal(FIRMWARE).join(file).unwrap();
            t.write(&path, 0o644, *b"f").unwrap();
        }
        t.make_dirs(&TreePath::literal("usr/lib/firmware/a")).unwrap();
        let link = TreePath::literal("usr/lib/firmware/a/x.bin.xz");
        t.add_symlink(link, "../real/x.bin.xz").unwrap();
        let set = example();
        let chosen = select(&set, &Selection::parse(&["fs"]).unwrap()).unwrap();
        let found: Vec<String> = chosen.firmware(&t, &set).iter().map(|p| p.to_string()).collect();
        let want = ["a/x.bin.xz", "b/1.fw", "real/x.bin.xz"];
        assert_eq!(found, want.map(|f| format!("/{FIRMWARE}/{f}")));
    }

    #[test]
    fn pruning_leaves_no_empty_directories() {
        let mut t = Tree::new();
        for file in ["kernel/a/x.ko", "kernel/b/c/y.ko", "modules.order"] {
            let path = TreePath::literal("usr/lib/modules/1").join(file).unwrap();
            t.make_dirs(&path.parent().unwrap()).unwrap();
            t.add_file(path, Meta::file(0o644), Content::empty()).unwrap();
        }
        let mut modules = vec![module("x", "", &[], &[]), module("y", "", &[], &[])];
        (modules[0].path, modules[1].path) = ("kernel/a/x.ko".into(), "kernel/b/c/y.ko".into());
        let set = set(modules);
        let chosen = select(&set, &Selection::parse(&["x"]).unwrap()).unwrap();
        assert_eq!(prune(&mut t, &set, &chosen).unwrap(), 1);
        assert!(t.contains(&TreePath::literal("usr/lib/modules/1/kernel/a/x.ko")));
        assert!(!t.contains(&TreePath::literal("usr/lib/modules/1/kernel/b")));
    }

    #[test]
    fn modules_that_need_each_other_are_an_error() {
        let set = set(vec![
            module("a", "", &["from_a"], &["from_b"]),
            module("b", "", &["from_b"], &["from_a"]),
        ]);
        let error = set.depmod().unwrap_err().to_string();
        assert!(error.contains("a -> b -> a") || error.contains("b -> a -> b"), "{error}");
    }
}
