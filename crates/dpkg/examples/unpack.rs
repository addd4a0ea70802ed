//! How long unpacking takes: `unpack STORE THREADS DEB…`. Run it twice: the second
//! time the store is warm.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use dpkg::{Database, Limits, Options, merge, unpack_file};
use store::{Key, Store};
use tree::{Mtime, Tree};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let store = Store::open(Path::new(&args.next().ok_or("no store")?))?;
    let threads: usize = args.next().ok_or("no number of threads")?.parse()?;
    let mut debs = Vec::new();
    for deb in args.map(PathBuf::from) {
        let bytes = std::fs::read(&deb)?;
        debs.push((std::cmp::Reverse(bytes.len()), Key::of(&bytes), deb));
    }
    // The longest first, so that none is left for the end.
    debs.sort();

    let start = Instant::now();
    let (next, packages) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((_, key, deb)) = debs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let package = unpack_file(&store, deb, key, &Limits::default()).unwrap();
                    packages.lock().unwrap().push(package);
                }
            });
        }
    });
    let unpacked = start.elapsed();

    let mut packages = packages.into_inner()?;
    packages.sort_by_key(|p| (p.name() != "base-files", p.name().to_owned()));
    let start = Instant::now();
    let (mut tree, mut database) = (Tree::new(), Database::new("amd64"));
    for package in &packages {
        merge(&mut tree, &mut database, package, &Options::default())?;
    }
    let merged = start.elapsed();
    let start = Instant::now();
    database.write(&mut tree, Mtime::secs(0))?;
    let written = start.elapsed();
    let start = Instant::now();
    let plan = dpkg::plan_install(&Database::new("amd64"), &packages)?;
    println!(
        "{} packages, {} paths: unpacked in {unpacked:?}, merged in {merged:?}, database written \
         in {written:?}, planned in {:?} ({} runs)",
        packages.len(),
        tree.len(),
        start.elapsed(),
        plan.runs()
    );
    Ok(())
}
