//! The store crate: see its module head once written.
