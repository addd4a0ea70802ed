//! Release files: what a suite consists of, and whether it is the one asked for.
//!
//! The text comes in after its signature was checked ([`crate::openpgp`]). Only
//! SHA-256 sums count; a file that has MD5 or SHA-1 sums alone is refused.
//! [`Release::check`] holds it against what the source asked for and the time: its
//! name, its dates. Pure: time and rules are values.
//!
//! Format: the Debian repository format (DebianRepository/Format), apt-secure(8),
//! sources.list(5) for the options.

use std::collections::BTreeMap;

use debian::deb822::{self, Paragraph, Paragraphs};
use serde::{Deserialize, Serialize};
use store::Key;

use crate::date;

/// The largest Release file that is read; Debian's largest has under 1 MB.
pub const MAX_RELEASE: u64 = 16 << 20;
/// The most files that a Release may list.
pub const MAX_FILES: usize = 200_000;
/// The largest index file, compressed or not, that is fetched.
pub const MAX_INDEX: u64 = 256 << 20;

/// Why a Release file is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// Not a paragraph of fields.
    #[error("not a Release file: {0}")]
    Syntax(#[from] deb822::Error),
    /// Not one paragraph.
    #[error("not a Release file: {0}")]
    Form(&'static str),
    /// A field that does not hold what it should.
    #[error("the field {field} holds “{value}”, not {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds, shortened.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// No SHA-256 sums.
    #[error("it has no SHA256 sums; MD5 and SHA-1 alone prove nothing and are refused")]
    WeakHashes,
    /// The same file twice with two sums.
    #[error("it lists {0} twice with different sums")]
    Ambiguous(String),
    /// The suite asked for is another.
    #[error(
        "it is of suite “{suite}”, codename “{codename}”, not of “{asked}” that was asked for: correct the suite of the source, or its mirror is wrong"
    )]
    Suite {
        /// What the source names.
        asked: String,
        /// `Suite:`.
        suite: String,
        /// `Codename:`.
        codename: String,
    },
    /// Past its `Valid-Until`.
    #[error(
        "it expired on {until}, before {now}: the mirror is stale (or this machine's clock is wrong); use another mirror, or set Check-Valid-Until=no for a snapshot"
    )]
    Expired {
        /// When it expired.
        until: String,
        /// The time that counts.
        now: String,
    },
    /// Made in the future.
    #[error("it is dated {date}, after {now}: this machine's clock is wrong")]
    Future {
        /// Its date.
        date: String,
        /// The time that counts.
        now: String,
    },
    /// Older than what was seen before.
    #[error(
        "it is dated {date}, older than the one of {last} seen before: an old state is replayed, by a stale mirror or an attacker; try again later or use another mirror"
    )]
    Replayed {
        /// Its date.
        date: String,
        /// The date of the one seen before.
        last: String,
    },
}

/// One file of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseFile {
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Key,
}

/// A Release file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of the repository format")]
pub struct Release {
    pub origin: String,
    pub label: String,
    pub suite: String,
    pub codename: String,
    pub version: String,
    pub architectures: Vec<String>,
    pub components: Vec<String>,
    /// Seconds since 1970.
    pub date: Option<i64>,
    /// Seconds since 1970.
    pub valid_until: Option<i64>,
    pub acquire_by_hash: bool,
    /// `Packages` of the architectures hold what is for all of them, too.
    pub all_in_each: bool,
    pub not_automatic: bool,
    pub but_automatic_upgrades: bool,
    /// By path below the suite's directory.
    pub files: BTreeMap<String, ReleaseFile>,
}

/// What a source demands of its Release file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules<'a> {
    /// The suite asked for; `None` for a flat archive, which need not name one.
    pub suite: Option<&'a str>,
    /// The time that counts, in seconds since 1970.
    pub now: i64,
    /// `Check-Valid-Until`.
    pub check_valid_until: bool,
    /// `Valid-Until-Max` in seconds after `Date`.
    pub valid_until_max: Option<i64>,
    /// `Valid-Until-Min` in seconds after `Date`.
    pub valid_until_min: Option<i64>,
    /// `Check-Date`.
    pub check_date: bool,
    /// `Date-Max-Future` in seconds.
    pub date_max_future: i64,
    /// The date of the Release last seen of this source.
    pub last: Option<i64>,
    /// The source is trusted without a signature, so it may lack a date.
    pub date_optional: bool,
}

