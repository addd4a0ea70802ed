//! Entry points for fuzzing: they take any bytes and must not panic.

use std::io::Cursor;

use crate::definition::{self, Facts, Source};
use crate::gpt::{self, dump};
use crate::plan::{self, Request, Size};
use crate::{Architecture, Bytes, Compat, Guid, Version};

/// A disk image: reading, showing, checking, and writing back what was read.
pub fn fuzz_gpt(data: &[u8]) {
    let mut disk = Cursor::new(data.to_vec());
    let Ok(found) = gpt::read(&mut disk, None) else { return };
    let _ = dump::text(&found.table, found.disk, "img.raw");
    let _ = dump::json(&found.table, found.disk, "img.raw");
    let mut table = found.table.clone();
    let _ = table.fit_to(found.disk);
    if gpt::write(&mut disk, &table).is_ok() {
        let again = gpt::read(&mut disk, Some(table.sector_size));
        let again = again.expect("what was written can be read");
        assert_eq!(again.table.entries, table.entries, "nothing is lost");
    }
}

/// A definition, in both versions.
pub fn fuzz_definition(data: &[u8]) {
    let texts = [("50-fuzz.conf".to_owned(), String::from_utf8_lossy(data).into_owned())];
    for version in [Version::V257, Version::V262] {
        let compat = Compat { version, original_bugs: false };
        let facts = Facts::new(Architecture::X8664);
        let _ = definition::load(Source::Texts(&texts), &facts, compat);
    }
}

/// Definitions, separated by NUL bytes, and behind the last of them the size of a disk.
/// The whole is also taken as a disk image, which has its boot code where the
/// definitions are.
pub fn fuzz_plan(data: &[u8]) {
    let head = &data[..data.len().min(4096)];
    let mut parts: Vec<&[u8]> = head.split(|b| *b == 0).take(12).collect();
    let disk = parts.pop().unwrap_or_default();
    let texts: Vec<(String, String)> = (0..)
        .zip(parts)
        .map(|(i, text)| (format!("{i:02}.conf"), String::from_utf8_lossy(text).into_owned()))
        .collect();
    let size = disk.iter().fold(0u64, |n, b| n.wrapping_mul(251).wrapping_add(u64::from(*b)));
    let found = gpt::read(&mut Cursor::new(data.to_vec()), None).ok();
    for version in [Version::V257, Version::V262] {
        let compat = Compat { version, original_bugs: false };
        let facts = Facts::new(Architecture::X8664);
        let Ok(loaded) = definition::load(Source::Texts(&texts), &facts, compat) else { continue };
        for existing in [None, found.as_ref()] {
            let request = Request {
                definitions: &loaded.definitions,
                content: (0..texts.len()).map(|i| (i, Bytes(size >> (i % 64)))).collect(),
                existing,
                size: if size % 3 == 0 { Size::Auto } else { Size::Fixed(Bytes(size)) },
                seed: Guid::NIL,
                sector_size: None,
                grain: None,
                block_device: size % 2 == 0,
                device: "img.raw".into(),
                defer: Default::default(),
                current: Bytes(0),
                compat,
            };
            check(&request);
        }
    }
}

fn check(request: &Request<'_>) {
    let Ok(plan) = plan::plan(request) else { return };
    assert_eq!(plan.table.problems(), [], "a planned table is sound");
    let mut at = 0;
    let mut by_offset: Vec<_> = plan.partitions.iter().collect();
    by_offset.sort_by_key(|p| p.offset);
    for partition in by_offset {
        assert!(partition.offset.0 >= at, "partitions do not overlap");
        assert!(partition.size >= partition.old_size, "nothing shrinks");
        at = partition.offset.0 + partition.size.0;
    }
    assert!(at <= plan.disk_size.0, "everything is on the disk");
    let _ = (plan.to_json(), plan.to_text());
}
