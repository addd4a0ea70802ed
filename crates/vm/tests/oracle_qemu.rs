//! The probe and the overlay against QEMU itself.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use testkit::oracle;
use vm::{Accelerator, overlay, probe};

#[test]
#[ignore = "oracle"]
fn a_guest_that_runs_ends_qemu_with_its_status() {
    let dir = tempfile::tempdir().unwrap();
    let firmware = dir.path().join("probe.bin");
    std::fs::write(&firmware, probe::firmware()).unwrap();
    let args = probe::arguments(Accelerator::Tcg, &firmware);
    let output = oracle::output("qemu-system-x86_64", args, &[dir.path()]);
    assert_eq!(output.status.code(), Some(probe::RAN), "{output:?}");
}

/// Commands for QEMU's monitor on a disk `d`; what it says.
fn monitor(dir: &Path, drive: &str, commands: &[&str]) -> String {
    let mut command = oracle::command("qemu-system-x86_64", &[dir]);
    command.args(["-M", "none", "-nodefaults", "-display", "none", "-monitor", "stdio"]);
    command.args(["-drive", drive]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for line in commands.iter().chain(&["quit"]) {
        writeln!(stdin, "{line}").unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "oracle"]
fn qemu_reads_an_overlay_as_the_image_and_zeroes() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("image"), vec![7; 3_000_320]).unwrap();
    std::fs::write(at("overlay"), overlay::qcow2(&at("image"), 1 << 30).unwrap()).unwrap();
    let drive = format!("id=d,if=none,format=qcow2,file={}", at("overlay").display());
    let said = monitor(
        dir.path(),
        &drive,
        &[
            "qemu-io d \"read -P 7 0 3000320\"",
            "qemu-io d \"read -P 0 3000320 512\"",
            "qemu-io d \"read -P 0 1073741312 512\"",
            "qemu-io d \"write -P 9 1048576 65536\"",
            "qemu-io d \"read -P 9 1048576 65536\"",
            "qemu-io d \"read -P 7 1114112 512\"",
            "qemu-io d length",
        ],
    );
    assert_eq!(said.matches("read ").count() - said.matches("\"read ").count(), 5, "{said}");
    assert!(!said.contains("verification failed") && !said.contains("rror"), "{said}");
    assert!(said.contains("1 GiB"), "{said}");
    let image = std::fs::read(at("image")).unwrap();
    assert!(image.len() == 3_000_320 && image.iter().all(|b| *b == 7), "the image is untouched");
}
