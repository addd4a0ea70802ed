//! Projects out of the settings table: random sections, values, drop-ins, conditions,
//! includes, profiles, local files and arguments. The same seed gives the same
//! project, as long as the table is the same; recorded ones are kept as text.

#![allow(dead_code)]

use config::table::{Choice, Kind, MatchKind, SETTINGS, Setting, Shape, Split, State};

use crate::common::{Node, Project};

/// A small generator of pseudo-random numbers (xorshift64*): no clock, no crate.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }
}

/// What the generator leaves alone, with the reason.
const LEFT_OUT: [(&str, &str); 11] = [
    ("Include", "made by hand below"),
    ("ConfigureScripts", "mkosi would run them"),
    ("Dependencies", "there are no subimages"),
    ("ToolsTree", "mkosi would want the tree"),
    ("MinimumVersion", "most versions end it"),
    ("SourceDateEpoch", "compared in the projects written by hand"),
    ("Passphrase", "the mode of its file counts"),
    ("UnifiedKernelImageProfiles", "files of another kind"),
    ("DelegateRanges", "mkosi fails at an empty one"),
    ("ToolsTreeProfiles", "mkosi's options take a closed set"),
    ("RuntimeTrees", "compared in the projects written by hand"),
];

const TEXTS: [&str; 14] =
    ["a", "b", "abc", "x-1", "1.2", "%d", "%r-%a", "%i", "%v", "%%", "n_%t", "z.z", "\"q\"", "A"];
const PATHS: [&str; 9] =
    ["file.txt", "dir", "./dir/../file.txt", "nope", "dir/x", "%C/dir", "%D/dir", "link", "/etc"];
const EXISTING: [&str; 6] = ["file.txt", "dir", "./dir/../file.txt", "dir/x", "%D/dir", "link"];

fn name(r: &mut Random, pool: &[&str]) -> String {
    r.of(pool).to_string()
}

fn choice(r: &mut Random, c: &Choice) -> String {
    let mut names: Vec<&str> = c.works.iter().chain(c.refused).copied().collect();
    if !c.yes.is_empty() {
        names.extend(["yes", "no", "1", "false"]);
    }
    names.extend(c.aliases.iter().map(|(from, _)| *from));
    name(r, &names)
}

/// One value that is right most of the time.
fn value(r: &mut Random, s: &Setting) -> String {
    if r.one_in(150) {
        return name(r, &["maybe", "-1", "a/../b", "99999999999999999999"]);
    }
    match s.kind {
        Kind::Bool => name(r, &["yes", "no", "true", "0", "On", "never"]),
        Kind::Choice(c) => choice(r, c),
        Kind::Integer(low, high) => {
            let high = high.min(low + 20);
            (low + i64::try_from(r.below(usize::try_from(high - low + 1).unwrap())).unwrap())
                .to_string()
        }
        Kind::Size => name(r, &["1G", "512M", "4097", "1.5G", "3K", "8192"]),
        Kind::SectorSize => name(r, &["512", "4096", "2048"]),
        Kind::Mode => name(r, &["644", "0600", "755"]),
        Kind::Uuid => {
            name(r, &["0A1B2C3D0a1b2c3d4e5f0a1b2c3d4e5f", "0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f"])
        }
        Kind::Path => name(r, &PATHS),
        Kind::ExistingPath if s.name == "EnvironmentFiles" => "%D/file.txt".into(),
        Kind::Key => name(r, &["private", "nope", "%D/private", "pkcs11:x"]),
        Kind::ExistingPath if s.name.ends_with("Key") => "%D/private".into(),
        Kind::ExistingPath => name(r, &EXISTING),
        Kind::Script => name(r, &["%D/script.sh", "%D/scripts/*", "%D/./script.sh", "%D/s.chroot"]),
        Kind::Tree | Kind::ExistingTree => {
            let source = name(r, if s.kind == Kind::Tree { &PATHS } else { &EXISTING });
            let target = name(r, &["/", "/etc", "/a//b", "/x/"]);
            if r.one_in(2) { source } else { format!("{source}:{target}") }
        }
        Kind::Password => name(r, &["secret", "hashed:abc", "hashed:", "a b"]),
        Kind::Assignment => name(r, &["A=1", "B=x", "A=2", "C=", "\"D=x y\"", "E=%d", "FROM_ENV"]),
        Kind::Credential => name(r, &["a=1", "b=x=y", "a=2", "%D/file.txt"]),
        Kind::KeySource => name(r, &["file", "engine:pkcs11", "provider:x", "file:a"]),
        Kind::Release => name(r, &["trixie", "bookworm", "sid", "testing"]),
        Kind::Identifier => name(r, &["a", "b", "abc", "1.2", "v_%d", "x-%r"]),
        Kind::FileName => name(r, &["out", "o_%i", "%r.x", "out.raw"]),
        _ => name(r, &TEXTS),
    }
}

