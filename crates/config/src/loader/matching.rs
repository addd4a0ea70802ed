//! `[Match]`, `[TriggerMatch]`, `[Assert]` and `[TriggerAssert]`.
//!
//! Conditions are evaluated before any setting of their file is applied. Within
//! a section all plain conditions and at least one of those with a pipe must
//! hold; all `[Match]` sections and at least one `[TriggerMatch]` must hold.

use std::path::Path;

use super::Loader;
use super::specifier::MAIN_IMAGE;
use crate::diagnostic::{Diagnostic, Origin, did_you_mean};
use crate::ini::Entry;
use crate::table::{self, Kind, MatchKind, SETTINGS, Setting};
use crate::types::Architecture;
use crate::value::{self, Problem, Surroundings, Value};
use crate::{glob, version};

/// Conditions that are no setting.
const OTHERS: [&str; 4] = ["PathExists", "HostArchitecture", "Image", "BuildSources"];
/// Conditions that mkosi has and mkgold refuses.
const REFUSED: [(&str, &str); 1] =
    [("SystemdVersion", "what is built must not depend on the build machine's systemd")];

/// Whether a section holds conditions.
pub(super) fn is_condition(section: &str) -> bool {
    matches!(section, "Match" | "TriggerMatch" | "Assert" | "TriggerAssert")
}

/// A section's conditions, folded.
#[derive(Default)]
struct Folded {
    failed: bool,
    triggers: Option<bool>,
}

impl Folded {
    fn add(&mut self, triggering: bool, holds: bool) {
        match triggering {
            true => self.triggers = Some(self.triggers.unwrap_or(false) || holds),
            false => self.failed |= !holds,
        }
    }

    fn holds(&self) -> bool {
        !self.failed && self.triggers.unwrap_or(true)
    }
}

