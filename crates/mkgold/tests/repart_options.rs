//! Every option of systemd-repart that `mkgold repart` takes has an effect. Those that
//! are refused are in the unit tests of the command line.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use assert_cmd::Command;
use disk::gpt::{self, dump};
use disk::{Designator, TypeGuid};
use tree::Blob;

const ROOT: &str = "[Partition]\nType=root\nFormat=ext4\nCopyFiles=/\nSizeMinBytes=40M\n\
                    SizeMaxBytes=40M\nMountPoint=/\n";
const HOME: &str = "[Partition]\nType=home\nSizeMinBytes=10244K\nSizeMaxBytes=10244K\n\
                    FactoryReset=yes\n";
const EMPTY: &str = "[Partition]\nType=var\nFormat=empty\nSizeMinBytes=4M\nSizeMaxBytes=4M\n";
const VAULT: &str = "[Partition]\nType=home\nEncrypt=key-file\nEncryptedVolume=vault\n";

/// Where a byte lies on `blank.raw` that belongs to nobody.
const NOBODY: u64 = 150 << 20;

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
    std::fs::write(dir.join(name), text).unwrap();
}

fn repart(dir: &Path, words: &str) -> (i32, String) {
    let mut command = Command::cargo_bin("mkgold").unwrap();
    command.current_dir(dir).arg("repart").args(words.split_whitespace());
    command.env_remove("SOURCE_DATE_EPOCH").env("SYSTEMD_UTF8", "1").env("COLUMNS", "60");
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
}

/// `blank.raw`; `used.raw`, which has a root and a home; `os.raw`, which has definitions
/// in its root; and what they are made of.
fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    write(d, "defs/10-root.conf", ROOT);
    write(d, "defs/20-home.conf", HOME);
    write(d, "defs/30-empty.conf", EMPTY);
    write(d, "vault/20-home.conf", VAULT);
    write(d, "tree/etc/os-release", "ID=test\n");
    write(d, "tree/usr/lib/repart.d/50-own.conf", "[Partition]\nType=srv\nSizeMaxBytes=8M\n");
    write(d, "other/marker", "");
    write(d, "other/etc/fstab", "old line\n");
    let file = std::fs::File::create(d.join("blank.raw")).unwrap();
    file.set_len(200 << 20).unwrap();
    file.write_all_at(&[0xee], NOBODY).unwrap();
    let seed = "--seed=11111111-2222-4333-8444-555555555555";
    let made = "--empty=create --size=100M --definitions=defs --root=tree used.raw";
    let made = repart(d, &format!("{seed} {made}"));
    assert_eq!(made.0, 0, "{}", made.1);
    // No run here changes both.
    std::fs::hard_link(d.join("used.raw"), d.join("os.raw")).unwrap();
    dir
}

/// Everything that a run leaves: what it says, and what is on the disks.
fn seen(words: &str) -> String {
    let dir = project();
    let dir = dir.path();
    let (status, mut out) = repart(dir, words);
    writeln!(out, "status {status}").unwrap();
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = dir.join(&name);
        if !path.is_file() {
            continue;
        }
        let mut file = std::fs::File::open(&path).unwrap();
        writeln!(out, "{} length={}", name.display(), file.metadata().unwrap().len()).unwrap();
        let Ok(found) = gpt::read(&mut file, None) else { continue };
        out += &dump::text(&found.table, found.disk, &name.to_string_lossy());
        let root = |kind: &TypeGuid| kind.designator() == Designator::Root;
        let entry = found.table.entries.values().find(|e| root(&e.kind));
        let at = entry.and_then(|e| e.first.bytes(found.table.sector_size));
        if let Some(Ok(tree)) = at.map(|at| fs::ext4::read(&Blob::at_path(&path), at.0)) {
            tree.iter().for_each(|(path, ..)| write!(out, "{path} ").unwrap());
        }
    }
    let mut byte = [0];
    let blank = std::fs::File::open(dir.join("blank.raw")).unwrap();
    blank.read_exact_at(&mut byte, NOBODY).unwrap();
    writeln!(out, "byte={:#x}", byte[0]).unwrap();
    for name in ["tree/etc/fstab", "tree/etc/crypttab", "other/etc/fstab"] {
        out += &std::fs::read_to_string(dir.join(name)).unwrap_or_default();
    }
    out
}

