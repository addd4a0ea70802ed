//! tmpfiles.d(5) while an image is built: what `systemd-tmpfiles --root=… --boot
//! --create --remove` makes of a tree that has never booted.
//!
//! [`Declarations::read`] parses the files of a Tree, [`Declarations::plan`] decides the
//! order, [`apply`] carries it out on the Tree: nothing is made outside of it, and equal
//! trees give equal results. What is made is dated with the image's epoch, owned by the
//! users and groups of the image, and inherits set-group-ID bits and default ACLs of its
//! directory as on a live system.
//!
//! What it is not: cleaning by age (nothing is old when an image is built), subvolumes
//! (`v`, `q`, `Q` make directories, as on every file system but btrfs), and file
//! attributes (`h`, `H`: a Tree has none, and that is said). There are no credentials.
//! What only a running machine knows (`%b`, `%H`, `%l`, `%q`, `%v`) cannot be used.

mod argument;
mod line;
mod make;
mod pattern;
mod permissions;
mod place;
mod remove;
pub(crate) mod text;

use std::collections::{BTreeMap, BTreeSet};

use tree::{Mtime, Tree, TreePath};

use crate::accounts::{Accounts, Database};
use crate::{OsError, dropin, os_release};
use argument::Names;
use line::{Item, Read, Reader, Type};
use text::Specifiers;

/// Where declarations are, highest priority first.
const DIRS: [&str; 4] =
    ["etc/tmpfiles.d", "run/tmpfiles.d", "usr/local/lib/tmpfiles.d", "usr/lib/tmpfiles.d"];

/// What the kernel and systemd mount over: nothing is made there. As mkosi.
pub const HIDDEN: [&str; 6] = ["/tmp", "/var/tmp", "/run", "/proc", "/sys", "/dev"];

/// The most lines that count.
const ITEMS_LIMIT: usize = 20_000;
/// The most bytes that all lines have together, specifiers resolved.
const TEXT_LIMIT: usize = 64 << 20;

/// What the lines are read with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// The image's architecture as systemd names it: `%a`.
    pub architecture: Option<&'a str>,
    /// Lines about these paths, and what is below them, do not count.
    pub exclude: &'a [&'a str],
}

/// The lines of a tree that have something to do.
#[derive(Debug, Default)]
pub struct Declarations {
    items: Vec<Item>,
    arrays: Vec<Array>,
    /// What is wrong in lines, each with file, line and column.
    pub warnings: Vec<String>,
    /// How many lines are skipped because they are wrong.
    pub wrong: usize,
    bytes: usize,
}

/// All lines for one path.
#[derive(Debug, Default)]
struct Array {
    path: Vec<u8>,
    items: Vec<usize>,
    parent: Option<usize>,
    children: Vec<usize>,
}

/// Removing comes before making.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Remove,
    Create,
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    phase: Phase,
    item: usize,
}

impl Declarations {
    /// Reads every effective file of the tree.
    pub fn read(tree: &Tree, options: &Options) -> Result<Declarations, OsError> {
        let names = Names {
            users: Accounts::read(tree, Database::Passwd)?,
            groups: Accounts::read(tree, Database::Group)?,
        };
        let specifiers = Specifiers::new(options.architecture, os_release::read(tree)?);
        let (names, specifiers) = (&names, &specifiers);
        let reader = Reader { tree, names, specifiers, exclude: options.exclude };
        let mut declarations = Declarations::default();
        for file in dropin::files(tree, &DIRS, ".conf") {
            let failed = |source| OsError::Read { path: file.clone(), source };
            let text = tree.read(&file, crate::TEXT_LIMIT).transpose().map_err(failed)?;
            for (n, line) in text.iter().flat_map(|t| t.split(|b| *b == b'\n')).enumerate() {
                declarations.line(&reader, line, format!("{file}:{}", n + 1))?;
            }
        }
        declarations.arrange();
        Ok(declarations)
    }

