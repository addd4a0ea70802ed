//! Entry points for fuzzers. They must not panic, whatever the bytes, and stay
//! within the limits of the loader.

use std::path::Path;

use crate::source::MemoryFiles;
use crate::{Argument, Facts, Request, diagnostic, load_from, read_from};

/// The longest file that a repetition makes, a little more than the loader reads.
const LONG: usize = (crate::MAX_FILE as usize) + 1024;
/// The most files that a repetition makes, a little more than the loader reads.
const MANY: usize = crate::MAX_FILES + 10;

/// A project made of the bytes: paragraphs separated by `---NAME` become files, the
/// first one is `mkosi.conf`, one named `args` holds arguments, one named `env` the
/// environment. `NAME->TARGET` is a link, `NAME/` a directory, `NAME!` a program;
/// `NAME*2` says the text twice over, `NAME#2` makes two such files (`NAME.0.conf` …).
pub fn fuzz_project(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return fuzz_ini(data) };
    let mut files = MemoryFiles::default();
    let mut request = Request::default();
    let mut facts = Facts { home: Some("/root".into()), ..Facts::default() };
    files.directory("/p");
    for (index, part) in text.split("---").enumerate() {
        let (name, body) = match index {
            0 => ("mkosi.conf", part),
            _ => part.split_once('\n').unwrap_or((part, "")),
        };
        match name {
            "args" => request.args.extend(body.lines().filter_map(argument)),
            "env" => facts.env.extend(body.lines().filter_map(variable)),
            name => paragraph(&mut files, name.trim_start_matches('/'), body),
        }
    }
    match read_from(&files, Path::new("/p"), &request, &facts) {
        Ok(reading) => {
            let json = reading.to_json();
            assert_eq!(json["Images"].as_array().map(Vec::len), Some(reading.images().len()));
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

fn paragraph(files: &mut MemoryFiles, name: &str, body: &str) {
    let path = Path::new("/p").join(name);
    if let Some((link, target)) = name.split_once("->") {
        files.link(Path::new("/p").join(link), target);
    } else if let Some((name, times)) = name.split_once('*') {
        let times = times.trim().parse().unwrap_or(2).min(LONG / body.len().max(1));
        files.file(Path::new("/p").join(name), body.repeat(times));
    } else if let Some((name, times)) = name.split_once('#') {
        for number in 0..times.trim().parse().unwrap_or(2).min(MANY) {
            files.file(Path::new("/p").join(format!("{name}.{number}.conf")), body);
        }
    } else if let Some(name) = name.strip_suffix('!') {
        files.file_with_mode(Path::new("/p").join(name), body, 0o755);
    } else if name.ends_with('/') {
        files.directory(path);
    } else {
        files.file(path, body);
    }
}

fn variable(line: &str) -> Option<(String, String)> {
    line.split_once('=').map(|(name, value)| (name.to_string(), value.to_string()))
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
