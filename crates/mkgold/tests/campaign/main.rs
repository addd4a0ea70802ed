//! What can go wrong around a build goes wrong: it is killed, the disk is full, the
//! archive is broken, others build at the same time. Whatever happens, the previous
//! outputs stay as they were, nothing is left behind, and the next build is right.
//!
//! Needs a Debian mirror: `cargo xtask campaign` runs it and prints the figures that
//! docs/campaigns.md has. `MKGOLD_KILLS` says how often a build is killed.
#![allow(clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;
mod download;
mod full;
mod kill;
mod together;
mod watch;

use std::path::Path;

use common::{Files, write_project};

/// A system that boots.
const BOOTABLE: &str = "\
[Distribution]
Distribution=debian
Release=trixie
[Output]
ImageId=kill
ImageVersion=1
ManifestFormat=json
Checksum=yes
[Content]
Bootable=yes
WithDocs=no
Packages=
        dbus
        kmod
        linux-image-cloud-amd64
        systemd
        systemd-boot
        systemd-boot-efi
        systemd-sysv
        udev
";

/// Runs in the image, so that there is something to kill there; what it starts must
/// not outlive it.
const SCRIPT: &str = "#!/bin/sh\n(sleep 1000; :) & sleep 0.3; cp -a /usr/share/doc /srv/doc; \
                      sync; rm -r /srv/doc\n";

/// Writes a locked project with these settings.
fn project(dir: &Path, settings: &str, more: Files) {
    write_project(dir, &[("mkosi.conf", settings), ("mkosi.extra/etc/motd", "first\n")]);
    write_project(dir, more);
    common::lock(dir);
}

/// Changes what goes into the image.
fn change(project: &Path, text: &str) {
    write_project(project, &[("mkosi.extra/etc/motd", text)]);
}
