//! Which files define partitions: precedence, masking, drop-ins.
//!
//! The first directory that has a name decides about it; an empty file or a link to
//! `/dev/null` hides the name in the later ones. Drop-ins are `NAME.conf.d/*.conf`
//! below every directory, by the same rules except for masking.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use tree::{Tree, TreePath};

use super::ini::MAX_FILE;
use super::{Diagnostic, Severity, Source};

/// The directories of an image, the first having precedence.
const SEARCH: [&str; 4] =
    ["etc/repart.d", "run/repart.d", "usr/local/lib/repart.d", "usr/lib/repart.d"];
/// With more files in one directory than this something else is wrong.
const MAX_FILES: usize = 4096;

/// A file and its drop-ins, each with path and content.
pub(super) struct Found {
    pub name: String,
    pub path: String,
    pub drop_ins: Vec<String>,
    /// What to parse, in order: the file unless it is one of its drop-ins, then those.
    pub parts: Vec<(String, Vec<u8>)>,
}

/// Names one file wherever it is reached from.
type Identity = (u64, u64);

struct Candidate {
    path: String,
    identity: Identity,
    bytes: Vec<u8>,
    /// It is a link to `/dev/null`.
    null: bool,
}

/// A directory that definitions may be in.
trait Directory {
    /// The regular files `*.conf` of the subdirectory (or of itself), by name.
    fn files(&self, below: Option<&str>) -> io::Result<BTreeMap<String, Candidate>>;
    /// For messages.
    fn shown(&self) -> String;
}

pub(super) fn find(source: Source<'_>, diagnostics: &mut Vec<Diagnostic>) -> Vec<Found> {
    let mut directories: Vec<Box<dyn Directory + '_>> = Vec::new();
    match source {
        Source::Tree(tree) => {
            for dir in SEARCH {
                directories.push(Box::new(InTree { tree, dir: TreePath::literal(dir) }));
            }
        }
        Source::Root(root) => {
            for dir in SEARCH {
                directories.push(Box::new(InRoot { root, dir }));
            }
        }
        Source::Dirs(dirs) => {
            let mut seen: Vec<&PathBuf> = Vec::new();
            for dir in dirs {
                if !seen.contains(&dir) {
                    seen.push(dir);
                    directories.push(Box::new(OnHost { dir }));
                }
            }
        }
        Source::Texts(texts) => directories.push(Box::new(Given { texts })),
    }
    let mut main: BTreeMap<String, Candidate> = BTreeMap::new();
    for directory in &directories {
        merge(&mut main, directory.as_ref(), None, diagnostics);
    }
    main.retain(|_, c| !c.null && !c.bytes.is_empty());
    let with_drop_ins = |(name, candidate): (String, Candidate)| {
        let mut drop_ins = BTreeMap::new();
        for directory in &directories {
            merge(&mut drop_ins, directory.as_ref(), Some(&format!("{name}.d")), diagnostics);
        }
        assemble(name, candidate, drop_ins)
    };
    main.into_iter().map(with_drop_ins).collect()
}

fn merge(
    into: &mut BTreeMap<String, Candidate>,
    directory: &dyn Directory,
    below: Option<&str>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    match directory.files(below) {
        Ok(files) => {
            for (name, candidate) in files {
                into.entry(name).or_insert(candidate);
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => diagnostics.push(Diagnostic {
            severity: Severity::Warning,
            path: directory.shown(),
            line: None,
            text: None,
            message: format!("the directory is ignored: {e}"),
        }),
    }
}

fn assemble(name: String, main: Candidate, drop_ins: BTreeMap<String, Candidate>) -> Found {
    let again = drop_ins.values().any(|d| d.identity == main.identity);
    let path = main.path.clone();
    let mut parts = Vec::new();
    if !again {
        parts.push((main.path, main.bytes));
    }
    let paths = drop_ins.values().map(|d| d.path.clone()).collect();
    parts.extend(drop_ins.into_values().map(|d| (d.path, d.bytes)));
    Found { name, path, drop_ins: paths, parts }
}

struct InTree<'a> {
    tree: &'a Tree,
    dir: TreePath,
}

impl Directory for InTree<'_> {
    fn files(&self, below: Option<&str>) -> io::Result<BTreeMap<String, Candidate>> {
        let invalid = |e: tree::PathError| io::Error::new(io::ErrorKind::InvalidInput, e);
        let dir = below.map_or(Ok(self.dir.clone()), |b| self.dir.join(b)).map_err(invalid)?;
        let Ok(real) = self.tree.resolve(&dir) else { return Ok(BTreeMap::new()) };
        let mut found = BTreeMap::new();
        for (path, _) in self.tree.children(&real).take(MAX_FILES) {
            let Ok(name) = std::str::from_utf8(path.name()) else { continue };
            let shown = dir.join(name).map_err(invalid)?.to_string();
            if !name.ends_with(".conf") {
                continue;
            }
            if let Some(candidate) = self.candidate(path, shown)? {
                found.insert(name.to_owned(), candidate);
            }
        }
        Ok(found)
    }

    fn shown(&self) -> String {
        self.dir.to_string()
    }
}

