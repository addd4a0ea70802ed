//! The mkosi.conf language: files and arguments in, one typed [`Config`] out.
//!
//! # What it is
//! A reader of mkosi projects. Every setting is declared once, in [`table`];
//! parsing, command-line options, special paths, conditions, specifiers,
//! documentation and the JSON schema derive from that row.
//!
//! # What it is not
//! It builds nothing, runs nothing, and knows no clock, randomness or environment:
//! what it may know of the machine comes in as [`Facts`]. It reads configuration
//! only, through a [`FileSource`], so that a project can live in memory.
//!
//! # How data flows
//! ```text
//! Request (arguments) ─┐
//! FileSource (files) ──┼─▶ loader ─▶ Layers (values with origins) ─▶ Reading ─▶ Config
//! Facts (machine) ─────┘       └──▶ Diagnostics (file:line:column)
//! ```
//! [`read`] gives a [`Reading`], or every error it found at once; [`load`] gives a
//! [`Loaded`], if mkgold also supports all that is in it.
//!
//! # Where the language comes from
//! mkosi(1) of 27, and what mkosi 27.1 answered to `--json summary`: lists are cut at commas and
//! white space, packages are sorted. Deviations are listed in PARITY.md.

pub mod cli;
pub mod config;
pub mod diagnostic;
pub mod docs;
pub mod embedded;
#[doc(hidden)]
pub mod fuzzing;
pub mod glob;
pub mod ini;
mod layer;
mod loader;
mod reading;
pub mod schema;
pub mod source;
mod summary;
pub mod table;
pub mod types;
pub mod value;
pub mod version;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub use cli::{OptionSpec, cli_options};
pub use config::Config;
pub use diagnostic::{Diagnostic, Origin, Severity};
pub use docs::render_settings_markdown;
pub use loader::{MAX_DEPTH, MAX_DIAGNOSTICS, MAX_FILE, MAX_FILES, MAX_TOTAL, MAX_VALUES};
pub use reading::{Reading, read_from};
pub use source::{FileSource, MemoryFiles, RealFiles};
pub use types::Architecture;

/// A setting given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// The option as it was written (`--format`, `-t`), or a setting's name.
    pub option: String,
    /// Its value.
    pub value: String,
}

impl Argument {
    /// An option with its value.
    pub fn new(option: impl Into<String>, value: impl Into<String>) -> Self {
        Self { option: option.into(), value: value.into() }
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.option.len() == 2 && self.option.starts_with('-');
        let joint = if short { " " } else { "=" };
        write!(f, "{}{joint}{}", self.option, self.value)
    }
}

/// What the person asked for besides the project's files.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Settings from the command line, in their order.
    pub args: Vec<Argument>,
}

/// What the language may know of the machine.
#[derive(Debug, Clone)]
pub struct Facts {
    /// This machine's architecture: the default of `Architecture=`.
    pub architecture: Architecture,
    /// The user's home directory, for `~/` and `$HOME` in paths.
    pub home: Option<PathBuf>,
    /// The directory of a user-wide `mkgold.conf`.
    pub config_dir: Option<PathBuf>,
    /// The environment, for `Environment=NAME`, `$NAME` in paths and
    /// `$SOURCE_DATE_EPOCH`. Nothing else of it is used.
    pub env: BTreeMap<String, String>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            architecture: Architecture::X86_64,
            home: None,
            config_dir: None,
            env: BTreeMap::new(),
        }
    }
}

/// A file that was read: if none of them changes and none is added, the same
/// configuration comes out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FileRead {
    /// Its path.
    pub path: PathBuf,
    /// Its modification time in nanoseconds since 1970.
    pub mtime: i128,
    /// Its size in bytes.
    pub size: u64,
}

/// A setting that was given and changes nothing, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithoutEffect {
    /// Its name.
    pub setting: &'static str,
    /// Why it cannot change anything.
    pub reason: &'static str,
    /// Where it was given.
    pub origin: Origin,
}

/// A configuration that was accepted.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where each setting's values were written, by its name.
    pub sources: BTreeMap<&'static str, Vec<Origin>>,
    /// The files that were read, in order.
    pub files_read: Vec<FileRead>,
    /// What is doubtful in it.
    pub warnings: Vec<Diagnostic>,
    /// Settings that were given and change nothing.
    pub no_effect: Vec<WithoutEffect>,
    /// Whether the embedded default was used, as the project has no
    /// configuration.
    pub embedded_default: bool,
}

/// Reads the project in `project` (an absolute path) on this machine.
///
/// # Errors
/// Every error that was found, each with its place.
pub fn load(project: &Path, request: &Request, facts: &Facts) -> Result<Loaded, Vec<Diagnostic>> {
    load_from(&RealFiles, project, request, facts)
}

/// Reads the project in `project` (an absolute path) on this machine, to be shown.
///
/// # Errors
/// Every error that was found; what mkgold does not support is none here.
pub fn read(project: &Path, request: &Request, facts: &Facts) -> Result<Reading, Vec<Diagnostic>> {
    read_from(&RealFiles, project, request, facts)
}

/// Reads the project in `project` (an absolute path) from `files`.
///
/// # Errors
/// Every error that was found, each with its place.
pub fn load_from(
    files: &dyn FileSource,
    project: &Path,
    request: &Request,
    facts: &Facts,
) -> Result<Loaded, Vec<Diagnostic>> {
    read_from(files, project, request, facts)?.accept()
}
