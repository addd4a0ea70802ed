//! What each verb does: one call into a library, and its answer shown.

mod building;
mod check;
mod compare;
mod configuring;
pub mod filesystems;
mod locking;
pub mod repart;
mod running;
pub mod toolbox;
mod verify;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use build::BuildError;
use build::pipeline::{self, Options};
use build::upkeep;
use build::workdir::{WorkDir, remove_litter};
use config::{Diagnostic, Facts, Loaded, Reading, Request};
use report::Reporter;
use sandbox::{Ended, Mode};

use crate::arguments::{Arguments, command};
use crate::view::View;

/// Why a verb failed.
pub enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// The configuration is wrong.
    Config(Vec<Diagnostic>),
    /// The work failed; with the last lines that programs printed.
    Work(Box<dyn std::error::Error>, Vec<String>),
    /// `build --verify`: the second build was another.
    Differs(build::compare::Difference),
    /// A program that was run on the terminal ended with this; it has said why.
    Exit(u8),
}

impl Failure {
    /// The exit code; see the head of `main.rs`.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) | Failure::Config(_) => 2,
            Failure::Work(..) => 1,
            Failure::Differs(_) => 3,
            Failure::Exit(code) => *code,
        }
    }

    /// Prints it: text on standard error, or a JSON line on standard output.
    pub fn show(&self, json: bool) {
        if matches!(self, Failure::Exit(_)) {
            return;
        }
        if json {
            let line = serde_json::json!({ "event": "error", "message": self.text() });
            let _ = writeln!(std::io::stdout(), "{line}");
        }
        let _ = writeln!(anstream::stderr(), "{}", self.text());
    }

    fn text(&self) -> String {
        match self {
            Failure::Usage(message) => format!("mkgold: {message}"),
            Failure::Differs(difference) => {
                format!("mkgold: the second build differs from the first: {difference}")
            }
            Failure::Exit(code) => format!("exit status {code}"),
            Failure::Config(diagnostics) => {
                diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            }
            Failure::Work(error, tail) => {
                let mut text = tail.join("\n");
                if !text.is_empty() {
                    text.push('\n');
                }
                text + &chain(&**error)
            }
        }
    }
}

/// The error and what caused it, on a line each.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = format!("mkgold: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!("\n  because: {cause}"));
        source = cause.source();
    }
    text
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        Failure::Work(Box::new(error), Vec::new())
    }
}

type Outcome = Result<(), Failure>;

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Outcome {
    refuse_rest(arguments)?;
    match arguments.verb.as_str() {
        "build" if arguments.verify => verify::run(arguments),
        "build" => building::run(arguments),
        "lock" => locking::run(arguments),
        "shell" => running::shell(arguments),
        "vm" => running::vm(arguments),
        "boot" => running::boot(),
        "check" => check::run(arguments),
        "diff" => compare::diff(arguments),
        "inspect" => compare::inspect(arguments),
        "repart" => own_options(arguments, |words| repart::run("mkgold repart", words)),
        verb @ ("growfs" | "makefs" | "makeswap") => {
            own_options(arguments, |words| filesystems::run(verb, words))
        }
        "summary" => configuring::summary(arguments),
        "cat-config" => configuring::cat_config(arguments),
        "why-setting" => configuring::why_setting(arguments),
        "dependencies" => configuring::dependencies(),
        "init" => configuring::init(arguments),
        "schema" => print(&format!("{:#}", config::schema::json_schema())),
        "clean" => clean(arguments),
        "completion" => completion(arguments),
        "documentation" => print(&config::render_settings_markdown()),
        "help" => print(&command().render_long_help().to_string()),
        other if let Some(tool) = toolbox::by_name(other) => {
            own_options(arguments, |words| tool.run(&format!("mkgold {other}"), words))
        }
        other => {
            let verbs = crate::arguments::VERBS.iter().map(|(verb, _)| *verb);
            let hint = config::diagnostic::did_you_mean(other, verbs).unwrap_or_default();
            Err(Failure::Usage(format!(
                "unknown verb '{other}'{}{hint}",
                if hint.is_empty() { "" } else { "; " }
            )))
        }
    }
}

