//! What to run: a [`Command`] is a plain value; `run` gives it effect.
//!
//! Defaults are what a package script may rely on and nothing else: a fixed
//! environment, `umask` 022, host name `localhost`, no network, no input, no terminal.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tree::TreePath;

/// Where a command's input comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Stdin {
    /// Nothing: `/dev/null`.
    #[default]
    Null,
    /// These bytes.
    Bytes(Vec<u8>),
    /// An open file, or the reading end of a pipe.
    File(Input),
    /// The caller's own standard input.
    Inherit,
}

/// An open file that a command reads from. Two are equal if they are the same one.
#[derive(Debug, Clone)]
pub struct Input(pub(crate) Arc<OwnedFd>);

impl Input {
    /// A command keeps its input open as long as the [`Command`] lives: whoever writes
    /// to the other end of a pipe hears of the command's end when that is dropped.
    pub fn new(fd: impl Into<OwnedFd>) -> Input {
        Input(Arc::new(fd.into()))
    }
}

impl PartialEq for Input {
    fn eq(&self, other: &Input) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Input {}

/// What happens to a command's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stdout {
    /// Standard output and error go line by line to the reporter.
    #[default]
    Report,
    /// Standard output is returned (it fails beyond this many bytes); standard error
    /// goes to the reporter.
    Capture(usize),
    /// Both are the caller's own: for interactive use.
    Inherit,
}

/// A directory or file of the host that the command sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Where it is.
    pub source: PathBuf,
    /// Where the command sees it.
    pub target: TreePath,
    /// Whether the command may change it.
    pub writable: bool,
}

/// A file that is in the tree while the command runs, and not after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inject {
    /// Where.
    pub path: TreePath,
    /// Its permission bits.
    pub mode: u16,
    /// Its content.
    pub bytes: Vec<u8>,
    /// Whether it takes the place of what the tree has there (which comes back
    /// afterwards, unless the command replaced the injected file).
    pub replace: bool,
}

/// What the command sees as `/`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Root {
    /// The workspace's tree: for scripts of the image (`.chroot`).
    #[default]
    Tree,
    /// A directory, read-only, such as a tools tree.
    Dir(PathBuf),
    /// The host's own root, read-only.
    Host,
}

/// A command line and the world it runs in.
#[derive(Debug, Clone)]
pub struct Command {
    pub(crate) argv: Vec<OsString>,
    pub(crate) env: BTreeMap<OsString, OsString>,
    pub(crate) cwd: PathBuf,
    pub(crate) stdin: Stdin,
    pub(crate) stdout: Stdout,
    pub(crate) network: bool,
    pub(crate) binds: Vec<Bind>,
    pub(crate) tmpfs: Vec<TreePath>,
    pub(crate) inject: Vec<Inject>,
    pub(crate) user: (u32, u32),
    pub(crate) root: Root,
    pub(crate) tree_at: Option<TreePath>,
    pub(crate) chroot_at: Option<TreePath>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) source: Option<String>,
    pub(crate) all_capabilities: bool,
    pub(crate) max_processes: u64,
}

/// The search path of root's login shell on Debian.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How many processes and threads a command may have at once.
const MAX_PROCESSES: u64 = 16384;

/// How many characters of an argument a message shows.
const SHOWN: usize = 200;

