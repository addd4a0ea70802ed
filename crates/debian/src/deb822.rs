//! Control paragraphs: `Name: value` fields, folded lines, blank lines between.
//!
//! One reader serves `Packages`, `Release`, `.sources`, `status`, `extended_states`
//! and `control`: deb822(5) and Debian Policy 5.1. Fields borrow from the text and
//! keep their order; names compare without regard to case; a name that comes twice
//! in a paragraph is an error, as it is for dpkg. Lines starting with `#` are
//! comments where the caller says that the file may have them.
//!
//! What is not here: OpenPGP armour around a signed file, and the meaning of fields.
//!
//! Data flow: text → [`Paragraphs`] (iterator) → [`Paragraph`]; and
//! [`Writer`] the other way.

use std::borrow::Cow;
use std::fmt;

use memchr::memchr;

/// The most fields that a paragraph may have.
pub const MAX_FIELDS: usize = 1024;
/// The longest field, in bytes: a `Release` file's list of hashes is the longest known.
pub const MAX_FIELD: usize = 32 << 20;

/// A text that is not a sequence of control paragraphs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct Error {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub kind: ErrorKind,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// Not UTF-8.
    #[error("the line is not UTF-8")]
    NotText,
    /// Neither a field nor a continuation.
    #[error("“{0}” is neither a field (“Name: value”) nor the continuation of one")]
    NotAField(String),
    /// Begins with a blank, and no field comes before.
    #[error("a continuation line where no field has begun")]
    Orphan,
    /// The same field twice.
    #[error("the field “{0}” comes twice in one paragraph")]
    Duplicate(String),
    /// More than [`MAX_FIELDS`].
    #[error("a paragraph has more than {MAX_FIELDS} fields")]
    TooManyFields,
    /// Longer than [`MAX_FIELD`].
    #[error("a field is longer than {MAX_FIELD} bytes")]
    TooLong,
}

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name as written.
    pub name: &'a str,
    /// The value: blanks around it removed, the line ends of folded lines and the
    /// blank that starts each of them kept, comments removed.
    pub value: Cow<'a, str>,
    /// The line of the name, counted from 1.
    pub line: usize,
}

impl Field<'_> {
    /// The value's lines without the blank of folded lines; a `.` alone is an
    /// empty line. The first is what stands beside the name, maybe nothing.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.value.split('\n').enumerate().map(|(i, line)| match (i, line) {
            (0, line) => line,
            (_, " ." | "\t.") => "",
            (_, line) => line.strip_prefix([' ', '\t']).unwrap_or(line),
        })
    }
}

/// The fields of one paragraph in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Paragraph<'a> {
    fields: Vec<Field<'a>>,
    line: usize,
}

impl<'a> Paragraph<'a> {
    /// The field of that name, whatever its case.
    pub fn field(&self, name: &str) -> Option<&Field<'a>> {
        self.fields.iter().find(|f| f.name.eq_ignore_ascii_case(name))
    }

    /// The value of that field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.field(name).map(|field| &*field.value)
    }

    /// The fields in their order.
    pub fn fields(&self) -> &[Field<'a>] {
        &self.fields
    }

    /// The line on which the paragraph starts, counted from 1.
    pub fn line(&self) -> usize {
        self.line
    }
}

/// The paragraphs of a text, one after the other. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Paragraphs<'a> {
    text: &'a str,
    /// Where the next line starts.
    at: usize,
    /// How many lines were read.
    line: usize,
    comments: bool,
}

