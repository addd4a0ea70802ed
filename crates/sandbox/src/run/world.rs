//! The mounts of a sandbox, as steps of a plan.
//!
//! What a command sees: its root (the tree, writable; or a directory of tools or the
//! host's root, read-only), and, in every mode alike:
//!
//! - `/proc` of its own pid namespace, with `/proc/sys` and its like read-only;
//! - `/dev` with the usual eight devices, `pts`, `shm` and the links to `/proc/self/fd`;
//! - `/sys`, empty: what hardware the build host has must not reach an image;
//! - `/run`, `/tmp`, empty and its own: as under mkosi, what package scripts leave
//!   there is no part of an image;
//! - `/var/tmp`, empty and its own, but on the workspace's disk, since it is where
//!   large temporary files go. If it is a link in the tree it is left alone.
//!
//! Sources are opened before the root changes and attached after, so that no path
//! inside can lead out.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tree::TreePath;

use super::plan::{
    ATTR_NODEV, ATTR_NOSUID, ATTR_RDONLY, MAX_CLONES, Plan, Step, c_path, c_string, inside,
};
use super::prepare::Prepared;
use super::scratch::Scratch;
use super::{Site, pid_limit_is_private};
use crate::command::{Command, Root};
use crate::ledger::Identity;
use crate::supervisor::HOSTNAME;
use crate::{Error, privilege::Mode, sys};

/// Name, major and minor number of the devices that every sandbox has.
pub(crate) const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links in `/dev`.
pub(crate) const DEV_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Parts of `/proc` through which real root could change the host.
const PROC_PROTECTED: [&str; 6] = ["sys", "sysrq-trigger", "irq", "bus", "fs", "acpi"];

/// Directories of the host's root that a sandbox with that root has its own of.
const OWN: [&str; 5] = ["proc", "sys", "dev", "run", "tmp"];

#[derive(Default)]
struct Builder {
    steps: Vec<Step>,
    slots: usize,
    /// Where a fresh file system is, so that mount points there are made inside.
    fresh: Vec<TreePath>,
}

impl Builder {
    fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    fn open(&mut self, source: &Path, recursive: bool, optional: bool) -> Result<usize, Error> {
        let slot = self.slots;
        if slot >= MAX_CLONES {
            return Err(Error::Invalid(format!("a sandbox takes at most {MAX_CLONES} binds")));
        }
        self.slots += 1;
        self.push(Step::Clone { slot, source: c_path(source)?, recursive, optional });
        Ok(slot)
    }

    fn mkdir(&mut self, path: &TreePath, mode: u32) {
        self.push(Step::Mkdir { path: inside(path), mode });
    }

    fn mount(&mut self, kind: &str, at: &'static str, flags: u64, data: &str) {
        self.mount_or(kind, at, flags, data, None);
    }

    fn mount_or(
        &mut self,
        kind: &str,
        at: &'static str,
        flags: u64,
        data: &str,
        spare: Option<usize>,
    ) {
        let text = |s: &str| CString::new(s).expect("a literal has no NUL");
        let target = inside(&TreePath::literal(at));
        self.push(Step::Mount { kind: text(kind), target, flags, data: text(data), spare });
        self.fresh.push(TreePath::literal(at));
    }

    /// Makes a mount point, in the tree beforehand or inside on a fresh file system.
    fn point(
        &mut self,
        path: &TreePath,
        dir: bool,
        prepared: Option<&mut Prepared>,
    ) -> Result<(), Error> {
        let fresh = self.fresh.iter().any(|mount| path.starts_with(mount));
        match prepared {
            Some(prepared) if !fresh => prepared.mount_point(path, dir),
            _ => {
                for above in path.ancestors().filter(|above| !above.is_root()) {
                    self.mkdir(&above, 0o755);
                }
                match dir {
                    true => self.mkdir(path, 0o755),
                    false => self.push(Step::Touch { path: inside(path) }),
                }
                Ok(())
            }
        }
    }
}

