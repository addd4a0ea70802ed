//! File systems that the original tools made and the kernel filled: our readers see
//! what the kernel shows. Needs root and loop devices; where there are none it says so.

#![allow(clippy::print_stdout, reason = "figures")]

mod common;

use std::fs::File;
use std::path::Path;
use std::process::Command;

use common::*;
use testkit::privilege;
use tree::dir::{self, Owners};
use tree::{Kind, Meta, Tree, TreePath};

/// Whether this kernel mounts the image.
fn mount(image: &Path, at: &Path, options: &str) -> bool {
    let command = &mut Command::new("mount");
    command.args(["-o", options]).arg(image).arg(at).output().unwrap().status.success()
}

/// A mount that goes away with the test.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(image: &Path, options: &str) -> Option<Mounted> {
        let dir = tempfile::tempdir().unwrap();
        mount(image, dir.path(), options).then_some(Mounted(dir))
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

fn can_mount() -> bool {
    let free = Command::new("/usr/sbin/losetup").arg("-f").output();
    if privilege::is_root() && free.is_ok_and(|o| o.status.success()) {
        return true;
    }
    privilege::not_tested("file systems that others made", "root and loop devices");
    false
}

/// What tar can lay out.
fn portable(mut tree: Tree) -> Tree {
    let paths: Vec<TreePath> = tree.iter().map(|(p, _, _)| p.clone()).collect();
    for path in paths.iter().rev() {
        if matches!(tree.get(path).unwrap().kind, Kind::Socket) {
            tree.remove(path);
        } else {
            let meta = &mut tree.get_mut(path).unwrap().meta;
            meta.xattrs.retain(|name, _| !name.starts_with(b"system."));
            meta.mtime.secs = meta.mtime.secs.clamp(0, 0x7fff_ffff);
        }
    }
    tree
}

fn fill(tree: &Tree, at: &Path) {
    let archive = tempfile::NamedTempFile::new().unwrap();
    tree::tar::write(tree, &mut archive.reopen().unwrap()).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "-xpf"]).arg(archive.path()).arg("-C").arg(at);
    // Not every file system takes every attribute and link: what it took is compared.
    tar.output().unwrap();
    let options = dir::Options { owners: Owners::Preserve, mtime: None, xattrs: true };
    let laid_out = dir::read(at, &options).unwrap().len();
    assert!(laid_out * 10 > tree.len() * 9, "{laid_out} of {} are there", tree.len());
}

/// Trees with a crowd (for hashed directories), fragments and long contents.
fn filled(seed: u64, xattr_max: usize) -> Tree {
    let source = Source::new(300_000);
    let shape = Shape { xattr_max, time_min: 0, time_max: 0x7fff_ffff };
    let mut tree = portable(sample(seed, 600, &source, &shape));
    crowd(&mut tree, "crowd", 3000);
    for n in 0..200 {
        let path = TreePath::new(format!("tiny{n}")).unwrap();
        let bytes = vec![b'a' + (n % 26) as u8; n];
        tree.add_file(path, Meta::file(0o644), tree::Content::inline(bytes)).unwrap();
    }
    // The contents' file goes with this function.
    let paths: Vec<TreePath> = tree.iter().map(|(p, _, _)| p.clone()).collect();
    for path in paths {
        if let Kind::File(content) = &mut tree.get_mut(&path).unwrap().kind {
            *content = tree::Content::inline(content.read(1 << 24).unwrap());
        }
    }
    tree
}

const EXT: [(&str, usize); 17] = [
    ("-t ext4", 3000),
    ("-t ext4 -b 1024", 800),
    ("-t ext4 -b 2048", 1500),
    ("-t ext4 -O ^has_journal", 3000),
    ("-t ext4 -O inline_data", 3000),
    ("-t ext4 -O inline_data -I 1024 -b 4096", 3000),
    ("-t ext4 -O bigalloc", 3000),
    ("-t ext4 -O bigalloc -C 65536 -b 1024", 800),
    ("-t ext4 -O ^64bit,^metadata_csum", 3000),
    ("-t ext4 -O metadata_csum_seed", 3000),
    ("-t ext4 -O meta_bg,^resize_inode", 3000),
    ("-t ext4 -O ea_inode", 20_000),
    ("-t ext4 -O ^extents,^64bit", 3000),
    ("-t ext4 -O sparse_super2,large_dir,verity,encrypt", 3000),
    ("-t ext4 -I 128 -O ^metadata_csum", 3000),
    ("-t ext2", 3000),
    ("-t ext3 -b 1024", 800),
];

