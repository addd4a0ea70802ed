//! `lock`.

use build::BuildError;
use build::lock::Lock;
use build::resolve::{self, Keep};

use super::{Failure, Outcome, guarded, print};
use crate::arguments::Arguments;

/// Writes the lock, or renews it.
pub fn run(arguments: &Arguments) -> Outcome {
    guarded(arguments, |loaded, options, view| {
        let path = resolve::lock_path(&loaded.config.project.directory);
        let names: Vec<String> =
            arguments.rest.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        let there = Lock::read(&path).map_err(BuildError::from)?;
        let keep = match &there {
            Some(_) if !arguments.update => {
                let message = format!("{} exists; --update renews it", path.display());
                return Err(Failure::Usage(message));
            }
            Some(lock) if !names.is_empty() => {
                refuse_unlocked(lock, &names)?;
                Keep::AllBut(lock, &names)
            }
            _ => Keep::Nothing,
        };
        let lock = resolve::renew(&loaded.config, &options, view, &keep)?;
        resolve::write(&path, &lock)?;
        print(&format!("{}: {} packages", path.display(), lock.packages.len()))
    })
}

/// A package that `--update` names must be there to be updated.
fn refuse_unlocked(lock: &Lock, names: &[String]) -> Outcome {
    for name in names {
        if lock.packages.iter().any(|p| p.name == *name) {
            continue;
        }
        let known = lock.packages.iter().map(|p| p.name.as_str());
        let hint = config::diagnostic::did_you_mean(name, known).unwrap_or_default();
        let separator = if hint.is_empty() { "" } else { "; " };
        return Err(Failure::Usage(format!("the lock has no package '{name}'{separator}{hint}")));
    }
    Ok(())
}
