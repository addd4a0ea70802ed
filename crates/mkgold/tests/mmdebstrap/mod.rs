//! The tree of an image against mmdebstrap's of the same packages.
//!
//! mmdebstrap lets apt and dpkg do everything, one package after the other, as root:
//! what it makes is what Debian means by these packages. What mkgold makes differs
//! where an image must be golden; every such difference is a row of a table
//! (`mmdebstrap/exceptions.rs`) with its reason, and a row that explains nothing fails
//! the test as a difference does that nothing explains. PARITY.md has the same table.
//!
//! `oracle_trees.rs` compares one list, `long_trees.rs` all. Needs `MKGOLD_ORACLE`, root
//! (mmdebstrap's root mode, and owners in a directory), and the mirror that the host's
//! apt sources name.
//! Two variables save time while one iterates: `MKGOLD_TREES_LISTS` names the lists
//! to try, separated by blanks (unused rows are then no failure), and `MKGOLD_TREES` a
//! directory that keeps what mmdebstrap made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use apt::{DebianOptions, SourceList};
use testkit::compare::{Aspects, compare};
use testkit::explained::Explained;
use testkit::{oracle, privilege};
use tree::{Mtime, Tree, TreePath};

mod exceptions;

use exceptions::EXCEPTIONS;

/// Name, release, packages.
const LISTS: [(&str, &str, &str); 15] = [
    ("minimal", "trixie", "apt"),
    ("build", "trixie", "apt build-essential python3 perl"),
    ("sql", "trixie", "apt systemd-sysv postgresql"),
    ("mail", "trixie", "apt postfix bsd-mailx"),
    ("web", "trixie", "apt nginx"),
    ("containers", "trixie", "apt podman"),
    ("java", "trixie", "apt default-jre-headless"),
    ("locales", "trixie", "apt locales ca-certificates"),
    ("network", "trixie", "apt network-manager"),
    ("man", "trixie", "apt man-db vim-tiny nano less iputils-ping sudo cron"),
    ("cloud", "trixie", "apt cloud-init"),
    (
        "server",
        "trixie",
        "apt dbus iproute2 kmod less libpam-systemd login linux-image-cloud-amd64 \
         openssh-server systemd systemd-boot systemd-boot-efi systemd-repart \
         systemd-resolved systemd-sysv udev",
    ),
    (
        "desktop",
        "trixie",
        "apt libglib2.0-bin gsettings-desktop-schemas fontconfig fonts-dejavu-core \
         shared-mime-info desktop-file-utils librsvg2-common adwaita-icon-theme gtk-update-icon-cache",
    ),
    ("bookworm-server", "bookworm", "apt systemd-sysv udev dbus openssh-server libpam-systemd"),
    ("bookworm-python", "bookworm", "apt python3 nginx-light sudo"),
];

/// What mkosi does to every image, and mkgold natively. systemd-tmpfiles is that of the
/// oracle for every image, as mkosi takes the build machine's; names in ACLs are looked up
/// by the C library, so it gets the image's accounts (mkosi does the same); it says with
/// 65 and 73 that lines are wrong or cannot be carried out.
const SYSTEMD: &str = r#"set -e
[ ! -e "$1/usr/bin/systemd-sysusers" ] || chroot "$1" systemd-sysusers
mount --bind "$1/etc/passwd" /etc/passwd
mount --bind "$1/etc/group" /etc/group
status=0
SYSTEMD_TMPFILES_FORCE_SUBVOL=0 systemd-tmpfiles --root="$1" --boot --create --remove \
    --exclude-prefix=/tmp --exclude-prefix=/var/tmp --exclude-prefix=/run \
    --exclude-prefix=/proc --exclude-prefix=/sys --exclude-prefix=/dev || status=$?
case $status in 0|65|73) ;; *) exit "$status" ;; esac
umount /etc/passwd /etc/group
[ ! -e "$1/usr/lib/systemd/systemd" ] || chroot "$1" systemctl preset-all
[ ! -e "$1/usr/lib/systemd/systemd" ] || chroot "$1" systemctl --global preset-all
"#;

