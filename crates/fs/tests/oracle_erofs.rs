//! EROFS and squashfs against their own tools.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use common::*;
use fs::erofs::{self, Compression, ErofsOptions};
use fs::squashfs::{self, SquashfsOptions};
use fs::tools::{Arg, Feed, Tool, ToolFailure, ToolRunner};
use tree::{Kind, Tree, TreePath};
use uuid::Uuid;

fn options() -> ErofsOptions {
    let uuid = Uuid::from_bytes(*b"0123456789abcdef");
    ErofsOptions { uuid, label: "golden".into(), epoch: 1_700_000_000 }
}

#[test]
#[ignore = "oracle"]
fn fsck_erofs_finds_nothing_and_extracts_everything() {
    let source = Source::new(3 << 20);
    for seed in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = sample(seed, 2000, &source, &EROFS);
        crowd(&mut tree, "crowd", 20_000);
        let file = std::fs::File::create(dir.path().join("img")).unwrap();
        erofs::write(&tree, &options(), &file, 0).unwrap();
        oracle_ok(dir.path(), "fsck.erofs --extract /mnt/img");
    }
}

#[test]
#[ignore = "oracle"]
fn the_label_and_uuid_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("img")).unwrap();
    erofs::write(&Tree::new(), &options(), &file, 0).unwrap();
    let shown = oracle_ok(dir.path(), "dump.erofs -s /mnt/img");
    assert!(shown.contains(&options().uuid.to_string()), "{shown}");
    let shown = oracle_ok(dir.path(), "blkid -p /mnt/img");
    assert!(shown.contains("LABEL=\"golden\"") && shown.contains("TYPE=\"erofs\""), "{shown}");
}

/// Images of mkfs.erofs without compression, read by us.
#[test]
#[ignore = "oracle"]
fn reads_what_mkfs_erofs_makes() {
    let source = Source::new(1 << 20);
    let tree = for_tar(sample(5, 500, &source, &SQUASHFS));
    for form in ["", "--chunksize=4096 ", "-x1 "] {
        let dir = tempfile::tempdir().unwrap();
        tree::tar::write(&tree, &mut std::fs::File::create(dir.path().join("tar")).unwrap())
            .unwrap();
        let make = format!("mkfs.erofs --quiet {form}--tar=f --preserve-mtime /mnt/img /mnt/tar");
        oracle_ok(dir.path(), &make);
        assert_same(&tree, &erofs::read(&blob(&dir.path().join("img")), 0).unwrap());
    }
}

/// Runs the tools of the oracle, the output's directory at `/mnt`.
struct Runner;

impl ToolRunner for Runner {
    fn run(
        &self,
        tool: Tool,
        args: &[Arg],
        stdin: Feed<'_>,
        output: &Path,
    ) -> Result<(), ToolFailure> {
        let (dir, name) = (output.parent().unwrap(), output.file_name().unwrap());
        let quote = |arg: &Arg| match arg {
            Arg::Text(text) => format!("'{text}'"),
            Arg::Output => format!("/mnt/{}", name.display()),
        };
        let words: Vec<String> = args.iter().map(quote).collect();
        let mut command = oracle(dir, &format!("{} {}", tool.name(), words.join(" ")));
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        stdin(&mut child.stdin.take().unwrap() as &mut dyn Write)?;
        match child.wait()? {
            status if status.success() => Ok(()),
            status => Err(status.to_string().into()),
        }
    }
}

/// Without what a tar stream, or mkfs.erofs reading one, cannot take.
fn for_tar(mut tree: Tree) -> Tree {
    let odd = |kind: &Kind| match kind {
        Kind::Socket => true,
        Kind::CharDev(device) | Kind::BlockDev(device) => device.minor >= 1 << 19,
        _ => false,
    };
    let odd: Vec<_> =
        tree.iter().filter(|(_, _, n)| odd(&n.kind)).map(|(p, _, _)| p.clone()).collect();
    for path in odd {
        tree.remove(&path);
    }
    tree
}

#[test]
#[ignore = "oracle"]
fn tools_make_the_same_bytes_twice() {
    let source = Source::new(1 << 20);
    let mut tree = for_tar(sample(6, 500, &source, &SQUASHFS));
    // squashfs keeps no ACLs.
    let paths: Vec<_> = tree.iter().map(|(p, _, _)| p.clone()).collect();
    for path in paths {
        tree.get_mut(&path).unwrap().meta.xattrs.retain(|k, _| !k.starts_with(b"system."));
    }
    let zstd = Compression { algorithm: "zstd".into(), level: Some(3) };
    let squash =
        SquashfsOptions { compression: Some("zstd".into()), level: Some(3), epoch: 1_700_000_000 };
    let made = [0, 1].map(|_| {
        let dir = tempfile::tempdir().unwrap();
        erofs::compress(&tree, &options(), &zstd, &Runner, &dir.path().join("e")).unwrap();
        squashfs::write(&tree, &squash, &Runner, &dir.path().join("s")).unwrap();
        oracle_ok(dir.path(), "fsck.erofs /mnt/e");
        oracle_ok(dir.path(), "unsquashfs -no-progress -lls /mnt/s");
        ["e", "s"].map(|name| std::fs::read(dir.path().join(name)).unwrap())
    });
    assert!(made[0] == made[1]);
}

/// As systemd-repart puts them on roots: longer than what squashfs-tools 4.6 decodes from
/// hexadecimal.
#[test]
#[ignore = "oracle"]
fn squashfs_keeps_long_attributes_of_the_root() {
    let value = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709\0";
    let mut tree = Tree::new();
    let root = &mut tree.get_mut(&TreePath::root()).unwrap().meta;
    root.xattrs.insert(b"user.validatefs.gpt_type_uuid".to_vec(), value.into());
    let dir = tempfile::tempdir().unwrap();
    let options = SquashfsOptions { compression: None, level: None, epoch: 7 };
    squashfs::write(&tree, &options, &Runner, &dir.path().join("s")).unwrap();
    oracle_ok(dir.path(), "unsquashfs -q -n -d /mnt/u /mnt/s");
    let script = "python3 -c 'import os; \
                  print(os.getxattr(\"/mnt/u\", \"user.validatefs.gpt_type_uuid\").hex())'";
    assert_eq!(oracle_ok(dir.path(), script).trim(), hex::encode(value));
}
