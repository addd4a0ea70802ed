//! `mkgold repart`: one image from its making through its growth, as the command does it.

use std::path::Path;

use assert_cmd::Command;

fn output(dir: &Path, words: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("mkgold").unwrap();
    command.current_dir(dir).arg("repart").args(words).env_remove("SOURCE_DATE_EPOCH");
    let output = command.env("SYSTEMD_UTF8", "1").env("COLUMNS", "60").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
    std::fs::write(dir.join(name), text).unwrap();
}

const SEED: &str = "--seed=750b6cd5-c4ae-4012-a15e-7be3c29e6a47";

/// A project with definitions and a tree to copy from.
fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text =
        "[Partition]\nType=root\nFormat=ext4\nCopyFiles=/\nSizeMinBytes=40M\nSizeMaxBytes=40M\n";
    write(dir.path(), "defs/10-root.conf", text);
    write(dir.path(), "tree/etc/os-release", "ID=test\n");
    dir
}

/// A FAT32 with sectors of 4096 bytes would need 260 MiB.
const HOME: &str =
    "[Partition]\nType=home\nFormat=vfat\nFileSystemSectorSize=512\nSizeMinBytes=40M\n";

#[test]
fn an_image_is_made_grown_and_then_left_alone() {
    let dir = project();
    let dir = dir.path();
    let create =
        ["--empty=create", "--size=auto", "--definitions=defs", "--copy-source=tree", SEED];
    let (status, shown, messages) = output(dir, &[&create[..], &["a.raw"]].concat());
    assert_eq!(status, 0, "{messages}");
    assert!(shown.contains("└─ 10-root.conf") && shown.contains("60f33797-1d71"), "{shown}");
    let before = std::fs::read(dir.join("a.raw")).unwrap();
    let (status, _, messages) = output(dir, &[&create[..], &["a.raw"]].concat());
    assert_eq!(status, 1, "there is such a file: {messages}");
    assert!(std::fs::read(dir.join("a.raw")).unwrap() == before);

    write(dir, "defs/20-home.conf", HOME);
    write(dir, "defs/30-swap.conf", "[Partition]\nType=swap\nSizeMinBytes=1M\nSizeMaxBytes=1M\n");
    let grow = ["--dry-run=no", "--size=100M", "--definitions=defs", SEED, "--json=short", "a.raw"];
    let (status, shown, messages) = output(dir, &grow);
    assert_eq!(status, 0, "{messages}");
    let plan: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let activity: Vec<_> = plan.as_array().unwrap().iter().map(|p| p["activity"].clone()).collect();
    assert_eq!(activity, ["unchanged", "create", "create"], "{shown}");
    let after = std::fs::read(dir.join("a.raw")).unwrap();
    assert_eq!(after.len(), 100 << 20);
    let root = 1 << 20..41 << 20;
    assert!(before[root.clone()] == after[root], "the root is as it was");
    let home = plan[1]["offset"].as_u64().unwrap() as usize;
    assert_eq!(&after[home + 0x52..home + 0x57], b"FAT32");
    let swap = plan[2]["offset"].as_u64().unwrap() as usize;
    assert_eq!(&after[swap + 4086..swap + 4096], b"SWAPSPACE2");
    let (status, _, messages) = output(dir, &grow);
    assert!(status == 0 && messages.contains("No changes."), "{messages}");
    assert!(std::fs::read(dir.join("a.raw")).unwrap() == after);
}

#[test]
fn a_dry_run_changes_nothing() {
    let dir = project();
    let dir = dir.path();
    let file = std::fs::File::create(dir.join("b.raw")).unwrap();
    file.set_len(64 << 20).unwrap();
    let dry = ["--empty=allow", "--size=100M", "--definitions=defs", "--root=tree", "b.raw"];
    let (status, shown, messages) = output(dir, &dry);
    assert_eq!(status, 0, "{messages}");
    assert!(shown.contains("10-root.conf") && messages.contains("--dry-run=no"), "{messages}");
    let after = std::fs::read(dir.join("b.raw")).unwrap();
    assert!(after.len() == 64 << 20 && after.iter().all(|b| *b == 0));
}

