//! Dependency fields: `a (>= 1) | b:any [amd64] <!nocheck>, c`.
//!
//! A [`Relations`] is the text of such a field, checked once; walking it yields
//! [`Group`]s (all must hold) of [`Relation`]s (one must hold) that borrow from
//! it. The grammar is that of Debian Policy 7.1, with the obsolete operators `<`
//! (means `<=`) and `>` (means `>=`) and empty groups (a trailing comma) allowed,
//! as dpkg and apt allow them.
//!
//! Not here: deciding whether a package satisfies a relation across
//! architectures; that is the solver's.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use memchr::{memchr, memchr2};
use serde::{Deserialize, Serialize};

use crate::name::{is_architecture, is_package_name};
use crate::version;
use crate::{Architecture, Interner, Version, VersionConstraint};

/// The longest dependency field that is accepted; Debian's longest has about 60 kB.
pub const MAX_FIELD: usize = 1 << 20;

/// A dependency field that does not follow the grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("“{relation}” is not a relation between packages: {why}")]
pub struct RelationError {
    /// The offending relation, shortened.
    pub relation: String,
    /// What is wrong with it.
    pub why: String,
}

/// How two versions must relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Operator {
    /// `<<`
    #[serde(rename = "<<")]
    Less,
    /// `<=`, obsolete `<`
    #[serde(rename = "<=")]
    LessEqual,
    /// `=`
    #[serde(rename = "=")]
    Equal,
    /// `>=`, obsolete `>`
    #[serde(rename = ">=")]
    GreaterEqual,
    /// `>>`
    #[serde(rename = ">>")]
    Greater,
}

impl Operator {
    /// Whether a candidate that compares with the named version as `order` is accepted.
    pub fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::GreaterEqual => order.is_ge(),
            Self::Greater => order.is_gt(),
        }
    }

    /// As written in control files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<<",
            Self::LessEqual => "<=",
            Self::Equal => "=",
            Self::GreaterEqual => ">=",
            Self::Greater => ">>",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "<<" => Self::Less,
            "<=" | "<" => Self::LessEqual,
            "=" => Self::Equal,
            ">=" | ">" => Self::GreaterEqual,
            ">>" => Self::Greater,
            _ => return None,
        })
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A version constraint that borrows its version, which is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Constraint<'a> {
    /// How a candidate must relate to `version`.
    pub operator: Operator,
    /// The version named.
    pub version: &'a str,
}

impl Constraint<'_> {
    /// Whether `candidate` satisfies the constraint.
    pub fn matches(&self, candidate: &Version) -> bool {
        self.operator.accepts(version::compare(candidate.as_str(), self.version))
    }

    /// The constraint with its own copy of the version.
    pub fn to_owned(&self) -> VersionConstraint {
        let version = Version::new(self.version).expect("a constraint's version is checked");
        VersionConstraint { operator: self.operator, version }
    }
}

impl fmt::Display for Constraint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operator, self.version)
    }
}

/// What follows a name's colon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchQualifier<'a> {
    /// `:any`: any architecture, of a package that is `Multi-Arch: allowed`.
    Any,
    /// `:native`: the machine that builds (build dependencies only).
    Native,
    /// `:amd64`: that architecture.
    Arch(&'a str),
}

/// One alternative of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relation<'a> {
    /// The package's name, valid.
    pub name: &'a str,
    /// The architecture qualifier.
    pub qualifier: Option<ArchQualifier<'a>>,
    /// The version constraint.
    pub constraint: Option<Constraint<'a>>,
    /// `[…]` and `<…>` (in source packages).
    pub restrictions: Restrictions<'a>,
}

/// The architectures and build profiles to which a relation is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restrictions<'a> {
    architectures: &'a str,
    profiles: &'a str,
}

/// One entry of `[…]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchRestriction<'a> {
    /// `!`: every architecture but these.
    pub negated: bool,
    /// An architecture or wildcard.
    pub wildcard: &'a str,
}

impl<'a> Restrictions<'a> {
    /// The entries of `[…]`; empty where there is none.
    pub fn architectures(&self) -> impl Iterator<Item = ArchRestriction<'a>> + use<'a> {
        self.architectures.split_ascii_whitespace().map(|entry| match entry.strip_prefix('!') {
            Some(wildcard) => ArchRestriction { negated: true, wildcard },
            None => ArchRestriction { negated: false, wildcard: entry },
        })
    }

    /// The terms of each `<…>`: a formula holds if in one list every term holds.
    pub fn profiles(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.profiles.split('>').filter_map(|list| list.trim().strip_prefix('<'))
    }

