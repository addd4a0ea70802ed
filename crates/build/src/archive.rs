//! Trees of the project that are no directories: tar archives and disk images; and how
//! contents that lie outside the store get into it.
//!
//! What it is not: a format (`dpkg::tar`, `contents`), or where a tree goes (`overlay`).
//!
//! An archive is decompressed once ever: the stream lies in the store under the hash of
//! the file, and contents refer to it. What is hostile in it stays inside the Tree.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use image::archive::{Compression, MAX_RATIO, MAX_UNPACKED};
use store::{KeyHasher, Store};
use tree::{Blob, Content, Kind, Segment, Tree, TreePath};

use crate::error::BuildError;
use crate::outputs::io_error;

/// The kind of objects that contents of layers lie in.
const PACK: &str = "pack";

/// True for what is taken for a tar archive, by its name as mkosi does.
pub fn is_tar(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    [".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".tar.bz2"].iter().any(|s| name.ends_with(s))
}

/// True for what is taken for a disk image.
pub fn is_image(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "raw")
}

/// Reads the tar archive at `path`: owners by number, times as they are.
pub fn read_tar(path: &Path, store: &Store) -> Result<Tree, BuildError> {
    let (blob, len) = unpacked(path, store)?;
    Ok(image::archive::tree_of(path, &blob, len)?)
}

/// The archive's stream in the store, and its length.
fn unpacked(path: &Path, store: &Store) -> Result<(Arc<Blob>, u64), BuildError> {
    let failed = |operation| io_error(operation, path);
    let mut hasher = KeyHasher::new("unpacked archive 2");
    let file = File::open(path).map_err(failed("open"))?;
    let mut digest = Digest::default();
    io::copy(&mut &file, &mut digest).map_err(failed("read"))?;
    hasher.add(&digest.finish());
    let key = hasher.finish();
    if let Some(found) = store.blob(PACK, &key)? {
        return Ok(found);
    }
    io::Seek::rewind(&mut &file).map_err(failed("read"))?;
    let mut pending = store.create(PACK)?;
    let size = file.metadata().map_err(failed("read"))?.len();
    let limit = size.saturating_mul(MAX_RATIO).clamp(dpkg::SMALL_DATA, MAX_UNPACKED);
    let mut input = decoder(path, file).map_err(failed("decompress"))?.take(limit + 1);
    let len = io::copy(&mut input, pending.file_mut()).map_err(failed("decompress"))?;
    if len > limit {
        let message = format!("{}: it decompresses to more than {limit} bytes", path.display());
        return Err(BuildError::Image(message));
    }
    Ok((pending.seal(&key)?, len))
}

fn decoder(path: &Path, file: File) -> io::Result<Box<dyn Read>> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
    let how = match extension.as_str() {
        "gz" | "tgz" => Compression::Gzip,
        "xz" => Compression::Xz,
        "zst" => Compression::Zstd,
        "tar" => Compression::None,
        other => {
            let message = format!("{other:?} is not supported: use .tar, .gz, .xz or .zst");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
    };
    image::archive::decoder(how, file)
}

/// Brings contents that lie in files of the host into the store, so that a layer can
/// refer to them and nobody changes them meanwhile.
pub fn import(tree: &mut Tree, store: &Store) -> Result<(), BuildError> {
    let foreign = |content: &Content| {
        content.segments().any(|s| matches!(s, Segment::Range { blob, .. } if blob.id().is_none()))
    };
    let mut seen = std::collections::HashSet::new();
    let files: Vec<(TreePath, Content)> = tree
        .iter()
        .filter_map(|(path, id, node)| Some((path, id, node.content()?)))
        .filter(|(_, id, content)| foreign(content) && seen.insert(*id))
        .map(|(path, _, content)| (path.clone(), content.clone()))
        .collect();
    if files.is_empty() {
        return Ok(());
    }
    let copy = |out: &mut dyn Write| {
        for (path, content) in &files {
            let copied = io::copy(&mut content.reader(), out);
            let failed = |source| BuildError::Content { path: path.clone(), source };
            if copied.map_err(failed)? != content.len() {
                return Err(failed(io::Error::other("changed while it was read")));
            }
        }
        Ok(())
    };
    let mut digest = Digest::default();
    copy(&mut digest)?;
    let mut hasher = KeyHasher::new("imported contents 2");
    let key = hasher.add(&digest.finish()).finish();
    let blob = match store.blob(PACK, &key)? {
        Some((blob, _)) => blob,
        None => {
            let mut pending = store.create(PACK)?;
            copy(pending.file_mut())?;
            pending.seal(&key)?
        }
    };
    let mut offset = 0;
    for (path, content) in files {
        let len = content.len();
        let node = tree.get_mut(&path).expect("just listed");
        node.kind = Kind::File(Content::range(blob.clone(), offset, len));
        offset += len;
    }
    Ok(())
}

/// SHA-256 as something to write to.
#[derive(Default)]
struct Digest(sha2::Sha256);

impl Digest {
    fn finish(self) -> [u8; 32] {
        sha2::Digest::finalize(self.0).into()
    }
}

