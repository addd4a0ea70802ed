//! A whole `.deb`: its members in order, its two tars, and what they may be.
//!
//! What it is not: storing or interpreting. Control files are bytes here, and
//! the data tar's stream goes to the caller as it is.
//!
//! Data flow: `Read` → [`read_deb`] → [`Contents`] + the data tar written to a sink.

use std::io::{self, Read, Write};

use tree::TreePath;

use crate::ar;
use crate::compress::{Bounded, decoder};
use crate::package::{Entry, EntryKind, Member};
use crate::tar::{self, Header, Type};
use crate::{ArchiveError, Problem};

/// A data tar of this size is no bomb, however small it was.
pub const SMALL_DATA: u64 = 256 << 20;

/// How much a `.deb` may hold. The defaults let pass everything in Debian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the decompressed control tar.
    pub control_bytes: u64,
    /// Files in the control tar.
    pub control_members: u64,
    /// Bytes of the decompressed data tar.
    pub data_bytes: u64,
    /// A data tar larger than [`SMALL_DATA`] may have this many bytes for each compressed
    /// one: a small package does not fill the disk.
    pub data_ratio: u64,
    /// Entries of the data tar.
    pub entries: u64,
    /// Bytes of names, link targets and xattrs of all entries together, which
    /// bounds the memory that they take.
    pub name_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            control_bytes: 16 << 20,
            control_members: 1000,
            data_bytes: 32 << 30,
            data_ratio: 1000,
            // Far more than any package of Debian has; each takes about 1.6 KiB of memory
            // until it is configured.
            entries: 500_000,
            name_bytes: 256 << 20,
        }
    }
}

/// What [`read_deb`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The files of the control tar, in its order.
    pub members: Vec<Member>,
    /// The entries of the data tar, in its order.
    pub entries: Vec<Entry>,
}

/// Reads a `.deb` of format 2.x from front to back and writes the decompressed
/// data tar to `pack`. Offsets in the entries count from the first byte written.
pub fn read_deb(
    archive: &str,
    input: impl Read,
    limits: &Limits,
    pack: impl Write,
) -> Result<Contents, ArchiveError> {
    let at = |member: &str| {
        let (archive, member) = (archive.to_owned(), member.to_owned());
        move |problem| ArchiveError { archive, member, problem }
    };
    let mut reader = ar::Reader::new(input).map_err(at("header"))?;
    check_version(&mut reader).map_err(at("debian-binary"))?;
    let (name, extension, _) = find(&mut reader, "control.tar").map_err(at("control.tar"))?;
    let members = read_control(reader.member(), &extension, limits).map_err(at(&name))?;
    let (name, extension, size) = find(&mut reader, "data.tar").map_err(at("data.tar"))?;
    let mut last = Vec::new();
    let by_ratio = size.saturating_mul(limits.data_ratio).max(SMALL_DATA);
    let limits = Limits { data_bytes: limits.data_bytes.min(by_ratio), ..limits.clone() };
    let entries = read_data(reader.member(), &extension, &limits, pack, &mut last);
    let entries = entries.map_err(|problem| {
        let place = match last.is_empty() {
            true => name,
            false => format!("{name}: at or after {:?}", String::from_utf8_lossy(&last)),
        };
        at(&place)(problem)
    })?;
    Ok(Contents { members, entries })
}

fn check_version(reader: &mut ar::Reader<impl Read>) -> Result<(), Problem> {
    match reader.next()? {
        Some(header) if header.name == "debian-binary" => {}
        _ => return Err(Problem::malformed("it is not the first member")),
    }
    let mut version = String::new();
    reader.member().take(64).read_to_string(&mut version)?;
    let line = version.lines().next().unwrap_or_default();
    match line.split_once('.') {
        Some(("2", minor)) if minor.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        _ => Err(Problem::Unsupported(format!("archive format {line:?}"))),
    }
}

/// The next member that counts must be `stem` with an extension: members whose
/// name begins with `_` are for others (deb(5)).
fn find(reader: &mut ar::Reader<impl Read>, stem: &str) -> Result<(String, String, u64), Problem> {
    loop {
        let header = reader.next()?.ok_or_else(|| Problem::malformed("it is missing"))?;
        if header.name.starts_with('_') {
            continue;
        }
        let Some(extension) = header.name.strip_prefix(stem) else {
            let name = header.name;
            return Err(Problem::malformed(format!("the member {name:?} stands in its place")));
        };
        return Ok((header.name.clone(), extension.to_owned(), header.size));
    }
}

