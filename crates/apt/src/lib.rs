//! The apt crate: see its module head once written.
