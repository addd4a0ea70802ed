//! The settings of `[Partition]`, one row each, and what each does with its value.

use super::files::Found;
use super::ini::{self, Assignment, Oddity};
use super::specifier::{self, expand};
use super::value::{self, FIELDS, PLAIN, QUOTED_FIELDS, WORDS, absolute, cut};
use super::{
    CopyBlocks, CopyFiles, Definition, Encrypt, EncryptedVolume, Exclude, Facts, Integrity,
    IntegrityAlgorithm, Kdf, Log, MakeSymlink, Minimize, MountPoint, Severity, Subvolume, Verity,
};
use crate::gpt::Name;
use crate::units::round_down;
use crate::{Compat, Guid, TypeGuid, Version};

/// What becomes of a line that cannot be used.
enum Issue {
    /// It has no effect.
    Ignore(String),
    /// The run is refused.
    Refuse(String),
}

fn ignore<T>(message: impl Into<String>) -> Result<T, Issue> {
    Err(Issue::Ignore(message.into()))
}

fn refuse<T>(message: impl Into<String>) -> Result<T, Issue> {
    Err(Issue::Refuse(message.into()))
}

/// A value on its way into a definition.
struct Line<'a> {
    to: &'a mut Definition,
    value: &'a str,
    facts: &'a Facts,
    version: Version,
    /// Parts of the value that are ignored while the rest is used.
    notes: Vec<String>,
}

type Apply = fn(&mut Line<'_>) -> Result<(), Issue>;

/// Name, the version of systemd that has it first (0: any), and what it does.
const SETTINGS: &[(&str, u16, Apply)] = &[
    ("Type", 0, kind),
    ("Label", 0, |l| l.label().map(|v| l.to.label = Some(v))),
    ("VolumeLabel", 259, |l| l.label().map(|v| l.to.volume_label = Some(v))),
    ("UUID", 0, uuid),
    ("Priority", 0, |l| l.number().map(|v| l.to.priority = v)),
    ("Weight", 0, |l| l.weight().map(|v| l.to.weight = v)),
    ("PaddingWeight", 0, |l| l.weight().map(|v| l.to.padding_weight = v)),
    ("SizeMinBytes", 0, |l| l.at_least().map(|v| l.to.size_min = Some(v))),
    ("SizeMaxBytes", 0, |l| l.at_most().map(|v| l.to.size_max = Some(v))),
    ("PaddingMinBytes", 0, |l| l.at_least().map(|v| l.to.padding_min = Some(v))),
    ("PaddingMaxBytes", 0, |l| l.at_most().map(|v| l.to.padding_max = Some(v))),
    ("FactoryReset", 0, |l| l.boolean().map(|v| l.to.factory_reset = v)),
    ("CopyBlocks", 0, copy_blocks),
    ("Format", 0, format),
    ("CopyFiles", 0, copy_files),
    ("ExcludeFiles", 0, |l| {
        let list = l.excludes(l.to.exclude_files.clone())?;
        l.to.exclude_files = list;
        Ok(())
    }),
    ("ExcludeFilesTarget", 0, |l| {
        let list = l.excludes(l.to.exclude_files_target.clone())?;
        l.to.exclude_files_target = list;
        Ok(())
    }),
    ("MakeDirectories", 0, make_directories),
    ("MakeSymlinks", 0, make_symlinks),
    ("Subvolumes", 0, subvolumes),
    ("DefaultSubvolume", 0, |l| {
        let path = absolute(&l.expanded()?).map_err(Issue::Ignore)?;
        l.to.default_subvolume = Some(path);
        Ok(())
    }),
    ("BlockDeviceReplace", 261, |l| {
        let path = match l.value {
            "" => None,
            text => Some(absolute(text).map_err(Issue::Ignore)?.to_string()),
        };
        l.to.block_device_replace = path;
        Ok(())
    }),
    ("VolumeName", 261, volume_name),
    ("Encrypt", 0, encrypt),
    ("Discard", 261, |l| l.tristate().map(|v| l.to.discard = v)),
    ("EncryptKDF", 261, |l| l.choice(Kdf::parse).map(|v| l.to.encrypt_kdf = Some(v))),
    ("Integrity", 260, |l| {
        let on_off =
            |v: &str| value::boolean(v).map(|b| if b { Integrity::Inline } else { Integrity::Off });
        l.choice(|v| Integrity::parse(v).or_else(|| on_off(v))).map(|v| l.to.integrity = v)
    }),
    ("IntegrityAlgorithm", 260, |l| {
        l.choice(IntegrityAlgorithm::parse).map(|v| l.to.integrity_algorithm = v)
    }),
    ("Verity", 0, |l| l.choice(Verity::parse).map(|v| l.to.verity = v)),
    ("VerityMatchKey", 0, |l| l.text().map(|v| l.to.verity_match_key = v)),
    ("VerityDataBlockSizeBytes", 0, |l| l.verity_block().map(|v| l.to.verity_data_block = v)),
    ("VerityHashBlockSizeBytes", 0, |l| l.verity_block().map(|v| l.to.verity_hash_block = v)),
    ("Flags", 0, |l| match value::unsigned(l.value) {
        Some(flags) => {
            l.to.flags = flags;
            Ok(())
        }
        None => ignore("this is not a number of 64 bits"),
    }),
    ("NoAuto", 0, |l| l.tristate().map(|v| l.to.no_auto = v)),
    ("ReadOnly", 0, |l| l.tristate().map(|v| l.to.read_only = v)),
    ("GrowFileSystem", 0, |l| l.tristate().map(|v| l.to.grow_file_system = v)),
    ("SplitName", 0, |l| {
        let text = specifier::expand_but(l.value, l.facts, "TtUn%").map_err(Issue::Ignore)?;
        l.to.split_name = (!text.is_empty()).then_some(text);
        Ok(())
    }),
    ("Minimize", 0, |l| {
        let on_off =
            |v: &str| value::boolean(v).map(|b| if b { Minimize::Best } else { Minimize::Off });
        l.choice(|v| Minimize::parse(v).or_else(|| on_off(v))).map(|v| l.to.minimize = v)
    }),
    ("MountPoint", 0, mount_point),
    ("EncryptedVolume", 0, encrypted_volume),
    ("TPM2PCRs", 259, |l| l.text().map(|v| l.to.tpm2_pcrs = v)),
    ("KeyFile", 259, |l| {
        let path = match l.value {
            "" => None,
            text => Some(absolute(text).map_err(Issue::Refuse)?.to_string()),
        };
        l.to.key_file = path;
        Ok(())
    }),
    ("Compression", 0, |l| l.safe_text().map(|v| l.to.compression = v)),
    ("CompressionLevel", 0, |l| l.safe_text().map(|v| l.to.compression_level = v)),
    ("SupplementFor", 0, |l| l.text().map(|v| l.to.supplement_for = v)),
    ("AddValidateFS", 258, |l| l.tristate().map(|v| l.to.add_validatefs = v)),
    ("FileSystemSectorSize", 258, fs_sector_size),
];

/// The names of all settings.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|(name, ..)| *name)
}

