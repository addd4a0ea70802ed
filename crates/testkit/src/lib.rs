//! What tests share: the oracles, and comparisons that say what differs.
//!
//! Not shipped. An oracle is the original tool from Debian, in a root file system
//! that `cargo xtask oracles` builds (with mkgold itself, so that it needs nothing
//! on the host). A test that needs one **fails** without it.

pub mod archive;
pub mod compare;
pub mod explained;
pub mod mkosi;
pub mod openpgp;
pub mod oracle;
pub mod privilege;
pub mod server;

use std::os::unix::process::CommandExt as _;

/// The command heeds signals that whoever runs the tests ignores: shells have their
/// background jobs ignore SIGINT.
pub fn heed_signals(command: &mut std::process::Command) {
    let heed = || {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            // SAFETY: numbers only.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(heed) };
}
