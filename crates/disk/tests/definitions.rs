//! What definitions mean: precedence, values, implications, refusals.

use std::path::PathBuf;

use disk::definition::{
    CopyBlocks, Definition, Encrypt, Facts, Loaded, Minimize, Refused, Source, load,
};
use disk::{Architecture, Compat, Guid, Version};
use tree::{Tree, TreePath};

fn facts() -> Facts {
    let mut facts = Facts::new(Architecture::X8664);
    facts.specifiers.insert('M', "web".into());
    facts.specifiers.insert('A', "7".into());
    facts
}

fn try_load(text: &str, compat: Compat) -> Result<Loaded, Refused> {
    let texts = [("50-x.conf".to_owned(), format!("[Partition]\n{text}"))];
    load(Source::Texts(&texts), &facts(), compat)
}

fn one(text: &str) -> Definition {
    let loaded = try_load(text, Compat::default()).unwrap();
    assert_eq!(loaded.warnings, [], "{text}");
    loaded.definitions.into_iter().next().unwrap()
}

fn refusal(text: &str) -> String {
    try_load(text, Compat::default()).unwrap_err().to_string()
}

fn warning(text: &str) -> String {
    let loaded = try_load(text, Compat::default()).unwrap();
    loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn earlier_directories_win_and_mask() {
    let mut tree = Tree::new();
    let write = |tree: &mut Tree, path: &'static str, text: &str| {
        tree.write(&TreePath::literal(path), 0o644, text.as_bytes().to_vec()).unwrap();
    };
    let partition = |kind: &str| format!("[Partition]\nType={kind}\n");
    write(&mut tree, "usr/lib/repart.d/10-a.conf", &partition("home"));
    write(&mut tree, "etc/repart.d/10-a.conf", &partition("srv"));
    write(&mut tree, "usr/lib/repart.d/20-b.conf", &partition("var"));
    write(&mut tree, "run/repart.d/20-b.conf", "");
    write(&mut tree, "usr/lib/repart.d/30-c.conf", &partition("tmp"));
    write(&mut tree, "usr/lib/repart.d/README", "not a definition");
    write(&mut tree, "usr/local/lib/repart.d/05-z.conf", &partition("usr"));
    write(&mut tree, "usr/lib/repart.d/05-z.conf.d/10.conf", "[Partition]\nWeight=7\n");
    write(&mut tree, "etc/repart.d/05-z.conf.d/10.conf", "[Partition]\nWeight=9\n");
    write(&mut tree, "usr/lib/repart.d/05-z.conf.d/20.conf", "[Partition]\nLabel=z\n");
    tree.add_symlink(TreePath::literal("etc/repart.d/30-c.conf"), "/dev/null").unwrap();
    tree.add_symlink(TreePath::literal("usr/lib/repart.d/70-a2.conf"), "20-b.conf").unwrap();
    let loaded = load(Source::Tree(&tree), &facts(), Compat::default()).unwrap();
    let shown: Vec<_> = loaded
        .definitions
        .iter()
        .map(|d| (d.path.as_str(), d.kind.to_string(), d.weight, d.drop_ins.len()))
        .collect();
    assert_eq!(
        shown,
        [
            ("/usr/local/lib/repart.d/05-z.conf", "usr-x86-64".into(), 9, 2),
            ("/etc/repart.d/10-a.conf", "srv".into(), 1000, 0),
            ("/usr/lib/repart.d/70-a2.conf", "var".into(), 1000, 0),
        ]
    );
    assert_eq!(loaded.definitions[0].label.as_deref(), Some("z"));
}

#[test]
fn directories_of_the_host_follow_the_same_rules() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    for d in [&a, &b] {
        std::fs::create_dir(d).unwrap();
        std::fs::write(d.join("10-x.conf"), "[Partition]\nType=home\n").unwrap();
    }
    std::fs::write(a.join("10-x.conf"), "[Partition]\nType=srv\n").unwrap();
    std::fs::write(b.join("20-y.conf"), "[Partition]\nType=var\n").unwrap();
    std::os::unix::fs::symlink("/dev/null", a.join("20-y.conf")).unwrap();
    let dirs: [PathBuf; 3] = [a.clone(), b, dir.path().join("missing")];
    let loaded = load(Source::Dirs(&dirs), &facts(), Compat::default()).unwrap();
    assert_eq!(loaded.definitions.len(), 1);
    assert_eq!(loaded.definitions[0].path, a.join("10-x.conf").display().to_string());
    assert_eq!(loaded.warnings, []);
}

