//! Differences that are meant: where, in what, and why.
//!
//! An exception that nothing needs is as wrong as a difference that no exception
//! explains: the first hides what will break next.

use glob::{MatchOptions, Pattern};
use tree::{Kind, Tree, TreePath};

use crate::compare::{Difference, What};

/// The largest file that is judged by its content.
const CONTENT_LIMIT: u64 = 64 << 20;

/// Whether two contents (left, right) differ only as they may.
pub type Agree = fn(&[u8], &[u8]) -> bool;

/// One explained kind of difference.
#[derive(Debug, Clone, Copy)]
pub struct Exception {
    /// Shell pattern without leading slash; `*` matches no slash, `**` does.
    pub paths: &'static str,
    /// What may differ there.
    pub what: &'static [What],
    /// How far contents may differ; any way if it is not said.
    pub agree: Option<Agree>,
    /// Why.
    pub why: &'static str,
}

/// A table of exceptions, and which of them were needed.
#[derive(Debug)]
pub struct Explained {
    rows: Vec<(Exception, Pattern, bool)>,
}

impl Explained {
    /// Panics if a pattern is none.
    pub fn new(exceptions: &[Exception]) -> Explained {
        let row = |e: &Exception| (*e, Pattern::new(e.paths).expect("a shell pattern"), false);
        Explained { rows: exceptions.iter().map(row).collect() }
    }

    /// The differences that no exception explains.
    pub fn unexplained(
        &mut self,
        left: &Tree,
        right: &Tree,
        differences: Vec<Difference>,
    ) -> Vec<Difference> {
        differences.into_iter().filter(|d| !self.explains(left, right, d)).collect()
    }

    fn explains(&mut self, left: &Tree, right: &Tree, difference: &Difference) -> bool {
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
        let text = String::from_utf8_lossy(difference.path.as_bytes()).into_owned();
        for (exception, pattern, used) in &mut self.rows {
            let applies = exception.what.contains(&difference.what)
                && pattern.matches_with(&text, options)
                && (difference.what != What::Content
                    || exception.agree.is_none_or(|a| agree(left, right, &difference.path, a)));
            if applies {
                *used = true;
                return true;
            }
        }
        false
    }

    /// The exceptions that explained nothing.
    pub fn unused(&self) -> Vec<&'static str> {
        self.rows.iter().filter(|(_, _, used)| !used).map(|(e, _, _)| e.paths).collect()
    }
}

fn agree(left: &Tree, right: &Tree, path: &TreePath, agree: Agree) -> bool {
    let read = |tree: &Tree| match &tree.get(path)?.kind {
        Kind::File(content) => Some(content.read(CONTENT_LIMIT).expect("readable")),
        _ => None,
    };
    read(left).is_some_and(|l| read(right).is_some_and(|r| agree(&l, &r)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::compare::{Aspects, compare};
    use tree::{Content, Meta};

    fn file(tree: &mut Tree, path: &'static str, bytes: &'static [u8]) {
        let path = TreePath::literal(path);
        tree.make_dirs(&path.parent().unwrap()).unwrap();
        tree.add_file(path, Meta::file(0o644), Content::inline(bytes)).unwrap();
    }

    #[test]
    fn only_what_is_named_is_explained() {
        let (mut left, mut right) = (Tree::new(), Tree::new());
        file(&mut left, "a/cache", b"left");
        file(&mut right, "a/cache", b"right");
        file(&mut left, "a/words", b"b a");
        file(&mut right, "a/words", b"a b");
        file(&mut left, "a/other", b"b a");
        file(&mut right, "a/other", b"a c");
        file(&mut right, "a/b/new", b"");
        let words: Agree = |left, right| {
            let sorted = |bytes: &[u8]| bytes.iter().copied().collect::<BTreeSet<_>>();
            sorted(left) == sorted(right)
        };
        let row = |paths, what, agree| Exception { paths, what, agree, why: "" };
        let mut explained = Explained::new(&[
            row("a/c*", &[What::Mode, What::Content], None),
            row("a/*o*", &[What::Content], Some(words)),
            row("a/*", &[What::OnlyRight], None),
        ]);
        let all = compare(&left, &right, Aspects::EXACT);
        let rest = explained.unexplained(&left, &right, all);
        let rest: Vec<_> = rest.iter().map(|d| d.path.to_string()).collect();
        assert_eq!(rest, ["/a/b/new", "/a/other"]);
        assert_eq!(explained.unused(), Vec::<&str>::new());
        assert_eq!(Explained::new(&[row("x", &[], None)]).unused(), ["x"]);
    }
}