/// Parses a file and its drop-ins. `None` if something was refused.
pub(super) fn parse(
    file: &Found,
    facts: &Facts,
    compat: Compat,
    log: &mut Log<'_>,
) -> Option<Definition> {
    let mut definition = Definition {
        path: file.path.clone(),
        name: file.name.clone(),
        drop_ins: file.drop_ins.clone(),
        weight: 1000,
        ..Definition::default()
    };
    let before = errors(log);
    for (path, bytes) in &file.parts {
        log.path.clone_from(path);
        let (assignments, oddities) = ini::parse(bytes);
        for (line, text, oddity) in oddities {
            let (severity, message) = match oddity {
                Oddity::Ignored(message) => (Severity::Warning, message),
                Oddity::Refused(message) => (Severity::Error, message),
            };
            log.say(severity, Some((line, &text)), message);
        }
        for assignment in assignments {
            assign(&mut definition, &assignment, facts, compat, log);
        }
    }
    log.path.clone_from(&file.path);
    (errors(log) == before).then_some(definition)
}

fn errors(log: &Log<'_>) -> usize {
    log.diagnostics.iter().filter(|d| d.severity == Severity::Error).count()
}

fn assign(
    to: &mut Definition,
    assignment: &Assignment,
    facts: &Facts,
    compat: Compat,
    log: &mut Log<'_>,
) {
    let text = format!("{}={}", assignment.key, assignment.value);
    let at = Some((assignment.line, text.as_str()));
    if assignment.section.as_deref() != Some("Partition") {
        let section =
            assignment.section.as_deref().map_or("no section".into(), |s| format!("[{s}]"));
        log.say(Severity::Warning, at, format!("it is in {section}; only [Partition] is read"));
        return;
    }
    let known = |(name, since, _): &&(&str, u16, Apply)| {
        *name == assignment.key && *since <= compat.version.number()
    };
    let Some((_, _, apply)) = SETTINGS.iter().find(known) else {
        log.say(Severity::Warning, at, unknown(&assignment.key));
        return;
    };
    let version = compat.version;
    let mut line = Line { to, value: &assignment.value, facts, version, notes: Vec::new() };
    let outcome = apply(&mut line);
    for note in line.notes {
        log.say(Severity::Warning, at, note);
    }
    match outcome {
        Ok(()) => {}
        Err(Issue::Ignore(message)) => {
            log.say(Severity::Warning, at, format!("{message}; the line is ignored"));
        }
        Err(Issue::Refuse(message)) => log.say(Severity::Error, at, message),
    }
}

