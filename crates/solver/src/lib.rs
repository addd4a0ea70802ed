//! The solver crate: see its module head once written.
