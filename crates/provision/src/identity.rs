//! A machine ID for one machine, and what systemd-sysusers leaves of the old accounts.

use os::OsError;
use os::accounts::Database;
use os::machine_id;
use tree::{Content, Kind, Meta, Mtime, Node, Tree, TreeError, TreePath};

/// The ID that systemd-machine-id-setup would choose: that of D-Bus, if it has one, or a
/// random one.
pub fn new_machine_id(tree: &Tree, random: &[u8; 32]) -> String {
    let dbus = TreePath::literal("var/lib/dbus/machine-id");
    let path = tree.resolve_parent(&dbus).ok();
    let file = path.filter(|path| tree.get(path).is_some_and(|node| node.content().is_some()));
    let text = file.and_then(|path| tree.read(&path, 64)).and_then(Result::ok);
    let text = text.map(|text| String::from_utf8_lossy(&text).trim_end().to_ascii_lowercase());
    text.filter(|id| machine_id::is_valid(id)).unwrap_or_else(|| random_id(random))
}

/// A random (version 4) ID.
pub(crate) fn random_id(random: &[u8; 32]) -> String {
    let mut id: [u8; 16] = random[..16].try_into().expect("16 of 32");
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes the ID; a file that is there keeps mode and owner.
pub fn write_machine_id(tree: &mut Tree, id: &str, now: Mtime) -> Result<(), OsError> {
    let path = tree.resolve_parent(&machine_id::path()).map_err(TreeError::from)?;
    match tree.get_mut(&path) {
        Some(node @ Node { kind: Kind::File(_), .. }) => {
            node.kind = Kind::File(Content::inline(format!("{id}\n").into_bytes()));
            node.meta.mtime = now;
            Ok(())
        }
        _ => machine_id::set(tree, id, now),
    }
}

/// Keeps the old account files that were changed as `passwd-`, `group-` …
pub fn keep_old_accounts(before: &Tree, after: &mut Tree) -> Result<(), TreeError> {
    for database in [Database::Passwd, Database::Shadow, Database::Group, Database::Gshadow] {
        let path = before.resolve(&database.path())?;
        let (Some(old), Some(new)) = (before.get(&path), after.get(&path)) else { continue };
        let is_same = match (old.content(), new.content()) {
            (Some(old), Some(new)) => old.is_same_place(new),
            _ => true,
        };
        if is_same {
            continue;
        }
        let mut name = path.as_bytes().to_vec();
        name.push(b'-');
        let (meta, kind): (Meta, Kind) = (old.meta.clone(), old.kind.clone());
        after.put(TreePath::new(name).map_err(TreeError::from)?, Node { meta, kind })?;
    }
    Ok(())
}
