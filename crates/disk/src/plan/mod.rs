//! The planner: definitions and a found table become a [`Plan`].
//!
//! What it is: a pure function. It matches definitions with partitions, decides what
//! is left out, divides the space, places and numbers the partitions and names them.
//! What it is not: the doing ([`crate::execute`]), and the measuring of contents,
//! whose sizes come in as numbers.
//!
//! Data flow: `list` (matching, identifiers) → `fit` (what fits, what is dropped) →
//! `distribute` (sizes) → `place` (offsets, slots, the new table); `show` prints.
//!
//! All numbers inside are bytes. Everything from a definition or a table is
//! saturating: what is too large does not fit and is refused for that.
//!
//! Specification: repart.d(5), systemd-repart(8); recorded answers of the original
//! in `tests/data`.

mod distribute;
mod fit;
mod list;
mod place;
mod show;
mod size;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::definition::{Definition, Minimize};
use crate::gpt::{Found, Problem, Table, TooSmall};
use crate::units::round_up;
use crate::{Bytes, Compat, Guid, SectorSize, Sectors, TypeGuid, derive};

pub use list::supplement_problems;
pub use show::{Style, pretty};

/// A disk larger than this is not planned for: what a file can have.
pub const MAX_DISK: u64 = i64::MAX as u64;
/// Sizes of disks are rounded up to this.
const DISK_GRAIN: u64 = 4096;

/// How large the disk shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// As large as it is; a new one as small as it can be.
    Keep,
    /// At least this, rounded up to 4096.
    Fixed(Bytes),
    /// As small as it can be: `--size=auto`.
    Auto,
}

/// What to plan.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The definitions, in the order of their names.
    pub definitions: &'a [Definition],
    /// How large the content of a definition is, by its index: of `CopyBlocks=` the
    /// source, of `Minimize=` the file system made.
    pub content: BTreeMap<usize, Bytes>,
    /// The table that is there; `None` makes a new one.
    pub existing: Option<&'a Found>,
    /// How large the disk is, if it has no table; 0 if it is made.
    pub current: Bytes,
    /// How large the disk shall be.
    pub size: Size,
    /// What all identifiers derive from.
    pub seed: Guid,
    /// `--sector-size=`; for an existing table it must be the table's.
    pub sector_size: Option<SectorSize>,
    /// `--grain-size=`: a power of two of at least 512.
    pub grain: Option<Bytes>,
    /// True if the target is a block device and no image file.
    pub block_device: bool,
    /// What the device is called, for the node names.
    pub device: String,
    /// Which partitions are only reserved.
    pub defer: Defer,
    /// Whose decisions to take.
    pub compat: Compat,
}

/// Partitions that get a place and a slot, but are not made yet: a later run does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Defer {
    /// `--defer-partitions=`: those of these types.
    pub types: Vec<TypeGuid>,
    /// `--defer-partitions-empty=`: those that are called `_empty`.
    pub empty: bool,
    /// `--defer-partitions-factory-reset=`: those with `FactoryReset=yes`.
    pub factory_reset: bool,
}

/// What becomes of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// It is new.
    Create,
    /// It exists and grows.
    Resize,
    /// It stays as it is.
    Unchanged,
}

/// A partition after the plan is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPartition {
    /// Index of its definition; `None` for a foreign partition.
    pub definition: Option<usize>,
    /// Indices of the definitions merged into it by `SupplementFor=`.
    pub supplements: Vec<usize>,
    /// The definition's file.
    pub file: Option<String>,
    /// Its drop-ins.
    pub drop_ins: Vec<String>,
    /// Type.
    pub kind: TypeGuid,
    /// Name in the table.
    pub label: String,
    /// GUID in the table.
    pub uuid: Guid,
    /// UUID for its file system.
    pub fs_uuid: Guid,
    /// UUID for its LUKS2 header.
    pub luks_uuid: Guid,
    /// Attribute bits.
    pub flags: u64,
    /// Slot in the table, counted from 0.
    pub slot: u32,
    /// Where it begins.
    pub offset: Bytes,
    /// Its size before; 0 if it is new.
    pub old_size: Bytes,
    /// Its size.
    pub size: Bytes,
    /// The free space after it before; 0 if it is new.
    pub old_padding: Bytes,
    /// The free space after it.
    pub padding: Bytes,
    /// How much of it its content fills, if that is fixed (`CopyBlocks=`, `Minimize=`).
    pub content: Option<Bytes>,
    /// The file system to make.
    pub format: Option<String>,
    /// The size of sectors that its file system is made for.
    pub fs_sector_size: Bytes,
    /// The root hash of its verity data, once known.
    pub roothash: Option<String>,
    /// The expanded `SplitName=`.
    pub split_name: Option<String>,
    /// The file that its bytes are copied to as well (`--split=yes`).
    pub split_path: Option<String>,
    /// What happens to it.
    pub activity: Activity,
    /// It is only reserved.
    pub deferred: bool,
}

/// A definition that makes no partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Index of the definition.
    pub definition: usize,
    /// Its file.
    pub file: String,
    /// Why.
    pub reason: DropReason,
}

