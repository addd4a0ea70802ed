//! Partition types: their GUIDs, their names, and what systemd knows about each.
//!
//! Source: the Discoverable Partitions Specification (UAPI.2) and repart.d(5). The
//! GUIDs themselves are in `table`, which holds nothing else.

mod table;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Guid;
use table::{BY_ARCHITECTURE, PLAIN};

/// An architecture that has partition types of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Architecture {
    Alpha,
    Arc,
    Arm,
    Arm64,
    Ia64,
    Loongarch64,
    Mips,
    Mips64,
    MipsLe,
    Mips64Le,
    Parisc,
    Ppc,
    Ppc64,
    Ppc64Le,
    Riscv32,
    Riscv64,
    S390,
    S390x,
    Tilegx,
    X86,
    #[serde(rename = "x86-64")]
    X8664,
}

/// What a partition is for, whatever the architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Designator {
    Root,
    RootVerity,
    RootVeritySig,
    Usr,
    UsrVerity,
    UsrVeritySig,
    Esp,
    Xbootldr,
    Swap,
    Home,
    Srv,
    Var,
    Tmp,
    UserHome,
    LinuxGeneric,
    /// A type that the specification does not know.
    Other,
}

struct ArchTypes {
    architecture: Architecture,
    name: &'static str,
    types: [Guid; 6],
}

/// The types of one architecture, in the order of [`ArchTypes::types`].
const VERSIONED: [(Designator, &str, &str); 6] = [
    (Designator::Root, "root", ""),
    (Designator::RootVerity, "root", "-verity"),
    (Designator::RootVeritySig, "root", "-verity-sig"),
    (Designator::Usr, "usr", ""),
    (Designator::UsrVerity, "usr", "-verity"),
    (Designator::UsrVeritySig, "usr", "-verity-sig"),
];

/// Other names by which architectures are called (repart.d(5), uname(1), Debian).
const ALIASES: [(&str, Architecture); 14] = [
    ("armv7l", Architecture::Arm),
    ("aarch64", Architecture::Arm64),
    ("loong64", Architecture::Loongarch64),
    ("mipsel", Architecture::MipsLe),
    ("mips64el", Architecture::Mips64Le),
    ("hppa", Architecture::Parisc),
    ("ppc64le", Architecture::Ppc64Le),
    ("ppc64el", Architecture::Ppc64Le),
    ("i386", Architecture::X86),
    ("i486", Architecture::X86),
    ("i586", Architecture::X86),
    ("i686", Architecture::X86),
    ("x86_64", Architecture::X8664),
    ("amd64", Architecture::X8664),
];

impl Architecture {
    /// From its name or one of its aliases.
    pub fn from_name(name: &str) -> Option<Self> {
        let own = BY_ARCHITECTURE.iter().find(|a| a.name == name).map(|a| a.architecture);
        own.or_else(|| ALIASES.iter().find(|(n, _)| *n == name).map(|(_, a)| *a))
    }

    /// Its canonical name, which is also what `%a` expands to.
    pub fn name(self) -> &'static str {
        self.types().name
    }

    /// The architecture whose programs this one also runs: `root-secondary`.
    pub fn secondary(self) -> Option<Self> {
        match self {
            Architecture::X8664 => Some(Architecture::X86),
            Architecture::Arm64 => Some(Architecture::Arm),
            _ => None,
        }
    }

    fn types(self) -> &'static ArchTypes {
        let own = BY_ARCHITECTURE.iter().find(|a| a.architecture == self);
        own.expect("the table has every architecture")
    }
}

impl Designator {
    /// True for hash partitions and their signatures.
    pub fn is_verity(self) -> bool {
        use Designator::*;
        matches!(self, RootVerity | RootVeritySig | UsrVerity | UsrVeritySig)
    }

    /// True for signatures of hash partitions.
    pub fn is_verity_sig(self) -> bool {
        matches!(self, Designator::RootVeritySig | Designator::UsrVeritySig)
    }

