//! The testkit crate: see its module head once written.
