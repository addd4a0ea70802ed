//! Compressed files of EROFS: which clusters of a file are in which blocks, and what is
//! in these.
//!
//! A file is cut into logical clusters, each with an index entry: a head says that an
//! extent begins in it and where its blocks are, the others how far the head is. Indices
//! are full (8 bytes) or packed (4 or 2). The end of a file may lie beside the indices,
//! or in a file that all share.
//!
//! Source: the on-disk format document of the EROFS project, the kernel's
//! `fs/erofs/erofs_fs.h` for names of fields, and images made by mkfs.erofs. What a
//! newer kernel than 6.12 knows (extents without indices) is refused, and so are
//! deduplicated files.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, OnceLock};

use tree::{Content, ReadAt};

use super::format::{INCOMPAT_FRAGMENTS, INCOMPAT_ZERO_PADDING};
use crate::FsError;
use crate::bytes::*;
use crate::image::Image;

mod advise {
    pub const TWO_BYTES: u16 = 0x1;
    pub const BIG_1: u16 = 0x2;
    pub const BIG_2: u16 = 0x4;
    pub const INLINE: u16 = 0x8;
    pub const INTERLACED: u16 = 0x10;
    pub const FRAGMENT: u16 = 0x20;
}

/// Types of logical clusters.
const PLAIN: u8 = 0;
const HEAD_1: u8 = 1;
const NO_HEAD: u8 = 2;
const HEAD_2: u8 = 3;
/// In place of a distance: how many blocks the extent has.
const BLOCK_COUNT: u32 = 1 << 11;
/// The kernel's bounds of an extent, packed and unpacked.
const MAX_PACKED: u64 = 1 << 20;
const MAX_PLAIN: u64 = 12 << 20;
/// The kernel's bound of LZMA dictionaries.
const LZMA_DICTIONARY: u32 = 8 << 20;
const LZMA_MEMORY: u64 = 16 << 20;
const ZSTD_WINDOW_LOG: u32 = 24;
/// More clusters than a file of 4 TiB has.
const MAX_CLUSTERS: u64 = 1 << 30;

/// What all compressed files of an image have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub image: Image,
    pub block: u64,
    pub features: u32,
    /// The file with ends of files.
    pub fragments: OnceLock<Content>,
}

/// What the inode says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub size: u64,
    /// Where inode and attributes end.
    pub beside: u64,
    /// Indices of 8 bytes.
    pub full: bool,
}

/// A compressed file; its indices are read when it is first read itself.
#[derive(Debug)]
pub(super) struct Packed {
    shared: Arc<Shared>,
    place: Place,
    extents: OnceLock<Result<Vec<Extent>, String>>,
    /// The extent that was unpacked last.
    last: Mutex<Option<(usize, Arc<Vec<u8>>)>>,
}

#[derive(Debug, Clone, Copy)]
struct Extent {
    from: u64,
    to: u64,
    data: Data,
}

#[derive(Debug, Clone, Copy)]
enum Data {
    /// Bytes of the image, and how they are to be taken.
    At { place: u64, len: u64, how: How },
    /// Bytes of the shared file.
    Fragment { from: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Shifted,
    Interlaced,
    Lz4,
    Lzma,
    Deflate,
    Zstd,
}

/// An entry of the index.
#[derive(Debug, Clone, Copy)]
struct Cluster {
    ty: u8,
    /// Of a head: where in the cluster the extent begins.
    offset: u64,
    /// Of a head: its first block.
    block: u64,
    /// Of the first cluster after a head: how many blocks the extent has.
    count: Option<u64>,
}

impl Packed {
    pub fn new(shared: Arc<Shared>, place: Place) -> Packed {
        Packed { shared, place, extents: OnceLock::new(), last: Mutex::default() }
    }

    fn extents(&self) -> io::Result<&[Extent]> {
        let found = self.extents.get_or_init(|| {
            Index::read(&self.shared, self.place)
                .and_then(|i| i.extents())
                .map_err(|e| e.to_string())
        });
        found.as_deref().map_err(|e| io::Error::other(e.clone()))
    }

    /// The bytes of an extent.
    fn unpacked(&self, number: usize, extent: Extent) -> io::Result<Arc<Vec<u8>>> {
        let mut last = self.last.lock().expect("nobody panics while holding it");
        if let Some((of, bytes)) = &*last
            && *of == number
        {
            return Ok(bytes.clone());
        }
        let bytes = Arc::new(self.unpack(extent)?);
        *last = Some((number, bytes.clone()));
        Ok(bytes)
    }

