//! What systemd-repart does with one disk, in its order.
//!
//! What it is: what to do with a disk that has or has no table ([`Empty`]), the factory
//! reset, and the way from a disk to a plan ([`Start::plan`]) and from a plan to the disk
//! ([`Start::carry_out`]). What it is not: the command line, and everything that comes
//! from the machine: seed, facts and files come in as values.
//!
//! Data flow: [`Start::new`] reads the table → [`Start::factory_reset`] → [`Start::plan`]
//! → somebody looks at it → [`Start::carry_out`]. Nothing but the factory reset and the
//! last of these writes.
//!
//! Specification: systemd-repart(8).

use std::collections::BTreeSet;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};

use report::Reporter;
use tree::Tree;

use crate::definition::Definition;
use crate::execute::{self, Before, ExecuteError, PartitionFiller, Work};
use crate::gpt::{self, Damage, Disk, Found, ReadError};
use crate::plan::{
    self, Activity, Defer, Identity, Plan, PlanError, PlannedPartition, Request, Size,
};
use crate::{Bytes, Compat, Guid, Medium, SectorSize};

/// `--empty=`: what becomes of a disk without a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Empty {
    /// It is left alone.
    #[default]
    Refuse,
    /// It gets one.
    Allow,
    /// It gets one, and a disk that has one is left alone.
    Require,
    /// It gets a new one in any case.
    Force,
    /// The file is made.
    Create,
}

impl Empty {
    /// From the text of the option.
    pub fn parse(text: &str) -> Option<Empty> {
        Some(match text {
            "" | "refuse" => Empty::Refuse,
            "allow" => Empty::Allow,
            "require" => Empty::Require,
            "force" => Empty::Force,
            "create" => Empty::Create,
            _ => return None,
        })
    }
}

/// How it is done.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--empty=`.
    pub empty: Empty,
    /// `--size=`.
    pub size: Size,
    /// What all identifiers derive from.
    pub seed: Guid,
    /// `--sector-size=`; looked for if it is not given.
    pub sector_size: Option<SectorSize>,
    /// `--grain-size=`.
    pub grain: Option<Bytes>,
    /// `--discard=`: what is cleared is given back to the file system below.
    pub discard: bool,
    /// `--defer-partitions=` and its kin.
    pub defer: Defer,
    /// `$SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
    /// What the device is called, for the node names.
    pub device: String,
    /// True if it is a block device and no image file.
    pub block_device: bool,
    /// `--cow=`: if not, a new image is written in place where the file system would copy.
    pub copy_on_write: bool,
    /// Whose decisions to take.
    pub compat: Compat,
}

/// What is put on the disk.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The definitions, in the order of their names.
    pub definitions: &'a [Definition],
    /// Where `CopyFiles=` and `CopyBlocks=` take their files from.
    pub source: &'a Tree,
    /// The file systems.
    pub filler: &'a dyn PartitionFiller,
    /// Where progress goes.
    pub reporter: &'a dyn Reporter,
}

/// Why a disk is not repartitioned.
#[derive(Debug, thiserror::Error)]
pub enum RepartError {
    /// The policy of `--empty=` does not allow it. Nothing is wrong (exit status 77).
    #[error("{} {why}, it is not repartitioned", path.display())]
    NotAllowed {
        /// The image.
        path: PathBuf,
        /// What it has or has not.
        why: &'static str,
    },
    /// Another system has partitions in the MBR, which would be lost.
    #[error("{} has a hybrid MBR; its partitions would be lost", path.display())]
    HybridMbr {
        /// The image.
        path: PathBuf,
    },
    /// Both copies of its table are broken (exit status 77, as if it had none).
    #[error("{}: {why}; it is not repartitioned (--empty=force makes a new table)", path.display())]
    Damaged {
        /// The image.
        path: PathBuf,
        /// What is wrong.
        why: ReadError,
    },
    /// The image cannot be read.
    #[error("{}: the partition table cannot be read", path.display())]
    Io {
        /// The image.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// There is no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A content has no size, or the plan cannot be carried out.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// The table after a factory reset.
    #[error(transparent)]
    Table(#[from] gpt::WriteError),
}

/// A disk as it was found.
#[derive(Debug, Clone)]
pub struct Start {
    path: PathBuf,
    found: Option<Found>,
    len: u64,
}

/// A plan, and what it takes to carry it out.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    identities: Vec<Identity>,
}

impl Planned {
    /// The definitions whose partitions are made now.
    pub fn made<'a>(&self, definitions: &'a [Definition]) -> Vec<&'a Definition> {
        let new = |p: &&PlannedPartition| p.activity == Activity::Create && !p.deferred;
        let new = self.plan.partitions.iter().filter(new);
        new.filter_map(|p| p.definition).map(|i| &definitions[i]).collect()
    }
}

