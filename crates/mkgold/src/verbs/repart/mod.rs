//! `repart`: systemd-repart for image files and block devices, also under its name.
//!
//! What it is not: logic. What is done is `disk::repart`; here is what is asked for, what
//! comes from the machine, and what is shown: the table and messages as systemd-repart
//! has them, and its exit statuses (0, 1, 76, 77).

mod image;
mod options;
mod preview;
mod tables;
pub mod world;

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use build::filler::{self, Filler};
use disk::definition::{self, Definition, Source};
use disk::device::Device;
use disk::plan::{self, Activity, Plan, Size, Style};
use disk::repart::{Empty, Inputs, Planned, RepartError, Settings, Start};
use disk::{Compat, Guid, split};
use report::{Event, Reporter};
use rustix::fs::FlockOperation;
use tree::Tree;

use self::options::{Json, Options};
use self::world::Root;
use super::variable;

/// The name under which this is systemd-repart.
pub const NAME: &str = "systemd-repart";
/// There is no disk to repartition.
const NO_DISK: u8 = 76;
/// The disk is not one that may be repartitioned.
const NOT_ALLOWED: u8 = 77;
/// How wide the picture is where nobody says.
const COLUMNS: usize = 80;

/// Why it ends without having done it.
enum Stop {
    Failed(String),
    NotAllowed(String),
    /// The root is on no disk, or on several.
    NoDisk,
    /// There is nothing to say.
    Status(u8),
}

impl From<String> for Stop {
    fn from(message: String) -> Self {
        Stop::Failed(message)
    }
}

impl From<RepartError> for Stop {
    fn from(error: RepartError) -> Self {
        let text = chain(&error);
        match error {
            RepartError::NotAllowed { .. } | RepartError::Damaged { .. } => Stop::NotAllowed(text),
            _ => Stop::Failed(text),
        }
    }
}

/// An error with what caused it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Runs it with what follows the name; returns the exit status.
pub fn run(name: &'static str, words: &[OsString]) -> u8 {
    let all = std::iter::once(OsString::from(name)).chain(words.iter().cloned());
    let matches = match options::command(name).try_get_matches_from(all) {
        Ok(matches) => matches,
        Err(e) => {
            let _ = e.print();
            return u8::from(e.use_stderr());
        }
    };
    let done = world::architecture()
        .and_then(|native| options::options(&matches, native))
        .map_err(Stop::Failed)
        .and_then(|options| repart(&options));
    let (status, message) = match done {
        Ok(()) => return 0,
        Err(Stop::Status(status)) => return status,
        Err(Stop::NotAllowed(message)) => (NOT_ALLOWED, message),
        Err(Stop::NoDisk) => (NO_DISK, "The root is not on a disk (give its path).".into()),
        Err(Stop::Failed(message)) => (1, message),
    };
    say(&message);
    status
}

fn say(message: &str) {
    let _ = writeln!(anstream::stderr(), "{message}");
}

/// Warnings and notes as lines; nothing else.
struct Lines;

impl Reporter for Lines {
    fn event(&self, event: Event) {
        if let Event::Warning { message } | Event::Note { message } = event {
            say(&message);
        }
    }
}

