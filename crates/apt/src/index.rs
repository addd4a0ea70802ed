//! `Packages` indices: which ones a source has, in which form they are fetched, and
//! turning the bytes into records.
//!
//! A Release lists `main/binary-amd64/Packages` and its compressed forms, each with
//! size and sum. One form is fetched; the sum of the plain text, where listed, is
//! checked after decompression and names the records in the cache, so that an index
//! is parsed once ever, whatever its form.
//!
//! Not here: fetching ([`crate::fetch`]), the cache's format ([`crate::records`]).

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use debian::{PackageRecord, RecordError};
use liblzma::stream::{CONCATENATED, Stream};
use sha2::{Digest, Sha256};
use store::Key;

use crate::release::{MAX_INDEX, Release, ReleaseFile};
use crate::sources::Source;

/// Memory that an xz decoder may take: `xz -9` takes 64 MiB.
const LZMA_MEMORY: u64 = 256 << 20;
/// zstd windows up to 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Why an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The suite has not got what the source asks for.
    #[error("the suite has no component “{component}” (it has: {known}): correct the source")]
    NoComponent {
        /// The component asked for.
        component: String,
        /// Those that there are.
        known: String,
    },
    /// Only in forms that cannot be read.
    #[error("{0} is offered in no form that can be read: Packages, .xz, .gz or .zst")]
    NoForm(String),
    /// Larger than anything of its kind.
    #[error("{0} is larger than {MAX_INDEX} bytes")]
    TooLarge(String),
    /// Cannot be read or decompressed.
    #[error("{name} cannot be decompressed")]
    Decompress {
        /// The index.
        name: String,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// The plain text is not the one that the Release lists.
    #[error("{name} decompresses to other bytes than its Release file says")]
    Hash {
        /// The index.
        name: String,
    },
    /// Not UTF-8, or a stanza that is no package.
    #[error("{name}")]
    Record {
        /// The index.
        name: String,
        /// What is wrong.
        #[source]
        source: Box<RecordError>,
    },
    /// Not UTF-8.
    #[error("{name}")]
    Text {
        /// The index.
        name: String,
        /// Where.
        #[source]
        source: debian::deb822::Error,
    },
}

/// How an index is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// The smallest.
    Xz,
    /// `.zst`
    Zstd,
    /// `.gz`
    Gzip,
    /// As it is.
    Plain,
}

impl Form {
    /// In the order in which they are tried: fewest bytes first.
    const ALL: [Form; 4] = [Form::Xz, Form::Zstd, Form::Gzip, Form::Plain];

    fn extension(self) -> &'static str {
        match self {
            Form::Xz => ".xz",
            Form::Zstd => ".zst",
            Form::Gzip => ".gz",
            Form::Plain => "",
        }
    }
}

/// One index that a source has, in its forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexFile {
    /// The component; empty for a flat archive.
    pub component: String,
    /// The architecture of the directory, maybe `all`; empty for a flat archive.
    pub architecture: String,
    /// Path of the plain form below the suite's directory.
    pub path: String,
    /// Sum and size of the plain form, where listed.
    pub plain: Option<ReleaseFile>,
    /// What can be fetched, best first.
    pub forms: Vec<(Form, ReleaseFile)>,
}

impl IndexFile {
    /// What names its records in the cache: the sum of the plain text, or of the
    /// form that is fetched.
    pub fn content(&self) -> Key {
        self.plain.unwrap_or(self.forms[0].1).sha256
    }

    /// The path of a form below the suite's directory.
    pub fn form_path(&self, form: Form) -> String {
        format!("{}{}", self.path, form.extension())
    }
}

/// Which indices to read, and what the suite lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// The indices in the order of components, then architectures, `all` last.
    pub files: Vec<IndexFile>,
    /// Architectures wanted that the suite has not got.
    pub missing: Vec<String>,
}

/// Chooses the indices of a source for `architectures` (those that are built for).
pub fn select(
    source: &Source,
    release: &Release,
    architectures: &[String],
) -> Result<Selection, IndexError> {
    let mut selection = Selection::default();
    if source.is_flat() {
        let file = find(release, "", "", "Packages")?;
        selection.files = vec![file.ok_or_else(|| IndexError::NoForm("Packages".to_owned()))?];
        return Ok(selection);
    }
    let wanted = source.wanted_architectures(architectures);
    let mut missing = BTreeSet::new();
    for component in &source.components {
        let prefix = format!("{component}/");
        if !release.files.keys().any(|path| path.starts_with(&prefix)) {
            return Err(no_component(component, release));
        }
        for arch in wanted.iter().map(String::as_str).chain(["all"]) {
            let path = format!("{component}/binary-{arch}/Packages");
            match find(release, component, arch, &path)? {
                // Not announced (Debian's security archive has such a file), or its packages
                // are in each architecture's index already.
                Some(_) if arch == "all" && !has_all(release) => {}
                Some(file) => selection.files.push(file),
                None if arch == "all" => {}
                None => {
                    missing.insert(arch.to_owned());
                }
            }
        }
    }
    selection.missing = missing.into_iter().collect();
    Ok(selection)
}