/// A setting's right side: one value, or a list in one of its spellings.
fn right_side(r: &mut Random, s: &Setting) -> String {
    if r.one_in(8) {
        return String::new();
    }
    let Shape::List(split) = s.shape else { return value(r, s) };
    let words: Vec<String> = (0..1 + r.below(3)).map(|_| value(r, s)).collect();
    let separator = match split {
        Split::Commas => r.of(&[",", ", ", " ", "\n    ", "\n\t, "]),
        Split::Colons => ":",
        _ => r.of(&[" ", "  ", "\n    "]),
    };
    words.join(separator)
}

fn usable(s: &Setting) -> bool {
    !matches!(s.state, State::Removed(_)) && LEFT_OUT.iter().all(|(name, _)| *name != s.name)
}

/// A condition's right side.
fn condition(r: &mut Random) -> String {
    let conditions: Vec<&&Setting> = SETTINGS.iter().filter(|s| s.matching.is_some()).collect();
    let (name, wanted) = match r.below(conditions.len() + 4) {
        0 => ("PathExists", name(r, &["file.txt", "nope", "%D/dir", "dir/x"])),
        1 => ("HostArchitecture", name(r, &["x86-64", "arm64"])),
        2 => ("Image", name(r, &["main", "other"])),
        3 => ("BuildSources", name(r, &["kernel", "a/b", "/"])),
        n => {
            let s = conditions[n - 4];
            let wanted = match s.matching.expect("filtered") {
                MatchKind::Glob => name(r, &["a*", "?", "abc", "[a-c]*", "*"]),
                MatchKind::Version => name(r, &[">=1", "<2", "=1.2", "!=1.2", "1.2", ">1.1~rc1"]),
                MatchKind::Environment => name(r, &["A", "A=1", "B=x", "FROM_ENV", "C="]),
                MatchKind::Contains => name(r, &["p1", "p2", "contrib"]),
                MatchKind::Equal => value(r, s),
            };
            (s.name, wanted)
        }
    };
    let pipe = if r.one_in(3) { "|" } else { "" };
    let not = if r.one_in(4) { "!" } else { "" };
    let wanted = if wanted.is_empty() { "a".into() } else { wanted };
    format!("{name}={pipe}{not}{wanted}\n")
}

fn conditions(r: &mut Random, text: &mut String) {
    for _ in 0..1 + r.below(2) {
        let section = r.of(&["Match", "Match", "Match", "TriggerMatch", "TriggerMatch", "Assert"]);
        // An assertion that fails ends it all: one that holds mostly.
        if section == "Assert" {
            text.push_str("[Assert]\nPathExists=|%D/mkosi.conf\n");
            if r.one_in(3) {
                text.push_str("PathExists=|nope\n");
            }
            continue;
        }
        text.push_str(&format!("[{section}]\n"));
        for _ in 0..1 + r.below(2) {
            text.push_str(&condition(r));
        }
    }
}

