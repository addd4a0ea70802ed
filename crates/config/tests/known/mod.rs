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

const SPELLINGS: &str = "an option takes every spelling that a file does";
const EARLY_DEFAULT: &str =
    "mkosi keeps the default release of the distribution that was set when it was first asked for";

/// Differences from mkosi 27.1.
pub const KNOWN: &[Known] = &[
    known(DEFAULTS, "CPUs", "2 as mkosi(1) says; mkosi counts the machine's"),
    known(DEFAULTS, "Console", "interactive as mkosi(1) says; mkosi looks at its terminal"),
    known(DEFAULTS, "Seed", "it derives from the configuration; mkosi draws a random one"),
    known(DEFAULTS, "ProxyPeerCertificate", "mkosi looks for the machine's certificates"),
    known("special all", "ToolsTree", "mkgold brings its tools"),
    known("special all", "UnifiedKernelImageProfiles", REFUSED),
    known("generated with --include", "Files", CLI_FILES),
    known("generated 19", "error", SPELLINGS),
    known("generated 44", "Credentials", "mkosi takes an option's relative path for a name"),
    known("generated 48", "error", SPELLINGS),
    known("generated 56", "error", MALFORMED),
    known("generated 127", "Release", EARLY_DEFAULT),
    known("generated 128", "error", MALFORMED),
    known("generated 152", "error", MALFORMED),
    known("generated 164", "error", STRICT),
    known("generated 167", "error", NOT_A_NAME),
    known("generated 179", "Release", EARLY_DEFAULT),
    known("generated 276", "BuildPackages", "mkosi sorts before the command line is added"),
    known("generated 210", "error", MALFORMED),
    known("generated 230", "error", MALFORMED),
    known("generated 248", "error", MALFORMED),
    known("generated 272", "error", OS_RELEASE),
    known("unknown", "error", STRICT),
    known("lower", "error", STRICT),
    known("spec unknown", "error", STRICT),
    known("spec p", "error", STRICT),
    known("xsection", "error", STRICT),
    known("scripts setting missing", "error", STRICT),
    known("include builtin", "error", REFUSED),
    known("SystemdVersion", "error", "the image must not depend on the build machine"),
    known("cachedir file", "error", REFUSED),
    known("images", "error", REFUSED),
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
