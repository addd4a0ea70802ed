//! Whether KVM runs guests here. That `/dev/kvm` can be opened does not say so: inside
//! of some virtual machines a guest is made and then never runs.
//!
//! What it is: the smallest machine, a firmware of nine bytes that ends QEMU with a
//! status of its own. Whoever starts it gives it a few seconds.

use std::ffi::OsString;
use std::path::Path;

use crate::Accelerator;

/// The exit status of a QEMU whose guest has run: the device makes `2 * 0x10 + 1` of
/// what is written to it.
pub const RAN: i32 = 33;
/// The smallest firmware that QEMU takes.
const SIZE: usize = 64 << 10;
/// Where a processor begins: sixteen bytes before the end of the firmware.
const RESET: usize = SIZE - 16;
/// `mov dx, 0x501; mov al, 0x10; out dx, al; hlt; jmp` back to `hlt`.
const CODE: [u8; 9] = [0xba, 0x01, 0x05, 0xb0, 0x10, 0xee, 0xf4, 0xeb, 0xfd];

/// The firmware.
pub fn firmware() -> Vec<u8> {
    let mut bytes = vec![0xf4; SIZE];
    bytes[RESET..RESET + CODE.len()].copy_from_slice(&CODE);
    bytes
}

/// QEMU's arguments for the machine with this firmware.
pub fn arguments(accelerator: Accelerator, firmware: &Path) -> Vec<OsString> {
    let accelerator = match accelerator {
        Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
        Accelerator::Tcg => ["-accel", "tcg", "-cpu", "max"],
    };
    let words = ["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-m"];
    let mut args: Vec<OsString> = words.into_iter().chain(["16M"]).map(Into::into).collect();
    args.extend(accelerator.map(OsString::from));
    args.extend(["-device".into(), "isa-debug-exit,iobase=0x501,iosize=0x01".into()]);
    args.extend(["-bios".into(), firmware.into()]);
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_at_the_reset_vector() {
        let bytes = firmware();
        assert_eq!((bytes.len(), bytes[0xfff0], bytes[0xfff8]), (65536, 0xba, 0xfd));
    }
}