    /// Whether the relation counts for this architecture and these build profiles.
    pub fn apply(&self, arch: &Architecture, profiles: &[&str]) -> bool {
        let mut listed = false;
        let mut matched = false;
        let mut negated = false;
        for entry in self.architectures() {
            listed = true;
            negated |= entry.negated;
            matched |= arch.matches(entry.wildcard);
        }
        let arch_ok = !listed || matched != negated;
        let holds = |term: &str| match term.strip_prefix('!') {
            Some(name) => !profiles.contains(&name),
            None => profiles.contains(&term),
        };
        let mut lists = self.profiles().peekable();
        let profile_ok =
            lists.peek().is_none() || lists.any(|list| list.split_ascii_whitespace().all(holds));
        arch_ok && profile_ok
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        match self.qualifier {
            None => {}
            Some(ArchQualifier::Any) => f.write_str(":any")?,
            Some(ArchQualifier::Native) => f.write_str(":native")?,
            Some(ArchQualifier::Arch(arch)) => write!(f, ":{arch}")?,
        }
        if let Some(constraint) = self.constraint {
            write!(f, " ({constraint})")?;
        }
        if !self.restrictions.architectures.is_empty() {
            write!(f, " [{}]", self.restrictions.architectures)?;
        }
        if !self.restrictions.profiles.is_empty() {
            write!(f, " {}", self.restrictions.profiles)?;
        }
        Ok(())
    }
}

/// Alternatives, of which one must hold. Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group<'a>(&'a str);

impl<'a> Group<'a> {
    /// The alternatives in their order.
    pub fn alternatives(self) -> impl Iterator<Item = Relation<'a>> + Clone + use<'a> {
        pieces(self.0, b'|').map(|text| parse_relation(text).expect("the field is checked"))
    }

    /// The group's text as written.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

impl fmt::Display for Group<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, relation) in self.alternatives().enumerate() {
            if i > 0 {
                f.write_str(" | ")?;
            }
            write!(f, "{relation}")?;
        }
        Ok(())
    }
}

/// A dependency field that follows the grammar. Empty where the field is absent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "Arc<str>", into = "Arc<str>")]
pub struct Relations(Arc<str>);

impl Relations {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, RelationError> {
        check(text)?;
        Ok(Self(text.into()))
    }

    /// Checks `text` and keeps the shared copy of it.
    pub fn interned(text: &str, interner: &mut Interner) -> Result<Self, RelationError> {
        check(text)?;
        Ok(Self(interner.get(text)))
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.groups().next().is_none()
    }

    /// The groups in their order.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> + Clone {
        groups(&self.0)
    }

    /// Every relation of every group: for fields without alternatives
    /// (Conflicts, Breaks, Replaces, Provides).
    pub fn relations(&self) -> impl Iterator<Item = Relation<'_>> + Clone {
        self.groups().flat_map(Group::alternatives)
    }

    /// The names of all relations, faster than walking the relations: for
    /// scanning whole indices.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            loop {
                let text = rest.trim_ascii_start();
                if text.is_empty() {
                    return None;
                }
                let next = memchr2(b',', b'|', text.as_bytes());
                let relation = &text[..next.unwrap_or(text.len())];
                rest = next.map_or("", |next| &text[next + 1..]);
                let end = relation.bytes().position(|b| !NAME_BYTES[usize::from(b)]);
                let name = &relation[..end.unwrap_or(relation.len())];
                if !name.is_empty() {
                    return Some(name);
                }
            }
        })
    }

    /// The field's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Relations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, group) in self.groups().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{group}")?;
        }
        Ok(())
    }
}

impl TryFrom<Arc<str>> for Relations {
    type Error = RelationError;
    fn try_from(text: Arc<str>) -> Result<Self, RelationError> {
        check(&text)?;
        Ok(Self(text))
    }
}

impl From<Relations> for Arc<str> {
    fn from(relations: Relations) -> Self {
        relations.0
    }
}

impl std::str::FromStr for Relations {
    type Err = RelationError;
    fn from_str(text: &str) -> Result<Self, RelationError> {
        Self::new(text)
    }
}

/// The bytes of which names of packages are made.
const NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.' | b'_');
        byte += 1;
    }
    table
};

/// The pieces of `text` between separators.
#[derive(Clone)]
struct Pieces<'a> {
    rest: Option<&'a str>,
    separator: u8,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        let end = memchr(self.separator, rest.as_bytes());
        self.rest = end.map(|end| &rest[end + 1..]);
        Some(&rest[..end.unwrap_or(rest.len())])
    }
}

fn pieces(text: &str, separator: u8) -> Pieces<'_> {
    Pieces { rest: Some(text), separator }
}

