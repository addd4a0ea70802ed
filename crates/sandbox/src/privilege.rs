//! With what privileges this process runs, and the user namespace it needs.
//!
//! Data flow: [`enter`] looks at the process (uid, capabilities, id maps, whether a
//! private mount namespace can be had), picks one of four [`Mode`]s, moves an ordinary
//! user's process into a user namespace where it is uid 0, and returns a
//! [`Privilege`] that everything else takes as proof.
//!
//! What it is not: it makes no mount and starts no lasting process. Formats:
//! `user_namespaces(7)`, `subuid(5)`, `newuidmap(1)`.

use std::fmt;
use std::fs;
use std::io;
use std::str::FromStr;

use crate::idmap::{self, IdMap};
use crate::sys::{self, cap, check};

/// How many ids an image may use: 0 to 65535.
pub(crate) const IDS: u32 = 65536;

/// The four ways in which a sandbox can be had. The result of a command is the
/// same in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Real root that may make namespaces and mounts.
    Root,
    /// A user namespace in which ids 0 to 65535 are all mapped.
    MappedUser,
    /// A user namespace with one id only: owners live in a ledger.
    SingleUser,
    /// Root in a container that may neither mount nor unshare: plain `chroot`.
    RootNoMount,
}

impl Mode {
    /// All of them, for tests and help texts.
    pub const ALL: [Mode; 4] = [Mode::Root, Mode::MappedUser, Mode::SingleUser, Mode::RootNoMount];

    /// Its name as [`FromStr`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Root => "root",
            Mode::MappedUser => "mapped-user",
            Mode::SingleUser => "single-user",
            Mode::RootNoMount => "root-no-mount",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = PrivilegeError;

    fn from_str(name: &str) -> Result<Self, PrivilegeError> {
        let found = Mode::ALL.into_iter().find(|mode| mode.name() == name);
        found.ok_or_else(|| PrivilegeError::UnknownMode(name.into()))
    }
}

/// Proof that the process is where it can run commands. Made by [`enter`] only.
#[derive(Debug, Clone)]
pub struct Privilege {
    mode: Mode,
    all_ids: bool,
    note: Option<String>,
}

impl Privilege {
    /// The mode the process is in.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Why a better mode was not taken, where that is worth telling a person.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Whether the ids 0 to 65535 can be given to files directly.
    pub(crate) fn all_ids(&self) -> bool {
        self.all_ids
    }

    /// Whether mounts and namespaces can be made.
    pub(crate) fn mounts(&self) -> bool {
        self.mode != Mode::RootNoMount
    }
}

