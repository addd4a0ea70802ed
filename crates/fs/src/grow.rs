//! Growing a mounted file system to its device: ext4, xfs and btrfs, by the kernel.
//!
//! What it is: the calls. What it is not: finding the device (the caller has its size),
//! and file systems that are not mounted.
//!
//! Sources: Linux `fs/ext4/ioctl.c`, `fs/xfs/libxfs/xfs_fs.h`, `<linux/btrfs.h>`;
//! systemd-growfs(8).

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{FsWord, fstatfs};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Setter, ioctl};

const EXT: FsWord = 0xef53;
const XFS: FsWord = 0x5846_5342;
const BTRFS: FsWord = 0x9123_683e;
/// `_IOW('f', 16, u64)`: the new number of blocks.
const EXT4_IOC_RESIZE_FS: u32 = 0x4008_6610;
/// `_IOR('X', 100, struct xfs_fsop_geom_v1)`.
const XFS_IOC_FSGEOMETRY_V1: u32 = 0x8070_5864;
/// `_IOW('X', 110, struct xfs_growfs_data)`.
const XFS_IOC_FSGROWFSDATA: u32 = 0x4010_586e;
/// `_IOW(0x94, 3, struct btrfs_ioctl_vol_args)`.
const BTRFS_IOC_RESIZE: u32 = 0x5000_9403;

/// Why a file system does not grow.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    /// There is no way for this one.
    #[error("a file system of this type (0x{0:x}) cannot grow while it is mounted")]
    Type(FsWord),
    /// Smaller than the smallest.
    #[error("{name} needs a device of {needed} bytes at least, this one has {given}")]
    TooSmall {
        /// Which file system.
        name: &'static str,
        /// How large it has to be.
        needed: u64,
        /// How large the device is.
        given: u64,
    },
    /// The kernel does not do it.
    #[error("the kernel does not grow the {name} file system")]
    Kernel {
        /// Which file system.
        name: &'static str,
        /// What it says.
        #[source]
        source: std::io::Error,
    },
}

/// Which file systems can grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ext4, and ext2 and ext3 where ext4 has mounted them.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs on one device.
    Btrfs,
}

#[repr(C)]
struct XfsGeometry {
    block_size: u32,
    unused: [u32; 6],
    inode_percent: u32,
    data_blocks: u64,
    rest: [u64; 9],
}

#[repr(C)]
struct XfsGrow {
    blocks: u64,
    inode_percent: u32,
    padding: u32,
}

#[repr(C)]
struct BtrfsResize {
    device: i64,
    name: [u8; 4088],
}

impl Kind {
    /// That of an open mount point.
    pub fn of(mount: &File) -> Result<Kind, GrowError> {
        let kernel = |e: Errno| GrowError::Kernel { name: "mounted", source: e.into() };
        match fstatfs(mount).map_err(kernel)?.f_type {
            EXT => Ok(Kind::Ext4),
            XFS => Ok(Kind::Xfs),
            BTRFS => Ok(Kind::Btrfs),
            other => Err(GrowError::Type(other)),
        }
    }

    /// What messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
            Kind::Btrfs => "btrfs",
        }
    }

    /// No smaller one can grow.
    fn smallest(self) -> u64 {
        match self {
            Kind::Ext4 => 32 << 20,
            Kind::Xfs => 300 << 20,
            Kind::Btrfs => 256 << 20,
        }
    }

    /// Grows it to `size` bytes, which its device has. Nothing happens if it is as large
    /// already. Returns the size that it has then.
    pub fn grow(self, mount: &File, size: u64) -> Result<u64, GrowError> {
        let (name, needed) = (self.name(), self.smallest());
        if size < needed {
            return Err(GrowError::TooSmall { name, needed, given: size });
        }
        let failed = |e: Errno| GrowError::Kernel { name, source: e.into() };
        let block = u64::try_from(fstatfs(mount).map_err(failed)?.f_bsize).unwrap_or(0).max(1);
        let blocks = size / block;
        match self {
            // SAFETY: the kernel reads a u64.
            Kind::Ext4 => unsafe {
                ioctl(mount.as_fd(), Setter::<EXT4_IOC_RESIZE_FS, u64>::new(blocks))
            },
            Kind::Xfs => xfs(mount, size),
            Kind::Btrfs => btrfs(mount, blocks * block),
        }
        .map_err(failed)?;
        Ok(blocks * block)
    }
}

fn xfs(mount: &File, size: u64) -> Result<(), Errno> {
    // SAFETY: the kernel writes a geometry of this layout, of 112 bytes.
    let geometry =
        unsafe { ioctl(mount.as_fd(), Getter::<XFS_IOC_FSGEOMETRY_V1, XfsGeometry>::new()) }?;
    let blocks = size / u64::from(geometry.block_size.max(1));
    if blocks <= geometry.data_blocks {
        return Ok(());
    }
    let grow = XfsGrow { blocks, inode_percent: geometry.inode_percent, padding: 0 };
    // SAFETY: the kernel reads an argument of this layout.
    unsafe { ioctl(mount.as_fd(), Setter::<XFS_IOC_FSGROWFSDATA, XfsGrow>::new(grow)) }
}

fn btrfs(mount: &File, size: u64) -> Result<(), Errno> {
    let mut argument = BtrfsResize { device: 0, name: [0; 4088] };
    let text = size.to_string();
    argument.name[..text.len()].copy_from_slice(text.as_bytes());
    // SAFETY: the kernel reads an argument of this layout, whose name ends with a NUL.
    unsafe { ioctl(mount.as_fd(), Setter::<BTRFS_IOC_RESIZE, BtrfsResize>::new(argument)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_as_large_as_their_numbers_say() {
        let size = |number: u32| (number >> 16 & 0x3fff) as usize;
        assert_eq!(size(EXT4_IOC_RESIZE_FS), size_of::<u64>());
        assert_eq!(size(XFS_IOC_FSGEOMETRY_V1), size_of::<XfsGeometry>());
        assert_eq!(size(XFS_IOC_FSGROWFSDATA), size_of::<XfsGrow>());
        assert_eq!(size(BTRFS_IOC_RESIZE), size_of::<BtrfsResize>());
    }

    #[test]
    fn others_are_refused_by_their_number() {
        let proc = File::open("/proc").unwrap();
        let message = Kind::of(&proc).unwrap_err().to_string();
        assert!(message.contains("0x9fa0"), "{message}");
    }
}