fn repart(options: &Options) -> Result<(), Stop> {
    if options.list_devices {
        return list_devices();
    }
    if let (Some(sizes), Some(image)) = (&options.preview, &options.device) {
        return preview::run(options, Path::new(image), sizes);
    }
    let root = Root::new(options)?;
    let compat = Compat { version: options.version, original_bugs: false };
    let source = match (options.definitions.as_slice(), &root) {
        ([], Root::Dir(root)) => Source::Root(root),
        ([], Root::Image(tree)) => Source::Tree(tree),
        (dirs, _) => Source::Dirs(dirs),
    };
    let loaded = definition::load(source, &world::facts(options, &root)?, compat);
    let loaded = loaded.map_err(|refused| {
        let lines: Vec<String> = refused.0.iter().map(ToString::to_string).collect();
        Stop::Failed(lines.join("\n"))
    })?;
    loaded.warnings.iter().for_each(|warning| say(&warning.to_string()));
    let (seed, made_up) = world::seed(options, &root)?;
    if made_up && options.seed.is_none() {
        say("There is no machine ID: the UUIDs of partitions are random.");
    }
    let run = Run { options, root: &root, definitions: &loaded.definitions };
    if options.device.as_deref() == Some("-") {
        return run.smallest(settings(options, "-", seed, compat)?);
    }
    let path = disk_path(options, &root)?;
    let mut settings = settings(options, &path.display().to_string(), seed, compat)?;
    if options.empty == Empty::Create {
        return run.on_disk(&settings, Start::nothing(&path), None);
    }
    let (mut file, device) = open(&path, !options.dry_run)?;
    if let Some(device) = &device {
        of_device(&mut settings, device, options)?;
    }
    let mut start = Start::new(&mut file, &path, &settings)?;
    for damage in start.damage() {
        say(&format!("{}: {damage}", path.display()));
    }
    if options.can_factory_reset {
        let can = start.can_factory_reset(run.definitions);
        return if can { Ok(()) } else { Err(Stop::Status(1)) };
    }
    if options.factory_reset {
        factory_reset(options, &mut start, &mut file, run.definitions)?;
    }
    run.on_disk(&settings, start, Some((&mut file, device.as_ref())))
}

fn list_devices() -> Result<(), Stop> {
    let found = disk::device::candidates().map_err(|e| Stop::Failed(e.to_string()))?;
    let lines: String = found.iter().map(|path| format!("{}\n", path.display())).collect();
    print(&lines)
}

/// What to repartition: what is named, else the image of `--image=`, else the disk that
/// the root is on.
fn disk_path(options: &Options, root: &Root) -> Result<PathBuf, Stop> {
    match (&options.device, &options.image) {
        (Some(device), _) => return Ok(PathBuf::from(device)),
        (None, Some(image)) => return Ok(image.clone()),
        (None, None) => {}
    }
    world::disk_behind(root)?.ok_or(Stop::NoDisk)
}

/// What a block device decides.
fn of_device(settings: &mut Settings, device: &Device, options: &Options) -> Result<(), Stop> {
    let own = device.sector_size;
    if options.size.is_some() {
        return Err(Stop::Failed("--size= is for image files, not for block devices".into()));
    }
    if let Some(other) = options.sector_size.filter(|size| *size != own) {
        let (own, other) = (own.get(), other.get());
        let message = format!("the disk has sectors of {own} bytes, --sector-size= says {other}");
        return Err(Stop::Failed(message));
    }
    settings.block_device = true;
    settings.sector_size = Some(own);
    settings.discard &= device.clears;
    Ok(())
}

fn settings(options: &Options, device: &str, seed: Guid, compat: Compat) -> Result<Settings, Stop> {
    let shown = match options.empty {
        _ if device == "-" => device.to_owned(),
        Empty::Create => device.to_owned(),
        _ => std::fs::canonicalize(device)
            .map_err(|e| Stop::Failed(format!("{device}: {e}")))?
            .display()
            .to_string(),
    };
    Ok(Settings {
        empty: options.empty,
        size: options.size.unwrap_or(Size::Keep),
        seed,
        sector_size: options.sector_size,
        grain: options.grain,
        discard: options.discard,
        defer: options.defer.clone(),
        epoch: world::epoch()?,
        device: shown,
        block_device: false,
        copy_on_write: options.cow,
        compat,
    })
}

/// Opens the disk and locks it as systemd-repart does, which keeps udev away.
fn open(path: &Path, write: bool) -> Result<(File, Option<Device>), Stop> {
    let failed = |e: std::io::Error| Stop::Failed(format!("{}: {e}", path.display()));
    let kind = std::fs::metadata(path).map_err(failed)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        let message = format!("{} is neither an image file nor a block device", path.display());
        return Err(Stop::Failed(message));
    }
    let file = File::options().read(true).write(write).open(path).map_err(failed)?;
    let how = if write { FlockOperation::LockExclusive } else { FlockOperation::LockShared };
    rustix::fs::flock(&file, how).map_err(|e| failed(e.into()))?;
    let device = match kind.is_block_device() {
        true => Some(Device::new(&file, path).map_err(|e| Stop::Failed(chain(&e)))?),
        false => None,
    };
    Ok((file, device))
}

