//! Why a file system cannot be written or read.

use std::io;
use std::path::Path;

use tree::{TreeError, TreePath};

/// One enum for all formats: the format's name is part of the sentence.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The operating system refused.
    #[error("{fs}: cannot {doing}")]
    Io {
        /// Which format.
        fs: &'static str,
        /// What was tried, with the path.
        doing: String,
        /// The refusal.
        #[source]
        source: io::Error,
    },
    /// The size given does not hold the tree.
    #[error("{fs}: {given} bytes are too few, the tree needs at least {needed}")]
    TooSmall {
        /// Which format.
        fs: &'static str,
        /// The size given.
        given: u64,
        /// A size that is closer; the exact minimum is what `measure` says.
        needed: u64,
    },
    /// The format cannot say what the tree says.
    #[error("{fs}: {path}: {why}")]
    Unsupported {
        /// Which format.
        fs: &'static str,
        /// What in the tree.
        path: TreePath,
        /// What cannot be stored.
        why: String,
    },
    /// A parameter that the format does not take.
    #[error("{fs}: {what}")]
    Parameter {
        /// Which format.
        fs: &'static str,
        /// Which, and what would be right.
        what: String,
    },
    /// The image is not a sound file system of that format.
    #[error("{fs}: damaged or not this format: {what}")]
    Corrupt {
        /// Which format.
        fs: &'static str,
        /// What is wrong and where.
        what: String,
    },
    /// The image is sound but uses what the reader does not know.
    #[error("{fs}: {what} is not supported")]
    Feature {
        /// Which format.
        fs: &'static str,
        /// The feature.
        what: String,
    },
    /// A limit of the reader, so that an image cannot take all memory.
    #[error("{fs}: more than {limit} {what}")]
    Limit {
        /// Which format.
        fs: &'static str,
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The image holds something that a Tree cannot hold.
    #[error("{fs}: an entry does not fit into a tree")]
    Tree {
        /// Which format.
        fs: &'static str,
        /// Why not.
        #[source]
        source: TreeError,
    },
    /// An external tool failed; see [`crate::tools`].
    #[error("{tool} failed")]
    Tool {
        /// Its name.
        tool: &'static str,
        /// The failure, as the runner tells it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl FsError {
    pub(crate) fn io(fs: &'static str, verb: &str, path: &Path, source: io::Error) -> Self {
        FsError::Io { fs, doing: format!("{verb} {}", path.display()), source }
    }

    pub(crate) fn output(fs: &'static str, source: io::Error) -> Self {
        FsError::Io { fs, doing: "write the image".into(), source }
    }
}
