//! What can go wrong in a sandbox, said so that a person can act on it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use tree::{PathError, TreeError, TreePath};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation of the kernel on a file failed.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The sandbox itself could not be set up; the command did not run.
    #[error("cannot set up the sandbox for {command}: {step}")]
    Setup {
        /// The command line that was to run.
        command: String,
        /// Which part of the set-up failed.
        step: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The command could not be started.
    #[error("cannot run {command}: {why}")]
    Exec {
        /// The command line.
        command: String,
        /// Why, and what to do.
        why: String,
    },
    /// The command ran and did not succeed.
    #[error(transparent)]
    Failed(#[from] Box<Failure>),
    /// A mount point is something else in the tree.
    #[error("{path} cannot be a mount point in the sandbox: {why}")]
    MountPoint {
        /// The path in the tree.
        path: TreePath,
        /// What is there instead.
        why: &'static str,
    },
    /// This way of running is impossible with the privileges at hand.
    #[error("{what} is not possible without mounting ({mode} mode): {fix}")]
    NeedsMount {
        /// What was asked for.
        what: String,
        /// Mode the process is in.
        mode: crate::Mode,
        /// What to do about it.
        fix: &'static str,
    },
    /// A command left more files than is sane.
    #[error("the tree in {} has more than {limit} entries", path.display())]
    TooManyEntries {
        /// The directory.
        path: PathBuf,
        /// [`crate::MAX_ENTRIES`].
        limit: usize,
    },
    /// A name in the directory cannot be a path of a tree (too long).
    #[error("{}: a script made a path that no tree can hold", dir.display())]
    Path {
        /// The directory that holds the name.
        dir: PathBuf,
        /// What is wrong with it.
        #[source]
        source: PathError,
    },
    /// The tree refused what was found (a bug, or the directory changed meanwhile).
    #[error("what was read back makes no tree")]
    Tree(#[from] TreeError),
    /// The configuration of a command makes no sense.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// For `map_err`: an I/O error with what was tried on which path.
    pub(crate) fn io(op: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { op, path, source }
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It returned this exit status.
    Exited(i32),
    /// This signal killed it.
    Signalled(i32),
    /// It ran longer than its timeout and was killed.
    TimedOut(std::time::Duration),
}

impl Status {
    /// True for exit status 0.
    pub fn success(self) -> bool {
        self == Status::Exited(0)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Exited(code) => write!(f, "exit status {code}"),
            Status::Signalled(signal) => write!(f, "signal {signal}"),
            Status::TimedOut(limit) => write!(f, "a time-out after {} s", limit.as_secs_f64()),
        }
    }
}

/// A command that ran and did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Failure {
    /// The command line, quoted for a shell.
    pub command: String,
    /// How it ended.
    pub status: Status,
    /// The last lines of its output.
    pub tail: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ended with {}", self.command, self.status)?;
        if self.tail.is_empty() {
            return write!(f, " and no output");
        }
        write!(f, "; the end of its output:")?;
        self.tail.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}