    fn line(&mut self, reader: &Reader, line: &[u8], origin: String) -> Result<(), OsError> {
        let mut notes = Vec::new();
        self.bytes += line.len();
        let indent = line.len() - line.trim_ascii_start().len();
        match reader.line(line, &origin, &mut notes) {
            Read::Nothing => {}
            Read::Item(item) => {
                self.bytes += item.path.len() + item.bytes().map_or(0, <[u8]>::len);
                self.items.push(*item);
            }
            Read::Wrong(wrong) => {
                self.wrong += 1;
                notes.push(wrong);
            }
        }
        let said = notes.iter().map(|w| format!("{origin}:{}: {}", indent + w.column, w.message));
        self.warnings.extend(said);
        match () {
            () if self.items.len() > ITEMS_LIMIT => {
                Err(OsError::Limit { what: "lines of tmpfiles.d", limit: ITEMS_LIMIT })
            }
            () if self.bytes > TEXT_LIMIT => {
                Err(OsError::Limit { what: "bytes of tmpfiles.d", limit: TEXT_LIMIT })
            }
            () => Ok(()),
        }
    }

    /// Groups the lines by path and drops those that an earlier line rules out.
    fn arrange(&mut self) {
        let mut index: [BTreeMap<Vec<u8>, usize>; 2] = Default::default();
        // Lines for paths come before lines for patterns.
        for patterns in [false, true] {
            for (n, item) in self.items.iter().enumerate() {
                if item.ty.is_pattern() != patterns {
                    continue;
                }
                let arrays = &mut self.arrays;
                let at =
                    *index[usize::from(patterns)].entry(item.path.clone()).or_insert_with(|| {
                        arrays.push(Array { path: item.path.clone(), ..Array::default() });
                        arrays.len() - 1
                    });
                let earlier = &mut self.arrays[at].items;
                let fits = |e: &usize| self.items[*e].is_compatible(item);
                let adds = item.more && item.ty == Type::Write;
                if !adds && !earlier.iter().all(fits) {
                    let path = String::from_utf8_lossy(&item.path);
                    let message =
                        format!("{}: {path} has a line already, this is ignored", item.origin);
                    self.warnings.push(message);
                    continue;
                }
                earlier.push(n);
            }
        }
        let items = &self.items;
        for array in &mut self.arrays {
            array.items.sort_by_key(|n| (!items[*n].ty.owns(), items[*n].ty as u8));
        }
        self.link(&index);
    }

    /// Each path knows the next one above it that has lines.
    fn link(&mut self, index: &[BTreeMap<Vec<u8>, usize>; 2]) {
        for at in 0..self.arrays.len() {
            let path = &self.arrays[at].path;
            let slashes = (1..path.len()).rev().filter(|n| path[*n] == b'/');
            let above = slashes.map(|n| &path[..n]);
            let parent = above.into_iter().find_map(|p| index.iter().find_map(|map| map.get(p)));
            if let Some(&parent) = parent {
                self.arrays[at].parent = Some(parent);
                self.arrays[parent].children.push(at);
            }
        }
        for at in 0..self.arrays.len() {
            let mut children = std::mem::take(&mut self.arrays[at].children);
            children.sort_by(|a, b| self.arrays[*a].path.cmp(&self.arrays[*b].path));
            self.arrays[at].children = children;
        }
    }

    /// What is done, in order: removals, with what is below a path before the path, then
    /// what is made, with the path above before what is below.
    pub fn plan(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for phase in [Phase::Remove, Phase::Create] {
            let mut done = BTreeSet::new();
            for at in 0..self.arrays.len() {
                self.visit(at, phase, &mut done, &mut steps);
            }
        }
        steps
    }

