//! Reads a FAT file system into a Tree. Files get mode 0644 (0444 if read-only),
//! directories 0755, owner root, and the time of the last change taken as UTC.
//!
//! The image may come from anybody: no cluster is used twice, so loops and shared
//! chains are errors, and what is read is bounded by [`ReadLimits`].

use std::sync::Arc;

use tree::{Blob, Kind, Meta, Node, Tree, TreePath};

use super::NAME;
use super::names::{ENTRY_LEN, LongName, Short, decode_time, short_text};
use crate::FsError;
use crate::bytes::*;
use crate::image::{Budget, ContentBuilder, Image, ReadLimits};

/// Bytes of the allocation table that are read at once.
const WINDOW: u64 = 4096;
/// The largest directory: 65536 entries.
const DIR_MAX: u64 = 65_536 * ENTRY_LEN as u64;

/// Reads the file system at `offset` of `blob` within the default limits.
pub fn read(blob: &Arc<Blob>, offset: u64) -> Result<Tree, FsError> {
    read_limited(blob, offset, ReadLimits::default())
}

/// Reads the file system at `offset` of `blob`.
pub fn read_limited(blob: &Arc<Blob>, offset: u64, limits: ReadLimits) -> Result<Tree, FsError> {
    let volume = Volume::open(Image::new(NAME, blob, offset)?)?;
    let mut walk = Walk {
        used: vec![0; volume.clusters as usize / 8 + 1],
        window: (u64::MAX, Vec::new()),
        budget: Budget::new(NAME, limits),
        tree: Tree::new(),
        volume: &volume,
    };
    walk.run()?;
    Ok(walk.tree)
}

/// How many bytes of the file system at `offset` are free.
pub fn free(blob: &Arc<Blob>, offset: u64) -> Result<u64, FsError> {
    let volume = Volume::open(Image::new(NAME, blob, offset)?)?;
    let mut walk = Walk {
        used: Vec::new(),
        window: (u64::MAX, Vec::new()),
        budget: Budget::new(NAME, ReadLimits::default()),
        tree: Tree::new(),
        volume: &volume,
    };
    let mut free = 0;
    for cluster in 2..volume.clusters + 2 {
        free += u64::from(walk.next(cluster)? == 0);
    }
    Ok(free * volume.cluster)
}

/// What the boot sector says.
struct Volume {
    image: Image,
    cluster: u64,
    clusters: u64,
    fat_at: u64,
    fat_len: u64,
    bits: u64,
    /// The fixed root directory: offset and length.
    root: (u64, u64),
    /// The root's cluster on FAT32, else 0.
    root_cluster: u64,
    data_at: u64,
}

impl Volume {
    fn open(image: Image) -> Result<Volume, FsError> {
        let b = image.bytes(0, 512)?;
        let bad = |what: &str| Err(image.corrupt(format!("boot sector: bad {what}")));
        let (sector, per_cluster) = (u64::from(get16(&b, 11)), u64::from(b[13]));
        if get16(&b, 510) != 0xaa55 || !sector.is_power_of_two() || !(512..=4096).contains(&sector)
        {
            return bad("signature or sector size");
        }
        if !per_cluster.is_power_of_two() {
            return bad("cluster size");
        }
        let either = |short: usize, long: usize| match get16(&b, short) {
            0 => u64::from(get32(&b, long)),
            n => u64::from(n),
        };
        let (reserved, fats) = (u64::from(get16(&b, 14)), u64::from(b[16]));
        let (fat, sectors) = (either(22, 36), either(19, 32));
        let root_len = u64::from(get16(&b, 17)) * ENTRY_LEN as u64;
        let root_at = reserved + fats * fat;
        let data = root_at + root_len.div_ceil(sector);
        if reserved == 0 || fats == 0 || fat == 0 || data >= sectors {
            return bad("layout");
        }
        if sectors * sector > image.len {
            return bad("size: the image is shorter");
        }
        let clusters = (sectors - data) / per_cluster;
        let bits = match clusters {
            _ if get16(&b, 22) == 0 => 32,
            n if n < 4085 => 12,
            _ => 16,
        };
        if (clusters + 2) * bits > fat * sector * 8 || clusters > 0x0fff_fff5 {
            return bad("allocation table: too short");
        }
        Ok(Volume {
            cluster: sector * per_cluster,
            clusters,
            fat_at: reserved * sector,
            fat_len: fat * sector,
            bits,
            root: (root_at * sector, root_len),
            root_cluster: if bits == 32 { u64::from(get32(&b, 44)) } else { 0 },
            data_at: data * sector,
            image,
        })
    }
}

/// A directory entry that matters.
struct Entry {
    name: String,
    is_dir: bool,
    meta: Meta,
    cluster: u64,
    size: u64,
}