#[test]
#[ignore = "oracle"]
fn every_kind_of_ext_is_read_as_the_kernel_shows_it() {
    if !can_mount() {
        return;
    }
    let mut read = 0;
    for (seed, (options, xattr_max)) in (1..).zip(EXT) {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("img");
        File::create(&image).unwrap().set_len(160 << 20).unwrap();
        oracle_ok(dir.path(), &format!("mke2fs -q -F -N 8000 {options} /mnt/img"));
        let Some(mounted) = Mounted::new(&image, "loop,rw,user_xattr") else {
            privilege::not_tested(&format!("mke2fs {options}"), "a kernel that mounts it");
            continue;
        };
        fill(&filled(seed, xattr_max), mounted.0.path());
        drop(mounted);
        let mounted = Mounted::new(&image, "loop,ro").unwrap();
        let ours = fs::ext4::read(&blob(&image), 0).unwrap_or_else(|e| panic!("{options}: {e}"));
        println!("mke2fs {options}: {} entries", ours.len());
        assert_same(&mounted.tree(), &ours);
        read += 1;
    }
    assert!(read > EXT.len() / 2, "most of them can be mounted");
}

/// Contents that compress well, badly, and not at all; longer than a cluster.
fn squeezable(tree: &mut Tree) {
    let mut rng = Rng(5);
    for n in 0..60u64 {
        let len = (rng.below(300_000) + n) as usize;
        let bytes: Vec<u8> = match n % 4 {
            0 => rng.bytes(len),
            1 => (0..len).map(|i| (i / 100) as u8).collect(),
            2 => vec![0; len],
            _ => {
                let words = ["golden ", "image ", "machine ", "boot ", "root\n"];
                let word = |rng: &mut Rng| words[rng.below(5) as usize].bytes();
                (0..len / 5).flat_map(|_| word(&mut rng)).collect()
            }
        };
        let path = TreePath::new(format!("squeezed{n}")).unwrap();
        tree.add_file(path, Meta::file(0o644), tree::Content::inline(bytes)).unwrap();
    }
}

/// Makes an image of a directory with each line of options, and compares what we read
/// with what the kernel shows, or with the directory where the kernel cannot.
fn compare_packed(format: &str, tool: &str, lines: &[&str], read: fn(&Path) -> Tree) {
    if !can_mount() {
        return;
    }
    let mut tree = filled(3, 3000);
    squeezable(&mut tree);
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    fill(&tree, &source);
    let image = dir.path().join("img");
    let mut compared = 0;
    for line in lines {
        let _ = std::fs::remove_file(&image);
        let command = tool.replace("OPTIONS", line);
        if !oracle(dir.path(), &command).output().unwrap().status.success() {
            privilege::not_tested(&command, "a tool that can do it");
            continue;
        }
        let ours = read(&image);
        println!("{format} {line}: {} entries", ours.len());
        let Some(mounted) = Mounted::new(&image, "loop,ro") else {
            privilege::not_tested(&command, "a kernel that mounts it");
            continue;
        };
        assert_same(&mounted.tree(), &ours);
        compared += 1;
    }
    assert!(compared > lines.len() / 2, "most of them can be mounted");
}

#[test]
#[ignore = "oracle"]
fn every_kind_of_squashfs_is_read_as_the_kernel_shows_it() {
    let lines = [
        "-comp gzip",
        "-comp xz -b 1M",
        "-comp xz -Xbcj x86",
        "-comp zstd -b 64K",
        "-comp lz4",
        "-comp lzo",
        "-comp gzip -noI -noD -noF -noX",
        "-comp zstd -no-fragments",
        "-comp gzip -always-use-fragments -b 4K",
        // Linux 6.18 itself cannot read zstd in blocks of 4K.
        "-comp zstd -always-use-fragments -b 8K",
    ];
    let tool = "mksquashfs /mnt/source /mnt/img -noappend -quiet -no-progress OPTIONS";
    let read = |path: &Path| fs::squashfs::read(&blob(path), 0).unwrap();
    compare_packed("squashfs", tool, &lines, read);
}

#[test]
#[ignore = "oracle"]
fn every_kind_of_erofs_is_read_as_the_kernel_shows_it() {
    let lines = [
        "",
        "-zlz4",
        "-zlz4hc,9 -C65536",
        "-zlz4hc -Eztailpacking",
        "-zlz4hc -Eall-fragments",
        "-zlz4hc -Efragments -C16384",
        "-zlz4 -Elegacy-compress",
        "-zlzma -C65536",
        "-zlzma -Eztailpacking",
        "-zdeflate -C32768",
        "-zzstd -C65536",
        "-zlz4hc -b1024",
        "--chunksize=4096",
    ];
    let tool = "mkfs.erofs --quiet OPTIONS /mnt/img /mnt/source";
    let read = |path: &Path| fs::erofs::read(&blob(path), 0).unwrap();
    compare_packed("erofs", tool, &lines, read);
}