    fn visit(&self, at: usize, phase: Phase, done: &mut BTreeSet<usize>, steps: &mut Vec<Step>) {
        if !done.insert(at) {
            return;
        }
        let array = &self.arrays[at];
        match phase {
            Phase::Create => {
                array.parent.into_iter().for_each(|p| self.visit(p, phase, done, steps))
            }
            Phase::Remove => array.children.iter().for_each(|c| self.visit(*c, phase, done, steps)),
        }
        steps.extend(array.items.iter().map(|item| Step { phase, item: *item }));
    }

    /// Whether a line copies `path`, or a directory above it, from the factory.
    pub fn copies(&self, path: &TreePath) -> bool {
        let full = [b"/", path.as_bytes()].concat();
        self.items.iter().filter(|item| item.ty == Type::CopyTree).any(|item| {
            let below = full.strip_prefix(&item.path[..]);
            below.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        })
    }

    /// Whether a line of its own is about `path`: then nobody else removes it.
    pub fn is_about(&self, path: &TreePath) -> bool {
        let full = [b"/", path.as_bytes()].concat();
        self.arrays.iter().any(|array| match self.items[array.items[0]].ty.is_pattern() {
            true => pattern::covers(&array.path, path),
            false => array.path == full,
        })
    }
}

/// Makes and removes what the lines of the tree say. Returns what could not be done.
pub fn apply(
    tree: &mut Tree,
    declarations: &Declarations,
    epoch: Mtime,
) -> Result<Vec<String>, OsError> {
    let mut maker = make::Maker::new(tree, epoch);
    for step in declarations.plan() {
        let item = &declarations.items[step.item];
        match step.phase {
            Phase::Remove => maker.remove(item, declarations)?,
            Phase::Create => maker.create(item)?,
        }
    }
    Ok(maker.failures)
}

#[cfg(test)]
mod tests {
    use super::make::BYTES_LIMIT;
    use super::*;
    use tree::{Kind, Meta, acl};

    fn p(path: &'static str) -> TreePath {
        TreePath::literal(path)
    }

    fn tree(conf: &str) -> Tree {
        let mut t = Tree::new();
        let files = [
            ("usr/lib/tmpfiles.d/a.conf", conf),
            ("usr/lib/os-release", "ID=debian\n"),
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:\n"),
            ("etc/group", "root:x:0:\nadm:x:4:\n"),
        ];
        for (path, text) in files {
            t.write(&TreePath::new(path).unwrap(), 0o644, text.as_bytes()).unwrap();
        }
        t
    }

    /// What is said.
    fn run(t: &mut Tree) -> Vec<String> {
        let options = Options { architecture: Some("x86-64"), exclude: &HIDDEN };
        let declarations = Declarations::read(t, &options).unwrap();
        let failures = apply(t, &declarations, Mtime::secs(9)).unwrap();
        [declarations.warnings, failures].concat()
    }

    fn said(conf: &str) -> String {
        run(&mut tree(conf)).join("\n")
    }

