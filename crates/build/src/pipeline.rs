//! The pipeline as code: read this first. Each step is a function of what the
//! steps before it made; what is slow is cached by what went into it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use config::Config;
use config::types::{Feature, OutputFormat};
use report::Reporter;
use sandbox::Privilege;
use store::Store;
use tree::{Content, Mtime, Tree};

use crate::boot_files;
use crate::context::Context;
use crate::error::BuildError;
use crate::golden::{self, Golden, Sealed};
use crate::lock::{Lock, Set};
use crate::outputs::Staging;
use crate::packages::Archives;
use crate::provenance::Trail;
use crate::scripts::{Phase, Scripts};
use crate::sets::Sets;
use crate::sources::ImageSources;
use crate::tools::{Runner, Tools};
use crate::unchanged::Inputs;
use crate::upkeep::Upkeep;
use crate::workdir::WorkDir;
use crate::{build_scripts, image, resolve, upkeep};

/// How a build is run; none of it but `now` and `rebuild` can reach a byte of the
/// output, and those only through what the archives have and what is cached.
pub struct Options {
    /// The cache directory.
    pub cache: PathBuf,
    /// Where trees are laid out for scripts.
    pub work: WorkDir,
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
    /// Arguments of the build scripts.
    pub build_arguments: Vec<OsString>,
    /// How long the cache keeps what no build uses; for ever if not set.
    pub keep_unused: Option<Duration>,
}

/// How often a build begins again because of damage in the cache.
const MAX_DAMAGED: u32 = 2;

/// What a build made.
#[derive(Debug)]
pub struct Built {
    /// The outputs, the image last.
    pub outputs: Vec<PathBuf>,
    /// What sealing changed.
    pub sealed: Vec<Sealed>,
    /// How many packages the image has.
    pub packages: usize,
    /// How long each step took.
    pub times: Vec<(&'static str, Duration)>,
    /// Whether the outputs were there already, made from the same inputs.
    pub unchanged: bool,
}

/// Builds the image that `config` describes.
pub fn build(
    config: &Config,
    options: &Options,
    reporter: &dyn Reporter,
) -> Result<Built, BuildError> {
    let mut scripts =
        Scripts::new(config, &options.privilege, &options.work.on_disk("scripts"), reporter);
    scripts.arguments(&options.build_arguments)?;
    scripts.run_without_tree(Phase::Sync)?;
    let mut tries = 0..MAX_DAMAGED;
    loop {
        let store = Store::open(&options.cache)?;
        let result = attempt(config, options, store.clone(), &mut scripts, reporter);
        match (result, store.whole()) {
            (Err(_), Err(damage)) if tries.next().is_some() => {
                reporter.warn(format!("{damage}: begun again"));
                scripts.finish()?;
                options.work.clear()?;
            }
            (result, _) => return result,
        }
    }
}

/// A build that ends where something in the cache turns out to be damaged.
fn attempt(
    config: &Config,
    options: &Options,
    store: Store,
    scripts: &mut Scripts,
    reporter: &dyn Reporter,
) -> Result<Built, BuildError> {
    let output_dir = output_directory(config);
    let mut clock = Clock::start();
    let sources = ImageSources::of(config, &options.host_apt)?;
    let inputs = || Inputs::of(config, &output_dir, &sources);
    if let Some(built) = unchanged(inputs().filter(|_| !options.rebuild), &store) {
        return Ok(built);
    }
    refuse_existing(config, options, &output_dir)?;
    let archives = Archives::of(config, &store, &options.host_apt, options.fetch.clone())?;
    let lock = resolve::find(config, &archives, options, reporter)?;
    clock.lap("resolve");
    let before = inputs();
    let context = Context {
        store,
        reporter,
        privilege: options.privilege.clone(),
        work: &options.work,
        epoch: epoch(config, &lock),
        threads: options.threads,
        rebuild: options.rebuild,
    };
    let sets = Sets::fetch(&archives, &lock, config, &context)?;
    let tools = Tools::open(Set::Tools, &lock, config, &archives, options, &context)?;
    clock.lap("fetch and unpack");

    let (tree, userland) = configure(&sets, config, &archives, &context)?;
    let tree = sources.write(tree, &config.distribution.release, &context)?;
    clock.lap("install");

    let mut staging = Staging::begin(&output_dir)?;
    scripts.output(&staging.shared()?);
    let mut trail = Trail::default();
    trail.record(golden::PACKAGES, &tree);
    let build_packages = sets.build_packages(config, &archives);
    let tree = build_scripts::run(tree, &build_packages, &context, scripts, &mut trail)?;
    let automatic = sets.automatic();
    let mut golden = Golden::finish(tree, trail, automatic, config, &context, scripts)?;
    let artifacts = scripts.boot_artifacts()?;
    let mut boot = boot_files::make(&mut golden.tree, config, &context, userland, &artifacts)?;
    golden.seal(boot.esp.as_mut(), config, &context)?;
    clock.lap("finish and seal");

    let tools = tools.as_ref().map(|tools| Runner { tools, context: &context });
    image::write(&golden, &boot, config, &context, &lock, tools.as_ref(), &mut staging)?;
    context.store.whole()?;
    scripts.run_without_tree(Phase::Postoutput)?;
    staging.adopt_shared()?;
    clock.lap("image");
    let outputs = staging.publish()?;
    // Only what did not change while the build ran.
    if let Some(before) = before.filter(|before| inputs() == Some(*before)) {
        before.remember(&context.store, &outputs, sets.count());
    }
    look_after(&context, &archives, config, options);
    Ok(Built {
        outputs,
        sealed: golden.sealed,
        packages: sets.count(),
        times: clock.laps,
        unchanged: false,
    })
}

/// Two things that need nothing of each other: the image's own scripts, which run one
/// after the other, and the initrd's userland.
fn configure(
    sets: &Sets,
    config: &Config,
    archives: &Archives,
    context: &Context,
) -> Result<(Tree, Option<Content>), BuildError> {
    std::thread::scope(|scope| {
        let initrd = scope.spawn(|| sets.initrd(config, archives, context));
        let tree = sets.install(config, archives, context);
        let initrd = initrd.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((tree?, initrd?))
    })
}

/// Keeps the caches as they should be.
fn look_after(context: &Context, archives: &Archives, config: &Config, options: &Options) {
    let upkeep = Upkeep { keep: options.keep_unused, now: options.now };
    let stores = [Some(&context.store), archives.own_downloads(&context.store)];
    let stores: Vec<&Store> = stores.into_iter().flatten().collect();
    upkeep::after_build(config, &stores, upkeep, context.reporter);
}

/// The outputs that are there, if a build would make the same.
fn unchanged(inputs: Option<Inputs>, store: &Store) -> Option<Built> {
    let found = inputs?.outputs(store)?;
    Some(Built {
        outputs: found.outputs,
        sealed: Vec::new(),
        packages: found.packages,
        times: Vec::new(),
        unchanged: true,
    })
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

/// Runs the clean scripts of `config`, which remove what its other scripts put
/// elsewhere.
pub fn run_clean_scripts(
    config: &Config,
    options: &Options,
    reporter: &dyn Reporter,
) -> Result<(), BuildError> {
    let (dir, work) = (output_directory(config), options.work.on_disk("scripts"));
    let mut scripts = Scripts::new(config, &options.privilege, &work, reporter);
    if dir.is_dir() {
        scripts.output(&dir);
    }
    scripts.run_without_tree(Phase::Clean)
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
