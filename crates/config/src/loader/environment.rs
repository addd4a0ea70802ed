//! `EnvironmentFiles=`: files of `NAME=VALUE` lines.
//!
//! A line is a variable; blank lines and lines that begin with `#` are skipped.
//! As in mkosi, there is no quoting: the value is the rest of the line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Loader;
use crate::diagnostic::{Diagnostic, Origin};
use crate::table;
use crate::value::Value;

impl Loader<'_> {
    /// The variables of all the files, later ones first in force.
    pub(super) fn environment_files(&mut self) -> BTreeMap<String, String> {
        let setting = table::get("EnvironmentFiles");
        let path = |v: &Value| match v {
            Value::Path(path) => Some(path.clone()),
            _ => None,
        };
        let stored = self.layers.values(setting);
        let paths: Vec<PathBuf> = stored.iter().filter_map(|s| path(&s.value)).collect();
        let mut variables = BTreeMap::new();
        for path in paths {
            let Some(text) = self.text(&path) else { continue };
            for (number, line) in text.lines().enumerate() {
                let trimmed = line.trim();
                if trimmed.is_empty() || trimmed.starts_with('#') {
                    continue;
                }
                match trimmed.split_once('=') {
                    Some((name, value)) if is_name(name.trim()) => {
                        variables.insert(name.trim().to_string(), value.trim().to_string());
                    }
                    _ => {
                        let line_number = u32::try_from(number + 1).unwrap_or(u32::MAX);
                        let column = line.chars().take_while(|c| c.is_whitespace()).count() + 1;
                        let at = Origin {
                            file: path.clone(),
                            line: line_number,
                            column: u32::try_from(column).unwrap_or(u32::MAX),
                            text: line.into(),
                        };
                        let message = "not a line of the form NAME=VALUE";
                        let help = "there is no quoting, \"export\" or continuation in these files";
                        self.report(Diagnostic::error(&at, trimmed, message).help(help));
                    }
                }
            }
        }
        variables
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