const BLANK: &str = "--empty=allow --definitions=defs --root=tree blank.raw";
const MAKE: &str = "--empty=allow --definitions=defs --root=tree --dry-run=no blank.raw";
const CREATE: &str = "--empty=create --size=120M --definitions=defs --root=tree new.raw";
const USED: &str = "--definitions=defs --root=tree --dry-run=no used.raw";

/// The option, what it is added to, and what is seen only with it (`+`) or only without
/// it (`-`).
const ROWS: &[(&str, &str, &str)] = &[
    ("--help", BLANK, "+Exit status: 0 done"),
    ("--version", BLANK, concat!("+", env!("CARGO_PKG_VERSION"))),
    ("--no-legend", BLANK, "-TYPE "),
    ("--dry-run=no", BLANK, "+All done."),
    ("-n", MAKE, "-All done."),
    ("--empty=allow", "--definitions=defs --root=tree blank.raw", "-status 77"),
    ("--discard=no", MAKE, "+byte=0xee"),
    ("--sector-size=4096", CREATE, "+sector-size: 4096"),
    // 1 MiB before it, 40 of the root and 10 and 4 KiB of home, or 11 MiB of home.
    ("--grain-size=1M", CREATE, "+new.raw3 : start=      106496,"),
    ("--architecture=arm64", BLANK, "+root-arm64"),
    ("--size=300M", MAKE, "+blank.raw length=314572800"),
    ("--seed=750b6cd5-c4ae-4012-a15e-7be3c29e6a47", BLANK, "+60f33797-1d71-4dcb-aa6f-20564f036cd0"),
    ("--split=yes", CREATE, "+new.root-x86-64.raw length=41943040"),
    ("--pretty=no", BLANK, "-└─ 10-root.conf"),
    ("--json=short", BLANK, "+\"activity\":\"create\""),
    ("--factory-reset=yes", USED, "+is removed"),
    ("--can-factory-reset", USED, "-└─ 10-root.conf"),
    ("--root=tree", "--empty=allow blank.raw", "+└─ 50-own.conf"),
    ("--image=os.raw", "--empty=allow blank.raw", "+└─ 50-own.conf"),
    ("--definitions=defs", "--empty=allow --root=tree blank.raw", "+└─ 10-root.conf"),
    ("--list-devices", BLANK, "-└─ 10-root.conf"),
    ("--include-partitions=home", BLANK, "-└─ 10-root.conf"),
    ("--exclude-partitions=home", BLANK, "-─ 20-home.conf"),
    ("--defer-partitions=home", MAKE, "-blank.raw2 :"),
    ("--defer-partitions-empty=yes", MAKE, "-blank.raw3 :"),
    ("--defer-partitions-factory-reset=yes", MAKE, "-blank.raw2 :"),
    ("--copy-source=other", CREATE, "+/marker "),
    ("--generate-fstab=/etc/fstab", CREATE, "+/etc/fstab "),
    ("--generate-fstab=/etc/fstab", MAKE, "+ / ext4 discard,rw,nodev,suid,exec 0 1\n"),
    (
        "--generate-crypttab=/etc/crypttab",
        "--definitions=vault --root=tree --dry-run=no used.raw",
        "+vault UUID=",
    ),
    (
        "--append-fstab",
        "--generate-fstab=/etc/fstab --copy-source=other --empty=create --size=120M \
         --definitions=defs new.raw",
        "+by systemd-repart\nold line\n",
    ),
    (
        "--append-fstab=replace",
        "--generate-fstab=/etc/fstab --copy-source=other --empty=create --size=120M \
         --definitions=defs new.raw",
        "-old line\n",
    ),
    ("--systemd=257", "--empty=allow --root=tree blank.raw", "+PARTNO"),
];

#[test]
fn every_option_that_is_taken_has_an_effect() {
    let mut plain = BTreeMap::new();
    for (option, words, shows) in ROWS {
        let without = plain.entry(words).or_insert_with(|| seen(words));
        let with = seen(&format!("{option} {words}"));
        let (there, not_there, text) = match shows.split_at(1) {
            ("+", text) => (&with, &*without, text),
            (_, text) => (&*without, &with, text),
        };
        assert!(there.contains(text), "{option}: {text:?} is not in\n{there}");
        assert!(!not_there.contains(text), "{option}: {text:?} is also in\n{not_there}");
    }
}

