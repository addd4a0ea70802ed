//! The pipeline as code: read this first. Each step is a function of what the
//! steps before it made; what is slow is cached by what went into it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use check::Change;
use config::Config;
use config::types::{Feature, OutputFormat};
use dpkg::Package;
use report::{Reporter, Unit};
use sandbox::Privilege;
use solver::Request;
use store::{Key, KeyHasher, Store};
use tree::{Content, Mtime, Tree, TreePath};

use crate::boot_files;
use crate::context::Context;
use crate::error::BuildError;
use crate::finish;
use crate::install::{self, Install};
use crate::layer::{self, Pack};
use crate::lock::{Lock, Set};
use crate::outputs::Staging;
use crate::packages::Archives;
use crate::{image, initrd, overlay};

/// Changed when the steps change what comes out of equal inputs.
const VERSION: &str = "1";

/// How a build is run; none of it but `now` and `rebuild` can reach a byte of the
/// output, and those only through what the archives have and what is cached.
pub struct Options {
    /// The cache directory.
    pub cache: PathBuf,
    /// Where trees are laid out for scripts.
    pub workspace: PathBuf,
    /// The host's `/etc/apt`.
    pub host_apt: PathBuf,
    /// Proxies and the like.
    pub fetch: apt::fetch::FetchOptions,
    /// The time: for the validity of signatures and Release files.
    pub now: SystemTime,
    /// What the process may do.
    pub privilege: Privilege,
    /// How many threads may work.
    pub threads: usize,
    /// Replace outputs that are there.
    pub force: bool,
    /// Do not use cached trees.
    pub rebuild: bool,
    /// The lock must be there and fit.
    pub locked: bool,
}