impl Start {
    /// A file that is still to be made.
    pub fn nothing(path: &Path) -> Start {
        Start { path: path.to_owned(), found: None, len: 0 }
    }

    /// Reads the table, and decides whether the disk may be touched.
    pub fn new<M: Medium>(
        disk: &mut M,
        path: &Path,
        settings: &Settings,
    ) -> Result<Start, RepartError> {
        let broken = |source| RepartError::Io { path: path.to_owned(), source };
        let refused = |why| Err(RepartError::NotAllowed { path: path.to_owned(), why });
        let len = disk.len().map_err(broken)?;
        let mut start = Start { path: path.to_owned(), found: None, len };
        if settings.empty == Empty::Force {
            return Ok(start);
        }
        let read = gpt::read(disk, settings.sector_size);
        let labelled = !matches!(read, Err(ReadError::None)) || has_label(disk).map_err(broken)?;
        match (read, settings.empty) {
            (Err(ReadError::Io(source)), _) => Err(broken(source)),
            (Ok(_) | Err(_), Empty::Require) if labelled => {
                refused("has a partition table already")
            }
            (Ok(found), _) if found.damage.contains(&Damage::HybridMbr) => {
                Err(RepartError::HybridMbr { path: path.to_owned() })
            }
            (Ok(found), _) => {
                start.found = Some(found);
                Ok(start)
            }
            (Err(why @ ReadError::Damaged(_)), _) => {
                Err(RepartError::Damaged { path: path.to_owned(), why })
            }
            (Err(_), Empty::Refuse) => refused("has no GUID partition table"),
            (Err(_), _) if labelled => refused("has a partition table of another kind"),
            (Err(_), _) => Ok(start),
        }
    }

    /// What is broken without the table being lost.
    pub fn damage(&self) -> &[Damage] {
        self.found.as_ref().map_or(&[], |f| &f.damage)
    }

