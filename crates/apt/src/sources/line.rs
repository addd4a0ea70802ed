//! One-line sources: `deb [options] uri suite component…`.

use std::path::Path;

use super::options::{self, Change};
use super::{SignedBy, Source, SourceList, SourcesErrorKind, expand};
use crate::uri::Uri;

pub(super) fn parse(text: &str, path: &Path, list: &mut SourceList) {
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            list.add(entry(line), path, number + 1);
        }
    }
}

fn entry(line: &str) -> Result<Vec<Source>, SourcesErrorKind> {
    let (kind, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    if !matches!(kind, "deb" | "deb-src") {
        return Err(SourcesErrorKind::Type(kind.chars().take(40).collect()));
    }
    let any = Uri::parse("file:/").expect("a URI");
    let mut template = Source::new(any, "", &[], SignedBy::default());
    let mut rest = rest.trim();
    if let Some(inside) = rest.strip_prefix('[') {
        let Some((inside, after)) = inside.split_once(']') else {
            return Err(SourcesErrorKind::Form("“[” has no “]”"));
        };
        inside.split_ascii_whitespace().try_for_each(|word| option(&mut template, word))?;
        rest = after;
    }
    let mut words = rest.split_ascii_whitespace();
    let uri = words.next().ok_or(SourcesErrorKind::Missing("the URI"))?;
    let suite = words.next().ok_or(SourcesErrorKind::Missing("the suite"))?;
    let components: Vec<_> = words.map(str::to_owned).collect();
    if kind == "deb-src" {
        return Ok(Vec::new());
    }
    expand(&[uri], &[suite], &components, &template)
}

fn option(template: &mut Source, word: &str) -> Result<(), SourcesErrorKind> {
    let Some((name, value)) = word.split_once('=') else {
        return Err(SourcesErrorKind::Form("an option is not of the form NAME=VALUE"));
    };
    let (name, change) = match (name.strip_suffix('+'), name.strip_suffix('-')) {
        (Some(name), _) => (name, Change::Add),
        (_, Some(name)) => (name, Change::Remove),
        _ => (name, Change::Set),
    };
    let words: Vec<_> = value.split(',').filter(|w| !w.is_empty()).map(str::to_owned).collect();
    options::set(template, &name.to_ascii_lowercase(), change, &words)
}
