//! repart.d definitions: found, parsed, validated; nothing is carried out here.
//!
//! What it is: [`load`] makes a [`Definition`] of every file, with the warnings and
//! errors of systemd, each with its file and line. Every setting is parsed, also
//! those that cannot be carried out yet: [`Definition::refusals`] names them, and
//! `execute` refuses them. What it is not: anything about a disk.
//!
//! Data flow: [`Source`] → `files` (precedence, masking, drop-ins) → `ini` (lines) →
//! `settings` (one row per setting) → `validate` (implications) → `Definition`.
//!
//! Specification: repart.d(5).

mod files;
mod ini;
mod settings;
mod specifier;
mod validate;
pub(crate) mod value;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tree::{Tree, TreePath};

pub use specifier::{Facts, Wanted};

use crate::{Compat, Guid, TypeGuid};

/// Where definitions are looked for.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// The standard directories below this directory of the host, links being followed
    /// within it.
    Root(&'a Path),
    /// The standard directories of an image: `/etc/repart.d`, `/run/repart.d`,
    /// `/usr/local/lib/repart.d`, `/usr/lib/repart.d`.
    Tree(&'a Tree),
    /// These directories of the host and no others, the first having precedence:
    /// `--definitions=`.
    Dirs(&'a [PathBuf]),
    /// These texts, as if they were files of one directory: name and content.
    Texts(&'a [(String, String)]),
}

/// What `CopyBlocks=` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyBlocks {
    /// From the partition that the running system uses.
    Auto,
    /// From this file, below the copy source.
    Path(TreePath),
}

/// One `CopyFiles=` line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyFiles {
    /// Below the copy source.
    pub source: TreePath,
    /// In the new file system.
    pub target: TreePath,
    /// `fsverity=copy`.
    pub fsverity: bool,
}

/// One word of `ExcludeFiles=` or `ExcludeFilesTarget=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclude {
    /// What is left out.
    pub path: TreePath,
    /// The directory itself stays (a slash at the end).
    pub contents_only: bool,
}

/// One word of `MakeSymlinks=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MakeSymlink {
    /// Where the link is.
    pub path: TreePath,
    /// Where it leads, verbatim.
    pub target: String,
}

/// One word of `Subvolumes=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subvolume {
    /// Where it is.
    pub path: TreePath,
    /// `ro`.
    pub read_only: bool,
    /// `nodatacow`.
    pub no_cow: bool,
}

/// One `MountPoint=` line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// Where.
    pub path: TreePath,
    /// Mount options to add.
    pub options: Option<String>,
}

/// What `EncryptedVolume=` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptedVolume {
    /// Name of the mapped device.
    pub name: String,
    /// Key file for crypttab.
    pub key_file: Option<String>,
    /// Options for crypttab.
    pub options: Option<String>,
    /// `fixate-volume-key`.
    pub fixate_volume_key: bool,
}

macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[allow(missing_docs)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// From the text of the setting.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some($name::$variant),)+ _ => None }
            }

            /// The text of the setting.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }
    };
}

