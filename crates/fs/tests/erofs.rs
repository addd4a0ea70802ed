//! EROFS: what is written is read back, and always as the same bytes.

mod common;

use common::*;
use fs::erofs::{self, Compression, ErofsOptions};
use fs::fuzzing;
use fs::squashfs::{self, SquashfsOptions};
use fs::tools::Arg;
use sha2::{Digest, Sha256};
use tree::{Content, Meta, Mtime, Part, Tree, TreePath};
use uuid::Uuid;

fn options() -> ErofsOptions {
    let uuid = Uuid::from_bytes(*b"0123456789abcdef");
    ErofsOptions { uuid, label: "golden".into(), epoch: 1_700_000_000 }
}

fn write(tree: &Tree, offset: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let size = erofs::write(tree, &options(), file.as_file(), offset).unwrap();
    assert_eq!(size, erofs::measure(tree).unwrap());
    assert_eq!(file.as_file().metadata().unwrap().len(), offset + size);
    file
}

fn hash(file: &tempfile::NamedTempFile) -> String {
    hex::encode(Sha256::digest(std::fs::read(file.path()).unwrap()))
}

#[test]
fn what_is_written_is_read_back() {
    let source = Source::new(1 << 20);
    for seed in 0..3 {
        let mut tree = sample(seed, 600, &source, &EROFS);
        crowd(&mut tree, "crowd", 1500);
        let file = write(&tree, 12_288);
        assert_same(&tree, &erofs::read(&blob(file.path()), 12_288).unwrap());
    }
    assert!(erofs::read(&blob(write(&Tree::new(), 0).path()), 0).unwrap().is_empty());
}

#[test]
fn holes_take_no_space() {
    let source = Source::new(1 << 16);
    let mut tree = Tree::new();
    let parts = vec![
        Part::Hole { len: 1 << 30 },
        Part::Data { blob: source.blob.clone(), offset: 0, len: 60_000 },
        Part::Hole { len: 3 << 30 },
    ];
    tree.add_file(TreePath::literal("sparse"), Meta::file(0o600), Content::parts(parts)).unwrap();
    assert!(erofs::measure(&tree).unwrap() < 1 << 20);
    let file = write(&tree, 0);
    let found = erofs::read(&blob(file.path()), 0).unwrap();
    let content = found.get(&TreePath::literal("sparse")).unwrap().content().unwrap();
    assert_eq!(content.len(), (4 << 30) + 60_000);
    let mut bytes = vec![0; 60_000];
    content.read_at(&mut bytes, 1 << 30).unwrap();
    let mut expected = vec![0; 60_000];
    Content::range(source.blob.clone(), 0, 60_000).read_at(&mut expected, 0).unwrap();
    assert!(bytes == expected);
}

/// Recorded from an image that fsck.erofs found clean.
#[test]
fn golden_bytes() {
    let mut tree = Tree::new();
    tree.write(&TreePath::literal("usr/lib/os-release"), 0o644, *b"ID=golden\n").unwrap();
    tree.add_symlink(TreePath::literal("lib"), "usr/lib").unwrap();
    let mut meta = Meta::file(0o4755).owned_by(70_000, 5).at(Mtime { secs: -5, nanos: 7 });
    meta.xattrs.insert(b"security.capability".to_vec(), vec![1; 20]);
    tree.add_file(TreePath::literal("tool"), meta, Content::inline(vec![7; 10_000])).unwrap();
    crowd(&mut tree, "many", 300);
    assert_eq!(
        hash(&write(&tree, 0)),
        "d618c6aa435c2d324a1d968dd79ec74d9630ae7f4c891d185e5c0da0a91df1b6"
    );
}

#[test]
fn threads_reach_no_byte() {
    let source = Source::new(2 << 20);
    let tree = sample(11, 500, &source, &EROFS);
    let hashes = [1, 2, 8].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        hash(&pool.install(|| write(&tree, 0)))
    });
    assert!(hashes.iter().all(|h| *h == hashes[0]), "{hashes:?}");
}

#[test]
fn damaged_images_do_not_panic() {
    let source = Source::new(1 << 16);
    let mut tree = sample(3, 120, &source, &EROFS);
    crowd(&mut tree, "c", 200);
    let good = std::fs::read(write(&tree, 0).path()).unwrap();
    let mut rng = Rng(1);
    for round in 0..400 {
        let mut bad = good.clone();
        bad[1032] &= !1; // no checksum
        for _ in 0..1 + round % 5 {
            let at = match rng.below(3) {
                0 => 1024 + rng.below(128),
                _ => rng.below(200_000.min(bad.len() as u64)),
            };
            bad[at as usize] = rng.next() as u8;
        }
        fuzzing::fuzz_erofs(&bad);
        fuzzing::fuzz_erofs(&bad[..rng.below(bad.len() as u64) as usize]);
    }
}

#[test]
fn tools_get_everything_that_could_vary() {
    let zstd = Compression { algorithm: "zstd".into(), level: Some(3) };
    let args = erofs::arguments(&options(), &zstd).unwrap();
    for expected in ["--tar=f", "-zzstd,level=3", "-T1700000000", "--mkfs-time", "-Lgolden"] {
        assert!(args.contains(&Arg::from(expected)), "{expected}");
    }
    let mut tree = Tree::new();
    let root = &mut tree.get_mut(&TreePath::root()).unwrap().meta;
    *root = Meta::new(0o1751).owned_by(5, 6).at(Mtime::secs(99));
    root.xattrs.insert(b"user.r".to_vec(), vec![0, 255]);
    let options = SquashfsOptions { compression: Some("zstd".into()), level: None, epoch: 7 };
    let args = squashfs::arguments(&tree, &options).unwrap();
    for pair in [
        ["-root-mode", "1751"],
        ["-root-uid", "5"],
        ["-root-gid", "6"],
        ["-root-time", "99"],
        ["-mkfs-time", "7"],
        ["-p", "/ x user.r=0sAP8="],
    ] {
        assert!(args.windows(2).any(|w| *w == pair.map(Arg::from)), "{pair:?} in {args:?}");
    }
    root_time(&mut tree, -1);
    assert!(squashfs::arguments(&tree, &options).unwrap_err().to_string().contains("1970"));
}

fn root_time(tree: &mut Tree, secs: i64) {
    tree.get_mut(&TreePath::root()).unwrap().meta.mtime = Mtime::secs(secs);
}
