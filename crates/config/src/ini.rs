//! Lines to entries: the INI dialect of mkosi.conf.
//!
//! Sections in brackets, `Key=value`, keys may repeat, `#` begins a comment
//! anywhere in a line (mkosi knows no quoting for it, and `;` is no comment), a
//! line that begins with white space continues the value before it, and blank or
//! comment lines do not end a value. Nothing is interpreted here: no setting is
//! looked up, no specifier expanded. Each piece keeps its line and column.
//!
//! Observed with mkosi 27.1; the tests hold what it answered.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Origin};

/// One line's part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Line, from 1.
    pub line: u32,
    /// Column of the first character, from 1.
    pub column: u32,
    /// The text without surrounding white space.
    pub text: String,
    /// The whole line.
    pub source: Arc<str>,
}

/// One `Key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The section it stands in.
    pub section: String,
    /// Counts sections in the file, so that two `[Match]` are told apart.
    pub section_index: u32,
    /// Where the section's header is.
    pub section_at: Piece,
    /// The key.
    pub key: Piece,
    /// The value, a piece for each line.
    pub value: Vec<Piece>,
}

impl Entry {
    /// An argument of the command line, whose value begins at the byte `start`.
    pub fn argument(shown: &str, start: usize) -> Self {
        let source: Arc<str> = shown.into();
        let piece = |at: usize| Piece {
            line: 0,
            column: u32::try_from(shown[..at].chars().count() + 1).unwrap_or(u32::MAX),
            text: shown[at..].to_string(),
            source: source.clone(),
        };
        let section_at = piece(0);
        let (section, key, value) = (String::new(), piece(0), vec![piece(start)]);
        Self { section, section_index: 0, section_at, key, value }
    }

    /// The value with its lines joined as mkosi joins them.
    pub fn joined(&self) -> String {
        let lines: Vec<_> = self.value.iter().map(|p| p.text.as_str()).collect();
        lines.join("\n")
    }

    /// Where `item` stands in the value; the value's begin if it is not there
    /// literally (after a specifier was expanded, say).
    pub fn locate(&self, file: &Path, item: &str) -> Origin {
        self.finder(file).find(item)
    }

    /// To locate many items that come in their order.
    pub fn finder<'e>(&'e self, file: &'e Path) -> Finder<'e> {
        let place = Place { piece: 0, byte: 0, characters: 0 };
        Finder { entry: self, file, place: Cell::new(place), again: Cell::new(AGAIN) }
    }

    /// Where the key stands.
    pub fn key_origin(&self, file: &Path) -> Origin {
        origin(file, &self.key, self.key.column as usize)
    }
}

/// How often a value is searched from its begin for an item that does not follow the one
/// before: a value may have a hundred thousand, and be a mebibyte.
const AGAIN: u32 = 100;

/// Locates the items of a value: each is searched from where the one before was found, so
/// that it is found once, however often its text stands in others.
pub struct Finder<'e> {
    entry: &'e Entry,
    file: &'e Path,
    place: Cell<Place>,
    again: Cell<u32>,
}

/// Up to where a value was searched.
#[derive(Clone, Copy)]
struct Place {
    piece: usize,
    byte: usize,
    /// In the piece, before `byte`.
    characters: usize,
}

impl Finder<'_> {
    /// Where `item` stands; the value's begin if it is not there literally (after a
    /// specifier was expanded, say), or if that happened too often to search for it.
    pub fn find(&self, item: &str) -> Origin {
        let pieces = &self.entry.value;
        let found = self.after(self.place.get(), item).or_else(|| {
            self.again.set(self.again.get().checked_sub(1)?);
            self.after(Place { piece: 0, byte: 0, characters: 0 }, item)
        });
        if let Some(place) = found {
            let piece = &pieces[place.piece];
            let characters = place.characters + item.chars().count();
            self.place.set(Place { byte: place.byte + item.len(), characters, ..place });
            return origin(self.file, piece, piece.column as usize + place.characters);
        }
        let first = pieces.iter().find(|p| !p.text.is_empty()).or(pieces.first());
        let piece = first.unwrap_or(&self.entry.key);
        origin(self.file, piece, piece.column as usize)
    }

    /// Where `item` begins, at or after `place`.
    fn after(&self, mut place: Place, item: &str) -> Option<Place> {
        if self.again.get() == 0 {
            return None;
        }
        for (number, piece) in self.entry.value.iter().enumerate().skip(place.piece) {
            if number != place.piece {
                place = Place { piece: number, byte: 0, characters: 0 };
            }
            let rest = &piece.text[place.byte..];
            if let Some(at) = rest.find(item) {
                let characters = place.characters + rest[..at].chars().count();
                return Some(Place { piece: number, byte: place.byte + at, characters });
            }
        }
        None
    }
}

