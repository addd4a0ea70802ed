//! What systemd reads: parsers and pure edits on a [`tree::Tree`].
//!
//! One module per subject: [`env_file`] (the assignments of os-release and
//! locale.conf), [`os_release`], [`machine_id`], [`entry_token`], [`firstboot`]
//! (what systemd-firstboot would set), [`accounts`] (passwd, group and their
//! shadows), [`passwords`], [`sysusers`], [`tmpfiles`], [`units`] and [`preset`].
//!
//! What it is not: boot loaders (see `boot`), disks (`disk`), rules about what
//! is golden (`check`). Nothing here runs a program, reads the host, a clock or
//! randomness: what an edit needs comes in as a value.

pub mod accounts;
pub mod entry_token;
pub mod env_file;
pub mod firstboot;
#[doc(hidden)]
pub mod fuzzing;
pub mod machine_id;
pub mod os_release;
pub mod passwords;
pub mod preset;
pub mod sysusers;
pub mod tmpfiles;
pub mod units;

mod dropin;

use tree::{TreeError, TreePath};

/// The largest text file of /etc or /usr/lib that is read as a whole. Real ones
/// have a few kilobytes.
pub(crate) const TEXT_LIMIT: u64 = 8 << 20;

/// Why an edit cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum OsError {
    /// The tree does not allow it.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A file's content cannot be read.
    #[error("read {path}: {source}")]
    Read {
        /// The file.
        path: TreePath,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A file has content that cannot be understood, so it is not changed.
    #[error("{path}:{line}: {message}")]
    Syntax {
        /// The file.
        path: TreePath,
        /// 1-based.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// There is more of something than any image has.
    #[error("too many {what} (the limit is {limit})")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// A value cannot be what it is set to.
    #[error("{setting}={value}: {message}")]
    Value {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What is wrong and what would be right.
        message: String,
    },
}

/// Reads a text file as a program in the image would; `None` if there is none.
pub(crate) fn read_text(tree: &tree::Tree, path: &TreePath) -> Result<Option<String>, OsError> {
    match tree.read(path, TEXT_LIMIT) {
        None => Ok(None),
        Some(Ok(bytes)) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Some(Err(source)) => Err(OsError::Read { path: path.clone(), source }),
    }
}
