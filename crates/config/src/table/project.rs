//! `[Include]`, `[Config]` and `[Distribution]`.

use super::{Choice, Kind, MatchKind, Section, Setting, Special, Split, row};

const C: Section = Section::Config;
const D: Section = Section::Distribution;

pub(super) static INCLUDE: &[Setting] = &[row(
    Section::Include,
    "Include",
    "include",
    "PATH",
    Kind::ExistingPath,
    "Reads another file, or a directory like a project of its own, at this place. Each path is read once.",
)
.short('I')
.list(Split::Commas)
.hidden()];

pub(super) static CONFIG: &[Setting] = &[
    row(
        C,
        "Profiles",
        "profile",
        "PROFILE",
        Kind::Text,
        "Profiles to read from mkosi.profiles/ (NAME.conf or NAME/) after mkosi.conf.d/.",
    )
    .list(Split::Commas)
    .aliases(&["Profile"])
    .matching(MatchKind::Contains),
    row(
        C,
        "Dependencies",
        "dependency",
        "IMAGE",
        Kind::Text,
        "Images of mkosi.images/ that are built before this one.",
    )
    .list(Split::Commas)
    .refused(&[]),
    row(
        C,
        "MinimumVersion",
        "minimum-version",
        "VERSION",
        Kind::Version,
        "The oldest mkosi whose language the project needs. mkgold reads the language of mkosi 27.",
    ),
    row(
        C,
        "ConfigureScripts",
        "configure-script",
        "PATH",
        Kind::Script,
        "Programs that rewrite the configuration.",
    )
    .list(Split::Commas)
    .special(&[Special::Path("mkosi.configure")])
    .refused(&[]),
    row(
        C,
        "PassEnvironment",
        "pass-environment",
        "NAME",
        Kind::Text,
        "Variables handed down to subimages.",
    )
    .list(Split::Spaces)
    .no_effect("there are no subimages to hand variables to"),
];

pub(super) static DISTRIBUTIONS: Choice = Choice::of(
    "a distribution",
    &["debian"],
    &[
        "fedora",
        "kali",
        "ubuntu",
        "postmarketos",
        "arch",
        "opensuse",
        "mageia",
        "centos",
        "rhel",
        "rhel-ubi",
        "openmandriva",
        "rocky",
        "alma",
        "azure",
        "custom",
    ],
);

pub(super) static ARCHITECTURES: Choice = Choice::of(
    "an architecture",
    &[
        "alpha",
        "arm",
        "arm64",
        "ia64",
        "loongarch64",
        "mips-le",
        "mips64-le",
        "parisc",
        "ppc",
        "ppc64",
        "ppc64-le",
        "riscv64",
        "s390x",
        "x86",
        "x86-64",
    ],
    &["arc", "riscv32", "s390", "tilegx"],
);

pub(super) static DISTRIBUTION: &[Setting] = &[
    row(D, "Distribution", "distribution", "NAME", Kind::Choice(&DISTRIBUTIONS),
        "The distribution to install. Debian, whatever the build machine runs.")
        .short('d').default("debian").matching(MatchKind::Equal).specifier('d'),
    row(D, "Release", "release", "RELEASE", Kind::Release,
        "The release: a code name (trixie) or a suite (stable, testing, sid). The current stable if not set, whatever the build machine runs.")
        .short('r').default("trixie").matching(MatchKind::Equal).specifier('r'),
    row(D, "Architecture", "architecture", "ARCH", Kind::Choice(&ARCHITECTURES),
        "The architecture, by mkosi's names (x86-64, arm64, riscv64 …). This machine's if not set.")
        .matching(MatchKind::Equal).specifier('a'),
    row(D, "Mirror", "mirror", "URL", Kind::Text,
        "Where packages are fetched from. If not set, the mirror that this machine's apt uses for the distribution.")
        .short('m'),
    row(D, "Snapshot", "snapshot", "ID", Kind::Text,
        "A dated state of the archive.").refused(&[]),
    row(D, "LocalMirror", "local-mirror", "URL", Kind::Text,
        "One plain repository used instead of all others while building; the image itself gets the normal sources."),
    row(D, "RepositoryKeyCheck", "repository-key-check", "BOOL", Kind::Bool,
        "Whether signatures of repositories are checked.").default("yes"),
    row(D, "RepositoryKeyFetch", "repository-key-fetch", "BOOL", Kind::Bool,
        "Whether keys of distributions are fetched.")
        .no_effect("it exists for dnf, pacman and zypper only; Debian's keys are never fetched"),
    row(D, "Repositories", "repositories", "NAME", Kind::Text,
        "Components of the archive in addition to main (contrib, non-free, non-free-firmware), or suites such as backports.")
        .list(Split::Commas).matching(MatchKind::Contains),
];
