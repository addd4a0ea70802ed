//! The pipeline: from a configuration to outputs. Start with [`pipeline`].
//!
//! What it is: the order of the steps, what is cached under which key, which run at
//! the same time, what the outputs are called. What it is not: a format or a rule;
//! those are in the crates it calls.
//!
//! Data flow: `Config` → [`lock`] (through [`resolve`], [`packages`]) → [`sets`]
//! (through [`install`], [`layer`]) → [`build_scripts`], [`golden`] (through [`scripts`],
//! [`overlay`], [`finish`], [`refresh`], [`removal`])
//! → [`boot_files`] → [`image`] → [`outputs`].

pub mod archive;
pub mod base;
pub mod boot_files;
pub mod build_scripts;
pub mod compare;
pub mod compress;
pub mod contents;
pub mod context;
pub mod error;
pub mod filler;
pub mod finish;
pub mod golden;
pub mod image;
pub mod initrd;
pub mod install;
pub mod kernels;
pub mod layer;
pub mod lock;
pub mod machine;
pub mod manifest;
pub mod outputs;
pub mod overlay;
pub mod packages;
pub mod pipeline;
pub mod provenance;
pub mod refresh;
pub mod removal;
pub mod resolve;
pub mod scripts;
pub mod sets;
pub mod shell;
pub mod sources;
#[cfg(test)]
mod testing;
pub mod tools;
pub mod unchanged;
pub mod upkeep;
pub mod workdir;

pub use apt::fetch::{FetchOptions, Proxies};
pub use error::BuildError;
pub use pipeline::{Built, Options, build};
