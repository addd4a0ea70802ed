//! Whoever plants an identity into an image, and wherever: what comes out is golden,
//! or nothing comes out and the gate names the file and the step.
//!
//! The quick tests build without Debian, through the real command. Those that build
//! Debian are run by `cargo xtask boot`.

#[path = "crafted/mod.rs"]
mod common;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use common::{Item, Project, deb, file, special, tar};

/// What every planted file holds.
const MARK: &str = "PLANTED-SECRET";
/// A machine ID, in every text that is one.
const ID: &str = "0123456789abcdef0123456789abcdef";

/// Identity: never configuration, whoever puts it there.
const IDENTITY: &[&str] = &[
    "etc/ssh/ssh_host_rsa_key",
    "etc/ssh/ssh_host_rsa_key.pub",
    "etc/ssh/ssh_host_ed25519_key-cert.pub",
    "etc/keys/odd name",
    "var/lib/systemd/random-seed",
    "var/lib/urandom/random-seed",
    "boot/loader/random-seed",
    "efi/loader/random-seed",
    "var/lib/systemd/credential.secret",
    "var/lib/dhcp/dhclient.eth0.leases",
    "var/lib/NetworkManager/internal-1-eth0.lease",
    "var/lib/NetworkManager/secret_key",
    "var/lib/NetworkManager/seen-bssids",
    "var/lib/systemd/network/eth0",
    "etc/lvm/devices/system.devices",
    "var/lib/cloud/instances/i-1/obj.pkl",
    "var/lib/cloud/data/instance-id",
    "etc/shadow-",
    "root/.bash_history",
    "home/u/.python_history",
    "var/log/wtmp",
    "var/log/dpkg.log",
    "var/log/journal/x/system.journal",
    "var/crash/core",
    "var/lib/systemd/coredump/core.1",
    "tmp/x",
    "var/tmp/x",
    "run/x",
    "var/cache/ldconfig/aux-cache",
];

/// A leftover unless the project's own trees have it.
const CONFIGURED: &[&str] = &[
    "etc/hostname",
    "etc/machine-info",
    "etc/iscsi/initiatorname.iscsi",
    "etc/NetworkManager/system-connections/wifi.nmconnection",
    "etc/krb5.keytab",
    "etc/wireguard/wg0.key",
    "etc/ssl/private/ssl-cert-snakeoil.key",
    "var/lib/samba/private/secrets.tdb",
    "etc/udev/rules.d/70-persistent-net.rules",
    "root/.ssh/authorized_keys",
    "home/u/.ssh/id_ed25519",
    "var/mail/root",
    "etc/resolv.conf",
    "etc/cryptsetup-keys.d/root.key",
];

/// What is no leftover: it shows that what is planted arrives.
const KEPT: &[&str] = &["usr/share/kept", "etc/kept", "var/lib/kept", "srv/kept"];

/// Every planted file and what is in it.
fn plants() -> Vec<(String, String)> {
    let all = IDENTITY.iter().chain(CONFIGURED).chain(KEPT);
    let mut plants: Vec<(String, String)> =
        all.map(|path| ((*path).to_owned(), format!("{MARK} {path}\n"))).collect();
    plants.push(("etc/machine-id".into(), format!("{ID}\n")));
    plants.push(("var/lib/dbus/machine-id".into(), format!("{ID}\n")));
    plants.push(("etc/ssh/sshd_config".into(), "hostkey  \"/etc/keys/odd name\"\n".into()));
    plants
}

fn as_tar() -> Vec<u8> {
    let mut items: Vec<Item> = Vec::new();
    let mut made = std::collections::BTreeSet::new();
    for (path, text) in plants() {
        let above: Vec<_> = Path::new(&path).ancestors().skip(1).collect();
        for dir in above.iter().rev().filter(|dir| !dir.as_os_str().is_empty()) {
            if made.insert(dir.to_path_buf()) {
                items.push(special(&format!("./{}", dir.display()), b'5', ""));
            }
        }
        items.push(file(&format!("./{path}"), text.as_bytes()));
    }
    tar(&items)
}

fn as_script() -> String {
    let mut script = "#!/bin/sh\nset -e\n".to_owned();
    for (path, text) in plants() {
        let dir = Path::new(&path).parent().unwrap().display().to_string();
        script += &format!("mkdir -p \"$BUILDROOT/{dir}\"\n");
        script += &format!("printf '%s' '{text}' > \"$BUILDROOT/{path}\"\n");
    }
    script
}

