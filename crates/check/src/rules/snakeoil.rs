//! R7-snakeoil: the self-signed certificate of Debian's `ssl-cert` is absent, and
//! something makes it on first boot, for mail servers and databases start with it.

use std::collections::BTreeSet;

use os::units::{self, UnitFile};
use tree::{Kind, Mtime, Tree, TreePath};

use super::finding;
use crate::{Fix, Outcome, Rule, Subject, Volume};

const KEY: &str = "etc/ssl/private/ssl-cert-snakeoil.key";
const CERTIFICATES: &str = "etc/ssl/certs";
const CERTIFICATE: &[u8] = b"ssl-cert-snakeoil.pem";
/// What makes both (make-ssl-cert(8)), and what would run it.
const PROGRAM: &str = "usr/sbin/make-ssl-cert";
const SYSTEMD: &str = "usr/lib/systemd/systemd";

const UNIT: &str = "mkgold-ssl-cert.service";
// Before every ordinary unit: there is no list of those that use it.
const UNIT_TEXT: &str = "\
[Unit]
Description=Make the self-signed certificate of this machine
Documentation=man:make-ssl-cert(8)
ConditionPathExists=|!/etc/ssl/private/ssl-cert-snakeoil.key
ConditionPathExists=|!/etc/ssl/certs/ssl-cert-snakeoil.pem
ConditionPathIsReadWrite=/etc
DefaultDependencies=no
Conflicts=shutdown.target
Wants=first-boot-complete.target
Before=first-boot-complete.target sysinit.target shutdown.target
After=local-fs.target systemd-random-seed.service systemd-sysusers.service
After=systemd-tmpfiles-setup.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/make-ssl-cert generate-default-snakeoil

[Install]
WantedBy=sysinit.target
";

/// See the module's head.
pub struct Snakeoil;

impl Rule for Snakeoil {
    fn id(&self) -> &'static str {
        "R7-snakeoil"
    }

    fn title(&self) -> &'static str {
        "the self-signed certificate is absent and made on first boot"
    }

    fn why(&self) -> &'static str {
        "With a shared key, whoever has one clone can pass for every other; with none and \
         nothing that makes it, services that use it do not start."
    }

    fn looks_at(&self) -> String {
        "The key and certificate of Debian's ssl-cert, and the units that make them".into()
    }

    fn mend(&self) -> &'static str {
        "Both are removed; a unit that makes them on the first boot is added."
    }

    fn check(&self, subject: &Subject) -> Outcome {
        let root = subject.root;
        let own = &subject.intent.project_files;
        let message = "self-signed certificate that clones would share";
        let found = places(root);
        let mut findings: Vec<_> = found
            .iter()
            .filter(|path| !own.contains(*path))
            .map(|path| finding(Volume::Root, path, message, Fix::Remove))
            .collect();
        let program = TreePath::literal(PROGRAM);
        // Without systemd, no unit would help.
        let is_there = |path| root.lookup(&TreePath::literal(path)).is_some();
        let needed = is_there(PROGRAM) && is_there(SYSTEMD);
        if !needed && found.is_empty() {
            return Outcome::NotApplicable;
        }
        if needed && !something_makes_it(root) {
            let message =
                "is there, but no unit runs it: what uses the certificate would not start";
            findings.push(finding(Volume::Root, &program, message, Fix::AddCertificateUnit));
        }
        Outcome::of(findings)
    }

    fn places(&self, root: &Tree) -> Vec<TreePath> {
        places(root).into_iter().collect()
    }
}

/// Key, certificate, and the links by which OpenSSL finds it (their names are hashes).
fn places(root: &Tree) -> BTreeSet<TreePath> {
    let key = root.resolve_parent(&TreePath::literal(KEY)).ok();
    let mut found: BTreeSet<_> = key.into_iter().filter(|path| root.contains(path)).collect();
    let Ok(dir) = root.resolve(&TreePath::literal(CERTIFICATES)) else { return found };
    let is_it = |path: &TreePath, kind: &Kind| match kind {
        Kind::Symlink(target) => target.rsplit(|b| *b == b'/').next() == Some(CERTIFICATE),
        _ => path.name() == CERTIFICATE,
    };
    let certificates = root.children(&dir).filter(|(path, node)| is_it(path, &node.kind));
    found.extend(certificates.map(|(path, _)| path.clone()));
    found
}

fn something_makes_it(root: &Tree) -> bool {
    units::all(root, &units::SYSTEM_DIRS).values().any(|unit| {
        let UnitFile::Regular(path) = unit else { return false };
        let text = root.read(path, 1 << 20).and_then(Result::ok).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        units::section(&text, "Service")
            .iter()
            .any(|(key, value)| key.starts_with("ExecStart") && value.contains("make-ssl-cert"))
    })
}

/// Adds the unit that makes it.
pub fn add_unit(root: &mut Tree, mtime: Mtime) -> Result<(), os::OsError> {
    super::add_unit(root, UNIT, UNIT_TEXT, "sysinit.target", mtime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Intent, seal};

    #[test]
    fn the_certificate_goes_with_its_links_and_comes_back_on_first_boot() {
        let p = TreePath::literal;
        let mut root = Tree::new();
        root.write(&p(KEY), 0o640, *b"k").unwrap();
        root.write(&p("etc/ssl/certs/ssl-cert-snakeoil.pem"), 0o644, *b"c").unwrap();
        root.add_symlink(p("etc/ssl/certs/ce275665.0"), "ssl-cert-snakeoil.pem").unwrap();
        root.add_symlink(p("etc/ssl/certs/01234567.0"), "other.pem").unwrap();
        root.write(&p(PROGRAM), 0o755, *b"").unwrap();
        root.write(&p(SYSTEMD), 0o755, *b"").unwrap();
        let intent = Intent::default();
        seal(&mut root, None, &intent, Mtime::secs(1)).unwrap();
        let left: Vec<_> = root.children(&p("etc/ssl/certs")).map(|(p, _)| p.to_string()).collect();
        assert_eq!(left, ["/etc/ssl/certs/01234567.0"]);
        assert!(!root.contains(&p(KEY)));
        let link = p("usr/lib/systemd/system/sysinit.target.wants/mkgold-ssl-cert.service");
        assert!(root.lookup(&link).unwrap().content().is_some());
        assert_eq!(Snakeoil.check(&Subject::new(&root, None, &intent)), Outcome::Passed);
    }
}
