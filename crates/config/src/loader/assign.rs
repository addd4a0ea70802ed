//! One assignment, from a file or the command line, into its layer.

use std::path::Path;

use super::{Loader, MAIN_IMAGE, MAX_VALUES};
use crate::diagnostic::{COMMAND_LINE, Diagnostic, Origin, did_you_mean, nearest};
use crate::ini::Entry;
use crate::layer::Stored;
use crate::table::{self, Choice, Kind, SETTINGS, Scope, Section, Setting, State};
use crate::value::{self, Problem, Surroundings, Value};
use crate::{Request, cli};

/// The older name of `[Runtime]`.
const HOST: &str = "Host";

/// What mkosi calls a section that is not one of ours.
const OTHER_SECTIONS: [&str; 6] =
    ["Match", "TriggerMatch", "Assert", "TriggerAssert", "UKIProfile", HOST];

impl Loader<'_> {
    /// One `Key=value` of a file.
    pub(super) fn entry(&mut self, file: &Path, entry: &Entry) {
        if !self.section_known(file, entry) {
            return;
        }
        let name = &entry.key.text;
        let Some((setting, old)) = table::find(name) else {
            let diagnostic = unknown_setting(&entry.key_origin(file), name);
            self.report(diagnostic);
            return;
        };
        self.check_key(file, entry, setting, old);
        if self.image != MAIN_IMAGE && matches!(setting.scope(), Scope::Universal | Scope::Main) {
            let message = format!("{}= cannot be set for one image of several", setting.name);
            let diagnostic = Diagnostic::error(&entry.key_origin(file), name, message);
            self.report(diagnostic.help("set it in the project's own mkosi.conf"));
            return;
        }
        let joined = entry.joined();
        let expanded = match self.expand(&joined, file) {
            Ok((text, warnings)) => {
                for w in warnings {
                    let at = entry.locate(file, &w.span);
                    self.report(Diagnostic::warning(&at, &w.span, w.message).help_opt(w.help));
                }
                text
            }
            Err(problem) => {
                let at = entry.locate(file, &problem.span);
                self.report(
                    Diagnostic::error(&at, &problem.span, problem.message).help_opt(problem.help),
                );
                return;
            }
        };
        let finder = entry.finder(file);
        let locate = |item: &str| finder.find(item);
        if let Some(values) = self.values_of(setting, &expanded, expanded.is_empty(), &locate) {
            self.assign(setting.target(), values);
        }
    }

    /// Whether the section may hold settings; reports if not. `[X-…]` is left to
    /// others, as in systemd.
    fn section_known(&mut self, file: &Path, entry: &Entry) -> bool {
        let section = entry.section.as_str();
        if section.starts_with("X-") {
            return false;
        }
        if Section::ALL.iter().any(|s| s.as_str() == section) || section == HOST {
            return true;
        }
        let at = crate::ini::origin(file, &entry.section_at, entry.section_at.column as usize);
        if self.diagnostics.iter().any(|d| d.file == at.file && d.line == at.line) {
            return false;
        }
        let names = Section::ALL.iter().map(|s| s.as_str()).chain(OTHER_SECTIONS);
        let help = did_you_mean(section, names).unwrap_or_else(|| {
            let names: Vec<_> = Section::ALL.iter().map(|s| s.as_str()).collect();
            format!("sections are {}; name it X-{section} to have it ignored", names.join(", "))
        });
        let message = match section {
            "UKIProfile" => "[UKIProfile] is known to mkosi, not supported by mkgold yet".into(),
            _ => format!("[{section}] is not a section"),
        };
        self.report(Diagnostic::error(&at, section, message).help(help));
        false
    }

    /// Old names and wrong sections are accepted, as mkosi does, with a warning.
    fn check_key(&mut self, file: &Path, entry: &Entry, setting: &Setting, old: bool) {
        let section = match entry.section.as_str() {
            HOST => Section::Runtime.as_str(),
            section => section,
        };
        if section != setting.section.as_str() {
            let message = format!(
                "{}= belongs into [{}], not [{}]",
                setting.name,
                setting.section.as_str(),
                entry.section
            );
            let at = entry.key_origin(file);
            self.report(Diagnostic::warning(&at, &entry.key.text, message));
        }
        if old {
            let message = format!("{}= is an old name", entry.key.text);
            let help = format!("write {}=", setting.name);
            let at = entry.key_origin(file);
            self.report(Diagnostic::warning(&at, &entry.key.text, message).help(help));
        }
    }

    /// The arguments of the command line, into the upper layer.
    pub(super) fn arguments(&mut self, request: &Request) {
        for argument in &request.args {
            let shown = argument.to_string();
            let Some(setting) = cli::find(&argument.option) else {
                let at = Origin::argument(&shown, 1);
                let options = SETTINGS.iter().filter(|s| !s.long.is_empty()).map(|s| s.long);
                let bare = argument.option.trim_start_matches('-');
                let help = nearest(bare, options).map(|o| format!("did you mean \"--{o}\"?"));
                let message = format!("{} is not an option", argument.option);
                self.report(Diagnostic::error(&at, &argument.option, message).help_opt(help));
                continue;
            };
            let text = argument.value.as_str();
            let start = shown.len() - text.len();
            let entry = Entry::argument(&shown, start);
            let finder = entry.finder(Path::new(COMMAND_LINE));
            let locate = |item: &str| finder.find(item);
            if let Some(values) = self.values_of(setting, text, text.is_empty(), &locate) {
                self.layers.upper.assign(setting.target(), values);
            }
        }
    }

    /// Parses a value: `Some(None)` for an empty assignment, `None` if it was
    /// reported or has nothing to store.
    fn values_of(
        &mut self,
        setting: &'static Setting,
        text: &str,
        empty: bool,
        locate: &dyn Fn(&str) -> Origin,
    ) -> Option<Option<Vec<Stored>>> {
        let scalar_empty = !setting.is_list() && text.trim().is_empty();
        if empty || scalar_empty {
            return Some(None);
        }
        if !self.known(setting, text, locate) {
            return None;
        }
        let files = self.files;
        let cwd = self.cwd.clone();
        let around = Surroundings { files, directory: &cwd, facts: self.facts };
        let words = match value::split(setting, text) {
            Ok(words) => words,
            Err(p) => return self.problem(&locate(&p.span), p),
        };
        let mut stored = Vec::with_capacity(words.len());
        let mut failed = false;
        for word in &words {
            match value::parse(setting, word, &around) {
                Ok(values) => {
                    let origin = locate(word);
                    self.refused_values(setting, word, &values, &origin);
                    let with = |value| Stored { value, origin: origin.clone() };
                    stored.extend(values.into_iter().map(with));
                }
                Err(p) => {
                    failed = true;
                    self.problem::<()>(&locate(&p.span), p);
                }
            }
        }
        self.count(stored.len());
        if setting.name == "Include" {
            return self.include(stored);
        }
        (!failed).then_some(Some(stored))
    }

    fn problem<T>(&mut self, at: &Origin, problem: Problem) -> Option<T> {
        let diagnostic = Diagnostic::error(at, problem.span, problem.message);
        self.report(diagnostic.help_opt(problem.help));
        None
    }

    pub(super) fn count(&mut self, new: usize) {
        self.values += new;
        if self.values > MAX_VALUES {
            let project = self.project.to_path_buf();
            self.stop(&project, format!("more than {MAX_VALUES} values"));
        }
    }

    /// `Include=` adds up and is never emptied: what was read was read.
    fn include(&mut self, stored: Vec<Stored>) -> Option<Option<Vec<Stored>>> {
        for Stored { value, origin } in stored {
            if let Value::Path(path) = value {
                self.includes.push((path, origin));
            }
        }
        None
    }

    /// Reports a value that mkosi knows and mkgold cannot carry out.
    fn refused_values(
        &mut self,
        setting: &'static Setting,
        word: &str,
        values: &[Value],
        at: &Origin,
    ) {
        if !matches!(setting.state, State::Works | State::NoEffect(_)) {
            return;
        }
        let (what, help) = match setting.kind {
            Kind::Choice(choice) if values.iter().any(|v| is_refused(choice, v)) => {
                (choice.what, format!("supported: {}", choice.works.join(", ")))
            }
            Kind::ToolsTree if values.iter().any(|v| matches!(v, Value::Path(_))) => {
                ("a tree of tools", "mkgold brings its tools: remove the setting".to_string())
            }
            _ => return,
        };
        let message = format!("{word:?} is {what} known to mkosi, not supported by mkgold yet");
        self.report(Diagnostic::unsupported(at, word, message).help(help));
    }

    /// Whether the value can be read; reports if not, and if it cannot be carried out.
    fn known(
        &mut self,
        setting: &'static Setting,
        text: &str,
        locate: &dyn Fn(&str) -> Origin,
    ) -> bool {
        if let Some(builtin) = builtin_include(setting, text) {
            let at = locate(builtin);
            let message = format!(
                "the builtin configuration {builtin:?} is known to mkosi, not supported by mkgold yet"
            );
            self.report(Diagnostic::error(&at, builtin, message));
            return false;
        }
        let (unsupported, message, help) = match setting.state {
            State::Works => return true,
            State::NoEffect(_) => {
                self.no_effect.entry(setting.name).or_insert_with(|| locate(text));
                return true;
            }
            State::Refused(off) if is_off(setting, text, off) => return true,
            State::Refused(off) => {
                let help = match off {
                    [] => "remove the setting".to_string(),
                    off => format!("remove the setting, or write {}", off.join(" or ")),
                };
                let message =
                    format!("{}= is known to mkosi, not supported by mkgold yet", setting.name);
                (true, message, help)
            }
            State::Old(instead) => {
                let message = format!("{}= is an old name, not supported by mkgold", setting.name);
                (true, message, instead.to_string())
            }
            State::Removed(instead) => {
                (false, format!("{}= is no setting any more", setting.name), instead.to_string())
            }
        };
        let at = locate(text);
        let span = text.lines().find(|l| !l.trim().is_empty()).unwrap_or("").trim();
        let diagnostic = Diagnostic::error(&at, span, message).help(help);
        self.report(Diagnostic { unsupported, ..diagnostic });
        unsupported
    }
}

