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
