//! [`PackageRecord`]: one stanza of a `Packages` index, as far as choosing and
//! fetching a package need it.
//!
//! Descriptions, tags and maintainers are left out: they are half of an index
//! and no decision depends on them. Every string is shared, so a clone copies
//! pointers.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::deb822::{self, Paragraph, Paragraphs};
use crate::{
    Architecture, Interner, NameError, PackageName, RelationError, Relations, Version, VersionError,
};

/// A stanza that does not describe a package.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: package {package}: {kind}")]
pub struct RecordError {
    /// The stanza's first line, counted from 1.
    pub line: usize,
    /// The package's name as far as it is known.
    pub package: String,
    /// What is wrong.
    pub kind: RecordErrorKind,
}

/// What is wrong with a stanza.
#[derive(Debug, thiserror::Error)]
pub enum RecordErrorKind {
    /// The text is not a control paragraph.
    #[error(transparent)]
    Syntax(#[from] deb822::Error),
    /// A field that every package has.
    #[error("the field “{0}” is missing")]
    Missing(&'static str),
    /// A bad name or architecture.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A bad version.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A bad dependency field.
    #[error("{field}: {source}")]
    Relation {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: RelationError,
    },
    /// More than [`MAX_RECORDS`].
    #[error("the index has more than {MAX_RECORDS} packages")]
    TooMany,
    /// A value outside what the field may hold.
    #[error("the field “{field}” holds “{value}”, not {expected}")]
    Value {
        /// The field.
        field: &'static str,
        /// What it holds, shortened.
        value: String,
        /// What it may hold.
        expected: &'static str,
    },
}

/// The archive's view of how much a package matters.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// The system does not work without it.
    Required,
    /// Expected on any Unix-like system.
    Important,
    /// A reasonable small system for the console.
    Standard,
    /// Everything else (also where the field is missing or unknown).
    #[default]
    Optional,
    /// Obsolete: as `optional`.
    Extra,
}

/// How a package behaves between architectures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MultiArch {
    /// Serves its own architecture only.
    #[default]
    No,
    /// Can be installed for several architectures at once.
    Same,
    /// Serves packages of every architecture.
    Foreign,
    /// Serves every architecture for those that ask with `:any`.
    Allowed,
}

/// A SHA-256 sum; text form is lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut sum = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let value = |digit: u8| char::from(digit).to_digit(16);
        for (byte, pair) in sum.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::try_from(value(pair[0])? * 16 + value(pair[1])?).ok()?;
        }
        Some(Self(sum))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl TryFrom<String> for Sha256 {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("“{text}” is not a SHA-256 sum"))
    }
}

impl From<Sha256> for String {
    fn from(sum: Sha256) -> Self {
        sum.to_string()
    }
}

/// One version of a package, as an index offers it or a database has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of deb-control(5) and of indices")]
pub struct PackageRecord {
    pub name: PackageName,
    pub version: Version,
    pub architecture: Architecture,
    #[serde(default)]
    pub multi_arch: MultiArch,
    #[serde(default)]
    pub essential: bool,
    /// `Important: yes`, apt's own; or `Protected: yes`, its successor.
    #[serde(default)]
    pub protected: bool,
    #[serde(default)]
    pub priority: Priority,
    #[serde(default)]
    pub depends: Relations,
    #[serde(default)]
    pub pre_depends: Relations,
    #[serde(default)]
    pub recommends: Relations,
    #[serde(default)]
    pub suggests: Relations,
    #[serde(default)]
    pub enhances: Relations,
    #[serde(default)]
    pub conflicts: Relations,
    #[serde(default)]
    pub breaks: Relations,
    #[serde(default)]
    pub replaces: Relations,
    #[serde(default)]
    pub provides: Relations,
    /// Path below the archive's root; `None` for records not from an archive.
    #[serde(default)]
    pub filename: Option<Arc<str>>,
    /// Size of the `.deb` in bytes; 0 where unknown.
    #[serde(default)]
    pub size: u64,
    #[serde(default)]
    pub sha256: Option<Sha256>,
    /// In KiB, as the field has it.
    #[serde(default)]
    pub installed_size: u64,
    /// Name of the source package.
    pub source: Arc<str>,
    /// Version of the source package.
    pub source_version: Version,
    #[serde(default)]
    pub section: Arc<str>,
    /// The tasks (of tasksel) that the package belongs to.
    #[serde(default)]
    pub tasks: Vec<Arc<str>>,
}

