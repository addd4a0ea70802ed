//! Debian packages and dpkg's database, up to the point where scripts run.
//!
//! What it is: a reader of `.deb` archives ([`unpack`]) that decompresses each
//! package once ever; laying packages over a root [`tree::Tree`] as dpkg does
//! ([`merge`]); dpkg's own records of it ([`Database`]); the order in which files
//! are laid out and scripts run ([`plan_install`]); and how the image's own dpkg
//! is then called ([`configure`]).
//!
//! What it is not: choosing packages (`solver`), fetching them (`apt`), running
//! anything (`sandbox`). No script runs here, and nothing outside the Tree and
//! the store is touched.
//!
//! Data flow: `.deb` → ([`ar`] → decompressor → [`tar`]) → pack and [`Package`] in
//! the store → [`merge`] → Tree + [`Database`] → [`Database::write`] → Tree whose
//! `/var/lib/dpkg` is what `dpkg --unpack` leaves → `dpkg --configure -a`.
//!
//! Formats: deb(5), deb-control(5), deb-conffiles(5), deb-triggers(5), dpkg(1),
//! dpkg-divert(1), dpkg-statoverride(1), Debian Policy chapters 5 to 7 and 10.7,
//! POSIX ustar and pax; dpkg 1.22's observed behaviour where they are silent.

pub mod ar;
mod compress;
pub mod configure;
mod control;
mod database;
mod deb;
mod error;
mod filter;
mod merge;
mod package;
mod plan;
pub mod tar;

pub use control::{Control, ControlError};
pub use database::{
    Database, DatabaseError, Diversion, Installed, StatOverride, State, extended_states,
};
pub use deb::{Contents, Limits, SMALL_DATA, read_deb};
pub use error::{ArchiveError, Error, Problem};
pub use filter::PathFilter;
pub use merge::{MergeError, MergeReport, Options, merge};
pub use package::{Entry, EntryKind, Member, Package, cached, unpack, unpack_file};
pub use plan::{Command, InstallPlan, PlanError, Step, plan_install};

#[cfg(test)]
mod testing;

#[doc(hidden)]
pub mod fuzzing;
