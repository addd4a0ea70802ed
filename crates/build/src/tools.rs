//! Tools are packages, too: what an image needs of other programs comes from an
//! archive, by the lock, and runs in the sandbox; nothing of the host is used.
//!
//! What it is: which tools a configuration needs (pure), where they come from, the
//! directory in which they lie, and [`Runner`], which runs one with a stream as its
//! input. What it is not: the arguments of a tool (`fs::tools`, `vm`).
//!
//! Tools are unpacked, not configured: a tenth of a second for mkfs.erofs. They are
//! the build machine's and not the image's: of its architecture, and of a release
//! whose tools can do what is needed (see [`release`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::types::OutputFormat;
use config::{Architecture, Config};
use disk::definition::Definition;
use dpkg::Package;
use fs::tools::{Arg, Feed, Tool, ToolFailure, ToolRunner};
use report::Reporter;
use sandbox::{Command, Input, Root, Stdin, Workspace};
use solver::Request;
use store::{Key, KeyHasher, Store};
use tree::{Kind, Tree, TreePath};

use crate::context::Context;
use crate::error::BuildError;
use crate::install::{Install, usr_merge};
use crate::lock::{Lock, LockedPackage, Set};
use crate::outputs::io_error;
use crate::packages::{Archives, Offer};
use crate::pipeline::Options;

/// Kind of the tools' directories in the cache.
const TREES: &str = "tools";
/// Kind of what says whether they are as they were laid out.
const SUMS: &str = "tools-sum";
/// Changed when a tree of equal packages becomes another one.
const VERSION: &str = "1";
/// Where a tool sees the directory of its output.
const OUTPUT: &str = "output";
/// Releases whose tools cannot read a tar stream, and the first that can.
const TOO_OLD: &[&str] = &["buster", "bullseye", "bookworm"];
const FIRST: &str = "trixie";

/// The architecture that this program runs on, as Debian names it.
const MACHINE: &str = match std::env::consts::ARCH.as_bytes() {
    b"x86_64" => "amd64",
    b"aarch64" => "arm64",
    b"x86" => "i386",
    b"powerpc64" => "ppc64el",
    b"loongarch64" => "loong64",
    _ => std::env::consts::ARCH,
};

/// What each set of tools is asked for.
pub fn requests(config: &Config) -> Result<BTreeMap<Set, Request>, BuildError> {
    let mut requests = BTreeMap::new();
    let mut ask = |set, specs: Vec<String>| {
        if !specs.is_empty() {
            requests.insert(set, Request { specs, ..Request::default() });
        }
    };
    let definitions = crate::image::own_definitions(config)?;
    let names: BTreeSet<&str> = definitions.iter().filter_map(tool_of).map(Tool::package).collect();
    ask(Set::Tools, names.into_iter().map(str::to_owned).collect());
    let machine = machine_packages(config).unwrap_or_default();
    ask(Set::Vm, machine.iter().map(|name| (*name).to_owned()).collect());
    Ok(requests)
}

/// The tool that makes the file system of a partition; none if mkgold does.
pub fn tool_of(definition: &Definition) -> Option<Tool> {
    match definition.format.as_deref() {
        Some("squashfs") => Some(Tool::Mksquashfs),
        Some("erofs") if definition.compression.is_some() => Some(Tool::MkfsErofs),
        _ => None,
    }
}

/// The packages that run the image in a virtual machine; none if mkgold cannot.
pub fn machine_packages(config: &Config) -> Option<&'static [&'static str]> {
    let boots = matches!(config.output.format, OutputFormat::Disk | OutputFormat::Uki);
    let here = MACHINE == "amd64" && config.distribution.architecture == Architecture::X86_64;
    (boots && here).then_some(&["ovmf", "qemu-system-x86"])
}

/// Of which release the tools are: the image's, unless they are too old there.
fn release(config: &Config) -> &str {
    match TOO_OLD.contains(&config.distribution.codename()) {
        true => FIRST,
        false => &config.distribution.release,
    }
}

/// A digest of what the tools are asked for, without asking the archives.
pub fn digests(config: &Config, archives: &Archives) -> Result<BTreeMap<Set, String>, BuildError> {
    let digest = |request: &Request| {
        let mut hasher = KeyHasher::new("request of tools 1");
        hasher.add(archives.request_digest(request).as_bytes());
        hasher.add(release(config).as_bytes()).add(MACHINE.as_bytes());
        hasher.finish().to_string()[..16].to_owned()
    };
    Ok(requests(config)?.iter().map(|(set, request)| (*set, digest(request))).collect())
}

/// Where tools come from, if that is not where the image comes from.
fn own_archives(
    config: &Config,
    store: &Store,
    options: &Options,
) -> Result<Option<Archives>, BuildError> {
    let same_machine = config.distribution.architecture.debian() == MACHINE;
    if same_machine && release(config) == config.distribution.release {
        return Ok(None);
    }
    let mut config = config.clone();
    config.distribution.release = release(&config).to_owned();
    config.distribution.architecture = Architecture::from_debian(MACHINE).ok_or_else(|| {
        let message = format!("the architecture of this machine, {MACHINE}, is unknown to Debian");
        BuildError::Image(message)
    })?;
    Ok(Some(Archives::of(&config, store, &options.host_apt, options.fetch.clone())?))
}

