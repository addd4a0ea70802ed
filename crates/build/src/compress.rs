//! `CompressOutput=`: a file that is compressed as it is written.
//!
//! What comes out follows from the bytes and the level alone: threads get blocks of
//! a fixed size, and nothing of the time or the file's name goes into a header.

use std::fs::File;
use std::io::{self, Write};

use config::Config;
use config::types::Compression;
use liblzma::stream::{Check, MtStreamBuilder};

use crate::error::BuildError;

/// What one thread compresses at a time.
const BLOCK: u32 = 8 << 20;

/// Writes compressed, or not.
pub struct Compressor(Kind);

enum Kind {
    Plain(File),
    Zstd(zstd::Encoder<'static, File>),
    Xz(Box<liblzma::write::XzEncoder<File>>),
    Gz(flate2::write::GzEncoder<File>),
}

impl Compressor {
    /// Compresses into `file` as the configuration says.
    pub fn new(file: File, config: &Config, threads: usize) -> Result<Compressor, BuildError> {
        let level = config.output.compress_level;
        let threads = u32::try_from(threads).unwrap_or(1).max(1);
        let failed = |e: io::Error| BuildError::Image(format!("CompressLevel={level}: {e}"));
        let up_to_9 = || match level {
            0..=9 => Ok(level),
            _ => Err(BuildError::Image(format!(
                "CompressLevel={level} is impossible with CompressOutput={}: use 0 to 9",
                config.output.compress
            ))),
        };
        Ok(Compressor(match config.output.compress {
            Compression::None => Kind::Plain(file),
            Compression::Zstd => {
                let level = i32::try_from(level).unwrap_or(3);
                let mut encoder = zstd::Encoder::new(file, level).map_err(failed)?;
                let job = zstd::zstd_safe::CParameter::JobSize(BLOCK);
                encoder.multithread(threads).map_err(failed)?;
                encoder.set_parameter(job).map_err(failed)?;
                Kind::Zstd(encoder)
            }
            Compression::Xz => {
                let stream = MtStreamBuilder::new()
                    .preset(up_to_9()?)
                    .check(Check::Crc64)
                    .block_size(u64::from(BLOCK))
                    .threads(threads)
                    .encoder()
                    .map_err(|e| failed(e.into()))?;
                Kind::Xz(Box::new(liblzma::write::XzEncoder::new_stream(file, stream)))
            }
            Compression::Gz => {
                let level = flate2::Compression::new(up_to_9()?);
                Kind::Gz(flate2::GzBuilder::new().mtime(0).write(file, level))
            }
        }))
    }

    /// Writes what is left.
    pub fn finish(self) -> io::Result<()> {
        match self.0 {
            Kind::Plain(_) => Ok(()),
            Kind::Zstd(encoder) => encoder.finish().map(|_| ()),
            Kind::Xz(encoder) => encoder.finish().map(|_| ()),
            Kind::Gz(encoder) => encoder.finish().map(|_| ()),
        }
    }
}

impl Write for Compressor {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Plain(file) => file.write(buf),
            Kind::Zstd(encoder) => encoder.write(buf),
            Kind::Xz(encoder) => encoder.write(buf),
            Kind::Gz(encoder) => encoder.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Kind::Plain(file) => file.flush(),
            Kind::Zstd(encoder) => encoder.flush(),
            Kind::Xz(encoder) => encoder.flush(),
            Kind::Gz(encoder) => encoder.flush(),
        }
    }
}

/// Reads what [`Compressor`] wrote.
pub fn decompress(file: File, compression: Compression) -> io::Result<Box<dyn io::Read>> {
    Ok(match compression {
        Compression::None => Box::new(file),
        Compression::Zstd => Box::new(zstd::Decoder::new(file)?),
        Compression::Xz => Box::new(liblzma::read::XzDecoder::new_multi_decoder(file)),
        Compression::Gz => Box::new(flate2::read::MultiGzDecoder::new(file)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;
    use std::io::{Read, Seek};

    #[test]
    fn threads_do_not_change_the_bytes_and_they_read_back() {
        let data: Vec<u8> = (0..30_000_000u32).map(|i| ((i / 7) ^ (i >> 9)) as u8).collect();
        for (name, magic) in [
            ("zstd", &[0x28, 0xb5, 0x2f, 0xfd][..]),
            ("xz", b"\xfd7zXZ\0"),
            ("gz", &[0x1f, 0x8b]),
            ("none", &[]),
        ] {
            let config = config(&[&format!("--compress-output={name}"), "--compress-level=1"]);
            let mut made = Vec::new();
            for threads in [1, 3] {
                let mut file = tempfile::tempfile().unwrap();
                let copy = file.try_clone().unwrap();
                let mut out = Compressor::new(copy, &config, threads).unwrap();
                out.write_all(&data).unwrap();
                out.finish().unwrap();
                file.rewind().unwrap();
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).unwrap();
                assert!(bytes.starts_with(magic), "{name}");
                file.rewind().unwrap();
                let mut back = Vec::new();
                let mut reader = decompress(file, config.output.compress).unwrap();
                reader.read_to_end(&mut back).unwrap();
                assert!(back == data, "{name}");
                made.push(bytes);
            }
            assert!(made[0] == made[1], "{name}: the number of threads changes the bytes");
        }
    }

    #[test]
    fn a_level_that_the_algorithm_lacks_is_refused() {
        for name in ["xz", "gz"] {
            let config = config(&[&format!("--compress-output={name}"), "--compress-level=15"]);
            let file = tempfile::tempfile().unwrap();
            let error = Compressor::new(file, &config, 1).err().unwrap().to_string();
            assert!(error.contains("CompressLevel=15") && error.contains("0 to 9"), "{error}");
        }
    }
}
