//! Text to typed values, by the kind that the settings table gives.
//!
//! Pure but for paths: those are resolved through the [`FileSource`], as mkosi
//! resolves symbolic links in them. A value that cannot be parsed yields a
//! [`Problem`], which the loader turns into a diagnostic with its place.

mod machine;

use std::path::{Component, Path, PathBuf};

use uuid::Uuid;

use crate::Facts;
use crate::diagnostic::{did_you_mean, nearest};
use crate::source::{FileSource, Kind as FileKind, resolve};
use crate::table::{Choice, Kind, Setting, Shape, Split};
use crate::types::DEBIAN_RELEASES;
use machine::{drive, key, key_source, label, private, tools_tree, vsock};

/// Sizes are rounded up to a multiple of this, as mkosi does.
const SIZE_UNIT: u64 = 4096;
/// The largest size: one exbibyte.
const MAX_SIZE: u64 = 1 << 60;
/// The longest path, as in Linux.
const MAX_PATH: usize = 4096;
/// The most items that one assignment may bring.
pub(crate) const MAX_ITEMS: usize = 100_000;

/// A parsed value, or an item of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text, or the name from a closed set.
    Text(String),
    /// A boolean.
    Bool(bool),
    /// A number: plain, bytes, seconds or permission bits.
    Number(i64),
    /// An absolute path.
    Path(PathBuf),
    /// A UUID; `None` for a random one.
    Uuid(Option<Uuid>),
    /// A tree and where it goes.
    Tree {
        /// Where it comes from.
        source: PathBuf,
        /// Where it goes in the image; the root if not given.
        target: Option<PathBuf>,
    },
    /// A password.
    Password {
        /// The password or its hash.
        text: String,
        /// Whether it is a hash.
        hashed: bool,
    },
    /// A drive of a virtual machine.
    Drive(Box<Drive>),
    /// Where a key comes from.
    KeySource {
        /// `file`, `engine` or `provider`.
        kind: String,
        /// The engine's or provider's name.
        source: String,
    },
    /// A variable.
    Pair {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
}

/// A drive of a virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// Its identifier.
    pub id: String,
    /// Its size in bytes.
    pub size: i64,
    /// Where its file is made.
    pub directory: Option<PathBuf>,
    /// More options for QEMU.
    pub options: Option<String>,
    /// The identifier of its file.
    pub file: String,
    /// `persist`, if it is kept.
    pub flags: Vec<String>,
}

/// Why a text is not a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The part that is wrong.
    pub span: String,
    /// What is wrong with it.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl Problem {
    pub(crate) fn new(span: &str, message: impl Into<String>) -> Self {
        Self { span: span.into(), message: message.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn help_opt(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }
}

/// What values are read against.
pub struct Surroundings<'a> {
    /// Where paths are looked up.
    pub files: &'a dyn FileSource,
    /// The directory that relative paths belong to.
    pub directory: &'a Path,
    /// The machine.
    pub facts: &'a Facts,
}

/// The text of one assignment, cut into the texts of its values.
pub fn split(setting: &Setting, text: &str) -> Result<Vec<String>, Problem> {
    let words: Vec<String> = match setting.shape {
        Shape::One => return Ok(vec![text.trim().to_string()]),
        Shape::List(Split::Commas) => {
            text.split(|c: char| c == ',' || c.is_whitespace()).map(String::from).collect()
        }
        Shape::List(Split::Spaces) => text.split_whitespace().map(String::from).collect(),
        Shape::List(Split::Colons) => {
            text.split([':', '\n']).map(|w| w.trim().to_string()).collect()
        }
        Shape::List(Split::Shell) => return shell_words(text),
    };
    let words: Vec<_> = words.into_iter().filter(|w| !w.is_empty()).collect();
    if words.len() > MAX_ITEMS {
        return Err(Problem::new("", format!("more than {MAX_ITEMS} values in one setting")));
    }
    Ok(words)
}

