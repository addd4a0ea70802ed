//! Makes files of nodes.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use tree::{Content, Device, InodeId, Kind, Meta, Node, Segment, Tree, TreePath, Xattrs};

use super::{Workspace, scan};
use crate::ledger::{Identity, Ledger, Special};
use crate::privilege::IDS;
use crate::sink::copy_range;
use crate::supervisor::{Policy, in_ledger, placeholder};
use crate::{Error, confined, sys};

impl Workspace {
    /// Fills the empty root with `tree`.
    pub(super) fn lay_out(&mut self, tree: &Tree) -> Result<(), Error> {
        let builder = self.builder();
        // Directories first, writable for us alone; their own meta comes last, when
        // nothing changes them any more.
        let mut dirs = Vec::new();
        let mut files: Vec<(&TreePath, &Node)> = Vec::new();
        let mut links: Vec<(&TreePath, &TreePath)> = Vec::new();
        let mut first: HashMap<InodeId, &TreePath> = HashMap::new();
        for (path, id, node) in tree.iter() {
            if node.is_dir() {
                if !path.is_root() {
                    builder.make_dir(path)?;
                }
                dirs.push((path, node));
            } else if tree.links(path) > 1 && first.contains_key(&id) {
                links.push((path, first[&id]));
            } else {
                first.insert(id, path);
                files.push((path, node));
            }
        }
        builder.files(&files)?;
        for (path, existing) in links {
            builder.link(path, existing)?;
        }
        for (path, node) in dirs.into_iter().rev() {
            builder.finish_dir(path, &node.meta)?;
        }
        self.remember(tree)
    }

    pub(super) fn builder(&self) -> Builder<'_> {
        Builder {
            root: &self.root,
            path: &self.root_path,
            ledger: &self.ledger,
            policy: self.policy,
        }
    }

    /// Records what the directory is now, which is `tree`.
    pub(super) fn remember(&mut self, tree: &Tree) -> Result<(), Error> {
        self.known = scan::scan(&self.root, &self.root_path)?;
        self.tree = tree.clone();
        self.ledger.take_touched();
        Ok(())
    }
}

/// Makes single files; may be used by several threads.
pub(super) struct Builder<'a> {
    root: &'a OwnedFd,
    path: &'a Path,
    ledger: &'a Ledger,
    policy: Policy,
}

/// How many files a thread takes at a time.
const BATCH: usize = 64;

