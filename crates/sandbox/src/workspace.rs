//! A Tree laid out in a real directory, so that programs can run on it, and back.
//!
//! Data flow: Tree → [`Workspace::create`] or [`Workspace::apply`] → directory →
//! [`Workspace::run`] → directory → [`Workspace::read_back`] → Tree.
//!
//! What makes reading back quick: after each lay-out the inode number, ctime and size of
//! every path are recorded. An inode that still has all of them is as it was, and
//! its node, content reference included, is taken over unseen. The ctime cannot be set
//! by programs; that two changes fall into one tick of its clock is prevented by
//! waiting for the next tick before a command runs.
//!
//! Modification times of directories: one in which no name appeared, vanished or got
//! another inode keeps the time it was laid out with, since temporary files change it on
//! every run. All other times are what the commands made them; to clamp them to
//! `SOURCE_DATE_EPOCH` is the caller's business.
//!
//! Layout of the directory: `root/` is the tree, everything else is scratch space.

mod apply;
mod layout;
mod read;
pub(crate) use read::capability_without_namespace;
mod scan;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use report::Reporter;
use tree::{Tree, TreePath};

use crate::command::{Command, Stdin, Stdout};
use crate::ledger::Ledger;
use crate::privilege::{Mode, Privilege};
use crate::run::{self, Output, Site};
use crate::seccomp::Watch;
use crate::supervisor::{CredTable, Policy};
use crate::sys::cap;
use crate::{ContentSink, Error, confined, sys};
use scan::Found;

/// How many paths a directory may have that is read back.
pub const MAX_ENTRIES: usize = 4_000_000;

/// A tree in a directory. The directory stays when this is dropped: see
/// [`Workspace::remove`].
pub struct Workspace {
    dir: PathBuf,
    root_path: PathBuf,
    root: OwnedFd,
    privilege: Privilege,
    policy: Policy,
    devices: bool,
    ledger: Arc<Ledger>,
    creds: Arc<CredTable>,
    /// How many commands run at the moment.
    running: AtomicUsize,
    /// The tree as it was last laid out or read back.
    tree: Tree,
    /// What each of its paths was then.
    known: BTreeMap<TreePath, Found>,
}

impl Workspace {
    /// Lays `tree` out below `dir`, which must be empty or missing.
    pub fn create(dir: &Path, tree: &Tree, privilege: &Privilege) -> Result<Workspace, Error> {
        let mut workspace = Workspace::open(dir, privilege)?;
        workspace.lay_out(tree)?;
        Ok(workspace)
    }

    /// An empty workspace.
    fn open(dir: &Path, privilege: &Privilege) -> Result<Workspace, Error> {
        fs::create_dir_all(dir).map_err(Error::io("make the directory", dir))?;
        let dir = fs::canonicalize(dir).map_err(Error::io("find", dir))?;
        take_over(&dir).map_err(Error::io("prepare the directory", &dir))?;
        let root_path = dir.join("root");
        fs::create_dir(&root_path).map_err(Error::io("make the directory", &root_path))?;
        let root = confined::open_host_dir(&root_path).map_err(Error::io("open", &root_path))?;
        let probe = Probe::of(&dir)?;
        Ok(Workspace {
            policy: probe.policy(privilege),
            devices: probe.devices,
            dir,
            root_path,
            root,
            privilege: privilege.clone(),
            ledger: Arc::default(),
            creds: Arc::default(),
            running: AtomicUsize::new(0),
            tree: Tree::new(),
            known: BTreeMap::new(),
        })
    }

    /// The directory in which the tree lies. Its owners may be in the ledger only.
    pub fn root(&self) -> &Path {
        &self.root_path
    }

    /// The tree as it was last laid out or read back.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// With which privileges it works.
    pub fn privilege(&self) -> &Privilege {
        &self.privilege
    }

