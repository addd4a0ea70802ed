//! `mkgold repart` on block devices: a loop device whose root is mounted meanwhile, and
//! what the kernel and sfdisk say of it afterwards. As root only.
#![allow(clippy::print_stdout, reason = "what is not tested is said")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `mkgold repart`: status, and what it says.
fn repart(dir: &Path, words: &[&str]) -> (i32, String) {
    mkgold(dir, &[&["repart"], words].concat())
}

fn mkgold(dir: &Path, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mkgold"));
    command.current_dir(dir).args(words).env_remove("SOURCE_DATE_EPOCH");
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
}

fn done(dir: &Path, words: &[&str]) -> String {
    let (status, said) = repart(dir, words);
    assert_eq!(status, 0, "{words:?}: {said}");
    said
}

/// A tool of the host that must succeed.
fn tool(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {words:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A loop device, and a mount of it; both end with the test.
struct Loop {
    node: String,
    mounted: Option<PathBuf>,
}

impl Loop {
    fn new(file: &Path, options: &[&str]) -> Loop {
        let file = file.to_str().unwrap();
        let words = [&["--find", "--show", "--partscan"], options, &[file]].concat();
        Loop { node: tool("losetup", &words), mounted: None }
    }

    /// Where each partition begins and how long it is, in units of 512 bytes.
    fn shown(&self) -> Vec<(u64, u64)> {
        let name = self.node.strip_prefix("/dev/").unwrap();
        let part = |n: u32| {
            let dir = format!("/sys/class/block/{name}p{n}");
            let number = |file: &str| {
                let text = fs::read_to_string(format!("{dir}/{file}")).ok()?;
                text.trim().parse::<u64>().ok()
            };
            Some((number("start")?, number("size")?))
        };
        (1..=128).filter_map(part).collect()
    }

    fn mount(&mut self, number: u32, at: &Path) {
        fs::create_dir_all(at).unwrap();
        let node = format!("{}p{number}", self.node);
        tool("mount", &[&node, at.to_str().unwrap()]);
        self.mounted = Some(at.to_owned());
    }

    fn unmount(&mut self) {
        if let Some(at) = self.mounted.take() {
            tool("umount", &[at.to_str().unwrap()]);
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Some(at) = self.mounted.take() {
            let _ = Command::new("umount").arg(at).status();
        }
        let _ = Command::new("losetup").args(["--detach", &self.node]).status();
    }
}

fn as_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
    if !root {
        println!("NOT TESTED: {what} (needs root and loop devices)");
    }
    root
}

/// ext4 grows for those who may use what is reserved.
fn may_grow_ext4() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(set.trim(), 16).unwrap() & 1 << CAP_SYS_RESOURCE != 0
}

const SEED: &str = "--seed=750b6cd5-c4ae-4012-a15e-7be3c29e6a47";
const ROOT: &str = "[Partition]\nType=root\nFormat=ext4\nCopyFiles=/\nSizeMinBytes=40M\n";
const HOME: &str =
    "[Partition]\nType=home\nFormat=ext4\nSizeMinBytes=40M\nSizeMaxBytes=40M\nFactoryReset=yes\n";

fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    fs::create_dir_all(d.join("tree/etc")).unwrap();
    fs::create_dir_all(d.join("defs")).unwrap();
    fs::write(d.join("tree/etc/os-release"), "ID=test\n").unwrap();
    fs::write(d.join("defs/10-root.conf"), format!("{ROOT}SizeMaxBytes=40M\n")).unwrap();
    done(d, &["--empty=create", "--size=64M", "--definitions=defs", "--root=tree", SEED, "a.raw"]);
    dir
}

#[test]
#[ignore = "oracle"]
fn a_disk_in_use_gets_partitions_and_grows_and_the_kernel_knows() {
    if !as_root("repartitioning a block device") {
        return;
    }
    let dir = project();
    let d = dir.path();
    let mut disk = Loop::new(&d.join("a.raw"), &[]);
    let words = ["--dry-run=no", "--definitions=defs", "--root=tree", SEED];
    let node = disk.node.clone();
    // The kernel may not know GPTs itself: it is told.
    let said = done(d, &[&words[..], &[&node]].concat());
    assert!(said.contains("No changes."), "{said}");
    assert_eq!(disk.shown(), [(1 << 11, 40 << 11)]);
    fs::OpenOptions::new().write(true).open(d.join("a.raw")).unwrap().set_len(160 << 20).unwrap();
    let copy = d.join("copy.raw");
    fs::copy(d.join("a.raw"), &copy).unwrap();
    tool("losetup", &["--set-capacity", &node]);
    disk.mount(1, &d.join("mnt"));
    fs::write(d.join("mnt/kept"), "kept\n").unwrap();

    fs::write(d.join("defs/10-root.conf"), format!("{ROOT}SizeMaxBytes=80M\n")).unwrap();
    fs::write(d.join("defs/20-home.conf"), HOME).unwrap();
    let said = done(d, &[&words[..], &[&node]].concat());
    assert!(said.contains("Partition 0 has grown.\nPartition 1 is made."), "{said}");
    assert_eq!(disk.shown(), [(1 << 11, 80 << 11), (81 << 11, 40 << 11)]);
    assert_eq!(fs::read_to_string(d.join("mnt/kept")).unwrap(), "kept\n");
    // The same table as in a file.
    done(d, &[&words[..], &["copy.raw"]].concat());
    let dump =
        |of: &str| tool("sfdisk", &["--dump", of]).replace(of, "disk").replace("diskp", "disk");
    assert_eq!(dump(&node), dump(copy.to_str().unwrap()));
    assert!(tool("sfdisk", &["--verify", &node]).contains("No errors"));
    tool("fsck.ext4", &["-fn", &format!("{node}p2")]);

    let said = done(d, &[&words[..], &[&node]].concat());
    assert!(said.contains("No changes."), "{said}");
    // What is removed is made anew.
    let said = done(d, &[&words[..], &["--factory-reset=yes", &node]].concat());
    assert!(said.contains("is removed") && disk.shown().len() == 2, "{said}");
    disk.unmount();
    disk.mount(1, &d.join("mnt"));
    assert_eq!(fs::read_to_string(d.join("mnt/kept")).unwrap(), "kept\n");
    disk.unmount();
    tool("fsck.ext4", &["-fn", &format!("{node}p1")]);
}

