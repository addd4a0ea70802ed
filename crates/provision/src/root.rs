//! A root file system in a directory: read as a Tree, changed by a Plan.
//!
//! Its links are followed inside it only (that is what a Tree does); changes are made
//! below file descriptors with `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)`, so that
//! nothing outside is touched even if somebody swaps a directory for a link meanwhile.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags};
use tree::dir::{DirError, Options, Owners};
use tree::{Blob, Content, Device, Meta, Part, Segment, Tree, TreePath};

use crate::change::{Change, Made, Plan};

/// Why a root cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] DirError),
    /// The operating system refused.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A directory that holds a root file system.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    fd: OwnedFd,
    /// An ordinary user cannot give files away: what would be root's is the user's own,
    /// as with the original tools, which do not try.
    is_root: bool,
}

impl Root {
    /// Opens the directory.
    pub fn open(path: &Path) -> Result<Root, RootError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty()).map_err(|e| RootError::Io {
            operation: "open the directory",
            path: path.to_owned(),
            source: e.into(),
        })?;
        let is_root = rustix::process::geteuid().is_root();
        Ok(Root { path: path.to_owned(), fd, is_root })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it. Contents are read when they are needed.
    pub fn tree(&self) -> Result<Tree, RootError> {
        let options = Options { owners: Owners::Preserve, mtime: None, xattrs: true };
        Ok(tree::dir::read(&self.path, &options)?)
    }

    /// Carries the plan out. What was written before an error stays, each file whole.
    pub fn apply(&self, plan: &Plan) -> Result<(), RootError> {
        let plan = &self.pinned(plan)?;
        for change in &plan.0 {
            self.change(change)?;
        }
        // What is made in a directory needs it to be writable until then.
        for change in plan.0.iter().rev() {
            match change {
                Change::Make { path, what: Made::Directory, meta, .. } => {
                    self.set_meta(path, meta, false)?;
                }
                Change::Adjust { path, meta, symlink } => self.set_meta(path, meta, *symlink)?,
                _ => {}
            }
        }
        fs::syncfs(&self.fd).map_err(|e| self.error("write to the disk", &TreePath::root(), e))
    }

    /// The plan, with the files open that it reads from and replaces or removes.
    fn pinned(&self, plan: &Plan) -> Result<Plan, RootError> {
        let host = |path: &TreePath| path.below(&self.path);
        let gone: BTreeSet<PathBuf> = plan
            .0
            .iter()
            .filter_map(|change| match change {
                Change::Remove { path, .. } | Change::Make { path, replaces: true, .. } => {
                    Some(host(path))
                }
                _ => None,
            })
            .collect();
        let mut plan = plan.clone();
        for change in &mut plan.0 {
            if let Change::Make { path, what: Made::File { content, .. }, .. } = change {
                *content = pin(content, &gone).map_err(|source| RootError::Io {
                    operation: "read what becomes",
                    path: host(path),
                    source,
                })?;
            }
        }
        Ok(plan)
    }

    fn change(&self, change: &Change) -> Result<(), RootError> {
        match change {
            Change::Remove { path, directory } => {
                let parent = self.parent(path)?;
                let flags = if *directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                fs::unlinkat(&parent, file_name(path), flags)
                    .map_err(|e| self.error("remove", path, e))
            }
            Change::Adjust { .. } => Ok(()),
            Change::Link { path, to } => self.replace(path, |parent, name| {
                let from = self.parent(to)?;
                fs::linkat(&from, file_name(to), parent, name, AtFlags::empty())
                    .map_err(|e| self.error("link", path, e))
            }),
            Change::Make { path, what: Made::Directory, .. } => {
                let parent = self.parent(path)?;
                fs::mkdirat(&parent, file_name(path), Mode::RWXU)
                    .map_err(|e| self.error("make the directory", path, e))
            }
            Change::Make { path, what, meta, .. } => {
                self.replace(path, |parent, name| self.make(parent, name, path, what, meta))
            }
        }
    }

    /// The directory of `path`. A Tree's paths lead through no link.
    fn parent(&self, path: &TreePath) -> Result<OwnedFd, RootError> {
        let parent = path.parent().unwrap_or_else(TreePath::root);
        self.open_beneath(&parent, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    fn open_beneath(&self, path: &TreePath, flags: OFlags) -> Result<OwnedFd, RootError> {
        let relative =
            if path.is_root() { OsStr::new(".") } else { OsStr::from_bytes(path.as_bytes()) };
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat2(&self.fd, relative, flags, Mode::empty(), resolve)
            .map_err(|e| self.error("open", path, e))
    }

    /// Makes something under a name of its own, then gives it its name.
    fn replace(
        &self,
        path: &TreePath,
        make: impl FnOnce(&OwnedFd, &OsStr) -> Result<(), RootError>,
    ) -> Result<(), RootError> {
        let parent = self.parent(path)?;
        let temporary = self.unused_name(&parent, path)?;
        let made = make(&parent, &temporary).and_then(|()| {
            fs::renameat(&parent, &temporary, &parent, file_name(path))
                .map_err(|e| self.error("rename to", path, e))
        });
        if made.is_err() {
            // The first error counts.
            let _ = fs::unlinkat(&parent, &temporary, AtFlags::empty());
        }
        made
    }

    /// A name in the same directory that nothing has.
    fn unused_name(
        &self,
        parent: &OwnedFd,
        path: &TreePath,
    ) -> Result<std::ffi::OsString, RootError> {
        let process = rustix::process::getpid().as_raw_nonzero();
        for n in 0..1000 {
            let name = std::ffi::OsString::from(format!(".#mkgold-{process}-{n}"));
            match fs::statat(parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(rustix::io::Errno::NOENT) => return Ok(name),
                Err(e) => return Err(self.error("write", path, e)),
                Ok(_) => {}
            }
        }
        Err(self.error("write", path, rustix::io::Errno::EXIST))
    }

    fn make(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &TreePath,
        what: &Made,
        meta: &Meta,
    ) -> Result<(), RootError> {
        let failed = |e: rustix::io::Errno| self.error("write", path, e);
        let device = |kind, device: &Device| {
            let number = fs::makedev(device.major, device.minor);
            fs::mknodat(parent, name, kind, Mode::empty(), number).map_err(failed)
        };
        match what {
            Made::File { content, .. } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let flags = flags | OFlags::CLOEXEC;
                let fd =
                    fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
                let mut file = File::from(fd);
                copy(content, &mut file).map_err(|source| RootError::Io {
                    operation: "write",
                    path: path.below(&self.path),
                    source,
                })?;
                self.owner_and_mode(&file, path, meta)?;
                file.sync_all().map_err(|source| RootError::Io {
                    operation: "write to the disk",
                    path: path.below(&self.path),
                    source,
                })?;
                return Ok(());
            }
            Made::Symlink { exact, .. } => {
                fs::symlinkat(OsStr::from_bytes(exact), parent, name).map_err(failed)?;
                return self.set_link_owner(parent, name, path, meta);
            }
            Made::CharDevice(number) => device(FileType::CharacterDevice, number)?,
            Made::BlockDevice(number) => device(FileType::BlockDevice, number)?,
            Made::Fifo => device(FileType::Fifo, &Device { major: 0, minor: 0 })?,
            Made::Socket => device(FileType::Socket, &Device { major: 0, minor: 0 })?,
            Made::Directory => unreachable!("directories are not renamed into place"),
        }
        self.set_link_owner(parent, name, path, meta)?;
        fs::chmodat(parent, name, mode(meta), AtFlags::empty()).map_err(failed)
    }

    /// Mode, owner and attributes of what is there.
    fn set_meta(&self, path: &TreePath, meta: &Meta, symlink: bool) -> Result<(), RootError> {
        let parent = self.parent(path)?;
        if symlink {
            return self.set_link_owner(&parent, file_name(path), path, meta);
        }
        let failed = |e| self.error("set mode and owner of", path, e);
        let stat = match path.is_root() {
            true => fs::fstat(&self.fd),
            false => fs::statat(&parent, file_name(path), AtFlags::SYMLINK_NOFOLLOW),
        };
        let kind = FileType::from_raw_mode(stat.map_err(failed)?.st_mode);
        match kind {
            FileType::RegularFile | FileType::Directory => {
                // Opening a pipe or a device to change its mode could block, or do more.
                let fd = self.open_beneath(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
                self.owner_and_mode(&fd, path, meta)
            }
            _ => {
                self.set_link_owner(&parent, file_name(path), path, meta)?;
                fs::chmodat(&parent, file_name(path), mode(meta), AtFlags::empty()).map_err(failed)
            }
        }
    }

    fn owner(&self, meta: &Meta) -> Option<(Uid, Gid)> {
        let owner = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        (self.is_root || (meta.uid, meta.gid) != (0, 0)).then_some(owner)
    }

    fn set_link_owner(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &TreePath,
        meta: &Meta,
    ) -> Result<(), RootError> {
        let Some((uid, gid)) = self.owner(meta) else { return Ok(()) };
        fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| self.error("set the owner of", path, e))
    }

    /// The owner first: changing it clears set-user-ID bits and capabilities.
    fn owner_and_mode(
        &self,
        fd: &impl AsFd,
        path: &TreePath,
        meta: &Meta,
    ) -> Result<(), RootError> {
        let failed = |e| self.error("set mode and owner of", path, e);
        let stat = fs::fstat(fd).map_err(failed)?;
        if let Some((uid, gid)) = self.owner(meta)
            && (stat.st_uid, stat.st_gid) != (meta.uid, meta.gid)
        {
            fs::fchown(fd, Some(uid), Some(gid)).map_err(failed)?;
        }
        fs::fchmod(fd, mode(meta)).map_err(failed)?;
        self.set_xattrs(fd, path, meta)
    }

    fn set_xattrs(&self, fd: &impl AsFd, path: &TreePath, meta: &Meta) -> Result<(), RootError> {
        let failed = |e| self.error("remove an attribute of", path, e);
        for name in names(fd).map_err(failed)? {
            // Labels are the policy's, a Tree does not have them.
            if !meta.xattrs.contains_key(&name) && name != b"security.selinux" {
                fs::fremovexattr(fd, name.as_slice()).map_err(failed)?;
            }
        }
        for (name, value) in &meta.xattrs {
            let mut old = vec![0; value.len() + 1];
            let len = fs::fgetxattr(fd, name.as_slice(), &mut old[..]).ok();
            if len.is_some_and(|len| old[..len] == value[..]) {
                continue;
            }
            fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty())
                .map_err(|e| self.error("set an attribute of", path, e))?;
        }
        Ok(())
    }

    fn error(&self, operation: &'static str, path: &TreePath, e: rustix::io::Errno) -> RootError {
        RootError::Io { operation, path: path.below(&self.path), source: e.into() }
    }
}

