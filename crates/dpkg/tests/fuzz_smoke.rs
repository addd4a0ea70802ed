//! The fuzz entry points with random and with damaged input: no panic.

use dpkg::fuzzing::{fuzz_ar, fuzz_control, fuzz_deb, fuzz_object, fuzz_tar};
use proptest::prelude::*;

/// A small package, made by hand: two empty tars.
fn package() -> Vec<u8> {
    let control = b"Package: a\nVersion: 1\nArchitecture: all\nDepends: b (>= 1) | c, d\n";
    let mut block = [0u8; 512];
    block[..9].copy_from_slice(b"./control");
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(format!("{:011o}", control.len()).as_bytes());
    block[156] = b'0';
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut tar = block.to_vec();
    tar.extend_from_slice(control);
    tar.resize(2048, 0);
    let mut out = b"!<arch>\n".to_vec();
    let members: [(&str, &[u8]); 3] =
        [("debian-binary", b"2.0\n"), ("control.tar", &tar), ("data.tar", &tar)];
    for (name, data) in members {
        out.extend_from_slice(format!("{name:<48}{:<10}`\n", data.len()).as_bytes());
        out.extend_from_slice(data);
    }
    out
}

fn all(data: &[u8]) {
    fuzz_ar(data);
    fuzz_tar(data);
    fuzz_deb(data);
    fuzz_control(data);
    fuzz_object(data);
}

proptest! {
    #[test]
    fn any_bytes(data: Vec<u8>) {
        all(&data);
    }

    #[test]
    fn damaged_packages(at in 0usize..4500, byte: u8, cut in 0usize..4500) {
        let mut data = package();
        let at = at % data.len();
        data[at] = byte;
        all(&data);
        all(&data[..cut.min(data.len())]);
        all(&data[130..]);
    }

    #[test]
    fn control_text(text in "(Package|Version|Depends|Architecture|x): [a-z0-9:~ (<=>)|,.\n-]{0,80}\n") {
        fuzz_control(format!("Package: a\nVersion: 0:1\nArchitecture: all\n{text}").as_bytes());
    }
}