    #[test]
    fn a_line_of_each_type() {
        let mut t = tree(
            "d /d 2750 - adm\nf /d/f 0640 - - - x%o\nL /l - - - - d\np /p\n\
             c /c - - - - 1:3\nC /copy - :alice - - /usr/lib/os-release\nw+ /etc/group - - - - more\n\
             r! /gone\nR /all\nz /d/f 0600\nt /d - - - - user.a=b\n\
             a+ /d - - - - d:group:adm:r-x,group:adm:rwx\nL /etc/mtab - - - - ../proc/self/mounts\n",
        );
        t.write(&p("gone"), 0o644, *b"").unwrap();
        t.write(&p("all/of/it"), 0o644, *b"").unwrap();
        assert_eq!(run(&mut t), Vec::<String>::new());
        let dir = &t.get(&p("d")).unwrap().meta;
        assert_eq!((dir.mode, dir.uid, dir.gid, dir.mtime), (0o2770, 0, 4, Mtime::secs(9)));
        assert_eq!(dir.xattrs[&b"user.a"[..]], b"b");
        let entry = |tag, id, perm| acl::Entry { tag, id, perm };
        let access = acl::parse(&dir.xattrs[acl::ACCESS]).unwrap();
        let none = acl::NO_ID;
        let wanted = [
            entry(acl::USER_OBJ, none, 7),
            entry(acl::GROUP_OBJ, none, 5),
            entry(acl::GROUP, 4, 7),
            entry(acl::MASK, none, 7),
            entry(acl::OTHER, none, 0),
        ];
        assert_eq!(access, wanted);
        let file = t.get(&p("d/f")).unwrap();
        assert_eq!((file.meta.mode, file.meta.gid), (0o600, 4), "the directory's group");
        assert_eq!(t.read(&p("d/f"), 99).unwrap().unwrap(), b"xdebian");
        assert!(matches!(&t.get(&p("l")).unwrap().kind, Kind::Symlink(to) if **to == *b"d"));
        assert!(matches!(t.get(&p("p")).unwrap().kind, Kind::Fifo));
        assert!(matches!(&t.get(&p("c")).unwrap().kind, Kind::CharDev(d) if d.minor == 3));
        assert_eq!(t.get(&p("copy")).unwrap().meta.uid, 1000);
        assert!(t.read(&p("etc/group"), 99).unwrap().unwrap().ends_with(b"adm:x:4:\nmore"));
        assert!(!t.contains(&p("gone")) && !t.contains(&p("all")));
    }

    #[test]
    fn files_have_precedence_and_masks() {
        let mut t = tree("d /from-usr\n");
        t.write(&p("etc/tmpfiles.d/a.conf"), 0o644, *b"d /from-etc\n").unwrap();
        t.write(&p("usr/lib/tmpfiles.d/b.conf"), 0o644, *b"d /masked\n").unwrap();
        t.add_symlink(p("etc/tmpfiles.d/b.conf"), "/dev/null").unwrap();
        assert_eq!(run(&mut t), Vec::<String>::new());
        assert!(t.contains(&p("from-etc")));
        assert!(!t.contains(&p("from-usr")) && !t.contains(&p("masked")));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let cases = [
            ("f", "1:1: a line needs a type and a path"),
            ("\n k /x", "2:2: unknown type 'k'"),
            ("d  relative", "1:4: path 'relative' is not absolute"),
            ("d /x 0888", "1:6: '0888' is not a mode"),
            ("d /x - nobody", "1:8: the image has no user 'nobody'"),
            ("d /x - - - 1fortnight", "1:12: '1fortnight' is not an age"),
            ("w /x", "1:1: 'w' needs an argument"),
            ("c /x - - - - 1", "1:14: '1' is not MAJOR:MINOR"),
            ("d /x\nd /x 0700", "2: /x has a line already, this is ignored"),
            ("d /etc/passwd/x", "1: /etc/passwd is not a directory"),
            ("d /%z", "1:3: unknown specifier '%z'"),
        ];
        for (conf, wanted) in cases {
            assert_eq!(said(conf), format!("/usr/lib/tmpfiles.d/a.conf:{wanted}"), "{conf}");
        }
    }

    #[test]
    fn what_belongs_to_a_running_machine_is_not_made() {
        for specifier in ["%b", "%H", "%l", "%q", "%v"] {
            let mut t = tree(&format!("d /x{specifier}\nf /y - - - - {specifier}\n"));
            let before = t.len();
            assert_eq!(run(&mut t).len(), 2, "{specifier}");
            assert_eq!(t.len(), before, "{specifier}");
        }
        let mut t = tree("d /x%m\nx /y%b\nd /run/%b\nf^ /etc/motd - - - - login.motd\n");
        t.write(&p("etc/machine-id"), 0o444, *b"0123456789abcdef0123456789abcdef\n").unwrap();
        let before = t.len();
        assert_eq!(run(&mut t), Vec::<String>::new());
        assert_eq!(t.len(), before, "an identity is in no path");
    }

