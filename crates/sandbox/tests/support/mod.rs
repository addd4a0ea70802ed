//! Shared by the integration tests: a small root file system made of the host's tools,
//! a way to run a function in a fresh single-threaded process with other privileges,
//! and a text form of a Tree to compare.
//!
//! A test binary starts itself again with the name of a role in its environment; the
//! role runs from `.init_array`, before the test harness and its threads exist, since
//! a process with threads cannot enter a user namespace.
#![allow(dead_code, clippy::print_stdout, clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sandbox::{Mode, Privilege};
use testkit::privilege;
#[allow(unused_imports, reason = "each test file uses its part")]
pub use testkit::privilege::is_root;
use tree::{Blob, Content, Kind, Meta, Tree, TreePath};

/// The variable that names the role of a process.
pub const ROLE: &str = "MKGOLD_SANDBOX_TEST_ROLE";

/// Tools that the scripts of the tests use.
const TOOLS: &[&str] = &[
    "sh", "cat", "chgrp", "chmod", "chown", "chroot", "cp", "cut", "dd", "echo", "env", "false",
    "find", "grep", "head", "id", "install", "ln", "ls", "mkdir", "mkfifo", "mknod", "mv", "od",
    "printf", "readlink", "rm", "rmdir", "sed", "setpriv", "sleep", "sort", "stat", "sync", "tar",
    "tail", "test", "touch", "tr", "true", "uname", "wc",
];

/// As what a role's process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// As the user that runs the tests.
    Caller,
    /// As an ordinary user that no file of the system knows.
    User,
    /// As root with the capabilities and the system calls of a default container.
    Container,
    /// As uid 0 of a user namespace that root made with 65536 ids.
    Mapped,
}

pub fn p(path: &str) -> TreePath {
    TreePath::new(path).unwrap()
}

/// A directory that every user can reach and write to.
pub fn open_dir() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("mkgold-sandbox-").tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

fn find_tool(name: &str) -> PathBuf {
    let dirs = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    let found = dirs.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("the tests need {name} on the host"))
}

/// The shared libraries of a program, as the dynamic loader names them.
fn libraries(program: &Path) -> BTreeSet<PathBuf> {
    let output = std::process::Command::new("ldd").arg(program).output().expect("ldd runs");
    let text = String::from_utf8(output.stdout).unwrap();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(PathBuf::from).collect()
}

fn add_file(tree: &mut Tree, path: &TreePath, source: &Path, mode: u16) {
    let real = fs::canonicalize(source).unwrap();
    let len = fs::metadata(&real).unwrap().len();
    tree.make_dirs(&path.parent().unwrap()).unwrap();
    let content = Content::range(Blob::at_path(real), 0, len);
    tree.add_file(path.clone(), Meta::file(mode), content).unwrap();
}

/// A root file system with the host's tools, and the test binary as `/bin/probe`.
pub fn host_tools() -> Tree {
    let mut tree = Tree::new();
    for dir in ["proc", "dev", "sys", "run", "tmp", "var/tmp", "srv", "etc", "root"] {
        tree.make_dirs(&p(dir)).unwrap();
    }
    tree.get_mut(&p("tmp")).unwrap().meta.mode = 0o1777;
    tree.write(
        &p("etc/passwd"),
        0o644,
        *b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n",
    )
    .unwrap();
    tree.write(&p("etc/group"), 0o644, *b"root:x:0:\nstaff:x:50:\nuser:x:1000:\n").unwrap();
    let mut needed = BTreeSet::new();
    for tool in TOOLS {
        let path = find_tool(tool);
        needed.extend(libraries(&path));
        add_file(&mut tree, &p(&format!("bin/{tool}")), &path, 0o755);
    }
    for library in needed {
        let path = TreePath::new(library.to_str().unwrap()).unwrap();
        if !tree.contains(&path) {
            add_file(&mut tree, &path, &library, 0o755);
        }
    }
    add_file(&mut tree, &p("bin/probe"), &std::env::current_exe().unwrap(), 0o755);
    tree
}

