//! Compression of what the kernel unpacks while it boots.

use std::io::{self, Write};

use tree::Content;

/// mkosi's level. On the default initrd's 73 MB, with the machine busy, level 9
/// saved a tenth of the size for three times the work, and 19 a fifth for fifty.
pub const LEVEL: i32 = 3;

/// One zstd frame with a checksum. `threads` says how many may work and never
/// changes the bytes: libzstd cuts the input the same way for any number of
/// workers but none, so there is always at least one.
pub fn zstd(content: &Content, level: i32, threads: u32) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level)?;
    encoder.include_checksum(true)?;
    encoder.include_contentsize(true)?;
    encoder.set_pledged_src_size(Some(content.len()))?;
    encoder.multithread(threads.max(1))?;
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < content.len() {
        let n = content.read_at(&mut buffer, offset)?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "content ends early"));
        }
        encoder.write_all(&buffer[..n])?;
        offset += n as u64;
    }
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_do_not_change_the_bytes() {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 27) as u8
        };
        let content = Content::inline((0..12 << 20).map(|_| noise()).collect::<Vec<u8>>());
        let one = zstd(&content, 1, 1).unwrap();
        for threads in [0, 2, 3, 8] {
            assert!(zstd(&content, 1, threads).unwrap() == one, "{threads} threads");
        }
        let back = zstd::decode_all(&one[..]).unwrap();
        assert!(back == content.read(1 << 30).unwrap());
    }
}
