//! `[Content]`.

use super::{Choice, FEATURE, Kind, MatchKind, Section, Setting, Special, Split, row};

const C: Section = Section::Content;

static BOOTLOADERS: Choice = Choice::of(
    "a boot loader",
    &["none", "uki", "systemd-boot"],
    &["grub", "uki-signed", "systemd-boot-signed", "grub-signed"],
);

static BIOS: Choice = Choice::of("a BIOS boot loader", &["none"], &["grub"]);
static SHIM: Choice = Choice::of("a kind of shim", &["none"], &["signed", "unsigned"]);

static UKIS: Choice = Choice::of(
    "one of none, unsigned, signed, auto or a boolean",
    &["none", "unsigned", "signed", "auto"],
    &[],
)
.bools("signed", "none");

static SSH: Choice = Choice::of(
    "one of always, auto, runtime, never or a boolean",
    &["always", "auto", "runtime", "never"],
    &[],
)
.bools("always", "never");

/// A list of packages.
const fn packages(name: &'static str, long: &'static str, help: &'static str) -> Setting {
    row(C, name, long, "PACKAGE", Kind::Text, help).list(Split::Commas)
}

/// A list of scripts with their special paths.
const fn scripts(
    name: &'static str,
    long: &'static str,
    special: &'static [Special],
    help: &'static str,
) -> Setting {
    row(C, name, long, "PATH", Kind::Script, help).list(Split::Commas).special(special)
}

/// A setting of the first boot.
const fn text(
    name: &'static str,
    long: &'static str,
    metavar: &'static str,
    help: &'static str,
) -> Setting {
    row(C, name, long, metavar, Kind::Text, help)
}