/// A place in a file.
pub fn origin(file: &Path, piece: &Piece, column: usize) -> Origin {
    Origin {
        file: file.to_path_buf(),
        line: piece.line,
        column: u32::try_from(column).unwrap_or(u32::MAX),
        text: piece.source.clone(),
    }
}

/// Reads a file's text. Lines that cannot be read are reported and skipped, so
/// that one run reports them all.
pub fn parse(file: &Path, text: &str, diagnostics: &mut Vec<Diagnostic>) -> Vec<Entry> {
    let mut parser = Parser { file, entries: Vec::new(), section: None, sections: 0, open: false };
    for (number, line) in lines(text).enumerate() {
        let number = u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1);
        if let Err(d) = parser.line(number, line, diagnostics) {
            diagnostics.push(*d);
            parser.open = false;
        }
    }
    parser.entries
}

/// The lines of a text, by every boundary that mkosi takes for one.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.split(['\n', '\x0b', '\x0c', '\u{85}', '\u{2028}', '\u{2029}'])
        .map(|l| l.strip_suffix('\r').unwrap_or(l))
}

/// What is open while lines go by.
struct Parser<'a> {
    file: &'a Path,
    entries: Vec<Entry>,
    section: Option<Piece>,
    sections: u32,
    /// Whether an indented line continues the last entry.
    open: bool,
}