fn unknown(key: &str) -> String {
    let distance =
        |name: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &key.to_lowercase());
    let near = SETTINGS.iter().map(|(name, ..)| (distance(name), *name)).min();
    match near {
        Some((distance, name)) if distance <= 3 => {
            format!("there is no setting {key}=; did you mean {name}=?")
        }
        _ => format!("there is no setting {key}="),
    }
}

impl Line<'_> {
    fn expanded(&self) -> Result<String, Issue> {
        expand(self.value, self.facts).map_err(Issue::Ignore)
    }

    fn label(&self) -> Result<String, Issue> {
        let text = self.expanded()?;
        match Name::new(&text) {
            None => ignore("a label has at most 36 UTF-16 units"),
            Some(_) => Ok(text),
        }
    }

    fn number(&self) -> Result<i32, Issue> {
        self.value.parse().or_else(|_| ignore("this is not a number of 32 bits"))
    }

    fn weight(&self) -> Result<u32, Issue> {
        match self.value.parse() {
            Ok(weight) if weight <= 1_000_000 => Ok(weight),
            _ => ignore("a weight is a number from 0 to 1000000"),
        }
    }

    fn bytes(&self) -> Result<u64, Issue> {
        let bad = || refuse("this is not a number of bytes (such as 4096, 512M, 1.5G)");
        value::size(self.value).map_or_else(bad, Ok)
    }

    fn rounded_up(&self) -> Result<u64, Issue> {
        let up = self.bytes()?.checked_next_multiple_of(4096);
        up.map_or_else(|| refuse("this is more than a disk can have"), Ok)
    }

    fn rounded_down(&self) -> Result<u64, Issue> {
        Ok(round_down(self.bytes()?, 4096))
    }

    /// A lower limit. 257 rounds limits the other way.
    fn at_least(&self) -> Result<u64, Issue> {
        if self.version < Version::V262 { self.rounded_down() } else { self.rounded_up() }
    }

    /// An upper limit.
    fn at_most(&self) -> Result<u64, Issue> {
        if self.version < Version::V262 { self.rounded_up() } else { self.rounded_down() }
    }

    fn boolean(&self) -> Result<bool, Issue> {
        value::boolean(self.value).map_or_else(|| ignore("this is neither yes nor no"), Ok)
    }

    fn tristate(&self) -> Result<Option<bool>, Issue> {
        if self.value.is_empty() {
            return Ok(None);
        }
        self.boolean().map(Some)
    }

    fn choice<T>(&self, parse: impl Fn(&str) -> Option<T>) -> Result<T, Issue> {
        parse(self.value).map_or_else(|| ignore("this is not one of the values it can have"), Ok)
    }

    fn text(&self) -> Result<Option<String>, Issue> {
        Ok((!self.value.is_empty()).then(|| self.value.to_owned()))
    }

    fn safe_text(&self) -> Result<Option<String>, Issue> {
        let safe = |b: u8| b.is_ascii_graphic() && !b"'\"\\".contains(&b);
        match self.value.bytes().all(safe) {
            true => self.text(),
            false => ignore("this has characters that are not safe in a command line"),
        }
    }

    fn verity_block(&self) -> Result<Option<u64>, Issue> {
        let bytes = self.bytes()?;
        match bytes.is_power_of_two() && (512..=4096).contains(&bytes) {
            true => Ok(Some(bytes)),
            false => refuse("a block of verity has a power of two from 512 to 4096 bytes"),
        }
    }

    /// The words of a list, expanded; those that cannot be used are noted.
    fn words(&mut self, how: value::Cut) -> Result<Vec<String>, Issue> {
        let mut words = Vec::new();
        for word in cut(self.value, how).map_err(Issue::Ignore)? {
            match expand(&word, self.facts) {
                Ok(word) => words.push(word),
                Err(message) => self.notes.push(format!("{word:?} is ignored: {message}")),
            }
        }
        Ok(words)
    }

    fn excludes(&mut self, mut list: Vec<Exclude>) -> Result<Vec<Exclude>, Issue> {
        if self.value.is_empty() {
            return Ok(Vec::new());
        }
        for word in self.words(PLAIN)? {
            match absolute(&word) {
                Ok(path) => list.push(Exclude { path, contents_only: word.ends_with('/') }),
                Err(message) => self.notes.push(format!("{word:?} is ignored: {message}")),
            }
        }
        Ok(list)
    }
}

