//! `vm`, `shell`, `boot`: what was built, run.

use build::machine::{self, Host};
use build::pipeline::Options;
use build::{BuildError, shell as in_image};
use config::Loaded;
use report::Reporter;

use super::{Failure, Outcome, guarded};
use crate::arguments::Arguments;

/// Boots the image in a virtual machine.
pub fn vm(arguments: &Arguments) -> Outcome {
    if !arguments.rest.is_empty() {
        let message = "vm takes no arguments; QEMU's are settings (QemuArgs=)";
        return Err(Failure::Usage(message.into()));
    }
    on_what_was_built(arguments, |loaded, options, view| {
        let host = Host {
            keep_writes: machine::keeps_writes(loaded),
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        };
        machine::run(&loaded.config, options, &host, view)
    })
}

/// Runs a shell, or the command that follows, in the image.
pub fn shell(arguments: &Arguments) -> Outcome {
    on_what_was_built(arguments, |loaded, options, view| {
        in_image::run(&loaded.config, options, &arguments.rest, view)
    })
}

/// Refused: there is no container manager here.
pub fn boot() -> Outcome {
    Err(Failure::Usage(
        "boot would run the image as a container, which needs systemd-nspawn of the host; \
         `mkgold vm` boots it in a virtual machine, `mkgold shell` runs a command in it"
            .into(),
    ))
}

/// Runs a program on what was built; its exit status becomes ours.
fn on_what_was_built(
    arguments: &Arguments,
    work: impl FnOnce(&Loaded, &Options, &dyn Reporter) -> Result<i32, BuildError>,
) -> Outcome {
    guarded(arguments, |loaded, options, view| match work(loaded, &options, view) {
        Ok(0) => Ok(()),
        Ok(code) => Err(Failure::Exit(u8::try_from(code).unwrap_or(1))),
        Err(error) => Err(Failure::Work(Box::new(error), view.tail())),
    })
}
