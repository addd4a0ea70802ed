//! A directory of the host as a Tree.
//!
//! What it is: a walk that opens every directory relative to its parent and
//! follows no symbolic link, so that what is read is what lies below the given
//! directory, whatever it contains. What it is not: the lay-out of a Tree as a
//! directory (see `sandbox::Workspace`).

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};

use crate::{Blob, Content, Device, Kind, Meta, Mtime, Node, Tree, TreeError, TreePath, Xattrs};

/// More entries than any image has; a bound for hostile or runaway trees.
const MAX_ENTRIES: usize = 8_000_000;
/// Deeper than any image; also what keeps the number of open directories small.
const MAX_DEPTH: usize = 512;
/// The largest value the kernel takes for one attribute (`XATTR_SIZE_MAX`).
const XATTR_SIZE_MAX: usize = 65536;

/// What of the files' metadata counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Everything belongs to root: for trees in a project, which belong to whoever
    /// checked it out.
    Root,
    /// As on the host: for base trees that an image builder made.
    Preserve,
}

/// How a directory is read.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whose the files are.
    pub owners: Owners,
    /// One time for everything, or each file's own. A checkout has no meaningful
    /// times, and an image must not depend on when it was made.
    pub mtime: Option<Mtime>,
    /// Whether extended attributes are read.
    pub xattrs: bool,
}

/// Why a directory cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The operating system refused.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It does not fit into a Tree.
    #[error("{}: {source}", path.display())]
    Tree {
        /// Which path.
        path: PathBuf,
        /// Why.
        source: TreeError,
    },
    /// It is larger or deeper than any image.
    #[error("{}: {what} (the limit is {limit})", path.display())]
    Limit {
        /// Where it was noticed.
        path: PathBuf,
        /// Of what there is too much.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
}

/// Reads the directory at `path`. The root of the Tree takes the directory's own
/// mode; contents refer to the files, which must not change until they are used.
pub fn read(path: &Path, options: &Options) -> Result<Tree, DirError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = fs::open(path, flags, Mode::empty()).map_err(io_error("open", path))?;
    let mut walk = Walk { options, tree: Tree::new(), links: HashMap::new() };
    let stat = fs::fstat(&fd).map_err(io_error("stat", path))?;
    let xattrs = walk.xattrs(path)?;
    let root = walk.meta(&stat, xattrs);
    walk.tree.get_mut(&TreePath::root()).expect("the root is always there").meta = root;
    walk.directory(fd, path, &TreePath::root(), 0)?;
    Ok(walk.tree)
}

fn io_error<E: Into<io::Error>>(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> DirError {
    let path = path.to_owned();
    move |e| DirError::Io { operation, path, source: e.into() }
}

struct Walk<'a> {
    options: &'a Options,
    tree: Tree,
    links: HashMap<(u64, u64), TreePath>,
}

