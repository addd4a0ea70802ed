//! Real images, built by the real binary and booted by it (`mkgold vm`) to the end of
//! their first boot.
//!
//! Needs a Debian mirror, from which also QEMU and the firmware come: `cargo xtask boot`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use vm::Console;

/// How long a boot under QEMU's translator may take on a loaded machine.
const BOOT: Duration = Duration::from_secs(400);
/// How long a command in the guest may take.
const COMMAND: Duration = Duration::from_secs(120);
const PASSWORD: &str = "golden";

fn mkgold() -> PathBuf {
    std::env::var_os("MKGOLD_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_mkgold").into(), Into::into)
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// mkgold on an example with this output directory; the cache is shared by all tests.
fn on(name: &str, output: &Path, more: &[&str]) -> Command {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let mut command = Command::new(mkgold());
    command.arg("-C").arg(example(name)).arg("--output-directory").arg(output);
    command.arg("--cache-directory").arg(cache).args(more);
    command
}

fn built(output: &Path) -> PathBuf {
    let image = |e: &std::fs::DirEntry| e.path().extension().is_some_and(|x| x == "raw");
    let mut found = std::fs::read_dir(output).unwrap().map(Result::unwrap).filter(image);
    found.next().expect("a disk image").path()
}

/// Builds an example into `output`.
fn build(name: &str, output: &Path, more: &[&str]) -> PathBuf {
    let mut command = on(name, output, more);
    let status = command.args(["--force", "build"]).status().expect("mkgold runs");
    assert!(status.success(), "{command:?}: {status}");
    built(output)
}

/// Boots the image in `output` on a disk of 4 GiB.
fn boot(name: &str, output: &Path, more: &[&str]) -> Console {
    let mut command = on(name, output, more);
    command.args(["--runtime-size=4G", "vm"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    Console::new(command.spawn().expect("mkgold runs")).expect("mkgold has pipes")
}

/// The identity of a machine: machine ID and host key.
fn identity(console: &mut Console) -> (String, String) {
    let id = console.run("cat /etc/machine-id", COMMAND).unwrap();
    let key = console.run("cat /etc/ssh/ssh_host_ed25519_key.pub", COMMAND).unwrap();
    (id.trim().to_owned(), key.trim().to_owned())
}

/// What must hold on every finished boot.
fn check_healthy(console: &mut Console) {
    let state = console.status("systemctl is-system-running --wait", BOOT).unwrap();
    let failed = console.run("systemctl --failed --plain --no-legend", COMMAND).unwrap();
    assert_eq!(state.1.trim(), "running", "failed units: {failed}");
    assert_eq!(console.run("dpkg --audit", COMMAND).unwrap(), "");
}

fn power_off(mut console: Console) {
    console.send("systemctl poweroff\n").unwrap();
    console.wait_end(BOOT).unwrap();
}

#[test]
#[ignore = "boot: builds and boots real images"]
fn two_clones_of_a_server_boot_grow_and_differ() {
    let work = tempfile::tempdir().unwrap();
    let password = format!("--root-password={PASSWORD}");
    let image = build("server", &work.path().join("out"), &[&password]);
    let mut identities = Vec::new();
    for name in ["one", "two"] {
        let dir = work.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::copy(&image, dir.join(image.file_name().unwrap())).unwrap();
        let mut console = boot("server", &dir, &["--ephemeral=no"]);
        console.login(PASSWORD, BOOT).unwrap();
        check_healthy(&mut console);
        let first = console.run("systemctl is-active first-boot-complete.target", COMMAND);
        assert_eq!(first.unwrap().trim(), "active");
        let size = console.run("df --output=size -B1 / | tail -n 1", COMMAND).unwrap();
        assert!(size.trim().parse::<u64>().unwrap() > 3 << 30, "the root grew: {size}");
        identities.push(identity(&mut console));
        power_off(console);
        // The second boot is not a first boot, and the identity stays.
        if name == "two" {
            let mut console = boot("server", &dir, &["--ephemeral=no"]);
            console.login(PASSWORD, BOOT).unwrap();
            check_healthy(&mut console);
            let first = console.status("systemctl is-active first-boot-complete.target", COMMAND);
            assert_eq!(first.unwrap().1.trim(), "inactive");
            assert_eq!(identity(&mut console), identities[1]);
            power_off(console);
        }
    }
    assert_ne!(identities[0].0, identities[1].0, "machine IDs");
    assert_ne!(identities[0].1, identities[1].1, "host keys");
    assert_eq!(identities[0].0.len(), 32, "the machine ID is committed");
}

#[test]
#[ignore = "boot: builds and boots real images"]
fn a_bookworm_uki_boots_without_a_boot_loader_and_stays_golden() {
    let work = tempfile::tempdir().unwrap();
    let output = work.path().join("out");
    let password = format!("--root-password={PASSWORD}");
    let image = build("uki-only", &output, &[&password]);
    let before = sha256(&image);
    let credential = ["--credential=golden.test=two words", "--kernel-command-line-extra=golden=1"];
    let mut console = boot("uki-only", &output, &credential);
    console.login(PASSWORD, BOOT).unwrap();
    check_healthy(&mut console);
    let release =
        console.run(". /etc/os-release; echo $ID $VERSION_ID $IMAGE_ID", COMMAND).unwrap();
    assert_eq!(release.trim(), "debian 12 uki");
    let size = console.run("cat /sys/class/block/vda/size", COMMAND).unwrap();
    assert_eq!(size.trim(), "8388608", "the disk is 4 GiB");
    let command_line = console.run("cat /proc/cmdline", COMMAND).unwrap();
    assert!(command_line.contains("golden=1"), "{command_line}");
    let system = "systemd-creds --system --no-legend cat golden.test";
    assert_eq!(console.run(system, COMMAND).unwrap().trim(), "two words");
    power_off(console);
    assert_eq!(sha256(&image), before, "a boot does not change the image");
}

#[test]
#[ignore = "boot: runs QEMU"]
fn the_exit_status_of_qemu_is_passed_on() {
    let work = tempfile::tempdir().unwrap();
    let missing = on("server", work.path(), &["vm"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    let text = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(text.contains("run `mkgold build` first"), "{text}");
    std::fs::write(work.path().join("server_1.raw"), vec![0; 4096]).unwrap();
    let project = work.path().join("project");
    std::fs::create_dir(&project).unwrap();
    let conf =
        "[Output]\nImageId=server\nImageVersion=1\n[Runtime]\nKVM=no\nQemuArgs=-no-such-option\n";
    std::fs::write(project.join("mkosi.conf"), conf).unwrap();
    let refused = on("server", work.path(), &["-C"]).arg(&project).arg("vm").output().unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("no-such-option: invalid option"), "{text}");
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

#[test]
#[ignore = "boot: builds real images"]
fn equal_inputs_give_equal_bytes() {
    let work = tempfile::tempdir().unwrap();
    let password = format!("--root-password={PASSWORD}");
    let mut images = Vec::new();
    // Another directory, another number of threads, and no cached tree.
    for (name, threads) in [("a", "1"), ("b/deeper", "2")] {
        let more = [&password, "--threads", threads, "--force"];
        images.push(build("server", &work.path().join(name), &more));
    }
    assert_eq!(sha256(&images[0]), sha256(&images[1]));
}
