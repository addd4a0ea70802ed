//! When scripts run and what they are told: the table of mkosi.1, section "Scripts".

use config::Config;
use config::config::{Script, Scripts};
use tree::Mtime;

/// Where a script finds the image and the rest of its world.
pub const BUILDROOT: &str = "buildroot";
/// The image to be changed into.
pub const CHROOT: &str = "work/root";
/// The project.
pub const SOURCE: &str = "work/src";
/// `$BUILDDIR`.
pub const BUILD: &str = "work/build";
/// `$DESTDIR`.
pub const DEST: &str = "work/dest";
/// `$OUTPUTDIR`.
pub const OUT: &str = "work/out";
/// `$ARTIFACTDIR`.
pub const ARTIFACTS: &str = "work/artifacts";
/// `$PACKAGEDIR`.
pub const PACKAGES: &str = "work/packages";
/// `$MKOSI_CONFIG`.
pub const CONFIG: &str = "work/config.json";
/// `mkosi-chroot` and the like.
pub const HELPERS: &str = "work/bin";

/// When a script runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before anything.
    Sync,
    /// After the packages.
    PrepareFinal,
    /// After the build packages, on what the build scripts see.
    PrepareBuild,
    /// Makes something in `$DESTDIR`.
    Build,
    /// After extra trees.
    Postinst,
    /// Last on the tree.
    Finalize,
    /// On the outputs.
    Postoutput,
    /// When outputs are removed.
    Clean,
}

impl Phase {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Sync => "sync",
            Phase::PrepareFinal | Phase::PrepareBuild => "prepare",
            Phase::Build => "build",
            Phase::Postinst => "postinst",
            Phase::Finalize => "finalize",
            Phase::Postoutput => "postoutput",
            Phase::Clean => "clean",
        }
    }

    /// What the script is called below `/work`.
    pub fn program(self) -> &'static str {
        match self {
            Phase::Build => "build-script",
            other => other.name(),
        }
    }

    /// Its argument.
    pub fn argument(self) -> Option<&'static str> {
        match self {
            Phase::Sync | Phase::PrepareFinal | Phase::Postinst => Some("final"),
            Phase::PrepareBuild => Some("build"),
            Phase::Build | Phase::Finalize | Phase::Postoutput | Phase::Clean => None,
        }
    }

    /// Its scripts.
    pub fn of(self, scripts: &Scripts) -> &[Script] {
        match self {
            Phase::Sync => &scripts.sync,
            Phase::PrepareFinal | Phase::PrepareBuild => &scripts.prepare,
            Phase::Build => &scripts.build,
            Phase::Postinst => &scripts.postinst,
            Phase::Finalize => &scripts.finalize,
            Phase::Postoutput => &scripts.postoutput,
            Phase::Clean => &scripts.clean,
        }
    }

    /// Whether there is a tree to work on.
    pub fn has_tree(self) -> bool {
        !matches!(self, Phase::Sync | Phase::Postoutput | Phase::Clean)
    }

    /// Whether it brings sources up to date or builds them: only then can it
    /// write to them.
    pub fn changes_sources(self) -> bool {
        use Phase::{Build, Clean, PrepareBuild, PrepareFinal, Sync};
        matches!(self, Sync | PrepareFinal | PrepareBuild | Build | Clean)
    }

    /// Whether it has network also without `WithNetwork=`.
    pub fn always_has_network(self) -> bool {
        matches!(self, Phase::Sync | Phase::PrepareFinal | Phase::PrepareBuild)
    }

    /// Whether it sees `BuildDirectory=`.
    pub fn has_build_directory(self) -> bool {
        matches!(self, Phase::Build | Phase::Postinst | Phase::Finalize)
    }

    /// Whether it sees the outputs.
    pub fn has_output(self) -> bool {
        matches!(self, Phase::Postinst | Phase::Finalize | Phase::Postoutput | Phase::Clean)
    }
}

/// The variables of a phase. The ids of the caller are 0 in the sandbox, whoever the
/// caller is: what a script gives to them belongs to the caller outside.
pub fn variables(
    phase: Phase,
    config: &Config,
    epoch: Option<Mtime>,
) -> Vec<(&'static str, String)> {
    let absolute = |path: &str| format!("/{path}");
    let mut variables = vec![
        ("ARCHITECTURE", config.distribution.architecture.to_string()),
        ("DISTRIBUTION", config.distribution.distribution.to_string()),
        ("DISTRIBUTION_ARCHITECTURE", config.distribution.architecture.debian().to_owned()),
        ("RELEASE", config.distribution.release.clone()),
        ("SRCDIR", absolute(SOURCE)),
        ("MKOSI_UID", "0".into()),
        ("MKOSI_GID", "0".into()),
        ("MKOSI_CONFIG", absolute(CONFIG)),
        // A checkout belongs to whoever made it.
        ("GIT_CONFIG_COUNT", "1".into()),
        ("GIT_CONFIG_KEY_0", "safe.directory".into()),
        ("GIT_CONFIG_VALUE_0", "*".into()),
    ];
    if !config.project.profiles.is_empty() {
        variables.push(("PROFILES", config.project.profiles.join(" ")));
    }
    variables.extend(config.output.image_id.clone().map(|id| ("IMAGE_ID", id)));
    variables.extend(config.output.image_version.clone().map(|v| ("IMAGE_VERSION", v)));
    if phase == Phase::Sync {
        // It runs before mkgold knows what the image is made of.
        variables.push(("CACHED", "0".into()));
    }
    if phase.has_output() {
        variables.push(("OUTPUTDIR", absolute(OUT)));
    }
    if phase.has_tree() {
        variables.extend(tree_variables(phase, config));
    }
    if let Some(epoch) = epoch.filter(|_| phase.has_tree() || phase == Phase::Clean) {
        variables.push(("SOURCE_DATE_EPOCH", epoch.secs.to_string()));
    }
    variables
}

fn tree_variables(phase: Phase, config: &Config) -> Vec<(&'static str, String)> {
    let absolute = |path: &str| format!("/{path}");
    let flag = |b: bool| if b { "1" } else { "0" }.to_owned();
    let mut variables = vec![
        ("CHROOT_SRCDIR", absolute(SOURCE)),
        ("PACKAGEDIR", absolute(PACKAGES)),
        ("ARTIFACTDIR", absolute(ARTIFACTS)),
        ("WITH_NETWORK", flag(config.build.with_network)),
    ];
    match phase {
        Phase::Postinst | Phase::Finalize => variables.push(("CHROOT_OUTPUTDIR", absolute(OUT))),
        _ => variables.extend([
            ("WITH_DOCS", flag(config.content.with_docs)),
            ("WITH_TESTS", flag(config.build.with_tests)),
        ]),
    }
    if phase == Phase::Build {
        variables.extend([("DESTDIR", absolute(DEST)), ("CHROOT_DESTDIR", absolute(DEST))]);
    }
    if config.build.build_directory.is_some() && phase.has_build_directory() {
        variables.push(("BUILDDIR", absolute(BUILD)));
        variables.extend((phase == Phase::Build).then(|| ("CHROOT_BUILDDIR", absolute(BUILD))));
    }
    variables
}
