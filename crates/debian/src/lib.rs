//! The debian crate: see its module head once written.
