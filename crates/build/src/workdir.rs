//! Where trees are laid out for scripts: in memory if they fit, else below the cache.
//!
//! A directory per process, locked as long as the process lives; one that nobody
//! locks was left by a killed build and is removed by the next.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sandbox::{Memory, Privilege};
use tree::Tree;

use crate::outputs::{OutputError, io_error};

/// What is left free beside a tree and a copy of it: for what scripts write.
const SPARE: u64 = 256 << 20;
/// What a file takes besides its contents.
const INODE: u64 = 1 << 10;

/// See the module's head. Removed when dropped.
#[derive(Debug)]
pub struct WorkDir {
    disk: PathBuf,
    memory: Option<Memory>,
    _lock: File,
}

impl WorkDir {
    /// Makes it, below `cache`. Call it before any thread is started: it may move the
    /// process to a mount namespace of its own.
    pub fn begin(cache: &Path, privilege: &Privilege) -> Result<WorkDir, OutputError> {
        let mut work = WorkDir::begin_on_disk(cache)?;
        let memory = work.disk.join("memory");
        fs::create_dir(&memory).map_err(io_error("make the directory", &memory))?;
        work.memory = Memory::mount(&memory, privilege);
        Ok(work)
    }

    /// The same without memory, for what is no tree.
    pub fn begin_on_disk(cache: &Path) -> Result<WorkDir, OutputError> {
        let parent = cache.join("work");
        fs::create_dir_all(&parent).map_err(io_error("make the directory", &parent))?;
        let parent = parent.canonicalize().map_err(io_error("resolve", &parent))?;
        remove_abandoned(&parent);
        let disk = parent.join(std::process::id().to_string());
        let lock = create_locked(&disk).map_err(io_error("make the directory", &disk))?;
        Ok(WorkDir { disk, memory: None, _lock: lock })
    }

    /// A directory called `name`, which is not there yet, for `tree`.
    pub fn path(&self, name: &str, tree: &Tree) -> PathBuf {
        let needed = size(tree).saturating_mul(2).saturating_add(SPARE);
        match &self.memory {
            Some(memory) if needed <= memory.size() => memory.dir().join(name),
            _ => self.disk.join(name),
        }
    }

    /// A directory called `name`, which is not there yet, on disk.
    pub fn on_disk(&self, name: &str) -> PathBuf {
        self.disk.join(name)
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        self.memory = None;
        let _ = sandbox::remove_dir(&self.disk);
    }
}

/// A directory and its lock. Somebody who cleans up may take it away between the
/// two steps: then it is made again.
fn create_locked(dir: &Path) -> io::Result<File> {
    loop {
        fs::create_dir_all(dir)?;
        let lock = match File::open(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        lock.lock()?;
        let (ours, there) = (lock.metadata()?, fs::metadata(dir));
        if there.is_ok_and(|there| same_file(&ours, &there)) {
            return Ok(lock);
        }
    }
}

fn same_file(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Best effort: what cannot be removed now is somebody else's, or tried again.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        // The lock is held until the directory is gone.
        let Ok(dir) = File::open(&path) else { continue };
        if dir.try_lock().is_ok() {
            let _ = sandbox::remove_dir(&path);
        }
    }
}

/// What a tree takes when it is laid out.
fn size(tree: &Tree) -> u64 {
    let contents = tree.iter().filter_map(|(_, _, node)| node.content());
    let pages = contents.map(|content| content.len().next_multiple_of(4096));
    pages.sum::<u64>() + tree.iter().count() as u64 * INODE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work_dir(cache: &Path) -> WorkDir {
        fs::create_dir_all(cache.join("work")).unwrap();
        let disk = cache.join("work").join("me");
        let lock = create_locked(&disk).unwrap();
        WorkDir { disk, memory: None, _lock: lock }
    }

    #[test]
    fn it_goes_when_dropped_and_so_does_what_a_killed_build_left() {
        let cache = tempfile::tempdir().unwrap();
        let dead = cache.path().join("work/1234567/image/root");
        fs::create_dir_all(&dead).unwrap();
        let living = work_dir(cache.path());
        fs::create_dir(living.on_disk("x")).unwrap();
        remove_abandoned(&cache.path().join("work"));
        assert!(!cache.path().join("work/1234567").exists());
        assert!(living.on_disk("x").exists(), "its process lives");
        let disk = living.disk.clone();
        drop(living);
        assert!(!disk.exists());
    }

    #[test]
    fn a_tree_takes_whole_pages() {
        let mut tree = Tree::new();
        tree.write(&tree::TreePath::literal("a"), 0o644, *b"x").unwrap();
        assert_eq!(size(&tree), 4096 + 2 * INODE);
    }
}
