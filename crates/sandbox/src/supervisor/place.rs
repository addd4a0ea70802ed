//! Where a path of the sandbox leads, seen from outside.
//!
//! Paths are resolved as the caller would: from its root, its working directory, its
//! descriptors, with its mounts. The supervisor's thread changes its own root to that of
//! the sandbox for this; relative paths start at the magic links below `/proc/PID`.
//! Where a thread cannot have a root of its own (containers that refuse `unshare`),
//! `openat2` with `RESOLVE_IN_ROOT` does the same, a little slower.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::tracee::Tracee;
use crate::ledger::Identity;
use crate::sys;

/// A file of the sandbox, named or open.
pub(crate) enum Place {
    /// A path relative to our `/proc`, or an absolute one within our changed root.
    Named { proc: RawFd, path: CString, follow: bool },
    /// Open with `O_PATH`.
    Open(OwnedFd),
}

impl Place {
    fn at(&self) -> (RawFd, &CStr, i32) {
        match self {
            Place::Named { proc, path, follow: true } => (*proc, path, 0),
            Place::Named { proc, path, .. } => (*proc, path, libc::AT_SYMLINK_NOFOLLOW),
            Place::Open(fd) => (fd.as_raw_fd(), c"", libc::AT_EMPTY_PATH),
        }
    }

    pub(crate) fn statx(&self, mask: u32) -> io::Result<libc::statx> {
        let (dir, path, flags) = self.at();
        sys::statx_at(dir, path, flags | libc::AT_NO_AUTOMOUNT, mask)
    }

    pub(crate) fn stat(&self) -> io::Result<libc::stat> {
        let (dir, path, flags) = self.at();
        sys::stat_at(dir, path, flags | libc::AT_NO_AUTOMOUNT)
    }

    /// An `O_PATH` descriptor of it.
    pub(crate) fn open(self) -> Option<OwnedFd> {
        match self {
            Place::Open(fd) => Some(fd),
            Place::Named { proc, path, follow } => {
                let nofollow = if follow { 0 } else { libc::O_NOFOLLOW };
                sys::open_path(proc, &path, libc::O_PATH | nofollow, 0).ok()
            }
        }
    }

    /// Which inode it is; with its stat and a descriptor.
    pub(crate) fn identify(self) -> Option<(Identity, libc::statx, OwnedFd)> {
        let fd = self.open()?;
        let (id, stat) = Identity::of(fd.as_fd()).ok()?;
        Some((id, stat, fd))
    }
}

/// Which root a thread or process has: mount and inode.
type RootId = (u64, u64, u64);

pub(crate) struct Resolver {
    proc: OwnedFd,
    own_fds: OwnedFd,
    /// This thread may change its root without the rest of the process.
    own_root: bool,
    current: Option<RootId>,
    vary: bool,
}

impl Resolver {
    pub(crate) fn new() -> io::Result<Resolver> {
        let open = |path| sys::open_path(libc::AT_FDCWD, path, libc::O_RDONLY, 0);
        let (proc, own_fds) = (open(c"/proc")?, open(c"/proc/self/fd")?);
        Ok(Resolver { proc, own_fds, own_root: false, current: None, vary: false })
    }

    /// To be called in the supervisor's thread: takes the root, working directory and
    /// umask of this thread apart from the process's.
    pub(crate) fn own_root(&mut self) {
        // SAFETY: no pointers; concerns the calling thread only.
        self.own_root = unsafe { libc::unshare(libc::CLONE_FS) } == 0;
        if self.own_root {
            // SAFETY: changes this thread's umask, which is its own now.
            unsafe { libc::umask(0) };
        }
    }

    /// True if what this thread creates gets the very mode it asks for.
    pub(crate) fn has_own_umask(&self) -> bool {
        self.own_root
    }

    /// From now on processes may have different roots or mounts.
    pub(crate) fn roots_vary(&mut self) {
        self.vary = true;
    }

