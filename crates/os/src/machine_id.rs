//! machine-id(5), and what it says about the next boot (requirements R1, F1).

use tree::{Kind, Meta, Mtime, Node, Tree, TreePath};

use crate::{OsError, read_text};

/// What `/etc/machine-id` holds and therefore means to PID 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// No file: the next boot is a first boot (needs a writable `/etc`).
    Absent,
    /// The text `uninitialized`: first boot, also with `/etc` read-only.
    Uninitialized,
    /// An empty file: an ID is made, but it is **not** a first boot.
    Empty,
    /// An ID: every clone would have it.
    Valid(String),
    /// Anything else; not a first boot.
    Garbage,
}

impl State {
    /// Whether PID 1 takes the next boot for a first boot.
    pub fn is_first_boot(&self) -> bool {
        matches!(self, State::Absent | State::Uninitialized)
    }
}

/// The path of the file.
pub fn path() -> TreePath {
    TreePath::literal("etc/machine-id")
}

/// What the tree's `/etc/machine-id` holds.
pub fn state(tree: &Tree) -> Result<State, OsError> {
    let Some(text) = read_text(tree, &path())? else { return Ok(State::Absent) };
    let line = text.lines().next().unwrap_or_default();
    Ok(match line {
        "uninitialized" if text.len() <= "uninitialized\n".len() => State::Uninitialized,
        "" if text.len() <= 1 => State::Empty,
        id if is_valid(id) => State::Valid(id.to_ascii_lowercase()),
        _ => State::Garbage,
    })
}

/// 32 hexadecimal digits, not all zero.
pub fn is_valid(id: &str) -> bool {
    let hex = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    hex && id.bytes().any(|b| b != b'0')
}

/// Makes the next boot a first boot: the text `uninitialized` (0444, root), which
/// works with `/etc` writable and read-only alike.
pub fn reset(tree: &mut Tree, mtime: Mtime) -> Result<(), OsError> {
    write(tree, b"uninitialized\n", mtime)
}

/// Writes an ID, for configurations that ask for one (`MachineId=`).
pub fn set(tree: &mut Tree, id: &str, mtime: Mtime) -> Result<(), OsError> {
    write(tree, format!("{id}\n").as_bytes(), mtime)
}

fn write(tree: &mut Tree, text: &[u8], mtime: Mtime) -> Result<(), OsError> {
    tree.make_dirs(&TreePath::literal("etc"))?;
    let path = tree.resolve_parent(&path()).map_err(tree::TreeError::from)?;
    let kind = Kind::File(tree::Content::inline(text));
    tree.put(path, Node { meta: Meta::file(0o444).at(mtime), kind })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        let id = "0123456789ABCDEF0123456789abcdef";
        let cases: [(&[u8], State); 8] = [
            (b"uninitialized\n", State::Uninitialized),
            (b"uninitialized", State::Uninitialized),
            (b"", State::Empty),
            (b"\n", State::Empty),
            (id.as_bytes(), State::Valid(id.to_ascii_lowercase())),
            (b"00000000000000000000000000000000\n", State::Garbage),
            (b"uninitialised\n", State::Garbage),
            (b"0123456789abcdef0123456789abcdef00", State::Garbage),
        ];
        for (text, expected) in cases {
            let mut t = Tree::new();
            t.write(&path(), 0o444, text).unwrap();
            assert_eq!(state(&t).unwrap(), expected);
        }
        assert_eq!(state(&Tree::new()).unwrap(), State::Absent);
    }

    #[test]
    fn reset_replaces_whatever_is_there() {
        let mut t = Tree::new();
        t.make_dirs(&TreePath::literal("etc")).unwrap();
        t.add_symlink(path(), "/run/machine-id").unwrap();
        reset(&mut t, Mtime::secs(1)).unwrap();
        assert!(state(&t).unwrap().is_first_boot());
        assert!(t.get(&path()).unwrap().content().is_some(), "the link is gone");
    }
}
