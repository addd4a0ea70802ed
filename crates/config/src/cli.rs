//! The settings as command-line options, derived from the table.
//!
//! Names are mkosi's. What is not a setting (`--force`, `--directory`, verbs) is
//! the command's own.

use crate::table::{Kind, SETTINGS, Section, Setting, State};

/// An option for the command's argument parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionSpec {
    /// The setting's name.
    pub setting: &'static str,
    /// The long option without dashes.
    pub long: &'static str,
    /// The short option.
    pub short: Option<char>,
    /// What the short option stands for if it takes no argument (`-i` is
    /// `--incremental=yes`); `None` if it takes one as the long option does.
    pub short_value: Option<&'static str>,
    /// What the argument is called.
    pub metavar: &'static str,
    /// The help text.
    pub help: String,
    /// The section, for grouping.
    pub section: Section,
    /// Whether it adds up when repeated.
    pub repeatable: bool,
    /// The values that work, for completion; empty if they are not a closed set.
    pub values: Vec<&'static str>,
    /// Whether it does anything; options that do not stay out of short help.
    pub works: bool,
}

/// Every setting that has an option, in the order of the table.
pub fn cli_options() -> Vec<OptionSpec> {
    SETTINGS.iter().filter(|s| !s.long.is_empty()).map(|s| option(s)).collect()
}

fn option(s: &'static Setting) -> OptionSpec {
    let help = match s.state {
        State::Works => s.help.to_string(),
        State::NoEffect(reason) => format!("{} (no effect: {reason})", s.help),
        State::Refused(_) => format!("{} (not supported yet)", s.help),
        State::Old(instead) => format!("{} (old: {instead})", s.help),
        State::Removed(instead) => format!("{} (removed: {instead})", s.help),
    };
    OptionSpec {
        setting: s.name,
        long: s.long,
        short: s.short,
        short_value: s.flag,
        metavar: s.metavar,
        help,
        section: s.section,
        repeatable: s.is_list(),
        values: values(s),
        works: s.state == State::Works,
    }
}

/// The values of a closed set, as a person would write them.
pub fn values(s: &Setting) -> Vec<&'static str> {
    match s.kind {
        Kind::Bool => vec!["yes", "no"],
        Kind::Choice(c) => {
            let stands_for_bool =
                |n: &&str| (*n == c.yes && *n == "enabled") || (*n == c.no && *n == "disabled");
            let mut values: Vec<_> =
                c.works.iter().copied().filter(|n| !stands_for_bool(n)).collect();
            let mut add = |wanted: bool, name| {
                if wanted && !values.contains(&name) {
                    values.push(name);
                }
            };
            add(!c.yes.is_empty(), "yes");
            add(!c.no.is_empty(), "no");
            values
        }
        _ => Vec::new(),
    }
}

/// The setting that an argument names: `--format`, `format`, `-t` or `Format`.
pub fn find(option: &str) -> Option<&'static Setting> {
    let long = option.strip_prefix("--").unwrap_or(option);
    let short = option.strip_prefix('-').filter(|s| s.chars().count() == 1);
    let is = |s: &&&Setting| {
        s.name == option
            || (!s.long.is_empty() && s.long == long)
            || s.short.is_some_and(|c| short.is_some_and(|o| o.starts_with(c)))
    };
    SETTINGS.iter().find(is).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_mkosi_names() {
        let options = cli_options();
        for (long, short) in [
            ("distribution", Some('d')),
            ("release", Some('r')),
            ("format", Some('t')),
            ("output", Some('o')),
            ("output-directory", Some('O')),
            ("package", Some('p')),
            ("profile", None),
            ("include", Some('I')),
            ("environment", Some('E')),
            ("incremental", Some('i')),
            ("autologin", Some('a')),
            ("with-tests", Some('T')),
            ("mirror", Some('m')),
        ] {
            let found = options.iter().find(|o| o.long == long).expect(long);
            assert_eq!(found.short, short, "{long}");
        }
        let incremental = options.iter().find(|o| o.long == "incremental").unwrap();
        assert_eq!(incremental.short_value, Some("yes"));
        assert_eq!(incremental.values, ["no", "yes", "strict"]);
    }

    #[test]
    fn an_option_is_found_by_each_of_its_names() {
        for name in ["--format", "format", "-t", "Format"] {
            assert_eq!(find(name).map(|s| s.name), Some("Format"), "{name}");
        }
        assert!(find("--frmat").is_none());
        assert!(find("-").is_none());
        assert!(find("").is_none());
    }
}
