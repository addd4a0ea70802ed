//! Pins: apt preferences, and the priority of a version that some sources offer.
//!
//! apt_preferences(5): a specific pin (names, globs, regular expressions, `src:`)
//! gives its priority to the versions it matches, the first one that matches
//! counts. A general pin (`Package: *`) gives it to sources. A version without a
//! specific pin has the highest priority of the sources that offer it. Without any
//! pin a source has 500; 100 with `NotAutomatic` and `ButAutomaticUpgrades`; 1 with
//! `NotAutomatic` alone; 990 if it is of the target release.
//!
//! Pure but for reading the files. What a priority does to a choice is the solver's.

use std::fs;
use std::path::{Path, PathBuf};

use debian::deb822::{Paragraph, Paragraphs};
use debian::{Architecture, PackageRecord};

use crate::pattern::Pattern;

/// The priority of the target release.
pub const TARGET: i32 = 990;
/// The priority of any source.
pub const DEFAULT: i32 = 500;
const MAX_PREFERENCES: u64 = 4 << 20;

/// Something in a preferences file that is not accepted.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}: {kind}", path.display())]
pub struct PinError {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub kind: PinErrorKind,
}

/// What is wrong with a pin.
#[derive(Debug, thiserror::Error)]
pub enum PinErrorKind {
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    Io(std::io::Error),
    /// Not fields.
    #[error(transparent)]
    Syntax(#[from] debian::deb822::Error),
    /// A field is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field that is not known.
    #[error("unknown field “{0}”")]
    Unknown(String),
    /// Not a kind of pin.
    #[error("“{0}” is no pin: it must start with release, version or origin")]
    Pin(String),
    /// Not a release property.
    #[error("“{0}” is no property of a release: use a=, n=, o=, l=, c=, v= or b=")]
    Property(String),
    /// A bad pattern.
    #[error("“{0}” is no pattern: not a glob or regular expression, or too long")]
    Pattern(String),
    /// A bad priority.
    #[error("“{0}” is no priority: it must be a number from -32768 to 32767 other than 0")]
    Priority(String),
}

/// Where a version comes from, as pins look at it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// `Origin:` of the Release file.
    pub origin: String,
    /// `Label:`.
    pub label: String,
    /// `Suite:`.
    pub suite: String,
    /// `Codename:`.
    pub codename: String,
    /// `Version:`.
    pub version: String,
    /// The component of the index.
    pub component: String,
    /// The architecture of the index.
    pub architecture: String,
    /// The host of the archive; empty for files.
    pub site: String,
    /// `NotAutomatic: yes`.
    pub not_automatic: bool,
    /// `ButAutomaticUpgrades: yes`.
    pub but_automatic_upgrades: bool,
}

/// A pattern for versions: with `*` at its end, as a prefix taken literally or as a
/// pattern without the `*`; so `12*` is any version that begins with 12, and `*deb12*`
/// matches nothing that one would think. That is how apt reads it.
#[derive(Debug, Clone)]
struct VersionPattern {
    prefix: Option<String>,
    pattern: Pattern,
}

impl VersionPattern {
    fn new(text: &str) -> Option<Self> {
        let prefix = text.strip_suffix('*');
        let pattern = Pattern::new(prefix.unwrap_or(text))?;
        Some(VersionPattern { prefix: prefix.map(str::to_owned), pattern })
    }

    fn matches(&self, version: &str) -> bool {
        self.prefix.as_deref().is_some_and(|prefix| version.starts_with(prefix))
            || self.pattern.matches(version)
    }
}

/// What a pin asks of a source or version.
#[derive(Debug, Clone)]
enum Condition {
    /// All of these.
    Release(Vec<Term>),
    /// The host.
    Origin(Pattern),
    /// The package's version.
    Version(VersionPattern),
}

/// What a pin asks of a release.
#[derive(Debug, Clone)]
enum Term {
    /// Any release.
    Any,
    /// Its suite or code name.
    Name(Pattern),
    /// Its version.
    Version(VersionPattern),
    /// The property of this letter.
    Property(char, Pattern),
}

/// Which packages a specific pin is about.
#[derive(Debug, Clone)]
struct Subject {
    name: Pattern,
    /// `src:`: the source package's name.
    source: bool,
    /// Architecture or wildcard; `None`: the native one.
    architecture: Option<String>,
}

#[derive(Debug, Clone)]
struct Pin {
    /// Empty: every package.
    subjects: Vec<Subject>,
    condition: Condition,
    priority: i32,
}

