//! What tests of whole builds share: the program, projects, downloads, outputs.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Names another cache of downloads than the test's own.
const CACHE: &str = "MKGOLD_TEST_CACHE";

/// A system without a kernel: the smallest that has everything but boot.
pub const SMALL: &str = "\
[Distribution]
Distribution=debian
Release=trixie
[Output]
Format=tar
ImageId=small
ImageVersion=1
ManifestFormat=json
Checksum=yes
[Content]
Bootable=no
WithDocs=no
";

/// The program to test: `$MKGOLD_BINARY`, else the one that cargo built.
pub fn mkgold() -> PathBuf {
    std::env::var_os("MKGOLD_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_mkgold").into(), Into::into)
}

/// The cache of downloads that all tests share.
pub fn downloads() -> PathBuf {
    let own = || Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    std::env::var_os(CACHE).map_or_else(own, Into::into)
}

/// A directory that every user can enter.
pub fn open_dir() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("mkgold-test-").tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    dir
}

/// Files of a project: path, text; what begins with `#!` can be run.
pub type Files<'a> = &'a [(&'a str, &'a str)];

/// Writes a project.
pub fn write_project(dir: &Path, files: Files) {
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().expect("a file has a directory")).unwrap();
        fs::write(&path, text).unwrap();
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// `mkgold -C project --cache-directory=cache --output-directory=output`.
pub fn command(program: &Path, project: &Path, cache: &Path, output: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("-C").arg(project);
    command.arg("--cache-directory").arg(cache).arg("--output-directory").arg(output);
    testkit::heed_signals(&mut command);
    command
}

/// Runs it; it must succeed. Gives its standard output.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("mkgold starts");
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, said(&output));
    String::from_utf8(output.stdout).expect("mkgold prints UTF-8")
}

/// Runs it; it must fail with this exit code. Gives what it said.
pub fn fail(command: &mut Command, code: i32) -> String {
    let output = command.output().expect("mkgold starts");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(code), "{command:?}: {}\n{text}", output.status);
    text
}

/// Both streams.
pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Writes the project's lock and fetches everything in it.
pub fn lock(project: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let mut build = command(&mkgold(), project, &downloads(), scratch.path());
    succeed(build.args(["--force", "build"]));
    assert!(project.join("mkgold.lock").exists());
}

/// A cache that has the packages of a project's lock and nothing else: no tree, no
/// layer, no unpacked package.
pub fn cold_cache(project: &Path, cache: &Path) {
    let text = fs::read_to_string(project.join("mkgold.lock")).unwrap();
    let sums = text.lines().filter_map(|line| line.strip_prefix("sha256 = \""));
    let sums: BTreeSet<_> = sums.map(|sum| sum.trim_end_matches('"')).collect();
    for sum in sums {
        let shard = Path::new("debs").join(&sum[..2]);
        let from = downloads().join(&shard).join(sum);
        if !from.exists() {
            continue; // A Release file, or a package that this build does not need.
        }
        fs::create_dir_all(cache.join(&shard)).unwrap();
        let to = cache.join(&shard).join(sum);
        // Never a copy onto a link to the same file: that would empty both.
        if !to.exists() && fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// Gives the directories below `dir` (not the files, which may be shared) to a user.
pub fn give_directories(dir: &Path, id: u32) {
    chown(dir, Some(id), Some(id)).unwrap();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            give_directories(&entry.path(), id);
        }
    }
}

/// The files in a directory of outputs, each with its SHA-256.
pub fn sums(dir: &Path) -> BTreeMap<String, String> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.is_file());
    names.sort();
    let sum = |path: &PathBuf| {
        let output = Command::new("sha256sum").arg(path).output().expect("sha256sum is essential");
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()[..64].to_owned()
    };
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    names.iter().map(|path| (name(path), sum(path))).collect()
}
