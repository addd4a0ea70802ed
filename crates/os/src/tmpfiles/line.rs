//! One line of tmpfiles.d(5): what is to be done to which path.

use base64::Engine;
use tree::{Device, Tree};

use super::argument::{self, Acl, Names};
use super::place;
use super::text::{self, Specifiers, Unresolved, Word, Wrong, words};

/// `PATH_MAX` without its NUL.
const PATH_LIMIT: usize = 4095;

/// What a line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Type {
    SetAclRecursive = b'A',
    CopyTree = b'C',
    DirectoryEmptied = b'D',
    FileTruncated = b'F',
    FlagsRecursive = b'H',
    Symlink = b'L',
    SubvolumeWithQuota = b'Q',
    RemoveRecursive = b'R',
    XattrsRecursive = b'T',
    ExcludeOnly = b'X',
    AdjustRecursive = b'Z',
    SetAcl = b'a',
    BlockDevice = b'b',
    CharDevice = b'c',
    Directory = b'd',
    AdjustDirectory = b'e',
    File = b'f',
    Flags = b'h',
    AdjustOld = b'm',
    Fifo = b'p',
    SubvolumeInQuota = b'q',
    Remove = b'r',
    Xattrs = b't',
    Subvolume = b'v',
    Write = b'w',
    Exclude = b'x',
    Adjust = b'z',
}

use Type::*;

const TYPES: [Type; 27] = [
    SetAclRecursive,
    CopyTree,
    DirectoryEmptied,
    FileTruncated,
    FlagsRecursive,
    Symlink,
    SubvolumeWithQuota,
    RemoveRecursive,
    XattrsRecursive,
    ExcludeOnly,
    AdjustRecursive,
    SetAcl,
    BlockDevice,
    CharDevice,
    Directory,
    AdjustDirectory,
    File,
    Flags,
    AdjustOld,
    Fifo,
    SubvolumeInQuota,
    Remove,
    Xattrs,
    Subvolume,
    Write,
    Exclude,
    Adjust,
];

impl Type {
    fn of(letter: u8) -> Option<Type> {
        TYPES.into_iter().find(|ty| *ty as u8 == letter)
    }

    /// Whether its path is a pattern.
    pub fn is_pattern(self) -> bool {
        !self.makes() || matches!(self, Write | AdjustDirectory)
    }

    fn makes(self) -> bool {
        self.is_directory()
            || matches!(self, File | FileTruncated | Write | AdjustDirectory | Fifo | Symlink)
            || matches!(self, CharDevice | BlockDevice | CopyTree)
    }

    /// Whether one path can have one line of the kind only.
    pub fn owns(self) -> bool {
        self.makes() || matches!(self, Exclude | ExcludeOnly | Remove | RemoveRecursive)
    }

    /// Whether it makes a directory.
    pub fn is_directory(self) -> bool {
        matches!(self, Directory | DirectoryEmptied)
            || matches!(self, Subvolume | SubvolumeInQuota | SubvolumeWithQuota)
    }

    fn takes_argument(self) -> bool {
        use Type::*;
        !(self.is_directory()
            || matches!(self, AdjustDirectory | Fifo | Exclude | ExcludeOnly)
            || matches!(self, Remove | RemoveRecursive | Adjust | AdjustOld | AdjustRecursive))
    }

    fn needs_argument(self) -> bool {
        matches!(self, Write | CharDevice | BlockDevice | Xattrs | XattrsRecursive)
            || matches!(self, SetAcl | SetAclRecursive | Flags | FlagsRecursive)
    }

    fn can_be_purged(self) -> bool {
        self.makes()
    }
}

/// The argument, as its type understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    None,
    /// Content, target or source.
    Bytes(Vec<u8>),
    Device(Device),
    Xattrs(argument::Xattrs),
    Acl(Acl),
    /// Letters of file attributes.
    Flags(String),
}

/// The mode of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    pub bits: u16,
    /// `~`: no more than the file has.
    pub masked: bool,
    /// `:`
    pub only_new: bool,
}

/// The user or group of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub id: u32,
    /// `:`
    pub only_new: bool,
}

/// What a path gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    pub mode: Option<Mode>,
    pub user: Option<Owner>,
    pub group: Option<Owner>,
    age: Option<String>,
    pub argument: Argument,
}

/// A line.
#[derive(Debug, Clone)]
pub struct Item {
    /// `FILE:LINE`
    pub origin: String,
    pub ty: Type,
    /// Absolute and simplified; a pattern where the type takes one.
    pub path: Vec<u8>,
    /// `+`
    pub more: bool,
    /// `-`
    pub may_fail: bool,
    /// `=`
    pub replaces: bool,
    pub attributes: Attributes,
}

