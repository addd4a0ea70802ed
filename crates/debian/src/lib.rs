//! Debian's package metadata: the text formats and the small types in them.
//!
//! What is here: control paragraphs ([`deb822`]), versions and their order
//! ([`Version`]), dependency fields ([`Relations`]), names ([`PackageName`],
//! [`Architecture`]), and [`PackageRecord`], which is one stanza of a `Packages`
//! index with all that solving and fetching need.
//!
//! What is not here: signatures and fetching (`apt`), archives and the package
//! database (`dpkg`), choosing packages (`solver`). Nothing here touches a file.
//!
//! Data flow: text → [`deb822::Paragraphs`] (borrowed fields) →
//! [`PackageRecord`] (owned, shared strings) → solver, lock file, SBOM.
//!
//! A dependency field is kept as its text, checked once when it is read, and
//! walked without allocation each time it is used: an index holds half a million
//! relations, and a build looks at some thousands of them.
//!
//! Formats: Debian Policy chapters 5 and 7, deb822(5), deb-version(7),
//! deb-control(5), the multi-arch specification.

pub mod deb822;
mod intern;
mod name;
mod record;
mod relation;
pub mod version;

pub use intern::Interner;
pub use name::{Architecture, NameError, PackageName};
pub use record::{
    MultiArch, PackageRecord, Priority, RecordError, RecordErrorKind, Sha256, read_packages,
    read_packages_with,
};
pub use relation::{
    ArchQualifier, ArchRestriction, Constraint, Group, Operator, Relation, RelationError,
    Relations, Restrictions,
};
pub use version::{Version, VersionConstraint, VersionError};

#[doc(hidden)]
pub mod fuzzing;