/// The pins of a build.
#[derive(Debug, Clone)]
pub struct Pins {
    native: Architecture,
    target: Vec<Pin>,
    pins: Vec<Pin>,
}

impl Pins {
    /// No pins; `native` is the architecture of packages that a pin names without one.
    pub fn new(native: &Architecture) -> Pins {
        Pins { native: native.clone(), target: Vec::new(), pins: Vec::new() }
    }

    /// Reads `preferences` and `preferences.d/*` of a directory laid out like `/etc/apt`.
    pub fn read(dir: &Path, native: &Architecture) -> Result<Pins, PinError> {
        let mut pins = Pins::new(native);
        // Of two pins that match the first counts: the file's before the directory's.
        let main = dir.join("preferences");
        if main.exists() {
            pins.add_file(&main)?;
        }
        for path in parts(&dir.join("preferences.d"))? {
            pins.add_file(&path)?;
        }
        Ok(pins)
    }

    /// Makes sources of this release (suite, code name or version) preferred, as
    /// `apt-get -t` does.
    pub fn set_target(&mut self, release: &str) -> Result<(), PinErrorKind> {
        let condition = parse_release(release)?;
        self.target = vec![Pin { subjects: Vec::new(), condition, priority: TARGET }];
        Ok(())
    }

    /// Adds the pins of a file.
    pub fn add_file(&mut self, path: &Path) -> Result<(), PinError> {
        let failed = |e| PinError { path: path.to_owned(), line: 1, kind: PinErrorKind::Io(e) };
        let metadata = fs::metadata(path).map_err(failed)?;
        if metadata.len() > MAX_PREFERENCES {
            return Err(failed(std::io::Error::other("the file is too large")));
        }
        let bytes = fs::read(path).map_err(failed)?;
        let at = |line, kind| PinError { path: path.to_owned(), line, kind };
        let text = debian::deb822::text_of(&bytes).map_err(|e| at(e.line, e.into()))?;
        self.add_text(text, path)
    }

    /// Adds the pins of a text; `path` is for messages.
    pub fn add_text(&mut self, text: &str, path: &Path) -> Result<(), PinError> {
        let at = |line, kind| PinError { path: path.to_owned(), line, kind };
        let text = without_explanations(text);
        for paragraph in Paragraphs::with_comments(&text) {
            let paragraph = paragraph.map_err(|e| at(e.line, e.into()))?;
            let pin = parse_pin(&paragraph).map_err(|kind| at(paragraph.line(), kind))?;
            self.pins.push(pin);
        }
        Ok(())
    }

    /// The priority of a source (of one of its indices).
    pub fn source_priority(&self, origin: &Origin) -> i32 {
        let general = self.target.iter().chain(&self.pins).filter(|pin| pin.subjects.is_empty());
        let pinned = general.filter(|pin| pin.condition.matches_source(origin)).map(|p| p.priority);
        pinned.into_iter().next().unwrap_or(
            match (origin.not_automatic, origin.but_automatic_upgrades) {
                (true, true) => 100,
                (true, false) => 1,
                _ => DEFAULT,
            },
        )
    }

    /// The priority of a version that `origins` offer.
    pub fn priority(&self, record: &PackageRecord, origins: &[&Origin]) -> i32 {
        let specific = self.pins.iter().filter(|pin| !pin.subjects.is_empty());
        let about = |pin: &&Pin| pin.subjects.iter().any(|s| s.covers(record, &self.native));
        let mut matching =
            specific.filter(about).filter(|pin| pin.condition.matches_version(record, origins));
        if let Some(pin) = matching.next() {
            return pin.priority;
        }
        origins.iter().map(|origin| self.source_priority(origin)).max().unwrap_or(DEFAULT)
    }
}

impl Subject {
    fn covers(&self, record: &PackageRecord, native: &Architecture) -> bool {
        // What is for all architectures belongs to the native one.
        let own = if record.architecture.is_all() { native } else { &record.architecture };
        let arch = match self.architecture.as_deref() {
            Some(wildcard) => own.matches(wildcard),
            None => own == native,
        };
        let name = if self.source { &*record.source } else { record.name.as_str() };
        arch && self.name.matches(name)
    }
}

impl Condition {
    fn matches_source(&self, origin: &Origin) -> bool {
        match self {
            Condition::Release(terms) => terms.iter().all(|term| term.matches(origin)),
            Condition::Origin(site) => site.matches(&origin.site),
            Condition::Version(_) => false,
        }
    }

    fn matches_version(&self, record: &PackageRecord, origins: &[&Origin]) -> bool {
        match self {
            Condition::Version(pattern) => pattern.matches(record.version.as_str()),
            _ => origins.iter().any(|origin| self.matches_source(origin)),
        }
    }
}

