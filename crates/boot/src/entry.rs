//! Boot Loader Specification (UAPI.1): Type #1 entries as text, the order in
//! which boot loaders show entries, boot counting in file names, entry tokens; and
//! loader.conf(5).

use std::cmp::Ordering;

use crate::osrelease::OsRelease;
use crate::version;

/// An entry is a screen of text.
const MAX_ENTRY: usize = 256 << 10;
/// Room is left for what boot counting and suffixes add to a name.
const MAX_NAME: usize = 255 - 12;
/// systemd-boot aligns values in the entries that kernel-install writes.
const COLUMN: usize = 11;

/// A Type #1 entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// What people see.
    pub title: Option<String>,
    /// What sorts entries with one sort key, newest first.
    pub version: Option<String>,
    /// Never in a golden image; read from others.
    pub machine_id: Option<String>,
    /// Groups entries.
    pub sort_key: Option<String>,
    /// Kernel command line; several are joined with a blank.
    pub options: Vec<String>,
    /// Path of the kernel.
    pub linux: Option<String>,
    /// Path of an EFI program.
    pub efi: Option<String>,
    /// Path of a unified kernel image.
    pub uki: Option<String>,
    /// Paths of initrds, in order.
    pub initrd: Vec<String>,
    /// Path of a device tree.
    pub devicetree: Option<String>,
    /// Paths of overlays on it.
    pub devicetree_overlay: Vec<String>,
    /// EFI name of the architecture.
    pub architecture: Option<String>,
    /// Keys that this version does not know, in order.
    pub other: Vec<(String, String)>,
}

/// Why an entry is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// UTF-8 is required.
    #[error("boot entry is not UTF-8")]
    NotText,
    /// Nobody wrote this.
    #[error("boot entry is larger than {MAX_ENTRY} bytes")]
    TooLarge,
    /// None of linux, efi, uki.
    #[error("boot entry names nothing to boot (linux, efi, uki)")]
    NothingToBoot,
    /// A value would become several lines.
    #[error("boot entry value {0:?} contains a line break")]
    LineBreak(String),
    /// A name is no file name in the ESP.
    #[error(
        "{0:?} cannot be used in the name of a boot entry (A-Z a-z 0-9 + . _ - ~, not too long)"
    )]
    Name(String),
    /// A machine ID would be shared by all clones.
    #[error("entry token {0:?} is a machine ID; a golden image's boot entries must not carry one")]
    MachineId(String),
}

impl Entry {
    /// Reads an entry. Unknown keys are kept; lines without a value are dropped.
    pub fn parse(bytes: &[u8]) -> Result<Entry, EntryError> {
        if bytes.len() > MAX_ENTRY {
            return Err(EntryError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| EntryError::NotText)?;
        let mut entry = Entry::default();
        for line in text.lines().map(str::trim).filter(|l| !l.starts_with('#')) {
            if let Some((key, value)) = line.split_once([' ', '\t']) {
                entry.set(key, value.trim());
            }
        }
        if entry.linux.is_none() && entry.efi.is_none() && entry.uki.is_none() {
            return Err(EntryError::NothingToBoot);
        }
        Ok(entry)
    }

    fn set(&mut self, key: &str, value: &str) {
        let owned = || Some(value.to_owned());
        match key {
            "title" => self.title = owned(),
            "version" => self.version = owned(),
            "machine-id" => self.machine_id = owned(),
            "sort-key" => self.sort_key = owned(),
            "options" => self.options.extend(owned()),
            "linux" => self.linux = owned(),
            "efi" => self.efi = owned(),
            "uki" => self.uki = owned(),
            "initrd" => self.initrd.extend(owned()),
            "devicetree" => self.devicetree = owned(),
            "devicetree-overlay" => {
                self.devicetree_overlay.extend(value.split_whitespace().map(str::to_owned));
            }
            "architecture" => self.architecture = owned(),
            _ => self.other.push((key.to_owned(), value.to_owned())),
        }
    }

    /// The text, laid out as kernel-install's, without its comment lines.
    pub fn to_text(&self) -> Result<String, EntryError> {
        let overlays = self.devicetree_overlay.join(" ");
        let one = |key, value: &Option<String>| value.iter().map(|v| (key, v.clone())).collect();
        let many = |key, values: &[String]| values.iter().map(|v| (key, v.clone())).collect();
        let lines: [Vec<(&str, String)>; 13] = [
            one("title", &self.title),
            one("version", &self.version),
            one("machine-id", &self.machine_id),
            one("sort-key", &self.sort_key),
            one("architecture", &self.architecture),
            many("options", &self.options),
            one("linux", &self.linux),
            one("efi", &self.efi),
            one("uki", &self.uki),
            one("devicetree", &self.devicetree),
            one("devicetree-overlay", &Some(overlays).filter(|o| !o.is_empty())),
            many("initrd", &self.initrd),
            self.other.iter().map(|(k, v)| (k.as_str(), v.clone())).collect(),
        ];
        let mut text = String::new();
        for (key, value) in lines.iter().flatten().filter(|(_, v)| !v.is_empty()) {
            if value.contains(['\n', '\r']) {
                return Err(EntryError::LineBreak(value.clone()));
            }
            text.push_str(&format!(
                "{key:<COLUMN$}{}{value}\n",
                if key.len() < COLUMN { "" } else { " " }
            ));
        }
        Ok(text)
    }
}

/// What sorts an entry: its keys and its file name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SortFacts<'a> {
    /// File name, with or without its suffix.
    pub file_name: &'a str,
    /// `sort-key`
    pub sort_key: &'a str,
    /// `machine-id`
    pub machine_id: &'a str,
    /// `version`
    pub version: &'a str,
}

