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