/// There is no pager, nothing is mounted, and no policy of images.
#[test]
fn options_without_effect_are_those_that_say_so() {
    let seed = "--seed=750b6cd5-c4ae-4012-a15e-7be3c29e6a47";
    let plain = seen(&format!("{CREATE} {seed}"));
    for option in ["--no-pager", "--offline=no", "--offline=yes", "--cow=yes", "--image-policy=*"] {
        assert_eq!(seen(&format!("{option} {CREATE} {seed}")), plain, "{option}");
    }
}

#[test]
fn without_copy_on_write_the_file_is_marked_or_the_file_system_does_not_know_it() {
    let dir = project();
    let (status, said) = repart(dir.path(), &format!("--cow=no {CREATE}"));
    assert_eq!(status, 0, "{said}");
    let file = std::fs::File::open(dir.path().join("new.raw")).unwrap();
    let marked = rustix::fs::ioctl_getflags(&file);
    let marked = marked.is_ok_and(|flags| flags.contains(rustix::fs::IFlags::NOCOW));
    assert!(marked != said.contains("does not take --cow=no"), "{said}");
}

/// What each file holds is what the partition of the image holds.
#[test]
fn split_files_are_the_partitions() {
    let dir = project();
    let (status, said) = repart(dir.path(), &format!("--split=yes --json=short {CREATE}"));
    assert_eq!(status, 0, "{said}");
    let path = dir.path().join("new.raw");
    let whole = std::fs::read(&path).unwrap();
    let found = gpt::read(&mut std::fs::File::open(&path).unwrap(), None).unwrap();
    for (slot, name) in [(0, "root-x86-64"), (1, "home"), (2, "var")] {
        let entry = &found.table.entries[&slot];
        let range = entry.first.0 as usize * 512..(entry.last.0 as usize + 1) * 512;
        let split = std::fs::read(dir.path().join(format!("new.{name}.raw"))).unwrap();
        assert!(split == whole[range], "{name}");
        assert!(said.contains(&format!("\"split_path\":\"new.{name}.raw\"")), "{said}");
    }
    // An existing file is not overwritten; a dry run copies what is there.
    let again = "--split=yes --definitions=defs --root=tree new.raw";
    let (status, said) = repart(dir.path(), again);
    assert!(status == 1 && said.contains("File exists"), "{said}");
    for name in ["root-x86-64", "home", "var"] {
        std::fs::remove_file(dir.path().join(format!("new.{name}.raw"))).unwrap();
    }
    assert_eq!(repart(dir.path(), again).0, 0);
    assert!(dir.path().join("new.home.raw").exists());
}

/// What is copied from an image is what is in it.
#[test]
fn an_image_is_a_source_and_can_be_its_own_target() {
    let dir = project();
    let words = "--image=os.raw --definitions=defs --empty=create --size=auto copy.raw";
    let (status, said) = repart(dir.path(), words);
    assert_eq!(status, 0, "{said}");
    let tree = |name: &str| {
        let tree = fs::ext4::read(&Blob::at_path(dir.path().join(name)), 1 << 20).unwrap();
        let shown = |(path, _, node): (&tree::TreePath, _, &tree::Node)| {
            format!("{path} {:?} {:?}", node.meta, node.content().map(|c| c.read(1 << 20).unwrap()))
        };
        tree.iter().filter(|(p, ..)| !p.is_root()).map(shown).collect::<Vec<_>>()
    };
    assert!(tree("copy.raw").len() > 4);
    assert_eq!(tree("copy.raw"), tree("os.raw"));
    // Its own definitions add /srv to it.
    let (status, said) = repart(dir.path(), "--image=os.raw --size=120M --dry-run=no");
    assert!(status == 0 && said.contains("└─ 50-own.conf"), "{said}");
    let found = gpt::read(&mut std::fs::File::open(dir.path().join("os.raw")).unwrap(), None);
    let srv = |e: &gpt::Entry| e.kind.designator() == Designator::Srv;
    assert_eq!(found.unwrap().table.entries.values().filter(|e| srv(e)).count(), 1);
}
