//! Records of an index in a form that is read back in a few hundredths of a second.
//!
//! ```text
//! magic, version, six tables of strings, the records
//! table:   count u32, length u32 each, bytes together (UTF-8)
//! records: count u32, then for each a fixed number of u32 (places in the tables,
//!          0 for none), size u64, installed size u64, SHA-256, flags
//! ```
//!
//! All numbers are little-endian. Every string is there once and is checked once when
//! it is read: names, versions and dependency fields go through `debian`'s own
//! checks, so what comes out is as valid as what a `Packages` file gives. A file that
//! does not decode is no error: the index is read again.
//!
//! Not here: where the bytes are kept.

use std::collections::HashMap;
use std::sync::Arc;

use debian::{
    Architecture, MultiArch, PackageName, PackageRecord, Priority, Relations, Sha256, Version,
};

/// Changes whenever the layout, or what `debian` reads from a stanza, does.
pub const FORMAT: &str = "mkgold-records-2";

/// Places in the tables per record.
const PLACES: usize = 17;
/// Bytes per record.
const RECORD: usize = PLACES * 4 + 8 + 8 + 32 + 4;

const ESSENTIAL: u8 = 1;
const PROTECTED: u8 = 2;
const HAS_SUM: u8 = 4;

/// One table while it is made.
#[derive(Default)]
struct Table<'a> {
    strings: Vec<&'a str>,
    places: HashMap<&'a str, u32>,
}

impl<'a> Table<'a> {
    /// The place of `text`, counted from 1.
    fn place(&mut self, text: &'a str) -> u32 {
        let next = u32::try_from(self.strings.len() + 1).expect("an index has under 2³² strings");
        *self.places.entry(text).or_insert_with(|| {
            self.strings.push(text);
            next
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        put(out, self.strings.len());
        self.strings.iter().for_each(|s| put(out, s.len()));
        self.strings.iter().for_each(|s| out.extend_from_slice(s.as_bytes()));
    }
}

fn put(out: &mut Vec<u8>, number: usize) {
    let number = u32::try_from(number).expect("an index is under 4 GiB");
    out.extend_from_slice(&number.to_le_bytes());
}

/// The six tables.
#[derive(Default)]
struct Tables<'a> {
    names: Table<'a>,
    versions: Table<'a>,
    architectures: Table<'a>,
    relations: Table<'a>,
    sections: Table<'a>,
    texts: Table<'a>,
}

fn relations_of(record: &PackageRecord) -> [&Relations; 9] {
    [
        &record.depends,
        &record.pre_depends,
        &record.recommends,
        &record.suggests,
        &record.enhances,
        &record.conflicts,
        &record.breaks,
        &record.replaces,
        &record.provides,
    ]
}

/// Writes `records`.
pub fn encode(records: &[Arc<PackageRecord>]) -> Vec<u8> {
    let tasks: Vec<String> = records.iter().map(|r| r.tasks.join(" ")).collect();
    let mut tables = Tables::default();
    let mut body = Vec::with_capacity(records.len() * RECORD);
    for (record, tasks) in records.iter().zip(&tasks) {
        let mut places = [0; PLACES];
        places[0] = tables.names.place(record.name.as_str());
        places[1] = tables.versions.place(record.version.as_str());
        places[2] = tables.architectures.place(record.architecture.as_str());
        for (place, relations) in places[3..12].iter_mut().zip(relations_of(record)) {
            *place = tables.relations.place(relations.as_str());
        }
        places[12] = record.filename.as_deref().map_or(0, |f| tables.texts.place(f));
        places[13] = tables.texts.place(&record.source);
        places[14] = tables.versions.place(record.source_version.as_str());
        places[15] = tables.sections.place(&record.section);
        places[16] = if tasks.is_empty() { 0 } else { tables.texts.place(tasks) };
        places.iter().for_each(|place| body.extend_from_slice(&place.to_le_bytes()));
        body.extend_from_slice(&record.size.to_le_bytes());
        body.extend_from_slice(&record.installed_size.to_le_bytes());
        body.extend_from_slice(&record.sha256.map_or([0; 32], |sum| sum.0));
        body.extend_from_slice(&flags_of(record));
    }
    let mut out = FORMAT.as_bytes().to_vec();
    let Tables { names, versions, architectures, relations, sections, texts } = tables;
    [names, versions, architectures, relations, sections, texts]
        .iter()
        .for_each(|t| t.write(&mut out));
    put(&mut out, records.len());
    out.extend_from_slice(&body);
    out
}

fn flags_of(record: &PackageRecord) -> [u8; 4] {
    let multi_arch = match record.multi_arch {
        MultiArch::No => 0,
        MultiArch::Same => 1,
        MultiArch::Foreign => 2,
        MultiArch::Allowed => 3,
    };
    let priority = match record.priority {
        Priority::Required => 0,
        Priority::Important => 1,
        Priority::Standard => 2,
        Priority::Optional => 3,
        Priority::Extra => 4,
    };
    let mut bits = 0;
    for (set, bit) in [
        (record.essential, ESSENTIAL),
        (record.protected, PROTECTED),
        (record.sha256.is_some(), HAS_SUM),
    ] {
        bits |= if set { bit } else { 0 };
    }
    [multi_arch, priority, bits, 0]
}

/// Reads what [`encode`] wrote; `None` if it is anything else.
pub fn decode(bytes: &[u8]) -> Option<Vec<Arc<PackageRecord>>> {
    let mut reader = Reader { bytes: bytes.strip_prefix(FORMAT.as_bytes())? };
    let names = reader.table()?;
    let versions = reader.table()?;
    let architectures = reader.table()?;
    let relations = reader.table()?;
    let sections = reader.table()?;
    let texts = reader.table()?;
    let count = reader.number()?;
    let body = reader.bytes;
    if body.len() != count.checked_mul(RECORD)? {
        return None;
    }
    // Checking dependency fields is most of the work: the larger part of them for one
    // thread, the rest and all else for the other.
    let (most, rest) = relations.split(5, 8)?;
    let columns = std::thread::scope(|scope| {
        let most = scope.spawn(|| most.column::<Relations>());
        let (names, versions, texts) = (names.column(), versions.column(), texts.column());
        let rest = rest.column::<Relations>();
        let mut relations = most.join().ok()??;
        relations.extend(rest?);
        Some(Columns { names: names?, versions: versions?, relations, texts: texts? })
    })?;
    let records = |part: &[u8]| {
        let hot = Hot {
            architectures: architectures.column()?,
            sections: sections.column()?,
            nothing: Relations::try_from(Arc::from("")).ok()?,
        };
        let records = part.chunks_exact(RECORD).map(|raw| columns.record(raw, &hot).map(Arc::new));
        records.collect::<Option<Vec<_>>>()
    };
    let (first, second) = body.split_at(count / 2 * RECORD);
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| records(second));
        (records(first), second.join().ok().flatten())
    });
    let mut all = first?;
    all.extend(second?);
    Some(all)
}

