//! Where configuration files come from: the real file system or memory.
//!
//! The loader asks for exactly four things (what is there, its bytes, its names,
//! where a link leads) and nothing else of the machine, so that a test or a
//! fuzzer can hand it a project that exists only in memory. Paths are absolute.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

/// How many symbolic links one path may go through, as in Linux.
const MAX_LINKS: usize = 40;

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: never read.
    Other,
}

/// What is known about a path, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Modification time in nanoseconds since 1970.
    pub mtime: i128,
    /// Size in bytes.
    pub size: u64,
}

/// A supply of configuration files.
pub trait FileSource {
    /// What the path leads to; `None` if there is nothing.
    fn meta(&self, path: &Path) -> io::Result<Option<Meta>>;
    /// The file's bytes, at most `limit` of them and one more if there are more.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;
    /// The names in a directory, in any order, at most `limit` and one more.
    fn list(&self, path: &Path, limit: usize) -> io::Result<Vec<String>>;
    /// The target of a symbolic link; `None` if the path is not one.
    fn read_link(&self, path: &Path) -> Option<PathBuf>;

    /// Whether something is there.
    fn exists(&self, path: &Path) -> bool {
        matches!(self.meta(path), Ok(Some(_)))
    }

    /// Whether it is a directory.
    fn is_dir(&self, path: &Path) -> bool {
        matches!(self.meta(path), Ok(Some(m)) if m.kind == Kind::Directory)
    }
}

/// The path with `.`, `..` and symbolic links resolved as far as it exists. A
/// path with too many links keeps what is left of them.
pub fn resolve(files: &dyn FileSource, path: &Path) -> PathBuf {
    let mut todo: Vec<PathBuf> = components(path);
    let mut done = PathBuf::from("/");
    let mut links = 0;
    while let Some(next) = todo.pop() {
        match next.components().next() {
            Some(Component::ParentDir) => {
                done.pop();
            }
            Some(Component::Normal(name)) => {
                let candidate = done.join(name);
                match files.read_link(&candidate).filter(|_| links < MAX_LINKS) {
                    Some(target) => {
                        links += 1;
                        if target.is_absolute() {
                            done = PathBuf::from("/");
                        }
                        todo.extend(components(&target));
                    }
                    None => done = candidate,
                }
            }
            _ => {}
        }
    }
    done
}

/// The components in reverse, so that the next one is popped.
fn components(path: &Path) -> Vec<PathBuf> {
    let mut list: Vec<_> = path.components().map(|c| PathBuf::from(c.as_os_str())).collect();
    list.reverse();
    list
}

/// The files of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFiles;

impl FileSource for RealFiles {
    fn meta(&self, path: &Path) -> io::Result<Option<Meta>> {
        use std::os::unix::fs::MetadataExt;
        let meta = match std::fs::metadata(path) {
            Ok(meta) => meta,
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(e),
        };
        let kind = match meta.file_type() {
            t if t.is_file() => Kind::File,
            t if t.is_dir() => Kind::Directory,
            _ => Kind::Other,
        };
        let mtime = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        Ok(Some(Meta { kind, mode: meta.mode() & 0o7777, mtime, size: meta.size() }))
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        use std::io::Read;
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn list(&self, path: &Path, limit: usize) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path)?.take(limit.saturating_add(1)) {
            let name = entry?.file_name();
            let name = name.into_string().map_err(|name| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{name:?} is not UTF-8"))
            })?;
            names.push(name);
        }
        Ok(names)
    }

    fn read_link(&self, path: &Path) -> Option<PathBuf> {
        std::fs::read_link(path).ok()
    }
}

/// Errors that mean "nothing there": a link to nowhere, a loop of links, a file
/// where a directory was expected.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(libc::ELOOP)
}

/// A project in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles {
    nodes: BTreeMap<PathBuf, Node>,
}

#[derive(Debug, Clone)]
enum Node {
    File { bytes: Vec<u8>, mode: u32 },
    Directory,
    Link(PathBuf),
}

