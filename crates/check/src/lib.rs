//! The check crate: see its module head once written.