/// Whether what is for all architectures is in an index of its own, as apt decides it.
fn has_all(release: &Release) -> bool {
    let listed = &release.architectures;
    let announced = listed.is_empty() || listed.iter().any(|arch| arch == "all");
    announced && !release.all_in_each
}

fn no_component(component: &str, release: &Release) -> IndexError {
    let of_path = |path: &String| {
        let (component, _) = path.split_once("/binary-")?;
        Some(component.to_owned())
    };
    let known: BTreeSet<_> = release.files.keys().filter_map(of_path).collect();
    let known = known.into_iter().collect::<Vec<_>>().join(", ");
    IndexError::NoComponent { component: component.to_owned(), known }
}

/// The index at `path`, if the Release lists it in any form.
fn find(
    release: &Release,
    component: &str,
    architecture: &str,
    path: &str,
) -> Result<Option<IndexFile>, IndexError> {
    // Flat archives write `./Packages` or `Packages`.
    let listed = |path: &str| {
        release.files.get(path).or_else(|| release.files.get(&format!("./{path}"))).copied()
    };
    let form = |form: Form| Some((form, listed(&format!("{path}{}", form.extension()))?));
    let forms: Vec<_> = Form::ALL.into_iter().filter_map(form).collect();
    if forms.is_empty() {
        let other =
            [".bz2", ".lzma", ".lz4"].iter().any(|e| listed(&format!("{path}{e}")).is_some());
        return if other { Err(IndexError::NoForm(path.to_owned())) } else { Ok(None) };
    }
    if forms.iter().any(|(_, file)| file.size > MAX_INDEX) {
        return Err(IndexError::TooLarge(path.to_owned()));
    }
    Ok(Some(IndexFile {
        component: component.to_owned(),
        architecture: architecture.to_owned(),
        path: path.to_owned(),
        plain: listed(path),
        forms,
    }))
}

/// The plain text of an index file that was fetched in `form`.
pub fn decompress(index: &IndexFile, form: Form, file: &Path) -> Result<Vec<u8>, IndexError> {
    let failed = |source| IndexError::Decompress { name: index.path.clone(), source };
    let input = std::fs::File::open(file).map_err(failed)?;
    let limit = index.plain.map_or(MAX_INDEX, |plain| plain.size.min(MAX_INDEX));
    let mut text = Vec::new();
    let reader = decoder(form, input).map_err(failed)?;
    reader.take(limit + 1).read_to_end(&mut text).map_err(failed)?;
    if index.plain.is_none() && text.len() as u64 > limit {
        return Err(IndexError::TooLarge(index.path.clone()));
    }
    match index.plain {
        Some(plain) if form != Form::Plain => {
            let sum = Key(Sha256::digest(&text).into());
            let same = sum == plain.sha256 && text.len() as u64 == plain.size;
            if same { Ok(text) } else { Err(IndexError::Hash { name: index.path.clone() }) }
        }
        _ => Ok(text),
    }
}

