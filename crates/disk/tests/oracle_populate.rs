//! What goes into a file system, against what systemd-repart puts into an ext4.

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use common::oracle::in_oracle;
use disk::definition::{Facts, Source, load};
use disk::plan::{Request, Size, identities};
use disk::{Architecture, Compat, Version, populate};
use tree::{Content, Device, Kind, Meta, Node, Tree, TreePath};

/// The definitions; each is looked into.
const DEFINITIONS: [(&str, &str); 6] = [
    (
        "10-root.conf",
        "Type=root\nCopyFiles=/\nExcludeFiles=/etc/link /usr/\nMakeDirectories=/a/b /etc\n",
    ),
    (
        "20-var.conf",
        "Type=var\nCopyFiles=/var:/\nCopyFiles=/etc:/x/y\nExcludeFilesTarget=/x/y/sub/ /log\n",
    ),
    (
        "30-g.conf",
        "Type=linux-generic\nCopyFiles=/etc:/x\nExcludeFiles=/etc/\nMakeDirectories=/z\n",
    ),
    (
        "40-g.conf",
        "Type=linux-generic\nCopyFiles=/etc/link/EFI:/e\nCopyFiles=/etc/one:/e/k\nMakeSymlinks=/s:../x /e/t:/y\n",
    ),
    (
        "50-g.conf",
        "Type=linux-generic\nCopyFiles=/etc:/\nCopyFiles=/usr:/\nExcludeFiles=/etc/sub\n",
    ),
    ("60-home.conf", "Type=home\nCopyFiles=/home:/\nCopyFiles=/missing\n"),
];

/// Directories (with a slash at the end), links (with `->`) and files of the source.
const FILES: [(&str, u32); 22] = [
    ("boot/", 0o755),
    ("boot/EFI/", 0o700),
    ("boot/EFI/file", 0o600),
    ("dev/", 0o755),
    ("dev/x", 0o644),
    ("efi/", 0o755),
    ("etc/", 0o751),
    ("etc/one", 0o640),
    ("etc/sub/", 0o711),
    ("etc/sub/deep", 0o604),
    ("etc/link->../boot", 0o777),
    ("home/", 0o755),
    ("home/me/", 0o750),
    ("proc/", 0o555),
    ("proc/1", 0o644),
    ("usr/", 0o755),
    ("usr/bin", 0o4755),
    ("var/", 0o755),
    ("var/log/", 0o775),
    ("var/log/x", 0o644),
    ("var/tmp/", 0o1777),
    ("var/tmp/y", 0o644),
];

fn make_source(dir: &Path) -> Tree {
    let mut tree = Tree::new();
    tree.get_mut(&TreePath::root()).unwrap().meta.mode = 0o711;
    std::fs::create_dir_all(dir).unwrap();
    for (name, mode) in FILES {
        let (path, target) = name.split_once("->").map_or((name, None), |(p, t)| (p, Some(t)));
        let meta = Meta::new(mode as u16);
        let at = TreePath::new(path).unwrap();
        let real = dir.join(path.trim_end_matches('/'));
        let kind = if let Some(target) = target {
            symlink(target, &real).unwrap();
            Kind::Symlink(target.as_bytes().into())
        } else if path.ends_with('/') {
            std::fs::create_dir(&real).unwrap();
            Kind::Dir
        } else {
            std::fs::write(&real, path).unwrap();
            Kind::File(Content::inline(path.as_bytes()))
        };
        tree.add(at, Node { meta, kind }).unwrap();
    }
    for (name, mode) in FILES.iter().rev().filter(|(name, _)| !name.contains("->")) {
        let real = dir.join(name.trim_end_matches('/'));
        std::fs::set_permissions(real, std::fs::Permissions::from_mode(*mode)).unwrap();
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711)).unwrap();
    tree
}

/// debugfs loses the other three bits when it writes files out.
const RDUMP: u16 = 0o777;

type Listing = BTreeMap<String, String>;

