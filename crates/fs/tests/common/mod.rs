//! Trees to write and ways to compare them.
#![allow(dead_code)]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tree::{Blob, Content, Device, Kind, Meta, Mtime, Node, Part, Tree, TreePath};

/// Numbers that look random and are the same every time (splitmix64).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

/// Bytes to take contents from.
pub struct Source {
    pub blob: Arc<Blob>,
    pub len: u64,
    _file: tempfile::NamedTempFile,
}

impl Source {
    pub fn new(len: usize) -> Source {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&Rng(7).bytes(len)).unwrap();
        let blob = Blob::opened(file.path(), file.reopen().unwrap(), None);
        Source { blob, len: len as u64, _file: file }
    }

    pub fn content(&self, rng: &mut Rng, len: u64) -> Content {
        Content::range(self.blob.clone(), rng.below(self.len - len + 1), len)
    }
}

/// What the format under test can say.
#[derive(Clone, Copy)]
pub struct Shape {
    pub xattr_max: usize,
    pub time_min: i64,
    pub time_max: i64,
}

pub const EXT4: Shape = Shape { xattr_max: 3500, time_min: -0x8000_0000, time_max: 0x3_7fff_ffff };

pub const EROFS: Shape = Shape { xattr_max: 60_000, time_min: -1 << 40, time_max: 1 << 40 };
pub const SQUASHFS: Shape = Shape { xattr_max: 8_000, time_min: 0, time_max: u32::MAX as i64 };

pub fn root() -> TreePath {
    TreePath::root()
}

fn name(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(10) {
        0 => 255,
        1 => 1,
        _ => 1 + rng.below(40),
    } as usize;
    // Any byte but NUL and slash: most names are not UTF-8.
    let wild = rng.below(4) == 0;
    let pick = |b: u8| match b {
        b if wild && b != 0 && b != b'/' => b,
        b => b'a' + b % 26,
    };
    rng.bytes(len).into_iter().map(pick).collect()
}

fn meta(rng: &mut Rng, shape: &Shape) -> Meta {
    let secs = match rng.below(4) {
        0 => shape.time_min + rng.below(1 << 31) as i64,
        1 => shape.time_max - rng.below(1 << 31) as i64,
        _ => rng.below(1 << 31) as i64,
    };
    let mtime = Mtime { secs, nanos: rng.below(1_000_000_000) as u32 };
    let id = |rng: &mut Rng| match rng.below(3) {
        0 => rng.below(1 << 32) as u32,
        _ => rng.below(1000) as u32,
    };
    let mut meta = Meta::new(rng.below(0o10000) as u16).at(mtime);
    (meta.uid, meta.gid) = (id(rng), id(rng));
    if rng.below(4) == 0 {
        let mut left = shape.xattr_max;
        for class in ["user.", "trusted.", "security."].iter().take(1 + rng.below(3) as usize) {
            let key = [class.as_bytes(), &rng.below(1000).to_string().into_bytes()].concat();
            let len = if rng.below(2) == 0 { 20 } else { left / 2 };
            let len = (rng.below(len as u64 + 1) as usize).min(left);
            left -= len;
            meta.xattrs.insert(key, rng.bytes(len));
        }
    }
    meta
}

pub const ACL: [u8; 44] = [
    2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 5, 0, 42, 0, 0, 0, 4, 0, 5, 0, 255, 255, 255,
    255, 16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255,
];

fn content(rng: &mut Rng, source: &Source) -> Content {
    match rng.below(8) {
        0 => Content::empty(),
        1 => Content::inline(rng.bytes(5000)),
        2 => {
            let mut parts = Vec::new();
            for _ in 0..rng.below(12) {
                parts.push(Part::Hole { len: rng.below(30_000) });
                let len = rng.below(20_000);
                let offset = rng.below(source.len - len);
                parts.push(Part::Data { blob: source.blob.clone(), offset, len });
            }
            parts.push(Part::Hole { len: rng.below(3) * 100_000 });
            Content::parts(parts)
        }
        3 => {
            let len = rng.below(source.len);
            source.content(rng, len)
        }
        _ => {
            let len = rng.below(9000);
            source.content(rng, len)
        }
    }
}

