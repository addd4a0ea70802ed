//! Everything between a configured root Tree and a disk that boots.

pub mod kernel;
pub mod modules;
pub mod version;
