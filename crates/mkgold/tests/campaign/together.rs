//! Builds that share a cache at the same time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use crate::common::{SMALL, cold_cache, command, mkgold, open_dir, said, succeed, sums};
use crate::watch::{Places, Watch};
use crate::{BOOTABLE, SCRIPT, project};

type Sums = BTreeMap<String, String>;

fn alone(project: &Path, work: &Path) -> Sums {
    let (cache, output) = (work.join("alone-cache"), work.join("alone-output"));
    cold_cache(project, &cache);
    succeed(command(&mkgold(), project, &cache, &output).args(["--offline", "build"]));
    let sums = sums(&output);
    for dir in [cache, output] {
        std::fs::remove_dir_all(dir).unwrap();
    }
    sums
}

/// Builds every project into an output of its own (or the same for all), at once.
fn together(projects: &[&Path], cache: &Path, output: impl Fn(usize) -> PathBuf) {
    let start = |(n, project): (usize, &&Path)| {
        let mut build = command(&mkgold(), project, cache, &output(n));
        build.args(["--offline", "--force", "build"]);
        build.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        build.spawn().expect("mkgold starts")
    };
    let running: Vec<_> = projects.iter().enumerate().map(start).collect();
    // What they print is less than a pipe holds only if all are listened to.
    let ended: Vec<_> = std::thread::scope(|scope| {
        let waiting: Vec<_> =
            running.into_iter().map(|b| scope.spawn(|| b.wait_with_output().unwrap())).collect();
        waiting.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (project, output) in projects.iter().zip(&ended) {
        assert!(output.status.success(), "{}: {}", project.display(), said(output));
    }
}

#[test]
#[ignore = "campaign: builds real images at the same time"]
fn four_builds_on_one_cache_all_succeed() {
    let work = open_dir();
    let at = |name: &str| work.path().join(name);
    let (big, small) = (at("big"), at("small"));
    project(&big, BOOTABLE, &[("mkosi.postinst.chroot", SCRIPT)]);
    project(&small, SMALL, &[]);
    let expected = [alone(&big, work.path()), alone(&small, work.path())];
    let watch = Watch::begin();
    // All begin with nothing but packages, then with everything, then with one output.
    cold_cache(&big, &at("cache"));
    cold_cache(&small, &at("cache"));
    let projects: [&Path; 4] = [&big, &small, &big, &small];
    for round in ["first", "again"] {
        let begin = Instant::now();
        let output = |n: usize| at(&format!("{round}-{n}"));
        together(&projects, &at("cache"), output);
        for n in 0..4 {
            assert_eq!(sums(&output(n)), expected[n % 2], "{round}, build {n}");
            let places = Places { project: projects[n], cache: &at("cache"), output: &output(n) };
            places.is_clean(round);
        }
        println!("{round}: 4 builds at once in {:.1} s, all right", begin.elapsed().as_secs_f64());
    }
    for _ in 0..5 {
        together(&[small.as_path(); 4], &at("cache"), |_| at("same"));
        assert_eq!(sums(&at("same")), expected[1], "one output for all");
        Places { project: &small, cache: &at("cache"), output: &at("same") }.is_clean("same");
    }
    println!("one project four times into one output, 5 times: all right");
    watch.nothing_runs("together");
}
