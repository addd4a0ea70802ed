//! Unit files of a tree: where they are, and their `[Install]` section.
//!
//! Formats: systemd.unit(5). What it is not: a unit loader; only what enabling
//! and the checks of a golden image need is read.

use std::collections::{BTreeMap, BTreeSet};

use tree::{Kind, Tree, TreePath};

use crate::{OsError, dropin, read_text};

/// The directory in which enabling makes its links.
pub const CONFIG_DIR: &str = "etc/systemd/system";

/// System unit directories, highest priority first.
pub const SYSTEM_DIRS: [&str; 4] =
    [CONFIG_DIR, "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system"];

/// User unit directories (global scope), highest priority first.
pub const USER_DIRS: [&str; 4] =
    ["etc/systemd/user", "run/systemd/user", "usr/local/lib/systemd/user", "usr/lib/systemd/user"];

const SUFFIXES: [&str; 11] = [
    ".service",
    ".socket",
    ".target",
    ".timer",
    ".path",
    ".mount",
    ".automount",
    ".swap",
    ".slice",
    ".scope",
    ".device",
];

/// What a unit file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitFile {
    /// A regular file.
    Regular(TreePath),
    /// A link to a unit of another name.
    Alias(TreePath),
    /// A link to `/dev/null`, or an empty file.
    Masked(TreePath),
}

/// True for a name with a unit suffix.
pub fn is_unit_name(name: &str) -> bool {
    SUFFIXES.iter().any(|s| name.len() > s.len() && name.ends_with(s))
}

/// Every unit file of `dirs` by name; the earlier directory wins.
pub fn all(tree: &Tree, dirs: &[&str]) -> BTreeMap<String, UnitFile> {
    let mut units = BTreeMap::new();
    for dir in dirs {
        let Ok(dir) = tree.resolve(&TreePath::new(dir).expect("a normal path")) else { continue };
        for (path, node) in tree.children(&dir) {
            let Ok(name) = std::str::from_utf8(path.name()) else { continue };
            if !is_unit_name(name) {
                continue;
            }
            let path = path.clone();
            let unit = match &node.kind {
                Kind::File(content) if content.is_empty() => UnitFile::Masked(path),
                Kind::File(_) => UnitFile::Regular(path),
                Kind::Symlink(target) if **target == *b"/dev/null" => UnitFile::Masked(path),
                // A link of the same name leads to the same unit elsewhere.
                Kind::Symlink(target) if ends_in(target, name) => UnitFile::Regular(path),
                Kind::Symlink(_) => UnitFile::Alias(path),
                _ => continue,
            };
            units.entry(name.to_owned()).or_insert(unit);
        }
    }
    units
}

fn ends_in(target: &[u8], name: &str) -> bool {
    target.rsplit(|b| *b == b'/').next() == Some(name.as_bytes())
}

/// The `[Install]` section of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Install {
    /// Other names.
    pub alias: BTreeSet<String>,
    /// Units whose `.wants/` gets a link.
    pub wanted_by: BTreeSet<String>,
    /// The same for `.requires/`.
    pub required_by: BTreeSet<String>,
    /// The same for `.upholds/`.
    pub upheld_by: BTreeSet<String>,
    /// Units enabled with it.
    pub also: BTreeSet<String>,
    /// The instance of a template that is enabled without one.
    pub default_instance: Option<String>,
}

impl Install {
    /// True if there is nothing to enable.
    pub fn is_empty(&self) -> bool {
        *self == Install::default()
    }

    fn set(&mut self, key: &str, value: &str) {
        let list = match key {
            "Alias" => &mut self.alias,
            "WantedBy" => &mut self.wanted_by,
            "RequiredBy" => &mut self.required_by,
            "UpheldBy" => &mut self.upheld_by,
            "Also" => &mut self.also,
            "DefaultInstance" => {
                self.default_instance = (!value.is_empty()).then(|| value.to_owned());
                return;
            }
            _ => return,
        };
        if value.is_empty() {
            list.clear();
        }
        list.extend(value.split_whitespace().map(str::to_owned));
    }
}

/// The settings of one section, in order, of a unit file: continuation lines
/// joined, comments dropped.
pub fn section(text: &str, wanted: &str) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut current = String::new();
    let mut pending = String::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(start) = line.strip_suffix('\\') {
            pending.push_str(start);
            pending.push(' ');
            continue;
        }
        let whole = std::mem::take(&mut pending) + line;
        if let Some(name) = whole.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            current = name.to_owned();
        } else if let Some((key, value)) = whole.split_once('=')
            && current == wanted
        {
            settings.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    settings
}

/// The `[Install]` section of the unit file at `path` with those of its drop-ins
/// in `dirs`.
pub fn install(
    tree: &Tree,
    dirs: &[&str],
    name: &str,
    path: &TreePath,
) -> Result<Install, OsError> {
    let mut install = Install::default();
    for (key, value) in settings(tree, dirs, name, path, "Install")? {
        install.set(&key, &value);
    }
    Ok(install)
}

/// The settings of one section of the unit file at `path`, then those of its
/// drop-ins in `dirs`, in order.
pub fn settings(
    tree: &Tree,
    dirs: &[&str],
    name: &str,
    path: &TreePath,
    wanted: &str,
) -> Result<Vec<(String, String)>, OsError> {
    let dropins: Vec<String> = dirs.iter().map(|d| format!("{d}/{name}.d")).collect();
    let dropins: Vec<&str> = dropins.iter().map(String::as_str).collect();
    let files = [path.clone()].into_iter().chain(dropin::files(tree, &dropins, ".conf"));
    let mut settings = Vec::new();
    for file in files {
        let text = read_text(tree, &file)?.unwrap_or_default();
        settings.extend(section(&text, wanted));
    }
    Ok(settings)
}

/// `name@instance.type` → (`name@.type`, `instance`); `None` for other names and
/// for templates themselves.
pub fn template_of(name: &str) -> Option<(String, &str)> {
    let (prefix, rest) = name.split_once('@')?;
    let dot = rest.rfind('.')?;
    (dot > 0).then(|| (format!("{prefix}@{}", &rest[dot..]), &rest[..dot]))
}

/// True for `name@.type`.
pub fn is_template(name: &str) -> bool {
    name.contains("@.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_with_continuation_and_comments() {
        let text = "[Unit]\nA=1\n[Install]\n# c\nWantedBy=a.target \\\n  b.target\nAlias=\nWantedBy=c.target\n[X]\nAlias=no\n";
        let settings = section(text, "Install");
        assert_eq!(settings[0], ("WantedBy".into(), "a.target  b.target".into()));
        assert_eq!(settings.len(), 3);
        let mut install = Install::default();
        settings.iter().for_each(|(k, v)| install.set(k, v));
        let wanted: Vec<_> = install.wanted_by.iter().map(String::as_str).collect();
        assert_eq!(wanted, ["a.target", "b.target", "c.target"]);
    }

    #[test]
    fn names() {
        assert_eq!(template_of("getty@tty1.service"), Some(("getty@.service".into(), "tty1")));
        assert_eq!(template_of("getty@.service"), None);
        assert!(is_unit_name("a.service") && !is_unit_name(".service") && !is_unit_name("a.conf"));
    }
}
