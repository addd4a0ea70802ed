//! `build`.

use std::collections::BTreeMap;
use std::time::Instant;

use build::Built;
use build::pipeline;

use super::{Failure, Outcome, guarded, print};
use crate::arguments::Arguments;

/// Builds the image.
pub fn run(arguments: &Arguments) -> Outcome {
    guarded(arguments, |loaded, options, view| {
        let start = Instant::now();
        match pipeline::build(&loaded.config, &options, view) {
            Ok(built) => done(arguments, &built, options.privilege.mode(), start),
            Err(error) => Err(Failure::Work(Box::new(error), view.tail())),
        }
    })
}

fn done(arguments: &Arguments, built: &Built, mode: sandbox::Mode, start: Instant) -> Outcome {
    if arguments.json {
        let times: BTreeMap<_, _> =
            built.times.iter().map(|(name, time)| (*name, time.as_secs_f64())).collect();
        let line = serde_json::json!({
            "event": "built", "outputs": built.outputs, "packages": built.packages,
            "sealed": built.sealed.len(), "seconds": times, "unchanged": built.unchanged,
            "privilege": mode.name(),
        });
        return print(&line.to_string());
    }
    if built.unchanged {
        let image = built.outputs.last().map_or(String::new(), |p| p.display().to_string());
        return print(&format!("nothing changed: {image} is up to date (-ff builds it again)"));
    }
    let mut text = format!(
        "{} packages, {} leftovers sealed, {:.2} s",
        built.packages,
        built.sealed.len(),
        start.elapsed().as_secs_f64()
    );
    let times: Vec<_> =
        built.times.iter().map(|(n, t)| format!("{n} {:.2}", t.as_secs_f64())).collect();
    text.push_str(&format!(" ({})", times.join(", ")));
    for path in &built.outputs {
        let size = std::fs::metadata(path).map_or(0, |m| m.len());
        text.push_str(&format!("\n  {} ({} bytes)", path.display(), size));
    }
    print(&text)
}
