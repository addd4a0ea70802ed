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

pub mod cache;
mod date;
pub mod fetch;
pub mod openpgp;
pub mod release;
pub mod sources;
pub mod uri;
