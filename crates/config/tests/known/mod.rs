//! Where mkgold differs from mkosi on purpose, each with its reason. An entry
//! that explains nothing any more fails the tests, so the list stays true.

use crate::common::{DEFAULTS, Known};

const fn known(projects: &'static str, key: &'static str, reason: &'static str) -> Known {
    Known { projects, key, reason }
}

const STRICT: &str = "what mkosi ignores with a warning, or silently, is refused with a suggestion";
const REFUSED: &str = "known to mkosi, not supported by mkgold yet";
const NOT_RUN: &str = "nothing is executed while configuration is read";
const OS_RELEASE: &str = "it could not stand in os-release";
const RANDOM: &str = "reading a configuration draws no random number: it stays \"random\"";
const EMBEDDED: &str = "a project without configuration is the embedded default";
const CLI_FILES: &str = "mkosi forgets the files that --include named, mkgold lists them";
const NOT_A_NAME: &str = "not a variable's name that a shell can use";
const MALFORMED: &str = "mkosi accepts it and fails later, or makes nonsense of it";

/// Differences from mkosi 27.1.
const MKOSI_27: &[Known] = &[
    known(DEFAULTS, "CPUs", "2 as mkosi(1) says; mkosi counts the machine's"),
    known(DEFAULTS, "Console", "interactive as mkosi(1) says; mkosi looks at its terminal"),
    known(DEFAULTS, "Seed", "it derives from the configuration; mkosi draws a random one"),
    known("", "Initrds", "mkosi names the default initrd by its output path, mkgold by a flag"),
    known("", "BuildSources", "the recordings were made before mkgold had it"),
    known("dup", "Packages", "a package is listed once"),
    known("unknown", "error", STRICT),
    known("lower", "error", STRICT),
    known("spec unknown", "error", STRICT),
    known("spec p", "error", STRICT),
    known("xsection", "error", STRICT),
    known("scripts setting missing", "error", STRICT),
    known("special all", "error", REFUSED),
    known("special 2", "error", REFUSED),
    known("scripts", "error", REFUSED),
    known("include builtin", "error", REFUSED),
    known("SystemdVersion", "error", "the image must not depend on the build machine"),
    known("BuildSources", "error", REFUSED),
    known("split", "error", REFUSED),
    known("cachedir file", "error", REFUSED),
    known("CompressOutput=bz2", "error", REFUSED),
    known("CompressOutput=lz4", "error", REFUSED),
    known("Format=esp", "error", REFUSED),
    known("Format=oci", "error", REFUSED),
    known("OutputMode", "error", REFUSED),
    known("Overlay", "error", REFUSED),
    known("BiosBootloader", "error", REFUSED),
    known("KernelModulesInitrd", "error", REFUSED),
    known("Distribution=ubuntu", "error", REFUSED),
    known("Sign", "error", REFUSED),
    known("SecureBoot", "error", REFUSED),
    known("images", "error", REFUSED),
    known("kmi", "error", "old names of KernelModules= with another meaning are refused"),
    known("firmware", "error", REFUSED),
    known("version exec", "error", NOT_RUN),
    known("version 2 lines", "error", MALFORMED),
    known("rootpw multi", "error", MALFORMED),
    known("nonexec scripts chmod dir", "error", MALFORMED),
    known("tree target dots", "error", "a target with \"..\" could leave the image"),
    known("tree colon empty src", "error", MALFORMED),
    known("envfile", "error", MALFORMED),
    known("Environment=1A", "error", NOT_A_NAME),
    known("Environment=A-B", "error", NOT_A_NAME),
    known("Environment==", "error", NOT_A_NAME),
    known("RAM=9", "error", MALFORMED),
    known("CPUs=-1", "error", MALFORMED),
    known("CompressLevel=99", "error", MALFORMED),
    known("Release=13", "error", "Debian's archive knows releases by name"),
    known("imageid bad", "error", OS_RELEASE),
    known("imageversion bad", "error", OS_RELEASE),
    known("Format env", "error", OS_RELEASE),
    known("Seed=random", "Seed", RANDOM),
    known("MachineId=random", "MachineId", RANDOM),
    known("machineid file", "MachineId", RANDOM),
    known("include cli", "Files", CLI_FILES),
    known("cli include", "Files", CLI_FILES),
    known("sde env", "SourceDateEpoch", "mkosi(1): Environment= comes before the environment"),
    known("cli rel path", "Bootable", EMBEDDED),
    known("cli rel path", "Files", EMBEDDED),
    known("cli rel path", "KernelCommandLine", EMBEDDED),
    known("cli rel path", "Locale", EMBEDDED),
    known("cli rel path", "Packages", EMBEDDED),
    known("cli rel path", "Timezone", EMBEDDED),
];