fn kind(l: &mut Line<'_>) -> Result<(), Issue> {
    let Some(kind) = TypeGuid::parse(l.value, l.facts.architecture) else {
        let distance = |name: &String| strsim::damerau_levenshtein(name, l.value);
        let near = TypeGuid::names().min_by_key(distance).filter(|name| distance(name) <= 2);
        let hint = near.map_or(String::new(), |name| format!("; did you mean {name}?"));
        return refuse(format!("{:?} is no partition type{hint}", l.value));
    };
    l.to.kind = kind;
    Ok(())
}

fn uuid(l: &mut Line<'_>) -> Result<(), Issue> {
    l.to.uuid = match l.value {
        "" => None,
        "null" => Some(Guid::NIL),
        text => Some(text.parse().map_err(|e: crate::BadGuid| Issue::Ignore(e.to_string()))?),
    };
    Ok(())
}

fn copy_blocks(l: &mut Line<'_>) -> Result<(), Issue> {
    l.to.copy_blocks = match l.value {
        "" => None,
        "auto" => Some(CopyBlocks::Auto),
        _ => Some(CopyBlocks::Path(absolute(&l.expanded()?).map_err(Issue::Ignore)?)),
    };
    Ok(())
}

fn format(l: &mut Line<'_>) -> Result<(), Issue> {
    let name = l.facts.override_format.as_deref().unwrap_or(l.value);
    if name.is_empty() || name.len() > 255 || name.contains('/') || matches!(name, "." | "..") {
        return ignore(format!("{name:?} cannot be the name of a file system"));
    }
    l.to.format = Some(name.to_owned());
    Ok(())
}

fn copy_files(l: &mut Line<'_>) -> Result<(), Issue> {
    let fields = cut(l.value, FIELDS).map_err(Issue::Refuse)?;
    let most = if l.version < Version::V262 { 2 } else { 3 };
    if fields.len() > most {
        return refuse(format!("there are more than {most} fields (SOURCE:TARGET:OPTIONS)"));
    }
    let field = |i: usize| fields.get(i).map(String::as_str).filter(|f| !f.is_empty());
    let Some(source) = field(0) else { return ignore("there is no source") };
    let path =
        |text: &str| expand(text, l.facts).and_then(|text| absolute(&text)).map_err(Issue::Ignore);
    let source = path(source)?;
    let target = field(1).map_or_else(|| Ok(source.clone()), path)?;
    let mut fsverity = false;
    for option in field(2).unwrap_or_default().split(',').filter(|o| !o.is_empty()) {
        match option {
            "fsverity=off" => fsverity = false,
            "fsverity=copy" => fsverity = true,
            other => l.notes.push(format!("there is no option {other:?}; it is ignored")),
        }
    }
    l.to.copy_files.push(CopyFiles { source, target, fsverity });
    Ok(())
}

fn make_directories(l: &mut Line<'_>) -> Result<(), Issue> {
    for word in l.words(PLAIN)? {
        match absolute(&word) {
            Ok(path) if l.to.make_directories.contains(&path) => {}
            Ok(path) => l.to.make_directories.push(path),
            Err(message) => l.notes.push(format!("{word:?} is ignored: {message}")),
        }
    }
    Ok(())
}

fn make_symlinks(l: &mut Line<'_>) -> Result<(), Issue> {
    for word in cut(l.value, WORDS).map_err(Issue::Ignore)? {
        let fields = cut(&word, FIELDS).map_err(Issue::Ignore)?;
        let [path, target] = &fields[..] else {
            l.notes.push(format!("{word:?} is ignored: it is not PATH:TARGET"));
            continue;
        };
        let expanded = |text: &str| expand(text, l.facts);
        let both =
            expanded(path).and_then(|p| absolute(&p)).and_then(|p| Ok((p, expanded(target)?)));
        match both {
            Ok((_, target)) if target.is_empty() => {
                l.notes.push(format!("{word:?} is ignored: the target is empty"));
            }
            Ok((path, target)) => l.to.make_symlinks.push(MakeSymlink { path, target }),
            Err(message) => l.notes.push(format!("{word:?} is ignored: {message}")),
        }
    }
    Ok(())
}

