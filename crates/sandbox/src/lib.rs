//! Runs commands on a [`Tree`](tree::Tree), with the same result whatever privileges
//! mkgold has.
//!
//! What it is: the one place that starts processes. [`enter`] finds out what the
//! process may do (real root, a user with many ids, a user with one, root in a locked
//! container); [`Workspace`] lays a Tree out in a directory and reads it back;
//! [`Command`] says what to run and in what world; a supervisor answers for the kernel
//! where that has no owner, device or attribute to give (`ledger`).
//!
//! What it is not: it does not decide what to run, and it is not the boundary
//! between hostile tenants. Code from an image gets no network, no host path and no
//! capability over the host, but the kernel is shared.
//!
//! Data flow: Tree → directory → namespaces + seccomp → command → directory + ledger →
//! Tree. Needs Linux 5.14. Interfaces: `namespaces(7)`, `user_namespaces(7)`,
//! `seccomp_unotify(2)`, `mount_setattr(2)`, `capabilities(7)`.

mod command;
mod confined;
mod elf;
mod error;
mod guard;
mod idmap;
mod ledger;
mod memory;
mod privilege;
mod run;
mod seccomp;
mod sink;
mod supervisor;
mod sys;
mod workspace;

pub use command::{Bind, Command, Inject, Input, Root, Stdin, Stdout};
pub use error::{Error, Failure, Status};
pub use guard::{Ended, ends_with_us, guarded};
pub use memory::Memory;
pub use privilege::{Mode, Privilege, PrivilegeError, enter};
pub use run::Output;
pub use sink::{ContentSink, PackSink, data_ranges};
pub use workspace::{MAX_ENTRIES, Workspace, remove_dir, run_tool};

/// Entry points for fuzzing: every decoder of bytes that others wrote.
#[doc(hidden)]
pub mod fuzzing {
    /// The start of an executable.
    pub fn fuzz_elf(data: &[u8]) {
        let _ = crate::elf::parse(data);
    }

    /// An ACL in its extended attribute.
    pub fn fuzz_acl(data: &[u8]) {
        let _ = tree::acl::set_access(data);
        let _ = tree::acl::with_mode(data, 0o750);
        let _ = tree::acl::inherit(data, 0o640);
    }

    /// `/etc/subuid`.
    pub fn fuzz_subid(data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        let _ = crate::idmap::subordinate(&text, Some("user"), 1000, 65535);
    }

    /// A file capability.
    pub fn fuzz_capability(data: &[u8]) {
        let _ = crate::workspace::capability_without_namespace(data.to_vec());
    }
}