/// What is left to read.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<usize> {
        let bytes = self.take(4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    }

    fn table(&mut self) -> Option<Strings<'a>> {
        let count = self.number()?;
        let lengths = self.take(count.checked_mul(4)?)?;
        let length = |raw: &[u8]| Some(u32::from_le_bytes(raw.try_into().ok()?) as usize);
        let total =
            lengths.chunks_exact(4).try_fold(0_usize, |sum, raw| sum.checked_add(length(raw)?))?;
        let text = std::str::from_utf8(self.take(total)?).ok()?;
        Some(Strings { lengths, text })
    }
}

fn length_of(raw: &[u8]) -> Option<usize> {
    Some(u32::from_le_bytes(raw.try_into().ok()?) as usize)
}

fn sum_of(lengths: &[u8]) -> Option<usize> {
    lengths.chunks_exact(4).try_fold(0_usize, |sum, raw| sum.checked_add(length_of(raw)?))
}

/// A table as it stands in the file.
struct Strings<'a> {
    lengths: &'a [u8],
    text: &'a str,
}

impl<'a> Strings<'a> {
    /// The first `part` of `whole` parts of the strings, and the others.
    fn split(&self, part: usize, whole: usize) -> Option<(Strings<'a>, Strings<'a>)> {
        let count = self.lengths.len() / 4 * part / whole;
        let (first, second) = self.lengths.split_at_checked(count * 4)?;
        let (head, tail) = self.text.split_at_checked(sum_of(first)?)?;
        Some((Strings { lengths: first, text: head }, Strings { lengths: second, text: tail }))
    }

