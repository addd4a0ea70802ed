//! Making files whose owner or device number must go to the ledger.
//!
//! Most files that a command makes belong to root, which is what the kernel records
//! by itself: those calls go on untouched. The others (made by a process that changed
//! its user, in a set-group-ID directory of another group, or devices) are made here
//! in the caller's stead, so that the new inode is known.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use tree::Device;

use super::tracee::Tracee;
use super::{Worker, xattr};
use crate::ledger::{Identity, Special};
use crate::seccomp::abi::Sys;
use crate::seccomp::notify::{self, Reply};
use crate::sys::{self, check, errno};
use tree::acl;

/// How a new inode differs from what the kernel would make.
struct Heritage {
    owner: (u32, u32),
    acl: Option<Vec<u8>>,
}

impl Worker {
    /// Who will own a file made in `parent`; `None` if the kernel gets it right.
    fn heritage(&self, t: &Tracee<'_>, parent: &OwnedFd) -> Option<Heritage> {
        if !self.policy.watch.owners {
            return None;
        }
        let creds = self.creds.of(t);
        let mut owner = (creds.uid.fs, creds.gid.fs);
        let mut acl = None;
        if self.ledger.has_entries() {
            let mask = libc::STATX_INO | libc::STATX_MODE;
            let flags = libc::AT_EMPTY_PATH;
            let stat = sys::statx_at(parent.as_raw_fd(), c"", flags, mask).ok()?;
            let inherits = u32::from(stat.stx_mode) & libc::S_ISGID != 0;
            if inherits {
                owner.1 = 0;
            }
            if self.ledger.has(crate::ledger::Key::of(&stat)) {
                let (id, _) = Identity::of(parent.as_fd()).ok()?;
                let mut over = self.ledger.get(&id);
                if let (true, Some((_, gid))) = (inherits, over.owner) {
                    owner.1 = gid;
                }
                acl = over.xattrs.remove(acl::DEFAULT);
            }
        }
        (owner != (0, 0) || acl.is_some()).then_some(Heritage { owner, acl })
    }

    /// The mode that a new file gets: the umask applies unless an ACL is inherited.
    fn masked(&self, t: &Tracee<'_>, heritage: Option<&Heritage>, mode: u32) -> Option<u32> {
        if heritage.is_some_and(|h| h.acl.is_some()) {
            return Some(mode);
        }
        Some(mode & !self.resolver.status(t, "Umask", 8)?)
    }

    /// Records what the new `file`, made with the permission bits `asked`, is.
    fn record(
        &self,
        file: &OwnedFd,
        heritage: Option<Heritage>,
        special: Option<Special>,
        asked: u32,
    ) {
        let Ok((id, stat)) = Identity::of(file.as_fd()) else { return };
        let mode = u32::from(stat.stx_mode);
        // Where this thread shares the process's umask, that was applied as well.
        let link = mode & libc::S_IFMT == libc::S_IFLNK;
        let wrong = !link && !self.resolver.has_own_umask() && mode & 0o777 != asked & 0o777;
        let mut new_mode = wrong.then_some(mode & 0o7000 | asked & 0o777);
        self.ledger.update(&id, |over| {
            over.special = special;
            let Some(heritage) = heritage else { return };
            if heritage.owner != (0, 0) {
                over.owner = Some(heritage.owner);
            }
            if let Some(inherited) = heritage.acl.filter(|_| !link) {
                if mode & libc::S_IFMT == libc::S_IFDIR {
                    over.xattrs.insert(acl::DEFAULT.to_vec(), inherited.clone());
                }
                if let Some((access, bits)) = acl::inherit(&inherited, asked & 0o777) {
                    new_mode = Some(mode & 0o7000 | bits);
                    access.map(|acl| over.xattrs.insert(acl::ACCESS.to_vec(), acl));
                }
            }
        });
        if let Some(mode) = new_mode {
            let _ = self.resolver.with_path(file.as_fd(), |path| xattr::chmod(path, mode));
        }
    }

