//! M1–M3: what the image says of itself in os-release(5).

use os::os_release;
use tree::{Tree, TreePath};

use super::{Plain, finding, text};
use crate::{Fix, Outcome, Severity, Subject, Volume};

const ETC: &str = "etc/os-release";
const USR: &str = "usr/lib/os-release";

/// M1, as far as it is wrong.
pub static VALID: Plain = Plain {
    id: "M1",
    title: "IMAGE_ID= and IMAGE_VERSION= have valid values",
    looks_at: "IMAGE_ID= and IMAGE_VERSION= of os-release",
    why: "systemd ignores or refuses what is not of [a-z0-9._-] (the version also A-Z ~ ^ +): \
          specifiers, updates and boot menus would know another image than is meant.",
    mend: "Set ImageId= and ImageVersion= of the build, or mend the file.",
    severity: Severity::Error,
    volumes: &[Volume::Root],
    check: valid,
};

fn valid(subject: &Subject) -> Outcome {
    let release = match os_release::read(subject.root) {
        Ok(release) => release,
        Err(error) => return Outcome::Unknown { reason: error.to_string() },
    };
    type Check = fn(&str) -> bool;
    let fields: [(&str, Check); 2] =
        [("IMAGE_ID", os_release::is_valid_id), ("IMAGE_VERSION", os_release::is_valid_version)];
    let given = fields.iter().filter_map(|(key, ok)| Some((key, release.get(*key)?, ok)));
    let given: Vec<_> = given.collect();
    if given.is_empty() {
        return Outcome::NotApplicable;
    }
    let wrong = given.into_iter().filter(|(_, value, ok)| !ok(value));
    let path = place(subject.root);
    let finding = |(key, value, _): (&&str, &String, _)| {
        finding(Volume::Root, &path, format!("{key}={value:?} is not valid"), Fix::ByHand)
    };
    Outcome::of(wrong.map(finding).collect())
}

/// The file that counts.
fn place(root: &Tree) -> TreePath {
    let etc = TreePath::literal(ETC);
    if root.lookup(&etc).is_some() { etc } else { TreePath::literal(USR) }
}

/// M1, as far as it is missing.
pub static PRESENT: Plain = Plain {
    id: "M1-present",
    title: "the image has a name and a version",
    looks_at: "IMAGE_ID= and IMAGE_VERSION= of os-release",
    why: "Without them nobody can tell which image a machine runs: %M and %A of units, of \
          sysupdate.d and of repart.d are empty.",
    mend: "Set ImageId= and ImageVersion= of the build.",
    severity: Severity::Notice,
    volumes: &[Volume::Root],
    check: present,
};

fn present(subject: &Subject) -> Outcome {
    let release = match os_release::read(subject.root) {
        Ok(release) => release,
        Err(error) => return Outcome::Unknown { reason: error.to_string() },
    };
    let missing = ["IMAGE_ID", "IMAGE_VERSION"].into_iter().filter(|k| !release.contains_key(*k));
    let path = place(subject.root);
    let finding = |key| finding(Volume::Root, &path, format!("has no {key}="), Fix::ByHand);
    Outcome::of(missing.map(finding).collect())
}

/// M2.
pub static PRISTINE: Plain = Plain {
    id: "M2",
    title: "the distribution's os-release is as the distribution made it",
    looks_at: "/usr/lib/os-release of images that ship /etc",
    why: "The next update of the package that owns /usr/lib/os-release takes the image's fields \
          away.",
    mend: "Carry IMAGE_ID= and IMAGE_VERSION= in a regular /etc/os-release.",
    severity: Severity::Warning,
    volumes: &[Volume::Root],
    check: pristine,
};

fn pristine(subject: &Subject) -> Outcome {
    let path = TreePath::literal(USR);
    let managed = subject.root.contains(&TreePath::literal("var/lib/dpkg/status"));
    let Some(text) = text(subject.root, &path).filter(|_| managed && !subject.only_usr) else {
        return Outcome::NotApplicable;
    };
    let own =
        text.lines().filter(|l| l.starts_with("IMAGE_ID=") || l.starts_with("IMAGE_VERSION="));
    let message = |line: &str| format!("carries {line}, and a package owns the file");
    Outcome::of(own.map(|l| finding(Volume::Root, &path, message(l), Fix::ByHand)).collect())
}

/// M3.
pub static SPECIFIERS: Plain = Plain {
    id: "M3",
    title: "%M and %A resolve where they are used",
    looks_at: "Units, tmpfiles.d, sysusers.d, repart.d and sysupdate.d in /etc and /usr",
    why: "They stand for IMAGE_ID= and IMAGE_VERSION=: unset, a file is made or looked for under \
          another name than is meant.",
    mend: "Set ImageId= and ImageVersion= of the build, or do not use the specifier.",
    severity: Severity::Warning,
    volumes: &[Volume::Root],
    check: specifiers,
};

const DIRS: [&str; 5] = ["systemd/system", "tmpfiles.d", "sysusers.d", "repart.d", "sysupdate.d"];

fn specifiers(subject: &Subject) -> Outcome {
    let root = subject.root;
    let release = match os_release::read(root) {
        Ok(release) => release,
        Err(error) => return Outcome::Unknown { reason: error.to_string() },
    };
    let unset = [("%M", "IMAGE_ID"), ("%A", "IMAGE_VERSION")];
    let unset: Vec<_> = unset.into_iter().filter(|(_, key)| !release.contains_key(*key)).collect();
    if unset.is_empty() {
        return Outcome::Passed;
    }
    let mut findings = Vec::new();
    for dir in ["etc", "usr/lib"].iter().flat_map(|top| DIRS.map(|dir| format!("{top}/{dir}"))) {
        let Ok(dir) = TreePath::new(dir) else { continue };
        for (path, node) in root.children(&dir) {
            let Some(Ok(bytes)) = node.content().map(|c| c.read(1 << 20)) else { continue };
            let text = String::from_utf8_lossy(&bytes).replace("%%", "");
            let used = |spec: &str| lines_use(&text, spec);
            for (spec, key) in unset.iter().filter(|(spec, _)| used(spec)) {
                let message = format!("uses {spec}, but os-release has no {key}=");
                findings.push(finding(Volume::Root, path, message, Fix::ByHand));
            }
        }
    }
    Outcome::of(findings)
}

fn lines_use(text: &str, specifier: &str) -> bool {
    super::lines(text).any(|(_, line)| !line.starts_with(';') && line.contains(specifier))
}