    /// True if bit 60 (read-only) means something for it.
    pub fn knows_read_only(self) -> bool {
        use Designator::*;
        self.is_verity() || matches!(self, Root | Usr | Home | Srv | Var | Tmp | Xbootldr)
    }

    /// True if bit 59 (grow the file system) means something for it.
    pub fn knows_grow_fs(self) -> bool {
        use Designator::*;
        matches!(self, Root | Usr | Home | Srv | Var | Tmp | Xbootldr)
    }

    /// True if bit 63 (do not mount automatically) means something for it.
    pub fn knows_no_auto(self) -> bool {
        use Designator::*;
        self.knows_grow_fs() || matches!(self, RootVerity | UsrVerity | Swap)
    }

    /// Where such a partition is mounted, first choice first.
    pub fn mount_points(self) -> &'static [&'static str] {
        match self {
            Designator::Root => &["/"],
            Designator::Usr => &["/usr"],
            Designator::Esp => &["/efi", "/boot"],
            Designator::Xbootldr => &["/boot"],
            Designator::Home => &["/home"],
            Designator::Srv => &["/srv"],
            Designator::Var => &["/var"],
            Designator::Tmp => &["/var/tmp"],
            _ => &[],
        }
    }

    /// Its name in `partition-designator` listings and in environment variables.
    pub fn name(self) -> &'static str {
        match self {
            Designator::Root => "root",
            Designator::RootVerity => "root-verity",
            Designator::RootVeritySig => "root-verity-sig",
            Designator::Usr => "usr",
            Designator::UsrVerity => "usr-verity",
            Designator::UsrVeritySig => "usr-verity-sig",
            Designator::Other => "other",
            plain => PLAIN
                .iter()
                .find(|(_, _, d)| *d == plain)
                .map(|(name, ..)| *name)
                .expect("the table has every plain type"),
        }
    }
}

/// The type of a partition. Any GUID is one; those of the specification have names.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TypeGuid(pub Guid);

impl TypeGuid {
    /// Any of the names that `Type=` takes: an identifier, with or without
    /// architecture, an alias of one, or a GUID.
    pub fn parse(text: &str, native: Architecture) -> Option<Self> {
        if let Some((_, guid, _)) = PLAIN.iter().find(|(name, ..)| *name == text) {
            return Some(TypeGuid(*guid));
        }
        for (designator, prefix, suffix) in VERSIONED {
            let Some(middle) = text.strip_prefix(prefix).and_then(|t| t.strip_suffix(suffix))
            else {
                continue;
            };
            let architecture = match middle.strip_prefix('-') {
                None if middle.is_empty() => Some(native),
                None => None,
                Some("secondary") => native.secondary(),
                Some(name) => Architecture::from_name(name),
            };
            if let Some(architecture) = architecture {
                return Some(Self::of(designator, architecture));
            }
        }
        text.parse().ok().map(TypeGuid)
    }

    /// The same for another architecture, if it is of any.
    pub fn retyped(self, architecture: Option<Architecture>) -> Self {
        let designator = self.designator();
        match architecture {
            Some(architecture) if VERSIONED.iter().any(|(d, ..)| *d == designator) => {
                Self::of(designator, architecture)
            }
            _ => self,
        }
    }

    /// The type with this designator; for [`Designator::Other`] the generic one.
    pub fn of(designator: Designator, architecture: Architecture) -> Self {
        if let Some(i) = VERSIONED.iter().position(|(d, ..)| *d == designator) {
            return TypeGuid(architecture.types().types[i]);
        }
        let plain = PLAIN.iter().find(|(_, _, d)| *d == designator);
        TypeGuid(plain.map_or(GENERIC, |(_, guid, _)| *guid))
    }

    /// The canonical name; `None` if the specification does not know the type.
    pub fn identifier(self) -> Option<String> {
        let plain = PLAIN.iter().find(|(_, guid, _)| *guid == self.0);
        if let Some((name, ..)) = plain {
            return Some((*name).to_owned());
        }
        let (row, i) = self.versioned()?;
        let (_, prefix, suffix) = VERSIONED[i];
        Some(format!("{prefix}-{}{suffix}", row.name))
    }

