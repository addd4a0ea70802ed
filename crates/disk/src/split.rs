//! Partitions as files of their own: `SplitName=`, `--split=yes`.
//!
//! What it is: the names of the files, and the copying. What it is not: the image, which
//! is complete before anything is copied ([`crate::execute`]).
//!
//! Specification: repart.d(5), systemd-repart(8).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::plan::{Plan, PlannedPartition};

/// Bytes are copied in pieces of this size; such a piece of zeroes becomes a hole.
const PIECE: usize = 64 << 10;

/// Why there are no such files.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// Two partitions would be split into one file.
    #[error("{0} and {1}: SplitName= gives both the name {2:?}")]
    Twice(String, String, String),
    /// The name cannot be one of a file.
    #[error("{0}: SplitName= gives {1:?}, which cannot be part of a file's name")]
    Name(String, String),
    /// The image or the file.
    #[error("{path}: the partition cannot be copied to it")]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

impl Plan {
    /// Sets the paths of the files, for the JSON of the plan.
    pub fn name_splits(&mut self) -> Result<(), SplitError> {
        let files = artifacts(self)?;
        let paths: BTreeMap<u32, String> =
            files.into_iter().map(|(p, path)| (p.slot, path.display().to_string())).collect();
        for partition in &mut self.partitions {
            partition.split_path = paths.get(&partition.slot).cloned();
        }
        Ok(())
    }
}

/// The files that `--split=yes` makes of an image: each partition with its path.
pub fn artifacts(plan: &Plan) -> Result<Vec<(&PlannedPartition, PathBuf)>, SplitError> {
    let image = Path::new(&plan.device);
    let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (base, suffix) = match name.strip_suffix(".raw") {
        Some(base) => (base, ".raw"),
        None => (name.as_str(), ""),
    };
    let mut seen: BTreeMap<&str, &PlannedPartition> = BTreeMap::new();
    let mut files = Vec::new();
    for partition in plan.partitions.iter().filter(|p| !p.deferred) {
        let Some(split) = partition.split_name.as_deref() else { continue };
        let file = |p: &PlannedPartition| p.file.clone().unwrap_or_default();
        if split.is_empty() || split.contains(['/', '\0']) || split.len() > 200 {
            return Err(SplitError::Name(file(partition), split.to_owned()));
        }
        if let Some(other) = seen.insert(split, partition) {
            let (a, b) = (file(other), file(partition));
            return Err(SplitError::Twice(a, b, split.to_owned()));
        }
        files.push((partition, image.with_file_name(format!("{base}.{split}{suffix}"))));
    }
    Ok(files)
}

/// Copies the range of a partition to a new file, which must not be there. If that fails,
/// there is none.
pub fn copy(image: &File, partition: &PlannedPartition, path: &Path) -> Result<(), SplitError> {
    let wrong = |source| SplitError::Io { path: path.to_owned(), source };
    let mut how = OpenOptions::new();
    let out = how.write(true).create_new(true).mode(0o666).open(path).map_err(wrong)?;
    let done = copy_range(image, partition.offset.0, partition.size.0, &out);
    done.map_err(|e| {
        // It is this call that made it, and it is of no use.
        let _ = std::fs::remove_file(path);
        wrong(e)
    })
}

fn copy_range(from: &File, offset: u64, len: u64, out: &File) -> io::Result<()> {
    out.set_len(len)?;
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    while done < len {
        let n = (len - done).min(PIECE as u64) as usize;
        from.read_exact_at(&mut buffer[..n], offset + done)?;
        if buffer[..n].iter().any(|b| *b != 0) {
            out.write_all_at(&buffer[..n], done)?;
        }
        done += n as u64;
    }
    out.sync_all()
}