    /// Our own `/proc`.
    pub(super) fn proc(&self) -> BorrowedFd<'_> {
        self.proc.as_fd()
    }

    pub(super) fn proc_path(&self, t: &Tracee<'_>, below: &[u8]) -> Option<CString> {
        let mut path = format!("{}/", t.pid()).into_bytes();
        path.extend_from_slice(below);
        CString::new(path).ok()
    }

    /// Gives this thread the caller's root.
    fn adopt_root(&mut self, t: &Tracee<'_>) -> Option<()> {
        if self.current.is_some() && !self.vary {
            return Some(());
        }
        let link = self.proc_path(t, b"root")?;
        let root = sys::open_path(self.proc.as_raw_fd(), &link, libc::O_PATH, 0).ok()?;
        let mask = libc::STATX_INO | libc::STATX_MNT_ID;
        let stat = sys::statx_at(root.as_raw_fd(), c"", libc::AT_EMPTY_PATH, mask).ok()?;
        let id = (stat.stx_mnt_id, crate::ledger::device_of(&stat), stat.stx_ino);
        if !t.valid() {
            return None;
        }
        if self.current != Some(id) {
            rustix::process::fchdir(&root).ok()?;
            rustix::process::chroot(c".").ok()?;
            self.current = Some(id);
        }
        Some(())
    }

    fn named(&self, path: CString, follow: bool) -> Place {
        Place::Named { proc: self.proc.as_raw_fd(), path, follow }
    }

    /// The file behind a descriptor of the caller.
    pub(crate) fn descriptor(&mut self, t: &Tracee<'_>, fd: i32) -> Option<Place> {
        let link = match fd {
            libc::AT_FDCWD => self.proc_path(t, b"cwd")?,
            0.. => self.proc_path(t, format!("fd/{fd}").as_bytes())?,
            _ => return None,
        };
        Some(self.named(link, true))
    }

    /// What the caller's `path` means, relative to its `dir` (`AT_FDCWD` or open).
    pub(crate) fn path(
        &mut self,
        t: &Tracee<'_>,
        dir: i32,
        path: &[u8],
        follow: bool,
    ) -> Option<Place> {
        if path.is_empty() {
            return None;
        }
        if let Some(own) = of_self(path, follow) {
            return Some(self.named(self.proc_path(t, &own)?, follow));
        }
        if !self.own_root {
            return self.in_root(t, dir, path, follow).map(Place::Open);
        }
        self.adopt_root(t)?;
        if path.starts_with(b"/") {
            return Some(self.named(CString::new(path).ok()?, follow));
        }
        let mut below = match dir {
            libc::AT_FDCWD => b"cwd/".to_vec(),
            0.. => format!("fd/{dir}/").into_bytes(),
            _ => return None,
        };
        below.extend_from_slice(path);
        Some(self.named(self.proc_path(t, &below)?, follow))
    }

    /// The same, confined by the kernel instead of by a changed root.
    fn in_root(&self, t: &Tracee<'_>, dir: i32, path: &[u8], follow: bool) -> Option<OwnedFd> {
        let link = |below: &[u8]| {
            let link = self.proc_path(t, below)?;
            rustix::fs::readlinkat(&self.proc, link, Vec::new()).ok().map(CString::into_bytes)
        };
        let root = link(b"root")?;
        let mut whole = Vec::new();
        if !path.starts_with(b"/") {
            let start = match dir {
                libc::AT_FDCWD => link(b"cwd")?,
                _ => link(format!("fd/{dir}").as_bytes())?,
            };
            let root = if root == b"/" { &b""[..] } else { &root[..] };
            whole.extend_from_slice(start.strip_prefix(root)?);
            whole.push(b'/');
        }
        whole.extend_from_slice(path);
        let root = self.proc_path(t, b"root")?;
        let root = sys::open_path(self.proc.as_raw_fd(), &root, libc::O_PATH, 0).ok()?;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let flags = if follow { flags } else { flags | OFlags::NOFOLLOW };
        let path = OsStr::from_bytes(&whole);
        let found =
            rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
        t.valid().then_some(found)
    }

    /// The directory in which the caller would make `path`, and the name there.
    pub(crate) fn parent(
        &mut self,
        t: &Tracee<'_>,
        dir: i32,
        path: &[u8],
    ) -> Option<(OwnedFd, CString)> {
        let end = path.iter().rposition(|b| *b != b'/')? + 1;
        let path = &path[..end];
        let (parent, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(0) => (&b"/"[..], &path[1..]),
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b"."[..], path),
        };
        if matches!(name, b"." | b"..") {
            return None;
        }
        let parent = self.path(t, dir, parent, true)?.open()?;
        t.valid().then_some((parent, CString::new(name).ok()?))
    }

    /// Calls `f` with a path of the descriptor that calls without a descriptor take.
    pub(crate) fn with_path<T>(
        &self,
        fd: BorrowedFd<'_>,
        f: impl FnOnce(&CStr) -> io::Result<T>,
    ) -> io::Result<T> {
        let number = fd.as_raw_fd();
        if !self.own_root {
            return f(&CString::new(format!("/proc/self/fd/{number}"))?);
        }
        // Our /proc is outside of our changed root, but a directory one stands in is
        // always there.
        rustix::process::fchdir(&self.own_fds)?;
        f(&CString::new(number.to_string())?)
    }
}

