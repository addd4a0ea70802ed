//! Builds that are killed, at points spread over all of a build.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{cold_cache, command, mkgold, open_dir, succeed, sums};
use crate::watch::{Places, Watch};
use crate::{BOOTABLE, SCRIPT, change, project};

/// How often each kind of build is killed, unless `MKGOLD_KILLS` says it.
const KILLS: u32 = 16;

type Sums = BTreeMap<String, String>;

/// A place with outputs, and the cache from which a build starts.
struct Field<'a> {
    project: PathBuf,
    cache: PathBuf,
    output: PathBuf,
    /// What the outputs are before, and after.
    old: &'a Sums,
    new: &'a Sums,
}

impl Field<'_> {
    fn command(&self) -> Command {
        let mut build = command(&mkgold(), &self.project, &self.cache, &self.output);
        build.args(["--locked", "--offline", "--force", "build"]);
        build
    }

    fn start(&self) -> Child {
        let mut build = self.command();
        build.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        build.spawn().expect("mkgold starts")
    }

    fn places(&self) -> Places<'_> {
        Places { project: &self.project, cache: &self.cache, output: &self.output }
    }

    /// Outputs are all as before or all new.
    fn outputs_are_whole(&self, what: &str) {
        let now = sums(&self.output);
        assert!(now == *self.old || now == *self.new, "{what}: {now:?}");
    }

    /// The next build is right and leaves nothing behind.
    fn next_build_is_right(&self, what: &str) {
        succeed(&mut self.command());
        assert_eq!(sums(&self.output), *self.new, "{what}: the next build");
        self.places().is_clean(what);
    }
}

/// A project, caches and outputs to begin from.
struct Ground {
    work: tempfile::TempDir,
    old: Sums,
    new: Sums,
}

/// From which cache a build starts: packages only, or all that a build made before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Start {
    First,
    Again,
}

impl Start {
    fn cache(self) -> &'static str {
        match self {
            Start::First => "cold",
            Start::Again => "warm",
        }
    }
}

impl Ground {
    fn new() -> Ground {
        let work = open_dir();
        let at = |name: &str| work.path().join(name);
        project(&at("project"), BOOTABLE, &[("mkosi.postinst.chroot", SCRIPT)]);
        cold_cache(&at("project"), &at("cold"));
        clone(&at("cold"), &at("warm"));
        let mut ground = Ground { old: Sums::new(), new: Sums::new(), work };
        ground.old = ground.build("warm", "outputs");
        change(&ground.at("project"), "second\n");
        ground.new = ground.build("warm", "other");
        assert_ne!(ground.old, ground.new);
        ground
    }

