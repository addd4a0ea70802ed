//! depmod.d(5), as far as it decides which of two modules with one name counts.

use std::collections::BTreeMap;

use tree::{Tree, TreePath};

use super::ModuleError;

/// Configuration files are lines of text.
const MAX_CONFIG: u64 = 1 << 20;
const DIRECTORIES: [&str; 4] =
    ["etc/depmod.d", "run/depmod.d", "usr/local/lib/depmod.d", "usr/lib/depmod.d"];
const BUILT_IN: &str = "built-in";

/// Search order and overrides.
#[derive(Debug)]
pub struct Config {
    search: Vec<String>,
    /// Name → subdirectory. The kernel version is not looked at: a tree has one
    /// set of overrides, and those of Debian's DKMS say `*`.
    overrides: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Config { search: vec!["updates".into(), BUILT_IN.into()], overrides: Vec::new() }
    }
}

impl Config {
    /// The smaller, the more preferred; the path makes it total.
    pub fn rank<'a>(&self, name: &str, path: &'a str) -> (bool, usize, &'a str) {
        let below = |dir: &str| path.strip_prefix(dir).is_some_and(|r| r.starts_with('/'));
        let overridden = self.overrides.iter().any(|(n, dir)| n == name && below(dir));
        let listed = self.search.iter().position(|dir| below(dir));
        let built_in = || self.search.iter().position(|dir| dir == BUILT_IN);
        (!overridden, listed.or_else(built_in).unwrap_or(usize::MAX), path)
    }

    fn line(&mut self, words: &[&str]) -> bool {
        match words {
            ["search", rest @ ..] => self.search = rest.iter().map(|w| w.to_string()).collect(),
            ["override", name, "*", dir] => {
                self.overrides.push((name.replace('-', "_"), dir.to_string()));
            }
            // Obsolete; kmod ignores it as well.
            ["make_map_files", ..] => {}
            _ => return false,
        }
        true
    }
}

/// Reads what the tree configures; without any, kmod's defaults.
pub fn read(tree: &Tree) -> Result<Config, ModuleError> {
    let mut files: BTreeMap<Vec<u8>, TreePath> = BTreeMap::new();
    for dir in DIRECTORIES {
        let Ok(dir) = tree.resolve(&TreePath::literal(dir)) else { continue };
        for (path, _) in tree.children(&dir).filter(|(p, _)| p.name().ends_with(b".conf")) {
            files.entry(path.name().to_vec()).or_insert_with(|| path.clone());
        }
    }
    let mut config = Config::default();
    for path in files.values() {
        let failed = |source| ModuleError::Read { path: path.to_string(), source };
        let bytes = tree.read(path, MAX_CONFIG).transpose().map_err(failed)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).replace("\\\n", " ");
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ignored = words.first().is_none_or(|w| w.starts_with('#'));
            if !ignored && !config.line(&words) {
                let file = path.clone();
                return Err(ModuleError::Config { file, line: number + 1, text: line.into() });
            }
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &'static str) -> Result<Config, ModuleError> {
        let mut tree = Tree::new();
        tree.write(&TreePath::literal("etc/depmod.d/a.conf"), 0o644, text.as_bytes()).unwrap();
        tree.write(&TreePath::literal("usr/lib/depmod.d/a.conf"), 0o644, *b"nonsense").unwrap();
        read(&tree)
    }

    #[test]
    fn updates_come_before_the_kernels_own() {
        let config = Config::default();
        assert!(config.rank("x", "updates/dkms/x.ko") < config.rank("x", "kernel/fs/x.ko"));
        assert!(config.rank("x", "kernel/a/x.ko") < config.rank("x", "kernel/b/x.ko"));
    }

    #[test]
    fn etc_masks_usr_lib_and_search_is_taken() {
        let config = with("# ours\nsearch built-in extra\noverride my-x * weak\n").unwrap();
        assert!(config.rank("y", "kernel/y.ko") < config.rank("y", "extra/y.ko"));
        assert!(config.rank("my_x", "weak/my-x.ko") < config.rank("my_x", "kernel/my-x.ko"));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let error = with("\nexternal * /opt/modules\n").unwrap_err().to_string();
        assert!(error.contains("/etc/depmod.d/a.conf:2") && error.contains("external"), "{error}");
        assert!(with("override x 6.1 updates").is_err());
    }
}
