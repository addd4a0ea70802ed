//! The command line: mkosi's options, derived from the settings table, and our own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};
use config::{Argument, OptionSpec};

/// What may follow the options.
pub const VERBS: &[(&str, &str)] = &[
    ("build", "Build the image (the default); with --verify twice, and compare"),
    ("lock", "Write mkgold.lock; with --update renew it"),
    ("vm", "Boot the image in a virtual machine, its console on this terminal"),
    ("shell", "Run a shell, or the command that follows, in the image"),
    ("check", "Say whether an image, directory or tar archive is golden (mkgold check --help)"),
    ("inspect", "Show what an image is: partitions, kernels, entries, its first boot"),
    ("diff", "Show in what two images differ: disks, packages, every file"),
    ("repart", "Add and grow partitions of an image, or make one, as systemd-repart does"),
    ("firstboot", "Set locale, time zone, root's account … of an image, as systemd-firstboot does"),
    ("sysusers", "Make the users and groups that an image declares, as systemd-sysusers does"),
    ("tmpfiles", "Make the files that an image declares, as systemd-tmpfiles does before its boot"),
    ("preset-all", "Enable and disable an image's units as its presets say, as systemctl does"),
    ("machine-id-setup", "Give one machine its ID, as systemd-machine-id-setup does"),
    ("skeleton", "Make the top directories and links of an image that has only /usr"),
    ("growfs", "Grow a mounted file system to its device"),
    ("makefs", "Make a file system on a device or in a file where nothing is yet"),
    ("makeswap", "Make swap space where nothing is yet"),
    ("summary", "Show the configuration that would be built"),
    ("cat-config", "Show the configuration files that are read, and the embedded default"),
    ("why-setting", "Show a setting's value and where each part of it was written"),
    ("init", "Write a new project from a template: minimal (the default), server, uki-only"),
    ("dependencies", "List the packages of this machine that mkgold needs: none"),
    ("schema", "Print a JSON schema of the settings"),
    ("clean", "Remove outputs; with -f also this project's cached trees, with -ff its packages"),
    ("completion", "Print completions for a shell (bash, zsh, fish)"),
    ("documentation", "Print every setting with its documentation"),
    ("help", "Show this help"),
];

/// The command line, taken apart.
#[derive(Debug, Clone)]
pub struct Arguments {
    /// The verb.
    pub verb: String,
    /// What follows the verb.
    pub rest: Vec<OsString>,
    /// `-C`: where the project is.
    pub directory: Option<PathBuf>,
    /// `-f`, how often.
    pub force: u8,
    /// `--json`: events and answers for scripts.
    pub json: bool,
    /// `--locked`: the lock must fit.
    pub locked: bool,
    /// `--offline`: the cache alone.
    pub offline: bool,
    /// `--update`: of `lock`.
    pub update: bool,
    /// `--verify`: of `build`.
    pub verify: bool,
    /// `--privilege`: one way to run the sandbox.
    pub privilege: Option<String>,
    /// `--threads`.
    pub threads: Option<usize>,
    /// `--keep-unused`, in days; 0 for ever.
    pub keep_unused: u16,
    /// Settings, in the order in which they were given.
    pub settings: Vec<Argument>,
}

impl Arguments {
    /// Parses the process's arguments; ends it on `--help` and on errors.
    pub fn parse() -> Arguments {
        let matches = command().get_matches();
        Arguments::of(&matches)
    }

    /// The arguments of this command line, which must be right.
    #[cfg(test)]
    pub fn of_words(words: &[&str]) -> Arguments {
        Arguments::of(&command().try_get_matches_from(words).unwrap())
    }

    fn of(matches: &ArgMatches) -> Arguments {
        let mut words: Vec<OsString> =
            matches.get_many::<OsString>("verb").into_iter().flatten().cloned().collect();
        let verb = if words.is_empty() { OsString::from("build") } else { words.remove(0) };
        let flag = |name| matches.get_flag(name);
        Arguments {
            verb: verb.to_string_lossy().into_owned(),
            rest: words,
            directory: matches.get_one::<PathBuf>("directory").cloned(),
            force: matches.get_count("force"),
            json: flag("json"),
            locked: flag("locked"),
            offline: flag("offline"),
            update: flag("update"),
            verify: flag("verify"),
            privilege: matches.get_one::<String>("privilege").cloned(),
            threads: matches.get_one::<usize>("threads").copied(),
            keep_unused: *matches.get_one::<u16>("keep-unused").expect("it has a default"),
            settings: settings(matches),
        }
    }
}

