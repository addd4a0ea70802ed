//! Entry points for fuzzing: each takes any bytes and must neither panic nor take
//! more memory than its limits say.

use std::io::Write as _;

use tree::{Tree, TreePath};

use crate::{Control, Database, Limits, ar, package, read_deb, tar};

/// Small limits, so that a fuzzer finds what exceeds them.
fn limits() -> Limits {
    Limits {
        control_bytes: 1 << 20,
        control_members: 20,
        data_bytes: 4 << 20,
        data_ratio: 1000,
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

/// A tar stream: as it is, and with right checksums, which chance does not find.
pub fn fuzz_tar(data: &[u8]) {
    read_tar(data);
    let mut sealed = data.to_vec();
    tar::seal_all(&mut sealed);
    read_tar(&sealed);
}

fn read_tar(data: &[u8]) {
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

/// A database of dpkg: its files, separated by NUL bytes, the name on
/// the first line.
pub fn fuzz_database(data: &[u8]) {
    let mut tree = Tree::new();
    for part in data.split(|b| *b == 0) {
        let end = part.iter().position(|b| *b == b'\n').unwrap_or(part.len());
        let (name, text) = (&part[..end], part.get(end + 1..).unwrap_or_default());
        let path = TreePath::literal("var/lib/dpkg").join(name);
        if let Ok(path) = path {
            let _ = tree.write(&path, 0o644, text);
        }
    }
    let Ok(mut database) = Database::load(&tree, "amd64") else { return };
    let before: Vec<String> = database.packages().map(|p| p.control().info_name()).collect();
    if database.write(&mut tree, tree::Mtime::secs(0)).is_ok() {
        let again = Database::load(&tree, "amd64").expect("what is written can be read");
        let after: Vec<String> = again.packages().map(|p| p.control().info_name()).collect();
        assert_eq!(before, after, "no package is lost");
    }
}
