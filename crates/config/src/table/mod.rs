//! The settings: each declared once, here.
//!
//! Parsing, the command line, special paths, match conditions, specifiers,
//! documentation and the JSON schema derive from [`SETTINGS`]. A row says what
//! the language is; what a value *does* is not here. Rows are grouped in one file
//! per section, in the order of mkosi(1).
//!
//! Every setting of mkosi 25.3 and 27.1 has a row; [`State`] says what mkgold
//! makes of it.

mod build;
mod content;
mod output;
mod project;
mod runtime;

use std::sync::LazyLock;

/// A section of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Section {
    Include,
    Config,
    Distribution,
    Output,
    Content,
    Validation,
    Build,
    Runtime,
}

impl Section {
    /// Every section that holds settings.
    pub const ALL: [Section; 8] = [
        Self::Include,
        Self::Config,
        Self::Distribution,
        Self::Output,
        Self::Content,
        Self::Validation,
        Self::Build,
        Self::Runtime,
    ];

    /// Its name between the brackets.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Include => "Include",
            Self::Config => "Config",
            Self::Distribution => "Distribution",
            Self::Output => "Output",
            Self::Content => "Content",
            Self::Validation => "Validation",
            Self::Build => "Build",
            Self::Runtime => "Runtime",
        }
    }
}

/// What mkgold makes of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does what mkosi documents.
    Works,
    /// It is accepted; the reason says why it cannot change anything here.
    NoEffect(&'static str),
    /// mkosi knows it, mkgold does not support it yet. The values listed mean
    /// "not used" and are accepted.
    Refused(&'static [&'static str]),
    /// An old name or meaning that mkosi still reads and mkgold refuses; the text says
    /// what to use.
    Old(&'static str),
    /// mkosi itself removed it; the text says what to use.
    Removed(&'static str),
}

/// A closed set of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The names that work.
    pub works: &'static [&'static str],
    /// The names that mkosi knows and mkgold refuses.
    pub refused: &'static [&'static str],
    /// What a true boolean stands for; empty if none is accepted.
    pub yes: &'static str,
    /// What a false boolean stands for; empty if none is accepted.
    pub no: &'static str,
    /// Other spellings, with what they stand for.
    pub aliases: &'static [(&'static str, &'static str)],
    /// What a value is called in a message ("an image format").
    pub what: &'static str,
}

impl Choice {
    /// A set without booleans or aliases.
    pub const fn of(
        what: &'static str,
        works: &'static [&'static str],
        refused: &'static [&'static str],
    ) -> Self {
        Self { works, refused, yes: "", no: "", aliases: &[], what }
    }

    /// Also accepts booleans.
    pub const fn bools(mut self, yes: &'static str, no: &'static str) -> Self {
        (self.yes, self.no) = (yes, no);
        self
    }

    /// Also accepts other spellings.
    pub const fn also(mut self, aliases: &'static [(&'static str, &'static str)]) -> Self {
        self.aliases = aliases;
        self
    }
}

/// How the text of a list is cut into its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// At commas and white space.
    Commas,
    /// At white space only.
    Spaces,
    /// At white space, but quotes and backslashes as in a shell.
    Shell,
    /// At colons.
    Colons,
}

