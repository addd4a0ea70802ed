//! The cache through the whole command: what is damaged in it is noticed and made again,
//! what `clean --force` removes, what no build uses any more. No Debian and no network.

#[path = "crafted/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use common::{Project, Run, deb, file, files, mkgold, special, tar};

/// A project that has something of every kind in its cache: a package, a configured and
/// a prepared tree, archives.
fn project() -> Project {
    let project = Project::new(
        "Packages=tool\nWithDocs=yes\nExtraTrees=extra.tar\n[Output]\nFormat=directory\n\
         [Build]\nIncremental=yes\n",
    );
    common::dpkg(&project, "mkosi.skeleton");
    let other = "Package: other\nVersion: 1\nArchitecture: all\nMaintainer: M <m@example.org>\n\
                 Description: of the archive\nFilename: other.deb\nSize: 1\n";
    project.mirror(&format!("{other}SHA256: {}\n", "0".repeat(64)));
    project.package(
        "tool",
        &deb(
            "tool",
            &[
                special("./usr/", b'5', ""),
                special("./usr/share/", b'5', ""),
                file("./usr/share/tool", &[b'x'; 5000]),
                file("./usr/share/small", b"small"),
            ],
        ),
    );
    project.file("mkosi.extra/usr/share/README", "something", 0o644);
    project.file("extra.tar", tar(&[file("extra", &[b'e'; 3000])]), 0o644);
    let prepare = "#!/bin/sh\nset -e\n[ \"$1\" = final ] && echo run >> runs\n\
                   head -c 4000 /dev/zero > \"$BUILDROOT/prepared\"\n";
    project.file("mkosi.prepare", prepare, 0o755);
    project
}

fn built(run: &Run) {
    assert!(run.success, "{}", run.text);
}

/// What was built, and the lock.
fn outputs(project: &Project) -> (Vec<(PathBuf, Vec<u8>)>, Vec<u8>) {
    let lock = fs::read(project.path("project/mkgold.lock")).unwrap();
    (files(&project.path("out")), lock)
}

/// The objects of the cache.
fn objects(project: &Project) -> Vec<PathBuf> {
    let all = files(&project.path("cache")).into_iter().map(|(path, _)| path);
    all.filter(|path| path.file_name().unwrap() != "collected").collect()
}

