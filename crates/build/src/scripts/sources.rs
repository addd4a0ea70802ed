//! What scripts see of `BuildSources=` and `BuildDirectory=`, where mkosi shows it.

use std::path::Path;

use config::Config;
use config::config::TreeSource;
use sandbox::Bind;
use tree::TreePath;

use super::phase::{BUILD, Phase, SOURCE};
use crate::error::BuildError;
use crate::outputs::io_error;

/// What is bound for a phase, directories above others first. Where no source is `$SRCDIR`
/// itself, that is `empty`, a directory of ours.
pub fn binds(config: &Config, phase: Phase, empty: &Path) -> Result<Vec<Bind>, BuildError> {
    let mut sources = Vec::new();
    for source in &config.build.build_sources {
        let below = source.target.as_deref().unwrap_or(Path::new("/"));
        let target = TreePath::literal(SOURCE).join(below.as_os_str().as_encoded_bytes())?;
        sources.push((target, source));
    }
    sources.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut binds: Vec<Bind> = Vec::new();
    if sources.first().is_none_or(|(target, _)| *target != TreePath::literal(SOURCE)) {
        binds.push(bind(empty, TreePath::literal(SOURCE), false));
    }
    for (target, TreeSource { source, .. }) in sources {
        if let Some(above) = binds.iter().rev().find(|above| target.starts_with(&above.target)) {
            mount_point(above, &target)?;
        }
        binds.push(bind(source, target, phase.changes_sources()));
    }
    if let Some(dir) = &config.build.build_directory
        && phase.has_build_directory()
    {
        let distribution = &config.distribution;
        let (name, release) = (distribution.distribution, &distribution.release);
        let dir = dir.join(format!("{name}~{release}~{}", distribution.architecture));
        make(&dir)?;
        binds.push(bind(&dir, TreePath::literal(BUILD), phase == Phase::Build));
    }
    Ok(binds)
}

fn bind(source: &Path, target: TreePath, writable: bool) -> Bind {
    Bind { source: source.to_owned(), target, writable }
}

/// Something to mount on: as mkosi does, a directory in the source above, if it has none.
fn mount_point(above: &Bind, target: &TreePath) -> Result<(), BuildError> {
    let below = target.strip_prefix(&above.target).unwrap_or_else(TreePath::root);
    match below.is_root() {
        true => Ok(()),
        false => make(&below.below(&above.source)),
    }
}

fn make(dir: &Path) -> Result<(), BuildError> {
    Ok(std::fs::create_dir_all(dir).map_err(io_error("make the directory", dir))?)
}
