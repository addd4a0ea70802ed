//! Decompressors of a `.deb`'s members, chosen by the member's name (deb(5)).

use std::io::{self, BufReader, Read};

use liblzma::stream::{CONCATENATED, Stream};

use crate::Problem;

/// Dictionaries up to what `xz -9` uses (64 MiB), with room. Packages are read side by
/// side, so this times the number of threads is what hostile ones can take.
const LZMA_MEMORY: u64 = 128 << 20;
/// 128 MiB windows: what zstd decoders take without being asked (`--ultra` too).
const ZSTD_WINDOW_LOG: u32 = 27;
/// Compressed bytes are read in pieces of this size.
const BUFFER: usize = 128 << 10;

/// A reader of what `compressed` holds. `extension` is what follows `.tar` in the
/// member's name: empty, `.gz`, `.xz`, `.zst`, `.bz2` or `.lzma`.
pub(crate) fn decoder<'a>(
    extension: &str,
    compressed: impl Read + 'a,
) -> Result<Box<dyn Read + 'a>, Problem> {
    let input = BufReader::with_capacity(BUFFER, compressed);
    let lzma = |stream: Result<Stream, _>| stream.map_err(|e| Problem::Io(io::Error::other(e)));
    Ok(match extension {
        "" => Box::new(input),
        ".gz" => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        ".bz2" => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        ".xz" => {
            let stream = lzma(Stream::new_stream_decoder(LZMA_MEMORY, CONCATENATED))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        ".lzma" => {
            let stream = lzma(Stream::new_lzma_decoder(LZMA_MEMORY))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        ".zst" => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        other => return Err(Problem::Unsupported(format!("the compression {other:?}"))),
    })
}

/// Fails, instead of ending, when more than `limit` bytes come out.
pub(crate) struct Bounded<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Bounded<R> {
    pub(crate) fn new(inner: R, limit: u64) -> Self {
        Bounded { inner, left: limit, limit }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            let message = format!("it decompresses to more than {} bytes", self.limit);
            io::Error::new(io::ErrorKind::FileTooLarge, message)
        })?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &[u8] = b"what was compressed";

    /// An xz stream whose header asks for a dictionary of this size, as xz-file-format.txt
    /// 5.3.1 encodes it: 2 or 3, shifted by half of `bits` and 11.
    fn xz(bits: u8) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
        encoder.write_all(TEXT).unwrap();
        let mut stream = encoder.finish().unwrap();
        // The block header follows the 12 bytes of the stream header: its size, its flags,
        // the filter (LZMA2, one byte of properties), and its CRC32 at the end.
        let size = (usize::from(stream[12]) + 1) * 4;
        assert_eq!(stream[14..16], [0x21, 1], "one LZMA2 filter");
        stream[16] = bits;
        let mut sum = flate2::Crc::new();
        sum.update(&stream[12..12 + size - 4]);
        stream[12 + size - 4..12 + size].copy_from_slice(&sum.sum().to_le_bytes());
        stream
    }

    #[test]
    fn xz_dictionaries_are_taken_as_far_as_memory_goes() {
        let read = |bits| {
            let stream = xz(bits);
            let mut out = Vec::new();
            decoder(".xz", &stream[..]).unwrap().read_to_end(&mut out).map(|_| out)
        };
        // 64 MiB (xz -9) and 96 MiB.
        for bits in [28, 29] {
            assert_eq!(read(bits).unwrap(), TEXT, "{bits}");
        }
        // 128 MiB, to which the decoder's own state comes; 1 GiB; 4 GiB.
        for bits in [30, 36, 40] {
            let error = read(bits).unwrap_err().to_string();
            assert!(error.contains("memory"), "{bits}: {error}");
        }
    }
}
