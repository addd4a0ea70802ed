//! How libraries tell the outside what happens: progress, warnings, notes.
//!
//! Libraries neither print nor exit. Whatever takes longer than a moment gets a
//! `&dyn Reporter` and calls it; the command decides whether that becomes a
//! progress bar, a JSON line or nothing.
//!
//! Data flow: library → [`Reporter`] → (terminal view | JSON lines | test
//! recorder). Nothing flows back: a reporter cannot influence a build.

use std::sync::Mutex;

use serde::Serialize;

/// Something that happened and that a person or a script may want to know.
///
/// A *step* is a unit of work with a name that is stable across versions
/// (`fetch`, `unpack`, `configure` …): scripts match on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A step began. `total` is in the unit of `unit`, where it is known.
    Begin {
        /// Stable name of the step.
        step: String,
        /// What it works on, for people.
        what: String,
        /// How much there is to do, if known.
        total: Option<u64>,
        /// What `total` and the progress count.
        unit: Unit,
    },
    /// `done` units of the step are finished.
    Progress {
        /// The step's name as given to `Begin`.
        step: String,
        /// Units done so far, not a difference.
        done: u64,
    },
    /// The step is over.
    End {
        /// The step's name as given to `Begin`.
        step: String,
        /// How it ended.
        outcome: Outcome,
    },
    /// Something deserves attention but does not stop the work.
    Warning {
        /// One sentence: what, where, and what to do.
        message: String,
    },
    /// Something a person may want to read; not a problem.
    Note {
        /// One sentence.
        message: String,
    },
    /// A line that a program run in the sandbox printed.
    Output {
        /// Which program (script, package) printed it.
        source: String,
        /// The line, without its newline.
        line: String,
    },
}

/// What a step counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Bytes, shown with binary prefixes.
    Bytes,
    /// Pieces: packages, files, partitions.
    Items,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The work was done.
    Done,
    /// A cache held the result.
    Cached,
    /// It failed; the error follows as the function's result.
    Failed,
}

/// Where libraries send what happens. Implementations must not panic.
pub trait Reporter: Send + Sync {
    /// Takes one event. May be called from any thread.
    fn event(&self, event: Event);
}

/// Conveniences, so that callers need not spell the enum.
impl dyn Reporter + '_ {
    /// Reports a warning.
    pub fn warn(&self, message: impl Into<String>) {
        self.event(Event::Warning { message: message.into() });
    }

    /// Reports a note.
    pub fn note(&self, message: impl Into<String>) {
        self.event(Event::Note { message: message.into() });
    }

    /// Begins a step. It ends as `Failed` when the guard is dropped without
    /// [`Step::done`] or [`Step::cached`], so an early `?` is reported right.
    pub fn step(
        &self,
        step: &'static str,
        what: impl Into<String>,
        total: Option<u64>,
        unit: Unit,
    ) -> Step<'_> {
        self.event(Event::Begin { step: step.into(), what: what.into(), total, unit });
        Step { reporter: self, step, outcome: Outcome::Failed }
    }
}

/// A running step; see [`Reporter`].
pub struct Step<'a> {
    reporter: &'a dyn Reporter,
    step: &'static str,
    outcome: Outcome,
}

impl Step<'_> {
    /// Reports that `done` units in all are finished.
    pub fn progress(&self, done: u64) {
        self.reporter.event(Event::Progress { step: self.step.into(), done });
    }

    /// Ends the step: the work was done.
    pub fn done(mut self) {
        self.outcome = Outcome::Done;
    }

    /// Ends the step: a cache held the result.
    pub fn cached(mut self) {
        self.outcome = Outcome::Cached;
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.reporter.event(Event::End { step: self.step.into(), outcome: self.outcome });
    }
}

/// Swallows everything: for callers that show nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Reporter for Silent {
    fn event(&self, _: Event) {}
}

/// Keeps everything: for tests.
#[derive(Debug, Default)]
pub struct Recorder {
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    /// The events so far, in the order in which they came.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().expect("no panic while recording").clone()
    }

    /// The messages of the warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        let warning = |e| match e {
            Event::Warning { message } => Some(message),
            _ => None,
        };
        self.events().into_iter().filter_map(warning).collect()
    }
}

impl Reporter for Recorder {
    fn event(&self, event: Event) {
        self.events.lock().expect("no panic while recording").push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_left_early_has_failed() {
        let recorder = Recorder::default();
        let reporter: &dyn Reporter = &recorder;
        drop(reporter.step("fetch", "packages", Some(3), Unit::Items));
        reporter.step("unpack", "packages", None, Unit::Bytes).done();
        let ends: Vec<_> = recorder
            .events()
            .into_iter()
            .filter_map(|e| match e {
                Event::End { outcome, .. } => Some(outcome),
                _ => None,
            })
            .collect();
        assert_eq!(ends, [Outcome::Failed, Outcome::Done]);
    }
}
