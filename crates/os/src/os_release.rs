//! os-release(5): what the image is. Requirements M1–M3 of the golden image.

use std::collections::BTreeMap;

use tree::{Kind, Meta, Mtime, Node, Tree, TreePath};

use crate::{OsError, env_file, read_text};

/// Where it is looked for, first hit wins entirely.
const PATHS: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

/// The assignments of the tree's os-release; empty if it has none.
pub fn read(tree: &Tree) -> Result<BTreeMap<String, String>, OsError> {
    for path in PATHS {
        if let Some(text) = read_text(tree, &TreePath::literal(path))? {
            return Ok(env_file::parse(&text));
        }
    }
    Ok(BTreeMap::new())
}

/// True for what `ID=` and `IMAGE_ID=` may be: `[a-z0-9._-]+`.
pub fn is_valid_id(id: &str) -> bool {
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    !id.is_empty() && id.chars().all(ok)
}

/// True for what `IMAGE_VERSION=` may be: `[A-Za-z0-9._~^+-]+`.
pub fn is_valid_version(version: &str) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || "._~^+-".contains(c);
    !version.is_empty() && version.chars().all(ok)
}

/// Where `IMAGE_ID=` and `IMAGE_VERSION=` are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// `/etc/os-release` becomes a regular file that extends the distribution's
    /// (the image ships `/etc`).
    Etc,
    /// `/usr/lib/os-release` carries them (the image ships only `/usr`).
    Usr,
}

/// Writes `IMAGE_ID=` and `IMAGE_VERSION=` (M1, M2). With [`Carrier::Etc`] the
/// distribution's file in `/usr/lib` stays as it was, so that a package update
/// does not conflict, and `/etc/os-release` is a copy with the two fields.
pub fn stamp(
    tree: &mut Tree,
    carrier: Carrier,
    image_id: Option<&str>,
    image_version: Option<&str>,
    mtime: Mtime,
) -> Result<(), OsError> {
    let fields = [("IMAGE_ID", image_id), ("IMAGE_VERSION", image_version)];
    let fields: Vec<_> = fields.into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
    if fields.is_empty() {
        return Ok(());
    }
    let usr = TreePath::literal(PATHS[1]);
    let etc = TreePath::literal(PATHS[0]);
    let text = match read_text(tree, &etc)? {
        Some(text) => text,
        None => read_text(tree, &usr)?.unwrap_or_default(),
    };
    let text = fields.iter().fold(text, |text, (key, value)| env_file::set(&text, key, value));
    let path = match carrier {
        Carrier::Etc => etc,
        Carrier::Usr => usr,
    };
    tree.make_dirs(&path.parent().expect("a file in a directory"))?;
    let content = tree::Content::inline(text.into_bytes());
    tree.put(path, Node { meta: Meta::file(0o644).at(mtime), kind: Kind::File(content) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(s: &'static str) -> TreePath {
        TreePath::literal(s)
    }

    fn debian() -> Tree {
        let mut t = Tree::new();
        t.write(&p("usr/lib/os-release"), 0o644, *b"NAME=\"Debian\"\nID=debian\n").unwrap();
        t.make_dirs(&p("etc")).unwrap();
        t.add_symlink(p("etc/os-release"), "../usr/lib/os-release").unwrap();
        t
    }

    #[test]
    fn etc_extends_and_usr_stays() {
        let mut t = debian();
        stamp(&mut t, Carrier::Etc, Some("box"), Some("7"), Mtime::secs(9)).unwrap();
        let etc = t.get(&p("etc/os-release")).unwrap();
        let text = etc.content().unwrap().read(999).unwrap();
        assert_eq!(text, b"NAME=\"Debian\"\nID=debian\nIMAGE_ID=box\nIMAGE_VERSION=7\n");
        assert_eq!(etc.meta.mtime, Mtime::secs(9));
        let usr = t.read(&p("usr/lib/os-release"), 999).unwrap().unwrap();
        assert_eq!(usr, b"NAME=\"Debian\"\nID=debian\n");
        assert_eq!(read(&t).unwrap()["IMAGE_VERSION"], "7");
    }

    #[test]
    fn only_usr_carries_them_itself() {
        let mut t = debian();
        stamp(&mut t, Carrier::Usr, None, Some("7"), Mtime::secs(9)).unwrap();
        assert!(matches!(t.get(&p("etc/os-release")).unwrap().kind, Kind::Symlink(_)));
        assert_eq!(read(&t).unwrap()["IMAGE_VERSION"], "7");
    }

    #[test]
    fn nothing_to_say_changes_nothing() {
        let mut t = debian();
        stamp(&mut t, Carrier::Etc, None, None, Mtime::secs(9)).unwrap();
        assert!(matches!(t.get(&p("etc/os-release")).unwrap().kind, Kind::Symlink(_)));
    }

    #[test]
    fn character_sets() {
        assert!(is_valid_id("my-image_1.0") && !is_valid_id("My") && !is_valid_id(""));
        assert!(is_valid_version("1.0~rc1^x+2") && !is_valid_version("1 0"));
    }
}