/// What is also a tool of systemd's has its own options, which stand behind the verb.
fn own_options(arguments: &Arguments, run: impl FnOnce(&[std::ffi::OsString]) -> u8) -> Outcome {
    if arguments.directory.is_some() || arguments.json || !arguments.settings.is_empty() {
        let verb = &arguments.verb;
        let message = format!("the options of {verb} stand behind it: mkgold {verb} --help");
        return Err(Failure::Usage(message));
    }
    match run(&arguments.rest) {
        0 => Ok(()),
        status => Err(Failure::Exit(status)),
    }
}

/// What stands behind a verb that takes no arguments.
fn refuse_rest(arguments: &Arguments) -> Outcome {
    let verb = arguments.verb.as_str();
    let alone = [
        "summary",
        "cat-config",
        "clean",
        "documentation",
        "help",
        "boot",
        "dependencies",
        "schema",
    ];
    match arguments.rest.first() {
        Some(word) if alone.contains(&verb) => Err(Failure::Usage(format!(
            "{verb} takes no arguments, but there is '{}'; options stand before the verb",
            word.display()
        ))),
        _ => Ok(()),
    }
}

fn print(text: &str) -> Outcome {
    let written = writeln!(std::io::stdout(), "{}", text.trim_end());
    written.map_err(|e| Failure::Work(Box::new(e), Vec::new()))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn project(arguments: &Arguments) -> Result<PathBuf, Failure> {
    let dir = arguments.directory.as_deref().unwrap_or(Path::new("."));
    std::fs::canonicalize(dir)
        .map_err(|e| Failure::Usage(format!("--directory={}: {e}", dir.display())))
}

fn load(arguments: &Arguments) -> Result<Loaded, Failure> {
    let request = Request { args: arguments.settings.clone() };
    config::load(&project(arguments)?, &request, &facts()?).map_err(Failure::Config)
}

/// The configuration to be shown: what mkgold does not support of it is said, and
/// shown all the same.
fn read(arguments: &Arguments) -> Result<Reading, Failure> {
    let request = Request { args: arguments.settings.clone() };
    let reading = config::read(&project(arguments)?, &request, &facts()?);
    let reading = reading.map_err(Failure::Config)?;
    for diagnostic in &reading.unsupported {
        let _ = writeln!(anstream::stderr(), "{diagnostic}");
    }
    Ok(reading)
}

/// What the configuration may depend on of this machine.
fn facts() -> Result<Facts, Failure> {
    let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
    let architecture = architecture(&machine).ok_or_else(|| {
        Failure::Usage(format!("this machine's architecture is unknown: {machine}"))
    })?;
    Ok(Facts {
        architecture,
        home: variable("HOME").map(PathBuf::from),
        config_dir: variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config"))),
        env: std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect::<BTreeMap<_, _>>(),
    })
}

/// The architecture that `uname -m` means.
fn architecture(machine: &str) -> Option<config::Architecture> {
    let debian = match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" | "armv6l" => "armhf",
        "i386" | "i486" | "i586" | "i686" => "i386",
        "loongarch64" => "loong64",
        "ppc64le" => "ppc64el",
        other => other,
    };
    config::Architecture::from_debian(debian)
}

/// Shows what is doubtful in the configuration.
fn warn(loaded: &Loaded, reporter: &dyn Reporter) {
    for warning in &loaded.warnings {
        reporter.warn(warning.to_string());
    }
    for setting in &loaded.no_effect {
        reporter.note(format!("{} has no effect: {}", setting.setting, setting.reason));
    }
    if loaded.embedded_default {
        reporter.note("no configuration here: building the embedded default (mkgold cat-config)");
    }
}

/// Where the cache is.
fn cache_directory(loaded: &Loaded) -> PathBuf {
    let uid = rustix::process::getuid().as_raw();
    let configured = loaded.config.build.cache_directory.clone();
    configured.unwrap_or_else(|| build::context::default_cache_dir(variable, uid))
}

/// Does what needs a cache and privileges, in a process that is watched over: however
/// it ends, nothing is left of it but downloads, which are taken up again.
fn guarded(
    arguments: &Arguments,
    work: impl FnOnce(&Loaded, Options, &View) -> Outcome,
) -> Outcome {
    let loaded = load(arguments)?;
    let privilege = enter(arguments)?;
    let work = || {
        let options = options(arguments, &loaded, privilege)?;
        let view = View::new(arguments.json);
        warn(&loaded, &view);
        work(&loaded, options, &view)
    };
    watched(arguments, &loaded, work)
}

