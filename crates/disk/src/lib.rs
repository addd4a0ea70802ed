//! The disk crate: see its module head once written.