    fn unpack(&self, extent: Extent) -> io::Result<Vec<u8>> {
        let len = extent.to - extent.from;
        if len > MAX_PLAIN {
            return Err(bad("an extent is impossibly long"));
        }
        let len = len as usize;
        let (place, stored, how) = match extent.data {
            Data::At { place, len, how } => (place, len, how),
            Data::Fragment { from } => {
                let file = self.shared.fragments.get().ok_or_else(|| bad("no fragments"))?;
                let mut bytes = vec![0; len];
                return match file.read_at(&mut bytes, from)? == len {
                    true => Ok(bytes),
                    false => Err(bad("a fragment is cut off")),
                };
            }
        };
        if stored > MAX_PACKED {
            return Err(bad("an extent has impossibly many blocks"));
        }
        // The last blocks of an image may be cut where they are not needed.
        let stored = stored.min(self.shared.image.len.saturating_sub(place)) as usize;
        let packed = self.shared.image.bytes(place, stored).map_err(io::Error::other)?;
        let bytes = self.decode(&packed, how, extent.from, len)?;
        match bytes.len() == len {
            true => Ok(bytes),
            false => Err(bad("an extent is shorter than it says")),
        }
    }

    fn decode(&self, packed: &[u8], how: How, from: u64, len: usize) -> io::Result<Vec<u8>> {
        let padded = self.shared.features & INCOMPAT_ZERO_PADDING != 0;
        let zeroes = || packed.iter().position(|b| *b != 0).unwrap_or(packed.len());
        let data = match how {
            How::Shifted | How::Interlaced => packed,
            How::Lz4 if !padded => packed,
            _ => &packed[zeroes()..],
        };
        let some = |input: &mut dyn Read| -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; len];
            input.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        match how {
            How::Shifted => Ok(data.get(..len).unwrap_or_default().to_vec()),
            How::Interlaced => {
                // The block goes round: what is at its end comes first.
                let first = (self.shared.block - from % self.shared.block) as usize;
                let skip = data.len().saturating_sub(first);
                let (end, start) = data.split_at_checked(skip).unwrap_or_default();
                Ok([start, end].concat().get(..len).unwrap_or_default().to_vec())
            }
            How::Lz4 => crate::lz4::unpack(data, len),
            How::Deflate => some(&mut flate2::bufread::DeflateDecoder::new(data)),
            How::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(data)?.single_frame();
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                some(&mut decoder)
            }
            // An LZMA stream without its header, of which the first byte, always zero, is
            // the inverted properties (xz's `lzma/container.h` on MicroLZMA).
            How::Lzma => {
                let (first, rest) = data.split_first().ok_or_else(|| bad("an empty extent"))?;
                let mut head = vec![!first];
                head.extend(LZMA_DICTIONARY.to_le_bytes());
                head.extend([0xff; 8]);
                head.push(0);
                let stream = liblzma::stream::Stream::new_lzma_decoder(LZMA_MEMORY);
                let stream = stream.map_err(io::Error::other)?;
                let input = Read::chain(&head[..], rest);
                some(&mut liblzma::bufread::XzDecoder::new_stream(input, stream))
            }
        }
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl ReadAt for Packed {
    fn size(&self) -> u64 {
        self.place.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let extents = self.extents()?;
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let number = extents.partition_point(|e| e.to <= at);
            let extent = *extents.get(number).ok_or(io::ErrorKind::UnexpectedEof)?;
            let n = (extent.to - at).min((buf.len() - done) as u64) as usize;
            let bytes = self.unpacked(number, extent)?;
            let skip = (at - extent.from) as usize;
            buf[done..done + n].copy_from_slice(&bytes[skip..skip + n]);
            done += n;
        }
        Ok(())
    }
}

/// The index of a file and what its header says.
struct Index<'a> {
    shared: &'a Shared,
    place: Place,
    advise: u16,
    algorithms: u8,
    /// log2 of a logical cluster.
    bits: u32,
    clusters: u64,
    /// Where the entries begin; and their bytes.
    start: u64,
    bytes: Vec<u8>,
    head: [u8; 8],
}

