//! Reading the database from a Tree.

use debian::deb822::{Paragraph, Paragraphs};
use tree::{Tree, TreePath};

use super::names::Names;
use super::{
    Conffile, DIR, Database, DatabaseError, Diversion, Id, Installed, StatOverride, State,
};
use crate::{Control, ControlError};

/// The largest file of the database that is read: all of Debian installed at once
/// has a status of 120 MiB.
const LIMIT: u64 = 512 << 20;

/// The fields of a stanza that are dpkg's and not the package's.
const DATABASE_FIELDS: [&str; 5] =
    ["Status", "Config-Version", "Conffiles", "Triggers-Pending", "Triggers-Awaited"];

impl Database {
    /// Reads the database of `tree`, whose architecture is `native`. A tree
    /// without one has an empty one.
    pub fn load(tree: &Tree, native: &str) -> Result<Database, DatabaseError> {
        let mut database = Database::new(native);
        check_journal(tree)?;
        database.names = Names::load(tree)?;
        if let Some(bytes) = read(tree, "status")? {
            database.read_status(tree, &bytes)?;
            database.status = bytes;
        }
        database.read_diversions(tree)?;
        database.read_overrides(tree)?;
        database.read_triggers(tree)?;
        Ok(database)
    }

    fn read_status(&mut self, tree: &Tree, bytes: &[u8]) -> Result<(), DatabaseError> {
        let syntax = |e: debian::deb822::Error| DatabaseError::Syntax {
            path: file("status"),
            line: e.line,
            reason: e.kind.to_string(),
        };
        let text = std::str::from_utf8(bytes).map_err(|_| DatabaseError::Syntax {
            path: file("status"),
            line: 0,
            reason: "not UTF-8 text".into(),
        })?;
        // dpkg separates stanzas by one empty line, so each is its text.
        for stanza in text.split_inclusive("\n\n") {
            let mut paragraph = Paragraph::default();
            if !Paragraphs::new(stanza).read_into(&mut paragraph).map_err(syntax)? {
                continue;
            }
            self.add_stanza(tree, &paragraph, stanza).map_err(|e| match e {
                Failure::Stanza(source) => DatabaseError::Stanza {
                    path: file("status"),
                    package: paragraph.get("Package").unwrap_or("?").to_owned(),
                    source,
                },
                Failure::Other(e) => e,
            })?;
        }
        Ok(())
    }

    fn add_stanza(
        &mut self,
        tree: &Tree,
        paragraph: &Paragraph<'_>,
        stanza: &str,
    ) -> Result<(), Failure> {
        let mut raw = stanza.trim_end_matches('\n').to_owned();
        raw.push_str("\n\n");
        let field = |name: &str| paragraph.get(name).unwrap_or_default();
        let words: Vec<&str> = field("Status").split_ascii_whitespace().collect();
        let [want, error, state] = words[..] else {
            return Err(bad("Status", "not three words").into());
        };
        let state = State::parse(state).ok_or_else(|| bad("Status", "an unknown state"))?;
        if state == State::NotInstalled {
            let id = Id {
                name: field("Package").to_owned(),
                architecture: field("Architecture").to_owned(),
            };
            self.others.insert(id, raw);
            return Ok(());
        }
        let control = Control::from_fields(
            paragraph
                .fields()
                .iter()
                .filter(|f| !DATABASE_FIELDS.iter().any(|d| d.eq_ignore_ascii_case(f.name)))
                .map(|f| (f.name.to_owned(), f.value.clone().into_owned()))
                .collect(),
        )?;
        let list = read_list(tree, &control)?;
        let list_words =
            |name: &str| field(name).split_ascii_whitespace().map(str::to_owned).collect();
        self.insert(Installed {
            want: want.to_owned(),
            error: error.to_owned(),
            state,
            config_version: paragraph.get("Config-Version").map(str::to_owned),
            conffiles: parse_conffiles(field("Conffiles"))?,
            triggers_pending: list_words("Triggers-Pending"),
            triggers_awaited: list_words("Triggers-Awaited"),
            control,
            list,
            raw: Some(raw),
            list_changed: false,
            sums: None,
            package: None,
        });
        Ok(())
    }

    fn read_diversions(&mut self, tree: &Tree) -> Result<(), DatabaseError> {
        let lines = lines(tree, "diversions")?;
        if lines.len() % 3 != 0 {
            return Err(syntax("diversions", lines.len(), "the last diversion is incomplete"));
        }
        for (i, group) in lines.chunks_exact(3).enumerate() {
            let path = |j: usize| {
                absolute(&group[j]).ok_or_else(|| syntax("diversions", 3 * i + j + 1, "not a path"))
            };
            let package = Some(group[2].clone()).filter(|package| package != ":");
            self.diversions.push(Diversion { from: path(0)?, to: path(1)?, package });
        }
        Ok(())
    }

