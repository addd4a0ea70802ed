//! The project's scripts, in the sandbox, on the image's tree.
//!
//! `NAME.chroot` runs inside the image; `NAME` on the host's root, read-only, with
//! the image at `$BUILDROOT`. The variables are mkosi's.

use config::Config;
use config::config::Script;
use sandbox::{Bind, Command, Root, Workspace};
use store::KeyHasher;
use tree::{Tree, TreePath};

use crate::context::Context;
use crate::error::BuildError;
use crate::layer::Pack;

/// Where a script finds the image, the project, and itself.
const BUILDROOT: &str = "buildroot";
const SOURCE: &str = "work/src";
const SCRIPT: &str = "work/script";

/// Runs `scripts` one after the other; what they leave is the new tree.
pub fn run(
    tree: Tree,
    scripts: &[Script],
    phase: &str,
    config: &Config,
    context: &Context,
) -> Result<Tree, BuildError> {
    if scripts.is_empty() {
        return Ok(tree);
    }
    let step =
        context.reporter.step("scripts", phase, Some(scripts.len() as u64), report::Unit::Items);
    let key = KeyHasher::new("script pack").finish();
    let mut pack = Pack::begin(&context.store, &key)?;
    let dir = context.work.path(phase, &tree);
    let mut workspace = Workspace::create(&dir, &tree, &context.privilege)?;
    for (n, script) in scripts.iter().enumerate() {
        workspace.run(&command(script, config, context), context.reporter)?;
        step.progress(n as u64 + 1);
    }
    let mut tree = workspace.read_back(&mut pack)?;
    workspace.remove()?;
    pack.commit()?;
    for dir in ["work", BUILDROOT] {
        remove_if_empty(&mut tree, dir);
    }
    step.done();
    Ok(tree)
}

/// Mount points that the sandbox had to make in the tree.
fn remove_if_empty(tree: &mut Tree, dir: &str) {
    let Ok(dir) = TreePath::new(dir) else { return };
    let only_directories = tree.subtree(&dir).all(|(_, _, node)| node.is_dir());
    if tree.contains(&dir) && only_directories {
        tree.remove(&dir);
    }
}

fn command(script: &Script, config: &Config, context: &Context) -> Command {
    let name = script.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let literal = |path: &'static str| TreePath::literal(path);
    let bind = |source: &std::path::Path, target, writable| Bind {
        source: source.to_owned(),
        target,
        writable,
    };
    let mut command = Command::new(format!("/{SCRIPT}"))
        .arg("final")
        .bind(bind(&script.path, literal(SCRIPT), false))
        .bind(bind(&config.project.directory, literal(SOURCE), false))
        .cwd(format!("/{SOURCE}"))
        .network(config.build.with_network)
        .no_services()
        .source(name)
        .source_date_epoch(context.epoch.secs);
    if script.chroot {
        command = command.env("BUILDROOT", "/");
    } else {
        command = command
            .root(Root::Host)
            .tree_at(literal(BUILDROOT))
            .env("BUILDROOT", format!("/{BUILDROOT}"));
    }
    command.envs(variables(config)).envs(config.build.script_environment())
}

fn variables(config: &Config) -> Vec<(&'static str, String)> {
    let yes = |b: bool| if b { "1" } else { "0" }.to_owned();
    let mut variables = vec![
        ("ARCHITECTURE", config.distribution.architecture.to_string()),
        ("DISTRIBUTION", config.distribution.distribution.to_string()),
        ("RELEASE", config.distribution.release.clone()),
        ("SRCDIR", format!("/{SOURCE}")),
        ("PROFILES", config.project.profiles.join(" ")),
        ("WITH_DOCS", yes(config.content.with_docs)),
        ("WITH_TESTS", yes(config.build.with_tests)),
        ("WITH_NETWORK", yes(config.build.with_network)),
    ];
    variables.extend(config.output.image_id.clone().map(|id| ("IMAGE_ID", id)));
    variables.extend(config.output.image_version.clone().map(|v| ("IMAGE_VERSION", v)));
    variables
}
