//! Reading a project: which files, in which order, into which layer.
//!
//! The order is mkosi's: the command line; `mkosi.local/` and `mkosi.local.conf`;
//! then, for a directory, its special paths, its `mkosi.conf`, its
//! `mkosi.conf.d/`, and its profiles. An `Include=` is read at its place. A file
//! whose `[Match]` fails is not read, a directory whose `mkosi.conf` does not
//! match is skipped whole.
//!
//! Nothing is executed, and nothing but configuration is read: the special paths'
//! existence, and the text of `mkosi.version` and its like. Every collection has
//! a limit with a name.

mod assign;
mod environment;
mod matching;
mod special;
mod specifier;

pub(crate) use specifier::MAIN_IMAGE;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Origin, Severity};
use crate::embedded;
use crate::ini::{self, Entry};
use crate::layer::{Layers, Stored};
use crate::source::{FileSource, Kind as FileKind};
use crate::table::{self, Setting};
use crate::value::Value;
use crate::{Facts, FileRead, Request};

/// The largest configuration file.
pub const MAX_FILE: u64 = 1 << 20;
/// The most configuration files of one project.
pub const MAX_FILES: usize = 10_000;
/// The most bytes of configuration in one project.
pub const MAX_TOTAL: u64 = 32 << 20;
/// How deep directories and includes may nest.
pub const MAX_DEPTH: usize = 32;
/// The most diagnostics that are kept.
pub const MAX_DIAGNOSTICS: usize = 200;
/// The most values that one project may set.
pub const MAX_VALUES: usize = 500_000;

/// What reading a project leaves behind for [`crate::config`].
pub(crate) struct Read {
    pub layers: Layers,
    pub files_read: Vec<FileRead>,
    pub applied: Vec<PathBuf>,
    pub diagnostics: Vec<Diagnostic>,
    pub no_effect: BTreeMap<&'static str, Origin>,
    pub environment: BTreeMap<String, String>,
    pub embedded: bool,
}

pub(crate) struct Loader<'a> {
    pub(super) files: &'a dyn FileSource,
    pub(super) facts: &'a Facts,
    /// The directory mkgold was pointed at (`%D`).
    pub(super) project: &'a Path,
    /// The directory that relative paths belong to at the moment (`%P`).
    pub(super) cwd: PathBuf,
    pub(super) layers: Layers,
    /// Paths from `Include=` in the order of their assignment.
    pub(super) includes: Vec<(PathBuf, Origin)>,
    included: BTreeSet<PathBuf>,
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) no_effect: BTreeMap<&'static str, Origin>,
    files_read: Vec<FileRead>,
    /// The files whose settings were applied, in that order.
    applied: Vec<PathBuf>,
    total: u64,
    pub(super) values: usize,
    depth: usize,
    /// Set when a limit was reached: nothing more is read.
    stopped: bool,
    embedded: bool,
}

/// What a directory may contribute besides its `mkosi.conf`.
#[derive(Clone, Copy)]
struct Extent {
    profiles: bool,
    local: bool,
}

/// Reads a project.
pub(crate) fn read(
    files: &dyn FileSource,
    project: &Path,
    request: &Request,
    facts: &Facts,
) -> Read {
    let mut loader = Loader {
        files,
        facts,
        project,
        cwd: project.to_path_buf(),
        layers: Layers::default(),
        includes: Vec::new(),
        included: BTreeSet::new(),
        diagnostics: Vec::new(),
        no_effect: BTreeMap::new(),
        files_read: Vec::new(),
        applied: Vec::new(),
        total: 0,
        values: 0,
        depth: 0,
        stopped: false,
        embedded: false,
    };
    loader.user_wide();
    let machine = std::mem::take(&mut loader.layers.files);
    loader.arguments(request);
    loader.new_includes();
    let directory = loader.configuration_directory();
    if loader.is_unconfigured(&directory) {
        loader.embedded_default();
    }
    loader.directory(&directory, Extent { profiles: true, local: true });
    loader.unsupported_paths(&directory);
    loader.layers.files.absorb(machine, is_list);
    let environment = loader.environment_files();
    Read {
        layers: loader.layers,
        files_read: loader.files_read,
        applied: loader.applied,
        diagnostics: loader.diagnostics,
        no_effect: loader.no_effect,
        environment,
        embedded: loader.embedded,
    }
}