fn directory(project: &Project, dir: &str) {
    for (path, text) in plants() {
        project.file(&format!("{dir}/{path}"), text, 0o644);
    }
}

/// The paths of an output that hold what was planted.
fn marked(root: &Path) -> Vec<String> {
    let found = common::files(root).into_iter().filter(|(_, bytes)| {
        let has = |needle: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
        has(MARK.as_bytes()) || has(ID.as_bytes())
    });
    let inside = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
    found.map(|(path, _)| inside(&path)).collect()
}

fn sorted(lists: &[&[&str]]) -> Vec<String> {
    let mut all: Vec<String> = lists.concat().into_iter().map(str::to_owned).collect();
    all.sort_by(|a, b| Path::new(a).cmp(Path::new(b)));
    all
}

/// Builds and says what of the planted is in the image.
fn left_by(project: &Project) -> Vec<String> {
    let run = project.build(&[]);
    assert!(run.success, "{}", run.text);
    let root = project.root();
    assert_eq!(std::fs::read_to_string(root.join("etc/machine-id")).unwrap(), "uninitialized\n");
    marked(&root)
}

fn new(more: &str) -> Project {
    Project::new(&format!("{more}\n[Output]\nFormat=directory\n"))
}

#[test]
fn base_and_skeleton_trees_plant_nothing() {
    for setting in ["BaseTrees", "SkeletonTrees"] {
        let project = new(&format!("{setting}=plant"));
        directory(&project, "plant");
        assert_eq!(left_by(&project), sorted(&[KEPT]), "{setting}, directory");
        let project = new(&format!("{setting}=plant.tar"));
        project.file("plant.tar", as_tar(), 0o644);
        assert_eq!(left_by(&project), sorted(&[KEPT]), "{setting}, archive");
    }
}

#[test]
fn extra_trees_configure_but_plant_no_identity() {
    let project = new("ExtraTrees=plant");
    directory(&project, "plant");
    assert_eq!(left_by(&project), sorted(&[KEPT, CONFIGURED]), "directory");
    let project = new("ExtraTrees=plant.tar");
    project.file("plant.tar", as_tar(), 0o644);
    assert_eq!(left_by(&project), sorted(&[KEPT, CONFIGURED]), "archive");
}

#[test]
fn scripts_plant_nothing_and_are_named() {
    for name in ["mkosi.postinst", "mkosi.finalize", "mkosi.build", "mkosi.prepare"] {
        let project = new("");
        project.file(name, as_script(), 0o755);
        let run = project.build(&[]);
        assert!(run.success, "{name}: {}", run.text);
        // What a build script leaves in $BUILDROOT is thrown away.
        let expected = if name == "mkosi.build" { vec![] } else { sorted(&[KEPT]) };
        assert_eq!(marked(&project.root()), expected, "{name}");
        if name != "mkosi.build" {
            let named = run.text.lines().any(|line| {
                line.contains("sealed R6: /etc/ssh/ssh_host_rsa_key") && line.contains(name)
            });
            assert!(named, "{}", run.text);
        }
    }
}

#[test]
fn packages_plant_nothing() {
    let project = new("Packages=plant\nSkeletonTrees=dpkg");
    common::dpkg(&project, "dpkg");
    let control = common::control("plant");
    project.package(
        "plant",
        &common::deb_with(&[file("./control", control.as_bytes())], &as_tar(), ""),
    );
    assert_eq!(left_by(&project), sorted(&[KEPT]));
}

/// A layer of the cache that somebody replaced by one with an identity in it.
#[test]
fn a_cached_layer_plants_nothing() {
    let layers = |project: &Project| -> Vec<_> {
        let objects = common::files(&project.path("cache"));
        objects.into_iter().filter(|(path, _)| path.to_string_lossy().contains("/layer/")).collect()
    };
    let project = new("Packages=good\nSkeletonTrees=dpkg");
    common::dpkg(&project, "dpkg");
    project.package("good", &deb("good", &[]));
    assert_eq!(left_by(&project), Vec::<String>::new());
    let good = layers(&project);
    assert_eq!(good.len(), 1);
    let control = common::control("plant");
    project.package(
        "plant",
        &common::deb_with(&[file("./control", control.as_bytes())], &as_tar(), ""),
    );
    let run = project.build(&["--package=plant"]);
    assert!(run.success, "{}", run.text);
    let all = layers(&project);
    let bad = all.iter().find(|(path, _)| *path != good[0].0).expect("another layer");
    std::fs::set_permissions(&good[0].0, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&good[0].0, &bad.1).unwrap();
    std::fs::remove_file(project.path("project/packages/plant.deb")).unwrap();
    std::fs::remove_file(project.path("project/mkgold.lock")).unwrap();
    project.file("mkosi.extra/changed", "so that it is built", 0o644);
    // The control: what was planted is in the layer that was taken.
    assert_eq!(left_by(&project), sorted(&[KEPT]));
}

