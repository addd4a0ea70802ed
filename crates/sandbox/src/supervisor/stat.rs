//! The stat family, and `uname`: answers with what the ledger knows.

use super::Worker;
use super::place::Place;
use super::tracee::Tracee;
use crate::ledger::{Key, Override, Special};
use crate::seccomp::abi::Sys;
use crate::seccomp::notify::Reply;

/// The host name of every sandbox.
pub(crate) const HOSTNAME: &str = "localhost";

impl Worker {
    pub(super) fn stat(&mut self, sys: Sys, t: &Tracee<'_>) -> Option<Reply> {
        if !self.ledger.changes_stat() {
            return None;
        }
        let (place, buffer) = self.stat_arguments(sys, t)?;
        let over = self.override_of(&place)?;
        answer(sys, t, &place, &over, buffer)
    }

    /// The same for a file that the kernel does not find, but we do.
    pub(super) fn stat_own(&mut self, sys: Sys, t: &Tracee<'_>) -> Option<Reply> {
        let (place, buffer) = self.stat_arguments(sys, t)?;
        let over = self.override_of(&place).unwrap_or_default();
        answer(sys, t, &place, &over, buffer)
    }
    /// What is asked about, and where the answer goes.
    fn stat_arguments(&mut self, sys: Sys, t: &Tracee<'_>) -> Option<(Place, u64)> {
        let (dir, path, flags, buffer) = match sys {
            Sys::Stat => (libc::AT_FDCWD, t.arg(0), 0, t.arg(1)),
            Sys::Lstat => (libc::AT_FDCWD, t.arg(0), libc::AT_SYMLINK_NOFOLLOW, t.arg(1)),
            Sys::Fstat => return Some((self.resolver.descriptor(t, t.fd(0))?, t.arg(1))),
            Sys::Fstatat => (t.fd(0), t.arg(1), t.fd(3), t.arg(2)),
            _ => (t.fd(0), t.arg(1), t.fd(2), t.arg(4)),
        };
        Some((self.place_at(t, dir, path, flags)?, buffer))
    }

    /// The file that an `*at` call means.
    pub(super) fn place_at(
        &mut self,
        t: &Tracee<'_>,
        dir: i32,
        path: u64,
        flags: i32,
    ) -> Option<Place> {
        let may_be_empty = flags & libc::AT_EMPTY_PATH != 0;
        if may_be_empty && path == 0 {
            return self.resolver.descriptor(t, dir);
        }
        let path = t.path(path)?;
        if path.is_empty() && may_be_empty {
            return self.resolver.descriptor(t, dir);
        }
        let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
        self.resolver.path(t, dir, path.to_bytes(), follow)
    }

    /// What the ledger says about the file; `None` if it says nothing about its stat.
    fn override_of(&self, place: &Place) -> Option<Override> {
        let stat = place.statx(libc::STATX_INO).ok()?;
        if !self.ledger.has(Key::of(&stat)) {
            return None;
        }
        let fd = match place {
            Place::Named { proc, path, follow } => {
                Place::Named { proc: *proc, path: path.clone(), follow: *follow }.open()?
            }
            Place::Open(fd) => fd.try_clone().ok()?,
        };
        let (id, _, _) = Place::Open(fd).identify()?;
        let over = self.ledger.get(&id);
        (over.owner.is_some() || over.special.is_some()).then_some(over)
    }
}

/// Writes what stat says about the place, as the ledger corrects it.
fn answer(sys: Sys, t: &Tracee<'_>, place: &Place, over: &Override, buffer: u64) -> Option<Reply> {
    let written = match sys {
        Sys::Statx => {
            let mut stat = place.statx(t.int(3)).ok()?;
            patch_statx(&mut stat, over);
            t.write(buffer, bytes_of(&stat))
        }
        _ => {
            let mut stat = place.stat().ok()?;
            patch_stat(&mut stat, over);
            match t.compat() {
                true => t.write(buffer, &compat_stat64(&stat)),
                false => t.write(buffer, bytes_of(&stat)),
            }
        }
    };
    Some(written.map_or_else(Reply::Errno, |()| Reply::Value(0)))
}

/// The file type bits of a placeholder's device.
pub(crate) fn type_of(special: Special) -> u32 {
    if special.block { libc::S_IFBLK } else { libc::S_IFCHR }
}

