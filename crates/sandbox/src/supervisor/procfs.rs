//! `/proc/self` where there is no `/proc`.
//!
//! In a container that may not mount, the sandbox's `/proc` is a directory with a few
//! static files. What programs need most of the real one are the links to their own
//! open files (`/dev/stderr`, `/dev/fd/63`, `/proc/self/fd/3`) and `/proc/self/exe`: calls
//! that name such a path are carried out here, on the container's `/proc`.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd};

use super::Worker;
use super::place::of_self;
use super::tracee::Tracee;
use super::xattr::{NAME_MAX, put};
use crate::seccomp::abi::Sys;
use crate::seccomp::notify::{self, Reply};
use crate::sys::{self, check, errno};

/// Which argument of a call is a path, and whether links in it are followed.
fn path_argument(sys: Sys, t: &Tracee<'_>) -> Option<(u64, bool)> {
    use Sys::*;
    let follow = |flags: u32, flag: i32| flags & flag as u32 == 0;
    let nofollow = libc::AT_SYMLINK_NOFOLLOW;
    Some(match sys {
        Open => (t.arg(0), follow(t.int(1), libc::O_NOFOLLOW)),
        Openat => (t.arg(1), follow(t.int(2), libc::O_NOFOLLOW)),
        Creat | Stat | Access | Chmod | Statfs => (t.arg(0), true),
        Lstat | Readlink => (t.arg(0), false),
        Fstatat => (t.arg(1), follow(t.int(3), nofollow)),
        Statx => (t.arg(1), follow(t.int(2), nofollow)),
        Readlinkat => (t.arg(1), false),
        Faccessat | Fchmodat => (t.arg(1), true),
        Utimensat => (t.arg(1), follow(t.int(3), nofollow)),
        Setxattr | Getxattr | Listxattr | Removexattr => (t.arg(0), true),
        Linkat => (t.arg(1), !follow(t.int(4), libc::AT_SYMLINK_FOLLOW)),
        _ => return None,
    })
}

/// Calls on `/proc` itself that only want to know what kind of file system it is.
fn asks_whether(sys: Sys, t: &Tracee<'_>) -> bool {
    let only_path = |flags: i32| flags & libc::O_PATH != 0;
    match sys {
        Sys::Statfs => true,
        Sys::Open => only_path(t.fd(1)),
        Sys::Openat => only_path(t.fd(2)),
        _ => false,
    }
}

/// A setting of the kernel that is only read, such as the boot ID or a random UUID. The
/// host name is not one of them: the sandbox has its own.
fn kernel_setting(sys: Sys, t: &Tracee<'_>, path: &[u8]) -> Option<Vec<u8>> {
    let reads = |flags: i32| flags & (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) == 0;
    let read_only = match sys {
        Sys::Open => reads(t.fd(1)),
        Sys::Openat => reads(t.fd(2)),
        _ => false,
    };
    let below = path.strip_prefix(b"/proc/sys/")?;
    let leads_out = below.split(|b| *b == b'/').any(|name| name == b"..");
    let ours = below == b"kernel/hostname";
    (read_only && !leads_out && !ours).then(|| [b"../sys/", below].concat())
}