/// The settings in the order of the command line: later ones win, lists grow.
fn settings(matches: &ArgMatches) -> Vec<Argument> {
    let mut ordered = BTreeMap::new();
    for option in config::cli_options() {
        let (Some(indices), Some(values)) =
            (matches.indices_of(option.long), matches.get_many::<String>(option.long))
        else {
            continue;
        };
        for (index, value) in indices.zip(values) {
            ordered.insert(index, Argument::new(format!("--{}", option.long), value));
        }
    }
    ordered.into_values().collect()
}

/// The parser; also what completions are made of.
pub fn command() -> Command {
    let verbs: String = VERBS.iter().map(|(verb, what)| format!("  {verb:14} {what}\n")).collect();
    let command = Command::new("mkgold")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Builds golden OS images: one image, many machines, each with its own identity")
        .after_help(format!(
            "Verbs:\n{verbs}\nSettings have mkosi's names: see `mkgold documentation`.\n\n\
             Exit codes: 0 done; 1 it failed; 2 the command line or the configuration is wrong; \
             3 --verify found a difference."
        ))
        .arg(
            Arg::new("verb")
                .value_name("VERB")
                .num_args(0..)
                .trailing_var_arg(true)
                .value_parser(clap::value_parser!(OsString))
                .help("What to do, and what it needs"),
        );
    let own = own_options();
    let settings = config::cli_options();
    settings.iter().fold(command.args(own), |command, option| command.arg(setting(option)))
}

fn own_options() -> Vec<Arg> {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    vec![
        Arg::new("directory")
            .short('C')
            .long("directory")
            .value_name("DIR")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Where the project is (default: here)"),
        Arg::new("force").short('f').long("force").action(ArgAction::Count).help(
            "Replace existing outputs; twice: build without cached trees. With clean: \
                 remove cached trees, too; twice: also packages",
        ),
        flag("json", "Print events and answers as JSON lines on standard output"),
        flag("locked", "Fail if mkgold.lock is missing or does not fit the configuration"),
        flag("offline", "Use what is in the cache; no network"),
        flag("update", "With lock: choose the newest versions"),
        flag("verify", "With build: build twice, differently, and fail (3) where the bytes differ"),
        Arg::new("threads")
            .long("threads")
            .value_name("N")
            .value_parser(clap::value_parser!(usize))
            .help("How many threads work (default: as many as CPUs)"),
        Arg::new("keep-unused")
            .long("keep-unused")
            .value_name("DAYS")
            .value_parser(clap::value_parser!(u16))
            .default_value("30")
            .help("How long the cache keeps what no build uses; 0: for ever"),
        Arg::new("privilege")
            .long("privilege")
            .value_name("MODE")
            .hide(true)
            .help("root, mapped-user, single-user or root-no-mount"),
    ]
}

fn setting(option: &OptionSpec) -> Arg {
    let arg = Arg::new(option.long)
        .long(option.long)
        .value_name(option.metavar)
        .action(ArgAction::Append)
        .num_args(1)
        .allow_hyphen_values(true)
        .hide_short_help(!option.works)
        .help(option.help.clone())
        .help_heading(option.section.as_str());
    let arg = match option.short {
        Some(short) if !matches!(short, 'C' | 'f' | 'h' | 'V') => arg.short(short),
        _ => arg,
    };
    match option.short_value {
        Some(value) => arg.num_args(0..=1).require_equals(true).default_missing_value(value),
        None => arg,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Arguments {
        Arguments::of_words(words)
    }

    #[test]
    fn the_parser_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn settings_keep_their_order() {
        let arguments = parse(&["mkgold", "-p", "a", "--release=sid", "-p", "b", "-i", "build"]);
        let shown: Vec<_> = arguments.settings.iter().map(ToString::to_string).collect();
        let expected = ["--package=a", "--release=sid", "--package=b", "--incremental=yes"];
        assert_eq!(shown, expected);
        assert_eq!(arguments.verb, "build");
    }

    #[test]
    fn what_follows_the_verb_is_the_verbs() {
        let arguments = parse(&["mkgold", "-C", "/x", "-ff", "shell", "ls", "-l"]);
        assert_eq!(arguments.rest, ["ls", "-l"]);
        assert_eq!((arguments.force, arguments.directory), (2, Some("/x".into())));
        assert_eq!(parse(&["mkgold"]).verb, "build");
    }
}
