//! `RemovePackages=` and `CleanPackageMetadata=`.
//!
//! What goes is decided as `apt-get purge` with automatic removal decides it: what is
//! named, what depends on it, and then what was installed automatically and nothing that
//! stays asks for any more. The image's own dpkg removes it, so that its scripts run.

use std::collections::{BTreeMap, BTreeSet};

use config::Config;
use config::types::{Feature, OutputFormat};
use debian::{Constraint, Relations, Version};
use dpkg::{Database, Installed, State};
use glob::Pattern;
use sandbox::Command;
use tree::{Tree, TreePath};

use crate::context::Context;
use crate::error::BuildError;
use crate::scripts::Scripts;

/// What apt never removes by itself (apt.conf.d/01autoremove), by prefix.
const NEVER_AUTOMATIC: [&str; 3] = ["firmware-linux", "linux-firmware", "linux-image-"];

/// Removes the packages of `RemovePackages=` with what hangs on them.
pub fn remove_packages(
    tree: Tree,
    known: &BTreeSet<(String, String)>,
    config: &Config,
    context: &Context,
    scripts: &mut Scripts,
) -> Result<Tree, BuildError> {
    let wanted = &config.content.remove_packages;
    if wanted.is_empty() {
        return Ok(tree);
    }
    let architecture = config.distribution.architecture.debian();
    let database = Database::load(&tree, architecture)?;
    let mut automatic = automatic(&tree, architecture)?;
    automatic.extend(known.iter().cloned());
    let graph = Graph::new(&database, &automatic, architecture);
    let (named, missing) = graph.named(wanted)?;
    for name in missing {
        context.reporter.warn(format!("RemovePackages={name}: is not installed"));
    }
    let gone = graph.closure(named);
    if gone.is_empty() {
        return Ok(tree);
    }
    let total = Some(gone.len() as u64);
    let step = context.reporter.step("remove", "packages", total, report::Unit::Items);
    let names = gone.iter().map(|i| graph.packages[*i].dpkg_name());
    let purge = Command::new("dpkg")
        .args(["--force-depends", "--force-remove-essential", "--force-remove-protected"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .arg("--purge")
        .args(names)
        .source("dpkg");
    let tree = scripts.run_in_image(tree, purge, context)?;
    step.done();
    Ok(tree)
}

/// Names and architectures of packages that nobody asked for.
pub fn automatic(tree: &Tree, native: &str) -> Result<BTreeSet<(String, String)>, BuildError> {
    let path = TreePath::literal("var/lib/apt/extended_states");
    let bytes = match tree.read(&path, 64 << 20) {
        None => return Ok(BTreeSet::new()),
        Some(bytes) => bytes.map_err(|source| BuildError::Content { path, source })?,
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut found = BTreeSet::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            let mut lines = stanza.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim().to_owned())
        };
        if let (Some(package), Some("1")) = (field("Package"), field("Auto-Installed").as_deref()) {
            found.insert((package, field("Architecture").unwrap_or_else(|| native.to_owned())));
        }
    }
    Ok(found)
}

struct Node {
    name: String,
    architecture: String,
    version: Version,
    provides: Vec<(String, Option<Version>)>,
    needs: Relations,
    before: Relations,
    likes: [Relations; 2],
    keeps: bool,
}

impl Node {
    fn new(package: &Installed, automatic: &BTreeSet<(String, String)>, native: &str) -> Node {
        let control = package.control();
        let provides = control.relations("Provides");
        let provides = provides.relations().map(|relation| {
            let version = relation.constraint.and_then(|c| Version::new(c.version).ok());
            (relation.name.to_owned(), version)
        });
        let (name, architecture) = (control.name().to_owned(), control.architecture().to_owned());
        // apt counts those of all architectures as native.
        let is = |a: &str| automatic.contains(&(name.clone(), a.to_owned()));
        let is_automatic = is(&architecture) || (architecture == "all" && is(native));
        let protected = ["Protected", "Important"].iter().any(|f| control.get(f) == Some("yes"));
        let never = NEVER_AUTOMATIC.iter().any(|prefix| name.starts_with(prefix));
        Node {
            keeps: !is_automatic || control.is_essential() || protected || never,
            version: control.version().clone(),
            provides: provides.collect(),
            needs: control.relations("Depends"),
            before: control.relations("Pre-Depends"),
            likes: [control.relations("Recommends"), control.relations("Suggests")],
            name,
            architecture,
        }
    }

    fn dpkg_name(&self) -> String {
        match self.architecture.as_str() {
            "all" => self.name.clone(),
            other => format!("{}:{other}", self.name),
        }
    }
}

