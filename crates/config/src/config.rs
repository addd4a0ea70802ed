//! The configuration as plain data, by area.
//!
//! Later stages see these types only: no text to parse, no default to know, no
//! value that cannot be built. Everything serialises in a stable order, so that a
//! configuration can be hashed.

mod build;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use build::{build, check, output_name, source_date_epoch, sources};

use crate::types::{
    Architecture, Bootloader, CacheOnly, Compression, Console, Distribution, Feature, Firmware,
    Incremental, ManifestFormat, OutputFormat, Ssh, UnifiedKernelImages, debian_codename,
};

/// The newest mkosi whose language this is.
pub const MKOSI_VERSION: &str = "27.1";

/// A configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The project.
    pub project: Project,
    /// `[Distribution]`.
    pub distribution: DistributionConfig,
    /// What is written, and how.
    pub output: OutputConfig,
    /// What goes into the tree.
    pub content: ContentConfig,
    /// The programs that are run on the way.
    pub scripts: Scripts,
    /// How it boots.
    pub boot: BootConfig,
    /// First-boot settings made at build time.
    pub system: SystemConfig,
    /// Caches, environment, network.
    pub build: BuildConfig,
    /// The virtual machine.
    pub runtime: RuntimeConfig,
    /// All settings as scripts find them in `$MKOSI_CONFIG`.
    pub image: ImageJson,
}

/// An image as `--json summary` shows it. It holds passwords: `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageJson(pub serde_json::Map<String, serde_json::Value>);

impl std::fmt::Debug for ImageJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ImageJson({} settings)", self.0.len())
    }
}

/// Where the configuration came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// The directory that mkgold was pointed at; scripts run in it.
    pub directory: PathBuf,
    /// The profiles, in order.
    pub profiles: Vec<String>,
    /// The configuration files whose settings apply, in order.
    pub files: Vec<PathBuf>,
    /// The oldest mkosi that the project asks for.
    pub minimum_version: Option<String>,
}

/// `[Distribution]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DistributionConfig {
    /// The distribution.
    pub distribution: Distribution,
    /// The release as it was written; see [`DistributionConfig::codename`].
    pub release: String,
    /// The architecture.
    pub architecture: Architecture,
    /// Where packages come from; the machine's mirror if not set.
    pub mirror: Option<String>,
    /// One repository instead of all while building.
    pub local_mirror: Option<String>,
    /// Whether signatures are checked.
    pub repository_key_check: bool,
    /// Components or suites in addition to main.
    pub repositories: Vec<String>,
}

impl DistributionConfig {
    /// The release's code name (`trixie` for `stable`).
    pub fn codename(&self) -> &str {
        debian_codename(&self.release)
    }
}

/// `[Output]` and `Checksum=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputConfig {
    /// What is made.
    pub format: OutputFormat,
    /// The output's name without extensions.
    pub name: String,
    /// Where it goes; the project's directory if not set.
    pub directory: Option<PathBuf>,
    /// The image's identifier.
    pub image_id: Option<String>,
    /// The image's version.
    pub image_version: Option<String>,
    /// How it is compressed.
    pub compress: Compression,
    /// The level of compression.
    pub compress_level: u32,
    /// Lists of packages to write.
    pub manifest_formats: Vec<ManifestFormat>,
    /// Directories of partition definitions.
    pub repart_directories: Vec<PathBuf>,
    /// The disk's sector size.
    pub sector_size: Option<u32>,
    /// The seed of UUIDs.
    pub seed: Option<UuidChoice>,
    /// Whether SHA256SUMS is written.
    pub checksum: bool,
}

impl OutputConfig {
    /// How the output as a whole is compressed: never a UKI, which firmware has to
    /// read, and never a directory.
    pub fn outer_compression(&self) -> Compression {
        match self.format {
            OutputFormat::Disk | OutputFormat::Tar | OutputFormat::Cpio => self.compress,
            _ => Compression::None,
        }
    }

    /// The output's file name with its extensions (`image_1.raw.zst`).
    pub fn file_name(&self) -> String {
        let mut name = self.name.clone();
        for extension in [self.format.extension(), self.outer_compression().extension()] {
            if !extension.is_empty() {
                name.push('.');
                name.push_str(extension);
            }
        }
        name
    }
}

/// A given or a random UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UuidChoice {
    /// Another one in each build.
    Random,
    /// This one.
    Fixed(Uuid),
}

/// A tree and the place in the image where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeSource {
    /// A directory or tar file, absolute.
    pub source: PathBuf,
    /// An absolute path in the image; the root if not set.
    pub target: Option<PathBuf>,
}

/// What goes into the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentConfig {
    /// Packages of the image, sorted.
    pub packages: Vec<String>,
    /// Packages that build scripts see, sorted.
    pub build_packages: Vec<String>,
    /// Packages outside the cached layer, sorted.
    pub volatile_packages: Vec<String>,
    /// Packages to remove at the end, sorted.
    pub remove_packages: Vec<String>,
    /// Directories of local packages.
    pub package_directories: Vec<PathBuf>,
    /// Whether Recommends are installed.
    pub with_recommends: bool,
    /// Whether documentation is installed.
    pub with_docs: bool,
    /// Trees that the image starts from.
    pub base_trees: Vec<PathBuf>,
    /// Trees copied in before packages.
    pub skeleton_trees: Vec<TreeSource>,
    /// Trees copied in after packages and builds.
    pub extra_trees: Vec<TreeSource>,
    /// Paths or patterns to remove at the end.
    pub remove_files: Vec<String>,
    /// Whether the package manager's data is removed.
    pub clean_package_metadata: Feature,
    /// The latest modification time, in seconds since 1970.
    pub source_date_epoch: Option<u64>,
    /// Patterns of kernel modules to keep; all if empty.
    pub kernel_modules: Vec<String>,
    /// Whether the image is to be an initrd.
    pub make_initrd: bool,
}

