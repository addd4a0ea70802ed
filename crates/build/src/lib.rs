//! The build crate: see its module head once written.
