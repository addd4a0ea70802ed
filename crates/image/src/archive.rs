//! Tar archives as Trees, compressed or not.
//!
//! What it is not: where a compressed archive is unpacked to (the store, when an image
//! is built; a temporary file without a name here), or a writer (`tree::tar`).
//!
//! What is hostile in an archive stays inside the Tree: links are followed as `tar`
//! would in an empty directory, never out of it.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use dpkg::tar::{Header, Reader, Type};
use tree::{Blob, Content, Kind, Meta, Node, Tree, TreeError, TreePath};

use crate::ImageError;

/// The most that an archive may decompress to.
pub const MAX_UNPACKED: u64 = 64 << 30;
/// One larger than [`dpkg::SMALL_DATA`] may have this many bytes for each compressed one.
pub const MAX_RATIO: u64 = 1000;
/// The most entries that an archive may have.
const MAX_ENTRIES: usize = 4_000_000;
/// Dictionaries up to what `xz -9` uses, with room.
const LZMA_MEMORY: u64 = 128 << 20;
/// 128 MiB windows.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Where a tar header says what it is.
const USTAR: std::ops::Range<usize> = 257..262;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// By the first bytes.
    pub fn of_magic(head: &[u8]) -> Compression {
        match head {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// What is compressed in `input`.
pub fn decoder<'a>(how: Compression, input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let input = BufReader::with_capacity(1 << 17, input);
    Ok(match how {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(LZMA_MEMORY, flags);
            let stream = stream.map_err(io::Error::other)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// The Tree of the archive at `path`, or `None` if it is something else.
pub fn read_if_archive(path: &Path, blob: &Arc<Blob>) -> Result<Option<Tree>, ImageError> {
    let failed = |doing| {
        let path = path.to_owned();
        move |source| ImageError::Io { doing, path, source }
    };
    let size = blob.size().map_err(failed("read"))?;
    let mut head = [0; 512];
    let known = size.min(head.len() as u64) as usize;
    blob.read_exact_at(&mut head[..known], 0).map_err(failed("read"))?;
    let how = Compression::of_magic(&head);
    if how == Compression::None {
        let is_tar = &head[USTAR] == b"ustar";
        return if is_tar { tree_of(path, blob, size).map(Some) } else { Ok(None) };
    }
    let limit = size.saturating_mul(MAX_RATIO).clamp(dpkg::SMALL_DATA, MAX_UNPACKED);
    let content = Content::range(blob.clone(), 0, size);
    let mut input = decoder(how, content.reader()).map_err(failed("decompress"))?;
    let mut first = Vec::new();
    input.by_ref().take(512).read_to_end(&mut first).map_err(failed("decompress"))?;
    if first.get(USTAR) != Some(b"ustar") {
        let what = "it is compressed, and no tar archive: unpack it first".to_owned();
        return Err(ImageError::Refused { path: path.to_owned(), what });
    }
    let mut unpacked: File = tempfile::tempfile().map_err(failed("unpack"))?;
    let mut all = first.chain(input).take(limit + 1);
    let len = io::copy(&mut all, &mut unpacked).map_err(failed("decompress"))?;
    if len > limit {
        let what = format!("it decompresses to more than {limit} bytes");
        return Err(ImageError::Refused { path: path.to_owned(), what });
    }
    tree_of(path, &Blob::opened(path, unpacked, None), len).map(Some)
}

trait Chain {
    fn chain<R: Read>(self, rest: R) -> io::Chain<io::Cursor<Vec<u8>>, R>;
}

impl Chain for Vec<u8> {
    fn chain<R: Read>(self, rest: R) -> io::Chain<io::Cursor<Vec<u8>>, R> {
        io::Cursor::new(self).chain(rest)
    }
}

/// The Tree of the archive that is the first `len` bytes of `blob`: owners by number,
/// times as they are. `path` is for messages.
pub fn tree_of(path: &Path, blob: &Arc<Blob>, len: u64) -> Result<Tree, ImageError> {
    let broken = |source| ImageError::Archive { path: path.to_owned(), source };
    let refused = |what| ImageError::Refused { path: path.to_owned(), what };
    let content = Content::range(blob.clone(), 0, len);
    let mut reader = Reader::new(BufReader::with_capacity(1 << 17, content.reader()));
    let mut tree = Tree::new();
    while let Some(header) = reader.next().map_err(broken)? {
        if tree.len() >= MAX_ENTRIES {
            return Err(refused(format!("more than {MAX_ENTRIES} entries")));
        }
        let shown = String::from_utf8_lossy(&header.path).into_owned();
        add(&mut tree, header, blob)
            .map_err(|source| refused(format!("entry {shown:?}: {source}")))?;
    }
    Ok(tree)
}

/// Adds an entry as `tar --extract` would into an empty directory: through links of
/// the archive to directories of the archive, never out of it.
pub fn add(tree: &mut Tree, header: Header, blob: &Arc<Blob>) -> Result<(), TreeError> {
    let wanted = TreePath::new(&header.path)?;
    let place = match header.kind {
        Type::Directory => tree.resolve(&wanted)?,
        _ => tree.resolve_parent(&wanted)?,
    };
    if let Some(parent) = place.parent() {
        tree.make_dirs(&parent)?;
    }
    let kind = match header.kind {
        Type::HardLink => {
            let target = tree.resolve_parent(&TreePath::new(&header.link)?)?;
            if target == place {
                return Ok(());
            }
            // Looked at first: what is there must not go for a link that leads nowhere.
            match tree.get(&target) {
                None => return Err(TreeError::NotFound(target)),
                Some(node) if node.is_dir() => return Err(TreeError::IsADirectory(target)),
                Some(_) => tree.remove(&place),
            };
            return match tree.contains(&target) {
                true => tree.add_link(place, &target),
                false => Err(TreeError::NotFound(target)),
            };
        }
        Type::File => Kind::File(Content::range(blob.clone(), header.offset, header.size)),
        Type::Symlink => Kind::Symlink(header.link.into()),
        Type::CharDevice => Kind::CharDev(header.device),
        Type::BlockDevice => Kind::BlockDev(header.device),
        Type::Directory => Kind::Dir,
        Type::Fifo => Kind::Fifo,
    };
    let Header { mode, uid, gid, mtime, xattrs, .. } = header;
    tree.put(place, Node { meta: Meta { mode, uid, gid, mtime, xattrs }, kind })
}