/// The type of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// Letters, digits and a little punctuation, as os-release(5) asks for.
    Identifier,
    /// A file name without directories.
    FileName,
    /// A Debian release.
    Release,
    /// One of a set.
    Choice(&'static Choice),
    /// `yes` or `no`.
    Bool,
    /// A whole number from … to.
    Integer(i64, i64),
    /// A number of bytes with an optional suffix K, M or G, rounded up to 4096.
    Size,
    /// A power of two from 512 to 4096.
    SectorSize,
    /// Permission bits in octal.
    Mode,
    /// A UUID or `random`.
    Uuid,
    /// A path; relative ones belong to the directory of the configuration.
    Path,
    /// A path that must lead to something.
    ExistingPath,
    /// An executable, or a pattern of them.
    Script,
    /// `SOURCE` or `SOURCE:TARGET`.
    Tree,
    /// Like [`Kind::Tree`]; the source must be there.
    ExistingTree,
    /// A password, `hashed:` for one that is hashed already.
    Password,
    /// `NAME=VALUE`, or `NAME` to take the value over.
    Assignment,
    /// `NAME=VALUE`, or the path of a file or directory.
    Credential,
    /// A version of mkosi.
    Version,
    /// Where a key comes from: `file`, `engine:NAME`, `provider:NAME`.
    KeySource,
    /// Where a certificate comes from: no engine.
    CertificateSource,
    /// A file if there is one of this name, else what the source of keys makes of it.
    Key,
    /// A directory of build tools, or a boolean.
    ToolsTree,
    /// `NAME=VALUE` with any name.
    Label,
    /// A regular expression; `default` and `host` are none.
    Regex,
    /// A path, or one of these words.
    PathOr(&'static [&'static str]),
    /// A path that must be absolute.
    AbsolutePath,
    /// A vsock's connection ID: a number, `auto` or `hash`.
    VSock,
    /// `ID:SIZE[:DIRECTORY[:OPTIONS[:FILE[:FLAGS]]]]`.
    Drive,
}

/// Whether a setting holds one value or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The last assignment counts.
    One,
    /// Assignments add up; an empty one drops what was there.
    List(Split),
}

/// How `[Match]` compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchKind {
    /// Parsed values are equal.
    Equal,
    /// The list has the item.
    Contains,
    /// Shell pattern.
    Glob,
    /// Version comparison with an operator.
    Version,
    /// A variable, or a variable with a value.
    Environment,
}

/// Where a value is taken from if it exists in a project's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// The path itself is the value.
    Path(&'static str),
    /// The file's text is the value; an executable is refused.
    Contents(&'static str),
    /// As `Contents`, and nobody else may read the file.
    Secret(&'static str),
    /// Every file in the directory is a value.
    Files(&'static str),
}

impl Special {
    /// The name in the project's directory.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Path(n) | Self::Contents(n) | Self::Secret(n) | Self::Files(n) => n,
        }
    }
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The key in files.
    pub name: &'static str,
    /// The section it belongs to.
    pub section: Section,
    /// The option without its dashes; empty if there is none.
    pub long: &'static str,
    /// The short option.
    pub short: Option<char>,
    /// What a short option without an argument stands for.
    pub flag: Option<&'static str>,
    /// What the option's argument is called in help.
    pub metavar: &'static str,
    /// The type of a value, or of an item of a list.
    pub kind: Kind,
    /// One or many.
    pub shape: Shape,
    /// What mkgold makes of it.
    pub state: State,
    /// The default in the words of the language; empty if there is none.
    pub default: &'static str,
    /// Older names.
    pub aliases: &'static [&'static str],
    /// Paths that set it by being there.
    pub special: &'static [Special],
    /// How it can be used in `[Match]`.
    pub matching: Option<MatchKind>,
    /// Its specifier.
    pub specifier: Option<char>,
    /// The environment variable that is its default.
    pub env: Option<&'static str>,
    /// Whether the value is kept out of everything that is shown.
    pub secret: bool,
    /// Whether mkosi's summary leaves it out.
    hidden: bool,
    /// Whether the order of a list means nothing.
    set: bool,
    /// One or two sentences in our own words.
    pub help: &'static str,
}

/// A row: the name, its section, option, type, and what it is.
const fn row(
    section: Section,
    name: &'static str,
    long: &'static str,
    metavar: &'static str,
    kind: Kind,
    help: &'static str,
) -> Setting {
    Setting {
        name,
        section,
        long,
        short: None,
        flag: None,
        metavar,
        kind,
        shape: Shape::One,
        state: State::Works,
        default: "",
        aliases: &[],
        special: &[],
        matching: None,
        specifier: None,
        env: None,
        secret: false,
        hidden: false,
        set: false,
        help,
    }
}

impl Setting {
    const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    const fn flag(mut self, short: char, value: &'static str) -> Self {
        (self.short, self.flag) = (Some(short), Some(value));
        self
    }

    const fn list(mut self, split: Split) -> Self {
        self.shape = Shape::List(split);
        self
    }

