//! Disks in QEMU's qcow2 format, versions 2 and 3, as bytes that are computed when they
//! are read: header, L1, L2, compressed clusters.
//!
//! What it is not: a writer, or a reader of what does not belong to one disk alone:
//! backing files, data files, encryption, internal snapshots and extended L2 entries
//! are refused or (snapshots) not looked at.
//!
//! Own code: the only kept crate, `imago`, is asynchronous and brings a runtime.
//!
//! Source: QEMU's `docs/interop/qcow2.txt`, and images made by qemu-img.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};

use tree::{Blob, ReadAt};

use crate::ImageError;

const MAGIC: [u8; 4] = *b"QFI\xfb";
/// 512 bytes to 2 MiB, as QEMU has it.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// QEMU's own bound of the L1 table.
const MAX_L1: usize = 32 << 20;
/// L2 tables and decompressed clusters that are kept.
const CACHED: usize = 64;

const INCOMPATIBLE_DIRTY: u64 = 1;
const INCOMPATIBLE_CORRUPT: u64 = 2;
const INCOMPATIBLE_DATA_FILE: u64 = 4;
const INCOMPATIBLE_COMPRESSION: u64 = 8;
const INCOMPATIBLE_EXTENDED_L2: u64 = 16;

const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

/// Formats that other hypervisors use: they are named, so that it is clear what helps.
const OTHERS: [(u64, &[u8], &str); 4] = [
    (0, b"KDMV", "VMDK"),
    (0, b"vhdxfile", "VHDX"),
    (0, b"conectix", "VHD"),
    (64, &[0x7f, 0x10, 0xda, 0xbe], "VDI"),
];

/// The disk in the file, or `None` if the file is no qcow2 file.
pub fn open(path: &Path, blob: &Arc<Blob>) -> Result<Option<Arc<Blob>>, ImageError> {
    let refused = |what: String| ImageError::Refused { path: path.to_owned(), what };
    for (at, magic, name) in OTHERS {
        let mut head = vec![0; magic.len()];
        if blob.read_exact_at(&mut head, at).is_ok() && head == magic {
            let how = "convert it with 'qemu-img convert -O raw'";
            return Err(refused(format!("it is a disk in {name} format: {how}")));
        }
    }
    let mut magic = [0; 4];
    if blob.read_exact_at(&mut magic, 0).is_err() || magic != MAGIC {
        return Ok(None);
    }
    let disk = Qcow2::new(blob.clone()).map_err(|e| refused(format!("qcow2: {e}")))?;
    Ok(Some(Blob::computed(path, disk)))
}

#[derive(Debug)]
struct Qcow2 {
    file: Arc<Blob>,
    file_len: u64,
    size: u64,
    cluster_bits: u32,
    zstd: bool,
    l1: Vec<u64>,
    /// L2 tables, and decompressed clusters by their descriptor.
    tables: Mutex<BTreeMap<u64, Arc<Vec<u64>>>>,
    clusters: Mutex<BTreeMap<u64, Arc<Vec<u8>>>>,
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

impl Qcow2 {
    fn new(file: Arc<Blob>) -> io::Result<Qcow2> {
        let file_len = file.size()?;
        let mut head = [0; 112];
        let known = file_len.min(112) as usize;
        file.read_exact_at(&mut head[..known], 0)?;
        let version = be32(&head, 4);
        let (features, header_len) = match version {
            2 => (0, 72),
            3 => (be64(&head, 72), be32(&head, 100)),
            _ => return Err(bad("only versions 2 and 3 are known")),
        };
        for (bit, what) in [
            (INCOMPATIBLE_CORRUPT, "it is marked as damaged"),
            (INCOMPATIBLE_DATA_FILE, "its data is in another file"),
            (INCOMPATIBLE_EXTENDED_L2, "extended L2 entries are not supported"),
            (!0x1f, "it uses a feature that is not known"),
        ] {
            if features & bit != 0 {
                return Err(bad(what));
            }
        }
        // A dirty one has wrong reference counts; its L1 and L2 tables are right.
        let _ = INCOMPATIBLE_DIRTY;
        if be64(&head, 8) != 0 {
            return Err(bad("it is based on a backing file: 'qemu-img convert' makes one of both"));
        }
        if be32(&head, 32) != 0 {
            return Err(bad("it is encrypted"));
        }
        let cluster_bits = be32(&head, 20);
        if !CLUSTER_BITS.contains(&cluster_bits) {
            return Err(bad("its clusters have an impossible size"));
        }
        let compression = features & INCOMPATIBLE_COMPRESSION != 0 && header_len > 104;
        let zstd = match head[104] {
            _ if !compression => false,
            0 => false,
            1 => true,
            _ => return Err(bad("its compression is not known")),
        };
        let mut disk = Qcow2 {
            file_len,
            size: be64(&head, 24),
            cluster_bits,
            zstd,
            l1: Vec::new(),
            tables: Mutex::default(),
            clusters: Mutex::default(),
            file,
        };
        disk.l1 = disk.read_l1(be32(&head, 36), be64(&head, 40))?;
        Ok(disk)
    }

