//! Carries out a plan on an image file: contents first, the table last.
//!
//! What it is: the order of the writes, `CopyBlocks=` of a file, `SplitName=`, and the
//! check that nobody writes outside of its partition's file. What it is not: file
//! systems, which a [`PartitionFiller`] makes, and changing a disk that has something
//! on it, which a later release does: such plans are refused.
//!
//! Data flow: `Plan` + the files of the image → `populate` → filler → one sparse file,
//! which gets its name only when it is complete.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use report::{Reporter, Unit};
use tree::{Content, Segment, Tree, TreePath};

use crate::definition::{CopyBlocks, Definition, Minimize};
use crate::plan::{Activity, Identity, Plan, PlannedPartition};
use crate::populate::{self, PopulateError, populate};
use crate::{Bytes, gpt};

/// An error of a file system's writer.
pub type FillError = Box<dyn std::error::Error + Send + Sync>;

/// Makes the content of partitions: the caller has the file systems.
pub trait PartitionFiller {
    /// Writes `partition.format` with `tree` in it (`None`: nothing goes in, as into
    /// swap) to the `size` bytes of `out` from `offset`, which are all zero.
    fn fill(
        &self,
        partition: &PlannedPartition,
        definition: &Definition,
        tree: Option<&Tree>,
        out: &mut File,
        offset: u64,
        size: u64,
    ) -> Result<(), FillError>;

    /// The size of the smallest file system of that format that holds the tree, with
    /// the given names.
    fn measure(
        &self,
        definition: &Definition,
        identity: &Identity,
        tree: &Tree,
    ) -> Result<u64, FillError>;
}

/// What a plan is carried out with.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The definitions that it was made from.
    pub definitions: &'a [Definition],
    /// Their names.
    pub identities: &'a [Identity],
    /// Where `CopyFiles=` and `CopyBlocks=` take their files from.
    pub source: &'a Tree,
    /// `$SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
    /// The file systems.
    pub filler: &'a dyn PartitionFiller,
    /// Where progress goes.
    pub reporter: &'a dyn Reporter,
}

