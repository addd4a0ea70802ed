//! Files of shell-like assignments: os-release(5), locale.conf(5),
//! vconsole.conf(5), machine-info(5).
//!
//! `KEY=value`, `KEY="value"`, `KEY='value'`; `#` and `;` begin a comment line;
//! later assignments win; nothing is expanded.

use std::collections::BTreeMap;

/// The assignments of `text`. Lines that are no assignment are skipped, as
/// systemd does.
pub fn parse(text: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some((key, value)) = line.split_once('=') {
            let key = key.trim_end();
            if is_key(key) {
                values.insert(key.to_owned(), unquote(value));
            }
        }
    }
    values
}

fn is_key(key: &str) -> bool {
    !key.is_empty()
        && !key.starts_with(|c: char| c.is_ascii_digit())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn unquote(value: &str) -> String {
    let mut out = String::new();
    // Blanks at the end count only if they were quoted.
    let mut keep = 0;
    let mut quote = None;
    let mut chars = value.trim_start().chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(q), c) if c == q => quote = None,
            (Some('\''), c) => out.push(c),
            (Some('"'), '\\') => match chars.next() {
                Some(c @ ('"' | '\\' | '$' | '`')) => out.push(c),
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            },
            (None, '\\') => out.extend(chars.next()),
            (_, c) => out.push(c),
        }
        if quote.is_some() || !c.is_whitespace() {
            keep = out.len();
        }
    }
    out.truncate(keep.max(out.trim_end().len()));
    out
}

/// `value` as it is written behind the `=`: quoted only if needed.
pub fn quote(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%_-+=:,./~^".contains(c) || !c.is_ascii();
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    let mut out = String::from('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// `text` with `key` set to `value`: in place of its last assignment, or at the
/// end. Everything else stays as it is, to the byte.
pub fn set(text: &str, key: &str, value: &str) -> String {
    let assignment = format!("{key}={}", quote(value));
    let is_it = |line: &str| line.split_once('=').is_some_and(|(k, _)| k.trim() == key);
    let last = text.lines().enumerate().filter(|(_, l)| is_it(l)).map(|(n, _)| n).last();
    let mut out = String::new();
    for (n, line) in text.lines().enumerate() {
        match last {
            Some(last) if n == last => out.push_str(&assignment),
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    if last.is_none() {
        out.push_str(&assignment);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_forms_of_os_release() {
        let text = "# c\nA=plain\nB=\"two words\"\nC='it''s $x'\nD=\"a\\\"b\\$\\n\"\n;x\nA=later\n9=no\nE=\nF=\"x\"  \nG=a b\\ \n";
        let values = parse(text);
        let expected = [
            ("A", "later"),
            ("B", "two words"),
            ("C", "its $x"),
            ("D", "a\"b$\\n"),
            ("E", ""),
            ("F", "x"),
            ("G", "a b "),
        ];
        for (key, value) in expected {
            assert_eq!(values[key], value, "{key}");
        }
        assert_eq!(values.len(), expected.len());
    }

    #[test]
    fn what_is_quoted_reads_back() {
        for value in ["", "a", "a b", "q\"uo'te", "$HOME `x` \\", "C.UTF-8", "ä"] {
            assert_eq!(parse(&format!("K={}\n", quote(value)))["K"], value);
        }
        assert_eq!(quote("C.UTF-8"), "C.UTF-8");
    }

    #[test]
    fn set_touches_one_line() {
        let text = "A=1\n# keep\nB=2\n";
        assert_eq!(set(text, "A", "x y"), "A=\"x y\"\n# keep\nB=2\n");
        assert_eq!(set(text, "C", "3"), "A=1\n# keep\nB=2\nC=3\n");
        assert_eq!(set("A=1", "C", "3"), "A=1\nC=3\n");
    }
}