fn kind(rng: &mut Rng, source: &Source) -> Kind {
    match rng.below(20) {
        0..=3 => Kind::Dir,
        4 => Kind::Symlink(vec![b't'; 1 + rng.below(59) as usize].into()),
        5 => Kind::Symlink(vec![b'u'; 55 + rng.below(10) as usize].into()),
        6 => Kind::Symlink(vec![b'v'; 60 + rng.below(4000) as usize].into()),
        7 => Kind::CharDev(Device { major: rng.below(256) as u32, minor: rng.below(256) as u32 }),
        8 => Kind::BlockDev(Device {
            major: rng.below(4096) as u32,
            minor: rng.below(1 << 20) as u32,
        }),
        9 => Kind::Fifo,
        10 => Kind::Socket,
        _ => Kind::File(content(rng, source)),
    }
}

/// A tree of about `count` entries of every kind.
pub fn sample(seed: u64, count: usize, source: &Source, shape: &Shape) -> Tree {
    let mut rng = Rng(seed);
    let mut tree = Tree::new();
    let mut dirs = vec![root()];
    let mut files: Vec<TreePath> = Vec::new();
    tree.get_mut(&root()).unwrap().meta = meta(&mut rng, shape);
    for _ in 0..count {
        // Often the newest directory, so that some are deep.
        let at =
            if rng.below(3) == 0 { dirs.len() as u64 - 1 } else { rng.below(dirs.len() as u64) };
        let Ok(path) = dirs[at as usize].join(name(&mut rng)) else { continue };
        if tree.contains(&path) || path.as_bytes().len() > 3000 {
            continue;
        }
        if rng.below(12) == 0 && !files.is_empty() {
            let existing = files[rng.below(files.len() as u64) as usize].clone();
            tree.add_link(path, &existing).unwrap();
            continue;
        }
        let kind = kind(&mut rng, source);
        let mut meta = meta(&mut rng, shape);
        match kind {
            Kind::Symlink(_) => {
                // Linux keeps no user attributes, and no mode, on links.
                meta.mode = 0o777;
                meta.xattrs.retain(|name, _| !name.starts_with(b"user."));
            }
            Kind::Dir => {
                dirs.push(path.clone());
                meta.mode |= 0o500;
                if rng.below(5) == 0 {
                    meta.xattrs.insert(b"system.posix_acl_default".to_vec(), ACL.to_vec());
                }
            }
            Kind::File(_) => {
                files.push(path.clone());
                if rng.below(5) == 0 {
                    meta.mode = meta.mode & 0o7000 | 0o775;
                    meta.xattrs.insert(b"system.posix_acl_access".to_vec(), ACL.to_vec());
                }
            }
            _ => {
                meta.xattrs.retain(|name, _| !name.starts_with(b"user."));
                files.push(path.clone());
            }
        }
        tree.add(path, Node { meta, kind }).unwrap();
    }
    tree
}

/// A directory of `count` entries, hard links of one file among them.
pub fn crowd(tree: &mut Tree, dir: &str, count: usize) {
    let dir = TreePath::new(dir).unwrap();
    tree.make_dirs(&dir).unwrap();
    let mut rng = Rng(99);
    for i in 0..count {
        let mut name = format!("{i}-").into_bytes();
        let len = rng.below(60) as usize;
        name.extend(rng.bytes(len).into_iter().map(|b| b'a' + b % 26));
        let path = dir.join(name).unwrap();
        tree.add_file(path, Meta::file(0o644), Content::empty()).unwrap();
    }
}