    fn read_overrides(&mut self, tree: &Tree) -> Result<(), DatabaseError> {
        for (i, line) in lines(tree, "statoverride")?.iter().enumerate() {
            let bad = |reason: &str| syntax("statoverride", i + 1, reason);
            let mut words = line.splitn(4, ' ');
            let mut word = || words.next().ok_or_else(|| bad("not four fields"));
            let uid = self.names.user(word()?).ok_or_else(|| bad("an unknown user"))?;
            let gid = self.names.group(word()?).ok_or_else(|| bad("an unknown group"))?;
            let mode = u16::from_str_radix(word()?, 8).ok().filter(|mode| *mode <= 0o7777);
            let mode = mode.ok_or_else(|| bad("not an octal mode"))?;
            let path = absolute(word()?).ok_or_else(|| bad("not a path"))?;
            self.overrides.insert(path, StatOverride { uid, gid, mode });
        }
        Ok(())
    }

    fn read_triggers(&mut self, tree: &Tree) -> Result<(), DatabaseError> {
        let Ok(dir) = tree.resolve(&file("triggers")) else { return Ok(()) };
        let names: Vec<String> = tree
            .children(&dir)
            .filter_map(|(path, _)| String::from_utf8(path.name().to_vec()).ok())
            .collect();
        for name in names {
            let path = format!("triggers/{name}");
            let text = || Ok::<_, DatabaseError>(read(tree, &path)?.unwrap_or_default());
            match name.as_str() {
                "Lock" => {}
                "Unincorp" if text()?.is_empty() => {}
                "Unincorp" => return Err(DatabaseError::Interrupted(file(&path))),
                "File" => self
                    .triggers
                    .read_files(&String::from_utf8_lossy(&text()?))
                    .map_err(|(line, reason)| syntax(&path, line, &reason))?,
                _ => self.triggers.read_named(&name, &String::from_utf8_lossy(&text()?)),
            }
        }
        Ok(())
    }
}

/// A stanza is at fault, or something else.
enum Failure {
    Stanza(ControlError),
    Other(DatabaseError),
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Failure::Stanza(error)
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Failure::Other(error)
    }
}

pub(super) fn file(name: &str) -> TreePath {
    TreePath::new(format!("{DIR}/{name}")).expect("names in the database are checked")
}

fn read(tree: &Tree, name: &str) -> Result<Option<Vec<u8>>, DatabaseError> {
    let path = file(name);
    tree.read(&path, LIMIT).transpose().map_err(|source| DatabaseError::Read { path, source })
}

fn lines(tree: &Tree, name: &str) -> Result<Vec<String>, DatabaseError> {
    let bytes = read(tree, name)?.unwrap_or_default();
    let text = String::from_utf8(bytes).map_err(|_| syntax(name, 0, "not UTF-8 text"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn syntax(name: &str, line: usize, reason: &str) -> DatabaseError {
    DatabaseError::Syntax { path: file(name), line, reason: reason.to_owned() }
}

fn bad(field: &str, reason: &str) -> ControlError {
    ControlError::Field { field: field.into(), reason: reason.into() }
}

fn absolute(path: &str) -> Option<TreePath> {
    path.starts_with('/').then(|| TreePath::new(path).ok())?
}

/// dpkg writes changes to `updates/` first; numbered files there are changes that
/// `status` does not have yet.
fn check_journal(tree: &Tree) -> Result<(), DatabaseError> {
    let Ok(dir) = tree.resolve(&file("updates")) else { return Ok(()) };
    let is_number = |path: &TreePath| path.name().iter().all(u8::is_ascii_digit);
    match tree.children(&dir).find(|(path, _)| is_number(path)) {
        Some((path, _)) => Err(DatabaseError::Interrupted(path.clone())),
        None => Ok(()),
    }
}

fn read_list(tree: &Tree, control: &Control) -> Result<Vec<TreePath>, DatabaseError> {
    let name = format!("info/{}.list", control.info_name());
    let bytes = read(tree, &name)?.unwrap_or_default();
    let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines
        .enumerate()
        .map(|(i, line)| TreePath::new(line).map_err(|e| syntax(&name, i + 1, &e.to_string())))
        .collect()
}

fn parse_conffiles(value: &str) -> Result<Vec<Conffile>, ControlError> {
    let lines = value.lines().map(str::trim_ascii).filter(|line| !line.is_empty());
    lines
        .map(|line| conffile(line).ok_or_else(|| bad("Conffiles", "a path without a hash")))
        .collect()
}

/// `/path with blanks HASH [obsolete] [remove-on-upgrade]`.
fn conffile(line: &str) -> Option<Conffile> {
    let flags = |word: &str| matches!(word, "obsolete" | "remove-on-upgrade");
    let mut end = line.len();
    loop {
        let at = line[..end].rfind(' ')?;
        if !flags(&line[at + 1..end]) {
            return Some(Conffile { path: line[..at].into(), rest: line[at + 1..].into() });
        }
        end = at;
    }
}