    fn at(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn build(&self, cache: &str, output: &str) -> Sums {
        let (cache, output) = (self.at(cache), self.at(output));
        let field =
            Field { project: self.at("project"), cache, output, old: &self.old, new: &self.new };
        succeed(&mut field.command());
        sums(&field.output)
    }

    /// Runs `test` in a copy of the beginning.
    fn with_field<T>(&self, start: Start, test: impl FnOnce(&Field) -> T) -> T {
        let (cache, output) = (self.at("field/cache"), self.at("field/output"));
        clone(&self.at(start.cache()), &cache);
        clone(&self.at("outputs"), &output);
        let (old, new) = (&self.old, &self.new);
        let field = Field { project: self.at("project"), cache, output, old, new };
        let result = test(&field);
        fs::remove_dir_all(self.at("field")).unwrap();
        result
    }

    /// How long a build takes that nobody kills.
    fn duration(&self, start: Start) -> Duration {
        self.with_field(start, |field| {
            let begin = Instant::now();
            field.next_build_is_right("undisturbed");
            begin.elapsed()
        })
    }
}

/// A copy by hard links: what is finished is never changed in place.
fn clone(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let copied = Command::new("cp").arg("-al").arg(from.join(".")).arg(to).status().unwrap();
    assert!(copied.success());
}

fn send(pid: u32, signal: i32) {
    // SAFETY: numbers only; the process has not been waited for.
    unsafe { libc::kill(pid as i32, signal) };
}

/// The process that works for `pid`, if there is one yet.
fn worker(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// Which process gets which signal.
#[derive(Clone, Copy)]
struct Blow {
    signal: i32,
    to_worker: bool,
    /// Whether somebody is left who can clean up.
    cleans: bool,
}

const KILL: Blow = Blow { signal: libc::SIGKILL, to_worker: false, cleans: false };
const BLOWS: [Blow; 4] = [
    Blow { signal: libc::SIGINT, to_worker: false, cleans: true },
    Blow { signal: libc::SIGTERM, to_worker: false, cleans: true },
    Blow { signal: libc::SIGHUP, to_worker: false, cleans: true },
    Blow { signal: libc::SIGKILL, to_worker: true, cleans: true },
];

/// Strikes a build after `delay`; whether it was still running, and how long what it had
/// started took to end.
fn strike(
    field: &Field,
    watch: &Watch,
    blow: Blow,
    delay: Duration,
    what: &str,
) -> Option<Duration> {
    let mut build = field.start();
    std::thread::sleep(delay);
    if let Some(status) = build.try_wait().unwrap() {
        assert!(status.success(), "{what}: {status}");
        return None;
    }
    match blow.to_worker {
        true => send(worker(build.id())?, blow.signal),
        false => send(build.id(), blow.signal),
    }
    let status = build.wait().unwrap();
    let ended = watch.nothing_runs(what);
    if status.success() {
        return None;
    }
    let died = std::os::unix::process::ExitStatusExt::signal(&status) == Some(blow.signal);
    assert!(died || (blow.to_worker && status.code() == Some(137)), "{what}: {status}");
    field.outputs_are_whole(what);
    if blow.cleans {
        field.places().is_clean(what);
    }
    field.next_build_is_right(what);
    Some(ended)
}

/// Strikes until `count` builds were hit, at points spread over the whole of a build.
fn campaign(ground: &Ground, start: Start, count: u32, blows: &[Blow]) {
    let watch = Watch::begin();
    let measured = ground.duration(start);
    let mut duration = measured;
    let (mut hit, mut missed, mut slowest) = (0, 0, Duration::ZERO);
    while hit < count {
        assert!(missed <= 2 * count, "builds end before they are hit");
        let part = f64::from(hit) + 0.5;
        let delay = duration.mul_f64(part / f64::from(count) * 0.97);
        let blow = blows[hit as usize % blows.len()];
        let what = format!("{start:?}, signal {} after {delay:.2?}", blow.signal);
        match ground.with_field(start, |field| strike(field, &watch, blow, delay, &what)) {
            Some(ended) => {
                hit += 1;
                slowest = slowest.max(ended);
            }
            // The machine has become quicker since it was measured.
            None => {
                missed += 1;
                duration = duration.mul_f64(0.8);
            }
        }
    }
    println!(
        "{start:?}: {count} builds of {:.1} s killed, {missed} ended before; \
         all processes gone after at most {} ms; the next build right each time",
        measured.as_secs_f64(),
        slowest.as_millis()
    );
}

fn kills() -> u32 {
    std::env::var("MKGOLD_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS)
}

#[test]
#[ignore = "campaign: kills real builds"]
fn a_killed_build_leaves_the_outputs_and_the_next_is_right() {
    let ground = Ground::new();
    campaign(&ground, Start::First, kills(), &[KILL]);
    campaign(&ground, Start::Again, kills(), &[KILL]);
}

#[test]
#[ignore = "campaign: interrupts real builds"]
fn an_interrupted_build_leaves_nothing_at_all() {
    let ground = Ground::new();
    campaign(&ground, Start::First, kills() / 2, &BLOWS);
    campaign(&ground, Start::Again, kills() / 2, &BLOWS);
}