impl Parser<'_> {
    fn line(
        &mut self,
        number: u32,
        raw: &str,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Result<(), Box<Diagnostic>> {
        let code = raw.split('#').next().unwrap_or("");
        let trimmed = code.trim();
        if trimmed.is_empty() {
            return Ok(());
        }
        let lead = code.chars().take_while(|c| c.is_whitespace()).count();
        let piece = |skip: usize, text: &str| Piece {
            line: number,
            column: u32::try_from(skip + 1).unwrap_or(u32::MAX),
            text: text.to_string(),
            source: raw.into(),
        };
        if let Some(c) = trimmed.chars().find(|c| c.is_control() && *c != '\t') {
            let at = piece(lead, trimmed);
            let message = "a control character in the text";
            return Err(self.bad(&at, c.to_string(), message, "remove it"));
        }
        self.warn_glued_comment(raw, code, number, diagnostics);
        if lead > 0 && self.open {
            let entry = self.entries.last_mut().expect("an open value has an entry");
            entry.value.push(piece(lead, trimmed));
            return Ok(());
        }
        self.open = false;
        if trimmed.starts_with('[') {
            return self.header(piece(lead, trimmed));
        }
        self.setting(trimmed, lead, &piece)
    }

    fn header(&mut self, at: Piece) -> Result<(), Box<Diagnostic>> {
        let inner = at.text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        let Some(inner) = inner.map(str::trim) else {
            return Err(self.bad(&at, &at.text, "not a section header", "write [Section]"));
        };
        if inner.is_empty() {
            return Err(self.bad(&at, &at.text, "a section without a name", "write [Section]"));
        }
        let column = at.column + 1;
        self.section = Some(Piece { text: inner.to_string(), column, ..at.clone() });
        self.sections += 1;
        Ok(())
    }

    fn setting(
        &mut self,
        trimmed: &str,
        lead: usize,
        piece: &dyn Fn(usize, &str) -> Piece,
    ) -> Result<(), Box<Diagnostic>> {
        let whole = piece(lead, trimmed);
        let Some((key, value)) = trimmed.split_once('=') else {
            return Err(self.bad(
                &whole,
                trimmed,
                "a setting needs a \"=\" after its name",
                "write Name=value, or indent the line if it continues the value above",
            ));
        };
        let Some(section) = self.section.clone() else {
            let help = "put a header such as [Content] above it";
            return Err(self.bad(&whole, trimmed, "a setting before any section", help));
        };
        if key.trim().is_empty() {
            return Err(self.bad(&whole, trimmed, "a \"=\" without a setting's name", "add it"));
        }
        let gap = value.chars().take_while(|c| c.is_whitespace()).count();
        let value_at = lead + key.chars().count() + 1 + gap;
        self.entries.push(Entry {
            section: section.text.clone(),
            section_index: self.sections,
            section_at: section,
            key: piece(lead, key.trim()),
            value: vec![piece(value_at, value.trim())],
        });
        self.open = true;
        Ok(())
    }

    fn bad(
        &self,
        at: &Piece,
        span: impl Into<String>,
        message: &str,
        help: &str,
    ) -> Box<Diagnostic> {
        let origin = origin(self.file, at, at.column as usize);
        Box::new(Diagnostic::error(&origin, span, message).help(help))
    }

    /// `RootPassword=ab#cd` silently becomes `ab` in mkosi; say so.
    fn warn_glued_comment(
        &self,
        raw: &str,
        code: &str,
        number: u32,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let glued = code.len() < raw.len() && code.ends_with(|c: char| !c.is_whitespace());
        if glued {
            let column = code.chars().count() + 1;
            let at = Origin {
                file: self.file.to_path_buf(),
                line: number,
                column: u32::try_from(column).unwrap_or(u32::MAX),
                text: raw.into(),
            };
            let span = &raw[code.len()..];
            let message = "everything from \"#\" on is a comment, here in the middle of a value";
            diagnostics.push(
                Diagnostic::warning(&at, span, message)
                    .help("put a space before a comment; \"#\" cannot be part of a value"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, String, String)> {
        let mut diagnostics = Vec::new();
        let entries = parse(Path::new("f"), text, &mut diagnostics);
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        entries.iter().map(|e| (e.section.clone(), e.key.text.clone(), e.joined())).collect()
    }

    fn one(text: &str) -> String {
        values(text).remove(0).2
    }

    #[test]
    fn values_as_mkosi_reads_them() {
        assert_eq!(one("[S]\nA = b c \n"), "b c");
        assert_eq!(one("[S] # x\r\nA=b\r\n  c\r\n"), "b\nc");
        assert_eq!(one("[S]\nA=a\n  b\n\n# no\n  c\n"), "a\nb\nc");
        assert_eq!(one("[S]\nA=\n\tb"), "\nb");
        assert_eq!(one("[S]\nA=b=c"), "b=c");
        assert_eq!(one("[S]\nA=é # c"), "é");
        assert_eq!(one("[S]\n  A=indented"), "indented");
        assert_eq!(one("[S]\nA=x \\\n y"), "x \\\ny");
    }

    #[test]
    fn places_are_kept() {
        let mut diagnostics = Vec::new();
        let text = "[S]\nKey = one,\n   two three\n";
        let entries = parse(Path::new("f"), text, &mut diagnostics);
        let at = entries[0].locate(Path::new("f"), "three");
        assert_eq!((at.line, at.column, &*at.text), (3, 8, "   two three"));
        let at = entries[0].locate(Path::new("f"), "one");
        assert_eq!((at.line, at.column), (2, 7));
    }

    #[test]
    fn items_are_found_in_their_order() {
        let entries = parse(Path::new("f"), "[S]\nKey=ba a é,\n a ba\n", &mut Vec::new());
        let finder = entries[0].finder(Path::new("f"));
        let places = ["ba", "a", "é", "expanded", "a", "ba", "a"].map(|item| {
            let at = finder.find(item);
            (at.line, at.column)
        });
        assert_eq!(places, [(2, 5), (2, 8), (2, 10), (2, 5), (3, 2), (3, 4), (2, 6)]);
    }

    #[test]
    fn a_value_of_many_items_is_searched_once() {
        let words: Vec<String> = (0..100_000).map(|i| format!("A{i}")).collect();
        let text = format!("[S]\nKey={}\n", words.join(" "));
        let entries = parse(Path::new("f"), &text, &mut Vec::new());
        let finder = entries[0].finder(Path::new("f"));
        // Minutes if each search began at the value's begin.
        let last = words.iter().map(|w| finder.find(w).column).last();
        assert_eq!(last, u32::try_from(text.len() - "A99999\n".len() - "[S]\n".len() + 1).ok());
        (0..100_000).for_each(|_| assert_eq!(finder.find("expanded").column, 5));
    }

    #[test]
    fn bad_lines_are_all_reported() {
        let mut diagnostics = Vec::new();
        parse(Path::new("f"), "A=1\n[S\n[S]\nB\n=c\nD=\u{1}\n[]\n", &mut diagnostics);
        let lines: Vec<_> = diagnostics.iter().map(|d| d.line).collect();
        assert_eq!(lines, [1, 2, 4, 5, 6, 7]);
    }

    #[test]
    fn a_glued_comment_is_pointed_out() {
        let mut diagnostics = Vec::new();
        let entries = parse(Path::new("f"), "[S]\nA=x#y\nB=x # y\n", &mut diagnostics);
        assert_eq!(entries[0].joined(), "x");
        assert_eq!(diagnostics.len(), 1);
        assert_eq!((diagnostics[0].line, diagnostics[0].column), (2, 4));
    }
}
