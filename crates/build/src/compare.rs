//! Two builds of one project, compared: equal, or where they differ first.
//!
//! What it is: bytes first, and where those differ, the name of the first file within
//! the output: of a file system, an archive, a directory. What it is not: building
//! (`mkgold build --verify` does that, in processes of their own).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use config::Config;
use config::types::{Compression, OutputFormat};
use tree::dir::{Options, Owners};
use tree::{Blob, Content, Kind, Node, Tree, TreePath};

use crate::compress::decompress;
use crate::contents;
use crate::error::BuildError;
use crate::outputs::io_error;
use crate::pipeline::output_directory;

/// What is compared at a time.
const CHUNK: usize = 1 << 20;
/// A cpio archive larger than this is compared by its bytes only.
const MAX_ARCHIVE: u64 = 2 << 30;

/// The first thing in which two builds differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The output's name.
    pub output: String,
    /// Where in it, and how: `/etc/fstab: content differs from byte 5`.
    pub at: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.output, self.at)
    }
}

/// How many outputs were compared, and the first difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The outputs that both builds have.
    pub outputs: Vec<String>,
    /// `None` if all are the same.
    pub difference: Option<Difference>,
}

/// Compares the outputs of `config` in its output directory with those in `second`,
/// where nothing else is.
pub fn outputs(config: &Config, second: &Path) -> Result<Comparison, BuildError> {
    let first = output_directory(config);
    let listed = std::fs::read_dir(second).map_err(io_error("list", second))?;
    let mut names = BTreeSet::new();
    for entry in listed {
        let entry = entry.map_err(io_error("list", second))?;
        names.insert(entry.file_name().to_string_lossy().into_owned());
    }
    // Files that say what differs come before those that sum others up.
    let image = config.output.file_name();
    let mut ordered: Vec<String> = names.into_iter().collect();
    ordered.sort_by_key(|name| (*name != image, name.ends_with("SHA256SUMS"), name.clone()));
    let mut difference = None;
    for name in &ordered {
        let pair = Pair { config, first: first.join(name), second: second.join(name) };
        if let Some(at) = pair.difference(*name == image)? {
            difference = Some(Difference { output: name.clone(), at });
            break;
        }
    }
    Ok(Comparison { outputs: ordered, difference })
}

/// One output of both builds.
struct Pair<'a> {
    config: &'a Config,
    first: PathBuf,
    second: PathBuf,
}

impl Pair<'_> {
    fn difference(&self, is_image: bool) -> Result<Option<String>, BuildError> {
        if self.first.symlink_metadata().is_err() {
            return Ok(Some("only the second build made it".into()));
        }
        if self.first.is_dir() {
            return self.directories();
        }
        let Some(at) = first_difference(&self.first, &self.second)? else { return Ok(None) };
        let plain = format!("differs from byte {at}");
        if !is_image {
            return self.line(at).map(|line| Some(format!("differs in line {line}")));
        }
        let inside = match (self.config.output.format, self.config.output.outer_compression()) {
            (OutputFormat::Disk, Compression::None) => self.disks(at)?,
            (OutputFormat::Tar, compression) => self.tars(compression)?,
            (OutputFormat::Cpio, compression) => self.cpios(compression)?,
            _ => None,
        };
        Ok(Some(inside.unwrap_or(plain)))
    }

    /// In which line of a text a byte lies.
    fn line(&self, at: u64) -> Result<usize, BuildError> {
        let bytes = std::fs::read(&self.first).map_err(io_error("read", &self.first))?;
        let before = &bytes[..bytes.len().min(at as usize)];
        Ok(before.iter().filter(|b| **b == b'\n').count() + 1)
    }

    fn directories(&self) -> Result<Option<String>, BuildError> {
        let options = Options { owners: Owners::Preserve, mtime: None, xattrs: true };
        let (first, second) =
            (tree::dir::read(&self.first, &options)?, tree::dir::read(&self.second, &options)?);
        trees(&first, &second)
    }

    fn disks(&self, at: u64) -> Result<Option<String>, BuildError> {
        let (Ok(first), Ok(second)) =
            (contents::partitions(&self.first), contents::partitions(&self.second))
        else {
            return Ok(None);
        };
        let (a, b) = (Blob::at_path(&self.first), Blob::at_path(&self.second));
        for (p, q) in first.iter().zip(&second) {
            let (title, same) = (p.title(), (p.offset, p.len) == (q.offset, q.len));
            let trees_of = (contents::read(&a, p.offset), contents::read(&b, q.offset));
            if let (Ok(one), Ok(two)) = trees_of
                && let Some(what) = trees(&one, &two)?
            {
                return Ok(Some(format!("{title}: {what}")));
            }
            if same && (p.offset..p.offset + p.len).contains(&at) {
                let at = at - p.offset;
                return Ok(Some(format!("{title}: differs from its byte {at}, in no file")));
            }
        }
        Ok(Some(format!("the partition table differs, first in byte {at}")))
    }

    fn read(&self, path: &Path, compression: Compression) -> Result<impl Read, BuildError> {
        let file = File::open(path).map_err(io_error("open", path))?;
        Ok(BufReader::new(decompress(file, compression).map_err(io_error("read", path))?))
    }

    fn tars(&self, compression: Compression) -> Result<Option<String>, BuildError> {
        let (mut a, mut b) =
            (self.read(&self.first, compression)?, self.read(&self.second, compression)?);
        let Some(at) = first_of(&mut a, &mut b).map_err(io_error("read", &self.first))? else {
            return Ok(Some("compressed differently, with the same contents".into()));
        };
        let mut archive = tar::Archive::new(self.read(&self.first, compression)?);
        let entries = archive.entries().map_err(io_error("read", &self.first))?;
        for entry in entries {
            let entry = entry.map_err(io_error("read", &self.first))?;
            let (data, size) = (entry.raw_file_position(), entry.size());
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if at < data {
                return Ok(Some(format!("{path}: its metadata differs")));
            }
            if at < data + size {
                return Ok(Some(format!("{path}: content differs from byte {}", at - data)));
            }
        }
        Ok(None)
    }

    fn cpios(&self, compression: Compression) -> Result<Option<String>, BuildError> {
        let read = |path: &Path| -> Result<Vec<u8>, BuildError> {
            let mut bytes = Vec::new();
            let reader = self.read(path, compression)?;
            reader.take(MAX_ARCHIVE).read_to_end(&mut bytes).map_err(io_error("read", path))?;
            Ok(bytes)
        };
        let (first, second) = (read(&self.first)?, read(&self.second)?);
        if first == second {
            return Ok(Some("compressed differently, with the same contents".into()));
        }
        match (boot::cpio::read(&first), boot::cpio::read(&second)) {
            (Ok(first), Ok(second)) => trees(&first, &second),
            _ => Ok(None),
        }
    }
}

