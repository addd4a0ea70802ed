//! ext4: what is written is read back, and always as the same bytes.

mod common;

use common::*;
use fs::ext4::{self, Ext4Options};
use fs::{FsError, fuzzing};
use sha2::{Digest, Sha256};
use tree::{Content, Kind, Meta, Node, Part, Tree, TreePath};
use uuid::Uuid;

fn options(size: u64) -> Ext4Options {
    let uuid = Uuid::from_bytes(*b"0123456789abcdef");
    Ext4Options { label: "golden".into(), epoch: 1_700_000_000, ..Ext4Options::new(uuid, size) }
}

fn write(tree: &Tree, options: &Ext4Options, offset: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    ext4::write(tree, options, file.as_file(), offset).unwrap();
    file
}

fn hash(file: &tempfile::NamedTempFile) -> String {
    hex::encode(Sha256::digest(std::fs::read(file.path()).unwrap()))
}

#[test]
fn what_is_written_is_read_back() {
    let source = Source::new(1 << 20);
    for seed in 0..3 {
        let mut tree = sample(seed, 600, &source, &EXT4);
        crowd(&mut tree, "crowd", 1500);
        let size = ext4::measure(&tree, &options(0)).unwrap();
        let file = write(&tree, &options(size), 12_288);
        let found = ext4::read(&blob(file.path()), 12_288).unwrap();
        assert_same(&with_lost_found(&tree, 1_700_000_000), &found);
    }
}

#[test]
fn measure_is_the_smallest_size() {
    let source = Source::new(1 << 20);
    let mut tree = sample(5, 300, &source, &EXT4);
    let mut last = 0;
    // Below, around and above the end of a block group.
    for (step, files) in [20, 90, 12].into_iter().enumerate() {
        for i in 0..files {
            let path = TreePath::new(format!("f{step}-{i}")).unwrap();
            let content = Content::parts(vec![Part::Data {
                blob: source.blob.clone(),
                offset: 0,
                len: 1 << 20,
            }]);
            tree.add_file(path, Meta::file(0o600), content).unwrap();
        }
        let size = ext4::measure(&tree, &options(0)).unwrap();
        assert!(size > last);
        last = size;
        // Written over nothing, so that only the plan is worked out twice.
        let out = tempfile::tempfile().unwrap();
        ext4::write(&tree, &options(size), &out, 0).unwrap();
        let less = ext4::write(&tree, &options(size - 4096), &out, 0);
        assert!(matches!(less, Err(FsError::TooSmall { .. })), "{less:?}");
        let free = ext4::measure(&tree, &Ext4Options { free: 10 << 20, ..options(0) }).unwrap();
        assert!(free >= size + (10 << 20));
    }
}

/// Recorded from an image that e2fsck found clean. A change here is a change of
/// everybody's images: say so in the changelog.
#[test]
fn golden_bytes() {
    let mut tree = Tree::new();
    tree.write(&TreePath::literal("etc/hostname"), 0o644, *b"golden\n").unwrap();
    tree.add_symlink(TreePath::literal("link"), "etc/hostname").unwrap();
    let mut meta = Meta::file(0o4755).owned_by(70_000, 5);
    meta.xattrs.insert(b"security.capability".to_vec(), vec![1; 20]);
    meta.xattrs.insert(b"user.long".to_vec(), vec![2; 300]);
    tree.add_file(TreePath::literal("tool"), meta, Content::inline(vec![7; 10_000])).unwrap();
    crowd(&mut tree, "many", 300);
    let file = write(&tree, &options(16 << 20), 0);
    assert_eq!(hash(&file), "dc5feee5b8fadec1623135ddbff8288e816e98c2b9c2b41c13516a1718b518f5");
}

#[test]
fn threads_reach_no_byte() {
    let source = Source::new(12 << 20);
    let mut tree = sample(11, 500, &source, &EXT4);
    tree.add_file(
        TreePath::literal("big"),
        Meta::file(0o644),
        source.content(&mut Rng(1), 11 << 20),
    )
    .unwrap();
    let size = ext4::measure(&tree, &options(0)).unwrap();
    let hashes = [1, 2, 8].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        hash(&pool.install(|| write(&tree, &options(size), 0)))
    });
    assert!(hashes.iter().all(|h| *h == hashes[0]), "{hashes:?}");
}

#[test]
fn what_ext4_cannot_say_is_refused() {
    let with = |kind: Kind, meta: Meta| {
        let mut tree = Tree::new();
        tree.add(TreePath::literal("x"), Node { meta, kind }).unwrap();
        ext4::measure(&tree, &options(0)).unwrap_err().to_string()
    };
    let mut fat = Meta::file(0o644);
    fat.xattrs.insert(b"user.x".to_vec(), vec![0; 5000]);
    for (message, expected) in [
        (with(Kind::File(Content::empty()), fat), "ext4 takes 4096"),
        (with(Kind::Symlink(b"".as_slice().into()), Meta::symlink()), "link target"),
        (with(Kind::Fifo, Meta::new(0).at(tree::Mtime::secs(1 << 40))), "1901"),
        (
            with(Kind::CharDev(tree::Device { major: 1 << 20, minor: 0 }), Meta::new(0)),
            "device number",
        ),
    ] {
        assert!(message.starts_with("ext4: /x: ") && message.contains(expected), "{message}");
    }
    let long = Ext4Options { label: "x".repeat(17), ..options(1 << 24) };
    assert!(ext4::measure(&Tree::new(), &long).is_err());
}

#[test]
fn a_large_sparse_file_system_takes_little_space() {
    use std::os::unix::fs::MetadataExt;
    let mut tree = Tree::new();
    tree.add_file(
        TreePath::literal("sparse"),
        Meta::file(0o644),
        Content::parts(vec![Part::Hole { len: 1 << 40 }]),
    )
    .unwrap();
    let file = write(&tree, &options(100 << 30), 0);
    let used = file.as_file().metadata().unwrap().blocks() * 512;
    assert!(used < 16 << 20, "{used} bytes");
    assert_eq!(ext4::read(&blob(file.path()), 0).unwrap().len(), 3);
}

/// Any byte may be changed: an error, a different tree, but no panic.
#[test]
fn damaged_images_do_not_panic() {
    let source = Source::new(1 << 18);
    let mut tree = sample(3, 120, &source, &EXT4);
    crowd(&mut tree, "c", 200);
    let without = Ext4Options { journal_blocks: Some(0), growth: 1, ..options(0) };
    let size = ext4::measure(&tree, &without).unwrap();
    let file = write(&tree, &Ext4Options { size, ..without }, 0);
    let good = std::fs::read(file.path()).unwrap();
    let mut rng = Rng(1);
    for round in 0..200 {
        let mut bad = good.clone();
        for _ in 0..1 + round % 5 {
            let at = match rng.below(4) {
                0 => 1024 + rng.below(256),
                1 => 4096 + rng.below(64),
                _ => rng.below(bad.len() as u64),
            } as usize;
            bad[at] = rng.next() as u8;
        }
        // Without checksums the damage gets further in.
        bad[1024 + 0x65] &= !4;
        fuzzing::fuzz_ext4(&bad);
        fuzzing::fuzz_ext4(&bad[..rng.below(bad.len() as u64) as usize]);
    }
}

#[test]
fn damage_is_found_by_its_checksum() {
    let file = write(&Tree::new(), &options(16 << 20), 0);
    let mut bytes = std::fs::read(file.path()).unwrap();
    bytes[1024 + 0x78] ^= 1; // the label
    let damaged = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(damaged.path(), bytes).unwrap();
    let error = ext4::read(&blob(damaged.path()), 0).unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
}