/// What a build made.
#[derive(Debug)]
pub struct Built {
    /// The outputs, the image last.
    pub outputs: Vec<PathBuf>,
    /// What sealing changed.
    pub sealed: Vec<Change>,
    /// How many packages the image has.
    pub packages: usize,
    /// How long each step took.
    pub times: Vec<(&'static str, Duration)>,
}

/// Where the lock is.
pub fn lock_path(project: &Path) -> PathBuf {
    project.join("mkgold.lock")
}

/// Builds the image that `config` describes.
pub fn build(
    config: &Config,
    options: &Options,
    reporter: &dyn Reporter,
) -> Result<Built, BuildError> {
    refuse_unsupported(config)?;
    let output_dir = output_directory(config);
    refuse_existing(config, options, &output_dir)?;
    let mut clock = Clock::start();
    let store = Store::open(&options.cache)?;
    let archives = Archives::of(config, &store, &options.host_apt, options.fetch.clone())?;
    let lock = find_lock(config, &archives, options, reporter)?;
    clock.lap("resolve");
    let context = Context {
        store,
        reporter,
        privilege: options.privilege.clone(),
        workspace: options.workspace.clone(),
        epoch: epoch(config, &lock),
        threads: options.threads,
    };
    let sets = Sets::fetch(&archives, &lock, &context)?;
    clock.lap("fetch and unpack");

    // Two things that need nothing of each other: the image's own scripts, which
    // run one after the other, and the initrd's userland.
    let (tree, userland) = std::thread::scope(|scope| {
        let initrd = scope.spawn(|| sets.initrd(config, &archives, &context));
        let tree = sets.install(config, &archives, &context, options);
        let initrd = initrd.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, BuildError>((tree?, initrd?))
    })?;
    clock.lap("install");

    let mut golden = Golden::finish(tree, config, &context, reporter)?;
    let boot = boot_files::make(&mut golden.tree, config, &context, userland)?;
    golden.seal(config, &context)?;
    clock.lap("finish and seal");

    let mut staging = Staging::begin(&output_dir)?;
    image::write(&golden, &boot, config, &context, &lock, &mut staging)?;
    clock.lap("image");
    let outputs = staging.publish()?;
    Ok(Built { outputs, sealed: golden.sealed, packages: sets.image.len(), times: clock.laps })
}

/// What mkosi can do and this pipeline cannot is refused before anything is done.
fn refuse_unsupported(config: &Config) -> Result<(), BuildError> {
    let unsupported =
        |what: &str, hint| Err(BuildError::Unsupported { what: what.to_owned(), hint: Some(hint) });
    let scripts = &config.scripts;
    let all = [
        ("SyncScripts=", &scripts.sync),
        ("PrepareScripts=", &scripts.prepare),
        ("BuildScripts=", &scripts.build),
        ("PostOutputScripts=", &scripts.postoutput),
    ];
    for (name, list) in all {
        if !list.is_empty() {
            return unsupported(name, "use PostInstallationScripts= or FinalizeScripts=");
        }
    }
    if !config.content.remove_packages.is_empty() {
        return unsupported("RemovePackages=", "leave the package out of Packages=");
    }
    if !config.content.base_trees.is_empty() {
        return unsupported("BaseTrees=", "list the packages of the base in Packages=");
    }
    Ok(())
}

/// Where outputs go.
pub fn output_directory(config: &Config) -> PathBuf {
    config.output.directory.clone().unwrap_or_else(|| config.project.directory.clone())
}

fn refuse_existing(config: &Config, options: &Options, dir: &Path) -> Result<(), BuildError> {
    let path = dir.join(config.output.file_name());
    if options.force || path.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(BuildError::Image(format!("{} exists; --force replaces it", path.display())))
}

/// `SourceDateEpoch=`, else the date of the newest Release file: what an image is
/// made of says when it is from, not when it is made.
fn epoch(config: &Config, lock: &Lock) -> Mtime {
    let configured = config.content.source_date_epoch.and_then(|e| i64::try_from(e).ok());
    Mtime::secs(configured.or(lock.newest()).unwrap_or(0))
}

/// What each set is asked for.
fn requests<'a>(
    config: &Config,
    names: impl FnOnce() -> BTreeSet<&'a str>,
) -> BTreeMap<Set, Request> {
    let mut specs = vec!["?essential".to_owned()];
    specs.extend(config.content.packages.iter().cloned());
    specs.extend(config.content.volatile_packages.iter().cloned());
    let with_recommends = config.content.with_recommends;
    let image = Request { specs, with_recommends, ..Request::default() };
    let mut requests = BTreeMap::from([(Set::Image, image)]);
    if boot_files::wants_initrd(config) {
        let specs = initrd::specs(names(), &config.boot.initrd_packages);
        requests.insert(Set::Initrd, Request { specs, ..Request::default() });
    }
    requests
}

/// The lock beside the configuration if it fits, else one of what the archives
/// have now. What the initrd is asked for depends on which packages there are, so
/// the fit of a lock is judged by what the configuration asks for.
fn find_lock(
    config: &Config,
    archives: &Archives,
    options: &Options,
    reporter: &dyn Reporter,
) -> Result<Lock, BuildError> {
    let path = lock_path(&config.project.directory);
    let wanted = digests(config, archives);
    let refused = |reason: &str| BuildError::Locked { path: path.clone(), reason: reason.into() };
    match Lock::read(&path)? {
        Some(lock) if lock.requests == wanted && lock.architecture == archives.architecture() => {
            return Ok(lock);
        }
        Some(_) if options.locked => return Err(refused("does not fit the configuration")),
        None if options.locked => return Err(refused("is not there")),
        Some(_) => {
            let lock = resolve(config, archives, options, reporter)?;
            write_lock(&path, &lock)?;
            reporter.note(format!("{} did not fit the configuration: renewed", path.display()));
            return Ok(lock);
        }
        None => {}
    }
    resolve(config, archives, options, reporter)
}

/// A digest of what each set is asked for, without asking the archives.
fn digests(config: &Config, archives: &Archives) -> BTreeMap<Set, String> {
    let requests = requests(config, BTreeSet::new);
    requests.iter().map(|(set, request)| (*set, archives.request_digest(request))).collect()
}

/// Chooses packages from what the archives have now.
pub fn resolve(
    config: &Config,
    archives: &Archives,
    options: &Options,
    reporter: &dyn Reporter,
) -> Result<Lock, BuildError> {
    let offer = archives.offer(options.now, reporter)?;
    let step = reporter.step("solve", "packages", None, Unit::Items);
    let requests = requests(config, || offer.names());
    let mut lock = offer.lock(archives, &requests)?;
    lock.requests = digests(config, archives);
    step.done();
    Ok(lock)
}

