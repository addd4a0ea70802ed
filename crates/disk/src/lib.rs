//! The disk engine: GPT, repart.d definitions, the planner, and the executor that
//! makes an image file.
//!
//! What it is: definitions ([`definition`]) and what a disk has ([`gpt`]) become a
//! [`plan`], which [`execute`] carries out on one image file, without root, loop
//! device or mount. [`populate`] makes the Tree of a partition, [`derive`] the
//! identifiers, [`fstab`] the tables of a running system, [`split`] files of single
//! partitions, [`layout`] the definitions
//! of a project that brings none. [`repart`] is all of it for one image file, as
//! systemd-repart has it, and [`device`] what block devices need beyond; [`preview`] asks the planner what a first boot will do.
//!
//! What it is not: file systems. Their writers (crate `fs`) come in as a
//! [`execute::PartitionFiller`]; this crate knows only how large a content is and
//! where it goes. Nor is it policy about what an image contains.
//!
//! Data flow: directories or a Tree → [`definition::load`] → `Definition`s; a disk →
//! [`gpt::read`] → `Table`; both and sizes → [`plan::plan`] → `Plan` (pure,
//! serialisable: dry run, preview, table, JSON) → [`execute::execute`] → bytes.
//!
//! Specification: repart.d(5), systemd-repart(8), UAPI.2, UEFI 2.10 chapter 5. Two
//! versions of systemd can be asked for ([`Version`]); they differ in a few decisions
//! of the planner.

pub mod definition;
pub mod derive;
pub mod device;
pub mod execute;
pub mod fstab;
#[doc(hidden)]
pub mod fuzzing;
pub mod gpt;
mod guid;
pub mod layout;
mod medium;
pub mod plan;
pub mod populate;
pub mod preview;
pub mod repart;
pub mod split;
pub mod types;
mod units;

pub use guid::{BadGuid, Guid};
pub use medium::{Medium, Writer};
pub use types::{Architecture, Designator, TypeGuid};
pub use units::{BadSectorSize, Bytes, SectorSize, Sectors};

use serde::{Deserialize, Serialize};

/// Whose decisions the planner takes where versions of systemd differ.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Version {
    /// systemd 257, of Debian 13.
    V257,
    /// systemd 262.
    #[default]
    V262,
}

impl Version {
    /// The number.
    pub fn number(self) -> u16 {
        match self {
            Version::V257 => 257,
            Version::V262 => 262,
        }
    }
}

/// How close to the original things are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Compat {
    /// Which original.
    pub version: Version,
    /// Also do what contradicts its documentation: `GrowFileSystem=no` has no effect;
    /// `Flags=` with one of the lower 48 bits loses all bits; lower limits of a
    /// definition and its supplement are forgotten if only one of them has any; what shall be
    /// copied into a partition of type swap is not.
    pub original_bugs: bool,
}