    /// Runs a command on the tree. Its output goes to the reporter; an exit status
    /// other than 0 is an [`Error::Failed`] with the end of the output.
    pub fn run(&self, command: &Command, reporter: &dyn Reporter) -> Result<Output, Error> {
        self.wait_for_next_tick();
        let site = Site {
            privilege: &self.privilege,
            policy: self.policy,
            ledger: &self.ledger,
            creds: &self.creds,
            tree: Some(&self.root_path),
            scratch: &self.dir,
            devices: self.devices,
        };
        self.running.fetch_add(1, Ordering::AcqRel);
        let result = run::execute(&site, command, reporter);
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.forget_other_devices();
        }
        result
    }

    /// Runs a command on the caller's terminal.
    pub fn shell(&self, command: Command, reporter: &dyn Reporter) -> Result<(), Error> {
        let command = command.stdin(Stdin::Inherit).stdout(Stdout::Inherit);
        self.run(&command, reporter).map(drop)
    }

    /// Brings the directory from whatever commands made of it to `tree`, writing
    /// only what differs.
    pub fn apply(&mut self, tree: &Tree) -> Result<(), Error> {
        apply::apply(self, tree)
    }

    /// What the directory has become. Contents that are new go to `sink`; unchanged ones
    /// keep their reference.
    pub fn read_back(&mut self, sink: &mut dyn ContentSink) -> Result<Tree, Error> {
        read::read_back(self, sink)
    }

    /// Removes the directory, whoever owns what in it.
    pub fn remove(self) -> Result<(), Error> {
        let dir = self.dir.clone();
        drop(self);
        remove_dir(&dir)
    }

    /// A ctime that a command makes must differ from every recorded one.
    fn wait_for_next_tick(&self) {
        let Some(last) = self.known.values().map(|found| found.ctime).max() else { return };
        let deadline = Instant::now() + Duration::from_millis(50);
        while Instant::now() < deadline {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
            if (now.tv_sec, now.tv_nsec as u32) > last {
                return;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// File systems that were mounted in a sandbox are gone with it; their numbers will
    /// be used again.
    fn forget_other_devices(&self) {
        if let Ok(stat) = rustix::fs::fstat(&self.root) {
            self.ledger.retain(|key| key.dev == stat.st_dev);
        }
    }
}

/// Removes a workspace's directory, such as one that a killed run left behind, with
/// everything in it: in the privileges of [`crate::enter`], owners do not matter.
pub fn remove_dir(dir: &Path) -> Result<(), Error> {
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let remove = || {
        let parent = confined::open_host_dir(parent)?;
        let name = dir.file_name().map(|name| CString::new(name.as_bytes())).transpose()?;
        name.map_or(Ok(()), |name| confined::remove_all(parent.as_fd(), &name))
    };
    remove().map_err(Error::io("remove", dir))
}

/// Makes the directory one in which new files belong to whom they should: not of a
/// foreign group, not set-group-ID.
fn take_over(dir: &Path) -> std::io::Result<()> {
    chown(dir, Some(0), Some(0))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
}

/// What the file system below a workspace can hold.
struct Probe {
    devices: bool,
    user_xattrs: bool,
    capabilities: bool,
}

impl Probe {
    fn of(dir: &Path) -> Result<Probe, Error> {
        let path = dir.join("probe");
        fs::write(&path, "").map_err(Error::io("write", &path))?;
        let name = CString::new(path.as_os_str().as_bytes()).expect("a path has no NUL");
        let user_xattrs = sys::set_xattr(&name, c"user.mkgold", b"x").is_ok();
        // VFS_CAP_REVISION_2 with no capability in it.
        let none = [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let capabilities = sys::set_xattr(&name, c"security.capability", &none).is_ok();
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        use rustix::fs::{CWD, FileType, Mode as Bits, makedev, mknodat};
        let null = makedev(1, 3);
        let bits = Bits::from_raw_mode(0o600);
        let devices = mknodat(CWD, &path, FileType::CharacterDevice, bits, null).is_ok();
        let _ = fs::remove_file(&path);
        Ok(Probe { devices, user_xattrs, capabilities })
    }

    fn policy(&self, privilege: &Privilege) -> Policy {
        Policy {
            watch: Watch {
                supervisor: true,
                owners: !privilege.all_ids(),
                chown: privilege.all_ids() && privilege.mode() != Mode::Root,
                devices: !self.devices,
                uname: !privilege.mounts(),
                proc: !privilege.mounts(),
                no_network: false,
            },
            no_ptrace: sys::capabilities().0 & (1 << cap::SYS_PTRACE) == 0,
            capabilities: !self.capabilities,
            user_xattrs: !self.user_xattrs,
        }
    }
}

/// Runs a command in a directory of tools (or any other root than a tree), with the
/// same privileges and the same world as in a workspace. `scratch` is a directory for
/// what is needed meanwhile; it must be on the file system of the tools where nothing
/// can be mounted, or they are copied.
pub fn run_tool(
    privilege: &Privilege,
    scratch: &Path,
    command: &Command,
    reporter: &dyn Reporter,
) -> Result<Output, Error> {
    if command.root == crate::Root::Tree {
        let what = "a tool needs another root than the tree (Command::root)";
        return Err(Error::Invalid(what.into()));
    }
    let (effective, _) = sys::capabilities();
    let may_mknod = effective & (1 << cap::MKNOD) != 0;
    let devices = may_mknod && matches!(privilege.mode(), Mode::Root | Mode::RootNoMount);
    let probe = Probe { devices, user_xattrs: true, capabilities: true };
    let site = Site {
        privilege,
        policy: probe.policy(privilege),
        ledger: &Arc::default(),
        creds: &Arc::default(),
        tree: None,
        scratch,
        devices,
    };
    run::execute(&site, command, reporter)
}