impl Release {
    /// Reads the signed text.
    pub fn parse(text: &[u8]) -> Result<Release, ReleaseError> {
        let mut paragraphs = Paragraphs::from_bytes(text)?;
        let paragraph = paragraphs.next().ok_or(ReleaseError::Form("it is empty"))??;
        if paragraphs.next().is_some() {
            return Err(ReleaseError::Form("it has more than one paragraph"));
        }
        let get = |name| paragraph.get(name).unwrap_or_default().to_owned();
        let words = |name| {
            let value = paragraph.get(name).unwrap_or_default();
            value.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let all = words("No-Support-for-Architecture-all");
        Ok(Release {
            origin: get("Origin"),
            label: get("Label"),
            suite: get("Suite"),
            codename: get("Codename"),
            version: get("Version"),
            architectures: words("Architectures"),
            components: words("Components"),
            date: parse_date(&paragraph, "Date")?,
            valid_until: parse_date(&paragraph, "Valid-Until")?,
            acquire_by_hash: is_yes(&paragraph, "Acquire-By-Hash"),
            all_in_each: all.iter().any(|word| word == "Packages"),
            not_automatic: is_yes(&paragraph, "NotAutomatic"),
            but_automatic_upgrades: is_yes(&paragraph, "ButAutomaticUpgrades"),
            files: parse_files(paragraph.get("SHA256").ok_or(ReleaseError::WeakHashes)?)?,
        })
    }

    /// Whether it is what the source asked for, now.
    pub fn check(&self, rules: &Rules<'_>) -> Result<(), ReleaseError> {
        if let Some(asked) = rules.suite {
            self.check_suite(asked)?;
        }
        let Some(date) = self.date else {
            let expected = "a date (without one a replayed file cannot be told)";
            let missing = ReleaseError::Field { field: "Date", value: String::new(), expected };
            return if rules.date_optional { Ok(()) } else { Err(missing) };
        };
        let now = || date::show(rules.now);
        if rules.check_date && date > rules.now.saturating_add(rules.date_max_future) {
            return Err(ReleaseError::Future { date: date::show(date), now: now() });
        }
        if let Some(until) = self.until(date, rules)
            && rules.check_valid_until
            && until < rules.now
        {
            return Err(ReleaseError::Expired { until: date::show(until), now: now() });
        }
        match rules.last {
            Some(last) if date < last => {
                Err(ReleaseError::Replayed { date: date::show(date), last: date::show(last) })
            }
            _ => Ok(()),
        }
    }

    /// `Suite:` or `Codename:` must be the one asked for. Old security suites are
    /// `buster/updates` of codename `buster`.
    fn check_suite(&self, asked: &str) -> Result<(), ReleaseError> {
        let short = asked.strip_suffix("/updates").unwrap_or(asked);
        let unnamed = self.suite.is_empty() && self.codename.is_empty();
        let known = [&self.suite, &self.codename];
        if unnamed || known.iter().any(|name| **name == asked || **name == short) {
            return Ok(());
        }
        Err(ReleaseError::Suite {
            asked: asked.to_owned(),
            suite: self.suite.clone(),
            codename: self.codename.clone(),
        })
    }

    /// When it expires: `Valid-Until`, at most `Valid-Until-Max` and at least
    /// `Valid-Until-Min` after its date (sources.list(5)).
    fn until(&self, date: i64, rules: &Rules<'_>) -> Option<i64> {
        let own = self.valid_until;
        let max = rules.valid_until_max.map(|max| date.saturating_add(max));
        let until = match (own, max) {
            (Some(own), Some(max)) => Some(own.min(max)),
            (own, max) => own.or(max),
        };
        let min = rules.valid_until_min.map(|min| date.saturating_add(min));
        until.map(|until| min.map_or(until, |min| until.max(min)))
    }

    /// The names that a suite has, with `Suite` first; empty ones left out.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [&*self.suite, &*self.codename].into_iter().filter(|name| !name.is_empty())
    }
}

fn parse_date(paragraph: &Paragraph<'_>, field: &'static str) -> Result<Option<i64>, ReleaseError> {
    let Some(value) = paragraph.get(field) else { return Ok(None) };
    let error = || ReleaseError::Field {
        field,
        value: value.chars().take(60).collect(),
        expected: "a date like “Sat, 09 Sep 2023 10:00:00 UTC”",
    };
    date::parse(value).map(Some).ok_or_else(error)
}

fn is_yes(paragraph: &Paragraph<'_>, field: &str) -> bool {
    paragraph.get(field).is_some_and(|value| value.eq_ignore_ascii_case("yes"))
}

