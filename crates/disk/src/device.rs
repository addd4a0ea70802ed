//! Block devices: what the kernel knows of a disk, and telling it about a new table.
//!
//! What it is: the few questions that an image file does not raise: how large sectors
//! are, whether ranges can be cleared without writing them, which disk is behind a
//! directory, and the partitions that the kernel shows (`BLKPG`; nothing is unmounted or
//! read again for it). What it is not: reading and writing, which is as for files
//! ([`crate::Medium`]).
//!
//! Data flow: a path → [`Device`] (from sysfs) → … the disk is changed …
//! → [`Device::show`] with the new table → the kernel's partitions.
//!
//! Specification: Linux `Documentation/ABI/stable/sysfs-block`, `<linux/blkpg.h>`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};
use rustix::ioctl::{Setter, ioctl};

use crate::gpt::Table;
use crate::{Guid, SectorSize};

/// The unit of sysfs.
const UNIT: u64 = 512;
/// As many device mapper devices may be on top of each other.
const MAX_DEPTH: usize = 8;
/// From `<linux/blkpg.h>`.
const BLKPG: u32 = 0x1269;
const ADD: i32 = 1;
const DELETE: i32 = 2;
const RESIZE: i32 = 3;

/// What the kernel says about a whole disk.
#[derive(Debug, Clone)]
pub struct Device {
    sys: PathBuf,
    /// The size of its logical sectors.
    pub sector_size: SectorSize,
    /// It can clear ranges by itself.
    pub clears: bool,
}

/// Why a device is not used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// It is part of a disk.
    #[error("{0} is a partition, not a disk")]
    Partition(PathBuf),
    /// Its sectors are of an unusual size.
    #[error("{0} has sectors of {1} bytes, which is not supported")]
    SectorSize(PathBuf, u32),
    /// The kernel does not say what is needed, or does not take the partitions.
    #[error("{path}: {action}")]
    Io {
        /// The device, or a file of sysfs.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

/// A partition as the kernel has it, in units of 512 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shown {
    start: u64,
    size: u64,
}

impl Device {
    /// Asks about an open device; `path` is for messages.
    pub fn new(file: &File, path: &Path) -> Result<Device, DeviceError> {
        let wrong = |action| move |source| DeviceError::Io { path: path.into(), action, source };
        let metadata = file.metadata().map_err(wrong("it cannot be examined"))?;
        if !metadata.file_type().is_block_device() {
            let source = io::Error::from(io::ErrorKind::InvalidInput);
            return Err(wrong("it is no block device")(source));
        }
        let sys = sys_of(metadata.rdev());
        if sys.join("partition").exists() {
            return Err(DeviceError::Partition(path.to_owned()));
        }
        let sector_size = Device::sectors(file, path)?;
        let clears = number(&sys.join("queue/write_zeroes_max_bytes")).is_ok_and(|n| n > 0);
        Ok(Device { sys, sector_size, clears })
    }

    /// The size of the logical sectors of a device, or of the disk that it is part of.
    pub fn sectors(file: &File, path: &Path) -> Result<SectorSize, DeviceError> {
        let bytes = rustix::fs::ioctl_blksszget(file).map_err(|e| DeviceError::Io {
            path: path.to_owned(),
            action: "the size of its sectors is not known",
            source: e.into(),
        })?;
        SectorSize::new(bytes).map_err(|_| DeviceError::SectorSize(path.to_owned(), bytes))
    }

    /// Has the kernel show the partitions of `table` and no others. Those that stay as
    /// they are, or grow, may be in use.
    pub fn show(&self, file: &File, table: &Table) -> Result<(), DeviceError> {
        let wanted = wanted(table);
        let there = self.partitions()?;
        let refused = |action| {
            let path = self.sys.clone();
            move |e: rustix::io::Errno| DeviceError::Io { path, action, source: e.into() }
        };
        let moved = |n: &u32, old: &Shown| wanted.get(n).is_none_or(|new| new.start != old.start);
        for (number, _) in there.iter().filter(|(n, old)| moved(n, old)) {
            tell(file, DELETE, *number, Shown { start: 0, size: 0 })
                .map_err(refused("the kernel does not forget a partition (is it in use?)"))?;
        }
        for (number, new) in &wanted {
            let old = there.get(number).filter(|old| old.start == new.start);
            let done = match old {
                Some(old) if old == new => Ok(()),
                Some(_) => tell(file, RESIZE, *number, *new),
                None => tell(file, ADD, *number, *new),
            };
            done.map_err(refused("the kernel does not take a partition"))?;
        }
        Ok(())
    }

