//! E7: `/etc/os-release`.

use tree::{Kind, TreePath};

use super::finding;
use crate::{Fix, Outcome, Rule, Severity, Subject, Volume};

/// E7, with the exception of M2: a regular file that carries `IMAGE_ID=`.
pub struct EtcOsRelease;

impl Rule for EtcOsRelease {
    fn id(&self) -> &'static str {
        "E7"
    }

    fn title(&self) -> &'static str {
        "/etc/os-release leads to /usr/lib/os-release or extends it"
    }

    fn why(&self) -> &'static str {
        "A copy of its own in /etc goes stale with the next update of /usr."
    }

    fn looks_at(&self) -> String {
        "/etc/os-release".into()
    }

    fn mend(&self) -> &'static str {
        "Make it a link to ../usr/lib/os-release; or set IMAGE_ID= in it, if it is meant to extend that."
    }

    fn severity(&self) -> Severity {
        Severity::Warning
    }

    fn check(&self, subject: &Subject) -> Outcome {
        let path = TreePath::literal("etc/os-release");
        let message = match subject.root.get(&path).map(|n| &n.kind) {
            None => return Outcome::NotApplicable,
            Some(Kind::Symlink(target)) if **target == *b"../usr/lib/os-release" => {
                return Outcome::Passed;
            }
            Some(Kind::Symlink(_)) => "is a link to something else",
            Some(_) => match os::os_release::read(subject.root) {
                Ok(release) if release.contains_key("IMAGE_ID") => return Outcome::Passed,
                Ok(release) if release.contains_key("IMAGE_VERSION") => return Outcome::Passed,
                Ok(_) => "is a file of its own without IMAGE_ID= or IMAGE_VERSION=",
                Err(error) => return Outcome::Unknown { reason: error.to_string() },
            },
        };
        Outcome::of(vec![finding(Volume::Root, &path, message, Fix::ByHand)])
    }
}