    /// The definitions that have no partition yet.
    pub fn without_partition<'a>(&self, definitions: &'a [Definition]) -> Vec<&'a Definition> {
        let (missing, _) = plan::missing(definitions, self.found.as_ref().map(|f| &f.table));
        missing.into_iter().map(|i| &definitions[i]).collect()
    }

    /// True if a factory reset would remove something.
    pub fn can_factory_reset(&self, definitions: &[Definition]) -> bool {
        !self.resets(definitions).is_empty()
    }

    fn resets(&self, definitions: &[Definition]) -> Vec<u32> {
        plan::missing(definitions, self.found.as_ref().map(|f| &f.table)).1
    }

    /// Removes the partitions with `FactoryReset=yes` from the table, at once. Returns
    /// their slots, counted from 0.
    pub fn factory_reset<M: Medium>(
        &mut self,
        disk: &mut M,
        definitions: &[Definition],
    ) -> Result<Vec<u32>, RepartError> {
        let slots = self.resets(definitions);
        let Some(found) = self.found.as_mut().filter(|_| !slots.is_empty()) else {
            return Ok(slots);
        };
        if let Some(problem) = found.table.problems().into_iter().next() {
            return Err(PlanError::Unsound(problem).into());
        }
        if found.damage.contains(&Damage::Primary) {
            gpt::repair_primary(disk, &found.table)?;
        }
        slots.iter().for_each(|slot| {
            found.table.entries.remove(slot);
        });
        gpt::write(disk, &found.table)?;
        found.damage.retain(|d| *d == Damage::DiskGrown);
        Ok(slots)
    }

    /// What the partitions of the definitions are called. Reads and writes nothing.
    pub fn identities(
        &self,
        definitions: &[Definition],
        settings: &Settings,
    ) -> Result<Vec<Identity>, RepartError> {
        Ok(plan::identities(&self.request(definitions, settings))?)
    }

    fn request<'a>(&'a self, definitions: &'a [Definition], settings: &Settings) -> Request<'a> {
        Request {
            definitions,
            content: Default::default(),
            existing: self.found.as_ref(),
            current: Bytes(self.len),
            size: settings.size,
            seed: settings.seed,
            sector_size: settings.sector_size,
            grain: settings.grain,
            block_device: settings.block_device,
            device: settings.device.clone(),
            defer: settings.defer.clone(),
            compat: settings.compat,
        }
    }

    /// Plans. Reads the sources, writes nothing.
    pub fn plan(&self, inputs: &Inputs<'_>, settings: &Settings) -> Result<Planned, RepartError> {
        let mut request = self.request(inputs.definitions, settings);
        let identities = plan::identities(&request)?;
        let (missing, _) = plan::missing(inputs.definitions, self.found.as_ref().map(|f| &f.table));
        let sized = |i: &usize| {
            let d = &inputs.definitions[*i];
            d.copy_blocks.is_some() || d.minimize != crate::definition::Minimize::Off
        };
        let sized: BTreeSet<usize> = missing.into_iter().filter(sized).collect();
        request.content = execute::content_sizes_of(
            &sized,
            inputs.definitions,
            &identities,
            inputs.source,
            settings.epoch,
            inputs.filler,
        )?;
        let plan = plan::plan(&request)?;
        let planned = Planned { plan, identities };
        execute::check_supported(planned.made(inputs.definitions))?;
        Ok(planned)
    }

    /// Carries the plan out on the disk that was read. Repairs the table where that is
    /// all there is to do.
    pub fn carry_out<M: Medium>(
        &self,
        disk: &mut M,
        planned: &Planned,
        inputs: &Inputs<'_>,
        settings: &Settings,
    ) -> Result<(), RepartError> {
        let before = match &self.found {
            Some(found) => Before::Table(found, settings.discard),
            None if self.len == 0 => Before::Zeroes,
            None => Before::Waste(settings.discard),
        };
        let work = self.work(planned, inputs, settings);
        Ok(execute::carry_out(&work, disk, before, &self.path)?)
    }

    /// Makes the file that there is not yet. It appears when it is complete.
    pub fn create(
        &self,
        planned: &Planned,
        inputs: &Inputs<'_>,
        settings: &Settings,
    ) -> Result<(), RepartError> {
        let work = self.work(planned, inputs, settings);
        Ok(execute::create_new_image(&work, &self.path, settings.copy_on_write)?)
    }

    fn work<'a>(&self, planned: &'a Planned, inputs: &Inputs<'a>, settings: &Settings) -> Work<'a> {
        Work {
            plan: &planned.plan,
            definitions: inputs.definitions,
            identities: &planned.identities,
            source: inputs.source,
            epoch: settings.epoch,
            filler: inputs.filler,
            reporter: inputs.reporter,
        }
    }

    /// True if carrying out the plan would write.
    pub fn changes(&self, planned: &Planned) -> bool {
        let same = |f: &Found| f.table == planned.plan.table && f.damage.is_empty();
        let new = |p: &PlannedPartition| p.activity == Activity::Create && !p.deferred;
        planned.plan.partitions.iter().any(new) || !self.found.as_ref().is_some_and(same)
    }
}

/// True if the disk has a partition table of a kind that libfdisk knows besides GPT: an
/// MBR, or a label of Sun, SGI or BSD.
fn has_label(disk: &mut (impl Disk + ?Sized)) -> io::Result<bool> {
    let len = disk.seek(SeekFrom::End(0))?;
    let mut head = vec![0; len.min(1024) as usize];
    disk.seek(SeekFrom::Start(0))?;
    disk.read_exact(&mut head)?;
    let at = |place: usize, magic: &[u8]| head.get(place..place + magic.len()) == Some(magic);
    let (bsd, bsd_big) = ([0x57, 0x45, 0x56, 0x82], [0x82, 0x56, 0x45, 0x57]);
    Ok(at(510, &[0x55, 0xaa])
        || at(508, &[0xda, 0xbe])
        || at(0, &[0x0b, 0xe5, 0xa9, 0x41])
        || at(512, &bsd)
        || at(512, &bsd_big))
}
