//! The header of a swap partition, as mkswap writes it (version 1). The rest of
//! the partition is left as it is.
//!
//! Source: swapon(8), and the header that mkswap of util-linux 2.41 writes.

use std::fs::File;

use uuid::Uuid;

use crate::FsError;
use crate::bytes::*;
use crate::output::{self, Data, Piece};

const NAME: &str = "swap";
const PAGE: u64 = 4096;
/// The kernel wants at least this many pages.
const PAGES_MIN: u64 = 10;

/// What a swap area is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapOptions {
    /// Its UUID.
    pub uuid: Uuid,
    /// At most 15 bytes, which is what mkswap keeps.
    pub label: String,
    /// Bytes of the partition.
    pub size: u64,
}

/// Writes the header of a swap area at `offset` of `out`, which is made longer if it
/// is too short. Pages have 4096 bytes: so they do on every architecture that we
/// build for by default.
pub fn write(options: &SwapOptions, out: &File, offset: u64) -> Result<(), FsError> {
    if options.label.len() > 15 || options.label.contains('\0') {
        let what = format!("label {:?} is over 15 bytes or has a NUL", options.label);
        return Err(FsError::Parameter { fs: NAME, what });
    }
    let pages = options.size / PAGE;
    if pages < PAGES_MIN {
        let (given, needed) = (options.size, PAGES_MIN * PAGE);
        return Err(FsError::TooSmall { fs: NAME, given, needed });
    }
    let last = u32::try_from(pages - 1).map_err(|_| FsError::Parameter {
        fs: NAME,
        what: format!("{} bytes are more than 16 TiB", options.size),
    })?;
    let mut header = vec![0; PAGE as usize];
    put32(&mut header, 1024, 1); // version
    put32(&mut header, 1028, last);
    header[1036..1052].copy_from_slice(options.uuid.as_bytes());
    header[1052..1052 + options.label.len()].copy_from_slice(options.label.as_bytes());
    header[4086..].copy_from_slice(b"SWAPSPACE2");
    output::extend(NAME, out, offset, options.size)?;
    output::write(NAME, out, vec![Piece { at: offset, data: Data::Owned(header) }])
}
