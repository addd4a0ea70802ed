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
        let made = create_locked(&parent, &std::process::id().to_string());
        let (disk, lock) = made.map_err(io_error("make a directory in", &parent))?;
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

    /// Removes what lies in it: for who begins again.
    pub fn clear(&self) -> Result<(), OutputError> {
        let memory = self.memory.as_ref().map(Memory::dir);
        for dir in [Some(self.disk.as_path()), memory].into_iter().flatten() {
            for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
                let path = entry.map_err(io_error("list", dir))?.path();
                if Some(path.as_path()) != memory {
                    let removed = sandbox::remove_dir(&path).map_err(io::Error::other);
                    removed.map_err(io_error("remove", &path))?;
                }
            }
        }
        Ok(())
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

/// Makes a directory called `name`, or like that, that no living process has, and its
/// lock. Somebody who cleans up may take it away between the two steps, and a process of
/// another container may have the same number: then it gets another name.
pub(crate) fn create_locked(parent: &Path, name: &str) -> io::Result<(PathBuf, File)> {
    for n in 0u32.. {
        let dir = match n {
            0 => parent.join(name),
            n => parent.join(format!("{name}-{n}")),
        };
        match fs::create_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
            other => other?,
        }
        let lock = match File::open(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        let (locked, ours) = (lock.try_lock().is_ok(), lock.metadata()?);
        let is_there = || fs::metadata(&dir).is_ok_and(|there| same_file(&ours, &there));
        // Not empty: ours was taken away, and this is another's who has ended since.
        let is_empty = || fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_none());
        if locked && is_there() && is_empty() {
            return Ok((dir, lock));
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}

/// Whether both are of one file.
pub(crate) fn same_file(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Removes what killed builds left below `parent`. Best effort: what cannot be removed
/// now is somebody else's, or tried again.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        // Only what is called as a build calls it, by its process.
        let name = entry.file_name();
        if name.as_encoded_bytes().iter().all(|byte| byte.is_ascii_digit() || *byte == b'-') {
            remove_if_abandoned(&entry.path());
        }
    }
}

/// Removes a directory that nobody has locked.
pub(crate) fn remove_if_abandoned(path: &Path) {
    // The lock is held until the directory is gone.
    let Ok(dir) = File::open(path) else { return };
    if dir.try_lock().is_err() {
        return;
    }
    // Between the two, somebody may have removed it, and somebody else made another.
    let (locked, there) = (dir.metadata(), fs::metadata(path));
    if locked.is_ok_and(|locked| there.is_ok_and(|there| same_file(&locked, &there))) {
        let _ = sandbox::remove_dir(path);
    }
}

/// Removes what the builds of dead processes left in a cache, in a directory of outputs
/// and beside a lock: everything but downloads, which are taken up again.
pub fn remove_litter(cache: &Path, output: &Path, project: &Path) {
    remove_abandoned(&cache.join("work"));
    crate::outputs::remove_abandoned(output);
    crate::resolve::remove_abandoned(project);
    if cache.is_dir()
        && let Ok(store) = store::Store::open(cache)
    {
        let _ = store.remove_abandoned();
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
        let (disk, lock) = create_locked(&cache.join("work"), "7").unwrap();
        WorkDir { disk, memory: None, _lock: lock }
    }

    #[test]
    fn it_goes_when_dropped_and_so_does_what_a_killed_build_left() {
        let cache = tempfile::tempdir().unwrap();
        let dead = cache.path().join("work/1234567/image/root");
        fs::create_dir_all(&dead).unwrap();
        let foreign = cache.path().join("work/notes");
        fs::create_dir(&foreign).unwrap();
        let living = work_dir(cache.path());
        fs::create_dir(living.on_disk("x")).unwrap();
        remove_abandoned(&cache.path().join("work"));
        assert!(!cache.path().join("work/1234567").exists());
        assert!(foreign.exists(), "no build made it");
        assert!(living.on_disk("x").exists(), "its process lives");
        let disk = living.disk.clone();
        drop(living);
        assert!(!disk.exists());
    }

    #[test]
    fn many_that_begin_and_clean_up_all_get_a_directory_of_their_own() {
        let parent = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        remove_abandoned(parent.path());
                        let (dir, lock) = create_locked(parent.path(), "7").unwrap();
                        fs::create_dir(dir.join("root")).unwrap();
                        remove_abandoned(parent.path());
                        assert!(dir.join("root").exists(), "it is locked");
                        drop(lock);
                    }
                });
            }
        });
        remove_abandoned(parent.path());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_tree_takes_whole_pages() {
        let mut tree = Tree::new();
        tree.write(&tree::TreePath::literal("a"), 0o644, *b"x").unwrap();
        assert_eq!(size(&tree), 4096 + 2 * INODE);
    }
}
