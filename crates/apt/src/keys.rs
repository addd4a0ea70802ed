//! Which keys a source's signature is checked with.
//!
//! `Signed-By:` names files, holds a key itself or lists fingerprints; without it
//! the machine's or project's `trusted.gpg` and `trusted.gpg.d` count, as for apt.
//! Files are looked up in roots, the first that has it wins: a project's sandbox
//! tree before the machine itself.

use std::path::{Path, PathBuf};

use crate::openpgp::{OpenPgpError, Trust};
use crate::sources::{Keyring, Source};

/// Where keyrings are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRoots {
    /// Root directories in order, such as the project's sandbox tree and `/`.
    pub roots: Vec<PathBuf>,
    /// Where neither `Signed-By` nor `trusted.gpg.d` has a key: the certificates of
    /// Debian's archive in the binary.
    pub debian_by_default: bool,
}

impl Default for KeyRoots {
    fn default() -> Self {
        KeyRoots { roots: vec![PathBuf::from("/")], debian_by_default: true }
    }
}

impl KeyRoots {
    /// The keys that count for `source`.
    pub fn trust(&self, source: &Source) -> Result<Trust, OpenPgpError> {
        let mut trust = Trust::default();
        for keyring in &source.signed_by.keyrings {
            match keyring {
                Keyring::File(path) => trust.add_file(&self.find(path))?,
                Keyring::Inline(text) => {
                    let name = format!("in Signed-By of {}", source.defined_in);
                    trust.add_bytes(text.as_bytes(), &name)?;
                }
                Keyring::DebianArchive => trust.add(&Trust::debian_archive()),
            }
        }
        if source.signed_by.keyrings.is_empty() {
            trust = self.default_trust()?;
        }
        trust.only(&source.signed_by.fingerprints);
        Ok(trust)
    }

    fn default_trust(&self) -> Result<Trust, OpenPgpError> {
        let mut trust = Trust::default();
        for root in &self.roots {
            let apt = root.join("etc/apt");
            let main = apt.join("trusted.gpg");
            if main.is_file() {
                trust.add_file(&main)?;
            }
            trust.add_dir(&apt.join("trusted.gpg.d"))?;
        }
        if trust.is_empty() && self.debian_by_default {
            trust = Trust::debian_archive();
        }
        Ok(trust)
    }

    /// The file in the first root that has it; the plain path, for the message, if none.
    fn find(&self, path: &Path) -> PathBuf {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let inside = self.roots.iter().map(|root| root.join(relative));
        inside.into_iter().find(|candidate| candidate.exists()).unwrap_or_else(|| path.to_owned())
    }
}
