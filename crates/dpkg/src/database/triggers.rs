//! Triggers: who is interested in what (deb-triggers(5)).
//!
//! `triggers/File` has `PATH PACKAGE` lines for paths; any other trigger has a
//! file of its own name with a `PACKAGE` in each line. `/noawait` after a package
//! says that whoever activates the trigger need not wait for it.

use std::collections::BTreeMap;

use tree::TreePath;

/// Whether the activating package waits until the trigger is processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Await {
    Yes,
    No,
}

impl Await {
    fn suffix(self) -> &'static str {
        match self {
            Await::Yes => "",
            Await::No => "/noawait",
        }
    }
}

/// A line of a package's `triggers` control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Directive {
    Interest {
        trigger: String,
        awaits: Await,
    },
    /// Whether it awaits does not matter here: dpkg activates these before the
    /// package counts as there, and what is not there awaits nothing.
    Activate {
        trigger: String,
    },
}

/// A package and its kind of interest.
pub(super) type Interest = (String, Await);

#[derive(Debug, Clone, Default)]
pub(super) struct Triggers {
    /// In the order of the file, which is that of registration.
    files: Vec<(TreePath, Interest)>,
    by_path: BTreeMap<Box<[u8]>, Vec<Interest>>,
    named: BTreeMap<String, Vec<Interest>>,
    files_changed: bool,
    named_changed: std::collections::BTreeSet<String>,
}

impl Triggers {
    pub(super) fn add_interest(&mut self, trigger: &str, package: &str, awaits: Await) {
        let interest = (package.to_owned(), awaits);
        let Some(path) = path_of(trigger) else {
            let interested = self.named.entry(trigger.to_owned()).or_default();
            interested.retain(|(p, _)| p != package);
            interested.push(interest);
            self.named_changed.insert(trigger.to_owned());
            return;
        };
        self.files_changed = true;
        self.insert_file(path, interest);
    }

    fn insert_file(&mut self, path: TreePath, interest: Interest) {
        let same = |(p, (name, _)): &&mut (TreePath, Interest)| *p == path && *name == interest.0;
        match self.files.iter_mut().find(same) {
            Some((_, known)) => *known = interest.clone(),
            None => self.files.push((path.clone(), interest.clone())),
        }
        let interested = self.by_path.entry(path.as_bytes().into()).or_default();
        interested.retain(|(name, _)| *name != interest.0);
        interested.push(interest);
    }

    pub(super) fn interested(&self, trigger: &str) -> &[Interest] {
        match path_of(trigger) {
            Some(path) => self.interested_in_path(path.as_bytes()),
            None => self.named.get(trigger).map_or(&[], Vec::as_slice),
        }
    }

    pub(super) fn interested_in_path(&self, path: &[u8]) -> &[Interest] {
        self.by_path.get(path).map_or(&[], Vec::as_slice)
    }

    pub(super) fn has_no_files(&self) -> bool {
        self.by_path.is_empty()
    }

    /// Reads `triggers/File`; the line number of the first bad line otherwise.
    pub(super) fn read_files(&mut self, text: &str) -> Result<(), (usize, String)> {
        for (i, line) in text.lines().enumerate() {
            let bad = |reason: &str| (i + 1, reason.to_owned());
            let (path, package) = line.rsplit_once(' ').ok_or_else(|| bad("no package"))?;
            let path = path_of(path).ok_or_else(|| bad("not an absolute path"))?;
            self.insert_file(path, interest(package));
        }
        Ok(())
    }

    /// Reads the file of a named trigger.
    pub(super) fn read_named(&mut self, trigger: &str, text: &str) {
        let lines = text.lines().filter(|line| !line.is_empty());
        self.named.insert(trigger.to_owned(), lines.map(interest).collect());
    }

    /// `triggers/File`, if it changed.
    pub(super) fn file_text(&self) -> Option<String> {
        let line = |(path, (package, awaits)): &(TreePath, Interest)| -> String {
            format!("{path} {package}{}\n", awaits.suffix())
        };
        self.files_changed.then(|| self.files.iter().map(line).collect())
    }

    /// The files of named triggers that changed.
    pub(super) fn named_texts(&self) -> impl Iterator<Item = (&str, String)> {
        self.named_changed.iter().map(|trigger| {
            let interested = self.named.get(trigger).into_iter().flatten();
            let line = |(package, awaits): &Interest| format!("{package}{}\n", awaits.suffix());
            (trigger.as_str(), interested.map(line).collect())
        })
    }

    pub(super) fn written(&mut self) {
        self.files_changed = false;
        self.named_changed.clear();
    }
}

fn interest(text: &str) -> Interest {
    match text.strip_suffix("/noawait") {
        Some(package) => (package.to_owned(), Await::No),
        None => (text.to_owned(), Await::Yes),
    }
}

fn path_of(trigger: &str) -> Option<TreePath> {
    trigger.starts_with('/').then(|| TreePath::new(trigger).ok())?
}

/// Parses a `triggers` control file; what is wrong with the first bad line.
pub(crate) fn parse_directives(text: &str) -> Result<Vec<Directive>, String> {
    let mut directives = Vec::new();
    for line in text.lines() {
        let line = line.trim_ascii();
        if line.starts_with('#') {
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        let Some(word) = words.next() else { continue };
        let (Some(trigger), None) = (words.next(), words.next()) else {
            return Err(format!("“{line}” is not a directive and a trigger"));
        };
        // The name becomes a file name in the database.
        let named = trigger.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        let reserved = matches!(trigger, "File" | "Lock" | "Unincorp" | "." | "..");
        if !(path_of(trigger).is_some() || (named && !reserved)) || trigger.len() > 255 {
            return Err(format!("“{trigger}” cannot be the name of a trigger"));
        }
        let trigger = trigger.to_owned();
        directives.push(match word {
            "interest" | "interest-await" => Directive::Interest { trigger, awaits: Await::Yes },
            "interest-noawait" => Directive::Interest { trigger, awaits: Await::No },
            "activate" | "activate-await" | "activate-noawait" => Directive::Activate { trigger },
            _ => return Err(format!("“{word}” is not a directive for triggers")),
        });
    }
    Ok(directives)
}