/// The differences that are known for a version of mkosi.
pub fn for_version(version: &str) -> Vec<Known> {
    match version.split('.').next() {
        Some("25") => mkosi_25(),
        _ => copy(MKOSI_27),
    }
}

fn copy(list: &[Known]) -> Vec<Known> {
    list.iter().map(|k| known(k.projects, k.key, k.reason)).collect()
}

const SPLITS: &str = "since mkosi 26 items of a list are separated by white space too";
const NEWER: &str = "mkosi 26 and 27 have it, 25 has not";
const CREDENTIALS: &str = "mkosi 27 names credential files, 25 reads them";

/// Differences between mkosi 25.3 and the language of today, in addition.
const MKOSI_25: &[Known] = &[
    known(DEFAULTS, "Credentials", CREDENTIALS),
    known(DEFAULTS, "Ssh", "the default is \"auto\" since mkosi 26"),
    known("Credentials", "Credentials", CREDENTIALS),
    known("mkosi.credentials", "Credentials", CREDENTIALS),
    known("comma", "Packages", SPLITS),
    known("quotes in packages", "Packages", SPLITS),
    known("pk ws", "Packages", SPLITS),
    known("pk ws", "BuildPackages", SPLITS),
    known("pk ws", "VolatilePackages", SPLITS),
    known("pk ws", "RemovePackages", SPLITS),
    known("pk ws", "InitrdPackages", SPLITS),
    known("cli space", "Packages", SPLITS),
    known("Packages=", "Packages", SPLITS),
    known("initrds default", "Initrds", SPLITS),
    known("Initrds=a b", "Initrds", SPLITS),
    known("repos", "Repositories", SPLITS),
    known("manifest ws", "error", SPLITS),
    known("removefiles", "RemoveFiles", SPLITS),
    known("RemoveFiles", "RemoveFiles", SPLITS),
    known("ExtraTrees", "ExtraTrees", SPLITS),
    known("imageid env", "ExtraTrees", SPLITS),
    known("BaseTrees", "BaseTrees", SPLITS),
    known("PostInstallationScripts", "PostInstallationScripts", SPLITS),
    known("PackageDirectories", "PackageDirectories", SPLITS),
    known("SandboxTrees", "error", SPLITS),
    known("EnvironmentFiles", "error", SPLITS),
    known("include twice symlink", "error", SPLITS),
    known("", "Profiles", SPLITS),
    known("Profiles=", "KernelCommandLine", SPLITS),
    known("Profiles=", "Files", SPLITS),
    known("local dir", "Files", NEWER),
    known("local dir", "KernelCommandLine", NEWER),
    known("local dir", "ExtraTrees", NEWER),
    known("local dir", "ImageVersion", NEWER),
    known("local dir", "Output", NEWER),
    known("local prio", "Files", NEWER),
    known("local prio", "KernelCommandLine", NEWER),
    known("assert bad", "error", NEWER),
    known("mkosi subdir", "ExtraTrees", NEWER),
    known("mkosi subdir", "Files", NEWER),
    known("mkosi subdir", "Hostname", NEWER),
    known("mkosi subdir", "KernelCommandLine", NEWER),
    known("spec subdir", "Files", NEWER),
    known("spec subdir", "KernelCommandLine", NEWER),
    known("spec basic", "KernelCommandLine", NEWER),
    known("spec unset I", "KernelCommandLine", NEWER),
    known("Bootloader=uki", "error", NEWER),
    known("Image=", "error", NEWER),
    known("Architecture=uefi", "error", NEWER),
    known("KernelModules=", "error", NEWER),
    known("KernelInitrdModules=", "error", NEWER),
    known("UnifiedKernelImages=", "error", NEWER),
    known("Ssh=auto", "error", NEWER),
    known("Ssh=no", "Ssh", "\"no\" is \"never\" since mkosi 26"),
    known("ToolsTree=", "error", NEWER),
    known("Incremental=", "error", "mkosi 25 wants a cache directory; mkgold has one"),
    known("cli -i", "error", "mkosi 25 wants a cache directory; mkgold has one"),
    known("Firmware=bios", "error", "gone since mkosi 26"),
    known("MinimumVersion=99", "error", "mkosi 25 does not look at it for a summary"),
    known("sde env", "Environment", "mkosi 25 shows it among its own variables"),
];

/// Of the differences from 27.1, those in what 25.3 refuses itself or has not.
const NOT_IN_25: &[(&str, &str)] = &[
    ("", "Initrds"),
    ("xsection", "error"),
    ("scripts setting missing", "error"),
    ("Overlay", "error"),
    ("firmware", "error"),
];

fn mkosi_25() -> Vec<Known> {
    let mut list = copy(MKOSI_25);
    let both = |k: &Known| !NOT_IN_25.contains(&(k.projects, k.key));
    list.extend(copy(MKOSI_27).into_iter().filter(both));
    list
}