/// The installed packages and what they ask of each other.
struct Graph {
    packages: Vec<Node>,
    by_name: BTreeMap<String, Vec<(usize, Option<Version>, bool)>>,
}

impl Graph {
    fn new(database: &Database, automatic: &BTreeSet<(String, String)>, native: &str) -> Graph {
        let installed = database.packages().filter(|p| p.state() == State::Installed);
        let packages: Vec<Node> =
            installed.map(|package| Node::new(package, automatic, native)).collect();
        let mut by_name: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (i, node) in packages.iter().enumerate() {
            by_name.entry(node.name.clone()).or_default().push((
                i,
                Some(node.version.clone()),
                true,
            ));
            for (name, version) in &node.provides {
                by_name.entry(name.clone()).or_default().push((i, version.clone(), false));
            }
        }
        Graph { packages, by_name }
    }

    /// The packages that the patterns name, and the patterns that name none.
    fn named<'a>(
        &self,
        wanted: &'a [String],
    ) -> Result<(BTreeSet<usize>, Vec<&'a str>), BuildError> {
        let (mut found, mut missing) = (BTreeSet::new(), Vec::new());
        for text in wanted {
            let (name, architecture) = match text.split_once(':') {
                Some((name, architecture)) => (name, Some(architecture)),
                None => (text.as_str(), None),
            };
            let pattern = Pattern::new(name)
                .map_err(|e| BuildError::Image(format!("RemovePackages={text}: {e}")))?;
            let matching = self.packages.iter().enumerate().filter(|(_, node)| {
                let fits = |a: &str| a == node.architecture || a == "any";
                pattern.matches(&node.name) && architecture.is_none_or(fits)
            });
            let before = found.len();
            let all: Vec<usize> = matching.map(|(i, _)| i).collect();
            let known = all.iter().any(|i| found.contains(i));
            found.extend(all);
            if found.len() == before && !known {
                missing.push(text.as_str());
            }
        }
        Ok((found, missing))
    }

    /// The installed packages that satisfy an alternative.
    fn satisfiers(
        &self,
        name: &str,
        constraint: Option<Constraint<'_>>,
    ) -> impl Iterator<Item = usize> {
        let all = self.by_name.get(name).into_iter().flatten();
        all.filter(move |(_, version, _)| match (constraint, version) {
            (None, _) => true,
            (Some(constraint), Some(version)) => constraint.matches(version),
            (Some(_), None) => false,
        })
        .map(|(i, ..)| *i)
    }

    /// `gone`, what depends on it, and what nothing needs any more.
    fn closure(&self, mut gone: BTreeSet<usize>) -> BTreeSet<usize> {
        if gone.is_empty() {
            return gone;
        }
        loop {
            let broken: Vec<usize> = (0..self.packages.len())
                .filter(|i| !gone.contains(i) && self.is_broken(*i, &gone))
                .collect();
            if broken.is_empty() {
                break;
            }
            gone.extend(broken);
        }
        let needed = self.needed(&gone);
        gone.extend((0..self.packages.len()).filter(|i| !needed.contains(i)));
        gone
    }

    /// Whether a dependency that holds now does not hold without `gone`.
    fn is_broken(&self, package: usize, gone: &BTreeSet<usize>) -> bool {
        let node = &self.packages[package];
        node.needs.groups().chain(node.before.groups()).any(|group| {
            let mut before =
                group.alternatives().flat_map(|r| self.satisfiers(r.name, r.constraint));
            let mut after =
                group.alternatives().flat_map(|r| self.satisfiers(r.name, r.constraint));
            before.next().is_some() && after.all(|i| gone.contains(&i))
        })
    }

    /// What is kept for its own sake, and everything that it asks for, however weakly.
    fn needed(&self, gone: &BTreeSet<usize>) -> BTreeSet<usize> {
        let roots = (0..self.packages.len()).filter(|i| self.packages[*i].keeps);
        let mut queue: Vec<usize> = roots.filter(|i| !gone.contains(i)).collect();
        let mut needed: BTreeSet<usize> = queue.iter().copied().collect();
        while let Some(package) = queue.pop() {
            let node = &self.packages[package];
            let relations = [&node.needs, &node.before].into_iter().chain(&node.likes);
            for relation in relations.flat_map(Relations::relations) {
                for other in self.satisfiers(relation.name, relation.constraint) {
                    if !gone.contains(&other) && needed.insert(other) {
                        queue.push(other);
                    }
                }
            }
        }
        needed
    }
}

