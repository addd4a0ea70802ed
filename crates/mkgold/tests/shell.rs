//! `mkgold shell` on what was built. No Debian and no network: the image holds one tool
//! of the host, with its libraries.

#[path = "crafted/mod.rs"]
mod common;

use std::path::Path;
use std::process::Command;

use common::{Project, Run, mkgold};

/// A project whose image can run `touch`.
fn project(format: &str) -> Project {
    let project = Project::new(&format!("[Output]\nFormat={format}\n"));
    let tool = ["/usr/bin/touch", "/bin/touch"].into_iter().find(|path| Path::new(path).exists());
    let tool = tool.expect("coreutils are essential");
    let listed = Command::new("ldd").arg(tool).output().expect("ldd is part of libc-bin");
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for path in libraries.chain(["/usr/bin/touch"]) {
        let source = if path.ends_with("/touch") { tool } else { path };
        // The root of an image has links to what is in /usr.
        let inside = path.trim_start_matches("/usr");
        project.file(&format!("mkosi.extra/usr{inside}"), std::fs::read(source).unwrap(), 0o755);
    }
    for dir in ["bin", "lib", "lib64"] {
        let link = project.path(&format!("project/mkosi.extra/{dir}"));
        std::os::unix::fs::symlink(format!("usr/{dir}"), link).unwrap();
    }
    project.file("mkosi.extra/srv/there", "from the build", 0o644);
    let built = project.build(&[]);
    assert!(built.success, "{}", built.text);
    project
}

fn shell(project: &Project, command: &[&str]) -> Run {
    let mut shell = Command::new(mkgold());
    shell.arg("-C").arg(project.path("project")).arg("shell").args(command);
    common::run(&mut shell)
}

#[test]
fn what_is_changed_in_a_directory_stays() {
    let project = project("directory");
    let run = shell(&project, &["touch", "/srv/made"]);
    assert!(run.success, "{}", run.text);
    assert!(project.root().join("srv/made").exists());
    assert!(project.root().join("srv/there").exists());
}

#[test]
fn a_disk_image_is_worked_on_as_a_copy() {
    let project = project("disk");
    let image = project.path("out/golden.raw");
    let before = std::fs::read(&image).unwrap();
    // Files of the image are there, and what is made can be seen as long as it runs.
    let run = shell(&project, &["touch", "-r", "/srv/there", "/srv/made"]);
    assert!(run.success, "{}", run.text);
    assert!(run.text.contains("the image stays as it was built"), "{}", run.text);
    assert!(std::fs::read(&image).unwrap() == before, "the image is another one");
    // The exit status is the command's.
    let missing = shell(&project, &["touch", "-r", "/srv/made", "/srv/again"]);
    assert!(!missing.success, "the next shell begins with the image as it was built");
    assert!(missing.text.contains("/srv/made"), "{}", missing.text);
}
