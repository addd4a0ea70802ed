//! What mkgold's tools of the first boot do on their own account; what they make is
//! `toolbox_recorded.rs`'s matter.

use std::fs;
use std::path::Path;

use assert_cmd::Command;

/// A root file system with nothing but a time zone, and a shell.
fn root() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("usr/share/zoneinfo/Europe/Here", "TZif2"),
        ("usr/bin/bash", "#!"),
        ("usr/lib/sysusers.d/a.conf", "u alice - Alice\n"),
        ("usr/lib/tmpfiles.d/a.conf", "d /var/lib/thing 0750\nf /etc/thing - - - - text\n"),
    ] {
        fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
        fs::write(dir.path().join(path), text).unwrap();
    }
    dir
}

fn run(words: &[&str], root: &Path) -> (i32, String, String) {
    let mut command = Command::cargo_bin("mkgold").unwrap();
    command.args(words).arg(format!("--root={}", root.display()));
    let output = command.env("SOURCE_DATE_EPOCH", "1700000000").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_refusal_and_a_dry_run_change_nothing() {
    let dir = root();
    let good = ["firstboot", "--timezone=Europe/Here", "--hostname=box"];
    let (status, shown, _) = run(&[&good[..], &["--dry-run"]].concat(), dir.path());
    assert_eq!(status, 0);
    assert!(shown.contains("+ /etc/localtime → ../usr/share/zoneinfo/Europe/Here\n"), "{shown}");
    let (status, shown, _) = run(&[&good[..], &["-n", "--json"]].concat(), dir.path());
    assert_eq!(status, 0);
    let plan: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let hostname = plan.as_array().unwrap().iter().find(|c| c["path"] == "/etc/hostname").unwrap();
    assert_eq!(hostname["change"], "make");
    assert_eq!((&hostname["mode"], &hostname["bytes"]), (&"0644".into(), &4.into()));
    let (status, _, said) = run(&[&good[..], &["--root-shell=/bin/none"]].concat(), dir.path());
    assert_eq!(status, 1);
    assert!(said.contains("--root-shell=/bin/none: not a shell in the image"), "{said}");
    assert!(!dir.path().join("etc").exists());
}

#[test]
fn a_time_zone_is_the_image_s() {
    let dir = root();
    let (status, _, said) = run(&["firstboot", "--timezone=Europe/Berlin"], dir.path());
    assert_eq!(status, 1, "the image does not have it, wherever this runs");
    assert!(said.contains("not a time zone of the image's"), "{said}");
    assert_eq!(run(&["firstboot", "--timezone=Europe/Here"], dir.path()).0, 0);
}

#[test]
fn a_plain_password_is_hashed_and_verifies() {
    let dir = root();
    assert_eq!(run(&["firstboot", "--root-password=secret"], dir.path()).0, 0);
    let shadow = dir.path().join("etc/shadow");
    let mut mode = fs::metadata(&shadow).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0);
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o600);
    fs::set_permissions(&shadow, mode).unwrap();
    let text = fs::read_to_string(&shadow).unwrap();
    let fields: Vec<&str> = text.trim_end().split(':').collect();
    assert_eq!((fields[0], fields[2]), ("root", "19675"), "the day of SOURCE_DATE_EPOCH");
    use yescrypt::PasswordVerifier;
    yescrypt::Yescrypt::default().verify_password(b"secret", fields[1]).unwrap();
}

#[test]
fn a_root_is_populated_step_by_step() {
    let dir = root();
    assert_eq!(run(&["skeleton"], dir.path()).0, 0);
    assert!(dir.path().join("proc").is_dir() && dir.path().join("root").is_dir());
    let (status, _, said) = run(&["sysusers"], dir.path());
    assert_eq!(status, 0);
    assert!(said.contains("Creating user 'alice' with UID 999."), "{said}");
    let (status, _, said) = run(&["tmpfiles", "--create", "--remove", "--boot"], dir.path());
    assert_eq!(status, 0, "{said}");
    assert_eq!(fs::read_to_string(dir.path().join("etc/thing")).unwrap(), "text");
    let (status, answer, _) = run(&["machine-id-setup", "--print"], dir.path());
    let id = fs::read_to_string(dir.path().join("etc/machine-id")).unwrap();
    assert_eq!((status, answer), (0, id));
    assert_eq!(run(&["sysusers", "-n"], dir.path()).1, "", "it is done");
}

#[test]
fn lines_of_tmpfiles_that_are_wrong_have_a_status_of_their_own() {
    let dir = root();
    fs::write(dir.path().join("usr/lib/tmpfiles.d/b.conf"), "? /x\n").unwrap();
    let (status, _, said) = run(&["tmpfiles", "--create", "--remove", "--boot"], dir.path());
    assert_eq!(status, 65);
    assert!(said.contains("b.conf:1:"), "{said}");
    assert!(dir.path().join("etc/thing").exists(), "the other lines count");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let dir = root();
    let refused: [&[&str]; 6] = [
        &["firstboot", "--prompt-locale"],
        &["firstboot", "--image=x.raw"],
        &["tmpfiles", "--create", "--clean"],
        &["sysusers", "--inline"],
        &["machine-id-setup", "--commit"],
        &["preset-all", "--preset-mode=enable-only"],
    ];
    for words in refused {
        let (status, _, said) = run(words, dir.path());
        assert_eq!(status, 1, "{words:?}");
        let option = words.last().unwrap().split('=').next().unwrap();
        assert!(said.contains(option) && said.contains("not supported"), "{words:?}: {said}");
    }
    let (status, _, said) = run(&["tmpfiles", "--create"], dir.path());
    assert!(status == 1 && said.contains("--remove is missing"), "{said}");
    let mut command = Command::cargo_bin("mkgold").unwrap();
    let output = command.args(["firstboot", "--root=/", "--hostname=x"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("--root=DIR is missing"), "{said}");
    assert!(!dir.path().join("etc").exists());
}

#[test]
fn it_answers_to_the_names_of_the_originals() {
    let dir = root();
    let program = assert_cmd::cargo::cargo_bin("mkgold");
    let name = dir.path().join("systemd-firstboot");
    std::os::unix::fs::symlink(program, &name).unwrap();
    let status = std::process::Command::new(&name)
        .args([&format!("--root={}", dir.path().display()), "--hostname=called"])
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(fs::read_to_string(dir.path().join("etc/hostname")).unwrap(), "called\n");
}
