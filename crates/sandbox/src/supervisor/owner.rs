//! chown, where the kernel has no such owner to give.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::tracee::Tracee;
use super::{Creds, Worker};
use crate::seccomp::abi::Sys;
use crate::seccomp::notify::Reply;
use crate::sys::{check, errno};

/// "Leave as it is."
const SAME: u32 = u32::MAX;

impl Worker {
    pub(super) fn chown(&mut self, sys: Sys, t: &Tracee<'_>) -> Option<Reply> {
        let (place, uid, gid) = match sys {
            Sys::Fchown => (self.resolver.descriptor(t, t.fd(0))?, t.int(1), t.int(2)),
            Sys::Fchownat => (self.place_at(t, t.fd(0), t.arg(1), t.fd(4))?, t.int(2), t.int(3)),
            _ => {
                let nofollow = if sys == Sys::Lchown { libc::AT_SYMLINK_NOFOLLOW } else { 0 };
                (self.place_at(t, libc::AT_FDCWD, t.arg(0), nofollow)?, t.int(1), t.int(2))
            }
        };
        let (id, stat, fd) = place.identify()?;
        let known = self.ledger.get(&id);
        let before = known.owner.unwrap_or((stat.stx_uid, stat.stx_gid));
        let pick = |new: u32, old: u32| if new == SAME { old } else { new };
        let after = (pick(uid, before.0), pick(gid, before.1));
        if !self.policy.watch.owners && !self.may_chown(t) {
            return None;
        }
        if self.policy.watch.owners && !allowed(&self.creds.of(t), before, after) {
            return Some(Reply::Errno(libc::EPERM));
        }
        // The kernel does the rest of a chown: it takes set-uid bits and file
        // capabilities away, and changes the ctime.
        let recorded = match self.native_chown(fd.as_fd(), uid, gid, after) {
            Ok(recorded) => recorded,
            Err(e) => return Some(Reply::Errno(errno(&e))),
        };
        self.ledger.update(&id, |over| {
            over.owner = recorded;
            over.xattrs.remove(&b"security.capability"[..]);
        });
        Some(Reply::Value(0))
    }

    /// Where real owners exist, only real root gets what the kernel refused.
    fn may_chown(&self, t: &Tracee<'_>) -> bool {
        self.resolver.status(t, "Uid", 10) == Some(0)
    }

    /// Changes what can be changed; returns the owner that must be recorded.
    fn native_chown(
        &self,
        fd: BorrowedFd<'_>,
        uid: u32,
        gid: u32,
        after: (u32, u32),
    ) -> io::Result<Option<(u32, u32)>> {
        let call = |uid: u32, gid: u32| {
            let flags = libc::AT_EMPTY_PATH;
            // SAFETY: an empty, terminated path and a live descriptor.
            let done = unsafe { libc::fchownat(fd.as_raw_fd(), c"".as_ptr(), uid, gid, flags) };
            check(i64::from(done))
        };
        if self.policy.watch.owners {
            let zero = |id: u32| if id == SAME { SAME } else { 0 };
            call(zero(uid), zero(gid))?;
            return Ok((after != (0, 0)).then_some(after));
        }
        match call(after.0, after.1) {
            Ok(_) => Ok(None),
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                call(SAME, SAME)?;
                Ok(Some(after))
            }
            Err(e) => Err(e),
        }
    }
}

/// The rules of `chown(2)`: root may all; an owner may give its file to a group that it
/// is in.
fn allowed(creds: &Creds, before: (u32, u32), after: (u32, u32)) -> bool {
    let owner = creds.uid.fs == before.0;
    let group = after.1 == before.1 || creds.in_group(after.1);
    creds.is_root() || (owner && after.0 == before.0 && group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_give_files_away() {
        let mut user = Creds::of(1000, 1000);
        user.groups = vec![50];
        assert!(allowed(&Creds::default(), (0, 0), (5, 5)));
        assert!(!allowed(&user, (1000, 1000), (0, 1000)));
        assert!(!allowed(&user, (0, 0), (0, 0)));
        assert!(allowed(&user, (1000, 1000), (1000, 50)));
        assert!(!allowed(&user, (1000, 1000), (1000, 4)));
    }
}
