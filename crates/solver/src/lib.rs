//! Which packages to install: apt's choice, without apt.
//!
//! [`Universe`] is what could be installed, [`Installed`] what is there,
//! [`Request`] what is asked for; [`solve`] gives a [`Solution`] or says why there
//! is none. Pure: no file, clock or environment; the same input gives the same answer.
//!
//! The walk is that of apt-get's own resolver (2.6 to 3.0, not the new “3.0”
//! solver): greedy, depth first, in the order of the dependency fields. Its rules
//! were found by running apt-get with its debug options on archives, real and made
//! up; `tests/long_apt.rs` compares whole package sets.
//!
//! What is not here: reading indices (`debian`), pins from preferences (`apt` gives
//! the priorities), downloading.
//!
//! Data flow: records → [`universe`] → [`marks`] (state of each package) ⇄
//! [`install`] (walk) → `explain` (check) → `sweep` → [`Solution`].

mod deps;
mod explain;
mod install;
mod marks;
mod mention;
mod providers;
mod release;
mod resolve;
mod scores;
mod solution;
mod solve;
mod spec;
mod sweep;
mod trace;
mod universe;

pub use solution::{
    Chosen, Installed, InstalledPackage, Kind, Reason, Request, Solution, Unsolvable,
};
pub use solve::{solve, solve_traced};
#[doc(hidden)]
pub use trace::{LookedAt, Trace};
pub use universe::{Builder, SourceInfo, Universe};
