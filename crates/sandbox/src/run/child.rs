//! Between `clone` and `exec`: the sandbox's first process and the command.
//!
//! Only system calls on what the [`Plan`] holds: no allocation, no lock, no panic.
//! glibc's wrappers for changing ids are avoided as well: they would wait for threads
//! that exist in the parent only.
//!
//! The first process ("init") mounts, starts the command, waits, reports how it ended,
//! and exits, which ends everything else in its pid namespace. Where there is no such
//! namespace it kills what is left itself. Parent-death signals make the same happen
//! when mkgold is killed.

use std::ffi::CStr;
use std::os::fd::RawFd;

use super::plan::{ATTR_RDONLY, Fds, MAX_CLONES, Plan, Step};
use crate::seccomp::notify;
use crate::sys;

/// What goes through the status pipe: what happened, where, and errno or wait status.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub kind: u32,
    pub step: u32,
    pub code: i32,
}

/// A step of the plan failed; `code` is the errno.
pub(crate) const STEP_FAILED: u32 = 1;
/// Something after the steps failed; `step` is one of the `AT_*`.
pub(crate) const START_FAILED: u32 = 2;
/// The command ended; `code` is its wait status.
pub(crate) const ENDED: u32 = 3;

pub(crate) const AT_FORK: u32 = 0;
pub(crate) const AT_CHROOT: u32 = 1;
pub(crate) const AT_CWD: u32 = 2;
pub(crate) const AT_SECCOMP: u32 = 3;
pub(crate) const AT_IDS: u32 = 4;
pub(crate) const AT_EXEC: u32 = 5;
pub(crate) const AT_STDIO: u32 = 6;

const AT_EMPTY_PATH: i32 = libc::AT_EMPTY_PATH;
const AT_RECURSIVE: i32 = 0x8000;
const OPEN_TREE_CLONE: i32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

fn errno() -> i32 {
    // SAFETY: reads the thread's errno.
    unsafe { *libc::__errno_location() }
}

fn ok(result: i64) -> Result<i64, i32> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

fn tell(fd: RawFd, kind: u32, step: u32, code: i32) {
    let report = Report { kind, step, code };
    // SAFETY: writes a plain structure of this length; a pipe takes it whole.
    unsafe { libc::write(fd, (&report as *const Report).cast(), size_of::<Report>()) };
}

fn exit(code: i32) -> ! {
    // SAFETY: ends the process without running anything of the parent's.
    unsafe { libc::_exit(code) }
}

/// A new process; only raw, so that glibc's own bookkeeping is not touched.
pub(crate) fn clone_process(flags: u64) -> Result<i32, i32> {
    let flags = flags | libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM the child has a copy of everything, its stack included.
    ok(unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) })
        .map(|pid| pid as i32)
}

/// The sandbox's first process.
pub(crate) fn init(plan: &Plan, fds: &Fds) -> ! {
    let death = if plan.must_kill { libc::SIGTERM } else { libc::SIGKILL };
    // SAFETY: plain system calls; the signal set is ours.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, death, 0, 0, 0);
        if plan.must_kill {
            libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
            let mut set: libc::sigset_t = std::mem::zeroed();
            for signal in [libc::SIGCHLD, libc::SIGTERM] {
                libc::sigaddset(&mut set, signal);
            }
            libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
        }
        if plan.interactive {
            for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP] {
                libc::signal(signal, libc::SIG_IGN);
            }
        } else {
            libc::setsid();
        }
        let mut byte = 0u8;
        // No byte: mkgold died before the death signal was set.
        if libc::read(fds.go, (&mut byte as *mut u8).cast(), 1) != 1 {
            exit(1);
        }
    }
    close_others(fds);
    let mut clones = [-1; MAX_CLONES];
    for (i, step) in plan.steps.iter().enumerate() {
        if let Err(errno) = carry_out(step, &mut clones) {
            tell(fds.status, STEP_FAILED, i as u32, errno);
            exit(1);
        }
    }
    for fd in clones {
        if fd >= 0 {
            // SAFETY: a descriptor that this process opened.
            unsafe { libc::close(fd) };
        }
    }
    match clone_process(0) {
        Ok(0) => payload(plan, fds),
        Ok(pid) => wait_for(plan, fds, pid),
        Err(errno) => tell(fds.status, START_FAILED, AT_FORK, errno),
    }
    exit(0)
}

