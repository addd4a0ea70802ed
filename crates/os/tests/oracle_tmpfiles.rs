//! tmpfiles.d against `systemd-tmpfiles --root=… --boot --create --remove`, as mkosi runs
//! it: every path, type, mode, owner, attribute, ACL, link and content; and whether it
//! complains of a line. Left out is what it does outside of the root: it follows absolute
//! links of the tree on the build machine in `C`, `w`, and above what it makes.
//!
//! Oracle ring: needs `MKGOLD_ORACLE` and root (owners, devices and ACLs in a directory).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use os::tmpfiles::{self, Declarations, HIDDEN, Options};
use testkit::compare::{Aspects, differences};
use testkit::oracle;
use tree::dir::Owners;
use tree::{Mtime, Tree};

/// Runs the original in each directory of `$1`. Names in ACLs are looked up by the C
/// library: it gets the accounts of the image, `$3`. 65 is "lines are wrong", 73 "some could
/// not be done".
const RUN: &str = r#"
mount --bind "$3/etc/passwd" /etc/passwd
mount --bind "$3/etc/group" /etc/group
export SYSTEMD_TMPFILES_FORCE_SUBVOL=0
for root in "$1"/*; do
    status=0
    systemd-tmpfiles --root="$root" --boot --create --remove $2 2>"$1/../said/${root##*/}" ||
        status=$?
    echo "${root##*/} $status"
done
"#;

/// What is in the tree before each of [`CASES`].
const FIXTURE: &str = r#"
mkdir -p etc/tmpfiles.d usr/lib var/log tmp run/lock root home/alice dir/sub .hidden
printf 'root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n' > etc/passwd
printf 'root:x:0:\nalice:x:1000:\nadm:x:4:\nbob:x:1001:\n' > etc/group
printf 'ID=debian\nVERSION_ID=13\nIMAGE_ID=img\nIMAGE_VERSION=7\nBUILD_ID="b d"\n' > usr/lib/os-release
ln -s ../usr/lib/os-release etc/os-release
mkdir -p factory/sub usr/share/factory/etc/fac
echo one > factory/one; echo two > factory/sub/two; ln -s one factory/link; mkfifo factory/fifo
mknod factory/null c 1 3; chmod 2750 factory/sub; chown 1000:4 factory/sub factory/one
chmod 4755 factory/one; touch -d @5 factory/one factory/sub
echo f > usr/share/factory/etc/fac/x; echo g > usr/share/factory/etc/file
mkdir merge merge/sub empty sgid sticky owned; echo mine > merge/one; chmod 2775 sgid
chown 0:4 sgid; chown 1000:1000 owned home/alice; mkdir owned/roots; chmod 1777 sticky
echo old > file; echo exec > exec; chmod 755 exec; echo suid > suid; chmod 6755 suid
ln file hard; ln -s file link; ln -s /dir abslink; ln -s dir rellink; ln -s nowhere dangling
ln -s loop2 loop1; ln -s loop1 loop2; mkfifo fifo; mknod null c 1 3; mknod sda b 8 0
echo x > dir/x; echo y > dir/sub/y; mkdir dir/keep dir/keep/deep; echo z > dir/keep/deep/z
touch .hidden/f sticky/f; chmod 1644 sticky/f; touch 'we[ird' 'st*r' back\\slash; chmod 400 hard
mkdir -p var/lib/many/a var/lib/many/b var/lib/many/.c; touch var/lib/many/a/1 var/lib/many/b/2
printf '' > dir/locked; chmod 0 dir/locked
"#;

/// Set on every fixture: a file with a capability, directories with ACLs.
const ATTRIBUTES: &str = r#"
import os, struct, sys
def acl(*entries):
    return struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *e) for e in entries)
none = 0xffffffff
for root in sys.argv[1:]:
    os.setxattr(root + '/suid', 'security.capability', bytes.fromhex('0100000200040000' + '00' * 12))
    os.setxattr(root + '/factory/one', 'user.kept', b'yes')
    os.setxattr(root + '/factory/one', 'trusted.lost', b'yes')
    os.mkdir(root + '/inherit')
    os.setxattr(root + '/inherit', 'system.posix_acl_default',
        acl((1, 7, none), (4, 5, none), (8, 7, 4), (16, 7, none), (32, 0, none)))
    open(root + '/inherit/acl', 'w').close()
"#;

