//! Records from stanzas of an index, and the limits of the paragraph reader.

use debian::{MultiArch, PackageRecord, Priority, read_packages};
use proptest::prelude::*;

/// A stanza as Debian's archive writes it, shortened.
const STANZA: &str = "\
Package: libudev1
Source: systemd (257.13-1~deb13u1)
Version: 257.13-1~deb13u1
Installed-Size: 360
Maintainer: Debian systemd Maintainers <pkg-systemd-maintainers@example.org>
Architecture: amd64
Multi-Arch: same
Depends: libc6 (>= 2.38), libcap2 (>= 1:2.10)
Pre-Depends: base-files
Breaks: udev (<< 200)
Provides: libudev (= 257.13), udev-api
Description: libudev shared library
Homepage: https://example.org/systemd
Task: minimal, server
Section: libs
Priority: optional
Important: yes
Filename: pool/main/s/systemd/libudev1_257.13-1~deb13u1_amd64.deb
Size: 152000
SHA256: 00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff
";

#[test]
fn a_stanza_becomes_a_record() {
    let records = read_packages(STANZA).unwrap();
    let [record] = records.as_slice() else { panic!("one record") };
    assert_eq!(record.name, "libudev1");
    assert_eq!(record.version.as_str(), "257.13-1~deb13u1");
    assert_eq!(record.architecture, "amd64");
    assert_eq!(record.multi_arch, MultiArch::Same);
    assert_eq!((record.essential, record.protected), (false, true));
    assert_eq!(record.priority, Priority::Optional);
    assert_eq!(record.depends.to_string(), "libc6 (>= 2.38), libcap2 (>= 1:2.10)");
    assert_eq!(record.provides.relations().count(), 2);
    assert!(record.recommends.is_empty());
    assert_eq!((&*record.source, record.source_version.as_str()), ("systemd", "257.13-1~deb13u1"));
    assert_eq!(record.tasks.iter().map(|t| &**t).collect::<Vec<_>>(), ["minimal", "server"]);
    assert_eq!((record.size, record.installed_size), (152_000, 360));
    let sum = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    assert_eq!(record.sha256.unwrap().to_string(), sum);
    assert_eq!(record.cache_name(), "libudev1_257.13-1~deb13u1_amd64.deb");
}

#[test]
fn a_record_survives_json() {
    let record = read_packages(STANZA).unwrap().remove(0);
    let json = serde_json::to_string(&*record).unwrap();
    assert_eq!(serde_json::from_str::<PackageRecord>(&json).unwrap(), *record);
}

#[test]
fn errors_name_line_package_and_field() {
    let cases = [
        ("Version: 257.13-1~deb13u1\n", "", "the field “Version” is missing"),
        ("libc6 (>= 2.38)", "libc6 (2.38)", "Depends: “libc6 (2.38)” is not a relation"),
        ("Size: 152000", "Size: -1", "the field “Size” holds “-1”, not a number"),
        ("Size: 152000", "Size: 99999999999999999999", "not a number"),
        ("Multi-Arch: same", "Multi-Arch: maybe", "not no, same, foreign or allowed"),
        ("SHA256: 0011", "SHA256: zz11", "not 64 hexadecimal digits"),
        ("Architecture: amd64", "Architecture: ../x", "is not an architecture"),
        ("Package: libudev1", "Package: ../../x", "is not a package name"),
    ];
    for (from, to, message) in cases {
        let text = format!("\n{STANZA}").replace(from, to);
        let error = read_packages(&text).expect_err(to).to_string();
        let shown = format!("{error} {}", source_chain(&read_packages(&text).unwrap_err()));
        assert!(shown.contains(message), "{shown}");
        assert!(error.starts_with("line 2: package "), "{error}");
    }
}

fn source_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        debian::fuzzing::fuzz_deb822(&bytes);
        debian::fuzzing::fuzz_packages(&bytes);
    }

    #[test]
    fn field_like_text_is_parsed_or_refused(text in "([A-C#. ]{0,2}:?[ \t]?[a-b.#]{0,3}\r?\n){0,12}") {
        debian::fuzzing::fuzz_deb822(text.as_bytes());
    }
}
