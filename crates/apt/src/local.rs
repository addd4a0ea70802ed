//! Directories of `.deb` files as a source: an index made from their control files.
//!
//! As `dpkg-scanpackages` and mkosi's `PackageDirectories=` do it, without a file on
//! disk. Deterministic: files by name, and of two files with one name, version and
//! architecture the same bytes are demanded. Nothing is unpacked.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use debian::deb822::Paragraphs;
use debian::{PackageRecord, RecordError};
use sha2::{Digest, Sha256};

use crate::index::{Form, decoder};

/// The largest control archive, decompressed.
const MAX_CONTROL: u64 = 64 << 20;
/// The most packages in one directory.
const MAX_PACKAGES: usize = 100_000;

/// Why a directory of packages cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {kind}", path.display())]
pub struct LocalError {
    /// The directory or the `.deb`.
    pub path: PathBuf,
    /// What is wrong.
    pub kind: LocalErrorKind,
}

/// What is wrong with a local package.
#[derive(Debug, thiserror::Error)]
pub enum LocalErrorKind {
    /// The system refused.
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    /// Not a `.deb`.
    #[error("not a Debian package: {0}")]
    Archive(String),
    /// The control file does not describe a package.
    #[error("{0}")]
    Record(Box<RecordError>),
    /// Two files, one package, different bytes.
    #[error("the same package and version as {}, with other content: remove one", .0.display())]
    Twice(PathBuf),
    /// Too many.
    #[error("more than {MAX_PACKAGES} packages")]
    TooMany,
}

/// A package of a local directory.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalPackage {
    /// What its control file says, with size and sum of the file; `filename` is its name.
    pub record: Arc<PackageRecord>,
    /// The file.
    pub path: PathBuf,
}

/// The packages in `dir` (its `.deb` files, not those of directories below).
pub fn read_dir(dir: &Path) -> Result<Vec<LocalPackage>, LocalError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |kind| LocalError { path, kind }
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| at(dir)(e.into()))? {
        let path = entry.map_err(|e| at(dir)(e.into()))?.path();
        if path.extension().is_some_and(|e| e == "deb") && path.is_file() {
            paths.push(path);
        }
    }
    if paths.len() > MAX_PACKAGES {
        return Err(at(dir)(LocalErrorKind::TooMany));
    }
    paths.sort();
    let mut known: BTreeMap<(String, String, String), LocalPackage> = BTreeMap::new();
    for path in paths {
        let package = read_deb(&path).map_err(at(&path))?;
        let record = &package.record;
        let key = (
            record.name.as_str().to_owned(),
            record.version.as_str().to_owned(),
            record.architecture.as_str().to_owned(),
        );
        if let Some(other) = known.get(&key) {
            if other.record.sha256 != record.sha256 {
                return Err(at(&path)(LocalErrorKind::Twice(other.path.clone())));
            }
            continue;
        }
        known.insert(key, package);
    }
    Ok(known.into_values().collect())
}

/// The record of one `.deb`.
pub fn read_deb(path: &Path) -> Result<LocalPackage, LocalErrorKind> {
    let control = control_of(File::open(path)?)?;
    let (size, sum) = sum_of(path)?;
    let mut paragraphs =
        Paragraphs::from_bytes(&control).map_err(|e| LocalErrorKind::Archive(e.to_string()))?;
    let paragraph = match paragraphs.next() {
        Some(paragraph) => paragraph.map_err(|e| LocalErrorKind::Archive(e.to_string()))?,
        None => return Err(LocalErrorKind::Archive("its control file is empty".to_owned())),
    };
    let mut record =
        PackageRecord::parse(&paragraph).map_err(|e| LocalErrorKind::Record(Box::new(e)))?;
    record.size = size;
    record.sha256 = Some(debian::Sha256(sum));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    record.filename = Some(Arc::from(&*name));
    Ok(LocalPackage { record: Arc::new(record), path: path.to_owned() })
}

fn sum_of(path: &Path) -> io::Result<(u64, [u8; 32])> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    let mut size: u64 = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((size, hasher.finalize().into()));
        }
        size = size.saturating_add(n as u64);
        hasher.update(&buffer[..n]);
    }
}

/// The bytes of `./control` in the control archive (deb(5)).
fn control_of(file: File) -> Result<Vec<u8>, LocalErrorKind> {
    let bad = |problem: dpkg::Problem| LocalErrorKind::Archive(problem.to_string());
    let mut archive = dpkg::ar::Reader::new(io::BufReader::new(file)).map_err(bad)?;
    while let Some(header) = archive.next().map_err(bad)? {
        let Some(extension) = header.name.strip_prefix("control.tar") else {
            if header.name.starts_with("data.tar") {
                break;
            }
            continue;
        };
        let form = match extension {
            "" => Form::Plain,
            ".gz" => Form::Gzip,
            ".xz" => Form::Xz,
            ".zst" => Form::Zstd,
            other => {
                let reason = format!("its control archive is compressed as {other}");
                return Err(LocalErrorKind::Archive(reason));
            }
        };
        let stream = decoder(form, archive.member())?.take(MAX_CONTROL);
        let mut tar = dpkg::tar::Reader::new(stream);
        while let Some(entry) = tar.next().map_err(bad)? {
            if matches!(&entry.path[..], b"./control" | b"control") {
                return tar.content(&entry).map_err(bad);
            }
        }
        break;
    }
    Err(LocalErrorKind::Archive("it has no control file".to_owned()))
}
