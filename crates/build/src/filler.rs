//! The file systems of partitions: by `fs` itself where it has a writer, else by a
//! tool of the tools tree.
//!
//! What it is: which options each format is made with, as systemd-repart would. What it
//! is not: where partitions lie (`disk`), what is in them (`disk::populate`).
//!
//! A tool writes a file of its own, whose bytes are then copied into the partition. How
//! large that file is, nobody knows before: so the one that was made to be measured
//! (`Minimize=`) is kept and used.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Mutex;

use disk::Guid;
use disk::definition::Definition;
use disk::execute::{FillError, PartitionFiller};
use disk::plan::{Identity, PlannedPartition};
use fs::FsError;
use fs::erofs::{self, ErofsOptions};
use fs::ext4::{self, Ext4Options};
use fs::fat::{self, FatOptions};
use fs::squashfs::{self, SquashfsOptions};
use fs::swap::{self, SwapOptions};
use fs::tools::ToolRunner;
use report::Reporter;
use tree::{Tree, TreePath};

use crate::error::BuildError;

/// The compressors that mkfs.erofs of erofs-utils knows.
const EROFS: &[&str] = &["deflate", "libdeflate", "lz4", "lz4hc", "lzma", "zstd"];
/// Those of mksquashfs; the first is its default.
const SQUASHFS: &[&str] = &["gzip", "lz4", "lzo", "xz", "zstd"];

/// Refuses what cannot be made, before anything is done.
pub fn check(definitions: &[Definition]) -> Result<(), BuildError> {
    disk::execute::check_supported(definitions)?;
    definitions.iter().try_for_each(|d| {
        check_one(d).map_err(|why| BuildError::Image(format!("{}: {why}", d.path)))
    })
}

fn check_one(d: &Definition) -> Result<(), String> {
    let known = match d.format.as_deref() {
        Some("erofs") => EROFS,
        Some("squashfs") => SQUASHFS,
        Some("ext4" | "vfat" | "swap") | None => &[],
        Some(other) => {
            return Err(format!(
                "Format={other} is not supported by mkgold yet; use ext4, vfat, swap, erofs or \
                 squashfs"
            ));
        }
    };
    let format = d.format.as_deref().unwrap_or("none");
    if let Some(name) = d.compression.as_deref().filter(|name| !known.contains(name)) {
        let hint = match known {
            [] => "remove Compression=".to_owned(),
            _ => format!("use one of {}", known.join(", ")),
        };
        return Err(format!("Compression={name} is impossible with Format={format}; {hint}"));
    }
    level(d).map(|_| ())
}

/// `CompressionLevel=` as a number.
fn level(d: &Definition) -> Result<Option<u32>, String> {
    let number = |text: &String| {
        text.parse().map_err(|_| format!("CompressionLevel={text} is not a number of 0 or more"))
    };
    d.compression_level.as_ref().map(number).transpose()
}

/// Makes the file systems of a disk.
pub struct Filler<'a> {
    reporter: &'a dyn Reporter,
    epoch: i64,
    tools: Option<&'a dyn ToolRunner>,
    /// A directory for what tools make.
    scratch: PathBuf,
    /// Files that were made to be measured, by definition.
    made: Mutex<BTreeMap<String, Made>>,
}

/// A file system in a file of its own.
#[derive(Debug, Clone)]
struct Made {
    label: String,
    uuid: Guid,
    path: PathBuf,
    len: u64,
}

/// What a partition's file system is called.
#[derive(Clone, Copy)]
struct Name<'a> {
    label: &'a str,
    uuid: Guid,
}

