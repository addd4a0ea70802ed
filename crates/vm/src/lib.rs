//! Virtual machines: which QEMU command line, and a console to talk to.
//!
//! [`Machine`] is a description, [`Machine::arguments`] makes QEMU's arguments of
//! it (pure), [`overlay`] keeps its writes away from the image, [`probe`] finds out
//! whether KVM runs guests, [`Console`] drives a running QEMU through its serial port.
//!
//! What it is not: where QEMU comes from. The caller starts the process (from a
//! tools tree in the sandbox, or from an oracle root in tests) and hands over
//! its pipes.

mod console;
mod machine;
pub mod overlay;
pub mod probe;

pub use console::{Console, ConsoleError};
pub use machine::{Accelerator, Boot, Disk, DiskFormat, Firmware, Machine, Serial};
