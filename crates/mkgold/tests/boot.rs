//! Real images, built by the real binary, booted to the end of their first boot.
//!
//! Needs the oracle root (QEMU, OVMF) and a Debian mirror: `cargo xtask boot`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::oracle;
use vm::{Accelerator, Boot, Console, Firmware, Machine};

/// How long a boot under QEMU's translator may take on a loaded machine.
const BOOT: Duration = Duration::from_secs(600);
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

/// Builds an example into `output`; the cache is shared by all tests.
fn build(name: &str, output: &Path, more: &[&str]) -> PathBuf {
    build_project(&example(name), output, more)
}

fn build_project(project: &Path, output: &Path, more: &[&str]) -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let mut command = Command::new(mkgold());
    command.arg("-C").arg(project).arg("--output-directory").arg(output);
    command.arg("--cache-directory").arg(cache).args(more).args(["--force", "build"]);
    let status = command.status().expect("mkgold runs");
    assert!(status.success(), "{command:?}: {status}");
    let image = |e: &std::fs::DirEntry| e.path().extension().is_some_and(|x| x == "raw");
    let mut found = std::fs::read_dir(output).unwrap().map(Result::unwrap).filter(image);
    found.next().expect("a disk image").path()
}

/// Every template of `mkgold init`, in a project of its own, as a new user builds it.
#[test]
#[ignore = "boot: builds real images"]
fn every_template_builds() {
    for template in ["minimal", "server", "uki-only"] {
        let project = tempfile::tempdir().unwrap();
        let mut init = Command::new(mkgold());
        let status = init.arg("-C").arg(project.path()).args(["init", template]).status();
        assert!(status.expect("mkgold runs").success(), "{template}");
        let disk = build_project(project.path(), &project.path().join("out"), &[]);
        assert!(std::fs::metadata(disk).unwrap().len() > 100 << 20, "{template}");
    }
}

/// Boots a disk through UEFI firmware.
fn boot(dir: &Path, disk: &Path) -> Console {
    let variables = dir.join("variables.fd");
    if !variables.exists() {
        std::fs::copy(oracle::root().join("usr/share/OVMF/OVMF_VARS_4M.fd"), &variables).unwrap();
    }
    let code = "/usr/share/OVMF/OVMF_CODE_4M.fd".into();
    let firmware = Boot::Uefi(Firmware { code, variables });
    let machine = Machine::new(Accelerator::Tcg, firmware, disk);
    let mut command = oracle::command("qemu-system-x86_64", &[dir]);
    command.args(machine.arguments()).stdin(Stdio::piped()).stdout(Stdio::piped());
    Console::new(command.spawn().expect("QEMU starts")).expect("QEMU has pipes")
}

