//! What is in an image, read without mounting it: `--image=`, and definitions for
//! `--preview=`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use disk::gpt::{self, Entry, Found};
use disk::{Designator, SectorSize};
use tree::{Blob, Tree, TreePath};

/// Where partitions belong; the first of a type counts. `/var` and `/tmp` are those of
/// one machine, and not part of an image.
const MOUNTS: [(Designator, &str); 5] = [
    (Designator::Usr, "usr"),
    (Designator::Xbootldr, "boot"),
    (Designator::Esp, "efi"),
    (Designator::Home, "home"),
    (Designator::Srv, "srv"),
];

/// All of it at its place: the root and what is mounted there.
pub fn tree(path: &Path, sector_size: Option<SectorSize>) -> Result<Tree, String> {
    let failed = |e: &dyn std::fmt::Display| format!("--image={}: {e}", path.display());
    let mut file = std::fs::File::open(path).map_err(|e| failed(&e))?;
    let found = gpt::read(&mut file, sector_size).map_err(|e| failed(&e))?;
    let blob = Blob::at_path(path);
    let mut whole = match first(&found, Designator::Root) {
        Some(entry) => read(&blob, entry, &found).map_err(|e| failed(&e))?,
        None if first(&found, Designator::Usr).is_some() => Tree::new(),
        None => return Err(failed(&"it has no root and no usr partition")),
    };
    for (designator, place) in MOUNTS {
        let Some(entry) = first(&found, designator) else { continue };
        // The ESP is at /boot if nothing else is, and there is no /efi.
        let boot = designator == Designator::Esp
            && first(&found, Designator::Xbootldr).is_none()
            && !whole.contains(&TreePath::literal("efi"));
        let place = TreePath::literal(if boot { "boot" } else { place });
        let part = match read(&blob, entry, &found) {
            Ok(part) => part,
            Err(e) if designator == Designator::Usr => return Err(failed(&e)),
            Err(e) => {
                super::say(&format!("{} is left out: {e}", failed(&place)));
                continue;
            }
        };
        graft(&mut whole, &place, &part).map_err(|e| failed(&e))?;
    }
    Ok(whole)
}

/// What its definitions are read from: the root, or `/usr` where it has nothing else.
pub fn system(path: &Path, found: &Found) -> Result<Tree, String> {
    let of = |d| found.table.entries.values().filter(move |e| e.kind.designator() == d);
    let entries = of(Designator::Root).map(|e| (e, false));
    let mut why = "it has no root and no usr partition".to_owned();
    let blob = Blob::at_path(path);
    for (entry, is_usr) in entries.chain(of(Designator::Usr).map(|e| (e, true))) {
        match read(&blob, entry, found) {
            Ok(tree) if is_usr => {
                let mut whole = Tree::new();
                graft(&mut whole, &TreePath::literal("usr"), &tree)?;
                return Ok(whole);
            }
            Ok(tree) => return Ok(tree),
            Err(e) => why = e,
        }
    }
    Err(format!(
        "{}: the definitions of the image cannot be read ({why}); give them with --definitions=",
        path.display()
    ))
}

fn first(found: &Found, designator: Designator) -> Option<&Entry> {
    found.table.entries.values().find(|e| e.kind.designator() == designator)
}

/// The file system of a partition.
fn read(blob: &Arc<Blob>, entry: &Entry, found: &Found) -> Result<Tree, String> {
    let offset = entry.first.bytes(found.table.sector_size);
    let offset = offset.ok_or("a partition begins beyond every disk")?.0;
    let name = entry.name.to_string();
    let ext4 = match fs::ext4::read(blob, offset) {
        Ok(tree) => return Ok(tree),
        Err(e) => e,
    };
    let erofs = match fs::erofs::read(blob, offset) {
        Ok(tree) => return Ok(tree),
        Err(e) => e,
    };
    fs::fat::read(blob, offset).map_err(|fat| {
        format!("partition {name:?}: no ext4 ({ext4}), erofs ({erofs}), vfat ({fat})")
    })
}

/// Puts a tree at a place of another, where a mount would hide what is there.
fn graft(whole: &mut Tree, place: &TreePath, part: &Tree) -> Result<(), String> {
    let place = whole.make_dirs(place).map_err(|e| e.to_string())?;
    whole.remove(&place);
    let mut seen = BTreeMap::new();
    for (path, inode, node) in part.iter() {
        let to = match path.is_root() {
            true => place.clone(),
            false => place.join(path.as_bytes()).map_err(|e| e.to_string())?,
        };
        match seen.get(&inode) {
            Some(first) => whole.add_link(to, first).map_err(|e| e.to_string())?,
            None => {
                whole.put(to.clone(), node.clone()).map_err(|e| e.to_string())?;
                seen.insert(inode, to);
            }
        }
    }
    Ok(())
}
