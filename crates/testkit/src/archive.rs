//! Archives byte by byte, so that they can be as wrong as a test needs.

/// An ar archive (ar(5), as in deb(5)); names and sizes as they are.
pub fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, data) in members {
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 644, data.len());
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}

/// Writes the checksum into the header of a tar entry (tar(5)).
pub fn seal_header(mut block: [u8; 512]) -> [u8; 512] {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// A tar archive of headers and what follows each.
pub fn tar<'a>(entries: impl IntoIterator<Item = ([u8; 512], &'a [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    for (header, content) in entries {
        out.extend_from_slice(&header);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}