/// Sources that were opened before the root changed.
struct Sources {
    binds: Vec<(usize, TreePath, bool)>,
    devices: Vec<usize>,
    proc: usize,
    var_tmp: usize,
    tree: Option<(usize, TreePath)>,
    /// The tree once more, to be changed into.
    chroot: Option<(usize, TreePath)>,
}

/// Fills in the plan's steps. What is returned must live as long as the command.
pub(crate) fn build(
    site: &Site<'_>,
    command: &Command,
    scratch: &mut Scratch,
    plan: &mut Plan,
) -> Result<Option<Prepared>, Error> {
    let mut b = Builder::default();
    b.push(Step::Private);
    let mut prepared = None;
    let var_tmp = scratch.dir("var-tmp", 0o1777)?;
    let sources;
    match &command.root {
        Root::Tree => {
            let tree = site.tree()?;
            let root = b.open(tree, false, false)?;
            b.push(Step::Attributes { slot: root, set: ATTR_NODEV });
            sources = open_sources(&mut b, site, command, &var_tmp)?;
            b.push(Step::Attach { slot: root, target: c_path(tree)? });
            b.push(Step::Enter { dir: c_path(tree)? });
            prepared = Some(Prepared::new(tree, &scratch.hidden()?)?);
        }
        Root::Dir(dir) => {
            sources = foreign_root(&mut b, site, command, &var_tmp, dir, false)?;
        }
        Root::Host => {
            sources = foreign_root(&mut b, site, command, &var_tmp, Path::new("/"), true)?;
        }
    }
    interface_file_systems(&mut b, site, command, &sources, prepared.as_mut())?;
    own_binds(&mut b, command, &sources, prepared.as_mut())?;
    if let Some((slot, at)) = &sources.chroot {
        let mut tree = Prepared::new(site.tree()?, &scratch.hidden()?)?;
        chroot_view(&mut b, command, *slot, at, &mut tree)?;
        prepared = Some(tree);
    }
    if let Some(prepared) = &mut prepared {
        command.inject.iter().try_for_each(|file| prepared.inject(file))?;
    } else if !command.inject.is_empty() {
        let what = "files can be injected into the tree only".to_owned();
        return Err(Error::Invalid(what));
    }
    b.push(Step::Leave);
    b.push(Step::Hostname(CString::new(HOSTNAME).expect("no NUL")));
    if !command.network {
        b.push(Step::Loopback);
    }
    plan.steps = b.steps;
    Ok(prepared)
}

fn open_sources(
    b: &mut Builder,
    site: &Site<'_>,
    command: &Command,
    var_tmp: &Path,
) -> Result<Sources, Error> {
    let mut devices = Vec::new();
    if site.privilege.mode() != Mode::Root || !site.devices {
        for (name, _, _) in DEVICES {
            let path = Path::new("/dev").join(name);
            devices.push(b.open(&path, false, false)?);
            // In a user namespace the host's root is nobody, but not for the command.
            let node = sys::open_path(libc::AT_FDCWD, &c_path(&path)?, libc::O_PATH, 0);
            if let Ok((id, _)) = node.and_then(|fd| Identity::of(fd.as_fd())) {
                site.ledger.update(&id, |over| over.owner = Some((0, 0)));
            }
        }
    }
    let mut binds = Vec::new();
    for bind in &command.binds {
        let meta = fs::metadata(&bind.source).map_err(Error::io("bind", &bind.source))?;
        let slot = b.open(&bind.source, true, false)?;
        if !bind.writable {
            b.push(Step::Attributes { slot, set: ATTR_RDONLY });
        }
        binds.push((slot, bind.target.clone(), meta.is_dir()));
    }
    let mut open_tree = |at: &TreePath| {
        let slot = b.open(site.tree()?, false, false)?;
        b.push(Step::Attributes { slot, set: ATTR_NODEV });
        Ok::<_, Error>((slot, at.clone()))
    };
    let tree = command.tree_at.as_ref().map(&mut open_tree).transpose()?;
    let chroot = command.chroot_at.as_ref().filter(|_| command.root != Root::Tree);
    let chroot = chroot.map(&mut open_tree).transpose()?;
    let proc = b.open(Path::new("/proc"), true, true)?;
    let var_tmp = b.open(var_tmp, false, false)?;
    b.push(Step::Attributes { slot: var_tmp, set: ATTR_NODEV | ATTR_NOSUID });
    Ok(Sources { binds, devices, proc, var_tmp, tree, chroot })
}

