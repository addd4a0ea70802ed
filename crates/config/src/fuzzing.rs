//! Entry points for fuzzers. They must not panic, whatever the bytes, and stay
//! within the limits of the loader.

use std::path::Path;

use crate::source::MemoryFiles;
use crate::{Argument, Facts, Request, diagnostic, load_from, read_from};

/// A project made of the bytes: paragraphs separated by a line `---NAME` become
/// files, the first one is `mkosi.conf`, one named `args` holds arguments.
pub fn fuzz_project(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return fuzz_ini(data) };
    let mut files = MemoryFiles::default();
    let mut request = Request::default();
    files.directory("/p");
    for (index, part) in text.split("---").enumerate() {
        let (name, body) = match index {
            0 => ("mkosi.conf", part),
            _ => part.split_once('\n').unwrap_or((part, "")),
        };
        let name = name.trim_start_matches('/');
        match name.split_once("->") {
            _ if name == "args" => request.args.extend(body.lines().filter_map(argument)),
            Some((link, target)) => {
                files.link(Path::new("/p").join(link), target);
            }
            None => {
                files.file(Path::new("/p").join(name), body);
            }
        }
    }
    match read_from(&files, Path::new("/p"), &request, &Facts::default()) {
        Ok(reading) => {
            assert_eq!(reading.to_json()["Images"].as_array().map(Vec::len), Some(1));
            assert!(!reading.summary_text().is_empty());
            reading.warnings.iter().for_each(show);
            let supported = reading.unsupported.is_empty();
            assert_eq!(reading.accept().is_ok(), supported, "what is supported is accepted");
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "a refusal has a reason");
            errors.iter().for_each(show);
        }
    }
}

fn argument(line: &str) -> Option<Argument> {
    let (option, value) = line.split_once('=')?;
    Some(Argument::new(option, value))
}

fn show(diagnostic: &diagnostic::Diagnostic) {
    assert!(!diagnostic.to_string().contains('\x1b'), "no escape reaches a terminal");
}

/// One file of any bytes.
pub fn fuzz_ini(data: &[u8]) {
    let mut files = MemoryFiles::default();
    files.file("/p/mkosi.conf", data);
    if let Err(errors) = load_from(&files, Path::new("/p"), &Request::default(), &Facts::default())
    {
        errors.iter().for_each(show);
    }
}

/// Two versions, separated by a line.
pub fn fuzz_version(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (a, b) = text.split_once('\n').unwrap_or((&text, ""));
    assert_eq!(crate::version::compare(a, b), crate::version::compare(b, a).reverse());
}