/// Cuts text as a POSIX shell cuts words: quotes keep white space, a backslash
/// keeps the next character (in double quotes only before `"` and `\`).
pub fn shell_words(text: &str) -> Result<Vec<String>, Problem> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => quoted(&mut chars, '\'', word.get_or_insert_default(), text)?,
            '"' => quoted(&mut chars, '"', word.get_or_insert_default(), text)?,
            '\\' => {
                let next = chars.next().ok_or_else(|| {
                    Problem::new("\\", "a backslash at the end").help("double it to keep it")
                })?;
                word.get_or_insert_default().push(next);
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(
    chars: &mut std::str::Chars<'_>,
    quote: char,
    word: &mut String,
    text: &str,
) -> Result<(), Problem> {
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Ok(()),
            '\\' if quote == '"' => match chars.next() {
                Some(e @ ('"' | '\\')) => word.push(e),
                Some(other) => word.extend(['\\', other]),
                None => break,
            },
            c => word.push(c),
        }
    }
    let at = text.rfind(quote).unwrap_or(0);
    Err(Problem::new(&text[at..], "a quote that is not closed")
        .help("close it, or write \\ before it"))
}

/// A boolean by any of the spellings that mkosi takes.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" | "always" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" | "never" => Some(false),
        _ => None,
    }
}

/// One value of `setting`. Scripts may be patterns and give several.
pub fn parse(setting: &Setting, text: &str, around: &Surroundings) -> Result<Vec<Value>, Problem> {
    let secret = setting.name.ends_with("Key") || setting.name == "ProxyClientCertificate";
    if secret && matches!(setting.kind, Kind::Key | Kind::ExistingPath) {
        private(text, around)?;
    }
    let value = match setting.kind {
        Kind::Script => return crate::glob::scripts(text, around),
        Kind::Credential => return credentials(text, around),
        Kind::Text | Kind::Version => Value::Text(text.to_string()),
        Kind::Identifier => identifier(text)?,
        Kind::FileName => file_name(text)?,
        Kind::Release => release(text)?,
        Kind::Choice(choice) => Value::Text(choose(choice, text)?.to_string()),
        Kind::Bool => Value::Bool(parse_bool(text).ok_or_else(|| not_bool(text))?),
        Kind::Integer(low, high) => Value::Number(integer(text, low, high)?),
        Kind::Size => Value::Number(size(text)?),
        Kind::SectorSize => sector_size(text)?,
        Kind::Mode => mode(text)?,
        Kind::KeySource => key_source(text, &["file", "engine", "provider"])?,
        Kind::CertificateSource => key_source(text, &["file", "provider"])?,
        Kind::Key => key(text, around)?,
        Kind::ToolsTree => tools_tree(text, around)?,
        Kind::Label => label(text),
        Kind::Regex if matches!(text, "default" | "host") => Value::Text(text.into()),
        Kind::Regex => Value::Text(format!("re:{text}")),
        Kind::PathOr(words) if words.contains(&text) => Value::Text(text.into()),
        Kind::PathOr(_) => Value::Path(path(text, around)?),
        Kind::AbsolutePath if !text.starts_with('/') => {
            return Err(Problem::new(text, format!("{text:?} is not an absolute path")));
        }
        Kind::AbsolutePath => Value::Path(path(text, around)?),
        Kind::VSock => vsock(text)?,
        Kind::Drive => drive(text, around)?,
        Kind::Uuid => uuid(text)?,
        // The default initrd has a name, not a path.
        Kind::Path if setting.name == "Initrds" && text == "default" => Value::Text(text.into()),
        Kind::Path => Value::Path(path(text, around)?),
        Kind::ExistingPath => Value::Path(existing(text, around)?),
        // Its target is in the machine, also relative to a place there.
        Kind::Tree if setting.name == "RuntimeTrees" => runtime_tree(text, around)?,
        Kind::Tree => tree(text, around, false)?,
        // Its target is a place below the sources, not in the image.
        Kind::ExistingTree if setting.name == "BuildSources" => build_source(text, around)?,
        Kind::ExistingTree => tree(text, around, true)?,
        Kind::Password => password(text),
        Kind::Assignment => assignment(text, around.facts)?,
    };
    Ok(vec![value])
}

fn not_bool(text: &str) -> Problem {
    let near = nearest(text, ["yes", "no", "true", "false", "on", "off"]);
    let help = near.map_or("write yes or no".to_string(), |n| format!("did you mean \"{n}\"?"));
    Problem::new(text, format!("{text:?} is not a boolean")).help(help)
}

