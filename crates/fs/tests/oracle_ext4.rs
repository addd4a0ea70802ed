//! ext4 against e2fsprogs and the kernel.

mod common;

use std::path::Path;

use common::*;
use fs::ext4::{self, Ext4Options};
use tree::{Content, Meta, Part, Tree, TreePath};
use uuid::Uuid;

const EPOCH: i64 = 1_700_000_000;

fn options(size: u64) -> Ext4Options {
    let uuid = Uuid::from_bytes(*b"0123456789abcdef");
    Ext4Options { label: "golden".into(), epoch: EPOCH, ..Ext4Options::new(uuid, size) }
}

fn write(dir: &Path, tree: &Tree, options: &Ext4Options) {
    let file = std::fs::File::create(dir.join("img")).unwrap();
    ext4::write(tree, options, &file, 0).unwrap();
}

fn everything(seed: u64, source: &Source) -> Tree {
    let mut tree = sample(seed, 2000, source, &EXT4);
    crowd(&mut tree, "crowd", 20_000);
    // More extents than one level of the tree in the inode holds.
    let mut parts = Vec::new();
    for i in 0..1500 {
        parts.push(Part::Data { blob: source.blob.clone(), offset: i * 7, len: 4096 });
        parts.push(Part::Hole { len: 4096 });
    }
    let path = TreePath::literal("fragments");
    tree.add_file(path, Meta::file(0o644), Content::parts(parts)).unwrap();
    // Longer than a block group.
    let parts: Vec<Part> = (0..100)
        .map(|_| Part::Data { blob: source.blob.clone(), offset: 0, len: source.len })
        .collect();
    let path = TreePath::literal("large");
    tree.add_file(path, Meta::file(0o644), Content::parts(parts)).unwrap();
    tree
}

#[test]
#[ignore = "oracle"]
fn e2fsck_finds_nothing() {
    let source = Source::new(3 << 20);
    for seed in 0..4 {
        let tree = everything(seed, &source);
        let size = ext4::measure(&tree, &options(0)).unwrap();
        for size in [size, size + (1 << 30)] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), &tree, &options(size));
            oracle_ok(dir.path(), "e2fsck -fn /mnt/img");
        }
    }
}

#[test]
#[ignore = "oracle"]
fn odd_sizes_are_clean() {
    let tree = Tree::new();
    for mib in [4, 8, 31, 127, 128, 129, 131, 400, 1024, 2049, 5000, 102_400, 9_000_000] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &tree, &options(mib << 20));
        oracle_ok(dir.path(), "e2fsck -fn /mnt/img");
    }
    for (inodes, growth, journal) in [(400_000, 1, Some(0)), (20_000, 1024, Some(3000))] {
        let dir = tempfile::tempdir().unwrap();
        let special =
            Ext4Options { min_inodes: inodes, growth, journal_blocks: journal, ..options(5 << 30) };
        write(dir.path(), &tree, &special);
        oracle_ok(dir.path(), "e2fsck -fn /mnt/img");
    }
}

#[test]
#[ignore = "oracle"]
fn htree_of_two_levels() {
    let mut tree = Tree::new();
    crowd(&mut tree, "crowd", 80_000);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &tree, &options(ext4::measure(&tree, &options(0)).unwrap()));
    oracle_ok(dir.path(), "e2fsck -fn /mnt/img");
    let shown = oracle_ok(dir.path(), "debugfs -R 'htree_dump /crowd' /mnt/img");
    assert!(shown.contains("Indirect levels: 1"), "{}", &shown[..500.min(shown.len())]);
}

#[test]
#[ignore = "oracle"]
fn resize2fs_grows_it() {
    let source = Source::new(3 << 20);
    let tree = sample(1, 500, &source, &EXT4);
    let size = ext4::measure(&tree, &options(0)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &tree, &options(size));
    for factor in [2, 16, 100] {
        let grown = size * factor;
        let file = std::fs::OpenOptions::new().write(true).open(dir.path().join("img")).unwrap();
        file.set_len(grown).unwrap();
        oracle_ok(dir.path(), "resize2fs /mnt/img");
        oracle_ok(dir.path(), "e2fsck -fn /mnt/img");
        let found = ext4::read(&blob(&dir.path().join("img")), 0).unwrap();
        assert_same(&with_lost_found(&tree, EPOCH), &found);
    }
}

