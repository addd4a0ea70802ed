//! The order of modules.symbols, which is that of depmod's hash table: 2048
//! buckets by Paul Hsieh's SuperFastHash, in a bucket by name. It means nothing;
//! it is kept so that the file is the same byte for byte.

const BUCKETS: u32 = 2048;

/// Sorts `names` as depmod writes them.
pub fn sort_key(name: &[u8]) -> (u32, &[u8]) {
    (hash(name) & (BUCKETS - 1), name)
}

fn hash(key: &[u8]) -> u32 {
    let half = |bytes: &[u8]| u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let mut hash = key.len() as u32;
    let mut blocks = key.chunks_exact(4);
    for block in &mut blocks {
        hash = hash.wrapping_add(half(block));
        hash = (hash << 16) ^ (half(&block[2..]) << 11) ^ hash;
        hash = hash.wrapping_add(hash >> 11);
    }
    // The original adds a signed char here.
    let signed = |byte: u8| byte as i8 as u32;
    match blocks.remainder() {
        [rest @ .., last] if rest.len() == 2 => {
            hash = hash.wrapping_add(half(rest));
            hash ^= hash << 16;
            hash ^= signed(*last) << 18;
            hash = hash.wrapping_add(hash >> 11);
        }
        rest @ [_, _] => {
            hash = hash.wrapping_add(half(rest));
            hash ^= hash << 11;
            hash = hash.wrapping_add(hash >> 17);
        }
        [last] => {
            hash = hash.wrapping_add(signed(*last));
            hash ^= hash << 10;
            hash = hash.wrapping_add(hash >> 1);
        }
        _ => {}
    }
    for (left, right) in [(3, 5), (4, 17), (25, 6)] {
        hash ^= hash << left;
        hash = hash.wrapping_add(hash >> right);
    }
    hash
}