impl Loader<'_> {
    /// Whether a file's conditions hold. A condition that cannot be evaluated is
    /// reported and taken as failed.
    pub(super) fn matches(&mut self, file: &Path, entries: &[Entry]) -> bool {
        let matched = self.sections(file, entries, "Match", "TriggerMatch").is_none();
        if !matched {
            return false;
        }
        if let Some(entry) = self.sections(file, entries, "Assert", "TriggerAssert") {
            let at = entry.locate(file, &entry.joined());
            let message =
                format!("{}={} is asserted and does not hold", entry.key.text, entry.joined());
            self.report(Diagnostic::error(&at, entry.joined(), message));
            return false;
        }
        true
    }

    /// The entry that makes the sections of a pair fail, if they do.
    fn sections<'e>(
        &mut self,
        file: &Path,
        entries: &'e [Entry],
        all: &str,
        any: &str,
    ) -> Option<&'e Entry> {
        let mut failed = None;
        let mut triggered = None;
        let relevant = entries.iter().filter(|e| e.section == all || e.section == any);
        let relevant: Vec<&Entry> = relevant.collect();
        for section in relevant.chunk_by(|a, b| a.section_index == b.section_index) {
            let mut folded = Folded::default();
            for entry in section {
                let (triggering, holds) = self.condition(file, entry);
                folded.add(triggering, holds);
            }
            if section[0].section == any {
                triggered = Some(triggered.unwrap_or(false) || folded.holds());
            } else if !folded.holds() {
                failed = failed.or(Some(section[0]));
            }
        }
        let untriggered = relevant.iter().find(|e| e.section == any).copied();
        failed.or(untriggered.filter(|_| triggered == Some(false)))
    }

    /// Whether a condition is a triggering one, and whether it holds.
    fn condition(&mut self, file: &Path, entry: &Entry) -> (bool, bool) {
        let joined = entry.joined();
        let text = joined.strip_prefix('|').unwrap_or(&joined);
        let triggering = text.len() != joined.len();
        if text.trim().is_empty() {
            let problem = Problem::new(text, "a condition without a value");
            self.condition_problem(&entry.locate(file, text), problem);
            return (triggering, false);
        }
        let (text, negated) = match text.strip_prefix('!') {
            // A version's "!=" is an operator; negating its "=" is the same.
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let text = match self.expand(text, file) {
            Ok((text, _)) => text,
            Err(problem) => {
                self.condition_problem(&entry.locate(file, &problem.span), problem);
                return (triggering, false);
            }
        };
        match self.evaluate(file, entry, &text) {
            Ok(holds) => (triggering, holds != negated),
            Err(problem) => {
                self.condition_problem(&entry.locate(file, &problem.span), problem);
                (triggering, false)
            }
        }
    }

    fn condition_problem(&mut self, at: &Origin, problem: Problem) {
        let diagnostic = Diagnostic::error(at, problem.span, problem.message);
        self.report(diagnostic.help_opt(problem.help));
    }

    fn evaluate(&mut self, file: &Path, entry: &Entry, text: &str) -> Result<bool, Problem> {
        let name = entry.key.text.as_str();
        match name {
            "PathExists" => {
                let around = self.around();
                return Ok(self.files.exists(&value::path(text, &around)?));
            }
            "HostArchitecture" => {
                let host = self.facts.architecture;
                let wanted = self.parsed(table::get("Architecture"), text)?;
                return Ok(wanted == host.as_str());
            }
            "Image" => return Ok(text == MAIN_IMAGE),
            "BuildSources" => return Ok(self.has_build_source(text)),
            _ => {}
        }
        let Some((setting, kind)) = self.match_setting(file, entry)? else {
            return Ok(false);
        };
        match kind {
            MatchKind::Equal if setting.name == "Architecture" => {
                let current = self.current("Architecture").unwrap_or_default();
                let current = Architecture::from_name(&current).unwrap_or(self.facts.architecture);
                self.architecture(text, current)
            }
            MatchKind::Equal => {
                let wanted = self.parsed(setting, text)?;
                Ok(self.current(setting.name).as_deref() == Some(wanted.as_str()))
            }
            MatchKind::Contains => Ok(self.contains(setting, text)),
            MatchKind::Glob => {
                Ok(self.current(setting.name).is_some_and(|v| glob::matches(text, &v)))
            }
            MatchKind::Version => {
                Ok(self.current(setting.name).is_some_and(|v| version::satisfies(&v, text)))
            }
            MatchKind::Environment => Ok(self.variable(text)),
        }
    }

    /// The setting that a condition is about; an old name is warned about.
    fn match_setting(
        &mut self,
        file: &Path,
        entry: &Entry,
    ) -> Result<Option<(&'static Setting, MatchKind)>, Problem> {
        let name = entry.key.text.as_str();
        let found = table::find(name);
        if let Some((setting, old)) = found
            && let Some(kind) = setting.matching
        {
            if old {
                let at = entry.key_origin(file);
                let message = format!("{name}= is an old name");
                let help = format!("write {}=", setting.name);
                self.report(Diagnostic::warning(&at, name, message).help(help));
            }
            return Ok(Some((setting, kind)));
        }
        let at = entry.key_origin(file);
        let diagnostic = match REFUSED.iter().find(|(n, _)| *n == name) {
            Some((_, why)) => {
                let message = format!(
                    "[{}] {name}= is known to mkosi, not supported by mkgold yet",
                    entry.section
                );
                Diagnostic::error(&at, name, message).help(*why)
            }
            None => {
                let conditions = SETTINGS.iter().filter(|s| s.matching.is_some()).map(|s| s.name);
                let known: Vec<_> = conditions.chain(OTHERS).collect();
                let help = did_you_mean(name, known.iter().copied())
                    .unwrap_or_else(|| format!("conditions are {}", known.join(", ")));
                let message = format!("{name}= cannot be used in [{}]", entry.section);
                Diagnostic::error(&at, name, message).help(help)
            }
        };
        self.report(diagnostic);
        Ok(None)
    }

    fn around(&self) -> Surroundings<'_> {
        Surroundings { files: self.files, directory: &self.cwd, facts: self.facts }
    }

    /// A condition's text in the form that [`Loader::current`] gives. Values that
    /// mkgold refuses to build may be asked for: they just do not match.
    fn parsed(&self, setting: &Setting, text: &str) -> Result<String, Problem> {
        match setting.kind {
            Kind::Choice(choice) => Ok(value::choose(choice, text)?.to_string()),
            _ => Ok(text.to_string()),
        }
    }

    fn architecture(&self, text: &str, current: Architecture) -> Result<bool, Problem> {
        if text == "uefi" {
            return Ok(current.efi().is_some());
        }
        let wanted = self.parsed(table::get("Architecture"), text)?;
        Ok(wanted == current.as_str())
    }

    fn contains(&self, setting: &Setting, text: &str) -> bool {
        let is = |v: &Value| matches!(v, Value::Text(t) if t == text);
        self.layers.values(setting).iter().any(|s| is(&s.value))
    }

    /// Whether some source is shown to scripts at this place below `$SRCDIR`.
    fn has_build_source(&self, text: &str) -> bool {
        let wanted: &Path = text.trim_start_matches('/').as_ref();
        let stored = self.layers.values(table::get("BuildSources"));
        let is = |target: &Path| target.strip_prefix("/").unwrap_or(target) == wanted;
        stored.iter().any(|s| matches!(&s.value, Value::Tree { target: Some(t), .. } if is(t)))
    }

    fn variable(&self, text: &str) -> bool {
        let (name, wanted) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let values = self.layers.values(table::get("Environment"));
        let found = values.iter().rev().find_map(|s| match &s.value {
            Value::Pair { name: n, value } if n == name => Some(value.as_str()),
            _ => None,
        });
        found.is_some_and(|v| wanted.is_none_or(|w| w == v))
    }
}
