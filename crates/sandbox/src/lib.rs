//! The sandbox crate: see its module head once written.
