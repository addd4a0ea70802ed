//! Layers to [`Config`]: defaults, and what only the whole can decide.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{
    BootConfig, BuildConfig, Config, ContentConfig, Credential, DistributionConfig, ImageJson,
    MKOSI_VERSION, OutputConfig, Project, RootPassword, RuntimeConfig, Script, Scripts,
    SystemConfig, TreeSource, UuidChoice,
};
use crate::diagnostic::{Diagnostic, Origin};
use crate::layer::{Layers, Stored};
use crate::loader::Read;
use crate::source::FileSource;
use crate::table::{self, SETTINGS};
use crate::types::{
    Architecture, Bootloader, CacheOnly, Compression, Console, Distribution, Feature, Firmware,
    Incremental, ManifestFormat, OutputFormat, Ssh, UnifiedKernelImages,
};
use crate::value::Value;
use crate::{Facts, version};

/// Typed views of the layers.
struct View<'a> {
    layers: &'a Layers,
}

impl View<'_> {
    fn stored(&self, name: &str) -> Option<&Stored> {
        self.layers.scalar(name)
    }

    /// A scalar's text, or its default.
    fn text(&self, name: &str) -> Option<String> {
        match self.stored(name).map(|s| &s.value) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => Some(table::get(name).default.to_string()).filter(|d| !d.is_empty()),
        }
    }

    fn bool(&self, name: &str) -> bool {
        match self.stored(name).map(|s| &s.value) {
            Some(Value::Bool(b)) => *b,
            _ => table::get(name).default == "yes",
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        match self.stored(name).map(|s| &s.value) {
            Some(Value::Number(n)) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        match self.stored(name).map(|s| &s.value) {
            Some(Value::Path(path)) => Some(path.clone()),
            _ => None,
        }
    }

    fn uuid(&self, name: &str) -> Option<UuidChoice> {
        match self.stored(name).map(|s| &s.value) {
            Some(Value::Uuid(Some(uuid))) => Some(UuidChoice::Fixed(*uuid)),
            Some(Value::Uuid(None)) => Some(UuidChoice::Random),
            _ => None,
        }
    }

    fn list<T>(&self, name: &str, item: impl Fn(&Value) -> Option<T>) -> Vec<T> {
        let values = self.layers.list(name).unwrap_or_default();
        values.into_iter().filter_map(|s| item(&s.value)).collect()
    }

    fn texts(&self, name: &str) -> Vec<String> {
        self.list(name, |v| match v {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        })
    }

    /// Packages are a set to apt: mkosi sorts them, and once each is enough.
    fn packages(&self, name: &str) -> Vec<String> {
        let mut packages = self.texts(name);
        packages.sort();
        packages.dedup();
        packages
    }

    fn paths(&self, name: &str) -> Vec<PathBuf> {
        self.list(name, |v| match v {
            Value::Path(path) => Some(path.clone()),
            _ => None,
        })
    }

    fn trees(&self, name: &str) -> Vec<TreeSource> {
        self.list(name, |v| match v {
            Value::Tree { source, target } => {
                Some(TreeSource { source: source.clone(), target: target.clone() })
            }
            _ => None,
        })
    }

    fn scripts(&self, name: &str) -> Vec<Script> {
        let script = |path: PathBuf| {
            let chroot = path.extension().is_some_and(|e| e == "chroot");
            Script { path, chroot }
        };
        self.paths(name).into_iter().map(script).collect()
    }

    fn pairs(&self, name: &str) -> BTreeMap<String, String> {
        let pair = |v: &Value| match v {
            Value::Pair { name, value } => Some((name.clone(), value.clone())),
            _ => None,
        };
        self.list(name, pair).into_iter().collect()
    }
}

/// Reads a closed set that the table has checked already.
macro_rules! named {
    ($view:expr, $name:literal, $type:ty) => {
        $view
            .text($name)
            .and_then(|t| <$type>::from_name(&t))
            .expect(concat!("the table allows only names of this type for ", $name))
    };
}

/// What is wrong with the configuration as a whole.
pub(crate) fn check(
    files: &dyn FileSource,
    project: &Path,
    facts: &Facts,
    read: &Read,
) -> Vec<Diagnostic> {
    let view = View { layers: &read.layers };
    let mut problems = Vec::from_iter(source_date_epoch(read, facts).err().map(|d| *d));
    problems.extend(check_minimum_version(&view));
    problems.extend(check_directories(&view, files));
    problems.extend(check_dependencies(&view, files, project));
    problems
}

/// Makes the configuration of what was read without errors.
pub(crate) fn build(project: &Path, facts: &Facts, read: &Read, image: ImageJson) -> Config {
    let view = View { layers: &read.layers };
    Config {
        project: Project {
            directory: project.to_path_buf(),
            profiles: view.texts("Profiles"),
            files: read.applied.clone(),
            minimum_version: view.text("MinimumVersion"),
        },
        distribution: distribution(&view, facts),
        output: output(&view),
        content: content(&view, source_date_epoch(read, facts).ok().flatten()),
        scripts: scripts(&view),
        boot: boot(&view),
        system: system(&view),
        build: build_config(&view, &read.environment, project),
        runtime: runtime(&view),
        image,
    }
}

fn distribution(view: &View, facts: &Facts) -> DistributionConfig {
    DistributionConfig {
        distribution: named!(view, "Distribution", Distribution),
        release: view.text("Release").expect("it has a default"),
        architecture: match view.text("Architecture") {
            Some(name) => Architecture::from_name(&name).expect("the table allows only these"),
            None => facts.architecture,
        },
        mirror: view.text("Mirror"),
        local_mirror: view.text("LocalMirror"),
        repository_key_check: view.bool("RepositoryKeyCheck"),
        repositories: view.texts("Repositories"),
    }
}

fn output(view: &View) -> OutputConfig {
    let format = named!(view, "Format", OutputFormat);
    let image_id = view.text("ImageId");
    let image_version = view.text("ImageVersion");
    let default = output_name(image_id.clone(), image_version.clone());
    let archive = matches!(format, OutputFormat::Tar | OutputFormat::Cpio | OutputFormat::Uki);
    let compress = match view.text("CompressOutput") {
        Some(name) => Compression::from_name(&name).expect("the table allows only these"),
        None if archive => Compression::Zstd,
        None => Compression::None,
    };
    OutputConfig {
        format,
        name: view.text("Output").unwrap_or(default),
        directory: view.path("OutputDirectory"),
        image_id,
        image_version,
        compress,
        compress_level: small(view.number("CompressLevel"), 3),
        manifest_formats: view
            .texts("ManifestFormat")
            .iter()
            .filter_map(|n| ManifestFormat::from_name(n))
            .collect(),
        repart_directories: view.paths("RepartDirectories"),
        sector_size: view.number("SectorSize").and_then(|n| u32::try_from(n).ok()),
        seed: view.uuid("Seed"),
        checksum: view.bool("Checksum"),
    }
}

/// The output's name if nothing else is said.
pub(crate) fn output_name(id: Option<String>, version: Option<String>) -> String {
    let base = id.unwrap_or_else(|| "image".into());
    match version {
        Some(version) => format!("{base}_{version}"),
        None => base,
    }
}

fn small(number: Option<u64>, default: u32) -> u32 {
    number.and_then(|n| u32::try_from(n).ok()).unwrap_or(default)
}

fn content(view: &View, source_date_epoch: Option<u64>) -> ContentConfig {
    ContentConfig {
        packages: view.packages("Packages"),
        build_packages: view.packages("BuildPackages"),
        volatile_packages: view.packages("VolatilePackages"),
        remove_packages: view.packages("RemovePackages"),
        package_directories: view.paths("PackageDirectories"),
        with_recommends: view.bool("WithRecommends"),
        with_docs: view.bool("WithDocs"),
        base_trees: view.paths("BaseTrees"),
        skeleton_trees: view.trees("SkeletonTrees"),
        extra_trees: view.trees("ExtraTrees"),
        remove_files: view.texts("RemoveFiles"),
        clean_package_metadata: named!(view, "CleanPackageMetadata", Feature),
        source_date_epoch,
        kernel_modules: view.texts("KernelModules"),
        make_initrd: view.bool("MakeInitrd"),
    }
}

fn scripts(view: &View) -> Scripts {
    Scripts {
        sync: view.scripts("SyncScripts"),
        prepare: view.scripts("PrepareScripts"),
        build: view.scripts("BuildScripts"),
        postinst: view.scripts("PostInstallationScripts"),
        finalize: view.scripts("FinalizeScripts"),
        postoutput: view.scripts("PostOutputScripts"),
        clean: view.scripts("CleanScripts"),
    }
}

fn boot(view: &View) -> BootConfig {
    let named = !view.texts("Initrds").is_empty();
    BootConfig {
        bootable: named!(view, "Bootable", Feature),
        bootloader: named!(view, "Bootloader", Bootloader),
        unified_kernel_images: named!(view, "UnifiedKernelImages", UnifiedKernelImages),
        kernel_command_line: view.texts("KernelCommandLine"),
        default_initrd: named || view.layers.list("Initrds").is_none(),
        initrds: view.paths("Initrds"),
        initrd_packages: view.packages("InitrdPackages"),
        kernel_initrd_modules: view.texts("KernelInitrdModules"),
    }
}

fn system(view: &View) -> SystemConfig {
    let root_password = view.stored("RootPassword").and_then(|s| match &s.value {
        Value::Password { text, hashed } => {
            Some(RootPassword { text: text.clone(), hashed: *hashed })
        }
        _ => None,
    });
    SystemConfig {
        locale: view.text("Locale"),
        locale_messages: view.text("LocaleMessages"),
        keymap: view.text("Keymap"),
        timezone: view.text("Timezone"),
        hostname: view.text("Hostname"),
        root_password,
        root_shell: view.text("RootShell"),
        machine_id: view.uuid("MachineId"),
        autologin: view.bool("Autologin"),
        ssh: named!(view, "Ssh", Ssh),
    }
}

fn build_config(
    view: &View,
    file_environment: &BTreeMap<String, String>,
    project: &Path,
) -> BuildConfig {
    let own = || vec![TreeSource { source: project.to_path_buf(), target: None }];
    let named = view.layers.list("BuildSources").map(|_| view.trees("BuildSources"));
    BuildConfig {
        build_sources: named.unwrap_or_else(own),
        build_directory: view.path("BuildDirectory"),
        incremental: named!(view, "Incremental", Incremental),
        cache_only: named!(view, "CacheOnly", CacheOnly),
        cache_directory: view.path("CacheDirectory"),
        package_cache_directory: view.path("PackageCacheDirectory"),
        sandbox_trees: view.trees("SandboxTrees"),
        environment: view.pairs("Environment"),
        file_environment: file_environment.clone(),
        environment_files: view.paths("EnvironmentFiles"),
        with_tests: view.bool("WithTests"),
        with_network: view.bool("WithNetwork"),
    }
}

fn runtime(view: &View) -> RuntimeConfig {
    const DEFAULT_RAM: u64 = 2 << 30;
    let credential = |v: &Value| match v {
        Value::Pair { name, value } => Some((name.clone(), Credential::Value(value.clone()))),
        Value::Path(path) => {
            let name = path.file_name()?.to_string_lossy().into_owned();
            Some((name, Credential::File(path.clone())))
        }
        _ => None,
    };
    RuntimeConfig {
        console: named!(view, "Console", Console),
        cpus: small(view.number("CPUs"), 2),
        ram: view.number("RAM").unwrap_or(DEFAULT_RAM),
        kvm: named!(view, "KVM", Feature),
        firmware: named!(view, "Firmware", Firmware),
        ephemeral: view.bool("Ephemeral"),
        credentials: view.list("Credentials", credential).into_iter().collect(),
        kernel_command_line_extra: view.texts("KernelCommandLineExtra"),
        runtime_size: view.number("RuntimeSize"),
        qemu_args: view.texts("QemuArgs"),
    }
}

/// `SourceDateEpoch=`, else `$SOURCE_DATE_EPOCH` from `Environment=`, from its
/// files, from the environment.
pub(crate) fn source_date_epoch(
    read: &Read,
    facts: &Facts,
) -> Result<Option<u64>, Box<Diagnostic>> {
    let view = View { layers: &read.layers };
    let setting = table::get("SourceDateEpoch");
    let name = setting.env.expect("the table names the variable");
    if let Some(number) = view.number(setting.name) {
        return Ok(Some(number));
    }
    let configured = view.pairs("Environment").remove(name);
    let configured = configured.or_else(|| read.environment.get(name).cloned());
    let text = configured.or_else(|| facts.env.get(name).cloned());
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        let at = Origin::path(format!("${name}"));
        let message = format!("{text:?} is not a number of seconds since 1970");
        Box::new(Diagnostic::error(&at, &text, message))
    })
}

