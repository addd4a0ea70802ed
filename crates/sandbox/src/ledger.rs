//! The ownership ledger: what an inode would be if this process were root.
//!
//! What it holds, per inode: owner, device number, and extended attributes that the
//! kernel refuses to this process. Everything else (permission bits, times, names,
//! content) is in the file system itself, so renaming, linking and deleting need no
//! bookkeeping.
//!
//! An entry is found by device and inode number and is valid only for the very inode
//! it was made for: file system handle (which has a generation) and birth time must
//! agree, so that a number used again after a deletion starts clean.
//!
//! Data flow: `workspace` writes entries when it lays a Tree out, `supervisor` when
//! a command calls chown, mknod or setxattr; the supervisor reads them to answer stat,
//! `workspace` to read the Tree back.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use tree::{Device, Xattrs};

use crate::sys;

/// Device and inode number. Only a candidate: see [`Identity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub dev: u64,
    pub ino: u64,
}

impl Key {
    pub(crate) fn of(stat: &libc::statx) -> Key {
        Key { dev: device_of(stat), ino: stat.stx_ino }
    }
}

/// `st_dev` of a statx answer.
pub(crate) fn device_of(stat: &libc::statx) -> u64 {
    libc::makedev(stat.stx_dev_major, stat.stx_dev_minor)
}

/// What tells an inode from a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    birth: Option<(i64, u32)>,
    handle: Option<Box<[u8]>>,
}

/// One inode, for as long as it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    key: Key,
    stamp: Stamp,
}

impl Identity {
    /// Of the file that `fd` (which may be `O_PATH`) leads to, and its stat.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> io::Result<(Identity, libc::statx)> {
        let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
        let stat = sys::statx_at(fd.as_raw_fd(), c"", libc::AT_EMPTY_PATH, mask)?;
        let has_birth = stat.stx_mask & libc::STATX_BTIME != 0;
        let birth = has_birth.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec));
        let stamp = Stamp { birth, handle: sys::file_handle(fd) };
        Ok((Identity { key: Key::of(&stat), stamp }, stat))
    }

    pub(crate) fn key(&self) -> Key {
        self.key
    }
}

/// A device that is a placeholder in the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Special {
    pub block: bool,
    pub device: Device,
}

/// What the ledger says about an inode; what it does not say is as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Override {
    pub owner: Option<(u32, u32)>,
    pub special: Option<Special>,
    pub xattrs: Xattrs,
}

impl Override {
    fn is_empty(&self) -> bool {
        *self == Override::default()
    }

    fn in_stat(&self) -> bool {
        self.owner.is_some() || self.special.is_some()
    }
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Key, (Stamp, Override)>,
    touched: HashSet<Key>,
}

/// The entries of one workspace. Shared with the supervisor's thread.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    inner: Mutex<Inner>,
    // How many entries change a stat, and how many there are: most calls need not
    // even look when the answer is none.
    in_stat: AtomicUsize,
    all: AtomicUsize,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes an entry out, keeping the counts.
    fn remove(&self, inner: &mut Inner, key: Key) -> Option<(Stamp, Override)> {
        let entry = inner.entries.remove(&key)?;
        self.all.fetch_sub(1, Ordering::AcqRel);
        if entry.1.in_stat() {
            self.in_stat.fetch_sub(1, Ordering::AcqRel);
        }
        Some(entry)
    }

    /// True if some entry changes what stat says.
    pub(crate) fn changes_stat(&self) -> bool {
        self.in_stat.load(Ordering::Acquire) > 0
    }

    /// True if there is any entry.
    pub(crate) fn has_entries(&self) -> bool {
        self.all.load(Ordering::Acquire) > 0
    }

    /// True if there may be an entry for the inode.
    pub(crate) fn has(&self, key: Key) -> bool {
        self.has_entries() && self.lock().entries.contains_key(&key)
    }

    /// What is recorded about the inode. An entry of a dead inode goes.
    pub(crate) fn get(&self, id: &Identity) -> Override {
        if !self.has_entries() {
            return Override::default();
        }
        let mut inner = self.lock();
        match inner.entries.get(&id.key) {
            Some((stamp, over)) if *stamp == id.stamp => over.clone(),
            Some(_) => {
                self.remove(&mut inner, id.key);
                Override::default()
            }
            None => Override::default(),
        }
    }

    /// Changes what is recorded about the inode, and notes that it changed.
    pub(crate) fn update<T>(&self, id: &Identity, change: impl FnOnce(&mut Override) -> T) -> T {
        let mut inner = self.lock();
        let mut over = match self.remove(&mut inner, id.key) {
            Some((stamp, over)) if stamp == id.stamp => over,
            _ => Override::default(),
        };
        let was = over.clone();
        let result = change(&mut over);
        if over != was {
            inner.touched.insert(id.key);
        }
        if !over.is_empty() {
            self.all.fetch_add(1, Ordering::AcqRel);
            self.in_stat.fetch_add(usize::from(over.in_stat()), Ordering::AcqRel);
            inner.entries.insert(id.key, (id.stamp.clone(), over));
        }
        result
    }

    /// Notes that the inode's content may change without its times doing so.
    pub(crate) fn touch(&self, key: Key) {
        self.lock().touched.insert(key);
    }

    /// The inodes that changed since the last call.
    pub(crate) fn take_touched(&self) -> HashSet<Key> {
        std::mem::take(&mut self.lock().touched)
    }

    /// Forgets every inode that `keep` does not want.
    pub(crate) fn retain(&self, keep: impl Fn(Key) -> bool) {
        let mut inner = self.lock();
        let gone: Vec<Key> = inner.entries.keys().copied().filter(|key| !keep(*key)).collect();
        for key in gone {
            self.remove(&mut inner, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn an_entry_holds_for_its_inode_only() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::default();
        let make = |name: &str| {
            let file = std::fs::File::create(dir.path().join(name)).unwrap();
            Identity::of(file.as_fd()).unwrap().0
        };
        // Inode numbers are used again at once on most file systems; where one does
        // not, the entry is simply never found.
        for round in 0..50 {
            let id = make("a");
            assert_eq!(ledger.get(&id).owner, None, "round {round}: a new inode starts clean");
            ledger.update(&id, |o| o.owner = Some((round, 7)));
            assert_eq!(ledger.get(&id).owner, Some((round, 7)));
            std::fs::remove_file(dir.path().join("a")).unwrap();
        }
        assert!(ledger.changes_stat());
        ledger.retain(|_| false);
        assert!(!ledger.changes_stat() && !ledger.has_entries());
    }

    #[test]
    fn an_entry_without_content_is_no_entry() {
        let file = tempfile::tempfile().unwrap();
        let (id, _) = Identity::of(file.as_fd()).unwrap();
        let ledger = Ledger::default();
        ledger.update(&id, |o| o.xattrs.insert(b"trusted.x".to_vec(), b"1".to_vec()));
        assert!(ledger.has(id.key()) && !ledger.changes_stat());
        assert!(ledger.take_touched().contains(&id.key()));
        ledger.update(&id, |o| o.xattrs.clear());
        assert!(!ledger.has_entries());
    }
}
