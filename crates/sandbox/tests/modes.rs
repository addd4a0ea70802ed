//! The same commands give the same output and the same Tree in every mode.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod support;

use std::ffi::CString;
use std::fs::File;

use report::Silent;
use sandbox::{Command, Inject, Mode, PackSink, Stdout, Workspace};
use support::{As, dispatch, host_tools, is_root, listing, open_dir, p, run_role};
use tree::{Content, Device, Kind, Meta, Mtime, Node, Tree};

/// What the scripts of the tests call as `probe`: system calls that no shell makes.
fn probe() {
    let words = std::env::var("PROBE").unwrap();
    let words: Vec<&str> = words.split(' ').collect();
    // SAFETY (all calls): terminated strings and buffers of this function.
    match words[..] {
        ["set", path, name, value] => {
            let value = unhex(value);
            let (path, attr) = (c(path), c(name));
            // SAFETY: see above.
            let done = unsafe {
                libc::lsetxattr(path.as_ptr(), attr.as_ptr(), value.as_ptr().cast(), value.len(), 0)
            };
            report("set", done.into());
        }
        ["get", path, name] => {
            let mut value = [0u8; 200];
            let (path, attr) = (c(path), c(name));
            // SAFETY: see above.
            let len = unsafe {
                libc::lgetxattr(path.as_ptr(), attr.as_ptr(), value.as_mut_ptr().cast(), 200)
            };
            report("get", len as i64);
            println!("{}", hex(&value[..len.max(0) as usize]));
        }
        ["list", path] => {
            let mut names = [0u8; 1000];
            let path = c(path);
            // SAFETY: see above.
            let len = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), 1000) };
            let text = String::from_utf8_lossy(&names[..len.max(0) as usize]).replace('\0', " ");
            let mut names: Vec<_> = text.split_whitespace().collect();
            names.sort();
            println!("list {}", names.join(" "));
        }
        ["mmap", path, text] => write_by_mapping(path, text.as_bytes()),
        ["tmpfile", path] => name_unnamed(path),
        ["own", path, uid] => {
            let path = c(path);
            // SAFETY: see above; all-zero is a valid `stat`.
            unsafe {
                let mut stat: libc::stat = std::mem::zeroed();
                libc::stat(path.as_ptr(), &mut stat);
                println!("was {}:{}", stat.st_uid, stat.st_gid);
                let done = libc::chown(path.as_ptr(), uid.parse().unwrap(), u32::MAX);
                report("chown", done.into());
            }
        }
        ["net"] => println!("reached {}", reaches_the_network()),
        ref other => panic!("unknown probe {other:?}"),
    }
}

fn c(word: &str) -> CString {
    CString::new(word).unwrap()
}

/// Prints what a system call returned, an error as the kernel does.
fn report(name: &str, result: i64) {
    let error = std::io::Error::last_os_error().raw_os_error();
    println!("{name} {}", if result < 0 { -i64::from(error.unwrap()) } else { result });
}

fn name_unnamed(path: &str) {
    // SAFETY: terminated strings.
    unsafe {
        let dir = c(path.rsplit_once('/').unwrap().0);
        let fd = libc::open(dir.as_ptr(), libc::O_TMPFILE | libc::O_WRONLY, 0o640);
        report("tmpfile", i64::from(fd >= 0) - 1);
        let from = c(&format!("/proc/self/fd/{fd}"));
        let (at, to) = (libc::AT_FDCWD, c(path));
        let done = libc::linkat(at, from.as_ptr(), at, to.as_ptr(), libc::AT_SYMLINK_FOLLOW);
        report("linkat", done.into());
    }
}

/// Tries an address of a range that is for documentation.
fn reaches_the_network() -> bool {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: 80u16.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([192, 0, 2, 1]) },
        sin_zero: [0; 8],
    };
    // SAFETY: an address of the length that is passed.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        libc::connect(fd, (&address as *const libc::sockaddr_in).cast(), 16) == 0
    }
}

