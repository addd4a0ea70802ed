//! What is in a directory, without reading any content.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tree::{Mtime, TreePath};

use super::MAX_ENTRIES;
use crate::ledger::Key;
use crate::{Error, confined, sys};

/// What stat says about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub key: Key,
    pub mode: u32,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub device: (u32, u32),
    pub ctime: (i64, u32),
    pub mtime: Mtime,
}

impl Found {
    pub(super) fn of(stat: &libc::statx) -> Found {
        Found {
            key: Key::of(stat),
            mode: stat.stx_mode.into(),
            links: stat.stx_nlink,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
            ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            mtime: Mtime { secs: stat.stx_mtime.tv_sec, nanos: stat.stx_mtime.tv_nsec },
        }
    }

    pub(super) fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    pub(super) fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }
}

/// Every path below `root` with its stat, the root included.
pub(super) fn scan(root: &OwnedFd, path: &Path) -> Result<BTreeMap<TreePath, Found>, Error> {
    let scan = Scan { root, path, count: AtomicUsize::new(0) };
    let top = sys::statx_at(root.as_raw_fd(), c"", libc::AT_EMPTY_PATH, MASK)
        .map_err(Error::io("look at", path))?;
    let device = Found::of(&top).key.dev;
    let queue = Mutex::new(Queue { dirs: vec![TreePath::root()], busy: 0, failed: false });
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..workers).map(|_| scope.spawn(|| scan.work(&queue, device))).collect();
        threads.into_iter().map(|t| t.join().expect("a scan does not panic")).collect::<Vec<_>>()
    });
    let mut all = BTreeMap::from([(TreePath::root(), Found::of(&top))]);
    for found in results {
        all.extend(found?);
    }
    Ok(all)
}

const MASK: u32 = libc::STATX_BASIC_STATS;

struct Queue {
    dirs: Vec<TreePath>,
    busy: usize,
    failed: bool,
}

struct Scan<'a> {
    root: &'a OwnedFd,
    path: &'a Path,
    count: AtomicUsize,
}

impl Scan<'_> {
    fn work(&self, queue: &Mutex<Queue>, device: u64) -> Result<Vec<(TreePath, Found)>, Error> {
        let lock = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut found = Vec::new();
        loop {
            let dir = {
                let mut queue = lock();
                let dir = queue.dirs.pop();
                if dir.is_none() && (queue.busy == 0 || queue.failed) {
                    return Ok(found);
                }
                queue.busy += usize::from(dir.is_some());
                dir
            };
            let Some(dir) = dir else {
                std::thread::yield_now();
                continue;
            };
            let from = found.len();
            let result = self.directory(&dir, device, &mut found);
            let mut queue = lock();
            queue.busy -= 1;
            if result.is_err() {
                queue.failed = true;
                return result.map(|()| found);
            }
            let dirs = found[from..].iter().filter(|(_, f)| f.is_dir());
            queue.dirs.extend(dirs.map(|(path, _)| path.clone()));
        }
    }

    fn directory(
        &self,
        dir: &TreePath,
        device: u64,
        found: &mut Vec<(TreePath, Found)>,
    ) -> Result<(), Error> {
        let here = dir.below(self.path);
        let open = confined::open_dir(self.root.as_fd(), dir).map_err(Error::io("open", &here))?;
        let names = confined::names(open.as_fd()).map_err(Error::io("read", &here))?;
        if self.count.fetch_add(names.len(), Ordering::Relaxed) + names.len() > MAX_ENTRIES {
            return Err(Error::TooManyEntries { path: self.path.into(), limit: MAX_ENTRIES });
        }
        for name in names {
            let path = dir
                .join(name.to_bytes())
                .map_err(|source| Error::Path { dir: here.clone(), source })?;
            let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
            let stat = sys::statx_at(open.as_raw_fd(), &name, flags, MASK)
                .map_err(Error::io("look at", path.below(self.path)))?;
            let entry = Found::of(&stat);
            if entry.key.dev != device && entry.is_dir() {
                let mounted = std::io::Error::from_raw_os_error(libc::EXDEV);
                return Err(Error::io("read, since it is a mount point,", path.below(self.path))(
                    mounted,
                ));
            }
            found.push((path, entry));
        }
        Ok(())
    }
}
