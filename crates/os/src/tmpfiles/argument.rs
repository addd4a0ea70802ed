//! The arguments of single types: devices, attributes, ACLs; modes and ages.
//!
//! Formats: tmpfiles.d(5), acl(5) ("ACL TEXT FORMS"), chattr(1).

use tree::Device;
use tree::acl::{self, Entry};

use super::text::words;
use crate::accounts::Accounts;

/// Users and groups of the image.
#[derive(Debug)]
pub struct Names {
    pub users: Accounts,
    pub groups: Accounts,
}

impl Names {
    /// A user by number or name.
    pub fn user(&self, text: &str) -> Result<u32, String> {
        id(&self.users, text).ok_or_else(|| format!("the image has no user '{text}'"))
    }

    /// A group by number or name.
    pub fn group(&self, text: &str) -> Result<u32, String> {
        id(&self.groups, text).ok_or_else(|| format!("the image has no group '{text}'"))
    }
}

fn id(accounts: &Accounts, text: &str) -> Option<u32> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        // The two that stand for "no id" in 16 and 32 bits.
        let is_octal = text.len() > 1 && text.starts_with('0');
        return text.parse().ok().filter(|id| !is_octal && !matches!(*id, 0xffff | u32::MAX));
    }
    match text {
        "root" => Some(0),
        _ => accounts.get(text)?[2].parse().ok(),
    }
}

/// An octal mode.
pub fn mode(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mode = u16::from_str_radix(text, 8).ok().filter(|m| digits && *m <= 0o7777);
    mode.ok_or_else(|| format!("'{text}' is not a mode"))
}

/// `MAJOR:MINOR`
pub fn device(text: &str) -> Result<Device, String> {
    let number = |text: &str, limit: u32| text.parse().ok().filter(|n| *n < limit);
    let parts = text.split_once(':');
    // As many bits as Linux has for each.
    let parts = parts.and_then(|(a, b)| Some((number(a, 1 << 12)?, number(b, 1 << 20)?)));
    let (major, minor) = parts.ok_or_else(|| format!("'{text}' is not MAJOR:MINOR"))?;
    Ok(Device { major, minor })
}

/// Whether the text is `[~][[abcmABCM]+:]TIMESPAN`. Nothing is old when an image is
/// built, so that the value itself has no use.
pub fn is_age(text: &str) -> bool {
    let text = text.strip_prefix('~').unwrap_or(text);
    let span = match text.split_once(':') {
        Some((by, _)) if by.is_empty() || by.contains(|c| !"abcmABCM".contains(c)) => return false,
        Some((_, span)) => span,
        None => text,
    };
    is_timespan(span)
}

/// systemd.time(7), "Parsing Time Spans".
fn is_timespan(text: &str) -> bool {
    const UNITS: [&str; 37] = [
        "",
        "s",
        "sec",
        "second",
        "seconds",
        "m",
        "min",
        "minute",
        "minutes",
        "h",
        "hr",
        "hour",
        "hours",
        "d",
        "day",
        "days",
        "w",
        "week",
        "weeks",
        "M",
        "month",
        "months",
        "y",
        "year",
        "years",
        "ms",
        "msec",
        "us",
        "usec",
        "µs",
        "μs",
        "ns",
        "nsec",
        "nanosecond",
        "nanoseconds",
        "millisecond",
        "microsecond",
    ];
    let mut rest = text.trim();
    if rest == "infinity" {
        return true;
    }
    let mut any = false;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if number.parse::<f64>().is_err() || !UNITS.contains(&unit) {
            return false;
        }
        (any, rest) = (true, after.trim_start());
    }
    any
}

/// Names and values of extended attributes.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// `NAME=VALUE` words. What is no attribute is returned beside, to be said.
pub fn xattrs(text: &[u8]) -> Result<(Xattrs, Vec<String>), String> {
    let (words, _) = words(text, usize::MAX).map_err(|wrong| wrong.message)?;
    let (mut found, mut bad) = (Vec::new(), Vec::new());
    for word in words {
        let cut = word.text.iter().position(|b| *b == b'=');
        match cut.filter(|at| *at > 0 && at + 1 < word.text.len()) {
            Some(at) => found.push((word.text[..at].to_vec(), word.text[at + 1..].to_vec())),
            None => bad.push(String::from_utf8_lossy(&word.text).into_owned()),
        }
    }
    Ok((found, bad))
}

/// The letters of `[+-=]LETTERS`.
pub fn flags(text: &str) -> Result<String, String> {
    let letters = text.strip_prefix(['+', '-', '=']).unwrap_or(text);
    let is_empty = letters.is_empty() && !text.starts_with('=');
    match letters.chars().find(|c| !"aAcCdDeijPsStTu".contains(*c)) {
        Some(c) => Err(format!("unknown file attribute '{c}'")),
        None if is_empty => Err("file attributes need letters".into()),
        None => Ok(letters.to_owned()),
    }
}

/// Whose permissions, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    pub entry: Entry,
    /// `X`: execute, if the file is a directory or anybody may execute it.
    pub if_executable: bool,
}

/// An ACL in text form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acl {
    pub access: Vec<Permission>,
    pub default: Vec<Permission>,
}

/// `[d[efault]:]TAG:[NAME]:PERMISSIONS`, separated by commas.
pub fn parse_acl(text: &str, names: &Names) -> Result<Acl, String> {
    let mut parsed = Acl::default();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let inherited = part.strip_prefix("default:").or_else(|| part.strip_prefix("d:"));
        let list = if inherited.is_some() { &mut parsed.default } else { &mut parsed.access };
        let permission = parse_permission(inherited.unwrap_or(part), names)?;
        list.push(permission);
    }
    Ok(parsed)
}

fn parse_permission(text: &str, names: &Names) -> Result<Permission, String> {
    let wrong = || format!("'{text}' is not an entry of an ACL (TAG:NAME:rwx)");
    let fields: Vec<&str> = text.split(':').map(str::trim).collect();
    let [tag, name, letters] = fields[..] else { return Err(wrong()) };
    let (tag, id) = match (tag, name) {
        ("u" | "user", "") => (acl::USER_OBJ, acl::NO_ID),
        ("u" | "user", name) => (acl::USER, names.user(name)?),
        ("g" | "group", "") => (acl::GROUP_OBJ, acl::NO_ID),
        ("g" | "group", name) => (acl::GROUP, names.group(name)?),
        ("m" | "mask", "") => (acl::MASK, acl::NO_ID),
        ("o" | "other", "") => (acl::OTHER, acl::NO_ID),
        _ => return Err(wrong()),
    };
    let (mut perm, mut if_executable) = (0, false);
    for letter in letters.chars() {
        match letter {
            'r' => perm |= 4,
            'w' => perm |= 2,
            'x' => perm |= 1,
            'X' => if_executable = true,
            '-' => {}
            _ => return Err(wrong()),
        }
    }
    if letters.is_empty() {
        return Err(wrong());
    }
    Ok(Permission { entry: Entry { tag, id, perm }, if_executable })
}