/// The order of a boot menu, best first (BLS, "Sorting").
pub fn menu_order(a: &SortFacts<'_>, b: &SortFacts<'_>) -> Ordering {
    let bad = |f: &SortFacts<'_>| Name::parse(f.file_name).left == Some(0);
    let by_keys = || match (a.sort_key.is_empty(), b.sort_key.is_empty()) {
        (false, false) => a
            .sort_key
            .cmp(b.sort_key)
            .then_with(|| a.machine_id.cmp(b.machine_id))
            .then_with(|| version::compare(b.version, a.version)),
        (a, b) => a.cmp(&b),
    };
    let name = |f: &SortFacts<'_>| Name::parse(f.file_name).stem;
    bad(a).cmp(&bad(b)).then_with(by_keys).then_with(|| version::compare(name(b), name(a)))
}

/// A file name taken apart: `STEM[+LEFT[-DONE]].conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Without counters and suffix.
    pub stem: String,
    /// Boots left to try; 0 means that the entry is bad.
    pub left: Option<u64>,
    /// Boots tried.
    pub done: u64,
}

impl Name {
    /// Takes a name apart. What does not look like counters is part of the stem.
    pub fn parse(name: &str) -> Name {
        let base = name.strip_suffix(".conf").or(name.strip_suffix(".efi")).unwrap_or(name);
        let plain = || Name { stem: base.to_owned(), left: None, done: 0 };
        let Some((stem, counters)) = base.rsplit_once('+') else { return plain() };
        let number = |digits: &str| {
            let all = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            all.then(|| digits.parse().ok()).flatten()
        };
        let (left, done) = match counters.split_once('-') {
            Some((left, done)) => (number(left), number(done)),
            None => (number(counters), Some(0)),
        };
        match (left, done) {
            (Some(left), Some(done)) => Name { stem: stem.to_owned(), left: Some(left), done },
            _ => plain(),
        }
    }
}

/// `TOKEN-VERSION`, what kernel-install calls the entries of a kernel.
pub fn entry_name(token: &str, version: &str) -> Result<String, EntryError> {
    check_token(token)?;
    let name = format!("{token}-{version}");
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"+._-~^".contains(&b);
    if version.is_empty() || name.len() > MAX_NAME || !name.bytes().all(valid) {
        return Err(EntryError::Name(name));
    }
    Ok(name)
}

/// A token is a file name, and no machine ID (B2).
pub fn check_token(token: &str) -> Result<(), EntryError> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"+._-".contains(&b);
    if token.is_empty() || token.starts_with('.') || !token.bytes().all(valid) {
        return Err(EntryError::Name(token.into()));
    }
    let hex = token.bytes().filter(|b| *b != b'-').all(|b| b.is_ascii_hexdigit());
    if hex && token.bytes().filter(|b| *b != b'-').count() == 32 {
        return Err(EntryError::MachineId(token.into()));
    }
    Ok(())
}

/// Title, sort key of an entry from os-release, as 90-loaderentry takes them.
pub fn title_and_sort_key(os: &OsRelease, version: &str) -> (String, Option<String>) {
    let get = |key: &str| os.get(key).filter(|v| !v.is_empty()).cloned();
    let title = get("PRETTY_NAME").unwrap_or_else(|| format!("Linux {version}"));
    (title, get("IMAGE_ID").or_else(|| get("ID")))
}

