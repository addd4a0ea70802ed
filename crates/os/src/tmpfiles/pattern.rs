//! Shell patterns as glob(3) and fnmatch(3) have them, over a Tree.
//!
//! Braces, `*`, `?`, brackets with ranges and classes, backslashes; a name that begins
//! with a dot is matched by a pattern that does.

use tree::{Kind, Tree, TreePath};

/// The most patterns that braces stand for.
const BRACES_LIMIT: usize = 1000;

/// Whether `pattern` means more than itself.
fn is_magic(pattern: &[u8]) -> bool {
    pattern.iter().any(|b| matches!(b, b'*' | b'?' | b'[' | b'\\'))
}

/// Whether one component of a pattern matches a name.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let literal_dot = pattern.starts_with(b".") || pattern.starts_with(b"\\.");
    if name.starts_with(b".") && !literal_dot {
        return false;
    }
    let (mut p, mut n) = (0, 0);
    // Where to go on after the last star if what follows it does not match.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        let step = name.get(n).and_then(|b| one(&pattern[p..], *b));
        match (step, star) {
            (None, _) if n == name.len() && p == pattern.len() => return true,
            (Some(taken), _) => (p, n) = (p + taken, n + 1),
            (None, Some((after, from))) if from < name.len() => {
                star = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
            (None, _) => return false,
        }
    }
}

/// How much of the pattern `byte` takes, if it matches.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'[' => match bracket(pattern, byte) {
            Some((hit, taken)) => hit.then_some(taken),
            None => (byte == b'[').then_some(1),
        },
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        literal => (literal == byte).then_some(1),
    }
}

/// Whether the bracket expression at the start matches, and its length; `None` if it
/// has no end.
fn bracket(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(1)?, b'!' | b'^');
    let first = 1 + usize::from(negated);
    let (mut at, mut hit) = (first, false);
    loop {
        let rest = pattern.get(at..)?;
        if *rest.first()? == b']' && at > first {
            return Some((hit != negated, at + 1));
        }
        if let Some((class, taken)) = class(rest) {
            hit |= class(&byte);
            at += taken;
            continue;
        }
        let (low, taken) = literal(rest)?;
        at += taken;
        let high = match pattern.get(at..)? {
            [b'-', next, ..] if *next != b']' => {
                let (high, taken) = literal(&pattern[at + 1..])?;
                at += 1 + taken;
                high
            }
            _ => low,
        };
        hit |= (low..=high).contains(&byte);
    }
}

fn literal(rest: &[u8]) -> Option<(u8, usize)> {
    match rest {
        [b'\\', b, ..] => Some((*b, 2)),
        [b, ..] => Some((*b, 1)),
        [] => None,
    }
}

/// Whether a byte is of a class.
type Class = fn(&u8) -> bool;