/// Each is a configuration of its own, tried on a fresh fixture.
const CASES: &[&str] = &[
    // Files.
    "f /new",
    "f /new 0600 alice adm - text",
    "f /a/b/c - - - - deep",
    "f /file 0600 alice",
    "f /file :0600 :alice :adm - new",
    "f+ /file - - - - new",
    "F /file - - - - new",
    "f+ /file :0600 :alice",
    "f /link",
    "f+ /link - - - - x",
    "f /dir",
    "f+ /dir",
    "f= /dir - - - - x",
    "f= /link - - - - x",
    "f /file/x",
    "f= /file/x",
    "f /abslink/x",
    "f /rellink/x",
    "f /dangling",
    "f /dangling/x",
    "f /loop1/x",
    "f /fifo",
    "f /null",
    "f /sgid/x",
    "f /sgid/x 0600",
    "f /inherit/x",
    "f /inherit/x 0640",
    "f /inherit/x 0664 alice",
    "f /suid 0755",
    "f /suid - alice",
    "f /suid 6755 alice",
    "f+ /suid - - - - x",
    "f /t - - - - tab\\there\\n",
    "f /t - - - -   two  words  ",
    "f /t - - - - \"quoted\"",
    "f /t - - - - bad\\q",
    "f /t - - - - %M/%A/%B/%o/%w/%W/%%",
    "f /t - - - - %z",
    "f /t - - - - %m",
    "f /t-%m",
    "f /t-%o",
    "f /t-%z",
    "f /t - - - - %a",
    "f /t - - - - 100%",
    "f~ /t - - - - aGVsbG8K",
    "f~ /t - - - - aGVs bG8K",
    "f~ /t - - - - a!!",
    "f~ /t",
    "f^ /t - - - - login.motd",
    "f^ /t",
    "f^ /t - - - - a/b",
    "f~^ /t - - - - x.y",
    "f!+-=$ /t",
    "f!! /t",
    "f? /t",
    "f /x 1644",
    "f /%T/x",
    "f \"/sp ace\"",
    "f /sp\\x20ace",
    "f /q\"uo\"te",
    "f \"/unbalanced",
    "f /a\\q",
    "f",
    "f+ /q\\101",
    "; /t",
    "# f /t",
    "  f /indented",
    "f /t 0644 root root 10d content",
    "f /t 0644 root root bad content",
    "f relative",
    "f /a/../b",
    "f /a/./b//c/",
    "f /",
    "d /",
    "d / 0700 alice",
    "f /t 8",
    "f /t 10000",
    "f /t -0644",
    "f /t 0",
    "f /t ~0777",
    "f /file ~7777",
    "f /exec ~6666",
    "f /dir/locked ~0777",
    "f /file ~:0777",
    "f /t :~0777",
    // Users and groups.
    "f /t - nobody",
    "f /t - 12 34",
    "f /t - 65535",
    "f /t - 4294967295",
    "f /t - - nogroup",
    "f /t - :bob :bob",
    "f /t - root root",
    "f /t - 01000 -",
    "f /t - '' ''",
    // Directories.
    "d /new",
    "d /new 0700 alice adm",
    "d /dir 0700",
    "d /dir :0700 :alice",
    "d /file",
    "d /link",
    "d /rellink",
    "d= /file",
    "d= /rellink 0700",
    "D /dir",
    "D /dir 0700 alice",
    "D /rellink",
    "D /new 1777",
    "d /sgid/x",
    "d /sgid/x 0755",
    "d /sgid/x/y/z",
    "d /inherit/x",
    "d /inherit/x/y 0700",
    "d /inherit 0700",
    "v /new",
    "q /new 0700",
    "Q /dir 0750 alice",
    "d /new 6755",
    "d /owned/x",
    "d /owned/roots/x",
    "f /owned/roots/x",
    "d /owned/roots 0700",
    "d /home/alice/x 0700 alice alice",
    "d /dir ~6777",
    "d$ /new",
    "d /new - - - ~10d",
    "d /new - - - aB:1h30min",
    "d /new - - - aZ:1d",
    "d /new - - - 5",
    "d /new - - - 1.5h",
    "d /new - - - ''",
    "d /new - - - - argument",
    "e /dir 0700 alice",
    "e /nothing 0700",
    "e /var/lib/many/* 0700",
    "e /file 0600",
    "e /rellink 0700",
    "e /dir",
    "D! /dir\nx /dir/x",
    "D /dir\nx /dir/keep",
    "D /dir\nd /dir/sub",
    "D /dir\nx /dir/k*",
    "D /dir\nX /dir/keep",
    "D /sticky",
    "R /sticky",
    "D /var/lib\nx /var/lib/many/?",
    "D /factory",
    // Links, FIFOs, devices.
    "L /new - - - - target",
    "L /file - - - - target",
    "L /link - - - - file",
    "L /link - - - - other",
    "L+ /link - - - - other",
    "L+ /file - - - - other",
    "L+ /dir - - - - other",
    "L= /dir - - - - other",
    "L= /link - - - - other",
    "L= /file - - - - other",
    "L /etc/fac",
    "L /etc/nofac",
    "L? /new - - - - /file",
    "L? /new - - - - /nothing",
    "L? /new - - - - file",
    "L? /new - - - - ../dir",
    "L? /new - - - - /dangling",
    "L /new - alice adm - t",
    "L /link - alice adm - file",
    "L /new 0600 - - - t",
    "L~ /new - - - - dA==",
    "L /new - - - - %o\\x41",
    "L /sgid/l - - - - t",
    "L+ /new - - - - a\nL+ /new - - - - b",
    "L$ /new - - - - x",
    "p /new",
    "p /new 0600 alice",
    "p /fifo 0600",
    "p /file",
    "p+ /file",
    "p+ /dir",
    "p= /file",
    "p /link",
    "p+ /link",
    "p /new - - - - arg",
    "c /new - - - - 1:5",
    "c /null - - - - 1:3",
    "c /null - - - - 1:5",
    "c+ /null - - - - 1:5",
    "c /sda - - - - 8:0",
    "c+ /sda - - - - 8:0",
    "c /file - - - - 1:3",
    "c= /file - - - - 1:3",
    "c+ /file - - - - 1:3",
    "c+ /dir - - - - 1:3",
    "b /new 0660 root adm - 8:1",
    "b /sda 0600 - - - 8:0",
    "b /new - - - - 8",
    "b /new",
    "c /new - - - - 99999:1",
    "c /new - - - - 1:3:5",
    "c /new - - - - a:b",
    // Copies.
    "C /new - - - - /factory",
    "C /merge - - - - /factory",
    "C+ /merge - - - - /factory",
    "C /empty - - - - /factory",
    "C /new 0700 alice adm - /factory",
    "C /new :0700 :alice :adm - /factory",
    "C /new - - - - /factory/one",
    "C /new 0600 - - - /factory/one",
    "C /file - - - - /factory/one",
    "C+ /file - - - - /factory/one",
    "C /file 0600 bob - - /factory/one",
    "C /file :0600 :bob - - /factory/one",
    "C /dir - - - - /factory/one",
    "C /file 0600 - - - /factory",
    "C /new - - - - /factory/link",
    "C /new 0600 alice - - /factory/link",
    "C /new - - - - /factory/null",
    "C /new - - - - /factory/fifo",
    "C /new - - - - /rellink",
    "C /etc/fac",
    "C /etc/file 0600",
    "C /etc/nofac",
    "C /new - - - - factory",
    "C /new - - - - /nothing",
    "C /new - - - - /dangling",
    "C= /file - - - - /factory",
    "C /x/y - - - - /factory/one",
    "C /inherit/n - - - - /factory",
    "C /sgid/n - - - - /factory",
    "C~ /new - - - - L2Zh",
    "C$ /new - - - - /factory/sub",
    "d /factory/n\nC /new - - - - /factory/n",
    "C /new - - - - /%o",
    // Writing into what is there.
    "w /file - - - - n",
    "w /file - - - - longer",
    "w+ /file - - - - more",
    "w+ /file - - - - a\nw+ /file - - - - b",
    "w /nothing - - - - x",
    "w /link - - - - x",
    "w /f* - - - - x",
    "w /dir - - - - x",
    "w /file",
    "w /file 0600 alice - - x",
    "w~ /file - - - - aGk=",
    "w /suid - - - - x",
    "w /dangling - - - - x",
    "w /file - - - - a\nw /file - - - - b",
    // Removing.
    "r /file",
    "r /dir",
    "r /empty",
    "r /link",
    "r /nothing",
    "r /f*",
    "r /dir/*",
    "r /*/x",
    "r /var/lib/many/{a,b}/?",
    "R /dir",
    "R /rellink",
    "R /abslink",
    "R /file",
    "R /.hid*",
    "R /*dden",
    "R /var/lib/many/*",
    "R /var/lib/many/.*",
    "R /dir\nx /dir/keep",
    "R /dir/keep\nd /dir/keep/deep",
    "r /dir - - - - arg",
    "r /file 0600 alice",
    "R! /dir/sub",
    "R /dir\nd /dir 0700",
    "r /file\nf /file - - - - again",
    "r /rellink/x",
    "r /we[[]ird",
    "r /st\\\\*r",
    "r /we[ird",
    "r /back\\\\\\\\slash",
    "R /[ef]*",
    "R /[!a-z]*",
    "R /[[:alpha:]]ile",
    "r$ /file",
    "R+ /dir",
    // Modes and owners of what is there.
    "z /file 0600 alice adm",
    "z /f* 0600",
    "z /link 0600 alice",
    "z /nothing 0600",
    "z /dir 2750 root adm",
    "z /suid - alice",
    "z /suid 0755",
    "z /suid ~7777 alice",
    "m /file 0640",
    "Z /dir 0750 alice adm",
    "Z /dir ~0750",
    "Z /dir - :alice",
    "Z /rellink 0700",
    "Z /factory - bob bob",
    "Z /factory ~2750 root adm",
    "z /hard 0755",
    "z /inherit 0755",
    "z /*/x 0600",
    "z /rellink/* 0600",
    "z /owned/roots 0700",
    "Z /owned 0700",
    "z /{file,exec} 0600",
    "z /file",
    "z- /file - nobody",
    "z /file - - - - arg",
    "z /var/lib/many/*/? 0600",
    "z /dir/x 0600\nz /dir/x - alice",
    "z /sticky/f 0600",
    // Attributes and ACLs.
    "t /file - - - - user.a=b",
    "t /file - - - - user.a=b user.c=\"d e\"",
    "t /file - - - - \"user.a=%o\"",
    "t /file - - - - user.a",
    "t /file - - - - user.a=",
    "t /file - - - - nonamespace=b",
    "t /file - - - - trusted.x=1 security.y=2",
    "T /dir - - - - user.a=b",
    "t /link - - - - user.a=b",
    "t /fifo - - - - user.a=b",
    "t /null - - - - trusted.a=b",
    "t+ /file - - - - user.a=b",
    "t /file",
    "t /file - - - - user.a=x\\x41",
    "t /file - - - - system.foo=b",
    "t /file - - - - user.=b",
    "a /file - - - - user:alice:rw",
    "a+ /file - - - - user:alice:rw",
    "a /dir - - - - d:group:adm:r-x,group:adm:r-x",
    "a+ /dir - - - - default:group::r-x,default:group:adm:r-x,group::r-x,group:adm:r-x",
    "A+ /dir - - - - d:group:adm:r-x,group:adm:r-X",
    "A /dir - - - - group:adm:rwX",
    "a /exec - - - - group:adm:rX",
    "a+ /exec - - - - group:adm:rX",
    "a /file - - - - group:adm:rX",
    "a+ /inherit - - - - d:user:bob:rwx",
    "a /inherit - - - - d:user:bob:r",
    "a /file - - - - u::rwx,g::r,o::-",
    "a /file - - - - m::r,u:bob:rwx",
    "a /file - - - - u:nobody1:r",
    "a /file - - - - nonsense",
    "a /file - - - - u:alice:rq",
    "a /link - - - - u:alice:r",
    "a /file",
    "a /file - - - - u:1234:r",
    "a+ /file - - - - u:alice:r,u:alice:w",
    "a /file - - - - u:alice:r,u:alice:w",
    "a+ /dir - - - - group:adm:r-x\nz /dir 2755 root adm",
    "a+ /dir - - - - group:adm:rwx\nz /dir 0700",
    "Z /inherit 0750\nA+ /inherit - - - - u:bob:r",
    "a /fifo - - - - u:alice:r",
    "a /file - - - - d:u:alice:r",
    "a /file - - - - user:alice:7",
    "a /file - - - - u:alice:rw,m::r",
    "d /n\na+ /n - - - - d:u:alice:rwx\nf /n/x",
    "a+ /file - - - - mask::r",
    "a /file - - - - other::rwx",
    "a /file - - - - o:r",
    "a /file - - - - u:alice:---",
    "a /file - - - - u:alice:r , g:adm:w",
    "a /exec - - - - u:alice:X",
    "a /file - - - - u:alice:rX,g:adm:x",
    "a /exec - - - - u:alice:rx,g:adm:X",
    "h /file - - - - +C",
    "h /dir - - - - C",
    "h /file - - - - +Z",
    "h /fifo - - - - +C",
    "h /file",
    "H /dir - - - - +C",
    // More than one line for a path, order, prefixes.
    "d /new 0700\nd /new 0755",
    "d /new 0700\nd /new 0700",
    "f /new - - - - a\nf /new - - - - b",
    "f /new\nd /new",
    "d /new\nz /new 0700 alice",
    "z /new 0700 alice\nd /new",
    "d /new 0755\nf /new/x 0644\nZ /new 0700 bob",
    "f /new/sub/x\nd /new 0700\nd /new/sub 0750 alice alice",
    "d /home/new 0700 alice\nd /home/new/roots 0700\nf /home/new/roots/x",
    "d /tmp/x",
    "d /var/tmp/x",
    "d /run/x",
    "d /var/run/x",
    "d /runner",
    "d /dev/x",
    "z /tmp 0700",
    "R /run/*",
    "z /t* 0700",
    "q /tmp 0700",
    "k /file - - - - cap_net_raw=ep",
    "y /file",
    "ff /new",
    "z$ /file",
    "x /file",
    "x /file - - - - arg",
    "d- /file",
    "f- /dir",
    "f- /new - nobody1",
    "r- /dir",
    "d /new\r",
    "d\t/new\t0700\talice",
    "d /new 0700 alice\\x20",
    "r /new\nf /new",
    "f /new\nr /new\nw /new - - - - x",
    "L /new - - - - x\nf /new",
    "C /new - - - - /factory\nz /new/one 0600",
];

