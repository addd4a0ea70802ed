//! `mkgold makefs` and `makeswap` on image files: something is made where nothing is, and
//! what is there stays. Devices and `growfs` are in `oracle_devices.rs`.

use std::os::unix::fs::FileExt;
use std::path::Path;

use assert_cmd::Command;
use tree::{Blob, TreePath};

fn run(mut command: Command, dir: &Path, words: &[&str]) -> (i32, String) {
    let output = command.current_dir(dir).args(words).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn mkgold(dir: &Path, words: &[&str]) -> (i32, String) {
    run(Command::cargo_bin("mkgold").unwrap(), dir, words)
}

fn blank(dir: &Path, name: &str, size: u64) {
    std::fs::File::create(dir.join(name)).unwrap().set_len(size).unwrap();
}

#[test]
fn what_is_there_stays() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    blank(d, "var", 64 << 20);
    // Old data without a mark is nothing.
    let file = std::fs::File::options().write(true).open(d.join("var")).unwrap();
    file.write_all_at(&[0xee; 4096], 20 << 20).unwrap();
    let (status, said) = mkgold(d, &["makefs", "ext4", "var"]);
    assert!(status == 0 && said == "var has ext4 now.\n", "{said}");
    let tree = fs::ext4::read(&Blob::at_path(d.join("var")), 0).unwrap();
    assert!(tree.contains(&TreePath::literal("lost+found")) && tree.len() == 2);
    let before = std::fs::read(d.join("var")).unwrap();
    assert_eq!(&before[1024 + 120..1024 + 124], b"var\0", "the label");
    assert!(before.len() == 64 << 20 && before[20 << 20..][..4096].iter().all(|b| *b == 0));
    for words in [["makefs", "vfat", "var"].as_slice(), &["makeswap", "var"]] {
        let (status, said) = mkgold(d, words);
        assert!(status == 0 && said.contains("has ext2, ext3 or ext4: it is left"), "{said}");
        assert!(std::fs::read(d.join("var")).unwrap() == before);
    }
}

#[test]
fn vfat_and_swap_are_made_and_others_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    blank(d, "esp", 64 << 20);
    blank(d, "swap", 1 << 20);
    assert_eq!(mkgold(d, &["makefs", "vfat", "esp"]).0, 0);
    assert_eq!(fs::fat::read(&Blob::at_path(d.join("esp")), 0).unwrap().len(), 1);
    assert_eq!(mkgold(d, &["makeswap", "swap"]).0, 0);
    let swap = std::fs::read(d.join("swap")).unwrap();
    assert_eq!(&swap[4086..4096], b"SWAPSPACE2");
    assert_eq!(swap[1028..1032], 255u32.to_le_bytes(), "the last page of 1 MiB");
    blank(d, "x", 64 << 20);
    for (words, says) in [
        (&["makefs", "reiserfs", "x"][..], "reiserfs is not supported yet"),
        (&["makefs", "ext4", "none"], "No such file"),
        (&["makefs", "ext4", "/dev/null"], "neither a block device nor an image file"),
        (&["makefs", "ext4"], "<DEVICE>"),
        (&["growfs", "/proc/self"], "is not where one device is mounted"),
        (&["growfs", "--nonsense", "/"], "--nonsense"),
    ] {
        let (status, said) = mkgold(d, words);
        assert!(status == 1 && said.contains(says), "{words:?}: {status} {said}");
    }
    assert!(std::fs::read(d.join("x")).unwrap().iter().all(|b| *b == 0));
}

#[test]
fn they_are_systemd_s_when_called_so() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    blank(d, "x", 1 << 20);
    let link = d.join("systemd-makefs");
    std::os::unix::fs::symlink(assert_cmd::cargo::cargo_bin("mkgold"), &link).unwrap();
    assert_eq!(run(Command::new(&link), d, &["swap", "x"]).0, 0);
    assert_eq!(&std::fs::read(d.join("x")).unwrap()[4086..4096], b"SWAPSPACE2");
}