fn write_by_mapping(path: &str, bytes: &[u8]) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len() as usize;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    let rw = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a mapping of an open file, written to within its length.
    unsafe {
        let map = libc::mmap(std::ptr::null_mut(), len, rw, libc::MAP_SHARED, fd, 0);
        assert_ne!(map, libc::MAP_FAILED);
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), map.cast(), bytes.len().min(len));
        libc::munmap(map, len);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// cap_net_raw+ep, as setcap writes it.
const CAPABILITY: &str = "0100000200200000000000000000000000000000";
/// user::rwx group::r-x group:adm:r-x mask::r-x other::---
const ACL: &str = "0200000001000700ffffffff04000500ffffffff08000500040000001000\
                   0500ffffffff20000000ffffffff";

/// A 32-bit program that makes system calls through the i386 interface and prints what
/// they returned, and some fields of a `stat64`, as 32-bit numbers.
#[cfg(target_arch = "x86_64")]
fn i386_program() -> Vec<u8> {
    const BASE: u32 = 0x0010_0000;
    const DATA: u32 = BASE + 0x800;
    const STAT: u32 = DATA + 0x100;
    const OUT: u32 = DATA + 0x200;
    let (file, node) = (DATA, DATA + 16);
    let mut code = Vec::new();
    let mut results = 0;
    let keep = |code: &mut Vec<u8>, results: &mut u32| {
        code.push(0xa3); // mov [OUT + 4 * n], eax
        code.extend((OUT + 4 * *results).to_le_bytes());
        *results += 1;
    };
    let call = |code: &mut Vec<u8>, number: u32, args: [u32; 3]| {
        for (opcode, value) in [(0xb8, number), (0xbb, args[0]), (0xb9, args[1]), (0xba, args[2])] {
            code.push(opcode); // mov eax, ebx, ecx, edx
            code.extend(value.to_le_bytes());
        }
        code.extend([0xcd, 0x80]); // int 0x80
    };
    let field = |code: &mut Vec<u8>, offset: u32| {
        code.push(0xa1); // mov eax, [STAT + offset]
        code.extend((STAT + offset).to_le_bytes());
    };
    let mknod = [node, 0o20644, 1 << 8 | 3];
    let calls: [(u32, [u32; 3], &[u32]); 10] = [
        (8, [file, 0o640, 0], &[]),        // creat
        (212, [file, 1234, 5678], &[]),    // chown32
        (195, [file, STAT, 0], &[24, 28]), // stat64: uid, gid
        (182, [file, 1, 1], &[]),          // chown, 16-bit
        (118, [99, 0, 0], &[]),            // fsync of no file
        (14, mknod, &[]),                  // mknod
        (195, [node, STAT, 0], &[16, 32]), // stat64: mode, rdev
        (213, [1000, 0, 0], &[]),          // setuid32
        (199, [0, 0, 0], &[]),             // getuid32
        (213, [0, 0, 0], &[]),             // setuid32, back
    ];
    for (number, args, fields) in calls {
        call(&mut code, number, args);
        keep(&mut code, &mut results);
        for offset in fields {
            field(&mut code, *offset);
            keep(&mut code, &mut results);
        }
    }
    call(&mut code, 4, [1, OUT, 4 * results]); // write
    call(&mut code, 1, [0, 0, 0]); // exit
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0\x01\0\0\0".to_vec();
    for word in [BASE + 84, 52, 0, 0] {
        elf.extend(word.to_le_bytes());
    }
    for half in [52u16, 32, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    for word in [1, 0, BASE, BASE, 0x820, 0x1000, 7, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    assert!(elf.len() <= 0x800);
    elf.resize(0x800, 0);
    elf.extend(*b"/srv/file32\0\0\0\0\0/srv/node32\0\0\0\0\0");
    elf
}

fn script() -> String {
    let header = r#"
set -eu
umask; cd /srv
show() { stat -c '%n|%F|%a|%u|%g|%t:%T' "$@"; }
probe() { env MKGOLD_SANDBOX_TEST_ROLE=probe "PROBE=$*" /bin/probe; }
"#;
    let body = r#"
id; uname -n; pwd; env | sort | grep -v ^_=
mkdir d; chown 1000:1000 d; show d
echo one >f; chown 33:44 f; chmod u+s,g+s f; show f
chown 34 f; show f; chmod 4755 f; chgrp 45 f; show f
ln f f2; mv f f3; show f2 f3; stat -c %h f2
mkfifo fifo; chown 7:8 fifo; show fifo
mknod null c 1 3; mknod disk b 8 17; chmod 640 disk; chown 0:6 disk; show null disk
ls -ln | grep -v total | sed 's/  */ /g' | cut -d ' ' -f 1,3,4
ln -s f3 link; chown -h 9:10 link; show link; show -L link
rm -f r; echo a >r; chown 5:5 r; rm r; echo b >r; show r
install -o 11 -g 12 -m 2750 f2 inst; install -d -o 13 -g 14 -m 3775 idir; show inst idir
echo x >idir/child; mkdir idir/sub; ln -s y idir/sym; mkfifo idir/p; show idir/*
setpriv --reuid 1000 --regid 1000 --clear-groups sh -c 'id; echo u >d/mine; mkdir d/dir; ln -s z d/s; cp d/mine d/copy'
setpriv --reuid 1000 --regid 1000 --groups 50,60 sh -c 'id; chgrp 50 d/mine; touch d/new; chown 0 d/new 2>/dev/null || echo refused'
show d/*
cp -a d dcopy; show dcopy/*
tar -cf t.tar d null disk link f2 f3; mkdir x; tar -xpf t.tar -C x --numeric-owner; show x/* x/d/*
stat -c %h x/f2; rm t.tar
find . -user 1000 | sort; find . -type c -o -type b | sort; find / -xdev -user 33 | sort
probe set f3 trusted.overlay.opaque 79
probe set f3 security.ima 0102
probe get f3 security.ima
probe get d trusted.none
probe set inst security.capability CAP
probe get inst security.capability
probe set d system.posix_acl_access ACL
probe list f3; show d; chmod 705 d; probe get d system.posix_acl_access
probe set dcopy system.posix_acl_default ACL
echo inherits >dcopy/acl; mkdir dcopy/acldir; show dcopy/acl dcopy/acldir
cp inst capped; chown 1:1 inst; probe get inst security.capability
probe tmpfile /srv/unnamed
setpriv --reuid 1000 --regid 1000 --clear-groups env MKGOLD_SANDBOX_TEST_ROLE=probe "PROBE=tmpfile /srv/d/unnamed" /bin/probe; show d/unnamed
probe mmap /etc/mapped NEW
mkdir -p jail/bin jail/srv; ln /bin/probe jail/bin/probe; echo >jail/real; chown 77:78 jail/real; ln -s /real jail/srv/abs
env MKGOLD_SANDBOX_TEST_ROLE=probe "PROBE=own /srv/abs 79" chroot jail /bin/probe; show jail/real
(cd jail/srv; env MKGOLD_SANDBOX_TEST_ROLE=probe "PROBE=own ../srv/abs 80" chroot .. /bin/probe); show jail/real; rm -r jail/bin
sync; sync f3
exec 4<f3; readlink /proc/self/exe /proc/self/fd/4; stat -Lc %u:%a /dev/fd/4; chmod 600 /proc/self/fd/4; cat /dev/fd/4 </dev/null; exec 4<&-
cat /proc/sys/kernel/hostname; head -c 8 /proc/sys/kernel/random/boot_id | wc -c
show f3; test -r /proc/self/fd/0; echo to stderr >/dev/stderr; touch -d @9 /proc/self/fd/1 || true
for i in 1 2 3 4 5 6 7 8 9; do echo $i >cycle; chown $i:$i cycle; rm cycle; done; echo >cycle; show cycle
chmod 0 d/mine; cat d/mine; mkdir -m 0 dark; echo in >dark/in; chmod 0 dark
exec 3>opened; rm opened; echo x >&3; exec 3>&-
mkdir -p run/x; echo here >/run/file; echo here >/tmp/file; echo here >/var/tmp/file; ls /run /tmp /var/tmp
show /dev/null /dev/zero /dev/tty /dev/shm /run /tmp /var/tmp /sys; ls /sys
echo gone >/dev/null; head -c 3 /dev/zero | od -An -tx1
rm /etc/gone; echo changed >/etc/changed; chown 3:3 /etc/meta; touch -d @5 /etc/touched
if test -x /bin/i386; then i386 | od -An -v -w4 -t d4; fi; show *32
probe net
cat /etc/injected; test -x /usr/sbin/policy-rc.d; cat
"#;
    let body = body.replace("CAP", CAPABILITY).replace("ACL", ACL);
    format!("{header}{body}").replace("-> ", "")
}

fn input_tree() -> Tree {
    let mut tree = host_tools();
    #[cfg(target_arch = "x86_64")]
    tree.write(&p("bin/i386"), 0o755, i386_program()).unwrap();
    for (name, uid) in [("gone", 0), ("changed", 0), ("meta", 0), ("touched", 0), ("mapped", 12)] {
        let meta = Meta::file(0o644).owned_by(uid, uid).at(Mtime::secs(1000));
        tree.add_file(p(&format!("etc/{name}")), meta, Content::inline(*b"old\n")).unwrap();
    }
    let device = Kind::BlockDev(Device { major: 7, minor: 300 });
    tree.add(p("srv/loop"), Node { meta: Meta::file(0o660).owned_by(0, 6), kind: device }).unwrap();
    let mut meta = Meta::file(0o4751).owned_by(21, 70_000).at(Mtime { secs: 3, nanos: 7 });
    meta.xattrs.insert(b"trusted.given".to_vec(), b"v".to_vec());
    meta.xattrs.insert(b"security.capability".to_vec(), unhex(CAPABILITY));
    tree.add_file(p("srv/kept"), meta, Content::inline(*b"kept")).unwrap();
    tree.add_link(p("srv/kept2"), &p("srv/kept")).unwrap();
    let quiet = Meta::dir().owned_by(5, 6).at(Mtime::secs(77));
    tree.add(p("quiet"), Node { meta: quiet, kind: Kind::Dir }).unwrap();
    tree
}

/// Lays the tree out, runs the script, prints its output and the tree read back.
fn everything() {
    let privilege = support::enter();
    let dir = support::dir();
    let input = input_tree();
    let mut workspace = Workspace::create(&dir.join("work"), &input, &privilege).unwrap();
    let command = Command::shell(script())
        .stdout(Stdout::Capture(1 << 20))
        .stdin(sandbox::Stdin::Bytes(b"the input\n".to_vec()))
        .inject(Inject {
            path: p("etc/injected"),
            mode: 0o644,
            bytes: b"injected\n".to_vec(),
            replace: true,
        })
        .no_services();
    eprintln!("mode {}", privilege.mode());
    let reporter = report::Recorder::default();
    let output = match workspace.run(&command, &reporter) {
        Ok(output) => output,
        Err(e) => panic!("{e}: {:?}", std::error::Error::source(&e).map(|e| e.to_string())),
    };
    println!("{}", String::from_utf8(output.stdout).unwrap());
    for event in reporter.events() {
        if let report::Event::Output { line, .. } = event {
            println!("stderr: {line}");
        }
    }
    let pack = dir.join("pack");
    let file = File::options().read(true).write(true).create_new(true).open(&pack).unwrap();
    let mut sink = PackSink::new(&pack, file).unwrap();
    let tree = workspace.read_back(&mut sink).unwrap();
    let times = ["quiet", "srv/kept", "etc/touched", "etc/meta", "bin"];
    println!("{}", listing(&tree, &times));
    assert_eq!(
        std::fs::read_dir(dir.join("work")).unwrap().count(),
        1,
        "nothing but the tree is left in the workspace"
    );
    // And again: unchanged, and laid out anew.
    let again = workspace.read_back(&mut sink).unwrap();
    assert_eq!(listing(&tree, &times), listing(&again, &times), "reading twice");
    let second = Workspace::create(&dir.join("second"), &tree, &privilege);
    let laid_out = second.unwrap().read_back(&mut sink).unwrap();
    assert_eq!(listing(&tree, &times), listing(&laid_out, &times), "laid out and read back");
    workspace.apply(&input).unwrap();
    let restored = workspace.read_back(&mut sink).unwrap();
    assert_eq!(listing(&input, &times), listing(&restored, &times), "applied");
    let check = Command::shell("stat -c %u:%g:%a /srv/kept; stat -c %F,%t,%T /srv/loop")
        .stdout(Stdout::Capture(1000));
    let output = workspace.run(&check, &Silent).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "21:70000:4751\nblock special file,7,12c\n"
    );
    workspace.remove().unwrap();
    sandbox::remove_dir(&dir.join("second")).unwrap();
}

#[used]
#[unsafe(link_section = ".init_array")]
static ROLES: extern "C" fn() = {
    extern "C" fn start() {
        dispatch(&[("probe", probe), ("everything", everything)]);
    }
    start
};

/// Every way in which this user can get each mode.
fn ways() -> Vec<(As, Option<Mode>)> {
    if !is_root() {
        return vec![(As::Caller, Some(Mode::SingleUser)), (As::Caller, None)];
    }
    vec![
        (As::Caller, Some(Mode::Root)),
        (As::Caller, Some(Mode::MappedUser)),
        (As::Mapped, None),
        (As::Caller, Some(Mode::SingleUser)),
        (As::User, None),
        (As::Caller, Some(Mode::RootNoMount)),
        (As::Container, None),
    ]
}

#[test]
fn every_mode_gives_the_same() {
    let mut first: Option<(String, String)> = None;
    for (who, mode) in ways() {
        let dir = open_dir();
        let text = run_role("everything", who, mode, dir.path());
        let name = format!("{who:?} {mode:?}");
        check_known_values(&name, &text);
        match &first {
            None => first = Some((name, text)),
            Some((first_name, expected)) => {
                for (a, b) in expected.lines().zip(text.lines()) {
                    assert_eq!(a, b, "{first_name} (left) and {name} (right) differ");
                }
                assert_eq!(expected.lines().count(), text.lines().count(), "{name}");
            }
        }
    }
}

/// Lines that real root gives on any Linux, so that agreeing on nonsense is no success.
fn check_known_values(name: &str, text: &str) {
    for line in [
        "0022",
        "uid=0(root) gid=0(root) groups=0(root)",
        "localhost",
        "d|directory|755|1000|1000|0:0",
        "f|regular file|6644|33|44|0:0",
        "f|regular file|2644|34|44|0:0",
        "null|character special file|644|0|0|1:3",
        "disk|block special file|640|0|6|8:11",
        "r|regular file|644|0|0|0:0",
        "inst|regular file|2750|11|12|0:0",
        "idir/sub|directory|2755|0|14|0:0",
        "uid=1000(user) gid=1000(user) groups=1000(user)",
        "uid=1000(user) gid=1000(user) groups=1000(user),50(staff),60",
        "d/mine|regular file|644|1000|50|0:0",
        "x/disk|block special file|640|0|6|8:11",
        "d/unnamed|regular empty file|640|1000|1000|0:0",
        "/dev/null|character special file|666|0|0|1:3",
        "refused",
        " 00 00 00",
        "was 77:78",
        "was 79:78",
        "jail/real|regular file|644|80|78|0:0",
        "file32|regular empty file|640|1234|5678|0:0",
        "node32|character special file|644|0|0|1:3",
        "        1234",
        "        5678",
        "        1000",
        "/bin/readlink",
        "/srv/f3",
        "stderr: to stderr",
        "reached false",
        "injected",
        "the input",
        "/etc/mapped File 0644 12:12 4 \"NEW\\n\"",
        "/quiet Directory 0755 5:6 @77.000000000",
        "/srv/loop BlockDevice 0660 0:6 7:300",
        "/srv/null CharDevice 0644 0:0 1:3",
    ] {
        assert!(text.lines().any(|l| l == line), "{name}: no line {line:?} in:\n{text}");
    }
    for absent in
        ["/etc/gone", "/usr/sbin/policy-rc.d", "/etc/injected", "/dev/null Char", "/run/file"]
    {
        assert!(
            !text.lines().any(|l| l.starts_with(absent) && !l.contains('|')),
            "{absent} is in the tree:\n{text}"
        );
    }
}
