//! Entry points for fuzzing: each takes any bytes and must return.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use tree::{Blob, ReadAt};

use crate::{Format, Image, archive, qcow2};

#[derive(Debug)]
struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = from.checked_add(buf.len());
        let bytes = end.and_then(|end| self.0.get(from..end));
        buf.copy_from_slice(bytes.ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn blob(data: &[u8]) -> Arc<Blob> {
    Blob::computed("fuzz", Bytes(data.to_vec()))
}

/// A disk: table, superblocks, file systems.
pub fn fuzz_disk(data: &[u8]) {
    if let Ok(image) = Image::of_disk(Path::new("fuzz"), Format::Raw, blob(data)) {
        for partition in &image.partitions {
            let _ = (partition.title(), image.free(partition));
        }
        let _ = image.read();
    }
}

/// A disk in qcow2 format: every byte of a small one, both ends of a large one.
pub fn fuzz_qcow2(data: &[u8]) {
    let Ok(Some(disk)) = qcow2::open(Path::new("fuzz"), &blob(data)) else { return };
    let size = disk.size().unwrap_or(0);
    let mut buffer = vec![0; 4096];
    for at in (0..size.min(1 << 20)).step_by(4096).chain([size.saturating_sub(4096)]) {
        let n = size.saturating_sub(at).min(4096) as usize;
        let _ = disk.read_exact_at(&mut buffer[..n], at);
    }
}

/// An archive, compressed or not.
pub fn fuzz_archive(data: &[u8]) {
    let Ok(mut file) = tempfile::tempfile() else { return };
    if file.write_all(data).is_ok() {
        let file: File = file;
        let _ = archive::read_if_archive(Path::new("fuzz"), &Blob::opened("fuzz", file, None));
    }
}