impl Item {
    /// The mode of what is made where the line has none.
    pub fn default_mode(&self) -> u16 {
        if self.ty.is_directory() { 0o755 } else { 0o644 }
    }

    /// The argument's bytes.
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.attributes.argument {
            Argument::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Whether both may be there for one path.
    pub fn is_compatible(&self, other: &Item) -> bool {
        let mode = |item: &Item| item.attributes.mode.map_or(item.default_mode(), |m| m.bits);
        !(self.ty.owns() && other.ty.owns())
            || (self.attributes == other.attributes && mode(self) == mode(other))
    }
}

/// The first word: type and modifiers.
struct Command {
    ty: Type,
    letter: char,
    more: bool,
    may_fail: bool,
    replaces: bool,
    base64: bool,
    credential: bool,
    purged: bool,
    if_target: bool,
}

fn command(word: &Word) -> Result<Command, Wrong> {
    let shown = String::from_utf8_lossy(&word.text).into_owned();
    let wrong = |message: String| Wrong::new(word.column, message);
    let (&letter, modifiers) =
        word.text.split_first().ok_or_else(|| wrong("the line's type is empty".into()))?;
    let mut seen = [false; 7];
    for modifier in modifiers {
        let known = b"+-=~^$?".iter().position(|m| m == modifier);
        match known {
            Some(at) if !seen[at] => seen[at] = true,
            // The image is as before a boot: lines for boots count.
            None if *modifier == b'!' && modifiers.iter().filter(|m| **m == b'!').count() == 1 => {}
            _ => return Err(wrong(format!("unknown or repeated modifiers in '{shown}'"))),
        }
    }
    let ty = Type::of(letter).ok_or_else(|| wrong(format!("unknown type '{}'", letter as char)))?;
    let [more, may_fail, replaces, base64, credential, purged, if_target] = seen;
    let command = Command {
        ty,
        letter: letter as char,
        more,
        may_fail,
        replaces,
        base64,
        credential,
        purged,
        if_target,
    };
    command.check().map_err(wrong)?;
    Ok(command)
}

impl Command {
    fn check(&self) -> Result<(), String> {
        let letter = self.letter;
        if self.base64
            && self.ty.takes_argument()
            && !matches!(self.ty, File | FileTruncated | Write)
        {
            return Err(format!("'{letter}' takes no base64"));
        }
        if self.purged && !self.ty.can_be_purged() {
            return Err(format!("'{letter}' cannot be purged ('$')"));
        }
        if self.if_target && self.ty != Symlink {
            return Err(format!("'{letter}' has no target ('?')"));
        }
        Ok(())
    }
}

/// What lines are read with.
pub struct Reader<'a> {
    pub tree: &'a Tree,
    pub names: &'a Names,
    pub specifiers: &'a Specifiers,
    pub exclude: &'a [&'a str],
}

/// What became of a line.
#[derive(Debug)]
pub enum Read {
    /// Nothing is to be done, and nobody need know.
    Nothing,
    Item(Box<Item>),
    /// It is skipped.
    Wrong(Wrong),
}