/// The same secrets by other names and through links.
#[test]
fn links_and_copies_hide_nothing() {
    let script = format!(
        r#"#!/bin/sh
set -e
cd "$BUILDROOT"
mkdir -p etc/ssh var/lib/systemd var/lib/dbus srv real etc/ssh/more home/u
echo '{MARK} linked' > etc/ssh/ssh_host_rsa_key
ln etc/ssh/ssh_host_rsa_key srv/twin
echo '{MARK} copied' > etc/ssh/ssh_host_ecdsa_key
cp etc/ssh/ssh_host_ecdsa_key srv/copy
echo '{MARK} target' > srv/target
ln -s /srv/target etc/ssh/ssh_host_ed25519_key
echo 'Include more/*.conf' > etc/ssh/sshd_config
echo 'HostKey=/srv/included' > etc/ssh/more/10.conf
echo '{MARK} included' > srv/included
echo '{MARK} seed' > srv/seed
ln -s ../../../srv/seed var/lib/systemd/random-seed
echo '{MARK} credential' > var/lib/systemd/credential.secret
ln var/lib/systemd/credential.secret srv/credential
echo {ID} > etc/machine-id
ln etc/machine-id var/lib/dbus/machine-id
cp etc/machine-id srv/machine-id
mv home real/home
ln -s real/home home
echo '{MARK} history' > home/u/.bash_history
echo '{MARK} kept' > srv/kept
"#
    );
    for name in ["mkosi.postinst", "mkosi.finalize"] {
        let project = new("");
        project.file(name, &script, 0o755);
        assert_eq!(left_by(&project), ["srv/kept"], "{name}");
    }
}

/// Things in the place of `/etc/machine-id` that are no file.
#[test]
fn a_machine_id_of_any_shape_is_reset() {
    for (shape, made) in [
        ("link", format!("echo {ID} > etc/other; ln -s other etc/machine-id")),
        ("absolute link", format!("mkdir srv; echo {ID} > srv/id; ln -s /srv/id etc/machine-id")),
        ("dangling link", "ln -s nowhere etc/machine-id".to_owned()),
        ("loop", "ln -s machine-id etc/machine-id".to_owned()),
        ("empty", ": > etc/machine-id".to_owned()),
        ("upper case", format!("echo {} > etc/machine-id", ID.to_ascii_uppercase())),
        ("no line end", format!("printf {ID} > etc/machine-id")),
        ("two lines", format!("printf 'uninitialized\n{ID}\n' > etc/machine-id")),
        (
            "large",
            format!("i=0; while [ $i -lt 9999 ]; do echo {ID}; i=$((i+1)); done > etc/machine-id"),
        ),
        ("pipe", "mkfifo etc/machine-id".to_owned()),
    ] {
        let project = new("");
        let script = format!(
            "#!/bin/sh\nset -e\ncd \"$BUILDROOT\"\nmkdir -p etc\nrm -f etc/machine-id\n{made}\n"
        );
        project.file("mkosi.finalize", script, 0o755);
        let run = project.build(&[]);
        assert!(run.success, "{shape}: {}", run.text);
        let id = project.root().join("etc/machine-id");
        let meta = id.symlink_metadata().unwrap();
        assert!(meta.is_file(), "{shape}: {meta:?}");
        assert_eq!(std::fs::read_to_string(id).unwrap(), "uninitialized\n", "{shape}");
        assert_eq!(marked(&project.root()), Vec::<String>::new(), "{shape}");
    }
    // A directory too, and what is in it goes.
    let project = new("");
    let made = format!("mkdir -p etc/machine-id/x\necho {ID} > etc/machine-id/x/id");
    let script = format!("#!/bin/sh\nset -e\ncd \"$BUILDROOT\"\nrm -f etc/machine-id\n{made}\n");
    project.file("mkosi.finalize", script, 0o755);
    assert_eq!(left_by(&project), Vec::<String>::new());
}

