//! A whole Debian root file system: `dpkg --configure -a` of all its packages in every
//! mode gives the same Tree, and what each mode costs.
//!
//! Prints its figures; fails if answering calls costs more than three times the time of
//! real root. `MKGOLD_ORACLE` names a directory with a Debian trixie root file system.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod support;

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use report::Silent;
use sandbox::{Command, Mode, PackSink, Stdout, Workspace};
use support::{As, dispatch, p, run_role};
use testkit::privilege;
use tree::{Blob, Content, Kind, Meta, Mtime, Node, Tree, TreePath};

#[used]
#[unsafe(link_section = ".init_array")]
static ROLES: extern "C" fn() = {
    extern "C" fn start() {
        dispatch(&[("configure", configure)]);
    }
    start
};

fn oracle() -> PathBuf {
    let dir = std::env::var_os("MKGOLD_ORACLE");
    let dir = dir.expect("MKGOLD_ORACLE names a directory with a Debian trixie root file system");
    fs::canonicalize(dir).expect("MKGOLD_ORACLE is a directory")
}

/// The oracle's files as a tree. Devices are left out, and what is not a package's.
fn oracle_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut queue: Vec<PathBuf> = ["bin", "sbin", "lib", "lib64", "usr", "etc", "var", "root"]
        .iter()
        .map(|name| root.join(name))
        .collect();
    for dir in ["proc", "dev", "sys", "run", "tmp", "boot"] {
        tree.make_dirs(&p(dir)).unwrap();
    }
    tree.get_mut(&p("tmp")).unwrap().meta.mode = 0o1777;
    while let Some(path) = queue.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = match meta.file_type() {
            t if t.is_dir() => {
                queue.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
                Kind::Dir
            }
            t if t.is_symlink() => {
                Kind::Symlink(fs::read_link(&path).unwrap().as_os_str().as_bytes().into())
            }
            t if t.is_fifo() || t.is_socket() || t.is_char_device() || t.is_block_device() => {
                continue;
            }
            _ if meta.uid() != 0 => Kind::File(Content::inline(fs::read(&path).unwrap())),
            _ => Kind::File(Content::range(Blob::at_path(&path), 0, meta.len())),
        };
        let mode = (meta.mode() & 0o7777) as u16;
        let nanos = meta.mtime_nsec() as u32;
        let meta = Meta::new(mode)
            .owned_by(meta.uid(), meta.gid())
            .at(Mtime { secs: meta.mtime(), nanos });
        let at = TreePath::new(path.strip_prefix(root).unwrap().as_os_str().as_bytes()).unwrap();
        tree.add(at, Node { meta, kind }).unwrap();
    }
    tree
}

/// Prints one line per measurement, then a line per path for the comparison.
fn configure() {
    // Before entering: afterwards files of other users than root may be unreadable.
    let mut tree = oracle_tree(Path::new(&std::env::var_os("ORACLE").unwrap()));
    // Seconds of compression that have nothing to do with system calls.
    tree.write(&p("usr/sbin/update-initramfs"), 0o755, *b"#!/bin/sh\n").unwrap();
    let privilege = support::enter();
    let mut time = Timer::new();
    let dir = support::dir();
    let mut workspace = Workspace::create(&dir.join("work"), &tree, &privilege).unwrap();
    time.lap("lay out");
    let run = |script: &str| {
        let command = Command::shell(script)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("INITRD", "No")
            .no_services()
            .stdout(Stdout::Capture(1 << 24));
        match workspace.run(&command, &Silent) {
            Ok(output) => output.stdout,
            Err(e) => panic!("{e}"),
        }
    };
    run(
        "sed -i 's/^Status: install ok installed/Status: install ok unpacked/' /var/lib/dpkg/status",
    );
    time.lap("mark as unpacked");
    run("dpkg --configure -a --force-confold");
    time.lap("dpkg --configure -a");
    run("find /usr /etc /var -printf '%u %m\\n' | wc -l");
    time.lap("find with stat");
    run("find /etc -type f -exec stat -c %u {} \\;");
    time.lap("a process per file");
    run(
        "mkdir /work && cp -a /usr/share/perl /work/ && chown -R 33:33 /work && tar -C /work -cf /t . \
         && rm -r /work /t",
    );
    time.lap("cp, chown -R, tar");
    let pack = dir.join("pack");
    let file = File::options().read(true).write(true).create_new(true).open(&pack).unwrap();
    let back = workspace.read_back(&mut PackSink::new(&pack, file).unwrap()).unwrap();
    time.lap("read back");
    workspace.read_back(&mut PackSink::new(&pack, File::open(&pack).unwrap()).unwrap()).unwrap();
    time.lap("read back unchanged");
    workspace.apply(&tree).unwrap();
    time.lap("apply");
    workspace.remove().unwrap();
    time.lap("remove");
    print!("{}", describe(&back));
}