fn parse_files(list: &str) -> Result<BTreeMap<String, ReleaseFile>, ReleaseError> {
    let mut files = BTreeMap::new();
    for line in list.lines().filter(|line| !line.trim().is_empty()) {
        let bad = || ReleaseError::Field {
            field: "SHA256",
            value: line.trim().chars().take(100).collect(),
            expected: "lines of sum, size and path",
        };
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let [sum, size, path] = words[..] else { return Err(bad()) };
        let sha256 = Key::from_hex(sum).ok_or_else(bad)?;
        let size = size.parse().ok().filter(|size| *size <= u64::from(u32::MAX) * 1024);
        let file = ReleaseFile { size: size.ok_or_else(bad)?, sha256 };
        if files.len() == MAX_FILES {
            return Err(ReleaseError::Form("it lists too many files"));
        }
        match files.insert(path.to_owned(), file) {
            Some(old) if old != file => return Err(ReleaseError::Ambiguous(path.to_owned())),
            _ => {}
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn release(extra: &str) -> Release {
        let text = format!(
            "Origin: Debian\nSuite: stable\nCodename: trixie\nDate: Sat, 10 Jan 2026 00:00:00 UTC\n\
             Architectures: all amd64\n{extra}SHA256:\n {SUM} 0 main/binary-amd64/Packages\n"
        );
        Release::parse(text.as_bytes()).unwrap()
    }

    /// 2026-01-10.
    const DATE: i64 = 1_768_003_200;
    const DAY: i64 = 86_400;

    fn rules() -> Rules<'static> {
        Rules {
            suite: Some("trixie"),
            now: DATE + DAY,
            check_valid_until: true,
            valid_until_max: None,
            valid_until_min: None,
            check_date: true,
            date_max_future: 10,
            last: None,
            date_optional: false,
        }
    }

    #[test]
    fn fields_are_read() {
        let release =
            release("NotAutomatic: yes\nButAutomaticUpgrades: yes\nAcquire-By-Hash: yes\n");
        assert_eq!(release.date, Some(DATE));
        assert_eq!(release.architectures, ["all", "amd64"]);
        assert!(release.not_automatic && release.but_automatic_upgrades && release.acquire_by_hash);
        assert!(!release.all_in_each);
        assert_eq!(release.files["main/binary-amd64/Packages"].size, 0);
    }

    #[rstest]
    #[case::none("Suite: a\n", "no SHA256")]
    #[case::weak("Suite: a\nMD5Sum:\n d41d8cd98f00b204e9800998ecf8427e 0 x\n", "no SHA256")]
    #[case::empty("", "empty")]
    #[case::two("Suite: a\n\nSuite: b\n", "more than one")]
    #[case::date("Date: yesterday\nSHA256:\n", "yesterday")]
    #[case::short("SHA256:\n 1234 0 x\n", "1234 0 x")]
    #[case::negative(
        "SHA256:\n e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 -1 x\n",
        "-1 x"
    )]
    fn bad_files_are_refused(#[case] text: &str, #[case] says: &str) {
        let error = Release::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn one_path_with_two_sums_is_refused() {
        let other = SUM.replace('e', "f");
        let text = format!("SHA256:\n {SUM} 0 x\n {SUM} 0 x\n {other} 0 x\n");
        assert_eq!(Release::parse(text.as_bytes()), Err(ReleaseError::Ambiguous("x".into())));
    }

    #[rstest]
    #[case("trixie", true)]
    #[case("stable", true)]
    #[case("bookworm", false)]
    #[case("trixie-updates", false)]
    fn the_suite_must_be_the_one_asked_for(#[case] asked: &str, #[case] accepted: bool) {
        let found = release("").check(&Rules { suite: Some(asked), ..rules() });
        assert_eq!(found.is_ok(), accepted, "{found:?}");
    }

    #[test]
    fn it_expires() {
        let until = "Valid-Until: Sat, 17 Jan 2026 00:00:00 UTC\n";
        let at = |days| Rules { now: DATE + days * DAY, ..rules() };
        let expired =
            |r: &Rules<'_>| matches!(release(until).check(r), Err(ReleaseError::Expired { .. }));
        assert!(!expired(&at(7)));
        assert!(expired(&at(8)));
        assert!(!expired(&Rules { check_valid_until: false, ..at(8) }));
        assert!(expired(&Rules { valid_until_max: Some(3 * DAY), ..at(4) }));
        assert!(!expired(&Rules { valid_until_min: Some(9 * DAY), ..at(8) }));
        // Max serves files that do not say themselves.
        let own = release("").check(&Rules { valid_until_max: Some(DAY), ..at(2) });
        assert!(matches!(own, Err(ReleaseError::Expired { .. })));
        assert_eq!(release("").check(&at(2000)), Ok(()));
    }

    #[test]
    fn the_past_is_not_replayed_and_the_future_not_believed() {
        let with = |now, last| release("").check(&Rules { now, last, ..rules() });
        assert_eq!(with(DATE + DAY, Some(DATE)), Ok(()));
        assert!(matches!(with(DATE + DAY, Some(DATE + 1)), Err(ReleaseError::Replayed { .. })));
        assert_eq!(with(DATE - 10, None), Ok(()));
        assert!(matches!(with(DATE - 11, None), Err(ReleaseError::Future { .. })));
    }
}
