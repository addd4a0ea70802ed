//! The seccomp filter that every command runs under, and the channel on which the
//! kernel asks the supervisor.
//!
//! The filter does four things: makes `sync` and its family succeed at once, refuses
//! what would go around the filter (`io_uring`, `openat2` where opens are watched, the
//! x32 and 16-bit interfaces where owners are), refuses typing into the caller's
//! terminal, and hands the calls that the ledger answers to the supervisor.
//!
//! Split: [`abi`] says which number is which call, [`filter`] turns a wish list into
//! BPF, [`notify`] is the ioctl interface (`seccomp_unotify(2)`).

pub(crate) mod abi;
pub(crate) mod filter;
pub(crate) mod notify;

pub(crate) use filter::{Watch, program};
