//! `/etc/kernel/entry-token`: the name of the boot entries (requirement B1).
//!
//! Without it kernel-install names entries after the machine ID, which a golden
//! image does not have. Order: the configuration, else `IMAGE_ID=`, else `ID=`.

use tree::{Kind, Meta, Mtime, Node, Tree, TreePath};

use crate::{OsError, os_release};

/// The path of the file.
pub fn path() -> TreePath {
    TreePath::literal("etc/kernel/entry-token")
}

/// The token: `configured`, else `image_id`, else the tree's `IMAGE_ID=` or `ID=`,
/// else `distribution` (before any package is there to say).
pub fn choose(
    tree: &Tree,
    configured: Option<&str>,
    image_id: Option<&str>,
    distribution: &str,
) -> Result<String, OsError> {
    let release = os_release::read(tree)?;
    let from = |key: &str| release.get(key).filter(|v| os_release::is_valid_id(v)).cloned();
    let token = configured.or(image_id).map(str::to_owned);
    let token = token.or_else(|| from("IMAGE_ID")).or_else(|| from("ID"));
    let token = token.unwrap_or_else(|| distribution.to_owned());
    match is_valid(&token) {
        true => Ok(token),
        false => Err(OsError::Value {
            setting: "entry token",
            value: token,
            message: "must be usable as a file name in the ESP: letters, digits and . _ - +".into(),
        }),
    }
}

/// A safe file name that a boot loader entry may have (`[A-Za-z0-9+._-]`), and
/// not a machine ID (B2).
pub fn is_valid(token: &str) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || "+._-".contains(c);
    let name = !token.is_empty() && token.len() <= 128 && !matches!(token, "." | "..");
    name && token.chars().all(ok) && !crate::machine_id::is_valid(token)
}

/// Writes the token, before the package manager runs.
pub fn write(tree: &mut Tree, token: &str, mtime: Mtime) -> Result<(), OsError> {
    tree.make_dirs(&TreePath::literal("etc/kernel"))?;
    let kind = Kind::File(tree::Content::inline(format!("{token}\n").into_bytes()));
    tree.put(path(), Node { meta: Meta::file(0o644).at(mtime), kind })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_precedence() {
        let mut t = Tree::new();
        assert_eq!(choose(&t, None, None, "debian").unwrap(), "debian");
        t.write(&TreePath::literal("etc/os-release"), 0o644, *b"ID=devuan\n").unwrap();
        assert_eq!(choose(&t, None, None, "debian").unwrap(), "devuan");
        assert_eq!(choose(&t, None, Some("box"), "debian").unwrap(), "box");
        assert_eq!(choose(&t, Some("own"), Some("box"), "debian").unwrap(), "own");
    }

    #[test]
    fn a_machine_id_or_a_path_is_refused() {
        let t = Tree::new();
        for bad in ["0123456789abcdef0123456789abcdef", "a/b", "..", "", "ä"] {
            assert!(choose(&t, Some(bad), None, "debian").is_err(), "{bad}");
        }
    }
}
