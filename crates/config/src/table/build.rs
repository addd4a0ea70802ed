//! `[Validation]` and `[Build]`.

use super::{Choice, FEATURE, Kind, MatchKind, Section, Setting, Special, Split, row};

const V: Section = Section::Validation;
const B: Section = Section::Build;

static SIGN_TOOLS: Choice =
    Choice::of("a signing tool", &["auto", "sbsign", "systemd-sbsign"], &[]);
static VERITY: Choice = Choice::of(
    "one of signed, hash, defer, auto or a boolean",
    &["disabled", "signed", "hash", "defer", "auto"],
    &[],
)
.bools("signed", "disabled");
static INCREMENTAL: Choice =
    Choice::of("a boolean or \"strict\"", &["no", "yes", "strict"], &[]).bools("yes", "no");
static CACHE_ONLY: Choice = Choice::of(
    "one of auto, metadata, always or never",
    &["auto", "metadata", "always", "never"],
    &[],
)
.bools("always", "auto");
static EPHEMERAL_SOURCES: Choice =
    Choice::of("a boolean or \"buildcache\"", &["no", "yes", "buildcache"], &[]).bools("yes", "no");

/// A path to a key or certificate: unused as long as nothing is signed.
const fn key(name: &'static str, long: &'static str, special: &'static [Special]) -> Setting {
    row(V, name, long, "PATH", Kind::Key, "A key or certificate for signing.")
        .special(special)
        .no_effect(
            "it is only used by SecureBoot=, Verity= and SignExpectedPcr=, which are refused",
        )
}

/// Where a key or certificate comes from.
const fn key_source(name: &'static str, long: &'static str, kind: Kind) -> Setting {
    row(V, name, long, "SOURCE", kind, "Where the key or certificate comes from.").no_effect(
        "it is only used by SecureBoot=, Verity= and SignExpectedPcr=, which are refused",
    )
}

const KEY: &[Special] = &[Special::Path("mkosi.key")];
const CRT: &[Special] = &[Special::Path("mkosi.crt")];

pub(super) static VALIDATION: &[Setting] = &[
    row(
        V,
        "SecureBoot",
        "secure-boot",
        "BOOL",
        Kind::Bool,
        "Whether boot loader and UKIs are signed for UEFI secure boot.",
    )
    .refused(&["no"]),
    row(
        V,
        "SecureBootAutoEnroll",
        "secure-boot-auto-enroll",
        "BOOL",
        Kind::Bool,
        "Whether secure boot keys are enrolled on first boot.",
    )
    .no_effect("it is only used by SecureBoot=, which is refused")
    .default("yes"),
    key("SecureBootKey", "secure-boot-key", KEY),
    key_source("SecureBootKeySource", "secure-boot-key-source", Kind::KeySource),
    key("SecureBootCertificate", "secure-boot-certificate", CRT),
    key_source(
        "SecureBootCertificateSource",
        "secure-boot-certificate-source",
        Kind::CertificateSource,
    ),
    row(
        V,
        "SecureBootSignTool",
        "secure-boot-sign-tool",
        "TOOL",
        Kind::Choice(&SIGN_TOOLS),
        "The tool that signs.",
    )
    .no_effect("it is only used by SecureBoot=, which is refused")
    .default("auto"),
    row(
        V,
        "Verity",
        "verity",
        "MODE",
        Kind::Choice(&VERITY),
        "Whether extension images have signed verity partitions.",
    )
    .refused(&["auto", "disabled"])
    .default("auto"),
    key("VerityKey", "verity-key", KEY),
    key_source("VerityKeySource", "verity-key-source", Kind::KeySource),
    key("VerityCertificate", "verity-certificate", CRT),
    key_source("VerityCertificateSource", "verity-certificate-source", Kind::CertificateSource),
    row(
        V,
        "SignExpectedPcr",
        "sign-expected-pcr",
        "FEATURE",
        Kind::Choice(&FEATURE),
        "Whether UKIs carry signed PCR values.",
    )
    .refused(&["disabled", "auto"])
    .default("auto"),
    key("SignExpectedPcrKey", "sign-expected-pcr-key", KEY),
    key_source("SignExpectedPcrKeySource", "sign-expected-pcr-key-source", Kind::KeySource),
    key("SignExpectedPcrCertificate", "sign-expected-pcr-certificate", CRT),
    key_source(
        "SignExpectedPcrCertificateSource",
        "sign-expected-pcr-certificate-source",
        Kind::CertificateSource,
    ),
    row(
        V,
        "SignInitrdPCRs",
        "sign-initrd-pcrs",
        "FEATURE",
        Kind::Choice(&FEATURE),
        "Whether PCR policies for the initrd are made.",
    )
    .refused(&["disabled", "auto"])
    .default("auto"),
    row(
        V,
        "Passphrase",
        "passphrase",
        "PATH",
        Kind::Path,
        "The passphrase of encrypted partitions.",
    )
    .special(&[Special::Path("mkosi.passphrase")])
    .refused(&[]),
    row(
        V,
        "Checksum",
        "checksum",
        "BOOL",
        Kind::Bool,
        "Whether SHA256SUMS is written beside the outputs.",
    )
    .default("no"),
    row(V, "Sign", "sign", "BOOL", Kind::Bool, "Whether SHA256SUMS is signed.").refused(&["no"]),
    row(V, "Key", "key", "KEY", Kind::Text, "The OpenPGP key that signs.")
        .no_effect("it is only used by Sign=, which is refused"),
    row(V, "OpenPGPTool", "openpgp-tool", "TOOL", Kind::Text, "The tool that signs.")
        .no_effect("it is only used by Sign=, which is refused")
        .default("gpg"),
];