/// Whether a value is one that mkosi knows and mkgold refuses.
fn is_refused(choice: &Choice, value: &Value) -> bool {
    matches!(value, Value::Text(text) if choice.refused.contains(&&**text))
}

/// Whether a refused setting is given a value that means "not used".
fn is_off(setting: &Setting, text: &str, off: &[&str]) -> bool {
    let text = text.trim();
    let canonical = match setting.kind {
        Kind::Bool => value::parse_bool(text).map(|b| if b { "yes" } else { "no" }),
        Kind::Choice(choice) if !setting.is_list() => value::choose(choice, text).ok(),
        _ => None,
    };
    off.contains(&canonical.unwrap_or(text))
}

/// The builtin configuration that an include names.
fn builtin_include<'a>(setting: &Setting, text: &'a str) -> Option<&'a str> {
    let names = ["mkosi-initrd", "mkosi-tools", "mkosi-vm", "mkosi-addon"];
    let words = text.split(|c: char| c == ',' || c.is_whitespace());
    (setting.name == "Include").then_some(words)?.find(|w| names.contains(w))
}

/// "is not a setting", with the nearest one: by edits, as an option's name, by a
/// part of the name, by likeness.
pub(super) fn unknown_setting(at: &Origin, name: &str) -> Diagnostic {
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return Diagnostic::error(at, name, "not a setting");
    }
    let names = SETTINGS.iter().map(|s| s.name);
    let near = abbreviated(name).or_else(|| nearest(name, names.clone()));
    let near = near.or_else(|| by_option(name));
    let contained = || {
        let lower = name.to_lowercase();
        let longer = |n: &&str| lower.len() >= 4 && n.to_lowercase().contains(&lower);
        names.clone().filter(longer).min_by_key(|n| n.len())
    };
    let similar = || {
        const ENOUGH: f64 = 0.88;
        let scored = names.clone().map(|n| (strsim::jaro_winkler(name, n), n));
        scored.filter(|(s, _)| *s >= ENOUGH).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, n)| n)
    };
    let found = near.or_else(contained).or_else(similar);
    let help = found.map(|n| format!("did you mean {n}=?"));
    Diagnostic::error(at, name, format!("{name}= is not a setting"))
        .help_opt(help.or(Some("mkgold help lists the settings".into())))
}

/// A directory that was written as `OutputDir`.
fn abbreviated(name: &str) -> Option<&'static str> {
    let stem = name.strip_suffix("Dir").or(name.strip_suffix("Dirs"))?;
    let is = |n: &&str| n.strip_prefix(stem).is_some_and(|rest| rest.starts_with("Director"));
    SETTINGS.iter().map(|s| s.name).find(is)
}

/// A setting that was written like its option (`package`, `output-directory`).
fn by_option(name: &str) -> Option<&'static str> {
    let option = name.to_lowercase().replace('_', "-");
    SETTINGS.iter().find(|s| s.long == option).map(|s| s.name)
}
