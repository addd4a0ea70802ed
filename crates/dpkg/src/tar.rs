//! The tar stream inside a `.deb`: ustar, GNU long names, pax headers.
//!
//! What it is not: `tree::tar`, which makes a Tree of any tar. This reader keeps
//! what dpkg acts on: the order of the entries, names twice, and where in the
//! stream each content lies. It decides nothing about where entries go.
//!
//! Data flow: `Read` → [`Reader::next`] → [`Header`]; contents are skipped, for the
//! caller keeps the stream itself.
//!
//! Formats: POSIX.1 ustar and pax; GNU tar's `L` and `K` and base-256 numbers.
//! Sparse files and pax keys that would change what is unpacked are refused, as
//! is every other type: dpkg refuses them too.

use std::io::Read;

use tree::{Device, Mtime, Xattrs};

use crate::Problem;
use crate::ar::read_up_to;

const BLOCK: usize = 512;
/// The most that a long name or a pax header may have. Linux paths end at 4096
/// bytes; the rest is for extended attributes.
pub const MAX_EXTENSION: u64 = 1 << 20;
/// The most that all of them before one entry may have.
const MAX_EXTENSIONS: u64 = 4 << 20;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Type {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// An entry, its names as they stand in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Type,
    /// The twelve permission bits.
    pub mode: u16,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Owner by name; empty if not given.
    pub uname: Vec<u8>,
    /// Group by name; empty if not given.
    pub gname: Vec<u8>,
    /// Modification time.
    pub mtime: Mtime,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Number of a device.
    pub device: Device,
    /// Extended attributes.
    pub xattrs: Xattrs,
    /// Where the content starts in the stream.
    pub offset: u64,
    /// Size of the content; 0 for all but regular files.
    pub size: u64,
}

/// What the extension entries before an entry said.
#[derive(Debug, Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    uname: Option<Vec<u8>>,
    gname: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<Mtime>,
    xattrs: Xattrs,
}

/// Reads a tar stream from front to back.
pub struct Reader<R> {
    inner: R,
    position: u64,
    // Content and padding of the current entry.
    pending: u64,
}

impl<R: Read> Reader<R> {
    /// A reader at the start of the stream.
    pub fn new(inner: R) -> Self {
        Reader { inner, position: 0, pending: 0 }
    }

