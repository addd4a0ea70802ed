//! The text of a line: words with quotes and escapes, specifiers.
//!
//! Formats: tmpfiles.d(5), "Configuration File Format" and "Specifiers".

use std::collections::BTreeMap;

/// The longest text that specifiers may grow to.
const EXPANDED_LIMIT: usize = 1 << 20;

/// A word of a line, or the rest of it, and where it begins (1-based).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub text: Vec<u8>,
    pub column: usize,
}

/// Something is wrong at a place of the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub column: usize,
    pub message: String,
}

impl Wrong {
    pub fn new(column: usize, message: impl Into<String>) -> Wrong {
        Wrong { column, message: message.into() }
    }
}

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r')
}

/// The first `count` words of `line`, and the rest as it stands.
pub fn words(line: &[u8], count: usize) -> Result<(Vec<Word>, Word), Wrong> {
    let (mut words, mut at) = (Vec::new(), 0);
    let skip = |at: usize| at + line[at..].iter().take_while(|b| is_blank(**b)).count();
    loop {
        at = skip(at);
        if at == line.len() || words.len() == count {
            return Ok((words, Word { text: line[at..].to_vec(), column: at + 1 }));
        }
        let (text, end) = word(line, at)?;
        words.push(Word { text, column: at + 1 });
        at = end;
    }
}

/// The word that begins at `start`, and where it ends.
fn word(line: &[u8], start: usize) -> Result<(Vec<u8>, usize), Wrong> {
    let (mut text, mut quote, mut at) = (Vec::new(), None, start);
    while let Some(&b) = line.get(at) {
        match (quote, b) {
            (None, b) if is_blank(b) => break,
            (None, b'"' | b'\'') => quote = Some(b),
            (Some(q), b) if q == b => quote = None,
            (_, b'\\') => {
                let escaped = unescape_one(&line[at + 1..], &mut text);
                at += escaped.ok_or_else(|| Wrong::new(at + 1, "invalid escape sequence"))?;
            }
            (_, b) => text.push(b),
        }
        at += 1;
    }
    match quote {
        Some(_) => Err(Wrong::new(start + 1, "unbalanced quotes")),
        None => Ok((text, at)),
    }
}

/// Takes what follows a backslash; returns how many bytes that were.
fn unescape_one(after: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let number = |from: usize, count: usize, radix: u32| {
        let digits = after.get(from..from + count)?;
        let ok = digits.iter().all(|b| (*b as char).is_digit(radix));
        let text = std::str::from_utf8(digits).ok().filter(|_| ok)?;
        u32::from_str_radix(text, radix).ok().filter(|n| *n != 0)
    };
    let simple = match *after.first()? {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b's' => b' ',
        c @ (b'\\' | b'"' | b'\'') => c,
        b'x' => {
            out.push(u8::try_from(number(1, 2, 16)?).ok()?);
            return Some(3);
        }
        b'0'..=b'7' => {
            out.push(u8::try_from(number(0, 3, 8)?).ok()?);
            return Some(3);
        }
        c @ (b'u' | b'U') => {
            let count = if c == b'u' { 4 } else { 8 };
            let c = char::from_u32(number(1, count, 16)?)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(1 + count);
        }
        _ => return None,
    };
    out.push(simple);
    Some(1)
}

/// `text` with its C escapes resolved.
pub fn unescape(text: &[u8]) -> Result<Vec<u8>, String> {
    let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some(&b) = text.get(at) {
        if b == b'\\' {
            let taken = unescape_one(&text[at + 1..], &mut out);
            at += taken.ok_or("invalid escape sequence in the argument")?;
        } else {
            out.push(b);
        }
        at += 1;
    }
    Ok(out)
}

/// Why a text with specifiers has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unresolved {
    /// Its value is not known (yet): the line is skipped without a word.
    NoInformation,
    /// Its value belongs to a machine that runs: the line is skipped, and that is said.
    Running(char),
    /// It is no specifier.
    Unknown(String),
}

/// What specifiers stand for in an image that has never booted.
#[derive(Debug, Clone, Default)]
pub struct Specifiers {
    architecture: Option<String>,
    /// `None` if the image has no os-release.
    os_release: Option<BTreeMap<String, String>>,
}