impl<'a> Paragraphs<'a> {
    /// For files without comments: indices, `status`, `Release`.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, line: 0, comments: false }
    }

    /// For files where a line starting with `#` is a comment: `.sources`,
    /// preferences, source `control`.
    pub fn with_comments(text: &'a str) -> Self {
        Self { comments: true, ..Self::new(text) }
    }

    /// As [`Paragraphs::new`], of bytes that should be UTF-8.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, Error> {
        text_of(bytes).map(Self::new)
    }

    /// Reads the next paragraph into `paragraph`, whose memory is used again.
    /// False at the end of the text.
    pub fn read_into(&mut self, paragraph: &mut Paragraph<'a>) -> Result<bool, Error> {
        paragraph.fields.clear();
        let result = self.read_fields(paragraph);
        if result.is_err() {
            self.at = self.text.len();
        }
        result.map(|()| !paragraph.fields.is_empty())
    }

    fn read_fields(&mut self, paragraph: &mut Paragraph<'a>) -> Result<(), Error> {
        while let Some((start, line)) = self.next_line() {
            if is_blank(line) {
                if paragraph.fields.is_empty() {
                    continue;
                }
                return Ok(());
            }
            if self.comments && line.starts_with('#') {
                continue;
            }
            if line.starts_with([' ', '\t']) {
                return self.fail(ErrorKind::Orphan);
            }
            self.read_field(start, line, paragraph)?;
        }
        Ok(())
    }

    /// The field that starts with the line `first` at `start`, and the folded
    /// lines after it.
    fn read_field(
        &mut self,
        start: usize,
        first: &'a str,
        paragraph: &mut Paragraph<'a>,
    ) -> Result<(), Error> {
        let line = self.line;
        let Some((name, _)) = first.split_once(':').filter(|(name, _)| is_field_name(name)) else {
            return self.fail(ErrorKind::NotAField(first.chars().take(60).collect()));
        };
        if paragraph.fields.iter().any(|f| f.name.eq_ignore_ascii_case(name)) {
            return self.fail(ErrorKind::Duplicate(name.to_owned()));
        }
        if paragraph.fields.len() == MAX_FIELDS {
            return self.fail(ErrorKind::TooManyFields);
        }
        let (end, commented) = self.fold(start + first.len());
        let whole = &self.text[start + name.len() + 1..end];
        if whole.len() > MAX_FIELD {
            return self.fail(ErrorKind::TooLong);
        }
        let value = if commented { without_comments(whole).into() } else { trim(whole).into() };
        if paragraph.fields.is_empty() {
            paragraph.line = line;
        }
        paragraph.fields.push(Field { name, value, line });
        Ok(())
    }

    /// Takes the folded lines from here on. Gives where the last of them ends (or
    /// `end`, where the first line does), and whether a comment is among them.
    fn fold(&mut self, mut end: usize) -> (usize, bool) {
        let mut commented = false;
        let mut ahead = self.clone();
        while let Some((start, line)) = ahead.next_line() {
            if line.starts_with([' ', '\t']) && !is_blank(line) {
                // A comment is inside the field only when the field goes on after it.
                commented |= self.line + 1 != ahead.line;
                end = start + line.len();
                (self.at, self.line) = (ahead.at, ahead.line);
            } else if !(self.comments && line.starts_with('#')) {
                break;
            }
        }
        (end, commented)
    }

    /// Where the next line starts, and the line without its end.
    fn next_line(&mut self) -> Option<(usize, &'a str)> {
        let start = self.at;
        let rest = &self.text[start..];
        if rest.is_empty() {
            return None;
        }
        let length = memchr(b'\n', rest.as_bytes());
        self.line += 1;
        self.at = length.map_or(self.text.len(), |length| start + length + 1);
        Some((start, &rest[..length.unwrap_or(rest.len())]))
    }

    fn fail<T>(&self, kind: ErrorKind) -> Result<T, Error> {
        Err(Error { line: self.line, kind })
    }
}

impl<'a> Iterator for Paragraphs<'a> {
    type Item = Result<Paragraph<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut paragraph = Paragraph::default();
        match self.read_into(&mut paragraph) {
            Ok(true) => Some(Ok(paragraph)),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// The text that `bytes` are, or the line on which they are none.
pub fn text_of(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        Error { line, kind: ErrorKind::NotText }
    })
}

/// Blank lines separate paragraphs, also those of spaces and tabs (as apt and dpkg read them).
fn is_blank(line: &str) -> bool {
    line.bytes().all(|b| matches!(b, b' ' | b'\t' | b'\r'))
}

/// Printable ASCII without blanks and colons, not starting with `#` or `-`.
fn is_field_name(name: &str) -> bool {
    let first = name.as_bytes().first();
    first.is_some_and(|b| !b"#-".contains(b)) && name.bytes().all(|b| b.is_ascii_graphic())
}

fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t', '\r', '\n'])
}

/// A folded value without the comment lines in it.
fn without_comments(value: &str) -> String {
    let mut kept = String::with_capacity(value.len());
    for (i, line) in value.split('\n').enumerate() {
        if i > 0 && line.starts_with('#') {
            continue;
        }
        if i > 0 {
            kept.push('\n');
        }
        kept.push_str(line);
    }
    trim(&kept).to_owned()
}

/// Writes paragraphs with a blank line between them.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    text: String,
    open: bool,
}

/// A field that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("“{0}” is not the name of a field")]
pub struct BadName(pub String);