    fn partitions(&self) -> Result<BTreeMap<u32, Shown>, DeviceError> {
        let wrong = |path: &Path, source| DeviceError::Io {
            path: path.to_owned(),
            action: "the kernel's partitions cannot be read",
            source,
        };
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(&self.sys).map_err(|e| wrong(&self.sys, e))? {
            let dir = entry.map_err(|e| wrong(&self.sys, e))?.path();
            if !dir.join("partition").exists() {
                continue;
            }
            let read = |name: &str| number(&dir.join(name)).map_err(|e| wrong(&dir, e));
            let number = u32::try_from(read("partition")?).unwrap_or(u32::MAX);
            found.insert(number, Shown { start: read("start")?, size: read("size")? });
        }
        Ok(found)
    }
}

fn wanted(table: &Table) -> BTreeMap<u32, Shown> {
    let factor = table.sector_size.get() / UNIT;
    let shown = |(slot, e): (&u32, &crate::gpt::Entry)| {
        let (start, size) = (e.first.0.checked_mul(factor)?, e.sectors()?.0.checked_mul(factor)?);
        (e.kind.0 != Guid::NIL).then_some((slot + 1, Shown { start, size }))
    };
    table.entries.iter().filter_map(shown).collect()
}

#[repr(C)]
struct Partition {
    start: i64,
    length: i64,
    number: i32,
    device: [u8; 64],
    volume: [u8; 64],
}

#[repr(C)]
struct Argument {
    operation: i32,
    flags: i32,
    length: i32,
    data: *const Partition,
}

fn tell(file: &File, operation: i32, number: u32, at: Shown) -> Result<(), rustix::io::Errno> {
    let bytes = |units: u64| {
        let bytes = units.checked_mul(UNIT).and_then(|b| i64::try_from(b).ok());
        bytes.ok_or(rustix::io::Errno::OVERFLOW)
    };
    let partition = Partition {
        start: bytes(at.start)?,
        length: bytes(at.size)?,
        number: i32::try_from(number).map_err(|_| rustix::io::Errno::OVERFLOW)?,
        device: [0; 64],
        volume: [0; 64],
    };
    let length = size_of::<Partition>() as i32;
    let argument = Argument { operation, flags: 0, length, data: &raw const partition };
    // SAFETY: BLKPG reads an argument of this layout, and through its pointer `length`
    // bytes of a partition, which lives until the call has returned. It writes nothing.
    unsafe { ioctl(file.as_fd(), Setter::<BLKPG, Argument>::new(argument)) }
}

fn sys_of(device: u64) -> PathBuf {
    let name = format!("{}:{}", major(device), minor(device));
    let link = Path::new("/sys/dev/block").join(name);
    // The real directory: its parent is the disk, if it is a partition.
    std::fs::canonicalize(&link).unwrap_or(link)
}

fn number(path: &Path) -> io::Result<u64> {
    let text = std::fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// The disk that the file system of a directory is on; through device mapper where there
/// is one device below. `None` if there is none: in memory, on several disks, a network.
pub fn behind(directory: &Path) -> io::Result<Option<PathBuf>> {
    let mut sys = sys_of(std::fs::metadata(directory)?.dev());
    for _ in 0..MAX_DEPTH {
        if !sys.exists() {
            return Ok(None);
        }
        if sys.join("partition").exists() {
            sys.pop();
            continue;
        }
        if !sys.join("dm").exists() {
            return Ok(node(&sys));
        }
        let mut below = std::fs::read_dir(sys.join("slaves"))?;
        let (Some(one), None) = (below.next(), below.next()) else { return Ok(None) };
        sys = std::fs::canonicalize(one?.path())?;
    }
    Ok(None)
}

/// The disk that a device is part of, if it is a partition.
pub fn whole(file: &File) -> io::Result<Option<File>> {
    let metadata = file.metadata()?;
    let mut sys = sys_of(metadata.rdev());
    if !metadata.file_type().is_block_device() || !sys.join("partition").exists() {
        return Ok(None);
    }
    sys.pop();
    node(&sys).map(File::open).transpose()
}

/// The device of a mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Its size in bytes.
    pub size: u64,
    /// It is encrypted, and what is below it is larger by so many bytes, which its header
    /// is part of.
    pub encrypted: Option<u64>,
}

/// The header of LUKS2, unless somebody made a larger one.
const LUKS_HEADER: u64 = 16 << 20;