impl Write for Digest {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        sha2::Digest::update(&mut self.0, buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Entry points for fuzzing.
#[doc(hidden)]
pub mod fuzzing {
    use super::*;

    /// A tar stream of any bytes.
    pub fn fuzz_tree_archive(data: &[u8]) {
        let mut data = data.to_vec();
        dpkg::tar::seal_all(&mut data);
        let blob = Blob::at_path("/dev/null");
        let mut reader = dpkg::tar::Reader::new(&data[..]);
        let mut tree = Tree::new();
        while let Ok(Some(header)) = reader.next() {
            let _ = image::archive::add(&mut tree, header, &blob);
        }
        // Laid over a system, links among them, it stays a sound Tree.
        let mut system = Tree::new();
        system.add_symlink(TreePath::literal("lib"), "usr/lib").expect("a new path");
        let touched = &mut std::collections::BTreeSet::new();
        if crate::overlay::apply(&mut system, &tree, &TreePath::root(), touched).is_ok() {
            for path in touched.iter() {
                assert!(path.components().all(|c| c != b".."), "{path} stays inside");
            }
        }
    }

    /// A lock: what is read is written and read again.
    pub fn fuzz_lock(data: &[u8]) {
        let Ok(text) = std::str::from_utf8(data) else { return };
        if let Ok(lock) = crate::lock::Lock::parse(text) {
            let again = crate::lock::Lock::parse(&lock.to_text()).expect("what is written is read");
            assert_eq!(again.to_text(), lock.to_text());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tree::{Meta, Node};

    fn sample() -> Tree {
        let p = TreePath::literal;
        let mut tree = Tree::new();
        tree.write(&p("usr/bin/tool"), 0o4755, *b"tool").unwrap();
        tree.get_mut(&p("usr/bin/tool")).unwrap().meta.uid = 1000;
        tree.add_link(p("usr/bin/twin"), &p("usr/bin/tool")).unwrap();
        tree.add_symlink(p("bin"), "usr/bin").unwrap();
        let device = tree::Device { major: 1, minor: 3 };
        tree.add(p("null"), Node { meta: Meta::new(0o666), kind: Kind::CharDev(device) }).unwrap();
        tree
    }

    fn stream(tree: &Tree) -> Vec<u8> {
        let mut bytes = Vec::new();
        tree::tar::write(tree, &mut bytes).unwrap();
        bytes
    }

    fn listing(tree: &Tree) -> Vec<String> {
        let line = |path: &TreePath, node: &Node| {
            let content = node.content().map(|c| c.read(99).unwrap());
            format!(
                "{path} {:?} {:o} {} {content:?}",
                node.kind.name(),
                node.meta.mode,
                node.meta.uid
            )
        };
        tree.iter().map(|(path, _, node)| line(path, node)).collect()
    }

    #[test]
    fn archives_of_every_compression_are_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let bytes = stream(&sample());
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&bytes).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&bytes).unwrap();
        let files = [
            ("a.tar", bytes.clone()),
            ("a.tar.gz", gz.finish().unwrap()),
            ("a.tar.xz", xz.finish().unwrap()),
            ("a.tar.zst", zstd::encode_all(&bytes[..], 1).unwrap()),
        ];
        for (name, bytes) in files {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            assert!(is_tar(&path));
            let tree = read_tar(&path, &store).unwrap();
            assert_eq!(listing(&tree), listing(&sample()), "{name}");
            assert_eq!(tree.links(&TreePath::literal("usr/bin/twin")), 2);
            store::codec::encode_tree(&tree).expect("its contents are in the store");
        }
        let bad = dir.path().join("b.tar.bz2");
        std::fs::write(&bad, b"").unwrap();
        assert!(read_tar(&bad, &store).unwrap_err().to_string().contains("b.tar.bz2"));
    }

    #[test]
    fn entries_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let mut tree = Tree::new();
        tree.add_symlink(TreePath::literal("out"), "../../../etc").unwrap();
        let mut bytes = stream(&tree);
        bytes.truncate(bytes.len() - 1024);
        let mut more = Tree::new();
        more.write(&TreePath::literal("out/passwd"), 0o644, *b"x").unwrap();
        more.remove(&TreePath::literal("none"));
        // Without the directory of its own, so that the link decides.
        let all = stream(&more);
        bytes.extend_from_slice(&all[1024..]);
        let path = dir.path().join("x.tar");
        std::fs::write(&path, bytes).unwrap();
        let tree = read_tar(&path, &store).unwrap();
        assert!(tree.contains(&TreePath::literal("etc/passwd")), "{:?}", listing(&tree));

        let mut header = tar_header(b"../../escape");
        header.extend_from_slice(&[0; 1024]);
        std::fs::write(&path, header).unwrap();
        let error = read_tar(&path, &store).unwrap_err().to_string();
        assert!(error.contains("escape") && error.contains(".."), "{error}");
    }

    fn tar_header(name: &[u8]) -> Vec<u8> {
        let mut block = vec![0; 512];
        block[..name.len()].copy_from_slice(name);
        block[100..107].copy_from_slice(b"0000644");
        block[108..115].copy_from_slice(b"0000000");
        block[116..123].copy_from_slice(b"0000000");
        block[124..135].copy_from_slice(b"00000000000");
        block[136..147].copy_from_slice(b"00000000000");
        block[148..156].copy_from_slice(b"        ");
        block[156] = b'0';
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    #[test]
    fn imported_contents_do_not_change_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        std::fs::create_dir(dir.path().join("tree")).unwrap();
        for name in ["a", "b"] {
            std::fs::write(dir.path().join("tree").join(name), name.repeat(3)).unwrap();
        }
        let options =
            tree::dir::Options { owners: tree::dir::Owners::Root, mtime: None, xattrs: false };
        let mut tree = tree::dir::read(&dir.path().join("tree"), &options).unwrap();
        assert!(store::codec::encode_tree(&tree).is_err());
        import(&mut tree, &store).unwrap();
        store::codec::encode_tree(&tree).unwrap();
        std::fs::write(dir.path().join("tree/b"), b"xyz").unwrap();
        let b = tree.get(&TreePath::literal("b")).unwrap().content().unwrap().read(9).unwrap();
        assert_eq!(b, b"bbb");
    }
}