fn check_minimum_version(view: &View) -> Option<Diagnostic> {
    let stored = view.stored("MinimumVersion")?;
    let Value::Text(wanted) = &stored.value else { return None };
    if wanted.starts_with("commit:") {
        let message = "a commit of mkosi cannot be compared with mkgold";
        return Some(Diagnostic::error(&stored.origin, wanted, message));
    }
    version::compare(wanted, MKOSI_VERSION).is_gt().then(|| {
        let message = format!(
            "the project asks for mkosi {wanted}; mkgold reads the language of {MKOSI_VERSION}"
        );
        Diagnostic::error(&stored.origin, wanted, message)
    })
}

/// Images that are depended on have to be there.
fn check_dependencies(view: &View, files: &dyn FileSource, project: &Path) -> Vec<Diagnostic> {
    let images = project.join("mkosi.images");
    let mut problems = Vec::new();
    for stored in view.layers.list("Dependencies").unwrap_or_default() {
        let Value::Text(name) = &stored.value else { continue };
        let there = [name.clone(), format!("{name}.conf")];
        if !there.iter().any(|n| files.exists(&images.join(n))) {
            let message = format!("mkosi.images has no image {name:?}");
            let help = "images are the files and directories of mkosi.images/";
            problems.push(Diagnostic::error(&stored.origin, name, message).help(help));
        }
    }
    problems
}

/// A directory that is a file fails late and obscurely otherwise.
fn check_directories(view: &View, files: &dyn FileSource) -> Vec<Diagnostic> {
    let names = ["OutputDirectory", "CacheDirectory", "PackageCacheDirectory"];
    let mut problems = Vec::new();
    for name in names {
        let Some(path) = view.path(name) else { continue };
        if files.exists(&path) && !files.is_dir(&path) {
            let at = view.stored(name).map_or(Origin::path(&path), |s| s.origin.clone());
            let message = format!("{name}= must be a directory: {} is not one", path.display());
            problems.push(Diagnostic::error(&at, "", message));
        }
    }
    problems
}

/// Where each setting's values were written.
pub(crate) fn sources(layers: &Layers) -> BTreeMap<&'static str, Vec<Origin>> {
    let origins = |s: &'static table::Setting| {
        let stored = layers.values(s);
        let origins: Vec<_> = stored
            .iter()
            .map(|v| {
                if s.secret {
                    Origin { text: "".into(), ..v.origin.clone() }
                } else {
                    v.origin.clone()
                }
            })
            .collect();
        (s.name, origins)
    };
    SETTINGS.iter().map(|s| origins(s)).filter(|(_, o)| !o.is_empty()).collect()
}