/// The same without privileges.
fn watched(arguments: &Arguments, loaded: &Loaded, work: impl FnOnce() -> Outcome) -> Outcome {
    let code = || match work() {
        Ok(()) => 0,
        Err(failure) => {
            failure.show(arguments.json);
            failure.code()
        }
    };
    let ended = sandbox::guarded(code, || clean_up(loaded));
    match ended.map_err(|e| Failure::Work(Box::new(e), Vec::new()))? {
        Ended::Code(0) => Ok(()),
        ended => {
            if let Ended::Signal(signal) = ended {
                let _ = writeln!(anstream::stderr(), "mkgold: killed by signal {signal}");
            }
            Err(Failure::Exit(ended.follow()))
        }
    }
}

/// Removes what killed builds left where this one works.
fn clean_up(loaded: &Loaded) {
    let output = pipeline::output_directory(&loaded.config);
    remove_litter(&cache_directory(loaded), &output, &loaded.config.project.directory);
}

/// Called before any thread is started: room in memory needs that.
fn options(
    arguments: &Arguments,
    loaded: &Loaded,
    privilege: sandbox::Privilege,
) -> Result<Options, Failure> {
    let cache = cache_directory(loaded);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let fetch = apt_options(arguments);
    clean_up(loaded);
    let work = WorkDir::begin(&cache, &privilege).map_err(BuildError::from)?;
    Ok(Options {
        work,
        cache,
        host_apt: "/etc/apt".into(),
        fetch,
        now: SystemTime::now(),
        privilege,
        threads: arguments.threads.unwrap_or(threads).max(1),
        force: arguments.force > 0,
        rebuild: arguments.force > 1,
        locked: arguments.locked,
        keep_unused: match arguments.keep_unused {
            0 => None,
            days => Some(Duration::from_secs(u64::from(days) * 24 * 60 * 60)),
        },
        build_arguments: match arguments.verb.as_str() {
            "build" => arguments.rest.clone(),
            _ => Vec::new(),
        },
    })
}

fn apt_options(arguments: &Arguments) -> build::FetchOptions {
    let variables: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .collect();
    build::FetchOptions {
        offline: arguments.offline,
        proxies: build::Proxies::from_variables(|name| variables.get(name).map(String::as_str)),
        ..build::FetchOptions::default()
    }
}

/// Enters the sandbox's privileges: before any thread is started.
fn enter(arguments: &Arguments) -> Result<sandbox::Privilege, Failure> {
    let failed = |e: sandbox::PrivilegeError| Failure::Work(Box::new(e), Vec::new());
    let mode = arguments.privilege.as_deref().map(str::parse::<Mode>).transpose();
    sandbox::enter(mode.map_err(failed)?).map_err(failed)
}

fn clean(arguments: &Arguments) -> Outcome {
    let loaded = load(arguments)?;
    if !loaded.config.scripts.clean.is_empty() {
        let options = options(arguments, &loaded, enter(arguments)?)?;
        let view = View::new(arguments.json);
        pipeline::run_clean_scripts(&loaded.config, &options, &view)
            .map_err(|error| Failure::Work(Box::new(error), view.tail()))?;
    }
    let removed = pipeline::clean(&loaded.config)?;
    for path in &removed {
        print(&format!("removed {}", path.display()))?;
    }
    match arguments.force {
        0 => Ok(()),
        force => clean_cache(&loaded, force > 1),
    }
}

/// What this project's builds left in the cache.
fn clean_cache(loaded: &Loaded, packages: bool) -> Outcome {
    let cache = cache_directory(loaded);
    let removed = upkeep::clean(&loaded.config, &cache, packages).map_err(BuildError::from)?;
    let (files, mib) = (removed.files, removed.bytes >> 20);
    let what = if packages { "trees and packages" } else { "trees" };
    print(&format!("removed {files} cached objects ({what}, {mib} MiB) from {}", cache.display()))
}

fn completion(arguments: &Arguments) -> Outcome {
    let name = arguments.rest.first().map(|s| s.to_string_lossy().into_owned());
    let shell = name.as_deref().unwrap_or("bash").parse::<clap_complete::Shell>();
    let shell = shell.map_err(|e| Failure::Usage(format!("completion: {e}")))?;
    clap_complete::generate(shell, &mut command(), "mkgold", &mut std::io::stdout());
    Ok(())
}
