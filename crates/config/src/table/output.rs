//! `[Output]`.

use super::{Choice, FEATURE, Kind, MatchKind, Section, Setting, Special, Split, row};

const O: Section = Section::Output;

static FORMATS: Choice = Choice::of(
    "an image format",
    &["disk", "directory", "tar", "cpio", "uki", "none"],
    &["confext", "esp", "portable", "sysext", "oci", "addon"],
);

static MANIFESTS: Choice = Choice::of("a manifest format", &["json", "changelog"], &[]);

static COMPRESSIONS: Choice =
    Choice::of("a compression", &["none", "zstd", "xz", "gz"], &["bz2", "lz4", "lzma"])
        .bools("zstd", "none")
        .also(&[("gzip", "gz"), ("zst", "zstd")]);

static ARTIFACTS: Choice = Choice::of(
    "an artifact",
    &["uki", "kernel", "initrd", "yes", "no"],
    &[
        "os-release",
        "pcrs",
        "partitions",
        "roothash",
        "kernel-modules-initrd",
        "repart-definitions",
        "tar",
    ],
)
.bools("yes", "no");

pub(super) static OUTPUT: &[Setting] = &[
    row(O, "Format", "format", "FORMAT", Kind::Choice(&FORMATS),
        "What is made: a disk image, a directory, an archive, a unified kernel image, or nothing.")
        .short('t').default("disk").matching(MatchKind::Equal).specifier('t'),
    row(O, "ManifestFormat", "manifest-format", "FORMAT", Kind::Choice(&MANIFESTS),
        "Lists of the installed packages to write beside the image.").list(Split::Commas),
    row(O, "Output", "output", "NAME", Kind::FileName,
        "The output's name without extension. The image ID, or \"image\", with the version if not set.")
        .short('o').specifier('o'),
    row(O, "OutputExtension", "output-extension", "EXTENSION", Kind::FileName,
        "The output's extension.").refused(&[]),
    row(O, "OutputSize", "output-size", "SIZE", Kind::Size,
        "Grows the finished disk image.").refused(&[]),
    row(O, "CompressOutput", "compress-output", "ALGORITHM", Kind::Choice(&COMPRESSIONS),
        "How the output is compressed: zstd, xz, gz, a boolean. On by default for archives and UKIs, off for disks and directories."),
    row(O, "CompressLevel", "compress-level", "LEVEL", Kind::Integer(0, 22),
        "The level of compression.").default("3"),
    row(O, "OutputDirectory", "output-directory", "DIR", Kind::Path,
        "Where the output goes. The project's directory if not set.")
        .short('O').special(&[Special::Path("mkosi.output")]).specifier('O'),
    row(O, "OutputMode", "output-mode", "MODE", Kind::Mode,
        "Permissions of the output file.").refused(&[]),
    row(O, "ImageVersion", "image-version", "VERSION", Kind::Identifier,
        "The image's version; goes into os-release and the output's name.")
        .special(&[Special::Contents("mkosi.version")])
        .matching(MatchKind::Version).specifier('v'),
    row(O, "ImageId", "image-id", "ID", Kind::Identifier,
        "The image's identifier; goes into os-release, the boot entries' names and the output's name.")
        .matching(MatchKind::Glob).specifier('i'),
    row(O, "OciLabels", "oci-labels", "KEY=VALUE", Kind::Label,
        "Labels of an OCI image.").list(Split::Shell).refused(&[]),
    row(O, "OciAnnotations", "oci-annotations", "KEY=VALUE", Kind::Label,
        "Annotations of an OCI image.").list(Split::Shell).refused(&[]),
    row(O, "SplitArtifacts", "split-artifacts", "ARTIFACT", Kind::Choice(&ARTIFACTS),
        "Parts of the image that are also written on their own.")
        .list(Split::Commas).refused(&["no"]).default("uki,kernel,initrd"),
    row(O, "RepartDirectories", "repart-directory", "PATH", Kind::ExistingPath,
        "Directories of repart.d partition definitions for the disk.")
        .list(Split::Commas).special(&[Special::Path("mkosi.repart")]),
    row(O, "SectorSize", "sector-size", "BYTES", Kind::SectorSize,
        "The disk's sector size: 512, 1024, 2048 or 4096. 512 if not set."),
    row(O, "Overlay", "overlay", "BOOL", Kind::Bool,
        "Outputs only what differs from the base trees.").refused(&["no"]),
    row(O, "Seed", "seed", "UUID", Kind::Uuid,
        "The UUID from which partition and file-system UUIDs derive, or \"random\". mkgold derives it from the configuration if not set, so that builds repeat.")
        .special(&[Special::Contents("mkosi.seed")]),
    row(O, "ElTorito", "el-torito", "FEATURE", Kind::Choice(&FEATURE),
        "A boot catalogue for optical media.").refused(&["disabled", "auto"]).default("auto"),
    row(O, "ElToritoSystem", "el-torito-system", "TEXT", Kind::Text,
        "The system identifier of the ISO 9660 descriptor.").refused(&[]),
    row(O, "ElToritoVolume", "el-torito-volume", "TEXT", Kind::Text,
        "The volume identifier of the ISO 9660 descriptor.").refused(&[]),
    row(O, "ElToritoPublisher", "el-torito-publisher", "TEXT", Kind::Text,
        "The publisher identifier of the ISO 9660 descriptor.").refused(&[]),
    row(O, "CleanScripts", "clean-script", "PATH", Kind::Script,
        "Programs run when the outputs of an earlier build are removed.")
        .list(Split::Commas)
        .special(&[Special::Path("mkosi.clean"), Special::Files("mkosi.clean.d")]),
];
