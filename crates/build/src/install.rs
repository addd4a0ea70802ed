//! Packages onto a tree: laid out natively, configured by the image's own dpkg in
//! the sandbox.

use std::collections::BTreeSet;
use std::sync::Arc;

use dpkg::{Database, InstallPlan, Options, Package, PathFilter, Step};
use report::Unit;
use sandbox::{Command, Workspace};
use tree::{Mtime, Tree, TreePath};

use crate::context::Context;
use crate::error::BuildError;
use crate::kernels;
use crate::layer::Pack;

/// The host keys that openssh-server's script makes where there are none.
const HOST_KEYS: [&str; 3] =
    ["etc/ssh/ssh_host_ecdsa_key", "etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_rsa_key"];
/// Stands for a host key while packages are configured.
const NO_KEY: &[u8] = b"mkgold: each machine makes its own key on its first boot\n";

/// What is installed, and how.
pub struct Install<'a> {
    /// In name order.
    pub packages: &'a [Arc<Package>],
    /// Whether documentation is laid out (`WithDocs=`).
    pub with_docs: bool,
    /// The Debian architecture.
    pub architecture: &'a str,
}

impl Install<'_> {
    fn filter(&self) -> PathFilter {
        if self.with_docs { PathFilter::new() } else { PathFilter::without_docs() }
    }

    /// Only lays the packages out, one over the other: for trees whose programs
    /// run but whose scripts need not (initrds, tools).
    pub fn unpack_only(&self, tree: &mut Tree, context: &Context) -> Result<(), BuildError> {
        let mut database = Database::new(self.architecture);
        let options = Options { filter: self.filter(), bootstrap: true };
        for package in self.packages {
            dpkg::merge(tree, &mut database, package, &options)?;
        }
        context.clamp_times(tree);
        Ok(())
    }

    /// Lays out and configures, leaving what dpkg and apt leave.
    pub fn run(
        &self,
        mut tree: Tree,
        context: &Context,
        pack: &mut Pack,
        workdir: &str,
    ) -> Result<Tree, BuildError> {
        let mut database = Database::load(&tree, self.architecture)?;
        let plan = dpkg::plan_install(&database, self.packages)?;
        let step = context.reporter.step(
            "install",
            format!("{} packages", self.packages.len()),
            Some(plan.steps.len() as u64),
            Unit::Items,
        );
        let mut workspace = None;
        let mut pending = kernels::Pending::default();
        for (n, todo) in plan.steps.iter().enumerate() {
            match todo {
                Step::Unpack { packages, bootstrap } => {
                    let options = Options { filter: self.filter(), bootstrap: *bootstrap };
                    for index in packages {
                        let package = &self.packages[*index];
                        dpkg::merge(&mut tree, &mut database, package, &options)?;
                    }
                    database.write(&mut tree, context.epoch)?;
                    spare_host_keys(&mut tree)?;
                }
                Step::Run { commands } => {
                    let shims = kernels::shims(&mut pending, &tree);
                    let command = InstallPlan::stage(&mut tree, self.packages, commands, &shims)?;
                    let directory = self.lay_out(&mut workspace, &tree, context, workdir)?;
                    directory.run(&self.command(&command, context), context.reporter)?;
                    tree = directory.read_back(pack)?;
                    database = Database::load(&tree, self.architecture)?;
                }
            }
            step.progress(n as u64 + 1);
        }
        if let Some(workspace) = workspace {
            workspace.remove()?;
        }
        remove_spared_host_keys(&mut tree);
        pending.finish(&mut tree, context)?;
        context.clamp_times(&mut tree);
        step.done();
        Ok(tree)
    }

    fn lay_out<'w>(
        &self,
        workspace: &'w mut Option<Workspace>,
        tree: &Tree,
        context: &Context,
        name: &str,
    ) -> Result<&'w mut Workspace, BuildError> {
        if let Some(workspace) = workspace {
            workspace.apply(tree)?;
        } else {
            let dir = context.work.path(name, tree);
            *workspace = Some(Workspace::create(&dir, tree, &context.privilege)?);
        }
        Ok(workspace.as_mut().expect("just made"))
    }

    fn command(&self, command: &dpkg::Command, context: &Context) -> Command {
        let mut run = Command::new(&command.argv[0]).args(&command.argv[1..]);
        run = run.envs(command.environment.iter().map(|(k, v)| (k, v)));
        run.source_date_epoch(context.epoch.secs).no_services().source("dpkg")
    }
}

