//! The same world without a mount: for root in a container that may not mount.
//!
//! The command runs in the tree's directory with `chroot`. What a mount would hide is
//! moved away for the time, and an empty directory (or a copy, for a bind) stands in;
//! afterwards the stand-in is removed and what it hid comes back, so that the Tree is
//! the one that mounts would have given.
//!
//! What is missing: `/proc` has a few static files and no processes; a process's own entry
//! and kernel settings are answered by the supervisor. Without the right to make devices, `/dev/null` is an ordinary file.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use report::Reporter;
use rustix::fs::{CWD, FileType, Mode as Bits, makedev, mknodat};
use tree::TreePath;

use super::plan::{Plan, c_path};
use super::prepare::Prepared;
use super::world::{DEV_LINKS, DEVICES};
use super::{Scratch, Site, farm};
use crate::Error;
use crate::command::{Command, Root};
use crate::supervisor::HOSTNAME;

/// What has to be undone when the command is over.
pub(crate) struct Back {
    prepared: Option<Prepared>,
}

impl Back {
    pub(crate) fn only(prepared: Option<Prepared>) -> Back {
        Back { prepared }
    }

    pub(crate) fn finish(self) -> Result<(), Error> {
        self.prepared.map_or(Ok(()), Prepared::finish)
    }
}

/// Files of `/proc` that programs read to learn about the machine.
const PROC_FILES: [&str; 17] = [
    "cpuinfo",
    "meminfo",
    "filesystems",
    "stat",
    "uptime",
    "loadavg",
    "version",
    "sys/kernel/osrelease",
    "sys/kernel/ostype",
    "sys/kernel/cap_last_cap",
    "sys/kernel/ngroups_max",
    "sys/kernel/overflowgid",
    "sys/kernel/overflowuid",
    "sys/kernel/pid_max",
    "sys/kernel/random/boot_id",
    "sys/kernel/random/uuid",
    "cmdline",
];

/// Fills in the plan's root and prepares the directory.
pub(crate) fn build(
    site: &Site<'_>,
    command: &Command,
    scratch: &mut Scratch,
    plan: &mut Plan,
    reporter: &dyn Reporter,
) -> Result<Back, Error> {
    let root: PathBuf = match &command.root {
        Root::Tree => site.tree()?.to_owned(),
        Root::Dir(dir) => {
            let copy = scratch.name("root");
            farm::copy(dir, &copy, true).map_err(Error::io("copy the tools from", dir))?;
            copy
        }
        Root::Host => {
            host_can_do(site, command)?;
            return Ok(Back::only(None));
        }
    };
    if let Some(at) = command.chroot_at.as_ref().filter(|_| command.root != Root::Tree) {
        let what = format!("showing the tree at {at}");
        let fix = "run the script in the image (.chroot), or the container with --privileged";
        return Err(Error::NeedsMount { what, mode: site.privilege.mode(), fix });
    }
    plan.chroot = Some(c_path(&root)?);
    let mut prepared = Prepared::new(&root, &scratch.hidden()?)?;
    interface_directories(site, &mut prepared, reporter)?;
    for path in &command.tmpfs {
        prepared.stand_in(path, 0o755)?;
    }
    if let Some(at) = &command.tree_at {
        prepared.lend(at, site.tree()?)?;
    }
    for bind in &command.binds {
        let copy = scratch.name("bind");
        farm::copy(&bind.source, &copy, bind.writable)
            .map_err(Error::io("copy (nothing can be mounted)", &bind.source))?;
        let back = bind.writable.then_some(bind.source.as_path());
        prepared.stand_in_with(&bind.target, &copy, back)?;
    }
    match command.root {
        Root::Tree => command.inject.iter().try_for_each(|file| prepared.inject(file))?,
        _ if command.inject.is_empty() => {}
        _ => return Err(Error::Invalid("files can be injected into the tree only".into())),
    }
    Ok(Back::only(Some(prepared)))
}

/// On the host's own root nothing can be shown elsewhere than where it is.
fn host_can_do(site: &Site<'_>, command: &Command) -> Result<(), Error> {
    let mode = site.privilege.mode();
    let refuse = |what: String| {
        let fix = "give the script a tools tree, or run the container with --privileged";
        Err(Error::NeedsMount { what, mode, fix })
    };
    let here = |target: &TreePath, source: &Path| target.below(Path::new("/")) == *source;
    for bind in &command.binds {
        if !here(&bind.target, &bind.source) {
            return refuse(format!("showing {} at {}", bind.source.display(), bind.target));
        }
    }
    if let Some(at) = &command.tree_at
        && !here(at, site.tree()?)
    {
        return refuse(format!("showing the tree at {at}"));
    }
    if let Some(at) = &command.chroot_at {
        return refuse(format!("showing the tree at {at}"));
    }
    match command.tmpfs.first() {
        Some(path) => refuse(format!("an empty directory at {path}")),
        None if !command.inject.is_empty() => {
            Err(Error::Invalid("files can be injected into the tree only".into()))
        }
        None => Ok(()),
    }
}

fn interface_directories(
    site: &Site<'_>,
    prepared: &mut Prepared,
    reporter: &dyn Reporter,
) -> Result<(), Error> {
    let dir = |path: &'static str| TreePath::literal(path);
    let proc = prepared.stand_in(&dir("proc"), 0o555)?;
    fill_proc(&proc).map_err(Error::io("fill", &proc))?;
    let dev = prepared.stand_in(&dir("dev"), 0o755)?;
    fill_dev(&dev, site.devices).map_err(Error::io("fill", &dev))?;
    if !site.devices {
        reporter.warn(
            "no device nodes can be made here (CAP_MKNOD), so /dev/null is an ordinary file \
             in the sandbox and /dev/zero, /dev/random and /dev/urandom are missing",
        );
    }
    for (path, mode) in [("sys", 0o555), ("run", 0o755), ("tmp", 0o1777)] {
        prepared.stand_in(&dir(path), mode)?;
    }
    if !prepared.is_link(&dir("var/tmp")) {
        prepared.stand_in(&dir("var/tmp"), 0o1777)?;
    }
    Ok(())
}

fn fill_proc(proc: &Path) -> std::io::Result<()> {
    for name in PROC_FILES {
        let to = proc.join(name);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        // Whatever of these the container hides is missing inside as well.
        if let Ok(text) = fs::read(Path::new("/proc").join(name)) {
            fs::write(to, text)?;
        }
    }
    fs::write(proc.join("sys/kernel/hostname"), format!("{HOSTNAME}\n"))?;
    fs::write(proc.join("mounts"), "rootfs / rootfs rw 0 0\n")
}

fn fill_dev(dev: &Path, devices: bool) -> std::io::Result<()> {
    let everybody = fs::Permissions::from_mode(0o666);
    for (name, major, minor) in DEVICES {
        let path = dev.join(name);
        if devices {
            let bits = Bits::from_raw_mode(0o666);
            mknodat(CWD, &path, FileType::CharacterDevice, bits, makedev(major, minor))?;
            fs::set_permissions(&path, everybody.clone())?;
        } else if name == "null" {
            fs::write(&path, "")?;
            fs::set_permissions(&path, everybody.clone())?;
        }
    }
    for (name, target) in DEV_LINKS {
        symlink(target, dev.join(name))?;
    }
    for (name, mode) in [("pts", 0o755), ("shm", 0o1777)] {
        fs::create_dir(dev.join(name))?;
        fs::set_permissions(dev.join(name), fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}