impl Term {
    fn matches(&self, origin: &Origin) -> bool {
        let known = |pattern: &Pattern, value: &str| !value.is_empty() && pattern.matches(value);
        match self {
            Term::Any => true,
            Term::Name(name) => known(name, &origin.suite) || known(name, &origin.codename),
            Term::Version(version) => version.matches(&origin.version),
            Term::Property(letter, pattern) => {
                let value = match letter {
                    'a' => &origin.suite,
                    'n' => &origin.codename,
                    'o' => &origin.origin,
                    'l' => &origin.label,
                    'c' => &origin.component,
                    _ => &origin.architecture,
                };
                known(pattern, value)
            }
        }
    }
}

fn parse_pin(paragraph: &Paragraph<'_>) -> Result<Pin, PinErrorKind> {
    let known = ["package", "pin", "pin-priority"];
    for field in paragraph.fields() {
        if !known.contains(&field.name.to_ascii_lowercase().as_str()) {
            return Err(PinErrorKind::Unknown(field.name.to_owned()));
        }
    }
    let get = |name, label| paragraph.get(name).ok_or(PinErrorKind::Missing(label));
    let names: Vec<_> = get("Package", "Package:")?.split_ascii_whitespace().collect();
    if names.is_empty() {
        return Err(PinErrorKind::Missing("Package:"));
    }
    let subjects = match names[..] {
        ["*"] => Vec::new(),
        _ => names.into_iter().map(parse_subject).collect::<Result<_, _>>()?,
    };
    let priority = get("Pin-Priority", "Pin-Priority:")?.trim();
    let number = priority.parse::<i16>().ok().filter(|p| *p != 0);
    let number = number.ok_or_else(|| PinErrorKind::Priority(priority.to_owned()))?;
    let condition = parse_condition(get("Pin", "Pin:")?)?;
    Ok(Pin { subjects, condition, priority: i32::from(number) })
}

fn parse_condition(text: &str) -> Result<Condition, PinErrorKind> {
    let text = text.trim();
    let (kind, value) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    match kind.to_ascii_lowercase().as_str() {
        "release" => parse_release(value.trim()),
        "version" => Ok(Condition::Version(version_pattern(value.trim())?)),
        "origin" => Ok(Condition::Origin(pattern(unquoted(value.trim()))?)),
        _ => Err(PinErrorKind::Pin(text.chars().take(80).collect())),
    }
}

/// `a=stable, o=Debian`, `trixie`, `13*`, or `*`.
fn parse_release(text: &str) -> Result<Condition, PinErrorKind> {
    if text == "*" {
        return Ok(Condition::Release(vec![Term::Any]));
    }
    let mut terms = Vec::new();
    for term in text.split(',').map(str::trim).filter(|term| !term.is_empty()) {
        let term = match term.split_once('=') {
            Some(("v", value)) => Term::Version(version_pattern(unquoted(value.trim()))?),
            Some((letter @ ("a" | "n" | "o" | "l" | "c" | "b"), value)) => {
                let letter = letter.chars().next().expect("one letter");
                Term::Property(letter, pattern(unquoted(value.trim()))?)
            }
            Some(_) => return Err(PinErrorKind::Property(term.to_owned())),
            None if term.starts_with(|c: char| c.is_ascii_digit()) => {
                Term::Version(version_pattern(term)?)
            }
            None => Term::Name(pattern(term)?),
        };
        terms.push(term);
    }
    if terms.is_empty() {
        return Err(PinErrorKind::Property(text.to_owned()));
    }
    Ok(Condition::Release(terms))
}

fn parse_subject(word: &str) -> Result<Subject, PinErrorKind> {
    let (source, rest) = match word.strip_prefix("src:") {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    let is_regex = rest.starts_with('/') && rest.ends_with('/');
    let (name, architecture) = match rest.rsplit_once(':') {
        Some((name, arch)) if !is_regex => (name, Some(arch.to_owned())),
        _ => (rest, None),
    };
    Ok(Subject { name: pattern(name)?, source, architecture })
}

fn pattern(text: &str) -> Result<Pattern, PinErrorKind> {
    let error = || PinErrorKind::Pattern(text.chars().take(80).collect());
    Pattern::new(text).ok_or_else(error)
}

fn version_pattern(text: &str) -> Result<VersionPattern, PinErrorKind> {
    let error = || PinErrorKind::Pattern(text.chars().take(80).collect());
    VersionPattern::new(text).ok_or_else(error)
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text)
}