impl<'a> Filler<'a> {
    /// `tools` are needed if a definition says so ([`crate::tools::tool_of`]).
    pub fn new(
        reporter: &'a dyn Reporter,
        epoch: i64,
        tools: Option<&'a dyn ToolRunner>,
        scratch: PathBuf,
    ) -> Filler<'a> {
        Filler { reporter, epoch, tools, scratch, made: Mutex::default() }
    }

    fn ext4(&self, name: Name<'_>, size: u64) -> Ext4Options {
        let mut options = Ext4Options::new(uuid_of(name.uuid), size);
        options.label = cut(name.label, 16);
        options.epoch = self.epoch;
        options
    }

    fn fat(&self, name: Name<'_>, size: u64, sector: u64) -> FatOptions {
        let mut options = FatOptions::new(disk::derive::fat_volume_id(&name.uuid), size);
        options.label = fat_label(name.label);
        options.sector_size = u32::try_from(sector).unwrap_or(512);
        options.epoch = self.epoch;
        options
    }

    fn erofs(&self, name: Name<'_>) -> ErofsOptions {
        let epoch = u64::try_from(self.epoch).unwrap_or(0);
        ErofsOptions { uuid: uuid_of(name.uuid), label: cut(name.label, 15), epoch }
    }

    fn squashfs(&self, d: &Definition) -> Result<SquashfsOptions, FillError> {
        let compression = d.compression.clone().or_else(|| Some(SQUASHFS[0].to_owned()));
        let epoch = u32::try_from(self.epoch.max(0)).map_err(|_| "SourceDateEpoch= is too late")?;
        Ok(SquashfsOptions { compression, level: level(d)?, epoch })
    }

    /// Has a tool make the file system, or takes the one that was made before.
    fn by_tool(&self, d: &Definition, name: Name<'_>, tree: &Tree) -> Result<Made, FillError> {
        let mut made = self.made.lock().expect("no panic while a tool runs");
        if let Some(there) = made.get(&d.name)
            && (there.label.as_str(), there.uuid) == (name.label, name.uuid)
        {
            return Ok(there.clone());
        }
        let tools = self.tools.ok_or("this needs tools, and the lock has none")?;
        let dir = self.scratch.join(made.len().to_string());
        std::fs::create_dir_all(&dir)?;
        let path = dir.join("filesystem");
        match (d.format.as_deref(), &d.compression) {
            (Some("erofs"), Some(algorithm)) => {
                let compression =
                    erofs::Compression { algorithm: algorithm.clone(), level: level(d)? };
                erofs::compress(tree, &self.erofs(name), &compression, tools, &path)?;
            }
            _ => {
                let (tree, warning) = without_acls(tree);
                warning.into_iter().for_each(|text| self.reporter.warn(text));
                squashfs::write(&tree, &self.squashfs(d)?, tools, &path)?;
            }
        }
        let len = std::fs::metadata(&path)?.len();
        let new = Made { label: name.label.to_owned(), uuid: name.uuid, path, len };
        made.insert(d.name.clone(), new.clone());
        Ok(new)
    }
}

/// What squashfs can keep of a tree, and what it is said not to: mksquashfs leaves POSIX
/// ACLs out as well.
fn without_acls(tree: &Tree) -> (Cow<'_, Tree>, Option<String>) {
    let is_acl = |name: &[u8]| name.starts_with(b"system.posix_acl_");
    let with: Vec<TreePath> = tree
        .iter()
        .filter(|(_, _, node)| node.meta.xattrs.keys().any(|name| is_acl(name)))
        .map(|(path, ..)| path.clone())
        .collect();
    let Some(first) = with.first() else { return (Cow::Borrowed(tree), None) };
    let more = match with.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    let warning = format!("squashfs keeps no POSIX ACLs: those of {first}{more} are left out");
    let mut tree = tree.clone();
    for path in &with {
        let meta = &mut tree.get_mut(path).expect("just listed").meta;
        meta.xattrs.retain(|name, _| !is_acl(name));
    }
    (Cow::Owned(tree), Some(warning))
}

/// Whether mkgold writes it uncompressed itself.
fn is_plain_erofs(d: &Definition) -> bool {
    d.format.as_deref() == Some("erofs") && d.compression.is_none()
}

fn check_room(fs: &'static str, needed: u64, given: u64) -> Result<(), FsError> {
    if needed > given {
        return Err(FsError::TooSmall { fs, given, needed });
    }
    Ok(())
}

impl PartitionFiller for Filler<'_> {
    fn fill(
        &self,
        partition: &PlannedPartition,
        d: &Definition,
        tree: Option<&Tree>,
        out: &mut File,
        offset: u64,
        size: u64,
    ) -> Result<(), FillError> {
        let empty = Tree::new();
        let tree = tree.unwrap_or(&empty);
        let name = Name { label: &partition.label, uuid: partition.fs_uuid };
        match partition.format.as_deref() {
            Some("ext4") => ext4::write(tree, &self.ext4(name, size), out, offset)?,
            Some("vfat") => {
                let options = self.fat(name, size, partition.fs_sector_size.0);
                fat::write(tree, &options, out, offset)?;
            }
            Some("swap") => {
                let options =
                    SwapOptions { uuid: uuid_of(name.uuid), label: cut(name.label, 15), size };
                swap::write(&options, out, offset)?;
            }
            Some("erofs") if is_plain_erofs(d) => {
                check_room("erofs", erofs::measure(tree)?, size)?;
                erofs::write(tree, &self.erofs(name), out, offset)?;
            }
            Some(format @ ("erofs" | "squashfs")) => {
                let made = self.by_tool(d, name, tree)?;
                let format = if format == "erofs" { "erofs" } else { "squashfs" };
                check_room(format, made.len, size)?;
                out.seek(SeekFrom::Start(offset))?;
                std::io::copy(&mut File::open(&made.path)?, out)?;
            }
            _ => return Err(check_one(d).err().unwrap_or_default().into()),
        }
        Ok(())
    }

    fn measure(&self, d: &Definition, identity: &Identity, tree: &Tree) -> Result<u64, FillError> {
        let name = Name { label: &identity.label, uuid: identity.fs_uuid };
        match d.format.as_deref() {
            Some("ext4") => Ok(ext4::measure(tree, &self.ext4(name, 0))?),
            Some("vfat") => {
                let sector = identity.fs_sector_size.0;
                Ok(fat::measure(tree, &self.fat(name, 0, sector))?)
            }
            Some("erofs") if is_plain_erofs(d) => Ok(erofs::measure(tree)?),
            Some("erofs" | "squashfs") => Ok(self.by_tool(d, name, tree)?.len),
            Some("swap") => Err("Minimize= is impossible with Format=swap; remove it".into()),
            _ => Err(check_one(d).err().unwrap_or_default().into()),
        }
    }
}