impl Index<'_> {
    fn corrupt(&self, what: &str) -> FsError {
        self.shared.image.corrupt(what)
    }

    fn read(shared: &Shared, place: Place) -> Result<Index<'_>, FsError> {
        let at = place.beside.next_multiple_of(8);
        let head: [u8; 8] = shared.image.bytes(at, 8)?.try_into().expect("eight bytes");
        let (advise, cluster_bits) = (get16(&head, 4), head[7]);
        let mut index = Index {
            shared,
            place,
            advise,
            algorithms: head[6],
            bits: shared.block.trailing_zeros() + u32::from(cluster_bits & 7),
            clusters: 0,
            start: at + if place.full { 16 } else { 8 },
            bytes: Vec::new(),
            head,
        };
        if index.whole_is_fragment() {
            return Ok(index);
        }
        if place.full && advise & advise::TWO_BYTES != 0 {
            return Err(FsError::Feature {
                fs: super::NAME,
                what: "extents without indices".into(),
            });
        }
        // Extents of these did not always come out as the kernel has them.
        if place.full && shared.features & INCOMPAT_FRAGMENTS != 0 {
            let what = "a deduplicated file (mkfs.erofs -Ededupe)".into();
            return Err(FsError::Feature { fs: super::NAME, what });
        }
        index.clusters = place.size.div_ceil(1 << index.bits);
        if index.clusters > MAX_CLUSTERS {
            return Err(index.corrupt("a file has impossibly many clusters"));
        }
        let end = match place.full {
            true => index.start + 8 * index.clusters,
            false => index.pack(index.clusters.saturating_sub(1)).end(),
        };
        let len = end - index.start;
        if end > shared.image.len {
            return Err(index.corrupt("an index lies behind the end of the image"));
        }
        index.bytes = shared.image.bytes(index.start, len as usize)?;
        Ok(index)
    }

    fn whole_is_fragment(&self) -> bool {
        self.head[7] & 0x80 != 0
    }

    fn is_big(&self, ty: u8) -> bool {
        let wanted = if ty == HEAD_2 { advise::BIG_2 } else { advise::BIG_1 };
        ty != PLAIN && self.advise & wanted != 0
    }

    /// Where the entry of a cluster is, in an index that is not full.
    fn pack(&self, cluster: u64) -> Pack {
        let initial = ((32 - self.start % 32) / 4) % 8;
        let pairs = match self.advise & advise::TWO_BYTES != 0 && initial < self.clusters {
            true => (self.clusters - initial) / 16 * 16,
            false => 0,
        };
        let (at, each) = match cluster {
            n if n < initial => (n * 4, 4),
            n if n < initial + pairs => (initial * 4 + (n - initial) * 2, 2),
            n => (initial * 4 + pairs * 2 + (n - initial - pairs) * 4, 4),
        };
        let len = if each == 4 { 8 } else { 32 };
        let at = self.start + at;
        let start = at - at % len;
        Pack { start, len, number: (at - start) / each, count: len / each }
    }

    fn cluster(&self, number: u64) -> Result<Cluster, FsError> {
        if self.place.full {
            let entry = slice(&self.bytes, (number * 8) as usize, 8);
            let entry = entry.ok_or_else(|| self.corrupt("an index is cut off"))?;
            let ty = (get16(entry, 0) & 3) as u8;
            let distance = u32::from(get16(entry, 4));
            let count = (ty == NO_HEAD && distance & BLOCK_COUNT != 0)
                .then_some(u64::from(distance & !BLOCK_COUNT));
            let (offset, block) = (u64::from(get16(entry, 2)), u64::from(get32(entry, 4)));
            return Ok(Cluster { ty, offset, block, count });
        }
        let pack = self.pack(number);
        // The first pack may begin before the index: its block number counts all the same.
        let entries = match pack.start.checked_sub(self.start) {
            Some(at) => slice(&self.bytes, at as usize, pack.len as usize).map(<[u8]>::to_vec),
            None => Some(self.shared.image.bytes(pack.start, pack.len as usize)?),
        };
        let entries = entries.ok_or_else(|| self.corrupt("an index is cut off"))?;
        self.packed_cluster(&entries, &pack)
    }

    fn packed_cluster(&self, entries: &[u8], pack: &Pack) -> Result<Cluster, FsError> {
        let low = self.bits.max(12);
        let each = ((pack.len - 4) * 8 / pack.count) as usize;
        let entry = |number: u64| {
            let bit = each * number as usize;
            let mut word = [0; 4];
            let from = &entries[bit / 8..];
            let known = from.len().min(4);
            word[..known].copy_from_slice(&from[..known]);
            let value = u32::from_le_bytes(word) >> (bit % 8);
            (value & ((1 << low) - 1), (value >> low & 3) as u8)
        };
        let (value, ty) = entry(pack.number);
        if ty == NO_HEAD {
            let count = (value & BLOCK_COUNT != 0).then_some(u64::from(value & !BLOCK_COUNT));
            return Ok(Cluster { ty, offset: 0, block: 0, count });
        }
        // How many blocks the heads before this one in the pack have.
        let big = self.advise & advise::BIG_1 != 0;
        let mut before = if big { 0 } else { 1 };
        let mut number = pack.number as i64;
        while number > 0 {
            number -= 1;
            let (value, ty) = entry(number as u64);
            match (ty, big) {
                (NO_HEAD, true) if value & BLOCK_COUNT != 0 => {
                    number -= 1;
                    before += u64::from(value & !BLOCK_COUNT);
                }
                (NO_HEAD, true) if value <= 1 => return Err(self.corrupt("an index is damaged")),
                (NO_HEAD, true) => number -= i64::from(value) - 2,
                (NO_HEAD, false) => {
                    number -= i64::from(value);
                    before += u64::from(number >= 0);
                }
                _ => before += 1,
            }
        }
        let base = get32(entries, entries.len() - 4);
        Ok(Cluster {
            ty,
            offset: value.into(),
            block: u64::from(base.wrapping_add(before as u32)),
            count: None,
        })
    }

    fn extents(&self) -> Result<Vec<Extent>, FsError> {
        let size = self.place.size;
        if self.whole_is_fragment() {
            let place = u64::from(get32(&self.head, 0)) | u64::from(get32(&self.head, 4)) << 32;
            let data = Data::Fragment { from: place ^ 1 << 63 };
            return Ok(vec![Extent { from: 0, to: size, data }]);
        }
        let mut heads: Vec<(u64, Cluster, Option<u64>)> = Vec::new();
        for number in 0..self.clusters {
            let cluster = self.cluster(number)?;
            if cluster.ty == NO_HEAD {
                match heads.last_mut() {
                    Some((at, _, count @ None)) if number == (*at >> self.bits) + 1 => {
                        *count = cluster.count;
                    }
                    Some(_) => {}
                    None => return Err(self.corrupt("a file begins without a head")),
                }
                continue;
            }
            let from = (number << self.bits) + cluster.offset;
            let follows = heads.last().is_none_or(|(last, ..)| *last < from);
            if cluster.offset >= 1 << self.bits || !follows {
                return Err(self.corrupt("heads of an index are not in order"));
            }
            heads.push((from, cluster, None));
        }
        let mut extents = Vec::new();
        for (n, (from, cluster, count)) in heads.iter().enumerate() {
            let next = heads.get(n + 1).map(|(from, ..)| *from);
            // What begins behind the end is the mark of an end that is elsewhere.
            let to = next.unwrap_or(size).min(size);
            if *from >= to {
                continue;
            }
            let is_last = next.is_none_or(|next| next >= size);
            extents.push(Extent { from: *from, to, data: self.data(cluster, *count, is_last)? });
        }
        match extents.first().is_none_or(|e| e.from == 0) {
            true => Ok(extents),
            false => Err(self.corrupt("a file begins without a head")),
        }
    }

    fn data(&self, head: &Cluster, count: Option<u64>, is_last: bool) -> Result<Data, FsError> {
        if is_last && self.advise & advise::FRAGMENT != 0 {
            let high = if self.place.full { head.block << 32 } else { 0 };
            return Ok(Data::Fragment { from: u64::from(get32(&self.head, 0)) | high });
        }
        let how = self.how(head.ty)?;
        if is_last && self.advise & advise::INLINE != 0 {
            let end = match self.place.full {
                true => self.start + 8 * self.clusters,
                false => self.pack(self.clusters - 1).end(),
            };
            return Ok(Data::At { place: end, len: get16(&self.head, 2).into(), how });
        }
        let blocks = match count.filter(|_| self.is_big(head.ty)) {
            Some(blocks) => blocks * self.shared.block,
            None => 1 << self.bits,
        };
        let place = head.block.checked_mul(self.shared.block);
        let place = place.ok_or_else(|| self.corrupt("a block does not exist"))?;
        Ok(Data::At { place, len: blocks, how })
    }

    fn how(&self, ty: u8) -> Result<How, FsError> {
        let algorithm = match ty {
            PLAIN if self.advise & advise::INTERLACED != 0 => return Ok(How::Interlaced),
            PLAIN => return Ok(How::Shifted),
            HEAD_1 => self.algorithms & 15,
            _ => self.algorithms >> 4,
        };
        Ok(match algorithm {
            0 => How::Lz4,
            1 => How::Lzma,
            2 => How::Deflate,
            3 => How::Zstd,
            other => {
                let what = format!("compression {other}");
                return Err(FsError::Feature { fs: super::NAME, what });
            }
        })
    }
}

/// Entries that share a block number.
struct Pack {
    start: u64,
    len: u64,
    /// Which of them is meant.
    number: u64,
    count: u64,
}

impl Pack {
    fn end(&self) -> u64 {
        self.start + self.len
    }
}
