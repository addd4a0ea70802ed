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