/// The name in a closed set that `text` stands for, also one that mkgold refuses.
pub fn choose(choice: &Choice, text: &str) -> Result<&'static str, Problem> {
    if let Some(name) = choice.works.iter().find(|n| **n == text) {
        return Ok(name);
    }
    if let Some(name) = choice.refused.iter().find(|n| **n == text) {
        return Ok(name);
    }
    if let Some((_, to)) = choice.aliases.iter().find(|(from, _)| *from == text) {
        return choose(choice, to);
    }
    match parse_bool(text) {
        Some(true) if !choice.yes.is_empty() => return choose(choice, choice.yes),
        Some(false) if !choice.no.is_empty() => return choose(choice, choice.no),
        _ => {}
    }
    let message = format!("{text:?} is not {}", choice.what);
    Err(Problem::new(text, message).help(choice_help(choice, text)))
}

fn choice_help(choice: &Choice, text: &str) -> String {
    let spellings = [
        ("amd64", "x86-64"),
        ("x86_64", "x86-64"),
        ("i386", "x86"),
        ("aarch64", "arm64"),
        ("armhf", "arm"),
        ("ppc64el", "ppc64-le"),
        ("mips64el", "mips64-le"),
        ("loong64", "loongarch64"),
        ("raw", "disk"),
        ("dir", "directory"),
        ("gpt", "disk"),
    ];
    let known = spellings.iter().find(|(from, to)| *from == text && choice.works.contains(to));
    if let Some((_, to)) = known {
        return format!("did you mean \"{to}\"?");
    }
    let mut names: Vec<&str> = choice.works.to_vec();
    if !choice.yes.is_empty() {
        names.extend(["yes", "no"]);
    }
    did_you_mean(text, names.iter().copied().chain(choice.refused.iter().copied()))
        .unwrap_or_else(|| format!("one of: {}", names.join(", ")))
}

fn identifier(text: &str) -> Result<Value, Problem> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-+~^:".contains(c);
    if let Some(bad) = text.chars().find(|c| !fits(*c)) {
        let message = format!("{bad:?} cannot be in os-release's IMAGE_ID= or IMAGE_VERSION=");
        return Err(Problem::new(text, message).help("use letters, digits, \".\", \"_\" and \"-\""));
    }
    if text.starts_with('.') || text.len() > 64 {
        let message = "it must not begin with \".\" or be longer than 64 characters";
        return Err(Problem::new(text, message));
    }
    Ok(Value::Text(text.into()))
}

fn file_name(text: &str) -> Result<Value, Problem> {
    if text.contains('/') || text == "." || text == ".." {
        let message = format!("{text:?} is not a file name without directories");
        return Err(Problem::new(text, message).help("the directory goes into OutputDirectory="));
    }
    Ok(Value::Text(text.into()))
}

/// Accepts names that did not exist when this was written, but not a number or
/// what is plainly a known name misspelled.
fn release(text: &str) -> Result<Value, Problem> {
    let numbers = [("13", "trixie"), ("12", "bookworm"), ("11", "bullseye"), ("14", "forky")];
    if DEBIAN_RELEASES.contains(&text) {
        return Ok(Value::Text(text.into()));
    }
    let well_formed =
        text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    let number = numbers.iter().find(|(n, _)| text.split('.').next() == Some(n));
    let near = number.map(|(_, name)| *name).or(nearest(text, DEBIAN_RELEASES.iter().copied()));
    let is_number = text.starts_with(|c: char| c.is_ascii_digit());
    if is_number || !well_formed || near.is_some() {
        let message = format!("{text:?} is not a Debian release");
        let help = near.map(|n| format!("did you mean \"{n}\"?"));
        return Err(Problem::new(text, message)
            .help_opt(help.or(Some("write a code name such as trixie, or sid".into()))));
    }
    Ok(Value::Text(text.into()))
}

fn integer(text: &str, low: i64, high: i64) -> Result<i64, Problem> {
    let number: i64 = text.parse().map_err(|_| {
        Problem::new(text, format!("{text:?} is not a whole number")).help("write digits only")
    })?;
    if number < low || number > high {
        let range =
            if high == i64::MAX { format!("{low} or more") } else { format!("{low} to {high}") };
        return Err(Problem::new(text, format!("{number} is out of range")).help(range));
    }
    Ok(number)
}