/// The merged `/usr` before the first package, as debootstrap and mkosi make it. Left to
/// the package `usrmerge`, files would be copied, which breaks hard links.
const MERGED_USR: &str = r#"for dir in bin sbin lib lib32 lib64 libx32; do
    mkdir -p "$1/usr/$dir"; ln -s "usr/$dir" "$1/$dir"
done"#;

fn mkgold() -> PathBuf {
    std::env::var_os("MKGOLD_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_mkgold").into(), Into::into)
}

/// Where packages are kept between runs.
fn kept(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// A list, built in both ways.
struct Pair {
    work: PathBuf,
    _temporary: Option<tempfile::TempDir>,
    /// What everything in the image is dated with, at most.
    epoch: Mtime,
}

impl Pair {
    fn build(name: &str, release: &str, packages: &str) -> Pair {
        let (work, temporary) = match std::env::var_os("MKGOLD_TREES") {
            Some(dir) => (Path::new(&dir).join(name), None),
            None => {
                let dir = tempfile::tempdir().unwrap();
                (dir.path().to_owned(), Some(dir))
            }
        };
        let epoch = build_with_mkgold(&work, release, packages, "");
        if !work.join("mmdebstrap").exists() {
            build_with_mmdebstrap(&work, release, packages, epoch);
        }
        Pair { work, _temporary: temporary, epoch: Mtime::secs(epoch) }
    }

    fn tree(&self, name: &str) -> Tree {
        let owners = tree::dir::Owners::Preserve;
        let options = tree::dir::Options { owners, mtime: None, xattrs: true };
        let mut tree = tree::dir::read(&self.work.join(name), &options).unwrap();
        let paths: Vec<_> = tree.iter().map(|(path, _, _)| path.clone()).collect();
        for path in paths {
            let meta = &mut tree.get_mut(&path).unwrap().meta;
            meta.mtime = meta.mtime.min(self.epoch);
        }
        tree
    }
}

/// Returns the image's date.
fn build_with_mkgold(work: &Path, release: &str, packages: &str, content: &str) -> i64 {
    let project = work.join("project");
    fs::create_dir_all(&project).unwrap();
    let packages = packages.split(' ').collect::<Vec<_>>().join("\n        ");
    let text = format!(
        "[Distribution]\nDistribution=debian\nRelease={release}\n\
         [Output]\nFormat=directory\nOutput=mkgold\nOutputDirectory={}\n\
         [Content]\nBootable=no\n{content}Packages=\n        {packages}\n\
         [Build]\nCacheDirectory={}\n",
        work.display(),
        kept("cache").display()
    );
    fs::write(project.join("mkosi.conf"), text).unwrap();
    let status = Command::new(mkgold()).arg("-C").arg(&project).args(["-f", "build"]).status();
    assert!(status.unwrap().success(), "mkgold builds {packages}");
    let lock = fs::read_to_string(project.join("mkgold.lock")).unwrap();
    let lock: toml::Table = lock.parse().unwrap();
    offer(&lock, &work.join("archives"));
    lock["generations"].as_array().unwrap()[0].as_integer().unwrap()
}

/// Lays the packages out as apt has them in `/var/cache/apt/archives`, so that they are
/// not fetched twice. apt takes those that it chooses, and checks their hashes.
fn offer(lock: &toml::Table, dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let store = store::Store::open(&kept("cache")).unwrap();
    for package in lock["package"].as_array().unwrap() {
        let get = |name: &str| package[name].as_str().unwrap();
        let version = get("version").replace(':', "%3a");
        let name = format!("{}_{version}_{}.deb", get("name"), get("architecture"));
        let key = store::Key::from_hex(get("sha256")).unwrap();
        fs::copy(store.path(apt::cache::DEBS, &key), dir.join(name)).unwrap();
    }
}

/// mmdebstrap of the same suites.
fn build_with_mmdebstrap(work: &Path, release: &str, packages: &str, epoch: i64) {
    let mut command = oracle::command_with_network("/bin/sh", &[work]);
    // Programs that close every descriptor that they might have take ages where
    // there might be many.
    command.args(["-ec", "ulimit -n 1024; export SOURCE_DATE_EPOCH=$1; shift; exec \"$@\""]);
    command.args(["sh", &epoch.to_string(), "mmdebstrap", "--quiet", "--mode=root"]);
    command.args(["--format=directory", "--variant=essential", "--skip=essential/unlink"]);
    command.arg(format!("--include={}", packages.replace(' ', ",")));
    command.arg(format!(
        "--setup-hook=mkdir -p \"$1/var/cache/apt/archives\"; \
         cp {}/*.deb \"$1/var/cache/apt/archives\"",
        work.join("archives").display()
    ));
    if release == "bookworm" {
        command.arg(format!("--setup-hook={MERGED_USR}"));
    }
    command.arg(format!("--customize-hook={SYSTEMD}"));
    command.arg(release).arg(work.join("mmdebstrap")).args(sources(release));
    let output = command.output().unwrap();
    let log = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&log));
    fs::remove_dir_all(work.join("archives")).unwrap();
}