/// Adds the tools to a lock.
pub fn choose(
    lock: &mut Lock,
    config: &Config,
    image: (&Archives, &Offer),
    options: &Options,
    reporter: &dyn Reporter,
    prefer: &BTreeSet<String>,
) -> Result<(), BuildError> {
    let mut requests = requests(config)?;
    if requests.is_empty() {
        return Ok(());
    }
    let store = Store::open(&options.cache)?;
    let own = own_archives(config, &store, options)?;
    let own = match &own {
        Some(own) => Some((own, own.offer(options.now, reporter, prefer)?)),
        None => None,
    };
    let (archives, offer) = own.as_ref().map_or(image, |(archives, offer)| (*archives, offer));
    let machine = requests.remove(&Set::Vm);
    let mut found = vec![offer.lock(archives, &requests)?];
    // Nobody may ever run the image here: archives without QEMU are good enough.
    if let Some(request) = machine {
        found.extend(offer.lock(archives, &BTreeMap::from([(Set::Vm, request)])).ok());
    }
    for part in found {
        part.packages.into_iter().for_each(|package| lock.add(package));
        let new: Vec<_> =
            part.releases.into_iter().filter(|r| !lock.releases.contains(r)).collect();
        lock.tool_releases.extend(new);
    }
    lock.tool_releases.sort();
    lock.tool_releases.dedup();
    Ok(())
}

/// A directory of unpacked tools.
#[derive(Debug)]
pub struct Tools {
    /// The directory; the tools' `/`.
    root: PathBuf,
    /// Held so that nobody removes the directory (`Store::collect`).
    _lock: std::fs::File,
}

impl Tools {
    /// The tools of a set of the lock, fetched, unpacked and laid out as far as they
    /// are not yet. `None` if the lock has none.
    pub fn open(
        set: Set,
        lock: &Lock,
        config: &Config,
        image: &Archives,
        options: &Options,
        context: &Context,
    ) -> Result<Option<Tools>, BuildError> {
        let locked = lock.of(set);
        if locked.is_empty() {
            return Ok(None);
        }
        let own = own_archives(config, &context.store, options)?;
        let mut packages = BTreeMap::new();
        // A package that both have the same of may be locked from either.
        let of_own = |p: &&LockedPackage| {
            own.as_ref().is_some_and(|own| p.suite.as_deref().is_some_and(|s| own.has_suite(s)))
        };
        let (ours, shared): (Vec<_>, Vec<_>) = locked.into_iter().partition(of_own);
        for (archives, locked) in [(own.as_ref().unwrap_or(image), ours), (image, shared)] {
            let unpacked = archives.packages(&locked, &context.store, context.reporter)?;
            let names = locked.iter().map(|p| (p.name.clone(), p.architecture.clone()));
            packages.extend(names.zip(unpacked));
        }
        let packages: Vec<Arc<Package>> = packages.into_values().collect();
        // What only shows the image cannot change it.
        Tools::lay_out(&packages, set != Set::Vm, context).map(Some)
    }

    fn lay_out(
        packages: &[Arc<Package>],
        checked: bool,
        context: &Context,
    ) -> Result<Tools, BuildError> {
        let mut hasher = KeyHasher::new("tools tree");
        hasher.add(VERSION.as_bytes());
        packages.iter().for_each(|package| {
            hasher.add(&package.id().0);
        });
        let key = hasher.finish();
        context.store.note(TREES, &key);
        let target = context.store.directory(TREES, &key);
        loop {
            if let Some(tools) = Tools::there(&target)? {
                if !checked || tools.are_whole(&key, &context.store)? {
                    return Ok(tools);
                }
                drop(tools);
                remove_damaged(&key, &target, context)?;
            }
            let step = context.reporter.step("tools", "lay out", None, report::Unit::Items);
            let tree = tree(packages, context)?;
            let dir = context.workdir("tools");
            Workspace::create(&dir, &tree, &context.privilege)?;
            context.store.put(SUMS, &key, &sum(&dir.join("root"))?.0)?;
            let parent = target.parent().expect("a directory below the cache");
            std::fs::create_dir_all(parent).map_err(io_error("make", parent))?;
            match std::fs::rename(&dir, &target) {
                Ok(()) => {}
                // Another process was faster.
                Err(_) if target.join("root").exists() => sandbox::remove_dir(&dir)?,
                Err(e) => return Err(io_error("rename to", &target)(e).into()),
            }
            step.done();
        }
    }

    /// What lies at `dir`, if it is there.
    fn there(dir: &Path) -> Result<Option<Tools>, BuildError> {
        let lock = match std::fs::File::open(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(io_error("open", dir))?,
        };
        lock.lock_shared().map_err(io_error("lock", dir))?;
        // Best effort: a cache of somebody else serves, too.
        let _ = lock.set_modified(std::time::SystemTime::now());
        let root = dir.join("root");
        // It may have been removed before it was locked.
        Ok(root.exists().then_some(Tools { root, _lock: lock }))
    }