impl Reader<'_> {
    /// Reads a line. What is wrong in it without changing what it means goes to `notes`.
    pub fn line(&self, line: &[u8], origin: &str, notes: &mut Vec<Wrong>) -> Read {
        let line = line.trim_ascii();
        if line.is_empty() || line[0] == b'#' {
            return Read::Nothing;
        }
        match self.item(line, origin, notes) {
            Ok(Some(item)) => Read::Item(Box::new(item)),
            Ok(None) => Read::Nothing,
            Err(wrong) => Read::Wrong(wrong),
        }
    }

    fn item(
        &self,
        line: &[u8],
        origin: &str,
        notes: &mut Vec<Wrong>,
    ) -> Result<Option<Item>, Wrong> {
        let (fields, rest) = words(line, 6)?;
        if fields.len() < 2 {
            return Err(Wrong::new(1, "a line needs a type and a path"));
        }
        let command = command(&fields[0])?;
        let Some(path) = self.path(&fields[1], command.ty, notes)? else { return Ok(None) };
        let mut raw = Some(rest).filter(is_set);
        if let Some(word) = raw.take_if(|_| !command.ty.takes_argument()) {
            let message = format!("'{}' takes no argument, it is ignored", command.letter);
            notes.push(Wrong::new(word.column, message));
        }
        if raw.is_none() && command.ty.needs_argument() {
            return Err(Wrong::new(1, format!("'{}' needs an argument", command.letter)));
        }
        if self.is_excluded(&path) {
            return Ok(None);
        }
        let Some(argument) = self.argument(&command, raw.as_ref(), &path, notes)? else {
            return Ok(None);
        };
        if command.credential {
            return self.credential(raw.as_ref(), &fields[0]);
        }
        let field = |n: usize| fields.get(n).filter(|word| is_set(word));
        let attributes = self.attributes([field(2), field(3), field(4), field(5)], argument)?;
        Ok(Some(Item {
            origin: origin.to_owned(),
            ty: command.ty,
            path,
            more: command.more,
            may_fail: command.may_fail,
            replaces: command.replaces,
            attributes,
        }))
    }

    /// The path, absolute and simplified; `None` if the line is to be skipped.
    fn path(
        &self,
        word: &Word,
        ty: Type,
        notes: &mut Vec<Wrong>,
    ) -> Result<Option<Vec<u8>>, Wrong> {
        let path = match self.specifiers.expand(&word.text) {
            Ok(path) => path,
            Err(Unresolved::NoInformation) => return Ok(None),
            Err(Unresolved::Unknown(message)) => return Err(Wrong::new(word.column, message)),
            Err(Unresolved::Running(letter)) => {
                let fixed = word.text.iter().take_while(|b| **b != b'%').copied();
                let fixed = simplify(&fixed.collect::<Vec<_>>());
                let is_idle = matches!(ty, Exclude | ExcludeOnly) || self.is_excluded(&fixed);
                if !is_idle {
                    notes.push(Wrong::new(word.column, running(letter)));
                }
                return Ok(None);
            }
        };
        if !path.starts_with(b"/") {
            let shown = String::from_utf8_lossy(&path).into_owned();
            return Err(Wrong::new(word.column, format!("path '{shown}' is not absolute")));
        }
        if path.len() > PATH_LIMIT {
            return Err(Wrong::new(word.column, "the path is too long"));
        }
        let path = simplify(&path);
        match path.strip_prefix(b"/var/run/") {
            Some(below) => {
                let now = [b"/run/", below].concat();
                if !self.is_excluded(&now) {
                    notes.push(Wrong::new(word.column, "/var/run is /run now"));
                }
                Ok(Some(now))
            }
            None => Ok(Some(path)),
        }
    }

    fn is_excluded(&self, path: &[u8]) -> bool {
        let below = |prefix: &&str| path.strip_prefix(prefix.as_bytes());
        let mut rests = self.exclude.iter().filter_map(below);
        rests.any(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// `None` if the line is to be skipped.
    fn argument(
        &self,
        command: &Command,
        raw: Option<&Word>,
        path: &[u8],
        notes: &mut Vec<Wrong>,
    ) -> Result<Option<Argument>, Wrong> {
        if matches!(command.ty, Symlink | CopyTree) {
            return self.target(command, raw, path, notes);
        }
        let Some(word) = raw else { return Ok(Some(Argument::None)) };
        let wrong = |message: String| Wrong::new(word.column, message);
        let text = || {
            std::str::from_utf8(&word.text).map_err(|_| wrong("the argument is not UTF-8".into()))
        };
        let argument = match command.ty {
            File | FileTruncated | Write => match self.content(command, word, notes)? {
                None => return Ok(None),
                Some(bytes) => Argument::Bytes(bytes),
            },
            CharDevice | BlockDevice => Argument::Device(argument::device(text()?).map_err(wrong)?),
            SetAcl | SetAclRecursive => {
                Argument::Acl(argument::parse_acl(text()?, self.names).map_err(wrong)?)
            }
            Flags | FlagsRecursive => Argument::Flags(argument::flags(text()?).map_err(wrong)?),
            Xattrs | XattrsRecursive => {
                let Some(text) = self.expand(word, &word.text, notes)? else { return Ok(None) };
                let (found, bad) = argument::xattrs(&text).map_err(wrong)?;
                notes.extend(
                    bad.into_iter()
                        .map(|b| wrong(format!("'{b}' is not NAME=VALUE, it is ignored"))),
                );
                Argument::Xattrs(found)
            }
            _ => Argument::None,
        };
        Ok(Some(argument))
    }

    /// What a link leads to or a copy is made of.
    fn target(
        &self,
        command: &Command,
        raw: Option<&Word>,
        path: &[u8],
        notes: &mut Vec<Wrong>,
    ) -> Result<Option<Argument>, Wrong> {
        let target = match raw {
            None => [b"/usr/share/factory", path].concat(),
            Some(word) => match self.unescaped(word, notes)? {
                None => return Ok(None),
                Some(target) => target,
            },
        };
        let column = raw.map_or(1, |word| word.column);
        let is_copy = command.ty == CopyTree;
        if is_copy && !target.starts_with(b"/") {
            return Err(Wrong::new(column, "the source of a copy must be absolute"));
        }
        if is_copy || command.if_target {
            // Missing: there is nothing to copy or lead to, and that is no mistake.
            if !place::is_there(self.tree, &target) {
                return Ok(None);
            }
        }
        Ok(Some(Argument::Bytes(target)))
    }

    fn content(
        &self,
        command: &Command,
        word: &Word,
        notes: &mut Vec<Wrong>,
    ) -> Result<Option<Vec<u8>>, Wrong> {
        if !command.base64 {
            return self.unescaped(word, notes);
        }
        if command.credential {
            return Ok(Some(Vec::new()));
        }
        let compact: Vec<u8> =
            word.text.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
        let decoded = base64::engine::general_purpose::STANDARD.decode(compact);
        decoded.map(Some).map_err(|_| Wrong::new(word.column, "the argument is not base64"))
    }

    fn unescaped(&self, word: &Word, notes: &mut Vec<Wrong>) -> Result<Option<Vec<u8>>, Wrong> {
        let text = text::unescape(&word.text).map_err(|m| Wrong::new(word.column, m))?;
        self.expand(word, &text, notes)
    }

    fn expand(
        &self,
        word: &Word,
        text: &[u8],
        notes: &mut Vec<Wrong>,
    ) -> Result<Option<Vec<u8>>, Wrong> {
        match self.specifiers.expand(text) {
            Ok(text) => Ok(Some(text)),
            Err(Unresolved::NoInformation) => Ok(None),
            Err(Unresolved::Unknown(message)) => Err(Wrong::new(word.column, message)),
            Err(Unresolved::Running(letter)) => {
                notes.push(Wrong::new(word.column, running(letter)));
                Ok(None)
            }
        }
    }

    /// A build has no credentials: the line is skipped, once it is known to be good.
    fn credential(&self, raw: Option<&Word>, command: &Word) -> Result<Option<Item>, Wrong> {
        let word =
            raw.ok_or_else(|| Wrong::new(command.column, "'^' needs a credential's name"))?;
        let is_name = !matches!(&word.text[..], b"." | b"..")
            && word.text.len() <= 255
            && !word.text.iter().any(|b| *b == b'/' || b.is_ascii_control());
        if is_name {
            Ok(None)
        } else {
            Err(Wrong::new(word.column, "not the name of a credential"))
        }
    }

    fn attributes(
        &self,
        [mode, user, group, age]: [Option<&Word>; 4],
        argument: Argument,
    ) -> Result<Attributes, Wrong> {
        let text = |word: &Word| String::from_utf8_lossy(&word.text).into_owned();
        let owner = |word: &Word, find: &dyn Fn(&str) -> Result<u32, String>| {
            let text = text(word);
            let name = text.strip_prefix(':');
            let id = find(name.unwrap_or(&text)).map_err(|m| Wrong::new(word.column, m))?;
            Ok(Owner { id, only_new: name.is_some() })
        };
        let user = user.map(|word| owner(word, &|name| self.names.user(name))).transpose()?;
        let group = group.map(|word| owner(word, &|name| self.names.group(name))).transpose()?;
        let mode = mode.map(|word| {
            let text = text(word);
            let digits = text.trim_start_matches(['~', ':']);
            let marks = &text[..text.len() - digits.len()];
            let bits = argument::mode(digits).map_err(|m| Wrong::new(word.column, m))?;
            Ok(Mode { bits, masked: marks.contains('~'), only_new: marks.contains(':') })
        });
        let mode = mode.transpose()?;
        let age = age.map(|word| match text(word) {
            age if argument::is_age(&age) => Ok(age),
            other => Err(Wrong::new(word.column, format!("'{other}' is not an age"))),
        });
        Ok(Attributes { mode, user, group, age: age.transpose()?, argument })
    }
}

fn running(letter: char) -> String {
    format!("'%{letter}' belongs to a running machine, an image has none: the line is skipped")
}

fn is_set(word: &Word) -> bool {
    !matches!(&word.text[..], b"" | b"-")
}

/// Without double slashes, `.` components and a slash at the end.
fn simplify(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for part in path.split(|b| *b == b'/').filter(|c| !matches!(*c, b"" | b".")) {
        out.push(b'/');
        out.extend_from_slice(part);
    }
    if out.is_empty() { b"/".to_vec() } else { out }
}