/// Why an image is not made.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// A setting that cannot be carried out yet.
    #[error("{file}: {setting} is not supported yet; remove it or use systemd-repart")]
    Unsupported {
        /// The definition.
        file: String,
        /// The setting with its value.
        setting: String,
    },
    /// The plan changes a disk.
    #[error("changing the partitions of an existing disk is not supported yet")]
    Existing,
    /// What goes in cannot be put together.
    #[error(transparent)]
    Populate(#[from] PopulateError),
    /// The source of `CopyBlocks=` is not usable.
    #[error("{file}: CopyBlocks={path}: {why}")]
    CopyBlocks {
        /// The definition.
        file: String,
        /// The source.
        path: TreePath,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file system could not be made or measured.
    #[error("{file}: the {format} file system cannot be made")]
    Fill {
        /// The definition.
        file: String,
        /// Which file system.
        format: String,
        /// What its writer says.
        #[source]
        source: FillError,
    },
    /// A writer made the image larger.
    #[error("{file}: the writer of {format} wrote past the end of the disk")]
    Overrun {
        /// The definition.
        file: String,
        /// Which file system.
        format: String,
    },
    /// The image file.
    #[error("{path}: {action}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The table.
    #[error(transparent)]
    Table(#[from] gpt::WriteError),
    /// Two partitions would be split into one file.
    #[error("{0} and {1}: SplitName= gives both the name {2:?}")]
    SplitTwice(String, String, String),
    /// The name cannot be one of a file.
    #[error("{0}: SplitName= gives {1:?}, which cannot be part of a file's name")]
    SplitName(String, String),
}

/// Refuses settings that are parsed and planned but cannot be carried out.
pub fn check_supported(definitions: &[Definition]) -> Result<(), ExecuteError> {
    let first = definitions.iter().find_map(|d| Some((d, d.refusals().into_iter().next()?)));
    match first {
        Some((d, setting)) => Err(ExecuteError::Unsupported { file: d.path.clone(), setting }),
        None => Ok(()),
    }
}

/// The sizes of contents that a plan has to know: of `CopyBlocks=` sources, and of file
/// systems with `Minimize=`. For `best` that is the smallest possible, for `guess`
/// half as much again (xfs: twice), as systemd-repart guesses.
pub fn content_sizes(
    definitions: &[Definition],
    identities: &[Identity],
    source: &Tree,
    epoch: Option<i64>,
    filler: &dyn PartitionFiller,
) -> Result<BTreeMap<usize, Bytes>, ExecuteError> {
    check_supported(definitions)?;
    let mut sizes = BTreeMap::new();
    for (definition, d) in definitions.iter().enumerate() {
        if d.copy_blocks.is_some() {
            sizes.insert(definition, Bytes(blocks(d, source)?.len()));
        } else if d.minimize != Minimize::Off && d.populates() {
            let supplements = supplements_of(definitions, d);
            let request = populate::Request {
                definitions,
                definition,
                supplements: &supplements,
                identities,
                source,
                epoch,
            };
            let tree = populate(&request)?.tree;
            let measured = filler
                .measure(d, &identities[definition], &tree)
                .map_err(|source| fill_error(d, source))?;
            sizes.insert(definition, Bytes(with_room(d, measured)));
        }
    }
    Ok(sizes)
}

fn supplements_of(definitions: &[Definition], target: &Definition) -> Vec<usize> {
    let stem = target.name.strip_suffix(".conf");
    let is_one = |d: &Definition| d.supplement_for.is_some() && d.supplement_for.as_deref() == stem;
    (0..definitions.len()).filter(|i| is_one(&definitions[*i])).collect()
}

/// What a minimized file system gets: a writable one needs room to be used.
fn with_room(d: &Definition, measured: u64) -> u64 {
    let room = match (d.minimize, d.format.as_deref()) {
        _ if d.has_read_only_format() => measured,
        (Minimize::Guess, Some("xfs")) => measured.saturating_mul(2),
        (Minimize::Guess, _) => measured.saturating_add(measured / 2),
        _ => measured,
    };
    let rounded = room.checked_next_multiple_of(4096).unwrap_or(room);
    match d.has_read_only_format() {
        true => rounded,
        false => rounded.max(d.size_min.unwrap_or(0)),
    }
}

/// Makes the image at `path`: under another name in the same directory, which is
/// replaced when everything is on the disk.
pub fn create_image(work: &Work<'_>, path: &Path) -> Result<(), ExecuteError> {
    let wrong = |action| move |source| ExecuteError::Io { path: path.to_owned(), action, source };
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new()
        .prefix(".mkgold-")
        .suffix(".raw")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(parent)
        .map_err(wrong("the temporary file cannot be made"))?;
    write_image(work, temporary.as_file_mut(), path)?;
    temporary.as_file().sync_all().map_err(wrong("the image cannot be flushed"))?;
    temporary.persist(path).map_err(|e| wrong("the image cannot be renamed")(e.error))?;
    Ok(())
}

/// Makes the image in an empty file; `shown` is its name in messages.
pub fn write_image(work: &Work<'_>, out: &mut File, shown: &Path) -> Result<(), ExecuteError> {
    check_supported(work.definitions)?;
    if !work.plan.fresh {
        return Err(ExecuteError::Existing);
    }
    let wrong = |action| move |source| ExecuteError::Io { path: shown.to_owned(), action, source };
    let size = work.plan.disk_size.0;
    out.set_len(0).map_err(wrong("the image cannot be emptied"))?;
    out.set_len(size).map_err(wrong("the image cannot be sized"))?;
    let total = Some(work.plan.partitions.len() as u64);
    let step = work.reporter.step("partitions", shown.display().to_string(), total, Unit::Items);
    for (done, partition) in (1..).zip(&work.plan.partitions) {
        write_partition(work, partition, out, shown)?;
        let now = out.metadata().map_err(wrong("the image cannot be examined"))?.len();
        if now != size {
            let file = partition.file.clone().unwrap_or_default();
            let format = partition.format.clone().unwrap_or_default();
            return Err(ExecuteError::Overrun { file, format });
        }
        step.progress(done);
    }
    out.sync_data().map_err(wrong("the image cannot be flushed"))?;
    gpt::write(out, &work.plan.table)?;
    step.done();
    Ok(())
}

fn write_partition(
    work: &Work<'_>,
    partition: &PlannedPartition,
    out: &mut File,
    shown: &Path,
) -> Result<(), ExecuteError> {
    let (Some(definition), Activity::Create) = (partition.definition, partition.activity) else {
        return Ok(());
    };
    let d = &work.definitions[definition];
    if d.copy_blocks.is_some() {
        return copy(blocks(d, work.source)?, out, partition.offset.0).map_err(|source| {
            let action = "the blocks of CopyBlocks= cannot be copied";
            ExecuteError::Io { path: shown.to_owned(), action, source }
        });
    }
    if d.format.is_none() {
        return Ok(());
    }
    let mut tree = None;
    let swap = d.format.as_deref() == Some("swap");
    if !swap && (d.populates() || !partition.supplements.is_empty()) {
        let populated = populate(&populate::Request {
            definitions: work.definitions,
            definition,
            supplements: &partition.supplements,
            identities: work.identities,
            source: work.source,
            epoch: work.epoch,
        })?;
        populated.notes.iter().for_each(|note| work.reporter.note(note));
        tree = Some(populated.tree);
    }
    // A minimized file system keeps its size; it grows on first boot.
    let size = partition.content.map_or(partition.size.0, |c| c.0.min(partition.size.0));
    work.filler
        .fill(partition, d, tree.as_ref(), out, partition.offset.0, size)
        .map_err(|source| fill_error(d, source))
}

fn fill_error(d: &Definition, source: FillError) -> ExecuteError {
    let format = d.format.clone().unwrap_or_default();
    ExecuteError::Fill { file: d.path.clone(), format, source }
}

/// The file of `CopyBlocks=`.
fn blocks<'a>(d: &Definition, source: &'a Tree) -> Result<&'a Content, ExecuteError> {
    let Some(CopyBlocks::Path(path)) = &d.copy_blocks else {
        let setting = "CopyBlocks=auto".into();
        return Err(ExecuteError::Unsupported { file: d.path.clone(), setting });
    };
    let wrong = |why| ExecuteError::CopyBlocks { file: d.path.clone(), path: path.clone(), why };
    let node = source.lookup(path).ok_or_else(|| wrong("there is no such file"))?;
    let content = node.content().ok_or_else(|| wrong("only a regular file can be copied"))?;
    if content.is_empty() || !content.len().is_multiple_of(512) {
        return Err(wrong("its size is not a multiple of 512 above 0"));
    }
    Ok(content)
}

