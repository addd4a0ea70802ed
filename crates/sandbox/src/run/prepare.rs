//! What must be in a tree's directory before a command runs in it, and is taken out
//! again afterwards: mount points, injected files, and, where nothing can be mounted,
//! directories that stand in for mounts.
//!
//! Everything is remembered by open directory and name, so that what the command does to
//! the paths meanwhile does not matter.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use tree::TreePath;

use super::farm;
use crate::Error;
use crate::command::Inject;
use crate::confined::{self, kind_at, open_parent, remove_all};
use crate::ledger::Identity;

/// One thing to be undone.
enum Undo {
    /// An empty directory or file that was only there to be mounted on.
    MountPoint { parent: OwnedFd, name: CString, dir: bool },
    /// A directory that stood in for a mount; what it hid comes back.
    StandIn { parent: OwnedFd, name: CString, hidden: Option<CString> },
    /// An injected file, if it is still that one; what it hid comes back.
    Injected { parent: OwnedFd, name: CString, file: Identity, hidden: Option<CString> },
    /// A copy that stood in for a bind; what changed in it goes to the original.
    Copy {
        parent: OwnedFd,
        name: CString,
        hidden: Option<CString>,
        copy: PathBuf,
        back: Option<PathBuf>,
    },
    /// A directory of ours that was moved in, and goes home.
    Lent { parent: OwnedFd, name: CString, home: PathBuf },
}

/// A prepared tree. Dropping it undoes the preparation.
pub(crate) struct Prepared {
    root: OwnedFd,
    path: PathBuf,
    hidden: OwnedFd,
    next: u64,
    undo: Vec<Undo>,
}

impl Prepared {
    /// For the tree at `path`; what is in the way goes to `hidden`, which must be on
    /// the same file system.
    pub(crate) fn new(path: &Path, hidden: &Path) -> Result<Prepared, Error> {
        let open = |dir: &Path| confined::open_host_dir(dir).map_err(Error::io("open", dir));
        Ok(Prepared {
            root: open(path)?,
            path: path.to_owned(),
            hidden: open(hidden)?,
            next: 0,
            undo: Vec::new(),
        })
    }

    fn fail(&self, op: &'static str, path: &TreePath) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::io(op, path.below(&self.path))
    }

    /// Makes the missing parents of `path` and opens the one that holds it.
    fn parent(&mut self, path: &TreePath) -> Result<(OwnedFd, CString), Error> {
        for dir in path.ancestors().filter(|dir| !dir.is_root()) {
            self.mount_point(&dir, true)?;
        }
        open_parent(self.root.as_fd(), path).map_err(self.fail("open the parent of", path))
    }

