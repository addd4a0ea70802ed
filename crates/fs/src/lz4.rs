//! LZ4 blocks, unpacked into a buffer of known size. Files of EROFS may need only the
//! first bytes of a block, so that it is no error if there are more.
//!
//! Own code: the crates decode whole blocks alone. Source: the LZ4 block format
//! description of the LZ4 project.

use std::io;

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("LZ4: {what}"))
}

/// The shortest copy.
const MIN_MATCH: usize = 4;

/// The first `max` bytes of what `packed` holds, or all of them if there are fewer.
pub fn unpack(packed: &[u8], max: usize) -> io::Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(max.min(packed.len().saturating_mul(4)));
    let mut at = 0;
    while at < packed.len() && plain.len() < max {
        let token = usize::from(packed[at]);
        at += 1;
        let literals = length(packed, &mut at, token >> 4, max)?;
        let wanted = literals.min(max - plain.len());
        let bytes = packed.get(at..at.saturating_add(wanted)).ok_or_else(|| bad("cut off"))?;
        plain.extend_from_slice(bytes);
        at += literals;
        if at >= packed.len() || plain.len() == max {
            break;
        }
        let offset = packed.get(at..at + 2).ok_or_else(|| bad("cut off"))?;
        let offset = usize::from(offset[0]) | usize::from(offset[1]) << 8;
        at += 2;
        let count = length(packed, &mut at, token & 15, max)? + MIN_MATCH;
        let from = plain.len().checked_sub(offset).filter(|_| offset > 0);
        let from = from.ok_or_else(|| bad("a copy from before the block"))?;
        for n in 0..count.min(max - plain.len()) {
            plain.push(plain[from + n]);
        }
    }
    Ok(plain)
}

/// A length whose first four bits are `nibble`: more follow while they are all ones.
fn length(packed: &[u8], at: &mut usize, nibble: usize, max: usize) -> io::Result<usize> {
    let mut length = nibble;
    if nibble == 15 {
        loop {
            let more = *packed.get(*at).ok_or_else(|| bad("cut off"))?;
            *at += 1;
            length += usize::from(more);
            if more != 255 || length > max {
                break;
            }
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_unpacked_as_far_as_they_are_wanted() {
        // "abcd" once, then 11 bytes from 4 before, then the literal end "xy".
        let block = [0x47, b'a', b'b', b'c', b'd', 4, 0, 0x20, b'x', b'y'];
        assert_eq!(unpack(&block, 99).unwrap(), b"abcdabcdabcdabcxy");
        assert_eq!(unpack(&block, 6).unwrap(), b"abcdab");
        // Twenty literals: 15 and 5 more.
        let long = [&[0xf0, 5][..], &[7; 20]].concat();
        assert_eq!(unpack(&long, 99).unwrap(), [7; 20]);
        for broken in [&[0x40, b'a'][..], &[0x10, b'a', 2, 0, 0], &[0x10, b'a', 0, 0, 0], &[0xf0]] {
            assert!(unpack(broken, 99).is_err(), "{broken:?}");
        }
    }
}
