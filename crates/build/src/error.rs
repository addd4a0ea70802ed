//! What stops a build. Every variant says what, where and what to do; libraries'
//! own errors already do and are passed through.

use std::path::PathBuf;

use tree::TreePath;

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something that mkosi can do and mkgold cannot yet.
    #[error("{what} is not supported by mkgold yet{}", hint.map(|h| format!(": {h}")).unwrap_or_default())]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What to do instead.
        hint: Option<&'static str>,
    },
    /// No mirror is known.
    #[error(
        "no mirror of {distribution} is known: the host's apt sources name none. \
         Set Mirror= in [Distribution] or give --mirror"
    )]
    NoMirror {
        /// Which distribution.
        distribution: String,
    },
    /// The lock does not fit and may not be changed.
    #[error("{}: {reason}; run `mkgold lock --update`", path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The packages cannot be chosen.
    #[error("the packages cannot be installed together:\n{0}")]
    Unsolvable(#[from] solver::Unsolvable),
    /// The image is not golden after sealing.
    #[error("the image is not golden:\n{}", findings.join("\n"))]
    NotGolden {
        /// One line per finding: rule, path, message, who put it there.
        findings: Vec<String>,
    },
    /// A partition of an image cannot be read.
    #[error("{partition}: {source}")]
    Partition {
        /// Which.
        partition: String,
        /// Why not.
        source: Box<BuildError>,
    },
    /// A setting and the image do not fit together.
    #[error("{0}")]
    Image(String),
    /// An edit of the tree failed.
    #[error(transparent)]
    Tree(#[from] tree::TreeError),
    /// A path is not one.
    #[error(transparent)]
    Path(#[from] tree::PathError),
    /// An edit of the tree failed.
    #[error(transparent)]
    Os(#[from] os::OsError),
    /// A file of the image cannot be read.
    #[error("{path}: {source}")]
    Content {
        /// The file in the image.
        path: TreePath,
        /// What the system said.
        source: std::io::Error,
    },
    /// An archive of the project cannot be read.
    #[error(transparent)]
    TreeArchive(#[from] image::ImageError),
    /// A directory of the project cannot be read.
    #[error(transparent)]
    Dir(#[from] tree::dir::DirError),
    /// The cache.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// A cached tree.
    #[error("cached tree: {0}")]
    Codec(#[from] store::codec::CodecError),
    /// The lock.
    #[error(transparent)]
    Lock(#[from] crate::lock::LockError),
    /// An output or another file of the host.
    #[error(transparent)]
    Output(#[from] crate::outputs::OutputError),
    /// A package cannot be unpacked.
    #[error("{package} cannot be unpacked into the cache {}", cache.display())]
    Unpack {
        /// Its name and version.
        package: String,
        /// Where.
        cache: PathBuf,
        /// Why not.
        source: Box<dpkg::Error>,
    },
    /// A package.
    #[error(transparent)]
    Package(#[from] dpkg::Error),
    /// A package does not fit the others.
    #[error(transparent)]
    Merge(#[from] dpkg::MergeError),
    /// The order of packages.
    #[error(transparent)]
    Plan(#[from] dpkg::PlanError),
    /// dpkg's database.
    #[error(transparent)]
    Database(#[from] dpkg::DatabaseError),
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// A file system.
    #[error(transparent)]
    Fs(#[from] fs::FsError),
    /// An initrd.
    #[error(transparent)]
    Initrd(#[from] boot::initrd::InitrdError),
    /// Kernel modules.
    #[error(transparent)]
    Modules(#[from] boot::modules::ModuleError),
    /// Kernels.
    #[error(transparent)]
    Kernel(#[from] boot::kernel::KernelError),
    /// Partition definitions.
    #[error(transparent)]
    Definitions(#[from] disk::definition::Refused),
    /// The partition plan.
    #[error(transparent)]
    Partitions(#[from] disk::plan::PlanError),
    /// Writing the disk image.
    #[error("cannot write {}", path.display())]
    DiskImage {
        /// The image.
        path: PathBuf,
        /// What failed.
        source: Box<disk::execute::ExecuteError>,
    },
    /// What goes onto the disk.
    #[error(transparent)]
    Disk(#[from] disk::execute::ExecuteError),
    /// A unified kernel image.
    #[error(transparent)]
    Uki(#[from] boot::uki::UkiError),
    /// The EFI system partition.
    #[error(transparent)]
    Esp(#[from] boot::esp::EspError),
    /// Reading apt's sources.
    #[error(transparent)]
    Sources(#[from] apt::sources::SourcesError),
    /// Making sources for a release.
    #[error(transparent)]
    DebianSources(#[from] apt::sources::DebianSourcesError),
    /// Pins.
    #[error(transparent)]
    Pins(#[from] apt::pins::PinError),
    /// An archive.
    #[error(transparent)]
    Archive(#[from] apt::archive::ArchiveError),
    /// Where downloads are kept.
    #[error(transparent)]
    Downloads(#[from] apt::cache::CacheError),
    /// A download.
    #[error(transparent)]
    Fetch(#[from] apt::fetch::FetchError),
    /// A directory of packages.
    #[error(transparent)]
    Local(#[from] apt::local::LocalError),
}
