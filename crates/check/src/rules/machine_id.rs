//! R1 and R1b: the machine ID.

use os::machine_id::{State, path, state};
use tree::{Kind, Tree, TreePath};

use super::finding;
use crate::{Fix, Outcome, Rule, Subject, Volume};

/// R1.
pub struct MachineId;

impl Rule for MachineId {
    fn id(&self) -> &'static str {
        "R1"
    }

    fn title(&self) -> &'static str {
        "/etc/machine-id is absent or says uninitialized"
    }

    fn why(&self) -> &'static str {
        "Every clone would have the same machine ID, or, with an empty file, no first boot: \
         systemd then makes an ID but ConditionFirstBoot= never holds, so host keys and the \
         like are never made."
    }

    fn check(&self, subject: &Subject) -> Outcome {
        let message = match state(subject.root) {
            Ok(State::Absent | State::Uninitialized) => return Outcome::Passed,
            Ok(State::Valid(_)) if subject.intent.machine_id => return Outcome::Passed,
            Ok(State::Valid(_)) => "holds a machine ID that every clone would share",
            Ok(State::Empty) => "is empty: an ID is made, but the boot is not a first boot",
            Ok(State::Garbage) => "holds neither an ID nor 'uninitialized'",
            Err(error) => return Outcome::Unknown { reason: error.to_string() },
        };
        Outcome::of(vec![finding(Volume::Root, &path(), message, Fix::Uninitialize)])
    }

    fn places(&self, root: &Tree) -> Vec<TreePath> {
        let place = root.resolve_parent(&path()).ok();
        place.into_iter().filter(|path| root.contains(path)).collect()
    }
}

/// R1b.
pub struct DbusMachineId;

impl Rule for DbusMachineId {
    fn id(&self) -> &'static str {
        "R1b"
    }

    fn title(&self) -> &'static str {
        "/var/lib/dbus/machine-id is absent or a link to /etc/machine-id"
    }

    fn why(&self) -> &'static str {
        "systemd takes its machine ID from this file if /etc/machine-id has none: the ID of \
         the build host would come back on every clone."
    }

    fn check(&self, subject: &Subject) -> Outcome {
        let Some(place) = dbus_place(subject.root) else { return Outcome::Passed };
        let leads_to = subject.root.resolve(&place).ok();
        let is_link = matches!(subject.root.get(&place).map(|n| &n.kind), Some(Kind::Symlink(_)));
        if is_link && leads_to == subject.root.resolve_parent(&path()).ok() {
            return Outcome::Passed;
        }
        let message = "is not a link to /etc/machine-id";
        Outcome::of(vec![finding(Volume::Root, &place, message, Fix::Remove)])
    }

    fn places(&self, root: &Tree) -> Vec<TreePath> {
        dbus_place(root).into_iter().collect()
    }
}

/// Where the file really is, if it is there.
fn dbus_place(root: &Tree) -> Option<TreePath> {
    let path = root.resolve_parent(&TreePath::literal("var/lib/dbus/machine-id")).ok()?;
    root.contains(&path).then_some(path)
}
