//! Extended attributes: which are the file system's and which the ledger's.
//!
//! `trusted.*`, and `security.*` other than file capabilities, are always the ledger's,
//! in every mode: what a host's security module puts there must not reach an
//! image, and no namespace may set them. ACLs with ids that are not mapped, and what
//! the workspace's file system cannot hold, are too.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;

use super::place::Place;
use super::tracee::Tracee;
use super::{Policy, Worker};
use crate::ledger::{Identity, Key};
use crate::seccomp::abi::Sys;
use crate::seccomp::notify::Reply;
use crate::sys::{self, XATTR_MAX, check, errno};
use tree::acl;

/// The kernel's limit for a name, its NUL included.
pub(super) const NAME_MAX: usize = 256;
const CREATE: u32 = 1;
const REPLACE: u32 = 2;

/// Whether the attribute lives in the ledger.
pub(crate) fn in_ledger(name: &[u8], policy: &Policy) -> bool {
    match name {
        b"security.capability" => policy.capabilities,
        acl::ACCESS | acl::DEFAULT => policy.watch.owners,
        _ if name.starts_with(b"user.") => policy.user_xattrs,
        _ => name.starts_with(b"security.") || name.starts_with(b"trusted."),
    }
}

/// `chmod` on a path that a descriptor gave.
pub(crate) fn chmod(path: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: the path is terminated.
    check(i64::from(unsafe { libc::chmod(path.as_ptr(), mode) })).map(drop)
}

impl Worker {
    fn xattr_place(&mut self, sys: Sys, t: &Tracee<'_>) -> Option<Place> {
        use Sys::*;
        match sys {
            Fsetxattr | Fgetxattr | Flistxattr | Fremovexattr => {
                self.resolver.descriptor(t, t.fd(0))
            }
            Lsetxattr | Lgetxattr | Llistxattr | Lremovexattr => {
                self.place_at(t, libc::AT_FDCWD, t.arg(0), libc::AT_SYMLINK_NOFOLLOW)
            }
            _ => self.place_at(t, libc::AT_FDCWD, t.arg(0), 0),
        }
    }

    /// The name in argument 1 if the ledger is to answer.
    fn ledger_name(&self, t: &Tracee<'_>) -> Option<Vec<u8>> {
        let name = t.string(t.arg(1), NAME_MAX)?.into_bytes();
        in_ledger(&name, &self.policy).then_some(name)
    }

    /// Only root may change, or see, such attributes.
    fn may_change(&self, t: &Tracee<'_>, name: &[u8], id: &Identity) -> bool {
        if !self.policy.watch.owners {
            let user = name.starts_with(b"user.");
            return user || self.resolver.status(t, "Uid", 10) == Some(0);
        }
        let creds = self.creds.of(t);
        let owner = self.ledger.get(id).owner.map_or(0, |(uid, _)| uid);
        let owner_may = name.starts_with(b"user.") || name.starts_with(b"system.");
        creds.is_root() || (owner_may && creds.uid.fs == owner)
    }

    pub(super) fn set_xattr(&mut self, sys: Sys, t: &Tracee<'_>) -> Option<Reply> {
        let name = self.ledger_name(t)?;
        let len = t.arg(3) as usize;
        if len > XATTR_MAX {
            return Some(Reply::Errno(libc::E2BIG));
        }
        let (id, stat, fd) = self.xattr_place(sys, t)?.identify()?;
        if !self.may_change(t, &name, &id) {
            return Some(Reply::Errno(libc::EPERM));
        }
        let Some(value) = t.read(t.arg(2), len) else {
            return Some(Reply::Errno(libc::EFAULT));
        };
        let value = match self.checked(&name, value, u32::from(stat.stx_mode), &fd) {
            Ok(value) => value,
            Err(errno) => return Some(Reply::Errno(errno)),
        };
        let flags = t.int(4);
        Some(self.ledger.update(&id, |over| {
            let there = over.xattrs.contains_key(&name);
            match () {
                () if flags & CREATE != 0 && there => Reply::Errno(libc::EEXIST),
                () if flags & REPLACE != 0 && !there => Reply::Errno(libc::ENODATA),
                () => {
                    match value {
                        Some(value) => over.xattrs.insert(name, value),
                        None => over.xattrs.remove(&name),
                    };
                    Reply::Value(0)
                }
            }
        }))
    }

