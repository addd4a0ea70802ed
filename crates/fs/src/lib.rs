//! The fs crate: see its module head once written.