/// `512M`, `1.5G`, `4096`: rounded up to a multiple of 4096.
fn size(text: &str) -> Result<i64, Problem> {
    let bad = || {
        let upper = text.trim_end_matches(['i', 'B', 'b']).to_uppercase();
        let help = match size_bytes(&upper) {
            Some(_) => format!("did you mean \"{upper}\"?"),
            None => "write a number of bytes, or one with K, M or G".to_string(),
        };
        Problem::new(text, format!("{text:?} is not a size")).help(help)
    };
    let bytes = size_bytes(text).ok_or_else(bad)?;
    if bytes == 0 || bytes > u128::from(MAX_SIZE) {
        return Err(Problem::new(text, "the size is out of range").help("1 byte to 1073741824G"));
    }
    let bytes = u64::try_from(bytes).expect("checked against MAX_SIZE").next_multiple_of(SIZE_UNIT);
    Ok(i64::try_from(bytes).expect("checked against MAX_SIZE"))
}

/// Bytes, any fraction of one rounded up; `None` if it is no size.
pub(crate) fn size_bytes(text: &str) -> Option<u128> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let digits = digits.trim_end();
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |s: &str| s.len() <= 20 && s.bytes().all(|c| c.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || fraction.len() > 12 || !plain(fraction) {
        return None;
    }
    if digits.contains('.') && (fraction.is_empty() || shift == 0) {
        return None;
    }
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let whole: u128 = whole.parse().ok()?;
    let number = whole.checked_mul(scale)?.checked_add(fraction)?.checked_mul(1 << shift)?;
    Some(number.div_ceil(scale))
}

fn sector_size(text: &str) -> Result<Value, Problem> {
    let size = integer(text, 0, i64::MAX)?;
    if !matches!(size, 512 | 1024 | 2048 | 4096) {
        let message = format!("{size} is not a sector size");
        return Err(Problem::new(text, message).help("512, 1024, 2048 or 4096"));
    }
    Ok(Value::Number(size))
}

fn mode(text: &str) -> Result<Value, Problem> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = i64::from_str_radix(digits, 8).ok().filter(|m| (0..=0o7777).contains(m));
    let problem = || {
        Problem::new(text, format!("{text:?} is not an access mode"))
            .help("write it in octal, such as 644")
    };
    Ok(Value::Number(mode.ok_or_else(problem)?))
}

fn uuid(text: &str) -> Result<Value, Problem> {
    if text == "random" {
        return Ok(Value::Uuid(None));
    }
    let problem = |_| {
        let help = did_you_mean(text, ["random"])
            .unwrap_or_else(|| "write a UUID (uuidgen makes one) or \"random\"".into());
        Problem::new(text, format!("{text:?} is not a UUID")).help(help)
    };
    Ok(Value::Uuid(Some(Uuid::parse_str(text).map_err(problem)?)))
}

