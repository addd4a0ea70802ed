//! The registry. One file per rule; what is merely "must be absent" is a row of
//! the table in [`leftovers`].

mod copies;
mod entry_names;
pub(crate) mod first_boot;
pub(crate) mod host_keys;
mod leftovers;
mod machine_id;
mod os_release;
pub(crate) mod snakeoil;

use crate::{Finding, Fix, Rule, Volume};
use tree::{Kind, Meta, Mtime, Node, Tree, TreePath};

const UNIT_DIR: &str = "usr/lib/systemd/system";

/// Every rule, in the order in which reports show them.
pub static RULES: std::sync::LazyLock<Vec<&'static dyn Rule>> = std::sync::LazyLock::new(|| {
    let mut rules: Vec<&'static dyn Rule> =
        vec![&machine_id::MachineId, &machine_id::DbusMachineId, &host_keys::HostKeys];
    rules.extend(leftovers::TABLE.iter().map(|row| row as &dyn Rule));
    rules.extend([
        &snakeoil::Snakeoil as &dyn Rule,
        &copies::Copies as &dyn Rule,
        &entry_names::EntryToken,
        &entry_names::EntryNames,
        &entry_names::CommandLines,
        &first_boot::FirstBootUnits,
        &os_release::EtcOsRelease,
    ]);
    rules
});

fn finding(volume: Volume, path: &TreePath, message: impl Into<String>, fix: Fix) -> Finding {
    Finding { volume, path: path.clone(), message: message.into(), fix }
}

/// Adds a unit, wanted statically by `target`, so that no preset and no first boot has
/// to enable it.
fn add_unit(
    root: &mut Tree,
    name: &str,
    text: &'static str,
    target: &str,
    mtime: Mtime,
) -> Result<(), os::OsError> {
    let dir = TreePath::literal(UNIT_DIR);
    root.make_dirs(&dir)?;
    let put = |root: &mut Tree, path: String, meta: Meta, kind: Kind| {
        let path = TreePath::new(path).map_err(tree::TreeError::from)?;
        root.put(path, Node { meta: meta.at(mtime), kind })
    };
    let content = tree::Content::inline(text.as_bytes());
    put(root, format!("{UNIT_DIR}/{name}"), Meta::file(0o644), Kind::File(content))?;
    let wants = format!("{UNIT_DIR}/{target}.wants");
    let wants_path = TreePath::new(&wants).map_err(tree::TreeError::from)?;
    if !root.contains(&wants_path) {
        root.make_dirs(&wants_path)?;
        root.get_mut(&wants_path).expect("just made").meta.mtime = mtime;
    }
    let link = Kind::Symlink(format!("../{name}").into_bytes().into());
    put(root, format!("{wants}/{name}"), Meta::symlink(), link)?;
    Ok(())
}
