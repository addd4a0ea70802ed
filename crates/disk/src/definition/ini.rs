//! The lines of a definition: sections, assignments, comments, continuations.
//!
//! Syntax: systemd.syntax(7). Only splitting happens here; what keys mean is in
//! `settings`.

/// A file of definitions with more bytes than this is refused.
pub(super) const MAX_FILE: u64 = 1 << 20;

/// `Key=Value` in a section, with the line on which it begins, counted from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub line: u32,
    pub section: Option<String>,
    pub key: String,
    pub value: String,
}

/// What a line is that is not an assignment and not understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Oddity {
    /// It has no `=`, or nothing before it, or is not UTF-8: without effect.
    Ignored(&'static str),
    /// The whole file cannot be used.
    Refused(&'static str),
}

/// The assignments of `bytes`, and the lines that are none.
pub(super) fn parse(bytes: &[u8]) -> (Vec<Assignment>, Vec<(u32, String, Oddity)>) {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (mut found, mut odd) = (Vec::new(), Vec::new());
    let mut section = None;
    let mut joined: Option<(u32, String)> = None;
    for (number, raw) in (1u32..).zip(bytes.split(|b| *b == b'\n')) {
        let Ok(text) = std::str::from_utf8(raw) else {
            let shown = String::from_utf8_lossy(raw).into_owned();
            odd.push((number, shown, Oddity::Ignored("the line is not UTF-8")));
            continue;
        };
        if text.trim_start_matches(SPACE).starts_with(['#', ';']) || text.contains('\0') {
            continue;
        }
        let (first, so_far) = joined.take().unwrap_or((number, String::new()));
        let text = text.strip_suffix('\r').unwrap_or(text);
        if continues(text) {
            joined = Some((first, so_far + &text[..text.len() - 1] + " "));
            continue;
        }
        logical(first, &(so_far + text), &mut section, &mut found, &mut odd);
    }
    if let Some((first, text)) = joined {
        logical(first, &text, &mut section, &mut found, &mut odd);
    }
    (found, odd)
}

const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// True if the line ends in a backslash that is not itself escaped.
fn continues(text: &str) -> bool {
    text.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

fn logical(
    line: u32,
    text: &str,
    section: &mut Option<String>,
    found: &mut Vec<Assignment>,
    odd: &mut Vec<(u32, String, Oddity)>,
) {
    let text = text.trim_matches(SPACE);
    if text.is_empty() {
        return;
    }
    let mut say = |oddity| odd.push((line, text.to_owned(), oddity));
    if let Some(header) = text.strip_prefix('[') {
        match header.strip_suffix(']') {
            Some(name) => *section = Some(name.to_owned()),
            None => say(Oddity::Refused("the section header has no ']'")),
        }
        return;
    }
    match text.split_once('=') {
        None => say(Oddity::Ignored("the line has no '='")),
        Some(("", _)) => say(Oddity::Ignored("there is no key before the '='")),
        Some((key, value)) => found.push(Assignment {
            line,
            section: section.clone(),
            key: key.trim_end_matches(SPACE).to_owned(),
            value: value.trim_start_matches(SPACE).to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_continuations_and_sections() {
        let text = "# c\n[Partition]\n Type = root\\\n# between\n  more\n;x\nWeight=1 \r\nA=\\\\\n";
        let (found, odd) = parse(text.as_bytes());
        assert!(odd.is_empty(), "{odd:?}");
        let shown: Vec<_> =
            found.iter().map(|a| (a.line, a.key.as_str(), a.value.as_str())).collect();
        assert_eq!(shown, [(3, "Type", "root   more"), (7, "Weight", "1"), (8, "A", "\\\\")]);
        assert!(found.iter().all(|a| a.section.as_deref() == Some("Partition")));
    }

    #[test]
    fn lines_that_are_nothing_are_named() {
        let (found, odd) = parse(b"junk\n=x\nA\xff=1\n[Part\n");
        assert!(found.is_empty());
        assert_eq!(odd.iter().map(|o| o.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(matches!(odd[3].2, Oddity::Refused(_)));
    }
}
