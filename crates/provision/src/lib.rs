//! Acting on a root file system that is already there, before it boots: what
//! systemd-firstboot, systemd-sysusers, systemd-tmpfiles, `systemctl preset-all` and
//! systemd-machine-id-setup do with `--root=`.
//!
//! Each tool is an edit of a [`tree::Tree`]: [`firstboot`] here, the others in `os`. What
//! it changed is a [`Plan`], which can be shown; a [`Root`] carries it out:
//!
//! ```text
//! directory ──Root::tree──▶ Tree ──edit──▶ Tree' ──Plan::between──▶ Plan ──Root::apply──▶ directory
//! ```
//!
//! What it is not: the tools' command lines (see `mkgold`), and file systems in images.
//! Nothing here runs a program or reads the host.

mod change;
pub mod firstboot;
mod identity;
mod root;
pub mod skeleton;

pub use change::{Change, Made, Plan};
pub use identity::{keep_old_accounts, new_machine_id, write_machine_id};
pub use root::{Root, RootError};
