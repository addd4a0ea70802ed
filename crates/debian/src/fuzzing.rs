//! Entry points for fuzzing: each takes any bytes and must return.

use crate::deb822::Paragraphs;
use crate::{Relations, Version, read_packages, version};

/// Paragraphs in both modes; what was read must be written and read again.
pub fn fuzz_deb822(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for paragraphs in [Paragraphs::new(text), Paragraphs::with_comments(text)] {
        for paragraph in paragraphs.map_while(Result::ok) {
            let written = paragraph.to_string();
            let again = Paragraphs::new(&written).next();
            let again = again.expect("a paragraph was written").expect("it is well-formed");
            assert_eq!(again.fields().len(), paragraph.fields().len());
        }
    }
}

/// Records of an index.
pub fn fuzz_packages(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = read_packages(text);
    }
}

/// A dependency field; its canonical form must be one, too.
pub fn fuzz_relations(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(relations) = Relations::new(text) {
        let canonical = relations.to_string();
        let again = Relations::new(&canonical).expect("the canonical form is valid");
        assert_eq!(again.to_string(), canonical);
    }
}

/// Two versions: the order is antisymmetric and agrees with equality.
pub fn fuzz_version(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (a, b) = text.split_once('\n').unwrap_or((text, text));
    if let (Ok(a), Ok(b)) = (Version::new(a), Version::new(b)) {
        assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        assert_eq!(version::compare(a.as_str(), b.as_str()).is_eq(), a == b);
    }
}
