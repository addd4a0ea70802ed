//! F1: whether the next boot of a clone is a first boot, from the image alone.

use os::machine_id::{self, State};

use super::{Plain, finding};
use crate::{Fix, Outcome, Severity, Subject, Volume};

/// F1.
pub static RULE: Plain = Plain {
    id: "F1",
    title: "the next boot is a first boot",
    looks_at: "/etc/machine-id, and systemd.condition-first-boot= on kernel command lines",
    why: "Only a first boot makes an identity, runs systemd-firstboot, and applies the presets. \
          systemd takes a boot for the first one if /etc/machine-id is absent or says \
          uninitialized, or if the command line says so.",
    mend: "Seal /etc/machine-id (R1); take the option from the command line.",
    severity: Severity::Error,
    volumes: &[Volume::Root, Volume::Esp, Volume::Xbootldr],
    check,
};

/// Names of the option, before and after systemd 233.
const OPTIONS: [&str; 2] = ["systemd.condition-first-boot", "systemd.condition_first_boot"];

fn check(subject: &Subject) -> Outcome {
    let mut findings = Vec::new();
    for line in super::boot_files::command_lines(subject) {
        for word in line.text.split_whitespace() {
            let Some((key, value)) = word.split_once('=') else { continue };
            if OPTIONS.contains(&key) && ["0", "no", "n", "false", "f", "off"].contains(&value) {
                let message = format!("has {word}: no boot would be a first boot");
                findings.push(finding(line.volume, &line.path, message, Fix::ByHand));
            }
        }
    }
    let message = match machine_id::state(subject.root) {
        Ok(State::Absent | State::Uninitialized) => None,
        Ok(State::Valid(_)) if subject.intent.machine_id => None,
        Ok(State::Valid(_)) => Some("holds an ID: no boot is a first boot"),
        Ok(State::Empty) => Some("is empty: an ID is made, but no boot is a first boot"),
        Ok(State::Garbage) => Some("is not what systemd knows: no boot is a first boot"),
        Err(error) => return Outcome::Unknown { reason: error.to_string() },
    };
    let path = machine_id::path();
    findings.extend(message.map(|m| finding(Volume::Root, &path, m, Fix::Uninitialize)));
    Outcome::of(findings)
}
