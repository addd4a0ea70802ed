//! A disk that takes a machine's writes, so that the image below stays as it is.
//!
//! What it is: the first clusters of a qcow2 image (version 3) that has nothing in it
//! but the name of its backing file. It may be larger than that: beyond its end the
//! disk reads as zeroes, as a larger disk onto which the image was written.
//!
//! Format: QEMU's docs/interop/qcow2. All numbers are big-endian.

use std::path::Path;

/// Clusters of 64 KiB.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// What one entry of the first table covers: a cluster full of 8-byte entries.
const COVERED: u64 = CLUSTER * CLUSTER / 8;
/// What the first table covers if it is one cluster.
pub const MAX_SIZE: u64 = COVERED * (CLUSTER / 8);
/// The header without extensions.
const HEADER: usize = 104;
/// The header extension that names the format of the backing file.
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// More than the format allows for the name of the backing file.
const MAX_NAME: usize = 1023;

/// Why there is no overlay.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The name does not fit.
    #[error("{path}: the path of the image is longer than {MAX_NAME} bytes")]
    Name {
        /// The image.
        path: String,
    },
    /// The size does not fit.
    #[error("a disk of {size} bytes is not a multiple of 512 up to {MAX_SIZE}")]
    Size {
        /// The size.
        size: u64,
    },
}

/// An empty overlay of `size` bytes on the raw image at `backing`, a path as QEMU
/// sees it.
pub fn qcow2(backing: &Path, size: u64) -> Result<Vec<u8>, OverlayError> {
    let name = backing.as_os_str().as_encoded_bytes();
    if name.len() > MAX_NAME {
        return Err(OverlayError::Name { path: backing.display().to_string() });
    }
    if size > MAX_SIZE || !size.is_multiple_of(512) {
        return Err(OverlayError::Size { size });
    }
    let (refcounts, refcount_block, table) = (CLUSTER, 2 * CLUSTER, 3 * CLUSTER);
    let mut image = vec![0; 4 * CLUSTER as usize];
    let mut put = |at: u64, bytes: &[u8]| {
        image[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    };
    let name_at = HEADER as u64 + 24;
    put(0, b"QFI\xfb");
    put(4, &3u32.to_be_bytes());
    put(8, &name_at.to_be_bytes());
    put(16, &(name.len() as u32).to_be_bytes());
    put(20, &CLUSTER_BITS.to_be_bytes());
    put(24, &size.to_be_bytes());
    put(36, &(size.div_ceil(COVERED) as u32).to_be_bytes());
    put(40, &table.to_be_bytes());
    put(48, &refcounts.to_be_bytes());
    put(56, &1u32.to_be_bytes());
    // Reference counts of 16 bits.
    put(96, &4u32.to_be_bytes());
    put(100, &(HEADER as u32).to_be_bytes());
    put(104, &BACKING_FORMAT.to_be_bytes());
    put(108, &3u32.to_be_bytes());
    put(112, b"raw");
    put(name_at, name);
    put(refcounts, &refcount_block.to_be_bytes());
    for cluster in 0..4 {
        put(refcount_block + 2 * cluster, &1u16.to_be_bytes());
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The header of `qemu-img create -f qcow2 -b /i/d.raw -F raw o 5G` (QEMU 10.0), but
    // for the lazily filled feature name table and the byte of the compression type.
    #[test]
    fn the_header_is_that_of_qemu_img() {
        let image = qcow2(Path::new("/i/d.raw"), 5 << 30).unwrap();
        assert_eq!(image[..8], *b"QFI\xfb\0\0\0\x03");
        assert_eq!(image[8..24], [0, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0, 8, 0, 0, 0, 16]);
        assert_eq!(image[24..40], [0, 0, 0, 1, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10]);
        assert_eq!(image[128..136], *b"/i/d.raw");
        assert_eq!(image.len(), 4 << 16);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(qcow2(Path::new("/x"), 513).is_err());
        assert!(qcow2(Path::new("/x"), MAX_SIZE + 512).is_err());
        assert!(qcow2(Path::new(&"x".repeat(1024)), 512).is_err());
        assert!(qcow2(Path::new("/x"), MAX_SIZE).is_ok());
    }
}