#[test]
fn values_are_what_repart_d_says() {
    let d =
        one("Type=root\nLabel=%M_%A\nUUID=null\nPriority=-3\nSizeMinBytes=5000\nSizeMaxBytes=1G\n");
    assert_eq!(d.label.as_deref(), Some("web_7"));
    assert_eq!((d.uuid, d.priority), (Some(Guid::NIL), -3));
    assert_eq!((d.size_min, d.size_max), (Some(8192), Some(1 << 30)));
    assert_eq!(d.attributes(), 1 << 59, "a root grows unless it is read-only");
    let d = one("Type=root\nReadOnly=yes\nNoAuto=yes\nFlags=0x5\n");
    assert_eq!(d.attributes(), 1 << 63 | 1 << 60 | 5);
    let d = one("Type=root\nGrowFileSystem=no\n");
    assert_eq!(d.attributes(), 0, "as documented");
    let d = one("Type=home\nCopyFiles=/a\nCopyFiles=/b\\x20c:/d\nExcludeFiles=/x/ \"/y z\"\n");
    assert_eq!(d.format.as_deref(), Some("ext4"));
    assert_eq!(d.copy_files[1].source, TreePath::literal("b c"));
    assert_eq!(d.copy_files[1].target, TreePath::literal("d"));
    assert!(d.exclude_files[0].contents_only && !d.exclude_files[1].contents_only);
    assert_eq!(d.add_validatefs, Some(true));
    let d = one("Type=esp\nMakeDirectories=/EFI /EFI /loader\n");
    assert_eq!((d.format.as_deref(), d.make_directories.len()), (Some("vfat"), 2));
    let d = one("Type=swap\n");
    assert_eq!((d.format.as_deref(), d.add_validatefs), (Some("swap"), Some(false)));
    let d = one("Type=home\nEncrypt=yes\n");
    assert_eq!((d.encrypt, d.format.as_deref()), (Encrypt::KeyFile, Some("ext4")));
    let d = one("Type=root\nFormat=empty\n");
    assert_eq!((d.format, d.label.as_deref(), d.no_auto), (None, Some("_empty"), Some(true)));
    let d = one("Type=root\nCopyBlocks=/img.raw\nSplitName=%t-%M\n");
    assert_eq!(d.copy_blocks, Some(CopyBlocks::Path(TreePath::literal("img.raw"))));
    assert_eq!(d.split_name.as_deref(), Some("%t-web"));
    let d = one("Type=root\nFormat=erofs\nMinimize=yes\nCopyFiles=/\n");
    assert_eq!(d.minimize, Minimize::Best);
    let d =
        one("Type=var\nMountPoint=/var:noatime\nMountPoint=/srv\nCompression=zstd\nFormat=btrfs\n");
    assert_eq!((d.mount_points.len(), d.compression.as_deref()), (2, Some("zstd")));
}

