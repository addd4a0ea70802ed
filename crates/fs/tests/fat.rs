//! FAT: what is written is read back, and always as the same bytes.

mod common;

use common::*;
use fs::fat::{self, FatOptions, FatType};
use fs::{FsError, fuzzing};
use sha2::{Digest, Sha256};
use tree::{Content, Meta, Mtime, Tree, TreePath};

fn options(size: u64, fat_type: FatType) -> FatOptions {
    FatOptions {
        label: "ESP".into(),
        fat_type: Some(fat_type),
        epoch: 1_700_000_000,
        ..FatOptions::new(0x1234_abcd, size)
    }
}

fn write(tree: &Tree, options: &FatOptions, offset: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fat::write(tree, options, file.as_file(), offset).unwrap();
    file
}

#[test]
fn what_is_written_is_read_back_from_every_type() {
    let source = Source::new(1 << 20);
    for (seed, (fat_type, sector)) in [
        (FatType::Fat12, 512),
        (FatType::Fat16, 512),
        (FatType::Fat32, 512),
        (FatType::Fat32, 4096),
    ]
    .into_iter()
    .enumerate()
    {
        let count = if fat_type == FatType::Fat12 { 25 } else { 300 };
        let tree = fat_sample(seed as u64, count, &source);
        let mut options = options(0, fat_type);
        options.sector_size = sector;
        options.size = fat::measure(&tree, &options).unwrap();
        let file = write(&tree, &options, 4096 * 3);
        let found = fat::read(&blob(file.path()), 4096 * 3).unwrap();
        assert_same(&tree, &found);
        let less = FatOptions { size: options.size - u64::from(sector), ..options };
        let error = fat::write(&tree, &less, file.as_file(), 0);
        assert!(matches!(error, Err(FsError::TooSmall { .. })), "{fat_type:?}: {error:?}");
    }
}

#[test]
fn many_entries_in_root_and_below() {
    for fat_type in [FatType::Fat16, FatType::Fat32] {
        let mut tree = Tree::new();
        fat_meta(&mut tree);
        for i in 0..3000 {
            for dir in ["", "sub/"] {
                tree.write(
                    &TreePath::new(format!("{dir}A longer name, number {i}.conf")).unwrap(),
                    0o644,
                    *b"x",
                )
                .unwrap();
            }
        }
        fat_meta(&mut tree);
        let size = fat::measure(&tree, &options(0, fat_type)).unwrap();
        let file = write(&tree, &options(size, fat_type), 0);
        assert_same(&tree, &fat::read(&blob(file.path()), 0).unwrap());
    }
}

#[test]
fn golden_bytes() {
    let mut tree = Tree::new();
    let time = Mtime::secs(1_700_000_000);
    for (path, len) in [("EFI/BOOT/BOOTX64.EFI", 70_000), ("loader/loader.conf", 20), ("empty", 0)]
    {
        tree.write(&TreePath::new(path).unwrap(), 0o644, vec![5; len]).unwrap();
    }
    let paths: Vec<_> = tree.iter().map(|(p, _, _)| p.clone()).collect();
    for path in paths {
        tree.get_mut(&path).unwrap().meta.mtime = time;
    }
    let file = write(&tree, &options(40 << 20, FatType::Fat32), 0);
    let hash = hex::encode(Sha256::digest(std::fs::read(file.path()).unwrap()));
    assert_eq!(hash, "9ab58b2f5c2d153a433ba4b9049b19e1b87ee07cdc67f5dca8b61b1c436a788f");
}

#[test]
fn what_fat_cannot_say_is_refused() {
    let mut link = Tree::new();
    link.add_symlink(TreePath::literal("link"), "x").unwrap();
    let mut case = Tree::new();
    case.write(&TreePath::literal("abc"), 0o644, *b"").unwrap();
    case.write(&TreePath::literal("ABC"), 0o644, *b"").unwrap();
    let mut huge = Tree::new();
    let parts = vec![tree::Part::Hole { len: 1 << 32 }];
    huge.add_file(TreePath::literal("huge"), Meta::file(0), Content::parts(parts)).unwrap();
    for (tree, expected) in
        [(link, "/link: is neither"), (case, "/abc: its name differs"), (huge, "4 GiB")]
    {
        let error = fat::measure(&tree, &options(0, FatType::Fat32)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let label = FatOptions { label: "lower".into(), ..options(0, FatType::Fat32) };
    assert!(fat::measure(&Tree::new(), &label).is_err());
}

#[test]
fn a_large_one_takes_little_space() {
    use std::os::unix::fs::MetadataExt;
    let file = write(&Tree::new(), &options(1 << 40, FatType::Fat32), 0);
    assert!(file.as_file().metadata().unwrap().blocks() < 200);
    let huge = FatOptions { sector_size: 4096, ..options(8 << 40, FatType::Fat32) };
    let file = write(&Tree::new(), &huge, 0);
    assert!(fat::read(&blob(file.path()), 0).unwrap().is_empty());
}

#[test]
fn damaged_images_do_not_panic() {
    let source = Source::new(1 << 16);
    for fat_type in [FatType::Fat12, FatType::Fat16] {
        let tree = fat_sample(9, 20, &source);
        let size = fat::measure(&tree, &options(0, fat_type)).unwrap();
        let file = write(&tree, &options(size, fat_type), 0);
        let good = std::fs::read(file.path()).unwrap();
        let mut rng = Rng(1);
        for round in 0..300 {
            let mut bad = good.clone();
            for _ in 0..1 + round % 5 {
                let at = if rng.below(2) == 0 { rng.below(64) } else { rng.below(60_000) };
                bad[at as usize] = rng.next() as u8;
            }
            fuzzing::fuzz_fat(&bad);
            fuzzing::fuzz_fat(&bad[..rng.below(bad.len() as u64) as usize]);
        }
    }
}

#[test]
fn a_loop_is_an_error() {
    let mut tree = Tree::new();
    tree.write(&TreePath::literal("file"), 0o644, vec![1; 2000]).unwrap();
    let file = write(&tree, &options(40 << 20, FatType::Fat32), 0);
    let mut bytes = std::fs::read(file.path()).unwrap();
    let fat_at = usize::from(u16::from_le_bytes([bytes[14], bytes[15]])) * 512;
    // Clusters 3 to 6 are the file's; 6 leads back to 3.
    bytes[fat_at + 24..fat_at + 28].copy_from_slice(&3u32.to_le_bytes());
    std::fs::write(file.path(), bytes).unwrap();
    let error = fat::read(&blob(file.path()), 0).unwrap_err().to_string();
    assert!(error.contains("loop"), "{error}");
}
