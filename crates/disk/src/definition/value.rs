//! Values: sizes, booleans, paths, lists with quotes and escapes.
//!
//! Syntax: systemd.syntax(7), "Booleans, sizes" of systemd's other manual pages.

use tree::TreePath;

/// `1 yes y true t on` / `0 no n false f off`, in any case.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// A number of bytes: an integer or a decimal with a suffix of base 1024. Several
/// may be given, the larger unit first: `1G 512M`.
pub(crate) fn size(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let (mut total, mut limit) = (0u64, u64::MAX);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let tail = tail.trim_start();
        let (factor, tail) = match tail.chars().next() {
            None => (1, tail),
            Some(c) => (unit(c)?, &tail[1..]),
        };
        if factor >= limit {
            return None;
        }
        limit = factor;
        total = total.checked_add(scaled(number, factor)?)?;
        rest = tail.trim_start();
    }
    Some(total)
}

fn unit(c: char) -> Option<u64> {
    let power = "BKMGTPE".find(c)?;
    Some(1 << (10 * power))
}

/// `number`, which may have a fraction, times `factor`, cut to a whole number.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 18 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let scale = 10u128.pow(fraction.len() as u32);
    let part = fraction.parse::<u128>().ok()? * u128::from(factor) / scale;
    whole.checked_add(u64::try_from(part).ok()?)
}

/// A number in base 10, `0x` 16, `0o` or `0` 8, `0b` 2.
pub(super) fn unsigned(text: &str) -> Option<u64> {
    let prefixed =
        |prefix: &str, radix| text.strip_prefix(prefix).map(|t| u64::from_str_radix(t, radix).ok());
    if text.contains('+') {
        return None;
    }
    prefixed("0x", 16)
        .or_else(|| prefixed("0o", 8))
        .or_else(|| prefixed("0b", 2))
        .or_else(|| {
            text.strip_prefix('0')
                .filter(|t| !t.is_empty())
                .map(|_| u64::from_str_radix(text, 8).ok())
        })
        .unwrap_or_else(|| text.parse().ok())
}

/// An absolute path without `..`.
pub(super) fn absolute(text: &str) -> Result<TreePath, String> {
    if !text.starts_with('/') {
        return Err(format!("the path {text:?} is not absolute"));
    }
    TreePath::new(text).map_err(|e| e.to_string())
}

/// How a value is cut into words.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    /// Between the words: any run of white space, or single colons.
    pub colons: bool,
    /// `"…"` and `'…'` group.
    pub quotes: bool,
    /// C escapes are taken out.
    pub escapes: bool,
}

/// Words separated by white space, quotes and escapes taken out.
pub(super) const WORDS: Cut = Cut { colons: false, quotes: true, escapes: true };
/// Words separated by white space, quotes taken out.
pub(super) const PLAIN: Cut = Cut { colons: false, quotes: true, escapes: false };
/// Fields separated by colons, escapes taken out.
pub(super) const FIELDS: Cut = Cut { colons: true, quotes: false, escapes: true };
/// Fields separated by colons, quotes and escapes taken out.
pub(super) const QUOTED_FIELDS: Cut = Cut { colons: true, quotes: true, escapes: true };

/// Cuts `text` into words.
pub(super) fn cut(text: &str, how: Cut) -> Result<Vec<String>, String> {
    let separator = |c: char| if how.colons { c == ':' } else { c.is_ascii_whitespace() };
    let (mut words, mut word, mut some) = (Vec::new(), Vec::new(), false);
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            Some(q) if c == q => quote = None,
            None if how.quotes && (c == '"' || c == '\'') => (quote, some) = (Some(c), true),
            None if separator(c) => {
                if some || how.colons {
                    words.push(finish(std::mem::take(&mut word))?);
                }
                some = false;
            }
            _ if c == '\\' && how.escapes => {
                unescape(&mut chars, &mut word)?;
                some = true;
            }
            _ => {
                word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                some = true;
            }
        }
    }
    if quote.is_some() {
        return Err("a quotation mark is not closed".into());
    }
    if some || (how.colons && !words.is_empty()) {
        words.push(finish(word)?);
    }
    Ok(words)
}

fn finish(word: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(word).map_err(|_| "the escapes do not give UTF-8")?;
    match text.contains('\0') {
        true => Err("an escape gives a NUL".into()),
        false => Ok(text),
    }
}

/// One escape of C, the backslash being consumed.
fn unescape(chars: &mut std::str::Chars<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let c = chars.next().ok_or("a backslash at the end escapes nothing")?;
    let simple = match c {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        's' => b' ',
        '\\' | '"' | '\'' => c as u8,
        'x' => digits(chars, "", 2, 16)? as u8,
        '0'..='3' => digits(chars, &c.to_string(), 2, 8)? as u8,
        'u' | 'U' => {
            let code = digits(chars, "", if c == 'u' { 4 } else { 8 }, 16)?;
            let c = char::from_u32(code).ok_or("an escape is not a character")?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(());
        }
        _ => return Err(format!("\\{c} is not an escape")),
    };
    out.push(simple);
    Ok(())
}

fn digits(
    chars: &mut std::str::Chars<'_>,
    first: &str,
    n: usize,
    radix: u32,
) -> Result<u32, String> {
    let text: String = first.chars().chain(chars.take(n)).collect();
    let whole = text.chars().count() == first.len() + n && !text.contains('+');
    let value = u32::from_str_radix(&text, radix).ok().filter(|_| whole);
    value.ok_or_else(|| format!("{text:?} is not the number of a character"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("10M", Some(10 << 20)),
            ("1.5G", Some(3 << 29)),
            ("1G 512M", Some(3 << 29)),
            ("7B", Some(7)),
            ("15.99999E", Some(18446732544494505547)),
            ("16E", None),
            ("", None),
            ("M", None),
            ("1m", None),
            ("-1", None),
            ("1M 1G", None),
            ("1.G", None),
            ("1KiB", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), bytes, "{text}");
        }
    }

    #[test]
    fn words_and_fields() {
        let cut = |text, how| cut(text, how).ok().map(|w| w.join("|"));
        assert_eq!(cut("/a  '/b c' \"/d\\n\"", WORDS).as_deref(), Some("/a|/b c|/d\n"));
        assert_eq!(cut("/a:/b", FIELDS).as_deref(), Some("/a|/b"));
        assert_eq!(cut("/a::x", FIELDS).as_deref(), Some("/a||x"));
        assert_eq!(cut("/a\\x3ab:/c", FIELDS).as_deref(), Some("/a:b|/c"));
        assert_eq!(cut("\"/a:b\":ro", QUOTED_FIELDS).as_deref(), Some("/a:b|ro"));
        assert_eq!(cut("", FIELDS).as_deref(), Some(""));
        for bad in ["'a", "\\q", "\\", "\\x4", "\\x00", "\\xff"] {
            assert_eq!(cut(bad, WORDS), None, "{bad}");
        }
    }

    #[test]
    fn numbers_and_truth() {
        assert_eq!(unsigned("0x10"), Some(16));
        assert_eq!(unsigned("0b101"), Some(5));
        assert_eq!(unsigned("010"), Some(8));
        assert_eq!(unsigned("0"), Some(0));
        assert_eq!(unsigned("-1"), None);
        assert_eq!((boolean("YES"), boolean("off"), boolean("2")), (Some(true), Some(false), None));
        assert!(absolute("a").is_err() && absolute("/a/../b").is_err());
    }
}