    fn open_new(parent: &OwnedFd, name: &CStr) -> Option<OwnedFd> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        sys::open_path(parent.as_raw_fd(), name, flags, 0).ok()
    }

    fn target(&mut self, t: &Tracee<'_>, dir: i32, path: u64) -> Option<(OwnedFd, CString)> {
        let path = t.path(path)?;
        self.resolver.parent(t, dir, path.to_bytes())
    }

    pub(super) fn mkdir(&mut self, sys: Sys, t: &Tracee<'_>) -> Option<Reply> {
        let (dir, path, mode) = match sys {
            Sys::Mkdir => (libc::AT_FDCWD, t.arg(0), t.int(1)),
            _ => (t.fd(0), t.arg(1), t.int(2)),
        };
        let (parent, name) = self.target(t, dir, path)?;
        let heritage = self.heritage(t, &parent)?;
        let mode = self.masked(t, Some(&heritage), mode & 0o1777)?;
        // SAFETY: a live descriptor and a terminated name.
        let made = unsafe { libc::mkdirat(parent.as_raw_fd(), name.as_ptr(), mode) };
        Some(self.finish(made, (&parent, &name), Some(heritage), None, mode))
    }

    pub(super) fn symlink(&mut self, sys: Sys, t: &Tracee<'_>) -> Option<Reply> {
        let (dir, path) = match sys {
            Sys::Symlink => (libc::AT_FDCWD, t.arg(1)),
            _ => (t.fd(1), t.arg(2)),
        };
        let target = t.path(t.arg(0))?;
        let (parent, name) = self.target(t, dir, path)?;
        let heritage = self.heritage(t, &parent)?;
        // SAFETY: a live descriptor and terminated strings.
        let made = unsafe { libc::symlinkat(target.as_ptr(), parent.as_raw_fd(), name.as_ptr()) };
        Some(self.finish(made, (&parent, &name), Some(heritage), None, 0o777))
    }

    pub(super) fn mknod(&mut self, sys: Sys, t: &Tracee<'_>) -> Option<Reply> {
        let (dir, path, mode, device) = match sys {
            Sys::Mknod => (libc::AT_FDCWD, t.arg(0), t.int(1), t.int(2)),
            _ => (t.fd(0), t.arg(1), t.int(2), t.int(3)),
        };
        let kind = mode & libc::S_IFMT;
        let is_device = matches!(kind, libc::S_IFCHR | libc::S_IFBLK);
        let (parent, name) = self.target(t, dir, path)?;
        let heritage = self.heritage(t, &parent);
        if heritage.is_none() && !is_device {
            return None;
        }
        if is_device && !self.is_root(t) {
            return Some(Reply::Errno(libc::EPERM));
        }
        let bits = self.masked(t, heritage.as_ref(), mode & 0o7777)?;
        let (made, special) = if is_device {
            // The kernel's 32-bit encoding of a device number (new_decode_dev).
            let major = device >> 8 & 0xfff;
            let minor = device & 0xff | device >> 12 & 0xfff00;
            let device = Device { major, minor };
            let special = Special { block: kind == libc::S_IFBLK, device };
            (placeholder(&parent, &name, bits), Some(special))
        } else {
            // SAFETY: a live descriptor and a terminated name.
            let made = unsafe { libc::mknodat(parent.as_raw_fd(), name.as_ptr(), kind | bits, 0) };
            (made, None)
        };
        Some(self.finish(made, (&parent, &name), heritage, special, bits))
    }

    fn is_root(&self, t: &Tracee<'_>) -> bool {
        match self.policy.watch.owners {
            true => self.creds.of(t).is_root(),
            false => self.resolver.status(t, "Uid", 10) == Some(0),
        }
    }

    fn finish(
        &self,
        made: i32,
        (parent, name): (&OwnedFd, &CStr),
        heritage: Option<Heritage>,
        special: Option<Special>,
        bits: u32,
    ) -> Reply {
        if let Err(e) = check(i64::from(made)) {
            return Reply::Errno(errno(&e));
        }
        if let Some(file) = Self::open_new(parent, name) {
            self.record(&file, heritage, special, bits);
        }
        Reply::Value(0)
    }

    pub(super) fn open(&mut self, sys: Sys, t: &Tracee<'_>) -> Option<Reply> {
        let (dir, path, flags, mode) = match sys {
            Sys::Open => (libc::AT_FDCWD, t.arg(0), t.fd(1), t.int(2)),
            Sys::Creat => {
                let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
                (libc::AT_FDCWD, t.arg(0), flags, t.int(1))
            }
            _ => (t.fd(0), t.arg(1), t.fd(2), t.int(3)),
        };
        const UNNAMED: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;
        if flags & UNNAMED != 0 {
            return self.open_unnamed(t, dir, path, flags, mode);
        }
        let (parent, name) = self.target(t, dir, path)?;
        let heritage = self.heritage(t, &parent)?;
        let mode = self.masked(t, Some(&heritage), mode & 0o7777)?;
        // With O_EXCL it is certain that the file is new and this call made it. If
        // there is something already, the caller's own open does the right thing.
        match sys::open_path(parent.as_raw_fd(), &name, flags | libc::O_EXCL, mode) {
            Ok(file) => Some(self.hand_over(t, file, heritage, flags, mode)),
            Err(e) if errno(&e) == libc::EEXIST => None,
            Err(e) => Some(Reply::Errno(errno(&e))),
        }
    }

    fn open_unnamed(
        &mut self,
        t: &Tracee<'_>,
        dir: i32,
        path: u64,
        flags: i32,
        mode: u32,
    ) -> Option<Reply> {
        let place = self.place_at(t, dir, path, 0)?.open()?;
        let heritage = self.heritage(t, &place)?;
        let mode = self.masked(t, Some(&heritage), mode & 0o7777)?;
        match sys::open_path(place.as_raw_fd(), c".", flags, mode) {
            Ok(file) => Some(self.hand_over(t, file, heritage, flags, mode)),
            Err(e) => Some(Reply::Errno(errno(&e))),
        }
    }

    fn hand_over(
        &self,
        t: &Tracee<'_>,
        file: OwnedFd,
        heritage: Heritage,
        flags: i32,
        mode: u32,
    ) -> Reply {
        self.record(&file, Some(heritage), None, mode);
        let close_on_exec = flags & libc::O_CLOEXEC != 0;
        notify::reply_with_fd(t.listener(), t.id(), file.as_fd(), close_on_exec)
    }
}

/// Makes what stands for a device: a character device 0:0, which every user may
/// make (it is what overlayfs calls a whiteout) and nobody can open, or where
/// the file system refuses that, an empty file. Returns as `mknodat` does.
pub(crate) fn placeholder(parent: &OwnedFd, name: &CStr, mode: u32) -> i32 {
    let make = |kind: u32| {
        // SAFETY: a live descriptor and a terminated name.
        unsafe { libc::mknodat(parent.as_raw_fd(), name.as_ptr(), kind | mode, 0) }
    };
    // SAFETY: reads the thread's errno.
    let refused = |made: i32| made != 0 && unsafe { *libc::__errno_location() } == libc::EPERM;
    match make(libc::S_IFCHR) {
        made if refused(made) => make(libc::S_IFREG),
        made => made,
    }
}