fn uuid_of(guid: Guid) -> uuid::Uuid {
    uuid::Uuid::parse_str(&guid.to_string()).expect("a GUID prints as a UUID")
}

/// At most `max` bytes of whole characters.
pub fn cut(label: &str, max: usize) -> String {
    let mut end = label.len().min(max);
    while !label.is_char_boundary(end) {
        end -= 1;
    }
    label[..end].to_owned()
}

/// As systemd-repart writes it: upper case, eleven characters, `_` for what FAT does
/// not have.
pub fn fat_label(label: &str) -> String {
    let map = |c: char| match c {
        '*' | '?' | '.' | ',' | ';' | ':' | '/' | '\\' | '|' | '+' | '=' | '<' | '>' | '['
        | ']' | '"' => '_',
        c if c.is_ascii() && !c.is_ascii_control() => c.to_ascii_uppercase(),
        _ => '_',
    };
    label.chars().take(11).map(map).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_fit_their_file_system() {
        assert_eq!(fat_label("esp"), "ESP");
        assert_eq!(fat_label("a long label+x"), "A LONG LABE");
        assert_eq!(fat_label("ä/b"), "__B");
        assert_eq!(cut("äää", 5), "ää");
    }

    #[test]
    fn squashfs_goes_without_acls_and_it_is_said() {
        let p = TreePath::literal;
        let mut tree = Tree::new();
        for path in ["var/log/journal/x", "etc/y", "etc/z"] {
            tree.write(&p(path), 0o644, *b"x").unwrap();
        }
        assert!(matches!(without_acls(&tree), (Cow::Borrowed(_), None)));
        for (path, name) in [
            ("var/log/journal", &b"system.posix_acl_default"[..]),
            ("var/log/journal", b"user.kept"),
            ("etc/y", b"system.posix_acl_access"),
        ] {
            let meta = &mut tree.get_mut(&p(path)).unwrap().meta;
            meta.xattrs.insert(name.to_vec(), vec![2, 0, 0, 0]);
        }
        let (kept, warning) = without_acls(&tree);
        assert_eq!(
            warning.unwrap(),
            "squashfs keeps no POSIX ACLs: those of /etc/y and 1 more are left out"
        );
        let names = |path| kept.get(&p(path)).unwrap().meta.xattrs.keys().cloned().collect();
        let (journal, y): (Vec<_>, Vec<_>) = (names("var/log/journal"), names("etc/y"));
        assert_eq!(journal, [b"user.kept".to_vec()]);
        assert!(y.is_empty());
    }

    #[test]
    fn what_cannot_be_made_is_refused_with_what_can() {
        let cases = [
            (("btrfs", None, None), "use ext4, vfat, swap, erofs or squashfs"),
            (("xfs", None, None), "Format=xfs is not supported"),
            (("ext4", Some("zstd"), None), "remove Compression="),
            (("erofs", Some("gzip"), None), "use one of deflate, libdeflate, lz4"),
            (("squashfs", Some("lzma"), None), "use one of gzip, lz4, lzo, xz, zstd"),
            (("squashfs", Some("xz"), Some("-1")), "CompressionLevel=-1 is not a number"),
        ];
        for ((format, compression, level), expected) in cases {
            let d = Definition {
                path: "/p/10-root.conf".into(),
                format: Some(format.into()),
                compression: compression.map(Into::into),
                compression_level: level.map(Into::into),
                ..Definition::default()
            };
            let error = check(&[d]).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("10-root.conf"), "{error}");
        }
        let d = Definition {
            format: Some("erofs".into()),
            compression: Some("zstd".into()),
            compression_level: Some("12".into()),
            ..Definition::default()
        };
        check(&[d]).unwrap();
    }
}
