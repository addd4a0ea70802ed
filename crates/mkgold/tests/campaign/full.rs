//! No space left: where outputs go, where the cache is, and a limit of file sizes.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::privilege;

use crate::common::{cold_cache, command, fail, mkgold, open_dir, succeed, sums};
use crate::watch::Places;
use crate::{BOOTABLE, SCRIPT, change, project};

/// A tmpfs that only this thread and what it starts can see.
struct Small {
    dir: PathBuf,
}

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

impl Small {
    fn mount(dir: &Path, size: u64) -> Small {
        fs::create_dir_all(dir).unwrap();
        let small = Small { dir: dir.to_owned() };
        small.call(size, 0);
        small
    }

    fn resize(&self, size: u64) {
        self.call(size, libc::MS_REMOUNT);
    }

    fn call(&self, size: u64, flags: libc::c_ulong) {
        let (dir, data) = (c(&self.dir), CString::new(format!("size={size}")).unwrap());
        let name = c"tmpfs".as_ptr();
        // SAFETY: terminated strings that live across the call.
        let done = unsafe { libc::mount(name, dir.as_ptr(), name, flags, data.as_ptr().cast()) };
        assert_eq!(done, 0, "tmpfs on {}", self.dir.display());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // SAFETY: a terminated string that lives across the call.
        unsafe { libc::umount2(c(&self.dir).as_ptr(), libc::MNT_DETACH) };
    }
}

/// This thread's mounts are its own from here on.
fn own_mounts() {
    let none = std::ptr::null();
    // SAFETY: terminated strings or null; only this thread moves.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
        let private = libc::MS_REC | libc::MS_PRIVATE;
        assert_eq!(libc::mount(none, c"/".as_ptr(), none, private, none.cast()), 0);
    }
}

/// What a directory takes on its file system.
fn used(dir: &Path) -> u64 {
    let output = Command::new("du").arg("--summarize").arg("--block-size=1").arg(dir).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    text.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(copied.success());
}

fn build(project: &Path, cache: &Path, output: &Path) -> Command {
    let mut build = command(&mkgold(), project, cache, output);
    build.args(["--locked", "--offline", "--force", "build"]);
    build
}

/// The end of what it said, for the figures.
fn last(said: &str) -> String {
    let mut lines: Vec<_> = said.lines().rev().take_while(|l| !l.starts_with("mkgold:")).collect();
    lines.extend(said.lines().rev().find(|line| line.starts_with("mkgold:")));
    lines.reverse();
    lines.join(" ")
}

#[test]
#[ignore = "campaign: fills small file systems"]
fn a_full_disk_is_a_clear_error_and_changes_nothing() {
    let work = open_dir();
    let at = |name: &str| work.path().join(name);
    project(&at("project"), BOOTABLE, &[("mkosi.postinst.chroot", SCRIPT)]);
    cold_cache(&at("project"), &at("cache"));
    cold_cache(&at("project"), &at("cold"));
    succeed(&mut build(&at("project"), &at("cache"), &at("old")));
    change(&at("project"), "second\n");
    succeed(&mut build(&at("project"), &at("cache"), &at("new")));
    assert_ne!(sums(&at("old")), sums(&at("new")));
    limits_of_files(work.path());
    if !privilege::is_root() {
        return privilege::not_tested("small file systems", "root");
    }
    own_mounts();
    let output = used(&at("old"));
    for part in [0.01, 0.3, 0.6, 0.95] {
        full_output(work.path(), output, part);
    }
    let (cold, warm) = (used(&at("cold")), used(&at("cache")));
    for part in [0.001, 0.2, 0.5, 0.8] {
        full_cache(work.path(), cold, warm, part);
    }
}

/// The file system of the outputs has room for the old ones and a part of the new.
fn full_output(work: &Path, size: u64, part: f64) {
    let at = |name: &str| work.join(name);
    let small = Small::mount(&at("small"), size + (size as f64 * part) as u64 + (64 << 10));
    copy(&at("old"), &small.dir);
    let said = fail(&mut build(&at("project"), &at("cache"), &small.dir), 1);
    check(&said, &small.dir);
    assert_eq!(sums(&small.dir), sums(&at("old")), "the outputs stay");
    is_clean(&at("project"), &at("cache"), &small.dir);
    println!("output full at {:.0} %: {}", part * 100.0, last(&said));
    small.resize(size * 3);
    succeed(&mut build(&at("project"), &at("cache"), &small.dir));
    assert_eq!(sums(&small.dir), sums(&at("new")));
    is_clean(&at("project"), &at("cache"), &small.dir);
}

/// The file system of the cache has the packages, and room for a part of what a build
/// makes of them.
fn full_cache(work: &Path, cold: u64, warm: u64, part: f64) {
    let at = |name: &str| work.join(name);
    let more = (warm.saturating_sub(cold) as f64 * part) as u64;
    let small = Small::mount(&at("small"), cold + more + (64 << 10));
    copy(&at("cold"), &small.dir);
    let output = at("output");
    fs::create_dir(&output).unwrap();
    copy(&at("old"), &output);
    let said = fail(&mut build(&at("project"), &small.dir, &output), 1);
    check(&said, &small.dir);
    assert_eq!(sums(&output), sums(&at("old")), "the outputs stay");
    is_clean(&at("project"), &small.dir, &output);
    println!("cache full at {:.0} %: {}", part * 100.0, last(&said));
    small.resize(2 * warm + (1 << 30));
    succeed(&mut build(&at("project"), &small.dir, &output));
    assert_eq!(sums(&output), sums(&at("new")));
    is_clean(&at("project"), &small.dir, &output);
    fs::remove_dir_all(&output).unwrap();
}

/// No file may be larger than this: an error like any other, and not a killed process.
fn limits_of_files(work: &Path) {
    let at = |name: &str| work.join(name);
    copy_new(&at("old"), &at("limited"));
    for limit in [64 << 10, 16 << 20, 48 << 20] {
        let mut limited = build(&at("project"), &at("cache"), &at("limited"));
        // SAFETY: the closure makes one system call on a structure of its own.
        unsafe {
            limited.pre_exec(move || {
                let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
                libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
                Ok(())
            })
        };
        let said = fail(&mut limited, 1);
        assert!(said.contains("File too large"), "{said}");
        assert_eq!(sums(&at("limited")), sums(&at("old")), "the outputs stay");
        is_clean(&at("project"), &at("cache"), &at("limited"));
        println!("files limited to {} KiB: {}", limit >> 10, last(&said));
    }
    fs::remove_dir_all(at("limited")).unwrap();
}

fn copy_new(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    copy(from, to);
}

/// The message has the reason and the path.
fn check(said: &str, dir: &Path) {
    let said = last(said);
    let reason = ["No space left", "no space left"].iter().any(|text| said.contains(text));
    assert!(reason, "no reason: {said}");
    assert!(said.contains(&*dir.to_string_lossy()), "no path: {said}");
}

fn is_clean(project: &Path, cache: &Path, output: &Path) {
    Places { project, cache, output }.is_clean("full");
}
