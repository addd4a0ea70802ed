//! The os crate: see its module head once written.