/// `tree`, whose users and groups have the ids that those of the same names have in
/// `like`.
fn with_ids_of(mut tree: Tree, like: &Tree) -> Tree {
    let users = translation(&tree, like, "etc/passwd");
    let groups = translation(&tree, like, "etc/group");
    let get = |map: &BTreeMap<u32, u32>, id| map.get(&id).copied().unwrap_or(id);
    let paths: Vec<_> = tree.iter().map(|(path, _, _)| path.clone()).collect();
    let mut done = BTreeSet::new();
    for path in paths {
        if done.insert(tree.inode_id(&path)) {
            let meta = &mut tree.get_mut(&path).unwrap().meta;
            (meta.uid, meta.gid) = (get(&users, meta.uid), get(&groups, meta.gid));
        }
    }
    for (path, maps) in [("etc/passwd", vec![&users, &groups]), ("etc/group", vec![&groups])] {
        rewrite(&mut tree, path, |line| {
            let mut fields: Vec<_> = line.split(':').map(str::to_owned).collect();
            for (field, map) in fields.iter_mut().skip(2).zip(&maps) {
                *field = get(map, field.parse().unwrap()).to_string();
            }
            fields.join(":")
        });
    }
    tree
}

fn lines(tree: &Tree, path: &'static str) -> Vec<String> {
    let text = tree.read(&TreePath::literal(path), 1 << 20).unwrap().unwrap();
    String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
}

/// From the ids in `tree` to those in `like`, by name.
fn translation(tree: &Tree, like: &Tree, path: &'static str) -> BTreeMap<u32, u32> {
    let ids = |tree: &Tree| -> BTreeMap<String, u32> {
        let id = |line: &String| {
            let mut fields = line.split(':');
            let name = fields.next().unwrap().to_owned();
            (name, fields.nth(1).unwrap().parse().unwrap())
        };
        lines(tree, path).iter().map(id).collect()
    };
    let like = ids(like);
    let pair = |(name, id): (String, u32)| Some((id, *like.get(&name)?));
    ids(tree).into_iter().filter_map(pair).collect()
}

fn rewrite(tree: &mut Tree, path: &'static str, edit: impl Fn(&str) -> String) {
    let text: String = lines(tree, path).iter().map(|line| edit(line) + "\n").collect();
    let node = tree.get_mut(&TreePath::literal(path)).unwrap();
    node.kind = tree::Kind::File(tree::Content::inline(text.into_bytes()));
}

/// The suites that mkgold takes by default, from the mirrors that it takes.
fn sources(release: &str) -> Vec<String> {
    let host = SourceList::read(Path::new("/etc/apt"));
    let mirrors = apt::default_mirror("debian", &host.sources).expect("the host names a mirror");
    let sources = apt::debian_sources(release, &mirrors, &DebianOptions::default()).unwrap();
    let line = |s: &apt::Source| format!("deb {} {} {}", s.uri, s.suite, s.components.join(" "));
    sources.iter().map(line).collect()
}

