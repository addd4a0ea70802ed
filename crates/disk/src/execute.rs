//! Carries out a plan on an image file: contents first, the table last.
//!
//! What it is: the order of the writes, `CopyBlocks=` of a file, and the
//! check that nobody writes outside of its partition. What it is not: file systems,
//! which a [`PartitionFiller`] makes, and the decision what to do with a disk that has
//! something on it already ([`crate::repart`]).
//!
//! Data flow: `Plan` + the files of the image → `populate` → filler → one sparse file.
//! A new image gets its name only when it is complete.
//!
//! # The protocol of the writes (S8)
//!
//! Everything goes through [`Medium`]. What is written between two syncs may reach the
//! disk in any order, or in part. With this order, whatever a power cut leaves is a disk
//! whose table can be read, on which no partition that existed has changed, and on which
//! the next run finishes (`tests/crash.rs` replays it):
//!
//! 1. *Repair.* If the table was read from its backup: the primary copy is written from
//!    it; sync. From here on the primary copy is whole.
//! 2. *Size.* The file is made longer; sync. The backup of the old table is no longer at
//!    the end of the disk: the primary copy, which is whole, counts.
//! 3. *Contents.* The range of each new partition is cleared and written; sync. No entry
//!    of the table on the disk names these ranges: nobody can see half of it. Ranges of
//!    partitions that exist are never written, nor is space that belongs to nobody.
//!    (The sync keeps the backup copy of 4 from naming contents that are not there, should
//!    the primary copy be lost for another reason; without it the rest would hold, too.)
//! 4. *Table* ([`gpt::write`]): the backup copy; sync; the primary copy; sync; the
//!    protective MBR; sync. Up to the second sync of these the primary copy is the old
//!    one or broken, and if it is broken the backup is the new one, whole, and what it
//!    names is on the disk because of 3. On a disk without a table the MBR comes last,
//!    so half of a table is none.
//!
//! A factory reset is steps 1 and 4 with the entries left out, and then all four. On a
//! disk that is emptied on purpose (`--empty=force`) step 3 begins with clearing all of
//! it, and what was there is lost from there on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use report::{Reporter, Unit};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use tempfile::NamedTempFile;
use tree::{Content, Segment, Tree, TreePath};

use crate::definition::{CopyBlocks, Definition, Minimize};
use crate::gpt::{Damage, Found};
use crate::plan::{Activity, Identity, Plan, PlannedPartition};
use crate::populate::{self, PopulateError, populate};
use crate::{Bytes, Medium, gpt};

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
    /// The plan is for a disk that has a table already.
    #[error("the plan changes a disk, it does not make a new image")]
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
    /// The blocks could not be copied.
    #[error("{path}: the blocks of CopyBlocks= cannot be copied")]
    Copy {
        /// The image.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: FillError,
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
}

/// Refuses settings that are parsed and planned but cannot be carried out.
pub fn check_supported<'a>(
    definitions: impl IntoIterator<Item = &'a Definition>,
) -> Result<(), ExecuteError> {
    let first = definitions.into_iter().find_map(|d| Some((d, d.refusals().into_iter().next()?)));
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
    let all = (0..definitions.len()).collect();
    content_sizes_of(&all, definitions, identities, source, epoch, filler)
}

/// The same for some of the definitions, by index: for those that have no partition yet.
pub fn content_sizes_of(
    wanted: &BTreeSet<usize>,
    definitions: &[Definition],
    identities: &[Identity],
    source: &Tree,
    epoch: Option<i64>,
    filler: &dyn PartitionFiller,
) -> Result<BTreeMap<usize, Bytes>, ExecuteError> {
    check_supported(wanted.iter().map(|i| &definitions[*i]))?;
    let mut sizes = BTreeMap::new();
    for definition in wanted.iter().copied() {
        let d = &definitions[definition];
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
    let temporary = complete_image(work, path, 0o644, true)?;
    let wrong = |source| io_error(path, "the image cannot be renamed", source);
    temporary.persist(path).map(|_| ()).map_err(|e| wrong(e.error))
}

/// The same where nothing is replaced: it is an error if there is such a file. Who may
/// read and write it is up to the umask.
pub fn create_new_image(
    work: &Work<'_>,
    path: &Path,
    copy_on_write: bool,
) -> Result<(), ExecuteError> {
    let wrong = |source| io_error(path, "the image cannot be made", source);
    if path.symlink_metadata().is_ok() {
        return Err(wrong(io::ErrorKind::AlreadyExists.into()));
    }
    let temporary = complete_image(work, path, 0o666, copy_on_write)?;
    temporary.persist_noclobber(path).map(|_| ()).map_err(|e| wrong(e.error))
}

fn io_error(path: &Path, action: &'static str, source: io::Error) -> ExecuteError {
    ExecuteError::Io { path: path.to_owned(), action, source }
}

/// The whole image, on the disk, under another name in the directory of `path`.
fn complete_image(
    work: &Work<'_>,
    path: &Path,
    mode: u32,
    copy_on_write: bool,
) -> Result<NamedTempFile, ExecuteError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new()
        .prefix(".mkgold-")
        .suffix(".raw")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(parent)
        .map_err(|e| io_error(path, "the temporary file cannot be made", e))?;
    if !copy_on_write {
        in_place(work, temporary.as_file());
    }
    write_image(work, temporary.as_file_mut(), path)?;
    let synced = temporary.as_file().sync_all();
    synced.map_err(|e| io_error(path, "the image cannot be flushed", e))?;
    Ok(temporary)
}

/// Has the file system not copy what is written again. Where it does not know that, it
/// does not copy either, or there is no way.
fn in_place(work: &Work<'_>, file: &File) {
    let set = ioctl_getflags(file).and_then(|f| ioctl_setflags(file, f | IFlags::NOCOW));
    if let Err(e) = set {
        work.reporter.note(format!("the file system does not take --cow=no: {e}"));
    }
}

