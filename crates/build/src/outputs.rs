//! Outputs appear by rename, or not at all.
//!
//! Everything is written into a staging directory beside its final place (so that
//! the rename stays on one file system), then renamed, the main output last. A
//! staging directory is locked as long as its process lives; one that nobody
//! locks was left by a killed build and is removed by the next.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::workdir;

/// Prefix of staging directories.
const PREFIX: &str = ".mkgold-staging-";

/// An I/O error with path and operation.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}: {source}", path.display())]
pub struct OutputError {
    /// What was tried.
    pub operation: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

pub(crate) fn io_error(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> OutputError {
    let path = path.to_owned();
    move |source| OutputError { operation, path, source }
}

/// A directory for outputs that are not there yet. Removed when dropped.
#[derive(Debug)]
pub struct Staging {
    output: PathBuf,
    dir: PathBuf,
    finished: Vec<String>,
    _lock: File,
}

impl Staging {
    /// Begins in the directory `output`, which is made if it is missing.
    pub fn begin(output: &Path) -> Result<Staging, OutputError> {
        fs::create_dir_all(output).map_err(io_error("make the output directory", output))?;
        remove_abandoned(output);
        let name = format!("{PREFIX}{}", std::process::id());
        let made = workdir::create_locked(output, &name);
        let (dir, lock) = made.map_err(io_error("make a staging directory in", output))?;
        Ok(Staging { output: output.to_owned(), dir, finished: Vec::new(), _lock: lock })
    }

    /// Where the staging directory is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where an output called `name` is written to.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Creates an output called `name`.
    pub fn create(&self, name: &str) -> Result<File, OutputError> {
        let path = self.path(name);
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(io_error("create", &path))
    }

    /// Writes an output called `name` as a whole.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), OutputError> {
        let path = self.path(name);
        fs::write(&path, bytes).map_err(io_error("write", &path))?;
        self.finish(name);
        Ok(())
    }

    /// Says that the output called `name` is complete.
    pub fn finish(&mut self, name: &str) {
        self.finished.push(name.to_owned());
    }

    /// A directory in which scripts can put outputs of their own, and see those that
    /// are there: `$OUTPUTDIR`.
    pub fn shared(&self) -> Result<PathBuf, OutputError> {
        Ok(self.dir.clone())
    }

    /// Makes outputs of what scripts left, before the main one.
    pub fn adopt_shared(&mut self) -> Result<(), OutputError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(io_error("list", &self.dir))? {
            let entry = entry.map_err(io_error("list", &self.dir))?;
            let name = entry.file_name().into_string().map_err(|name| {
                let source = io::Error::other("its name is not UTF-8");
                io_error("publish", &self.dir.join(name))(source)
            })?;
            let known = self.finished.contains(&name) || name.starts_with('.');
            names.extend((!known).then_some(name));
        }
        names.sort();
        if let Some(name) = self.finished.iter().find(|name| !self.path(name).exists()) {
            let source = io::Error::other("a script removed it");
            return Err(io_error("publish", &self.path(name))(source));
        }
        self.finished.splice(0..0, names);
        Ok(())
    }

    /// Gives every finished output its place, in the order in which they were
    /// finished. What was there under these names is replaced.
    pub fn publish(mut self) -> Result<Vec<PathBuf>, OutputError> {
        let mut published = Vec::new();
        for name in std::mem::take(&mut self.finished) {
            let (from, to) = (self.dir.join(&name), self.output.join(&name));
            replace(&from, &to, &self.dir.join(format!("{name}.old")))?;
            published.push(to);
        }
        Ok(published)
    }
}

/// Renames over what is there; a directory cannot be renamed over, so the old one
/// steps aside first.
fn replace(from: &Path, to: &Path, aside: &Path) -> Result<(), OutputError> {
    if to.symlink_metadata().is_ok_and(|m| m.is_dir()) {
        fs::rename(to, aside).map_err(io_error("move aside", to))?;
        if let Err(error) = fs::rename(from, to) {
            let _ = fs::rename(aside, to);
            return Err(io_error("rename to", to)(error));
        }
        return Ok(());
    }
    fs::rename(from, to).map_err(io_error("rename to", to))
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Removes what killed builds left. Best effort: what cannot be removed is somebody
/// else's, or tried again.
pub(crate) fn remove_abandoned(output: &Path) {
    for entry in fs::read_dir(output).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            workdir::remove_if_abandoned(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_appears_before_publish_and_litter_goes() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("image.raw"), b"old").unwrap();
        fs::create_dir(dir.path().join(".mkgold-staging-1")).unwrap();
        let mut staging = Staging::begin(dir.path()).unwrap();
        assert!(!dir.path().join(".mkgold-staging-1").exists());
        staging.write("image.raw", b"new").unwrap();
        assert_eq!(fs::read(dir.path().join("image.raw")).unwrap(), b"old");
        staging.publish().unwrap();
        assert_eq!(fs::read(dir.path().join("image.raw")).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_build_that_fails_leaves_the_old_output() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("image.raw"), b"old").unwrap();
        let mut staging = Staging::begin(dir.path()).unwrap();
        staging.write("image.raw", b"new").unwrap();
        drop(staging);
        assert_eq!(fs::read(dir.path().join("image.raw")).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_scripts_leave_is_published_before_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let mut staging = Staging::begin(dir.path()).unwrap();
        staging.write("image.raw", b"x").unwrap();
        let shared = staging.shared().unwrap();
        fs::write(shared.join("notes"), b"x").unwrap();
        fs::create_dir(shared.join("a")).unwrap();
        fs::write(shared.join(".hidden"), b"x").unwrap();
        staging.adopt_shared().unwrap();
        let names: Vec<_> = staging.publish().unwrap();
        let names: Vec<_> = names.iter().map(|p| p.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["a", "notes", "image.raw"]);
        assert!(!dir.path().join(".hidden").exists());

        let mut staging = Staging::begin(dir.path()).unwrap();
        staging.write("image.raw", b"y").unwrap();
        fs::remove_file(staging.path("image.raw")).unwrap();
        assert!(staging.adopt_shared().is_err(), "a script may not take the image away");
    }

    #[test]
    fn a_directory_replaces_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        fs::write(dir.path().join("tree/old"), b"").unwrap();
        let mut staging = Staging::begin(dir.path()).unwrap();
        fs::create_dir(staging.path("tree")).unwrap();
        fs::write(staging.path("tree").join("new"), b"").unwrap();
        staging.finish("tree");
        staging.publish().unwrap();
        assert!(dir.path().join("tree/new").exists() && !dir.path().join("tree/old").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