/// What the ext4 writer adds to every tree.
pub fn with_lost_found(tree: &Tree, epoch: i64) -> Tree {
    let mut tree = tree.clone();
    let path = TreePath::literal("lost+found");
    if !tree.contains(&path) {
        let meta = Meta::new(0o700).at(Mtime::secs(epoch));
        tree.add(path, Node { meta, kind: Kind::Dir }).unwrap();
    }
    tree
}

pub fn assert_same(expected: &Tree, found: &Tree) {
    let paths = |t: &Tree| t.iter().map(|(p, _, _)| p.clone()).collect::<Vec<_>>();
    let (a, b) = (paths(expected), paths(found));
    assert_eq!(a.len(), b.len(), "number of entries");
    for (path, other) in a.iter().zip(&b) {
        assert_eq!(path, other);
        let (x, y) = (expected.get(path).unwrap(), found.get(path).unwrap());
        assert_eq!(x.meta, y.meta, "{path}");
        assert_eq!(expected.links(path), found.links(path), "links of {path}");
        match (&x.kind, &y.kind) {
            (Kind::File(x), Kind::File(y)) => {
                assert!(x.read(1 << 30).unwrap() == y.read(1 << 30).unwrap(), "content of {path}");
            }
            (x, y) => assert_eq!(format!("{x:?}"), format!("{y:?}"), "{path}"),
        }
    }
    let mut first = std::collections::HashMap::new();
    for (path, id, _) in expected.iter() {
        let twin = first.entry(id).or_insert(path);
        assert_eq!(found.inode_id(twin), found.inode_id(path), "{path} is a link of {twin}");
    }
}

pub fn blob(path: &Path) -> Arc<Blob> {
    Blob::opened(path, File::open(path).unwrap(), None)
}

/// An original tool with `dir` at `/mnt`; `command` is a line for the shell.
pub fn oracle(dir: &Path, command: &str) -> Command {
    testkit::oracle::shell(&format!("exec {command}"), dir, &[])
}

/// Runs one; fails with its output unless it succeeds.
pub fn oracle_ok(dir: &Path, command: &str) -> String {
    let output = oracle(dir, command).output().expect("unshare(1)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {}\n{text}", output.status);
    text
}

/// What FAT keeps of the meta: the time, in steps of two seconds.
pub fn fat_meta(tree: &mut Tree) {
    let paths: Vec<TreePath> = tree.iter().map(|(p, _, _)| p.clone()).collect();
    for path in paths {
        let node = tree.get_mut(&path).unwrap();
        let secs = if path.is_root() { 0 } else { node.meta.mtime.secs.max(315_532_800) / 2 * 2 };
        let mode = if node.is_dir() { 0o755 } else { 0o644 };
        node.meta = Meta::new(mode).at(Mtime::secs(secs));
    }
}

/// A tree of files and directories with names that FAT takes.
pub fn fat_sample(seed: u64, count: usize, source: &Source) -> Tree {
    let mut rng = Rng(seed);
    let mut tree = Tree::new();
    let mut dirs = vec![root()];
    for i in 0..count {
        let name = match rng.below(5) {
            0 => format!("SHORT{i}.EFI"),
            1 => format!("lower{i}.cfg"),
            2 => format!("größer und länger 🐧 {i}"),
            3 => format!("{}{i}", "x".repeat(200)),
            _ => format!("name with several.dots.in.it-{i}.conf"),
        };
        let path = dirs[rng.below(dirs.len() as u64) as usize].join(name).unwrap();
        if rng.below(4) == 0 && dirs.len() < 40 {
            tree.make_dirs(&path).unwrap();
            dirs.push(path);
            continue;
        }
        let len = if rng.below(5) == 0 { 0 } else { rng.below(20_000) };
        let content = source.content(&mut rng, len);
        let meta = Meta::file(0o644).at(Mtime::secs(rng.below(4_000_000_000) as i64));
        tree.add_file(path, meta, content).unwrap();
    }
    fat_meta(&mut tree);
    tree
}