/// Where two files differ first; `None` if they are the same.
fn first_difference(first: &Path, second: &Path) -> Result<Option<u64>, BuildError> {
    let mut a = File::open(first).map_err(io_error("open", first))?;
    let mut b = File::open(second).map_err(io_error("open", second))?;
    Ok(first_of(&mut a, &mut b).map_err(io_error("read", first))?)
}

fn first_of(a: &mut impl Read, b: &mut impl Read) -> io::Result<Option<u64>> {
    let (mut one, mut two) = (Vec::new(), Vec::new());
    let mut at = 0;
    loop {
        one.clear();
        two.clear();
        a.by_ref().take(CHUNK as u64).read_to_end(&mut one)?;
        b.by_ref().take(CHUNK as u64).read_to_end(&mut two)?;
        if one != two {
            let same = one.iter().zip(&two).take_while(|(x, y)| x == y).count();
            return Ok(Some(at + same as u64));
        }
        if one.is_empty() {
            return Ok(None);
        }
        at += one.len() as u64;
    }
}

/// The first path in which two trees differ, and how.
fn trees(first: &Tree, second: &Tree) -> Result<Option<String>, BuildError> {
    let paths: BTreeSet<&TreePath> =
        first.iter().chain(second.iter()).map(|(path, _, _)| path).collect();
    for path in paths {
        let what = match (first.get(path), second.get(path)) {
            (Some(a), Some(b)) => node(path, a, b)?,
            (Some(_), None) => Some("only in the first build".into()),
            _ => Some("only in the second build".into()),
        };
        if let Some(what) = what {
            return Ok(Some(format!("{path}: {what}")));
        }
        if first.links(path) != second.links(path) {
            return Ok(Some(format!("{path}: its hard links differ")));
        }
    }
    Ok(None)
}

fn node(path: &TreePath, a: &Node, b: &Node) -> Result<Option<String>, BuildError> {
    let (x, y) = (&a.meta, &b.meta);
    let says = |what: &str, one: String, two: String| Some(format!("{what} {one} and {two}"));
    Ok(match (&a.kind, &b.kind) {
        _ if a.kind.name() != b.kind.name() => {
            says("is", format!("{:?}", a.kind.name()), format!("{:?}", b.kind.name()))
        }
        (Kind::File(one), Kind::File(two)) if content(path, one, two)?.is_some() => {
            content(path, one, two)?.map(|at| format!("content differs from byte {at}"))
        }
        (Kind::Symlink(one), Kind::Symlink(two)) if one != two => says(
            "leads to",
            String::from_utf8_lossy(one).into_owned(),
            String::from_utf8_lossy(two).into_owned(),
        ),
        (Kind::CharDev(one) | Kind::BlockDev(one), Kind::CharDev(two) | Kind::BlockDev(two))
            if one != two =>
        {
            says("is the device", format!("{one:?}"), format!("{two:?}"))
        }
        _ if x.mode != y.mode => says("has mode", format!("{:o}", x.mode), format!("{:o}", y.mode)),
        _ if (x.uid, x.gid) != (y.uid, y.gid) => {
            says("belongs to", format!("{}:{}", x.uid, x.gid), format!("{}:{}", y.uid, y.gid))
        }
        _ if x.mtime != y.mtime => {
            let time = |m: tree::Mtime| format!("{}.{:09}", m.secs, m.nanos);
            says("has time", time(x.mtime), time(y.mtime))
        }
        _ if x.xattrs != y.xattrs => Some("its extended attributes differ".into()),
        _ => None,
    })
}