pub(super) static CONTENT: &[Setting] = &[
    packages("Packages", "package",
        "Packages to install, as apt-get install takes them (name, name=version, name/suite, name:arch, pattern).")
        .set()
        .short('p'),
    packages("BuildPackages", "build-package",
        "Packages that only the prepare (build) and build scripts see.").set(),
    packages("VolatilePackages", "volatile-package",
        "Packages that change often: installed after the build scripts, outside the cached layer.").set(),
    row(C, "PackageDirectories", "package-directory", "PATH", Kind::ExistingPath,
        "Directories of .deb files that are offered as a repository.")
        .list(Split::Commas).special(&[Special::Path("mkosi.packages")]),
    row(C, "VolatilePackageDirectories", "volatile-package-directory", "PATH", Kind::ExistingPath,
        "Directories of packages outside the cached layer.").list(Split::Commas).refused(&[]),
    row(C, "WithRecommends", "with-recommends", "BOOL", Kind::Bool,
        "Whether recommended packages are installed too.").default("no"),
    row(C, "WithDocs", "with-docs", "BOOL", Kind::Bool,
        "Whether documentation is installed. Copyright files always are.").default("yes"),
    row(C, "BaseTrees", "base-tree", "PATH", Kind::Path,
        "Trees (directory, tar, disk image) that the image starts from.").list(Split::Commas),
    row(C, "SkeletonTrees", "skeleton-tree", "PATH[:TARGET]", Kind::ExistingTree,
        "Trees copied into the image before packages are installed.")
        .list(Split::Commas)
        .special(&[Special::Path("mkosi.skeleton"), Special::Path("mkosi.skeleton.tar")]),
    row(C, "ExtraTrees", "extra-tree", "PATH[:TARGET]", Kind::Tree,
        "Trees copied into the image after packages were installed and build scripts ran.")
        .list(Split::Commas)
        .special(&[Special::Path("mkosi.extra"), Special::Path("mkosi.extra.tar")]),
    packages("RemovePackages", "remove-package",
        "Packages to remove at the end, with what depends on them."),
    row(C, "RemoveFiles", "remove-files", "PATTERN", Kind::Text,
        "Paths or patterns in the image to remove at the end.").list(Split::Commas),
    row(C, "CleanPackageMetadata", "clean-package-metadata", "FEATURE", Kind::Choice(&FEATURE),
        "Whether the package manager's databases are removed; auto does so where the package manager itself is not in the image.")
        .default("auto"),
    row(C, "SourceDateEpoch", "source-date-epoch", "SECONDS", Kind::Integer(0, i64::MAX),
        "The latest modification time in the image, in seconds since 1970. If not set, $SOURCE_DATE_EPOCH from Environment=, then from the environment.")
        .env("SOURCE_DATE_EPOCH"),
    scripts("SyncScripts", "sync-script",
        &[Special::Path("mkosi.sync"), Special::Files("mkosi.sync.d")],
        "Programs run before anything is built, to bring sources up to date."),
    scripts("PrepareScripts", "prepare-script",
        &[Special::Path("mkosi.prepare"), Special::Path("mkosi.prepare.chroot"), Special::Files("mkosi.prepare.d")],
        "Programs run after packages were installed, with network; what they do is cached."),
    scripts("BuildScripts", "build-script",
        &[Special::Path("mkosi.build"), Special::Path("mkosi.build.chroot"), Special::Files("mkosi.build.d")],
        "Programs that build something and leave it in $DESTDIR.")
        .aliases(&["BuildScript"]),
    scripts("PostInstallationScripts", "postinst-script",
        &[Special::Path("mkosi.postinst"), Special::Path("mkosi.postinst.chroot"), Special::Files("mkosi.postinst.d")],
        "Programs run after packages, build results and extra trees are in place.")
        .aliases(&["PostInstallationScript"]),
    scripts("FinalizeScripts", "finalize-script",
        &[Special::Path("mkosi.finalize"), Special::Path("mkosi.finalize.chroot"), Special::Files("mkosi.finalize.d")],
        "Programs run last on the tree, before it is sealed.")
        .aliases(&["FinalizeScript"]),
    scripts("PostOutputScripts", "postoutput-script",
        &[Special::Path("mkosi.postoutput"), Special::Files("mkosi.postoutput.d")],
        "Programs run on the finished outputs before they are moved into place."),
    row(C, "Bootable", "bootable", "FEATURE", Kind::Choice(&FEATURE),
        "Whether the image boots: boot loader, UKI or entries, and an ESP on a disk.")
        .default("auto").matching(MatchKind::Equal),
    row(C, "Bootloader", "bootloader", "LOADER", Kind::Choice(&BOOTLOADERS),
        "systemd-boot, uki (one UKI where the firmware looks) or none.")
        .default("systemd-boot").matching(MatchKind::Equal),
    row(C, "BiosBootloader", "bios-bootloader", "LOADER", Kind::Choice(&BIOS),
        "A boot loader for machines without UEFI.").default("none").refused(&["none"]),
    row(C, "ShimBootloader", "shim-bootloader", "KIND", Kind::Choice(&SHIM),
        "Whether shim is installed.").default("none").refused(&["none"]),
    row(C, "UnifiedKernelImages", "unified-kernel-images", "MODE", Kind::Choice(&UKIS),
        "Whether systemd-boot gets UKIs (a true boolean, unsigned, signed), Type #1 entries (a false boolean, none), or UKIs where their parts are there (auto).")
        .default("auto"),
    row(C, "UnifiedKernelImageFormat", "unified-kernel-image-format", "FORMAT", Kind::FileName,
        "How UKIs are named.").refused(&[]),
    row(C, "UnifiedKernelImageProfiles", "uki-profile", "PATH", Kind::ExistingPath,
        "Additional profiles in each UKI.").list(Split::Commas)
        .special(&[Special::Path("mkosi.uki-profiles")]).refused(&[]),
    row(C, "Initrds", "initrd", "PATH", Kind::Path,
        "Initrds to use instead of the default one; \"default\" stands for that one. An empty assignment leaves the initrd out.")
        .list(Split::Commas),
    row(C, "InitrdProfiles", "initrd-profile", "PROFILE", Kind::Text,
        "Features of the default initrd.").list(Split::Commas).refused(&[]),
    packages("InitrdPackages", "initrd-package",
        "Packages added to the default initrd."),
    packages("InitrdVolatilePackages", "initrd-volatile-package",
        "Packages added to the default initrd outside its cached layer.").refused(&[]),
    row(C, "Devicetrees", "devicetrees", "PATTERN", Kind::Text,
        "Device trees to include.").list(Split::Commas).aliases(&["Devicetree"]).refused(&[]),
    row(C, "Splash", "splash", "PATH", Kind::AbsolutePath, "A picture shown by the UKI.").refused(&[]),
    row(C, "MicrocodeHost", "microcode-host", "BOOL", Kind::Bool,
        "Whether only this machine's microcode is included.").refused(&["no"]),
    row(C, "KernelCommandLine", "kernel-command-line", "OPTIONS", Kind::Text,
        "The kernel's command line. A bare root=PARTUUID or mount.usr=PARTUUID is completed with the partition's UUID.")
        .list(Split::Spaces),
    row(C, "KernelModules", "kernel-modules", "PATTERN", Kind::Text,
        "Patterns of kernel modules to keep in the image; \"-\" before one leaves those out, the last one that matches decides. \"default\" stands for the initrd's default set, \"host\" for the modules loaded here.")
        .list(Split::Commas),
    row(C, "KernelModulesInclude", "kernel-modules-include", "REGEX", Kind::Regex,
        "Modules to keep, as regular expressions.").list(Split::Commas)
        .old("use KernelModules= with patterns").hidden(),
    row(C, "KernelModulesExclude", "kernel-modules-exclude", "REGEX", Kind::Regex,
        "Modules to leave out, as regular expressions.").list(Split::Commas)
        .old("use KernelModules= with \"-\" before a pattern"),
    row(C, "KernelModulesIncludeHost", "kernel-modules-include-host", "BOOL", Kind::Bool,
        "Whether to keep the modules loaded on this machine.").old("use KernelModules=host"),
    row(C, "KernelModulesInitrd", "kernel-modules-initrd", "BOOL", Kind::Bool,
        "Whether a second initrd with the kernel's modules is appended.").default("yes").refused(&["yes"]),
    row(C, "KernelInitrdModules", "kernel-initrd-modules", "PATTERN", Kind::Text,
        "Patterns of kernel modules for the initrd, as in KernelModules=.").list(Split::Commas),
    row(C, "KernelModulesInitrdInclude", "kernel-modules-initrd-include", "REGEX", Kind::Regex,
        "Modules for the initrd, as regular expressions.").list(Split::Commas)
        .old("use KernelInitrdModules= with patterns").hidden(),
    row(C, "KernelModulesInitrdExclude", "kernel-modules-initrd-exclude", "REGEX", Kind::Regex,
        "Modules not for the initrd, as regular expressions.").list(Split::Commas)
        .old("use KernelInitrdModules= with \"-\" before a pattern"),
    row(C, "KernelModulesInitrdIncludeHost", "kernel-modules-initrd-include-host", "BOOL", Kind::Bool,
        "Whether the initrd gets the modules loaded on this machine.").old("use KernelInitrdModules=host"),
    row(C, "FirmwareFiles", "firmware-files", "PATTERN", Kind::Text,
        "Firmware files to include.").list(Split::Commas).refused(&[]),
    row(C, "FirmwareInclude", "firmware-include", "REGEX", Kind::Regex,
        "Firmware to include, as regular expressions.").list(Split::Commas).refused(&[]).hidden(),
    row(C, "FirmwareExclude", "firmware-exclude", "REGEX", Kind::Regex,
        "Firmware to leave out, as regular expressions.").list(Split::Commas).refused(&[]),
    text("Locale", "locale", "LOCALE", "The system's locale."),
    text("LocaleMessages", "locale-messages", "LOCALE", "The locale of messages."),
    text("Keymap", "keymap", "KEYMAP", "The console's keyboard layout."),
    text("Timezone", "timezone", "ZONE", "The time zone."),
    text("Hostname", "hostname", "NAME", "The host name. If not set, each instance gets its own way to one."),
    row(C, "RootPassword", "root-password", "PASSWORD", Kind::Password,
        "Root's password; after \"hashed:\" it is taken as a hash, and \"hashed:\" alone means none is needed. Root is locked if not set.")
        .special(&[Special::Secret("mkosi.rootpw")]).secret(),
    text("RootShell", "root-shell", "PATH", "Root's shell."),
    row(C, "MachineId", "machine-id", "UUID", Kind::Uuid,
        "A fixed machine ID, or \"random\". Without it the image has none, as a golden image should.")
        .special(&[Special::Contents("mkosi.machine-id")]),
    row(C, "Autologin", "autologin", "BOOL", Kind::Bool,
        "Whether root is logged in on the consoles without a password.").flag('a', "yes").default("no"),
    row(C, "MakeInitrd", "make-initrd", "BOOL", Kind::Bool,
        "Adds /init and /etc/initrd-release so that the image can be an initrd.").default("no"),
    row(C, "Ssh", "ssh", "MODE", Kind::Choice(&SSH),
        "Whether units that offer SSH over vsock are installed.").default("auto"),
    row(C, "SELinuxRelabel", "selinux-relabel", "FEATURE", Kind::Choice(&FEATURE),
        "Whether files are labelled for SELinux.").refused(&["disabled", "auto"]).default("auto"),
];