/// Makes the image in an empty file; `shown` is its name in messages.
pub fn write_image(work: &Work<'_>, out: &mut File, shown: &Path) -> Result<(), ExecuteError> {
    if !work.plan.fresh {
        return Err(ExecuteError::Existing);
    }
    let wrong = |action| move |source| ExecuteError::Io { path: shown.to_owned(), action, source };
    out.set_len(0).map_err(wrong("the image cannot be emptied"))?;
    carry_out(work, out, Before::Zeroes, shown)
}

/// What is on a disk before a plan is carried out.
#[derive(Debug, Clone, Copy)]
pub enum Before<'a> {
    /// Nothing: it reads as zeroes.
    Zeroes,
    /// Anything, and none of it counts. What is cleared is given back to the file system
    /// below if the flag says so.
    Waste(bool),
    /// A table and its partitions; the flag is as for [`Before::Waste`].
    Table(&'a Found, bool),
}

/// Carries out a plan; see the protocol at the head of this module. Writes nothing if
/// everything is as planned already.
pub fn carry_out<M: Medium>(
    work: &Work<'_>,
    out: &mut M,
    before: Before<'_>,
    shown: &Path,
) -> Result<(), ExecuteError> {
    let wrong = |action| move |source| ExecuteError::Io { path: shown.to_owned(), action, source };
    let created = |p: &&PlannedPartition| p.activity == Activity::Create && !p.deferred;
    let new: Vec<&PlannedPartition> = work.plan.partitions.iter().filter(created).collect();
    check_supported(new.iter().filter_map(|p| p.definition).map(|i| &work.definitions[i]))?;
    if let Before::Table(found, _) = before
        && found.damage.contains(&Damage::Primary)
    {
        gpt::repair_primary(out, &found.table)?;
    }
    let size = work.plan.disk_size.0;
    let length = out.len().map_err(wrong("the image cannot be examined"))?;
    if length < size {
        out.set_len(size)
            .and_then(|()| out.sync())
            .map_err(wrong("the image cannot be made larger"))?;
    }
    if let Before::Waste(discard) = before {
        clear_all(out, size, discard).map_err(wrong("the image cannot be cleared"))?;
    }
    let total = Some(new.len() as u64);
    let step = work.reporter.step("partitions", shown.display().to_string(), total, Unit::Items);
    for (done, partition) in (1..).zip(&new) {
        clear(work, partition, out, before).map_err(wrong("a partition cannot be cleared"))?;
        write_partition(work, partition, out, shown)?;
        if out.len().map_err(wrong("the image cannot be examined"))? != length.max(size) {
            let file = partition.file.clone().unwrap_or_default();
            let format = partition.format.clone().unwrap_or_default();
            return Err(ExecuteError::Overrun { file, format });
        }
        step.progress(done);
    }
    let as_it_is = |found: &Found| found.table == work.plan.table && found.damage.is_empty();
    if !matches!(before, Before::Table(found, _) if new.is_empty() && as_it_is(found)) {
        out.sync().map_err(wrong("the image cannot be flushed"))?;
        gpt::write(out, &work.plan.table)?;
    }
    step.done();
    Ok(())
}

/// Where the marks of file systems, RAIDs and tables are, from the start and the end of
/// a range. Those farther in (the backup headers of LUKS2 and btrfs) are not taken for
/// anything without these.
const MARKS: (u64, u64) = (8 << 20, 1 << 20);

fn clear_marks(out: &mut dyn Medium, at: u64, len: u64) -> io::Result<()> {
    let (head, tail) = (MARKS.0.min(len), MARKS.1.min(len));
    out.clear(at, head, false)?;
    out.clear(at + (len - tail), tail, false)
}

fn clear_all(out: &mut dyn Medium, size: u64, discard: bool) -> io::Result<()> {
    match discard {
        true => out.clear(0, size, true)?,
        false => clear_marks(out, 0, size)?,
    }
    out.sync()
}

/// Makes the range of a new partition what writers expect: zeroes.
fn clear(
    work: &Work<'_>,
    partition: &PlannedPartition,
    out: &mut dyn Medium,
    before: Before<'_>,
) -> io::Result<()> {
    let (at, len) = (partition.offset.0, partition.size.0);
    let definition = partition.definition.map(|i| &work.definitions[i]);
    let filled = definition.is_some_and(|d| d.format.is_some() || d.copy_blocks.is_some());
    match before {
        Before::Zeroes | Before::Waste(true) => Ok(()),
        Before::Table(_, true) => out.clear(at, len, true),
        Before::Waste(false) | Before::Table(_, false) if filled => out.clear(at, len, false),
        Before::Waste(false) | Before::Table(_, false) => clear_marks(out, at, len),
    }
}

fn write_partition(
    work: &Work<'_>,
    partition: &PlannedPartition,
    out: &mut dyn Medium,
    shown: &Path,
) -> Result<(), ExecuteError> {
    let Some(definition) = partition.definition else { return Ok(()) };
    let d = &work.definitions[definition];
    let (at, len) = (partition.offset.0, partition.size.0);
    if d.copy_blocks.is_some() {
        let content = blocks(d, work.source)?;
        let copied = out.contents(at, len, &mut |file| Ok(copy(content, file, at)?));
        return copied.map_err(|source| ExecuteError::Copy { path: shown.to_owned(), source });
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
    let size = partition.content.map_or(len, |c| c.0.min(len));
    let filled = out.contents(at, len, &mut |file| {
        work.filler.fill(partition, d, tree.as_ref(), file, at, size)
    });
    filled.map_err(|source| fill_error(d, source))
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
