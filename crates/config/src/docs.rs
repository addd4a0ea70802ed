//! `docs/settings.md`, rendered from the table.

use std::fmt::Write;

use crate::cli;
use crate::table::{Kind, MatchKind, SETTINGS, Section, Setting, Shape, Split, State};

const HEAD: &str = "\
# Settings

<!-- Written by `mkgold-config` from its settings table; do not edit by hand. -->

mkgold reads mkosi's configuration language (the settings of mkosi 25 and 27).
A setting is written `Name=value` in its section of a `mkosi.conf`, or as its
option on the command line. The command line counts over `mkosi.local/` and
`mkosi.local.conf`, those over `mkosi.conf`, `mkosi.conf.d/` and profiles; among
files the later one counts. Lists add up in the order files, local files, command
line; an empty assignment drops what was there before. The items of a list are
separated by commas or white space unless the table says otherwise.

Every setting that mkosi has is known. It works; or it is accepted and changes
nothing, for the reason given; or it is refused, with file, line and column.
";

/// The page as Markdown.
pub fn render_settings_markdown() -> String {
    let mut out = HEAD.to_string();
    for section in Section::ALL {
        let settings: Vec<_> = SETTINGS.iter().filter(|s| s.section == section).collect();
        let _ = write!(out, "\n## [{}]\n", section.as_str());
        for s in settings.iter().filter(|s| s.state == State::Works) {
            setting(&mut out, s);
        }
        others(&mut out, &settings);
    }
    conditions(&mut out);
    specifiers(&mut out);
    special_paths(&mut out);
    out
}

