//! CPU microcode, which the kernel takes from an uncompressed archive before
//! anything else (Documentation/arch/x86/microcode.rst).

use tree::{Content, Meta, Mtime, Tree, TreePath};

use super::InitrdError;
use crate::cpio;

/// Vendor directory of linux-firmware → name in the archive.
const VENDORS: [(&str, &str); 2] = [
    ("usr/lib/firmware/amd-ucode", "kernel/x86/microcode/AuthenticAMD.bin"),
    ("usr/lib/firmware/intel-ucode", "kernel/x86/microcode/GenuineIntel.bin"),
];

/// The archive for all CPUs that the tree has microcode for; `None` if it has
/// none. For all: an image does not know the machine it will run on.
pub fn microcode(tree: &Tree, latest: Option<Mtime>) -> Result<Option<Content>, InitrdError> {
    let mut archive = Tree::new();
    for (dir, name) in VENDORS {
        let Ok(dir) = tree.resolve(&TreePath::literal(dir)) else { continue };
        let files = tree.children(&dir).filter(|(path, _)| is_microcode(path.name()));
        let parts: Vec<Content> =
            files.filter_map(|(path, _)| tree.lookup(path)?.content().cloned()).collect();
        if !parts.is_empty() {
            let path = TreePath::literal(name);
            archive.make_dirs(&path.parent().expect("has three parents"))?;
            archive.add_file(path, Meta::file(0o644), Content::concat(&parts))?;
        }
    }
    if archive.is_empty() {
        return Ok(None);
    }
    Ok(Some(cpio::archive(&archive, latest).map_err(InitrdError::from)?))
}

/// Intel's are called `family-model-stepping` in hexadecimal (Debian marks those
/// that are not to be loaded early with a suffix), AMD's `microcode_amd*.bin`.
fn is_microcode(name: &[u8]) -> bool {
    let hex = |part: &[u8]| part.len() == 2 && part.iter().all(u8::is_ascii_hexdigit);
    let parts: Vec<&[u8]> = name.split(|b| *b == b'-').collect();
    (parts.len() == 3 && parts.iter().all(|p| hex(p)))
        || (name.starts_with(b"microcode_amd") && name.ends_with(b".bin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microcode_of_each_vendor_is_one_file() {
        let mut t = Tree::new();
        assert!(microcode(&t, None).unwrap().is_none());
        for (path, bytes) in [
            ("usr/lib/firmware/intel-ucode/06-8e-0c", *b"IB"),
            ("usr/lib/firmware/intel-ucode/06-55-04", *b"IA"),
            ("usr/lib/firmware/intel-ucode/06-4f-01.initramfs", *b"XX"),
            ("usr/lib/firmware/amd-ucode/microcode_amd.bin", *b"A1"),
            ("usr/lib/firmware/amd-ucode/README", *b"YY"),
        ] {
            t.write(&TreePath::literal(path), 0o644, bytes).unwrap();
        }
        let bytes = microcode(&t, None).unwrap().unwrap().read(1 << 20).unwrap();
        let archive = cpio::read(&bytes).unwrap();
        for (path, want) in [(VENDORS[0].1, &b"A1"[..]), (VENDORS[1].1, b"IAIB")] {
            let node = archive.get(&TreePath::literal(path)).unwrap();
            assert_eq!(node.content().unwrap().read(99).unwrap(), want);
        }
    }
}
