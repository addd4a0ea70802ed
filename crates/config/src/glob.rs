//! Shell patterns: `*`, `?`, `[a-z]`, `[!a-z]`, as Python's `fnmatch` has them.
//!
//! Two uses: `[Match] ImageId=`, and script settings that name several files.

use std::path::{Path, PathBuf};

use crate::source::FileSource;
use crate::value::{MAX_ITEMS, Problem, Surroundings, Value, missing, path};

/// Whether a text has a character that makes it a pattern.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Whether `pattern` matches all of `text`. Linear in memory, at most the product
/// of the lengths in time.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut pi, mut ti) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while ti < t.len() {
        let step = match p.get(pi) {
            Some('*') => {
                star = Some((pi, ti));
                pi += 1;
                continue;
            }
            Some('?') => Some(pi + 1),
            Some('[') => class(&p, pi, t[ti]),
            Some(c) => (*c == t[ti]).then_some(pi + 1),
            None => None,
        };
        match (step, star) {
            (Some(next), _) => (pi, ti) = (next, ti + 1),
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                (pi, ti) = (at + 1, from + 1);
            }
            (None, None) => return false,
        }
    }
    p[pi..].iter().all(|c| *c == '*')
}

/// Where the pattern goes on if the class that begins at `at` has `c`. A bracket
/// that is never closed stands for itself.
fn class(p: &[char], at: usize, c: char) -> Option<usize> {
    let negated = p.get(at + 1) == Some(&'!');
    let first = at + 1 + usize::from(negated);
    let Some(close) = (first + 1..p.len()).find(|i| p[*i] == ']') else {
        return (c == '[').then_some(at + 1);
    };
    let mut found = false;
    let mut i = first;
    while i < close {
        if i + 2 < close && p[i + 1] == '-' {
            found |= p[i] <= c && c <= p[i + 2];
            i += 3;
        } else {
            found |= p[i] == c;
            i += 1;
        }
    }
    (found != negated).then_some(close + 1)
}

/// The scripts that a value names: one that must be there, or those that a
/// pattern matches, sorted.
pub fn scripts(text: &str, around: &Surroundings) -> Result<Vec<Value>, Problem> {
    if !is_pattern(text) {
        let path = path(text, around)?;
        if !around.files.exists(&path) {
            return Err(missing(text, &path, around.files));
        }
        return Ok(vec![Value::Path(path)]);
    }
    let mut found = vec![around.directory.to_path_buf()];
    for component in Path::new(text).components() {
        found = step(&found, component.as_os_str().to_string_lossy().as_ref(), around.files);
        if found.len() > MAX_ITEMS {
            return Err(Problem::new(
                text,
                format!("the pattern matches more than {MAX_ITEMS} paths"),
            ));
        }
    }
    if found.is_empty() {
        let message = format!("the pattern {text:?} matches no file");
        return Err(Problem::new(text, message).help("remove it, or correct the path"));
    }
    let mut paths: Vec<PathBuf> =
        found.iter().map(|p| crate::source::resolve(around.files, p)).collect();
    paths.sort();
    Ok(paths.into_iter().map(Value::Path).collect())
}

/// The paths one component further.
fn step(from: &[PathBuf], component: &str, files: &dyn FileSource) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in from {
        if !is_pattern(component) {
            let path = directory.join(component);
            found.extend(files.exists(&path).then_some(path));
            continue;
        }
        let names = files.list(directory, MAX_ITEMS).unwrap_or_default();
        let fits = |n: &String| {
            (!n.starts_with('.') || component.starts_with('.')) && matches(component, n)
        };
        found.extend(names.into_iter().filter(fits).map(|n| directory.join(n)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("foo*", "foo-bar", true),
            ("foo", "foo-bar", false),
            ("*", "", true),
            ("*a*b", "xxaxxb", true),
            ("*a*b", "xxaxxbc", false),
            ("?", "é", true),
            ("?", "", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]x", "]x", true),
            ("[x", "[x", true),
            ("a**b", "ab", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_is_not_slow() {
        let pattern = "*a".repeat(2000);
        assert!(!matches(&pattern, &"a".repeat(1999)));
    }
}
