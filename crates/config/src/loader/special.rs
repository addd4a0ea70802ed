//! Special paths: files and directories that configure something by being there
//! (`mkosi.extra/`, `mkosi.postinst`, `mkosi.version` …). Which they are is in the
//! settings table.

use std::path::Path;

use super::Loader;
use crate::diagnostic::{Diagnostic, Origin};
use crate::layer::Stored;
use crate::source::{Kind as FileKind, resolve};
use crate::table::{Kind, SETTINGS, Setting, Special, State};
use crate::value::{self, Problem, Surroundings, Value};

/// Paths of a project that stand for something mkgold does not do yet.
const UNSUPPORTED: [(&str, &str); 4] = [
    ("mkosi.images", "several images"),
    ("mkosi.tools.conf", "a configured tools tree"),
    ("mkosi.initrd.conf", "a configured default initrd"),
    ("mkosi.initrd", "a configured default initrd"),
];

impl Loader<'_> {
    /// Applies what is found in a directory. It comes before the directory's
    /// `mkosi.conf`, which can add to it or reset it.
    pub(super) fn special_paths(&mut self, directory: &Path) {
        for setting in SETTINGS.iter() {
            for special in setting.special {
                let path = directory.join(special.name());
                if self.files.exists(&path) {
                    self.special(setting, *special, &path);
                }
            }
        }
    }

    fn special(&mut self, setting: &'static Setting, special: Special, path: &Path) {
        let at = Origin::path(path);
        match setting.state {
            State::Works => {}
            State::NoEffect(_) if setting.kind != Kind::ToolsTree => {
                self.no_effect.entry(setting.name).or_insert_with(|| at.clone());
            }
            _ => {
                let readable = matches!(setting.state, State::Refused(_));
                let message = format!(
                    "{} ({}=) is known to mkosi, not supported by mkgold yet",
                    special.name(),
                    setting.name
                );
                let diagnostic = Diagnostic::unsupported(&at, "", message);
                self.report(diagnostic.help("remove or rename it"));
                if !readable {
                    return;
                }
            }
        }
        if special == Special::Path("mkosi.pkgmngr") {
            let message = "mkosi.pkgmngr is an old name";
            self.report(Diagnostic::warning(&at, "", message).help("rename it to mkosi.sandbox"));
        }
        match self.special_values(setting, special, path) {
            Ok(values) if values.is_empty() => {}
            Ok(values) => {
                let with = |value| Stored { value, origin: at.clone() };
                self.assign(setting, Some(values.into_iter().map(with).collect()));
            }
            Err(p) => {
                let diagnostic = Diagnostic::error(&at, "", p.message);
                self.report(diagnostic.help_opt(p.help));
            }
        }
    }

    fn special_values(
        &mut self,
        setting: &'static Setting,
        special: Special,
        path: &Path,
    ) -> Result<Vec<Value>, Problem> {
        let target = resolve(self.files, path);
        match special {
            Special::Path(_) => match setting.kind {
                Kind::Tree | Kind::ExistingTree => {
                    Ok(vec![Value::Tree { source: target, target: None }])
                }
                Kind::Credential => value::credential_paths(&target, self.files),
                Kind::Script if self.files.is_dir(&target) => {
                    Err(Problem::new("", "a directory where a script is expected")
                        .help(format!("scripts go into {}.d", special.name())))
                }
                _ => Ok(vec![Value::Path(target)]),
            },
            Special::Files(_) => {
                let names = self.names(path);
                let file = |n: String| resolve(self.files, &path.join(n));
                Ok(names.into_iter().map(file).map(Value::Path).collect())
            }
            Special::Contents(_) => self.contents(setting, path, false),
            Special::Secret(_) => self.contents(setting, path, true),
        }
    }

    /// The value that a file's text is. mkosi runs the file if it is executable;
    /// nothing is executed here.
    fn contents(
        &mut self,
        setting: &'static Setting,
        path: &Path,
        secret: bool,
    ) -> Result<Vec<Value>, Problem> {
        let meta = match self.files.meta(path) {
            Ok(Some(meta)) if meta.kind == FileKind::File => meta,
            _ => return Err(Problem::new("", "not a regular file")),
        };
        if meta.mode & 0o111 != 0 {
            return Err(Problem::new("", "executable configuration is not run")
                .help("put the value into the file and remove its execute permission"));
        }
        if secret && meta.mode & 0o077 != 0 {
            let message = format!("others may read this secret (mode {:04o})", meta.mode);
            return Err(Problem::new("", message).help("chmod 600 it"));
        }
        let Some(text) = self.text(path) else { return Ok(Vec::new()) };
        let text = text.trim();
        if text.is_empty() {
            return Ok(Vec::new());
        }
        if text.contains('\n') {
            return Err(Problem::new("", "more than one line").help("leave the value alone in it"));
        }
        let directory = path.parent().unwrap_or(Path::new("/"));
        let around = Surroundings { files: self.files, directory, facts: self.facts };
        value::parse(setting, text, &around)
    }

    /// Refuses what a project's directory asks for and mkgold cannot do.
    pub(super) fn unsupported_paths(&mut self, directory: &Path) {
        for (name, what) in UNSUPPORTED {
            let path = directory.join(name);
            if self.files.exists(&path) {
                let message =
                    format!("{name} ({what}) is known to mkosi, not supported by mkgold yet");
                let diagnostic = Diagnostic::error(&Origin::path(&path), "", message);
                self.report(diagnostic.help("remove or rename it"));
            }
        }
    }
}
