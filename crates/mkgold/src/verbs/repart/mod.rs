//! `repart`: systemd-repart for image files, also under its name.
//!
//! What it is not: logic. What is done is `disk::repart`; here is what is asked for, what
//! comes from the machine, and what is shown: the table and messages as systemd-repart
//! has them, and its exit statuses (0, 1, 77).

mod options;
mod preview;
mod world;

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use build::filler::{self, Filler};
use disk::definition::{self, Definition, Source};
use disk::plan::{self, Activity, Plan, Size, Style};
use disk::repart::{Empty, Inputs, Planned, RepartError, Settings, Start};
use disk::{Compat, Guid};
use report::{Event, Reporter};
use rustix::fs::FlockOperation;

use self::options::{Json, Options};
use super::variable;

/// The name under which this is systemd-repart.
pub const NAME: &str = "systemd-repart";
/// The file is not one that may be repartitioned.
const NOT_ALLOWED: u8 = 77;
/// How wide the picture is where nobody says.
const COLUMNS: usize = 80;

/// Why it ends without having done it.
enum Stop {
    Failed(String),
    NotAllowed(String),
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
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        match error {
            RepartError::NotAllowed { .. } | RepartError::Damaged { .. } => Stop::NotAllowed(text),
            _ => Stop::Failed(text),
        }
    }
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
    if let (Some(sizes), Some(image)) = (&options.preview, &options.device) {
        return preview::run(options, Path::new(image), sizes);
    }
    let root = options.root.as_deref().unwrap_or(Path::new("/"));
    let compat = Compat { version: options.version, original_bugs: false };
    let source = match options.definitions.as_slice() {
        [] => Source::Root(root),
        dirs => Source::Dirs(dirs),
    };
    let loaded = definition::load(source, &world::facts(options, root)?, compat);
    let loaded = loaded.map_err(|refused| {
        let lines: Vec<String> = refused.0.iter().map(ToString::to_string).collect();
        Stop::Failed(lines.join("\n"))
    })?;
    loaded.warnings.iter().for_each(|warning| say(&warning.to_string()));
    let (seed, made_up) = world::seed(options, root)?;
    if made_up && options.seed.is_none() {
        say("There is no machine ID: the UUIDs of partitions are random.");
    }
    let Some(device) = &options.device else {
        return Err(Stop::Failed(
            "the path of an image file is needed: block devices are not supported yet".into(),
        ));
    };
    let settings = settings(options, device, seed, compat)?;
    let path = PathBuf::from(device);
    if options.empty == Empty::Create {
        let start = Start::nothing(&path);
        return on_disk(options, &settings, &loaded.definitions, start, None);
    }
    let mut file = open(&path, !options.dry_run)?;
    let mut start = Start::new(&mut file, &path, &settings)?;
    for damage in start.damage() {
        say(&format!("{device}: {damage}"));
    }
    if options.can_factory_reset {
        let can = start.can_factory_reset(&loaded.definitions);
        return if can { Ok(()) } else { Err(Stop::Status(1)) };
    }
    if options.factory_reset {
        factory_reset(options, &mut start, &mut file, &loaded.definitions)?;
    }
    on_disk(options, &settings, &loaded.definitions, start, Some(&mut file))
}

fn settings(options: &Options, device: &str, seed: Guid, compat: Compat) -> Result<Settings, Stop> {
    let shown = match options.empty {
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
        compat,
    })
}

/// Opens the image and locks it as systemd-repart does.
fn open(path: &Path, write: bool) -> Result<File, Stop> {
    let failed = |e: std::io::Error| Stop::Failed(format!("{}: {e}", path.display()));
    let kind = std::fs::metadata(path).map_err(failed)?;
    if !kind.is_file() {
        let message = "is no image file: block devices are not supported yet";
        return Err(Stop::Failed(format!("{} {message}", path.display())));
    }
    let file = File::options().read(true).write(write).open(path).map_err(failed)?;
    let how = if write { FlockOperation::LockExclusive } else { FlockOperation::LockShared };
    rustix::fs::flock(&file, how).map_err(|e| failed(e.into()))?;
    Ok(file)
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

/// Plans, shows, and does it. Without a file, one is made.
fn on_disk(
    options: &Options,
    settings: &Settings,
    definitions: &[Definition],
    start: Start,
    file: Option<&mut File>,
) -> Result<(), Stop> {
    let source = world::source(options, &start.without_partition(definitions))?;
    let scratch = tempfile::tempdir().map_err(|e| e.to_string())?;
    let epoch = settings.epoch.unwrap_or_else(world::now);
    let filler = Filler::new(&Lines, epoch, None, scratch.path().to_owned());
    let inputs = Inputs { definitions, source: &source, filler: &filler, reporter: &Lines };
    let planned = start.plan(&inputs, settings)?;
    let made = planned.made(definitions);
    world::refuse_variables(&made)?;
    for d in made {
        filler::check(std::slice::from_ref(d)).map_err(|e| e.to_string())?;
    }
    let plan = &planned.plan;
    plan.warnings.iter().for_each(|warning| say(warning));
    if matches!(settings.size, Size::Auto) {
        say(&format!("The smallest possible size of the image is {}.", plan.disk_size));
    }
    say_dropped(plan);
    show_before(options, plan)?;
    if !start.changes(&planned) {
        say("No changes.");
    } else if options.dry_run {
        say("Nothing is changed; that is done with --dry-run=no.");
    } else {
        apply(&start, &planned, &inputs, settings, file)?;
    }
    show_json(options, plan)
}

fn apply(
    start: &Start,
    planned: &Planned,
    inputs: &Inputs<'_>,
    settings: &Settings,
    file: Option<&mut File>,
) -> Result<(), Stop> {
    say(&format!("Changes are applied to {}.", settings.device));
    match file {
        Some(file) => start.carry_out(file, planned, inputs, settings)?,
        None => start.create(planned, inputs, settings)?,
    }
    for p in planned.plan.partitions.iter().filter(|p| !p.deferred) {
        match p.activity {
            Activity::Create => say(&format!("Partition {} is made.", p.slot)),
            Activity::Resize => say(&format!("Partition {} has grown.", p.slot)),
            Activity::Unchanged => {}
        }
    }
    say("All done.");
    Ok(())
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