/// Puts something where openssh-server's script would make host keys: making them
/// takes a second, and the seal throws them away.
fn spare_host_keys(tree: &mut Tree) -> Result<(), BuildError> {
    let script = TreePath::literal("var/lib/dpkg/info/openssh-server.postinst");
    if !tree.contains(&script) {
        return Ok(());
    }
    for path in HOST_KEYS.map(TreePath::literal) {
        if !tree.contains(&path) {
            tree.write(&path, 0o600, NO_KEY)?;
        }
    }
    Ok(())
}

fn remove_spared_host_keys(tree: &mut Tree) {
    for path in HOST_KEYS.map(TreePath::literal) {
        let content = tree.get(&path).and_then(|node| node.content());
        if content.is_some_and(|c| {
            c.len() == NO_KEY.len() as u64 && c.read(100).is_ok_and(|b| b == NO_KEY)
        }) {
            tree.remove(&path);
        }
    }
}

/// What apt would have recorded: which packages nobody asked for.
pub fn write_extended_states(
    tree: &mut Tree,
    automatic: &BTreeSet<(String, String)>,
    architecture: &str,
    epoch: Mtime,
) -> Result<(), BuildError> {
    let path = TreePath::literal("var/lib/apt/extended_states");
    let has_apt = tree.lookup(&TreePath::literal("var/lib/apt")).is_some();
    if !has_apt || automatic.is_empty() {
        return Ok(());
    }
    let existing = match tree.read(&path, 64 << 20) {
        Some(Ok(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Some(Err(source)) => return Err(BuildError::Content { path, source }),
        None => String::new(),
    };
    let automatic = automatic.iter().map(|(n, a)| {
        let architecture = if a == "all" { architecture } else { a };
        (n.as_str(), architecture)
    });
    let text = dpkg::extended_states(&existing, automatic)
        .map_err(|e| BuildError::Image(format!("{path}: {e}")))?;
    tree.write(&path, 0o644, text.into_bytes())?;
    tree.get_mut(&path).expect("just written").meta.mtime = epoch;
    Ok(())
}

/// The links that make `/usr` merged, where no package ships them (before Debian
/// 13), as every bootstrapping tool makes them before the first package.
pub fn usr_merge(
    tree: &mut Tree,
    packages: &[Arc<Package>],
    architecture: &str,
    epoch: Mtime,
) -> Result<(), BuildError> {
    let root_link = |path: &TreePath| path.components().count() == 1;
    let shipped = packages.iter().any(|package| {
        package.entries().iter().any(|entry| {
            root_link(&entry.path)
                && entry.path.name() == b"bin"
                && matches!(entry.kind, dpkg::EntryKind::Symlink(_))
        })
    });
    if shipped {
        return Ok(());
    }
    let more: &[&str] = match architecture {
        "amd64" => &["lib32", "lib64", "libx32"],
        "i386" => &["lib64", "libx32"],
        "loong64" | "ppc64" | "ppc64el" | "s390x" => &["lib32", "lib64"],
        _ => &[],
    };
    for name in ["bin", "lib", "sbin"].iter().chain(more) {
        let path = TreePath::new(name)?;
        if tree.contains(&path) {
            continue;
        }
        let target = tree.make_dirs(&TreePath::new(format!("usr/{name}"))?)?;
        tree.add_symlink(path.clone(), target.as_bytes())?;
        for made in [path, target] {
            tree.get_mut(&made).expect("just made").meta.mtime = epoch;
        }
    }
    Ok(())
}
