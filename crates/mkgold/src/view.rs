//! What happens, for people and for scripts.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use report::{Event, Outcome, Reporter, Unit};

/// The last lines that programs printed, shown if the build fails.
const TAIL: usize = 30;

/// A reporter that shows.
pub struct View {
    json: bool,
    bars: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    steps: BTreeMap<String, (Instant, String, ProgressBar)>,
    tail: Vec<String>,
}

impl View {
    /// JSON lines on standard output, or lines on standard error: live ones on a
    /// terminal, otherwise one for each step that ends.
    pub fn new(json: bool) -> View {
        let bars = MultiProgress::new();
        if json || !std::io::stderr().is_terminal() {
            bars.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
        View { json, bars, state: Mutex::new(State::default()) }
    }

    /// The last lines that programs printed.
    pub fn tail(&self) -> Vec<String> {
        self.state.lock().expect("no panic while showing").tail.clone()
    }

    fn line(&self, text: &str) {
        if self.bars.is_hidden() {
            let _ = writeln!(anstream::stderr(), "{text}");
        } else {
            let _ = self.bars.println(text);
        }
    }

    fn begin(&self, step: String, what: String, total: Option<u64>, unit: Unit) {
        let template = match (total, unit) {
            (None, _) => "  {spinner} {prefix} {wide_msg} {elapsed}",
            (_, Unit::Bytes) => "  {spinner} {prefix} {wide_msg} {bytes}/{total_bytes} {elapsed}",
            (_, Unit::Items) => "  {spinner} {prefix} {wide_msg} {pos}/{len} {elapsed}",
        };
        let style = ProgressStyle::with_template(template).expect("a well-formed template");
        let bar = self.bars.add(ProgressBar::new(total.unwrap_or(0)).with_style(style));
        bar.set_prefix(step.clone());
        bar.set_message(what.clone());
        if !self.bars.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        let mut state = self.state.lock().expect("no panic while showing");
        state.steps.insert(step, (Instant::now(), what, bar));
    }

    fn end(&self, step: &str, outcome: Outcome) {
        let mut state = self.state.lock().expect("no panic while showing");
        let Some((start, what, bar)) = state.steps.remove(step) else { return };
        drop(state);
        bar.finish_and_clear();
        self.bars.remove(&bar);
        let time = format!("{:.2} s", start.elapsed().as_secs_f64());
        let mark = match outcome {
            Outcome::Done => "✓",
            Outcome::Cached => "=",
            Outcome::Failed => "✗",
        };
        self.line(&format!("  {mark} {step:10} {what:50} {time:>9}"));
    }

    fn output(&self, source: &str, line: &str) {
        let mut state = self.state.lock().expect("no panic while showing");
        state.tail.push(format!("{source}: {line}"));
        if state.tail.len() > TAIL {
            state.tail.remove(0);
        }
    }
}

impl Reporter for View {
    fn event(&self, event: Event) {
        if self.json {
            let line = serde_json::to_string(&event).expect("an event serialises");
            let _ = writeln!(std::io::stdout(), "{line}");
            return;
        }
        match event {
            Event::Begin { step, what, total, unit } => self.begin(step, what, total, unit),
            Event::Progress { step, done } => {
                let state = self.state.lock().expect("no panic while showing");
                if let Some((_, _, bar)) = state.steps.get(&step) {
                    bar.set_position(done);
                }
            }
            Event::End { step, outcome } => self.end(&step, outcome),
            Event::Warning { message } => self.line(&format!("  ! {message}")),
            Event::Note { message } => self.line(&format!("    {message}")),
            Event::Output { source, line } => self.output(&source, &line),
        }
    }
}