    /// The next entry, or `None` at the end mark or the end of the stream.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Header>, Problem> {
        let mut extension = Extension::default();
        let start = self.position + self.pending;
        loop {
            self.skip()?;
            let mut block = [0; BLOCK];
            match read_up_to(&mut self.inner, &mut block)? {
                0 => return Ok(None),
                BLOCK => self.position += BLOCK as u64,
                _ => return Err(Problem::malformed("the tar stream ends inside a header")),
            }
            if block.iter().all(|b| *b == 0) {
                return Ok(None);
            }
            verify_checksum(&block)?;
            if self.position.saturating_sub(start) > MAX_EXTENSIONS {
                let what = "the size of the extension headers of a tar entry";
                return Err(Problem::limit(what, MAX_EXTENSIONS));
            }
            let size = number(&block[124..136], "size")?;
            match block[156] {
                b'L' => extension.path = Some(self.long_name(size)?),
                b'K' => extension.link = Some(self.long_name(size)?),
                b'x' => extension.read_pax(&self.payload(size)?)?,
                b'g' => check_global(&self.payload(size)?)?,
                _ => return self.entry(&block, size, extension).map(Some),
            }
        }
    }

    /// The content of the entry that [`Reader::next`] just returned.
    pub fn content(&mut self, header: &Header) -> Result<Vec<u8>, Problem> {
        let mut bytes = Vec::new();
        let got = (&mut self.inner).take(header.size).read_to_end(&mut bytes)? as u64;
        self.position += got;
        self.pending = self.pending.saturating_sub(got);
        if got < header.size {
            return Err(Problem::malformed("the tar stream ends inside a file"));
        }
        Ok(bytes)
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        size: u64,
        extension: Extension,
    ) -> Result<Header, Problem> {
        let mut header = parse(block, size, extension)?;
        if header.kind == Type::File {
            self.expect_content(header.size)?;
        } else {
            // dpkg and GNU tar expect no content here, whatever the field says.
            header.size = 0;
        }
        header.offset = self.position;
        Ok(header)
    }

    fn expect_content(&mut self, size: u64) -> Result<(), Problem> {
        let padded = size.checked_next_multiple_of(BLOCK as u64);
        let end = padded.and_then(|padded| self.position.checked_add(padded));
        end.filter(|end| *end < i64::MAX as u64)
            .ok_or_else(|| Problem::malformed(format!("a file of {size} bytes")))?;
        self.pending = padded.unwrap_or_default();
        Ok(())
    }

    fn payload(&mut self, size: u64) -> Result<Vec<u8>, Problem> {
        if size > MAX_EXTENSION {
            return Err(Problem::limit("the size of a tar extension header", MAX_EXTENSION));
        }
        self.expect_content(size)?;
        let mut bytes = vec![0; size as usize];
        if read_up_to(&mut self.inner, &mut bytes)? < bytes.len() {
            return Err(Problem::malformed("the tar stream ends inside an extension header"));
        }
        self.position += size;
        self.pending -= size;
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, Problem> {
        let mut name = self.payload(size)?;
        name.truncate(name.iter().position(|b| *b == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn skip(&mut self) -> Result<(), Problem> {
        let mut scratch = [0; 64 << 10];
        while self.pending > 0 {
            let want = self.pending.min(scratch.len() as u64) as usize;
            let got = read_up_to(&mut self.inner, &mut scratch[..want])?;
            if got == 0 {
                return Err(Problem::malformed("the tar stream ends inside a file"));
            }
            self.pending -= got as u64;
            self.position += got as u64;
        }
        Ok(())
    }
}

fn parse(block: &[u8; BLOCK], size: u64, extension: Extension) -> Result<Header, Problem> {
    let path = extension.path.unwrap_or_else(|| short_path(block));
    let kind = match block[156] {
        0 | b'0' if path.ends_with(b"/") => Type::Directory,
        0 | b'0' => Type::File,
        b'1' => Type::HardLink,
        b'2' => Type::Symlink,
        b'3' => Type::CharDevice,
        b'4' => Type::BlockDevice,
        b'5' => Type::Directory,
        b'6' => Type::Fifo,
        b'S' => return Err(Problem::Unsupported("a sparse tar entry".into())),
        other => {
            let shown = other.escape_ascii();
            return Err(Problem::Unsupported(format!("tar entry type '{shown}'")));
        }
    };
    let mtime = match extension.mtime {
        Some(mtime) => mtime,
        None => Mtime::secs(signed_number(&block[136..148], "mtime")?),
    };
    let small = |range: std::ops::Range<usize>, what: &'static str| {
        let value = number(&block[range], what)?;
        u32::try_from(value).map_err(|_| Problem::malformed(format!("{what} {value} is too large")))
    };
    let is_device = matches!(kind, Type::CharDevice | Type::BlockDevice);
    let device = match is_device {
        true => Device {
            major: small(329..337, "device major number")?,
            minor: small(337..345, "device minor number")?,
        },
        false => Device { major: 0, minor: 0 },
    };
    Ok(Header {
        path,
        kind,
        mode: (number(&block[100..108], "mode")? & 0o7777) as u16,
        uid: extension.uid.map_or_else(|| small(108..116, "uid"), Ok)?,
        gid: extension.gid.map_or_else(|| small(116..124, "gid"), Ok)?,
        uname: extension.uname.unwrap_or_else(|| text(&block[265..297]).to_vec()),
        gname: extension.gname.unwrap_or_else(|| text(&block[297..329]).to_vec()),
        mtime,
        link: extension.link.unwrap_or_else(|| text(&block[157..257]).to_vec()),
        device,
        xattrs: extension.xattrs,
        offset: 0,
        size: extension.size.unwrap_or(size),
    })
}

/// `prefix/name` of ustar; GNU's header has other things where the prefix is.
fn short_path(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = text(&block[..100]);
    let prefix = text(&block[345..500]);
    if &block[257..263] != b"ustar\0" || prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]
}

fn verify_checksum(block: &[u8; BLOCK]) -> Result<(), Problem> {
    let stored = number(&block[148..156], "checksum")?;
    let field = 148..156;
    let blanked = |(i, b): (usize, &u8)| if field.contains(&i) { b' ' } else { *b };
    let unsigned: u64 = block.iter().enumerate().map(|e| u64::from(blanked(e))).sum();
    // Some old writers summed signed bytes.
    let signed: i64 = block.iter().enumerate().map(|e| i64::from(blanked(e) as i8)).sum();
    if stored == unsigned || i64::try_from(stored) == Ok(signed) {
        Ok(())
    } else {
        Err(Problem::malformed("a tar header has a wrong checksum"))
    }
}

/// Gives every block that may be a header the checksum that it should have: for
/// fuzzing.
#[doc(hidden)]
pub fn seal_all(stream: &mut [u8]) {
    for block in stream.chunks_exact_mut(BLOCK) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

fn number(field: &[u8], what: &str) -> Result<u64, Problem> {
    u64::try_from(signed_number(field, what)?)
        .map_err(|_| Problem::malformed(format!("{what} is negative")))
}

/// Octal digits between blanks, or base 256 if the first bit is set.
fn signed_number(field: &[u8], what: &str) -> Result<i64, Problem> {
    let bad = || Problem::malformed(format!("{what} is not a number"));
    if field[0] & 0x80 != 0 {
        return base_256(field).ok_or_else(bad);
    }
    let digits = text(field).trim_ascii();
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => {
            let value = value.checked_mul(8).ok_or_else(bad)?;
            value.checked_add(i64::from(digit - b'0')).ok_or_else(bad)
        }
        _ => Err(bad()),
    })
}

