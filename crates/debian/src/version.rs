//! Versions: `[epoch:]upstream[-revision]` and dpkg's order of them.
//!
//! From deb-version(7) and Debian Policy 5.6.12. The order: epochs as numbers,
//! then upstream parts, then revisions; each part is walked in turns of
//! non-digits (`~` before the end, the end before letters, letters before the rest)
//! and numbers. Different texts can be equal (`1.0`, `1.00`, `0:1.0-0`).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use memchr::{memchr, memrchr};
use serde::{Deserialize, Serialize};

use crate::relation::Operator;

/// The longest version that is accepted.
pub const MAX_VERSION: usize = 512;

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("“{text}” is not a version: {why}")]
pub struct VersionError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// A valid version. Equality and order are dpkg's, not the text's.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Arc<str>", into = "Arc<str>")]
pub struct Version(Arc<str>);

/// A version with a relation: what `(>= 1.2)` says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VersionConstraint {
    /// How a candidate must relate to `version`.
    pub operator: Operator,
    /// The version named.
    pub version: Version,
}

impl VersionConstraint {
    /// Whether `candidate` satisfies the constraint.
    pub fn matches(&self, candidate: &Version) -> bool {
        self.operator.accepts(candidate.cmp(&self.version))
    }
}

impl fmt::Display for VersionConstraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operator, self.version)
    }
}

impl Version {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, VersionError> {
        check(text)?;
        Ok(Self(text.into()))
    }

    /// The version as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared text.
    pub fn shared(&self) -> &Arc<str> {
        &self.0
    }

    /// The epoch; 0 where none is written.
    pub fn epoch(&self) -> u32 {
        split(&self.0).0
    }

    /// The upstream part.
    pub fn upstream(&self) -> &str {
        split(&self.0).1
    }

    /// The Debian revision, if there is one.
    pub fn revision(&self) -> Option<&str> {
        let (_, _, revision) = split(&self.0);
        (!revision.is_empty()).then_some(revision)
    }

    /// The version without its epoch, as it appears in file names.
    pub fn without_epoch(&self) -> &str {
        self.0.split_once(':').map_or(&*self.0, |(_, rest)| rest)
    }
}

/// dpkg's order of two texts that are versions.
pub fn compare(a: &str, b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    let (a_epoch, a_upstream, a_revision) = split(a);
    let (b_epoch, b_upstream, b_revision) = split(b);
    a_epoch
        .cmp(&b_epoch)
        .then_with(|| compare_part(a_upstream, b_upstream))
        .then_with(|| compare_part(a_revision, b_revision))
}

/// Whether `text` is a valid version.
pub(crate) fn check(text: &str) -> Result<(), VersionError> {
    let fail = |why| Err(VersionError { text: text.chars().take(80).collect(), why });
    if text.is_empty() {
        return fail("it is empty");
    }
    if text.len() > MAX_VERSION {
        return fail("it is too long");
    }
    let rest = match memchr(b':', text.as_bytes()) {
        None => text,
        Some(colon) => {
            let (epoch, rest) = (&text[..colon], &text[colon + 1..]);
            let digits = !epoch.is_empty() && epoch.bytes().all(|b| b.is_ascii_digit());
            if !digits || epoch.parse::<i32>().is_err() {
                return fail("its epoch is not a number from 0 to 2147483647");
            }
            rest
        }
    };
    let (upstream, revision) = match memrchr(b'-', rest.as_bytes()) {
        Some(dash) => (&rest[..dash], Some(&rest[dash + 1..])),
        None => (rest, None),
    };
    if upstream.is_empty() {
        return fail("its upstream part is empty");
    }
    if revision == Some("") {
        return fail("its revision is empty");
    }
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'~');
    if !upstream.bytes().all(|b| letter(b) || matches!(b, b'-' | b':')) {
        return fail("its upstream part may hold only letters, digits and . + - ~ :");
    }
    if !revision.unwrap_or("").bytes().all(letter) {
        return fail("its revision may hold only letters, digits and . + ~");
    }
    Ok(())
}

/// Epoch, upstream part and revision (empty where there is none).
fn split(text: &str) -> (u32, &str, &str) {
    let (epoch, rest) = match memchr(b':', text.as_bytes()) {
        Some(colon) => (text[..colon].parse().unwrap_or(0), &text[colon + 1..]),
        None => (0, text),
    };
    match memrchr(b'-', rest.as_bytes()) {
        Some(dash) => (epoch, &rest[..dash], &rest[dash + 1..]),
        None => (epoch, rest, ""),
    }
}

/// The weight of a byte in a non-digit part; a digit ends the part, as the end does.
fn weight(byte: Option<u8>) -> i32 {
    match byte {
        None => 0,
        Some(b'~') => -1,
        Some(b) if b.is_ascii_digit() => 0,
        Some(b) if b.is_ascii_alphabetic() => i32::from(b),
        Some(b) => i32::from(b) + 256,
    }
}

/// Compares two upstream parts or two revisions.
fn compare_part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    let letters = |s: &[u8]| s.first().is_some_and(|c| !c.is_ascii_digit());
    while !a.is_empty() || !b.is_empty() {
        while letters(a) || letters(b) {
            let order = weight(a.first().copied()).cmp(&weight(b.first().copied()));
            if order.is_ne() {
                return order;
            }
            a = a.get(1..).unwrap_or_default();
            b = b.get(1..).unwrap_or_default();
        }
        let (a_number, a_rest) = number(a);
        let (b_number, b_rest) = number(b);
        let order = a_number.len().cmp(&b_number.len()).then_with(|| a_number.cmp(b_number));
        if order.is_ne() {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    Ordering::Equal
}

/// The digits at the start without leading zeros, and what follows them.
fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let zeros = text.iter().take_while(|b| **b == b'0').count();
    let text = &text[zeros..];
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    text.split_at(digits)
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

/// Agrees with the order: what compares equal hashes equal.
impl Hash for Version {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (epoch, upstream, revision) = split(&self.0);
        epoch.hash(state);
        for part in [upstream, revision] {
            let mut rest = part.as_bytes();
            while !rest.is_empty() {
                let letters = rest.iter().take_while(|b| !b.is_ascii_digit()).count();
                let (letters, after) = rest.split_at(letters);
                let (digits, after) = number(after);
                if !letters.is_empty() || !digits.is_empty() {
                    (letters, digits).hash(state);
                }
                rest = after;
            }
            state.write_u8(0xff);
        }
    }
}

impl TryFrom<Arc<str>> for Version {
    type Error = VersionError;
    fn try_from(text: Arc<str>) -> Result<Self, VersionError> {
        check(&text)?;
        Ok(Self(text))
    }
}

impl From<Version> for Arc<str> {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl std::str::FromStr for Version {
    type Err = VersionError;
    fn from_str(text: &str) -> Result<Self, VersionError> {
        Self::new(text)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