/// Every path of the tree but those of the tools, one line each. Times only where
/// `times` says so: new files have the time of the run.
pub fn listing(tree: &Tree, times: &[&str]) -> String {
    let mut text = String::new();
    let mut links: BTreeMap<_, &TreePath> = BTreeMap::new();
    for (path, id, node) in tree.iter() {
        if ["bin", "lib", "lib64", "usr"].iter().any(|dir| path.starts_with(&p(dir))) {
            continue;
        }
        let m = &node.meta;
        write!(text, "{path} {:?} {:04o} {}:{}", node.kind.name(), m.mode, m.uid, m.gid).unwrap();
        match &node.kind {
            Kind::File(content) => {
                let bytes = content.read(1 << 26).unwrap();
                let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
                write!(text, " {} {shown:?}", bytes.len()).unwrap();
            }
            Kind::Symlink(target) => {
                write!(text, " -> {}", String::from_utf8_lossy(target)).unwrap()
            }
            Kind::CharDev(d) | Kind::BlockDev(d) => {
                write!(text, " {}:{}", d.major, d.minor).unwrap()
            }
            _ => {}
        }
        for (name, value) in &m.xattrs {
            write!(text, " {}={value:?}", String::from_utf8_lossy(name)).unwrap();
        }
        match links.get(&id) {
            Some(first) => write!(text, " = {first}").unwrap(),
            None => drop(links.insert(id, path)),
        }
        if times.iter().any(|t| p(t) == *path) {
            write!(text, " @{}.{:09}", m.mtime.secs, m.mtime.nanos).unwrap();
        }
        text.push('\n');
    }
    text
}

/// Runs the role in a fresh process of this binary; returns what it printed.
pub fn run_role(role: &str, who: As, mode: Option<Mode>, dir: &Path) -> String {
    let output = role_command(role, who, mode, dir).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "role {role} as {who:?} in mode {mode:?}: {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

pub fn role_command(role: &str, who: As, mode: Option<Mode>, dir: &Path) -> std::process::Command {
    // Where the build directory cannot be entered by other users, a copy can.
    let program = dir.join("program");
    if !program.exists() {
        // By another process: a descriptor of this one that writes would get into whatever
        // other tests start at the same time, and the copy could not be run ("busy").
        let mut copy = std::process::Command::new("install");
        copy.args(["-m", "755"]).arg(std::env::current_exe().unwrap()).arg(&program);
        assert!(copy.status().unwrap().success());
    }
    let mut command = std::process::Command::new(program);
    command.env_clear().env(ROLE, role).env("PATH", "/usr/bin:/bin");
    command.envs(std::env::var_os("ORACLE").map(|oracle| ("ORACLE", oracle)));
    command.env("DIR", dir);
    command.env("MODE", mode.map_or("", Mode::name));
    command.stdin(Stdio::null()).current_dir("/");
    match who {
        As::Caller => {}
        As::User => drop(command.uid(54321).gid(54321)),
        As::Container => privilege::as_container(&mut command, privilege::DOCKER),
        As::Mapped => privilege::as_mapped(&mut command, 200_000),
    }
    command
}

/// Called by each test binary's `.init_array` entry: dispatches if there is a role.
pub fn dispatch(roles: &[(&str, fn())]) {
    let Ok(role) = std::env::var(ROLE) else { return };
    let found = roles.iter().find(|(name, _)| *name == role);
    let (_, run) = found.unwrap_or_else(|| panic!("no role {role}"));
    let result = std::panic::catch_unwind(run);
    use std::io::Write as _;
    let _ = std::io::stdout().flush();
    std::process::exit(if result.is_ok() { 0 } else { 101 });
}

/// In a role: the privileges that the test asked for.
pub fn enter() -> Privilege {
    let mode = std::env::var("MODE").unwrap();
    let force = (!mode.is_empty()).then(|| mode.parse().unwrap());
    sandbox::enter(force).unwrap()
}

pub fn dir() -> PathBuf {
    std::env::var_os("DIR").unwrap().into()
}