    const fn default(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn special(mut self, special: &'static [Special]) -> Self {
        self.special = special;
        self
    }

    const fn matching(mut self, matching: MatchKind) -> Self {
        self.matching = Some(matching);
        self
    }

    const fn specifier(mut self, specifier: char) -> Self {
        self.specifier = Some(specifier);
        self
    }

    const fn env(mut self, env: &'static str) -> Self {
        self.env = Some(env);
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    const fn no_effect(mut self, reason: &'static str) -> Self {
        self.state = State::NoEffect(reason);
        self
    }

    const fn refused(mut self, off: &'static [&'static str]) -> Self {
        self.state = State::Refused(off);
        self
    }

    const fn old(mut self, instead: &'static str) -> Self {
        self.state = State::Old(instead);
        self
    }

    /// The setting whose values these are.
    pub(crate) fn target(&'static self) -> &'static Setting {
        match self.name {
            "KernelModulesInclude" => get("KernelModules"),
            "KernelModulesInitrdInclude" => get("KernelInitrdModules"),
            "FirmwareInclude" => get("FirmwareFiles"),
            _ => self,
        }
    }

    const fn removed(mut self, instead: &'static str) -> Self {
        self.state = State::Removed(instead);
        self
    }

    const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    const fn set(mut self) -> Self {
        self.set = true;
        self
    }

    /// Whether mkosi's summary has it.
    pub const fn in_summary(&self) -> bool {
        !self.hidden && !matches!(self.state, State::Removed(_))
    }

    /// Whether it is sorted, as the order means nothing.
    pub const fn is_set(&self) -> bool {
        self.set
    }

    /// Whether it holds a list.
    pub const fn is_list(&self) -> bool {
        matches!(self.shape, Shape::List(_))
    }
}

/// `yes`, `no` or `auto`.
pub static FEATURE: Choice =
    Choice::of("a boolean or \"auto\"", &["enabled", "disabled", "auto"], &[])
        .bools("enabled", "disabled");

/// Every setting, in the order of mkosi(1).
pub static SETTINGS: LazyLock<Vec<&'static Setting>> = LazyLock::new(|| {
    let groups: [&'static [Setting]; 8] = [
        project::INCLUDE,
        project::CONFIG,
        project::DISTRIBUTION,
        output::OUTPUT,
        content::CONTENT,
        build::VALIDATION,
        build::BUILD,
        runtime::RUNTIME,
    ];
    groups.into_iter().flatten().collect()
});

/// The setting with this name, or with this older name (`true` then).
pub fn find(name: &str) -> Option<(&'static Setting, bool)> {
    let exact = SETTINGS.iter().find(|s| s.name == name);
    exact
        .map(|s| (*s, false))
        .or_else(|| SETTINGS.iter().find(|s| s.aliases.contains(&name)).map(|s| (*s, true)))
}

/// The setting with this name, which the caller knows to be in the table.
pub(crate) fn get(name: &str) -> &'static Setting {
    SETTINGS.iter().find(|s| s.name == name).expect("a name from the table")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_options_are_unique() {
        let mut seen = BTreeSet::new();
        for s in SETTINGS.iter() {
            assert!(seen.insert(s.name), "{}", s.name);
            for a in s.aliases {
                assert!(seen.insert(a), "{a}");
            }
            assert!(s.long.is_empty() || seen.insert(s.long), "{}", s.long);
            assert!(s.short.is_none_or(|c| seen.insert(&*String::from(c).leak())), "{}", s.name);
            assert!(!s.help.is_empty(), "{}", s.name);
        }
        assert!(SETTINGS.len() > 180, "{}", SETTINGS.len());
    }

    #[test]
    fn choices_name_only_values_they_have() {
        for s in SETTINGS.iter() {
            let Kind::Choice(c) = s.kind else { continue };
            let known = |n: &&str| c.works.contains(n) || c.refused.contains(n);
            assert!(c.yes.is_empty() || known(&c.yes), "{}", s.name);
            assert!(c.no.is_empty() || known(&c.no), "{}", s.name);
            assert!(c.aliases.iter().all(|(_, to)| known(to)), "{}", s.name);
            assert!(s.is_list() || s.default.is_empty() || known(&s.default), "{}", s.name);
        }
    }
}