fn read_control(
    member: impl Read,
    extension: &str,
    limits: &Limits,
) -> Result<Vec<Member>, Problem> {
    if matches!(extension, ".bz2" | ".lzma") {
        return Err(Problem::Unsupported(format!("a control archive compressed as {extension}")));
    }
    let stream = Bounded::new(decoder(extension, member)?, limits.control_bytes);
    let mut tar = tar::Reader::new(stream);
    let mut members: Vec<Member> = Vec::new();
    while let Some(header) = tar.next()? {
        let path = TreePath::new(&header.path)?;
        if header.kind == Type::Directory && path.is_root() {
            continue;
        }
        let name = String::from_utf8_lossy(path.as_bytes()).into_owned();
        if header.kind != Type::File || name.contains('/') {
            return Err(Problem::malformed(format!("{name:?} is not a plain file")));
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return Err(Problem::malformed(format!("bad control file name {name:?}")));
        }
        if members.iter().any(|m| m.name == name) {
            return Err(Problem::malformed(format!("{name:?} is there twice")));
        }
        if members.len() as u64 >= limits.control_members {
            return Err(Problem::limit("the number of control files", limits.control_members));
        }
        let bytes = tar.content(&header)?.into();
        members.push(Member { name, mode: header.mode, mtime: header.mtime, bytes });
    }
    Ok(members)
}

fn read_data(
    member: impl Read,
    extension: &str,
    limits: &Limits,
    pack: impl Write,
    last: &mut Vec<u8>,
) -> Result<Vec<Entry>, Problem> {
    let stream = Bounded::new(decoder(extension, member)?, limits.data_bytes);
    let mut stream = Tee { input: stream, pack };
    let mut tar = tar::Reader::new(&mut stream);
    let mut entries = Vec::new();
    let mut names = 0u64;
    while let Some(header) = tar.next()? {
        last.clone_from(&header.path);
        if entries.len() as u64 >= limits.entries {
            return Err(Problem::limit("the number of entries", limits.entries));
        }
        names += name_bytes(&header);
        if names > limits.name_bytes {
            return Err(Problem::limit("the size of all names", limits.name_bytes));
        }
        entries.push(entry(header)?);
    }
    // The rest, zeroes as a rule, so that the decompressor checks its checksums.
    io::copy(&mut stream.input, &mut io::sink())?;
    stream.pack.flush()?;
    Ok(entries)
}

fn name_bytes(header: &Header) -> u64 {
    let xattrs: usize = header.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    (header.path.len() + header.link.len() + xattrs) as u64
}

fn entry(header: Header) -> Result<Entry, Problem> {
    let kind = match header.kind {
        Type::Directory => EntryKind::Dir,
        Type::File => EntryKind::File { offset: header.offset, len: header.size },
        Type::HardLink => EntryKind::HardLink(TreePath::new(&header.link)?),
        Type::Symlink if header.link.is_empty() || header.link.contains(&0) => {
            return Err(Problem::malformed("a symbolic link has no target"));
        }
        Type::Symlink => EntryKind::Symlink(header.link.into()),
        Type::CharDevice => EntryKind::CharDev(header.device),
        Type::BlockDevice => EntryKind::BlockDev(header.device),
        Type::Fifo => EntryKind::Fifo,
    };
    let path = TreePath::new(&header.path)?;
    if path.is_root() && kind != EntryKind::Dir {
        return Err(Problem::malformed("the root is not a directory"));
    }
    // Names that say no more than the number need not be looked up later.
    let name = |name: Vec<u8>, id: u32| match &name[..] {
        b"" => None,
        b"root" if id == 0 => None,
        _ => String::from_utf8(name).ok(),
    };
    Ok(Entry {
        path,
        kind,
        mode: header.mode,
        uid: header.uid,
        gid: header.gid,
        uname: name(header.uname, header.uid),
        gname: name(header.gname, header.gid),
        mtime: header.mtime,
        xattrs: header.xattrs,
    })
}