    /// What is to be stored; for ACLs, after what they do to the permission bits.
    fn checked(
        &self,
        name: &[u8],
        value: Vec<u8>,
        mode: u32,
        fd: &std::os::fd::OwnedFd,
    ) -> Result<Option<Vec<u8>>, i32> {
        let kind = mode & libc::S_IFMT;
        if name != acl::ACCESS && name != acl::DEFAULT {
            return Ok(Some(value));
        }
        if kind == libc::S_IFLNK {
            return Err(libc::EOPNOTSUPP);
        }
        // Four bytes are a header without entries: no ACL.
        if value.len() <= 4 {
            return Ok(None);
        }
        if name == acl::DEFAULT {
            return match kind {
                libc::S_IFDIR if acl::is_valid(&value) => Ok(Some(value)),
                libc::S_IFDIR => Err(libc::EINVAL),
                _ => Err(libc::EACCES),
            };
        }
        let (bits, more) = acl::set_access(&value).ok_or(libc::EINVAL)?;
        self.resolver
            .with_path(fd.as_fd(), |path| chmod(path, mode & 0o7000 | bits))
            .map_err(|e| errno(&e))?;
        Ok(more.then_some(value))
    }

    pub(super) fn remove_xattr(&mut self, sys: Sys, t: &Tracee<'_>) -> Option<Reply> {
        let name = self.ledger_name(t)?;
        let (id, _, _) = self.xattr_place(sys, t)?.identify()?;
        if !self.may_change(t, &name, &id) {
            return Some(Reply::Errno(libc::EPERM));
        }
        let removed = self.ledger.update(&id, |over| over.xattrs.remove(&name));
        let acl = name == acl::ACCESS || name == acl::DEFAULT;
        Some(match removed {
            Some(_) => Reply::Value(0),
            // The kernel does not mind removing an ACL that is not there.
            None if acl => Reply::Value(0),
            None => Reply::Errno(libc::ENODATA),
        })
    }

    pub(super) fn get_xattr(&mut self, sys: Sys, t: &Tracee<'_>) -> Option<Reply> {
        let name = self.ledger_name(t)?;
        let place = self.xattr_place(sys, t)?;
        let stat = place.statx(libc::STATX_INO | libc::STATX_MODE).ok()?;
        if !self.ledger.has(Key::of(&stat)) {
            return Some(Reply::Errno(libc::ENODATA));
        }
        let (id, stat, _) = place.identify()?;
        let Some(mut value) = self.ledger.get(&id).xattrs.remove(&name) else {
            return Some(Reply::Errno(libc::ENODATA));
        };
        if name == acl::ACCESS {
            value = acl::with_mode(&value, u32::from(stat.stx_mode));
        }
        Some(answer(t, &value))
    }

    pub(super) fn list_xattr(&mut self, sys: Sys, t: &Tracee<'_>) -> Option<Reply> {
        if !self.ledger.has_entries() {
            return None;
        }
        let place = self.xattr_place(sys, t)?;
        let stat = place.statx(libc::STATX_INO).ok()?;
        if !self.ledger.has(Key::of(&stat)) {
            return None;
        }
        let (id, _, fd) = place.identify()?;
        let recorded = self.ledger.get(&id).xattrs;
        if recorded.is_empty() {
            return None;
        }
        let mut names = self.resolver.with_path(fd.as_fd(), sys::list_xattr).ok()?;
        names.retain(|name| !in_ledger(name, &self.policy));
        names.extend(recorded.into_keys());
        names.sort();
        let list: Vec<u8> = names.into_iter().flat_map(|n| [n, vec![0]].concat()).collect();
        // The list has its size one argument earlier than a value.
        Some(put(t, &list, t.arg(1), t.arg(2)))
    }
}

fn answer(t: &Tracee<'_>, value: &[u8]) -> Reply {
    put(t, value, t.arg(2), t.arg(3))
}

/// `getxattr(2)`: size 0 asks for the size, a buffer too small is `ERANGE`.
pub(super) fn put(t: &Tracee<'_>, value: &[u8], buffer: u64, size: u64) -> Reply {
    if size == 0 {
        return Reply::Value(value.len() as i64);
    }
    if size < value.len() as u64 {
        return Reply::Errno(libc::ERANGE);
    }
    match t.write(buffer, value) {
        Ok(()) => Reply::Value(value.len() as i64),
        Err(errno) => Reply::Errno(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::Watch;

    #[test]
    fn whose_attribute_it_is() {
        let plain = Policy::default();
        let owners =
            Policy { watch: Watch { owners: true, ..Watch::default() }, ..Policy::default() };
        let cases: [(&[u8], bool, bool); 6] = [
            (b"user.x", false, false),
            (b"security.capability", false, false),
            (b"security.selinux", true, true),
            (b"trusted.overlay.opaque", true, true),
            (b"system.posix_acl_access", false, true),
            (b"system.nfs4_acl", false, false),
        ];
        for (name, without, with) in cases {
            assert_eq!((in_ledger(name, &plain), in_ledger(name, &owners)), (without, with));
        }
    }
}
