//! Makes .debs for tests, byte by byte, so that they can be as wrong as needed.

use std::sync::Arc;

use store::{Key, Store};
use testkit::archive::{self, ar, seal_header};

use crate::{Error, Limits, Package, unpack};

/// A ustar entry: name, type, link target, content.
pub(crate) struct Item<'a>(pub &'a str, pub u8, pub &'a str, pub &'a [u8]);

pub(crate) fn header(name: &[u8], kind: u8, link: &str, size: usize) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name);
    let mode = if kind == b'5' { "0000755\0" } else { "0000644\0" };
    put(100, mode.as_bytes());
    put(108, b"0000007\0");
    put(116, b"0000010\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"14300000000\0");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    put(265, b"who");
    put(297, b"group");
    seal_header(block)
}

pub(crate) fn tar(items: &[Item<'_>]) -> Vec<u8> {
    archive::tar(items.iter().map(|Item(name, kind, link, content)| {
        (header(name.as_bytes(), *kind, link, content.len()), *content)
    }))
}

/// A package with these fields besides the three that it must have, these control
/// files and these entries.
pub(crate) fn deb(
    name: &str,
    fields: &str,
    control: &[(&str, &str)],
    data: &[Item<'_>],
) -> Vec<u8> {
    let paragraph = format!("Package: {name}\nVersion: 1\nArchitecture: all\n{fields}");
    let mut members = vec![Item("./control", b'0', "", paragraph.as_bytes())];
    members.extend(control.iter().map(|(n, text)| Item(n, b'0', "", text.as_bytes())));
    ar(&[("debian-binary", b"2.0\n"), ("control.tar", &tar(&members)), ("data.tar", &tar(data))])
}

pub(crate) struct Shelf {
    _dir: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Shelf {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        Shelf { _dir: dir, store }
    }

    pub(crate) fn try_unpack(&self, bytes: &[u8]) -> Result<Arc<Package>, Error> {
        unpack(&self.store, "test.deb", bytes, &Key::of(bytes), &Limits::default())
    }

    pub(crate) fn package(
        &self,
        name: &str,
        fields: &str,
        control: &[(&str, &str)],
        data: &[Item<'_>],
    ) -> Arc<Package> {
        self.try_unpack(&deb(name, fields, control, data)).unwrap()
    }
}