/// Logs in at the console; what the kernel says is kept from it then, for it would stand
/// amid what commands print. It may stand amid the end of this command as well.
fn login(console: &mut Console) {
    console.login(PASSWORD, BOOT).unwrap();
    let mut quiet = || console.status("dmesg --console-level 1", COMMAND / 4);
    let ended = (0..4).map(|_| quiet()).find(Result::is_ok);
    assert_eq!(ended.expect("the console answers").unwrap().0, 0);
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

fn grow(disk: &Path) {
    let file = std::fs::File::options().write(true).open(disk).unwrap();
    file.set_len(4 << 30).unwrap();
}

/// Boots, logs in and looks whether all is well, and whether it was a first boot.
fn boot_well(dir: &Path, disk: &Path, is_first: bool) -> Console {
    let mut console = boot(dir, disk);
    login(&mut console);
    check_healthy(&mut console);
    let first = console.status("systemctl is-active first-boot-complete.target", COMMAND).unwrap();
    let expected = if is_first { "active" } else { "inactive" };
    assert_eq!((first.0 == 0, first.1.trim()), (is_first, expected));
    console
}

/// Boots a copy of the image on a larger disk, for the first time and perhaps `again`;
/// returns its identity.
fn boot_clone(dir: &Path, image: &Path, again: bool) -> (String, String) {
    std::fs::create_dir(dir).unwrap();
    let disk = dir.join("disk.raw");
    std::fs::copy(image, &disk).unwrap();
    grow(&disk);
    let mut console = boot_well(dir, &disk, true);
    let size = console.run("df --output=size -B1 / | tail -n 1", COMMAND).unwrap();
    assert!(size.trim().parse::<u64>().unwrap() > 3 << 30, "the root grew: {size}");
    let made = identity(&mut console);
    power_off(console);
    // The second boot is not a first boot, and the identity stays.
    if again {
        let mut console = boot_well(dir, &disk, false);
        assert_eq!(identity(&mut console), made);
        power_off(console);
    }
    made
}

#[test]
#[ignore = "boot: builds and boots real images"]
fn two_clones_of_a_server_boot_grow_and_differ() {
    let work = tempfile::tempdir().unwrap();
    let password = format!("--root-password={PASSWORD}");
    let image = build("server", &work.path().join("out"), &[&password]);
    // At the same time: each is one thread of the translator.
    let identities: Vec<(String, String)> = std::thread::scope(|scope| {
        let clones = [("one", false), ("two", true)].map(|(name, again)| {
            let dir = work.path().join(name);
            let image = &image;
            scope.spawn(move || boot_clone(&dir, image, again))
        });
        clones.into_iter().map(|clone| clone.join().unwrap()).collect()
    });
    assert_ne!(identities[0].0, identities[1].0, "machine IDs");
    assert_ne!(identities[0].1, identities[1].1, "host keys");
    assert_eq!(identities[0].0.len(), 32, "the machine ID is committed");
}

/// F3: the machine ID is written when all that a first boot makes is on the disk.
#[test]
#[ignore = "boot: builds and boots real images"]
fn a_power_cut_leaves_a_first_boot_until_it_is_complete_and_none_after() {
    let work = tempfile::tempdir().unwrap();
    let password = format!("--root-password={PASSWORD}");
    let disk = build("server", &work.path().join("out"), &[&password]);
    grow(&disk);
    let cut_at = |words: &[&str]| {
        let mut console = boot(work.path(), &disk);
        let said = |line: &str| words.iter().all(|word| line.contains(word));
        while !said(&console.expect("\n", BOOT).unwrap()) {}
        console.kill().unwrap();
    };
    cut_at(&["Reached", "sysinit.target"]);
    // Only a first boot has this unit; it comes after the target. As audit has it: systemd
    // shortens the name on a narrow console.
    cut_at(&["unit=systemd-machine-id-commit", "res=success"]);
    let mut console = boot_well(work.path(), &disk, false);
    assert_eq!(identity(&mut console).0.len(), 32);
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let key = format!("/etc/ssh/ssh_host_{kind}_key");
        let read = format!("ssh-keygen -y -f {key} | cut -d ' ' -f 2 | grep -F -f - {key}.pub");
        console.run(&read, COMMAND).unwrap();
    }
    power_off(console);
}

#[test]
#[ignore = "boot: builds and boots real images"]
fn a_bookworm_uki_boots_without_a_boot_loader() {
    let work = tempfile::tempdir().unwrap();
    let password = format!("--root-password={PASSWORD}");
    let disk = build("uki-only", &work.path().join("out"), &[&password]);
    grow(&disk);
    let mut console = boot(&work.path().join("out"), &disk);
    login(&mut console);
    check_healthy(&mut console);
    let release =
        console.run(". /etc/os-release; echo $ID $VERSION_ID $IMAGE_ID", COMMAND).unwrap();
    assert_eq!(release.trim(), "debian 12 uki");
    power_off(console);
}

/// What the gate lets through and what `check` reads back from the disk are one.
#[test]
#[ignore = "boot: builds real images"]
fn images_check_clean_without_ignoring_a_rule() {
    for name in ["server", "uki-only"] {
        let work = tempfile::tempdir().unwrap();
        let image = build(name, &work.path().join("out"), &[]);
        let output = Command::new(mkgold()).arg("check").arg(&image).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{name}: {text}");
        assert!(
            text.contains(" 0 errors, 0 warnings, ") && text.contains(" 0 could not"),
            "{text}"
        );
    }
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
    let hash = |path: &PathBuf| {
        let output = Command::new("sha256sum").arg(path).output().unwrap();
        String::from_utf8(output.stdout).unwrap()[..64].to_owned()
    };
    assert_eq!(hash(&images[0]), hash(&images[1]));
}
