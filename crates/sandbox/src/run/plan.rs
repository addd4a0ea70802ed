//! Everything a new process does before it becomes the command, decided beforehand.
//!
//! Between `clone` and `exec` nothing may allocate: another thread of mkgold may hold
//! the allocator's lock forever there. So the steps, with every string they need, are
//! made here by the parent and only carried out by [`super::child`].

use std::ffi::{CString, OsStr};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tree::TreePath;

use crate::command::Command;
use crate::privilege::{Mode, Privilege};
use crate::seccomp::filter::Instruction;
use crate::sys::cap;
use crate::{Error, seccomp};

/// `MOUNT_ATTR_*` of `mount_setattr(2)`.
pub(crate) const ATTR_RDONLY: u64 = 1;
pub(crate) const ATTR_NOSUID: u64 = 2;
pub(crate) const ATTR_NODEV: u64 = 4;

/// How many file trees one sandbox may bind.
pub(crate) const MAX_CLONES: usize = 256;

/// One thing that the sandbox's first process does.
#[derive(Debug)]
pub(crate) enum Step {
    /// Keeps all later mounts from spreading to the host.
    Private,
    /// Opens a copy of a file tree of the host, to be attached later. A missing source
    /// that is optional leaves the slot empty.
    Clone { slot: usize, source: CString, recursive: bool, optional: bool },
    /// Sets attributes of an opened copy.
    Attributes { slot: usize, set: u64 },
    /// Puts an opened copy at a path. Empty slots are passed over.
    Attach { slot: usize, target: CString },
    /// Makes the mount at this directory the root; the old one is still below it.
    Enter { dir: CString },
    /// Takes the old root away.
    Leave,
    /// Mounts a file system. `spare` is attached instead where the kernel refuses.
    Mount { kind: CString, target: CString, flags: u64, data: CString, spare: Option<usize> },
    /// Makes an existing path read-only; a missing one is passed over.
    Protect { path: CString },
    /// Makes a directory that may be there already.
    Mkdir { path: CString, mode: u32 },
    /// Makes an empty file that may be there already.
    Touch { path: CString },
    /// Makes a symbolic link.
    Symlink { target: CString, path: CString },
    /// Makes a character device that everybody may use.
    Device { path: CString, major: u32, minor: u32 },
    /// Sets the host name.
    Hostname(CString),
    /// Brings the loopback interface up. Best effort.
    Loopback,
    /// Limits the processes of this pid namespace. Best effort (Linux 6.14).
    PidLimit(CString),
}

impl Step {
    /// For messages.
    pub(crate) fn describe(&self) -> String {
        let show = |s: &CString| s.to_string_lossy().into_owned();
        match self {
            Step::Private => "make mounts private".into(),
            Step::Clone { source, .. } => format!("open a copy of {}", show(source)),
            Step::Attributes { .. } => "set mount attributes (Linux 5.12 or later)".into(),
            Step::Attach { target, .. } => format!("bind to {}", show(target)),
            Step::Enter { dir } => format!("change the root to {}", show(dir)),
            Step::Leave => "detach the old root".into(),
            Step::Mount { kind, target, .. } => format!("mount {} on {}", show(kind), show(target)),
            Step::Protect { path } => format!("make {} read-only", show(path)),
            Step::Mkdir { path, .. } => format!("make the directory {}", show(path)),
            Step::Touch { path } => format!("make the file {}", show(path)),
            Step::Symlink { path, .. } => format!("make the symbolic link {}", show(path)),
            Step::Device { path, .. } => format!("make the device {}", show(path)),
            Step::Hostname(_) => "set the host name".into(),
            Step::Loopback => "bring the loopback interface up".into(),
            Step::PidLimit(_) => "limit the number of processes".into(),
        }
    }
}

/// File descriptors that the parent made for the child; all above 2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fds {
    pub stdio: [RawFd; 3],
    pub go: RawFd,
    pub status: RawFd,
    pub listener: RawFd,
}

/// The whole way from `clone` to `exec`.
#[derive(Debug)]
pub(crate) struct Plan {
    pub clone_flags: u64,
    pub steps: Vec<Step>,
    pub chroot: Option<CString>,
    pub cwd: CString,
    pub candidates: Vec<CString>,
    pub argv: Pointers,
    pub envp: Pointers,
    pub filter: Vec<Instruction>,
    pub listen: bool,
    pub keep_capabilities: u64,
    /// Ids to change to, where there are such ids.
    pub ids: Option<(u32, u32)>,
    /// The number of the ids in the supervisor's table otherwise.
    pub creds: u64,
    pub interactive: bool,
    /// There is no pid namespace whose end ends everything in it.
    pub must_kill: bool,
    pub max_processes: u64,
}

