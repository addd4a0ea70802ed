//! A process that watches over the one that works, so that nothing is left however that
//! one ends.
//!
//! [`guarded`] splits the process in two. The second does the work. The first waits, hands
//! signals on, and when the work was ended by one, waits for whatever the work had started
//! and cleans up: nobody else could, as mounts, locks and children end with a process but
//! files do not. If the first is killed, the kernel kills the second, and the sandbox with
//! it (`run::child`); the files are then removed by the next run.
//!
//! What it is not: a supervisor of system calls (`supervisor`), or a shell's job control.

use std::io;
use std::time::{Duration, Instant};

use crate::sys::check;

/// Signals that end the work, and that a person or a service manager sends.
const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
/// How long what the work started may take to end before it is killed, and again.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It returned this.
    Code(u8),
    /// This signal killed it.
    Signal(i32),
}

impl Ended {
    /// Ends this process as the work ended, so that whoever waits for it sees the same.
    /// Gives an exit code where a signal does not end it.
    pub fn follow(self) -> u8 {
        match self {
            Ended::Code(code) => code,
            Ended::Signal(signal) => {
                if ENDING.contains(&signal) {
                    // SAFETY: numbers only; the signal was blocked while we waited.
                    unsafe {
                        libc::signal(signal, libc::SIG_DFL);
                        libc::raise(signal);
                    }
                    unblock();
                }
                u8::try_from(128 + signal).unwrap_or(1)
            }
        }
    }
}

/// Runs `work` in a process of its own, and `clean` in this one if a signal ended it.
/// Call it after [`crate::enter`] (what is to be cleaned up may belong to users whom only
/// its namespace has) and before any thread is started.
pub fn guarded(work: impl FnOnce() -> u8, clean: impl FnOnce()) -> io::Result<Ended> {
    let set = watched();
    // SAFETY: the set is ours; orphans of the work become our children.
    unsafe {
        check(i64::from(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)))?;
        check(i64::from(libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut())))?;
        // Whoever started us may ignore the end of children, and then there is none.
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
    let guard = std::process::id();
    // SAFETY: this process has one thread, so the child is a whole process.
    let pid = check(i64::from(unsafe { libc::fork() }))? as i32;
    if pid == 0 {
        // SAFETY: numbers only.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            // A limit of file sizes is an error of the write that meets it.
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        }
        unblock();
        // The guard may have ended before the kernel knew what to do then.
        if std::os::unix::process::parent_id() == guard {
            std::process::exit(work().into());
        }
        std::process::exit(1);
    }
    let ended = wait(pid, &set)?;
    if let Ended::Signal(_) = ended {
        end_orphans();
        clean();
    }
    Ok(ended)
}

/// The command's process ends when the thread that starts it does.
pub fn ends_with_us(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let ask = || {
        // SAFETY: numbers only.
        check(i64::from(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM, 0, 0, 0) }))
            .map(drop)
    };
    // SAFETY: the closure makes one system call.
    unsafe { command.pre_exec(ask) };
}

fn watched() -> libc::sigset_t {
    // SAFETY: all-zero is a valid signal set, which the calls fill.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        for signal in ENDING.into_iter().chain([libc::SIGCHLD]) {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

fn unblock() {
    let set = watched();
    // SAFETY: the set is ours.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut()) };
}

/// Waits for the work to end; signals go to it.
fn wait(pid: i32, set: &libc::sigset_t) -> io::Result<Ended> {
    loop {
        let mut status = 0;
        // SAFETY: the status is ours.
        let ended = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
        match ended {
            0 => {}
            -1 => return Err(io::Error::last_os_error()),
            orphan if orphan != pid => continue,
            _ if libc::WIFEXITED(status) => {
                return Ok(Ended::Code(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(1)));
            }
            _ => return Ok(Ended::Signal(libc::WTERMSIG(status))),
        }
        if ended == 0 {
            // SAFETY: the set is ours; no information is asked for.
            let signal = unsafe { libc::sigwaitinfo(set, std::ptr::null_mut()) };
            if ENDING.contains(&signal) {
                // SAFETY: a child that nobody else has waited for.
                unsafe { libc::kill(pid, signal) };
            }
        }
    }
}

/// Waits until whatever the work left running has ended, which the kernel told it to.
fn end_orphans() {
    let start = Instant::now();
    let mut killed = false;
    while start.elapsed() < 2 * PATIENCE {
        let mut status = 0;
        // SAFETY: the status is ours.
        match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) } {
            -1 => return,
            0 => std::thread::sleep(Duration::from_millis(2)),
            _ => continue,
        }
        if !killed && start.elapsed() > PATIENCE {
            killed = true;
            for pid in children() {
                // SAFETY: our own children, which nobody else has waited for.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
    }
}

fn children() -> Vec<i32> {
    let text = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
