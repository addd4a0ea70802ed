//! The registry. One file per rule; what is merely "must be absent" is a row of
//! the table in [`leftovers`].

mod copies;
mod entry_names;
pub(crate) mod first_boot;
pub(crate) mod host_keys;
mod leftovers;
mod machine_id;
mod os_release;

use crate::{Finding, Fix, Rule, Volume};
use tree::TreePath;

/// Every rule, in the order in which reports show them.
pub static RULES: std::sync::LazyLock<Vec<&'static dyn Rule>> = std::sync::LazyLock::new(|| {
    let mut rules: Vec<&'static dyn Rule> =
        vec![&machine_id::MachineId, &machine_id::DbusMachineId, &host_keys::HostKeys];
    rules.extend(leftovers::TABLE.iter().map(|row| row as &dyn Rule));
    rules.extend([
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