impl Mounted {
    /// True if it is an encrypted device that could be larger itself.
    pub fn could_grow(&self) -> bool {
        self.encrypted.is_some_and(|more| more > LUKS_HEADER)
    }
}

/// Asks about the device that is mounted on a directory; `None` if that is no mount point
/// of one device.
pub fn mounted(directory: &Path) -> io::Result<Option<Mounted>> {
    let directory = std::fs::canonicalize(directory)?;
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    // The last one hides the others.
    let Some((device, source)) = table.lines().rev().find_map(|l| mount(l, &directory)) else {
        return Ok(None);
    };
    let mut sys = std::fs::canonicalize(Path::new("/sys/dev/block").join(device));
    if sys.is_err() {
        // btrfs has a number of its own.
        let Ok(node) = std::fs::metadata(source) else { return Ok(None) };
        sys = std::fs::canonicalize(sys_of(node.rdev()));
    }
    let Ok(sys) = sys else { return Ok(None) };
    let size = bytes(&sys)?;
    let uuid = std::fs::read_to_string(sys.join("dm/uuid")).unwrap_or_default();
    let mut encrypted = None;
    if uuid.starts_with("CRYPT-") {
        let below: Vec<PathBuf> = std::fs::read_dir(sys.join("slaves"))?
            .map(|entry| entry.map(|e| e.path()))
            .collect::<io::Result<_>>()?;
        let sizes: Vec<u64> = below.iter().map(|dir| bytes(dir)).collect::<io::Result<_>>()?;
        encrypted = Some(sizes.iter().fold(0, |a, b| b.saturating_add(a)).saturating_sub(size));
    }
    Ok(Some(Mounted { size, encrypted }))
}

fn bytes(sys: &Path) -> io::Result<u64> {
    let units = number(&sys.join("size"))?;
    units.checked_mul(UNIT).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Device and source of a line of mountinfo, if it is for this directory.
fn mount<'a>(line: &'a str, directory: &Path) -> Option<(&'a str, &'a str)> {
    let mut fields = line.split(' ');
    let (device, at) = (fields.nth(2)?, fields.nth(1)?);
    let source = fields.skip_while(|field| *field != "-").nth(2)?;
    (unescaped(at) == directory.as_os_str().as_bytes()).then_some((device, source))
}

/// Octal escapes of mountinfo as the bytes they stand for.
fn unescaped(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let escape = digits.and_then(|d| u8::from_str_radix(str::from_utf8(d).ok()?, 8).ok());
        out.push(escape.unwrap_or(bytes[at]));
        at += if escape.is_some() { 4 } else { 1 };
    }
    out
}

/// Disks that could be repartitioned, by name: those that are not empty, in memory or
/// read-only.
pub fn candidates() -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/sys/class/block")? {
        let Ok(sys) = std::fs::canonicalize(entry?.path()) else { continue };
        let zero = |name: &str| number(&sys.join(name)).map_or(true, |n| n == 0);
        let name = sys.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let memory = name.starts_with("zram") || name.starts_with("ram");
        let whole = !sys.join("partition").exists() && !sys.join("dm").exists();
        if whole && !memory && !zero("size") && zero("ro") {
            found.extend(node(&sys));
        }
    }
    found.sort();
    Ok(found)
}

/// The node in `/dev` of a directory of sysfs.
fn node(sys: &Path) -> Option<PathBuf> {
    let uevent = std::fs::read_to_string(sys.join("uevent")).ok()?;
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(Path::new("/dev").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_their_whole_name() {
        let line = r"36 35 98:0 / /mnt/a\040b rw,noatime master:1 - ext4 /dev/root rw";
        assert_eq!(mount(line, Path::new("/mnt/a b")), Some(("98:0", "/dev/root")));
        assert_eq!(mount(line, Path::new("/mnt/a")), None);
        assert_eq!(mount("1 2 3", Path::new("/")), None);
        assert_eq!(unescaped(r"\9\0"), br"\9\0");
    }

    #[test]
    fn an_encrypted_device_smaller_than_its_disk_could_grow() {
        let of = |encrypted| Mounted { size: 1 << 30, encrypted };
        assert!(!of(None).could_grow());
        assert!(!of(Some(16 << 20)).could_grow());
        assert!(of(Some((16 << 20) + 512)).could_grow());
    }

    #[test]
    fn the_argument_is_as_the_kernel_has_it() {
        // From <linux/blkpg.h>, on machines of 64 bits.
        assert_eq!((size_of::<Partition>(), size_of::<Argument>()), (152, 24));
    }
}
