//! The closed sets of values of the language: distributions, architectures,
//! formats, boot loaders and so on.
//!
//! Each enum is declared once with the names the language uses; parsing,
//! display, serialisation and the lists in documentation derive from that. A
//! value that mkosi knows and mkgold cannot build is *not* in these enums: the
//! settings table names it as refused, so that later stages never see it.
//!
//! Names come from mkosi(1) and, for Debian, from the archive.

use std::fmt;

/// Declares an enum whose variants have fixed names in configuration files.
macro_rules! names {
    ($(#[$meta:meta])* $enum:ident { $($(#[$vmeta:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $enum { $($(#[$vmeta])* $variant,)+ }

        impl $enum {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in configuration files and in JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The value with exactly this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.as_str() == name)
            }
        }

        impl fmt::Display for $enum {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $enum {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $enum {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let name = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                Self::from_name(&name).ok_or_else(|| {
                    serde::de::Error::custom(format!(concat!("unknown ", stringify!($enum), " {:?}"), name))
                })
            }
        }
    };
}

/// What `Release=` is if it is not set, by distribution: also of those that mkgold does
/// not install, whose configuration it reads.
pub fn default_release(distribution: &str) -> &'static str {
    match distribution {
        "debian" => "trixie",
        "ubuntu" => "devel",
        "kali" => "kali-rolling",
        "postmarketos" => "edge",
        "arch" => "rolling",
        "opensuse" => "tumbleweed",
        "mageia" => "cauldron",
        "openmandriva" => "cooker",
        "centos" | "rhel" | "rhel-ubi" | "rocky" | "alma" => "10",
        "azure" => "3.0",
        "fedora" => "rawhide",
        _ => "",
    }
}

names! {
    /// `Distribution=`: what is installed.
    Distribution {
        /// Debian.
        Debian = "debian",
    }
}

names! {
    /// `Architecture=` as mkosi names them; those that Debian has or had.
    Architecture {
        /// DEC Alpha.
        Alpha = "alpha",
        /// 32-bit ARM with hardware floating point.
        Arm = "arm",
        /// 64-bit ARM.
        Arm64 = "arm64",
        /// Itanium.
        Ia64 = "ia64",
        /// LoongArch, 64 bits.
        LoongArch64 = "loongarch64",
        /// MIPS, 32 bits, little-endian.
        MipsLe = "mips-le",
        /// MIPS, 64 bits, little-endian.
        Mips64Le = "mips64-le",
        /// HP PA-RISC.
        Parisc = "parisc",
        /// PowerPC, 32 bits.
        Ppc = "ppc",
        /// PowerPC, 64 bits, big-endian.
        Ppc64 = "ppc64",
        /// PowerPC, 64 bits, little-endian.
        Ppc64Le = "ppc64-le",
        /// RISC-V, 64 bits.
        Riscv64 = "riscv64",
        /// IBM Z, 64 bits.
        S390x = "s390x",
        /// PC, 32 bits.
        X86 = "x86",
        /// PC, 64 bits.
        X86_64 = "x86-64",
    }
}

impl Architecture {
    /// The name that Debian's archive uses (`amd64` for `x86-64`).
    pub const fn debian(self) -> &'static str {
        match self {
            Self::Alpha => "alpha",
            Self::Arm => "armhf",
            Self::Arm64 => "arm64",
            Self::Ia64 => "ia64",
            Self::LoongArch64 => "loong64",
            Self::MipsLe => "mipsel",
            Self::Mips64Le => "mips64el",
            Self::Parisc => "hppa",
            Self::Ppc => "powerpc",
            Self::Ppc64 => "ppc64",
            Self::Ppc64Le => "ppc64el",
            Self::Riscv64 => "riscv64",
            Self::S390x => "s390x",
            Self::X86 => "i386",
            Self::X86_64 => "amd64",
        }
    }

    /// The architecture with this Debian name.
    pub fn from_debian(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|a| a.debian() == name)
    }

    /// The suffix of EFI programs for it (`x64` in `BOOTX64.EFI`), where UEFI
    /// runs on it (UEFI specification 3.5.1.1).
    pub const fn efi(self) -> Option<&'static str> {
        match self {
            Self::X86_64 => Some("x64"),
            Self::X86 => Some("ia32"),
            Self::Arm64 => Some("aa64"),
            Self::Arm => Some("arm"),
            Self::Riscv64 => Some("riscv64"),
            Self::LoongArch64 => Some("loongarch64"),
            Self::Ia64 => Some("ia64"),
            _ => None,
        }
    }

    /// The suffix of QEMU's system emulator (`qemu-system-…`).
    pub const fn qemu(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::X86 => "i386",
            Self::Arm64 => "aarch64",
            Self::Ppc64Le => "ppc64",
            Self::Parisc => "hppa",
            Self::MipsLe => "mipsel",
            Self::Mips64Le => "mips64el",
            other => other.as_str(),
        }
    }
}

names! {
    /// `Format=`: what the output is.
    OutputFormat {
        /// A disk image with a GPT.
        Disk = "disk",
        /// A directory tree.
        Directory = "directory",
        /// A tar archive.
        Tar = "tar",
        /// A cpio archive, as the kernel takes for an initrd.
        Cpio = "cpio",
        /// A unified kernel image that carries the tree as its initrd.
        Uki = "uki",
        /// Nothing: only the scripts produce something.
        None = "none",
    }
}

