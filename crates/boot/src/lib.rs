//! Everything between a configured root Tree and a disk that boots.

pub mod arch;
pub mod cmdline;
pub mod compress;
pub mod cpio;
pub mod entry;
pub mod esp;
mod glob;
pub mod initrd;
pub mod kernel;
pub mod modules;
pub mod osrelease;
pub mod pe;
pub mod uki;
pub mod version;
