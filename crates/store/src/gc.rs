//! Removing what has not been used for long, and what somebody wants to be rid of.
//!
//! The time of use is the time of modification, which [`Store::get`] renews. Nothing here
//! waits for a build, and no build for it: an object that is open stays readable, one that
//! is missing is made again, and directories and downloads under way are locked by who
//! uses them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::{Key, Store, StoreError};

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Objects and leftovers.
    pub files: u64,
    /// Their apparent size in bytes.
    pub bytes: u64,
}

/// What is below a cache and does not grow old: files being written, trees of living
/// builds; and the Release file last seen of each archive, without which an older one
/// would be believed.
const NO_KINDS: [&str; 3] = ["tmp", "work", "seen-releases"];
/// Downloads under way, locked by who writes them.
const PARTIAL: &str = "partial";
/// Its time says when the cache was last looked through.
const STAMP: &str = "collected";
/// How often a cache is looked through.
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);

impl Store {
    /// [`Store::collect`], but at most once a day, whoever asks; `None` if it is not time
    /// yet. One stat in that case.
    pub fn collect_daily(
        &self,
        age: Duration,
        now: SystemTime,
    ) -> Result<Option<Collected>, StoreError> {
        let path = self.root().join(STAMP);
        let last = fs::metadata(&path).and_then(|meta| meta.modified());
        // A stamp of the future is one of a clock that was wrong.
        let is_fresh = |last: &SystemTime| now.duration_since(*last).is_ok_and(|d| d < EVERY);
        if last.as_ref().is_ok_and(is_fresh) {
            return Ok(None);
        }
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(StoreError::io("write", &path))?;
        // Somebody else is at it; a cache that is new has nothing old.
        if file.try_lock().is_err() {
            return Ok(None);
        }
        file.set_modified(now).map_err(StoreError::io("set the time of", &path))?;
        match last {
            Ok(_) => self.collect(age, now).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Removes temporary files whose writer is gone. Safe while others build.
    pub fn remove_abandoned(&self) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        for path in entries(&self.root().join(crate::TMP))?.into_iter().filter(|p| is_temporary(p))
        {
            remove_unlocked(&path, &mut collected)?;
        }
        Ok(collected)
    }

    /// Removes an object, or the directory that is one unless somebody uses it.
    pub fn remove(
        &self,
        kind: &str,
        key: &Key,
        collected: &mut Collected,
    ) -> Result<(), StoreError> {
        let directory = self.directory(kind, key);
        match directory.is_dir() {
            true => remove_directory(&directory, collected),
            false => remove(&self.path(kind, key), collected),
        }
    }

    /// Removes objects not used for `age`, and temporary files whose writer is
    /// gone. Safe while others build: an open object stays readable, and what is
    /// missing is made again.
    pub fn collect(&self, age: Duration, now: SystemTime) -> Result<Collected, StoreError> {
        let mut collected = self.remove_abandoned()?;
        let no_kind = NO_KINDS.map(|name| self.root().join(name));
        for kind in entries(self.root())?.into_iter().filter(|p| !no_kind.contains(p)) {
            let partial = kind.file_name().is_some_and(|name| name == PARTIAL);
            for entry in entries(&kind)? {
                if is_key(&entry) {
                    if unused_for(&entry, age, now) {
                        remove_directory(&entry, &mut collected)?;
                    }
                    continue;
                }
                let objects = entries(&entry)?;
                let old = |object: &&PathBuf| is_object(object) && unused_for(object, age, now);
                for object in objects.iter().filter(old) {
                    match partial {
                        true => remove_unlocked(object, &mut collected)?,
                        false => remove(object, &mut collected)?,
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

/// Whether a path is that of an object or a download, and nothing that somebody else keeps
/// in the same directory: `aa/aa…`, 64 hexadecimal digits; a download has its kind before it.
fn is_object(path: &Path) -> bool {
    let shard = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let name = path.file_name().and_then(|name| name.to_str());
    let (Some(shard), Some(name)) = (shard, name) else { return false };
    let key = name.rsplit('.').next().unwrap_or_default();
    shard.len() == 2 && key.starts_with(shard) && Key::from_hex(key).is_some()
}

/// Whether a name is one that [`Store::create`] gives: `kind.process.number`.
fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let parts: Vec<&str> = name.split('.').collect();
    let number = |text: &&str| text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty();
    matches!(parts.as_slice(), [kind, rest @ ..] if !kind.is_empty() && rest.len() == 2 && rest.iter().all(number))
}

/// Removes a file unless a living process has it.
fn remove_unlocked(path: &Path, collected: &mut Collected) -> Result<(), StoreError> {
    // The lock is held until the file is gone.
    let Ok(file) = File::open(path) else { return Ok(()) };
    match file.try_lock().is_ok() && is_current(&file, path) {
        true => remove(path, collected),
        false => Ok(()),
    }
}

fn remove_directory(path: &Path, collected: &mut Collected) -> Result<(), StoreError> {
    let Ok(dir) = File::open(path) else { return Ok(()) };
    if dir.try_lock().is_err() || !is_current(&dir, path) {
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

fn entries(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
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
        let object = fs::metadata(store.path("pack", &Key::of(b"a"))).unwrap().len();
        assert_eq!(store.collect(day, later).unwrap(), Collected { files: 1, bytes: object });
        assert!(store.get("pack", &Key::of(b"a")).unwrap().is_none());
    }

    #[test]
    fn what_somebody_else_keeps_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = Key::of(b"a");
        store.put("pack", &key, b"12345").unwrap();
        let hex = key.to_string();
        let others = [
            "debian~trixie/usr/passwd".to_owned(),
            "tmp/notes.txt".into(),
            "tmp/a.b.1".into(),
            format!("pack/xx/{hex}"),
            format!("pack/{}/{}", &hex[..2], &hex[..63]),
            "file".into(),
        ];
        for name in &others {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, b"x").unwrap();
            age(&path);
        }
        age(&store.path("pack", &key));
        let collected = store.collect(Duration::from_secs(1), SystemTime::now()).unwrap();
        assert_eq!(collected.files, 1, "the object alone");
        others.iter().for_each(|name| assert!(dir.path().join(name).exists(), "{name}"));
    }

    /// Makes a file as old as can be.
    fn age(path: &Path) {
        let file = File::options().append(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }

    #[test]
    fn what_is_used_stays_and_downloads_under_way_and_what_was_seen() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let keys = [b"read", b"blob", b"file", b"need", b"idle"].map(|name| Key::of(name));
        for key in &keys {
            store.put("pack", key, b"x").unwrap();
            age(&store.path("pack", key));
        }
        store.put("seen-releases", &keys[0], b"x").unwrap();
        age(&store.path("seen-releases", &keys[0]));
        let [left, held] = [&keys[0], &keys[1]].map(|key| {
            let hex = key.to_string();
            let path = dir.path().join("partial").join(&hex[..2]).join(format!("debs.{hex}"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, b"x").unwrap();
            age(&path);
            path
        });
        let lock = File::open(&held).unwrap();
        lock.lock().unwrap();
        // Another process uses all but one of them.
        let other = Store::open(dir.path()).unwrap();
        other.read("pack", &keys[0]).unwrap().unwrap();
        other.blob("pack", &keys[1]).unwrap().unwrap();
        other.get("pack", &keys[2]).unwrap().unwrap();
        other.touch("pack", &keys[3]);
        let month = Duration::from_secs(30 * 86400);
        assert_eq!(store.collect(month, SystemTime::now()).unwrap().files, 2);
        let there = keys.map(|key| store.path("pack", &key).exists());
        assert_eq!(there, [true, true, true, true, false]);
        assert!(held.exists() && !left.exists());
        assert!(store.path("seen-releases", &keys[0]).exists());
    }

    #[test]
    fn a_cache_is_looked_through_once_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = Key::of(b"x");
        let old = || {
            store.put("pack", &key, b"x").unwrap();
            age(&store.path("pack", &key));
        };
        let (age, hour) = (Duration::from_secs(30 * 86400), Duration::from_secs(3600));
        let collect = |now| store.collect_daily(age, now).unwrap().map(|c| c.files);
        let now = SystemTime::now();
        old();
        assert_eq!(collect(now), None, "a new cache");
        assert_eq!(collect(now + 23 * hour), None);
        assert_eq!(collect(now + 25 * hour), Some(1));
        old();
        assert_eq!(collect(now + 26 * hour), None);
        assert_eq!(collect(now), Some(1), "the clock was wrong");
    }

    #[test]
    fn one_object_is_removed_but_no_directory_that_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (key, mut collected) = (Key::of(b"x"), Collected::default());
        store.put("pack", &key, b"x").unwrap();
        store.remove("pack", &key, &mut collected).unwrap();
        store.remove("pack", &key, &mut collected).unwrap();
        assert!(!store.path("pack", &key).exists());
        let tree = dir.path().join("tools").join(key.to_string());
        fs::create_dir_all(tree.join("root")).unwrap();
        let used = File::open(&tree).unwrap();
        used.lock_shared().unwrap();
        store.remove("tools", &key, &mut collected).unwrap();
        assert!(tree.exists());
        drop(used);
        store.remove("tools", &key, &mut collected).unwrap();
        assert!(!tree.exists());
        assert_eq!(collected.files, 2);
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
