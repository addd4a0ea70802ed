//! Room in memory for workspaces: a tmpfs that only this process and its children
//! see, and that goes with them however they end.
//!
//! A disk's file system takes a second and more to create the files of a small
//! system and as long to remove them; a tree that lives for seconds need not pay that.
//!
//! What it is not: a decision of what fits. The caller compares [`Memory::size`]
//! with what it is about to lay out.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::privilege::Privilege;
use crate::sys::check;

/// A tmpfs, unmounted when dropped.
#[derive(Debug)]
pub struct Memory {
    dir: PathBuf,
    size: u64,
}

impl Memory {
    /// Mounts it on `dir`. `None` where no mount may be made or little memory is
    /// free; then workspaces lie on disk, with the same results.
    ///
    /// The whole process moves to a mount namespace of its own, so there may be no
    /// other thread yet.
    pub fn mount(dir: &Path, privilege: &Privilege) -> Option<Memory> {
        let size = free_memory()? / 2;
        if !privilege.mounts() || size < MINIMUM || threads() > 1 {
            return None;
        }
        let dir = fs::canonicalize(dir).ok()?;
        private_mounts().and_then(|()| mount_tmpfs(&dir, size)).ok()?;
        Some(Memory { dir, size })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many bytes it may hold.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Ok(dir) = CString::new(self.dir.as_os_str().as_bytes()) {
            // SAFETY: a terminated string that lives across the call.
            unsafe { libc::umount2(dir.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

/// Less is not worth it.
const MINIMUM: u64 = 256 << 20;

fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(usize::MAX, Iterator::count)
}

/// What the host mounts later is seen, what is mounted here is not seen by the host.
fn private_mounts() -> io::Result<()> {
    // SAFETY: no pointers but terminated strings and null.
    unsafe {
        check(i64::from(libc::unshare(libc::CLONE_NEWNS)))?;
        let flags = libc::MS_REC | libc::MS_SLAVE;
        let none = std::ptr::null();
        check(i64::from(libc::mount(none, c"/".as_ptr(), none, flags, none.cast())))?;
    }
    Ok(())
}

fn mount_tmpfs(dir: &Path, size: u64) -> io::Result<()> {
    let target = CString::new(dir.as_os_str().as_bytes())?;
    // The number of files is bounded by the memory that they take.
    let data = CString::new(format!("mode=0755,size={size},nr_inodes=0"))?;
    let name = c"tmpfs".as_ptr();
    // SAFETY: terminated strings that live across the call.
    let result = unsafe { libc::mount(name, target.as_ptr(), name, 0, data.as_ptr().cast()) };
    check(i64::from(result)).map(drop)
}

/// What may be used without driving anything out: the system's and the control
/// group's, whichever is less.
fn free_memory() -> Option<u64> {
    let system = available(&fs::read_to_string("/proc/meminfo").ok()?)?;
    Some(group().map_or(system, |group| group.min(system)))
}

/// `MemAvailable:` of `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What the limits of the control groups of version 2 leave; `None` if there are none.
fn group() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let number =
        |file: PathBuf| -> Option<u64> { fs::read_to_string(file).ok()?.trim().parse().ok() };
    let base = Path::new("/sys/fs/cgroup");
    let groups = Path::new(path).ancestors().map(|group| base.join(group));
    let free = groups.filter_map(|group| {
        let max = number(group.join("memory.max"))?;
        Some(max.saturating_sub(number(group.join("memory.current")).unwrap_or(0)))
    });
    free.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_bytes() {
        let text = "MemTotal:       24576000 kB\nMemAvailable:   18000 kB\n";
        assert_eq!(available(text), Some(18_000 * 1024));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert_eq!(available("MemAvailable: x kB\n"), None);
        assert!(free_memory().is_some());
    }

    #[test]
    fn a_process_with_threads_keeps_its_mounts() {
        // The test runner has threads: this must refuse before it changes anything.
        let dir = tempfile::tempdir().unwrap();
        let before = fs::read_link("/proc/self/ns/mnt").unwrap();
        let privilege = crate::privilege::for_tests();
        assert!(Memory::mount(dir.path(), &privilege).is_none());
        assert_eq!(fs::read_link("/proc/self/ns/mnt").unwrap(), before);
    }
}
