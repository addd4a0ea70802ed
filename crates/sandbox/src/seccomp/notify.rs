//! The kernel's side of user notifications: `seccomp_unotify(2)`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use super::filter::Instruction;
use crate::sys::check;

/// `struct seccomp_notif`, with `struct seccomp_data` in it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Notification {
    pub id: u64,
    pub pid: u32,
    pub flags: u32,
    pub nr: i32,
    pub arch: u32,
    pub instruction_pointer: u64,
    pub args: [u64; 6],
}

#[repr(C)]
struct Response {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

#[repr(C)]
struct AddFd {
    id: u64,
    flags: u32,
    srcfd: u32,
    newfd: u32,
    newfd_flags: u32,
}

const IOCTL_RECV: u64 = 0xc050_2100;
const IOCTL_SEND: u64 = 0xc018_2101;
const IOCTL_ID_VALID: u64 = 0x4008_2102;
const IOCTL_ADDFD: u64 = 0x4018_2103;
const IOCTL_SET_FLAGS: u64 = 0x4008_2104;

const FLAG_CONTINUE: u32 = 1;
const ADDFD_FLAG_SEND: u32 = 2;
const SYNC_WAKE_UP: u64 = 1;

const SET_MODE_FILTER: u32 = 1;
const FILTER_FLAG_NEW_LISTENER: u64 = 1 << 3;
const FILTER_FLAG_WAIT_KILLABLE_RECV: u64 = 1 << 5;

/// Asks that the kernel hand the CPU straight to the other side. Best effort: it is
/// a matter of speed only (Linux 6.6).
pub(crate) fn wake_up_synchronously(listener: BorrowedFd<'_>) {
    // SAFETY: takes its argument by value.
    unsafe { libc::ioctl(listener.as_raw_fd(), IOCTL_SET_FLAGS as _, SYNC_WAKE_UP) };
}

/// The next notification. `None` if the caller went away before it was read.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Notification>> {
    let mut notification = Notification::default();
    // SAFETY: the structure is the kernel's and zeroed, as it asks.
    let done = unsafe { libc::ioctl(listener.as_raw_fd(), IOCTL_RECV as _, &mut notification) };
    match check(i64::from(done)) {
        Ok(_) => Ok(Some(notification)),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// True if the call still waits for its answer: only then does its pid mean the same
/// process as when it was received.
pub(crate) fn still_valid(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: reads eight bytes.
    unsafe { libc::ioctl(listener.as_raw_fd(), IOCTL_ID_VALID as _, &id) == 0 }
}

/// How a call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The kernel carries it out as if nobody had looked.
    Continue,
    /// It returns this value.
    Value(i64),
    /// It fails with this errno.
    Errno(i32),
    /// It was answered already (with a file descriptor).
    Sent,
}

/// Answers a call. A caller that has gone in the meantime is no error.
pub(crate) fn reply(listener: BorrowedFd<'_>, id: u64, reply: Reply) {
    let (val, error, flags) = match reply {
        Reply::Continue => (0, 0, FLAG_CONTINUE),
        Reply::Value(value) => (value, 0, 0),
        Reply::Errno(errno) => (0, -errno, 0),
        Reply::Sent => return,
    };
    let response = Response { id, val, error, flags };
    // SAFETY: the structure is the kernel's.
    unsafe { libc::ioctl(listener.as_raw_fd(), IOCTL_SEND as _, &response) };
}

/// Puts a copy of `fd` into the caller and lets its call return that descriptor.
pub(crate) fn reply_with_fd(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: BorrowedFd<'_>,
    close_on_exec: bool,
) -> Reply {
    let mut add = AddFd {
        id,
        flags: ADDFD_FLAG_SEND,
        srcfd: fd.as_raw_fd() as u32,
        newfd: 0,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    // SAFETY: the structure is the kernel's.
    if unsafe { libc::ioctl(listener.as_raw_fd(), IOCTL_ADDFD as _, &mut add) } >= 0 {
        return Reply::Sent;
    }
    // Before Linux 5.14 adding and answering were two steps.
    add.flags = 0;
    // SAFETY: as above.
    match check(i64::from(unsafe { libc::ioctl(listener.as_raw_fd(), IOCTL_ADDFD as _, &add) })) {
        Ok(fd) => Reply::Value(fd),
        Err(e) => Reply::Errno(crate::sys::errno(&e)),
    }
}

/// Installs the filter in the calling thread; returns the listener, or -1 if none is
/// wanted. Async-signal-safe: called between fork and exec. The error is an errno.
pub(crate) fn install(program: &[Instruction], listen: bool) -> Result<RawFd, i32> {
    let program =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    let set = |flags: u64| {
        // SAFETY: the program outlives the call; seccomp(2) only reads it.
        unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &program) }
    };
    // SAFETY: reads the thread's errno.
    let errno = || unsafe { *libc::__errno_location() };
    if !listen {
        return if set(0) == 0 { Ok(-1) } else { Err(errno()) };
    }
    // Without the second flag (before Linux 5.19) a signal may interrupt and restart a
    // call that has been carried out already.
    let mut fd = set(FILTER_FLAG_NEW_LISTENER | FILTER_FLAG_WAIT_KILLABLE_RECV);
    if fd < 0 && errno() == libc::EINVAL {
        fd = set(FILTER_FLAG_NEW_LISTENER);
    }
    if fd < 0 { Err(errno()) } else { Ok(fd as RawFd) }
}
