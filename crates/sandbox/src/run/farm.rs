//! Copies that stand in for binds where nothing can be mounted.
//!
//! What the command may change is hard-linked where that is possible, so that writing
//! to an existing file needs no copying back; what it may only read is copied, so that
//! it cannot change the original.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

/// Copies a file or a directory with all that is in it to a path that is free.
/// Devices, pipes and sockets are left out.
pub(crate) fn copy(source: &Path, target: &Path, link: bool) -> io::Result<()> {
    let mut queue = vec![(source.to_owned(), target.to_owned())];
    // Directories get their owners and modes last: one may be read-only.
    let mut dirs: Vec<(fs::Metadata, PathBuf)> = Vec::new();
    let top = fs::metadata(source)?;
    while let Some((from, to)) = queue.pop() {
        let meta = if from == source { top.clone() } else { fs::symlink_metadata(&from)? };
        if meta.is_dir() {
            fs::create_dir(&to)?;
            for entry in fs::read_dir(&from)? {
                let name = entry?.file_name();
                queue.push((from.join(&name), to.join(&name)));
            }
            dirs.push((meta, to));
        } else {
            copy_one(&from, &to, &meta, link)?;
        }
    }
    for (meta, to) in dirs.into_iter().rev() {
        own(&to, &meta)?;
    }
    Ok(())
}

fn copy_one(from: &Path, to: &Path, meta: &fs::Metadata, link: bool) -> io::Result<()> {
    let kind = meta.file_type();
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        return lchown(to, Some(meta.uid()), Some(meta.gid()));
    }
    if kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
        return Ok(());
    }
    if link && fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)?;
    own(to, meta)
}

fn own(path: &Path, meta: &fs::Metadata) -> io::Result<()> {
    chown(path, Some(meta.uid()), Some(meta.gid()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    let times = fs::FileTimes::new().set_modified(meta.modified()?);
    fs::File::open(path)?.set_times(times)
}

/// Makes `original` what the copy has become: new and changed files are copied, what is
/// gone is removed. No link of the copy is followed.
pub(crate) fn copy_back(copy: &Path, original: &Path) -> io::Result<()> {
    let mut queue = vec![(copy.to_owned(), original.to_owned())];
    while let Some((from, to)) = queue.pop() {
        let now = fs::symlink_metadata(&from)?;
        let before = match (from == copy, fs::symlink_metadata(&to)) {
            // The original itself may be named through a link.
            (true, _) => Some(fs::metadata(&to)?),
            (false, Ok(meta)) => Some(meta),
            (false, Err(e)) if e.kind() == io::ErrorKind::NotFound => None,
            (false, Err(e)) => return Err(e),
        };
        if now.is_dir() && before.as_ref().is_some_and(fs::Metadata::is_dir) {
            merge_names(&from, &to, &mut queue)?;
            continue;
        }
        let same = before.as_ref().is_some_and(|before| is_same(&now, before));
        if same {
            continue;
        }
        if before.is_some() {
            remove(&to)?;
        }
        if now.is_dir() {
            self::copy(&from, &to, false)?;
        } else {
            copy_one(&from, &to, &now, false)?;
        }
    }
    Ok(())
}

fn is_same(now: &fs::Metadata, before: &fs::Metadata) -> bool {
    let one_inode = (now.dev(), now.ino()) == (before.dev(), before.ino());
    let seen = |m: &fs::Metadata| (m.mode(), m.uid(), m.gid(), m.len(), m.mtime(), m.mtime_nsec());
    one_inode || (now.is_file() && seen(now) == seen(before))
}

fn merge_names(from: &Path, to: &Path, queue: &mut Vec<(PathBuf, PathBuf)>) -> io::Result<()> {
    let names = |dir: &Path| -> io::Result<BTreeSet<_>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    };
    let (now, before) = (names(from)?, names(to)?);
    for gone in before.difference(&now) {
        let path = to.join(gone);
        let kind = fs::symlink_metadata(&path)?.file_type();
        // What was never copied is not gone.
        if kind.is_file() || kind.is_dir() || kind.is_symlink() {
            remove(&path)?;
        }
    }
    queue.extend(now.into_iter().map(|name| (from.join(&name), to.join(&name))));
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_back_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("orig/sub")).unwrap();
        for name in ["orig/keep", "orig/change", "orig/go", "orig/sub/deep", "outside"] {
            fs::write(at(name), name).unwrap();
        }
        copy(&at("orig"), &at("copy"), true).unwrap();
        let ino = |path: &str| fs::metadata(at(path)).unwrap().ino();
        assert_eq!(ino("orig/keep"), ino("copy/keep"), "a link, not a copy");
        fs::remove_file(at("copy/go")).unwrap();
        fs::remove_file(at("copy/change")).unwrap();
        fs::write(at("copy/change"), "changed").unwrap();
        fs::write(at("copy/keep"), "in place").unwrap();
        fs::remove_dir_all(at("copy/sub")).unwrap();
        symlink("../outside", at("copy/sub")).unwrap();
        fs::create_dir(at("copy/new")).unwrap();
        fs::write(at("copy/new/file"), "n").unwrap();
        copy_back(&at("copy"), &at("orig")).unwrap();
        let read = |path: &str| fs::read_to_string(at(path)).unwrap();
        assert_eq!(read("orig/change"), "changed");
        assert_eq!(read("orig/keep"), "in place");
        assert_eq!(read("orig/new/file"), "n");
        assert!(!at("orig/go").exists());
        assert_eq!(fs::read_link(at("orig/sub")).unwrap(), Path::new("../outside"));
        assert_eq!(read("outside"), "outside");
    }

    #[test]
    fn what_is_only_read_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "x").unwrap();
        copy(&dir.path().join("a"), &dir.path().join("b"), false).unwrap();
        let ino = |name: &str| fs::metadata(dir.path().join(name)).unwrap().ino();
        assert_ne!(ino("a"), ino("b"));
    }
}