choices!(
    /// `Encrypt=`.
    Encrypt { #[default] Off = "off", KeyFile = "key-file", Tpm2 = "tpm2", KeyFileTpm2 = "key-file+tpm2" }
);
choices!(
    /// `EncryptKDF=`.
    Kdf { #[default] Argon2id = "argon2id", Pbkdf2 = "pbkdf2", Minimal = "minimal" }
);
choices!(
    /// `Integrity=`.
    Integrity { #[default] Off = "off", Inline = "inline" }
);
choices!(
    /// `IntegrityAlgorithm=`.
    IntegrityAlgorithm { HmacSha1 = "hmac-sha1", #[default] HmacSha256 = "hmac-sha256", HmacSha512 = "hmac-sha512" }
);
choices!(
    /// `Verity=`.
    Verity { #[default] Off = "off", Data = "data", Hash = "hash", Signature = "signature" }
);
choices!(
    /// `Minimize=`.
    Minimize { #[default] Off = "off", Best = "best", Guess = "guess" }
);

/// One partition as its definition wants it. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Definition {
    /// The file, for messages and the `file` column.
    pub path: String,
    /// The file's name, `50-root.conf`.
    pub name: String,
    /// The drop-ins that were read after it.
    pub drop_ins: Vec<String>,
    pub kind: TypeGuid,
    pub label: Option<String>,
    pub volume_label: Option<String>,
    /// All zero where the definition says `null`.
    pub uuid: Option<Guid>,
    pub priority: i32,
    pub weight: u32,
    pub padding_weight: u32,
    pub size_min: Option<u64>,
    pub size_max: Option<u64>,
    pub padding_min: Option<u64>,
    pub padding_max: Option<u64>,
    pub factory_reset: bool,
    pub copy_blocks: Option<CopyBlocks>,
    pub format: Option<String>,
    pub copy_files: Vec<CopyFiles>,
    pub exclude_files: Vec<Exclude>,
    pub exclude_files_target: Vec<Exclude>,
    pub make_directories: Vec<TreePath>,
    pub make_symlinks: Vec<MakeSymlink>,
    pub subvolumes: Vec<Subvolume>,
    pub default_subvolume: Option<TreePath>,
    pub block_device_replace: Option<String>,
    pub volume_name: Option<String>,
    pub encrypt: Encrypt,
    pub discard: Option<bool>,
    pub encrypt_kdf: Option<Kdf>,
    pub integrity: Integrity,
    pub integrity_algorithm: IntegrityAlgorithm,
    pub verity: Verity,
    pub verity_match_key: Option<String>,
    pub verity_data_block: Option<u64>,
    pub verity_hash_block: Option<u64>,
    /// `Flags=`, without the three bits that have settings of their own.
    pub flags: u64,
    pub no_auto: Option<bool>,
    pub read_only: Option<bool>,
    pub grow_file_system: Option<bool>,
    /// Unexpanded; `-` disables.
    pub split_name: Option<String>,
    pub minimize: Minimize,
    pub mount_points: Vec<MountPoint>,
    pub encrypted_volume: Option<EncryptedVolume>,
    pub tpm2_pcrs: Option<String>,
    pub key_file: Option<String>,
    pub compression: Option<String>,
    pub compression_level: Option<String>,
    pub supplement_for: Option<String>,
    pub add_validatefs: Option<bool>,
    /// A power of two.
    pub fs_sector_size: Option<u64>,
}

/// Bits of the attributes that have settings of their own (UAPI.2).
pub const FLAG_NO_AUTO: u64 = 1 << 63;
/// The partition is mounted read-only.
pub const FLAG_READ_ONLY: u64 = 1 << 60;
/// Its file system grows to fill it when it is mounted.
pub const FLAG_GROW_FILE_SYSTEM: u64 = 1 << 59;

impl Definition {
    /// The attribute bits of the partition.
    pub fn attributes(&self) -> u64 {
        let bits = [
            (self.no_auto, FLAG_NO_AUTO),
            (self.read_only, FLAG_READ_ONLY),
            (self.grow_file_system, FLAG_GROW_FILE_SYSTEM),
        ];
        bits.into_iter().fold(self.flags, |flags, (set, bit)| match set {
            Some(true) => flags | bit,
            Some(false) => flags & !bit,
            None => flags,
        })
    }

    /// True if something is put into the partition's file system.
    pub fn populates(&self) -> bool {
        !self.copy_files.is_empty()
            || !self.make_directories.is_empty()
            || !self.make_symlinks.is_empty()
            || self.add_validatefs == Some(true)
    }

    /// True if its file system cannot be written once made.
    pub fn has_read_only_format(&self) -> bool {
        self.format.as_deref().is_some_and(is_read_only_format)
    }

    /// The settings of this definition that are parsed and planned but cannot be
    /// carried out yet.
    pub fn refusals(&self) -> Vec<String> {
        let mut refused = Vec::new();
        let mut when = |used: bool, setting: String| refused.extend(used.then_some(setting));
        when(self.encrypt != Encrypt::Off, format!("Encrypt={}", self.encrypt.as_str()));
        when(self.integrity != Integrity::Off, "Integrity=inline".into());
        when(self.verity != Verity::Off, format!("Verity={}", self.verity.as_str()));
        when(self.copy_blocks == Some(CopyBlocks::Auto), "CopyBlocks=auto".into());
        when(!self.subvolumes.is_empty(), "Subvolumes=".into());
        when(self.default_subvolume.is_some(), "DefaultSubvolume=".into());
        when(self.block_device_replace.is_some(), "BlockDeviceReplace=".into());
        when(self.volume_name.is_some(), "VolumeName=".into());
        when(self.copy_files.iter().any(|c| c.fsverity), "CopyFiles= with fsverity=copy".into());
        refused
    }
}

/// True for the file systems that are made once and never written.
pub fn is_read_only_format(format: &str) -> bool {
    matches!(format, "erofs" | "squashfs" | "cramfs" | "iso9660")
}

/// How bad a diagnostic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The line, or the file, has no effect; the run goes on.
    Warning,
    /// The run is refused.
    Error,
}

/// Something about a definition that its author should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Warning or error.
    pub severity: Severity,
    /// The file.
    pub path: String,
    /// The line, counted from 1, where it is about one.
    pub line: Option<u32>,
    /// The text of that line.
    pub text: Option<String>,
    /// What, why, and what to do.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)?;
        match &self.text {
            Some(text) => write!(f, " (in {text:?})"),
            None => Ok(()),
        }
    }
}

/// The definitions cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the partition definitions are refused: {}", list(.0))]
pub struct Refused(
    /// Everything found, the errors first.
    pub Vec<Diagnostic>,
);

fn list(found: &[Diagnostic]) -> String {
    let errors = found.iter().filter(|d| d.severity == Severity::Error);
    errors.map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Definitions that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// One per file, in the order of the files' names.
    pub definitions: Vec<Definition>,
    /// What was ignored in them.
    pub warnings: Vec<Diagnostic>,
}

/// The names of all settings.
pub fn settings() -> impl Iterator<Item = &'static str> {
    settings::names()
}

/// Finds, parses and validates the definitions.
pub fn load(source: Source<'_>, facts: &Facts, compat: Compat) -> Result<Loaded, Refused> {
    let mut diagnostics = Vec::new();
    let mut definitions = Vec::new();
    for file in files::find(source, &mut diagnostics) {
        let mut log = Log { diagnostics: &mut diagnostics, path: file.path.clone() };
        let parsed = settings::parse(&file, facts, compat, &mut log).map(|mut definition| {
            definition.kind = definition.kind.retyped(facts.retype);
            definition
        });
        if let Some(definition) = parsed.filter(|d| facts.wanted.has(d.kind)) {
            definitions.extend(validate::complete(definition, facts, compat, &mut log));
        }
    }
    validate::together(&definitions, &mut diagnostics);
    if diagnostics.iter().any(|d| d.severity == Severity::Error) {
        diagnostics.sort_by_key(|d| d.severity == Severity::Warning);
        return Err(Refused(diagnostics));
    }
    Ok(Loaded { definitions, warnings: diagnostics })
}

/// Collects the diagnostics of one file.
struct Log<'a> {
    diagnostics: &'a mut Vec<Diagnostic>,
    path: String,
}

impl Log<'_> {
    fn say(&mut self, severity: Severity, at: Option<(u32, &str)>, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic {
            severity,
            path: self.path.clone(),
            line: at.map(|(line, _)| line),
            text: at.map(|(_, text)| text.to_owned()),
            message: message.into(),
        });
    }

    fn warn(&mut self, message: impl Into<String>) {
        self.say(Severity::Warning, None, message);
    }

    fn refuse(&mut self, message: impl Into<String>) {
        self.say(Severity::Error, None, message);
    }
}
