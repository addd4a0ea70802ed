//! `mkgold shell`: a command in what was built, in the sandbox.
//!
//! A directory is the output itself, so what is changed in it stays (it is replaced as
//! a whole at the end, as builds do). A disk image is not touched: its root is read out
//! of it, and what is changed is thrown away.

use std::ffi::OsString;
use std::path::Path;

use config::Config;
use config::types::OutputFormat;
use report::Reporter;
use sandbox::{Command, Error, Status, Workspace};
use tree::dir::{self, Owners};
use tree::{Tree, TreePath};

use crate::contents;
use crate::error::BuildError;
use crate::machine::built;
use crate::outputs::{Staging, io_error};
use crate::pipeline::{Options, output_directory};

/// Shells, the best first.
const SHELLS: [&str; 2] = ["bin/bash", "bin/sh"];

/// Runs `command`, or a shell, in what was built; its exit status.
pub fn run(
    config: &Config,
    options: &Options,
    command: &[OsString],
    reporter: &dyn Reporter,
) -> Result<i32, BuildError> {
    let image = built(config, "shell")?;
    match config.output.format {
        OutputFormat::Directory => in_directory(config, options, &image, command, reporter),
        OutputFormat::Disk => {
            let tree = contents::root(&image)?;
            let dir = options.work.path("shell", &tree);
            let workspace = Workspace::create(&dir, &tree, &options.privilege)?;
            reporter.note("changes are thrown away: the image stays as it was built");
            let status = enter(&workspace, &tree, config, command, reporter);
            workspace.remove()?;
            status
        }
        other => Err(BuildError::Unsupported {
            what: format!("shell with Format={other}"),
            hint: Some("build a disk or a directory"),
        }),
    }
}

fn in_directory(
    config: &Config,
    options: &Options,
    target: &Path,
    command: &[OsString],
    reporter: &dyn Reporter,
) -> Result<i32, BuildError> {
    let as_it_is = dir::Options { owners: Owners::Preserve, mtime: None, xattrs: true };
    let tree = dir::read(target, &as_it_is)?;
    let mut staging = Staging::begin(&output_directory(config))?;
    let workspace = Workspace::create(&staging.path(".workspace"), &tree, &options.privilege)?;
    let status = enter(&workspace, &tree, config, command, reporter)?;
    let name = config.output.file_name();
    let made = staging.path(&name);
    std::fs::rename(workspace.root(), &made).map_err(io_error("rename to", &made))?;
    staging.finish(&name);
    staging.publish()?;
    Ok(status)
}

fn enter(
    workspace: &Workspace,
    tree: &Tree,
    config: &Config,
    command: &[OsString],
    reporter: &dyn Reporter,
) -> Result<i32, BuildError> {
    let command = match command {
        [] => {
            let found = SHELLS.iter().find(|path| tree.lookup(&TreePath::literal(path)).is_some());
            let shell = found.ok_or_else(|| {
                BuildError::Image("shell: the image has no /bin/bash and no /bin/sh".into())
            })?;
            Command::new(format!("/{shell}")).arg("-l")
        }
        [program, arguments @ ..] => Command::new(program).args(arguments),
    };
    let network = config.build.with_network;
    let mut command = command.network(network).cwd("/").source("shell");
    if let Some(terminal) = std::env::var_os("TERM") {
        command = command.env("TERM", terminal);
    }
    let resolver = Path::new("/etc/resolv.conf");
    if network && let Ok(bytes) = std::fs::read(resolver) {
        let path = TreePath::literal("etc/resolv.conf");
        command = command.inject(sandbox::Inject { path, mode: 0o644, bytes, replace: true });
    }
    match workspace.shell(command, reporter) {
        Ok(()) => Ok(0),
        Err(Error::Failed(failure)) => match failure.status {
            Status::Exited(code) => Ok(code),
            Status::Signalled(signal) => Ok(128 + signal),
            Status::TimedOut(_) => Err(Error::Failed(failure).into()),
        },
        Err(other) => Err(other.into()),
    }
}