fn content(path: &TreePath, one: &Content, two: &Content) -> Result<Option<u64>, BuildError> {
    let failed = |source| BuildError::Content { path: path.clone(), source };
    first_of(&mut one.reader(), &mut two.reader()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tree::{Meta, Mtime};

    fn tree(edit: impl FnOnce(&mut Tree)) -> Tree {
        let mut tree = Tree::new();
        tree.make_dirs(&TreePath::literal("etc")).unwrap();
        tree.write(&TreePath::literal("etc/a"), 0o644, *b"hello").unwrap();
        tree.add_symlink(TreePath::literal("etc/l"), "a").unwrap();
        edit(&mut tree);
        tree
    }

    type Edit = fn(&mut Tree);

    #[test]
    fn the_first_path_is_named_and_how_it_differs() {
        let p = TreePath::literal;
        let cases: [(Edit, &str); 7] = [
            (
                |t| t.write(&TreePath::literal("etc/a"), 0o644, *b"help").unwrap(),
                "/etc/a: content differs from byte 3",
            ),
            (
                |t| t.get_mut(&TreePath::literal("etc/a")).unwrap().meta.mode = 0o600,
                "/etc/a: has mode 644 and 600",
            ),
            (
                |t| t.get_mut(&TreePath::literal("etc")).unwrap().meta.uid = 5,
                "/etc: belongs to 0:0 and 5:0",
            ),
            (
                |t| t.get_mut(&TreePath::literal("etc/l")).unwrap().meta.mtime = Mtime::secs(7),
                "/etc/l: has time 0.000000000 and 7.000000000",
            ),
            (
                |t| t.write(&TreePath::literal("etc/b"), 0o644, *b"").unwrap(),
                "/etc/b: only in the second build",
            ),
            (
                |t| assert_eq!(t.remove(&TreePath::literal("etc/l")), 1),
                "/etc/l: only in the first build",
            ),
            (
                |t| t.add_link(TreePath::literal("z"), &TreePath::literal("etc/a")).unwrap(),
                "/etc/a: its hard links differ",
            ),
        ];
        let first = tree(|_| ());
        assert_eq!(trees(&first, &tree(|_| ())).unwrap(), None);
        for (edit, expected) in cases {
            assert_eq!(trees(&first, &tree(edit)).unwrap().unwrap(), expected);
        }
        let other = tree(|t| {
            t.remove(&p("etc/l"));
            t.add_file(p("etc/l"), Meta::file(0o777), Content::empty()).unwrap();
        });
        let said = trees(&first, &other).unwrap().unwrap();
        assert!(said.starts_with("/etc/l: is Symlink and"), "{said}");
    }

    fn config(dir: &Path, args: &[&str]) -> Config {
        let args = args.iter().map(|a| a.split_once('=').unwrap());
        let args = args.map(|(name, value)| config::Argument::new(name, value)).collect();
        let request = config::Request { args };
        config::load(dir, &request, &config::Facts::default()).unwrap().config
    }

    #[test]
    fn a_file_within_an_archive_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let second = dir.path().join("second");
        std::fs::create_dir(&second).unwrap();
        let write = |dir: &Path, content: &[u8]| {
            let mut tree = Tree::new();
            for n in 0..100 {
                let path = TreePath::new(format!("f{n:03}")).unwrap();
                let bytes = if n == 70 { content } else { &[n; 2000] };
                tree.write(&path, 0o644, bytes.to_vec()).unwrap();
            }
            tree::tar::write(&tree, &mut File::create(dir.join("image.tar")).unwrap()).unwrap();
        };
        write(dir.path(), b"abc");
        write(&second, b"abd");
        let config = config(dir.path(), &["--format=tar", "--compress-output=no"]);
        let found = outputs(&config, &second).unwrap();
        let said = found.difference.unwrap().to_string();
        assert_eq!(said, "image.tar: ./f070: content differs from byte 2");
        write(&second, b"abc");
        assert_eq!(outputs(&config, &second).unwrap().difference, None);
        std::fs::write(second.join("image.manifest"), b"{}").unwrap();
        let said = outputs(&config, &second).unwrap().difference.unwrap().to_string();
        assert_eq!(said, "image.manifest: only the second build made it");
    }
}