/// Paths that mean the caller itself, and would mean us: relative to `/proc/PID`.
pub(super) fn of_self(path: &[u8], follow: bool) -> Option<Vec<u8>> {
    match path {
        b"/proc/self" | b"/proc/thread-self" if follow => return Some(b".".to_vec()),
        b"/dev/fd" if follow => return Some(b"fd".to_vec()),
        _ => {}
    }
    for prefix in [&b"/proc/self/"[..], b"/proc/thread-self/"] {
        if let Some(rest) = path.strip_prefix(prefix) {
            return Some(rest.to_vec());
        }
    }
    let fd = match path {
        b"/dev/stdin" if follow => b"0",
        b"/dev/stdout" if follow => b"1",
        b"/dev/stderr" if follow => b"2",
        _ => path.strip_prefix(b"/dev/fd/").filter(|rest| !rest.is_empty())?,
    };
    Some([b"fd/", fd].concat())
}

/// For the umask of the caller, which only `/proc` tells.
pub(crate) fn status_number(proc_status: &str, field: &str, radix: u32) -> Option<u32> {
    let line = proc_status.lines().find_map(|line| line.strip_prefix(field))?;
    let word = line.strip_prefix(':')?.split_ascii_whitespace().next()?;
    u32::from_str_radix(word, radix).ok()
}

impl Resolver {
    /// A number of the caller's `/proc/PID/status`.
    pub(crate) fn status(&self, t: &Tracee<'_>, field: &str, radix: u32) -> Option<u32> {
        let path = self.proc_path(t, b"status")?;
        let file = sys::open_path(self.proc.as_raw_fd(), &path, libc::O_RDONLY, 0).ok()?;
        let text = std::io::read_to_string(std::fs::File::from(file)).ok()?;
        if t.valid() { status_number(&text, field, radix) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_mean_the_caller() {
        type Case = (&'static [u8], bool, Option<&'static [u8]>);
        let cases: [Case; 8] = [
            (b"/proc/self/fd/3", true, Some(b"fd/3")),
            (b"/proc/thread-self/root/x", false, Some(b"root/x")),
            (b"/dev/fd/63", true, Some(b"fd/63")),
            (b"/dev/stdin", true, Some(b"fd/0")),
            (b"/dev/stdin", false, None),
            (b"/dev/fd", true, Some(b"fd")),
            (b"/dev/fd", false, None),
            (b"proc/self/fd/3", true, None),
        ];
        for (path, follow, expected) in cases {
            assert_eq!(of_self(path, follow).as_deref(), expected);
        }
    }

    #[test]
    fn numbers_of_proc_status() {
        let text = "Name:\tx\nUmask:\t0027\nUid:\t5\t6\t7\t8\n";
        assert_eq!(status_number(text, "Umask", 8), Some(0o27));
        assert_eq!(status_number(text, "Uid", 10), Some(5));
        assert_eq!(status_number(text, "Gid", 10), None);
    }
}
