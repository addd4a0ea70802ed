//! System calls that neither std nor rustix offers, as thin safe functions.
//!
//! What it is not: policy. Nothing here decides anything.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Turns a raw system call's result into a `Result`.
pub(crate) fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The errno of an I/O error; `EIO` for one that did not come from the kernel.
pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// A handle of an inode as the file system gives it: changes when the inode
/// number is used again. `None` where the file system has none.
pub(crate) fn file_handle(fd: BorrowedFd<'_>) -> Option<Box<[u8]>> {
    const MAX: usize = 128;
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        data: [u8; MAX],
    }
    for flags in [libc::AT_EMPTY_PATH, libc::AT_EMPTY_PATH | AT_HANDLE_FID] {
        let mut handle = Handle { bytes: MAX as u32, kind: 0, data: [0; MAX] };
        let mut mount_id = 0i32;
        // SAFETY: the handle has room for the bytes it announces, the path is empty
        // and terminated, and both out-pointers live across the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_name_to_handle_at,
                fd.as_raw_fd(),
                c"".as_ptr(),
                &mut handle as *mut Handle,
                &mut mount_id as *mut i32,
                flags,
            )
        };
        if result == 0 {
            let len = (handle.bytes as usize).min(MAX);
            let kind = handle.kind.to_ne_bytes();
            return Some(kind.iter().chain(&handle.data[..len]).copied().collect());
        }
    }
    None
}

/// Since Linux 6.5: a handle good for comparison only, which more file systems have.
const AT_HANDLE_FID: i32 = 0x200;

/// `openat` relative to any directory, `AT_FDCWD` included.
pub(crate) fn open_path(dir: i32, path: &CStr, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    // SAFETY: the path is terminated and lives across the call.
    let fd = check(unsafe {
        i64::from(libc::openat(dir, path.as_ptr(), flags | libc::O_CLOEXEC, mode))
    })?;
    // SAFETY: the kernel just made this descriptor and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `fstatat`, giving the very structure that the kernel and libc share.
pub(crate) fn stat_at(dir: i32, path: &CStr, flags: i32) -> io::Result<libc::stat> {
    // SAFETY: all-zero is a valid `stat`.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the path is terminated; the structure is ours.
    check(i64::from(unsafe { libc::fstatat(dir, path.as_ptr(), &mut stat, flags) }))?;
    Ok(stat)
}

/// `statx`, giving the kernel's own structure.
pub(crate) fn statx_at(dir: i32, path: &CStr, flags: i32, mask: u32) -> io::Result<libc::statx> {
    // SAFETY: all-zero is a valid `statx`.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path is terminated; the structure is ours.
    check(i64::from(unsafe { libc::statx(dir, path.as_ptr(), flags, mask, &mut stat) }))?;
    Ok(stat)
}

/// Reads the extended attribute `name` of the file at `path`, links followed.
pub(crate) fn get_xattr(path: &CStr, name: &CStr) -> io::Result<Vec<u8>> {
    let mut value = vec![0u8; 256];
    loop {
        // SAFETY: the buffer has the length that is passed.
        let got = unsafe {
            libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
        };
        match check(got as i64) {
            Ok(len) => {
                value.truncate(len as usize);
                return Ok(value);
            }
            Err(e) if e.raw_os_error() == Some(libc::ERANGE) && value.len() < XATTR_MAX => {
                value.resize(XATTR_MAX, 0);
            }
            Err(e) => return Err(e),
        }
    }
}

/// The kernel's limit for one attribute and for the list of names.
pub(crate) const XATTR_MAX: usize = 65536;

/// The names of the extended attributes of the file at `path`, links followed.
pub(crate) fn list_xattr(path: &CStr) -> io::Result<Vec<Vec<u8>>> {
    let mut names = vec![0u8; 1024];
    loop {
        // SAFETY: the buffer has the length that is passed.
        let got = unsafe { libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
        match check(got as i64) {
            Ok(len) => {
                names.truncate(len as usize);
                let names = names.split(|b| *b == 0).filter(|n| !n.is_empty());
                return Ok(names.map(<[u8]>::to_vec).collect());
            }
            Err(e) if e.raw_os_error() == Some(libc::ERANGE) && names.len() < XATTR_MAX => {
                names.resize(XATTR_MAX, 0);
            }
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        }
    }
}

/// Sets an extended attribute of the file at `path`, links followed.
pub(crate) fn set_xattr(path: &CStr, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: value and its length belong together; the strings are terminated.
    let done = unsafe {
        libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    check(i64::from(done)).map(drop)
}

/// Removes an extended attribute of the file at `path`, links followed.
pub(crate) fn remove_xattr(path: &CStr, name: &CStr) -> io::Result<()> {
    // SAFETY: both strings are terminated.
    check(i64::from(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) })).map(drop)
}

/// The capability sets of this process, from `capget`: effective, permitted.
pub(crate) fn capabilities() -> (u64, u64) {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 takes two data structures, which are ours.
    unsafe { libc::syscall(libc::SYS_capget, &mut header, data.as_mut_ptr()) };
    let wide = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    (wide(data[0].effective, data[1].effective), wide(data[0].permitted, data[1].permitted))
}

/// Reduces effective and permitted capabilities to `keep`, empties inheritable.
/// Async-signal-safe: used between fork and exec.
pub(crate) fn limit_capabilities(keep: u64) -> i32 {
    let (effective, permitted) = capabilities();
    let halves = |set: u64, i: u32| (set >> (32 * i)) as u32;
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    for (i, half) in data.iter_mut().enumerate() {
        half.effective = halves(effective & keep, i as u32);
        half.permitted = halves(permitted & keep, i as u32);
    }
    for cap in 0..64 {
        if keep & (1 << cap) == 0 {
            // SAFETY: no pointers; an unknown capability is refused harmlessly.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, cap as libc::c_ulong, 0, 0, 0) };
        }
    }
    // SAFETY: version 3 takes two data structures, which are ours.
    unsafe { libc::syscall(libc::SYS_capset, &mut header, data.as_ptr()) as i32 }
}

const CAP_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Capability numbers (`linux/capability.h`).
pub(crate) mod cap {
    pub const CHOWN: u32 = 0;
    pub const DAC_OVERRIDE: u32 = 1;
    pub const FOWNER: u32 = 3;
    pub const FSETID: u32 = 4;
    pub const KILL: u32 = 5;
    pub const SETGID: u32 = 6;
    pub const SETUID: u32 = 7;
    pub const SETPCAP: u32 = 8;
    pub const NET_BIND_SERVICE: u32 = 10;
    pub const NET_RAW: u32 = 13;
    pub const SYS_CHROOT: u32 = 18;
    pub const SYS_PTRACE: u32 = 19;
    pub const MKNOD: u32 = 27;
    pub const AUDIT_WRITE: u32 = 29;
    pub const SETFCAP: u32 = 31;
}