/// Measures processor time, ours and that of what ran: wall-clock time says little on a
/// machine that does other things as well.
struct Timer(f64, Instant);

impl Timer {
    fn new() -> Timer {
        Timer(processor_time(), Instant::now())
    }

    fn lap(&mut self, what: &str) {
        let now = processor_time();
        println!("time {:.3} {:.3} {what}", now - self.0, self.1.elapsed().as_secs_f64());
        *self = Timer::new();
    }
}

fn processor_time() -> f64 {
    let of = |who: i32| {
        // SAFETY: all-zero is a valid `rusage`, which the call fills.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(who, &mut usage);
            usage
        };
        let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
        seconds(usage.ru_utime) + seconds(usage.ru_stime)
    };
    of(libc::RUSAGE_SELF) + of(libc::RUSAGE_CHILDREN)
}

/// Files whose content is the time or the machine.
const VOLATILE: [&str; 7] = [
    "var/lib/dbus/machine-id",
    "var/log",
    "var/cache/debconf",
    "var/cache/ldconfig",
    "etc/machine-id",
    "var/lib/systemd/random-seed",
    "var/lib/dpkg/triggers/Lock",
];

fn describe(tree: &Tree) -> String {
    let mut text = String::new();
    for (path, _, node) in tree.iter() {
        let m = &node.meta;
        let content = match &node.kind {
            _ if VOLATILE.iter().any(|v| path.starts_with(&p(v))) => "volatile".into(),
            Kind::File(content) => {
                // FNV-1a: enough to see a difference.
                let bytes = content.read(1 << 30).unwrap();
                let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
                    (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)
                });
                format!("{} {hash:x}", bytes.len())
            }
            Kind::Symlink(target) => String::from_utf8_lossy(target).into_owned(),
            other => format!("{other:?}"),
        };
        let attributes: Vec<_> =
            m.xattrs.iter().map(|(n, v)| (String::from_utf8_lossy(n), v)).collect();
        text += &format!(
            "{path} {:04o} {}:{} {content} {attributes:?} {}\n",
            m.mode,
            m.uid,
            m.gid,
            tree.links(path)
        );
    }
    text
}

/// What was measured, and its processor time; the elapsed time is shown only.
fn figure(line: &str) -> (String, f64) {
    let mut words = line.splitn(4, ' ').skip(1);
    let seconds = words.next().unwrap().parse().unwrap();
    (words.nth(1).unwrap().to_owned(), seconds)
}

#[test]
#[ignore = "long: configures all packages of a root file system four times"]
fn configuring_all_of_debian_gives_the_same_in_every_mode() {
    if !support::is_root() {
        return privilege::not_tested("what the modes of the sandbox cost", "root");
    }
    let oracle = oracle();
    let ways = [
        (As::Caller, Some(Mode::Root)),
        (As::Caller, Some(Mode::MappedUser)),
        (As::Caller, Some(Mode::SingleUser)),
        (As::Caller, Some(Mode::RootNoMount)),
    ];
    let mut first: Option<Vec<String>> = None;
    let mut figures: Vec<Vec<(String, f64)>> = Vec::new();
    for (who, mode) in ways {
        let dir = support::open_dir();
        // SAFETY: the only test of this binary.
        unsafe { std::env::set_var("ORACLE", &oracle) };
        let text = run_role("configure", who, mode, dir.path());
        let (times, lines): (Vec<_>, Vec<_>) =
            text.lines().map(str::to_owned).partition(|l| l.starts_with("time "));
        figures.push(times.iter().map(|line| figure(line)).collect());
        println!("{mode:?} {:.1?}", figures.last());
        match &first {
            None => first = Some(lines),
            Some(expected) => {
                let only = |a: &[String], b: &[String]| {
                    let b: std::collections::BTreeSet<_> = b.iter().collect();
                    let lines = a.iter().filter(|line| !b.contains(line)).take(20);
                    lines.cloned().collect::<Vec<_>>()
                };
                let (missing, new) = (only(expected, &lines), only(&lines, expected));
                assert!(missing.is_empty() && new.is_empty(), "{mode:?}: {missing:#?} {new:#?}");
                assert_eq!(expected.len(), lines.len(), "{mode:?}");
            }
        }
    }
    println!("{:24} {:>8} {:>8} {:>8} {:>8}", "seconds", "root", "mapped", "single", "no mount");
    for (i, (what, root)) in figures[0].iter().enumerate() {
        let rest: Vec<f64> = figures[1..].iter().map(|f| f[i].1).collect();
        println!("{what:24} {root:8.3} {:8.3} {:8.3} {:8.3}", rest[0], rest[1], rest[2]);
    }
    let of =
        |mode: usize| figures[mode].iter().find(|(w, _)| w == "dpkg --configure -a").unwrap().1;
    assert!(of(2) < 3.0 * of(0), "single-user configures in {} s, root in {} s", of(2), of(0));
}