/// Why a definition makes no partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropReason {
    /// There is not enough space, and its priority allows to leave it out.
    Priority,
    /// The partition exists, but there is no space to grow it.
    CannotGrow,
    /// It supplements another definition, whose partition there is.
    Supplement,
}

/// What to do, completely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The size that the disk has then.
    pub disk_size: Bytes,
    /// What the disk is called.
    pub device: String,
    /// Whose decisions were taken.
    pub version: crate::Version,
    /// What partitions are aligned to.
    pub grain: Bytes,
    /// True if there is no table yet.
    pub fresh: bool,
    /// True if there is anything to do.
    pub changes: bool,
    /// Every partition, foreign ones too, in the order of the original's output.
    pub partitions: Vec<PlannedPartition>,
    /// Definitions without a partition.
    pub dropped: Vec<Dropped>,
    /// The salt for hash partitions.
    pub verity_salt: [u8; 32],
    /// The UUID for superblocks of hash partitions.
    pub verity_uuid: Guid,
    /// The table to write.
    pub table: Table,
    /// What the person should know.
    pub warnings: Vec<String>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not enough space.
    #[error("the partitions do not fit: the disk has {size}, {needed} are needed at least")]
    DoesNotFit {
        /// How large the disk is.
        size: Bytes,
        /// How large it would have to be.
        needed: Bytes,
    },
    /// The disk is too small for a table.
    #[error(transparent)]
    TooSmall(#[from] TooSmall),
    /// The sizes together are more than a disk can have.
    #[error("the partitions need more than the {} a disk can have", Bytes(MAX_DISK))]
    TooLarge,
    /// The table found is not sound.
    #[error("the partition table found is not changed, because {0}")]
    Unsound(Problem),
    /// The table was made for another sector size.
    #[error("the partition table is made for sectors of {found} bytes, not of {wanted}")]
    SectorSize {
        /// What the table has.
        found: u64,
        /// What was asked for.
        wanted: u64,
    },
    /// The grain is not one.
    #[error("a grain of {0} is not a power of two of at least 512")]
    Grain(Bytes),
    /// All slots are taken.
    #[error("the partition table has no room for another partition")]
    NoSlot,
    /// The weights do not fit.
    #[error("the weights of the partitions add up to more than 2^64")]
    Weights,
    /// A content whose size nobody gave.
    #[error("{0}: the size of what {1} gives is not known")]
    NoContentSize(String, &'static str),
    /// A content that is larger than the definition allows.
    #[error("{0}: the content needs {1}, which is more than SizeMaxBytes= allows")]
    ContentTooLarge(String, Bytes),
    /// More supplements than all combinations of which can be tried.
    #[error("there are more than {0} definitions with SupplementFor=")]
    TooManySupplements(usize),
}

/// Sizes that hold for a whole plan.
#[derive(Debug, Clone, Copy)]
struct Context {
    sector: u64,
    grain: u64,
    /// What file systems are made for unless their definition says otherwise.
    fs_sector: u64,
    compat: Compat,
}

impl Context {
    fn up(&self, value: u64) -> u64 {
        round_up(value, self.grain).unwrap_or(u64::MAX - (self.grain - 1))
    }

    fn down(&self, value: u64) -> u64 {
        crate::units::round_down(value, self.grain)
    }
}

/// Plans.
pub fn plan(request: &Request<'_>) -> Result<Plan, PlanError> {
    let context = context(request)?;
    let mut warnings = Vec::new();
    if let Some(found) = request.existing {
        if let Some(problem) = found.table.problems().into_iter().next() {
            return Err(PlanError::Unsound(problem));
        }
        warnings.extend(found.damage.iter().map(ToString::to_string));
    }
    let mut list = list::build(request, &context, &mut warnings);
    check_contents(&list)?;
    let needed = size::minimal_disk(&list, &context);
    let disk = disk_size(request, needed)?;
    let table = base_table(request, disk, &context)?;
    let mut areas = fit::free_areas(&mut list, &table, &context);
    if !fit::fit(&mut list, &mut areas, &context)? {
        return Err(PlanError::DoesNotFit { size: Bytes(disk), needed: Bytes(needed) });
    }
    if context.compat.version >= crate::Version::V262 {
        list::sort_by_disk_order(&mut list, &mut areas);
    }
    distribute::distribute(&mut list, &areas, &context)?;
    place::place(&mut list, &areas, &table, &context, &mut warnings)?;
    place::finish(request, list, table, disk, &context, warnings)
}

/// What a definition's partition is called: known before any size is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Name in the table.
    pub label: String,
    /// GUID in the table.
    pub uuid: Guid,
    /// UUID for its file system.
    pub fs_uuid: Guid,
    /// UUID for its LUKS2 header.
    pub luks_uuid: Guid,
    /// The size of sectors that its file system is made for.
    pub fs_sector_size: Bytes,
}