/// `Explanation:` may come several times; it becomes a comment, so that lines keep
/// their numbers.
fn without_explanations(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        let folded = line.starts_with([' ', '\t']) && !line.trim().is_empty();
        let name = line.split(':').next().unwrap_or_default();
        inside = if folded { inside } else { name.eq_ignore_ascii_case("Explanation") };
        if inside {
            out.push('#');
        }
        out.push_str(line);
    }
    out
}

/// The files of `preferences.d` that apt reads: plain names without extension or
/// with `.pref`, by name.
fn parts(dir: &Path) -> Result<Vec<PathBuf>, PinError> {
    let failed = |e| PinError { path: dir.to_owned(), line: 1, kind: PinErrorKind::Io(e) };
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        let extension = name.rsplit_once('.').map(|(_, extension)| extension);
        if plain && !name.starts_with('.') && matches!(extension, None | Some("pref")) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amd64() -> Architecture {
        Architecture::new("amd64").unwrap()
    }

    fn pins(text: &str) -> Pins {
        let mut pins = Pins::new(&amd64());
        pins.add_text(text, Path::new("preferences")).unwrap();
        pins
    }

    fn origin(suite: &str, codename: &str) -> Origin {
        Origin {
            origin: "Debian".to_owned(),
            label: "Debian".to_owned(),
            suite: suite.to_owned(),
            codename: codename.to_owned(),
            version: "13.2".to_owned(),
            component: "main".to_owned(),
            architecture: "amd64".to_owned(),
            site: "deb.example.org".to_owned(),
            ..Origin::default()
        }
    }

    fn record(name: &str, version: &str, arch: &str) -> PackageRecord {
        let text =
            format!("Package: {name}\nSource: s{name}\nVersion: {version}\nArchitecture: {arch}\n");
        PackageRecord::clone(&debian::read_packages(&text).unwrap()[0])
    }

    #[test]
    fn defaults_depend_on_the_release_file() {
        let pins = pins("");
        let stable = origin("stable", "trixie");
        let experimental = Origin { not_automatic: true, ..origin("experimental", "rc-buggy") };
        let backports = Origin { but_automatic_upgrades: true, ..experimental.clone() };
        assert_eq!(pins.source_priority(&stable), 500);
        assert_eq!(pins.source_priority(&experimental), 1);
        assert_eq!(pins.source_priority(&backports), 100);
        let a = record("a", "1", "amd64");
        assert_eq!(pins.priority(&a, &[&experimental, &backports]), 100);
    }

    #[test]
    fn the_target_release_comes_before_general_pins() {
        let mut pins = pins("Package: *\nPin: release n=trixie\nPin-Priority: 10\n");
        let trixie = origin("stable", "trixie");
        assert_eq!(pins.source_priority(&trixie), 10);
        for target in ["trixie", "stable", "13.2", "n=trixie"] {
            pins.set_target(target).unwrap();
            assert_eq!(pins.source_priority(&trixie), TARGET, "{target}");
        }
        pins.set_target("sid").unwrap();
        assert_eq!(pins.source_priority(&trixie), 10);
    }

    #[test]
    fn the_first_specific_pin_that_matches_counts() {
        let pins = pins(
            "Explanation: one\nExplanation: two\nPackage: a b*\nPin: release o=Debian, n=sid\n\
             Pin-Priority: 900\n\n# comment\nPackage: a\nPin: version 2.*\nPin-Priority: -1\n\n\
             Package: a\nPin: version *\nPin-Priority: 7\n\n\
             Package: *\nPin: release a=unstable\nPin-Priority: 50\n",
        );
        let (sid, stable) = (origin("unstable", "sid"), origin("stable", "trixie"));
        let cases = [
            (record("a", "2.1", "amd64"), &sid, 900),
            (record("a", "2.1", "amd64"), &stable, -1),
            (record("a", "3", "all"), &stable, 7),
            (record("a", "3", "i386"), &stable, 500),
            (record("bcd", "3", "amd64"), &sid, 900),
            (record("bcd", "3", "amd64"), &stable, 500),
            (record("c", "3", "amd64"), &sid, 50),
        ];
        for (record, origin, expected) in cases {
            let found = pins.priority(&record, &[origin]);
            assert_eq!(found, expected, "{} {} {}", record.name, record.version, origin.suite);
        }
    }

    #[test]
    fn pins_by_site_source_architecture_and_regex() {
        let pins = pins(
            "Package: src:sx:any\nPin: origin \"deb.example.org\"\nPin-Priority: 11\n\n\
             Package: y:any\nPin: release *\nPin-Priority: 12\n\n\
             Package: y:i386\nPin: release *\nPin-Priority: 13\n\n\
             Package: /^z/\nPin: release c=main,b=amd64,l=Debian\nPin-Priority: 14\n\n\
             Package: *\nPin: origin \"\"\nPin-Priority: 15\n",
        );
        let stable = origin("stable", "trixie");
        let local = Origin { site: String::new(), ..stable.clone() };
        assert_eq!(pins.priority(&record("x", "1", "i386"), &[&stable]), 11);
        assert_eq!(pins.priority(&record("x", "1", "i386"), &[&local]), 15);
        assert_eq!(pins.priority(&record("y", "1", "i386"), &[&stable]), 12);
        assert_eq!(pins.priority(&record("zz", "1", "amd64"), &[&stable]), 14);
        assert_eq!(pins.priority(&record("zz", "1", "i386"), &[&stable]), 500);
    }

    /// As `apt-cache policy` of apt 2.6.1 and 3.0.3 shows them, with i386 as a foreign architecture.
    #[test]
    fn subjects_and_versions_as_apt_reads_them() {
        let records = [
            record("q", "12.2+deb12u1", "amd64"),
            record("q", "12.2+deb12u1", "i386"),
            record("q", "12.2+deb12u1", "all"),
        ];
        let stable = origin("stable", "trixie");
        for (subject, version, expected) in [
            ("q", "*", [-5, 500, -5]),
            ("q*", "*", [-5, 500, -5]),
            ("src:sq", "*", [-5, 500, -5]),
            ("src:sq:i386", "*", [500, -5, 500]),
            ("src:sq:any", "*", [-5, -5, -5]),
            ("q:all", "*", [500, 500, 500]),
            ("q:amd64", "*", [-5, 500, -5]),
            ("q:native", "*", [500, 500, 500]),
            ("q:any-i386", "*", [500, -5, 500]),
            ("/^Q$/:i386", "*", [500, -5, 500]),
            ("q", "*deb12*", [500, 500, 500]),
            ("q", "*deb12u1*", [-5, 500, -5]),
            ("q", "12*", [-5, 500, -5]),
            ("q", "12", [500, 500, 500]),
            ("q", "/deb12/", [-5, 500, -5]),
        ] {
            let text = format!("Package: {subject}\nPin: version {version}\nPin-Priority: -5\n");
            let pins = pins(&text);
            let found = records.each_ref().map(|r| pins.priority(r, &[&stable]));
            assert_eq!(found, expected, "{subject} {version}");
        }
    }

    #[test]
    fn errors_name_the_line() {
        for (text, says) in [
            ("\nPackage: a\nPin: release a=b\n", "p:2: Pin-Priority: is missing"),
            ("Package: a\nPin: release a=b\nPin-Priority: 0\n", "“0” is no priority"),
            ("Package: a\nPin: release a=b\nPin-Priority: 99999\n", "“99999”"),
            ("Package: a\nPin: realease a=b\nPin-Priority: 1\n", "“realease a=b” is no pin"),
            ("Package: a\nPin: release q=b\nPin-Priority: 1\n", "“q=b” is no property"),
            ("Package: /(/\nPin: release a=b\nPin-Priority: 1\n", "“/(/” is no pattern"),
            ("Package: a\nPins: release a=b\nPin-Priority: 1\n", "unknown field “Pins”"),
            ("Pin: release a=b\nPin-Priority: 1\n", "Package: is missing"),
        ] {
            let error = Pins::new(&amd64()).add_text(text, Path::new("p")).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn files_are_read_like_etc_apt() {
        let dir = tempfile::tempdir().unwrap();
        let parts = dir.path().join("preferences.d");
        fs::create_dir(&parts).unwrap();
        let pin = |n: u32| format!("Package: *\nPin: release a=s{n}\nPin-Priority: {n}\n");
        fs::write(dir.path().join("preferences"), pin(1)).unwrap();
        fs::write(parts.join("a"), pin(2)).unwrap();
        fs::write(parts.join("b.pref"), pin(3)).unwrap();
        fs::write(parts.join("c.bak"), "garbage").unwrap();
        let pins = Pins::read(dir.path(), &amd64()).unwrap();
        let priority = |suite| pins.source_priority(&origin(suite, "x"));
        assert_eq!([priority("s1"), priority("s2"), priority("s3")], [1, 2, 3]);
        assert_eq!(Pins::read(Path::new("/nonexistent"), &amd64()).unwrap().pins.len(), 0);
    }
}