/// Strings and the null-terminated array of pointers to them that `execve` takes.
#[derive(Debug)]
pub(crate) struct Pointers {
    _strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Pointers {
    fn new(strings: Vec<CString>) -> Pointers {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        Pointers { _strings: strings, pointers }
    }

    pub(crate) fn as_ptr(&self) -> *const *const libc::c_char {
        self.pointers.as_ptr()
    }
}

pub(crate) fn c_string(bytes: impl AsRef<[u8]>) -> Result<CString, Error> {
    CString::new(bytes.as_ref()).map_err(|e| {
        let shown = String::from_utf8_lossy(bytes.as_ref()).into_owned();
        Error::Invalid(format!("{shown:?} cannot be passed to a program: {e}"))
    })
}

pub(crate) fn c_path(path: &Path) -> Result<CString, Error> {
    c_string(path.as_os_str().as_bytes())
}

/// A path of the sandbox as the child names it.
pub(crate) fn inside(path: &TreePath) -> CString {
    let bytes = [b"/", path.as_bytes()].concat();
    CString::new(bytes).expect("a tree path has no NUL")
}

/// What a container manager leaves to root, plus what `setcap` and `mknod` need: the
/// same set in every mode, so that nothing works in one mode only.
const KEEP: &[u32] = &[
    cap::CHOWN,
    cap::DAC_OVERRIDE,
    cap::FOWNER,
    cap::FSETID,
    cap::KILL,
    cap::SETGID,
    cap::SETUID,
    cap::SETPCAP,
    cap::NET_BIND_SERVICE,
    cap::NET_RAW,
    cap::SYS_CHROOT,
    cap::MKNOD,
    cap::AUDIT_WRITE,
    cap::SETFCAP,
];

impl Plan {
    /// The plan without its steps.
    pub(crate) fn new(
        command: &Command,
        privilege: &Privilege,
        watch: seccomp::Watch,
        creds: u64,
    ) -> Result<Plan, Error> {
        let argv = command.argv.iter().map(|a| c_string(a.as_bytes())).collect::<Result<_, _>>()?;
        let variable = |(name, value): (&std::ffi::OsString, &std::ffi::OsString)| {
            c_string([name.as_bytes(), b"=", value.as_bytes()].concat())
        };
        let envp = command.env.iter().map(variable).collect::<Result<_, _>>()?;
        let namespaces = libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | if command.network { 0 } else { libc::CLONE_NEWNET };
        let keep = KEEP.iter().fold(0u64, |set, cap| set | 1 << cap);
        let native_ids = privilege.all_ids();
        Ok(Plan {
            clone_flags: if privilege.mounts() { namespaces as u64 } else { 0 },
            steps: Vec::new(),
            chroot: None,
            cwd: c_path(&command.cwd)?,
            candidates: candidates(command)?,
            argv: Pointers::new(argv),
            envp: Pointers::new(envp),
            filter: seccomp::program(watch),
            listen: watch.supervisor,
            keep_capabilities: if command.all_capabilities { u64::MAX } else { keep },
            ids: native_ids.then_some(command.user),
            creds,
            interactive: command.stdout == crate::Stdout::Inherit,
            must_kill: !privilege.mounts(),
            // Real root is above the limit, whatever it is.
            max_processes: match privilege.mode() {
                Mode::MappedUser | Mode::SingleUser => command.max_processes,
                _ => u64::MAX,
            },
        })
    }
}

/// The paths at which the program may be, in the order of `execvp(3)`.
fn candidates(command: &Command) -> Result<Vec<CString>, Error> {
    let program = command.argv[0].as_bytes();
    if program.is_empty() {
        return Err(Error::Invalid("the command has no name".into()));
    }
    if program.contains(&b'/') {
        return Ok(vec![c_string(program)?]);
    }
    let path = command.env.get(OsStr::new("PATH")).map(|p| p.as_bytes()).unwrap_or_default();
    let dirs = path.split(|b| *b == b':').map(|dir| if dir.is_empty() { b"." } else { dir });
    dirs.map(|dir| c_string([dir, b"/", program].concat())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_on_the_path_inside() {
        let found = |command: Command| {
            let paths = candidates(&command).unwrap();
            paths.iter().map(|p| p.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(found(Command::new("/bin/x")), ["/bin/x"]);
        assert_eq!(found(Command::new("x").env("PATH", "/a:/b")), ["/a/x", "/b/x"]);
        assert!(candidates(&Command::new("")).is_err());
        assert!(candidates(&Command::new("/a\0b")).is_err());
    }
}