/// Chooses packages whatever lock there is.
pub fn resolve_fresh(
    config: &Config,
    options: &Options,
    reporter: &dyn Reporter,
) -> Result<Lock, BuildError> {
    let store = Store::open(&options.cache)?;
    let archives = Archives::of(config, &store, &options.host_apt, options.fetch.clone())?;
    resolve(config, &archives, options, reporter)
}

/// Removes the outputs of `config`; returns what was there.
pub fn clean(config: &Config) -> Result<Vec<PathBuf>, BuildError> {
    let dir = output_directory(config);
    let name = &config.output.name;
    let suffixes = ["manifest", "spdx.json", "cdx.json", "SHA256SUMS", "partitions.json"];
    let names = suffixes.iter().map(|suffix| format!("{name}.{suffix}"));
    let mut removed = Vec::new();
    for name in names.chain([config.output.file_name()]) {
        let path = dir.join(name);
        let Ok(meta) = path.symlink_metadata() else { continue };
        let result = match meta.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        result.map_err(crate::outputs::io_error("remove", &path))?;
        removed.push(path);
    }
    Ok(removed)
}

/// Writes the lock by rename.
pub fn write_lock(path: &Path, lock: &Lock) -> Result<(), BuildError> {
    let temporary = path.with_extension("lock.tmp");
    std::fs::write(&temporary, lock.to_text())
        .map_err(crate::outputs::io_error("write", &temporary))?;
    std::fs::rename(&temporary, path).map_err(crate::outputs::io_error("rename to", path))?;
    Ok(())
}

/// The unpacked packages of a build.
struct Sets {
    image: Vec<Arc<Package>>,
    automatic: BTreeSet<(String, String)>,
    initrd: Vec<Arc<Package>>,
}

impl Sets {
    fn fetch(archives: &Archives, lock: &Lock, context: &Context) -> Result<Sets, BuildError> {
        let (image, initrd) = (lock.of(Set::Image), lock.of(Set::Initrd));
        let both: Vec<_> = image.iter().chain(&initrd).copied().collect();
        let mut packages = archives.packages(&both, &context.store, context.reporter)?;
        let initrd = packages.split_off(image.len());
        let automatic = image
            .iter()
            .filter(|p| p.automatic.contains(&Set::Image))
            .map(|p| (p.name.clone(), p.architecture.clone()))
            .collect();
        Ok(Sets { image: packages, automatic, initrd })
    }

    /// The image's packages, configured; cached by what they are.
    fn install(
        &self,
        config: &Config,
        archives: &Archives,
        context: &Context,
        options: &Options,
    ) -> Result<Tree, BuildError> {
        let mut tree = self.skeleton(config, archives, context)?;
        let key = self.layer_key(config, &tree, context)?;
        if let Some(layer) = layer::load(&context.store, &key)?.filter(|_| !options.rebuild) {
            let what = format!("{} packages", self.image.len());
            context.reporter.step("install", what, None, Unit::Items).cached();
            return Ok(layer);
        }
        let mut pack = Pack::begin(&context.store, &key)?;
        let install = Install {
            packages: &self.image,
            automatic: &self.automatic,
            with_docs: config.content.with_docs,
            architecture: archives.architecture(),
        };
        tree = install.run(tree, context, &mut pack, "image")?;
        pack.commit()?;
        layer::save(&context.store, &key, &tree)?;
        Ok(tree)
    }

    /// What is there before the first package.
    fn skeleton(
        &self,
        config: &Config,
        archives: &Archives,
        context: &Context,
    ) -> Result<Tree, BuildError> {
        let mut tree = Tree::new();
        tree.get_mut(&TreePath::root()).expect("always there").meta.mtime = context.epoch;
        install::usr_merge(&mut tree, &self.image, archives.architecture(), context.epoch)?;
        overlay::apply_all(&mut tree, &config.content.skeleton_trees, context.epoch)?;
        let distribution = config.distribution.distribution.to_string();
        let image_id = config.output.image_id.as_deref();
        let token = os::entry_token::choose(&tree, None, image_id, &distribution)?;
        os::entry_token::write(&mut tree, &token, context.epoch)?;
        boot_files::keep_kernel_hooks_away(&mut tree, context.epoch)?;
        Ok(tree)
    }