/// Replaces `~/` and `$NAME` or `${NAME}`; a name without a value stays.
fn expand(text: &str, facts: &Facts) -> String {
    let home = facts.home.as_ref().map(|h| h.to_string_lossy().into_owned());
    let mut rest = text;
    let mut out = String::new();
    if let (Some(home), Some(tail)) = (&home, text.strip_prefix('~'))
        && (tail.is_empty() || tail.starts_with('/'))
    {
        out.push_str(home);
        rest = tail;
    }
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        let (name, after) = match tail.strip_prefix('{').and_then(|t| t.split_once('}')) {
            Some((name, after)) => (name, after),
            None => {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                tail.split_at(tail.find(|c| !word(c)).unwrap_or(tail.len()))
            }
        };
        let value = match name {
            "HOME" => home.as_deref().or(facts.env.get("HOME").map(String::as_str)),
            name => facts.env.get(name).map(String::as_str),
        };
        match value {
            Some(value) => out.push_str(value),
            None => out.push_str(&rest[at..rest.len() - after.len()]),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// An absolute path, links resolved.
pub(crate) fn path(text: &str, around: &Surroundings) -> Result<PathBuf, Problem> {
    let path = around.directory.join(expand(text, around.facts));
    if path.as_os_str().len() > MAX_PATH {
        let message = format!("a path of more than {MAX_PATH} bytes");
        return Err(Problem::new(text, message));
    }
    Ok(resolve(around.files, &path))
}

fn existing(text: &str, around: &Surroundings) -> Result<PathBuf, Problem> {
    let path = path(text, around)?;
    if around.files.exists(&path) {
        return Ok(path);
    }
    Err(missing(text, &path, around.files))
}

/// "does not exist", with the nearest name in that directory.
pub(crate) fn missing(text: &str, path: &Path, files: &dyn FileSource) -> Problem {
    const LOOK_AT: usize = 1000;
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = path.parent().and_then(|p| files.list(p, LOOK_AT).ok()).unwrap_or_default();
    let help = did_you_mean(&name, beside.iter().map(String::as_str));
    Problem::new(text, format!("{} does not exist", path.display()))
        .help_opt(help.or(Some("create it, or correct the path".into())))
}

fn tree(text: &str, around: &Surroundings, must_exist: bool) -> Result<Value, Problem> {
    let (source, target) = match text.split_once(':') {
        Some((source, target)) => (source, Some(target)),
        None => (text, None),
    };
    if source.is_empty() {
        return Err(Problem::new(text, "a tree without a source").help("write SOURCE:TARGET"));
    }
    let target = target.map(|t| tree_target(t, text)).transpose()?;
    let source = if must_exist { existing(source, around)? } else { path(source, around)? };
    Ok(Value::Tree { source, target })
}

/// A directory of sources; its target is relative to `$SRCDIR`, with or without a slash.
fn build_source(text: &str, around: &Surroundings) -> Result<Value, Problem> {
    let source = path(text.split_once(':').map_or(text, |(source, _)| source), around)?;
    if around.files.exists(&source) && !around.files.is_dir(&source) {
        return Err(Problem::new(text, format!("{} is not a directory", source.display())));
    }
    match text.split_once(':') {
        Some((source, target)) if !source.is_empty() && !target.starts_with('/') => {
            tree(&format!("{source}:/{target}"), around, true)
                .map_err(|problem| Problem { span: text.into(), ..problem })
        }
        _ => tree(text, around, true),
    }
}

fn runtime_tree(text: &str, around: &Surroundings) -> Result<Value, Problem> {
    let (source, target) = text.split_once(':').map_or((text, None), |(s, t)| (s, Some(t)));
    Ok(Value::Tree { source: path(source, around)?, target: target.map(PathBuf::from) })
}

fn tree_target(target: &str, text: &str) -> Result<PathBuf, Problem> {
    let path = Path::new(target);
    if !path.is_absolute() {
        let span = if target.is_empty() { text } else { target };
        return Err(Problem::new(span, format!("{target:?} is not an absolute path"))
            .help("the target is a path in the image, such as /etc"));
    }
    if path.components().any(|c| c == Component::ParentDir) {
        return Err(Problem::new(target, "\"..\" in the target").help("write the path without it"));
    }
    Ok(path.components().collect())
}

fn password(text: &str) -> Value {
    match text.strip_prefix("hashed:") {
        Some(hash) => Value::Password { text: hash.into(), hashed: true },
        None => Value::Password { text: text.into(), hashed: false },
    }
}

fn assignment(text: &str, facts: &Facts) -> Result<Value, Problem> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_string()),
        None => (text, facts.env.get(text).cloned().unwrap_or_default()),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(fits) || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err(Problem::new(text, format!("{name:?} is not a variable's name"))
            .help("write NAME=VALUE; letters, digits and \"_\", no digit first"));
    }
    Ok(Value::Pair { name: name.into(), value })
}

/// A credential, or one for each file of a directory. The files' contents are
/// read when the machine is started: here they are only named.
fn credentials(text: &str, around: &Surroundings) -> Result<Vec<Value>, Problem> {
    if let Some((name, value)) = text.split_once('=') {
        if name.is_empty() || name.contains('/') {
            return Err(Problem::new(text, format!("{name:?} is not a credential's name")));
        }
        return Ok(vec![Value::Pair { name: name.into(), value: value.into() }]);
    }
    credential_paths(&existing(text, around)?, around.files)
        .map_err(|p| Problem { span: text.into(), ..p })
}