    fn column<T: TryFrom<Arc<str>>>(&self) -> Option<Vec<T>> {
        let mut rest = self.text;
        let next = |raw: &[u8]| {
            let (text, after) = rest.split_at_checked(length_of(raw)?)?;
            rest = after;
            T::try_from(Arc::from(text)).ok()
        };
        self.lengths.chunks_exact(4).map(next).collect()
    }
}

/// The tables, checked.
struct Columns {
    names: Vec<PackageName>,
    versions: Vec<Version>,
    relations: Vec<Relations>,
    texts: Vec<Arc<str>>,
}

/// What nearly every record refers to. Each thread has its own: counting references
/// to a shared one from two processors would take longer than all the rest.
struct Hot {
    architectures: Vec<Architecture>,
    sections: Vec<Arc<str>>,
    /// The empty dependency field.
    nothing: Relations,
}

impl Columns {
    fn record(&self, raw: &[u8], hot: &Hot) -> Option<PackageRecord> {
        let place = |n: usize| {
            let bytes = raw.get(n * 4..n * 4 + 4)?.try_into().ok()?;
            (u32::from_le_bytes(bytes) as usize).checked_sub(1)
        };
        let relations = |n| {
            let found = self.relations.get(place(n)?)?;
            Some(if found.as_str().is_empty() { hot.nothing.clone() } else { found.clone() })
        };
        let text = |n| self.texts.get(place(n)?).cloned();
        let rest = &raw[PLACES * 4..];
        let number = |at: usize| Some(u64::from_le_bytes(rest.get(at..at + 8)?.try_into().ok()?));
        let sum: [u8; 32] = rest.get(16..48)?.try_into().ok()?;
        let [multi_arch, priority, bits, _] = rest.get(48..52)?.try_into().ok()?;
        let multi_archs = [MultiArch::No, MultiArch::Same, MultiArch::Foreign, MultiArch::Allowed];
        let priorities = [
            Priority::Required,
            Priority::Important,
            Priority::Standard,
            Priority::Optional,
            Priority::Extra,
        ];
        let tasks = text(16).map(|t| t.split(' ').map(Arc::from).collect());
        Some(PackageRecord {
            name: self.names.get(place(0)?)?.clone(),
            version: self.versions.get(place(1)?)?.clone(),
            architecture: hot.architectures.get(place(2)?)?.clone(),
            depends: relations(3)?,
            pre_depends: relations(4)?,
            recommends: relations(5)?,
            suggests: relations(6)?,
            enhances: relations(7)?,
            conflicts: relations(8)?,
            breaks: relations(9)?,
            replaces: relations(10)?,
            provides: relations(11)?,
            filename: text(12),
            source: text(13)?,
            source_version: self.versions.get(place(14)?)?.clone(),
            section: hot.sections.get(place(15)?)?.clone(),
            tasks: tasks.unwrap_or_default(),
            size: number(0)?,
            installed_size: number(8)?,
            sha256: (bits & HAS_SUM != 0).then_some(Sha256(sum)),
            multi_arch: *multi_archs.get(usize::from(multi_arch))?,
            priority: *priorities.get(usize::from(priority))?,
            essential: bits & ESSENTIAL != 0,
            protected: bits & PROTECTED != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "\
Package: libc6
Source: glibc (2.41-1)
Version: 2.41-12
Architecture: amd64
Multi-Arch: same
Protected: yes
Priority: required
Section: libs
Installed-Size: 13000
Depends: libgcc-s1, libx (>= 1:2) | y [amd64]
Recommends: libidn2-0 (>= 2.0.5~)
Provides: libc6-x (= 2.41)
Task: a, b
Filename: pool/main/g/glibc/libc6_2.41-12_amd64.deb
Size: 2847400
SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855

Package: b
Version: 1
Architecture: all
Essential: yes
";

    fn records() -> Vec<Arc<PackageRecord>> {
        debian::read_packages(TEXT).unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = encode(&records());
        assert_eq!(decode(&bytes).unwrap(), records());
        assert_eq!(decode(&encode(&[])).unwrap(), []);
    }

    #[test]
    fn every_cut_is_noticed() {
        let bytes = encode(&records());
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "{length} of {}", bytes.len());
        }
        assert_eq!(decode(&[&bytes[..], b"x"].concat()), None);
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0_usize..2000, value: u8) {
            let mut bytes = encode(&records());
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = decode(&bytes);
        }
    }
}
