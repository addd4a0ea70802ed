//! The kernel mounts what we write and sees the tree that was meant. Needs root and loop
//! devices, which an ordinary user or a container does not have: there it says so.

mod common;

use std::path::Path;
use std::process::Command;

use common::*;
use fs::erofs::{self, ErofsOptions};
use fs::ext4::{self, Ext4Options};
use testkit::{oracle, privilege};
use tree::Tree;
use tree::dir::{self, Owners};
use uuid::Uuid;

/// A mount that goes away with the test.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(image: &Path, options: &str) -> Mounted {
        let dir = tempfile::tempdir().unwrap();
        run(Command::new("mount").args(["-o", options]).arg(image).arg(dir.path()));
        Mounted(dir)
    }

    fn tree(&self) -> Tree {
        let options = dir::Options { owners: Owners::Preserve, mtime: None, xattrs: true };
        dir::read(self.0.path(), &options).unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{:?}", output.stderr);
    text
}

/// Whether file systems of this type can be mounted here; says so if not.
fn mounts(format: &str) -> bool {
    let succeeds = |command: &mut Command| command.output().is_ok_and(|o| o.status.success());
    let known = || {
        let listed = std::fs::read_to_string("/proc/filesystems").unwrap();
        listed.split_whitespace().any(|word| word == format)
            || succeeds(Command::new("/usr/sbin/modprobe").args(["-q", format]))
    };
    let loops = || succeeds(Command::new("/usr/sbin/losetup").arg("-f"));
    if privilege::is_root() && loops() && known() {
        return true;
    }
    let needs = format!("root, loop devices and {format} in the kernel");
    privilege::not_tested("what the kernel sees in an image", &needs);
    false
}

/// Whether we have CAP_SYS_RESOURCE, without which ext4 does not grow while it is mounted
/// (capability 24 of linux/capability.h; some machines leave root without it).
fn may_grow() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(set.trim(), 16).unwrap() & 1 << 24 != 0
}

fn ext4_options(size: u64) -> Ext4Options {
    Ext4Options { epoch: 1_700_000_000, ..Ext4Options::new(Uuid::from_bytes([9; 16]), size) }
}

#[test]
#[ignore = "oracle"]
fn the_kernel_sees_the_ext4_tree() {
    if !mounts("ext4") {
        return;
    }
    let source = Source::new(3 << 20);
    for seed in 20..23 {
        let mut tree = sample(seed, 1500, &source, &EXT4);
        crowd(&mut tree, "crowd", 5000);
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("img");
        let size = ext4::measure(&tree, &ext4_options(0)).unwrap();
        let file = std::fs::File::create(&image).unwrap();
        ext4::write(&tree, &ext4_options(size), &file, 0).unwrap();
        let mounted = Mounted::new(&image, "loop,ro,noload");
        assert_same(&with_lost_found(&tree, 1_700_000_000), &mounted.tree());
    }
}

/// As systemd-growfs does on the first boot, up to 100 times the size, and then
/// the file system is used.
#[test]
#[ignore = "oracle"]
fn a_mounted_ext4_grows() {
    if !mounts("ext4") {
        return;
    }
    if !may_grow() {
        return privilege::not_tested("growing a mounted ext4", "CAP_SYS_RESOURCE");
    }
    let source = Source::new(1 << 20);
    let tree = sample(30, 300, &source, &EXT4);
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("img");
    let size = ext4::measure(&tree, &ext4_options(0)).unwrap();
    let file = std::fs::File::create(&image).unwrap();
    ext4::write(&tree, &ext4_options(size), &file, 0).unwrap();
    {
        let mounted = Mounted::new(&image, "loop");
        let mount = mounted.0.path();
        let device = run(Command::new("findmnt").args(["-no", "SOURCE"]).arg(mount));
        for factor in [2, 16, 100] {
            file.set_len(size * factor).unwrap();
            run(Command::new("/usr/sbin/losetup").args(["-c", device.trim()]));
            run(oracle::command("resize2fs", &[mount]).arg(device.trim()));
            let new = mount.join(format!("written-{factor}"));
            std::fs::write(&new, vec![factor as u8; 3 << 20]).unwrap();
        }
    }
    oracle_ok(dir.path(), "e2fsck -fn /mnt/img");
    let found = ext4::read(&blob(&image), 0).unwrap();
    assert_eq!(found.len(), with_lost_found(&tree, 0).len() + 3);
}

#[test]
#[ignore = "oracle"]
fn the_kernel_sees_the_erofs_tree() {
    if !mounts("erofs") {
        return;
    }
    let source = Source::new(3 << 20);
    for seed in 40..43 {
        let mut tree = sample(seed, 1500, &source, &EROFS);
        crowd(&mut tree, "crowd", 5000);
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("img");
        let file = std::fs::File::create(&image).unwrap();
        let uuid = Uuid::from_bytes([9; 16]);
        let options = ErofsOptions { uuid, label: String::new(), epoch: 7 };
        erofs::write(&tree, &options, &file, 0).unwrap();
        let mounted = Mounted::new(&image, "loop,ro");
        assert_same(&tree, &mounted.tree());
    }
}
