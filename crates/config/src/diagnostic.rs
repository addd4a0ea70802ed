//! What is said about a configuration that is wrong or doubtful: file, line,
//! column, the text itself, and what to write instead.
//!
//! A [`Diagnostic`] is data; its `Display` shows the line with a caret. It is
//! not an error type with a chain: nothing below it fails.

use std::fmt;
use std::path::PathBuf;

/// The file name that diagnostics about arguments carry.
pub const COMMAND_LINE: &str = "command line";

/// The longest piece of a source line that is shown.
const MAX_SHOWN: usize = 100;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is accepted, but probably not what was meant.
    Warning,
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Origin {
    /// The file, or [`COMMAND_LINE`].
    pub file: PathBuf,
    /// Its line, from 1; 0 where there is none (a special path, an argument).
    pub line: u32,
    /// Its column in characters, from 1.
    pub column: u32,
    /// The line as it was written.
    #[serde(skip)]
    pub text: std::sync::Arc<str>,
}

impl Origin {
    /// A place that is a whole file or directory.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self { file: path.into(), line: 0, column: 1, text: "".into() }
    }

    /// A place in an argument.
    pub fn argument(text: &str, column: usize) -> Self {
        let column = u32::try_from(column).unwrap_or(u32::MAX);
        Self { file: COMMAND_LINE.into(), line: 0, column, text: text.into() }
    }
}

/// One thing to say about the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the configuration is refused for it.
    pub severity: Severity,
    /// Whether it is valid configuration that mkgold cannot carry out: it can be
    /// shown, not built.
    pub unsupported: bool,
    /// The file, or [`COMMAND_LINE`].
    pub file: PathBuf,
    /// The line, from 1; 0 where the file as a whole is meant.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The offending text.
    pub span: String,
    /// The line that holds it.
    pub source_line: std::sync::Arc<str>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error about `span` at `origin`.
    pub fn error(origin: &Origin, span: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            unsupported: false,
            file: origin.file.clone(),
            line: origin.line,
            column: origin.column,
            span: span.into(),
            source_line: origin.text.clone(),
            message: message.into(),
            help: None,
        }
    }

    /// A warning about `span` at `origin`.
    pub fn warning(origin: &Origin, span: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(origin, span, message) }
    }

    /// An error about what mkosi does and mkgold does not.
    pub fn unsupported(
        origin: &Origin,
        span: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { unsupported: true, ..Self::error(origin, span, message) }
    }

    /// Adds what to write instead.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds what to write instead, where something is known.
    pub fn help_opt(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }
}

/// Text from a file made safe for a terminal: control characters are shown as
/// escapes, never sent.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(' '),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", printable(&self.file.to_string_lossy()))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        let kind = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, ": {kind}: {}", printable(&self.message))?;
        if !self.source_line.is_empty() {
            self.show_line(f)?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  = help: {}", printable(help))?;
        }
        Ok(())
    }
}

impl Diagnostic {
    /// The line and, below it, a caret under each character of the span. A long
    /// line is shown from a little before the span.
    fn show_line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = (self.column as usize).saturating_sub(1);
        let skip = if before > MAX_SHOWN / 2 { before - MAX_SHOWN / 4 } else { 0 };
        let shown: String = self.source_line.chars().skip(skip).take(MAX_SHOWN).collect();
        let lead: String = shown.chars().take(before - skip).collect();
        let carets = self.span.lines().next().unwrap_or("").chars().take(MAX_SHOWN).count();
        let number = if self.line > 0 { self.line.to_string() } else { String::new() };
        let ellipsis = if skip > 0 { "…" } else { "" };
        write!(f, "\n{number:>4} | {ellipsis}{}", printable(&shown))?;
        let indent = printable(&lead).chars().count() + ellipsis.chars().count();
        write!(f, "\n     | {:indent$}{}", "", "^".repeat(carets.max(1)))
    }
}

/// The candidate that is close enough to `word` to be what was meant.
///
/// Names are compared without regard to case by Damerau–Levenshtein distance;
/// at most a third of the letters, and never more than three, may differ.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let lower = word.to_lowercase();
    let allowed = (word.chars().count().div_ceil(3)).min(3);
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&lower, &c.to_lowercase()), c))
        .filter(|(d, _)| *d <= allowed)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// `did you mean "x"?` for the nearest of `candidates`.
pub fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(word, candidates).map(|c| format!("did you mean \"{c}\"?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_is_under_the_span() {
        let origin =
            Origin { file: "mkosi.conf".into(), line: 3, column: 8, text: "Format=dsk".into() };
        let d = Diagnostic::error(&origin, "dsk", "not a format").help("did you mean \"disk\"?");
        assert_eq!(
            d.to_string(),
            "mkosi.conf:3:8: error: not a format\n   3 | Format=dsk\n     |        ^^^\n  = help: did you mean \"disk\"?"
        );
    }

    #[test]
    fn a_terminal_gets_no_control_characters() {
        let origin = Origin { file: "a\x1b".into(), line: 1, column: 1, text: "\x1b[31mx".into() };
        let shown = Diagnostic::error(&origin, "\x1b", "bad \x07").to_string();
        assert!(!shown.contains('\x1b') && !shown.contains('\x07'), "{shown}");
    }

    #[test]
    fn the_nearest_name_is_near() {
        let names = ["Packages", "Hostname", "Format"];
        assert_eq!(nearest("Pakages", names), Some("Packages"));
        assert_eq!(nearest("hostname", names), Some("Hostname"));
        assert_eq!(nearest("Zzzzzzzz", names), None);
    }
}
