//! The vm crate: see its module head once written.