impl Worker {
    /// Answers a call whose path means the caller's own `/proc` entry; `None` if it does not.
    pub(super) fn own_proc(&mut self, sys: Sys, t: &Tracee<'_>) -> Option<Reply> {
        use Sys::*;
        let (address, follow) = path_argument(sys, t)?;
        if address == 0 {
            return None;
        }
        let path = t.path(address)?;
        let below = match path.to_bytes() {
            // How programs find out whether there is a /proc.
            b"/proc" | b"/proc/" if asks_whether(sys, t) => b"..".to_vec(),
            path => match of_self(path, follow) {
                Some(below) => below,
                None => kernel_setting(sys, t, path)?,
            },
        };
        let link = self.resolver.proc_path(t, &below)?;
        let (proc, name) = (self.resolver.proc().as_raw_fd(), link.as_ptr());
        // SAFETY (all calls): a live descriptor and a terminated path.
        let done = match sys {
            Stat | Lstat | Fstatat | Statx => return self.stat_own(sys, t),
            Open | Openat | Creat => return Some(self.open_own(sys, t, &link)),
            Readlink | Readlinkat => return self.read_own_link(sys, t, &link),
            Statfs => return Some(self.statfs_own(t, &link)),
            Linkat => return self.link_own(t, &link),
            Setxattr => return self.set_xattr(sys, t).or_else(|| self.set_own_xattr(t, &link)),
            Getxattr => return self.get_xattr(sys, t).or_else(|| self.get_own_xattr(t, &link)),
            Listxattr => return self.list_xattr(sys, t).or_else(|| self.list_own_xattr(t, &link)),
            Removexattr => {
                return self.remove_xattr(sys, t).or_else(|| self.remove_own_xattr(t, &link));
            }
            // SAFETY: see above.
            Access => unsafe { libc::faccessat(proc, name, t.fd(1), 0) },
            // SAFETY: see above.
            Faccessat => unsafe { libc::faccessat(proc, name, t.fd(2), 0) },
            // SAFETY: see above.
            Chmod => unsafe { libc::fchmodat(proc, name, t.int(1), 0) },
            // SAFETY: see above.
            Fchmodat => unsafe { libc::fchmodat(proc, name, t.int(2), 0) },
            _ => return self.set_own_times(t, &link),
        };
        Some(reply_of(done.into()))
    }

    fn open_own(&self, sys: Sys, t: &Tracee<'_>, link: &CStr) -> Reply {
        let flags = match sys {
            Sys::Open => t.fd(1),
            Sys::Creat => libc::O_WRONLY | libc::O_TRUNC,
            _ => t.fd(2),
        };
        // Opening a pipe may wait for its other end, for which nobody waits here.
        let safe = flags & !(libc::O_CREAT | libc::O_EXCL) | libc::O_NONBLOCK | libc::O_NOCTTY;
        match sys::open_path(self.resolver.proc().as_raw_fd(), link, safe, 0) {
            Ok(file) => {
                if flags & (libc::O_NONBLOCK | libc::O_PATH) == 0 {
                    let blocking = rustix::fs::fcntl_getfl(&file).and_then(|now| {
                        rustix::fs::fcntl_setfl(&file, now - rustix::fs::OFlags::NONBLOCK)
                    });
                    if let Err(e) = blocking {
                        return Reply::Errno(e.raw_os_error());
                    }
                }
                let close_on_exec = flags & libc::O_CLOEXEC != 0;
                notify::reply_with_fd(t.listener(), t.id(), file.as_fd(), close_on_exec)
            }
            Err(e) => Reply::Errno(errno(&e)),
        }
    }

    fn read_own_link(&self, sys: Sys, t: &Tracee<'_>, link: &CStr) -> Option<Reply> {
        let (buffer, size) = match sys {
            Sys::Readlink => (t.arg(1), t.int(2)),
            _ => (t.arg(2), t.int(3)),
        };
        let read = |path: &CStr| rustix::fs::readlinkat(self.resolver.proc(), path, Vec::new());
        let mut target = match read(link) {
            Ok(target) => target.into_bytes(),
            Err(e) => return Some(Reply::Errno(e.raw_os_error())),
        };
        // As seen from inside.
        let root = read(&self.resolver.proc_path(t, b"root")?).ok()?.into_bytes();
        if root != b"/"
            && let Some(inside) = target.strip_prefix(&root[..])
        {
            target = if inside.is_empty() { b"/".to_vec() } else { inside.to_vec() };
        }
        target.truncate(size as usize);
        let written = t.write(buffer, &target);
        Some(written.map_or_else(Reply::Errno, |()| Reply::Value(target.len() as i64)))
    }

    fn statfs_own(&self, t: &Tracee<'_>, link: &CStr) -> Reply {
        let result = sys::open_path(self.resolver.proc().as_raw_fd(), link, libc::O_PATH, 0)
            .and_then(|fd| {
                // SAFETY: all-zero is a valid `statfs`.
                let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
                // SAFETY: a live descriptor; the structure is ours.
                check(unsafe { libc::fstatfs(fd.as_raw_fd(), &mut stat) }.into()).map(|_| stat)
            });
        match result.map(|stat| t.write(t.arg(1), super::stat::bytes_of(&stat))) {
            Ok(Ok(())) => Reply::Value(0),
            Ok(Err(errno)) => Reply::Errno(errno),
            Err(e) => Reply::Errno(errno(&e)),
        }
    }

