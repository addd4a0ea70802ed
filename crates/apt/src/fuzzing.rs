//! Entry points for fuzzing: each takes any bytes and must return.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use crate::openpgp::{self, Trust};
use crate::pins::Pins;
use crate::release::Release;
use crate::sources::SourceList;
use crate::uri::Uri;

/// Both formats of sources.
pub fn fuzz_sources(data: &[u8]) {
    for name in ["a.list", "a.sources"] {
        let mut list = SourceList::default();
        list.add_bytes(data, Path::new(name));
        for source in &list.sources {
            assert!(source.dist_uri("InRelease").is_ok());
        }
    }
}

/// Release files.
pub fn fuzz_release(data: &[u8]) {
    let _ = Release::parse(data);
}

/// Clear-signed texts and keyrings.
pub fn fuzz_openpgp(data: &[u8]) {
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let _ = openpgp::verify_clear_signed(data, &Trust::debian_archive(), now);
    let _ = openpgp::verify_detached(data, b"text", &Trust::debian_archive(), now);
    let _ = openpgp::text_unchecked(data);
    let _ = Trust::default().add_bytes(data, "fuzz");
}

/// Preferences.
pub fn fuzz_preferences(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let native = debian::Architecture::new("amd64").expect("a name");
        let _ = Pins::new(&native).add_text(text, Path::new("preferences"));
    }
}

/// Records from the cache.
pub fn fuzz_records(data: &[u8]) {
    let _ = crate::records::decode(data);
}

/// URIs and the paths joined to them.
pub fn fuzz_uri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = Uri::parse(text);
    let root = Uri::parse("file:/srv/debian").expect("a URI");
    if let Ok(uri) = root.join(text) {
        let path = uri.file_path().expect("a file");
        assert!(path.starts_with("/srv/debian"));
        assert!(!path.components().any(|c| c == std::path::Component::ParentDir));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(data: &[u8]) {
        fuzz_sources(data);
        fuzz_release(data);
        fuzz_openpgp(data);
        fuzz_preferences(data);
        fuzz_records(data);
        fuzz_uri(data);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]

        #[test]
        fn any_bytes_return(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            all(&data);
        }

        #[test]
        fn any_text_of_the_formats_returns(
            words in proptest::collection::vec(
                prop_oneof![
                    "deb ", "\\[", "\\] ", "arch=", "http://h/d ", "\\./", "Types: deb\n",
                    "URIs: file:/x\n", "Suites: x\n", "SHA256:\n", " [0-9a-f]{64} 1 a\n",
                    "Package: [a*?\\[]{1,3}\n", "Pin: release a=b\n", "Pin-Priority: 1\n",
                    "-----BEGIN PGP SIGNED MESSAGE-----\n", "Hash: SHA256\n", "\n",
                    "-----BEGIN PGP SIGNATURE-----\n", "-----END PGP SIGNATURE-----\n", ".{0,5}",
                ],
                0..30,
            )
        ) {
            all(words.concat().as_bytes());
        }
    }
}
