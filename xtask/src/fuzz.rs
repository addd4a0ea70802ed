//! Fuzzing: every target of `fuzz/`, one after the other, from its committed seeds.

use std::path::Path;

use crate::rings::host_triple;
use crate::run::{cargo, command, root, run as run_command};

/// The version of cargo-fuzz that is known to work.
const CARGO_FUZZ: &str = "0.13.2";
/// How long a target runs unless said otherwise.
const SECONDS: u64 = 60;
/// What no input may exceed: one allocation and all memory, in MiB, and seconds.
const LIMITS: [&str; 3] = ["-malloc_limit_mb=256", "-rss_limit_mb=1024", "-timeout=25"];

/// `fuzz [SECONDS] [TARGET…]`.
pub fn run() -> Result<(), String> {
    let mut arguments: Vec<String> = std::env::args().skip(2).collect();
    let seconds = match arguments.first().and_then(|text| text.parse().ok()) {
        Some(seconds) => {
            arguments.remove(0);
            seconds
        }
        None => SECONDS,
    };
    install()?;
    let all = targets()?;
    if let Some(unknown) = arguments.iter().find(|name| !all.contains(name)) {
        return Err(format!("no target {unknown}; there are: {}", all.join(" ")));
    }
    let chosen = if arguments.is_empty() { &all } else { &arguments };
    chosen.iter().try_for_each(|target| fuzz(target, seconds))
}

/// The targets: one file each.
fn targets() -> Result<Vec<String>, String> {
    let dir = root().join("fuzz/fuzz_targets");
    let files = std::fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let names = files.filter_map(|file| Some(file.ok()?.path().file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

fn install() -> Result<(), String> {
    let installed =
        command("cargo-fuzz", &["--version"]).output().is_ok_and(|o| o.status.success());
    if installed {
        return Ok(());
    }
    run_command(&mut cargo(&["install", "--locked", "cargo-fuzz", "--version", CARGO_FUZZ]))
}

fn fuzz(target: &str, seconds: u64) -> Result<(), String> {
    let corpus = format!("fuzz/corpus/{target}");
    let seeds = format!("fuzz/seeds/{target}");
    std::fs::create_dir_all(root().join(&corpus)).map_err(|e| format!("{corpus}: {e}"))?;
    // Through rustup, for the sanitizer's flags are the nightly compiler's.
    let mut fuzz = command("rustup", &["run", "nightly", "cargo", "fuzz", "run", "--target"]);
    fuzz.arg(host_triple()?).arg(target).arg(&corpus);
    if root().join(&seeds).is_dir() {
        fuzz.arg(Path::new(&seeds));
    }
    fuzz.arg("--").arg(format!("-max_total_time={seconds}")).args(LIMITS);
    fuzz.args(["-max_len=65536", "-detect_leaks=0", "-print_final_stats=1"]);
    // Ours names another cargo.
    run_command(fuzz.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN"))
}
