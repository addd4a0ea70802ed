//! Reading an image that anybody's tool made, without mounting it: Trees by role.
//!
//! What it is: [`Image::open`] tells what a path is (a directory, a tar archive, a disk
//! with a GPT or an MBR, a bare file system; a disk also inside of a qcow2 file), what
//! each partition holds and what it is for; [`Image::read`] makes one Tree of what is
//! mounted together and one each of the ESP and XBOOTLDR; [`summary`] and [`diff`] say
//! what that is and in what two differ. What it is not: a format of a
//! file system (`fs`), the partition table (`disk::gpt`), or a judgement (`check`).
//!
//! Data flow: path → [`Image`] (tables and superblocks only) → [`System`] (metadata of
//! the file systems; contents stay where they are).
//!
//! Nothing in an image is trusted. What is recognised but cannot be read is said with
//! the reason ([`Unread`]) and is no error: what else there is can still be looked at.
//!
//! Sources: the Discoverable Partitions Specification (UAPI.2), UEFI 2.10 chapter 5,
//! QEMU's `docs/interop/qcow2.txt`, and what the original tools make.

pub mod archive;
pub mod diff;
#[doc(hidden)]
pub mod fuzzing;
mod mbr;
mod mount;
pub mod probe;
mod qcow2;
mod reader;
mod roles;
pub mod summary;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk::{Designator, Guid, TypeGuid};
use serde::Serialize;
use tree::{Blob, Tree, TreeError, TreePath};

pub use mount::{System, Unread};
pub use probe::{Holds, Probe};

/// Why an image cannot be looked at at all.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The operating system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is damaged, or uses what is not supported.
    #[error("{}: {what}", path.display())]
    Refused {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what would help.
        what: String,
    },
    /// A directory that cannot be read.
    #[error(transparent)]
    Directory(#[from] tree::dir::DirError),
    /// An archive that is damaged.
    #[error("{}: it is no sound tar archive", path.display())]
    Archive {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: dpkg::Problem,
    },
    /// File systems that do not fit together.
    #[error("{}: {at}: cannot be put into one tree", path.display())]
    Mount {
        /// Which image.
        path: PathBuf,
        /// Where it would be mounted.
        at: TreePath,
        /// Why not.
        #[source]
        source: TreeError,
    },
}

/// What kind of thing was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Format {
    Directory,
    Tar,
    Raw,
    Qcow2,
}

/// How the disk is divided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Table {
    /// A GUID partition table.
    Gpt {
        /// The disk's GUID.
        guid: Guid,
        /// What is not as it should be, in words.
        damage: Vec<String>,
    },
    /// A table of the BIOS's time.
    Mbr,
    /// None: the file system begins at the first byte.
    None,
}

/// The type of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", untagged)]
pub enum Kind {
    /// Of a GPT.
    Gpt(TypeGuid),
    /// Of an MBR.
    Mbr(u8),
    /// A bare file system has none.
    Bare,
}

/// One partition.
#[derive(Debug, Clone, Serialize)]
pub struct Partition {
    /// Its number in the table, counted from 1.
    pub number: u32,
    /// Its type.
    pub kind: Kind,
    /// Its own GUID, in a GPT.
    pub guid: Option<Guid>,
    /// Its name, in a GPT.
    pub name: String,
    /// The GPT's attribute bits.
    pub attributes: u64,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its size in bytes.
    pub size: u64,
    /// What is in it.
    #[serde(flatten)]
    pub probe: Probe,
    /// What it is for, where that is known.
    #[serde(serialize_with = "roles::as_name")]
    pub role: Option<Designator>,
}

impl Partition {
    /// For messages: `partition 2 (root-x86-64, ext4)`.
    pub fn title(&self) -> String {
        let kind = match self.kind {
            Kind::Gpt(kind) => kind.identifier().unwrap_or_else(|| kind.0.to_string()),
            Kind::Mbr(kind) => format!("type {kind:#04x}"),
            Kind::Bare => return format!("the {} file system", self.probe.holds),
        };
        format!("partition {} ({kind}, {})", self.number, self.probe.holds)
    }

    /// The partition type, if the table is a GPT.
    pub fn type_guid(&self) -> Option<TypeGuid> {
        match self.kind {
            Kind::Gpt(kind) => Some(kind),
            _ => None,
        }
    }
}

/// An image whose tables have been read.
#[derive(Debug)]
pub struct Image {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub format: Format,
    /// Its size in bytes, if it is a disk.
    pub size: Option<u64>,
    /// How it is divided, if it is a disk.
    pub table: Option<Table>,
    /// Its partitions, in the table's order.
    pub partitions: Vec<Partition>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Tree(Tree),
    Disk(Arc<Blob>),
}

impl Image {
    /// Opens `path`: a directory, an archive, a disk image or a block device.
    pub fn open(path: &Path) -> Result<Image, ImageError> {
        let io = |doing| {
            let path = path.to_owned();
            move |source| ImageError::Io { doing, path, source }
        };
        let meta = std::fs::metadata(path).map_err(io("open"))?;
        if meta.is_dir() {
            let options = tree::dir::Options {
                owners: tree::dir::Owners::Preserve,
                mtime: None,
                xattrs: true,
            };
            let tree = tree::dir::read(path, &options)?;
            return Ok(Image::of_tree(path, Format::Directory, tree));
        }
        let file = File::open(path).map_err(io("open"))?;
        let blob = Blob::opened(path, file, None);
        if let Some(tree) = archive::read_if_archive(path, &blob)? {
            return Ok(Image::of_tree(path, Format::Tar, tree));
        }
        match qcow2::open(path, &blob)? {
            Some(inner) => Image::of_disk(path, Format::Qcow2, inner),
            None => Image::of_disk(path, Format::Raw, blob),
        }
    }

    fn of_tree(path: &Path, format: Format, tree: Tree) -> Image {
        Image {
            path: path.to_owned(),
            format,
            size: None,
            table: None,
            partitions: Vec::new(),
            source: Source::Tree(tree),
        }
    }

    /// A disk whose bytes are those of `blob`.
    pub fn of_disk(path: &Path, format: Format, blob: Arc<Blob>) -> Result<Image, ImageError> {
        let size = blob.size().map_err(|source| ImageError::Io {
            doing: "read",
            path: path.to_owned(),
            source,
        })?;
        let (table, mut partitions) = roles::partitions(path, &blob, size)?;
        roles::assign(&mut partitions, &blob);
        Ok(Image {
            path: path.to_owned(),
            format,
            size: Some(size),
            table: Some(table),
            partitions,
            source: Source::Disk(blob),
        })
    }

    /// Reads the file systems: metadata now, contents when somebody asks for them.
    pub fn read(&self) -> Result<System, ImageError> {
        match &self.source {
            Source::Tree(tree) => Ok(System::of_tree(tree.clone())),
            Source::Disk(blob) => mount::disk(self, blob),
        }
    }

    /// The file system of one partition.
    pub fn read_partition(&self, partition: &Partition) -> Result<Tree, String> {
        match &self.source {
            Source::Tree(tree) => Ok(tree.clone()),
            Source::Disk(blob) => reader::read(blob, partition),
        }
    }

    /// Free bytes in a file system, where that is told without reading all of it.
    pub fn free(&self, partition: &Partition) -> Option<u64> {
        match &self.source {
            Source::Tree(_) => None,
            Source::Disk(blob) => probe::free(blob, partition.offset, partition.probe.holds),
        }
    }
}