    /// Whether every file is as it was laid out.
    fn are_whole(&self, key: &Key, store: &Store) -> Result<bool, BuildError> {
        let noted = store.read(SUMS, key)?;
        Ok(noted.is_some_and(|noted| sum(&self.root).is_ok_and(|sum| noted == sum.0)))
    }

    /// The tools' `/`.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Removes tools that are not as they were laid out; who uses them now may go on.
fn remove_damaged(key: &Key, target: &Path, context: &Context) -> Result<(), BuildError> {
    context.store.remove(TREES, key, &mut Default::default())?;
    if target.exists() {
        return Err(BuildError::Image(format!(
            "{}: tools in the cache are damaged, and another build uses them; try again",
            target.display()
        )));
    }
    context.reporter.warn(format!("{}: damaged tools are laid out again", target.display()));
    Ok(())
}

/// A digest of every path below `root` with its mode and content.
fn sum(root: &Path) -> Result<Key, BuildError> {
    let mut hasher = KeyHasher::new("sum of tools 1");
    let wrong = |e: walkdir::Error| io_error("read", root)(e.into());
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry.map_err(wrong)?;
        let (path, meta) = (entry.path(), entry.metadata().map_err(wrong)?);
        let failed = io_error("read", path);
        hasher.add(path.strip_prefix(root).unwrap_or(path).as_os_str().as_encoded_bytes());
        hasher.add(&std::os::unix::fs::MetadataExt::mode(&meta).to_le_bytes());
        if meta.is_symlink() {
            let target = std::fs::read_link(path).map_err(failed)?;
            hasher.add(target.as_os_str().as_encoded_bytes());
        } else if meta.is_file() {
            let crc = std::fs::File::open(path).and_then(|file| store::checksum(&file, meta.len()));
            hasher.add(&crc.map_err(failed)?.to_le_bytes());
        }
    }
    Ok(hasher.finish())
}

/// The packages as one tree that anybody can lay out: of root, without devices and
/// attributes.
fn tree(packages: &[Arc<Package>], context: &Context) -> Result<Tree, BuildError> {
    let mut tree = Tree::new();
    usr_merge(&mut tree, packages, MACHINE, context.epoch)?;
    let install = Install { packages, with_docs: false, architecture: MACHINE };
    install.unpack_only(&mut tree, context)?;
    // The sandbox shows its own here.
    for dir in ["var/tmp", "etc"] {
        tree.make_dirs(&TreePath::literal(dir))?;
    }
    tree.write(&TreePath::literal("etc/resolv.conf"), 0o644, Vec::new())?;
    let paths: Vec<TreePath> = tree.iter().map(|(path, _, _)| path.clone()).collect();
    for path in paths {
        let Some(node) = tree.get_mut(&path) else { continue };
        if matches!(node.kind, Kind::CharDev(_) | Kind::BlockDev(_) | Kind::Fifo | Kind::Socket) {
            tree.remove(&path);
            continue;
        }
        (node.meta.uid, node.meta.gid) = (0, 0);
        node.meta.mode &= 0o777;
        node.meta.xattrs.clear();
    }
    Ok(tree)
}

/// Runs tools of a tree in the sandbox.
pub struct Runner<'a> {
    /// Where they are.
    pub tools: &'a Tools,
    /// The build.
    pub context: &'a Context<'a>,
}

impl Runner<'_> {
    /// Runs a command in the tree of tools.
    pub fn command(&self, command: Command) -> Result<(), sandbox::Error> {
        let scratch = self.context.workdir("tools-scratch");
        let command = command.root(Root::Dir(self.tools.root.clone()));
        let made = std::fs::create_dir_all(&scratch);
        made.map_err(|source| sandbox::Error::Io { op: "make", path: scratch.clone(), source })?;
        let done =
            sandbox::run_tool(&self.context.privilege, &scratch, &command, self.context.reporter);
        drop(command);
        let removed = sandbox::remove_dir(&scratch);
        done.and(removed)
    }
}

impl ToolRunner for Runner<'_> {
    fn run(
        &self,
        tool: Tool,
        args: &[Arg],
        stdin: Feed<'_>,
        output: &Path,
    ) -> Result<(), ToolFailure> {
        let (Some(dir), Some(name)) = (output.parent(), output.file_name()) else {
            return Err("the output has no name".into());
        };
        let inside = Path::new("/").join(OUTPUT).join(name);
        let args = args.iter().map(|arg| match arg {
            Arg::Text(text) => OsString::from(text),
            Arg::Output => inside.clone().into(),
        });
        let (read, write) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        let command = Command::new(tool.name())
            .args(args)
            .bind_rw(dir, TreePath::literal(OUTPUT))
            .stdin(Stdin::File(Input::new(read)));
        std::thread::scope(|scope| {
            // The reading end goes with the command: if the tool ends early, writing
            // fails instead of waiting for ever.
            let running = scope.spawn(move || self.command(command));
            let mut pipe = io::BufWriter::with_capacity(1 << 16, std::fs::File::from(write));
            let fed = stdin(&mut pipe).and_then(|()| pipe.flush());
            drop(pipe);
            running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok(fed?)
        })
    }
}