/// `[:alpha:]` and its kin at the start of `rest`, and its length.
fn class(rest: &[u8]) -> Option<(Class, usize)> {
    let inner = rest.strip_prefix(b"[:")?;
    let end = inner.windows(2).position(|w| w == b":]")?;
    let class: Class = match &inner[..end] {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |b| matches!(b, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |b| matches!(b, b' '..=b'~'),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |b| matches!(b, b' ' | 9..=13),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    };
    Some((class, end + 4))
}

/// Whether the whole path matches the pattern, component by component.
pub fn covers(pattern: &[u8], path: &TreePath) -> bool {
    let mut parts = pattern.split(|b| *b == b'/').filter(|c| !c.is_empty());
    path.components().all(|name| parts.next().is_some_and(|p| matches(p, name)))
        && parts.next().is_none()
}

/// What `{a,b}` stands for, in order.
fn braces(pattern: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let (mut done, mut open) = (Vec::new(), vec![pattern.to_vec()]);
    while let Some(next) = open.pop() {
        match alternatives(&next) {
            None => done.push(next),
            // The last is taken first.
            Some(more) => open.extend(more.into_iter().rev()),
        }
        if done.len() + open.len() > BRACES_LIMIT {
            return Err(format!("the braces stand for more than {BRACES_LIMIT} patterns"));
        }
    }
    Ok(done)
}

/// The pattern with its first brace expression replaced by each of its alternatives;
/// `None` if it has none that is complete.
fn alternatives(pattern: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut from = 0;
    loop {
        let start = from + pattern[from..].iter().position(|b| *b == b'{')?;
        let escaped = start > 0 && pattern[start - 1] == b'\\';
        if escaped || pattern[start..].starts_with(b"{}") {
            from = start + 1;
            continue;
        }
        let (mut depth, mut cuts, mut at) = (0, vec![start], start);
        let end = loop {
            match pattern.get(at)? {
                b'\\' => at += 1,
                b'{' => depth += 1,
                b'}' if depth == 1 => break at,
                b'}' => depth -= 1,
                b',' if depth == 1 => cuts.push(at),
                _ => {}
            }
            at += 1;
        };
        let ends = cuts[1..].iter().copied().chain([end]);
        let part = |(cut, until): (&usize, usize)| {
            [&pattern[..start], &pattern[cut + 1..until], &pattern[end + 1..]].concat()
        };
        return Some(cuts.iter().zip(ends).map(part).collect());
    }
}

/// The paths that a pattern matches, in path order of each alternative. Links in the
/// middle are followed, but for one directly before a wildcard; a link at the end is
/// matched itself.
pub fn glob(tree: &Tree, pattern: &[u8]) -> Result<Vec<TreePath>, String> {
    let mut found = Vec::new();
    for pattern in braces(pattern)? {
        let mut paths = vec![TreePath::root()];
        let mut parts = pattern.split(|b| *b == b'/').filter(|c| !c.is_empty()).peekable();
        while let Some(part) = parts.next() {
            let is_last = parts.peek().is_none();
            paths = paths.iter().flat_map(|dir| step(tree, dir, part, is_last)).collect();
        }
        found.extend(paths);
    }
    Ok(found)
}

/// The entries of `dir` (which may be a link to a directory) that match.
fn step(tree: &Tree, dir: &TreePath, part: &[u8], is_last: bool) -> Vec<TreePath> {
    let is_there = |path: &TreePath| match is_last {
        true => tree.resolve_parent(path).is_ok_and(|p| tree.contains(&p)),
        false => tree.lookup(path).is_some_and(|node| matches!(node.kind, Kind::Dir)),
    };
    let names: Vec<Vec<u8>> = match is_magic(part) {
        true => {
            // A link to a directory is not looked into: as systemd.
            let Ok(real) = tree.resolve_parent(dir) else { return Vec::new() };
            let names = tree.children(&real).map(|(path, _)| path.name());
            names.filter(|name| matches(part, name)).map(<[u8]>::to_vec).collect()
        }
        false => vec![part.to_vec()],
    };
    names.iter().filter_map(|name| dir.join(name).ok()).filter(is_there).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_a_shell() {
        let yes = [
            ("*", "a"),
            ("a*c*", "abcd"),
            (".#*", ".#machine.x"),
            ("tpm[0-9]", "tpm7"),
            ("[!a-c]x", "dx"),
            ("[^]]", "a"),
            ("[]]", "]"),
            ("\\*", "*"),
            ("[[:digit:]_]", "5"),
            ("a[", "a["),
            ("[a-]", "-"),
            ("?", "x"),
            ("**a", "ba"),
        ];
        for (pattern, name) in yes {
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*", ".a"),
            ("?a", ".a"),
            ("[.]a", ".a"),
            ("a*c", "ab"),
            ("tpm[0-9]", "tpm"),
            ("[!a-c]x", "ax"),
            ("[[:digit:]]", "a"),
            ("\\*", "a"),
            ("", "a"),
            ("a", ""),
        ] {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn braces_stand_for_each_alternative() {
        let shown = |text: &str| -> Vec<String> {
            let all = braces(text.as_bytes()).unwrap();
            all.into_iter().map(|p| String::from_utf8(p).unwrap()).collect()
        };
        assert_eq!(shown("/a{b,c{d,e}}f"), ["/abf", "/acdf", "/acef"]);
        assert_eq!(shown("/{a}{}{"), ["/a{}{"]);
        assert_eq!(shown("/\\{a,b}"), ["/\\{a,b}"]);
        assert_eq!(shown("/{a,}"), ["/a", "/"]);
        assert!(braces("{a,b}".repeat(10).as_bytes()).is_err());
    }

    #[test]
    fn a_tree_is_searched_through_links() {
        let mut t = Tree::new();
        for path in ["usr/lib/a/x", "usr/lib/b/x", "usr/lib/.c/x", "usr/lib/d"] {
            t.write(&TreePath::literal(path), 0o644, *b"").unwrap();
        }
        t.add_symlink(TreePath::literal("lib"), "/usr/lib").unwrap();
        t.add_symlink(TreePath::literal("usr/lib/b/dangling"), "nowhere").unwrap();
        let shown = |pattern: &str| -> Vec<String> {
            glob(&t, pattern.as_bytes()).unwrap().iter().map(|p| p.to_string()).collect()
        };
        assert_eq!(shown("/lib/*/x"), Vec::<String>::new());
        assert_eq!(shown("/usr/lib/*/x"), ["/usr/lib/a/x", "/usr/lib/b/x"]);
        assert_eq!(shown("/lib/{b,a}/x"), ["/lib/b/x", "/lib/a/x"]);
        assert_eq!(shown("/lib/b/*"), ["/lib/b/dangling", "/lib/b/x"]);
        assert_eq!(shown("/lib/nothing"), Vec::<String>::new());
        assert!(covers(b"/usr/*/x", &TreePath::literal("usr/lib/x")));
        assert!(!covers(b"/usr/*", &TreePath::literal("usr/lib/x")));
    }
}