const LINES_ARE_WRONG: u32 = 65;
const NOT_DONE: u32 = 73;

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "x86-64",
        "aarch64" => "arm64",
        other => panic!("add the name that systemd has for {other}"),
    }
}

fn read(root: &Path) -> Tree {
    let options = tree::dir::Options { owners: Owners::Preserve, mtime: None, xattrs: true };
    let mut tree = tree::dir::read(root, &options).unwrap();
    // The files change under the tree: their contents must be in it.
    let paths: Vec<_> = tree.iter().map(|(path, _, _)| path.clone()).collect();
    for path in paths {
        let node = tree.get_mut(&path).unwrap();
        if let tree::Kind::File(content) = &node.kind {
            node.kind = tree::Kind::File(tree::Content::inline(content.read(64 << 20).unwrap()));
        }
    }
    tree
}

/// Runs the original on every directory of `work/roots`: name → exit status.
fn run(work: &Path) -> Vec<(String, u32)> {
    fs::create_dir_all(work.join("said")).unwrap();
    let prefixes: Vec<_> = HIDDEN.iter().map(|dir| format!("--exclude-prefix={dir}")).collect();
    let roots = work.join("roots");
    let first = fs::read_dir(&roots).unwrap().next().unwrap().unwrap().path();
    let [roots, first] = [&roots, &first].map(|path| path.to_str().unwrap());
    let arguments = ["-ec", RUN, "run", roots, &prefixes.join(" "), first];
    let said = oracle::stdout("/bin/sh", arguments, &[work]);
    let status = |line: &str| {
        let (name, status) = line.split_once(' ').unwrap();
        (name.to_owned(), status.parse().unwrap())
    };
    said.lines().map(status).collect()
}