impl Writer {
    /// Nothing written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field. Lines of `value` after the first are folded: each gets a
    /// blank in front, an empty one becomes ` .`.
    pub fn field(&mut self, name: &str, value: &str) -> Result<&mut Self, BadName> {
        if !is_field_name(name) || name.contains(':') {
            return Err(BadName(name.to_owned()));
        }
        if !self.open && !self.text.is_empty() {
            self.text.push('\n');
        }
        self.open = true;
        self.text.push_str(name);
        self.text.push(':');
        for (i, line) in value.lines().enumerate() {
            match (i, is_blank(line)) {
                (0, true) => {}
                (0, false) => self.text.extend([" ", line]),
                (_, true) => self.text.push_str("\n ."),
                (_, false) => self.text.extend(["\n ", line]),
            }
        }
        self.text.push('\n');
        Ok(self)
    }

    /// Copies a field that was read as it is.
    pub fn copy(&mut self, field: &Field<'_>) -> &mut Self {
        let value: Vec<_> = field.lines().collect();
        self.field(field.name, &value.join("\n")).expect("a name that was read is one")
    }

    /// Ends the paragraph, if one was begun.
    pub fn end(&mut self) -> &mut Self {
        self.open = false;
        self
    }

    /// What was written.
    pub fn into_text(self) -> String {
        self.text
    }
}

impl fmt::Display for Paragraph<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writer = Writer::new();
        for field in &self.fields {
            writer.copy(field);
        }
        f.write_str(&writer.into_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(paragraphs: Paragraphs<'_>) -> Result<Vec<Vec<(String, String)>>, Error> {
        let pairs = |p: Paragraph<'_>| {
            p.fields.iter().map(|f| (f.name.to_owned(), f.value.to_string())).collect()
        };
        paragraphs.map(|p| p.map(pairs)).collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn fields_keep_their_order_and_folds() {
        let text = "\n \nB: 1\nA:two\nC:\n x\n .\n  y  \n\n\n\nD: last";
        let found = all(Paragraphs::new(text)).unwrap();
        let first = pairs(&[("B", "1"), ("A", "two"), ("C", "x\n .\n  y")]);
        assert_eq!(found, [first, pairs(&[("D", "last")])]);
        let paragraph = Paragraphs::new(text).next().unwrap().unwrap();
        assert_eq!((paragraph.line(), paragraph.field("c").unwrap().line), (3, 5));
    }

    #[test]
    fn lines_unfold() {
        let text = "Description: short\n first\n .\n  indented\n";
        let paragraph = Paragraphs::new(text).next().unwrap().unwrap();
        let lines: Vec<_> = paragraph.field("description").unwrap().lines().collect();
        assert_eq!(lines, ["short", "first", "", " indented"]);
        assert_eq!(paragraph.to_string(), text);
    }

    #[test]
    fn comments_only_where_allowed() {
        let text = "# head\nA: 1\n# inside\n more\n#after\nB: 2\n#end\n";
        let found = all(Paragraphs::with_comments(text)).unwrap();
        assert_eq!(found, [pairs(&[("A", "1\n more"), ("B", "2")])]);
        let error = all(Paragraphs::new(text)).unwrap_err();
        assert_eq!((error.line, error.to_string().contains("# head")), (1, true));
    }

    #[test]
    fn errors_name_the_line_and_end_the_text() {
        let cases = [
            ("A: 1\nnonsense\n", 2, "neither a field"),
            (" x\n", 1, "no field has begun"),
            ("A: 1\n\n x\n", 3, "no field has begun"),
            ("A: 1\nB: 2\na: 3\n", 3, "comes twice"),
            (": x\n", 1, "neither a field"),
            ("-A: x\n", 1, "neither a field"),
            ("A b: x\n", 1, "neither a field"),
        ];
        for (text, line, message) in cases {
            let mut paragraphs = Paragraphs::new(text);
            let error = paragraphs.find_map(Result::err).unwrap_or_else(|| panic!("{text:?}"));
            assert!(error.to_string().contains(message), "{text:?}: {error}");
            assert_eq!(error.line, line, "{text:?}");
            assert!(paragraphs.next().is_none());
        }
        assert_eq!(Paragraphs::from_bytes(b"A: 1\n\nB: \xff").unwrap_err().line, 3);
        let many: String = (0..=MAX_FIELDS).map(|i| format!("F{i}:\n")).collect();
        assert_eq!(all(Paragraphs::new(&many)).unwrap_err().kind, ErrorKind::TooManyFields);
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut writer = Writer::new();
        writer.field("A", "1\n\n2").unwrap().field("B", "").unwrap().end();
        writer.field("C", "\nx").unwrap();
        assert!(writer.field("no name", "").is_err());
        let text = writer.into_text();
        assert_eq!(text, "A: 1\n .\n 2\nB:\n\nC:\n x\n");
    }
}
