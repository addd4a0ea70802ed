//! What the guard does when the work ends, and when it does not end by itself.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use sandbox::guarded;
use support::{As, dispatch, open_dir, role_command};

#[used]
#[unsafe(link_section = ".init_array")]
static ROLES: extern "C" fn() = {
    extern "C" fn start() {
        dispatch(&[("code", code), ("killed", killed), ("forever", forever)]);
    }
    start
};

fn clean() {
    fs::write(support::dir().join("cleaned"), "").unwrap();
}

fn raise(signal: i32) {
    // SAFETY: numbers only.
    unsafe { libc::raise(signal) };
}

/// The work returns a code.
fn code() {
    std::process::exit(guarded(|| 7, clean).unwrap().follow().into());
}

/// The work is killed, as the kernel does for want of memory.
fn killed() {
    let work = || {
        raise(libc::SIGKILL);
        0
    };
    std::process::exit(guarded(work, clean).unwrap().follow().into());
}

/// The work starts something of its own, says so and waits for it.
fn forever() {
    let work = || {
        let mut sleep = std::process::Command::new("sleep");
        sleep.arg("1000").stdout(Stdio::null());
        sandbox::ends_with_us(&mut sleep);
        let mut child = sleep.spawn().unwrap();
        println!("{} {}", std::process::id(), child.id());
        std::io::stdout().flush().unwrap();
        child.wait().unwrap();
        0
    };
    std::process::exit(guarded(work, clean).unwrap().follow().into());
}

/// Starts the endless work; the numbers of what runs.
fn start(dir: &Path) -> (Child, Vec<i32>) {
    let mut command = role_command("forever", As::Caller, None, dir);
    testkit::heed_signals(&mut command);
    let mut guard = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(guard.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pids = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    (guard, pids)
}

fn all_end(pids: &[i32]) {
    let start = Instant::now();
    let state = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let runs = |pid: &i32| {
        !matches!(state(pid).rsplit(") ").next(), Some("") | None) && !state(pid).contains(") Z ")
    };
    while pids.iter().any(runs) {
        assert!(start.elapsed() < Duration::from_secs(60), "{pids:?} run on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_code_goes_through_and_nothing_is_cleaned() {
    let dir = open_dir();
    let status = role_command("code", As::Caller, None, dir.path()).status().unwrap();
    assert_eq!(status.code(), Some(7));
    assert!(!dir.path().join("cleaned").exists());
}

#[test]
fn what_the_kernel_killed_is_cleaned_up() {
    let dir = open_dir();
    let status = role_command("killed", As::Caller, None, dir.path()).status().unwrap();
    assert_eq!(status.code(), Some(137));
    assert!(dir.path().join("cleaned").exists());
}

#[test]
fn a_signal_ends_all_of_it_and_the_guard_as_well() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let dir = open_dir();
        let (mut guard, pids) = start(dir.path());
        // SAFETY: numbers only; the guard has not been waited for.
        unsafe { libc::kill(guard.id() as i32, signal) };
        assert_eq!(guard.wait().unwrap().signal(), Some(signal));
        assert!(dir.path().join("cleaned").exists());
        all_end(&pids);
    }
}

#[test]
fn all_of_it_ends_with_a_killed_guard() {
    let dir = open_dir();
    let (mut guard, pids) = start(dir.path());
    guard.kill().unwrap();
    guard.wait().unwrap();
    all_end(&pids);
    assert!(!dir.path().join("cleaned").exists(), "nobody was left to do it");
}
