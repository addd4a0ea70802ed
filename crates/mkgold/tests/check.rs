//! `mkgold check`, as a person or a pipeline uses it.

use std::path::Path;

use assert_cmd::Command;
use tree::{Tree, TreePath};

fn mkgold(dir: &Path, words: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("mkgold").unwrap();
    let output = command.current_dir(dir).arg("check").args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A small system that is golden.
fn golden() -> Tree {
    let mut tree = Tree::new();
    let files = [
        ("usr/lib/os-release", "ID=debian\n"),
        ("etc/machine-id", "uninitialized\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
        ("etc/shadow", "root:*:20000:0:99999:7:::\n"),
        ("etc/hosts", "127.0.0.1 localhost\n"),
    ];
    for (path, text) in files {
        tree.write(&TreePath::literal(path), 0o644, text.as_bytes()).unwrap();
    }
    for dir in ["dev", "proc", "run", "sys", "tmp", "var", "usr/bin", "usr/sbin"] {
        tree.make_dirs(&TreePath::literal(dir)).unwrap();
    }
    for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib")] {
        tree.add_symlink(TreePath::literal(link), target).unwrap();
    }
    tree
}

fn with_host_name() -> Tree {
    let mut tree = golden();
    tree.write(&TreePath::literal("etc/hostname"), 0o644, *b"build-host\n").unwrap();
    tree
}

fn write_tar(tree: &Tree, path: &Path) {
    tree::tar::write(tree, &mut std::fs::File::create(path).unwrap()).unwrap();
}

fn write_ext4(tree: &Tree, path: &Path) {
    let options = fs::ext4::Ext4Options::new(uuid::Uuid::from_u128(7), 32 << 20);
    fs::ext4::write(tree, &options, &std::fs::File::create(path).unwrap(), 0).unwrap();
}

#[test]
fn the_same_tree_gets_the_same_answer_in_every_form() {
    let dir = tempfile::tempdir().unwrap();
    type Write = fn(&Tree, &Path);
    let forms: [(&str, Write); 2] = [("a.tar", write_tar), ("a.raw", write_ext4)];
    for (name, write) in forms {
        let path = dir.path().join(name);
        write(&golden(), &path);
        let (code, text, error) = mkgold(dir.path(), &[name, "--ignore=S5"]);
        assert_eq!(code, 0, "{name}: {text}{error}");
        write(&with_host_name(), &path);
        let (code, text, error) = mkgold(dir.path(), &[name, "--ignore=S5"]);
        assert_eq!(code, 3, "{name}: {text}{error}");
        assert!(text.contains("error R4: not so:") && text.contains("/etc/hostname"), "{text}");
        assert!(text.contains("fix: "), "{text}");
    }
    let packed = dir.path().join("a.tar.zst");
    let bytes = std::fs::read(dir.path().join("a.tar")).unwrap();
    std::fs::write(&packed, zstd::encode_all(&bytes[..], 1).unwrap()).unwrap();
    assert_eq!(mkgold(dir.path(), &["a.tar.zst"]).0, 3);
}

#[test]
fn what_is_ignored_or_known_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    write_tar(&with_host_name(), &dir.path().join("a.tar"));
    assert_eq!(mkgold(dir.path(), &["a.tar", "--ignore", "R4"]).0, 0);
    assert_eq!(mkgold(dir.path(), &["a.tar", "--fail-on=never"]).0, 0);
    assert_eq!(mkgold(dir.path(), &["a.tar", "--write-baseline=known"]).0, 3);
    assert_eq!(mkgold(dir.path(), &["a.tar", "--baseline=known"]).0, 0);
    let (code, _, error) = mkgold(dir.path(), &["a.tar", "--ignore=R77"]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("no rule 'R77'"), "{error}");
    assert_eq!(mkgold(dir.path(), &["a.tar", "--baseline=missing"]).0, 2);
    assert_eq!(mkgold(dir.path(), &[]).0, 2);
    assert_eq!(mkgold(dir.path(), &["no-such-file"]).0, 1);
}

