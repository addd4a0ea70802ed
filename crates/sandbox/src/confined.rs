//! Directory operations that no symbolic link can lead out of a root.
//!
//! Used on directories in which code of an image has run. No process of the sandbox
//! is alive while they are used.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use tree::TreePath;

/// Opens the directory `path` below `root` for use with `*at` calls; a symbolic link
/// anywhere in it is an error.
pub(crate) fn open_dir(root: BorrowedFd<'_>, path: &TreePath) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if path.is_root() {
        return Ok(rustix::fs::openat(root, c".", flags, Mode::empty())?);
    }
    let whole = OsStr::from_bytes(path.as_bytes());
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, whole, flags, Mode::empty(), resolve) {
        // Some containers refuse the call: step by step, then.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
            let mut at = rustix::fs::openat(root, c".", flags, Mode::empty())?;
            for name in path.components() {
                at = rustix::fs::openat(&at, OsStr::from_bytes(name), flags, Mode::empty())?;
            }
            Ok(at)
        }
        other => Ok(other?),
    }
}

/// The directory that holds `path`, and its name there.
pub(crate) fn open_parent(root: BorrowedFd<'_>, path: &TreePath) -> io::Result<(OwnedFd, CString)> {
    let parent = path.parent().ok_or_else(|| io::Error::from_raw_os_error(libc::EBUSY))?;
    Ok((open_dir(root, &parent)?, CString::new(path.name())?))
}

/// What kind of file `name` in `dir` is itself; `None` if there is nothing.
pub(crate) fn kind_at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<FileType>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The names in a directory, without `.` and `..`.
pub(crate) fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = rustix::fs::openat(dir, c".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(open)? {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Removes `name` in `dir` and everything below it, however deep, whatever its modes.
/// Nothing there is no error.
///
/// Who is killed meanwhile leaves nothing but (a part of) `name`.
pub(crate) fn remove_all(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    use rustix::io::Errno;
    if !remains(dir, name)? {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    empty(rustix::fs::openat(dir, name, flags, Mode::empty())?.as_fd())?;
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Removes everything below `top`.
///
/// Directories that are not empty are first moved up into it, so that neither the
/// length of a path nor the number of open files is a limit.
fn empty(top: BorrowedFd<'_>) -> io::Result<()> {
    let mut queue = Vec::new();
    for entry in names(top)? {
        if remains(top, &entry)? {
            queue.push(entry);
        }
    }
    let mut moved = 0u64;
    while let Some(name) = queue.pop() {
        if !remains(top, &name)? {
            continue;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = rustix::fs::openat(top, &name, flags, Mode::empty())?;
        queue.push(name);
        for entry in names(open.as_fd())? {
            if remains(open.as_fd(), &entry)? {
                let place = free_name(top, &mut moved)?;
                rustix::fs::renameat(&open, &entry, top, &place)?;
                queue.push(place);
            }
        }
    }
    Ok(())
}

/// Removes `name`, unless it is a directory with something in it; whether that is so.
fn remains(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    use rustix::io::Errno;
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(false),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e.into()),
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(false),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

fn free_name(dir: BorrowedFd<'_>, counter: &mut u64) -> io::Result<CString> {
    loop {
        *counter += 1;
        let name = CString::new(format!(".removing-{counter}"))?;
        if kind_at(dir, &name)?.is_none() {
            return Ok(name);
        }
    }
}

/// Opens a directory of the host, by any path.
pub(crate) fn open_host_dir(path: &std::path::Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn no_link_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/a/b")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        std::os::unix::fs::symlink("../../outside", dir.path().join("root/a/l")).unwrap();
        let root = open_host_dir(&dir.path().join("root")).unwrap();
        assert!(open_dir(root.as_fd(), &TreePath::literal("a/b")).is_ok());
        assert!(open_dir(root.as_fd(), &TreePath::literal("a/l")).is_err());
        let (parent, name) = open_parent(root.as_fd(), &TreePath::literal("a/l")).unwrap();
        assert_eq!(kind_at(parent.as_fd(), &name).unwrap(), Some(FileType::Symlink));
        remove_all(root.as_fd(), c"a").unwrap();
        assert!(dir.path().join("outside").exists());
        assert!(names(root.as_fd()).unwrap().is_empty());
    }

    #[test]
    fn removing_has_no_depth_limit() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_host_dir(dir.path()).unwrap();
        let mut at = root.try_clone().unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, c"dir", Mode::from_raw_mode(0o755)).unwrap();
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            at = rustix::fs::openat(&at, c"dir", flags, Mode::empty()).unwrap();
        }
        drop(at);
        // Whoever is killed now must leave nothing that has another name.
        let others = std::thread::scope(|scope| {
            let removing = scope.spawn(|| remove_all(root.as_fd(), c"dir").unwrap());
            let mut others = Vec::new();
            while !removing.is_finished() {
                others.extend(names(root.as_fd()).unwrap().into_iter().filter(|n| **n != *c"dir"));
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            others
        });
        assert_eq!(others, Vec::<CString>::new());
        assert!(names(root.as_fd()).unwrap().is_empty());
        remove_all(root.as_fd(), c"dir").unwrap();
    }
}