fn base_256(field: &[u8]) -> Option<i64> {
    // Two's complement; the top bit is the mark, the one below it the sign.
    let negative = field[0] & 0x40 != 0;
    let first = if negative { i64::from(field[0]) - 256 } else { i64::from(field[0] & 0x3f) };
    field[1..]
        .iter()
        .try_fold(first, |value, byte| value.checked_mul(256)?.checked_add(i64::from(*byte)))
}

/// Key and value of a pax header's record.
type Record<'a> = (&'a [u8], &'a [u8]);

/// The records of a pax header: `length key=value\n`.
fn pax_records(mut data: &[u8]) -> Result<Vec<Record<'_>>, Problem> {
    let bad = || Problem::malformed("a pax header is malformed");
    let mut records = Vec::new();
    while !data.is_empty() {
        let blank = data.iter().position(|b| *b == b' ').filter(|at| *at <= 10).ok_or_else(bad)?;
        let length = std::str::from_utf8(&data[..blank]).ok().and_then(|d| d.parse::<usize>().ok());
        let length = length.filter(|l| *l <= data.len() && *l > blank + 2).ok_or_else(bad)?;
        let record = data[blank + 1..length].strip_suffix(b"\n").ok_or_else(bad)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
        records.push((&record[..equals], &record[equals + 1..]));
        data = &data[length..];
    }
    Ok(records)
}

/// A global header may only say what does not change what is unpacked.
fn check_global(data: &[u8]) -> Result<(), Problem> {
    for (key, _) in pax_records(data)? {
        if key != b"comment" {
            let key = key.escape_ascii();
            return Err(Problem::Unsupported(format!("the global pax key {key}")));
        }
    }
    Ok(())
}

impl Extension {
    fn read_pax(&mut self, data: &[u8]) -> Result<(), Problem> {
        for (key, value) in pax_records(data)? {
            let owned = || Some(value.to_vec());
            match key {
                b"path" => self.path = owned(),
                b"linkpath" => self.link = owned(),
                b"uname" => self.uname = owned(),
                b"gname" => self.gname = owned(),
                b"size" => self.size = Some(decimal(value)?),
                b"uid" => self.uid = Some(decimal(value)?),
                b"gid" => self.gid = Some(decimal(value)?),
                b"mtime" => self.mtime = Some(time(value)?),
                // A Tree does not have them.
                b"atime" | b"ctime" | b"comment" => {}
                _ => match key.strip_prefix(b"SCHILY.xattr.") {
                    Some(name) if !name.is_empty() => {
                        self.xattrs.insert(name.to_vec(), value.to_vec());
                    }
                    _ => {
                        let key = key.escape_ascii();
                        return Err(Problem::Unsupported(format!("the pax key {key}")));
                    }
                },
            }
        }
        Ok(())
    }
}

fn decimal<T: std::str::FromStr>(value: &[u8]) -> Result<T, Problem> {
    let digits = std::str::from_utf8(value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| Problem::malformed("a pax header has a bad number"))
}

