//! What is in an output, read back: the file systems of a disk image as Trees.
//!
//! What it is: which partition has which file system, and the root as it is mounted.
//! What it is not: a reader of a format (`fs`, `disk::gpt`). An image may be somebody
//! else's, so nothing in it is trusted.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use disk::{Designator, TypeGuid};
use tree::{Blob, Node, Tree, TreePath};

use crate::error::BuildError;
use crate::outputs::io_error;

/// Where the magic numbers of file systems are, and what reads each.
const SIGNATURES: &[(u64, &[u8], Format)] = &[
    (1024 + 0x38, &[0x53, 0xef], Format::Ext4),
    (1024, &[0xe2, 0xe1, 0xf5, 0xe0], Format::Erofs),
    (0, b"hsqs", Format::Squashfs),
    (82, b"FAT32", Format::Vfat),
    (54, b"FAT1", Format::Vfat),
];

/// A file system that is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// ext2, 3 or 4.
    Ext4,
    /// EROFS.
    Erofs,
    /// squashfs, which is recognised but not read.
    Squashfs,
    /// FAT.
    Vfat,
}

/// A partition of an image.
#[derive(Debug, Clone)]
pub struct Partition {
    /// Its number in the table, counted from 1.
    pub number: u32,
    /// What it is for.
    pub kind: TypeGuid,
    /// Its name.
    pub name: String,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its size in bytes.
    pub len: u64,
}

impl Partition {
    /// For messages: `partition 2 (root-x86-64)`.
    pub fn title(&self) -> String {
        let kind = self.kind.identifier().unwrap_or_else(|| self.kind.0.to_string());
        format!("partition {} ({kind})", self.number)
    }
}

/// The partitions of the disk image at `path`, in the table's order.
pub fn partitions(path: &Path) -> Result<Vec<Partition>, BuildError> {
    let mut file = File::open(path).map_err(io_error("open", path))?;
    let wrong = |why: String| BuildError::Image(format!("{}: {why}", path.display()));
    let found = disk::gpt::read(&mut file, None).map_err(|e| wrong(e.to_string()))?;
    let sector = found.table.sector_size.get();
    let partition = |(slot, entry): (&u32, &disk::gpt::Entry)| {
        let sectors = entry.sectors()?.0;
        Some(Partition {
            number: slot + 1,
            kind: entry.kind,
            name: entry.name.to_string(),
            offset: entry.first.0.checked_mul(sector)?,
            len: sectors.checked_mul(sector)?,
        })
    };
    let all = found.table.entries.iter().map(partition).collect::<Option<Vec<_>>>();
    all.ok_or_else(|| wrong("a partition ends before it begins".into()))
}

/// The file system that begins at `offset`, if it is a known one.
pub fn format(blob: &Arc<Blob>, offset: u64) -> Option<Format> {
    let has = |at: u64, magic: &[u8]| {
        let mut bytes = vec![0; magic.len()];
        let place = offset.checked_add(at);
        place.is_some_and(|place| {
            let read = blob.read_exact_at(&mut bytes, place);
            read.is_ok() && bytes == magic
        })
    };
    SIGNATURES.iter().find(|(at, magic, _)| has(*at, magic)).map(|(_, _, format)| *format)
}

/// Reads the file system that begins at `offset`.
pub fn read(blob: &Arc<Blob>, offset: u64) -> Result<Tree, BuildError> {
    match format(blob, offset) {
        Some(Format::Ext4) => Ok(fs::ext4::read(blob, offset)?),
        Some(Format::Erofs) => Ok(fs::erofs::read(blob, offset)?),
        Some(Format::Vfat) => Ok(fs::fat::read(blob, offset)?),
        Some(Format::Squashfs) => Err(BuildError::Unsupported {
            what: "reading squashfs".into(),
            hint: Some("build with Format=directory to look inside"),
        }),
        None => Err(BuildError::Image("there is no file system that mkgold knows".into())),
    }
}

/// The root file system of the disk image at `path` as it is mounted: with `/usr` from
/// a partition of its own, if there is one.
pub fn root(path: &Path) -> Result<Tree, BuildError> {
    let blob = Blob::at_path(path);
    let partitions = partitions(path)?;
    let of = |wanted: Designator| {
        let found = partitions.iter().find(|p| p.kind.designator() == wanted);
        let tree = found.map(|p| {
            read(&blob, p.offset).map_err(|source| BuildError::Partition {
                partition: p.title(),
                source: Box::new(source),
            })
        });
        tree.transpose()
    };
    let (root, usr) = (of(Designator::Root)?, of(Designator::Usr)?);
    let Some(mut tree) = root.or(usr.is_some().then(Tree::new)) else {
        return Err(BuildError::Image(format!("{}: has no root partition", path.display())));
    };
    if let Some(usr) = usr {
        graft(&mut tree, &usr)?;
    }
    Ok(tree)
}

/// Puts `usr` at `/usr`, as mounting does.
fn graft(tree: &mut Tree, usr: &Tree) -> Result<(), BuildError> {
    let top = TreePath::literal("usr");
    tree.remove(&top);
    let mut first = std::collections::BTreeMap::new();
    for (path, id, node) in usr.iter() {
        let target = top.join(path.as_bytes())?;
        match first.get(&id) {
            Some(there) => tree.add_link(target, there)?,
            None => {
                tree.put(target.clone(), Node::clone(node))?;
                if !node.is_dir() {
                    first.insert(id, target);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tree::{Content, Meta};

    #[test]
    fn usr_is_grafted_with_its_links() {
        let p = TreePath::literal;
        let mut usr = Tree::new();
        usr.make_dirs(&p("bin")).unwrap();
        usr.add_file(p("bin/a"), Meta::file(0o755), Content::inline(*b"x")).unwrap();
        usr.add_link(p("bin/b"), &p("bin/a")).unwrap();
        let mut root = Tree::new();
        root.make_dirs(&p("usr/old")).unwrap();
        root.add_symlink(p("bin"), "usr/bin").unwrap();
        graft(&mut root, &usr).unwrap();
        assert_eq!(root.links(&p("usr/bin/b")), 2);
        assert!(root.contains(&p("bin")) && !root.contains(&p("usr/old")));
    }

    #[test]
    fn file_systems_are_recognised_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let file = File::create(&path).unwrap();
        let options = fs::ext4::Ext4Options::new(uuid::Uuid::from_u128(1), 8 << 20);
        fs::ext4::write(&Tree::new(), &options, &file, 4096).unwrap();
        let blob = Blob::at_path(&path);
        assert_eq!(format(&blob, 4096), Some(Format::Ext4));
        assert_eq!(format(&blob, 0), None);
        assert_eq!(format(&blob, u64::MAX), None);
        assert!(partitions(&path).unwrap_err().to_string().contains("no GUID partition table"));
    }
}
