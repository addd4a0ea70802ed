//! The project's scripts, in the sandbox: on the image's tree, or on the host's root
//! where there is no tree (yet, or any more).
//!
//! `NAME.chroot` runs inside the image; `NAME` on the host's root, read-only, with the
//! image at `$BUILDROOT`, where `mkosi-chroot` runs a command inside the image. Variables,
//! arguments and paths are those of mkosi.1; see [`phase`].
//!
//! What it is not: the order of things (`pipeline`), build packages and `$DESTDIR`
//! (`build_scripts`).
//!
//! Data flow: Tree → workspace → one script → Tree → the next. Unchanged files keep their
//! place, so that a second lay-out writes only what differs.

mod helpers;
mod phase;
mod sources;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use config::Config;
use config::config::Script;
use config::types::Incremental;
use report::{Reporter, Unit};
use sandbox::{Command, Inject, Privilege, Root, Workspace};
use store::{Key, KeyHasher};
use tree::{Mtime, Tree, TreePath};

use crate::boot_files::Artifacts;
use crate::context::Context;
use crate::error::BuildError;
use crate::initrd;
use crate::layer::Pack;
use crate::outputs::io_error;
use crate::provenance::Trail;
pub use phase::DEST;
pub use phase::Phase;
use phase::{ARTIFACTS, BUILDROOT, CHROOT, CONFIG, HELPERS, OUT, PACKAGES, SOURCE};

/// The part of `$ARTIFACTDIR` that becomes initrds.
const INITRDS: &str = "io.mkosi.initrd";
/// The part of `$ARTIFACTDIR` that becomes microcode.
const MICROCODE: &str = "io.mkosi.microcode";

/// What all scripts of a build share: directories that go from one to the next.
pub struct Scripts<'a> {
    config: &'a Config,
    privilege: Privilege,
    reporter: &'a dyn Reporter,
    dir: PathBuf,
    epoch: Option<Mtime>,
    output: Option<PathBuf>,
    arguments: Vec<OsString>,
    workspace: Option<Workspace>,
}