fn file_name(path: &TreePath) -> &OsStr {
    if path.is_root() { OsStr::new(".") } else { OsStr::from_bytes(path.name()) }
}

fn mode(meta: &Meta) -> Mode {
    Mode::from_raw_mode(u32::from(meta.mode))
}

/// The content, read from open files instead of those that will be gone.
fn pin(content: &Content, gone: &BTreeSet<PathBuf>) -> io::Result<Content> {
    let reads = |segment: &Segment| matches!(segment, Segment::Range { blob, .. } if gone.contains(blob.path()));
    if !content.segments().any(|segment| reads(&segment)) {
        return Ok(content.clone());
    }
    let mut parts = Vec::new();
    for segment in content.segments() {
        parts.push(match segment {
            Segment::Bytes(bytes) => Part::Bytes(bytes.into()),
            Segment::Hole { len } => Part::Hole { len },
            Segment::Range { blob, offset, len } => {
                let blob = Blob::opened(blob.path(), File::open(blob.path())?, None);
                Part::Data { blob, offset, len }
            }
        });
    }
    Ok(Content::parts(parts))
}

/// The attributes of an open file.
fn names(fd: &impl AsFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut list = vec![0; 64 << 10];
    let len = match fs::flistxattr(fd, &mut list[..]) {
        Err(rustix::io::Errno::NOTSUP) => 0,
        len => len?,
    };
    let names = list[..len].split(|b| *b == 0).filter(|name| !name.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}

fn copy(content: &Content, to: &mut File) -> io::Result<()> {
    let mut reader = content.reader();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            n => to.write_all(&buffer[..n])?,
        }
    }
}
