//! Removing what has not been used for long.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::{Store, StoreError};

/// What [`Store::collect`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Objects and leftovers.
    pub files: u64,
    /// Their apparent size in bytes.
    pub bytes: u64,
}

impl Store {
    /// Removes objects not used for `age`, and temporary files whose writer is
    /// gone. Safe while others build: an open object stays readable, and what is
    /// missing is made again.
    pub fn collect(&self, age: Duration, now: SystemTime) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        let tmp = self.root().join("tmp");
        for path in entries(&tmp)? {
            if unused_for(&path, SETTLED, now) && abandoned(&path) {
                remove(&path, &mut collected)?;
            }
        }
        for kind in entries(self.root())?.into_iter().filter(|p| *p != tmp && p.is_dir()) {
            for shard in entries(&kind)? {
                for object in entries(&shard)? {
                    if unused_for(&object, age, now) {
                        remove(&object, &mut collected)?;
                    }
                }
            }
        }
        Ok(collected)
    }
}

fn entries(dir: &Path) -> Result<Vec<std::path::PathBuf>, StoreError> {
    let mut paths: Vec<_> = match fs::read_dir(dir) {
        Ok(entries) => entries.filter_map(Result::ok).map(|e| e.path()).collect(),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Vec::new()
        }
        Err(e) => return Err(StoreError::io("list", dir)(e)),
    };
    paths.sort();
    Ok(paths)
}

/// A new file is not locked for an instant: what is younger is left alone.
const SETTLED: Duration = Duration::from_secs(60);

/// A writer holds a shared lock as long as it lives.
fn abandoned(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

fn unused_for(path: &Path, age: Duration, now: SystemTime) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|m| m.modified());
    modified.is_ok_and(|m| now.duration_since(m).is_ok_and(|unused| unused > age))
}

fn remove(path: &Path, collected: &mut Collected) -> Result<(), StoreError> {
    let bytes = fs::symlink_metadata(path).map_or(0, |m| m.len());
    match fs::remove_file(path) {
        Ok(()) => {
            collected.files += 1;
            collected.bytes += bytes;
            Ok(())
        }
        // Another process was faster.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(StoreError::io("remove", path)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    #[test]
    fn removes_the_old_and_the_abandoned_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.put("pack", &Key::of(b"a"), b"12345").unwrap();
        let pending = store.create("pack").unwrap();
        fs::write(dir.path().join("tmp/pack.1.1"), b"left by a killed process").unwrap();

        let now = SystemTime::now();
        let day = Duration::from_secs(86400);
        assert_eq!(store.collect(day, now).unwrap().files, 0, "may be about to be locked");
        let soon = now + 2 * SETTLED;
        assert_eq!(store.collect(day, soon).unwrap().files, 1, "only the leftover");
        assert!(pending.path().exists(), "a living writer keeps its file");
        let later = now + 2 * day;
        assert_eq!(store.collect(day, later).unwrap(), Collected { files: 1, bytes: 5 });
        assert!(store.get("pack", &Key::of(b"a")).unwrap().is_none());
    }
}