/// A root that is not the tree: a fresh directory in which everything at the top of
/// `dir` is bound read-only, so that mount points can be made without touching it.
fn foreign_root(
    b: &mut Builder,
    site: &Site<'_>,
    command: &Command,
    var_tmp: &Path,
    dir: &Path,
    host: bool,
) -> Result<Sources, Error> {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(Error::io("read the directory", dir))?;
    entries.sort_by_key(|entry| entry.file_name());
    let mut parts = Vec::new();
    for entry in entries {
        let name = entry.file_name();
        let path = entry.path();
        let kind = entry.file_type().map_err(Error::io("look at", &path))?;
        if OWN.iter().any(|own| name == *own) || is_covered(command, dir, &name) {
            continue;
        }
        if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(Error::io("read the link", &path))?;
            parts.push((name, Err(target), true));
        } else if kind.is_dir() || kind.is_file() {
            let slot = b.open(&path, host, false)?;
            b.push(Step::Attributes { slot, set: ATTR_RDONLY });
            parts.push((name, Ok(slot), kind.is_dir()));
        }
    }
    let sources = open_sources(b, site, command, var_tmp)?;
    // Any directory will do to put the fresh root on: it is seen by nobody else.
    let stage = if host { Path::new("/tmp") } else { dir };
    let (kind, data) = (c_string("tmpfs")?, c_string("mode=0755")?);
    b.push(Step::Mount { kind, target: c_path(stage)?, flags: 0, data, spare: None });
    b.push(Step::Enter { dir: c_path(stage)? });
    for (name, part, is_dir) in parts {
        let path = c_path(&Path::new("/").join(&name))?;
        match part {
            Err(target) => b.push(Step::Symlink { target: c_path(&target)?, path }),
            Ok(slot) => {
                b.push(match is_dir {
                    true => Step::Mkdir { path: path.clone(), mode: 0o755 },
                    false => Step::Touch { path: path.clone() },
                });
                b.push(Step::Attach { slot, target: path });
            }
        }
    }
    Ok(sources)
}

/// Whether something is to be shown below the entry `name` of a read-only root where
/// there is nothing to mount it on: then the entry makes place for it as a whole.
fn is_covered(command: &Command, dir: &Path, name: &OsStr) -> bool {
    let binds = command.binds.iter().map(|bind| &bind.target);
    let targets = binds.chain(&command.tmpfs).chain(&command.tree_at).chain(&command.chroot_at);
    targets.into_iter().any(|target| {
        target.components().next() == Some(name.as_bytes())
            && fs::symlink_metadata(target.below(dir)).is_err()
    })
}