/// A reader of what `input` holds.
pub(crate) fn decoder<'a>(form: Form, input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let input = io::BufReader::with_capacity(1 << 17, input);
    Ok(match form {
        Form::Plain => Box::new(input),
        Form::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Form::Xz => {
            let stream = Stream::new_stream_decoder(LZMA_MEMORY, CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        Form::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// The records of an index's text.
pub fn parse(name: &str, text: &[u8]) -> Result<Vec<Arc<PackageRecord>>, IndexError> {
    let text = debian::deb822::text_of(text)
        .map_err(|source| IndexError::Text { name: name.to_owned(), source })?;
    debian::read_packages(text)
        .map_err(|source| IndexError::Record { name: name.to_owned(), source: source.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::SourceList;
    use std::io::Write;

    fn release(fields: &str, paths: &[&str]) -> Release {
        let mut text = format!("{fields}SHA256:\n");
        for path in paths {
            text += &format!(" {} {} {path}\n", Key::of(path.as_bytes()), path.len());
        }
        Release::parse(text.as_bytes()).unwrap()
    }

    fn chosen(line: &str, release: &Release, archs: &[&str]) -> Result<Vec<String>, IndexError> {
        let mut list = SourceList::default();
        list.add_bytes(line.as_bytes(), Path::new("a.list"));
        let archs: Vec<_> = archs.iter().map(|a| (*a).to_owned()).collect();
        let selection = select(&list.sources[0], release, &archs)?;
        let show = |f: &IndexFile| f.form_path(f.forms[0].0);
        let missing = selection.missing.iter().map(|m| format!("no {m}"));
        Ok(selection.files.iter().map(show).chain(missing).collect())
    }

    #[test]
    fn indices_follow_components_and_architectures() {
        let paths = [
            "main/binary-amd64/Packages",
            "main/binary-amd64/Packages.gz",
            "main/binary-amd64/Packages.xz",
            "main/binary-all/Packages.gz",
            "main/binary-i386/Packages",
            "contrib/binary-amd64/Packages.zst",
        ];
        let separate = release("", &paths);
        let line = "deb http://h/d x main contrib";
        assert_eq!(
            chosen(line, &separate, &["amd64"]).unwrap(),
            [
                "main/binary-amd64/Packages.xz",
                "main/binary-all/Packages.gz",
                "contrib/binary-amd64/Packages.zst",
            ]
        );
        let unannounced = release("Architectures: amd64\n", &paths);
        assert_eq!(
            chosen("deb http://h/d x main", &unannounced, &["amd64"]).unwrap(),
            ["main/binary-amd64/Packages.xz"]
        );
        let together = release("No-Support-for-Architecture-all: Packages\n", &paths);
        assert_eq!(
            chosen("deb http://h/d x main", &together, &["amd64", "i386", "arm64"]).unwrap(),
            ["main/binary-amd64/Packages.xz", "main/binary-i386/Packages", "no arm64"]
        );
        let error = chosen("deb http://h/d x mian", &together, &["amd64"]).unwrap_err();
        assert!(error.to_string().contains("“mian” (it has: contrib, main)"), "{error}");
    }

    #[test]
    fn flat_archives_have_one_index() {
        let one = release("", &["./Packages", "Packages.gz"]);
        assert_eq!(chosen("deb http://h/d ./", &one, &["amd64"]).unwrap(), ["Packages.gz"]);
        let none = release("", &["Packages.bz2"]);
        assert!(chosen("deb http://h/d ./", &none, &["amd64"]).is_err());
    }

    const TEXT: &[u8] = b"Package: a\nVersion: 1\nArchitecture: all\n";

    fn file(form: Form, compressed: &[u8]) -> (tempfile::NamedTempFile, IndexFile) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(compressed).unwrap();
        let plain = ReleaseFile { size: TEXT.len() as u64, sha256: Key::of(TEXT) };
        let fetched = ReleaseFile { size: compressed.len() as u64, sha256: Key::of(compressed) };
        let index = IndexFile {
            component: "main".to_owned(),
            architecture: "amd64".to_owned(),
            path: "main/binary-amd64/Packages".to_owned(),
            plain: Some(plain),
            forms: vec![(form, fetched)],
        };
        (file, index)
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_form_gives_the_same_text() {
        let zst = zstd::bulk::compress(TEXT, 1).unwrap();
        let forms = [
            (Form::Xz, xz(TEXT)),
            (Form::Gzip, gz(TEXT)),
            (Form::Zstd, zst),
            (Form::Plain, TEXT.to_vec()),
        ];
        for (form, compressed) in forms {
            let (file, index) = file(form, &compressed);
            assert_eq!(decompress(&index, form, file.path()).unwrap(), TEXT, "{form:?}");
        }
        let records = parse("Packages", TEXT).unwrap();
        assert_eq!((records.len(), records[0].name.as_str()), (1, "a"));
    }

    #[test]
    fn other_bytes_and_bombs_are_refused() {
        let bomb = xz(&vec![b'x'; 64 << 20]);
        let other = xz(b"Package: b\nVersion: 1\nArchitecture: all\n");
        for compressed in [bomb, other] {
            let (file, index) = file(Form::Xz, &compressed);
            let error = decompress(&index, Form::Xz, file.path()).unwrap_err();
            assert!(matches!(error, IndexError::Hash { .. }), "{error}");
        }
        let mut cut = xz(TEXT);
        cut.truncate(cut.len() - 8);
        let (file, index) = file(Form::Xz, &cut);
        let error = decompress(&index, Form::Xz, file.path()).unwrap_err();
        assert!(matches!(error, IndexError::Decompress { .. }), "{error}");
    }
}