impl MemoryFiles {
    /// Adds a file with mode 0644 and the directories above it.
    pub fn file(&mut self, path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> &mut Self {
        self.file_with_mode(path, bytes, 0o644)
    }

    /// Adds a file with a mode and the directories above it.
    pub fn file_with_mode(
        &mut self,
        path: impl Into<PathBuf>,
        bytes: impl Into<Vec<u8>>,
        mode: u32,
    ) -> &mut Self {
        self.insert(path.into(), Node::File { bytes: bytes.into(), mode })
    }

    /// Adds a directory and those above it.
    pub fn directory(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.insert(path.into(), Node::Directory)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: impl Into<PathBuf>, target: impl Into<PathBuf>) -> &mut Self {
        self.insert(path.into(), Node::Link(target.into()))
    }

    fn insert(&mut self, path: PathBuf, node: Node) -> &mut Self {
        for above in path.ancestors().skip(1) {
            self.nodes.entry(above.to_path_buf()).or_insert(Node::Directory);
        }
        self.nodes.insert(path, node);
        self
    }

    fn find(&self, path: &Path) -> Option<(PathBuf, &Node)> {
        let path = resolve(self, path);
        self.nodes.get(&path).filter(|n| !matches!(n, Node::Link(_))).map(|n| (path, n))
    }
}

impl FileSource for MemoryFiles {
    fn meta(&self, path: &Path) -> io::Result<Option<Meta>> {
        Ok(self.find(path).map(|(_, node)| match node {
            Node::File { bytes, mode } => {
                Meta { kind: Kind::File, mode: *mode, mtime: 0, size: bytes.len() as u64 }
            }
            _ => Meta { kind: Kind::Directory, mode: 0o755, mtime: 0, size: 0 },
        }))
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        match self.find(path) {
            Some((_, Node::File { bytes, .. })) => {
                let end = usize::try_from(limit.saturating_add(1)).unwrap_or(usize::MAX);
                Ok(bytes[..bytes.len().min(end)].to_vec())
            }
            Some(_) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, path: &Path, limit: usize) -> io::Result<Vec<String>> {
        let Some((real, Node::Directory)) = self.find(path) else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        let below = self.nodes.range(real.clone()..).skip(1).map(|(p, _)| p);
        let names = below
            .take_while(|p| p.starts_with(&real))
            .filter(|p| p.parent() == Some(real.as_path()))
            .filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned()));
        Ok(names.take(limit.saturating_add(1)).collect())
    }

    fn read_link(&self, path: &Path) -> Option<PathBuf> {
        match self.nodes.get(path) {
            Some(Node::Link(target)) => Some(target.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_dots_resolve() {
        let mut files = MemoryFiles::default();
        files.file("/p/d/f", "x").link("/p/l", "d").link("/p/a", "/p/l/f").link("/p/loop", "loop");
        let resolved = |p: &str| resolve(&files, Path::new(p));
        assert_eq!(resolved("/p/l/f"), Path::new("/p/d/f"));
        assert_eq!(resolved("/p/a"), Path::new("/p/d/f"));
        assert_eq!(resolved("/p/./x/../y//z"), Path::new("/p/y/z"));
        assert_eq!(resolved("/../.."), Path::new("/"));
        assert_eq!(resolved("/p/l/../q"), Path::new("/p/q"));
        assert!(!files.exists(Path::new("/p/loop")));
        assert_eq!(files.list(Path::new("/p"), 10).unwrap().len(), 4);
    }

    #[test]
    fn the_real_file_system_answers_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("d")).unwrap();
        std::fs::write(root.join("d/f"), "xyz").unwrap();
        std::os::unix::fs::symlink("d", root.join("l")).unwrap();
        std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();
        assert_eq!(resolve(&RealFiles, &root.join("l/../l/f")), root.join("d/f"));
        assert_eq!(RealFiles.read(&root.join("l/f"), 1).unwrap(), b"xy");
        assert!(!RealFiles.exists(&root.join("loop")));
        assert_eq!(RealFiles.meta(&root.join("l/f")).unwrap().unwrap().size, 3);
    }
}