/// The groups of a field's text, the empty ones left out.
fn groups(text: &str) -> impl Iterator<Item = Group<'_>> + Clone {
    pieces(text, b',').map(str::trim_ascii).filter(|group| !group.is_empty()).map(Group)
}

fn check(text: &str) -> Result<(), RelationError> {
    if text.len() > MAX_FIELD {
        return Err(failure(text, "the field is too long"));
    }
    for group in groups(text) {
        for relation in pieces(group.0, b'|') {
            parse_relation(relation)?;
        }
    }
    Ok(())
}

fn failure(relation: &str, why: impl Into<String>) -> RelationError {
    RelationError { relation: relation.trim_ascii().chars().take(80).collect(), why: why.into() }
}

/// `name[:qualifier] [(op version)] [[arch …]] [<profile …> …]`
fn parse_relation(text: &str) -> Result<Relation<'_>, RelationError> {
    let fail = |why: &str| Err(failure(text, why));
    let trimmed = text.trim_ascii();
    let end = trimmed.bytes().position(|b| !NAME_BYTES[usize::from(b)]);
    let (name, rest) = trimmed.split_at(end.unwrap_or(trimmed.len()));
    let (qualifier, rest) = match rest.strip_prefix(':') {
        None => (None, rest),
        Some(rest) => {
            let end = rest.bytes().position(|b| !NAME_BYTES[usize::from(b)]);
            let (qualifier, rest) = rest.split_at(end.unwrap_or(rest.len()));
            match qualifier {
                "any" => (Some(ArchQualifier::Any), rest),
                "native" => (Some(ArchQualifier::Native), rest),
                arch if is_architecture(arch) => (Some(ArchQualifier::Arch(arch)), rest),
                _ => return fail("what follows the colon is no architecture"),
            }
        }
    };
    if !is_package_name(name) {
        return fail("it does not start with a package name");
    }
    let mut rest = rest.trim_ascii_start();
    let mut constraint = None;
    if let Some(inner) = rest.strip_prefix('(') {
        let Some(end) = memchr(b')', inner.as_bytes()) else { return fail("“)” is missing") };
        constraint = Some(parse_constraint(text, inner[..end].trim_ascii())?);
        rest = inner[end + 1..].trim_ascii_start();
    }
    let mut restrictions = Restrictions::default();
    if let Some(inner) = rest.strip_prefix('[') {
        let Some((inner, after)) = inner.split_once(']') else { return fail("“]” is missing") };
        restrictions.architectures = inner.trim_ascii();
        check_architectures(text, restrictions)?;
        rest = after.trim_ascii_start();
    }
    if rest.starts_with('<') {
        if !is_profile_formula(rest) {
            return fail("the build profiles are not of the form “<name …> …”");
        }
        restrictions.profiles = rest;
        rest = "";
    }
    if !rest.is_empty() {
        return fail("something follows the relation");
    }
    Ok(Relation { name, qualifier, constraint, restrictions })
}

fn parse_constraint<'a>(text: &str, inner: &'a str) -> Result<Constraint<'a>, RelationError> {
    let split = inner.bytes().position(|b| !b"<>=".contains(&b)).unwrap_or(inner.len());
    let (operator, version) = inner.split_at(split);
    let Some(operator) = Operator::parse(operator) else {
        return Err(failure(text, "the operator must be one of << <= = >= >>"));
    };
    let version = version.trim_ascii();
    version::check(version).map_err(|e| failure(text, e.to_string()))?;
    Ok(Constraint { operator, version })
}

fn check_architectures(text: &str, restrictions: Restrictions<'_>) -> Result<(), RelationError> {
    let (mut negated, mut plain) = (false, false);
    for entry in restrictions.architectures() {
        if !is_architecture(entry.wildcard) {
            return Err(failure(text, format!("“{}” is no architecture", entry.wildcard)));
        }
        *(if entry.negated { &mut negated } else { &mut plain }) = true;
    }
    match (negated, plain) {
        (true, true) => Err(failure(text, "all or none of the architectures must be negated")),
        (false, false) => Err(failure(text, "no architecture is listed between “[” and “]”")),
        _ => Ok(()),
    }
}

/// `<a !b> <c>`: at least one list, none empty, nothing between them.
fn is_profile_formula(text: &str) -> bool {
    let mut rest = text.trim_ascii();
    while !rest.is_empty() {
        let Some((list, after)) = rest.strip_prefix('<').and_then(|r| r.split_once('>')) else {
            return false;
        };
        let is_term = |term: &str| {
            let name = term.strip_prefix('!').unwrap_or(term);
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+/_".contains(&b))
        };
        if list.trim_ascii().is_empty() || !list.split_ascii_whitespace().all(is_term) {
            return false;
        }
        rest = after.trim_ascii_start();
    }
    true
}