fn ours(tree: &Tree) -> Listing {
    let row = |(path, _, node): (&TreePath, _, &Node)| {
        let what = match &node.kind {
            Kind::Dir => "dir".to_owned(),
            Kind::Symlink(target) => format!("-> {}", String::from_utf8_lossy(target)),
            Kind::File(c) => String::from_utf8(c.read(99).unwrap()).unwrap(),
            other => format!("{:?} {:?}", other.name(), Device { major: 0, minor: 0 }),
        };
        let mode = if matches!(node.kind, Kind::Symlink(_)) { 0 } else { node.meta.mode & RDUMP };
        (path.to_string(), format!("{mode:o} {what}"))
    };
    tree.iter().map(row).collect()
}

fn theirs(dir: &Path, below: &str, into: &mut Listing) {
    let meta = std::fs::symlink_metadata(dir).unwrap();
    let (what, mode) = if meta.is_dir() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name != "lost+found" {
                theirs(&dir.join(&name), &format!("{below}/{name}"), into);
            }
        }
        ("dir".to_owned(), meta.mode() & u32::from(RDUMP))
    } else if meta.is_symlink() {
        (format!("-> {}", std::fs::read_link(dir).unwrap().display()), 0)
    } else {
        (std::fs::read_to_string(dir).unwrap(), meta.mode() & u32::from(RDUMP))
    };
    let path = if below.is_empty() { "/" } else { below };
    into.insert(path.to_owned(), format!("{mode:o} {what}"));
}

#[test]
#[ignore = "oracle"]
fn file_systems_hold_what_systemd_repart_puts_in() {
    let dir = tempfile::tempdir().unwrap();
    let source = make_source(&dir.path().join("src"));
    let texts = DEFINITIONS.map(|(name, text)| {
        (name.to_owned(), format!("[Partition]\nFormat=ext4\nSizeMaxBytes=32M\n{text}"))
    });
    common::write_definitions(&dir.path().join("d"), &texts);
    let script = "cd /mnt; export TMPDIR=/mnt; systemd-repart --offline=yes --empty=create \
        --size=auto --definitions=/mnt/d --root=/mnt/src --pretty=no --dry-run=no \
        --seed=750b6cd5-c4ae-4012-a15e-7be3c29e6a47 img.raw 2>err || cat err; \
        n=0; for start in $(sfdisk --dump img.raw | sed -n 's/.*start= *\\([0-9]*\\),.*/\\1/p'); do \
          mkdir out$n; dd if=img.raw of=p.raw bs=512 skip=$start count=65536 status=none; \
          debugfs -R \"rdump / out$n\" p.raw 2>/dev/null >/dev/null; n=$((n+1)); done";
    let printed = in_oracle(dir.path(), script);
    assert_eq!(printed, "");
    let compat = Compat { version: Version::V257, original_bugs: false };
    let facts = Facts::new(Architecture::X8664);
    let definitions = load(Source::Texts(&texts), &facts, compat).unwrap().definitions;
    let names = identities(&Request {
        definitions: &definitions,
        content: Default::default(),
        existing: None,
        size: Size::Auto,
        seed: "750b6cd5-c4ae-4012-a15e-7be3c29e6a47".parse().unwrap(),
        sector_size: None,
        grain: None,
        block_device: false,
        device: "img.raw".into(),
        defer: Default::default(),
        current: Default::default(),
        compat,
    })
    .unwrap();
    for (definition, (_, text)) in texts.iter().enumerate() {
        let made = populate::populate(&populate::Request {
            definitions: &definitions,
            definition,
            supplements: &[],
            identities: &names,
            source: &source,
            epoch: None,
        })
        .unwrap();
        let mut expected = Listing::new();
        theirs(&dir.path().join(format!("out{definition}")), "", &mut expected);
        let mut made = ours(&made.tree);
        // rdump makes its target directory itself.
        expected.remove("/");
        made.remove("/");
        assert_eq!(made, expected, "{text}");
    }
}
