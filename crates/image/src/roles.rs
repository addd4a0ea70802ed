//! What the partitions of a disk are and what each is for.
//!
//! In a GPT the types say it (UAPI.2). Where they do not (an MBR, "Linux filesystem
//! data"), the file systems themselves are asked: what has an os-release is a root,
//! what has boot loaders is an ESP, and the root's `fstab` says the rest (`mount`).

use std::path::Path;
use std::sync::Arc;

use disk::gpt::ReadError;
use disk::{Designator, gpt};
use serde::Serializer;
use tree::{Blob, TreePath};

use crate::probe::{self, Holds};
use crate::{ImageError, Kind, Partition, Table, mbr, reader};

/// The MBR type of an ESP and of an XBOOTLDR.
const MBR_ESP: u8 = 0xef;
const MBR_XBOOTLDR: u8 = 0xea;

pub fn as_name<S: Serializer>(role: &Option<Designator>, to: S) -> Result<S::Ok, S::Error> {
    match role {
        Some(role) => to.serialize_some(role.name()),
        None => to.serialize_none(),
    }
}

/// The table of a disk, and its partitions without roles.
pub fn partitions(
    path: &Path,
    blob: &Arc<Blob>,
    size: u64,
) -> Result<(Table, Vec<Partition>), ImageError> {
    let bare = probe::probe(blob, 0, size);
    let io = |source| ImageError::Io { doing: "read the disk", path: path.to_owned(), source };
    match gpt::read(&mut Cursor { blob, at: 0, size }, None) {
        Ok(found) => return Ok(of_gpt(blob, &found)),
        Err(ReadError::Io(e)) => return Err(io(e)),
        Err(e @ ReadError::Damaged(_)) if is_nothing(bare.holds) => {
            return Err(ImageError::Refused { path: path.to_owned(), what: e.to_string() });
        }
        Err(_) => {}
    }
    if is_nothing(bare.holds) || bare.holds == Holds::Iso9660 {
        let entries = mbr::read(blob, size).map_err(io)?;
        if !entries.is_empty() {
            let partitions = entries.iter().map(|e| {
                let probe = probe::probe(blob, e.offset, e.size);
                partition(e.number, Kind::Mbr(e.kind), (e.offset, e.size), probe)
            });
            return Ok((Table::Mbr, partitions.collect()));
        }
    }
    if is_nothing(bare.holds) {
        let what = "neither a disk with partitions nor a file system that mkgold knows \
                    (a compressed or sparse-coded image must be unpacked first)";
        return Err(ImageError::Refused { path: path.to_owned(), what: what.into() });
    }
    Ok((Table::None, vec![partition(1, Kind::Bare, (0, size), bare)]))
}

fn is_nothing(holds: Holds) -> bool {
    matches!(holds, Holds::Empty | Holds::Unknown)
}

fn partition(
    number: u32,
    kind: Kind,
    (offset, size): (u64, u64),
    probe: probe::Probe,
) -> Partition {
    let (guid, name, attributes) = (None, String::new(), 0);
    Partition { number, kind, guid, name, attributes, offset, size, probe, role: None }
}

fn of_gpt(blob: &Arc<Blob>, found: &gpt::Found) -> (Table, Vec<Partition>) {
    let table = &found.table;
    let sector = table.sector_size.get();
    let mut damage: Vec<String> = found.damage.iter().map(ToString::to_string).collect();
    damage.extend(table.problems().iter().map(ToString::to_string));
    let mut partitions = Vec::new();
    for (slot, entry) in &table.entries {
        let offset = entry.first.0.checked_mul(sector);
        let size = entry.sectors().and_then(|s| s.0.checked_mul(sector));
        let (Some(offset), Some(size)) = (offset, size) else { continue };
        let probe = probe::probe(blob, offset, size);
        partitions.push(Partition {
            guid: Some(entry.guid),
            name: entry.name.to_string(),
            attributes: entry.attributes,
            ..partition(slot + 1, Kind::Gpt(entry.kind), (offset, size), probe)
        });
    }
    (Table::Gpt { guid: table.guid, damage }, partitions)
}

/// Says what each partition is for.
pub fn assign(partitions: &mut [Partition], blob: &Arc<Blob>) {
    for partition in partitions.iter_mut() {
        partition.role = match partition.kind {
            Kind::Gpt(kind) => match kind.designator() {
                Designator::Other | Designator::LinuxGeneric => None,
                designator => Some(designator),
            },
            Kind::Mbr(MBR_ESP) => Some(Designator::Esp),
            Kind::Mbr(MBR_XBOOTLDR) => Some(Designator::Xbootldr),
            Kind::Mbr(_) | Kind::Bare => None,
        };
        if partition.role.is_none() && partition.probe.holds == Holds::Swap {
            partition.role = Some(Designator::Swap);
        }
    }
    // A bare file system is not read twice; what it is is seen when it is read (`mount`).
    if let [partition] = partitions
        && partition.kind == Kind::Bare
    {
        let is_esp = partition.probe.holds == Holds::Vfat;
        partition.role = Some(if is_esp { Designator::Esp } else { Designator::Root });
        return;
    }
    let has = |partitions: &[Partition], role| partitions.iter().any(|p| p.role == Some(role));
    if has(partitions, Designator::Root) || has(partitions, Designator::Usr) {
        return;
    }
    for partition in partitions.iter_mut().filter(|p| p.role.is_none()) {
        if partition.probe.holds.is_no_file_system() {
            continue;
        }
        let Ok(tree) = reader::read(blob, partition) else { continue };
        let there = |path| tree.contains(&TreePath::literal(path));
        partition.role = match () {
            () if there("etc") && there("usr") => Some(Designator::Root),
            () if there("lib/os-release") => Some(Designator::Usr),
            () if there("EFI") || there("loader") => Some(Designator::Esp),
            () => None,
        };
        if partition.role == Some(Designator::Root) {
            return;
        }
    }
}

/// A blob as the reader of tables wants it.
struct Cursor<'a> {
    blob: &'a Blob,
    at: u64,
    size: u64,
}

impl std::io::Read for Cursor<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.size.saturating_sub(self.at).min(buf.len() as u64) as usize;
        self.blob.read_exact_at(&mut buf[..n], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl std::io::Seek for Cursor<'_> {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        use std::io::SeekFrom;
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