/// loader.conf: the options that an image sets, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoaderConf {
    /// `key value` lines; empty gives bootctl's file of comments.
    pub options: Vec<(String, String)>,
}

impl LoaderConf {
    /// The text of the file.
    pub fn to_text(&self) -> Result<String, EntryError> {
        // What `bootctl install` writes.
        let mut text = "#timeout 3\n#console-mode keep\n".to_owned();
        for (key, value) in &self.options {
            if [key, value].iter().any(|s| s.contains(['\n', '\r'])) {
                return Err(EntryError::LineBreak(value.clone()));
            }
            text.push_str(&format!("{key} {value}\n"));
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_round_trips() {
        let text = "# /boot/loader/entries/fedora-4.11.conf\n\
            title\tFedora 19 (Rawhide)\n sort-key fedora\nversion    3.8.0-2.fc19.x86_64\n\
            options    root=UUID=6d3376e4 quiet\noptions more\n\
            linux /fedora/3.8.0/linux\ninitrd /fedora/a\ninitrd /fedora/b\n\
            x-vendor  some thing \nnothing\n";
        let entry = Entry::parse(text.as_bytes()).unwrap();
        assert_eq!(entry.title.as_deref(), Some("Fedora 19 (Rawhide)"));
        assert_eq!(entry.options, ["root=UUID=6d3376e4 quiet", "more"]);
        assert_eq!(entry.initrd, ["/fedora/a", "/fedora/b"]);
        assert_eq!(entry.other, [("x-vendor".into(), "some thing".into())]);
        let written = entry.to_text().unwrap();
        assert!(written.starts_with("title      Fedora 19 (Rawhide)\nversion    3.8.0"));
        assert_eq!(Entry::parse(written.as_bytes()).unwrap(), entry);
    }

    #[test]
    fn what_boots_nothing_or_breaks_lines_is_refused() {
        assert_eq!(Entry::parse(b"title x\n"), Err(EntryError::NothingToBoot));
        assert_eq!(Entry::parse(b"\xff"), Err(EntryError::NotText));
        let entry = Entry { title: Some("a\nlinux /x".into()), ..Entry::default() };
        assert!(matches!(entry.to_text(), Err(EntryError::LineBreak(_))));
    }

    #[test]
    fn the_menu_is_sorted_as_specified() {
        let with = |file_name, sort_key, version| SortFacts {
            file_name,
            sort_key,
            version,
            ..SortFacts::default()
        };
        let sorted = [
            with("b.conf", "debian", "6.12.10"),
            with("a.conf", "debian", "6.12.9"),
            with("c.conf", "zebra", "9"),
            with("image-2.conf", "", "1"),
            with("image-1+3.conf", "", "9"),
            with("bad+0-3.conf", "debian", "99"),
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(menu_order(a, b), i.cmp(&j), "{} {}", a.file_name, b.file_name);
            }
        }
    }

    #[test]
    fn counters_are_taken_off_names() {
        for (name, stem, left, done) in [
            ("a-6.12+3.conf", "a-6.12", Some(3), 0),
            ("a+2-1.efi", "a", Some(2), 1),
            ("a+0-03", "a", Some(0), 3),
            ("debian-6.12.9+deb13-amd64.efi", "debian-6.12.9+deb13-amd64", None, 0),
            ("a+.conf", "a+", None, 0),
        ] {
            assert_eq!(Name::parse(name), Name { stem: stem.into(), left, done }, "{name}");
        }
    }

    #[test]
    fn names_carry_a_token_and_no_machine_id() {
        let name = entry_name("debian", "6.12.9+deb13-amd64").unwrap();
        assert_eq!(name, "debian-6.12.9+deb13-amd64");
        for id in ["0123456789abcdef0123456789abcdef", "01234567-89ab-cdef-0123-456789abcdef"] {
            assert!(matches!(entry_name(id, "6"), Err(EntryError::MachineId(_))), "{id}");
        }
        for bad in ["", "..", "a/b", "a b", ".x"] {
            assert!(entry_name(bad, "6").is_err(), "{bad:?}");
        }
        assert!(entry_name("debian", "../x").is_err());
        assert!(entry_name("debian", &"9".repeat(250)).is_err());
    }
}
