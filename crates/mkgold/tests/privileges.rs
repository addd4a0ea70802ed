//! The same bytes whatever the builder may do: root, an ordinary user with and without
//! subordinate ids, root in a container that may neither mount nor unshare; and whatever
//! the directory, umask, locale, time zone, times of inputs and number of threads.
//!
//! Whole images, with scripts that give away files, make devices and set capabilities.
//! Needs a Debian mirror, and root for the most of it: `cargo xtask campaign`. What the
//! machine does not allow is printed and not claimed.
#![allow(clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use common::{
    SMALL, cold_cache, fail, give_directories, mkgold, open_dir, succeed, sums, write_project,
};
use testkit::privilege::{self, DOCKER, PODMAN};

/// A user that no file of the host knows.
const USER: u32 = 54_321;
/// The first of its subordinate ids.
const RANGE: u32 = 3_000_000;

/// A bootable server, and a script that does what only root can.
const CONFIG: &str = "\
[Distribution]
Distribution=debian
Release=trixie
[Output]
ImageId=rights
ImageVersion=3
Checksum=yes
ManifestFormat=json
[Content]
Bootable=yes
WithDocs=no
Packages=
        acl
        dbus
        iproute2
        kmod
        libcap2-bin
        libpam-systemd
        linux-image-cloud-amd64
        openssh-server
        systemd
        systemd-boot
        systemd-boot-efi
        systemd-repart
        systemd-sysv
        udev
";

/// What it sees goes into the image too: a script must not see who builds.
const POSTINST: &str = r#"#!/bin/sh
set -eu
umask >/srv/umask
env | sort >/srv/environment
id >/srv/id
hostname >/srv/hostname
useradd --system --create-home --home-dir /srv/home worker
cd /srv
echo a >a; chown 1234:5678 a; chmod 4755 a; stat -c '%u %g %a' a >a.stat
echo b >b; chown worker:adm b; chmod 2750 b
mkdir d; chown 65534:65533 d; chmod 1777 d
ln a hard; ln -s /nowhere link; chown -h 7:8 link
mknod null c 1 3; mknod disk b 7 200; mkfifo pipe; chown 9:10 null pipe; chmod 640 disk
stat -c '%t %T %u %g %F %a' null disk pipe >nodes.stat
cp /bin/true ping; setcap cap_net_raw+ep ping; getcap ping >ping.cap
echo c >c; setfacl -m u:1234:r c; getfacl -n c >c.acl
truncate -s 3M sparse; printf x | dd of=sparse bs=1 seek=2000000 conv=notrunc status=none
touch -d '2001-02-03 04:05:06.789' old
setpriv --reuid=1234 --regid=5678 --clear-groups sh -c 'id; echo mine >/tmp/mine;
    stat -c "%u %g" /tmp/mine; chown 0 /tmp/mine 2>/dev/null || echo refused' >as-user
cp -a a home; rm -f home/.bash_history
ls -lnR --time-style=+%s /srv/d /srv/home | sed 's/ [0-9]\{10\} / TIME /' >listing
"#;

