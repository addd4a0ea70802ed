//! Everything between a configured root [`tree::Tree`] and a disk that boots, as
//! pure functions Tree → Tree or bytes.
//!
//! What it is: finding kernels ([`kernel`]), depmod and module selection
//! ([`modules`]), the initrd ([`initrd`], [`cpio`]), unified kernel images
//! ([`uki`], [`pe`]), boot entries and their names ([`entry`], [`cmdline`]), and the
//! EFI system partition's tree ([`esp`]).
//!
//! What it is not: file systems and partitions (`fs`, `disk`), installing packages
//! (`dpkg`), what systemd configures (`os`), signing.
//!
//! Data flow: root Tree → [`kernel::find`] → [`modules::scan`] →
//! [`initrd::kernel_modules`]; initrd Tree → [`initrd::finish`] →
//! [`initrd::userland`]; both → [`initrd::join`] → [`uki::Uki::build`] →
//! [`esp::build`]. Large files stay ranges of where they are ([`tree::Content`]).

pub mod arch;
pub mod cmdline;
pub mod compress;
pub mod cpio;
pub mod entry;
pub mod esp;
#[doc(hidden)]
pub mod fuzzing;
mod glob;
pub mod initrd;
pub mod kernel;
pub mod modules;
pub mod osrelease;
pub mod pe;
pub mod uki;
pub mod version;
