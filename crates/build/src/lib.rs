//! The pipeline: from a configuration to outputs. Start with [`pipeline`].
//!
//! What it is: the order of the steps, what is cached under which key, which run at
//! the same time, what the outputs are called. What it is not: a format or a rule;
//! those are in the crates it calls.
//!
//! Data flow: `Config` → [`lock`] (through [`resolve`], [`packages`]) → [`sets`]
//! (through [`install`], [`layer`]) → [`finish`]
//! → [`boot_files`] → [`image`] → [`outputs`].

pub mod boot_files;
pub mod context;
pub mod error;
pub mod finish;
pub mod image;
pub mod initrd;
pub mod install;
pub mod kernels;
pub mod layer;
pub mod lock;
pub mod manifest;
pub mod outputs;
pub mod overlay;
pub mod packages;
pub mod pipeline;
pub mod resolve;
pub mod scripts;
pub mod sets;
pub mod unchanged;
pub mod workdir;

pub use apt::fetch::{FetchOptions, Proxies};
pub use error::BuildError;
pub use pipeline::{Built, Options, build};
