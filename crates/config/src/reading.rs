//! A project that was read and makes sense, whether or not mkgold can build it.
//!
//! What only mkosi can carry out is in [`Reading::unsupported`]: it can be shown
//! ([`Reading::to_json`]), not built ([`Reading::accept`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::config::{self, Config, ImageJson};
use crate::diagnostic::{Diagnostic, Origin};
use crate::loader::{self, Read};
use crate::source::{self, FileSource};
use crate::{Facts, FileRead, Loaded, Request, WithoutEffect, summary, table};

/// A configuration that was read.
pub struct Reading {
    pub(crate) read: Read,
    pub(crate) project: PathBuf,
    pub(crate) facts: Facts,
    /// What mkgold does not support of it; nothing can be built if there is any.
    pub unsupported: Vec<Diagnostic>,
    /// What is doubtful in it.
    pub warnings: Vec<Diagnostic>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("project", &self.project).finish_non_exhaustive()
    }
}

/// Reads the project in `project` (an absolute path) from `files`.
///
/// # Errors
/// Every error that was found, each with its place, if any of them is more than
/// something that mkgold does not support.
pub fn read_from(
    files: &dyn FileSource,
    project: &Path,
    request: &Request,
    facts: &Facts,
) -> Result<Reading, Vec<Diagnostic>> {
    let at = Origin::path(project);
    if !project.is_absolute() {
        return Err(vec![Diagnostic::error(&at, "", "not an absolute path")]);
    }
    if !files.is_dir(project) {
        return Err(vec![Diagnostic::error(&at, "", "no such directory")]);
    }
    let project = source::resolve(files, project);
    let mut read = loader::read(files, &project, request, facts);
    let problems = config::check(files, &project, facts, &read);
    read.diagnostics.extend(problems);
    let (errors, warnings): (Vec<_>, Vec<_>) =
        std::mem::take(&mut read.diagnostics).into_iter().partition(loader::is_error);
    if !errors.iter().all(|d| d.unsupported) {
        return Err(without_repetition(errors));
    }
    Ok(Reading { read, project, facts: facts.clone(), unsupported: errors, warnings })
}

/// A value that makes no sense need not be called unsupported as well.
fn without_repetition(errors: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let place = |d: &Diagnostic| (d.file.clone(), d.line, d.source_line.clone());
    let wrong: BTreeSet<_> = errors.iter().filter(|d| !d.unsupported).map(place).collect();
    errors.into_iter().filter(|d| !d.unsupported || !wrong.contains(&place(d))).collect()
}

impl Reading {
    /// The typed configuration, if mkgold can build it.
    ///
    /// # Errors
    /// Everything in it that mkgold does not support.
    pub fn accept(self) -> Result<Loaded, Vec<Diagnostic>> {
        if !self.unsupported.is_empty() {
            return Err(self.unsupported);
        }
        Ok(Loaded {
            config: self.config(),
            sources: self.sources(),
            no_effect: self.no_effect(),
            embedded_default: self.embedded_default(),
            files_read: self.read.files_read,
            warnings: self.warnings,
        })
    }

    pub(crate) fn config(&self) -> Config {
        let image = ImageJson(self.image());
        config::build(&self.project, &self.facts, &self.read, image)
    }

    /// Where each setting's values were written, by its name.
    pub fn sources(&self) -> BTreeMap<&'static str, Vec<Origin>> {
        config::sources(&self.read.layers)
    }

    /// The values of a setting, each with the place where it was written; secrets are
    /// not shown.
    pub fn origins(&self, name: &str) -> Vec<(String, Origin)> {
        let Some((setting, _)) = table::find(name) else { return Vec::new() };
        let stored = self.read.layers.values(setting);
        let origins = self.sources().remove(setting.name).unwrap_or_default();
        let shown = |value| match setting.secret {
            true => "(set)".to_string(),
            false => summary::shown(value),
        };
        stored.iter().map(|s| shown(&s.value)).zip(origins).collect()
    }

    /// A setting's value as a person reads it, its default included.
    pub fn shown(&self, name: &str) -> String {
        table::find(name).map(|(setting, _)| self.shown_setting(setting)).unwrap_or_default()
    }

    /// Whether the embedded default was used, as the project has no configuration.
    pub fn embedded_default(&self) -> bool {
        self.read.embedded
    }

    /// The configuration files whose settings apply, in order.
    pub fn files(&self) -> &[PathBuf] {
        &self.read.applied
    }

    /// Every file that was read, in order.
    pub fn files_read(&self) -> &[FileRead] {
        &self.read.files_read
    }

    fn no_effect(&self) -> Vec<WithoutEffect> {
        let reason = |name: &str| match table::get(name).state {
            table::State::NoEffect(reason) => reason,
            _ => "it is not used",
        };
        let without = |(setting, origin): (&&'static str, &Origin)| WithoutEffect {
            setting,
            reason: reason(setting),
            origin: origin.clone(),
        };
        self.read.no_effect.iter().map(without).collect()
    }
}
