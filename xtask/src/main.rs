//! Developer tasks: `cargo xtask TASK`.
//!
//! `test` is what CI runs, and what the README's second command is. Each
//! ring is a task of its own. Nothing here needs root or a tool of the host
//! beyond Rust and a C compiler: the oracles come from Debian by mkgold itself.

mod fuzz;
mod parity;
mod rings;
mod run;

use std::process::ExitCode;
use std::time::Instant;

type Task = (&'static str, &'static str, fn() -> Result<(), String>);

const TASKS: &[Task] = &[
    ("test", "what CI runs: lint, quick, oracles, oracle, boot", rings::all),
    ("lint", "rustfmt, clippy, licences, tests named in PARITY.md", rings::lint),
    ("quick", "unit and table tests (under two minutes)", rings::quick),
    ("oracles", "build the root file system with the original tools", rings::oracles),
    ("oracle", "comparisons with the original tools", rings::oracle),
    ("oracle-long", "the long ones of them (an hour; not in CI)", rings::oracle_long),
    ("boot", "build real images and boot them in QEMU", rings::boot),
    ("campaign", "kill builds, fill disks, break archives, change rights (long)", rings::campaign),
    ("fuzz", "[SECONDS] [TARGET…]: every fuzz target, 60 s each (not in CI)", fuzz::run),
];

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let Some((_, _, task)) = TASKS.iter().find(|(n, ..)| *n == name) else {
        eprintln!("usage: cargo xtask TASK\n");
        for (name, what, _) in TASKS {
            eprintln!("  {name:11} {what}");
        }
        return ExitCode::from(2);
    };
    let start = Instant::now();
    match task() {
        Ok(()) => {
            println!("xtask {name}: done in {:.0} s", start.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("xtask {name}: {message}");
            ExitCode::FAILURE
        }
    }
}