/// The fields that dumpe2fs shows, but those that differ on purpose.
#[test]
#[ignore = "oracle"]
fn the_superblock_is_that_of_mke2fs() {
    for mib in [300u64, 1024, 40_000] {
        let dir = tempfile::tempdir().unwrap();
        let features = "-O ^metadata_csum_seed,^orphan_file";
        let uuid = options(0).uuid;
        let extended = format!("nodiscard,lazy_itable_init=1,hash_seed={uuid}");
        let make = format!(
            "env E2FSPROGS_FAKE_TIME={EPOCH} mkfs.ext4 -q -L golden -U {uuid} -I 256 -m 0 \
             -E {extended} -b 4096 -T default {features} /mnt/img {mib}M"
        );
        oracle_ok(dir.path(), &make);
        let theirs = oracle_ok(dir.path(), "env TZ=UTC dumpe2fs -h /mnt/img");
        let inodes: u64 = field(&theirs, "Inode count").parse().unwrap();
        std::fs::remove_file(dir.path().join("img")).unwrap();
        write(dir.path(), &Tree::new(), &Ext4Options { min_inodes: inodes, ..options(mib << 20) });
        let ours = oracle_ok(dir.path(), "env TZ=UTC dumpe2fs -h /mnt/img");
        for line in theirs.lines().filter(|l| l.contains(':')) {
            let name = line.split(':').next().unwrap();
            let allowed = [
                "Lifetime writes", // they count, we do not
                "Checksum",
                // 8192 per group whatever the size, so that growing keeps the ratio
                "Inode count",
                "Free inodes",
                "Inodes per group",
                "Inode blocks per group",
                "Overhead clusters",
                "Free blocks",
            ];
            let same = mib % 128 == 0;
            if !(allowed[..2].contains(&name) || !same && allowed.contains(&name)) {
                assert_eq!(field(&ours, name), field(&theirs, name), "{mib} MiB: {name}");
            }
        }
    }
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find(|l| l.split(':').next() == Some(name));
    line.unwrap_or_else(|| panic!("dumpe2fs shows no {name:?}")).split_once(':').unwrap().1.trim()
}

/// File systems made by mke2fs in its several forms, read by us.
#[test]
#[ignore = "oracle"]
fn reads_what_mke2fs_makes() {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/tmp").unwrap());
    let big = Rng(5).bytes(6 << 20);
    std::fs::write(files.path().join("big"), &big).unwrap();
    std::fs::write(files.path().join("small"), b"small\n").unwrap();
    std::os::unix::fs::symlink("x".repeat(100), files.path().join("slow")).unwrap();
    std::fs::create_dir(files.path().join("many")).unwrap();
    for i in 0..400 {
        std::fs::write(files.path().join(format!("many/some-file-{i}")), b"").unwrap();
    }
    for form in [
        "ext2 -b 1024",
        "ext3 -b 2048",
        "ext4 -b 4096",
        "ext4 -b 1024 -O ^64bit",
        "ext4 -O meta_bg,^resize_inode",
        "ext4 -I 128 -O ^metadata_csum",
    ] {
        let _ = std::fs::remove_file(dir.path().join("img"));
        let make = format!("mkfs.{form} -q -d /mnt/src /mnt/img 40M");
        std::fs::create_dir_all(dir.path().join("src")).unwrap();
        let copy = format!("cp -a {}/. {}/src/", files.path().display(), dir.path().display());
        assert!(std::process::Command::new("sh").args(["-c", &copy]).status().unwrap().success());
        oracle_ok(dir.path(), &make);
        let tree = ext4::read(&blob(&dir.path().join("img")), 0).unwrap();
        let read = |path: &'static str| tree.read(&TreePath::literal(path), 1 << 30).unwrap();
        assert!(read("big").unwrap() == big, "{form}");
        assert_eq!(read("small").unwrap(), b"small\n", "{form}");
        assert_eq!(tree.children(&TreePath::literal("many")).count(), 400, "{form}");
    }
}
