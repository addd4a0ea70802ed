//! `path-exclude` and `path-include` of dpkg(1): which paths are not laid out.
//!
//! The last pattern that matches a path decides. A directory or link that is
//! excluded stays if an include pattern may bring back something below it.
//! Filtered paths stay in the package's list. Patterns are those of fnmatch(3)
//! without flags: `*` and `?` match slashes and leading dots.

use crate::EntryKind;

/// A list of patterns in the order in which they were given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathFilter {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    pattern: Vec<u8>,
    include: bool,
}

impl PathFilter {
    /// Lets everything pass.
    pub fn new() -> Self {
        PathFilter::default()
    }

    /// What `WithDocs=no` of mkosi leaves out: documentation, except copyright.
    pub fn without_docs() -> Self {
        let topics = ["doc", "man", "groff", "gtk-doc", "info"];
        let filter = topics.iter().fold(PathFilter::new(), |filter, topic| {
            filter.exclude(format!("/usr/share/{topic}/*"))
        });
        filter.include("/usr/share/doc/*/copyright")
    }

    /// Adds a `path-exclude` pattern; it begins with a slash.
    pub fn exclude(mut self, pattern: impl AsRef<[u8]>) -> Self {
        self.rules.push(Rule { pattern: pattern.as_ref().to_vec(), include: false });
        self
    }

    /// Adds a `path-include` pattern.
    pub fn include(mut self, pattern: impl AsRef<[u8]>) -> Self {
        self.rules.push(Rule { pattern: pattern.as_ref().to_vec(), include: true });
        self
    }

    /// Whether the entry at `path` (with its leading slash) is left out.
    pub fn skips(&self, path: &[u8], kind: &EntryKind) -> bool {
        let last = self.rules.iter().rev().find(|rule| matches(&rule.pattern, path));
        let excluded = last.is_some_and(|rule| !rule.include);
        let may_hold = matches!(kind, EntryKind::Dir | EntryKind::Symlink(_));
        excluded && !(may_hold && self.rules.iter().any(|r| r.include && r.may_be_below(path)))
    }
}

impl Rule {
    /// Whether the pattern's fixed beginning and `path` agree as far as both go.
    fn may_be_below(&self, path: &[u8]) -> bool {
        let special = |b: &u8| matches!(b, b'*' | b'?' | b'[' | b'\\');
        let end = self.pattern.iter().position(special).unwrap_or(self.pattern.len());
        let mut fixed = &self.pattern[..end];
        while let [rest @ .., b'/'] = fixed {
            fixed = rest;
        }
        path.starts_with(fixed)
    }
}

/// fnmatch(3) with no flags. Never takes longer than pattern × text.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on after a mismatch: behind the last star, one byte further.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        if p == pattern.len() && t == text.len() {
            return true;
        }
        let step = text.get(t).and_then(|byte| one(&pattern[p..], *byte));
        match (step, retry) {
            (Some(width), _) => (p, t) = (p + width, t + 1),
            (None, Some((star, from))) if from < text.len() => {
                retry = Some((star, from + 1));
                (p, t) = (star, from + 1);
            }
            (None, _) => return false,
        }
    }
}

/// Matches `byte` with the pattern's first element; its width if it does.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => match bracket(rest, byte) {
            Some((true, width)) => Some(1 + width),
            Some((false, _)) => None,
            // No closing bracket: an ordinary character.
            None => (byte == b'[').then_some(1),
        },
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

/// `set` follows the `[`: whether `byte` is in it, and its width with the `]`.
fn bracket(set: &[u8], byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(set.first(), Some(b'!' | b'^'));
    let mut at = usize::from(negated);
    let start = at;
    let mut found = false;
    loop {
        match *set.get(at)? {
            b']' if at > start => return Some((found != negated, at + 1)),
            b'[' if set.get(at + 1) == Some(&b':') => {
                let end = set[at + 2..].windows(2).position(|w| w == b":]")?;
                found |= in_class(&set[at + 2..at + 2 + end], byte);
                at += end + 4;
            }
            low => {
                let range = set.get(at + 1) == Some(&b'-');
                match set.get(at + 2).filter(|high| range && **high != b']') {
                    Some(high) => {
                        found |= (low..=*high).contains(&byte);
                        at += 3;
                    }
                    None => {
                        found |= low == byte;
                        at += 1;
                    }
                }
            }
        }
    }
}

fn in_class(name: &[u8], byte: u8) -> bool {
    match name {
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"cntrl" => byte.is_ascii_control(),
        b"digit" => byte.is_ascii_digit(),
        b"graph" => byte.is_ascii_graphic(),
        b"lower" => byte.is_ascii_lowercase(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => byte.is_ascii_whitespace() || byte == 0x0b,
        b"upper" => byte.is_ascii_uppercase(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_fnmatch() {
        // Each line checked with fnmatch(3) of the C library.
        for (pattern, text, expected) in [
            ("/usr/share/doc/*", "/usr/share/doc/a/b", true),
            ("/usr/share/doc/*", "/usr/share/doc", false),
            ("*", "/.x", true),
            ("/a*c*e", "/abcdce", true),
            ("/a*c*e", "/abcdc", false),
            ("/a?c", "/a/c", true),
            ("/[a-c]x", "/bx", true),
            ("/[!a-c]x", "/bx", false),
            ("/[]]x", "/]x", true),
            ("/[[:digit:]]", "/7", true),
            ("/[a", "/[a", true),
            ("/\\*", "/*", true),
            ("/\\*", "/x", false),
            ("/a**b", "/ab", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn documentation_goes_and_copyright_stays() {
        let filter = PathFilter::without_docs();
        let file = EntryKind::File { offset: 0, len: 0 };
        assert!(filter.skips(b"/usr/share/doc/x/changelog.gz", &file));
        assert!(!filter.skips(b"/usr/share/doc/x/copyright", &file));
        assert!(!filter.skips(b"/usr/share/doc/x", &EntryKind::Dir));
        assert!(filter.skips(b"/usr/share/man/man1", &EntryKind::Dir));
        assert!(!filter.skips(b"/usr/share/man", &EntryKind::Dir));
    }
}