fn apply(tree: &mut Tree) -> (u32, String) {
    let options = Options { architecture: Some(architecture()), exclude: &HIDDEN };
    let declarations = Declarations::read(tree, &options).unwrap();
    let failures = tmpfiles::apply(tree, &declarations, Mtime::secs(1)).unwrap();
    let status = match (declarations.wrong, failures.is_empty()) {
        (0, true) => 0,
        (0, false) => NOT_DONE,
        _ => LINES_ARE_WRONG,
    };
    (status, [declarations.warnings, failures].concat().join("\n"))
}

fn shell(dir: &Path, script: &str) {
    let status =
        std::process::Command::new("/bin/sh").args(["-ec", script]).current_dir(dir).status();
    assert!(status.unwrap().success(), "{script}");
}

#[test]
#[ignore = "oracle"]
fn odd_lines_do_what_systemd_does_with_them() {
    let work = tempfile::tempdir().unwrap();
    let fixture = work.path().join("fixture");
    fs::create_dir_all(&fixture).unwrap();
    shell(&fixture, FIXTURE);
    let python = ["-c", ATTRIBUTES, fixture.to_str().unwrap()];
    oracle::stdout("python3", python, &[work.path()]);
    let copies = format!(
        "mkdir roots; for n in $(seq -w 0 {}); do cp -a fixture roots/$n; done",
        CASES.len() - 1
    );
    shell(work.path(), &copies);
    let mut all: Vec<_> =
        fs::read_dir(work.path().join("roots")).unwrap().collect::<Result<_, _>>().unwrap();
    all.sort_by_key(|entry| entry.path());
    let all: Vec<_> = all.iter().map(|entry| entry.path()).collect();
    for (case, root) in CASES.iter().zip(&all) {
        fs::write(root.join("etc/tmpfiles.d/a.conf"), format!("{case}\n")).unwrap();
    }
    let before: Vec<Tree> = all.iter().map(|root| read(root)).collect();
    let statuses = run(work.path());
    assert_eq!(statuses.len(), CASES.len());
    let mut failures = String::new();
    for (((case, root), mut ours), (name, status)) in
        CASES.iter().zip(&all).zip(before).zip(statuses)
    {
        let mut found = Vec::new();
        let (own_status, own_said) = apply(&mut ours);
        let said = fs::read_to_string(work.path().join("said").join(name)).unwrap();
        // It calls some lines wrong and is content all the same; we may be silent then.
        if (status != 0 && own_status == 0) || (said.is_empty() && !own_said.is_empty()) {
            found.push(format!("status {own_status} ≠ {status}"));
        }
        found.extend(differences(&ours, &read(root), Aspects::EXACT));
        if !found.is_empty() {
            writeln!(failures, "{case:?}: {found:#?}\nours: {own_said}\ntheirs: {said}").unwrap();
        }
    }
    assert!(failures.is_empty(), "left is ours, right systemd's\n{failures}");
}

