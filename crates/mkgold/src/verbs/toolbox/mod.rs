//! The tools of the first boot: `firstboot`, `machine-id-setup`, `sysusers`, `tmpfiles`,
//! `preset`, `skeleton`, also under the names that systemd's have.
//!
//! What they are not: logic. Each reads its command line, edits a Tree through `os` or
//! `provision`, and the difference is shown (`--dry-run`, `--json`) or carried out.
//! Options of the original that are not supported are known, and refused by name.

mod firstboot;
mod small;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, ArgMatches, Command};
use provision::{Plan, Root};
use tree::{Mtime, Tree};

/// One of them.
pub struct Tool {
    /// How mkgold calls it.
    pub verb: &'static str,
    /// The program whose place it takes, if there is one.
    pub name: Option<&'static str>,
    /// What it does.
    pub about: &'static str,
    options: fn() -> Vec<Arg>,
    refused: &'static [&'static str],
    edit: fn(&mut Tree, &ArgMatches, &World) -> Result<Done, String>,
}

/// All of them.
pub const TOOLS: &[Tool] = &[
    firstboot::TOOL,
    small::MACHINE_ID,
    small::SYSUSERS,
    small::TMPFILES,
    small::PRESET,
    small::SKELETON,
];

/// What an edit takes from the machine.
pub struct World {
    now: Mtime,
    random: [u8; 32],
}

/// What an edit has to say.
#[derive(Default)]
pub struct Done {
    /// On standard output.
    answer: Vec<String>,
    /// On standard error.
    notes: Vec<String>,
    /// The exit status, if nothing else fails.
    status: u8,
}

/// The tool that is called `name`: its own, or that of the original.
pub fn by_name(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.verb == name || tool.name == Some(name))
}

impl Tool {
    /// Runs it with what follows its name; returns the exit status.
    pub fn run(&self, called: &str, words: &[OsString]) -> u8 {
        let all = std::iter::once(OsString::from(called)).chain(words.iter().cloned());
        let matches = match self.command(called).try_get_matches_from(all) {
            Ok(matches) => matches,
            Err(e) => {
                let _ = e.print();
                return u8::from(e.use_stderr());
            }
        };
        match self.act(&matches) {
            Ok(status) => status,
            Err(message) => {
                let _ = writeln!(anstream::stderr(), "{called}: {message}");
                1
            }
        }
    }

    fn command(&self, called: &str) -> Command {
        let common = [
            Arg::new("root")
                .long("root")
                .value_name("DIR")
                .value_parser(clap::value_parser!(PathBuf))
                .help("The root file system: a directory"),
            Arg::new("dry-run")
                .short('n')
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .help("Show what would change, change nothing"),
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Show what changes as JSON on standard output"),
        ];
        let refused = ["image", "image-policy"].iter().chain(self.refused).map(|name| {
            Arg::new(*name).long(*name).num_args(0..=1).action(ArgAction::Append).hide(true)
        });
        Command::new(called.to_owned())
            .version(env!("CARGO_PKG_VERSION"))
            .about(self.about)
            .infer_long_args(true)
            .args_override_self(true)
            .args(common)
            .args((self.options)())
            .args(refused)
    }

    fn act(&self, matches: &ArgMatches) -> Result<u8, String> {
        for name in ["image", "image-policy"].iter().chain(self.refused) {
            if matches.contains_id(name) {
                return Err(format!("--{name} is not supported by mkgold yet"));
            }
        }
        let root = matches.get_one::<PathBuf>("root").filter(|root| *root != Path::new("/"));
        let Some(root) = root else {
            return Err("--root=DIR is missing: mkgold prepares systems that do not run; on a \
                        running one, systemd's own tool does it"
                .into());
        };
        let root = Root::open(root).map_err(|e| e.to_string())?;
        let before = root.tree().map_err(|e| e.to_string())?;
        let mut after = before.clone();
        let done = (self.edit)(&mut after, matches, &World::now()?)?;
        let plan = Plan::between(&before, &after);
        drop(before);
        for note in &done.notes {
            let _ = writeln!(anstream::stderr(), "{note}");
        }
        if !matches.get_flag("dry-run") {
            root.apply(&plan).map_err(|e| e.to_string())?;
        }
        show(&plan, matches, &done.answer)?;
        Ok(done.status)
    }
}

fn show(plan: &Plan, matches: &ArgMatches, answer: &[String]) -> Result<(), String> {
    let mut lines = answer.to_vec();
    if matches.get_flag("json") {
        lines = vec![serde_json::to_string(plan).map_err(|e| e.to_string())?];
    } else if matches.get_flag("dry-run") {
        lines.extend(plan.0.iter().map(ToString::to_string));
    }
    let mut out = std::io::stdout().lock();
    lines.iter().try_for_each(|line| writeln!(out, "{line}")).map_err(|e| e.to_string())
}

impl World {
    fn now() -> Result<World, String> {
        let mut random = [0; 32];
        // Cannot be interrupted or cut short for so few bytes.
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| format!("no random numbers: {e}"))?;
        let epoch = super::variable("SOURCE_DATE_EPOCH")
            .map(|text| text.parse::<i64>().map_err(|e| format!("SOURCE_DATE_EPOCH={text}: {e}")));
        let now = match epoch.transpose()? {
            Some(epoch) => epoch,
            None => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
            }
        };
        Ok(World { now: Mtime::secs(now), random })
    }
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn value(name: &'static str, metavar: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(metavar)
        .allow_hyphen_values(true)
        .action(ArgAction::Set)
        .help(help)
}
