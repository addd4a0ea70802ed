//! The options of a source, the same in both formats but for their names.

use super::{ByHash, Keyring, Source, SourcesErrorKind};

/// How an option changes a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// `Name: value`, `name=value`
    Set,
    /// `Name-Add: value`, `name+=value`
    Add,
    /// `Name-Remove: value`, `name-=value`
    Remove,
}

/// Options that concern only what mkgold never fetches or does, whatever they hold.
const WITHOUT_EFFECT: &[&str] = &[
    "languages",
    "lang",
    "targets",
    "target",
    "pdiffs",
    "description",
    "allow-downgrade-to-insecure",
];

/// Options that change what is believed or fetched; only their default is taken.
const UNSUPPORTED: &[(&str, &str, &str)] = &[
    ("allow-insecure", "no", "use Trusted=yes for an archive without signatures"),
    ("allow-weak", "no", "weak hashes are always refused"),
    ("inrelease-path", "", "InRelease is always in the suite's directory"),
    ("snapshot", "disable", "name the snapshot's own URI"),
    ("include", "", "use apt preferences to choose packages"),
    ("exclude", "", "use apt preferences to leave out packages"),
];

/// Sets one option of `source`. `name` is in lower case, without `-add` or `+`.
pub(super) fn set(
    source: &mut Source,
    name: &str,
    change: Change,
    words: &[String],
) -> Result<(), SourcesErrorKind> {
    let value = words.join(" ");
    let is_list = matches!(name, "architectures" | "arch") || WITHOUT_EFFECT.contains(&name);
    if change != Change::Set && !is_list {
        let why = "only lists can be added to or removed from";
        return Err(SourcesErrorKind::Unsupported(name.to_owned(), why));
    }
    match name {
        "architectures" | "arch" => match change {
            Change::Set => source.architectures = words.to_vec(),
            Change::Add => source.architectures_add = words.to_vec(),
            Change::Remove => source.architectures_remove = words.to_vec(),
        },
        "trusted" => source.trusted = parse_default_bool(name, &value)?,
        "signed-by" => add_signers(source, words)?,
        "check-valid-until" => source.check_valid_until = parse_bool(name, &value)?,
        "valid-until-max" => source.valid_until_max = Some(parse_seconds(name, &value)?),
        "valid-until-min" => source.valid_until_min = Some(parse_seconds(name, &value)?),
        "check-date" => source.check_date = parse_bool(name, &value)?,
        "date-max-future" => source.date_max_future = parse_seconds(name, &value)?,
        "by-hash" => source.by_hash = parse_by_hash(name, &value)?,
        _ => return other(name, &value),
    }
    Ok(())
}

fn other(name: &str, value: &str) -> Result<(), SourcesErrorKind> {
    if WITHOUT_EFFECT.contains(&name) || name.starts_with("x-") {
        return Ok(());
    }
    match UNSUPPORTED.iter().find(|(known, _, _)| *known == name) {
        Some((_, default, _)) if value.eq_ignore_ascii_case(default) => Ok(()),
        Some((_, _, why)) => Err(SourcesErrorKind::Unsupported(name.to_owned(), why)),
        None => Err(SourcesErrorKind::UnknownOption(name.to_owned())),
    }
}

/// apt's words for yes and no.
pub(super) fn parse_bool(option: &str, value: &str) -> Result<bool, SourcesErrorKind> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" | "with" | "on" | "enable" | "1" => Ok(true),
        "no" | "false" | "without" | "off" | "disable" | "0" => Ok(false),
        _ => Err(bad(option, value, "yes or no")),
    }
}

fn parse_default_bool(option: &str, value: &str) -> Result<Option<bool>, SourcesErrorKind> {
    parse_bool(option, value).map(Some)
}

fn parse_by_hash(option: &str, value: &str) -> Result<ByHash, SourcesErrorKind> {
    if value.eq_ignore_ascii_case("force") {
        return Ok(ByHash::Force);
    }
    let by_hash = parse_bool(option, value).map_err(|_| bad(option, value, "yes, no or force"))?;
    Ok(if by_hash { ByHash::Auto } else { ByHash::No })
}

fn parse_seconds(option: &str, value: &str) -> Result<i64, SourcesErrorKind> {
    let number = value.parse().ok().filter(|seconds: &i64| *seconds >= 0);
    number.ok_or_else(|| bad(option, value, "a number of seconds"))
}

fn bad(option: &str, value: &str, expected: &'static str) -> SourcesErrorKind {
    let value = value.chars().take(80).collect();
    SourcesErrorKind::Value { option: option.to_owned(), value, expected }
}

/// Paths of keyrings and fingerprints, in any order.
fn add_signers(source: &mut Source, words: &[String]) -> Result<(), SourcesErrorKind> {
    for word in words {
        let digits = word.strip_suffix('!').unwrap_or(word);
        let long = digits.len() == 40 || digits.len() == 64;
        if word.starts_with('/') {
            source.signed_by.keyrings.push(Keyring::File(word.into()));
        } else if long && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            source.signed_by.fingerprints.push(word.to_ascii_uppercase());
        } else {
            let expected = "the absolute path of a keyring or a whole fingerprint";
            return Err(bad("signed-by", word, expected));
        }
    }
    Ok(())
}
