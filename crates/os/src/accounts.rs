//! The account files: passwd(5), group(5), shadow(5), gshadow(5).
//!
//! A file is a list of lines; those that are accounts can be looked up and
//! changed, everything else (comments, NIS lines) stays where it is.

use tree::{Content, Kind, Meta, Mtime, Node, Tree, TreePath};

use crate::{OsError, read_text};

/// Which of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// `name:x:uid:gid:gecos:home:shell`
    Passwd,
    /// `name:hash:changed:min:max:warn:inactive:expire:`
    Shadow,
    /// `name:x:gid:members`
    Group,
    /// `name:hash:admins:members`
    Gshadow,
}

impl Database {
    /// Its path.
    pub fn path(self) -> TreePath {
        TreePath::literal(match self {
            Database::Passwd => "etc/passwd",
            Database::Shadow => "etc/shadow",
            Database::Group => "etc/group",
            Database::Gshadow => "etc/gshadow",
        })
    }

    /// The mode of a new file.
    fn mode(self) -> u16 {
        match self {
            Database::Passwd | Database::Group => 0o644,
            Database::Shadow | Database::Gshadow => 0o000,
        }
    }

    fn fields(self) -> usize {
        match self {
            Database::Passwd => 7,
            Database::Shadow => 9,
            Database::Group | Database::Gshadow => 4,
        }
    }
}

/// One of the four files in memory.
#[derive(Debug, Clone)]
pub struct Accounts {
    database: Database,
    exists: bool,
    lines: Vec<Vec<String>>,
}

impl Accounts {
    /// Reads the file; a missing one is empty.
    pub fn read(tree: &Tree, database: Database) -> Result<Accounts, OsError> {
        let text = read_text(tree, &database.path())?;
        let split = |line: &str| line.split(':').map(str::to_owned).collect();
        let lines = text.iter().flat_map(|t| t.lines()).map(split).collect();
        Ok(Accounts { database, exists: text.is_some(), lines })
    }

    /// Whether the file was there.
    pub fn exists(&self) -> bool {
        self.exists
    }

    fn is_account(&self, line: &[String]) -> bool {
        line.len() == self.database.fields() && !line[0].starts_with(['+', '-', '#'])
    }

    /// The accounts, in file order.
    pub fn iter(&self) -> impl Iterator<Item = &[String]> {
        self.lines.iter().filter(|l| self.is_account(l)).map(Vec::as_slice)
    }

    /// The account called `name`.
    pub fn get(&self, name: &str) -> Option<&[String]> {
        self.iter().find(|fields| fields[0] == name)
    }

    /// The account called `name`, for changing.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Vec<String>> {
        let index = self.lines.iter().position(|l| self.is_account(l) && l[0] == name)?;
        Some(&mut self.lines[index])
    }

    /// The account whose third field (uid or gid) is `id`.
    pub fn by_id(&self, id: u32) -> Option<&[String]> {
        self.iter().find(|fields| fields[2].parse() == Ok(id))
    }

    /// Adds an account: before the NIS lines, which must stay last.
    pub fn add(&mut self, fields: Vec<String>) {
        let nis = |l: &Vec<String>| l[0].starts_with(['+', '-']);
        let at = self.lines.iter().position(nis).unwrap_or(self.lines.len());
        self.lines.insert(at, fields);
    }

    /// Writes the file: mode and owner of an existing one are kept.
    pub fn write(&self, tree: &mut Tree, mtime: Mtime) -> Result<(), OsError> {
        let mut text = String::new();
        for line in &self.lines {
            text.push_str(&line.join(":"));
            text.push('\n');
        }
        let path = tree.resolve(&self.database.path()).map_err(tree::TreeError::from)?;
        let content = Content::inline(text.into_bytes());
        if let Some(node) = tree.get_mut(&path) {
            node.kind = Kind::File(content);
            node.meta.mtime = mtime;
            return Ok(());
        }
        tree.make_dirs(&path.parent().expect("a file in /etc"))?;
        let meta = Meta::file(self.database.mode()).at(mtime);
        tree.add(path, Node { meta, kind: Kind::File(content) })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_no_account_and_nis_last() {
        let mut t = Tree::new();
        let path = Database::Passwd.path();
        let text = b"root:x:0:0:root:/root:/bin/sh\n# c\nbroken\n+@nis::::::\n";
        t.write(&path, 0o600, *text).unwrap();
        let mut accounts = Accounts::read(&t, Database::Passwd).unwrap();
        assert_eq!(accounts.iter().count(), 1);
        assert_eq!(accounts.by_id(0).unwrap()[0], "root");
        accounts.get_mut("root").unwrap()[6] = "/bin/bash".into();
        accounts.add("a:x:5:5:::".split(':').map(str::to_owned).collect());
        accounts.write(&mut t, Mtime::secs(4)).unwrap();
        let text = t.read(&path, 999).unwrap().unwrap();
        let expected = "root:x:0:0:root:/root:/bin/bash\n# c\nbroken\na:x:5:5:::\n+@nis::::::\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
        assert_eq!(t.get(&path).unwrap().meta.mode, 0o600);
    }

    #[test]
    fn a_new_shadow_is_unreadable() {
        let mut t = Tree::new();
        let accounts = Accounts::read(&t, Database::Shadow).unwrap();
        assert!(!accounts.exists());
        accounts.write(&mut t, Mtime::secs(4)).unwrap();
        assert_eq!(t.get(&Database::Shadow.path()).unwrap().meta.mode, 0);
    }
}
