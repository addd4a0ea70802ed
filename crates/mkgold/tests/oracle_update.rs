//! A kernel update in an image that has booted once (golden.md B3): the image's own
//! kernel-install finds the token that the image was built with, so that there is one
//! set of boot entries, and none that is named after the machine.
//!
//! Nothing boots here: the image's tree and its ESP are laid out as a machine has them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::oracle;

/// What the first boot commits.
const MACHINE: &str = "0123456789abcdef0123456789abcdef";
/// The kernel that comes with the update.
const NEXT: &str = "9.9.9+next";
/// What `ImageId=` of examples/server says.
const TOKEN: &str = "server";

/// A copy of the example, in which the lock may be written.
fn project(work: &Path) -> PathBuf {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/server");
    let copy = work.join("project");
    let status = Command::new("cp").arg("-r").arg(example).arg(&copy).status();
    assert!(status.unwrap().success(), "cp of the example");
    copy
}

fn build(project: &Path, format: &str, output: &Path) -> PathBuf {
    let program = std::env::var_os("MKGOLD_BINARY");
    let program = program.map_or_else(|| env!("CARGO_BIN_EXE_mkgold").into(), PathBuf::from);
    let mut command = Command::new(program);
    command.arg("-C").arg(project);
    command.arg("--cache-directory").arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    command.arg("--output-directory").arg(output).args(["--format", format, "--force", "build"]);
    let output = output.join(if format == "disk" { "server_1.raw" } else { "server_1" });
    assert!(command.status().unwrap().success() && output.exists(), "{command:?}");
    output
}

/// Every file of the ESP, its path relative to it.
fn files(esp: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![esp.to_owned()];
    while let Some(dir) = dirs.pop() {
        for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => dirs.push(path),
                false => drop(found.insert(path.strip_prefix(esp).unwrap().display().to_string())),
            }
        }
    }
    found
}

/// What the postinst of the package linux-image-NEXT runs of systemd-boot's.
const UPDATE: &str = "set -e
cd /usr/lib/modules; test -e $NEXT || cp -a [0-9]* $NEXT
echo $MACHINE > /etc/machine-id
/etc/kernel/postinst.d/zz-systemd-boot $NEXT /usr/lib/modules/$NEXT/vmlinuz
bootctl list --json=short
";

/// Runs a script in the tree, the ESP where the variable says; what it prints.
fn in_tree(tree: &Path, esp: &Path, script: &str) -> String {
    let mut command = oracle::command_in(tree, "env", &[esp]);
    command.args(["SYSTEMD_RELAX_ESP_CHECKS=1", &format!("SYSTEMD_ESP_PATH={}", esp.display())]);
    command.args([&format!("NEXT={NEXT}"), &format!("MACHINE={MACHINE}"), "/bin/sh", "-c", script]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
#[ignore = "oracle"]
fn a_kernel_update_finds_the_token_of_the_image() {
    let work = tempfile::tempdir().unwrap();
    let project = project(work.path());
    let disk = build(&project, "disk", &work.path().join("disk"));
    let tree = build(&project, "directory", &work.path().join("tree"));
    let esp = work.path().join("esp");
    std::fs::create_dir(&esp).unwrap();
    // The ESP is the first partition, which lies at 1 MiB.
    let image = format!("{}@@1048576", disk.display());
    let to = format!("{}/", esp.display());
    oracle::stdout("mcopy", ["-s", "-i", &image, "::/", &to], &[work.path()]);
    let before = files(&esp);
    let built: Vec<_> = before.iter().filter(|path| path.starts_with("EFI/Linux/")).collect();
    assert!(matches!(built[..], [uki] if uki.starts_with("EFI/Linux/server-")), "{before:?}");

    let said = in_tree(&tree, &esp, UPDATE);
    let after = files(&esp);
    let new: Vec<_> = after.difference(&before).cloned().collect();
    let entry = format!("loader/entries/{TOKEN}-{NEXT}.conf");
    assert!(new.contains(&entry) && new.contains(&format!("{TOKEN}/{NEXT}/linux")), "{new:?}");
    let strange = |path: &&String| {
        path.contains(MACHINE)
            || !(**path == entry || path.starts_with(&format!("{TOKEN}/{NEXT}/")))
    };
    assert_eq!(new.iter().find(strange), None);
    assert!(before.is_subset(&after), "the image's own entry stays");
    let text = std::fs::read_to_string(esp.join(&entry)).unwrap();
    assert!(!text.contains(MACHINE), "{text}");
    // The boot loader sees two versions of one system.
    let listed = |name: &str| said.matches(&format!("\"{name}\"")).count();
    assert_eq!(listed("sortKey"), 2, "{said}");
    assert_eq!(said.matches("\"sortKey\":\"server\"").count(), 2, "{said}");

    // The control: without the token the same update makes entries of this machine.
    let control = format!("rm /etc/kernel/entry-token\n{UPDATE}");
    in_tree(&tree, &esp, &control);
    let entry = format!("loader/entries/{MACHINE}-{NEXT}.conf");
    assert!(files(&esp).contains(&entry), "{:?}", files(&esp));
}
