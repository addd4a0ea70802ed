//! Everything between a configured root Tree and a disk that boots.

pub mod compress;
pub mod cpio;
mod glob;
pub mod initrd;
pub mod kernel;
pub mod modules;
pub mod version;
