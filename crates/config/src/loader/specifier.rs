//! `%d` and its family: settings that values refer to, as they are at the moment.

use std::path::Path;

use super::Loader;
use crate::table::SETTINGS;
use crate::value::{Problem, Value};

/// The longest text that specifiers may make of a value: a file's size. A path
/// doubles with each `%O%O`.
const MAX_EXPANDED: usize = super::MAX_FILE as usize;

/// The specifiers that are no setting.
const OTHERS: [(char, &str); 5] = [
    ('C', "the file's directory"),
    ('P', "the directory being read"),
    ('D', "the project's directory"),
    ('F', "the distribution's file system"),
    ('I', "the image's name"),
];

/// The name of the image that is not a subimage.
pub(crate) const MAIN_IMAGE: &str = "main";

impl Loader<'_> {
    /// Replaces the specifiers in a value. An unknown one is an error, one whose
    /// setting is not set yet is empty with a warning, as in mkosi.
    pub(super) fn expand(
        &self,
        text: &str,
        file: &Path,
    ) -> Result<(String, Vec<Problem>), Problem> {
        let mut warnings = Vec::new();
        let mut out = String::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if out.len() > MAX_EXPANDED {
                let message = format!("longer than {MAX_EXPANDED} bytes with its specifiers");
                return Err(Problem::new(text, message));
            }
            if c != '%' {
                out.push(c);
                continue;
            }
            match chars.next() {
                None => out.push('%'),
                Some('%') => out.push('%'),
                Some(c) => match self.specifier(c, file) {
                    Some(Some(value)) => out.push_str(&value),
                    Some(None) => warnings.push(unset(c)),
                    None => return Err(unknown(c)),
                },
            }
        }
        Ok((out, warnings))
    }

    /// A specifier's value: `None` if there is no such, `Some(None)` if unset.
    fn specifier(&self, c: char, file: &Path) -> Option<Option<String>> {
        let path = |p: &Path| Some(Some(p.to_string_lossy().into_owned()));
        match c {
            'C' => return path(file.parent().unwrap_or(Path::new("/"))),
            'P' => return path(&self.cwd),
            'D' => return path(self.project),
            'F' => return Some(Some("ext4".into())),
            'I' => return Some(Some(MAIN_IMAGE.into())),
            _ => {}
        }
        let setting = SETTINGS.iter().find(|s| s.specifier == Some(c))?;
        Some(self.current(setting.name))
    }

    /// What a setting is at the moment, its default included.
    pub(super) fn current(&self, name: &str) -> Option<String> {
        if let Some(stored) = self.layers.scalar(name) {
            return Some(match &stored.value {
                Value::Text(text) => text.clone(),
                Value::Path(path) => path.to_string_lossy().into_owned(),
                Value::Bool(b) => if *b { "yes" } else { "no" }.into(),
                Value::Number(n) => n.to_string(),
                other => format!("{other:?}"),
            });
        }
        match name {
            "Architecture" => Some(self.facts.architecture.as_str().into()),
            "Release" => {
                let distribution = self.current("Distribution").unwrap_or_default();
                Some(crate::types::default_release(&distribution).into())
            }
            "Output" => {
                let id = self.current("ImageId").unwrap_or_else(|| "image".into());
                Some(match self.current("ImageVersion") {
                    Some(version) => format!("{id}_{version}"),
                    None => id,
                })
            }
            name => Some(crate::table::get(name).default.to_string()).filter(|d| !d.is_empty()),
        }
    }
}

fn unset(c: char) -> Problem {
    let name = SETTINGS.iter().find(|s| s.specifier == Some(c)).map_or("", |s| s.name);
    Problem::new(&format!("%{c}"), format!("{name}= is not set at this place, %{c} is empty"))
        .help("set it in an earlier file or line")
}

fn unknown(c: char) -> Problem {
    let settings = SETTINGS.iter().filter_map(|s| Some(format!("%{} ({}=)", s.specifier?, s.name)));
    let others = OTHERS.iter().map(|(c, what)| format!("%{c} ({what})"));
    let known: Vec<_> = settings.chain(others).collect();
    Problem::new(&format!("%{c}"), format!("%{c} is not a specifier"))
        .help(format!("write %% for a percent sign; there are {}", known.join(", ")))
}
