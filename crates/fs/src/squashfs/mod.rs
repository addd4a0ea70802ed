//! squashfs, made by mksquashfs from a tar stream of the Tree, and read into one.
//!
//! The tool takes the root directory's owner, mode, time and xattrs from its
//! arguments, not from the stream. It keeps seconds from 1970 to 2106 only, so
//! other times are refused; nanoseconds are lost. It pads to 4096 bytes.

mod read;
mod unpack;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tree::{Kind, Node, Tree, TreePath};

pub use read::{read, read_limited};

use crate::FsError;
use crate::tools::{self, Arg, Tool, ToolRunner};

const NAME: &str = "squashfs";

/// What a file system is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SquashfsOptions {
    /// `gzip`, `lzo`, `lz4`, `xz` or `zstd`; `None` stores everything as it is.
    pub compression: Option<String>,
    /// The compressor's level, where it has levels.
    pub level: Option<u32>,
    /// When it was made, seconds since 1970.
    pub epoch: u32,
}

/// The arguments for mksquashfs, which reads the tree from standard input.
pub fn arguments(tree: &Tree, options: &SquashfsOptions) -> Result<Vec<Arg>, FsError> {
    for (path, _, node) in tree.iter() {
        check(path, node)?;
    }
    let root = &tree.get(&TreePath::root()).expect("a tree has a root").meta;
    let mut args: Vec<Arg> = vec!["-".into(), Arg::Output];
    let fixed = ["-tar", "-noappend", "-no-recovery", "-no-progress", "-quiet", "-exit-on-error"];
    args.extend(fixed.map(Arg::from));
    match &options.compression {
        Some(name) => args.extend(["-comp".into(), Arg::from(name.as_str())]),
        None => args.push("-no-compression".into()),
    }
    if let Some(level) = options.level {
        args.extend(["-Xcompression-level".into(), Arg::from(level.to_string())]);
    }
    for (name, value) in [
        ("-mkfs-time", options.epoch.to_string()),
        ("-root-mode", format!("{:o}", root.mode)),
        ("-root-uid", root.uid.to_string()),
        ("-root-gid", root.gid.to_string()),
        ("-root-time", root.mtime.secs.to_string()),
    ] {
        args.extend([name.into(), Arg::from(value)]);
    }
    for (name, value) in &root.xattrs {
        let plain = name.iter().all(|b| b.is_ascii_graphic() && !b"=\\\"".contains(b));
        if !plain || value.is_empty() {
            return Err(unsupported(&TreePath::root(), "mksquashfs cannot take an xattr of it"));
        }
        // Not as hexadecimal: squashfs-tools 4.6 writes past its buffer decoding long ones.
        let value = STANDARD.encode(value);
        let name = String::from_utf8_lossy(name);
        args.extend(["-p".into(), Arg::from(format!("/ x {name}=0s{value}"))]);
    }
    Ok(args)
}

fn check(path: &TreePath, node: &Node) -> Result<(), FsError> {
    if u32::try_from(node.meta.mtime.secs).is_err() {
        return Err(unsupported(path, "its time is not between 1970 and 2106"));
    }
    if matches!(node.kind, Kind::Socket) {
        return Err(unsupported(path, "is a socket, which a tar stream cannot carry"));
    }
    match node.meta.xattrs.keys().find(|k| k.starts_with(b"system.")) {
        Some(_) => Err(unsupported(path, "has a POSIX ACL, which squashfs does not keep")),
        None => Ok(()),
    }
}

/// Makes the file system in the new file `output`.
pub fn write(
    tree: &Tree,
    options: &SquashfsOptions,
    runner: &dyn ToolRunner,
    output: &Path,
) -> Result<(), FsError> {
    let args = arguments(tree, options)?;
    tools::run(runner, Tool::Mksquashfs, &args, tree, output)
}

fn unsupported(path: &TreePath, why: &str) -> FsError {
    FsError::Unsupported { fs: NAME, path: path.clone(), why: why.into() }
}