/// Closes what belongs to other parts of mkgold: caches' locks, other pipes.
fn close_others(fds: &Fds) {
    let [a, b, c] = fds.stdio;
    let mut keep = [a, b, c, fds.status, fds.listener];
    keep.sort_unstable();
    let mut from = 3u32;
    let close = |first: u32, last: u32| {
        if first <= last {
            // SAFETY: closing descriptors that this process does not use.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    };
    for fd in keep {
        if let Ok(fd) = u32::try_from(fd) {
            close(from, fd.saturating_sub(1));
            from = from.max(fd + 1);
        }
    }
    close(from, u32::MAX);
}

fn carry_out(step: &Step, clones: &mut [i32; MAX_CLONES]) -> Result<(), i32> {
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY (all calls below): terminated strings of the plan, plain numbers, and
    // structures on this stack.
    match step {
        Step::Private => {
            let flags = libc::MS_REC | libc::MS_PRIVATE;
            // SAFETY: see above.
            ok(unsafe { libc::mount(none, c"/".as_ptr(), none, flags, none.cast()) }.into())?;
        }
        Step::Clone { slot, source, recursive, optional } => match open_tree(source, *recursive) {
            Ok(fd) => clones[*slot] = fd,
            Err(libc::ENOENT) if *optional => {}
            Err(errno) => return Err(errno),
        },
        Step::Attributes { slot, set } if clones[*slot] >= 0 => {
            set_attributes(clones[*slot], *set)?
        }
        Step::Attach { slot, target } if clones[*slot] >= 0 => attach(clones[*slot], target)?,
        Step::Attributes { .. } | Step::Attach { .. } => {}
        Step::Enter { dir } => enter(dir)?,
        Step::Leave => {
            // SAFETY: see above.
            ok(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) }.into())?;
            // SAFETY: see above.
            ok(unsafe { libc::chdir(c"/".as_ptr()) }.into())?;
        }
        Step::Mount { kind, target, flags, data, spare } => {
            let (kind, data) = (kind.as_ptr(), data.as_ptr().cast());
            // SAFETY: see above.
            let done = unsafe { libc::mount(kind, target.as_ptr(), kind, *flags, data) };
            match (ok(done.into()), spare) {
                (Err(libc::EPERM | libc::EACCES), Some(slot)) if clones[*slot] >= 0 => {
                    attach(clones[*slot], target)?
                }
                (result, _) => drop(result?),
            }
        }
        Step::Protect { path } => match open_tree(path, true) {
            Err(libc::ENOENT) => {}
            Err(errno) => return Err(errno),
            Ok(fd) => {
                set_attributes(fd, ATTR_RDONLY)?;
                attach(fd, path)?;
                // SAFETY: a descriptor that this function opened.
                unsafe { libc::close(fd) };
            }
        },
        other => make(other)?,
    }
    Ok(())
}