const TOOLS: &str = "mkgold fetches and pins the tools it needs by itself";

pub(super) static BUILD: &[Setting] = &[
    row(B, "ToolsTree", "tools-tree", "MODE", Kind::ToolsTree,
        "Where build tools come from. mkgold always brings its own, so that a boolean changes nothing.")
        .special(&[Special::Path("mkosi.tools")]).no_effect(TOOLS),
    row(B, "ToolsTreeDistribution", "tools-tree-distribution", "NAME", Kind::Choice(&super::project::DISTRIBUTIONS),
        "The distribution of the tools tree.").default("debian").matching(MatchKind::Equal).refused(&["debian"]).hidden(),
    row(B, "ToolsTreeRelease", "tools-tree-release", "RELEASE", Kind::Text,
        "The release of the tools tree.").default("testing").matching(MatchKind::Equal).refused(&[]).hidden(),
    row(B, "ToolsTreeProfiles", "tools-tree-profile", "PROFILE", Kind::Text,
        "Profiles of the tools tree.").list(Split::Commas).no_effect(TOOLS).hidden(),
    row(B, "ToolsTreeMirror", "tools-tree-mirror", "URL", Kind::Text,
        "The mirror of the tools tree.").refused(&[]).hidden(),
    row(B, "ToolsTreeSnapshot", "tools-tree-snapshot", "ID", Kind::Text,
        "The dated state the tools tree is taken from.").refused(&[]).hidden(),
    row(B, "ToolsTreeRepositories", "tools-tree-repository", "NAME", Kind::Text,
        "Repositories of the tools tree.").list(Split::Commas).refused(&[]).hidden(),
    row(B, "ToolsTreeSandboxTrees", "tools-tree-sandbox-tree", "PATH[:TARGET]", Kind::ExistingTree,
        "Package manager configuration of the tools tree.").list(Split::Commas)
        .aliases(&["ToolsTreePackageManagerTrees"]).refused(&[]).hidden(),
    row(B, "ToolsTreePackages", "tools-tree-package", "PACKAGE", Kind::Text,
        "Packages added to the tools tree.").list(Split::Commas).refused(&[]).hidden(),
    row(B, "ToolsTreePackageDirectories", "tools-tree-package-directory", "PATH", Kind::ExistingPath,
        "Local packages for the tools tree.").list(Split::Commas).refused(&[]).hidden(),
    row(B, "ToolsTreeCertificates", "tools-tree-certificates", "BOOL", Kind::Bool,
        "Whether certificates come from the tools tree.").no_effect(TOOLS).default("yes"),
    row(B, "ExtraSearchPaths", "extra-search-path", "PATH", Kind::ExistingPath,
        "Where else to look for tools.").list(Split::Commas)
        .no_effect("mkgold runs no program of this machine"),
    row(B, "Incremental", "incremental", "MODE", Kind::Choice(&INCREMENTAL),
        "Whether the tree is cached after the packages and prepare scripts. mkgold's own cache works without it; \"strict\" fails where that cache is empty.")
        .flag('i', "yes").default("no"),
    row(B, "CacheOnly", "cache-only", "MODE", Kind::Choice(&CACHE_ONLY),
        "What may be fetched: auto, metadata (packages only), always (nothing), never (always renew metadata).")
        .default("auto"),
    row(B, "SandboxTrees", "sandbox-tree", "PATH[:TARGET]", Kind::ExistingTree,
        "Trees laid over the sandbox that the package manager sees: apt configuration, keyrings, preferences, sources.")
        .list(Split::Commas).aliases(&["PackageManagerTrees"])
        .special(&[Special::Path("mkosi.sandbox"), Special::Path("mkosi.sandbox.tar"), Special::Path("mkosi.pkgmngr")]),
    row(B, "WorkspaceDirectory", "workspace-directory", "DIR", Kind::Path,
        "Where temporary data goes.").no_effect("mkgold lays no tree out in a workspace; the image does not depend on it"),
    row(B, "CacheDirectory", "cache-directory", "DIR", Kind::Path,
        "Where cached layers go. A directory in the user's cache if not set.")
        .special(&[Special::Path("mkosi.cache")]),
    row(B, "CacheKey", "cache-key", "KEY", Kind::Text, "How cached images are named.")
        .no_effect("layers are found by the hash of what went into them").default("&d~&r~&a~&I"),
    row(B, "PackageCacheDirectory", "package-cache-directory", "DIR", Kind::Path,
        "Where downloaded packages are kept. A directory in the user's cache if not set.")
        .special(&[Special::Path("mkosi.pkgcache")]),
    row(B, "BuildDirectory", "build-directory", "DIR", Kind::Path,
        "A directory that build scripts find again in the next build.")
        .special(&[Special::Path("mkosi.builddir")]),
    row(B, "BuildKey", "build-key", "KEY", Kind::Text,
        "The subdirectory in BuildDirectory=; always DISTRIBUTION~RELEASE~ARCHITECTURE.").refused(&[]).default("&d~&r~&a"),
    row(B, "UseSubvolumes", "use-subvolumes", "FEATURE", Kind::Choice(&FEATURE),
        "Whether btrfs subvolumes are used for trees.")
        .no_effect("mkgold lays no tree out in a workspace").default("auto"),
    row(B, "RepartOffline", "repart-offline", "BOOL", Kind::Bool,
        "Whether disks are made without loop devices.")
        .no_effect("mkgold never uses loop devices").default("yes"),
    row(B, "History", "history", "BOOL", Kind::Bool,
        "Whether the last build's arguments are remembered.").refused(&["no"]),
    row(B, "BuildSources", "build-sources", "PATH[:TARGET]", Kind::ExistingTree,
        "Directories that scripts see at $SRCDIR, or at TARGET below it; the project's if not set.")
        .list(Split::Commas),
    row(B, "BuildSourcesEphemeral", "build-sources-ephemeral", "MODE", Kind::Choice(&EPHEMERAL_SOURCES),
        "Whether changes to sources are thrown away.").refused(&["no"]).default("no"),
    row(B, "Environment", "environment", "NAME[=VALUE]", Kind::Assignment,
        "Variables for the package manager and scripts; a name alone takes the value over from the environment.")
        .short('E').list(Split::Shell).matching(MatchKind::Environment),
    row(B, "EnvironmentFiles", "env-file", "PATH", Kind::ExistingPath,
        "Files of NAME=VALUE lines, read before Environment=.")
        .list(Split::Commas).special(&[Special::Path("mkosi.env")]),
    row(B, "WithTests", "with-tests", "BOOL", Kind::Bool,
        "What build scripts find in $WITH_TESTS.").flag('T', "no").default("yes"),
    row(B, "WithNetwork", "with-network", "BOOL", Kind::Bool,
        "Whether scripts after the packages have network.").default("no"),
    row(B, "ProxyUrl", "proxy-url", "URL", Kind::Text, "A proxy for all connections.").refused(&[]),
    row(B, "ProxyExclude", "proxy-exclude", "HOST", Kind::Text,
        "Hosts reached without the proxy.").list(Split::Commas).refused(&[]),
    row(B, "ProxyPeerCertificate", "proxy-peer-certificate", "PATH", Kind::ExistingPath,
        "Certificates that verify the proxy.").refused(&[]),
    row(B, "ProxyClientCertificate", "proxy-client-certificate", "PATH", Kind::ExistingPath,
        "The certificate shown to the proxy.").refused(&[]),
    row(B, "ProxyClientKey", "proxy-client-key", "PATH", Kind::ExistingPath,
        "The key of that certificate.").refused(&[]),
    row(B, "MakeScriptsExecutable", "make-scripts-executable", "BOOL", Kind::Bool,
        "Whether scripts are made executable.").refused(&["no"]),
    row(B, "ForeignUIDRange", "foreign-uid-range", "BOOL", Kind::Bool,
        "Whether directory images belong to the foreign UID range.").refused(&["no"]),
    row(B, "DelegateRanges", "delegate-ranges", "NUMBER", Kind::Integer(i64::MIN, i64::MAX),
        "How many UID ranges are delegated.").refused(&["0"]).default("0"),
];