#[test]
fn statuses_are_systemd_repart_s() {
    let dir = project();
    let dir = dir.path();
    std::fs::File::create(dir.join("b.raw")).unwrap().set_len(64 << 20).unwrap();
    for (words, status, says) in [
        (&["--definitions=defs", "--root=tree", "b.raw"][..], 77, "no GUID partition table"),
        (&["--definitions=defs", "none.raw"], 1, "No such file"),
        (&["--definitions=defs", "/dev/null"], 1, "neither an image file nor a block device"),
        (
            &["--definitions=defs", "--root=tree", "-"],
            0,
            "possible size of the image is 41M (43008512 bytes)",
        ),
        (&["--image=x", "b.raw"], 1, "--image=x: No such file"),
        (&["--key-file=x", "b.raw"], 1, "--key-file= is not supported yet"),
        (&["--nonsense"], 1, "--nonsense"),
        (&["--definitions=none", "--can-factory-reset", "--empty=allow", "b.raw"], 1, ""),
        (
            &["--definitions=defs", "--empty=allow", "b.raw"],
            1,
            "need --copy-source=, --root= or --image=",
        ),
        (&["--help"], 0, ""),
    ] {
        let (code, _, messages) = output(dir, words);
        assert_eq!(code, status, "{words:?}: {messages}");
        assert!(messages.contains(says), "{words:?}: {messages}");
    }
    write(dir, "bad/10-x.conf", "[Partition]\nType=root\nFormat=xfs\nSizeMinBytes=300M\n");
    let words = ["--definitions=bad", "--empty=allow", "--size=400M", "b.raw"];
    let (code, _, messages) = output(dir, &words);
    assert!(code == 1 && messages.contains("Format=xfs is not supported"), "{messages}");
    write(dir, "bad/10-x.conf", "[Partition]\nType=home\nEncrypt=tpm2\nFormat=vfat\n");
    let (code, _, messages) = output(dir, &["--definitions=bad", "--empty=allow", "b.raw"]);
    assert!(code == 1 && messages.contains("Encrypt=tpm2 is not supported"), "{messages}");
}

#[test]
fn it_is_systemd_repart_when_called_so() {
    let dir = project();
    let link = dir.path().join("systemd-repart");
    std::os::unix::fs::symlink(assert_cmd::cargo::cargo_bin("mkgold"), &link).unwrap();
    let words = [
        "--empty=create",
        "--size=auto",
        "--definitions=defs",
        "--root=tree",
        "--json=pretty",
        "c.raw",
    ];
    let output = std::process::Command::new(&link).current_dir(dir.path()).args(words).output();
    let output = output.unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(shown.contains("\t\t\"type\" : \"root-x86-64\",\n"), "{shown}");
    assert!(dir.path().join("c.raw").exists());
}

#[test]
fn a_preview_says_what_the_first_boot_makes_of_disks_and_what_they_lack() {
    let dir = project();
    let dir = dir.path();
    let home = "[Partition]\nType=home\nFormat=ext4\nSizeMinBytes=1G\nPriority=1\n";
    write(dir, "tree/usr/lib/repart.d/20-home.conf", home);
    write(dir, "tree/usr/lib/repart.d/10-root.conf", "[Partition]\nType=root\nSizeMaxBytes=80M\n");
    let create = ["--empty=create", "--size=auto", "--definitions=defs", "--root=tree", "a.raw"];
    assert_eq!(output(dir, &create).0, 0);
    let before = std::fs::read(dir.join("a.raw")).unwrap();
    let words = ["--preview=10M,200M,4G", "--preview-picture=a.svg", "a.raw"];
    let (status, shown, messages) = output(dir, &words);
    assert_eq!(status, 0, "{messages}");
    let parts: Vec<&str> = shown.split("On a disk of ").collect();
    assert!(parts[1].starts_with("10M") && parts[1].contains("nothing is done"), "{shown}");
    assert!(parts[2].contains("40M → 80M") && !parts[2].contains("─ 20-home.conf"), "{shown}");
    // 1 MiB before it, at least 40 of the root, 1024 of home, and the end of the table.
    let lacks = "usr/lib/repart.d/20-home.conf is not met: it needs a disk of 1066M";
    assert!(parts[2].contains(lacks), "{shown}");
    assert!(parts[3].contains("20-home.conf") && !parts[3].contains("not met"), "{shown}");
    let picture = std::fs::read_to_string(dir.join("a.svg")).unwrap();
    assert_eq!(picture.matches("<title>home: ").count(), 1, "{picture}");
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"), "{picture}");
    assert!(std::fs::read(dir.join("a.raw")).unwrap() == before, "the image stays as it is");
}

#[test]
fn options_for_mkfs_are_refused() {
    let dir = project();
    let mut command = Command::cargo_bin("mkgold").unwrap();
    command.current_dir(dir.path()).env("SYSTEMD_REPART_MKFS_OPTIONS_EXT4", "-O verity");
    let words = ["--empty=create", "--size=auto", "--definitions=defs", "--root=tree", "c.raw"];
    let output = command.arg("repart").args(words).output().unwrap();
    let messages = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{messages}");
    assert!(messages.contains("SYSTEMD_REPART_MKFS_OPTIONS_EXT4"), "{messages}");
    assert!(!dir.path().join("c.raw").exists());
}

#[test]
fn options_before_the_verb_are_refused() {
    let mut command = Command::cargo_bin("mkgold").unwrap();
    let output = command.args(["--json", "repart", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