fn make(step: &Step) -> Result<(), i32> {
    let exists_is_fine = |result: Result<i64, i32>| match result {
        Err(libc::EEXIST) => Ok(()),
        other => other.map(drop),
    };
    // SAFETY (all calls below): terminated strings of the plan and plain numbers.
    match step {
        Step::Mkdir { path, mode } => {
            // SAFETY: see above.
            exists_is_fine(ok(unsafe { libc::mkdir(path.as_ptr(), *mode) }.into()))?;
        }
        Step::Touch { path } => {
            // For reading: a file that is there on a read-only file system will do.
            let flags = libc::O_CREAT | libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW;
            // SAFETY: see above.
            let fd = ok(unsafe { libc::open(path.as_ptr(), flags, 0o644) }.into())?;
            // SAFETY: a descriptor that this function opened.
            unsafe { libc::close(fd as i32) };
        }
        Step::Symlink { target, path } => {
            // SAFETY: see above.
            exists_is_fine(ok(unsafe { libc::symlink(target.as_ptr(), path.as_ptr()) }.into()))?;
        }
        Step::Device { path, major, minor } => {
            let (mode, device) = (libc::S_IFCHR | 0o666, libc::makedev(*major, *minor));
            // SAFETY: see above.
            ok(unsafe { libc::mknod(path.as_ptr(), mode, device) }.into())?;
            // SAFETY: see above. The umask may have taken bits away.
            ok(unsafe { libc::chmod(path.as_ptr(), 0o666) }.into())?;
        }
        Step::Hostname(name) => {
            // SAFETY: see above.
            ok(unsafe { libc::sethostname(name.as_ptr(), name.count_bytes()) }.into())?;
        }
        Step::Loopback => loopback(),
        Step::PidLimit(number) => {
            let path = c"/proc/sys/kernel/pid_max".as_ptr();
            // SAFETY: see above; before Linux 6.14 the file is the host's and, in a
            // user namespace, not writable.
            unsafe {
                let fd = libc::open(path, libc::O_WRONLY | libc::O_CLOEXEC);
                if fd >= 0 {
                    libc::write(fd, number.as_ptr().cast(), number.count_bytes());
                    libc::close(fd);
                }
            }
        }
        _ => return Err(libc::EINVAL),
    }
    Ok(())
}

