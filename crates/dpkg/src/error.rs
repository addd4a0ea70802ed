//! Errors of reading archives. Each names the archive and the member in it.

use std::io;
use std::path::PathBuf;

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It does not follow the format.
    #[error("{0}")]
    Malformed(String),
    /// It follows the format, but uses what is not supported.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// A limit was reached.
    #[error("{what} exceeds the limit of {limit}")]
    Limit {
        /// What is too much.
        what: String,
        /// How much is allowed.
        limit: u64,
    },
    /// A name leads out of the root, or is no path.
    #[error(transparent)]
    Path(#[from] tree::PathError),
    /// Reading or decompressing failed. The text is here because this is shown
    /// inside an [`ArchiveError`]'s sentence.
    #[error("{0}")]
    Io(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Problem::Io(error)
    }
}

impl Problem {
    pub(crate) fn malformed(what: impl Into<String>) -> Problem {
        Problem::Malformed(what.into())
    }

    pub(crate) fn limit(what: impl Into<String>, limit: u64) -> Problem {
        Problem::Limit { what: what.into(), limit }
    }
}

/// A [`Problem`] and where it is.
#[derive(Debug, thiserror::Error)]
#[error("{archive}: {member}: {problem}")]
pub struct ArchiveError {
    /// The `.deb`, as the caller named it.
    pub archive: String,
    /// Where in it: a member, and a path in that where there is one.
    pub member: String,
    /// What is wrong.
    pub problem: Problem,
}

/// Why a package could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive is at fault.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The archive is not the one that was asked for.
    #[error("{archive}: its SHA-256 is {found}, expected {expected}; fetch it again")]
    Hash {
        /// The `.deb`, as the caller named it.
        archive: String,
        /// What it should be.
        expected: store::Key,
        /// What it is.
        found: store::Key,
    },
    /// Its control file says nothing usable.
    #[error("{archive}: control: {source}")]
    Control {
        /// The `.deb`, as the caller named it.
        archive: String,
        /// What is wrong with it.
        source: crate::ControlError,
    },
    /// The `.deb` could not be opened.
    #[error("open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The pack could not be written.
    #[error("write {}", path.display())]
    Pack {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] store::StoreError),
}
