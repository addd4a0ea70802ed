//! File systems: Tree → bytes and bytes → Tree, one module per format.
//!
//! What it is: native writers and readers for the formats where that is small or
//! where speed asks for it, without root, mounts or tools, deterministic: the same
//! Tree and options give the same bytes, whatever the host, user and threads. What
//! it is not: partition tables (`disk`), policy about which file system goes where.
//!
//! Data flow: a Tree and options → a plan (pure) → pieces with fixed places →
//! [`output`](crate::output) writes them in parallel. Readers take a range of a
//! file and give a Tree whose contents are ranges of that file. [`probe`] says what a
//! range has, [`grow`] has the kernel grow what is mounted.

mod bytes;
pub mod erofs;
mod error;
pub mod ext4;
pub mod fat;
pub mod grow;
mod image;
mod lz4;
mod output;
pub mod probe;
pub mod squashfs;
pub mod swap;
pub mod tools;

pub use error::FsError;
pub use image::ReadLimits;

/// Entry points for fuzzing: one for each decoder. They must not panic.
#[doc(hidden)]
pub mod fuzzing;