impl OutputFormat {
    /// The extension of the output file, without a dot; empty for none.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Disk => "raw",
            Self::Tar => "tar",
            Self::Cpio => "cpio",
            Self::Uki => "efi",
            Self::Directory | Self::None => "",
        }
    }
}

names! {
    /// `CompressOutput=` after `yes` and `no` were resolved.
    Compression {
        /// Not compressed.
        None = "none",
        /// Zstandard.
        Zstd = "zstd",
        /// xz.
        Xz = "xz",
        /// gzip.
        Gz = "gz",
    }
}

impl Compression {
    /// What is appended to the file name, without a dot; empty for none.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Zstd => "zst",
            Self::Xz => "xz",
            Self::Gz => "gz",
        }
    }
}

names! {
    /// A setting that is on, off, or decided by what is there.
    Feature {
        /// Must work, or the build fails.
        Enabled = "enabled",
        /// Not done.
        Disabled = "disabled",
        /// Done where it can be.
        Auto = "auto",
    }
}

names! {
    /// `Bootloader=`.
    Bootloader {
        /// None is installed.
        None = "none",
        /// systemd-boot with a UKI or a Type #1 entry for each kernel.
        SystemdBoot = "systemd-boot",
        /// One UKI at the place firmware looks.
        Uki = "uki",
    }
}

names! {
    /// `UnifiedKernelImages=`.
    UnifiedKernelImages {
        /// Type #1 entries.
        None = "none",
        /// UKIs where the stub and a kernel are there, else Type #1 entries.
        Auto = "auto",
        /// UKIs made here; missing parts fail the build.
        Unsigned = "unsigned",
        /// What mkosi 27 makes of `yes`: UKIs, made here unless the loader is a
        /// pre-signed one.
        Signed = "signed",
    }
}

names! {
    /// `ManifestFormat=`.
    ManifestFormat {
        /// Packages as JSON.
        Json = "json",
        /// Packages as text made for comparing.
        Changelog = "changelog",
    }
}

names! {
    /// `Ssh=`.
    Ssh {
        /// Units are installed.
        Always = "always",
        /// Units are installed where sshd is there and systemd has no generator.
        Auto = "auto",
        /// No units.
        Never = "never",
        /// No units, but `vm` insists on credentials.
        Runtime = "runtime",
    }
}

names! {
    /// `Incremental=`.
    Incremental {
        /// Off.
        No = "no",
        /// On.
        Yes = "yes",
        /// On, and a missing cache is an error.
        Strict = "strict",
    }
}

names! {
    /// `CacheOnly=`.
    CacheOnly {
        /// Metadata is renewed when needed.
        Auto = "auto",
        /// Nothing is fetched.
        Always = "always",
        /// Packages may be fetched, metadata not.
        Metadata = "metadata",
        /// Metadata is always renewed.
        Never = "never",
    }
}

names! {
    /// `Firmware=` of the virtual machine.
    Firmware {
        /// UEFI where it is there, else direct kernel boot.
        Auto = "auto",
        /// Direct kernel boot.
        Linux = "linux",
        /// Direct kernel boot without an initrd.
        LinuxNoInitrd = "linux-noinitrd",
        /// UEFI without secure boot.
        Uefi = "uefi",
        /// UEFI with secure boot.
        UefiSecureBoot = "uefi-secure-boot",
    }
}

names! {
    /// `Console=` of the virtual machine.
    Console {
        /// A terminal.
        Interactive = "interactive",
        /// A terminal that takes no input.
        ReadOnly = "read-only",
        /// QEMU's own terminal, with its monitor.
        Native = "native",
        /// A window.
        Gui = "gui",
        /// None.
        Headless = "headless",
    }
}

/// Debian's code names and the suites that stand for one of them, newest first.
/// Used to understand aliases and to answer typos; an unknown name is accepted,
/// so that a later release needs no new mkgold.
pub const DEBIAN_RELEASES: &[&str] = &[
    "sid",
    "unstable",
    "experimental",
    "duke",
    "forky",
    "testing",
    "trixie",
    "stable",
    "bookworm",
    "oldstable",
    "bullseye",
    "oldoldstable",
];

/// The current Debian stable.
pub const DEBIAN_STABLE: &str = "trixie";

/// The code name that a suite name stands for at the time of this version of
/// mkgold; other names stand for themselves.
pub fn debian_codename(release: &str) -> &str {
    match release {
        "stable" => DEBIAN_STABLE,
        "oldstable" => "bookworm",
        "oldoldstable" => "bullseye",
        "testing" => "forky",
        "unstable" => "sid",
        other => other,
    }
}

/// Whether Debian publishes `-updates` and `-security` for this release.
pub fn debian_has_updates(release: &str) -> bool {
    !matches!(debian_codename(release), "sid" | "experimental")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_have_distinct_debian_names() {
        for a in Architecture::ALL {
            assert_eq!(Architecture::from_debian(a.debian()), Some(*a));
            assert_eq!(Architecture::from_name(a.as_str()), Some(*a));
        }
        assert_eq!(Architecture::X86_64.debian(), "amd64");
        assert_eq!(Architecture::from_name("amd64"), None);
    }

    #[test]
    fn suites_stand_for_code_names() {
        assert_eq!(debian_codename("stable"), "trixie");
        assert_eq!(debian_codename("unstable"), "sid");
        assert_eq!(debian_codename("bookworm"), "bookworm");
        assert!(debian_has_updates("testing"));
        assert!(!debian_has_updates("unstable"));
    }
}