/// The fields of a record, picked from a paragraph in one pass.
#[derive(Default)]
struct Raw<'p> {
    package: Option<&'p str>,
    version: Option<&'p str>,
    architecture: Option<&'p str>,
    multi_arch: Option<&'p str>,
    essential: Option<&'p str>,
    important: Option<&'p str>,
    protected: Option<&'p str>,
    priority: Option<&'p str>,
    depends: Option<&'p str>,
    pre_depends: Option<&'p str>,
    recommends: Option<&'p str>,
    suggests: Option<&'p str>,
    enhances: Option<&'p str>,
    conflicts: Option<&'p str>,
    breaks: Option<&'p str>,
    replaces: Option<&'p str>,
    provides: Option<&'p str>,
    filename: Option<&'p str>,
    size: Option<&'p str>,
    sha256: Option<&'p str>,
    installed_size: Option<&'p str>,
    source: Option<&'p str>,
    section: Option<&'p str>,
    task: Option<&'p str>,
}

impl<'p> Raw<'p> {
    fn pick(paragraph: &'p Paragraph<'_>) -> Self {
        let mut raw = Self::default();
        for field in paragraph.fields() {
            if let Some(slot) = raw.slot(field.name) {
                *slot = Some(&field.value);
            }
        }
        raw
    }

    fn slot(&mut self, name: &str) -> Option<&mut Option<&'p str>> {
        // The longest name of interest has 14 letters.
        let mut lower = [0; 14];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        Some(match &*lower {
            b"package" => &mut self.package,
            b"version" => &mut self.version,
            b"architecture" => &mut self.architecture,
            b"multi-arch" => &mut self.multi_arch,
            b"essential" => &mut self.essential,
            b"important" => &mut self.important,
            b"protected" => &mut self.protected,
            b"priority" => &mut self.priority,
            b"depends" => &mut self.depends,
            b"pre-depends" => &mut self.pre_depends,
            b"recommends" => &mut self.recommends,
            b"suggests" => &mut self.suggests,
            b"enhances" => &mut self.enhances,
            b"conflicts" => &mut self.conflicts,
            b"breaks" => &mut self.breaks,
            b"replaces" => &mut self.replaces,
            b"provides" => &mut self.provides,
            b"filename" => &mut self.filename,
            b"size" => &mut self.size,
            b"sha256" => &mut self.sha256,
            b"installed-size" => &mut self.installed_size,
            b"source" => &mut self.source,
            b"section" => &mut self.section,
            b"task" => &mut self.task,
            _ => return None,
        })
    }
}

impl PackageRecord {
    /// Reads a stanza of an index, of dpkg's `status` or of a `.deb`'s `control`.
    pub fn parse(paragraph: &Paragraph<'_>) -> Result<Self, RecordError> {
        Self::parse_with(paragraph, &mut Interner::new())
    }

    /// As [`PackageRecord::parse`], sharing strings through `interner`.
    pub fn parse_with(
        paragraph: &Paragraph<'_>,
        interner: &mut Interner,
    ) -> Result<Self, RecordError> {
        let raw = Raw::pick(paragraph);
        Self::build(&raw, interner).map_err(|kind| RecordError {
            line: paragraph.line(),
            package: raw.package.unwrap_or("without a name").chars().take(80).collect(),
            kind,
        })
    }

    fn build(raw: &Raw<'_>, interner: &mut Interner) -> Result<Self, RecordErrorKind> {
        let mut required = |value: Option<&str>, field| {
            value.map(|text| interner.get(text)).ok_or(RecordErrorKind::Missing(field))
        };
        let name = PackageName::try_from(required(raw.package, "Package")?)?;
        let version = Version::try_from(required(raw.version, "Version")?)?;
        let architecture = Architecture::try_from(required(raw.architecture, "Architecture")?)?;
        let (source, source_version) = match raw.source {
            None => (name.shared().clone(), version.clone()),
            Some(text) => parse_source(text, &version, interner)?,
        };
        let mut relations = |value: Option<&str>, field| {
            Relations::interned(value.unwrap_or_default(), interner)
                .map_err(|source| RecordErrorKind::Relation { field, source })
        };
        Ok(Self {
            depends: relations(raw.depends, "Depends")?,
            pre_depends: relations(raw.pre_depends, "Pre-Depends")?,
            recommends: relations(raw.recommends, "Recommends")?,
            suggests: relations(raw.suggests, "Suggests")?,
            enhances: relations(raw.enhances, "Enhances")?,
            conflicts: relations(raw.conflicts, "Conflicts")?,
            breaks: relations(raw.breaks, "Breaks")?,
            replaces: relations(raw.replaces, "Replaces")?,
            provides: relations(raw.provides, "Provides")?,
            multi_arch: parse_multi_arch(raw.multi_arch)?,
            essential: parse_yes(raw.essential, "Essential")?,
            protected: parse_yes(raw.important, "Important")?
                | parse_yes(raw.protected, "Protected")?,
            priority: parse_priority(raw.priority),
            filename: raw.filename.map(Arc::from),
            size: parse_number(raw.size, "Size")?,
            sha256: parse_sum(raw.sha256)?,
            installed_size: parse_number(raw.installed_size, "Installed-Size")?,
            section: interner.get(raw.section.unwrap_or_default()),
            tasks: parse_tasks(raw.task, interner),
            source,
            source_version,
            name,
            version,
            architecture,
        })
    }

