//! R1 and R1b: the machine ID.

use os::machine_id::{State, path, state};
use tree::{Kind, Tree, TreePath};

use super::{finding, leftovers};
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

    fn looks_at(&self) -> String {
        "/etc/machine-id, and where it leads if it is a link".into()
    }

    fn mend(&self) -> &'static str {
        "It becomes a file that says uninitialized (or is removed); a file it leads to goes."
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
        let mut findings = vec![finding(Volume::Root, &path(), message, Fix::Uninitialize)];
        // The file that a link in its place leads to holds the ID.
        let target = leftovers::target(subject.root, &path());
        let message = "holds what /etc/machine-id, a link, is to hold";
        findings.extend(target.map(|path| finding(Volume::Root, &path, message, Fix::Remove)));
        Outcome::of(findings)
    }

    fn places(&self, root: &Tree) -> Vec<TreePath> {
        let place = root.resolve_parent(&path()).ok();
        place.into_iter().filter(|path| root.contains(path)).collect()
    }
}

/// The files that hold a machine ID. `keep`: one in `/etc` is there on purpose.
pub(super) fn ids(root: &Tree, keep: bool) -> Vec<TreePath> {
    let mut places = Vec::new();
    if !keep && matches!(state(root), Ok(State::Valid(_))) {
        places.extend(root.resolve(&path()).ok());
    }
    let dbus = dbus_place(root).and_then(|place| root.resolve(&place).ok());
    let text = dbus.as_ref().and_then(|path| root.read(path, 100)).and_then(Result::ok);
    let text = text.map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    let own = text.is_some_and(|text| os::machine_id::is_valid(&text));
    let kept = keep && dbus.is_some() && dbus == root.resolve(&path()).ok();
    places.extend(dbus.filter(|_| own && !kept));
    places
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

    fn looks_at(&self) -> String {
        "/var/lib/dbus/machine-id".into()
    }

    fn mend(&self) -> &'static str {
        "It is removed: D-Bus takes /etc/machine-id then."
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
