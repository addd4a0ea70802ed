//! Removing what has not been used for long.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::{Key, Store, StoreError};

/// What [`Store::collect`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Objects and leftovers.
    pub files: u64,
    /// Their apparent size in bytes.
    pub bytes: u64,
}

/// What is below a cache and no object: files being written, trees of living builds,
/// and downloads under way.
const NO_KINDS: [&str; 3] = ["tmp", "work", "partial"];

impl Store {
    /// Removes temporary files whose writer is gone. Safe while others build.
    pub fn remove_abandoned(&self) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        for path in entries(&self.root().join(crate::TMP))? {
            // The lock is held until the file is gone.
            let Ok(file) = File::open(&path) else { continue };
            if file.try_lock().is_ok() && is_current(&file, &path) {
                remove(&path, &mut collected)?;
            }
        }
        Ok(collected)
    }

    /// Removes objects not used for `age`, and temporary files whose writer is
    /// gone. Safe while others build: an open object stays readable, and what is
    /// missing is made again.
    pub fn collect(&self, age: Duration, now: SystemTime) -> Result<Collected, StoreError> {
        let mut collected = self.remove_abandoned()?;
        let no_kind = NO_KINDS.map(|name| self.root().join(name));
        for kind in entries(self.root())?.into_iter().filter(|p| !no_kind.contains(p)) {
            for entry in entries(&kind)? {
                if is_key(&entry) {
                    collect_directory(&entry, age, now, &mut collected)?;
                    continue;
                }
                for object in entries(&entry)? {
                    if unused_for(&object, age, now) {
                        remove(&object, &mut collected)?;
                    }
                }
            }
        }
        Ok(collected)
    }
}

/// Whether a name below a kind is that of a directory kept as an object, and not a shard.
fn is_key(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| Key::from_hex(name).is_some())
}

fn collect_directory(
    path: &Path,
    age: Duration,
    now: SystemTime,
    collected: &mut Collected,
) -> Result<(), StoreError> {
    let Ok(dir) = File::open(path) else { return Ok(()) };
    if !unused_for(path, age, now) || dir.try_lock().is_err() || !is_current(&dir, path) {
        return Ok(());
    }
    collected.files += 1;
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Whether the path still leads to the file that was opened.
pub(crate) fn is_current(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
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

    #[test]
    fn removes_the_old_and_the_abandoned_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.put("pack", &Key::of(b"a"), b"12345").unwrap();
        let pending = store.create("pack").unwrap();
        fs::write(dir.path().join("tmp/pack.1.1"), b"left by a killed process").unwrap();

        let now = SystemTime::now();
        let day = Duration::from_secs(86400);
        assert_eq!(store.collect(day, now).unwrap().files, 1, "only the leftover");
        assert!(pending.path().exists(), "a living writer keeps its file");
        let later = now + 2 * day;
        assert_eq!(store.collect(day, later).unwrap(), Collected { files: 1, bytes: 5 });
        assert!(store.get("pack", &Key::of(b"a")).unwrap().is_none());
    }

    #[test]
    fn directories_are_objects_unless_somebody_uses_them() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let of = |name: &[u8]| dir.path().join("tools").join(Key::of(name).to_string());
        for name in [b"used", b"idle"] {
            fs::create_dir_all(of(name).join("root/usr")).unwrap();
            fs::write(of(name).join("root/usr/tool"), b"x").unwrap();
        }
        fs::create_dir_all(dir.path().join("work/7/root")).unwrap();
        let used = File::open(of(b"used")).unwrap();
        used.lock_shared().unwrap();
        let later = SystemTime::now() + Duration::from_secs(100);
        assert_eq!(store.collect(Duration::from_secs(200), later).unwrap().files, 0);
        assert_eq!(store.collect(Duration::from_secs(50), later).unwrap().files, 1);
        assert!(of(b"used").join("root/usr/tool").exists() && !of(b"idle").exists());
        assert!(dir.path().join("work/7/root").exists());
    }

    #[test]
    fn a_name_that_another_process_of_this_number_has_is_left_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let first = store.create("twin").unwrap();
        // The counter is the process's: what follows is taken by somebody else.
        let name = first.path().file_name().unwrap().to_str().unwrap().to_owned();
        let (stem, n) = name.rsplit_once('.').unwrap();
        let n: u64 = n.parse().unwrap();
        for more in 1..50 {
            fs::write(dir.path().join(format!("tmp/{stem}.{}", n + more)), b"theirs").unwrap();
        }
        let second = store.create("twin").unwrap();
        assert_eq!(second.file.as_ref().unwrap().metadata().unwrap().len(), 0);
        second.commit(&Key::of(b"k")).unwrap();
        assert_eq!(fs::read(dir.path().join(format!("tmp/{stem}.{}", n + 1))).unwrap(), b"theirs");
    }
}