/// The files that hold credentials: the path, or every file in it. mkosi runs
/// those that are executable; mkgold refuses them.
pub(crate) fn credential_paths(path: &Path, files: &dyn FileSource) -> Result<Vec<Value>, Problem> {
    let mut paths = vec![path.to_path_buf()];
    if files.is_dir(path) {
        let unreadable = |e| Problem::new("", format!("cannot read {}: {e}", path.display()));
        let mut names = files.list(path, MAX_ITEMS).map_err(unreadable)?;
        names.sort();
        paths = names.into_iter().map(|n| path.join(n)).collect();
    }
    for path in &paths {
        if matches!(files.meta(path), Ok(Some(m)) if m.kind == FileKind::File && m.mode & 0o111 != 0)
        {
            let message = format!("{} is executable; credentials are not run", path.display());
            return Err(Problem::new("", message).help("remove its execute permission"));
        }
    }
    Ok(paths.into_iter().map(Value::Path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_up() {
        for (text, bytes) in [
            ("4G", Some(4 << 30)),
            ("512M", Some(512 << 20)),
            ("4096", Some(4096)),
            ("3K", Some(4096)),
            ("1.5G", Some(1_610_612_736)),
            ("4 G", Some(4 << 30)),
            ("4097", Some(8192)),
            ("4g", None),
            ("4GB", None),
            ("4GiB", None),
            ("5T", None),
            ("0", None),
            ("-1", None),
            ("1.5", None),
            (".5G", None),
            ("99999999999999999999G", None),
            ("999999999999999999999999999999", None),
        ] {
            assert_eq!(size(text).ok(), bytes, "{text}");
        }
        assert_eq!(size("4g").unwrap_err().help.unwrap(), "did you mean \"4G\"?");
        assert_eq!(size("4GiB").unwrap_err().help.unwrap(), "did you mean \"4G\"?");
    }

    #[test]
    fn words_as_a_shell_cuts_them() {
        let words = |t| shell_words(t).unwrap();
        assert_eq!(words("A=\"x y\" B='z w' C=a\\ b"), ["A=x y", "B=z w", "C=a b"]);
        assert_eq!(words("a''b \"\" c\"\\\"\\n\""), ["ab", "", "c\"\\n"]);
        assert!(shell_words("a 'b").is_err());
        assert!(shell_words("a\\").is_err());
    }

    #[test]
    fn booleans_in_every_spelling() {
        for t in ["1", "yes", "Y", "TRUE", "t", "on", "always"] {
            assert_eq!(parse_bool(t), Some(true), "{t}");
        }
        for t in ["0", "no", "N", "False", "f", "off", "never"] {
            assert_eq!(parse_bool(t), Some(false), "{t}");
        }
        assert_eq!(parse_bool("maybe"), None);
        assert_eq!(parse_bool("auto"), None);
    }

    #[test]
    fn variables_in_paths() {
        let mut facts = Facts { home: Some("/h".into()), ..Facts::default() };
        facts.env.insert("FOO".into(), "/foo".into());
        for (text, out) in [
            ("~/a", "/h/a"),
            ("~", "/h"),
            ("~x/a", "~x/a"),
            ("$HOME/a", "/h/a"),
            ("${FOO}/b", "/foo/b"),
            ("$FOO-b", "/foo-b"),
            ("$NOPE/c", "$NOPE/c"),
            ("${NOPE}", "${NOPE}"),
            ("a$", "a$"),
        ] {
            assert_eq!(expand(text, &facts), out, "{text}");
        }
    }

    #[test]
    fn releases_known_unknown_and_misspelled() {
        for ok in ["trixie", "sid", "stable", "testing", "bookworm", "zurg", "trixie-backports-x"] {
            assert!(release(ok).is_ok(), "{ok}");
        }
        for (bad, hint) in
            [("13", "trixie"), ("trixei", "trixie"), ("Bookworm", "bookworm"), ("12.5", "bookworm")]
        {
            let help = release(bad).unwrap_err().help.unwrap();
            assert_eq!(help, format!("did you mean \"{hint}\"?"), "{bad}");
        }
    }
}
