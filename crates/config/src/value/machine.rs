//! Values of settings that mkgold reads and does not carry out: keys, tools, drives.

use super::{
    Drive, Problem, Surroundings, Value, existing, integer, parse_bool, path, size as size_of,
};

/// One of `kinds`, with the name of an engine or provider after a colon.
pub(super) fn key_source(text: &str, kinds: &[&str]) -> Result<Value, Problem> {
    let (kind, source) = text.split_once(':').unwrap_or((text, ""));
    if !kinds.contains(&kind) {
        let message = format!("{kind:?} is not a source of keys or certificates");
        return Err(Problem::new(text, message).help(format!("one of: {}", kinds.join(", "))));
    }
    Ok(Value::KeySource { kind: kind.into(), source: source.into() })
}

/// A key that others may read is refused, as mkosi does.
pub(super) fn private(text: &str, around: &Surroundings) -> Result<(), Problem> {
    let path = path(text, around)?;
    match around.files.meta(&path) {
        Ok(Some(meta)) if meta.mode & 0o077 != 0 => {
            let message = format!("others may read this secret (mode {:04o})", meta.mode);
            Err(Problem::new(text, message).help("chmod 600 it"))
        }
        _ => Ok(()),
    }
}

/// A file's path, or a name for the source of keys.
pub(super) fn key(text: &str, around: &Surroundings) -> Result<Value, Problem> {
    let path = path(text, around)?;
    Ok(if around.files.exists(&path) { Value::Path(path) } else { Value::Text(text.into()) })
}

/// A directory of tools; the default one for `default` and a true boolean, none for a
/// false one.
pub(super) fn tools_tree(text: &str, around: &Surroundings) -> Result<Value, Problem> {
    match text {
        "default" => Ok(Value::Text("default".into())),
        "0" | "1" => existing(text, around).map(Value::Path),
        _ => match parse_bool(text) {
            Some(true) => Ok(Value::Text("default".into())),
            Some(false) => Ok(Value::Bool(false)),
            None => existing(text, around).map(Value::Path),
        },
    }
}

/// `NAME=VALUE` or `NAME`.
pub(super) fn label(text: &str) -> Value {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    Value::Pair { name: name.into(), value: value.into() }
}

/// What mkosi's summary writes for `auto` and `hash`.
const VSOCK_AUTO: i64 = -1;
const VSOCK_HASH: i64 = -2;

pub(super) fn vsock(text: &str) -> Result<Value, Problem> {
    Ok(Value::Number(match text {
        "auto" => VSOCK_AUTO,
        "hash" => VSOCK_HASH,
        _ => integer(text, 3, i64::from(u32::MAX) - 1)?,
    }))
}

/// `ID:SIZE[:DIRECTORY[:OPTIONS[:FILE[:FLAGS]]]]`.
pub(super) fn drive(text: &str, around: &Surroundings) -> Result<Value, Problem> {
    let mut parts = text.splitn(6, ':').map(str::to_string);
    let id = parts.next().unwrap_or_default();
    let size = parts.next().filter(|_| !id.is_empty()).ok_or_else(|| {
        Problem::new(text, "a drive without an identifier and a size").help("write ID:SIZE")
    })?;
    let mut given = || parts.next().filter(|p| !p.is_empty());
    let directory = given();
    let (options, file) = (given(), given());
    let flags = given();
    let flags: Vec<String> = flags.iter().flat_map(|f| f.split(',')).map(Into::into).collect();
    if let Some(flag) = flags.iter().find(|f| *f != "persist") {
        return Err(Problem::new(text, format!("{flag:?} is not a drive's flag")).help("persist"));
    }
    Ok(Value::Drive(Box::new(Drive {
        size: size_of(&size)?,
        directory: directory.map(|d| existing(&d, around)).transpose()?,
        options,
        file: file.unwrap_or_else(|| id.clone()),
        id,
        flags,
    })))
}
