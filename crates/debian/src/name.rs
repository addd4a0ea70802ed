//! Names of packages and architectures, valid by construction.
//!
//! Both end up in paths (`var/lib/dpkg/info/NAME:ARCH.list`) and on command
//! lines, so neither can hold a separator, a leading dot or dash, or a blank.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest name that is accepted; the longest in Debian has under 100 bytes.
pub const MAX_NAME: usize = 240;

/// A text that is no package name or architecture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a package name (Debian Policy 5.6.1, with dpkg's leniency).
    #[error(
        "“{0}” is not a package name: it must start with a letter or digit and hold only letters, digits and + - . _"
    )]
    Package(String),
    /// Not an architecture.
    #[error(
        "“{0}” is not an architecture: it must start with a lower-case letter or digit and hold only those and -"
    )]
    Architecture(String),
}

/// A Debian package's name, such as `libc6`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Arc<str>", into = "Arc<str>")]
pub struct PackageName(Arc<str>);

/// A Debian architecture, such as `amd64` or `all`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Arc<str>", into = "Arc<str>")]
pub struct Architecture(Arc<str>);

/// Whether dpkg takes `text` as a package name.
pub(crate) fn is_package_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= MAX_NAME
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(b))
}

/// Whether `text` has the form of an architecture.
pub(crate) fn is_architecture(text: &str) -> bool {
    let lower = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= MAX_NAME
        && bytes.first().is_some_and(lower)
        && bytes.iter().all(|b| lower(b) || *b == b'-')
}

impl PackageName {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        Self::try_from(Arc::from(text))
    }
}

impl Architecture {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        Self::try_from(Arc::from(text))
    }

    /// Whether packages of this architecture suit every machine (`all`).
    pub fn is_all(&self) -> bool {
        &*self.0 == "all"
    }

    /// Whether `wildcard` (`amd64`, `any`, `linux-any`, `any-arm`,
    /// `gnu-any-any`) covers this architecture (Debian Policy 11.1).
    pub fn matches(&self, wildcard: &str) -> bool {
        if &*self.0 == wildcard || wildcard == "any" {
            return true;
        }
        if !wildcard.split('-').any(|part| part == "any") {
            return false;
        }
        let own = tuple(&self.0);
        let mut want = ["any"; 4];
        let parts: Vec<_> = wildcard.split('-').collect();
        let Some(start) = want.len().checked_sub(parts.len()) else { return false };
        want[start..].copy_from_slice(&parts);
        want.iter().zip(own).all(|(want, own)| *want == "any" || *want == own)
    }
}

/// (ABI, C library, kernel, processor) of an architecture, as dpkg's tables have
/// them; the tables' defaults are the base ABI, `gnu` and `linux`.
fn tuple(arch: &str) -> [&str; 4] {
    match arch {
        "armhf" => return ["eabihf", "gnu", "linux", "arm"],
        "armel" => return ["eabi", "gnu", "linux", "arm"],
        "x32" => return ["x32", "gnu", "linux", "amd64"],
        "arm64ilp32" => return ["ilp32", "gnu", "linux", "arm64"],
        "powerpcspe" => return ["spe", "gnu", "linux", "powerpc"],
        "mipsn32" => return ["abin32", "gnu", "linux", "mips"],
        "mipsn32el" => return ["abin32", "gnu", "linux", "mipsel"],
        "mips64" => return ["abi64", "gnu", "linux", "mips64"],
        "mips64el" => return ["abi64", "gnu", "linux", "mips64el"],
        _ => {}
    }
    let mut own = ["base", "gnu", "linux", ""];
    let parts: Vec<_> = arch.splitn(4, '-').collect();
    let start = own.len() - parts.len();
    own[start..].copy_from_slice(&parts);
    own
}

/// What both newtypes need to behave as the strings that they hold.
macro_rules! string_newtype {
    ($type:ident, $check:path, $error:path) => {
        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The shared text.
            pub fn shared(&self) -> &Arc<str> {
                &self.0
            }
        }

        impl TryFrom<Arc<str>> for $type {
            type Error = NameError;
            fn try_from(text: Arc<str>) -> Result<Self, NameError> {
                if $check(&text) { Ok(Self(text)) } else { Err($error(text.as_ref().to_owned())) }
            }
        }

        impl std::str::FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$type> for Arc<str> {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $type {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $type {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

string_newtype!(PackageName, is_package_name, NameError::Package);
string_newtype!(Architecture, is_architecture, NameError::Architecture);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_a_directory_or_look_like_an_option() {
        for bad in ["", ".", "..", "../x", "-x", "a/b", "a b", "a\n", "a:b", "ä", "+a"] {
            assert!(PackageName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["libstdc++6", "0ad", "a", "g++-14-x86-64-linux-gnux32", "python3.13"] {
            assert!(PackageName::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", "-amd64", "AMD64", "amd64 ", "any/any", "a.b"] {
            assert!(Architecture::new(bad).is_err(), "{bad:?}");
        }
    }

    /// Compared with `dpkg-architecture -a ARCH -i WILDCARD` of dpkg 1.22.
    #[test]
    fn wildcards_match_as_dpkg_architecture_says() {
        let cases = [
            ("amd64", "any", true),
            ("amd64", "linux-any", true),
            ("amd64", "any-amd64", true),
            ("amd64", "amd64", true),
            ("amd64", "i386", false),
            ("amd64", "hurd-any", false),
            ("hurd-i386", "hurd-any", true),
            ("hurd-i386", "linux-any", false),
            ("hurd-i386", "any-i386", true),
            ("armhf", "any-arm", true),
            ("armhf", "armel", false),
            ("musl-linux-arm64", "any-arm64", true),
            ("musl-linux-arm64", "gnu-any-any", false),
            ("amd64", "gnu-any-any", true),
            ("x32", "any-amd64", true),
            ("amd64", "a-b-c-d-any", false),
        ];
        for (arch, wildcard, expected) in cases {
            let found = Architecture::new(arch).unwrap().matches(wildcard);
            assert_eq!(found, expected, "{arch} ~ {wildcard}");
        }
    }
}