struct Walk<'a> {
    volume: &'a Volume,
    /// One bit for each cluster that belongs to something.
    used: Vec<u8>,
    window: (u64, Vec<u8>),
    budget: Budget,
    tree: Tree,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), FsError> {
        let mut open = vec![(TreePath::root(), self.volume.root_cluster)];
        while let Some((path, cluster)) = open.pop() {
            let bytes = self.dir_bytes(&path, cluster)?;
            for entry in self.entries(&path, &bytes)? {
                let below =
                    path.join(&entry.name).map_err(|e| self.corrupt(&path, &e.to_string()))?;
                self.budget.meta(below.as_bytes().len())?;
                let kind = match entry.is_dir {
                    true => {
                        open.push((below.clone(), entry.cluster));
                        Kind::Dir
                    }
                    false => self.file(&below, &entry)?,
                };
                self.tree
                    .add(below, Node { meta: entry.meta, kind })
                    .map_err(|source| FsError::Tree { fs: NAME, source })?;
            }
        }
        Ok(())
    }

    fn corrupt(&self, path: &TreePath, what: &str) -> FsError {
        self.volume.image.corrupt(format!("{path}: {what}"))
    }

    /// The table's entry for `cluster`.
    fn next(&mut self, cluster: u64) -> Result<u64, FsError> {
        let mut value = 0;
        // Bytes one by one: an entry of 12 bits may cross two windows.
        let (first, last) = (cluster * self.volume.bits / 8, (cluster + 1) * self.volume.bits);
        for (i, at) in (first..last.div_ceil(8)).enumerate() {
            let start = at - at % WINDOW;
            if self.window.0 != start {
                let len = WINDOW.min(self.volume.fat_len - start) as usize;
                self.window = (start, self.volume.image.bytes(self.volume.fat_at + start, len)?);
            }
            value |= u64::from(self.window.1[(at - start) as usize]) << (8 * i);
        }
        Ok(match self.volume.bits {
            12 => value >> (4 * (cluster % 2)) & 0xfff,
            16 => value,
            _ => value & 0x0fff_ffff,
        })
    }

    /// The chain from `cluster`, as runs of (first, count), at most `max` clusters.
    fn chain(
        &mut self,
        path: &TreePath,
        mut cluster: u64,
        max: u64,
    ) -> Result<Vec<(u64, u64)>, FsError> {
        let end = match self.volume.bits {
            12 => 0xff8,
            16 => 0xfff8,
            _ => 0x0fff_fff8,
        };
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut left = max;
        while cluster < end {
            if cluster < 2 || cluster >= self.volume.clusters + 2 {
                return Err(self.corrupt(path, "its chain leads to no cluster"));
            }
            let (byte, bit) = ((cluster - 2) as usize / 8, 1 << ((cluster - 2) % 8));
            if self.used[byte] & bit != 0 {
                return Err(self.corrupt(path, "shares a cluster or is a loop"));
            }
            self.used[byte] |= bit;
            left = left
                .checked_sub(1)
                .ok_or_else(|| self.corrupt(path, "its chain is longer than its size"))?;
            match runs.last_mut() {
                Some((first, count)) if *first + *count == cluster => *count += 1,
                _ => {
                    self.budget.part()?;
                    runs.push((cluster, 1));
                }
            }
            cluster = self.next(cluster)?;
        }
        Ok(runs)
    }

    fn at(&self, cluster: u64) -> u64 {
        self.volume.data_at + (cluster - 2) * self.volume.cluster
    }

    fn file(&mut self, path: &TreePath, entry: &Entry) -> Result<Kind, FsError> {
        let mut content = ContentBuilder::new(&self.volume.image, entry.size);
        let (cluster, mut at) = (self.volume.cluster, 0);
        let needed = entry.size.div_ceil(cluster);
        if entry.cluster != 0 {
            for (first, count) in self.chain(path, entry.cluster, needed)? {
                content.run(at, count * cluster, self.at(first))?;
                at += count * cluster;
            }
        }
        if at < entry.size {
            return Err(self.corrupt(path, "its chain is shorter than its size"));
        }
        Ok(Kind::File(content.finish()))
    }

    fn dir_bytes(&mut self, path: &TreePath, cluster: u64) -> Result<Vec<u8>, FsError> {
        if path.is_root() && cluster == 0 {
            let (at, len) = self.volume.root;
            return self.volume.image.bytes(at, len as usize);
        }
        let mut bytes = Vec::new();
        for (first, count) in self.chain(path, cluster, DIR_MAX.div_ceil(self.volume.cluster))? {
            let len = (count * self.volume.cluster) as usize;
            bytes.extend(self.volume.image.bytes(self.at(first), len)?);
        }
        Ok(bytes)
    }

    fn entries(&mut self, path: &TreePath, bytes: &[u8]) -> Result<Vec<Entry>, FsError> {
        let mut found = Vec::new();
        let mut long = LongName::default();
        for raw in bytes.chunks_exact(ENTRY_LEN) {
            let attributes = raw[11];
            match raw[0] {
                0 => break,
                0xe5 => {
                    long = LongName::default();
                    continue;
                }
                _ if attributes & 0x3f == 0x0f => {
                    long.push(raw);
                    continue;
                }
                // The label, and the directory itself and its parent.
                _ if attributes & 8 != 0 || raw[..11] == *b".          " => continue,
                _ if raw[..11] == *b"..         " => continue,
                _ => {}
            }
            let mut short: Short = raw[..11].try_into().expect("eleven bytes");
            let name = long.take(&short);
            if short[0] == 5 {
                short[0] = 0xe5; // a Japanese character, not a deleted file
            }
            let name = match name.or_else(|| short_text(&short, raw[12])) {
                Some(name) if !name.is_empty() && !name.contains(['/', '\0']) => name,
                Some(_) => return Err(self.corrupt(path, "an entry has a bad name")),
                None => {
                    let what = format!("{path}: a short name in an unknown code page");
                    return Err(FsError::Feature { fs: NAME, what });
                }
            };
            if name == "." || name == ".." {
                return Err(self.corrupt(path, "an entry has a bad name"));
            }
            self.budget.entry()?;
            let is_dir = attributes & 0x10 != 0;
            let mode = match (is_dir, attributes & 1 != 0) {
                (true, _) => 0o755,
                (false, true) => 0o444,
                (false, false) => 0o644,
            };
            let meta = Meta::new(mode).at(decode_time(get16(raw, 24), get16(raw, 22)));
            let high = if self.volume.bits == 32 { u64::from(get16(raw, 20)) << 16 } else { 0 };
            let cluster = u64::from(get16(raw, 26)) | high;
            found.push(Entry { name, is_dir, meta, cluster, size: u64::from(get32(raw, 28)) });
        }
        Ok(found)
    }
}