/// Why no sandbox can be had, and the command that changes that.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Not the name of a mode.
    #[error("unknown privilege mode {0:?} (root, mapped-user, single-user, root-no-mount)")]
    UnknownMode(String),
    /// The process already has threads, so it cannot change its user namespace.
    #[error("the user namespace must be entered before any thread is started ({0} are running)")]
    Threads(usize),
    /// The forced mode does not fit the user.
    #[error("mode {mode} cannot be forced: {why}")]
    Forced {
        /// The mode.
        mode: Mode,
        /// Why not.
        why: String,
    },
    /// Run with a uid and another effective uid.
    #[error("mkgold must not be installed set-user-ID: run it as an ordinary user, or as root")]
    SetUid,
    /// A user namespace is refused.
    #[error("an ordinary user needs a user namespace, and {why}. {fix}")]
    UserNamespace {
        /// What refuses it.
        why: String,
        /// The command that allows it.
        fix: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Root without mounts, and without what `chroot` needs.
    #[error(
        "root may neither mount nor chroot here: {} missing. Add {} to the container \
         (--cap-add), or run it with --privileged, or as an ordinary user on the host",
        missing.join(", "), if missing.len() == 1 { "it" } else { "them" }
    )]
    Capabilities {
        /// Names such as `CAP_SYS_CHROOT`.
        missing: Vec<&'static str>,
    },
    /// `/proc` is not there.
    #[error("cannot read {path}: mount /proc first (mount -t proc proc /proc)")]
    Proc {
        /// What was to be read.
        path: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Finds out what this process may do and moves it to where commands can be run:
/// call it first thing in `main`, before any thread is started.
///
/// `force` asks for one mode; root may force all four.
pub fn enter(force: Option<Mode>) -> Result<Privilege, PrivilegeError> {
    let uid = rustix::process::getuid();
    if uid != rustix::process::geteuid() {
        return Err(PrivilegeError::SetUid);
    }
    match (uid.is_root(), force) {
        (true, None) => detect_as_root(),
        (true, Some(Mode::Root)) => match probe_mounts() {
            Ok(()) => Ok(Privilege { mode: Mode::Root, all_ids: true, note: None }),
            Err(e) => Err(PrivilegeError::Forced { mode: Mode::Root, why: e.to_string() }),
        },
        (true, Some(Mode::RootNoMount)) => root_without_mounts(None),
        (false, Some(mode @ (Mode::Root | Mode::RootNoMount))) => {
            Err(PrivilegeError::Forced { mode, why: "the user is not root".into() })
        }
        (_, Some(Mode::SingleUser)) => enter_single(None),
        (_, Some(mode @ Mode::MappedUser)) => {
            let plan = idmap::plan_for_user();
            enter_mapped(plan.map_err(|why| PrivilegeError::Forced { mode, why })?, true)?
                .verified()
        }
        (false, None) => enter_as_user(),
    }
}

impl Privilege {
    /// AppArmor lets an ordinary user make the namespace and then refuses every use
    /// of it, so only a mount that worked counts.
    fn verified(self) -> Result<Privilege, PrivilegeError> {
        match probe_mounts() {
            Ok(()) => Ok(self),
            Err(source) => Err(explain(&Facts::read(), source)),
        }
    }
}

fn enter_as_user() -> Result<Privilege, PrivilegeError> {
    match idmap::plan_for_user() {
        Ok(plan) => enter_mapped(plan, false)?.verified(),
        Err(why) => enter_single(Some(why)),
    }
}

fn detect_as_root() -> Result<Privilege, PrivilegeError> {
    let map = IdMap::of_process()
        .map_err(|source| PrivilegeError::Proc { path: "/proc/self/uid_map", source })?;
    let why = match probe_mounts() {
        Ok(()) if map.is_initial() => {
            return Ok(Privilege { mode: Mode::Root, all_ids: true, note: None });
        }
        // Already uid 0 of somebody's user namespace (podman unshare, an unprivileged
        // system container): nothing to enter, but not real root either.
        Ok(()) if map.covers(IDS) => {
            return Ok(Privilege { mode: Mode::MappedUser, all_ids: true, note: None });
        }
        Ok(()) => {
            return Ok(Privilege { mode: Mode::SingleUser, all_ids: false, note: None });
        }
        Err(why) => why,
    };
    root_without_mounts(Some(format!("namespaces and mounts are refused here: {why}")))
}

fn root_without_mounts(note: Option<String>) -> Result<Privilege, PrivilegeError> {
    let (effective, _) = sys::capabilities();
    let needed = [
        (cap::SYS_CHROOT, "CAP_SYS_CHROOT"),
        (cap::CHOWN, "CAP_CHOWN"),
        (cap::DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
        (cap::FOWNER, "CAP_FOWNER"),
        (cap::FSETID, "CAP_FSETID"),
        (cap::SETUID, "CAP_SETUID"),
        (cap::SETGID, "CAP_SETGID"),
    ];
    let missing: Vec<_> =
        needed.iter().filter(|(cap, _)| effective & (1 << cap) == 0).map(|(_, n)| *n).collect();
    if !missing.is_empty() {
        return Err(PrivilegeError::Capabilities { missing });
    }
    let all_ids = IdMap::of_process().is_ok_and(|map| map.covers(IDS));
    Ok(Privilege { mode: Mode::RootNoMount, all_ids, note })
}

/// For tests of what is refused before a privilege is used.
#[cfg(test)]
pub(crate) fn for_tests() -> Privilege {
    Privilege { mode: Mode::Root, all_ids: true, note: None }
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count())
}

fn new_user_namespace() -> io::Result<()> {
    // SAFETY: no pointers; the caller made sure that there is one thread.
    check(i64::from(unsafe { libc::unshare(libc::CLONE_NEWUSER) })).map(drop)
}

fn one_thread() -> Result<(), PrivilegeError> {
    match threads() {
        0 | 1 => Ok(()),
        n => Err(PrivilegeError::Threads(n)),
    }
}

fn enter_single(note: Option<String>) -> Result<Privilege, PrivilegeError> {
    one_thread()?;
    let ids = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    new_user_namespace()
        .and_then(|()| map_one(ids))
        .map_err(|source| explain(&Facts::read(), source))?;
    Privilege { mode: Mode::SingleUser, all_ids: false, note }.verified()
}

/// Maps what is not mapped yet of a new namespace to one user and one group.
fn map_one((uid, gid): (u32, u32)) -> io::Result<()> {
    let map = IdMap::of_process()?;
    if !map.covers_gids() {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    if !map.covers_uids() {
        fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    }
    Ok(())
}

/// Enters a namespace with all ids mapped. Where the helpers do not do it (installed
/// without their set-user-ID bit, say), one id is mapped instead, unless `forced`.
fn enter_mapped(plan: idmap::Plan, forced: bool) -> Result<Privilege, PrivilegeError> {
    one_thread()?;
    let ids = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let refused = |source| explain(&Facts::read(), source);
    let helper = idmap::Helper::start(plan).map_err(refused)?;
    new_user_namespace().map_err(refused)?;
    match helper.map_parent() {
        Ok(()) => Ok(Privilege { mode: Mode::MappedUser, all_ids: true, note: None }),
        Err(why) if forced => Err(PrivilegeError::Forced { mode: Mode::MappedUser, why }),
        Err(why) => {
            map_one(ids).map_err(refused)?;
            Ok(Privilege { mode: Mode::SingleUser, all_ids: false, note: Some(why) })
        }
    }
}

/// Tries, in a child that ends at once, what every command will need.
fn probe_mounts() -> io::Result<()> {
    // SAFETY: the child below calls only async-signal-safe functions.
    let child = check(i64::from(unsafe { libc::fork() }))? as i32;
    if child == 0 {
        let flags =
            libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        let root = c"/".as_ptr();
        // SAFETY: terminated strings or null; `_exit` ends the child, leaving
        // nothing behind: its mounts die with its mount namespace.
        unsafe {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            let none = std::ptr::null();
            let failed = libc::unshare(flags) != 0
                || libc::mount(none, root, none, private, none.cast()) != 0
                || libc::mount(c"tmpfs".as_ptr(), root, c"tmpfs".as_ptr(), 0, none.cast()) != 0;
            libc::_exit(if failed { *libc::__errno_location() } else { 0 });
        }
    }
    let mut status = 0;
    // SAFETY: `status` is ours.
    check(i64::from(unsafe { libc::waitpid(child, &mut status, 0) }))?;
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, 0) => Ok(()),
        (true, errno) => Err(io::Error::from_raw_os_error(errno)),
        _ => Err(io::Error::other("the probe was killed (seccomp?)")),
    }
}

