//! os-release(5), the shell subset it is written in, as far as boot entries need it.

use std::collections::BTreeMap;

use tree::{Tree, TreePath};

/// A screen of text in practice.
const MAX_FILE: u64 = 1 << 20;

/// Variables by name.
pub type OsRelease = BTreeMap<String, String>;

/// The tree's os-release: `/etc/os-release`, else `/usr/lib/os-release`, as
/// bytes. Empty if there is none or it is not readable.
pub fn read(tree: &Tree) -> Vec<u8> {
    let path = |p| tree.read(&TreePath::literal(p), MAX_FILE)?.ok();
    path("etc/os-release").or_else(|| path("usr/lib/os-release")).unwrap_or_default()
}

/// Reads assignments. Lines that are none are skipped, as systemd does; of two
/// with one name the later counts.
pub fn parse(text: &[u8]) -> OsRelease {
    let text = String::from_utf8_lossy(text);
    text.lines().filter_map(assignment).collect()
}

fn assignment(line: &str) -> Option<(String, String)> {
    let line = line.trim_start();
    let (name, value) = line.split_once('=')?;
    let first = name.bytes().next()?;
    let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if first.is_ascii_digit() || !name.bytes().all(valid) {
        return None;
    }
    Some((name.to_owned(), unquote(value.trim_end())?))
}

/// Quotes as in the shell: nothing is special in single quotes; in double quotes
/// a backslash escapes `"`, `$`, `` ` `` and itself; outside it escapes anything.
fn unquote(value: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => loop {
                match chars.next()? {
                    '\'' => break,
                    c => out.push(c),
                }
            },
            '"' => loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => match chars.next()? {
                        c @ ('"' | '\\' | '$' | '`') => out.push(c),
                        c => out.extend(['\\', c]),
                    },
                    c => out.push(c),
                }
            },
            '\\' => out.push(chars.next()?),
            // A comment, or a second word: not part of the value.
            c if c.is_whitespace() => break,
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_the_shells() {
        for (line, want) in [
            ("A=plain", "plain"),
            ("A=\"Debian GNU/Linux 13 (trixie)\"", "Debian GNU/Linux 13 (trixie)"),
            ("A='single \"quoted\" \\n'", "single \"quoted\" \\n"),
            (r#"A="a \"b\" \$c \`d\` \\ \x""#, r#"a "b" $c `d` \ \x"#),
            (r"A=a\ b", "a b"),
            ("A=\"a\"'b'c", "abc"),
            ("  A=x  ", "x"),
            ("A=", ""),
        ] {
            assert_eq!(parse(line.as_bytes())["A"], want, "{line}");
        }
        for none in ["# A=x", "A", "1A=x", "A B=x", "A=\"open", "=x", "A='open"] {
            assert!(parse(none.as_bytes()).is_empty(), "{none}");
        }
        assert_eq!(parse(b"A=1\nA=2\n")["A"], "2");
    }
}
