//! The boot crate: see its module head once written.
