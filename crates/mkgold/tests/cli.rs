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
