//! Disk images as trees of a project, through the whole command: an image that mkgold
//! built is what another starts from, or is laid over it. No Debian and no network.

#[path = "crafted/mod.rs"]
mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use common::Project;

/// An image with a root of ext4: files of every size, links, modes.
fn image(to: &Path) {
    let project = Project::new("[Output]\nFormat=disk\n");
    project.file("mkosi.extra/usr/share/small", "small", 0o640);
    project.file("mkosi.extra/usr/share/large", vec![b'l'; 3 << 20], 0o644);
    project.file("mkosi.extra/usr/bin/tool", "#!/bin/sh\n", 0o4755);
    project.file("mkosi.extra/etc/both", "of the image", 0o644);
    let extra = project.path("project/mkosi.extra");
    symlink("../share/small", extra.join("usr/bin/link")).unwrap();
    fs::hard_link(extra.join("usr/share/small"), extra.join("usr/share/twin")).unwrap();
    let run = project.build(&[]);
    assert!(run.success, "{}", run.text);
    fs::copy(project.path("out/golden.raw"), to).unwrap();
}

fn mode(root: &Path, name: &str) -> u32 {
    root.join(name).symlink_metadata().unwrap().permissions().mode() & 0o7777
}

fn is_there(root: &Path) {
    assert_eq!(fs::read(root.join("usr/share/small")).unwrap(), b"small");
    assert_eq!(fs::read(root.join("usr/share/large")).unwrap(), vec![b'l'; 3 << 20]);
    assert_eq!(fs::read_link(root.join("usr/bin/link")).unwrap(), Path::new("../share/small"));
    assert_eq!((mode(root, "usr/share/small"), mode(root, "usr/bin/tool")), (0o640, 0o4755));
    let inode = |name: &str| root.join(name).metadata().unwrap().ino();
    assert_eq!(inode("usr/share/small"), inode("usr/share/twin"));
}

#[test]
fn a_disk_image_is_what_an_image_starts_from_or_is_laid_over_it() {
    let project = Project::new("[Output]\nFormat=directory\n");
    image(&project.path("other.raw"));
    project.file("mkosi.extra/etc/both", "of the project", 0o644);
    project.file("mkosi.skeleton/etc/both", "of the skeleton", 0o644);
    let build = |tree: &str| {
        let run = project.build(&[tree]);
        assert!(run.success, "{tree}: {}", run.text);
        is_there(&project.root());
        fs::read_to_string(project.root().join("etc/both")).unwrap()
    };
    assert_eq!(build("--base-tree=../other.raw"), "of the project");
    // Trees that are named are laid over those of the project's directories.
    assert_eq!(build("--extra-tree=../other.raw"), "of the image");
    assert_eq!(build("--skeleton-tree=../other.raw"), "of the project");
}

#[test]
fn a_disk_image_that_is_none_is_an_error() {
    let project = Project::new("[Output]\nFormat=directory\n");
    project.file("mkosi.extra/usr/share/README", "something", 0o644);
    project.file("other.raw", vec![0; 1 << 20], 0o644);
    for option in ["--base-tree=other.raw", "--extra-tree=other.raw"] {
        let run = project.build(&[option]);
        assert!(!run.success);
        assert!(run.text.contains("no GUID partition table"), "{}", run.text);
        assert!(run.text.contains("other.raw"), "{}", run.text);
    }
}