impl Loader<'_> {
    /// The project itself, or its `mkosi/` where only that is configured.
    fn configuration_directory(&self) -> PathBuf {
        let configured = |d: &Path| {
            ["mkosi.conf", "mkosi.tools.conf"].iter().any(|n| self.files.exists(&d.join(n)))
        };
        let below = self.project.join("mkosi");
        if !configured(self.project) && configured(&below) { below } else { self.project.into() }
    }

    /// Whether neither a file nor an argument says what to build.
    fn is_unconfigured(&self, directory: &Path) -> bool {
        let names = [
            "mkosi.conf",
            "mkosi.conf.d",
            "mkosi.local",
            "mkosi.local.conf",
            "mkosi.profiles",
            "mkosi.images",
        ];
        let said = ["Packages", "BaseTrees", "Include", "Distribution", "Profiles"];
        !names.iter().any(|n| self.files.exists(&directory.join(n)))
            && !said.iter().any(|n| self.layers.upper.slot(n).is_some())
            && self.includes.is_empty()
    }

    fn embedded_default(&mut self) {
        self.embedded = true;
        for (name, text) in embedded::files() {
            self.file_text(&Path::new(embedded::DIRECTORY).join(name), text);
        }
    }

    /// `mkgold.conf` in the user's configuration directory: what belongs to the
    /// machine and not to the project. It comes first, so anything overrides it.
    fn user_wide(&mut self) {
        let Some(path) = self.facts.config_dir.as_ref().map(|d| d.join("mkgold.conf")) else {
            return;
        };
        if !self.files.exists(&path) {
            return;
        }
        let Some(text) = self.text(&path) else { return };
        let entries = ini::parse(&path, &text, &mut self.diagnostics);
        for entry in &entries {
            if embedded::USER_WIDE.contains(&entry.key.text.as_str()) {
                self.entry(&path, entry);
            } else {
                let at = entry.key_origin(&path);
                let message = format!("{}= belongs into a project", entry.key.text);
                let help = format!("here may be: {}", embedded::USER_WIDE.join(", "));
                self.report(Diagnostic::error(&at, &entry.key.text, message).help(help));
            }
        }
    }

    /// Reads a directory, or one file.
    fn configuration(&mut self, path: &Path, extent: Extent) -> bool {
        if self.depth >= MAX_DEPTH {
            self.stop(path, format!("configuration is nested more than {MAX_DEPTH} deep"));
        }
        if self.stopped {
            return false;
        }
        self.depth += 1;
        let done = match self.files.is_dir(path) {
            true => self.directory(path, extent),
            false => self.file(path),
        };
        self.depth -= 1;
        done
    }

    /// Reads a directory with all that belongs to it; false if its `mkosi.conf`
    /// does not match.
    fn directory(&mut self, path: &Path, extent: Extent) -> bool {
        let outer = std::mem::replace(&mut self.cwd, path.to_path_buf());
        let main = path.join("mkosi.conf");
        let entries = match self.files.exists(&main) {
            true => self.entries(&main),
            false => Some(Vec::new()),
        };
        let read = match entries {
            Some(entries) if self.matches(&main, &entries) => {
                if extent.local {
                    self.local(path);
                }
                self.special_paths(path);
                if self.files.exists(&main) {
                    self.apply(&main, &entries);
                }
                self.drop_ins(&path.join("mkosi.conf.d"));
                if extent.profiles {
                    self.profiles(path);
                }
                true
            }
            _ => false,
        };
        self.cwd = outer;
        read
    }

    /// `mkosi.local/` and `mkosi.local.conf`: above the project, below the
    /// command line.
    fn local(&mut self, directory: &Path) {
        for name in ["mkosi.local", "mkosi.local.conf"] {
            let path = directory.join(name);
            if !self.files.exists(&path) {
                continue;
            }
            if self.configuration(&path, Extent { profiles: false, local: false }) {
                let files = std::mem::take(&mut self.layers.files);
                self.layers.upper.absorb(files, is_list);
            }
        }
    }

    fn drop_ins(&mut self, directory: &Path) {
        if !self.files.exists(directory) {
            return;
        }
        if !self.files.is_dir(directory) {
            self.report(Diagnostic::error(&Origin::path(directory), "", "not a directory"));
            return;
        }
        for name in self.names(directory) {
            let path = directory.join(&name);
            if !self.files.exists(&path) {
                let message = "a link that leads nowhere is left out";
                self.report(Diagnostic::warning(&Origin::path(&path), "", message));
            } else if name.ends_with(".conf") || self.files.is_dir(&path) {
                self.configuration(&path, Extent { profiles: false, local: false });
            }
        }
    }

    fn profiles(&mut self, directory: &Path) {
        let list = self.layers.list("Profiles").unwrap_or_default();
        let text = |s: &Stored| match &s.value {
            Value::Text(t) => Some((t.clone(), s.origin.clone())),
            _ => None,
        };
        let profiles: Vec<_> = list.into_iter().filter_map(text).collect();
        let below = directory.join("mkosi.profiles");
        for (name, origin) in profiles {
            if name.contains('/') || name == ".." {
                let message = format!("{name:?} is not a profile's name");
                self.report(Diagnostic::error(&origin, &name, message));
                continue;
            }
            let candidates = [below.join(&name), below.join(format!("{name}.conf"))];
            let mut found = false;
            for path in candidates {
                if self.files.exists(&path) {
                    found = true;
                    self.configuration(&path, Extent { profiles: false, local: false });
                }
            }
            if !found && self.files.is_dir(&below) {
                self.profile_missing(&below, &name, &origin);
            }
        }
    }

    /// mkosi accepts it, as `[Match] Profiles=` may be all that uses it.
    fn profile_missing(&mut self, below: &Path, name: &str, origin: &Origin) {
        let names = self.names(below);
        let names = names.iter().map(|n| n.strip_suffix(".conf").unwrap_or(n));
        let help = crate::diagnostic::did_you_mean(name, names);
        let message = format!("mkosi.profiles has no profile {name:?}");
        self.report(Diagnostic::warning(origin, name, message).help_opt(help));
    }

    /// Reads one file; false if it does not match.
    fn file(&mut self, path: &Path) -> bool {
        match self.entries(path) {
            Some(entries) if self.matches(path, &entries) => {
                self.apply(path, &entries);
                true
            }
            _ => false,
        }
    }

    fn file_text(&mut self, path: &Path, text: &str) {
        let entries = ini::parse(path, text, &mut self.diagnostics);
        if self.matches(path, &entries) {
            self.apply(path, &entries);
        }
    }

    fn apply(&mut self, path: &Path, entries: &[Entry]) {
        self.applied.push(path.to_path_buf());
        for entry in entries {
            if self.stopped {
                return;
            }
            if !matching::is_condition(&entry.section) {
                self.entry(path, entry);
                self.new_includes();
            }
        }
    }

    /// Reads what `Include=` named since the last time. It is called after every
    /// setting, also while an included file is being read, so that the second of
    /// two paths in one assignment is read at the first setting of the first.
    fn new_includes(&mut self) {
        let mut next = 0;
        while next < self.includes.len() && !self.stopped {
            let (path, origin) = self.includes[next].clone();
            next += 1;
            if !self.included.insert(path.clone()) {
                continue;
            }
            if !self.files.exists(&path) {
                let message = format!("{} does not exist", path.display());
                self.report(Diagnostic::error(&origin, "", message));
                continue;
            }
            self.configuration(&path, Extent { profiles: true, local: false });
        }
    }

    /// The entries of a file; `None` if it cannot be read.
    fn entries(&mut self, path: &Path) -> Option<Vec<Entry>> {
        let text = self.text(path)?;
        Some(ini::parse(path, &text, &mut self.diagnostics))
    }

    /// A file's text, counted against the limits and remembered.
    pub(super) fn text(&mut self, path: &Path) -> Option<String> {
        if self.stopped {
            return None;
        }
        let at = Origin::path(path);
        let meta = match self.files.meta(path) {
            Ok(Some(meta)) if meta.kind == FileKind::File => meta,
            Ok(_) => return self.fail(&at, "not a regular file"),
            Err(e) => return self.fail(&at, format!("cannot be looked at: {e}")),
        };
        let bytes = match self.files.read(path, MAX_FILE) {
            Ok(bytes) => bytes,
            Err(e) => return self.fail(&at, format!("cannot be read: {e}")),
        };
        self.total += bytes.len() as u64;
        if bytes.len() as u64 > MAX_FILE {
            return self.fail(&at, format!("larger than {MAX_FILE} bytes"));
        }
        if self.total > MAX_TOTAL {
            self.stop(path, format!("more than {MAX_TOTAL} bytes of configuration"));
            return None;
        }
        if self.files_read.len() >= MAX_FILES {
            self.stop(path, format!("more than {MAX_FILES} configuration files"));
            return None;
        }
        let (mtime, size) = (meta.mtime, meta.size);
        self.files_read.push(FileRead { path: path.into(), mtime, size });
        match String::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(_) => self.fail(&at, "not UTF-8 text"),
        }
    }

    /// The names in a directory, sorted by their bytes.
    pub(super) fn names(&mut self, directory: &Path) -> Vec<String> {
        let mut names = match self.files.list(directory, MAX_FILES) {
            Ok(names) => names,
            Err(e) => {
                self.fail::<()>(&Origin::path(directory), format!("cannot be listed: {e}"));
                return Vec::new();
            }
        };
        if names.len() > MAX_FILES {
            self.stop(directory, format!("more than {MAX_FILES} names in one directory"));
            return Vec::new();
        }
        names.sort();
        names
    }

    pub(super) fn fail<T>(&mut self, at: &Origin, message: impl Into<String>) -> Option<T> {
        self.report(Diagnostic::error(at, "", message));
        None
    }

    /// Keeps a diagnostic; above the limit nothing more is read.
    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < MAX_DIAGNOSTICS {
            self.diagnostics.push(diagnostic);
        } else if !self.stopped {
            self.stopped = true;
            let at = Origin::path(self.project);
            let message = format!("more than {MAX_DIAGNOSTICS} problems; no more are shown");
            self.diagnostics.push(Diagnostic::error(&at, "", message));
        }
    }

    /// A limit was reached.
    pub(super) fn stop(&mut self, path: &Path, message: String) {
        if !self.stopped {
            self.stopped = true;
            self.diagnostics.push(Diagnostic::error(&Origin::path(path), "", message));
        }
    }

    /// The layer that files are read into, and what is in force at the moment.
    pub(super) fn assign(&mut self, setting: &'static Setting, values: Option<Vec<Stored>>) {
        self.layers.files.assign(setting, values);
    }
}

/// Whether a setting of the table holds a list.
fn is_list(name: &str) -> bool {
    table::get(name).is_list()
}

/// Whether a diagnostic refuses the configuration.
pub(crate) fn is_error(diagnostic: &Diagnostic) -> bool {
    diagnostic.severity == Severity::Error
}