fn interface_file_systems(
    b: &mut Builder,
    site: &Site<'_>,
    command: &Command,
    sources: &Sources,
    mut prepared: Option<&mut Prepared>,
) -> Result<(), Error> {
    for path in ["proc", "dev", "sys", "run", "tmp"] {
        b.point(&TreePath::literal(path), true, prepared.as_deref_mut())?;
    }
    let (nosuid, nodev, noexec) = (libc::MS_NOSUID, libc::MS_NODEV, libc::MS_NOEXEC);
    b.mount_or("proc", "proc", nosuid | nodev | noexec, "", Some(sources.proc));
    if pid_limit_is_private() {
        let limit = command.max_processes.clamp(301, 4_194_304).to_string();
        b.push(Step::PidLimit(c_string(limit)?));
    }
    for part in PROC_PROTECTED {
        b.push(Step::Protect { path: c_string(format!("/proc/{part}"))? });
    }
    b.mount("tmpfs", "dev", nosuid, "mode=0755,size=8m");
    for (i, (name, major, minor)) in DEVICES.into_iter().enumerate() {
        let path = c_string(format!("/dev/{name}"))?;
        match sources.devices.get(i) {
            Some(slot) => {
                b.push(Step::Touch { path: path.clone() });
                b.push(Step::Attach { slot: *slot, target: path });
            }
            None => b.push(Step::Device { path, major, minor }),
        }
    }
    for dir in ["dev/pts", "dev/shm"] {
        b.mkdir(&TreePath::literal(dir), 0o755);
    }
    let tty_group = if site.privilege.all_ids() { ",gid=5" } else { "" };
    let options = format!("newinstance,ptmxmode=0666,mode=0620{tty_group}");
    b.mount("devpts", "dev/pts", nosuid | noexec, &options);
    b.mount("tmpfs", "dev/shm", nosuid | nodev, "mode=1777");
    for (name, target) in DEV_LINKS {
        let path = c_string(format!("/dev/{name}"))?;
        b.push(Step::Symlink { target: c_string(target)?, path });
    }
    b.mount("tmpfs", "sys", nosuid | nodev | noexec | libc::MS_RDONLY, "mode=0555");
    b.mount("tmpfs", "run", nosuid | nodev, "mode=0755");
    b.mount("tmpfs", "tmp", nosuid | nodev, "mode=1777");
    let path = TreePath::literal("var/tmp");
    let leave = match &prepared {
        Some(prepared) => prepared.is_link(&path),
        None => !has_var_tmp(&command.root),
    };
    if !leave {
        b.point(&path, true, prepared)?;
        b.push(Step::Attach { slot: sources.var_tmp, target: inside(&path) });
    }
    Ok(())
}

/// Whether `/var/tmp` can be mounted on in a root that is not the tree: there is
/// nothing at `/var` (then it is made), or a directory with a directory.
fn has_var_tmp(root: &Root) -> bool {
    let dir: PathBuf = match root {
        Root::Dir(dir) => dir.clone(),
        Root::Host | Root::Tree => "/".into(),
    };
    let is_dir = |path: &str| fs::symlink_metadata(dir.join(path)).is_ok_and(|m| m.is_dir());
    is_dir("var/tmp") || fs::symlink_metadata(dir.join("var")).is_err()
}

/// The tree at `at` with copies of what the command itself sees: `chroot(1)` into it
/// is like running in the tree. It is a mount of its own, so the view of
/// [`Command::tree_at`] has none of this.
fn chroot_view(
    b: &mut Builder,
    command: &Command,
    slot: usize,
    at: &TreePath,
    tree: &mut Prepared,
) -> Result<(), Error> {
    b.point(at, true, None)?;
    let mut copies = Vec::new();
    let own = OWN.iter().map(|dir| (TreePath::literal(dir), true));
    let binds = command.binds.iter().map(|bind| (bind.target.clone(), bind.source.is_dir()));
    for (path, dir) in own.chain(binds) {
        tree.mount_point(&path, dir)?;
        let below = [at.as_bytes(), b"/", path.as_bytes()].concat();
        let copy = b.open(&path.below(Path::new("/")), true, false)?;
        copies.push((copy, c_string([b"/", &below[..]].concat())?));
    }
    b.push(Step::Attach { slot, target: inside(at) });
    for (slot, target) in copies {
        b.push(Step::Attach { slot, target });
    }
    Ok(())
}

fn own_binds(
    b: &mut Builder,
    command: &Command,
    sources: &Sources,
    mut prepared: Option<&mut Prepared>,
) -> Result<(), Error> {
    for path in &command.tmpfs {
        b.point(path, true, prepared.as_deref_mut())?;
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        let (kind, data) = (c_string("tmpfs")?, c_string("mode=0755")?);
        b.push(Step::Mount { kind, target: inside(path), flags, data, spare: None });
        b.fresh.push(path.clone());
    }
    if let Some((slot, at)) = &sources.tree {
        b.point(at, true, prepared.as_deref_mut())?;
        b.push(Step::Attach { slot: *slot, target: inside(at) });
    }
    for (slot, target, is_dir) in &sources.binds {
        b.point(target, *is_dir, prepared.as_deref_mut())?;
        b.push(Step::Attach { slot: *slot, target: inside(target) });
    }
    Ok(())
}