fn factory_reset(
    options: &Options,
    start: &mut Start,
    file: &mut File,
    definitions: &[Definition],
) -> Result<(), Stop> {
    if options.dry_run {
        say("A factory reset is done only with --dry-run=no.");
        return Ok(());
    }
    let slots = start.factory_reset(file, definitions)?;
    match slots.is_empty() {
        true => say("There is no partition that a factory reset removes."),
        false => slots.iter().for_each(|s| say(&format!("Partition {s} is removed."))),
    }
    Ok(())
}

/// The disk to work on, and what the kernel knows of it if it is a device.
type Opened<'a> = (&'a mut File, Option<&'a Device>);

/// What is wanted of a disk.
struct Run<'a> {
    options: &'a Options,
    root: &'a Root,
    definitions: &'a [Definition],
}

impl Run<'_> {
    /// Only says how large a disk has to be.
    fn smallest(&self, mut settings: Settings) -> Result<(), Stop> {
        settings.size = Size::Auto;
        let start = Start::nothing(Path::new("-"));
        let source =
            world::source(self.options, self.root, &self.definitions.iter().collect::<Vec<_>>())?;
        self.with_inputs(&settings, &source, |inputs| {
            let planned = start.plan(inputs, &settings)?;
            say_smallest(&planned.plan);
            Ok(())
        })
    }

    fn with_inputs(
        &self,
        settings: &Settings,
        source: &Tree,
        work: impl FnOnce(&Inputs<'_>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let scratch = tempfile::tempdir().map_err(|e| e.to_string())?;
        let epoch = settings.epoch.unwrap_or_else(world::now);
        let filler = Filler::new(&Lines, epoch, None, scratch.path().to_owned());
        let definitions = self.definitions;
        work(&Inputs { definitions, source, filler: &filler, reporter: &Lines })
    }

    /// Plans, shows, and does it. Without a file, one is made.
    fn on_disk(
        &self,
        settings: &Settings,
        start: Start,
        opened: Option<Opened<'_>>,
    ) -> Result<(), Stop> {
        let identities = start.identities(self.definitions, settings)?;
        tables::write(self.options, self.root, self.definitions, &identities)?;
        let missing = start.without_partition(self.definitions);
        let source = world::source(self.options, self.root, &missing)?;
        self.with_inputs(settings, &source, |inputs| {
            let mut planned = start.plan(inputs, settings)?;
            self.check(&planned)?;
            let plan = &mut planned.plan;
            if self.options.split {
                plan.name_splits().map_err(|e| Stop::Failed(chain(&e)))?;
            }
            plan.warnings.iter().for_each(|warning| say(warning));
            if matches!(settings.size, Size::Auto) {
                say_smallest(plan);
            }
            say_dropped(plan);
            show_before(self.options, plan)?;
            self.apply(&start, &planned, inputs, settings, opened)?;
            self.split(&planned.plan)?;
            show_json(self.options, &planned.plan)
        })
    }

    fn check(&self, planned: &Planned) -> Result<(), Stop> {
        let made = planned.made(self.definitions);
        world::refuse_variables(&made)?;
        for d in made {
            filler::check(std::slice::from_ref(d)).map_err(|e| e.to_string())?;
            if build::tools::tool_of(d).is_some() {
                let what = match d.compression {
                    Some(_) => "Compression=",
                    None => "Format=squashfs",
                };
                return Err(Stop::Failed(format!(
                    "{}: {what} needs a tool, which only mkgold build has: use Format=erofs without \
                     Compression=",
                    d.path
                )));
            }
        }
        Ok(())
    }

    fn apply(
        &self,
        start: &Start,
        planned: &Planned,
        inputs: &Inputs<'_>,
        settings: &Settings,
        opened: Option<Opened<'_>>,
    ) -> Result<(), Stop> {
        let changes = start.changes(planned);
        if changes && self.options.dry_run {
            say("Nothing is changed; that is done with --dry-run=no.");
            return Ok(());
        }
        match changes {
            true => say(&format!("Changes are applied to {}.", settings.device)),
            false => say("No changes."),
        }
        match opened {
            Some((file, device)) => {
                if changes {
                    start.carry_out(file, planned, inputs, settings)?;
                }
                if let Some(device) = device.filter(|_| !self.options.dry_run) {
                    let shown = device.show(file, &planned.plan.table);
                    shown.map_err(|e| Stop::Failed(chain(&e)))?;
                }
            }
            None => start.create(planned, inputs, settings)?,
        }
        if changes {
            say_done(&planned.plan);
        }
        Ok(())
    }

    /// Copies partitions to files of their own. In a dry run those that stay as they are.
    fn split(&self, plan: &Plan) -> Result<(), Stop> {
        if !self.options.split {
            return Ok(());
        }
        let failed = |e: split::SplitError| Stop::Failed(chain(&e));
        let image = File::open(&plan.device).map_err(|e| format!("{}: {e}", plan.device))?;
        for (partition, path) in split::artifacts(plan).map_err(failed)? {
            if !self.options.dry_run || partition.activity == Activity::Unchanged {
                split::copy(&image, partition, &path).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn say_smallest(plan: &Plan) {
    let (size, bytes) = (plan.disk_size, plan.disk_size.0);
    say(&format!("The smallest possible size of the image is {size} ({bytes} bytes)."));
}

fn say_done(plan: &Plan) {
    for p in plan.partitions.iter().filter(|p| !p.deferred) {
        match p.activity {
            Activity::Create => say(&format!("Partition {} is made.", p.slot)),
            Activity::Resize => say(&format!("Partition {} has grown.", p.slot)),
            Activity::Unchanged => {}
        }
    }
    say("All done.");
}

fn say_dropped(plan: &Plan) {
    for dropped in &plan.dropped {
        let why = match dropped.reason {
            plan::DropReason::Priority => {
                "there is no room, and its priority allows to leave it out"
            }
            plan::DropReason::CannotGrow => "there is no room to grow it",
            plan::DropReason::Supplement => "it is part of the partition that it supplements",
        };
        say(&format!("{} makes no partition: {why}.", dropped.file));
    }
}

fn print(text: &str) -> Result<(), Stop> {
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|e| Stop::Failed(format!("standard output: {e}")))
}

/// The table and its picture, unless JSON is wanted.
fn show_before(options: &Options, plan: &Plan) -> Result<(), Stop> {
    if options.json != Json::Off || options.pretty == Some(false) {
        return Ok(());
    }
    let (columns, style) = drawing(options);
    let bar = plan.bar(columns, style);
    if plan.partitions.is_empty() {
        say("Empty partition table.");
        return print(&format!("\n{bar}\n"));
    }
    print(&format!("{}\n{bar}\n", plan.to_text_as(style)))
}

/// How wide and with what tables and pictures are drawn.
fn drawing(options: &Options) -> (usize, Style) {
    let utf8 = variable("SYSTEMD_UTF8").is_none_or(|v| !matches!(v.as_str(), "0" | "no" | "false"));
    let style = Style { legend: options.legend, utf8, uuid: true };
    let columns = variable("COLUMNS").and_then(|c| c.parse().ok());
    let terminal = || rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let columns = columns.or_else(|| terminal().map(|w| usize::from(w.ws_col)).filter(|c| *c > 0));
    (columns.unwrap_or(COLUMNS), style)
}

fn show_json(options: &Options, plan: &Plan) -> Result<(), Stop> {
    let json = plan.to_json();
    match options.json {
        Json::Off => Ok(()),
        Json::Short => print(&format!("{json}\n")),
        Json::Pretty => print(&format!("{}\n", disk::plan::pretty(&json))),
    }
}
