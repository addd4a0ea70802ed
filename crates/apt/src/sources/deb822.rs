//! `.sources` files: paragraphs with `Types`, `URIs`, `Suites`, `Components` and options.

use std::path::Path;

use debian::deb822::{Field, Paragraph, Paragraphs};

use super::options::{self, Change};
use super::{Keyring, SignedBy, Source, SourceList, SourcesError, SourcesErrorKind, expand};
use crate::uri::Uri;

pub(super) fn parse(text: &str, path: &Path, list: &mut SourceList) {
    for paragraph in Paragraphs::with_comments(text) {
        match paragraph {
            Ok(paragraph) => list.add(entry(&paragraph), path, paragraph.line()),
            Err(e) => {
                let path = path.to_owned();
                list.errors.push(SourcesError { path, line: e.line, kind: e.into() });
            }
        }
    }
}

fn words(field: &Field<'_>) -> Vec<String> {
    field.value.split_ascii_whitespace().map(str::to_owned).collect()
}

fn entry(paragraph: &Paragraph<'_>) -> Result<Vec<Source>, SourcesErrorKind> {
    let list = |name: &str| paragraph.field(name).map(words).unwrap_or_default();
    let any: Uri = Uri::parse("file:/").expect("a URI");
    let mut template = Source::new(any, "", &[], SignedBy::default());
    let mut enabled = true;
    for field in paragraph.fields() {
        let name = field.name.to_ascii_lowercase();
        match name.as_str() {
            "types" | "uris" | "suites" | "components" => {}
            "enabled" => enabled = options::parse_bool("enabled", field.value.trim())?,
            "signed-by" if field.value.contains("-----BEGIN PGP") => {
                let lines: Vec<_> = field.lines().collect();
                let block = lines.join("\n").trim().to_owned() + "\n";
                template.signed_by.keyrings.push(Keyring::Inline(block));
            }
            name => {
                let (name, change) = if let Some(name) = name.strip_suffix("-add") {
                    (name, Change::Add)
                } else if let Some(name) = name.strip_suffix("-remove") {
                    (name, Change::Remove)
                } else {
                    (name, Change::Set)
                };
                options::set(&mut template, name, change, &words(field))?;
            }
        }
    }
    let types = list("types");
    if let Some(unknown) = types.iter().find(|t| !matches!(t.as_str(), "deb" | "deb-src")) {
        return Err(SourcesErrorKind::Type(unknown.clone()));
    }
    let (uris, suites) = (list("uris"), list("suites"));
    for (words, what) in [(&types, "Types:"), (&uris, "URIs:"), (&suites, "Suites:")] {
        if words.is_empty() {
            return Err(SourcesErrorKind::Missing(what));
        }
    }
    if !enabled || !types.iter().any(|t| t == "deb") {
        return Ok(Vec::new());
    }
    let uris: Vec<_> = uris.iter().map(String::as_str).collect();
    let suites: Vec<_> = suites.iter().map(String::as_str).collect();
    expand(&uris, &suites, &list("components"), &template)
}
