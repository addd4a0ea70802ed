//! A1–A3: passwords that clones would share.

use os::accounts::{Accounts, Database};

use super::{Plain, finding};
use crate::{Fix, Outcome, Severity, Subject, Volume};

const ROOT: &[Volume] = &[Volume::Root];

/// A1.
pub static EMPTY: Plain = Plain {
    id: "A1",
    title: "no account can be used without a password",
    looks_at: "The second field of /etc/shadow and /etc/passwd",
    why: "Anybody can log in as that user, on every clone.",
    mend: "Lock it (passwd -l), or give it a password on the first boot.",
    severity: Severity::Error,
    volumes: ROOT,
    check: empty,
};

/// A2.
pub static GUESSED: Plain = Plain {
    id: "A2",
    title: "no password is one of those that are tried first",
    looks_at: "Hashes of /etc/shadow, against the user's name and common default passwords",
    why: "Such machines are taken over within minutes of being on a network.",
    mend: "Lock the account, or set another password on the first boot.",
    severity: Severity::Error,
    volumes: ROOT,
    check: guessed,
};

/// A3.
pub static SHARED: Plain = Plain {
    id: "A3",
    title: "no account has a password that all clones share",
    looks_at: "Hashes of /etc/shadow and /etc/passwd that are not configured",
    why: "Whoever learns the password of one clone, or cracks its hash, has all of them.",
    mend: "Lock the account, and set the password on the first boot (systemd-firstboot, a \
           credential); or configure it on purpose.",
    severity: Severity::Warning,
    volumes: ROOT,
    check: shared,
};

/// Tried besides the user's own name. Each guess takes tens of milliseconds.
const COMMON: [&str; 6] = ["password", "root", "admin", "debian", "changeme", "123456"];

/// Users and what stands where a password's hash is, with its file.
fn passwords(subject: &Subject) -> Result<Vec<(String, String, Database)>, Outcome> {
    let mut found = Vec::new();
    for database in [Database::Passwd, Database::Shadow] {
        if subject.intent.project_files.contains(&database.path()) {
            continue;
        }
        let accounts = Accounts::read(subject.root, database);
        let accounts = accounts.map_err(|error| Outcome::Unknown { reason: error.to_string() })?;
        for fields in accounts.iter() {
            if fields[0] == "root" && subject.intent.root_password {
                continue;
            }
            found.push((fields[0].clone(), fields[1].clone(), database));
        }
    }
    if found.is_empty() { Err(Outcome::NotApplicable) } else { Ok(found) }
}

fn each(subject: &Subject, wrong: fn(&str, &str) -> Option<String>) -> Outcome {
    let all = match passwords(subject) {
        Ok(all) => all,
        Err(outcome) => return outcome,
    };
    let finding = |(user, hash, database): (String, String, Database)| {
        let message = format!("{user}: {}", wrong(&user, &hash)?);
        Some(finding(Volume::Root, &database.path(), message, Fix::ByHand))
    };
    Outcome::of(all.into_iter().filter_map(finding).collect())
}

fn empty(subject: &Subject) -> Outcome {
    each(subject, |_, hash| hash.is_empty().then(|| "needs no password to log in".into()))
}

/// Something that can be a hash: not locked, not in the other file, not empty.
fn is_hash(hash: &str) -> bool {
    !(hash.is_empty() || hash == "x" || hash.starts_with(['!', '*']))
}

fn shared(subject: &Subject) -> Outcome {
    each(subject, |_, hash| is_hash(hash).then(|| "has a password that all clones share".into()))
}

fn guessed(subject: &Subject) -> Outcome {
    each(subject, |user, hash| {
        let hash = Some(hash).filter(|hash| is_hash(hash))?;
        let mut guesses = [user].into_iter().chain(COMMON);
        let guess = guesses.find(|guess| os::passwords::is(hash, guess))?;
        Some(format!("its password is '{guess}'"))
    })
}
