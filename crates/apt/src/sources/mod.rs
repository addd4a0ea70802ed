//! Sources: which archives packages come from.
//!
//! A [`Source`] is one suite of one archive with the options that sources.list(5)
//! gives it. They come from a directory laid out like `/etc/apt` ([`SourceList`]), or
//! are made for a Debian release ([`debian_sources`]) with the mirrors that the
//! machine's own sources name ([`default_mirror`]). No mirror is built in.
//!
//! Only `deb` entries count: source packages (`deb-src`) are never fetched. An option
//! that is unknown, or known and not supported, is an error.
//!
//! Not here: fetching anything, reading keyrings.

mod deb822;
mod defaults;
mod line;
mod options;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use defaults::{DebianOptions, DebianSourcesError, Mirrors, debian_sources, default_mirror};

use crate::uri::{Uri, UriError};

/// The largest sources file that is read.
const MAX_SOURCES: u64 = 4 << 20;
/// The most sources in one list.
pub const MAX_SOURCE_COUNT: usize = 10_000;

/// Something in a sources file that is not accepted.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}: {kind}", path.display())]
pub struct SourcesError {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub kind: SourcesErrorKind,
}

/// What is wrong with a source.
#[derive(Debug, thiserror::Error)]
pub enum SourcesErrorKind {
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    Io(std::io::Error),
    /// Not UTF-8, or no fields.
    #[error(transparent)]
    Syntax(#[from] debian::deb822::Error),
    /// A bad URI.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// A field or word that must be there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The type is not one of a package archive.
    #[error("the type “{0}” is not deb or deb-src")]
    Type(String),
    /// Unknown option.
    #[error("unknown option “{0}”")]
    UnknownOption(String),
    /// An option of apt's that mkgold does not have.
    #[error("the option “{0}” is not supported: {1}")]
    Unsupported(String, &'static str),
    /// A bad value.
    #[error("the option “{option}” holds “{value}”, not {expected}")]
    Value {
        /// The option.
        option: String,
        /// What it holds.
        value: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// Components of a flat archive, or none of a usual one.
    #[error("{0}")]
    Components(&'static str),
    /// Something else in the line.
    #[error("{0}")]
    Form(&'static str),
}

/// One place that keys come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keyring {
    /// A file, looked up in the roots that the caller names.
    File(PathBuf),
    /// Armored certificates in the source itself.
    Inline(String),
    /// The certificates of Debian's archive that are in the binary.
    DebianArchive,
}

/// Whose signature a source takes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SignedBy {
    /// Where the keys are; empty: the machine's or project's `trusted.gpg.d`.
    pub keyrings: Vec<Keyring>,
    /// Only these keys count, if any are named.
    pub fingerprints: Vec<String>,
}

/// Whether files are fetched by their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ByHash {
    /// Where the Release file says so.
    #[default]
    Auto,
    /// Never.
    No,
    /// Always.
    Force,
}

/// One suite of one archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The archive's root.
    pub uri: Uri,
    /// The suite; with a `/` at the end it is the path of a flat archive.
    pub suite: String,
    /// The components; none for a flat archive.
    pub components: Vec<String>,
    /// The architectures; empty: those that the caller builds for.
    pub architectures: Vec<String>,
    /// Architectures more than those that the caller builds for (`arch+=`).
    pub architectures_add: Vec<String>,
    /// Architectures less (`arch-=`).
    pub architectures_remove: Vec<String>,
    /// Whose signature counts.
    pub signed_by: SignedBy,
    /// `yes`: believed without a signature; `no`: packages need no less trust for it.
    pub trusted: Option<bool>,
    /// Refuse an expired Release.
    pub check_valid_until: bool,
    /// Seconds after its date when a Release expires at the latest.
    pub valid_until_max: Option<i64>,
    /// Seconds after its date when a Release expires at the earliest.
    pub valid_until_min: Option<i64>,
    /// Refuse a Release from the future.
    pub check_date: bool,
    /// Seconds that a Release may be in the future.
    pub date_max_future: i64,
    /// Fetch by hash.
    pub by_hash: ByHash,
    /// Where it was defined: file and line, or what made it. For messages.
    pub defined_in: String,
}

impl Source {
    /// A source with apt's defaults.
    pub fn new(uri: Uri, suite: &str, components: &[String], signed_by: SignedBy) -> Source {
        Source {
            uri,
            suite: suite.to_owned(),
            components: components.to_vec(),
            architectures: Vec::new(),
            architectures_add: Vec::new(),
            architectures_remove: Vec::new(),
            signed_by,
            trusted: None,
            check_valid_until: true,
            valid_until_max: None,
            valid_until_min: None,
            check_date: true,
            date_max_future: 10,
            by_hash: ByHash::Auto,
            defined_in: String::new(),
        }
    }

    /// Whether it is a flat archive: one directory, no components.
    pub fn is_flat(&self) -> bool {
        self.suite.ends_with('/')
    }

    /// The URI of a file of the suite's directory, such as `InRelease`.
    pub fn dist_uri(&self, file: &str) -> Result<Uri, UriError> {
        if self.is_flat() {
            let suite = self.suite.trim_matches('/');
            let inside = if suite.is_empty() { file.to_owned() } else { format!("{suite}/{file}") };
            return self.uri.join(&inside);
        }
        self.uri.join(&format!("dists/{}/{file}", self.suite))
    }