impl Walk<'_> {
    fn directory(
        &mut self,
        fd: OwnedFd,
        host: &Path,
        inside: &TreePath,
        depth: usize,
    ) -> Result<(), DirError> {
        if depth > MAX_DEPTH {
            return Err(limit(host, "directories nested too deep", MAX_DEPTH));
        }
        for name in names(&fd, host)? {
            let host = host.join(std::ffi::OsStr::from_bytes(name.as_bytes()));
            let path = inside.join(name.as_bytes()).map_err(|e| tree_error(&host, e.into()))?;
            self.entry(&fd, &name, &host, path, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: &OwnedFd,
        name: &CStr,
        host: &Path,
        path: TreePath,
        depth: usize,
    ) -> Result<(), DirError> {
        if self.tree.len() >= MAX_ENTRIES {
            return Err(limit(host, "too many files", MAX_ENTRIES));
        }
        let stat =
            fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(io_error("stat", host))?;
        let inode = (stat.st_dev, stat.st_ino);
        let kind = kind(dir, name, host, &stat)?;
        let is_dir = matches!(kind, Kind::Dir);
        if let Some(first) = self.links.get(&inode).filter(|_| !is_dir) {
            return self.tree.add_link(path, first).map_err(|e| tree_error(host, e));
        }
        let xattrs = self.xattrs(host)?;
        let node = Node { meta: self.meta(&stat, xattrs), kind };
        self.tree.add(path.clone(), node).map_err(|e| tree_error(host, e))?;
        if is_dir {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = fs::openat(dir, name, flags, Mode::empty()).map_err(io_error("open", host))?;
            return self.directory(fd, host, &path, depth + 1);
        }
        if stat.st_nlink > 1 {
            self.links.insert(inode, path);
        }
        Ok(())
    }

    fn meta(&self, stat: &fs::Stat, xattrs: Xattrs) -> Meta {
        let own = Mtime { secs: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 };
        let (uid, gid) = match self.options.owners {
            Owners::Root => (0, 0),
            Owners::Preserve => (stat.st_uid, stat.st_gid),
        };
        let mode = (stat.st_mode & 0o7777) as u16;
        Meta { mode, uid, gid, mtime: self.options.mtime.unwrap_or(own), xattrs }
    }

    fn xattrs(&self, host: &Path) -> Result<Xattrs, DirError> {
        if self.options.xattrs { read_xattrs(host) } else { Ok(Xattrs::new()) }
    }
}

fn limit(path: &Path, what: &'static str, limit: usize) -> DirError {
    DirError::Limit { path: path.to_owned(), what, limit }
}

fn tree_error(path: &Path, source: TreeError) -> DirError {
    DirError::Tree { path: path.to_owned(), source }
}

/// The names in a directory, sorted: the order on disk is nobody's business.
fn names(fd: &OwnedFd, host: &Path) -> Result<Vec<CString>, DirError> {
    let mut names = Vec::new();
    let dir = fs::Dir::read_from(fd.as_fd()).map_err(io_error("list", host))?;
    for entry in dir {
        let entry = entry.map_err(io_error("list", host))?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn kind(dir: &OwnedFd, name: &CStr, host: &Path, stat: &fs::Stat) -> Result<Kind, DirError> {
    let device = || Device { major: fs::major(stat.st_rdev), minor: fs::minor(stat.st_rdev) };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Dir,
        FileType::RegularFile => {
            Kind::File(Content::range(Blob::at_path(host), 0, stat.st_size as u64))
        }
        FileType::Symlink => {
            let target = fs::readlinkat(dir, name, Vec::new()).map_err(io_error("read", host))?;
            Kind::Symlink(target.into_bytes().into())
        }
        FileType::CharacterDevice => Kind::CharDev(device()),
        FileType::BlockDevice => Kind::BlockDev(device()),
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::Unknown => {
            let source = io::Error::other("unknown file type");
            return Err(DirError::Io { operation: "stat", path: host.to_owned(), source });
        }
    })
}

/// The extended attributes of `path` itself, without those that name a security
/// context of the host (SELinux labels are the host's policy, not the image's).
pub fn read_xattrs(path: &Path) -> Result<Xattrs, DirError> {
    let mut xattrs = Xattrs::new();
    let mut names = vec![0; XATTR_SIZE_MAX];
    let len = match fs::llistxattr(path, &mut names[..]) {
        Ok(len) => len,
        Err(rustix::io::Errno::NOTSUP) => return Ok(xattrs),
        Err(e) => return Err(io_error("list the attributes of", path)(e)),
    };
    for name in names[..len].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        if name == b"security.selinux" {
            continue;
        }
        let mut value = vec![0; XATTR_SIZE_MAX];
        let len = fs::lgetxattr(path, name, &mut value[..])
            .map_err(io_error("read an attribute of", path))?;
        value.truncate(len);
        xattrs.insert(name.to_vec(), value);
    }
    Ok(xattrs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn reads_what_is_there_and_follows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("sub")).unwrap();
        std::fs::write(at("sub/file"), b"hello").unwrap();
        std::fs::set_permissions(at("sub/file"), PermissionsExt::from_mode(0o4711)).unwrap();
        std::fs::hard_link(at("sub/file"), at("twin")).unwrap();
        symlink("/etc", at("out")).unwrap();

        let epoch = Mtime::secs(1);
        let options = Options { owners: Owners::Root, mtime: Some(epoch), xattrs: true };
        let tree = read(dir.path(), &options).unwrap();
        let paths: Vec<_> = tree.iter().map(|(p, _, _)| p.to_string()).collect();
        assert_eq!(paths, ["/", "/out", "/sub", "/sub/file", "/twin"]);
        let file = tree.get(&TreePath::literal("twin")).unwrap();
        assert_eq!((file.meta.mode, file.meta.uid, file.meta.mtime), (0o4711, 0, epoch));
        assert_eq!(file.content().unwrap().read(10).unwrap(), b"hello");
        assert_eq!(tree.links(&TreePath::literal("twin")), 2);
        let out = tree.get(&TreePath::literal("out")).unwrap();
        assert!(matches!(&out.kind, Kind::Symlink(target) if **target == *b"/etc"));

        let options = Options { owners: Owners::Preserve, mtime: None, xattrs: false };
        let kept = read(dir.path(), &options).unwrap();
        let stat = std::fs::metadata(at("twin")).unwrap();
        let meta = &kept.get(&TreePath::literal("twin")).unwrap().meta;
        assert_eq!((meta.uid, meta.mtime.secs), (stat.uid(), stat.mtime()));
    }

    #[test]
    fn a_missing_directory_is_named() {
        let options = Options { owners: Owners::Root, mtime: None, xattrs: false };
        let error = read(Path::new("/no/such/dir"), &options).unwrap_err().to_string();
        assert!(error.starts_with("open /no/such/dir: No such file"), "{error}");
    }
}
