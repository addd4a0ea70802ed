//! The dpkg crate: see its module head once written.
