//! Owners by name: the tree's own `/etc/passwd` and `/etc/group`.
//!
//! Archives carry names beside numbers, and dpkg prefers the name where the system
//! knows it. The system is the image, never the machine that builds.

use std::collections::BTreeMap;

use tree::{Tree, TreePath};

use super::DatabaseError;

const LIMIT: u64 = 16 << 20;

#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

impl Names {
    pub(super) fn load(tree: &Tree) -> Result<Names, DatabaseError> {
        let table = |path: &'static str| {
            let path = TreePath::literal(path);
            let bytes = tree.read(&path, LIMIT).transpose();
            let bytes = bytes.map_err(|source| DatabaseError::Read { path, source })?;
            Ok::<_, DatabaseError>(parse(&String::from_utf8_lossy(&bytes.unwrap_or_default())))
        };
        Ok(Names { users: table("etc/passwd")?, groups: table("etc/group")? })
    }

    pub(crate) fn uid(&self, name: Option<&str>, number: u32) -> u32 {
        name.and_then(|name| self.users.get(name)).copied().unwrap_or(number)
    }

    pub(crate) fn gid(&self, name: Option<&str>, number: u32) -> u32 {
        name.and_then(|name| self.groups.get(name)).copied().unwrap_or(number)
    }

    /// A field of `statoverride`: a name, or `#` and a number.
    pub(super) fn user(&self, text: &str) -> Option<u32> {
        resolve(text, &self.users)
    }

    pub(super) fn group(&self, text: &str) -> Option<u32> {
        resolve(text, &self.groups)
    }
}

fn resolve(text: &str, table: &BTreeMap<String, u32>) -> Option<u32> {
    match text.strip_prefix('#') {
        Some(number) => number.parse().ok(),
        // Root is root before /etc/passwd exists.
        None => table.get(text).copied().or((text == "root").then_some(0)),
    }
}

/// The first entry of a name counts, as it does for the C library.
fn parse(text: &str) -> BTreeMap<String, u32> {
    let mut table = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (name, id) = (fields.next(), fields.nth(1).and_then(|id| id.parse().ok()));
        if let (Some(name), Some(id)) = (name, id) {
            table.entry(name.to_owned()).or_insert(id);
        }
    }
    table
}