    /// The architectures whose packages are wanted, of those the caller builds for.
    pub fn wanted_architectures(&self, own: &[String]) -> Vec<String> {
        let mut wanted: Vec<String> = match self.architectures.is_empty() {
            true => own.to_vec(),
            false => self.architectures.clone(),
        };
        wanted.extend(self.architectures_add.iter().cloned());
        wanted.retain(|a| !self.architectures_remove.contains(a) && own.contains(a));
        let mut unique = Vec::new();
        for arch in wanted {
            if !unique.contains(&arch) {
                unique.push(arch);
            }
        }
        unique
    }
}

impl fmt::Display for Source {
    /// Path and suite; not the host.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.uri.path(), self.suite)
    }
}

/// The sources of a directory laid out like `/etc/apt`.
#[derive(Debug, Default)]
pub struct SourceList {
    /// In the order of files and of lines in them, disabled ones left out.
    pub sources: Vec<Source>,
    /// What was not understood, by file and line.
    pub errors: Vec<SourcesError>,
}

impl SourceList {
    /// Reads `sources.list` and `sources.list.d/*.{list,sources}` of `dir`. What is
    /// not understood is in `errors`: of the machine's own sources only the mirror is
    /// taken, so a broken entry there must not stop a build.
    pub fn read(dir: &Path) -> SourceList {
        let mut list = SourceList::default();
        let main = dir.join("sources.list");
        if main.exists() {
            list.add_file(&main);
        }
        match parts(&dir.join("sources.list.d")) {
            Ok(paths) => paths.iter().for_each(|path| list.add_file(path)),
            Err(error) => list.errors.push(error),
        }
        list
    }

    /// As [`SourceList::read`], but anything that is not understood is an error.
    pub fn read_strict(dir: &Path) -> Result<Vec<Source>, SourcesError> {
        let mut list = SourceList::read(dir);
        if list.errors.is_empty() { Ok(list.sources) } else { Err(list.errors.remove(0)) }
    }

    /// Adds the entries of one file; its extension says the format.
    pub fn add_file(&mut self, path: &Path) {
        let error = |kind| SourcesError { path: path.to_owned(), line: 1, kind };
        let read = fs::metadata(path).and_then(|metadata| {
            if metadata.len() > MAX_SOURCES {
                return Err(std::io::Error::other("the file is too large"));
            }
            fs::read(path)
        });
        match read {
            Ok(bytes) => self.add_bytes(&bytes, path),
            Err(e) => self.errors.push(error(SourcesErrorKind::Io(e))),
        }
    }

    /// Adds the entries of a text; `path` says the format and is for messages.
    pub fn add_bytes(&mut self, bytes: &[u8], path: &Path) {
        let text = match debian::deb822::text_of(bytes) {
            Ok(text) => text,
            Err(e) => {
                let path = path.to_owned();
                return self.errors.push(SourcesError { path, line: e.line, kind: e.into() });
            }
        };
        if path.extension().is_some_and(|e| e == "sources") {
            deb822::parse(text, path, self);
        } else {
            line::parse(text, path, self);
        }
    }

    fn add(&mut self, entries: Result<Vec<Source>, SourcesErrorKind>, path: &Path, line: usize) {
        match entries {
            Ok(mut sources) => {
                for source in &mut sources {
                    source.defined_in = format!("{}:{line}", path.display());
                }
                let room = MAX_SOURCE_COUNT.saturating_sub(self.sources.len());
                if sources.len() > room {
                    let kind = SourcesErrorKind::Form("there are too many sources");
                    self.errors.push(SourcesError { path: path.to_owned(), line, kind });
                }
                self.sources.extend(sources.into_iter().take(room));
            }
            Err(kind) => self.errors.push(SourcesError { path: path.to_owned(), line, kind }),
        }
    }
}

/// The files of a `.d` directory that apt reads: letters, digits, `_`, `-`, `.` and
/// the right extension (sources.list(5)), by name.
fn parts(dir: &Path) -> Result<Vec<PathBuf>, SourcesError> {
    let failed = |e| SourcesError { path: dir.to_owned(), line: 1, kind: SourcesErrorKind::Io(e) };
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        let known = name.ends_with(".list") || name.ends_with(".sources");
        if plain && known && !name.starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The sources of one entry: every URI with every suite.
fn expand(
    uris: &[&str],
    suites: &[&str],
    components: &[String],
    template: &Source,
) -> Result<Vec<Source>, SourcesErrorKind> {
    let mut sources = Vec::new();
    for uri in uris {
        let uri = Uri::parse(uri)?;
        for suite in suites {
            let flat = suite.ends_with('/');
            if flat && !components.is_empty() {
                let why = "a suite that ends in “/” is a flat archive and has no components";
                return Err(SourcesErrorKind::Components(why));
            }
            if !flat && components.is_empty() {
                let why = "no component is named; only a suite that ends in “/” may have none";
                return Err(SourcesErrorKind::Components(why));
            }
            let mut source = template.clone();
            (source.uri, source.suite) = (uri.clone(), (*suite).to_owned());
            source.components = components.to_vec();
            // The suite becomes part of a path: let the join refuse `..`.
            source.dist_uri("InRelease")?;
            sources.push(source);
        }
    }
    Ok(sources)
}

#[cfg(test)]
mod tests;