    /// `name_version_arch.deb` as apt names it in its cache: the epoch's colon is `%3a`.
    pub fn cache_name(&self) -> String {
        let version = self.version.as_str().replace(':', "%3a");
        format!("{}_{version}_{}.deb", self.name, self.architecture)
    }
}

fn bad_value(field: &'static str, value: &str, expected: &'static str) -> RecordErrorKind {
    RecordErrorKind::Value { field, value: value.chars().take(80).collect(), expected }
}

/// `name` or `name (version)`.
fn parse_source(
    text: &str,
    version: &Version,
    interner: &mut Interner,
) -> Result<(Arc<str>, Version), RecordErrorKind> {
    let (name, own) = match text.split_once('(') {
        None => (text, None),
        Some((name, rest)) => {
            let own = rest.trim_ascii_end().strip_suffix(')');
            let own = own.ok_or_else(|| bad_value("Source", text, "NAME (VERSION)"))?;
            (name.trim_ascii_end(), Some(own.trim_ascii()))
        }
    };
    let name = PackageName::try_from(interner.get(name))?;
    let version = match own {
        None => version.clone(),
        Some(own) => Version::try_from(interner.get(own))?,
    };
    Ok((name.shared().clone(), version))
}

fn parse_multi_arch(value: Option<&str>) -> Result<MultiArch, RecordErrorKind> {
    Ok(match value {
        None | Some("no") => MultiArch::No,
        Some("same") => MultiArch::Same,
        Some("foreign") => MultiArch::Foreign,
        Some("allowed") => MultiArch::Allowed,
        Some(other) => {
            return Err(bad_value("Multi-Arch", other, "no, same, foreign or allowed"));
        }
    })
}

fn parse_yes(value: Option<&str>, field: &'static str) -> Result<bool, RecordErrorKind> {
    match value {
        None | Some("no") => Ok(false),
        Some("yes") => Ok(true),
        Some(other) => Err(bad_value(field, other, "yes or no")),
    }
}

/// Archives invent priorities (`source`, `unknown`): those count as `optional`.
fn parse_priority(value: Option<&str>) -> Priority {
    match value {
        Some("required") => Priority::Required,
        Some("important") => Priority::Important,
        Some("standard") => Priority::Standard,
        Some("extra") => Priority::Extra,
        _ => Priority::Optional,
    }
}

fn parse_number(value: Option<&str>, field: &'static str) -> Result<u64, RecordErrorKind> {
    let Some(text) = value else { return Ok(0) };
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number.ok_or_else(|| bad_value(field, text, "a number"))
}

fn parse_sum(value: Option<&str>) -> Result<Option<Sha256>, RecordErrorKind> {
    let parse = |text| {
        Sha256::parse(text).ok_or_else(|| bad_value("SHA256", text, "64 hexadecimal digits"))
    };
    value.map(parse).transpose()
}

fn parse_tasks(value: Option<&str>, interner: &mut Interner) -> Vec<Arc<str>> {
    let names = value.unwrap_or_default().split([',', '\n']).map(str::trim_ascii);
    names.filter(|name| !name.is_empty()).map(|name| interner.get(name)).collect()
}

/// The most packages of one index; Debian's largest has a fifth of them.
pub const MAX_RECORDS: usize = 400_000;

/// Every stanza of an index.
pub fn read_packages(text: &str) -> Result<Vec<Arc<PackageRecord>>, RecordError> {
    read_packages_with(text, &mut Interner::new())
}

/// As [`read_packages`], sharing strings with other indices through `interner`.
pub fn read_packages_with(
    text: &str,
    interner: &mut Interner,
) -> Result<Vec<Arc<PackageRecord>>, RecordError> {
    let mut records = Vec::new();
    let mut paragraphs = Paragraphs::new(text);
    let mut paragraph = Paragraph::default();
    let syntax = |error: deb822::Error| RecordError {
        line: error.line,
        package: "unknown".to_owned(),
        kind: error.into(),
    };
    while paragraphs.read_into(&mut paragraph).map_err(syntax)? {
        if records.len() == MAX_RECORDS {
            let line = paragraph.line();
            let package = paragraph.get("Package").unwrap_or_default().chars().take(80).collect();
            return Err(RecordError { line, package, kind: RecordErrorKind::TooMany });
        }
        records.push(Arc::new(PackageRecord::parse_with(&paragraph, interner)?));
    }
    Ok(records)
}