/// A file of settings.
fn body(r: &mut Random, matching: bool) -> String {
    let mut text = String::new();
    if matching {
        conditions(r, &mut text);
    }
    let settings: Vec<&&Setting> = SETTINGS.iter().filter(|s| usable(s)).collect();
    for _ in 0..1 + r.below(5) {
        // Settings that others are compared with come often.
        let s = match r.below(3) {
            0 => {
                let known: Vec<_> = settings.iter().filter(|s| s.matching.is_some()).collect();
                *known[r.below(known.len())]
            }
            _ => settings[r.below(settings.len())],
        };
        let value = right_side(r, s);
        text.push_str(&format!("[{}]\n{}={value}\n", s.section.as_str(), s.name));
    }
    if r.one_in(6) {
        let path = r.of(&["inc/a.conf", "inc/d", "%D/inc/a.conf", "inc/d inc/a.conf"]);
        text.push_str(&format!("[Include]\nInclude={path}\n"));
        text.push_str("[Content]\nKernelCommandLine=after\n");
    }
    text
}

fn arguments(r: &mut Random) -> Vec<String> {
    let options: Vec<&&Setting> =
        SETTINGS.iter().filter(|s| usable(s) && !s.long.is_empty()).collect();
    let mut args = Vec::new();
    for _ in 0..r.below(4) {
        let s = options[r.below(options.len())];
        // mkosi's options take fewer spellings than its files, and no specifiers.
        let text = match s.kind {
            Kind::Choice(c) => r.of(c.works).to_string(),
            _ => right_side(r, s).replace(['\n', '\t'], " ").replace("%D/", ""),
        };
        args.push(format!("--{}={text}", s.long));
    }
    if r.one_in(3) {
        args.push(format!("--profile={}", r.of(&["p1", "p2", "p1,p2", ""])));
    }
    if r.one_in(12) {
        args.push("--include=inc/a.conf".into());
    }
    args
}

const SPECIAL: [&str; 8] = [
    "mkosi.extra/etc/motd",
    "mkosi.skeleton/a",
    "mkosi.version",
    "mkosi.env",
    "mkosi.repart/10.conf",
    "mkosi.output/",
    "mkosi.cache/",
    "mkosi.packages/",
];

/// The project of this number.
pub fn project(number: u64) -> Project {
    let r = &mut Random(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for _ in 0..4 {
        r.next();
    }
    let mut project = Project { name: format!("generated {number}"), ..Project::default() };
    project.args = arguments(r);
    if project.args.iter().any(|a| a.starts_with("--include")) {
        project.name = format!("generated with --include {number}");
    }
    if r.one_in(2) {
        project.env.insert("FROM_ENV".into(), "from env".into());
    }
    let mut add = |path: &str, text: &str, mode: u32| {
        let path = path.to_string();
        project.nodes.push(match path.strip_suffix('/') {
            Some(directory) => (directory.into(), Node::Directory),
            None => (path, Node::File(text.into(), mode)),
        });
    };
    for path in ["file.txt", "dir/x", "inc/d/mkosi.extra/y"] {
        add(path, "A=file\n", 0o644);
    }
    add("private", "secret\n", 0o600);
    for path in ["script.sh", "s.chroot", "scripts/b", "scripts/a"] {
        add(path, "#!/bin/sh\n", 0o755);
    }
    add("mkosi.conf", &body(r, false), 0o644);
    for path in ["inc/a.conf", "inc/d/mkosi.conf"] {
        let matching = r.one_in(3);
        add(path, &body(r, matching), 0o644);
    }
    let optional = [
        ("mkosi.conf.d/10-a.conf", 2),
        ("mkosi.conf.d/20-b.conf", 2),
        ("mkosi.conf.d/15-dir/mkosi.conf", 3),
        ("mkosi.conf.d/15-dir/mkosi.conf.d/x.conf", 5),
        ("mkosi.local.conf", 5),
        ("mkosi.local/mkosi.conf", 7),
        ("mkosi.profiles/p1.conf", 3),
        ("mkosi.profiles/p2/mkosi.conf", 3),
    ];
    for (path, n) in optional {
        if r.one_in(n) {
            let matching = !r.one_in(3);
            add(path, &body(r, matching), 0o644);
        }
    }
    for path in SPECIAL {
        if r.one_in(12) {
            add(path, if path == "mkosi.version" { "1.2\n" } else { "A=file\n" }, 0o644);
        }
    }
    project.nodes.push(("link".into(), Node::Link("dir".into())));
    project
}