    /// What it is for.
    pub fn designator(self) -> Designator {
        let plain = PLAIN.iter().find(|(_, guid, _)| *guid == self.0).map(|(_, _, d)| *d);
        let versioned = || self.versioned().map(|(_, i)| VERSIONED[i].0);
        plain.or_else(versioned).unwrap_or(Designator::Other)
    }

    /// For which architecture, for the types that depend on it.
    pub fn architecture(self) -> Option<Architecture> {
        self.versioned().map(|(row, _)| row.architecture)
    }

    fn versioned(self) -> Option<(&'static ArchTypes, usize)> {
        BY_ARCHITECTURE
            .iter()
            .find_map(|row| row.types.iter().position(|g| *g == self.0).map(|i| (row, i)))
    }

    /// Every name that a type has, for suggestions.
    pub(crate) fn names() -> impl Iterator<Item = String> {
        let short = VERSIONED.iter().map(|(_, prefix, suffix)| format!("{prefix}{suffix}"));
        PLAIN.iter().map(|(name, ..)| (*name).to_owned()).chain(short)
    }
}

/// `linux-generic`.
const GENERIC: Guid = Guid::literal("0fc63daf-8483-4772-8e79-3d69d8477de4");

impl fmt::Display for TypeGuid {
    /// The identifier, or the GUID if it has none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.identifier() {
            Some(name) => f.write_str(&name),
            None => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const NATIVE: Architecture = Architecture::X8664;

    #[test]
    fn names_and_aliases_give_the_guids_of_the_specification() {
        // UAPI.2 "Defined Partition Type UUIDs".
        let cases = [
            ("esp", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
            ("root", "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
            ("root-x86_64", "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
            ("root-amd64", "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
            ("root-secondary", "44479540-f297-41b2-9af7-d131d5f0458a"),
            ("root-i686-verity", "d13c5d3b-b5d1-422a-b29f-9454fdc89d76"),
            ("usr-aarch64-verity-sig", "c23ce4ff-44bd-4b00-b2d4-b41b3419e02a"),
            ("usr-verity", "77ff5f63-e7b6-4633-acf4-1565b864c0e6"),
            ("root-ppc64el", "c31c45e6-3f39-412e-80fb-4809c4980599"),
            ("tmp", "7ec6f557-3bc5-4aca-b293-16ef5df639d1"),
            ("DEADBEEFdeadbeefdeadbeefdeadbeef", "deadbeef-dead-beef-dead-beefdeadbeef"),
        ];
        for (name, guid) in cases {
            let parsed = TypeGuid::parse(name, NATIVE).map(|t| t.0.to_string());
            assert_eq!(parsed.as_deref(), Some(guid), "{name}");
        }
        for bad in ["", "root-", "rootx", "root-x87", "ESP", "usr-verity-x86", "root--verity"] {
            assert_eq!(TypeGuid::parse(bad, NATIVE), None, "{bad}");
        }
        assert_eq!(TypeGuid::parse("root-secondary", Architecture::S390), None);
    }

    #[test]
    fn canonical_names_lead_back_to_the_type() {
        let mut seen = BTreeSet::new();
        let versioned = BY_ARCHITECTURE.iter().flat_map(|row| row.types);
        for guid in versioned.chain(PLAIN.iter().map(|(_, guid, _)| *guid)) {
            assert!(seen.insert(guid), "{guid} is in the table twice");
            let name = TypeGuid(guid).identifier().unwrap();
            assert_eq!(TypeGuid::parse(&name, Architecture::Alpha), Some(TypeGuid(guid)));
            assert_eq!(
                TypeGuid::of(
                    TypeGuid(guid).designator(),
                    TypeGuid(guid).architecture().unwrap_or(NATIVE)
                ),
                TypeGuid(guid)
            );
        }
        assert_eq!(seen.len(), 21 * 6 + 9);
        assert_eq!(TypeGuid::parse("root", NATIVE).unwrap().to_string(), "root-x86-64");
    }
}