/// Copies a content to an offset; holes stay holes.
fn copy(content: &Content, out: &mut File, mut at: u64) -> io::Result<()> {
    for segment in content.segments() {
        match segment {
            Segment::Hole { .. } => {}
            Segment::Bytes(bytes) => {
                out.seek(SeekFrom::Start(at))?;
                out.write_all(bytes)?;
            }
            Segment::Range { blob, offset, len } => {
                blob.with_file(|from| copy_range(from, offset, len, out, at))?;
            }
        }
        at += segment.len();
    }
    Ok(())
}

fn copy_range(from: &File, mut offset: u64, len: u64, out: &File, mut at: u64) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut left = len;
    while left > 0 {
        let n = left.min(buffer.len() as u64) as usize;
        from.read_exact_at(&mut buffer[..n], offset)?;
        if buffer[..n].iter().any(|b| *b != 0) {
            out.write_all_at(&buffer[..n], at)?;
        }
        (offset, at, left) = (offset + n as u64, at + n as u64, left - n as u64);
    }
    Ok(())
}

/// The files that `--split=yes` makes of an image: each partition with its path.
pub fn split_artifacts<'a>(
    plan: &'a Plan,
    image: &Path,
) -> Result<Vec<(&'a PlannedPartition, PathBuf)>, ExecuteError> {
    let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (base, suffix) = match name.strip_suffix(".raw") {
        Some(base) => (base, ".raw"),
        None => (name.as_str(), ""),
    };
    let mut seen: BTreeMap<&str, &PlannedPartition> = BTreeMap::new();
    let mut files = Vec::new();
    for partition in &plan.partitions {
        let Some(split) = partition.split_name.as_deref() else { continue };
        let file = |p: &PlannedPartition| p.file.clone().unwrap_or_default();
        if split.is_empty() || split.contains(['/', '\0']) || split.len() > 200 {
            return Err(ExecuteError::SplitName(file(partition), split.to_owned()));
        }
        if let Some(other) = seen.insert(split, partition) {
            let (a, b) = (file(other), file(partition));
            return Err(ExecuteError::SplitTwice(a, b, split.to_owned()));
        }
        files.push((partition, image.with_file_name(format!("{base}.{split}{suffix}"))));
    }
    Ok(files)
}
