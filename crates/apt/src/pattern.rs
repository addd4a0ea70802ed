//! apt's patterns: a text, a glob, or `/a regular expression/`.

use regex::{Regex, RegexBuilder};

/// The longest pattern.
const MAX_PATTERN: usize = 1024;
/// Memory that a compiled pattern may take.
const MAX_COMPILED: usize = 1 << 20;

/// A pattern, ready to match.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    regex: Option<Regex>,
    text: String,
}

impl Pattern {
    /// Reads a pattern; `None` if it is a bad regular expression or too long.
    pub fn new(text: &str) -> Option<Pattern> {
        if text.len() > MAX_PATTERN {
            return None;
        }
        let build = |expression: &str, folded| {
            let mut builder = RegexBuilder::new(expression);
            builder.case_insensitive(folded).size_limit(MAX_COMPILED).dot_matches_new_line(true);
            builder.build().ok()
        };
        let regex = if Self::is_regex(text) {
            Some(build(&text[1..text.len() - 1], true)?)
        } else if text.contains(['*', '?', '[', '\\']) {
            Some(build(&glob(text), false)?)
        } else {
            None
        };
        Some(Pattern { regex, text: text.to_owned() })
    }

    fn is_regex(text: &str) -> bool {
        text.len() > 2 && text.starts_with('/') && text.ends_with('/')
    }

    /// Whether all of `text` (globs) or a part of it (regular expressions) matches.
    pub fn matches(&self, text: &str) -> bool {
        match &self.regex {
            Some(regex) => regex.is_match(text),
            None => self.text == text,
        }
    }
}

/// fnmatch(3) without flags as a regular expression.
fn glob(text: &str) -> String {
    let mut out = String::from("^");
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '\\' => out.push_str(&regex::escape(&rest.next().unwrap_or('\\').to_string())),
            '[' => match bracket(rest.as_str()) {
                Some((class, length)) => {
                    out.push_str(&class);
                    rest = rest.as_str()[length..].chars();
                }
                None => out.push_str("\\["),
            },
            other => out.push_str(&regex::escape(&other.to_string())),
        }
    }
    out.push('$');
    out
}

/// `abc]…` or `!a-z]…` as a class, and how long it is.
fn bracket(rest: &str) -> Option<(String, usize)> {
    let negated = rest.starts_with(['!', '^']);
    let start = usize::from(negated);
    // A `]` that comes first is one of the letters.
    let end = start + 1 + rest.get(start + 1..)?.find(']')?;
    let inside = &rest[start..end];
    let mut class = String::from(if negated { "[^" } else { "[" });
    for c in inside.chars() {
        if matches!(c, '[' | ']' | '\\' | '^' | '&' | '~') {
            class.push('\\');
        }
        class.push(c);
    }
    class.push(']');
    Some((class, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_fnmatch_and_regcomp_do() {
        let cases = [
            ("linux-*", "linux-image", true),
            ("linux-*", "xlinux-image", false),
            ("lib?", "liba", true),
            ("lib?", "lib", false),
            ("a.c", "abc", false),
            ("[ab]x", "bx", true),
            ("[!ab]x", "bx", false),
            ("[a-c]x", "bx", true),
            ("[x", "[x", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("/^lib.*dev$/", "LIBx-dev", true),
            ("/dev/", "libx-dev-y", true),
            ("/^dev/", "x-dev", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("//", "//", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(Pattern::new(pattern).unwrap().matches(text), expected, "{pattern} {text}");
        }
        assert!(Pattern::new("/(/").is_none());
        assert!(Pattern::new(&"a".repeat(2000)).is_none());
        assert!(Pattern::new("/(a{1000}){1000}/").is_none());
    }
}
