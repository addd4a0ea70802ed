//! Debian archives, natively: sources, signed Release files, indices, pins, fetching.
//!
//! What is here: everything between "which archive" and "these `.deb` files are in
//! the cache". No program of the host is run and no mirror's name is built in.
//!
//! What is not here: the text formats of packages (`debian`), choosing packages
//! (`solver`), unpacking them (`dpkg`).
//!
//! Data flow: [`sources`] (from `/etc/apt`-like trees or made for a release) →
//! [`archive::Archive::refresh`] ([`fetch`] → [`openpgp`] → [`release`] → [`index`])
//! → `LoadedSource`s with their records, which [`pins`] gives priorities → the solver
//! → [`archive::Archive::fetch_packages`] → paths in the [`cache`].

pub mod archive;
pub mod cache;
mod date;
pub mod fetch;
pub mod index;
pub mod keys;
pub mod local;
pub mod openpgp;
mod pattern;
pub mod pins;
pub mod records;
pub mod release;
pub mod sources;
pub mod uri;

pub use archive::{
    Archive, ArchiveError, IndexState, LoadedIndex, LoadedSource, Mode, PackageFile, Settings,
};
pub use cache::Cache;
pub use fetch::{FetchError, FetchOptions, Proxies};
pub use keys::KeyRoots;
pub use pins::{Origin, Pins};
pub use sources::{DebianOptions, Mirrors, Source, SourceList, debian_sources, default_mirror};
pub use uri::Uri;

#[doc(hidden)]
pub mod fuzzing;
