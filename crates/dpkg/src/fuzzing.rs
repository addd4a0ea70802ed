//! Entry points for fuzzing: each takes any bytes and must neither panic nor take
//! more memory than its limits say.

use std::io::Write as _;

use crate::{Control, Limits, ar, package, read_deb, tar};

/// Small limits, so that a fuzzer finds what exceeds them.
fn limits() -> Limits {
    Limits {
        control_bytes: 1 << 20,
        control_members: 20,
        data_bytes: 4 << 20,
        entries: 1000,
        name_bytes: 1 << 20,
    }
}

/// The ar container.
pub fn fuzz_ar(data: &[u8]) {
    let Ok(mut reader) = ar::Reader::new(data) else { return };
    while let Ok(Some(_)) = reader.next() {
        let _ = std::io::copy(&mut reader.member(), &mut std::io::sink());
    }
}

/// A tar stream.
pub fn fuzz_tar(data: &[u8]) {
    let mut reader = tar::Reader::new(data);
    let mut count = 0;
    while let Ok(Some(header)) = reader.next() {
        count += 1;
        assert!(header.offset <= data.len() as u64, "content starts where the stream is");
        if count > 1000 {
            return;
        }
    }
}

/// A whole package, decompression included.
pub fn fuzz_deb(data: &[u8]) {
    let mut pack = Vec::new();
    let Ok(contents) = read_deb("fuzz", data, &limits(), &mut pack) else { return };
    let _ = pack.flush();
    for entry in &contents.entries {
        if let crate::EntryKind::File { offset, len } = entry.kind {
            assert!(offset + len <= pack.len() as u64, "contents lie in the pack");
        }
    }
}

/// A control paragraph, and what is written of it.
pub fn fuzz_control(data: &[u8]) {
    let Ok(control) = Control::parse(data) else { return };
    let text = control.status_paragraph(&[]);
    let again = Control::parse(text.as_bytes()).expect("what is written can be read");
    assert_eq!(again.status_paragraph(&[]), text);
}

/// A `package` object of the store.
pub fn fuzz_object(data: &[u8]) {
    package::decode_object(data);
}