impl Command {
    /// A program, found on `PATH` inside unless it has a slash.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        let env = [
            ("PATH", PATH),
            ("HOME", "/root"),
            ("LC_ALL", "C.UTF-8"),
            ("LANG", "C.UTF-8"),
            ("TZ", "UTC"),
            ("TERM", "dumb"),
        ];
        Command {
            argv: vec![program.as_ref().to_owned()],
            env: env.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
            cwd: "/".into(),
            stdin: Stdin::Null,
            stdout: Stdout::Report,
            network: false,
            binds: Vec::new(),
            tmpfs: Vec::new(),
            inject: Vec::new(),
            user: (0, 0),
            root: Root::Tree,
            tree_at: None,
            chroot_at: None,
            timeout: None,
            source: None,
            all_capabilities: false,
            max_processes: MAX_PROCESSES,
        }
    }

    /// A shell script: `/bin/sh -c`.
    pub fn shell(script: impl AsRef<OsStr>) -> Command {
        Command::new("/bin/sh").arg("-c").arg(script)
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.argv.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Sets several variables.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        variables.into_iter().fold(self, |command, (name, value)| command.env(name, value))
    }

    /// Looks for programs in this directory first.
    pub fn path_first(self, dir: impl AsRef<OsStr>) -> Self {
        let mut path = dir.as_ref().to_owned();
        let rest = self.env.get(OsStr::new("PATH")).cloned().unwrap_or_default();
        path.push(":");
        path.push(rest);
        self.env("PATH", path)
    }

    /// Removes a variable of the default environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.remove(name.as_ref());
        self
    }

    /// Sets `SOURCE_DATE_EPOCH`.
    pub fn source_date_epoch(self, seconds: i64) -> Self {
        self.env("SOURCE_DATE_EPOCH", seconds.to_string())
    }

    /// The working directory inside; `/` by default.
    pub fn cwd(mut self, dir: impl AsRef<Path>) -> Self {
        self.cwd = dir.as_ref().to_owned();
        self
    }

    /// Where the input comes from.
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// What happens to the output.
    pub fn stdout(mut self, stdout: Stdout) -> Self {
        self.stdout = stdout;
        self
    }

    /// Gives it the host's network. `/etc/resolv.conf` is the caller's to
    /// [`inject`](Command::inject).
    pub fn network(mut self, yes: bool) -> Self {
        self.network = yes;
        self
    }

    /// Shows a file or directory of the host, read-only.
    pub fn bind_ro(self, source: impl AsRef<Path>, target: TreePath) -> Self {
        self.bind(Bind { source: source.as_ref().to_owned(), target, writable: false })
    }

    /// Shows a file or directory of the host that the command may change.
    pub fn bind_rw(self, source: impl AsRef<Path>, target: TreePath) -> Self {
        self.bind(Bind { source: source.as_ref().to_owned(), target, writable: true })
    }

    /// Shows a file or directory of the host.
    pub fn bind(mut self, bind: Bind) -> Self {
        self.binds.push(bind);
        self
    }

    /// An empty directory of its own at this path, gone afterwards.
    pub fn tmpfs(mut self, target: TreePath) -> Self {
        self.tmpfs.push(target);
        self
    }

    /// Puts a file into the tree for as long as the command runs.
    pub fn inject(mut self, inject: Inject) -> Self {
        self.inject.push(inject);
        self
    }

    /// Keeps package scripts from starting services: `/usr/sbin/policy-rc.d` says no,
    /// unless the tree has its own.
    pub fn no_services(self) -> Self {
        self.inject(Inject {
            path: TreePath::literal("usr/sbin/policy-rc.d"),
            mode: 0o755,
            bytes: b"#!/bin/sh\nexit 101\n".to_vec(),
            replace: false,
        })
    }

    /// The user and group to run as, by number; root by default.
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = (uid, gid);
        self
    }

    /// What it sees as `/`; the workspace's tree by default.
    pub fn root(mut self, root: Root) -> Self {
        self.root = root;
        self
    }

    /// Where a command with another root than the tree sees the tree, writable:
    /// mkosi's `$BUILDROOT`.
    pub fn tree_at(mut self, path: TreePath) -> Self {
        self.tree_at = Some(path);
        self
    }

    /// Where a command with another root than the tree can `chroot(1)` into the tree:
    /// there it finds `/proc`, `/dev`, `/tmp` and its binds as at its own root. Files
    /// can be injected then, too.
    pub fn chroot_at(mut self, path: TreePath) -> Self {
        self.chroot_at = Some(path);
        self
    }

    /// Kills it, and everything it started, after this time.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// The name under which its output is reported; by default the program's.
    pub fn source(mut self, name: impl Into<String>) -> Self {
        self.source = Some(name.into());
        self
    }

    /// Keeps all capabilities of the namespace, so that a trusted script may mount.
    /// Has no effect where mounting is impossible.
    pub fn all_capabilities(mut self) -> Self {
        self.all_capabilities = true;
        self
    }

    /// How many processes and threads it may have at once (16384 by default), where the
    /// kernel can count them per sandbox: in user namespaces, and from Linux 6.14.
    pub fn max_processes(mut self, limit: u64) -> Self {
        self.max_processes = limit;
        self
    }

    /// The command line, quoted for a shell: for messages. Long arguments (scripts) are
    /// shortened.
    pub fn line(&self) -> String {
        let shown = |arg: &OsString| quote(&shorten(&arg.to_string_lossy()));
        self.argv.iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    /// The name under which its output is reported.
    pub(crate) fn label(&self) -> String {
        let program = || {
            let name = Path::new(&self.argv[0]).file_name().unwrap_or(&self.argv[0]);
            name.to_string_lossy().into_owned()
        };
        self.source.clone().unwrap_or_else(program)
    }
}

fn shorten(arg: &str) -> String {
    match arg.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &arg[..end]),
        None => arg.into(),
    }
}

fn quote(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%^".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        return arg.into();
    }
    format!("'{}'", arg.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_pasted_into_a_shell() {
        let command = Command::new("/bin/echo").args(["a b", "it's", "", "--x=1"]);
        assert_eq!(command.line(), r"/bin/echo 'a b' 'it'\''s' '' --x=1");
        assert_eq!(command.label(), "echo");
        let long = Command::shell("é".repeat(1000)).line();
        assert_eq!(long, format!("/bin/sh -c '{}…'", "é".repeat(200)));
    }

    #[test]
    fn nothing_of_the_caller_s_environment_is_there() {
        let names: Vec<_> = Command::new("x").env.into_keys().collect();
        assert_eq!(names, ["HOME", "LANG", "LC_ALL", "PATH", "TERM", "TZ"]);
    }
}
