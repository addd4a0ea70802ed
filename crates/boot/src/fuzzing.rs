//! Entry points for fuzzing, one per decoder. None may panic, loop, or take more
//! memory than a small multiple of its input.

use tree::Content;

/// Kernel modules: ELF and `.modinfo`.
pub fn fuzz_module(data: &[u8]) {
    if let Ok(facts) = crate::modules::elf::parse(data) {
        let set = crate::modules::ModuleSet::for_fuzzing(facts);
        let _ = set.depmod();
        let all = crate::modules::pattern::Selection::parse(&["*"]).expect("well formed");
        let _ = crate::modules::select::select(&set, &all);
    }
}

/// Module patterns: the first line is the pattern, the rest a path.
pub fn fuzz_pattern(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (pattern, path) = text.split_once('\n').unwrap_or((&text, ""));
    if let Ok(selection) = crate::modules::pattern::Selection::parse(&[pattern]) {
        selection.matches(path);
    }
}

/// PE images, and a UKI on the image as stub.
pub fn fuzz_pe(data: &[u8]) {
    let content = Content::inline(data.to_vec());
    for (_, section) in crate::uki::inspect(&content).unwrap_or_default() {
        assert!(section.len() <= content.len(), "a section lies within the file");
    }
    let uki = crate::uki::Uki {
        linux: Content::inline(*b"linux"),
        initrd: None,
        microcode: None,
        os_release: Content::empty(),
        cmdline: "quiet".into(),
        uname: String::new(),
        device_tree: None,
        splash: None,
        sbat: None,
    };
    if let Ok(built) = uki.build(&content, crate::arch::EfiArch::X64) {
        let sections = crate::uki::inspect(&built).expect("what is written reads back");
        let linux = sections.iter().rev().find(|(s, _)| s.name == ".linux").expect("was added");
        assert_eq!(linux.1.read(99).expect("in memory"), b"linux");
    }
}

/// Boot loader entries: what is read is written and read back the same.
pub fn fuzz_entry(data: &[u8]) {
    if let Ok(entry) = crate::entry::Entry::parse(data) {
        let _ = entry.to_text().map(|text| crate::entry::Entry::parse(text.as_bytes()));
    }
    let name = String::from_utf8_lossy(data);
    crate::entry::Name::parse(&name);
}

/// os-release.
pub fn fuzz_os_release(data: &[u8]) {
    crate::osrelease::parse(data);
}

/// cpio archives.
pub fn fuzz_cpio(data: &[u8]) {
    if let Ok(tree) = crate::cpio::read(data) {
        let again = crate::cpio::archive(&tree, None).expect("came from one");
        let bytes = again.read(u64::MAX).expect("in memory");
        assert_eq!(crate::cpio::read(&bytes).expect("own archive").len(), tree.len());
    }
}

/// Versions: the order is antisymmetric.
pub fn fuzz_version(data: &[u8]) {
    let (a, b) = data.split_at(data.len() / 2);
    assert_eq!(crate::version::compare(a, b), crate::version::compare(b, a).reverse());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A small valid image to mutate: one section of 16 bytes.
    fn image() -> Vec<u8> {
        let mut image = vec![0; 0x420];
        image[..2].copy_from_slice(b"MZ");
        image[0x3c] = 0x40;
        image[0x40..0x44].copy_from_slice(b"PE\0\0");
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x44, &0x8664u16.to_le_bytes());
        put(0x46, &1u16.to_le_bytes());
        put(0x54, &240u16.to_le_bytes());
        put(0x58, &0x20bu16.to_le_bytes());
        put(0x58 + 32, &0x1000u32.to_le_bytes());
        put(0x58 + 36, &0x200u32.to_le_bytes());
        put(0x58 + 60, &0x400u32.to_le_bytes());
        put(0x58 + 68, &10u16.to_le_bytes());
        let section = 0x58 + 240;
        put(section, b".text");
        put(section + 8, &16u32.to_le_bytes());
        put(section + 12, &0x1000u32.to_le_bytes());
        put(section + 16, &0x20u32.to_le_bytes());
        put(section + 20, &0x400u32.to_le_bytes());
        image
    }

    fn with_sbat() -> Vec<u8> {
        let mut image = image();
        let section = 0x58 + 240;
        image[section..section + 8].copy_from_slice(b".sbat\0\0\0");
        image[section + 16..section + 18].copy_from_slice(&0x200u16.to_le_bytes());
        image.resize(0x600, 0);
        image
    }

    #[test]
    fn the_image_to_mutate_is_accepted() {
        let content = Content::inline(image());
        assert_eq!(crate::uki::inspect(&content).unwrap()[0].1.len(), 16);
        fuzz_pe(&image());
        fuzz_pe(&with_sbat());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn no_bytes_break_a_decoder(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            for fuzz in [fuzz_module, fuzz_pattern, fuzz_pe, fuzz_entry, fuzz_os_release,
                fuzz_cpio, fuzz_version] {
                fuzz(&data);
            }
        }

        #[test]
        fn no_damaged_image_breaks_the_reader(at in 0usize..0x180, value: u32) {
            let mut bytes = image();
            let end = (at + 4).min(bytes.len());
            bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
            fuzz_pe(&bytes);
            let mut bytes = with_sbat();
            bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
            fuzz_pe(&bytes);
        }

        #[test]
        fn no_text_breaks_the_parsers(text in "[-+A-Za-z0-9 =\"'\\\\\n*?\\[\\]/~^.]{0,200}") {
            fuzz_pattern(text.as_bytes());
            fuzz_entry(text.as_bytes());
            fuzz_os_release(text.as_bytes());
            fuzz_version(text.as_bytes());
        }
    }
}
