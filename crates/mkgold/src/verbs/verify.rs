//! `build --verify`: builds twice, and says where the second differs.
//!
//! The second build is a process of its own with another umask, locale, time zone,
//! output directory and cache directory, and one thread. Of the first's cache it sees
//! what was downloaded and nothing that was made.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use build::workdir::WorkDir;
use build::{BuildError, compare};
use config::Loaded;
use rustix::fs::Mode;

use super::{Failure, Outcome, enter, load, print, watched};
use crate::arguments::Arguments;

/// What the second build may have of the first's cache: what came from archives, which
/// is checked by hash when it is used.
const DOWNLOADS: [&str; 6] =
    ["debs", "indices", "records", "releases", "release-signatures", "seen-releases"];

/// Builds twice and compares.
pub fn run(arguments: &Arguments) -> Outcome {
    let loaded = load(arguments)?;
    watched(arguments, &loaded, || both(arguments, &loaded))
}

fn both(arguments: &Arguments, loaded: &Loaded) -> Outcome {
    finished(Command::new(this_program()?).args(words(arguments, &[])), "first")?;
    let cache = super::cache_directory(loaded);
    let room = WorkDir::begin_on_disk(&cache).map_err(BuildError::from)?;
    let work = room.on_disk("verify");
    let (second, output) = (work.join("cache"), work.join("output"));
    let made = share_downloads(&cache, &second).and_then(|()| std::fs::create_dir(&output));
    made.map_err(|e| failed(format!("--verify: {}: {e}", work.display())))?;
    let own = [
        format!("--cache-directory={}", second.display()),
        format!("--output-directory={}", output.display()),
        "--threads=1".to_owned(),
        "--force".to_owned(),
        "--offline".to_owned(),
    ];
    let mut again = Command::new(this_program()?);
    again.args(words(arguments, &own));
    again.env("LC_ALL", "de_DE.UTF-8").env("LANG", "tr_TR.UTF-8").env("TZ", "Asia/Kathmandu");
    let umask = rustix::process::umask(Mode::from_raw_mode(0o077));
    let built = finished(&mut again, "second");
    rustix::process::umask(umask);
    // The outputs may belong to users whom only the sandbox has.
    enter(arguments)?;
    let compared = built.and_then(|()| Ok(compare::outputs(&loaded.config, &output)?));
    let compared = compared?;
    match compared.difference {
        Some(difference) => Err(Failure::Differs(difference)),
        None if arguments.json => print(
            &serde_json::json!({ "event": "verified", "outputs": compared.outputs }).to_string(),
        ),
        None => print(&format!("two builds gave the same: {}", compared.outputs.join(", "))),
    }
}

fn failed(message: String) -> Failure {
    Failure::Work(message.into(), Vec::new())
}

fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|e| failed(format!("--verify: find this program: {e}")))
}

/// The command line of a build like this one; later settings count.
fn words(arguments: &Arguments, more: &[String]) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(directory) = &arguments.directory {
        words.push(format!("--directory={}", directory.display()));
    }
    words.extend(arguments.settings.iter().map(ToString::to_string));
    words.extend(arguments.privilege.iter().map(|mode| format!("--privilege={mode}")));
    words.extend(arguments.threads.filter(|_| more.is_empty()).map(|n| format!("--threads={n}")));
    words.push(format!("--keep-unused={}", arguments.keep_unused));
    let flags = [
        ("--json", arguments.json),
        ("--locked", arguments.locked),
        ("--offline", arguments.offline && more.is_empty()),
    ];
    words.extend(flags.iter().filter(|(_, on)| *on).map(|(flag, _)| (*flag).to_owned()));
    if more.is_empty() {
        words.extend((0..arguments.force).map(|_| "--force".to_owned()));
    }
    words.extend(more.iter().cloned());
    words.push("build".to_owned());
    words
}

fn finished(command: &mut Command, which: &str) -> Outcome {
    sandbox::ends_with_us(command);
    let status = command.status();
    let status = status.map_err(|e| failed(format!("--verify: start the {which} build: {e}")))?;
    match status.code() {
        Some(0) => Ok(()),
        // The build itself has said what is wrong.
        Some(code) => Err(Failure::Exit(u8::try_from(code).unwrap_or(1))),
        None => Err(failed(format!("--verify: the {which} build was killed ({status})"))),
    }
}

fn share_downloads(cache: &Path, second: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(second)?;
    let cache = std::fs::canonicalize(cache)?;
    for kind in DOWNLOADS {
        std::fs::create_dir_all(cache.join(kind))?;
        symlink(cache.join(kind), second.join(kind))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_build_is_another_in_what_must_not_matter() {
        let line = ["mkgold", "-C", "/p", "-p", "a", "--threads=2", "-ff", "--verify", "build"];
        let arguments = Arguments::of_words(&line);
        let first = words(&arguments, &[]).join(" ");
        assert_eq!(
            first,
            "--directory=/p --package=a --threads=2 --keep-unused=30 --force --force build"
        );
        let second = words(&arguments, &["--threads=1".to_owned()]).join(" ");
        assert_eq!(second, "--directory=/p --package=a --keep-unused=30 --threads=1 build");
    }

    #[test]
    fn only_downloads_are_shared() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        std::fs::create_dir_all(cache.join("debs/ab")).unwrap();
        std::fs::create_dir_all(cache.join("layer")).unwrap();
        let second = dir.path().join("second");
        share_downloads(&cache, &second).unwrap();
        assert!(second.join("debs/ab").is_dir());
        assert!(!second.join("layer").exists());
    }
}
