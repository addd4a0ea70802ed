//! What the default initrd is made of: packages, added files, removed files.
//!
//! It follows mkosi's default initrd (25.3 and 27) in what it can do, and leaves
//! out what nothing uses before switch-root: Debian's essential packages bring a
//! package manager's surroundings (perl, debconf, alternatives, character set
//! tables) that make up a third of mkosi's initrd.

use crate::glob::Glob;
use crate::version;

/// Installed in every default initrd.
const PACKAGES: &[&str] = &[
    "systemd",
    "udev",
    "kmod",
    "dmsetup",
    "mount",
    "util-linux",
    "bash",
    "less",
    "e2fsprogs",
    "btrfs-progs",
    "dosfstools",
    // Loaded by systemd on demand: encrypted disks and their tokens.
    "libcryptsetup12",
    "libfido2-1",
];

/// Installed where the release has them: releases split and rename these. Of a
/// pattern the newest version is taken.
const WHERE_AVAILABLE: &[&str] = &[
    "systemd-cryptsetup",
    "systemd-repart",
    "systemd-tpm",
    "libtss2-esys-[0-9]*",
    "libtss2-mu[0-9-]*",
    "libtss2-rc0*",
    "libtss2-tcti-device0*",
];

/// The packages of the default initrd for an archive that has `available`.
pub fn packages<'a>(available: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let globs: Vec<Glob> =
        WHERE_AVAILABLE.iter().map(|g| Glob::parse(g).expect("well formed")).collect();
    let mut best: Vec<Option<&str>> = vec![None; globs.len()];
    for name in available.into_iter().filter(|n| !n.ends_with("-dev")) {
        for (glob, best) in globs.iter().zip(&mut best) {
            let better = best.is_none_or(|old| version::compare(name, old).is_gt());
            if better && glob.matches(name.as_bytes()) {
                *best = Some(name);
            }
        }
    }
    PACKAGES.iter().copied().chain(best.into_iter().flatten()).map(str::to_owned).collect()
}

/// Files that the initrd has in addition: path, content.
pub const FILES: &[(&str, &str)] = &[
    (
        "usr/lib/systemd/system-preset/99-mkgold-initrd.preset",
        "# Debian enables whatever a package brings. In the initrd only what\n\
         # systemd's own presets name is enabled.\n\
         disable *\n",
    ),
    (
        "usr/lib/udev/rules.d/10-mkgold-initrd.rules",
        "# What udev knows about stacked devices set up here must survive\n\
         # switch-root, where its database is cleaned.\n\
         ACTION!=\"remove\", SUBSYSTEM==\"block\", KERNEL==\"dm-[0-9]*|md[0-9]*|md_d[0-9]*\", \
         OPTIONS+=\"db_persist\"\n",
    ),
    (
        "usr/lib/systemd/system/systemd-cryptsetup@.service.d/10-mkgold-credentials.conf",
        "# Passphrases and PINs may come as system credentials.\n\
         [Service]\n\
         ImportCredential=cryptsetup.*\n\
         LoadCredential=cryptsetup.passphrase\n\
         LoadCredential=cryptsetup.fido2-pin\n\
         LoadCredential=cryptsetup.tpm2-pin\n\
         LoadCredential=cryptsetup.luks2-pin\n\
         LoadCredential=cryptsetup.pkcs11-pin\n",
    ),
];

/// Removed from every default initrd, as mkosi does: sources of binary indices,
/// kernels, caches, translations, the package database.
pub const REMOVE: &[&str] = &[
    "boot/*",
    "efi/*",
    "etc/apt",
    "etc/dpkg",
    "etc/services",
    "etc/udev/hwdb.d",
    "usr/lib/modules/*/System.map",
    "usr/lib/modules/*/vmlinu[xz]*",
    "usr/lib/systemd/catalog",
    "usr/lib/udev/hwdb.d",
    "usr/share/locale/*",
    "var/cache/*",
    "var/lib/apt",
    "var/lib/dpkg",
    "var/log/*",
];