/// The tree of a Debian image that has systemd, as its packages and systemd-sysusers left
/// it, without what the packages' scripts had systemd-tmpfiles make.
const STOCK: &str = r#"
oracle=$1
cp -a "$oracle/etc" "$oracle/var" "$oracle/root" "$oracle/home" "$oracle/srv" .
mkdir -p usr/lib usr/share tmp run dev proc sys
cp -a "$oracle/usr/lib/tmpfiles.d" "$oracle/usr/lib/os-release" usr/lib
rm -rf var/cache/* var/lib/dpkg/info var/lib/apt
rm -rf srv etc/mtab etc/credstore etc/credstore.encrypted etc/profile.d/70-systemd* var/lock var/run
rm -rf var/lib/dbus var/lib/private var/lib/systemd var/log/private var/lib/portables
rm -rf var/log/journal; mkdir var/log/journal
touch etc/passwd.lock forcefsck; mkdir -p usr/share/factory/etc; echo f > usr/share/factory/etc/motd
printf 'C /etc/motd\nd /opt/%%m\nL /opt/%%o/x\n' > usr/lib/tmpfiles.d/zz-own.conf
ln -s /dev/null etc/tmpfiles.d/tpm2-tss-fapi.conf
"#;

#[test]
#[ignore = "oracle"]
fn debian_s_own_lines_make_the_same_tree() {
    let work = tempfile::tempdir().unwrap();
    let root = work.path().join("roots/stock");
    fs::create_dir_all(&root).unwrap();
    let status = std::process::Command::new("/bin/sh")
        .args(["-ec", STOCK, "stock"])
        .arg(oracle::root())
        .current_dir(&root)
        .status();
    assert!(status.unwrap().success());
    let before = read(&root);
    let mut ours = before.clone();
    let (status, said) = apply(&mut ours);
    let statuses = run(work.path());
    let theirs = read(&root);
    assert_eq!(differences(&ours, &theirs, Aspects::EXACT), Vec::<String>::new(), "{said}");
    assert_eq!(status, statuses[0].1, "{said}");
    assert_eq!(said, "", "Debian's own lines are no news");
    let made = differences(&before, &theirs, Aspects::EXACT).len();
    assert!(made > 20, "they make {made} differences");
}