    fn layer_key(
        &self,
        config: &Config,
        skeleton: &Tree,
        context: &Context,
    ) -> Result<Key, BuildError> {
        let mut hasher = KeyHasher::new("configured layer");
        hasher.add(VERSION.as_bytes()).add(&context.epoch.secs.to_le_bytes());
        hasher.add(&[u8::from(config.content.with_docs)]);
        for package in &self.image {
            hasher.add(&package.id().0);
        }
        for (name, architecture) in &self.automatic {
            hasher.add(name.as_bytes()).add(architecture.as_bytes());
        }
        initrd::hash_subtree(&mut hasher, skeleton, &TreePath::root())?;
        Ok(hasher.finish())
    }

    fn initrd(
        &self,
        config: &Config,
        archives: &Archives,
        context: &Context,
    ) -> Result<Option<Content>, BuildError> {
        if self.initrd.is_empty() {
            return Ok(None);
        }
        let step = context.reporter.step("initrd", "userland", None, Unit::Items);
        let own = !config.boot.initrd_packages.is_empty();
        let content = initrd::userland(context, &self.initrd, archives.architecture(), own)?;
        step.done();
        Ok(Some(content))
    }
}

/// The tree on its way to gold.
pub struct Golden {
    /// The root file system.
    pub tree: Tree,
    /// What sealing changed.
    pub sealed: Vec<Change>,
    project_files: BTreeSet<TreePath>,
}

impl Golden {
    /// Everything after the packages and before the seal.
    fn finish(
        mut tree: Tree,
        config: &Config,
        context: &Context,
        reporter: &dyn Reporter,
    ) -> Result<Golden, BuildError> {
        let epoch = context.epoch;
        let project_files = overlay::apply_all(&mut tree, &config.content.extra_trees, epoch)?;
        tree = crate::scripts::run(tree, &config.scripts.postinst, "postinst", config, context)?;
        for warning in finish::configure(&mut tree, config, epoch)? {
            reporter.warn(warning);
        }
        if image::is_disk(config) {
            image::add_growth(&mut tree, config, epoch)?;
        }
        finish::remove_files(&mut tree, &config.content.remove_files)?;
        tree = crate::scripts::run(tree, &config.scripts.finalize, "finalize", config, context)?;
        context.clamp_times(&mut tree);
        Ok(Golden { tree, sealed: Vec::new(), project_files })
    }

    /// The seal, after every package, script and tree; then the gate.
    fn seal(&mut self, config: &Config, context: &Context) -> Result<(), BuildError> {
        let intent = finish::intent(config, std::mem::take(&mut self.project_files));
        self.sealed = finish::seal(&mut self.tree, None, &intent, context.epoch)?;
        finish::gate(&self.tree, None, &intent)?;
        context.clamp_times(&mut self.tree);
        Ok(())
    }
}

/// Measures the steps of a build.
struct Clock {
    last: Instant,
    laps: Vec<(&'static str, Duration)>,
}

impl Clock {
    fn start() -> Clock {
        Clock { last: Instant::now(), laps: Vec::new() }
    }

    fn lap(&mut self, name: &'static str) {
        self.laps.push((name, self.last.elapsed()));
        self.last = Instant::now();
    }
}

/// Whether the image is to boot: `Bootable=auto` means what mkosi means by it, an
/// image of a whole system that has a kernel.
pub fn is_bootable(config: &Config, tree: &Tree) -> bool {
    match config.boot.bootable {
        Feature::Enabled => true,
        Feature::Disabled => false,
        Feature::Auto => {
            matches!(config.output.format, OutputFormat::Disk)
                && boot::kernel::find(tree).is_ok_and(|kernels| !kernels.is_empty())
        }
    }
}