#[test]
#[ignore = "oracle"]
fn an_empty_disk_with_large_sectors_gets_a_table_and_wrong_targets_are_refused() {
    if !as_root("making a table on a block device") {
        return;
    }
    let dir = project();
    let d = dir.path();
    fs::File::create(d.join("b.raw")).unwrap().set_len(64 << 20).unwrap();
    let disk = Loop::new(&d.join("b.raw"), &["--sector-size=4096"]);
    let node = disk.node.as_str();
    let base = ["--definitions=defs", "--root=tree", "--dry-run=no"];
    let refused = |words: &[&str], status: i32, says: &str| {
        let (code, said) = repart(d, &[&base[..], words].concat());
        assert!(code == status && said.contains(says), "{words:?}: {code} {said}");
    };
    refused(&[node], 77, "no GUID partition table");
    refused(&["--empty=allow", "--size=1G", node], 1, "--size= is for image files");
    refused(&["--empty=allow", "--sector-size=512", node], 1, "sectors of 4096 bytes");
    assert_eq!(disk.shown(), []);
    let said = repart(d, &["--empty=allow", "--definitions=defs", "--root=tree", node]);
    assert!(said.0 == 0 && disk.shown().is_empty(), "a dry run changes nothing: {}", said.1);
    done(d, &[&base[..], &["--empty=allow", node]].concat());
    assert_eq!(disk.shown(), [(2048, 40 << 11)]);
    assert!(tool("sfdisk", &["--verify", node]).contains("No errors"));
    refused(&["--empty=force", &format!("{node}p1")], 1, "is a partition, not a disk");
}

/// What the first boot does with a partition that is there: a file system is made, mounted,
/// and grows when its device does.
#[test]
#[ignore = "oracle"]
fn file_systems_are_made_where_nothing_is_and_grow_while_they_are_mounted() {
    if !as_root("growing mounted file systems") {
        return;
    }
    for (kind, maker) in [("ext4", None), ("xfs", Some("mkfs.xfs")), ("btrfs", Some("mkfs.btrfs"))]
    {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        let image = d.join("a.raw");
        fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let mut disk = Loop::new(&image, &[]);
        let node = disk.node.clone();
        match maker {
            None => {
                let (status, said) = mkgold(d, &["makefs", kind, &node]);
                assert!(status == 0 && said.contains("has ext4 now"), "{said}");
                let (status, said) = mkgold(d, &["makeswap", &node]);
                assert!(status == 0 && said.contains("is left as it is"), "{said}");
                tool("fsck.ext4", &["-fn", &node]);
            }
            Some(maker) if Command::new(maker).arg("-V").output().is_err() => {
                println!("NOT TESTED: growing {kind} (needs {maker})");
                continue;
            }
            Some(maker) => drop(tool(maker, &[&node])),
        }
        if kind == "ext4" && !may_grow_ext4() {
            println!("NOT TESTED: growing ext4 (needs CAP_SYS_RESOURCE)");
            continue;
        }
        let at = d.join("mnt");
        fs::create_dir_all(&at).unwrap();
        let (status, said) = mkgold(d, &["growfs", at.to_str().unwrap()]);
        assert!(status == 1 && said.contains("is not where one device is mounted"), "{said}");
        tool("mount", &[&node, at.to_str().unwrap()]);
        disk.mounted = Some(at.clone());
        fs::write(at.join("kept"), "kept\n").unwrap();
        let blocks = || {
            let found = rustix::fs::statfs(&at).unwrap();
            found.f_blocks * found.f_bsize as u64
        };
        let before = blocks();
        let grow = |options: &[&str]| {
            let (status, said) =
                mkgold(d, &[&["growfs"], options, &[at.to_str().unwrap()]].concat());
            assert_eq!(status, 0, "{kind}: {said}");
        };
        grow(&[]);
        assert_eq!(blocks(), before, "{kind} is as large as its device");
        fs::OpenOptions::new().write(true).open(&image).unwrap().set_len(800 << 20).unwrap();
        tool("losetup", &["--set-capacity", &node]);
        grow(&["-n"]);
        assert_eq!(blocks(), before, "a dry run changes nothing");
        grow(&[]);
        assert!(blocks() > before + (350 << 20), "{kind}: {before} {}", blocks());
        assert_eq!(fs::read_to_string(at.join("kept")).unwrap(), "kept\n");
        disk.unmount();
        if kind == "ext4" {
            tool("fsck.ext4", &["-fn", &node]);
        }
    }
}