    /// Gives an unnamed file a name: `open(2)`, `O_TMPFILE`.
    fn link_own(&mut self, t: &Tracee<'_>, link: &CStr) -> Option<Reply> {
        let path = t.path(t.arg(3))?;
        let (parent, name) = self.resolver.parent(t, t.fd(2), path.to_bytes())?;
        let proc = self.resolver.proc().as_raw_fd();
        let flags = libc::AT_SYMLINK_FOLLOW;
        // SAFETY: live descriptors and terminated paths.
        let done =
            unsafe { libc::linkat(proc, link.as_ptr(), parent.as_raw_fd(), name.as_ptr(), flags) };
        Some(reply_of(done.into()))
    }

    /// Calls `f` with a path, good for this thread, of the file behind the link.
    fn with_own<T>(
        &self,
        link: &CStr,
        f: impl FnOnce(&CStr) -> std::io::Result<T>,
    ) -> std::io::Result<T> {
        let fd = sys::open_path(self.resolver.proc().as_raw_fd(), link, libc::O_PATH, 0)?;
        self.resolver.with_path(fd.as_fd(), f)
    }

    fn set_own_xattr(&self, t: &Tracee<'_>, link: &CStr) -> Option<Reply> {
        let name = t.string(t.arg(1), NAME_MAX)?;
        let len = usize::try_from(t.arg(3)).ok().filter(|len| *len <= sys::XATTR_MAX)?;
        let value = t.read(t.arg(2), len)?;
        let done = self.with_own(link, |path| {
            let (path, name, flags) = (path.as_ptr(), name.as_ptr(), t.fd(4));
            // SAFETY: terminated strings; value and its length belong together.
            let done = unsafe { libc::setxattr(path, name, value.as_ptr().cast(), len, flags) };
            check(done.into())
        });
        Some(done.map_or_else(|e| Reply::Errno(errno(&e)), |_| Reply::Value(0)))
    }

    fn get_own_xattr(&self, t: &Tracee<'_>, link: &CStr) -> Option<Reply> {
        let name = t.string(t.arg(1), NAME_MAX)?;
        Some(match self.with_own(link, |path| sys::get_xattr(path, &name)) {
            Ok(value) => put(t, &value, t.arg(2), t.arg(3)),
            Err(e) => Reply::Errno(errno(&e)),
        })
    }

    fn list_own_xattr(&self, t: &Tracee<'_>, link: &CStr) -> Option<Reply> {
        Some(match self.with_own(link, sys::list_xattr) {
            Ok(names) => {
                let list: Vec<u8> = names.into_iter().flat_map(|n| [n, vec![0]].concat()).collect();
                put(t, &list, t.arg(1), t.arg(2))
            }
            Err(e) => Reply::Errno(errno(&e)),
        })
    }

    fn remove_own_xattr(&self, t: &Tracee<'_>, link: &CStr) -> Option<Reply> {
        let name = t.string(t.arg(1), NAME_MAX)?;
        let done = self.with_own(link, |path| sys::remove_xattr(path, &name));
        Some(done.map_or_else(|e| Reply::Errno(errno(&e)), |()| Reply::Value(0)))
    }

    fn set_own_times(&self, t: &Tracee<'_>, link: &CString) -> Option<Reply> {
        let bytes = match t.arg(2) {
            0 => None,
            at => Some(t.read(at, 32)?),
        };
        let word = |i: usize| {
            let bytes = bytes.as_ref()?;
            Some(i64::from_ne_bytes(bytes[8 * i..8 * i + 8].try_into().ok()?))
        };
        let time = |i| Some(libc::timespec { tv_sec: word(i)?, tv_nsec: word(i + 1)? });
        let times = time(0).zip(time(2)).map(|(accessed, modified)| [accessed, modified]);
        let pointer = times.as_ref().map_or(std::ptr::null(), |times| times.as_ptr());
        let proc = self.resolver.proc().as_raw_fd();
        // SAFETY: two times of this function, or null; a terminated path.
        let done = unsafe { libc::utimensat(proc, link.as_ptr(), pointer, 0) };
        Some(reply_of(done.into()))
    }
}

fn reply_of(done: i64) -> Reply {
    match check(done) {
        Ok(value) => Reply::Value(value),
        Err(e) => Reply::Errno(errno(&e)),
    }
}
