//! Directories that a sandbox needs for as long as a command runs, beside the tree
//! and on its file system. Gone when dropped.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, confined};

/// Tells the directories of commands that run at the same time apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

pub(crate) struct Scratch {
    base: PathBuf,
    made: Vec<PathBuf>,
}

impl Scratch {
    pub(crate) fn new(base: &Path) -> Scratch {
        Scratch { base: base.to_owned(), made: Vec::new() }
    }

    /// A new directory.
    pub(crate) fn dir(&mut self, what: &str, mode: u32) -> Result<PathBuf, Error> {
        let path = self.name(what);
        let make = || {
            fs::create_dir(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
        };
        make().map_err(Error::io("make the directory", &path))?;
        Ok(path)
    }

    /// A path at which the caller will put something.
    pub(crate) fn name(&mut self, what: &str) -> PathBuf {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = self.base.join(format!("{what}-{}-{number}", std::process::id()));
        self.made.push(path.clone());
        path
    }

    /// Where a prepared tree puts what is in the way.
    pub(crate) fn hidden(&mut self) -> Result<PathBuf, Error> {
        self.dir("hidden", 0o700)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Ok(base) = confined::open_host_dir(&self.base) else { return };
        for path in &self.made {
            let name = path.file_name().map(|name| CString::new(name.as_bytes()));
            if let Some(Ok(name)) = name {
                // A directory that cannot be removed goes with the workspace.
                let _ = confined::remove_all(base.as_fd(), &name);
            }
        }
    }
}
