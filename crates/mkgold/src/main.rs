//! The command: arguments → request, progress, printing, exit codes.
//!
//! What it is not: logic. What a verb does is one call into a library; here is
//! only how it is asked for and how its answer is shown.
//!
//! Exit codes: 0 done; 1 it failed (the message says why and what to do); 2 the
//! command line or the configuration is wrong; 3 `build --verify` found a difference, or
//! `check` a rule that failed, or `diff` a difference; 4 either could not tell everything.
//! `repart`, `growfs`, `makefs`, `makeswap`, `firstboot` and its kin have those of systemd's
//! tools.
//! What a signal ends ends by that signal, after it has cleaned up (137: the kernel killed
//! the work, for want of memory). `vm` and `shell` end with the exit code of what they run (QEMU, the command).

mod arguments;
mod verbs;
mod view;

use std::path::Path;
use std::process::ExitCode;

use arguments::Arguments;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let called = words.next().unwrap_or_default();
    let called = Path::new(&called).file_name().unwrap_or_default().to_string_lossy().into_owned();
    if called == verbs::repart::NAME {
        let words: Vec<_> = words.collect();
        return ExitCode::from(verbs::repart::run(verbs::repart::NAME, &words));
    }
    if let Some((_, verb)) = verbs::filesystems::NAMES.iter().find(|(name, _)| *name == called) {
        let words: Vec<_> = words.collect();
        return ExitCode::from(verbs::filesystems::run(verb, &words));
    }
    if let Some(tool) = verbs::toolbox::by_name(&called) {
        let words: Vec<_> = words.collect();
        return ExitCode::from(tool.run(&called, &words));
    }
    let arguments = Arguments::parse();
    match verbs::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.show(arguments.json);
            ExitCode::from(failure.code())
        }
    }
}