impl Specifiers {
    pub fn new(architecture: Option<&str>, os_release: BTreeMap<String, String>) -> Specifiers {
        let os_release = Some(os_release).filter(|fields| !fields.is_empty());
        Specifiers { architecture: architecture.map(str::to_owned), os_release }
    }

    fn value(&self, letter: u8) -> Result<&str, Unresolved> {
        let field = |name: &str| {
            let fields = self.os_release.as_ref().ok_or(Unresolved::NoInformation)?;
            Ok(fields.get(name).map_or("", String::as_str))
        };
        match letter {
            b'%' => Ok("%"),
            b'a' => self.architecture.as_deref().ok_or(Unresolved::NoInformation),
            b'A' => field("IMAGE_VERSION"),
            b'B' => field("BUILD_ID"),
            b'M' => field("IMAGE_ID"),
            b'o' => field("ID"),
            b'w' => field("VERSION_ID"),
            b'W' => field("VARIANT_ID"),
            b'C' => Ok("/var/cache"),
            b'L' => Ok("/var/log"),
            b'S' => Ok("/var/lib"),
            b't' => Ok("/run"),
            b'T' => Ok("/tmp"),
            b'V' => Ok("/var/tmp"),
            b'g' | b'u' => Ok("root"),
            b'G' | b'U' => Ok("0"),
            b'h' => Ok("/root"),
            // A golden image has no machine ID: as systemd, without a word.
            b'm' => Err(Unresolved::NoInformation),
            b'b' | b'H' | b'l' | b'q' | b'v' => Err(Unresolved::Running(letter as char)),
            other => Err(Unresolved::Unknown(format!("unknown specifier '%{}'", other as char))),
        }
    }

    /// `text` with its specifiers resolved. A `%` before what is no letter stands for
    /// itself.
    pub fn expand(&self, text: &[u8]) -> Result<Vec<u8>, Unresolved> {
        let (mut out, mut bytes) = (Vec::with_capacity(text.len()), text.iter().copied());
        while let Some(b) = bytes.next() {
            if b != b'%' {
                out.push(b);
                continue;
            }
            match bytes.next() {
                Some(letter) => out.extend_from_slice(self.value(letter)?.as_bytes()),
                None => out.push(b'%'),
            }
            if out.len() > EXPANDED_LIMIT {
                return Err(Unresolved::Unknown("the specifiers stand for too much".into()));
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_quotes_escapes_and_columns() {
        let (found, rest) = words(b"f  /a\\x20b 'c d'\"e\"  rest  of it", 3).unwrap();
        let found: Vec<_> = found.iter().map(|w| (&w.text[..], w.column)).collect();
        assert_eq!(found, [(&b"f"[..], 1), (b"/a b", 4), (b"c de", 12)]);
        assert_eq!((&rest.text[..], rest.column), (&b"rest  of it"[..], 22));
        for (bad, column) in
            [(&b"f \"/a"[..], 3), (b"f /a\\q", 5), (b"f /\\x00", 4), (b"f /a\\", 5)]
        {
            assert_eq!(words(bad, 6).unwrap_err().column, column, "{bad:?}");
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape(b"\\101\\u00e9\\s\\\\n\\U0001f600").unwrap(), "Aé \\n😀".as_bytes());
        assert!(unescape(b"\\ud800").is_err());
        assert!(unescape(b"\\8").is_err());
    }

    #[test]
    fn specifiers_are_those_of_an_image() {
        let fields = [("IMAGE_ID".to_owned(), "x".to_owned())].into();
        let s = Specifiers::new(Some("x86-64"), fields);
        assert_eq!(s.expand(b"%a-%M-%A-%%-%S").unwrap(), b"x86-64-x--%-/var/lib");
        assert_eq!(s.expand(b"%m"), Err(Unresolved::NoInformation));
        assert_eq!(s.expand(b"%b"), Err(Unresolved::Running('b')));
        assert!(matches!(s.expand(b"%z"), Err(Unresolved::Unknown(_))));
        assert_eq!(Specifiers::default().expand(b"%M"), Err(Unresolved::NoInformation));
    }
}
