//! Answers the system calls that the ledger knows better than the kernel.
//!
//! Data flow: the kernel stops a process of the sandbox in such a call and sends a
//! notification; one thread of this process receives it, looks at the caller's memory
//! and files through `/proc/PID`, consults or changes the [`Ledger`], and answers: with a
//! value, an error, or "carry on" when the kernel's own answer is right.
//!
//! What it is not: a security boundary. A process that changes its memory while it
//! waits fools itself only: nothing is done here that the process could not do.
//!
//! Whatever cannot be resolved is handed back to the kernel, which then makes the
//! right error of it.

mod creds;
mod make;
mod owner;
mod place;
mod procfs;
mod stat;
mod tracee;
mod xattr;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use crate::ledger::Ledger;
use crate::seccomp::Watch;
use crate::seccomp::abi::{self, Sys};
use crate::seccomp::notify::{self, Notification, Reply};

pub(crate) use creds::{CredTable, Creds};
pub(crate) use make::placeholder;
use place::Resolver;
pub(crate) use stat::HOSTNAME;
use tracee::Tracee;
pub(crate) use xattr::in_ledger;

/// What the supervisor is to answer itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Policy {
    /// Which calls come here.
    pub watch: Watch,
    /// `security.capability` cannot be stored in the file system.
    pub capabilities: bool,
    /// Without CAP_SYS_PTRACE only processes of one's own user can be looked into.
    pub no_ptrace: bool,
    /// `user.*` attributes cannot be stored in the file system.
    pub user_xattrs: bool,
}

/// A running supervisor. Dropping it stops its thread.
pub(crate) struct Supervisor {
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Starts a thread that waits for the listener and then answers its calls.
    pub(crate) fn start(
        policy: Policy,
        ledger: Arc<Ledger>,
        creds: Arc<CredTable>,
        listener: mpsc::Receiver<OwnedFd>,
    ) -> io::Result<Supervisor> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let stopped = stop.try_clone()?;
        let resolver = Resolver::new()?;
        let thread = std::thread::Builder::new().name("supervisor".into()).spawn(move || {
            if let Ok(listener) = listener.recv() {
                let mut worker = Worker { policy, ledger, creds, resolver, listener };
                worker.resolver.own_root();
                worker.serve(stopped.as_fd());
            }
        })?;
        Ok(Supervisor { stop, thread: Some(thread) })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The real and file-system ids of another user, worn by this thread for as long as
/// this lives. Real ids are what the kernel compares before it lets one process look
/// into another (`ptrace(2)`, "access mode checking").
struct Worn;

impl Worn {
    fn of(resolver: &Resolver, t: &Tracee<'_>) -> Option<Worn> {
        let uid = resolver.status(t, "Uid", 10)?;
        let gid = resolver.status(t, "Gid", 10)?;
        if uid == 0 {
            return None;
        }
        Worn::change(uid, gid);
        Some(Worn)
    }

    /// Raw calls: glibc's would change every thread.
    fn change(uid: u32, gid: u32) {
        const SAME: u32 = u32::MAX;
        // SAFETY: numbers only; concerns this thread alone.
        unsafe {
            libc::syscall(libc::SYS_setresgid, gid, SAME, SAME);
            libc::syscall(libc::SYS_setresuid, uid, SAME, SAME);
            libc::syscall(libc::SYS_setfsgid, gid);
            libc::syscall(libc::SYS_setfsuid, uid);
        }
    }
}

impl Drop for Worn {
    fn drop(&mut self) {
        // First of all: this is what gives back the capabilities that going to another
        // file-system user took (`capabilities(7)`).
        // SAFETY: a number; concerns this thread alone.
        unsafe { libc::syscall(libc::SYS_setfsuid, 0) };
        Worn::change(0, 0);
    }
}

struct Worker {
    policy: Policy,
    ledger: Arc<Ledger>,
    creds: Arc<CredTable>,
    resolver: Resolver,
    listener: OwnedFd,
}

impl Worker {
    fn serve(&mut self, stop: BorrowedFd<'_>) {
        notify::wake_up_synchronously(self.listener.as_fd());
        loop {
            let mut fds =
                [PollFd::new(&self.listener, PollFlags::IN), PollFd::new(&stop, PollFlags::IN)];
            if poll(&mut fds, None).is_err_and(|e| e != rustix::io::Errno::INTR) {
                return;
            }
            let (asked, told) = (fds[0].revents(), fds[1].revents());
            if asked.contains(PollFlags::IN) {
                match notify::receive(self.listener.as_fd()) {
                    Ok(Some(notification)) => self.answer(&notification),
                    Ok(None) => {}
                    Err(_) => return,
                }
            } else if asked.intersects(PollFlags::HUP | PollFlags::ERR) || !told.is_empty() {
                return;
            }
        }
    }

    fn answer(&mut self, notification: &Notification) {
        let listener = self.listener.as_fd().as_raw_fd();
        // SAFETY: the listener is open as long as `self`, and nothing below closes it.
        let listener = unsafe { BorrowedFd::borrow_raw(listener) };
        let tracee = Tracee::new(notification, listener);
        let _worn = match self.policy.no_ptrace {
            true => Worn::of(&self.resolver, &tracee),
            false => None,
        };
        let reply = match abi::decode(notification.arch, notification.nr) {
            Some(sys) => self.dispatch(sys, &tracee).unwrap_or(Reply::Continue),
            None => Reply::Continue,
        };
        notify::reply(listener, notification.id, reply);
    }

    /// `None` means: could not be looked at, let the kernel decide.
    fn dispatch(&mut self, sys: Sys, t: &Tracee<'_>) -> Option<Reply> {
        use Sys::*;
        if self.policy.watch.proc
            && let Some(reply) = self.own_proc(sys, t)
        {
            return Some(reply);
        }
        match sys {
            Stat | Lstat | Fstat | Fstatat | Statx => self.stat(sys, t),
            Chown | Lchown | Fchown | Fchownat => self.chown(sys, t),
            Mknod | Mknodat => self.mknod(sys, t),
            Open | Creat | Openat => self.open(sys, t),
            Mkdir | Mkdirat => self.mkdir(sys, t),
            Symlink | Symlinkat => self.symlink(sys, t),
            Setxattr | Lsetxattr | Fsetxattr => self.set_xattr(sys, t),
            Getxattr | Lgetxattr | Fgetxattr => self.get_xattr(sys, t),
            Listxattr | Llistxattr | Flistxattr => self.list_xattr(sys, t),
            Removexattr | Lremovexattr | Fremovexattr => self.remove_xattr(sys, t),
            Setuid | Setgid | Setreuid | Setregid | Setresuid | Setresgid | Setfsuid | Setfsgid
            | Setgroups | Getuid | Geteuid | Getgid | Getegid | Getresuid | Getresgid
            | Getgroups | Prctl | Exec => creds::call(&self.creds, sys, t),
            Chroot | PivotRoot | Unshare | Setns => {
                self.resolver.roots_vary();
                None
            }
            Uname => stat::uname(t),
            Mmap => self.mapped(t),
            Readlink | Readlinkat | Access | Faccessat | Linkat | Chmod | Fchmodat | Utimensat
            | Statfs => None,
            XattrAt | Openat2 | Socket | Ioctl | IoUring | Sync | Old => None,
        }
    }

    /// A file may now change without its times doing so: remember that.
    fn mapped(&mut self, t: &Tracee<'_>) -> Option<Reply> {
        let place = self.resolver.descriptor(t, t.fd(4))?;
        let stat = place.statx(libc::STATX_INO).ok()?;
        self.ledger.touch(crate::ledger::Key::of(&stat));
        None
    }
}