/// Removes the data of package managers that are not in the image (or of all, if that
/// is asked for). Returns the tree as it was if dpkg's database went.
pub fn clean_package_metadata(tree: &mut Tree, config: &Config) -> Option<Tree> {
    let keeps_by_default =
        matches!(config.output.format, OutputFormat::Directory | OutputFormat::Tar);
    let always = match config.content.clean_package_metadata {
        Feature::Disabled => return None,
        Feature::Auto if keeps_by_default => return None,
        Feature::Auto => false,
        Feature::Enabled => true,
    };
    let managers: [(&str, &[&str]); 2] =
        [("dpkg", &["var/lib/dpkg"]), ("apt", &["var/lib/apt", "var/cache/apt"])];
    let before = tree.clone();
    let mut without_database = false;
    for (program, paths) in managers {
        let is_there =
            ["usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin"].iter().any(|dir| {
                let path = TreePath::new(format!("{dir}/{program}"));
                path.is_ok_and(|path| tree.lookup(&path).is_some())
            });
        if always || !is_there {
            for path in paths {
                let removed = tree.remove(&TreePath::literal(path));
                without_database |= program == "dpkg" && removed > 0;
            }
        }
    }
    without_database.then_some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// name, automatic, fields.
    type Given = (&'static str, bool, &'static str);

    fn tree(packages: &[Given]) -> Tree {
        let (mut status, mut states) = (String::new(), String::new());
        for (name, automatic, fields) in packages {
            status.push_str(&format!(
                "Package: {name}\nStatus: install ok installed\nMaintainer: x\nArchitecture: amd64\n\
                 Version: 1.0\nDescription: x\n{fields}\n"
            ));
            if *automatic {
                states.push_str(&format!(
                    "Package: {name}\nArchitecture: amd64\nAuto-Installed: 1\n\n"
                ));
            }
        }
        let mut tree = Tree::new();
        let mut write = |path: &'static str, text: &str| {
            tree.write(&TreePath::literal(path), 0o644, text.as_bytes()).unwrap();
        };
        write("var/lib/dpkg/status", &status);
        write("var/lib/apt/extended_states", &states);
        for (name, ..) in packages {
            let path = TreePath::new(format!("var/lib/dpkg/info/{name}.list")).unwrap();
            tree.write(&path, 0o644, *b"/.\n").unwrap();
        }
        tree
    }

    fn removed(packages: &[Given], wanted: &[&str]) -> Vec<String> {
        let tree = tree(packages);
        let database = Database::load(&tree, "amd64").unwrap();
        let automatic = automatic(&tree, "amd64").unwrap();
        let graph = Graph::new(&database, &automatic, "amd64");
        let wanted: Vec<String> = wanted.iter().map(|w| (*w).to_owned()).collect();
        let (named, _) = graph.named(&wanted).unwrap();
        let gone = graph.closure(named);
        let mut names: Vec<String> = gone.iter().map(|i| graph.packages[*i].name.clone()).collect();
        names.sort();
        names
    }

    // What `apt-get --simulate purge` (2.6.1, AutomaticRemove, SuggestsImportant as by
    // default) removes in the same states.
    #[test]
    fn what_depends_on_it_goes_and_what_nothing_needs() {
        let packages = [
            ("app", false, "Depends: lib (>= 0.5), helper | other\n"),
            ("lib", true, ""),
            ("helper", true, "Depends: deep\n"),
            ("deep", true, ""),
            ("other", false, ""),
            ("user", false, "Depends: app\n"),
            ("liked", true, ""),
            ("fan", false, "Suggests: liked\n"),
            ("linux-image-6.1", true, ""),
            ("base", true, "Essential: yes\n"),
        ];
        assert_eq!(removed(&packages, &["app"]), ["app", "deep", "helper", "lib", "user"]);
        assert_eq!(removed(&packages, &["helper"]), ["deep", "helper"]);
        let all = ["app", "deep", "helper", "lib", "user"];
        assert_eq!(removed(&packages, &["lib:amd64"]), all);
        assert_eq!(removed(&packages, &["none"]), Vec::<String>::new());
        assert_eq!(removed(&packages, &["li*d"]), ["liked"]);
    }

    #[test]
    fn another_provider_is_enough() {
        let packages = [
            ("mail", false, "Depends: mta\n"),
            ("exim", false, "Provides: mta\n"),
            ("postfix", false, "Provides: mta\n"),
        ];
        assert_eq!(removed(&packages, &["exim"]), ["exim"]);
        assert_eq!(removed(&packages, &["exim", "postfix"]), ["exim", "mail", "postfix"]);
    }

    #[test]
    fn versions_count() {
        let packages =
            [("a", false, "Depends: b (>= 2) | c\n"), ("b", false, ""), ("c", false, "")];
        assert_eq!(removed(&packages, &["b"]), ["b"]);
        assert_eq!(removed(&packages, &["c"]), ["a", "c"]);
    }
}
