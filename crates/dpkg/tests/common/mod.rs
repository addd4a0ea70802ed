//! What the oracle tests of this crate share.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dpkg::{Limits, Package, unpack_file};
use store::{Key, Store};
use testkit::{oracle, privilege};
use tree::{Device, Kind, Mtime, Tree, TreePath};

/// Names a directory with the .debs of the baseline image. Without it they are
/// fetched with the oracle's apt from the sources that its root is configured for.
pub const DEBS: &str = "MKGOLD_DEBS";

/// The image of the baseline, and everything that apt adds to it.
const BASELINE: &str = "?essential ?priority(required) systemd systemd-boot systemd-boot-efi \
    systemd-sysv systemd-resolved systemd-repart udev dbus linux-image-cloud-amd64 \
    openssh-server iproute2 less kmod apt";

/// The .debs of the baseline image, sorted, `base-files` first as it has the links
/// of the merged /usr.
pub fn baseline(work: &Path) -> Vec<PathBuf> {
    let dir = match std::env::var_os(DEBS) {
        Some(dir) => PathBuf::from(dir),
        None => download(&work.join("apt")),
    };
    let mut debs: Vec<PathBuf> = fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{DEBS}={}: {e}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "deb"))
        .collect();
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    debs.sort_by_key(|path| (!name(path).starts_with("base-files_"), name(path)));
    assert!(debs.len() > 100, "{} has only {} .debs", dir.display(), debs.len());
    debs
}

fn download(dir: &Path) -> PathBuf {
    for sub in ["lists/partial", "archives/partial"] {
        fs::create_dir_all(dir.join(sub)).unwrap();
    }
    fs::write(dir.join("status"), "").unwrap();
    let at = |option: &str, name: &str| format!("-o{option}={}", dir.join(name).display());
    let options = [
        at("Dir::State::lists", "lists"),
        at("Dir::State::status", "status"),
        at("Dir::Cache::archives", "archives"),
        at("Dir::Cache::pkgcache", "pkgcache"),
        at("Dir::Cache::srcpkgcache", "srcpkgcache"),
        "-oAPT::Install-Recommends=false".into(),
        "-oAPT::Sandbox::User=root".into(),
        "-qq".into(),
    ];
    let update = options.iter().map(String::as_str).chain(["update"]);
    oracle::stdout("apt-get", update, &[dir]);
    let install = options.iter().map(String::as_str).chain(["install", "--download-only", "-y"]);
    oracle::stdout("apt-get", install.chain(BASELINE.split_whitespace()), &[dir]);
    dir.join("archives")
}

/// Runs a shell script in the oracle root with `work` visible; it must succeed.
///
/// What it makes belongs to whom it says: an ordinary user may not give files away or
/// make devices, so there fakeroot(1) keeps in `work` what was meant, for the next
/// script and for [`read_dir`]. Programs in another root would not be under it.
pub fn shell(work: &Path, script: &str) -> String {
    if privilege::is_root() {
        return oracle::stdout("/bin/sh", ["-ec", script], &[work]);
    }
    let meant = work.join(MEANT);
    let (database, list) = (meant.join("database"), meant.join("list"));
    if !meant.exists() {
        fs::create_dir(&meant).unwrap();
        fs::write(&database, "").unwrap();
    }
    let script = format!(
        "{script}\ncd {}; find . -path ./{MEANT} -prune -o -exec \
         stat --printf '%f %u %g %t %T %n\\0' {{}} + > {}",
        work.display(),
        list.display()
    );
    let database = database.to_str().unwrap();
    let fakeroot = ["FAKEROOTDONTTRYCHOWN=1", "fakeroot", "-i", database, "-s", database];
    let shell = ["/bin/sh", "-ec", &script];
    oracle::stdout("env", fakeroot.into_iter().chain(shell), &[work])
}

/// Where in the working directory fakeroot's knowledge is.
const MEANT: &str = ".meant";

/// Hashes and unpacks .debs into a store.
pub fn unpack_all(store: &Store, debs: &[PathBuf]) -> Vec<Arc<Package>> {
    let unpack = |deb: &PathBuf| {
        let key = Key::of(&fs::read(deb).unwrap());
        unpack_file(store, deb, &key, &Limits::default()).unwrap()
    };
    debs.iter().map(unpack).collect()
}

/// A tree with an empty database.
pub fn fresh_tree() -> Tree {
    let mut tree = Tree::new();
    tree.write(&TreePath::literal("var/lib/dpkg/status"), 0o644, Vec::new()).unwrap();
    tree
}

/// A directory in the working directory as a Tree, with everything that is to be
/// compared.
pub fn read_dir(path: &Path) -> Tree {
    let options =
        tree::dir::Options { owners: tree::dir::Owners::Preserve, mtime: None, xattrs: true };
    let mut tree = tree::dir::read(path, &options).unwrap();
    let (work, name) = (path.parent().unwrap(), path.file_name().unwrap());
    if let Ok(list) = fs::read_to_string(work.join(MEANT).join("list")) {
        let below = format!("./{}", name.to_str().unwrap());
        let lines = list.split_terminator('\0').map(|line| line.splitn(6, ' ').collect());
        let lines = lines.filter_map(|line: Vec<&str>| Some((line[5].strip_prefix(&below)?, line)));
        lines.for_each(|(path, line)| apply(&mut tree, path, &line));
    }
    tree
}

/// What fakeroot says of a file: mode (with the type), owner, group, major, minor.
fn apply(tree: &mut Tree, path: &str, line: &[&str]) {
    let hex = |at: usize| u32::from_str_radix(line[at], 16).unwrap();
    let (mode, device) = (hex(0), Device { major: hex(3), minor: hex(4) });
    let node = tree.get_mut(&TreePath::new(path).unwrap()).expect("it was listed");
    node.meta.mode = (mode & 0o7777) as u16;
    (node.meta.uid, node.meta.gid) = (line[1].parse().unwrap(), line[2].parse().unwrap());
    match mode & 0o170_000 {
        0o020_000 => node.kind = Kind::CharDev(device),
        0o060_000 => node.kind = Kind::BlockDev(device),
        _ => {}
    }
}

/// For files whose time is when they were written.
pub const NOW: Mtime = Mtime { secs: 1_700_000_000, nanos: 0 };

/// What differs although both are right, each with its reason.
pub fn tolerated(line: &str) -> bool {
    let Some(file) = line.strip_prefix("/var/lib/dpkg/") else { return false };
    let (name, what) = file.split_once(": ").unwrap();
    let generated = name.ends_with(".list")
        || name.ends_with(".md5sums")
        || !name.starts_with("info/")
        || name == "info/format";
    // dpkg writes these when it runs; we at the build's time.
    (generated && what.starts_with("mtime"))
        // The state before the last change, of which dpkg makes many and we one.
        || (name == "status-old" && (what.starts_with("size") || what == "content"))
}