/// What the system says about user namespaces; `None` where it has no such setting.
#[derive(Debug, Clone, Default)]
struct Facts {
    unprivileged_userns_clone: Option<u64>,
    max_user_namespaces: Option<u64>,
    apparmor_restrict: Option<u64>,
    seccomp_filtered: bool,
}

impl Facts {
    fn read() -> Facts {
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Facts {
            unprivileged_userns_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            apparmor_restrict: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            seccomp_filtered: status.lines().any(|l| l.replace('\t', "") == "Seccomp:2"),
        }
    }
}

/// Names what stands in the way and the command that removes it. Pure.
fn explain(facts: &Facts, source: io::Error) -> PrivilegeError {
    let (why, fix) = if facts.unprivileged_userns_clone == Some(0) {
        (
            "kernel.unprivileged_userns_clone is 0",
            "Allow it with: sudo sysctl -w kernel.unprivileged_userns_clone=1",
        )
    } else if facts.max_user_namespaces == Some(0) {
        (
            "user.max_user_namespaces is 0",
            "Allow it with: sudo sysctl -w user.max_user_namespaces=15000",
        )
    } else if source.raw_os_error() == Some(libc::ENOSPC) {
        (
            "the limit user.max_user_namespaces is reached, or namespaces are nested too deep",
            "Raise it with: sudo sysctl -w user.max_user_namespaces=15000",
        )
    } else if facts.apparmor_restrict == Some(1) {
        (
            "AppArmor restricts them (kernel.apparmor_restrict_unprivileged_userns is 1)",
            "Allow it with: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, \
             or give mkgold an AppArmor profile with \"userns,\"",
        )
    } else if facts.seccomp_filtered {
        (
            "the container's seccomp profile forbids it",
            "Run the container as root, or with --security-opt seccomp=unconfined, \
             or with --privileged",
        )
    } else {
        (
            "the kernel refuses it (a chroot, a security module, or CONFIG_USER_NS=n)",
            "Run mkgold outside the chroot, or as root",
        )
    };
    PrivilegeError::UserNamespace { why: why.into(), fix: fix.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Facts { unprivileged_userns_clone: Some(0), ..Facts::default() }, libc::EPERM,
        "kernel.unprivileged_userns_clone=1")]
    #[case(Facts { max_user_namespaces: Some(0), ..Facts::default() }, libc::ENOSPC,
        "user.max_user_namespaces=15000")]
    #[case(Facts { max_user_namespaces: Some(9), ..Facts::default() }, libc::ENOSPC,
        "user.max_user_namespaces=15000")]
    #[case(Facts { apparmor_restrict: Some(1), ..Facts::default() }, libc::EACCES,
        "kernel.apparmor_restrict_unprivileged_userns=0")]
    #[case(Facts { seccomp_filtered: true, ..Facts::default() }, libc::EPERM,
        "seccomp=unconfined")]
    #[case(Facts::default(), libc::EPERM, "chroot")]
    fn the_error_names_what_to_change(
        #[case] facts: Facts,
        #[case] errno: i32,
        #[case] expected: &str,
    ) {
        let error = explain(&facts, io::Error::from_raw_os_error(errno)).to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn names_of_modes_round_trip() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse::<Mode>().unwrap(), mode);
        }
        assert!("user".parse::<Mode>().unwrap_err().to_string().contains("single-user"));
    }
}