fn kind(project: &Project, object: &Path) -> String {
    let below = object.strip_prefix(project.path("cache")).unwrap();
    below.components().next().unwrap().as_os_str().to_str().unwrap().to_owned()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x04;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_changed_byte_of_the_cache_never_reaches_an_image() {
    let project = project();
    built(&project.build(&[]));
    let good = outputs(&project);
    let mut kinds = BTreeSet::new();
    for object in objects(&project) {
        kinds.insert(kind(&project, &object));
        // Which byte does not matter: `store` tries them all.
        let at = fs::metadata(&object).unwrap().len() as usize / 2;
        flip(&object, at);
        // Without a lock, the archive is asked, too.
        fs::remove_file(project.path("project/mkgold.lock")).unwrap();
        let run = project.build(&[]);
        assert!(run.success, "{}: {}", object.display(), run.text);
        assert_eq!(outputs(&project), good, "{}", object.display());
    }
    for expected in
        ["debs", "indices", "layer", "pack", "package", "records", "releases", "seen-releases"]
    {
        assert!(kinds.contains(expected), "{expected}: {kinds:?}");
    }
}

#[test]
fn damaged_downloads_are_fetched_again() {
    let project = project();
    built(&project.build(&[]));
    let good = outputs(&project);
    let deb = objects(&project).into_iter().find(|o| kind(&project, o) == "debs").unwrap();
    let len = fs::metadata(&deb).unwrap().len() as usize;
    for at in [0, len / 2, len - 1] {
        for made in ["pack", "package", "layer"] {
            fs::remove_dir_all(project.path("cache").join(made)).unwrap();
        }
        flip(&deb, at);
        let run = project.build(&[]);
        built(&run);
        assert!(run.text.contains("fetched again"), "{}", run.text);
        assert_eq!(outputs(&project), good);
    }
}

#[test]
fn damage_is_told_once_and_unchanged_outputs_are_not_believed_of_a_damaged_note() {
    let project = Project::new("[Output]\nFormat=directory\n");
    project.file("mkosi.extra/usr/share/README", "something", 0o644);
    built(&project.build(&[]));
    std::thread::sleep(Duration::from_millis(100));
    built(&project.build(&[]));
    let again = project.build(&[]);
    assert!(again.text.contains("nothing changed"), "{}", again.text);
    for note in objects(&project).iter().filter(|o| kind(&project, o) == "built") {
        flip(note, 3);
    }
    let run = project.build(&[]);
    assert!(run.text.contains("damaged cache object"), "{}", run.text);
    assert!(!project.build(&[]).text.contains("damaged"));
}

fn runs(project: &Project) -> usize {
    fs::read_to_string(project.path("project/runs")).unwrap().lines().count()
}

#[test]
fn prepare_scripts_run_again_only_when_what_they_work_on_changes() {
    let project = project();
    built(&project.build(&[]));
    let good = outputs(&project);
    built(&project.build(&[]));
    assert_eq!((runs(&project), outputs(&project)), (1, good));
    project.file("mkosi.extra/usr/share/README", "another", 0o644);
    built(&project.build(&[]));
    assert_eq!(runs(&project), 1, "what comes after them");
    built(&project.build(&["--environment=A=1"]));
    assert_eq!(runs(&project), 2, "what they are told");
    built(&project.build(&["--environment=A=1"]));
    assert_eq!(runs(&project), 2);
    built(&project.build(&["--environment=A=1", "--incremental=strict"]));
    assert_eq!(runs(&project), 2);
    project.file("mkosi.skeleton/usr/share/more", "x", 0o644);
    let strict = project.build(&["--incremental=strict"]);
    assert!(!strict.success && strict.text.contains("Incremental=strict"), "{}", strict.text);
    built(&project.build(&[]));
    assert_eq!(runs(&project), 3, "the tree");
    built(&project.build(&["--force"]));
    assert_eq!(runs(&project), 4, "-ff uses no cached tree");
    built(&project.build(&["--incremental=no"]));
    built(&project.build(&["--incremental=no"]));
    assert_eq!(runs(&project), 6, "without Incremental=");
    let script = fs::read_to_string(project.path("project/mkosi.prepare")).unwrap();
    project.file("mkosi.prepare", script + "touch \"$ARTIFACTDIR/x\"\n", 0o755);
    built(&project.build(&[]));
    built(&project.build(&[]));
    assert_eq!(runs(&project), 8, "what they leave for later steps is not cached");
}

fn clean(project: &Project, force: &str) -> String {
    let mut command = Command::new(mkgold());
    command.arg("-C").arg(project.path("project")).args((!force.is_empty()).then_some(force));
    let run = common::run(command.arg("clean"));
    built(&run);
    run.text
}

#[test]
fn clean_removes_cached_trees_when_forced_and_packages_when_forced_twice() {
    let project = project();
    built(&project.build(&[]));
    let good = outputs(&project);
    let kinds = || -> BTreeSet<String> {
        objects(&project).iter().map(|object| kind(&project, object)).collect()
    };
    clean(&project, "");
    assert!(files(&project.path("out")).is_empty());
    assert!(kinds().contains("layer"));
    clean(&project, "-f");
    assert!(!kinds().contains("layer") && kinds().contains("debs"), "{:?}", kinds());
    let packs = objects(&project).into_iter().filter(|o| kind(&project, o) == "pack").count();
    assert_eq!(packs, 1, "the package's");
    clean(&project, "-ff");
    assert_eq!(kinds(), ["seen-releases".to_owned()].into());
    clean(&project, "-ff");
    built(&project.build(&[]));
    assert_eq!(outputs(&project), good);
}

#[test]
fn what_no_build_uses_leaves_the_cache_once_a_day() {
    let project = project();
    built(&project.build(&[]));
    let stray = project.path("cache/layer/00").join("0".repeat(64));
    let days = |n: u64| SystemTime::now() - Duration::from_secs(n * 86400);
    let age = |path: &Path, days: SystemTime| {
        File::options().append(true).open(path).unwrap().set_modified(days).unwrap();
    };
    let plant = || {
        fs::create_dir_all(stray.parent().unwrap()).unwrap();
        fs::write(&stray, "stray").unwrap();
        for object in objects(&project) {
            age(&object, days(31));
        }
    };
    let stamp = project.path("cache/collected");
    plant();
    built(&project.build(&[]));
    assert!(stray.exists(), "the cache was looked through today");
    age(&stamp, days(2));
    plant();
    built(&project.build(&["--keep-unused=0"]));
    built(&project.build(&["--keep-unused=40"]));
    assert!(stray.exists(), "it is kept longer");
    age(&stamp, days(2));
    plant();
    built(&project.build(&[]));
    assert!(!stray.exists());
    // What the build used is there.
    let kinds: BTreeSet<_> = objects(&project).iter().map(|o| kind(&project, o)).collect();
    for kind in ["debs", "layer", "pack", "package"] {
        assert!(kinds.contains(kind), "{kinds:?}");
    }
}