/// Copies to the pack what is read.
struct Tee<R, W> {
    input: R,
    pack: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buf)?;
        self.pack.write_all(&buf[..n])?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::archive::ar;

    use crate::testing::{Item, deb, tar};

    const CONTROL: &[u8] = b"Package: a\nVersion: 1\nArchitecture: all\n";

    fn read(bytes: &[u8], limits: &Limits) -> Result<(Contents, Vec<u8>), ArchiveError> {
        let mut pack = Vec::new();
        read_deb("x.deb", bytes, limits, &mut pack).map(|contents| (contents, pack))
    }

    fn with_data(extension: &str, data: &[u8]) -> Vec<u8> {
        let control = tar(&[Item("./control", b'0', "", CONTROL)]);
        let name = format!("data.tar{extension}");
        ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control), (&name, data)])
    }

    #[test]
    fn every_compression_gives_the_same() {
        let data = tar(&[Item("./", b'5', "", b""), Item("./f", b'0', "", &[7; 5000])]);
        let (plain, pack) = read(&with_data("", &data), &Limits::default()).unwrap();
        let EntryKind::File { offset, len } = plain.entries[1].kind else { panic!() };
        assert_eq!(pack[offset as usize..][..len as usize], [7; 5000]);
        let xz = |lzma: bool| {
            let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
            let stream = match lzma {
                true => liblzma::stream::Stream::new_lzma_encoder(&options),
                false => {
                    liblzma::stream::Stream::new_easy_encoder(1, liblzma::stream::Check::Crc64)
                }
            };
            let mut out = liblzma::write::XzEncoder::new_stream(Vec::new(), stream.unwrap());
            out.write_all(&data).unwrap();
            out.finish().unwrap()
        };
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&data).unwrap();
        let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bz.write_all(&data).unwrap();
        for (extension, compressed) in [
            (".xz", xz(false)),
            (".lzma", xz(true)),
            (".gz", gz.finish().unwrap()),
            (".bz2", bz.finish().unwrap()),
            (".zst", zstd::encode_all(&data[..], 1).unwrap()),
        ] {
            let bytes = with_data(extension, &compressed);
            let read = read(&bytes, &Limits::default()).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(read.0, plain, "{extension}");
            let mut cut = compressed.clone();
            cut.truncate(cut.len() * 2 / 3);
            assert!(
                self::read(&with_data(extension, &cut), &Limits::default()).is_err(),
                "{extension}"
            );
        }
    }

    #[test]
    fn hostile_packages_are_refused_by_name_and_place() {
        let long = "d/".repeat(45);
        let data = |item: Item<'_>| deb("a", "", &[], &[Item("./", b'5', "", b""), item]);
        let version = ar(&[("debian-binary", b"3.0\n")]);
        let order = ar(&[("debian-binary", b"2.0\n"), ("data.tar", b"")]);
        let twice = deb("a", "", &[("./x", "1"), ("x", "2")], &[]);
        let cases: &[(Vec<u8>, &str)] = &[
            (
                data(Item("./../etc/passwd", b'0', "", b"x")),
                "data.tar: at or after \"./../etc/passwd\": path \"./../etc/passwd\" contains '..'",
            ),
            (data(Item("a/../../b", b'5', "", b"")), "contains '..'"),
            (data(Item("./h", b'1', "../../x", b"")), "contains '..'"),
            (data(Item("./l", b'2', "", b"")), "no target"),
            (data(Item("./", b'2', "x", b"")), "the root is not a directory"),
            (data(Item(&long, b'7', "", b"")), "tar entry type '7'"),
            (version, "archive format \"3.0\""),
            (order, "\"data.tar\" stands in its place"),
            (twice, "there twice"),
            (deb("a", "", &[("./sub/x", "")], &[]), "not a plain file"),
            (deb("a", "", &[("./x\ny", "")], &[]), "bad control file name"),
        ];
        for (bytes, message) in cases {
            let error = read(bytes, &Limits::default()).unwrap_err().to_string();
            assert!(error.starts_with("x.deb: ") && error.contains(message), "{error}\n{message}");
        }
    }

    #[test]
    fn absolute_names_stay_inside_the_root() {
        let bytes = deb("a", "", &[], &[Item("/etc//passwd", b'0', "", b"x")]);
        let (contents, _) = read(&bytes, &Limits::default()).unwrap();
        assert_eq!(contents.entries[0].path, TreePath::literal("etc/passwd"));
    }

    #[test]
    fn bombs_hit_a_limit() {
        let small =
            Limits { data_bytes: 1 << 20, entries: 10, name_bytes: 400, ..Limits::default() };
        let zeroes = zstd::encode_all(&tar(&[Item("./f", b'0', "", &vec![0; 4 << 20])])[..], 1);
        let bomb = with_data(".zst", &zeroes.unwrap());
        assert!(bomb.len() < 4096, "it is a bomb");
        let many: Vec<Item<'_>> = (0..11).map(|_| Item("./f", b'0', "", b"")).collect();
        let name = "n".repeat(90);
        let long: Vec<Item<'_>> = (0..5).map(|_| Item(&name, b'0', "", b"")).collect();
        for (bytes, message) in [
            (bomb, "more than 1048576 bytes"),
            (deb("a", "", &[], &many), "number of entries exceeds the limit of 10"),
            (deb("a", "", &[], &long), "size of all names exceeds the limit of 400"),
        ] {
            let error = read(&bytes, &small).unwrap_err().to_string();
            assert!(error.contains(message), "{error} / {message}");
        }
        let control = Limits { control_bytes: 600, ..Limits::default() };
        let error = read(&deb("a", "", &[], &[]), &control).unwrap_err().to_string();
        assert!(error.contains("more than 600 bytes"), "{error}");
    }
}