impl Builder<'_> {
    fn fail(&self, op: &'static str, path: &TreePath) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::io(op, path.below(self.path))
    }

    fn parent(&self, path: &TreePath) -> Result<(OwnedFd, CString), Error> {
        confined::open_parent(self.root.as_fd(), path)
            .map_err(self.fail("open the directory of", path))
    }

    pub(super) fn make_dir(&self, path: &TreePath) -> Result<(), Error> {
        let (parent, name) = self.parent(path)?;
        rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o700))
            .map_err(|e| self.fail("make the directory", path)(e.into()))
    }

    pub(super) fn link(&self, path: &TreePath, existing: &TreePath) -> Result<(), Error> {
        let (parent, name) = self.parent(path)?;
        let (from, from_name) = self.parent(existing)?;
        rustix::fs::linkat(&from, &from_name, &parent, &name, AtFlags::empty())
            .map_err(|e| self.fail("make the hard link", path)(e.into()))
    }

    /// Makes everything that is no directory, on all processors.
    pub(super) fn files(&self, files: &[(&TreePath, &Node)]) -> Result<(), Error> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<(), Error> {
            let mut parent: Option<(TreePath, OwnedFd)> = None;
            loop {
                let from = next.fetch_add(BATCH, Ordering::Relaxed);
                let Some(batch) = files.get(from..files.len().min(from + BATCH)) else {
                    return Ok(());
                };
                if batch.is_empty() {
                    return Ok(());
                }
                for (path, node) in batch {
                    let dir = path.parent().unwrap_or_else(TreePath::root);
                    if parent.as_ref().is_none_or(|(known, _)| *known != dir) {
                        let fd = confined::open_dir(self.root.as_fd(), &dir)
                            .map_err(self.fail("open the directory of", path))?;
                        parent = Some((dir, fd));
                    }
                    let (_, fd) = parent.as_ref().expect("just set");
                    let name = CString::new(path.name()).expect("a tree path has no NUL");
                    self.make(fd, &name, node).map_err(self.fail("make", path))?;
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
        if threads == 1 || files.len() <= BATCH {
            return work();
        }
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            running.into_iter().try_for_each(|t| t.join().expect("making files does not panic"))
        })
    }

    fn make(&self, parent: &OwnedFd, name: &CStr, node: &Node) -> io::Result<()> {
        let private = Mode::from_raw_mode(0o600);
        let special = |kind: FileType| rustix::fs::mknodat(parent, name, kind, private, 0);
        match &node.kind {
            Kind::File(content) => {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                // Mostly it is right at once, and need not be changed.
                let mode = Mode::from_raw_mode(u32::from(node.meta.mode) & 0o777);
                let file = File::from(rustix::fs::openat(parent, name, flags, mode)?);
                write_content(&file, content)?;
                return self.set_meta(file.as_fd(), true, false, &node.meta, None);
            }
            Kind::Symlink(target) => {
                rustix::fs::symlinkat(CString::new(&target[..])?.as_c_str(), parent, name)?;
            }
            Kind::Fifo => special(FileType::Fifo)?,
            Kind::Socket => special(FileType::Socket)?,
            Kind::CharDev(device) => self.device(parent, name, false, *device)?,
            Kind::BlockDev(device) => self.device(parent, name, true, *device)?,
            Kind::Dir => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))?,
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        let placeholder = |block, device: &Device| {
            self.policy.watch.devices.then_some(Special { block, device: *device })
        };
        let special = match &node.kind {
            Kind::CharDev(device) => placeholder(false, device),
            Kind::BlockDev(device) => placeholder(true, device),
            _ => None,
        };
        let link = matches!(node.kind, Kind::Symlink(_));
        self.set_meta(fd.as_fd(), false, link, &node.meta, special)
    }

    fn device(&self, parent: &OwnedFd, name: &CStr, block: bool, device: Device) -> io::Result<()> {
        if self.policy.watch.devices {
            return sys::check(i64::from(placeholder(parent, name, 0o600))).map(drop);
        }
        let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
        let number = rustix::fs::makedev(device.major, device.minor);
        Ok(rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), number)?)
    }

    pub(super) fn finish_dir(&self, path: &TreePath, meta: &Meta) -> Result<(), Error> {
        let set = || {
            let dir = confined::open_dir(self.root.as_fd(), path)?;
            self.set_meta(dir.as_fd(), false, false, meta, None)
        };
        set().map_err(self.fail("set the attributes of", path))
    }

    /// Gives an existing file (not a directory) the meta of a node.
    pub(super) fn finish_file(&self, path: &TreePath, node: &Node) -> Result<(), Error> {
        let set = || {
            let (parent, name) = confined::open_parent(self.root.as_fd(), path)?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(parent, &name, flags, Mode::empty())?;
            let link = matches!(node.kind, Kind::Symlink(_));
            self.set_meta(fd.as_fd(), false, link, &node.meta, None)
        };
        set().map_err(self.fail("set the attributes of", path))
    }

    /// Owner, attributes, mode, times, in the order in which they do not undo each
    /// other. `full` tells a descriptor from one that is only a path (`O_PATH`).
    fn set_meta(
        &self,
        fd: std::os::fd::BorrowedFd<'_>,
        full: bool,
        link: bool,
        meta: &Meta,
        special: Option<Special>,
    ) -> io::Result<()> {
        // Every change is a transaction on a disk's file system: only those that count.
        let (id, stat) = Identity::of(fd)?;
        let is_owned = (stat.stx_uid, stat.stx_gid) == (meta.uid, meta.gid);
        let recorded = match is_owned && !self.policy.watch.owners {
            true => None,
            false => self.set_owner(fd, meta.uid, meta.gid)?,
        };
        let path = CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
        let xattrs = if link { self.link_xattrs(meta) } else { self.set_xattrs(&path, meta)? };
        let is_allowed = is_owned && stat.stx_mode & 0o7777 == meta.mode && xattrs_are_plain(meta);
        if !link && !is_allowed {
            let mode = Mode::from_raw_mode(u32::from(meta.mode));
            match full {
                true => rustix::fs::fchmod(fd, mode)?,
                false => rustix::fs::chmodat(rustix::fs::CWD, &path, mode, AtFlags::empty())?,
            }
        }
        if recorded.is_some()
            || special.is_some()
            || !xattrs.is_empty()
            || self.ledger.has(id.key())
        {
            self.ledger.update(&id, |over| {
                over.owner = recorded;
                over.special = special.or(over.special);
                over.xattrs = xattrs;
            });
        }
        self.set_times(fd, full, meta)
    }

    fn set_owner(
        &self,
        fd: std::os::fd::BorrowedFd<'_>,
        uid: u32,
        gid: u32,
    ) -> io::Result<Option<(u32, u32)>> {
        let recorded = Some((uid, gid)).filter(|owner| *owner != (0, 0));
        if self.policy.watch.owners {
            return Ok(recorded);
        }
        let call = |uid: u32, gid: u32| {
            let flags = libc::AT_EMPTY_PATH;
            // SAFETY: an empty, terminated path and a live descriptor.
            let done = unsafe { libc::fchownat(fd.as_raw_fd(), c"".as_ptr(), uid, gid, flags) };
            sys::check(i64::from(done)).map(drop)
        };
        if self.policy.watch.chown && (uid >= IDS || gid >= IDS) {
            // Not mapped, perhaps: then the ledger has it.
            return match call(uid, gid) {
                Ok(()) => Ok(None),
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => call(0, 0).map(|()| recorded),
                Err(e) => Err(e),
            };
        }
        call(uid, gid).map(|()| None)
    }

    /// Symbolic links have no attributes but those of the ledger.
    fn link_xattrs(&self, meta: &Meta) -> Xattrs {
        let ours = meta.xattrs.iter().filter(|(name, _)| in_ledger(name, &self.policy));
        ours.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Sets what the file system can hold; returns what the ledger must.
    fn set_xattrs(&self, path: &CStr, meta: &Meta) -> io::Result<Xattrs> {
        let mut rest = Xattrs::new();
        for (name, value) in &meta.xattrs {
            if in_ledger(name, &self.policy) {
                rest.insert(name.clone(), value.clone());
                continue;
            }
            let c_name = CString::new(&name[..])?;
            match sys::set_xattr(path, &c_name, value) {
                Ok(()) => {}
                // No such id here, no such attribute on this file system.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                    rest.insert(name.clone(), value.clone());
                }
                Err(e) => return Err(e),
            }
        }
        Ok(rest)
    }

    fn set_times(
        &self,
        fd: std::os::fd::BorrowedFd<'_>,
        full: bool,
        meta: &Meta,
    ) -> io::Result<()> {
        let time = libc::timespec { tv_sec: meta.mtime.secs, tv_nsec: i64::from(meta.mtime.nanos) };
        let times = [time, time];
        // SAFETY: two times, as the call expects; the path is empty and terminated.
        let done = unsafe {
            match full {
                true => libc::futimens(fd.as_raw_fd(), times.as_ptr()),
                false => libc::utimensat(
                    fd.as_raw_fd(),
                    c"".as_ptr(),
                    times.as_ptr(),
                    libc::AT_EMPTY_PATH,
                ),
            }
        };
        sys::check(i64::from(done)).map(drop)
    }
}

/// Whether no attribute changes the mode when it is set, as an ACL does.
fn xattrs_are_plain(meta: &Meta) -> bool {
    meta.xattrs.keys().all(|name| !name.starts_with(b"system."))
}

/// Writes a content into an empty file, in the kernel where it can be.
fn write_content(file: &File, content: &Content) -> io::Result<()> {
    let mut at = 0u64;
    let mut ends_with_hole = false;
    for segment in content.segments() {
        ends_with_hole = matches!(segment, Segment::Hole { .. });
        match segment {
            Segment::Bytes(bytes) => file.write_all_at(bytes, at)?,
            Segment::Range { blob, offset, len } => blob
                .with_file(|from| copy_range(from, offset, file, at, len))
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", blob.path().display())))?,
            Segment::Hole { .. } => {}
        }
        at += segment.len();
    }
    if ends_with_hole { file.set_len(at) } else { Ok(()) }
}
