//! `%x` in values: what they stand for is given, nothing is looked up here.

use std::collections::BTreeMap;

use crate::{Architecture, TypeGuid};

/// A value that expands to more than this is refused.
const MAX_EXPANDED: usize = 64 << 10;

/// The types whose definitions count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Wanted {
    /// All.
    #[default]
    All,
    /// Only these.
    Only(Vec<TypeGuid>),
    /// All but these.
    AllBut(Vec<TypeGuid>),
}

impl Wanted {
    /// True if definitions of this type count.
    pub fn has(&self, kind: TypeGuid) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Only(kinds) => kinds.contains(&kind),
            Wanted::AllBut(kinds) => !kinds.contains(&kind),
        }
    }
}

/// What the planner and the parser need from the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The architecture that `Type=root` means.
    pub architecture: Architecture,
    /// `--architecture=`: types of any architecture become those of this one.
    pub retype: Option<Architecture>,
    /// `--include-partitions=`, `--exclude-partitions=`.
    pub wanted: Wanted,
    /// What `%A`, `%b` … stand for, see systemd-repart(8) and repart.d(5). A missing
    /// one of os-release (`A B M o w W`) is empty; a missing other one is an error of
    /// the line that uses it. `%a` and `%%` need not be given.
    pub specifiers: BTreeMap<char, String>,
    /// What `AddValidateFS=` is for file systems that can have it, where it is not set.
    /// Versions before 258 do not have it.
    pub add_validatefs: bool,
    /// `$SYSTEMD_REPART_OVERRIDE_FSTYPE`: instead of every `Format=`.
    pub override_format: Option<String>,
    /// `$SYSTEMD_REPART_OVERRIDE_FSTYPE_ROOT` …: by the designator's name.
    pub override_format_of: BTreeMap<String, String>,
}

impl Facts {
    /// Nothing known but the architecture.
    pub fn new(architecture: Architecture) -> Facts {
        Facts {
            architecture,
            retype: None,
            wanted: Wanted::All,
            specifiers: BTreeMap::new(),
            add_validatefs: true,
            override_format: None,
            override_format_of: BTreeMap::new(),
        }
    }

    fn value(&self, c: char) -> Option<&str> {
        match (c, self.specifiers.get(&c)) {
            ('a', _) => Some(self.architecture.name()),
            (_, Some(value)) => Some(value),
            ('A' | 'B' | 'M' | 'o' | 'w' | 'W', None) => Some(""),
            _ => None,
        }
    }
}

/// The specifiers that stand for something in definitions.
const KNOWN: &str = "aAbBHlmMoqvwWTV";

/// `text` with its specifiers replaced.
pub(super) fn expand(text: &str, facts: &Facts) -> Result<String, String> {
    expand_but(text, facts, "")
}

/// The same, but those in `later` stay for somebody who knows more.
pub(super) fn expand_but(text: &str, facts: &Facts, later: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some(c) if later.contains(c) => out.extend(['%', c]),
            Some('%') => out.push('%'),
            None => out.push('%'),
            Some(c) if KNOWN.contains(c) => match facts.value(c) {
                Some(value) => out.push_str(value),
                None => return Err(format!("nobody said what %{c} stands for")),
            },
            Some(c) => return Err(format!("%{c} stands for nothing")),
        }
        if out.len() > MAX_EXPANDED {
            return Err("the value becomes too long".into());
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifiers_are_replaced_by_what_was_given() {
        let mut facts = Facts::new(Architecture::X8664);
        facts.specifiers.insert('M', "web".into());
        assert_eq!(expand("%M_%A-%a-100%%-%", &facts).unwrap(), "web_-x86-64-100%-%");
        assert!(expand("%Z", &facts).is_err());
        assert!(expand("%m", &facts).unwrap_err().contains("%m"));
    }
}
