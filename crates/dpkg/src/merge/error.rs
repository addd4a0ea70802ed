//! Why a package is not laid out; in dpkg's words where dpkg refuses too.

use std::io;

use tree::{TreeError, TreePath};

/// Why a package cannot be laid out.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// Another version, or the same, is there.
    #[error(
        "{package} {version} is already installed (as {old}): laying out over it would be an \
         upgrade, which mkgold does not do natively; let dpkg in the tree do it"
    )]
    Upgrade {
        /// The package.
        package: String,
        /// Its version.
        version: String,
        /// What is there.
        old: String,
    },
    /// Two packages ship the same file.
    #[error(
        "{package}: trying to overwrite '{path}', which is also in package {other} ({version})"
    )]
    Conflict {
        /// The package being laid out.
        package: String,
        /// Which file.
        path: TreePath,
        /// The package that has it.
        other: String,
        /// That package's version.
        version: String,
    },
    /// Instances of a `Multi-Arch: same` package differ in a shared file.
    #[error(
        "{package}: trying to overwrite shared '{path}', which is different from other \
         instances of the package"
    )]
    SharedDiffers {
        /// The package being laid out.
        package: String,
        /// Which file.
        path: TreePath,
    },
    /// The path is where a diversion puts another file.
    #[error("{package}: trying to overwrite '{path}', which is the diverted version of '{from}'")]
    Diverted {
        /// The package being laid out.
        package: String,
        /// Which file.
        path: TreePath,
        /// The file whose diversion leads there.
        from: TreePath,
    },
    /// A directory that holds something is where a file should go.
    #[error("{package}: '{path}' is a directory that is not empty, the package has another type")]
    DirectoryInTheWay {
        /// The package being laid out.
        package: String,
        /// Which path.
        path: TreePath,
    },
    /// A hard link leads to what is not there.
    #[error("{package}: hard link '{path}' leads to '{target}', which is not in the tree")]
    LinkTarget {
        /// The package being laid out.
        package: String,
        /// The link.
        path: TreePath,
        /// Where it leads.
        target: TreePath,
    },
    /// Every file of another package would be replaced.
    #[error(
        "{package} replaces every file of {other}, which would make {other} disappear: \
         that is not supported; remove {other} first"
    )]
    Disappears {
        /// The package being laid out.
        package: String,
        /// The one that would vanish.
        other: String,
    },
    /// A control file is malformed.
    #[error("{package}: control file {member}: {reason}")]
    Member {
        /// The package.
        package: String,
        /// Which control file.
        member: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The pack cannot be read.
    #[error("{package}: '{path}': cannot be read")]
    Read {
        /// The package.
        package: String,
        /// Which file.
        path: TreePath,
        /// What the system said.
        source: io::Error,
    },
    /// The tree does not take it.
    #[error("{package}: cannot lay out '{path}'")]
    Tree {
        /// The package.
        package: String,
        /// Which file.
        path: TreePath,
        /// Why.
        source: TreeError,
    },
}