/// A program that is run on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Its path, absolute.
    pub path: PathBuf,
    /// Whether it runs inside the image (its name ends in `.chroot`).
    pub chroot: bool,
}

/// The scripts, each kind in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scripts {
    /// Before anything.
    pub sync: Vec<Script>,
    /// After packages.
    pub prepare: Vec<Script>,
    /// With the build packages.
    pub build: Vec<Script>,
    /// After extra trees.
    pub postinst: Vec<Script>,
    /// Last on the tree.
    pub finalize: Vec<Script>,
    /// On the outputs.
    pub postoutput: Vec<Script>,
    /// When outputs are removed.
    pub clean: Vec<Script>,
}

/// How it boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootConfig {
    /// Whether it boots.
    pub bootable: Feature,
    /// By which loader.
    pub bootloader: Bootloader,
    /// UKIs or Type #1 entries.
    pub unified_kernel_images: UnifiedKernelImages,
    /// The kernel's command line.
    pub kernel_command_line: Vec<String>,
    /// Whether `Initrds=` was left alone or names the default one, so that it is
    /// made.
    pub default_initrd: bool,
    /// Initrds to use, besides the default one or instead.
    pub initrds: Vec<PathBuf>,
    /// Packages added to the default initrd, sorted.
    pub initrd_packages: Vec<String>,
    /// Patterns of modules for the initrd.
    pub kernel_initrd_modules: Vec<String>,
}

/// Root's password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootPassword {
    /// The password, or its hash.
    pub text: String,
    /// Whether it is a hash; an empty hash means that none is needed.
    pub hashed: bool,
}

impl std::fmt::Debug for RootPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootPassword").field("hashed", &self.hashed).finish_non_exhaustive()
    }
}

/// First-boot settings made at build time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemConfig {
    /// The locale.
    pub locale: Option<String>,
    /// The locale of messages.
    pub locale_messages: Option<String>,
    /// The keyboard layout.
    pub keymap: Option<String>,
    /// The time zone.
    pub timezone: Option<String>,
    /// The host name.
    pub hostname: Option<String>,
    /// Root's password.
    pub root_password: Option<RootPassword>,
    /// Root's shell.
    pub root_shell: Option<String>,
    /// A machine ID, against all advice.
    pub machine_id: Option<UuidChoice>,
    /// Whether root is logged in on the consoles.
    pub autologin: bool,
    /// Units for SSH over vsock.
    pub ssh: Ssh,
}

/// Caches, environment, network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildConfig {
    /// Whether cached layers are used.
    pub incremental: Incremental,
    /// What may be fetched.
    pub cache_only: CacheOnly,
    /// Where layers go.
    pub cache_directory: Option<PathBuf>,
    /// What scripts see at `$SRCDIR`, and at these places below it.
    pub build_sources: Vec<TreeSource>,
    /// What build scripts find again in the next build.
    pub build_directory: Option<PathBuf>,
    /// Where packages go.
    pub package_cache_directory: Option<PathBuf>,
    /// Trees over the package manager's sandbox.
    pub sandbox_trees: Vec<TreeSource>,
    /// Variables of `Environment=`.
    pub environment: BTreeMap<String, String>,
    /// Variables of `EnvironmentFiles=`, which `environment` overrides.
    pub file_environment: BTreeMap<String, String>,
    /// The files of `EnvironmentFiles=`.
    pub environment_files: Vec<PathBuf>,
    /// Whether build scripts run tests.
    pub with_tests: bool,
    /// Whether scripts have network.
    pub with_network: bool,
}

impl BuildConfig {
    /// The variables that scripts get: those of the files under those of
    /// `Environment=`.
    pub fn script_environment(&self) -> BTreeMap<String, String> {
        let mut all = self.file_environment.clone();
        all.extend(self.environment.clone());
        all
    }
}

/// A system credential.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credential {
    /// Given in the configuration.
    Value(String),
    /// The contents of this file.
    File(PathBuf),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Value(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// The virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeConfig {
    /// Its console.
    pub console: Console,
    /// Its processors; 0 for as many as the machine has.
    pub cpus: u32,
    /// Its memory in bytes.
    pub ram: u64,
    /// Whether it runs on KVM.
    pub kvm: Feature,
    /// Its firmware.
    pub firmware: Firmware,
    /// Whether it runs on a copy.
    pub ephemeral: bool,
    /// Its credentials by name.
    pub credentials: BTreeMap<String, Credential>,
    /// Kernel options added at boot.
    pub kernel_command_line_extra: Vec<String>,
    /// The size to which the disk is grown.
    pub runtime_size: Option<u64>,
    /// More arguments for QEMU.
    pub qemu_args: Vec<String>,
}