/// What cannot be mended is refused, by file and step.
#[test]
fn the_gate_names_file_and_step() {
    let project = new("");
    let script = format!(
        "#!/bin/sh\nset -e\ncd \"$BUILDROOT\"\nmkdir -p usr/lib etc/ssh etc/kernel\n\
         echo {MARK} of a machine > etc/ssh/ssh_host_rsa_key\nln etc/ssh/ssh_host_rsa_key usr/lib/twin\n"
    );
    project.file("mkosi.finalize", script, 0o755);
    let run = project.build(&[]);
    assert!(!run.success, "{}", run.text);
    for word in ["R8-copies", "/usr/lib/twin", "finalize script mkosi.finalize"] {
        assert!(run.text.contains(word), "{word}: {}", run.text);
    }
    assert!(!project.root().exists(), "nothing comes out");
}

/// R8: what was removed cannot be read from the disk either.
#[test]
fn a_raw_disk_holds_nothing_that_was_removed() {
    let disk = |removed: bool| {
        let project = Project::new("[Output]\nFormat=disk\n");
        let path = if removed { "etc/ssh/ssh_host_rsa_key" } else { "etc/kept" };
        let script = format!(
            "#!/bin/sh\nset -e\nmkdir -p \"$BUILDROOT/etc/ssh\"\n\
             i=0; while [ $i -lt 500 ]; do echo '{MARK}'; i=$((i+1)); done > \"$BUILDROOT/{path}\"\n"
        );
        project.file("mkosi.finalize", script, 0o755);
        let run = project.build(&[]);
        assert!(run.success, "{}", run.text);
        let bytes = std::fs::read(project.path("out/golden.raw")).unwrap();
        bytes.windows(MARK.len()).any(|w| w == MARK.as_bytes())
    };
    assert!(disk(false), "the control: a file that stays can be found");
    assert!(!disk(true), "a key that was sealed cannot");
}

/// The archive cache for images of Debian, shared with the tests that boot.
fn debian(project: &Project, more: &[&str]) -> common::Run {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let mut command = Command::new(common::mkgold());
    command.arg("-C").arg(project.path("debian")).arg("--cache-directory").arg(cache);
    command.arg("--output-directory").arg(project.path("out")).args(more);
    common::run(command.args(["--force", "build"]))
}

/// Debian with an SSH server and a network manager, whose own scripts make identities,
/// and everything planted by every way at once.
#[test]
#[ignore = "boot: builds real images"]
fn debian_with_everything_planted_is_golden() {
    let project = new("");
    let root = project.path("debian");
    let write = |name: &str, bytes: &[u8], mode: u32| {
        project.file(&format!("../debian/{name}"), bytes, mode);
    };
    write(
        "mkosi.conf",
        b"[Distribution]\nDistribution=debian\nRelease=trixie\n[Output]\nImageId=golden\n\
          [Content]\nBootable=yes\nBootloader=systemd-boot\nWithDocs=no\nBaseTrees=base.tar\n\
          Packages=systemd systemd-sysv systemd-boot-efi systemd-boot linux-image-cloud-amd64\n  \
          openssh-server dbus network-manager ssl-cert open-iscsi lvm2 kmod udev\n",
        0o644,
    );
    for script in ["mkosi.postinst", "mkosi.finalize"] {
        write(script, as_script().as_bytes(), 0o755);
    }
    write("mkosi.skeleton.tar", &as_tar(), 0o644);
    write("base.tar", &as_tar(), 0o644);
    for (path, text) in plants() {
        write(&format!("mkosi.extra/{path}"), text.as_bytes(), 0o644);
    }
    symlink("/etc", root.join("mkosi.extra/adm")).unwrap();
    let run = debian(&project, &["--format=directory", "--bootable=no"]);
    assert!(run.success, "{}", run.text);
    let out = project.path("out/golden");
    let left: Vec<_> = marked(&out).into_iter().collect();
    assert_eq!(left, sorted(&[KEPT, CONFIGURED]));
    let id = std::fs::read_to_string(out.join("etc/machine-id")).unwrap();
    assert_eq!(id, "uninitialized\n");

    // The disk: nothing of it anywhere in the raw bytes, the ESP included.
    let run = debian(&project, &["--format=disk"]);
    assert!(run.success, "{}", run.text);
    let disk = std::fs::read(project.path("out/golden.raw")).unwrap();
    let found =
        |needle: &str| disk.windows(needle.len()).filter(|w| *w == needle.as_bytes()).count();
    for path in IDENTITY {
        assert_eq!(found(&format!("{MARK} {path}\n")), 0, "{path}");
    }
    assert_eq!(found(&format!("{ID}\n")), 0, "the machine ID");
    assert!(found(&format!("{MARK} srv/kept\n")) > 0, "the control: what stays is found");
    assert!(run.memory < common::MEMORY, "{} MiB", run.memory >> 20);
}