/// The names of all definitions' partitions, in the order of the definitions. Sizes
/// of contents need not be known.
pub fn identities(request: &Request<'_>) -> Result<Vec<Identity>, PlanError> {
    let context = context(request)?;
    let list = list::build(request, &context, &mut Vec::new());
    let identity = |item: &list::Item<'_>| {
        let (_, d) = item.definition?;
        Some(Identity {
            label: item.label.clone(),
            uuid: item.uuid,
            fs_uuid: item.fs_uuid,
            luks_uuid: item.luks_uuid,
            fs_sector_size: Bytes(size::fs_sector(d, &context)),
        })
    };
    Ok(list.iter().filter_map(identity).collect())
}

/// The smallest disk that the definitions fit on.
pub fn minimal_size(request: &Request<'_>) -> Result<Bytes, PlanError> {
    let context = context(request)?;
    let list = list::build(request, &context, &mut Vec::new());
    check_contents(&list)?;
    let needed = size::minimal_disk(&list, &context);
    if needed > MAX_DISK { Err(PlanError::TooLarge) } else { Ok(Bytes(needed)) }
}

fn context(request: &Request<'_>) -> Result<Context, PlanError> {
    let found = request.existing.map(|f| f.table.sector_size);
    if let (Some(found), Some(wanted)) = (found, request.sector_size)
        && found != wanted
    {
        return Err(PlanError::SectorSize { found: found.get(), wanted: wanted.get() });
    }
    let sector = request_sector(request);
    let grain = request.grain.map_or(DISK_GRAIN, |g| g.0);
    if !grain.is_power_of_two() || !(512..=1 << 40).contains(&grain) {
        return Err(PlanError::Grain(Bytes(grain)));
    }
    let file_default = match request.compat.version {
        crate::Version::V257 => sector,
        crate::Version::V262 => 4096,
    };
    let default = if request.block_device { sector } else { file_default };
    let fs_sector = request.sector_size.map_or(default, SectorSize::get);
    Ok(Context { sector, grain: grain.max(sector), fs_sector, compat: request.compat })
}

fn request_sector(request: &Request<'_>) -> u64 {
    let found = request.existing.map(|f| f.table.sector_size);
    found.or(request.sector_size).unwrap_or(SectorSize::S512).get()
}

/// Of what exists, no content is needed.
fn check_contents(list: &[list::Item<'_>]) -> Result<(), PlanError> {
    for item in list.iter().filter(|i| i.existing.is_none()) {
        let Some((_, d)) = item.definition else { continue };
        let Some(content) = item.content else {
            if d.copy_blocks.is_some() {
                return Err(PlanError::NoContentSize(d.path.clone(), "CopyBlocks="));
            }
            if d.minimize != Minimize::Off && d.populates() {
                return Err(PlanError::NoContentSize(d.path.clone(), "Minimize="));
            }
            continue;
        };
        if d.size_max.is_some_and(|max| content > max) {
            return Err(PlanError::ContentTooLarge(d.path.clone(), Bytes(content)));
        }
    }
    Ok(())
}

/// Which definitions have no partition in `table` (`None`: there is none), and the slots
/// of those that have one and `FactoryReset=yes`.
pub fn missing(definitions: &[Definition], table: Option<&Table>) -> (BTreeSet<usize>, Vec<u32>) {
    let found = list::matches(definitions, table);
    let without = |(i, slot): (usize, &Option<u32>)| slot.is_none().then_some(i);
    let missing = found.iter().enumerate().filter_map(without).collect();
    let resets = definitions.iter().zip(&found).filter(|(d, _)| d.factory_reset);
    (missing, resets.filter_map(|(_, slot)| *slot).collect())
}

fn disk_size(request: &Request<'_>, needed: u64) -> Result<u64, PlanError> {
    let current = request
        .existing
        .map_or(request.current.0, |f| f.disk.0.saturating_mul(f.table.sector_size.get()));
    let wanted = match request.size {
        Size::Keep if current > 0 => 0,
        Size::Fixed(bytes) => bytes.0,
        Size::Keep | Size::Auto => needed,
    };
    // 262 takes the size that it computed as it is.
    let auto = !matches!(request.size, Size::Fixed(_));
    let exact = auto && request.compat.version >= crate::Version::V262;
    let grain = if exact { request_sector(request) } else { DISK_GRAIN };
    let rounded = round_up(wanted, grain).ok_or(PlanError::TooLarge)?;
    let size = if wanted > current { rounded } else { current };
    if size > MAX_DISK { Err(PlanError::TooLarge) } else { Ok(size) }
}

fn base_table(request: &Request<'_>, disk: u64, context: &Context) -> Result<Table, PlanError> {
    let sectors = Sectors(disk / context.sector);
    let guid = derive::disk(&request.seed);
    let size = SectorSize::new(context.sector as u32).expect("the context has a sector size");
    match request.existing {
        None => Ok(Table::new(guid, sectors, size)?),
        Some(found) => {
            let mut table = found.table.clone();
            if table.disk < sectors {
                table.fit_to(sectors)?;
            }
            if table.guid.is_nil() {
                table.guid = guid;
            }
            Ok(table)
        }
    }
}