/// Whether any of this can be done; says so if not.
fn can_compare() -> bool {
    if !privilege::is_root() {
        privilege::not_tested("trees against mmdebstrap's, and apt at work in an image", "root");
    }
    privilege::is_root()
}

/// Compares the lists with these names. All of them, if there are none: then an
/// exception that none needs is a failure, too.
#[allow(clippy::print_stdout, reason = "figures for docs/oracles.md")]
pub fn compare_trees(names: &[&str]) {
    if !can_compare() {
        return;
    }
    let variable = std::env::var("MKGOLD_TREES_LISTS").unwrap_or_default();
    let wanted: Vec<_> = variable.split_whitespace().collect();
    let wanted = if wanted.is_empty() { names.to_vec() } else { wanted };
    let mut explained = Explained::new(EXCEPTIONS);
    let mut failures = String::new();
    let selected = |name: &str| wanted.is_empty() || wanted.contains(&name);
    for (name, release, packages) in LISTS.iter().filter(|list| selected(list.0)) {
        let pair = Pair::build(name, release, packages);
        let ours = pair.tree("mkgold");
        let theirs = with_ids_of(pair.tree("mmdebstrap"), &ours);
        let aspects = Aspects { mtimes: true, ..Aspects::EXACT };
        let all = compare(&ours, &theirs, aspects);
        println!("{name}: {} paths, {} differences", ours.len(), all.len());
        for difference in explained.unexplained(&ours, &theirs, all) {
            writeln!(failures, "{name}: {difference}").unwrap();
        }
    }
    if wanted.is_empty() {
        for path in explained.unused() {
            writeln!(failures, "the exception {path} explains nothing").unwrap();
        }
    }
    assert!(failures.is_empty(), "left is mkgold, right mmdebstrap\n{failures}");
}

/// Run in the image: what its own dpkg says of it, and its own apt at work.
const USE: &str = r#"set -e
audit() { dpkg --audit > /tmp/audit; cat /tmp/audit; test ! -s /tmp/audit; }
audit
dpkg --verify
apt-get -q update
apt-get -q install -y hello
hello
audit
dpkg --verify hello
"#;

/// Where `WithDocs=no` leaves files out.
const DOCS: [&str; 5] = ["doc", "man", "info", "groff", "gtk-doc"];

/// What [`USE`] printed that it should not have.
pub fn complaints(output: &str, with_docs: bool) -> Vec<&str> {
    let is_doc = |path: &str| {
        let below = path.strip_prefix("/usr/share/").unwrap_or_default();
        DOCS.iter().any(|dir| below.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/')))
    };
    let is_complaint = |line: &&str| match line.strip_prefix("missing ") {
        Some(path) => with_docs || !is_doc(path.trim()),
        None => {
            let attributes = line.split(' ').next().unwrap_or_default();
            let is_verify = attributes.len() == 9 && attributes.contains("?????");
            is_verify || line.starts_with("W:") || line.starts_with("E:")
        }
    };
    output.lines().filter(is_complaint).collect()
}

/// Builds and looks into two images.
pub fn use_images() {
    if !can_compare() {
        return;
    }
    let list = |name| LISTS.iter().find(|list| list.0 == name).unwrap();
    for (name, with_docs) in [("server", false), ("bookworm-server", true)] {
        let (_, release, packages) = list(name);
        let work = tempfile::tempdir().unwrap();
        let content = if with_docs { "" } else { "WithDocs=no\n" };
        build_with_mkgold(work.path(), release, packages, content);
        let mut command = oracle::command_in(&work.path().join("mkgold"), "/bin/sh", &[]);
        let output = command.args(["-c", USE]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {said}{errors}");
        assert!(said.contains("Hello, world!"), "{name}: {said}{errors}");
        let all = format!("{said}{errors}");
        assert_eq!(complaints(&all, with_docs), Vec::<&str>::new(), "{name}");
    }
}
