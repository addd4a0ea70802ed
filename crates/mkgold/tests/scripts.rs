//! Scripts of the project through the whole command, as mkosi.1 says, and where mkgold
//! differs on purpose (PARITY.md). No Debian and no network: the tree is empty.

#[path = "crafted/mod.rs"]
mod common;

use std::process::Command;

use common::{Project, mkgold};

fn project() -> Project {
    let project = Project::new("[Output]\nFormat=directory\n");
    project.file("mkosi.extra/usr/share/README", "something", 0o644);
    project
}

fn read(project: &Project, name: &str) -> String {
    let path = project.root().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn build_scripts_get_the_arguments_behind_the_verb() {
    let project = project();
    let script = "#!/bin/sh\nfor a in \"$@\"; do echo \"<$a>\"; done > \"$DESTDIR/arguments\"\n";
    project.file("mkosi.build", script, 0o755);
    let status = Command::new(mkgold())
        .arg("-C")
        .arg(project.path("project"))
        .args(["--force", "build", "one", "two three"])
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(read(&project, "arguments"), "<one>\n<two three>\n");
    std::fs::remove_file(project.path("project/mkosi.build")).unwrap();
    let output = Command::new(mkgold())
        .arg("-C")
        .arg(project.path("project"))
        .args(["--force", "build", "one"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("build scripts"));
}

#[test]
fn clean_scripts_see_the_outputs_before_they_go() {
    let project = project();
    project.file("mkosi.postoutput", "#!/bin/sh\necho more > \"$OUTPUTDIR/more\"\n", 0o755);
    project.file("mkosi.clean", "#!/bin/sh\nset -e\nrm \"$OUTPUTDIR/more\"\n", 0o755);
    let run = project.build(&[]);
    assert!(run.success, "{}", run.text);
    assert!(project.path("out/more").exists());
    let clean = || {
        let mut command = Command::new(mkgold());
        command.arg("-C").arg(project.path("project")).arg("clean").status().unwrap().success()
    };
    assert!(clean());
    assert_eq!(std::fs::read_dir(project.path("out")).unwrap().count(), 0);
    // The script fails now, and so does the verb.
    assert!(!clean());
}

#[test]
fn the_caller_is_root_in_scripts_and_sources_do_not_change_in_the_image_s_steps() {
    let project = project();
    let look = "echo \"$MKOSI_UID $MKOSI_GID\" > \"$BUILDROOT/ids\"\n\
                if touch \"$SRCDIR/touched\" 2> /dev/null; then echo yes; else echo no; fi \
                >> \"$BUILDROOT/writable\"\n";
    for name in ["mkosi.prepare", "mkosi.postinst", "mkosi.finalize"] {
        project.file(name, format!("#!/bin/sh\nset -e\n{look}"), 0o755);
    }
    let run = project.build(&[]);
    assert!(run.success, "{}", run.text);
    assert_eq!(read(&project, "ids"), "0 0\n");
    assert_eq!(read(&project, "writable"), "yes\nno\nno\n");
}

#[test]
fn packages_are_the_lock_s_business_not_a_script_s() {
    let project = project();
    project.file("mkosi.postinst", "#!/bin/sh\nmkosi-install hello\n", 0o755);
    let run = project.build(&[]);
    assert!(!run.success);
    for says in ["mkosi.postinst", "mkosi-install is not supported", "Packages="] {
        assert!(run.text.contains(says), "{says}: {}", run.text);
    }
}

/// What a script sees at a path below `$SRCDIR`.
const LOOK: &str = "#!/bin/sh\nset -e\nout=\"${DESTDIR:-$BUILDROOT}\"\n\
                    (cd \"$SRCDIR\"; find . -maxdepth 2 | LC_ALL=C sort) > \"$out/seen\"\n";

#[test]
fn build_sources_are_where_mkosi_shows_them() {
    let project = project();
    for (name, text) in [("lib/one", "1"), ("other/two", "2")] {
        let path = project.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    project.file("mkosi.build", format!("{LOOK}touch lib/made 2> /dev/null || :\n"), 0o755);
    let build = |sources: &str| {
        let run = project.build(&[&format!("--build-sources={sources}")]);
        assert!(run.success, "{}", run.text);
        read(&project, "seen")
    };
    // Only what is named, and a place for it.
    assert_eq!(build("../lib:lib,../other:/a/b"), ".\n./a\n./a/b\n./lib\n./lib/one\n");
    assert!(project.path("lib/made").exists(), "build scripts change sources");
    // The project with another on top: what it is mounted on is made.
    let seen = build(".,../other:deep");
    assert!(seen.contains("./deep/two\n") && seen.contains("./mkosi.conf\n"), "{seen}");
    assert!(project.path("project/deep").is_dir());
    assert_eq!(build("../lib"), ".\n./made\n./one\n");
    let missing = project.build(&["--build-sources=nowhere"]);
    assert!(!missing.success && missing.text.contains("nowhere"), "{}", missing.text);
    let out = project.build(&["--build-sources=../lib:../../etc"]);
    assert!(!out.success && out.text.contains(".."), "{}", out.text);
}

#[test]
fn the_build_directory_is_there_again_in_the_next_build() {
    let project = project();
    let say = "echo \"$BUILDDIR $CHROOT_BUILDDIR\"";
    let build = format!(
        "#!/bin/sh\nset -e\n{say} > \"$DESTDIR/names\"\n\
                         echo run >> \"$BUILDDIR/runs\"\ncp \"$BUILDDIR/runs\" \"$DESTDIR/runs\"\n"
    );
    project.file("mkosi.build", build, 0o755);
    // Later steps see it and do not change it.
    let later = format!(
        "#!/bin/sh\n{say} > \"$BUILDROOT/late\"\n\
                         touch \"$BUILDDIR/x\" 2> /dev/null && exit 1\ncat \"$BUILDDIR/runs\" > /dev/null\n"
    );
    project.file("mkosi.finalize", later, 0o755);
    std::fs::create_dir(project.path("project/mkosi.builddir")).unwrap();
    for runs in ["run\n", "run\nrun\n"] {
        let run = project.build(&[]);
        assert!(run.success, "{}", run.text);
        assert_eq!(read(&project, "runs"), runs);
    }
    assert_eq!(read(&project, "names"), "/work/build /work/build\n");
    assert_eq!(read(&project, "late"), "/work/build \n");
    let made = project.path("project/mkosi.builddir/debian~trixie~x86-64/runs");
    assert!(made.exists());
    let run = project.build(&["--build-directory=../elsewhere"]);
    assert!(run.success, "{}", run.text);
    assert!(project.path("elsewhere/debian~trixie~x86-64/runs").exists());
    // Without one, the variable is not there.
    std::fs::remove_dir_all(project.path("project/mkosi.builddir")).unwrap();
    std::fs::remove_file(project.path("project/mkosi.finalize")).unwrap();
    let text = "#!/bin/sh\necho \"${BUILDDIR-none}\" > \"$DESTDIR/names\"\n";
    project.file("mkosi.build", text, 0o755);
    assert!(project.build(&[]).success);
    assert_eq!(read(&project, "names"), "none\n");
}