/// Seconds with an optional fraction, negative before 1970.
fn time(value: &[u8]) -> Result<Mtime, Problem> {
    let bad = || Problem::malformed("a pax header has a bad time");
    let negative = value.first() == Some(&b'-');
    let value = value.strip_prefix(b"-").unwrap_or(value);
    let mut halves = value.splitn(2, |b| *b == b'.');
    let secs: i64 = decimal(halves.next().unwrap_or_default())?;
    let fraction = halves.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(bad());
    }
    let digit = |i: usize| u32::from(fraction.get(i).map_or(0, |b| b - b'0'));
    let nanos = (0..9).fold(0, |n, i| n * 10 + digit(i));
    Ok(match (negative, nanos) {
        (false, _) => Mtime { secs, nanos },
        (true, 0) => Mtime { secs: -secs, nanos: 0 },
        (true, _) => Mtime { secs: -secs - 1, nanos: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::archive::seal_header;

    use crate::testing::{Item, header, tar};

    fn read(bytes: &[u8]) -> Result<Vec<Header>, Problem> {
        let mut reader = Reader::new(bytes);
        std::iter::from_fn(|| reader.next().transpose()).collect()
    }

    fn extension(kind: u8, payload: &[u8], then: Item<'_>) -> Vec<u8> {
        let mut bytes = tar(&[Item("ext", kind, "", payload)]);
        bytes.truncate(bytes.len() - 1024);
        bytes.extend(tar(&[then]));
        bytes
    }

    #[test]
    fn entries_and_where_their_contents_are() {
        let bytes = tar(&[
            Item("./", b'5', "", b""),
            Item("./a", b'0', "", b"abc"),
            Item("./old-dir/", 0, "", b""),
            Item("./l", b'2', "a", b""),
            Item("./h", b'1', "./a", b""),
        ]);
        let all = read(&bytes).unwrap();
        let kinds: Vec<_> = all.iter().map(|h| h.kind).collect();
        use Type::{Directory, File, HardLink, Symlink};
        assert_eq!(kinds, [Directory, File, Directory, Symlink, HardLink]);
        let file = &all[1];
        assert_eq!(&bytes[file.offset as usize..][..file.size as usize], b"abc");
        assert_eq!((file.mode, file.uid, file.gid, file.mtime.secs), (0o644, 7, 8, 0o14300000000));
        assert_eq!((&file.uname[..], &file.gname[..]), (&b"who"[..], &b"group"[..]));
        assert_eq!(all[3].link, b"a");
    }

    #[test]
    fn long_names_and_pax_records_win_over_the_header() {
        let long = "x/".repeat(150) + "name";
        let gnu = format!("{long}\0");
        let all = read(&extension(b'L', gnu.as_bytes(), Item("short", b'0', "", b"c"))).unwrap();
        assert_eq!((&all[0].path[..], all[0].size), (long.as_bytes(), 1));
        let records: &[u8] = b"16 path=a/b/c/d\n20 mtime=-1.2500000\n17 uid=300000000\n\
            34 SCHILY.xattr.user.x=a\0value=1\n\n";
        let records = fix_lengths(records);
        let all = read(&extension(b'x', &records, Item("short", b'0', "", b"c"))).unwrap();
        assert_eq!((&all[0].path[..], all[0].uid), (&b"a/b/c/d"[..], 300_000_000));
        assert_eq!(all[0].mtime, Mtime { secs: -2, nanos: 750_000_000 });
        assert_eq!(all[0].xattrs[&b"user.x"[..]], b"a\0value=1");
    }

    /// Gives each line the length that it has, so that the test need not count.
    fn fix_lengths(records: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in records.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            let body = &line[line.iter().position(|b| *b == b' ').unwrap()..];
            let length = body.len() + 3;
            assert!((10..100).contains(&length));
            out.extend_from_slice(length.to_string().as_bytes());
            out.extend_from_slice(body);
            out.push(b'\n');
        }
        out
    }

    #[test]
    fn base_256_numbers() {
        assert_eq!(signed_number(&[0x80, 0, 0, 0, 0, 0, 1, 0], "n").unwrap(), 256);
        assert_eq!(signed_number(&[0xff; 8], "n").unwrap(), -1);
        assert!(signed_number(&[0xbf; 12], "n").is_err(), "does not fit");
        assert!(number(&[0xff; 8], "n").is_err(), "negative");
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let mut huge = header(b"a", b'0', "", 0);
        huge[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]);
        let mut bad_sum = header(b"a", b'0', "", 0);
        bad_sum[0] = b'b';
        let cut = &tar(&[Item("a", b'0', "", &[1; 600])])[..1100];
        let long = header(b"a", b'L', "", 2 << 20);
        let cases: [(&[u8], &str); 9] = [
            (&seal_header(huge), "a file of"),
            (&bad_sum, "wrong checksum"),
            (cut, "ends inside a file"),
            (&long, "exceeds the limit"),
            (&header(b"a", b'S', "", 0), "sparse"),
            (&header(b"a", b'Z', "", 0), "tar entry type 'Z'"),
            (&[1; 100], "ends inside a header"),
            (&extension(b'x', b"99 path=a\n", Item("a", b'0', "", b"")), "pax header is malformed"),
            (&extension(b'g', b"10 path=a\n", Item("a", b'0', "", b"")), "global pax key path"),
        ];
        for (bytes, message) in cases {
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.contains(message), "{error} / {message}");
        }
        let sparse = fix_lengths(b"0 GNU.sparse.major=1\n");
        let error = read(&extension(b'x', &sparse, Item("a", b'0', "", b""))).unwrap_err();
        assert!(error.to_string().contains("GNU.sparse.major"), "{error}");
    }
}