impl<'a> Scripts<'a> {
    /// For one build; `dir` is where things may lie meanwhile. Nothing is
    /// made before the first script.
    pub fn new(
        config: &'a Config,
        privilege: &Privilege,
        dir: &Path,
        reporter: &'a dyn Reporter,
    ) -> Scripts<'a> {
        Scripts {
            config,
            privilege: privilege.clone(),
            reporter,
            dir: dir.to_owned(),
            epoch: None,
            output: None,
            arguments: Vec::new(),
            workspace: None,
        }
    }

    /// Says what things are dated with, once it is known.
    pub fn date(&mut self, epoch: Mtime) {
        self.epoch = Some(epoch);
    }

    /// Says where outputs are put together: `$OUTPUTDIR`.
    pub fn output(&mut self, dir: &Path) {
        self.output = Some(dir.to_owned());
    }

    /// Gives the build scripts arguments: those behind the verb.
    pub fn arguments(&mut self, arguments: &[OsString]) -> Result<(), BuildError> {
        if !arguments.is_empty() && !self.has(Phase::Build) {
            return Err(BuildError::Image(
                "arguments behind `build` are for build scripts, and there are none \
                 (BuildScripts=, mkosi.build)"
                    .into(),
            ));
        }
        self.arguments = arguments.to_vec();
        Ok(())
    }

    /// Whether there are scripts of that phase.
    pub fn has(&self, phase: Phase) -> bool {
        !self.list(phase).is_empty()
    }

    fn list(&self, phase: Phase) -> &'a [Script] {
        phase.of(&self.config.scripts)
    }

    /// Runs the scripts of a phase that has no tree.
    pub fn run_without_tree(&self, phase: Phase) -> Result<(), BuildError> {
        let scripts = self.list(phase);
        if scripts.is_empty() {
            return Ok(());
        }
        self.prepare_directories()?;
        let total = Some(scripts.len() as u64);
        let step = self.reporter.step("scripts", phase.name(), total, Unit::Items);
        for (n, script) in scripts.iter().enumerate() {
            if script.chroot {
                let path = script.path.display();
                return Err(BuildError::Image(format!(
                    "{path}: there is no image to run {} scripts in; remove .chroot",
                    phase.name()
                )));
            }
            let scratch = self.directory("scratch")?;
            let command = self.command(phase, script)?;
            sandbox::run_tool(&self.privilege, &scratch, &command, self.reporter)?;
            step.progress(n as u64 + 1);
        }
        step.done();
        Ok(())
    }

    /// Runs the scripts of a phase on the tree; what they leave is the new tree.
    pub fn run(
        &mut self,
        mut tree: Tree,
        phase: Phase,
        context: &Context,
        trail: &mut Trail,
    ) -> Result<Tree, BuildError> {
        let scripts = self.list(phase);
        if scripts.is_empty() {
            return Ok(tree);
        }
        self.date(context.epoch);
        context.store.whole()?;
        self.prepare_directories()?;
        let total = Some(scripts.len() as u64);
        let step = context.reporter.step("scripts", phase.name(), total, Unit::Items);
        let key = KeyHasher::new("script pack").finish();
        let mut pack = Pack::begin(&context.store, &key)?;
        for (n, script) in scripts.iter().enumerate() {
            self.lay_out(&tree, context)?;
            let command = self.command(phase, script)?;
            let workspace = self.workspace.as_mut().expect("just laid out");
            workspace.run(&command, context.reporter)?;
            tree = workspace.read_back(&mut pack)?;
            if phase != Phase::Build {
                remove_if_empty(&mut tree, "work");
            }
            trail.record(format!("{} script {}", phase.name(), script_name(script)), &tree);
            step.progress(n as u64 + 1);
        }
        pack.commit()?;
        self.refuse_new_packages()?;
        step.done();
        Ok(tree)
    }

    /// Runs a command inside the image: a program of the image's own.
    pub fn run_in_image(
        &mut self,
        tree: Tree,
        command: Command,
        context: &Context,
    ) -> Result<Tree, BuildError> {
        let key = KeyHasher::new("script pack").finish();
        let mut pack = Pack::begin(&context.store, &key)?;
        self.lay_out(&tree, context)?;
        let workspace = self.workspace.as_mut().expect("just laid out");
        let command = command.no_services().source_date_epoch(context.epoch.secs);
        workspace.run(&command, context.reporter)?;
        let tree = workspace.read_back(&mut pack)?;
        pack.commit()?;
        Ok(tree)
    }

    /// The configuration.
    pub fn config(&self) -> &'a Config {
        self.config
    }

    /// A name for what the scripts of a phase make of `tree`; `None` if there are none,
    /// or they are to run each time. It is of the tree, the scripts, what they are told
    /// and the packages they find, not of the sources.
    pub fn cache_key(
        &mut self,
        tree: &Tree,
        phase: Phase,
        context: &Context,
    ) -> Result<Option<Key>, BuildError> {
        let scripts = self.list(phase);
        if scripts.is_empty() || self.config.build.incremental == Incremental::No {
            return Ok(None);
        }
        self.date(context.epoch);
        let mut hasher = KeyHasher::new("tree after scripts 1");
        hasher.add(phase.argument().unwrap_or_default().as_bytes());
        let mut settings = self.config.image.0.clone();
        // Says how to build, not what.
        settings.retain(|name, _| !["Incremental", "CacheOnly"].contains(&name.as_str()));
        hasher.add(&serde_json::to_vec(&settings).expect("plain data serialises"));
        for script in scripts {
            let bytes = std::fs::read(&script.path).map_err(io_error("read", &script.path))?;
            hasher.add(script_name(script).as_bytes()).add(&[u8::from(script.chroot)]).add(&bytes);
        }
        for (name, value) in phase::variables(phase, self.config, self.epoch) {
            hasher.add(name.as_bytes()).add(value.as_bytes());
        }
        for (name, value) in self.config.build.script_environment() {
            hasher.add(name.as_bytes()).add(value.as_bytes());
        }
        for (path, name) in self.given_packages()? {
            let meta = path.metadata().map_err(io_error("look at", &path))?;
            let changed = meta.modified().map_err(io_error("look at", &path))?;
            hasher.add(name.as_encoded_bytes()).add(&meta.len().to_le_bytes());
            hasher.add(format!("{changed:?}").as_bytes());
        }
        initrd::hash_subtree(&mut hasher, tree, &TreePath::root())?;
        Ok(Some(hasher.finish()))
    }

    /// Whether `$ARTIFACTDIR` is empty.
    pub fn left_no_artifacts(&self) -> Result<bool, BuildError> {
        let dir = self.dir.join("artifacts");
        Ok(std::fs::read_dir(&dir).map_err(io_error("list", &dir))?.next().is_none())
    }

    fn lay_out(&mut self, tree: &Tree, context: &Context) -> Result<(), BuildError> {
        match &mut self.workspace {
            Some(workspace) => Ok(workspace.apply(tree)?),
            None => {
                let dir = context.work.path("script-tree", tree);
                self.workspace = Some(Workspace::create(&dir, tree, &context.privilege)?);
                Ok(())
            }
        }
    }

    /// Removes the laid-out tree; artifacts stay until the workspace goes.
    pub fn finish(&mut self) -> Result<(), BuildError> {
        match self.workspace.take() {
            Some(workspace) => Ok(workspace.remove()?),
            None => Ok(()),
        }
    }

    /// A directory of this build's scripts, made if it is missing.
    pub fn directory(&self, name: &str) -> Result<PathBuf, BuildError> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir).map_err(io_error("make the directory", &dir))?;
        Ok(dir)
    }

    fn prepare_directories(&self) -> Result<(), BuildError> {
        let packages = self.dir.join("packages");
        if packages.is_dir() {
            return Ok(());
        }
        helpers::write(&self.directory("bin")?)?;
        for name in ["artifacts", "scratch"] {
            self.directory(name)?;
        }
        let config = self.dir.join("config.json");
        let text = serde_json::to_vec(&self.config.image).expect("plain data serialises");
        write_private(&config, &text).map_err(io_error("write", &config))?;
        self.directory("packages")?;
        for (from, name) in self.given_packages()? {
            let to = packages.join(name);
            std::fs::copy(&from, &to).map_err(io_error("copy to", &to))?;
        }
        Ok(())
    }

    /// The packages of `PackageDirectories=` and their names.
    fn given_packages(&self) -> Result<Vec<(PathBuf, std::ffi::OsString)>, BuildError> {
        let mut found = Vec::new();
        for dir in &self.config.content.package_directories {
            found.extend(
                files_of(dir)?
                    .into_iter()
                    .filter(|(_, name)| Path::new(name).extension().is_some_and(|e| e == "deb")),
            );
        }
        Ok(found)
    }

    /// A package that a script makes cannot be installed: the lock was made before.
    fn refuse_new_packages(&self) -> Result<(), BuildError> {
        let given: Vec<_> = self.given_packages()?.into_iter().map(|(_, name)| name).collect();
        let found = files_of(&self.dir.join("packages"))?;
        match found.iter().find(|(_, name)| !given.contains(name)) {
            None => Ok(()),
            Some((_, name)) => Err(BuildError::Unsupported {
                what: format!("{}: a package that a script puts into $PACKAGEDIR", name.display()),
                hint: Some(
                    "install it with the script, or build it before and name its directory \
                     in PackageDirectories=",
                ),
            }),
        }
    }

    /// What scripts left as microcode and as initrds, in the order in which they are
    /// joined.
    pub fn boot_artifacts(&self) -> Result<Artifacts, BuildError> {
        let of = |part: &str| {
            let dir = self.dir.join("artifacts").join(part);
            let found = if dir.is_dir() { files_of(&dir)? } else { Vec::new() };
            Ok::<_, BuildError>(found.into_iter().map(|(path, _)| path).collect())
        };
        Ok(Artifacts { microcode: of(MICROCODE)?, initrds: of(INITRDS)? })
    }

    fn command(&self, phase: Phase, script: &Script) -> Result<Command, BuildError> {
        let program = TreePath::new(format!("work/{}", phase.program()))?;
        let literal = TreePath::literal;
        let mut command = Command::new(program.to_string())
            .args(phase.argument())
            .args(self.arguments.iter().filter(|_| phase == Phase::Build))
            .bind_ro(&script.path, program.clone())
            .bind_ro(self.dir.join("config.json"), literal(CONFIG))
            .cwd(format!("/{SOURCE}"))
            .network(self.has_network(phase))
            .source(script_name(script));
        for bind in sources::binds(self.config, phase, &self.directory("sources")?)? {
            command = command.bind(bind);
        }
        if phase.has_tree() {
            command = command
                .bind_rw(self.dir.join("artifacts"), literal(ARTIFACTS))
                .bind_rw(self.dir.join("packages"), literal(PACKAGES));
        }
        // In the image it is where it lies.
        if let Some(tree) = self.workspace.as_ref().filter(|_| phase == Phase::Build)
            && !script.chroot
        {
            command = command.bind_rw(literal(DEST).below(tree.root()), literal(DEST));
        }
        if let Some(output) = self.output.as_ref().filter(|_| phase.has_output()) {
            command = command.bind_rw(output, literal(OUT));
        }
        command = command.envs(phase::variables(phase, self.config, self.epoch));
        command = command.env("SCRIPT", program.to_string());
        command = match phase.has_tree() {
            true => {
                self.on_tree(command.env("CHROOT_SCRIPT", program.to_string()), phase, script)?
            }
            false => self.with_resolver(command.root(Root::Host), phase),
        };
        Ok(command.envs(self.config.build.script_environment()))
    }

    /// What only scripts have that see the image.
    fn on_tree(
        &self,
        mut command: Command,
        phase: Phase,
        script: &Script,
    ) -> Result<Command, BuildError> {
        let literal = TreePath::literal;
        command = command.no_services();
        if self.has_network(phase) {
            command = command.inject(resolv_conf()?);
        }
        if script.chroot {
            return Ok(command.env("BUILDROOT", "/"));
        }
        command = command
            .root(Root::Host)
            .tree_at(literal(BUILDROOT))
            .chroot_at(literal(CHROOT))
            .bind_ro(self.dir.join("bin"), literal(HELPERS))
            .path_first(format!("/{HELPERS}"))
            .env("BUILDROOT", format!("/{BUILDROOT}"));
        Ok(self.with_resolver(command, phase))
    }

    /// `/run` is the sandbox's own; a resolver's file there is shown if it is needed.
    fn with_resolver(&self, command: Command, phase: Phase) -> Command {
        let real = std::fs::canonicalize(RESOLV_CONF).ok();
        let target = real.as_ref().filter(|path| path.starts_with("/run"));
        let target =
            target.and_then(|path| TreePath::new(path.as_os_str().as_encoded_bytes()).ok());
        match (real, target) {
            (Some(real), Some(target)) if self.has_network(phase) => command.bind_ro(real, target),
            _ => command,
        }
    }

    fn has_network(&self, phase: Phase) -> bool {
        phase.always_has_network() || (phase.has_tree() && self.config.build.with_network)
    }
}

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The host's resolver for as long as a script runs in the image.
fn resolv_conf() -> Result<Inject, BuildError> {
    let bytes = match std::fs::read(RESOLV_CONF) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(io_error("read", Path::new(RESOLV_CONF)))?,
    };
    Ok(Inject { path: TreePath::literal("etc/resolv.conf"), mode: 0o644, bytes, replace: true })
}

fn script_name(script: &Script) -> String {
    script.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The regular files in a directory and their names, sorted; hidden ones left out.
fn files_of(dir: &Path) -> Result<Vec<(PathBuf, std::ffi::OsString)>, BuildError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io_error("list", dir))? {
        let entry = entry.map_err(io_error("list", dir))?;
        let name = entry.file_name();
        if entry.path().is_file() && !name.as_encoded_bytes().starts_with(b".") {
            files.push((entry.path(), name));
        }
    }
    files.sort();
    Ok(files)
}

/// For its owner alone: a configuration can have passwords.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    std::io::Write::write_all(&mut file, bytes)
}

/// Mount points that the sandbox had to make in the tree.
fn remove_if_empty(tree: &mut Tree, dir: &str) {
    let Ok(dir) = TreePath::new(dir) else { return };
    let only_directories = tree.subtree(&dir).all(|(_, _, node)| node.is_dir());
    if tree.contains(&dir) && only_directories {
        tree.remove(&dir);
    }
}
