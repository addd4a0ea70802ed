//! B1, B2, B4: the identifiers of boot entries.

use tree::{Tree, TreePath};

use super::finding;
use crate::{Finding, Fix, Outcome, Rule, Subject, Volume};

/// B1.
pub struct EntryToken;

impl Rule for EntryToken {
    fn id(&self) -> &'static str {
        "B1"
    }

    fn title(&self) -> &'static str {
        "/etc/kernel/entry-token names the boot entries"
    }

    fn why(&self) -> &'static str {
        "Without it kernel-install names new entries after the machine ID: a kernel update on \
         a clone would make a second set of entries instead of replacing the first."
    }

    fn looks_at(&self) -> String {
        "/etc/kernel/entry-token".into()
    }

    fn mend(&self) -> &'static str {
        "Write the token that names the entries of the image into it (mkgold's builds do)."
    }

    fn check(&self, subject: &Subject) -> Outcome {
        let modules = TreePath::literal("usr/lib/modules");
        if subject.esp.is_none() || subject.root.children(&modules).next().is_none() {
            return Outcome::NotApplicable;
        }
        let path = os::entry_token::path();
        let text = match subject.root.read(&path, 4096) {
            Some(Ok(text)) => String::from_utf8_lossy(&text).into_owned(),
            Some(Err(e)) => return Outcome::Unknown { reason: format!("{path}: {e}") },
            None => String::new(),
        };
        let token = text.lines().next().unwrap_or_default();
        if os::entry_token::is_valid(token) {
            return Outcome::Passed;
        }
        let message = "is missing, empty or a machine ID";
        Outcome::of(vec![finding(Volume::Root, &path, message, Fix::ByHand)])
    }

    fn places(&self, root: &Tree) -> Vec<TreePath> {
        let place = root.resolve_parent(&os::entry_token::path()).ok();
        place.into_iter().filter(|path| root.contains(path)).collect()
    }
}

/// B2, and B4 in boot entries.
pub struct EntryNames;

impl Rule for EntryNames {
    fn id(&self) -> &'static str {
        "B2"
    }

    fn title(&self) -> &'static str {
        "no boot entry is named after, or carries, a machine ID"
    }

    fn why(&self) -> &'static str {
        "The entry belongs to a machine that no clone is: kernel-install does not find it, and \
         a machine ID on the command line overrides the clone's own."
    }

    fn looks_at(&self) -> String {
        "Names in the ESP, XBOOTLDR, /boot and /efi, and the text of boot entries".into()
    }

    fn mend(&self) -> &'static str {
        "Write the entry-token before the kernel is installed, then make the entries anew."
    }

    fn volumes(&self) -> &'static [Volume] {
        &[Volume::Root, Volume::Esp, Volume::Xbootldr]
    }

    fn check(&self, subject: &Subject) -> Outcome {
        let whole = subject.boot_volumes().map(|(volume, tree)| (volume, tree, TreePath::root()));
        // What lies in the root's own mount points is hidden, or copied to a partition.
        let own = ["boot", "efi"].map(|dir| (Volume::Root, subject.root, TreePath::literal(dir)));
        let places = whole.chain(own);
        Outcome::of(places.flat_map(|(volume, tree, dir)| misnamed(volume, tree, &dir)).collect())
    }

    fn places(&self, root: &Tree) -> Vec<TreePath> {
        let dirs = ["boot", "efi"].map(TreePath::literal);
        dirs.iter().flat_map(|dir| root.subtree(dir)).map(|(path, _, _)| path.clone()).collect()
    }
}

/// B4, in the root: what kernel-install and ukify put on command lines.
pub struct CommandLines;

impl Rule for CommandLines {
    fn id(&self) -> &'static str {
        "B4"
    }

    fn title(&self) -> &'static str {
        "no kernel command line names a machine"
    }

    fn why(&self) -> &'static str {
        "Each kernel that is installed later gets this command line: every clone would have \
         the same machine ID."
    }

    fn looks_at(&self) -> String {
        "/etc/kernel/cmdline, /usr/lib/kernel/cmdline, cmdline.d".into()
    }

    fn mend(&self) -> &'static str {
        "Remove systemd.machine_id= from the file."
    }

    fn check(&self, subject: &Subject) -> Outcome {
        let message = "sets the machine ID of every clone";
        let found = command_lines(subject.root).into_iter().filter(|path| {
            let text = subject.root.read(path, 1 << 20).and_then(Result::ok).unwrap_or_default();
            names_machine(&String::from_utf8_lossy(&text))
        });
        let finding = |path: TreePath| finding(Volume::Root, &path, message, Fix::ByHand);
        Outcome::of(found.map(finding).collect())
    }

    fn places(&self, root: &Tree) -> Vec<TreePath> {
        command_lines(root)
    }
}

fn command_lines(root: &Tree) -> Vec<TreePath> {
    let files = ["etc/kernel/cmdline", "usr/lib/kernel/cmdline"].map(TreePath::literal);
    let dirs = ["etc/cmdline.d", "usr/lib/cmdline.d", "etc/kernel/cmdline.d"];
    let drop_ins = dirs.map(TreePath::literal);
    let mut found: Vec<TreePath> = Vec::new();
    for dir in drop_ins.iter().filter_map(|dir| root.resolve(dir).ok()) {
        found.extend(root.children(&dir).map(|(path, _)| path.clone()));
    }
    let files = files.iter().filter_map(|path| root.resolve(path).ok());
    found.extend(files);
    found.retain(|path| root.contains(path));
    found
}

fn names_machine(text: &str) -> bool {
    text.split_whitespace().any(|word| word.starts_with("systemd.machine_id="))
}

fn misnamed(volume: Volume, tree: &Tree, dir: &TreePath) -> Vec<Finding> {
    let named = tree.subtree(dir).filter(|(path, _, _)| named_after_machine_id(path.name()));
    let message = "is named after a machine ID";
    let mut findings: Vec<_> =
        named.map(|(path, _, _)| finding(volume, path, message, Fix::ByHand)).collect();
    findings.extend(entries_with_machine_id(volume, tree, dir));
    findings
}

/// A run of just 32 hexadecimal digits anywhere in a name.
fn named_after_machine_id(name: &[u8]) -> bool {
    let words = name.split(|b| !b.is_ascii_alphanumeric());
    words.into_iter().any(|word| word.len() == 32 && word.iter().all(u8::is_ascii_hexdigit))
}

fn entries_with_machine_id(volume: Volume, tree: &Tree, dir: &TreePath) -> Vec<Finding> {
    let Ok(dir) = dir.join("loader/entries") else { return Vec::new() };
    let carries = |path: &TreePath| {
        let text = tree.read(path, 1 << 20).and_then(Result::ok).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().any(|l| l.starts_with("machine-id") || names_machine(l))
    };
    tree.children(&dir)
        .filter(|(path, _)| carries(path))
        .map(|(path, _)| finding(volume, path, "carries a machine ID", Fix::ByHand))
        .collect()
}