fn setting(out: &mut String, s: &Setting) {
    let _ = write!(out, "\n### {}=\n\n", s.name);
    if !s.long.is_empty() {
        let short = match (s.short, s.flag) {
            (Some(c), Some(value)) => format!(", `-{c}` for `{value}`"),
            (Some(c), None) => format!(", `-{c} {}`", s.metavar),
            (None, _) => String::new(),
        };
        let _ = write!(out, "`--{}={}`{short}. ", s.long, s.metavar);
    }
    let _ = writeln!(out, "{}. {}", type_of(s), s.help);
    let mut notes = Vec::new();
    let values = cli::values(s);
    if matches!(s.kind, Kind::Choice(_)) {
        notes.push(format!("Values: {}.", quoted(&values)));
    }
    if let Kind::Choice(c) = s.kind
        && !c.refused.is_empty()
    {
        notes.push(format!("Refused: {}.", quoted(c.refused)));
    }
    if !s.default.is_empty() {
        notes.push(format!("Default: `{}`.", s.default));
    }
    if !s.special.is_empty() {
        let names: Vec<_> = s.special.iter().map(|p| p.name()).collect();
        notes.push(format!("Set by the presence of {}.", quoted(&names)));
    }
    if !s.aliases.is_empty() {
        notes.push(format!("Old name: {}.", quoted(s.aliases)));
    }
    if !notes.is_empty() {
        let _ = write!(out, "\n{}\n", notes.join(" "));
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// What a value is, in words.
pub fn type_of(s: &Setting) -> &'static str {
    let list = s.is_list();
    match (s.shape, s.kind) {
        (Shape::List(Split::Shell), Kind::Assignment | Kind::Credential) => {
            "A list of assignments separated by white space, with quotes as in a shell"
        }
        (Shape::List(Split::Shell), _) => {
            "A list separated by white space, with quotes as in a shell"
        }
        (Shape::List(Split::Spaces), _) => "A list separated by white space",
        (_, Kind::Bool) => "A boolean",
        (_, Kind::Choice(_)) if list => "A list of names",
        (_, Kind::Choice(_)) => "One of several names",
        (_, Kind::Integer(..) | Kind::SectorSize) => "A whole number",
        (_, Kind::Size) => "A size in bytes, with K, M or G",
        (_, Kind::Mode) => "An access mode in octal",
        (_, Kind::Uuid) => "A UUID or `random`",
        (_, Kind::Tree | Kind::ExistingTree) => "A list of `SOURCE` or `SOURCE:TARGET`",
        (_, Kind::Script) => "A list of programs; patterns are allowed",
        (_, Kind::Path | Kind::ExistingPath) if list => "A list of paths",
        (_, Kind::Path | Kind::ExistingPath) => "A path",
        (_, Kind::Password) => "A password",
        (_, Kind::Version) => "A version",
        (_, Kind::FileName) => "A file name",
        _ if list => "A list",
        _ => "Text",
    }
}

/// The settings of a section that do nothing here.
fn others(out: &mut String, settings: &[&&Setting]) {
    let rows: Vec<String> = settings.iter().filter_map(|s| row(s)).collect();
    if !rows.is_empty() {
        out.push_str("\n| other setting | |\n|---|---|\n");
        out.push_str(&rows.concat());
    }
}

fn row(s: &Setting) -> Option<String> {
    let what = match s.state {
        State::Works => return None,
        State::NoEffect(reason) => format!("accepted, no effect: {reason}"),
        State::Refused([]) => "refused".into(),
        State::Refused(off) => format!("refused, except {}", quoted(off)),
        State::Old(instead) => format!("refused, an old name: {instead}"),
        State::Removed(instead) => format!("gone: {instead}"),
    };
    Some(format!("| `{}=` | {what} |\n", s.name))
}

fn conditions(out: &mut String) {
    out.push_str(
        "\n## [Match], [TriggerMatch], [Assert], [TriggerAssert]\n\n\
A file with `[Match]` is read only if all conditions hold; in a directory's\n\
`mkosi.conf` it decides about the whole directory. `|` before a value makes the\n\
condition a triggering one (one of them must hold), `!` negates it. One of several\n\
`[TriggerMatch]` sections must hold. What fails in `[Assert]` is an error.\n\n\
| condition | holds if |\n|---|---|\n",
    );
    for s in SETTINGS.iter() {
        let Some(kind) = s.matching else { continue };
        let what = match kind {
            MatchKind::Equal => "it has this value at the moment, or by default",
            MatchKind::Contains => "it contains this item",
            MatchKind::Glob => "it is set and matches this shell pattern",
            MatchKind::Version => {
                "it is set and compares so (`==`, `!=`, `<`, `<=`, `>`, `>=`; UAPI version format)"
            }
            MatchKind::Environment => {
                "the variable is set (`NAME`), or has this value (`NAME=VALUE`)"
            }
        };
        let _ = writeln!(out, "| `{}=` | {what} |", s.name);
    }
    out.push_str(
        "| `PathExists=` | the path exists, relative to the directory being read |\n\
| `HostArchitecture=` | this machine has the architecture (`uefi`: any with UEFI) |\n\
| `Image=` | the image has this name; the only one is `main` |\n\
| `BuildSources=` | some source has this place below `$SRCDIR` |\n\
| `SystemdVersion=` | refused |\n",
    );
}

fn specifiers(out: &mut String) {
    out.push_str(
        "\n## Specifiers\n\nIn files, not on the command line. `%%` is a percent sign.\n\n\
| specifier | stands for |\n|---|---|\n",
    );
    for s in SETTINGS.iter() {
        if let Some(c) = s.specifier {
            let _ = writeln!(out, "| `%{c}` | `{}=` at this place |", s.name);
        }
    }
    out.push_str(
        "| `%C` | the directory of the file |\n\
| `%P` | the directory being read |\n\
| `%D` | the project's directory |\n\
| `%F` | the distribution's file system, `ext4` |\n\
| `%I` | the image's name, `main` |\n",
    );
}

fn special_paths(out: &mut String) {
    out.push_str(
        "\n## Special paths\n\nThey are looked for in the project, in directories of\n\
`mkosi.conf.d/` and `mkosi.profiles/`, and in included directories. Nothing of\n\
them is run while configuration is read.\n\n| path | sets |\n|---|---|\n",
    );
    for s in SETTINGS.iter().filter(|s| s.state == State::Works) {
        for special in s.special {
            let _ = writeln!(out, "| `{}` | `{}=` |", special.name(), s.name);
        }
    }
}
