//! The compressions of squashfs: bytes in, a block of known greatest length out.
//!
//! gzip, xz, LZMA and zstd come from crates; LZO1X is small and the only crates for it
//! are young bindings, so it is here. Source: the kernel's
//! `Documentation/staging/lzo.rst`.

use std::io::{self, Read};

/// `SQUASHFS_COMPRESSION_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Gzip,
    Lzma,
    Lzo,
    Xz,
    Lz4,
    Zstd,
}

/// A block has 1 MiB at most; a dictionary needs no more, and the decoder a little.
const XZ_MEMORY: u64 = 32 << 20;
const ZSTD_WINDOW_LOG: u32 = 23;

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Compression {
    pub fn of_number(number: u16) -> Option<Compression> {
        use Compression::*;
        [Gzip, Lzma, Lzo, Xz, Lz4, Zstd].get(usize::from(number).checked_sub(1)?).copied()
    }

    /// What `packed` holds: `max` bytes at most.
    pub fn unpack(self, packed: &[u8], max: usize) -> io::Result<Vec<u8>> {
        let stream = |stream: Result<_, liblzma::stream::Error>| -> io::Result<Vec<u8>> {
            let stream = stream.map_err(io::Error::other)?;
            limited(liblzma::bufread::XzDecoder::new_stream(packed, stream), max)
        };
        match self {
            Compression::Gzip => limited(flate2::bufread::ZlibDecoder::new(packed), max),
            Compression::Xz => stream(liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0)),
            Compression::Lzma => stream(liblzma::stream::Stream::new_lzma_decoder(XZ_MEMORY)),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(packed)?.single_frame();
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                limited(decoder, max)
            }
            Compression::Lz4 => crate::lz4::unpack(packed, max),
            Compression::Lzo => lzo(packed, max),
        }
    }
}

fn limited(input: impl Read, max: usize) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    input.take(max as u64 + 1).read_to_end(&mut plain)?;
    if plain.len() > max {
        return Err(bad("a block is longer than the file system says"));
    }
    Ok(plain)
}

/// What LZO1X reads from and writes to.
struct Lzo<'a> {
    input: &'a [u8],
    at: usize,
    plain: Vec<u8>,
    max: usize,
}

impl Lzo<'_> {
    fn byte(&mut self) -> io::Result<usize> {
        let byte = self.input.get(self.at).ok_or_else(|| bad("LZO: cut off"))?;
        self.at += 1;
        Ok(usize::from(*byte))
    }

    /// A length whose bits in the instruction are all zero: 255 for each zero byte.
    fn length(&mut self, base: usize) -> io::Result<usize> {
        let mut length = base;
        loop {
            match self.byte()? {
                0 => length += 255,
                last => return Ok(length + last),
            }
            if length > self.max {
                return Err(bad("LZO: a length beyond the block"));
            }
        }
    }

    fn literals(&mut self, count: usize) -> io::Result<()> {
        let bytes = self.input.get(self.at..self.at.saturating_add(count));
        let bytes = bytes.ok_or_else(|| bad("LZO: cut off"))?;
        if self.plain.len() + count > self.max {
            return Err(bad("LZO: longer than the block"));
        }
        self.plain.extend_from_slice(bytes);
        self.at += count;
        Ok(())
    }

    fn copy(&mut self, distance: usize, length: usize) -> io::Result<()> {
        let from = self.plain.len().checked_sub(distance);
        let from = from.ok_or_else(|| bad("LZO: a copy from before the block"))?;
        if self.plain.len() + length > self.max {
            return Err(bad("LZO: longer than the block"));
        }
        for n in 0..length {
            self.plain.push(self.plain[from + n]);
        }
        Ok(())
    }
}

fn lzo(packed: &[u8], max: usize) -> io::Result<Vec<u8>> {
    let mut lzo = Lzo { input: packed, at: 0, plain: Vec::new(), max };
    // Literals that the last instruction carried; 4 stands for a run of its own.
    let mut state = 0;
    if let Some(first @ 18..) = packed.first().map(|b| usize::from(*b)) {
        lzo.at = 1;
        lzo.literals(first - 17)?;
        state = (first - 17).min(4);
    }
    loop {
        let instruction = lzo.byte()?;
        let (distance, length, after) = match instruction {
            0..=15 if state == 0 => {
                let count = if instruction == 0 { lzo.length(15 + 3)? } else { instruction + 3 };
                lzo.literals(count)?;
                state = 4;
                continue;
            }
            0..=15 => {
                let high = lzo.byte()? << 2;
                let base = if state == 4 { 2049 } else { 1 };
                let length = if state == 4 { 3 } else { 2 };
                (high + (instruction >> 2 & 3) + base, length, instruction & 3)
            }
            16..=31 => {
                let length =
                    if instruction & 7 == 0 { lzo.length(7 + 2)? } else { (instruction & 7) + 2 };
                let word = lzo.byte()? | lzo.byte()? << 8;
                let distance = ((instruction & 8) << 11) + (word >> 2);
                if distance == 0 {
                    return match length {
                        3 => Ok(lzo.plain),
                        _ => Err(bad("LZO: a wrong end")),
                    };
                }
                (distance + 16_384, length, word & 3)
            }
            32..=63 => {
                let bits = instruction & 31;
                let length = if bits == 0 { lzo.length(31 + 2)? } else { bits + 2 };
                let word = lzo.byte()? | lzo.byte()? << 8;
                ((word >> 2) + 1, length, word & 3)
            }
            64..=127 => {
                let high = lzo.byte()? << 3;
                (high + (instruction >> 2 & 7) + 1, 3 + (instruction >> 5 & 1), instruction & 3)
            }
            _ => {
                let high = lzo.byte()? << 3;
                (high + (instruction >> 2 & 7) + 1, 5 + (instruction >> 5 & 3), instruction & 3)
            }
        };
        lzo.copy(distance, length)?;
        lzo.literals(after)?;
        state = after;
    }
}
