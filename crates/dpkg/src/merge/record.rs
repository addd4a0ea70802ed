//! What the database will say about a package that is laid out, and what its
//! control files say about its files.

use std::sync::Arc;

use tree::TreePath;

use super::MergeError;
use crate::database::{Conffile, Directive, parse_directives};
use crate::{Database, Installed, Package, State};

/// Refuses what would be an upgrade; what is left of a removed one otherwise.
pub(super) fn check_instances(
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
pub(super) struct NewConffile {
    pub(super) path: TreePath,
    pub(super) remove: bool,
}

/// The `conffiles` control file.
pub(super) fn conffiles(package: &Package) -> Result<Vec<NewConffile>, MergeError> {
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

/// The `triggers` control file.
pub(super) fn triggers(package: &Package) -> Result<Vec<Directive>, MergeError> {
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
pub(super) fn record(
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
    let mut list: Vec<TreePath> = package.entries().iter().map(|e| e.path.clone()).collect();
    for left in old_conffiles {
        // What is still there of an older version stays the package's.
        if let Ok(path) = TreePath::new(&left.path)
            && !list.contains(&path)
        {
            list.push(path);
        }
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
        list,
        raw: None,
        list_changed: true,
        sums: None,
        package: Some(package.clone()),
        control,
    }
}