impl InTree<'_> {
    fn candidate(&self, path: &TreePath, shown: String) -> io::Result<Option<Candidate>> {
        let Ok(real) = self.tree.resolve(path) else { return Ok(None) };
        if real == TreePath::literal("dev/null") {
            return Ok(Some(Candidate {
                path: shown,
                identity: (1, 0),
                bytes: vec![],
                null: true,
            }));
        }
        let Some(content) = self.tree.get(&real).and_then(|n| n.content()) else { return Ok(None) };
        let bytes = content.read(MAX_FILE)?;
        // Two paths of one inode are one file; its lowest path stands for it.
        let id = self.tree.inode_id(&real);
        let first = self.tree.iter().position(|(_, other, _)| Some(other) == id);
        let identity = (0, first.unwrap_or_default() as u64);
        Ok(Some(Candidate { path: shown, identity, bytes, null: false }))
    }
}

/// A directory below a root of the host. The kernel keeps links within that root.
struct InRoot<'a> {
    root: &'a Path,
    dir: &'static str,
}

impl InRoot<'_> {
    fn open(&self, path: &str, flags: OFlags) -> io::Result<File> {
        let root = rustix::fs::open(self.root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let how = ResolveFlags::IN_ROOT;
        let fd = openat2(root, path, flags | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), how)?;
        Ok(File::from(fd))
    }

    fn candidate(&self, path: &str) -> io::Result<Option<Candidate>> {
        let shown = self.root.join(path).display().to_string();
        // A root that is not running has no device there.
        if std::fs::read_link(self.root.join(path)).is_ok_and(|to| to == Path::new("/dev/null")) {
            let identity = (0, 0);
            return Ok(Some(Candidate { path: shown, identity, bytes: vec![], null: true }));
        }
        match self.open(path, OFlags::PATH).and_then(|found| found.metadata()) {
            Ok(meta) if !meta.is_file() => Ok(None),
            Ok(_) => read_candidate(self.open(path, OFlags::NOCTTY)?, shown),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io::Error::new(e.kind(), format!("{shown}: {e}"))),
        }
    }
}

impl Directory for InRoot<'_> {
    fn files(&self, below: Option<&str>) -> io::Result<BTreeMap<String, Candidate>> {
        let dir = below.map_or(self.dir.to_owned(), |b| format!("{}/{b}", self.dir));
        let opened = self.open(&dir, OFlags::DIRECTORY)?;
        let mut found = BTreeMap::new();
        for entry in rustix::fs::Dir::read_from(opened)?.take(MAX_FILES) {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if !name.ends_with(".conf") {
                continue;
            }
            if let Some(candidate) = self.candidate(&format!("{dir}/{name}"))? {
                found.insert(name.to_owned(), candidate);
            }
        }
        Ok(found)
    }

    fn shown(&self) -> String {
        self.root.join(self.dir).display().to_string()
    }
}

struct OnHost<'a> {
    dir: &'a Path,
}

impl Directory for OnHost<'_> {
    fn files(&self, below: Option<&str>) -> io::Result<BTreeMap<String, Candidate>> {
        let dir = below.map_or(self.dir.to_owned(), |b| self.dir.join(b));
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(&dir)?.take(MAX_FILES) {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
            if !name.ends_with(".conf") {
                continue;
            }
            if let Some(candidate) = on_host(&path)? {
                found.insert(name.to_owned(), candidate);
            }
        }
        Ok(found)
    }

    fn shown(&self) -> String {
        self.dir.display().to_string()
    }
}

fn on_host(path: &Path) -> io::Result<Option<Candidate>> {
    let shown = path.display().to_string();
    let Ok(real) = path.canonicalize() else { return Ok(None) };
    if real == Path::new("/dev/null") {
        return Ok(Some(Candidate { path: shown, identity: (0, 0), bytes: vec![], null: true }));
    }
    match real.metadata()?.is_file() {
        true => read_candidate(File::open(&real)?, shown),
        false => Ok(None),
    }
}

/// `None` if it is no regular file.
fn read_candidate(file: File, shown: String) -> io::Result<Option<Candidate>> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        let message = format!("{shown} is larger than {MAX_FILE} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    let identity = (meta.dev(), meta.ino());
    Ok(Some(Candidate { path: shown, identity, bytes, null: false }))
}

struct Given<'a> {
    texts: &'a [(String, String)],
}

impl Directory for Given<'_> {
    fn files(&self, below: Option<&str>) -> io::Result<BTreeMap<String, Candidate>> {
        let mut found = BTreeMap::new();
        for (i, (name, text)) in (0u64..).zip(self.texts) {
            if below.is_none() && name.ends_with(".conf") {
                let bytes = text.clone().into_bytes();
                let candidate =
                    Candidate { path: name.clone(), identity: (0, i), bytes, null: false };
                found.insert(name.clone(), candidate);
            }
        }
        Ok(found)
    }

    fn shown(&self) -> String {
        "the definitions given".into()
    }
}