fn patch_statx(stat: &mut libc::statx, over: &Override) {
    if let Some((uid, gid)) = over.owner {
        (stat.stx_uid, stat.stx_gid) = (uid, gid);
    }
    if let Some(special) = over.special {
        stat.stx_mode = stat.stx_mode & 0o7777 | type_of(special) as u16;
        stat.stx_rdev_major = special.device.major;
        stat.stx_rdev_minor = special.device.minor;
        (stat.stx_size, stat.stx_blocks) = (0, 0);
    }
}

fn patch_stat(stat: &mut libc::stat, over: &Override) {
    if let Some((uid, gid)) = over.owner {
        (stat.st_uid, stat.st_gid) = (uid, gid);
    }
    if let Some(special) = over.special {
        stat.st_mode = stat.st_mode & 0o7777 | type_of(special);
        stat.st_rdev = libc::makedev(special.device.major, special.device.minor);
        (stat.st_size, stat.st_blocks) = (0, 0);
    }
}

pub(super) fn bytes_of<T>(value: &T) -> &[u8] {
    // SAFETY: only called with the kernel's C structures, zeroed before they were
    // filled, so that every byte is initialised.
    unsafe { std::slice::from_raw_parts((value as *const T).cast(), size_of::<T>()) }
}

/// `struct stat64` of i386 (`arch/x86/include/uapi/asm/stat.h`, packed).
fn compat_stat64(s: &libc::stat) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
    put(&s.st_dev.to_le_bytes());
    put(&[0; 4]);
    put(&(s.st_ino as u32).to_le_bytes());
    put(&s.st_mode.to_le_bytes());
    put(&(s.st_nlink as u32).to_le_bytes());
    put(&s.st_uid.to_le_bytes());
    put(&s.st_gid.to_le_bytes());
    put(&s.st_rdev.to_le_bytes());
    put(&[0; 4]);
    put(&s.st_size.to_le_bytes());
    put(&(s.st_blksize as u32).to_le_bytes());
    put(&(s.st_blocks as u64).to_le_bytes());
    for (seconds, nanoseconds) in [
        (s.st_atime, s.st_atime_nsec),
        (s.st_mtime, s.st_mtime_nsec),
        (s.st_ctime, s.st_ctime_nsec),
    ] {
        put(&(seconds as u32).to_le_bytes());
        put(&(nanoseconds as u32).to_le_bytes());
    }
    put(&s.st_ino.to_le_bytes());
    out
}

/// `uname` with the sandbox's host name, where the real one cannot be changed.
pub(super) fn uname(t: &Tracee<'_>) -> Option<Reply> {
    // SAFETY: all-zero is a valid `utsname`.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is ours.
    if unsafe { libc::uname(&mut name) } != 0 {
        return None;
    }
    name.nodename = [0; 65];
    for (to, from) in name.nodename.iter_mut().zip(HOSTNAME.bytes()) {
        *to = from as libc::c_char;
    }
    let written = t.write(t.arg(0), bytes_of(&name));
    Some(written.map_or_else(Reply::Errno, |()| Reply::Value(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_32_bit_structure_has_its_fields_where_i386_has_them() {
        // SAFETY: all-zero is a valid `stat`.
        let mut s: libc::stat = unsafe { std::mem::zeroed() };
        (s.st_uid, s.st_gid, s.st_size, s.st_ino) = (0x11223344, 0x55667788, 9, 7);
        (s.st_mode, s.st_nlink, s.st_mtime) = (0o100644, 2, 5);
        let bytes = compat_stat64(&s);
        assert_eq!(bytes.len(), 96);
        // Offsets from a C program compiled with gcc -m32 and offsetof().
        assert_eq!(bytes[16..20], 0o100644u32.to_le_bytes());
        assert_eq!(bytes[20..24], 2u32.to_le_bytes());
        assert_eq!(bytes[24..28], 0x11223344u32.to_le_bytes());
        assert_eq!(bytes[28..32], 0x55667788u32.to_le_bytes());
        assert_eq!(bytes[44..52], 9u64.to_le_bytes());
        assert_eq!(bytes[72..76], 5u32.to_le_bytes());
        assert_eq!(bytes[88..96], 7u64.to_le_bytes());
    }
}