    fn read_l1(&self, entries: u32, at: u64) -> io::Result<Vec<u64>> {
        let per_table = 2 * self.cluster_bits - 3;
        let needed = self.size.div_ceil(1 << per_table);
        if needed > u64::from(entries) || entries as usize > MAX_L1 / 8 {
            return Err(bad("its first table does not fit its size"));
        }
        self.numbers(at, needed as usize)
    }

    /// `count` big-endian numbers; the caller has bounded `count`.
    fn numbers(&self, at: u64, count: usize) -> io::Result<Vec<u64>> {
        let len = count * 8;
        if at.checked_add(len as u64).is_none_or(|end| end > self.file_len) {
            return Err(bad("a table lies behind the end of the file"));
        }
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes.chunks_exact(8).map(|b| be64(b, 0)).collect())
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// The L2 entry of the cluster with number `index`.
    fn entry(&self, index: u64) -> io::Result<u64> {
        let bits = self.cluster_bits - 3;
        let (table, slot) = ((index >> bits) as usize, (index & ((1 << bits) - 1)) as usize);
        let at = self.l1.get(table).ok_or_else(|| bad("it is shorter than it says"))? & OFFSET;
        if at == 0 {
            return Ok(0);
        }
        let mut tables = self.tables.lock().expect("nobody panics while holding it");
        if let Some(table) = tables.get(&at) {
            return Ok(table[slot]);
        }
        let table = Arc::new(self.numbers(at, 1 << bits)?);
        if tables.len() >= CACHED {
            tables.clear();
        }
        tables.insert(at, table.clone());
        Ok(table[slot])
    }

    fn decompressed(&self, entry: u64) -> io::Result<Arc<Vec<u8>>> {
        let mut clusters = self.clusters.lock().expect("nobody panics while holding it");
        if let Some(cluster) = clusters.get(&entry) {
            return Ok(cluster.clone());
        }
        // Above the offset: how many more sectors it has.
        let bits = 62 - (self.cluster_bits - 8);
        let at = entry & ((1 << bits) - 1);
        let sectors = (entry & !(3 << 62)) >> bits;
        let len = (sectors + 1) * 512 - at % 512;
        // The last sector may lie behind the end of the file.
        let len = len.min(self.file_len.saturating_sub(at)) as usize;
        let mut packed = vec![0; len];
        self.file.read_exact_at(&mut packed, at)?;
        let mut plain = vec![0; self.cluster() as usize];
        match self.zstd {
            true => {
                let mut decoder = zstd::Decoder::with_buffer(&packed[..])?.single_frame();
                decoder.window_log_max(self.cluster_bits.max(10))?;
                decoder.read_exact(&mut plain)?;
            }
            false => flate2::read::DeflateDecoder::new(&packed[..]).read_exact(&mut plain)?,
        }
        if clusters.len() >= CACHED {
            clusters.clear();
        }
        let plain = Arc::new(plain);
        clusters.insert(entry, plain.clone());
        Ok(plain)
    }
}

impl ReadAt for Qcow2 {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let within = at & (self.cluster() - 1);
            let n = (self.cluster() - within).min((buf.len() - done) as u64) as usize;
            let room = &mut buf[done..done + n];
            let entry = self.entry(at >> self.cluster_bits)?;
            if entry & COMPRESSED != 0 {
                let plain = self.decompressed(entry)?;
                room.copy_from_slice(&plain[within as usize..within as usize + n]);
            } else if entry & ZERO != 0 || entry & OFFSET == 0 {
                room.fill(0);
            } else {
                let place = (entry & OFFSET) + within;
                // A file may end within its last cluster.
                let known = self.file_len.saturating_sub(place).min(n as u64) as usize;
                self.file.read_exact_at(&mut room[..known], place)?;
                room[known..].fill(0);
            }
            done += n;
        }
        Ok(())
    }
}