/// Removed in addition unless the project adds packages of its own to the
/// initrd, which might use some of it.
pub const REMOVE_UNUSED: &[&str] = &[
    // The hardware database describes devices to people and desktops. What
    // udev needs it for after switch-root, the system's own copy answers.
    "usr/lib/udev/hwdb.bin",
    "etc/udev/hwdb.bin",
    // Package management and its languages.
    "etc/cron.*",
    "etc/debconf.conf",
    "etc/init.d",
    "etc/perl",
    "etc/rc[0-9S].d",
    "usr/bin/c_rehash",
    "usr/bin/deb-systemd-*",
    "usr/bin/debconf*",
    "usr/bin/dpkg*",
    "usr/bin/perl*",
    "usr/bin/update-alternatives",
    "usr/lib/*/perl*",
    "usr/lib/dpkg",
    "usr/sbin/adduser",
    "usr/sbin/addgroup",
    "usr/sbin/deluser",
    "usr/sbin/delgroup",
    "usr/sbin/dpkg-*",
    "usr/sbin/invoke-rc.d",
    "usr/sbin/pam-auth-update",
    "usr/sbin/pam_getenv",
    "usr/sbin/update-passwd",
    "usr/sbin/update-rc.d",
    "usr/share/perl*",
    "usr/share/debconf",
    "usr/share/dpkg",
    // Documentation, completion, examples and templates.
    "usr/share/base-files",
    "usr/share/base-passwd",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/common-licenses",
    "usr/share/doc",
    "usr/share/doc-base",
    "usr/share/fish",
    "usr/share/info",
    "usr/share/initramfs-tools",
    "usr/share/lintian",
    "usr/share/man",
    "usr/share/menu",
    "usr/share/pam-configs",
    "usr/share/pixmaps",
    "usr/share/zsh",
    // Character sets and their tools: everything here is UTF-8.
    "usr/lib/*/gconv",
    "usr/bin/iconv",
    "usr/bin/localedef",
    "usr/sbin/iconvconfig",
    // Tools for file systems that mounting and checking do not need.
    "usr/bin/btrfs-convert",
    "usr/bin/btrfs-find-root",
    "usr/bin/btrfs-image",
    "usr/bin/btrfs-map-logical",
    "usr/bin/btrfs-select-super",
    "usr/bin/btrfstune",
    "usr/sbin/debugfs",
    "usr/sbin/e2scrub*",
    "usr/lib/*/e2fsprogs",
    // Networking starts after switch-root.
    "usr/lib/systemd/systemd-networkd*",
    "usr/lib/systemd/system/systemd-networkd*",
    "usr/bin/networkctl",
    // Accounts are not made here.
    "usr/bin/chage",
    "usr/bin/chfn",
    "usr/bin/chsh",
    "usr/bin/expiry",
    "usr/bin/gpasswd",
    "usr/bin/passwd",
    "usr/bin/newgrp",
    "usr/sbin/chgpasswd",
    "usr/sbin/chpasswd",
    "usr/sbin/group*",
    "usr/sbin/grp*conv",
    "usr/sbin/newusers",
    "usr/sbin/pw*conv",
    "usr/sbin/user*",
    "usr/sbin/vipw",
    "usr/sbin/vigr",
    "etc/passwd-",
    "etc/group-",
    "etc/shadow-",
    "etc/gshadow-",
    // Only what is removed above links to these.
    "usr/lib/*/security/pam_userdb.so",
    "usr/lib/*/libdb-5*.so",
    "usr/lib/*/libmvec.so*",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_get_the_packages_they_have() {
        let trixie = [
            "systemd-cryptsetup",
            "systemd-repart",
            "libtss2-esys-3.0.2-0t64",
            "libtss2-dev",
            "libtss2-mu-4.0.1-0t64",
            "libtss2-rc0t64",
            "libtss2-tcti-device0t64",
            "zsh",
        ];
        let got = packages(trixie);
        for name in &trixie[..3] {
            assert!(got.iter().any(|p| p == name), "{name}");
        }
        assert_eq!(got.len(), PACKAGES.len() + 6);
        let two = packages(["libtss2-mu0", "libtss2-mu-4.0.1-0", "libtss2-esys-3.0.2-0"]);
        assert_eq!(two[PACKAGES.len()..], ["libtss2-esys-3.0.2-0", "libtss2-mu0"]);
    }

    #[test]
    fn patterns_are_well_formed_and_relative() {
        for pattern in REMOVE.iter().chain(REMOVE_UNUSED) {
            assert!(!pattern.starts_with('/') && !pattern.contains(".."), "{pattern}");
            assert!(
                pattern.split('/').all(|c| !c.is_empty() && Glob::parse(c).is_some()),
                "{pattern}"
            );
        }
    }
}
