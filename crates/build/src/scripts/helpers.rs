//! Programs that scripts find on their `$PATH`: `mkosi-chroot`, and what would work on
//! the host's root instead of the image's.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::phase::CHROOT;
use crate::error::BuildError;
use crate::outputs::io_error;

/// Commands that work on the image when a script calls them: inside it.
const INSIDE: [&str; 6] = ["apt", "apt-get", "dpkg", "dpkg-query", "groupadd", "useradd"];

/// Commands of mkosi that choose packages: that is the lock's business.
const REFUSED: [&str; 4] = ["mkosi-install", "mkosi-reinstall", "mkosi-upgrade", "mkosi-remove"];

/// Writes them into `dir`.
pub fn write(dir: &Path) -> Result<(), BuildError> {
    // `env` takes the image's programs, in the directory that the caller expects.
    let chroot = format!(
        "#!/bin/sh\n[ $# -gt 0 ] || set -- /bin/sh\n\
         export BUILDROOT=/\nPATH=${{PATH#*:}}\n\
         exec chroot /{CHROOT} /usr/bin/env --chdir=\"$SRCDIR\" \"$@\"\n"
    );
    put(dir, "mkosi-chroot", &chroot)?;
    for name in INSIDE {
        put(dir, name, &format!("#!/bin/sh\nexec mkosi-chroot {name} \"$@\"\n"))?;
    }
    for name in REFUSED {
        let text = format!(
            "#!/bin/sh\necho '{name} is not supported by mkgold: every package is in the lock. \
             Use Packages=, BuildPackages= or RemovePackages=.' >&2\nexit 1\n"
        );
        put(dir, name, &text)?;
    }
    Ok(())
}

fn put(dir: &Path, name: &str, text: &str) -> Result<(), BuildError> {
    let path = dir.join(name);
    std::fs::write(&path, text).map_err(io_error("write", &path))?;
    let mode = std::fs::Permissions::from_mode(0o755);
    Ok(std::fs::set_permissions(&path, mode).map_err(io_error("set the mode of", &path))?)
}