    /// Makes sure that there is a directory, or a file, to mount on.
    pub(crate) fn mount_point(&mut self, path: &TreePath, dir: bool) -> Result<(), Error> {
        if path.is_root() {
            return Ok(());
        }
        let (parent, name) = match open_parent(self.root.as_fd(), path) {
            Ok(found) => found,
            Err(_) => self.parent(path)?,
        };
        let kind = kind_at(parent.as_fd(), &name).map_err(self.fail("look at", path))?;
        let wrong = |why| Error::MountPoint { path: path.clone(), why };
        match (kind, dir) {
            (Some(FileType::Directory), true) => return Ok(()),
            (Some(FileType::RegularFile), false) => return Ok(()),
            (Some(FileType::Symlink), _) => return Err(wrong("it is a symbolic link")),
            (Some(_), true) => return Err(wrong("it is not a directory")),
            (Some(_), false) => return Err(wrong("it is not a regular file")),
            (None, true) => rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o755))
                .map_err(|e| self.fail("make the directory", path)(e.into()))?,
            (None, false) => {
                drop(create(&parent, &name, 0o644).map_err(self.fail("make the file", path))?)
            }
        }
        self.undo.push(Undo::MountPoint { parent, name, dir });
        Ok(())
    }

    /// True if there is a symbolic link at `path`.
    pub(crate) fn is_link(&self, path: &TreePath) -> bool {
        let found = open_parent(self.root.as_fd(), path).ok();
        found.is_some_and(|(parent, name)| {
            matches!(kind_at(parent.as_fd(), &name), Ok(Some(FileType::Symlink)))
        })
    }

    fn hide(&mut self, parent: &OwnedFd, name: &CStr) -> io::Result<Option<CString>> {
        let hidden = CString::new(format!("hidden-{}", self.next))?;
        self.next += 1;
        match rustix::fs::renameat(parent, name, &self.hidden, &hidden) {
            Ok(()) => Ok(Some(hidden)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Puts an empty directory where a mount would be, hiding what is there. Returns
    /// the directory that holds it and its name, to be filled.
    pub(crate) fn stand_in(&mut self, path: &TreePath, mode: u32) -> Result<PathBuf, Error> {
        let (parent, name) = self.parent(path)?;
        let kind = kind_at(parent.as_fd(), &name).map_err(self.fail("look at", path))?;
        if !matches!(kind, None | Some(FileType::Directory)) {
            let why = "it is not a directory";
            return Err(Error::MountPoint { path: path.clone(), why });
        }
        let hidden = self.hide(&parent, &name).map_err(self.fail("move away", path))?;
        let made = rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o700));
        let exact = made.and_then(|()| {
            let mode = Mode::from_raw_mode(mode);
            rustix::fs::chmodat(&parent, &name, mode, AtFlags::empty())
        });
        self.undo.push(Undo::StandIn { parent, name, hidden });
        exact.map_err(|e| self.fail("make the directory", path)(e.into()))?;
        Ok(path.below(&self.path))
    }

    /// Puts `copy`, a copy of a file or directory on the same file system, at `path`. What
    /// the command changes in it is brought `back` to the original, if there is one.
    pub(crate) fn stand_in_with(
        &mut self,
        path: &TreePath,
        copy: &Path,
        back: Option<&Path>,
    ) -> Result<(), Error> {
        let (parent, name) = self.parent(path)?;
        let hidden = self.hide(&parent, &name).map_err(self.fail("move away", path))?;
        let moved = rustix::fs::renameat(rustix::fs::CWD, copy, &parent, &name);
        let (copy, back) = (copy.to_owned(), back.map(Path::to_owned));
        self.undo.push(match moved {
            Ok(()) => Undo::Copy { parent, name, hidden, copy, back },
            Err(_) => Undo::StandIn { parent, name, hidden },
        });
        moved.map_err(|e| self.fail("put a copy at", path)(e.into()))
    }

    /// Moves a directory of ours to `path` for as long as the command runs.
    pub(crate) fn lend(&mut self, path: &TreePath, home: &Path) -> Result<(), Error> {
        let (parent, name) = self.parent(path)?;
        let hidden = self.hide(&parent, &name).map_err(self.fail("move away", path))?;
        let again = || io::Result::Ok((parent.try_clone()?, name.clone()));
        let (parent_too, name_too) = again().map_err(self.fail("open the parent of", path))?;
        self.undo.push(Undo::StandIn { parent: parent_too, name: name_too, hidden });
        rustix::fs::renameat(rustix::fs::CWD, home, &parent, &name)
            .map_err(|e| self.fail("move the tree to", path)(e.into()))?;
        self.undo.push(Undo::Lent { parent, name, home: home.to_owned() });
        Ok(())
    }

    /// Puts a file in. One that the tree has already stays, unless it is to be replaced.
    pub(crate) fn inject(&mut self, file: &Inject) -> Result<(), Error> {
        let path = &file.path;
        let (parent, name) = self.parent(path)?;
        let there = kind_at(parent.as_fd(), &name).map_err(self.fail("look at", path))?;
        if there == Some(FileType::Directory) || (there.is_some() && !file.replace) {
            return Ok(());
        }
        let hidden = self.hide(&parent, &name).map_err(self.fail("move away", path))?;
        let write = || {
            let mut open = create(&parent, &name, file.mode.into())?;
            io::Write::write_all(&mut open, &file.bytes)?;
            io::Result::Ok(Identity::of(open.as_fd())?.0)
        };
        match write() {
            Ok(file) => {
                self.undo.push(Undo::Injected { parent, name, file, hidden });
                Ok(())
            }
            Err(e) => {
                let fail = self.fail("write", path);
                self.undo.push(Undo::StandIn { parent, name, hidden });
                Err(fail(e))
            }
        }
    }

    /// Undoes everything, in reverse order.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let mut result = Ok(());
        while let Some(step) = self.undo.pop() {
            let done = self.revert(step);
            result = result.and(done);
        }
        result.map_err(Error::io("clean up after the command in", &self.path))
    }

    fn revert(&self, step: Undo) -> io::Result<()> {
        match step {
            Undo::MountPoint { parent, name, dir } => {
                let flags = if dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                // Gone, or in use by the tree now: neither is ours any more.
                let _ = rustix::fs::unlinkat(&parent, &name, flags);
                Ok(())
            }
            Undo::Copy { parent, name, hidden, copy, back } => {
                // First to where no link of the command's can lead elsewhere.
                match rustix::fs::renameat(&parent, &name, rustix::fs::CWD, &copy) {
                    Ok(()) => back.map_or(Ok(()), |back| farm::copy_back(&copy, &back))?,
                    Err(rustix::io::Errno::NOENT) => {}
                    Err(e) => return Err(e.into()),
                }
                self.bring_back(&parent, &name, hidden)
            }
            Undo::Lent { parent, name, home } => {
                Ok(rustix::fs::renameat(&parent, &name, rustix::fs::CWD, &home)?)
            }
            Undo::StandIn { parent, name, hidden } => {
                remove_all(parent.as_fd(), &name)?;
                self.bring_back(&parent, &name, hidden)
            }
            Undo::Injected { parent, name, file, hidden } => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let now = rustix::fs::openat(&parent, &name, flags, Mode::empty());
                match now.map_err(io::Error::from).and_then(|fd| Identity::of(fd.as_fd())) {
                    Ok((now, _)) if now == file => {
                        rustix::fs::unlinkat(&parent, &name, AtFlags::empty())?;
                        self.bring_back(&parent, &name, hidden)
                    }
                    // The command put its own there, or wanted none.
                    _ => match hidden {
                        Some(hidden) => remove_all(self.hidden.as_fd(), &hidden),
                        None => Ok(()),
                    },
                }
            }
        }
    }

    fn bring_back(&self, parent: &OwnedFd, name: &CStr, hidden: Option<CString>) -> io::Result<()> {
        let Some(hidden) = hidden else { return Ok(()) };
        match rustix::fs::renameat(&self.hidden, &hidden, parent, name) {
            // The command removed the directory that held it, and with it this.
            Err(rustix::io::Errno::NOENT) => remove_all(self.hidden.as_fd(), &hidden),
            other => Ok(other?),
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        while let Some(step) = self.undo.pop() {
            let _ = self.revert(step);
        }
    }
}

