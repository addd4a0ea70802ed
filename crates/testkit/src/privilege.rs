//! Starting a program with fewer rights than the test has: as an ordinary user with or
//! without ranges of ids, as root in a container.
//!
//! What it is not: a container. It only takes away what container managers take away,
//! so that a program meets what it would meet there. All of it needs root.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The capabilities that Docker leaves (capability numbers of linux/capability.h).
pub const DOCKER: &[u32] = &[0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];
/// The capabilities that Podman leaves: no device nodes, no raw sockets.
pub const PODMAN: &[u32] = &[0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31];

/// Whether the test may do any of this.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says, past the test harness, what a test leaves out for want of something.
pub fn not_tested(what: &str, needs: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    // The harness keeps what `print!` prints of a test that passes.
    let _ = writeln!(io::stderr(), "NOT TESTED: {what} (needs {needs}): {name}");
}

/// A copy of the host's `/etc` for [`as_user`], in which `user` has this number and,
/// if `range` says so, 65536 subordinate ids from there on.
pub fn etc(dir: &Path, user: &str, id: u32, range: Option<u32>) {
    let mut copy = Command::new("cp");
    let copied = copy.arg("--archive").arg("/etc/.").arg(dir).status().expect("cp runs");
    assert!(copied.success(), "cp of /etc: {copied}");
    let append = |name: &str, line: String| {
        let path = dir.join(name);
        let mut text = fs::read_to_string(&path).unwrap_or_default();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        fs::write(&path, text + &line).expect("a copy can be written to");
    };
    append("passwd", format!("{user}:x:{id}:{id}::/nonexistent:/bin/sh\n"));
    append("group", format!("{user}:x:{id}:\n"));
    if let Some(first) = range {
        for name in ["subuid", "subgid"] {
            append(name, format!("{user}:{first}:65536\n"));
        }
    }
}

/// The command runs as user and group `id`, with `etc` as its `/etc`, in a mount
/// namespace of its own.
pub fn as_user(command: &mut Command, id: u32, etc: &Path) {
    let etc = CString::new(etc.as_os_str().as_bytes()).expect("a path has no NUL");
    let become_user = move || {
        let none = std::ptr::null();
        let private = libc::MS_REC | libc::MS_PRIVATE;
        // SAFETY: terminated strings or null; nothing is allocated.
        unsafe {
            ok(libc::unshare(libc::CLONE_NEWNS))?;
            ok(libc::mount(none, c"/".as_ptr(), none, private, none.cast()))?;
            let to = c"/etc".as_ptr();
            ok(libc::mount(etc.as_ptr(), to, none, libc::MS_BIND, none.cast()))?;
            ok(libc::setgroups(0, std::ptr::null()))?;
            ok(libc::setresgid(id, id, id))?;
            ok(libc::setresuid(id, id, id))
        }
    };
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(become_user) };
}

/// The command runs as root with these capabilities and with the system calls of
/// Docker's default profile: no namespaces, no mounts.
pub fn as_container(command: &mut Command, capabilities: &'static [u32]) {
    let mut filter = filter();
    let confine = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: the filter lives as long as the closure.
        ok(unsafe { libc::syscall(libc::SYS_seccomp, 1, 0, &program) } as i32)?;
        keep(capabilities)
    };
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(confine) };
}

/// The command cannot make namespaces or mounts, whoever it runs as.
pub fn without_namespaces(command: &mut Command) {
    let mut filter = filter();
    let confine = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: the filter lives as long as the closure.
        unsafe {
            ok(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            ok(libc::syscall(libc::SYS_seccomp, 1, 0, &program) as i32)
        }
    };
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(confine) };
}

/// The command runs as uid 0 of a user namespace whose ids 0 to 65535 are those from
/// `first` on, as `podman unshare` and system containers have it.
pub fn as_mapped(command: &mut Command, first: u32) {
    let map = format!("0 {first} 65536");
    let enter = move || {
        // A child outside of the namespace may map it; it inherits nothing to wait for
        // but the end of a pipe.
        let mut ready = [0; 2];
        // SAFETY: descriptors of this function; the child makes system calls only.
        unsafe {
            ok(libc::pipe2(ready.as_mut_ptr(), libc::O_CLOEXEC))?;
            let parent = libc::getpid();
            let child = libc::fork();
            ok(child)?;
            if child == 0 {
                libc::close(ready[1]);
                let mut byte = 0u8;
                libc::read(ready[0], (&mut byte as *mut u8).cast(), 1);
                libc::_exit(write_maps(parent, map.as_bytes()));
            }
            ok(libc::unshare(libc::CLONE_NEWUSER))?;
            libc::close(ready[1]);
            let mut status = 0;
            ok(libc::waitpid(child, &mut status, 0))?;
            if status != 0 {
                return Err(io::Error::from_raw_os_error(libc::EPERM));
            }
            ok(libc::setgroups(0, std::ptr::null()))?;
            ok(libc::setresgid(0, 0, 0))?;
            ok(libc::setresuid(0, 0, 0))
        }
    };
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(enter) };
}

/// Writes both id maps of a process; 0 if that is done. Allocates, which a child of a
/// process with one thread may.
fn write_maps(pid: i32, map: &[u8]) -> i32 {
    let files = ["uid_map", "gid_map"];
    let written = files.iter().try_for_each(|file| fs::write(format!("/proc/{pid}/{file}"), map));
    i32::from(written.is_err())
}

fn ok(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Refuses what makes namespaces and mounts, with EPERM.
fn filter() -> Vec<libc::sock_filter> {
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const ANY: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const NAMESPACES: u32 = 0x7e02_0000;
    let deny = 0x0005_0000 | libc::EPERM as u32;
    let op = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let refused = [
        libc::SYS_unshare,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_setns,
        libc::SYS_pivot_root,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_mount_setattr,
        libc::SYS_fsopen,
    ];
    let mut code = vec![op(LOAD, 0, 0, 0)];
    for call in refused {
        code.extend([op(EQUAL, call as u32, 0, 1), op(RETURN, deny, 0, 0)]);
    }
    // clone3 hides its flags from a filter: it is "not there", as in Docker.
    let missing = 0x0005_0000 | libc::ENOSYS as u32;
    code.extend([op(EQUAL, libc::SYS_clone3 as u32, 0, 1), op(RETURN, missing, 0, 0)]);
    code.extend([
        op(EQUAL, libc::SYS_clone as u32, 0, 3),
        op(LOAD, 16, 0, 0),
        op(ANY, NAMESPACES, 0, 1),
        op(RETURN, deny, 0, 0),
        op(RETURN, ALLOW, 0, 0),
    ]);
    code
}

/// Drops every capability but these, also from what programs may gain.
fn keep(capabilities: &[u32]) -> io::Result<()> {
    let set = capabilities.iter().fold(0u64, |set, cap| set | 1 << cap);
    for cap in (0..64u64).filter(|cap| set & 1 << cap == 0) {
        // SAFETY: numbers only; one that the kernel does not know is refused.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, cap, 0, 0, 0) };
    }
    let header: [u32; 2] = [0x2008_0522, 0];
    let (low, high) = (set as u32, (set >> 32) as u32);
    let data = [low, low, 0, high, high, 0];
    // SAFETY: the structures of version 3 of capset(2).
    ok(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) } as i32)
}