const FINALIZE: &str = r#"#!/bin/sh
set -eu
chown 42:43 /srv/a.stat
chmod 2711 /srv/d
mv /srv/pipe /srv/d/pipe
stat -c '%n %u %g %a %F' /srv/* >/srv/final
"#;

const BUILD: &str = r#"#!/bin/sh
set -eu
mkdir -p "$DESTDIR/opt"
install -o 11 -g 12 -m 4711 /bin/true "$DESTDIR/opt/tool"
mknod "$DESTDIR/opt/zero" c 1 5
"#;

fn project(dir: &Path) {
    write_project(
        dir,
        &[
            ("mkosi.conf", CONFIG),
            ("mkosi.build.chroot", BUILD),
            ("mkosi.postinst.chroot", POSTINST),
            ("mkosi.finalize.chroot", FINALIZE),
            ("mkosi.extra/etc/motd", "the same everywhere\n"),
            ("mkosi.extra/usr/local/bin/hello", "#!/bin/sh\necho hello\n"),
        ],
    );
}

/// Takes rights away from the process that will be mkgold.
type Rights = fn(&mut Command, &Path);

struct Variant {
    name: &'static str,
    /// The mode in which it must find itself.
    mode: &'static str,
    /// Who owns cache and output.
    owner: Option<u32>,
    rights: Rights,
    arguments: &'static [&'static str],
}

const fn variant(name: &'static str, mode: &'static str, rights: Rights) -> Variant {
    Variant { name, mode, owner: None, rights, arguments: &[] }
}

fn user(command: &mut Command, work: &Path, range: Option<u32>) {
    let etc = work.join("etc");
    fs::create_dir(&etc).unwrap();
    privilege::etc(&etc, "rights", USER, range);
    privilege::as_user(command, USER, &etc);
}

/// Another umask, locale, zone and number of threads.
fn elsewhere(command: &mut Command, work: &Path) {
    command.env("LC_ALL", "tr_TR.UTF-8").env("LANG", "de_DE.UTF-8").env("TZ", "Asia/Kathmandu");
    command.env("HOME", work).env("USER", "somebody").current_dir(work);
    // SAFETY: the closure makes one system call.
    unsafe {
        command.pre_exec(|| {
            libc::umask(0o077);
            Ok(())
        })
    };
}

/// What root can try here.
fn variants_of_root() -> Vec<Variant> {
    let mut variants = vec![
        variant("root", "root", |_, _| {}),
        Variant { arguments: &["--threads=1"], ..variant("root, elsewhere", "root", elsewhere) },
        Variant {
            owner: Some(USER),
            ..variant("user with one id", "single-user", |c, work| user(c, work, None))
        },
        Variant {
            owner: Some(RANGE),
            ..variant("uid 0 of a user namespace", "mapped-user", |c, _| {
                privilege::as_mapped(c, RANGE)
            })
        },
        variant("root in a container (Docker)", "root-no-mount", |c, _| {
            privilege::as_container(c, DOCKER)
        }),
        variant("root in a container (Podman)", "root-no-mount", |c, _| {
            privilege::as_container(c, PODMAN)
        }),
    ];
    match Path::new("/usr/bin/newuidmap").exists() {
        true => variants.push(Variant {
            owner: Some(USER),
            ..variant("user with ranges (newuidmap)", "mapped-user", |c, work| {
                user(c, work, Some(RANGE))
            })
        }),
        false => privilege::not_tested("user with ranges", "newuidmap, of the package uidmap"),
    }
    variants
}

/// What an ordinary user can try here; the mode depends on what the user was given.
fn variants_of_user() -> Vec<Variant> {
    for name in ["root", "root in a container", "uid 0 of a user namespace"] {
        privilege::not_tested(name, "root");
    }
    vec![
        variant("this user", "", |_, _| {}),
        Variant { arguments: &["--threads=1"], ..variant("this user, elsewhere", "", elsewhere) },
        Variant {
            arguments: &["--privilege=single-user"],
            ..variant("this user with one id", "single-user", |_, _| {})
        },
    ]
}

/// Inputs get another time in each build, all of them after the archive's.
fn touch(project: &Path, days: u64) {
    let time = SystemTime::now() + Duration::from_secs(days * 86_400);
    let mut left = vec![project.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        fs::File::open(&path).unwrap().set_modified(time).unwrap();
    }
}

/// A variant in a place of its own, ready to run.
struct Place {
    work: PathBuf,
    cache: PathBuf,
    output: PathBuf,
    command: Command,
}

impl Place {
    fn new(variant: &Variant, n: usize, locked: &Path, work: &Path) -> Place {
        // Another path, of another length, each time.
        let work = work.join(format!("{}{n}", "x".repeat(n + 1)));
        let (project, cache) = (work.join("project"), work.join("cache"));
        let output = work.join("output");
        fs::create_dir_all(&project).unwrap();
        copy(locked, &project);
        touch(&project, n as u64);
        cold_cache(locked, &cache);
        fs::create_dir(&output).unwrap();
        for dir in [&cache, &output] {
            variant.owner.iter().for_each(|id| give_directories(dir, *id));
        }
        let program = work.join("mkgold");
        fs::copy(mkgold(), &program).unwrap();
        let mut command = common::command(&program, &project, &cache, &output);
        command.args(variant.arguments);
        command.args(["--locked", "--offline", "--json", "--force", "build"]);
        (variant.rights)(&mut command, &work);
        Place { work, cache, output, command }
    }

    fn finish(self, name: &str) {
        nothing_left(&self.cache, &self.output, name);
        if std::env::var_os("MKGOLD_KEEP").is_none() {
            fs::remove_dir_all(&self.work).unwrap();
        }
    }
}

/// Builds one variant; the sums of its outputs.
fn build(variant: &Variant, n: usize, locked: &Path, work: &Path) -> BTreeMap<String, String> {
    let mut place = Place::new(variant, n, locked, work);
    let start = SystemTime::now();
    let said = succeed(&mut place.command);
    let mode = said.lines().last().unwrap_or_default().to_owned();
    let expected = format!("\"privilege\":\"{}", variant.mode);
    assert!(mode.contains(&expected), "{}: not {expected}: {mode}", variant.name);
    println!("{}: {:.1} s", variant.name, start.elapsed().unwrap_or_default().as_secs_f64());
    let sums = sums(&place.output);
    place.finish(variant.name);
    sums
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(copied.success());
}

/// A finished build leaves no work behind.
fn nothing_left(cache: &Path, output: &Path, name: &str) {
    for dir in [cache.join("work"), cache.join("tmp")] {
        let left: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(left.is_empty(), "{name}: left {left:?}");
    }
    let hidden = fs::read_dir(output).unwrap().map(|entry| entry.unwrap().file_name());
    let hidden: Vec<_> = hidden.filter(|n| n.as_encoded_bytes().starts_with(b".")).collect();
    assert!(hidden.is_empty(), "{name}: left {hidden:?}");
}

fn variants() -> Vec<Variant> {
    if privilege::is_root() { variants_of_root() } else { variants_of_user() }
}

#[test]
#[ignore = "campaign: builds a real image in every way there is"]
fn an_image_is_the_same_whoever_builds_it() {
    let work = open_dir();
    let locked = work.path().join("locked");
    project(&locked);
    common::lock(&locked);
    let mut first: Option<(&str, BTreeMap<String, String>)> = None;
    for (n, variant) in variants().iter().enumerate() {
        let sums = build(variant, n, &locked, work.path());
        let kinds = ["raw", "manifest", "spdx.json", "cdx.json", "SHA256SUMS", "partitions.json"];
        let expected: Vec<_> = kinds.iter().map(|kind| format!("rights_3.{kind}")).collect();
        assert!(expected.iter().all(|name| sums.contains_key(name)), "{sums:?}");
        match &first {
            None => first = Some((variant.name, sums)),
            Some((name, there)) => assert_eq!(sums, *there, "{} against {name}", variant.name),
        }
    }
}

/// On the host's root, with the image at `$BUILDROOT`: where nothing can be mounted that
/// is refused, with what to do.
const HOST_SCRIPT: &str = r#"#!/bin/sh
set -eu
umask >"$BUILDROOT/srv/umask"
cd "$BUILDROOT/srv"
echo a >a; chown 1234:5678 a; chmod 6755 a; stat -c '%u %g %a' a >a.stat
mknod node b 7 1; ln -s a link; chown -h 3:4 link
mkosi-chroot sh -c 'id >/srv/id; chown daemon:adm /srv/id; cp -a /srv/a /srv/copy'
"#;

#[test]
#[ignore = "campaign: builds a tree in every way there is"]
fn scripts_of_the_host_do_the_same_or_are_refused() {
    let work = open_dir();
    let locked = work.path().join("locked");
    let scripts = [("mkosi.conf", SMALL), ("mkosi.finalize", HOST_SCRIPT)];
    write_project(&locked, &scripts);
    common::lock(&locked);
    let mut first: Option<(&str, BTreeMap<String, String>)> = None;
    for (n, variant) in variants().iter().enumerate() {
        if variant.mode == "root-no-mount" {
            let mut place = Place::new(variant, n, &locked, work.path());
            let said = fail(&mut place.command, 1);
            assert!(said.contains("not possible without mounting"), "{said}");
            assert!(said.contains("--privileged"), "{said}");
            place.finish(variant.name);
            println!("{}: refused: {}", variant.name, said.lines().last().unwrap_or_default());
            continue;
        }
        let sums = build(variant, n, &locked, work.path());
        match &first {
            None => first = Some((variant.name, sums)),
            Some((name, there)) => assert_eq!(sums, *there, "{} against {name}", variant.name),
        }
    }
}

#[test]
#[ignore = "campaign: takes rights away"]
fn where_nothing_works_the_error_says_what_to_change() {
    let work = open_dir();
    write_project(work.path(), &[("mkosi.conf", SMALL)]);
    fs::copy(mkgold(), work.path().join("mkgold")).unwrap();
    let try_as = |rights: &dyn Fn(&mut Command)| {
        let at = |name: &str| work.path().join(name);
        let mut command = common::command(&at("mkgold"), work.path(), &at("cache"), &at("output"));
        command.args(["--offline", "build"]);
        rights(&mut command);
        fail(&mut command, 1)
    };
    if !privilege::is_root() {
        let said = try_as(&privilege::without_namespaces);
        assert!(said.contains("seccomp profile forbids it"), "{said}");
        return privilege::not_tested("root without capabilities", "root");
    }
    let said = try_as(&|command| {
        command.uid(USER).gid(USER);
        privilege::without_namespaces(command);
    });
    assert!(said.contains("seccomp profile forbids it"), "{said}");
    assert!(said.contains("--security-opt seccomp=unconfined"), "{said}");
    println!("user without namespaces: {said}");
    let said = try_as(&|command| privilege::as_container(command, &[0, 1, 3, 4, 6, 7]));
    assert!(said.contains("CAP_SYS_CHROOT missing"), "{said}");
    assert!(said.contains("--cap-add"), "{said}");
    println!("root without capabilities: {said}");
}