fn open_tree(path: &CStr, recursive: bool) -> Result<i32, i32> {
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: a terminated string and numbers.
    ok(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
        .map(|fd| fd as i32)
}

fn attach(tree: i32, target: &CStr) -> Result<(), i32> {
    // SAFETY: terminated strings and numbers.
    ok(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree,
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

fn set_attributes(tree: i32, set: u64) -> Result<(), i32> {
    let attr = MountAttr { set, clear: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: a structure of the length that is passed.
    ok(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree,
            c"".as_ptr(),
            AT_EMPTY_PATH | AT_RECURSIVE,
            &attr,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

fn enter(dir: &CStr) -> Result<(), i32> {
    let here = c".".as_ptr();
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: terminated strings.
    unsafe {
        ok(libc::chdir(dir.as_ptr()).into())?;
        match ok(libc::syscall(libc::SYS_pivot_root, here, here)) {
            // The root of an initramfs cannot be pivoted away.
            Err(libc::EINVAL) => {
                ok(libc::mount(here, c"/".as_ptr(), none, libc::MS_MOVE, none.cast()).into())?;
                ok(libc::chroot(here).into())?;
            }
            other => drop(other?),
        }
    }
    Ok(())
}

fn loopback() {
    // SAFETY: the request structure is zeroed, named, and of the size ioctl expects.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return;
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        (request.ifr_name[0], request.ifr_name[1]) = (b'l' as libc::c_char, b'o' as libc::c_char);
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        libc::ioctl(fd, libc::SIOCSIFFLAGS as _, &request);
        libc::close(fd);
    }
}

/// Becomes the command.
fn payload(plan: &Plan, fds: &Fds) -> ! {
    let (at, errno) = match start(plan, fds) {
        Ok(never) => match never {},
        Err(failed) => failed,
    };
    tell(fds.status, START_FAILED, at, errno);
    exit(127)
}

enum Never {}

fn start(plan: &Plan, fds: &Fds) -> Result<Never, (u32, i32)> {
    let at = |step: u32| move |errno: i32| (step, errno);
    // SAFETY: terminated strings of the plan, and numbers.
    unsafe {
        if plan.must_kill {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        }
        if !plan.interactive {
            libc::setsid();
        }
        for (to, from) in fds.stdio.into_iter().enumerate() {
            ok(libc::dup2(from, to as i32).into()).map_err(at(AT_STDIO))?;
        }
        if plan.interactive {
            // A process group that a shell inside can name: that of the caller is not
            // in its pid namespace. The caller takes the terminal back afterwards.
            libc::signal(libc::SIGTTOU, libc::SIG_IGN);
            libc::setpgid(0, 0);
            libc::tcsetpgrp(0, libc::getpid());
        }
        reset_signals();
        if let Some(root) = &plan.chroot {
            ok(libc::chroot(root.as_ptr()).into()).map_err(at(AT_CHROOT))?;
        }
        ok(libc::chdir(plan.cwd.as_ptr()).into()).map_err(at(AT_CWD))?;
        libc::umask(0o022);
        limit(libc::RLIMIT_CORE as i32, 0);
        limit(libc::RLIMIT_LOCKS as i32, if plan.creds == 0 { u64::MAX } else { plan.creds });
        if plan.max_processes != u64::MAX {
            limit(libc::RLIMIT_NPROC as i32, plan.max_processes);
        }
    }
    confine(plan, fds).map_err(at(AT_SECCOMP))?;
    sys::limit_capabilities(plan.keep_capabilities);
    if let Some((uid, gid)) = plan.ids {
        change_ids(uid, gid).map_err(at(AT_IDS))?;
    }
    let mut failed = libc::ENOENT;
    for program in &plan.candidates {
        // SAFETY: terminated strings and null-terminated arrays of the plan.
        unsafe { libc::execve(program.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr()) };
        match errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => failed = libc::EACCES,
            other => {
                failed = other;
                break;
            }
        }
    }
    Err((AT_EXEC, failed))
}

/// Raw calls: glibc's would first ask threads to follow that are not there.
fn change_ids(uid: u32, gid: u32) -> Result<(), i32> {
    let none = std::ptr::null::<u32>();
    // SAFETY: numbers, and a null pointer for zero groups.
    unsafe {
        ok(libc::syscall(libc::SYS_setgroups, 0, none))?;
        ok(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        ok(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

fn limit(resource: i32, value: u64) {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structures are ours. Lowering a soft limit needs no privilege; where
    // even that is refused the limit stays as it was.
    unsafe {
        libc::getrlimit(resource as _, &mut old);
        let new = libc::rlimit { rlim_cur: value.min(old.rlim_max), rlim_max: old.rlim_max };
        libc::setrlimit(resource as _, &new);
    }
}

/// Rust ignores SIGPIPE, and what is ignored stays so across exec.
fn reset_signals() {
    // SAFETY: default actions and an empty mask; unknown numbers are refused.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let set: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

fn confine(plan: &Plan, fds: &Fds) -> Result<(), i32> {
    let listener = match notify::install(&plan.filter, plan.listen) {
        // Without CAP_SYS_ADMIN a filter needs this promise.
        Err(libc::EACCES) => {
            // SAFETY: numbers only.
            unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            notify::install(&plan.filter, plan.listen)?
        }
        other => other?,
    };
    if plan.listen {
        send_fd(fds.listener, listener)?;
        // SAFETY: a descriptor that this function got.
        unsafe { libc::close(listener) };
    }
    Ok(())
}

/// Passes a descriptor through a Unix socket (`unix(7)`, `SCM_RIGHTS`).
fn send_fd(socket: RawFd, fd: RawFd) -> Result<(), i32> {
    #[repr(C)]
    struct Control {
        header: libc::cmsghdr,
        fd: RawFd,
        padding: u32,
    }
    let mut byte = 0u8;
    let mut vector = libc::iovec { iov_base: (&mut byte as *mut u8).cast(), iov_len: 1 };
    // SAFETY: all-zero is a valid `cmsghdr`.
    let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
    header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<RawFd>()) as _;
    (header.cmsg_level, header.cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
    let mut control = Control { header, fd, padding: 0 };
    // SAFETY: all-zero is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&mut vector, 1);
    message.msg_control = (&mut control as *mut Control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: the message points to structures on this stack that outlive the call.
    ok(unsafe { libc::sendmsg(socket, &message, 0) } as i64).map(drop)
}

/// Waits for the command, reaping what else ends.
fn wait_for(plan: &Plan, fds: &Fds, pid: i32) {
    if plan.must_kill {
        return super::reaper::wait_and_kill(fds, pid);
    }
    loop {
        let mut status = 0;
        // SAFETY: the status is ours.
        match ok(unsafe { libc::waitpid(-1, &mut status, 0) }.into()) {
            Ok(ended) if ended == i64::from(pid) => {
                tell(fds.status, ENDED, 0, status);
                return;
            }
            Ok(_) | Err(libc::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// For [`super::reaper`].
pub(super) fn tell_end(fds: &Fds, status: i32) {
    tell(fds.status, ENDED, 0, status);
}
