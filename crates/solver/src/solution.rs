//! What the solver is asked and what it answers.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use debian::{Architecture, PackageName, PackageRecord, Version};
use serde::{Deserialize, Serialize};

/// The packages that are there before: none for a new image.
#[derive(Debug, Clone, Default)]
pub struct Installed {
    /// What dpkg's database has as installed.
    pub packages: Vec<InstalledPackage>,
}

/// A package that is there before.
#[derive(Debug, Clone)]
pub struct InstalledPackage {
    /// Its stanza.
    pub record: Arc<PackageRecord>,
    /// Whether `extended_states` has it as automatically installed.
    pub auto: bool,
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// As on apt-get's command line; see [`crate::spec`].
    pub specs: Vec<String>,
    /// Whether Recommends of newly installed packages are installed, too.
    pub with_recommends: bool,
    /// Packages that stay as they are unless a spec names them.
    pub held: BTreeSet<PackageName>,
    /// Packages that must not be chosen.
    pub forbidden: BTreeSet<PackageName>,
}

/// The kind of a dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Must be configured before the package is unpacked.
    PreDepends,
    /// Must be there.
    Depends,
    /// Is there in all but unusual cases.
    Recommends,
    /// May be useful.
    Suggests,
}

impl Kind {
    /// Whether the package does not work without it.
    pub fn is_critical(self) -> bool {
        matches!(self, Self::PreDepends | Self::Depends)
    }

    /// As a verb: “a … b”.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::PreDepends => "pre-depends on",
            Self::Depends => "depends on",
            Self::Recommends => "recommends",
            Self::Suggests => "suggests",
        }
    }
}

/// Why a package was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum Reason {
    /// The spec names it.
    Requested {
        /// The spec as it was given.
        spec: String,
    },
    /// Every system has it: it came with `?essential`.
    Essential,
    /// Another package needs or recommends it; the first that asked for it.
    Dependency {
        /// The package that asks (`name`, or `name:arch` for a foreign one).
        of: String,
        /// How it asks.
        kind: Kind,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested { spec } => write!(f, "requested as {spec}"),
            Self::Essential => f.write_str("essential"),
            Self::Dependency { of, kind } => write!(f, "{of} {} it", kind.verb()),
        }
    }
}

/// A package that will be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// The version.
    pub record: Arc<PackageRecord>,
    /// Why.
    pub reason: Reason,
    /// Nobody asked for it: `Auto-Installed: 1` in `extended_states`.
    pub auto: bool,
    /// Which of the sources given to the builder offer it, by label.
    pub sources: Vec<Arc<str>>,
}

impl Chosen {
    /// Name, version and architecture as `name=version:arch` parts.
    pub fn id(&self) -> (&PackageName, &Version, &Architecture) {
        (&self.record.name, &self.record.version, &self.record.architecture)
    }
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Solution {
    /// To be installed or upgraded, by name, then architecture.
    pub install: Vec<Chosen>,
    /// To be removed, by name, then architecture.
    pub remove: Vec<(PackageName, Architecture)>,
}

/// The request cannot be met. The text is a chain from what was asked down to
/// what stands in the way, one step a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", chain.join("\n"))]
pub struct Unsolvable {
    /// The steps.
    pub chain: Vec<String>,
}

impl Unsolvable {
    pub(crate) fn one(step: impl Into<String>) -> Self {
        Self { chain: vec![step.into()] }
    }
}