#[test]
fn refusals_name_file_line_and_reason() {
    let cases = [
        ("Weight=1\n", "50-x.conf: Type= is missing"),
        ("Type=rooot\n", "50-x.conf:2: \"rooot\" is no partition type; did you mean root?"),
        ("Type=home\nSizeMinBytes=1x\n", "50-x.conf:3: this is not a number of bytes"),
        ("Type=home\nSizeMinBytes=2G\nSizeMaxBytes=1G\n", "SizeMinBytes= is larger"),
        ("Type=home\nPaddingMinBytes=2G\nPaddingMaxBytes=1G\n", "PaddingMinBytes= is larger"),
        ("Type=home\nCopyBlocks=/x\nFormat=ext4\n", "CopyBlocks= cannot be combined"),
        ("Type=swap\nFormat=swap\nMakeDirectories=/x\n", "Format=swap cannot be populated"),
        ("Type=home\nMinimize=guess\n", "Minimize= needs Format="),
        ("Type=home\nFormat=ext4\nMinimize=best\n", "Minimize=best works for read-only"),
        ("Type=home\nCopyFiles=/a\\qb\n", "\\q is not an escape"),
        ("Type=swap\nMakeDirectories=/x\n", "a swap partition cannot be populated"),
        ("Type=home\nFormat=erofs\nAddValidateFS=no\n", "of no use"),
        ("Type=root\nVerity=data\n", "VerityMatchKey= and Verity= need each other"),
        ("Type=root\nVerity=data\nVerityMatchKey=a\n", "no partition of Verity=hash"),
        ("Type=home\nDefaultSubvolume=/x\n", "DefaultSubvolume= is not one of"),
        ("Type=home\nIntegrity=inline\n", "Integrity=inline needs Encrypt="),
        ("Type=home\nSupplementFor=nobody\n", "there is no such definition"),
        ("Type=home\nCopyFiles=/a:/b:fsverity=off:x\n", "more than 3 fields"),
        ("Type=home\nVerityDataBlockSizeBytes=8192\n", "power of two from 512 to 4096"),
        ("Type=home\n[Broken\n", "50-x.conf:3: the section header"),
    ];
    for (text, expected) in cases {
        let message = refusal(text);
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn warnings_name_what_is_ignored() {
    let cases = [
        (
            "Type=home\nWieght=1\n",
            "50-x.conf:3: there is no setting Wieght=; did you mean Weight=?",
        ),
        ("Type=home\nWeight=1000001\n", "a weight is a number from 0 to 1000000"),
        ("Type=home\nFormat=a/b\n", "cannot be the name of a file system"),
        ("Type=home\nUUID=xyz\n", "is not a UUID"),
        ("Type=home\nLabel=aaaaaaaaaabbbbbbbbbbccccccccccddddddd\n", "36 UTF-16 units"),
        ("Type=home\nLabel=%m\n", "nobody said what %m stands for"),
        ("Type=esp\nReadOnly=yes\n", "ReadOnly= means nothing for the type esp"),
        ("Type=home\nMakeDirectories=rel /abs\n", "\"rel\" is ignored"),
        ("Type=home\nMakeSymlinks=/only\n", "is not PATH:TARGET"),
        ("Type=home\nCopyFiles=/a:/b:what\n", "there is no option \"what\""),
        ("Type=home\n[Other]\nx=y\n", "it is in [Other]"),
        ("Type=home\nDiscard=yes\n", "Discard= has no effect without Encrypt="),
        ("Type=home\njunk\n", "the line has no '='"),
    ];
    for (text, expected) in cases {
        let message = warning(text);
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn versions_differ_in_what_they_know() {
    let v257 = Compat { version: Version::V257, original_bugs: false };
    let load = |text| try_load(text, v257).unwrap();
    let loaded = load("Type=home\nFormat=ext4\nAddValidateFS=yes\nSizeMinBytes=5000\n");
    assert_eq!(loaded.warnings.len(), 1, "AddValidateFS= came with 258");
    assert_eq!(loaded.definitions[0].add_validatefs, None);
    assert_eq!(loaded.definitions[0].size_min, Some(4096), "257 rounds lower limits down");
    let loaded = load("Type=root-verity-sig\n");
    assert_eq!(loaded.definitions[0].attributes(), 0);
    let bugs = Compat { version: Version::V262, original_bugs: true };
    let d = &try_load("Type=root\nGrowFileSystem=no\n", bugs).unwrap().definitions[0];
    assert_eq!(d.attributes(), 1 << 59);
}

#[test]
fn the_default_of_add_validatefs_can_be_switched_off() {
    let mut facts = facts();
    facts.add_validatefs = false;
    let texts = [("1.conf".to_owned(), "[Partition]\nType=home\nFormat=ext4\n".to_owned())];
    let loaded = load(Source::Texts(&texts), &facts, Compat::default()).unwrap();
    assert_eq!(loaded.definitions[0].add_validatefs, Some(false));
    assert!(!loaded.definitions[0].populates());
}

#[test]
fn what_cannot_be_carried_out_yet_is_named() {
    let cases = [
        ("Encrypt=tpm2\n", "Encrypt=tpm2"),
        ("CopyBlocks=auto\n", "CopyBlocks=auto"),
        ("Format=btrfs\nSubvolumes=/a:ro\n", "Subvolumes="),
        ("CopyFiles=/a:/b:fsverity=copy\n", "CopyFiles= with fsverity=copy"),
    ];
    for (text, expected) in cases {
        assert_eq!(one(&format!("Type=home\n{text}")).refusals(), [expected]);
    }
    assert!(one("Type=home\nFormat=ext4\n").refusals().is_empty());
}

#[test]
fn hostile_definitions_are_survived() {
    let long = "Label=".to_owned() + &"%M".repeat(100_000);
    let cases = [
        "",
        "[",
        "[Partition]",
        "[Partition]\nType=\\",
        "\u{feff}[Partition]\nType=home",
        "=\n=\n",
        "[Partition]\nType=home\nSizeMinBytes=16E\n",
        "[Partition]\nSizeMaxBytes=15.99999999999999999999E",
        "[Partition]\nCopyFiles=:::::\nMakeSymlinks=:\nSubvolumes=:\nMountPoint=:\n",
        "[Partition]\nExcludeFiles='\nMakeDirectories=\"\\\n",
        &long,
    ];
    for text in cases {
        disk::fuzzing::fuzz_definition(text.as_bytes());
        disk::fuzzing::fuzz_plan(format!("{text}\0{text}\0\u{7f}disk").as_bytes());
    }
}
