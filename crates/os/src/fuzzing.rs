//! Entry points for fuzzing: each takes any bytes and must return.

use tree::{Mtime, Tree, TreePath};

use crate::preset::{self, Scope};
use crate::sysusers::{self, Declarations};
use crate::{firstboot, os_release, tmpfiles, units};

/// A system's files, separated by NUL bytes, the path on the first line.
fn system(data: &[u8]) -> Tree {
    let mut tree = Tree::new();
    for part in data.split(|b| *b == 0).take(100) {
        let end = part.iter().position(|b| *b == b'\n').unwrap_or(part.len());
        let (name, text) = (&part[..end], part.get(end + 1..).unwrap_or_default());
        if let Ok(path) = TreePath::new(name) {
            let _ = tree.write(&path, 0o644, text);
        }
    }
    tree
}

/// A system's files: the same lines make the same tree, and a tree that holds together.
pub fn fuzz_tmpfiles(data: &[u8]) {
    let before = system(data);
    let options = tmpfiles::Options { architecture: Some("x86-64"), exclude: &tmpfiles::HIDDEN };
    let run = || {
        let mut tree = before.clone();
        let declarations = tmpfiles::Declarations::read(&tree, &options).ok()?;
        let failures = tmpfiles::apply(&mut tree, &declarations, Mtime::secs(1));
        let shown: Vec<String> =
            tree.iter().map(|(path, _, node)| format!("{path} {:?}", node.meta)).collect();
        for (path, _, _) in tree.iter().filter(|(path, _, _)| !path.is_root()) {
            let parent = path.parent().expect("only the root has none");
            assert!(tree.get(&parent).is_some_and(tree::Node::is_dir), "{path}");
        }
        Some((shown, failures.ok()))
    };
    assert!(run() == run(), "the same lines make the same tree");
}

/// A system's files, separated by NUL bytes, the path on the first line: accounts are
/// made, units enabled, settings of the first boot made, twice with the same result.
pub fn fuzz_system(data: &[u8]) {
    let mut tree = system(data);
    let now = Mtime::secs(0);
    let _ = os_release::read(&tree);
    for (name, unit) in units::all(&tree, &units::SYSTEM_DIRS) {
        if let units::UnitFile::Regular(path) = unit {
            let _ = units::settings(&tree, &units::SYSTEM_DIRS, &name, &path, "Unit");
        }
    }
    let _ = preset::apply_all(&mut tree, Scope::System, "/usr/lib/systemd/system", now);
    if let Ok(declarations) = Declarations::read(&tree)
        && sysusers::apply(&mut tree, &declarations, now).is_ok()
    {
        let accounts = |tree: &Tree| {
            let files = ["etc/passwd", "etc/group"].map(TreePath::literal);
            files.map(|path| tree.read(&path, u64::MAX).and_then(Result::ok))
        };
        let before = accounts(&tree);
        if sysusers::apply(&mut tree, &declarations, now).is_ok() {
            assert_eq!(accounts(&tree), before, "a second time changes nothing");
        }
    }
    let settings = firstboot::Settings {
        hostname: Some("golden".into()),
        root_shell: Some("/bin/sh".into()),
        ..Default::default()
    };
    let _ = firstboot::apply(&mut tree, &settings, b"seed", now);
}