#[test]
fn machines_can_read_it() {
    let dir = tempfile::tempdir().unwrap();
    write_tar(&with_host_name(), &dir.path().join("a.tar"));
    let (code, text, _) = mkgold(dir.path(), &["a.tar", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, 3);
    assert_eq!(json["format"], "tar");
    let verdicts = json["verdicts"].as_array().unwrap();
    let r4 = verdicts.iter().find(|v| v["id"] == "R4").unwrap();
    assert_eq!((&r4["result"], &r4["severity"]), (&"failed".into(), &"error".into()));
    let (_, text, _) = mkgold(dir.path(), &["a.tar", "--sarif"]);
    let sarif: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "R4");
}

#[test]
fn rules_are_listed_and_explained() {
    let dir = tempfile::tempdir().unwrap();
    let (code, list, _) = mkgold(dir.path(), &["--list"]);
    assert!(code == 0 && list.lines().count() > 50, "{list}");
    let (code, text, _) = mkgold(dir.path(), &["--explain=r1"]);
    assert!(code == 0 && text.contains("Why:") && text.contains("machine ID"), "{text}");
    assert_eq!(mkgold(dir.path(), &["--explain=Q9"]).0, 2);
}

#[test]
fn what_is_no_image_is_an_error_and_what_is_hidden_is_said() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("noise"), vec![0x5a; 100_000]).unwrap();
    let (code, _, error) = mkgold(dir.path(), &["noise"]);
    assert_eq!(code, 1);
    assert!(error.contains("neither a disk with partitions nor a file system"), "{error}");
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    assert_eq!(mkgold(dir.path(), &["empty"]).0, 1);
    let mut luks = vec![0; 1 << 20];
    luks[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
    std::fs::write(dir.path().join("luks.raw"), luks).unwrap();
    let (code, text, error) = mkgold(dir.path(), &["luks.raw", "--ignore=R9"]);
    assert_eq!(code, 4, "{text}{error}");
    assert!(text.contains("could not check") && text.contains("encrypted (LUKS2)"), "{text}");
}

fn verb(dir: &Path, words: &[&str]) -> (i32, String) {
    let output = Command::cargo_bin("mkgold").unwrap().current_dir(dir).args(words).output();
    let output = output.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[test]
fn an_image_is_described() {
    let dir = tempfile::tempdir().unwrap();
    let mut tree = golden();
    let status = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n\
        Package: b\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 2\n";
    tree.write(&TreePath::literal("var/lib/dpkg/status"), 0o644, status.as_bytes()).unwrap();
    tree.make_dirs(&TreePath::literal("usr/lib/modules/6.12.1")).unwrap();
    write_ext4(&tree, &dir.path().join("a.raw"));
    let (code, text) = verb(dir.path(), &["inspect", "a.raw"]);
    assert_eq!(code, 0, "{text}");
    for part in ["kernels     6.12.1", "packages    1\n", "is a first boot: ", "ext4 file system"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (_, text) = verb(dir.path(), &["inspect", "--json", "a.raw"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["packages"], serde_json::json!({ "a:amd64": "1" }));
    assert_eq!(json["first_boot"]["expected"], true);
    assert_eq!(verb(dir.path(), &["inspect"]).0, 2);
}

#[test]
fn differences_are_named_and_equal_trees_in_other_forms_have_none() {
    let dir = tempfile::tempdir().unwrap();
    write_tar(&golden(), &dir.path().join("a.tar"));
    let mut other = with_host_name();
    other.write(&TreePath::literal("etc/hosts"), 0o644, *b"127.0.0.1 otherhost\n").unwrap();
    other.get_mut(&TreePath::literal("etc/group")).unwrap().meta.mode = 0o600;
    write_tar(&other, &dir.path().join("b.tar"));
    std::fs::copy(dir.path().join("a.tar"), dir.path().join("c.tar")).unwrap();
    assert_eq!(verb(dir.path(), &["diff", "a.tar", "c.tar"]), (0, String::new()));
    let (code, text) = verb(dir.path(), &["diff", "a.tar", "b.tar"]);
    assert_eq!(code, 3, "{text}");
    for part in ["/etc/hostname:\n  + file of 11 bytes", "0644 0:0\n  + file of 10 bytes, 0600"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("/etc/hosts:") && text.contains("another content"), "{text}");
    assert!(!text.contains("/etc/passwd"), "{text}");
    let (code, text) = verb(dir.path(), &["diff", "--json", "a.tar", "b.tar"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, json["differences"].as_array().unwrap().len()), (3, 3));
}
