//! EROFS: written uncompressed from a Tree, compressed by mkfs.erofs, and read
//! (uncompressed) into a Tree.
//!
//! What it is: a writer for images that are mounted as they are: `usr` partitions,
//! sysexts. Tails of files lie beside their inodes as mkfs.erofs puts them. What it is
//! not: a compressor: [`compress`] hands the Tree to mkfs.erofs as a tar stream.
//!
//! Data flow: Tree → [`plan`] (inodes packed into blocks, then data; pure) → bytes.
//! The size follows from the Tree alone; there is no free space.

mod format;
mod packed;
mod plan;
mod read;

use std::fs::File;
use std::path::Path;

use tree::{Kind, Node, Tree, TreePath};
use uuid::Uuid;

pub use read::{read, read_limited};

use crate::FsError;
use crate::bytes::*;
use crate::output::{self, Data, Piece};
use crate::tools::{self, Arg, Tool, ToolRunner};
use format::*;
use plan::Plan;

pub(crate) const NAME: &str = "erofs";

/// What a file system is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErofsOptions {
    /// Its UUID.
    pub uuid: Uuid,
    /// At most 15 bytes.
    pub label: String,
    /// When it was made, seconds since 1970. Files keep their own times.
    pub epoch: u64,
}

impl ErofsOptions {
    fn check(&self) -> Result<(), FsError> {
        if self.label.len() > 15 || self.label.contains('\0') {
            let what = format!("label {:?} is over 15 bytes or has a NUL", self.label);
            return Err(FsError::Parameter { fs: NAME, what });
        }
        Ok(())
    }
}

/// The exact size in bytes that [`write`](write()) writes.
pub fn measure(tree: &Tree) -> Result<u64, FsError> {
    Ok(Plan::new(tree)?.blocks * BLOCK)
}

/// Writes the file system, uncompressed, at `offset` of `out`, which must read as
/// zeroes there and is made longer if it is too short. Returns its size.
pub fn write(tree: &Tree, options: &ErofsOptions, out: &File, offset: u64) -> Result<u64, FsError> {
    options.check()?;
    let plan = Plan::new(tree)?;
    let blocks = u32::try_from(plan.blocks).map_err(|_| FsError::Parameter {
        fs: NAME,
        what: "the tree is larger than 16 TiB".into(),
    })?;
    let size = plan.blocks * BLOCK;
    output::extend(NAME, out, offset, size)?;
    let mut pieces = plan.pieces(offset);
    // The checksum covers the whole first block, so that block is put together here.
    let mut first = vec![0; BLOCK as usize];
    output::fill(NAME, &mut first, &mut pieces, offset)?;
    superblock(&mut first[SUPER_AT..], &plan, options, blocks);
    pieces.push(Piece { at: offset, data: Data::Owned(first) });
    output::write(NAME, out, pieces)?;
    Ok(size)
}

/// Fills in the superblock; `block` is the first block from there to its end.
fn superblock(block: &mut [u8], plan: &Plan, options: &ErofsOptions, blocks: u32) {
    put32(block, 0, MAGIC);
    put32(block, 8, COMPAT_SUM | COMPAT_MTIME);
    block[12] = BLOCK.trailing_zeros() as u8;
    put16(block, 14, plan.root_nid() as u16);
    put32(block, 16, plan.inodes() as u32);
    put32(block, 24, options.epoch as u32);
    put32(block, 28, (options.epoch >> 32) as u32);
    put32(block, 36, blocks);
    block[48..64].copy_from_slice(options.uuid.as_bytes());
    block[64..64 + options.label.len()].copy_from_slice(options.label.as_bytes());
    put32(block, 80, if plan.chunked { INCOMPAT_CHUNKED } else { 0 });
    let sum = checksum(block);
    put32(block, 4, sum);
}

/// How mkfs.erofs compresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// `lz4`, `lz4hc`, `lzma`, `deflate`, `libdeflate` or `zstd`.
    pub algorithm: String,
    /// Its level, where it has levels.
    pub level: Option<u32>,
}

/// The pax header that mkfs.erofs 1.8 reads at most; more is "I/O error".
const PAX_MAX: usize = 32_000;

/// The arguments for mkfs.erofs, which reads the tree from standard input.
pub fn arguments(options: &ErofsOptions, compression: &Compression) -> Result<Vec<Arg>, FsError> {
    options.check()?;
    let level = compression.level.map(|level| format!(",level={level}")).unwrap_or_default();
    let mut args: Vec<Arg> = vec!["--quiet".into(), "--tar=f".into(), "-b4096".into()];
    args.push(format!("-z{}{level}", compression.algorithm).into());
    args.push(format!("-U{}", options.uuid).into());
    args.push(format!("-T{}", options.epoch).into());
    // The time is that of the file system; the files keep their own.
    args.push("--mkfs-time".into());
    if !options.label.is_empty() {
        args.push(format!("-L{}", options.label).into());
    }
    args.push(Arg::Output);
    Ok(args)
}

/// Makes a compressed file system in the new file `output` with mkfs.erofs.
pub fn compress(
    tree: &Tree,
    options: &ErofsOptions,
    compression: &Compression,
    runner: &dyn ToolRunner,
    output: &Path,
) -> Result<(), FsError> {
    for (path, _, node) in tree.iter() {
        tool_takes(path, node)?;
    }
    tools::run(runner, Tool::MkfsErofs, &arguments(options, compression)?, tree, output)
}

/// Refuses what mkfs.erofs 1.8.6 gets wrong when it reads it from a tar stream.
fn tool_takes(path: &TreePath, node: &Node) -> Result<(), FsError> {
    let xattrs = node.meta.xattrs.iter().map(|(name, value)| name.len() + value.len() + 32);
    if xattrs.sum::<usize>() + 2 * path.as_bytes().len() > PAX_MAX {
        return Err(refused(path, "mkfs.erofs takes at most 32 KiB of extended attributes"));
    }
    if node.meta.mtime.secs < 0 && node.meta.mtime.nanos > 0 {
        return Err(refused(path, "mkfs.erofs misreads fractions of a second before 1970"));
    }
    if let Kind::CharDev(device) | Kind::BlockDev(device) = &node.kind
        && device.minor >= 1 << 19
    {
        return Err(refused(path, "mkfs.erofs misreads minor numbers from 524288 on"));
    }
    Ok(())
}

fn refused(path: &TreePath, why: &str) -> FsError {
    FsError::Unsupported { fs: NAME, path: path.clone(), why: why.into() }
}
