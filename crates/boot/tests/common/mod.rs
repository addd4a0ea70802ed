//! Runs the original tools in the root file system named by `MKGOLD_ORACLE`.

#![allow(dead_code, missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use testkit::oracle;
use tree::{Blob, Content, Kind, Meta, Mtime, Node, Tree, TreePath};

/// Runs `script` in the oracle root with `dir` at /mnt; returns what it printed. Panics
/// with its errors if it fails.
pub fn run(dir: &Path, script: &str) -> Vec<u8> {
    let output = oracle::shell(&format!("set -eu; cd /mnt; {script}"), dir, &[]).output();
    let output = output.expect("unshare starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {}: {errors}", output.status);
    output.stdout
}

/// A directory that stays between runs, for downloads.
pub fn cache(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Downloads (over the network, from the oracle's own sources) and unpacks the
/// package that `package` depends on by the name `prefix…`; once.
pub fn unpacked(package: &str, prefix: &str) -> PathBuf {
    // Two tests of a binary want the same package.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = cache(package);
    let done = dir.join("root/usr");
    if !done.is_dir() {
        let options = "-o Dir::State::lists=/mnt/lists -o Dir::Cache=/mnt/cache \
                       -o APT::Sandbox::User=root -qq";
        run(
            &dir,
            &format!(
                "mkdir -p lists/partial cache/archives/partial; apt-get {options} update; \
                 name=$(apt-cache {options} depends {package} | sed -n 's/.*Depends: \\({prefix}[^ ]*\\).*/\\1/p' | head -n1); \
                 apt-get {options} download ${{name:-{package}}}; \
                 rm -rf root.tmp; for deb in *.deb; do dpkg-deb -x $deb root.tmp; done; mv root.tmp root"
            ),
        );
    }
    dir.join("root")
}

/// A directory as a Tree, all of it owned by root.
pub fn tree_of(dir: &Path) -> Tree {
    let mut tree = Tree::new();
    add(&mut tree, dir, &TreePath::root());
    tree
}

fn add(tree: &mut Tree, dir: &Path, at: &TreePath) {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = at.join(entry.file_name().as_bytes()).unwrap();
        let stat = entry.metadata().unwrap();
        let kind = if stat.is_dir() {
            Kind::Dir
        } else if stat.is_symlink() {
            Kind::Symlink(std::fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().into())
        } else {
            Kind::File(Content::range(Blob::at_path(entry.path()), 0, stat.len()))
        };
        let meta = Meta::new((stat.permissions().mode() & 0o7777) as u16);
        let meta = meta.at(Mtime::secs(stat.mtime()));
        tree.add(path.clone(), Node { meta, kind }).unwrap();
        if stat.is_dir() {
            add(tree, &entry.path(), &path);
        }
    }
}
