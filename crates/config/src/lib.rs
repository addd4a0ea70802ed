//! The config crate: see its module head once written.