fn create(parent: &OwnedFd, name: &CStr, mode: u32) -> io::Result<std::fs::File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(mode))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn site() -> (tempfile::TempDir, Prepared) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["root", "hidden"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let prepared = Prepared::new(&dir.path().join("root"), &dir.path().join("hidden"));
        (dir, prepared.unwrap())
    }

    fn p(path: &'static str) -> TreePath {
        TreePath::literal(path)
    }

    #[test]
    fn mount_points_go_and_links_are_refused() {
        let (dir, mut prepared) = site();
        let root = dir.path().join("root");
        std::os::unix::fs::symlink("/etc", root.join("proc")).unwrap();
        let refused = prepared.mount_point(&p("proc"), true).unwrap_err();
        assert!(refused.to_string().contains("symbolic link"), "{refused}");
        prepared.mount_point(&p("var/tmp"), true).unwrap();
        assert!(root.join("var/tmp").is_dir());
        prepared.finish().unwrap();
        let root = confined::open_host_dir(&root).unwrap();
        assert_eq!(confined::names(root.as_fd()).unwrap(), [c"proc".to_owned()]);
    }

    #[test]
    fn what_a_stand_in_hides_comes_back_whatever_happened_in_between() {
        let (dir, mut prepared) = site();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("dev")).unwrap();
        fs::write(root.join("dev/mine"), "x").unwrap();
        let at = prepared.stand_in(&p("dev"), 0o755).unwrap();
        assert!(!at.join("mine").exists());
        fs::remove_dir(&at).unwrap();
        std::os::unix::fs::symlink("/etc", &at).unwrap();
        prepared.finish().unwrap();
        assert_eq!(fs::read_to_string(root.join("dev/mine")).unwrap(), "x");
    }

    #[test]
    fn an_injected_file_goes_unless_the_command_replaced_it() {
        let (dir, mut prepared) = site();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/a"), "old").unwrap();
        fs::write(root.join("etc/b"), "old").unwrap();
        let file = |path, replace| Inject { path, mode: 0o644, bytes: b"new".to_vec(), replace };
        for path in ["etc/a", "etc/b"] {
            prepared.inject(&file(p(path), true)).unwrap();
            assert_eq!(fs::read_to_string(root.join(path)).unwrap(), "new");
        }
        prepared.inject(&file(p("etc/c"), false)).unwrap();
        fs::write(root.join("etc/tmp"), "theirs").unwrap();
        fs::rename(root.join("etc/tmp"), root.join("etc/b")).unwrap();
        prepared.finish().unwrap();
        let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
        assert_eq!((read("etc/a"), read("etc/b")), ("old".into(), "theirs".into()));
        assert!(!root.join("etc/c").exists());
        assert_eq!(fs::read_dir(dir.path().join("hidden")).unwrap().count(), 0);
    }
}
