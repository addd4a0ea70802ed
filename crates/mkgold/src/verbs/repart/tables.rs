//! `--generate-fstab=`, `--generate-crypttab=`: written before anything is copied, below
//! what is copied from, so that they can be copied along.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use disk::Version;
use disk::definition::Definition;
use disk::fstab::{self, Append};
use disk::plan::Identity;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::options::{AppendFstab, Options};
use super::world::Root;
use super::{Stop, say};

/// No fstab that is read here is larger.
const MAX_FSTAB: u64 = 1 << 20;

/// Writes what is asked for.
pub fn write(
    options: &Options,
    root: &Root,
    definitions: &[Definition],
    identities: &[Identity],
) -> Result<(), Stop> {
    let base = match (root, &options.copy_source) {
        (_, Some(dir)) => dir,
        (Root::Dir(dir), None) => dir,
        (Root::Image(_), None) => return Ok(()),
    };
    if let Some(path) = &options.fstab {
        let mut place = Place::new(base, path)?;
        let (append, replace) = match options.append_fstab {
            Some(AppendFstab::Auto) => (Append::Auto, true),
            Some(AppendFstab::Replace) => (Append::Replace, true),
            Some(AppendFstab::No) | None => (Append::Replace, false),
        };
        let old = if append == Append::Auto { place.read()? } else { None };
        let version = options.version;
        let text = fstab::fstab(definitions, identities, old.as_deref(), append, version);
        place.mode = if version < Version::V262 { 0o640 } else { 0o644 };
        finish(options, &place, text, "MountPoint=", replace)?;
    }
    if let Some(path) = &options.crypttab {
        let text = fstab::crypttab(definitions, identities);
        finish(options, &Place::new(base, path)?, text, "EncryptedVolume=", false)?;
    }
    Ok(())
}

fn finish(
    options: &Options,
    place: &Place,
    text: Option<String>,
    setting: &str,
    replace: bool,
) -> Result<(), Stop> {
    let shown = place.shown.display();
    match text {
        None => say(&format!("No partition has {setting}: {shown} is not written.")),
        Some(_) if options.dry_run => say(&format!("{shown} is written only with --dry-run=no.")),
        Some(text) => {
            place.write(&text, replace).map_err(|e| place.failed(&e))?;
            say(&format!("{shown} is written."));
        }
    }
    Ok(())
}

/// A file below a directory, whose links are followed within it.
struct Place {
    directory: File,
    name: String,
    shown: PathBuf,
    mode: u32,
}

impl Place {
    fn new(base: &Path, path: &Path) -> Result<Place, Stop> {
        let shown = base.join(path.strip_prefix("/").unwrap_or(path));
        let failed = |e: io::Error| Stop::Failed(format!("{}: {e}", shown.display()));
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?.to_owned();
        let parent = path.strip_prefix("/").unwrap_or(path).parent().unwrap_or(Path::new(""));
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(base, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        let directory = openat2(top, parent, flags, Mode::empty(), ResolveFlags::IN_ROOT);
        let directory = File::from(directory.map_err(|e| failed(e.into()))?);
        Ok(Place { directory, name, shown, mode: 0o640 })
    }

    fn failed(&self, e: &io::Error) -> Stop {
        Stop::Failed(format!("{}: {e}", self.shown.display()))
    }

    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.directory.as_raw_fd()).into()
    }

    fn read(&self) -> Result<Option<String>, Stop> {
        let path = self.path().join(&self.name);
        match std::fs::symlink_metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(found) if found.is_file() && found.len() <= MAX_FSTAB => {}
            Ok(_) => return Err(self.failed(&io::Error::other("it is no small regular file"))),
            Err(e) => return Err(self.failed(&e)),
        }
        std::fs::read_to_string(path).map(Some).map_err(|e| self.failed(&e))
    }

    /// All of it or nothing has the name.
    fn write(&self, text: &str, replace: bool) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".#")
            .permissions(Permissions::from_mode(self.mode))
            .tempfile_in(self.path())?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        let to = self.path().join(&self.name);
        match replace {
            true => file.persist(to).map(|_| ()).map_err(|e| e.error),
            false => file.persist_noclobber(to).map(|_| ()).map_err(|e| e.error),
        }
    }
}
