//! The command line: answers that need no build.

use assert_cmd::Command;

fn mkgold(dir: &std::path::Path) -> Command {
    let mut command = Command::cargo_bin("mkgold").unwrap();
    command.current_dir(dir).env("XDG_CONFIG_HOME", dir);
    command
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_embedded_default_is_shown_and_asks_nothing_at_boot() {
    let dir = tempfile::tempdir().unwrap();
    let (code, shown, _) = output(mkgold(dir.path()).arg("cat-config"));
    assert_eq!(code, Some(0));
    assert!(shown.contains("/built-in/mkosi.conf\n") && shown.contains("[Content]"), "{shown}");
    // What systemd-firstboot would ask for on the console.
    assert!(shown.contains("\nLocale=") && shown.contains("\nTimezone="), "{shown}");
    let (code, _, error) = output(mkgold(dir.path()).args(["cat-config", "now"]));
    assert_eq!(code, Some(2));
    assert!(error.contains("'now'"), "{error}");
}

#[test]
fn what_would_have_no_effect_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, says) in
        [(&["clean", "-f"][..], "options stand before the verb"), (&["bild"], "build")]
    {
        let (code, _, error) = output(mkgold(dir.path()).args(arguments));
        assert_eq!(code, Some(2), "{arguments:?}: {error}");
        assert!(error.contains(says), "{arguments:?}: {error}");
    }
}

#[test]
fn boot_is_refused_with_what_to_use() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, error) = output(mkgold(dir.path()).arg("boot"));
    assert_eq!(code, Some(2));
    assert!(error.contains("systemd-nspawn") && error.contains("mkgold vm"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_setting_is_explained_and_a_misspelled_one_answered() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mkosi.conf"), "[Content]\nPackages=a\n").unwrap();
    std::fs::create_dir(dir.path().join("mkosi.conf.d")).unwrap();
    std::fs::write(dir.path().join("mkosi.conf.d/x.conf"), "[Content]\nPackages=b\n").unwrap();
    let (code, shown, _) = output(mkgold(dir.path()).args(["why-setting", "Packages", "Format"]));
    assert_eq!(code, Some(0));
    for part in ["mkosi.conf:2:10  Packages=a", "x.conf:2:10  Packages=b", "Format=disk\n  not set"]
    {
        assert!(shown.contains(part), "{shown}");
    }
    let (code, _, error) = output(mkgold(dir.path()).args(["why-setting", "Pakages"]));
    assert_eq!(code, Some(2));
    assert!(error.contains("Packages"), "{error}");
}

#[test]
fn what_cannot_be_built_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mkosi.conf"), "[Output]\nFormat=esp\n").unwrap();
    let (code, shown, error) = output(mkgold(dir.path()).args(["--json", "summary"]));
    assert_eq!(code, Some(0), "{error}");
    assert!(shown.contains("\"Format\":\"esp\"") && error.contains("not supported"), "{error}");
    let (code, _, error) = output(mkgold(dir.path()).arg("build"));
    assert_eq!(code, Some(2));
    assert!(error.contains("mkosi.conf:2:8"), "{error}");
}

#[test]
fn a_template_is_written_over_nothing_and_can_be_read() {
    for template in ["minimal", "server", "uki-only"] {
        let dir = tempfile::tempdir().unwrap();
        let (code, _, error) = output(mkgold(dir.path()).args(["init", template]));
        assert_eq!(code, Some(0), "{error}");
        let (code, _, error) = output(mkgold(dir.path()).arg("summary"));
        assert_eq!((code, error.as_str()), (Some(0), ""), "{template}");
        let (code, _, error) = output(mkgold(dir.path()).args(["init", template]));
        assert_eq!(code, Some(2));
        assert!(error.contains("mkosi.conf is there already"), "{error}");
    }
}
