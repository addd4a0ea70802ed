//! What the image starts from: `BaseTrees=`, and the packages that they have.
//!
//! With a dpkg database in it, the base takes the place of the essential packages: only
//! what `Packages=` names beyond it is installed on top, and nothing of it is upgraded.

use config::Config;
use dpkg::{Database, State};
use solver::{Installed, InstalledPackage};
use store::{Key, KeyHasher, Store};
use tree::{Tree, TreePath};

use crate::error::BuildError;
use crate::{initrd, overlay};

/// See the module's head.
pub struct Base {
    /// The tree, its contents in the store.
    pub tree: Tree,
    /// Its packages.
    pub installed: Installed,
    /// A digest of all of it.
    pub digest: Key,
}

impl Base {
    /// Reads it; `None` if the image starts from nothing.
    pub fn read(config: &Config, store: &Store) -> Result<Option<Base>, BuildError> {
        let Some(tree) = overlay::base(&config.content.base_trees, store)? else {
            return Ok(None);
        };
        let mut hasher = KeyHasher::new("base 1");
        initrd::hash_subtree(&mut hasher, &tree, &TreePath::root())?;
        let installed = installed(&tree, config.distribution.architecture.debian())?;
        Ok(Some(Base { tree, installed, digest: hasher.finish() }))
    }

    /// Whether it is a system to which packages can be added.
    pub fn has_packages(&self) -> bool {
        !self.installed.packages.is_empty()
    }

    /// The version that it has of a package.
    pub fn version_of(&self, name: &str, architecture: &str) -> Option<String> {
        let found = self.installed.packages.iter().find(|package| {
            let record = &package.record;
            record.name.as_str() == name && record.architecture.as_str() == architecture
        });
        found.map(|package| package.record.version.to_string())
    }
}

fn installed(tree: &Tree, native: &str) -> Result<Installed, BuildError> {
    let database = Database::load(tree, native)?;
    let automatic = crate::removal::automatic(tree, native)?;
    let mut packages = Vec::new();
    for package in database.packages().filter(|p| p.state() == State::Installed) {
        let control = package.control();
        let text = control.status_paragraph(&[]);
        let records = debian::read_packages(&text).map_err(|e| {
            BuildError::Image(format!("BaseTrees=: package {}: {e}", control.name()))
        })?;
        let architecture = match control.architecture() {
            "all" => native,
            other => other,
        };
        let auto = automatic.contains(&(control.name().to_owned(), architecture.to_owned()));
        packages.extend(records.into_iter().map(|record| InstalledPackage { record, auto }));
    }
    Ok(Installed { packages })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_are_those_of_the_database() {
        let mut tree = Tree::new();
        let stanza = |name: &str, state: &str| {
            format!(
                "Package: {name}\nStatus: install ok {state}\nMaintainer: x\nArchitecture: amd64\n\
                 Version: 2:1.0-3\nDepends: libx (>= 1)\nDescription: x\n\n"
            )
        };
        let status = stanza("a", "installed") + &stanza("b", "config-files");
        tree.write(&TreePath::literal("var/lib/dpkg/status"), 0o644, status.into_bytes()).unwrap();
        for name in ["a", "b"] {
            let path = TreePath::new(format!("var/lib/dpkg/info/{name}.list")).unwrap();
            tree.write(&path, 0o644, *b"/.\n").unwrap();
        }
        let states = "Package: a\nArchitecture: amd64\nAuto-Installed: 1\n\n";
        let path = TreePath::literal("var/lib/apt/extended_states");
        tree.write(&path, 0o644, states.as_bytes()).unwrap();
        let found = installed(&tree, "amd64").unwrap();
        let base = Base { tree, installed: found, digest: Key([0; 32]) };
        assert!(base.has_packages() && base.installed.packages[0].auto);
        assert_eq!(base.version_of("a", "amd64").as_deref(), Some("2:1.0-3"));
        assert_eq!((base.version_of("b", "amd64"), base.installed.packages.len()), (None, 1));
        assert_eq!(base.installed.packages[0].record.depends.as_str(), "libx (>= 1)");
    }
}
