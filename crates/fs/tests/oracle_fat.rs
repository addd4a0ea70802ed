//! FAT and swap against dosfstools, mtools and util-linux.

mod common;

use common::*;
use fs::fat::{self, FatOptions, FatType};
use fs::swap::{self, SwapOptions};
use tree::{Tree, TreePath};
use uuid::Uuid;

#[test]
#[ignore = "oracle"]
fn fsck_finds_nothing_at_any_size() {
    let source = Source::new(1 << 20);
    for (size, sector_size, fat_type) in [
        (1 << 20, 512, None),
        (20 << 20, 512, None),
        (33 << 20, 512, Some(FatType::Fat16)),
        (40 << 20, 512, Some(FatType::Fat32)),
        (512 << 20, 512, Some(FatType::Fat32)),
        (512 << 20, 4096, Some(FatType::Fat32)),
        (3 << 30, 2048, Some(FatType::Fat32)),
        (1 << 40, 512, Some(FatType::Fat32)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let count = if size < 2 << 20 { 10 } else { 400 };
        let tree = fat_sample(size % 1000, count, &source);
        let file = std::fs::File::create(dir.path().join("img")).unwrap();
        let options = FatOptions {
            size,
            sector_size,
            fat_type,
            label: "ESP".into(),
            ..FatOptions::new(0x1234_abcd, 0)
        };
        fat::write(&tree, &options, &file, 0).unwrap();
        // fsck.vfat reads the whole table, so not for the largest.
        if size < 1 << 40 {
            let said = oracle_ok(dir.path(), "fsck.vfat -nv /mnt/img");
            assert!(!said.contains("Dirty") && !said.contains("differences"), "{said}");
        }
        let listed =
            oracle_ok(dir.path(), "env TZ=UTC MTOOLS_SKIP_CHECK=1 mdir -/ -b -i /mnt/img ::");
        assert_eq!(listed.lines().count(), tree.len() - 1, "{listed}");
    }
}

#[test]
#[ignore = "oracle"]
fn mtools_reads_the_contents() {
    let mut tree = Tree::new();
    let text = "title golden\n".repeat(1000);
    tree.write(&TreePath::literal("loader/entries/a-long-name.conf"), 0o644, text.as_bytes())
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("img")).unwrap();
    let size = fat::measure(&tree, &FatOptions::new(7, 0)).unwrap();
    fat::write(&tree, &FatOptions::new(7, size), &file, 0).unwrap();
    let read = oracle_ok(dir.path(), "mtype -i /mnt/img ::/loader/entries/a-long-name.conf");
    assert_eq!(read, text);
}

#[test]
#[ignore = "oracle"]
fn reads_what_mkfs_and_mcopy_make() {
    let dir = tempfile::tempdir().unwrap();
    let big = Rng(3).bytes(300_000);
    std::fs::write(dir.path().join("Some Big File"), &big).unwrap();
    std::fs::write(dir.path().join("low.txt"), b"low\n").unwrap();
    for make in
        ["-F 32 -S 512 -C /mnt/img 70000", "-F 16 -C /mnt/img 20000", "-F 12 -C /mnt/img 2000"]
    {
        let _ = std::fs::remove_file(dir.path().join("img"));
        oracle_ok(dir.path(), &format!("mkfs.vfat {make}"));
        oracle_ok(dir.path(), "mmd -i /mnt/img ::/EFI");
        let copy = "mcopy -i /mnt/img '/mnt/Some Big File' /mnt/low.txt ::/EFI/";
        oracle_ok(dir.path(), copy);
        let tree = fat::read(&blob(&dir.path().join("img")), 0).unwrap();
        let read = |path: &'static str| tree.read(&TreePath::literal(path), 1 << 20).unwrap();
        assert!(read("EFI/Some Big File").unwrap() == big);
        assert_eq!(read("EFI/low.txt").unwrap(), b"low\n");
    }
}

#[test]
#[ignore = "oracle"]
fn the_swap_header_is_that_of_mkswap() {
    let dir = tempfile::tempdir().unwrap();
    let options = SwapOptions {
        uuid: Uuid::from_bytes(*b"0123456789abcdef"),
        label: "golden swap".into(),
        size: (64 << 20) + 512,
    };
    let file = std::fs::File::create(dir.path().join("ours")).unwrap();
    swap::write(&options, &file, 0).unwrap();
    std::fs::File::create(dir.path().join("theirs")).unwrap().set_len(options.size).unwrap();
    let make = format!("mkswap -p 4096 -U {} -L 'golden swap' /mnt/theirs", options.uuid);
    oracle_ok(dir.path(), &make);
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    assert!(read("ours") == read("theirs"));
}
