//! A plan carried out in a directory.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use provision::{Plan, Root};
use tree::{Content, Kind, Meta, Node, Tree, TreePath};

fn p(path: &'static str) -> TreePath {
    TreePath::literal(path)
}

/// Changes the directory as `edit` changes its Tree; returns the plan.
fn change(dir: &Path, edit: impl FnOnce(&mut Tree)) -> Plan {
    let root = Root::open(dir).unwrap();
    let before = root.tree().unwrap();
    let mut after = before.clone();
    edit(&mut after);
    let plan = Plan::between(&before, &after);
    root.apply(&plan).unwrap();
    plan
}

fn mine(mode: u16) -> Meta {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Meta::file(mode).owned_by(uid, gid)
}

fn file(content: Content, mode: u16) -> Node {
    Node { meta: mine(mode), kind: Kind::File(content) }
}

#[test]
fn what_is_changed_is_changed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in [("a/old", "old"), ("a/gone/deep/file", "x"), ("same", "same")] {
        fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
        fs::write(dir.path().join(path), text).unwrap();
    }
    let inode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().ino();
    let same = inode("same");
    let plan = change(dir.path(), |tree| {
        tree.put(p("a/old"), file(Content::inline(*b"new"), 0o640)).unwrap();
        tree.remove(&p("a/gone"));
        tree.make_dirs(&p("made/deep")).unwrap();
        tree.get_mut(&p("made/deep")).unwrap().meta = mine(0o500);
        tree.put(p("made/deep/f"), file(Content::inline(*b"f"), 0o4711)).unwrap();
        tree.add_symlink(p("link"), "a/old").unwrap();
        tree.put(p("pipe"), Node { meta: mine(0o600), kind: Kind::Fifo }).unwrap();
        tree.add_link(p("other"), &p("made/deep/f")).unwrap();
        tree.get_mut(&p("a")).unwrap().meta.mode = 0o711;
    });
    let shown: Vec<String> = plan.0.iter().map(ToString::to_string).collect();
    let starts = |start: &str| shown.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!((starts("- "), starts("+ "), starts("~ ")), (3, 6, 2), "{shown:#?}");
    let mode = |path: &str| fs::symlink_metadata(dir.path().join(path)).unwrap().mode() & 0o7777;
    assert_eq!(
        ["a", "a/old", "made/deep", "made/deep/f", "pipe"].map(mode),
        [0o711, 0o640, 0o500, 0o4711, 0o600]
    );
    assert_eq!(fs::read(dir.path().join("a/old")).unwrap(), b"new");
    assert!(!dir.path().join("a/gone").exists());
    assert_eq!(fs::read_link(dir.path().join("link")).unwrap(), Path::new("a/old"));
    assert_eq!(inode("other"), inode("made/deep/f"));
    assert_eq!(inode("same"), same, "it was not written again");
    assert!(change(dir.path(), |_| {}).is_empty());
    // So that it can be removed by whoever is not root.
    fs::set_permissions(dir.path().join("made/deep"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_file_and_a_directory_take_each_others_place() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "a").unwrap();
    fs::create_dir_all(dir.path().join("b/c")).unwrap();
    change(dir.path(), |tree| {
        tree.remove(&p("a"));
        tree.remove(&p("b"));
        tree.make_dirs(&p("a")).unwrap();
        tree.put(p("b"), file(Content::inline(*b"b"), 0o644)).unwrap();
    });
    assert!(dir.path().join("a").is_dir() && dir.path().join("b").is_file());
}

#[test]
fn what_is_copied_from_a_file_that_is_replaced_is_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("passwd"), "the old accounts").unwrap();
    fs::write(dir.path().join("gone"), "gone").unwrap();
    change(dir.path(), |tree| {
        let old = tree.get(&p("passwd")).unwrap().content().unwrap().clone();
        let gone = tree.get(&p("gone")).unwrap().content().unwrap().clone();
        tree.remove(&p("gone"));
        tree.put(p("passwd"), file(Content::inline(*b"new"), 0o644)).unwrap();
        tree.put(p("passwd-"), file(old, 0o644)).unwrap();
        tree.put(p("saved"), file(gone, 0o644)).unwrap();
    });
    let read = |name| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(["passwd", "passwd-", "saved"].map(read), ["new", "the old accounts", "gone"]);
}

#[test]
fn a_directory_swapped_for_a_link_leads_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let (inside, outside) = (dir.path().join("root"), dir.path().join("outside"));
    fs::create_dir_all(inside.join("etc")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "untouched").unwrap();
    let root = Root::open(&inside).unwrap();
    let before = root.tree().unwrap();
    let mut after = before.clone();
    after.put(p("etc/victim"), file(Content::inline(*b"overwritten"), 0o644)).unwrap();
    after.make_dirs(&p("etc/made")).unwrap();
    // Somebody is quick.
    fs::remove_dir(inside.join("etc")).unwrap();
    for target in [outside.as_path(), Path::new("../outside")] {
        symlink(target, inside.join("etc")).unwrap();
        let error = root.apply(&Plan::between(&before, &after)).unwrap_err().to_string();
        assert!(error.contains("etc"), "{error}");
        fs::remove_file(inside.join("etc")).unwrap();
    }
    assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn an_error_leaves_no_temporary_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    let root = Root::open(dir.path()).unwrap();
    let before = root.tree().unwrap();
    let mut after = before.clone();
    let missing = tree::Blob::at_path(dir.path().join("never"));
    after.put(p("d/f"), file(Content::range(missing, 0, 5), 0o644)).unwrap();
    let error = root.apply(&Plan::between(&before, &after)).unwrap_err().to_string();
    assert!(error.contains("d/f"), "{error}");
    assert_eq!(fs::read_dir(dir.path().join("d")).unwrap().count(), 0);
}
