//! Solves a request over `Packages` indices, as `apt-get install -s` would:
//! `solve [--no-recommends] [--trace] [--foreign ARCH] INDEX… -- SPEC…`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for measuring")]

use std::time::Duration;

use debian::{Architecture, Interner};
use solver::{Installed, Request, SourceInfo, Universe, solve_traced};

/// The time that this process has spent on a processor: on a busy machine the time
/// on the wall says little.
fn busy() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut request = Request { with_recommends: true, ..Request::default() };
    let (mut files, mut show, mut foreign) = (Vec::new(), false, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--no-recommends" => request.with_recommends = false,
            "--trace" => show = true,
            "--foreign" => {
                foreign.push(Architecture::new(&arguments.next().unwrap_or_default())?);
            }
            "--" => break,
            file => files.push(file.to_owned()),
        }
    }
    request.specs = arguments.collect();
    let start = busy();
    let mut interner = Interner::new();
    let mut builder = Universe::builder(Architecture::new("amd64")?, foreign);
    for file in files {
        let records = debian::read_packages_with(&std::fs::read_to_string(&file)?, &mut interner)?;
        let info = SourceInfo { label: file.into(), priority: 500, releases: Vec::new() };
        builder = builder.add(&records, info);
    }
    let universe = builder.build();
    eprintln!("{} versions loaded in {:?}", universe.len(), busy() - start);
    let start = busy();
    let plain = solver::solve(&universe, &Installed::default(), &request);
    eprintln!("solved in {:?}", busy() - start);
    drop(plain);
    let (result, trace) = solve_traced(&universe, &Installed::default(), &request);
    if show {
        trace.lines.iter().for_each(|line| println!("{line}"));
    }
    let solution = result?;
    for chosen in &solution.install {
        let (name, version, arch) = chosen.id();
        println!("Inst {name} {version} {arch}: {}", chosen.reason);
    }
    Ok(())
}