    #[test]
    fn nothing_is_made_outside_of_the_tree() {
        let mut t = tree(
            "f /up/x - - - - x\nf /abs/y\nw /out - - - - z\nC /copy - - - - /abs/y\nd /a/../../b\n\
             d %S/state\n",
        );
        t.make_dirs(&p("srv")).unwrap();
        t.write(&p("srv/y"), 0o644, *b"").unwrap();
        t.write(&p("target"), 0o644, *b"").unwrap();
        for (link, to) in [("up", "../../../srv"), ("abs", "/srv"), ("out", "/../../target")] {
            t.add_symlink(p(link), to).unwrap();
        }
        let said = run(&mut t).join("\n");
        assert!(said.contains("'..'") && said.lines().count() == 1, "{said}");
        assert!(
            t.contains(&p("srv/x")) && t.contains(&p("copy")) && t.contains(&p("var/lib/state"))
        );
        assert_eq!(t.read(&p("target"), 9).unwrap().unwrap(), b"z");
    }

    #[test]
    fn somebody_s_directory_does_not_lead_to_somebody_else_s() {
        let conf = "d /home 0755 alice\nd /home/roots 0755 root\nf /home/roots/x\n";
        assert!(said(conf).contains(":3: unsafe: /home belongs to user 1000"), "{}", said(conf));
    }

    #[test]
    fn what_cannot_be_kept_is_said() {
        assert_eq!(said("d /x\nh /x - - - - +C\n"), "");
        assert!(said("d /x\nh /x - - - - +i\n").contains("not kept in an image"));
        assert!(said("p /x\nt /x - - - - user.a=b\n").contains("for files and directories only"));
        assert!(said("f /x\nt /x - - - - bad=b\n").contains("has no namespace"));
    }

    #[test]
    fn limits_end_everything() {
        let content = "y".repeat(1 << 20);
        let mut t = tree(&format!("w /x/* - - - - {content}\n"));
        for n in 0..=BYTES_LIMIT >> 20 {
            t.write(&TreePath::new(format!("x/{n}")).unwrap(), 0o644, *b"").unwrap();
        }
        let declarations = Declarations::read(&t, &Options::default()).unwrap();
        let error = apply(&mut t, &declarations, Mtime::secs(1)).unwrap_err();
        assert!(error.to_string().contains("bytes written by tmpfiles.d"), "{error}");
        let lines: String = (0..7).map(|n| format!("f /{n} - - - - {content}\n")).collect();
        for n in 0..10 {
            let path = TreePath::new(format!("usr/lib/tmpfiles.d/b{n}.conf")).unwrap();
            t.write(&path, 0o644, lines.as_bytes()).unwrap();
        }
        let error = Declarations::read(&t, &Options::default()).unwrap_err();
        assert!(error.to_string().contains("bytes of tmpfiles.d"), "{error}");
        let many: String = (0..=ITEMS_LIMIT).map(|n| format!("d /{n}\n")).collect();
        let error = Declarations::read(&tree(&many), &Options::default()).unwrap_err();
        assert!(error.to_string().contains("lines of tmpfiles.d"), "{error}");
    }

    #[test]
    fn copies_do_not_grow_without_end() {
        let mut t = tree("C /usr/copy - - - - /usr\n");
        assert_eq!(run(&mut t), Vec::<String>::new());
        assert!(t.contains(&p("usr/copy/lib/os-release")) && !t.contains(&p("usr/copy/copy")));
        // Each line doubles what is there.
        let lines: String = (0..30).map(|n| format!("C /usr/{n} - - - - /usr\n")).collect();
        let mut t = tree(&lines);
        t.add(p("usr/0"), tree::Node { meta: Meta::dir(), kind: Kind::Dir }).unwrap();
        let declarations = Declarations::read(&t, &Options::default()).unwrap();
        let error = apply(&mut t, &declarations, Mtime::secs(1)).unwrap_err();
        assert!(error.to_string().contains("files made by tmpfiles.d"), "{error}");
    }
}