fn subvolumes(l: &mut Line<'_>) -> Result<(), Issue> {
    for word in cut(l.value, WORDS).map_err(Issue::Ignore)? {
        let fields = cut(&word, FIELDS).map_err(Issue::Ignore)?;
        let path = expand(&fields[0], l.facts).and_then(|p| absolute(&p));
        let path = match path {
            Ok(path) => path,
            Err(message) => {
                l.notes.push(format!("{word:?} is ignored: {message}"));
                continue;
            }
        };
        let mut subvolume = Subvolume { path, read_only: false, no_cow: false };
        for flag in fields[1..].iter().flat_map(|f| f.split(',')).filter(|f| !f.is_empty()) {
            match flag {
                "ro" => subvolume.read_only = true,
                "nodatacow" => subvolume.no_cow = true,
                other => l.notes.push(format!("there is no flag {other:?}; it is ignored")),
            }
        }
        l.to.subvolumes.retain(|s| s.path != subvolume.path);
        l.to.subvolumes.push(subvolume);
    }
    Ok(())
}

fn volume_name(l: &mut Line<'_>) -> Result<(), Issue> {
    let usable = l.value.len() <= 127 && !l.value.contains('/') && !matches!(l.value, "." | "..");
    if !usable {
        return ignore("this cannot be the name of a mapped device");
    }
    l.text().map(|v| l.to.volume_name = v)
}

fn encrypt(l: &mut Line<'_>) -> Result<(), Issue> {
    let on_off =
        |v: &str| value::boolean(v).map(|b| if b { Encrypt::KeyFile } else { Encrypt::Off });
    let parsed = l.choice(|v| match v {
        "tpm2+key-file" => Some(Encrypt::KeyFileTpm2),
        v => Encrypt::parse(v).or_else(|| on_off(v)),
    });
    parsed.map(|v| l.to.encrypt = v)
}

fn mount_point(l: &mut Line<'_>) -> Result<(), Issue> {
    if l.value.is_empty() {
        l.to.mount_points.clear();
        return Ok(());
    }
    let fields = cut(l.value, QUOTED_FIELDS).map_err(Issue::Ignore)?;
    if fields.len() > 2 {
        return ignore("there are more than the two fields WHERE:OPTIONS");
    }
    let path = expand(&fields[0], l.facts).and_then(|p| absolute(&p)).map_err(Issue::Ignore)?;
    let options = fields.get(1).filter(|o| !o.is_empty()).cloned();
    l.to.mount_points.push(MountPoint { path, options });
    Ok(())
}

fn encrypted_volume(l: &mut Line<'_>) -> Result<(), Issue> {
    if l.value.is_empty() {
        l.to.encrypted_volume = None;
        return Ok(());
    }
    let mut fields = cut(l.value, QUOTED_FIELDS).map_err(Issue::Ignore)?;
    if fields.len() > 4 {
        return ignore("there are more than the four fields NAME:KEYFILE:OPTIONS:EXTRA");
    }
    fields.resize(4, String::new());
    let name = std::mem::take(&mut fields[0]);
    if name.is_empty() || name.contains('/') || name.len() > 127 {
        return ignore(format!("{name:?} cannot be the name of a mapped device"));
    }
    let mut fixate_volume_key = false;
    for extra in fields[3].split(',').filter(|e| !e.is_empty()) {
        match extra {
            "fixate-volume-key" => fixate_volume_key = true,
            other => l.notes.push(format!("there is no extra option {other:?}; it is ignored")),
        }
    }
    let field = |i: usize| (!fields[i].is_empty()).then(|| fields[i].clone());
    let (key_file, options) = (field(1), field(2));
    l.to.encrypted_volume = Some(EncryptedVolume { name, key_file, options, fixate_volume_key });
    Ok(())
}

fn fs_sector_size(l: &mut Line<'_>) -> Result<(), Issue> {
    if l.value.is_empty() {
        l.to.fs_sector_size = None;
        return Ok(());
    }
    let bytes = l.bytes()?;
    if !bytes.is_power_of_two() {
        return refuse("the size of a sector is a power of two");
    }
    l.to.fs_sector_size = Some(bytes);
    Ok(())
}
