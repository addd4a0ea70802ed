//! The command: arguments → request, progress, printing, exit codes.
//!
//! What it is not: logic. What a verb does is one call into a library; here is
//! only how it is asked for and how its answer is shown.
//!
//! Exit codes: 0 done; 1 it failed (the message says why and what to do); 2 the
//! command line or the configuration is wrong; 3 `build --verify` found a difference, or
//! `check` a rule that failed, or `diff` a difference; 4 either could not tell everything.
//! What a signal ends ends by that signal, after it has cleaned up (137: the kernel killed
//! the work, for want of memory). `vm` and `shell` end with the exit code of what they run (QEMU, the command).

mod arguments;
mod verbs;
mod view;

use std::process::ExitCode;

use arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match verbs::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.show(arguments.json);
            ExitCode::from(failure.code())
        }
    }
}
