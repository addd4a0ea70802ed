//! The `ar` container of a `.deb`: a magic, then members with a 60-byte header.
//!
//! What it is not: the ar of object files. Long-name tables are refused, as dpkg
//! refuses them: the members of a `.deb` have short names (deb(5)).
//!
//! Data flow: `Read` → [`Reader::next`] → a header; [`Reader::member`] reads that
//! member's bytes and cannot read past it.

use std::io::{self, Read};

use crate::Problem;

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER: usize = 60;

/// A member's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name without padding and without the trailing slash of GNU ar.
    pub name: String,
    /// Size of the content in bytes.
    pub size: u64,
}

/// Reads an archive from front to back.
pub struct Reader<R> {
    inner: R,
    // Of the current member: content not yet read, and whether a pad byte follows.
    left: u64,
    pad: bool,
}

impl<R: Read> Reader<R> {
    /// Checks the magic.
    pub fn new(mut inner: R) -> Result<Self, Problem> {
        let mut magic = [0; 8];
        inner.read_exact(&mut magic).map_err(short("the archive"))?;
        if &magic != MAGIC {
            return Err(Problem::malformed("not an ar archive, so not a Debian package"));
        }
        Ok(Reader { inner, left: 0, pad: false })
    }

    /// Skips what is left of the current member; the next header, or `None` at
    /// the end of the archive.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Header>, Problem> {
        self.finish_member()?;
        let mut raw = [0; HEADER];
        let got = read_up_to(&mut self.inner, &mut raw)?;
        if got == 0 {
            return Ok(None);
        }
        if got < HEADER {
            return Err(Problem::malformed("a member's header is cut short"));
        }
        let header = parse(&raw)?;
        self.left = header.size;
        self.pad = header.size % 2 == 1;
        Ok(Some(header))
    }

    /// The current member's content.
    pub fn member(&mut self) -> Member<'_, R> {
        Member(self)
    }

    /// The reader below, whatever its position.
    pub fn into_inner(self) -> R {
        self.inner
    }

    fn finish_member(&mut self) -> Result<(), Problem> {
        let rest = self.left + u64::from(self.pad && self.left > 0);
        let skipped = io::copy(&mut (&mut self.inner).take(self.left), &mut io::sink())?;
        if skipped < self.left {
            return Err(Problem::malformed(format!(
                "the archive is cut short: {} bytes are missing",
                rest - skipped
            )));
        }
        self.left = 0;
        if std::mem::take(&mut self.pad) {
            // The last member's pad byte may be missing; some writers omit it.
            let mut pad = [0; 1];
            read_up_to(&mut self.inner, &mut pad)?;
        }
        Ok(())
    }
}

/// The content of the current member; ends where the member does.
pub struct Member<'a, R>(&'a mut Reader<R>);

impl<R: Read> Read for Member<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = (&mut self.0.inner).take(self.0.left).read(buf)?;
        if n == 0 && self.0.left > 0 && !buf.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut short"));
        }
        self.0.left -= n as u64;
        Ok(n)
    }
}

fn parse(raw: &[u8; HEADER]) -> Result<Header, Problem> {
    if &raw[58..] != b"`\n" {
        return Err(Problem::malformed("a member's header has no end mark"));
    }
    let name = raw[..16].trim_ascii_end();
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let good = |b: &u8| b.is_ascii_graphic() && *b != b'/';
    if name.is_empty() || !name.iter().all(good) {
        let shown = String::from_utf8_lossy(name).into_owned();
        return Err(Problem::malformed(format!("bad member name {shown:?}")));
    }
    let digits = raw[48..58].trim_ascii();
    let size = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
    let size = size
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| Problem::malformed("a member's size is not a number"))?;
    let name = String::from_utf8_lossy(name).into_owned();
    Ok(Header { name, size })
}

fn short(what: &'static str) -> impl FnOnce(io::Error) -> Problem {
    move |e| match e.kind() {
        io::ErrorKind::UnexpectedEof => Problem::malformed(format!("{what} is cut short")),
        _ => Problem::Io(e),
    }
}

/// Fills `buf` as far as the input goes.
pub(crate) fn read_up_to(reader: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buf.len() {
        match reader.read(&mut buf[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::archive::ar as archive;

    #[test]
    fn members_come_in_order_and_unread_ones_are_skipped() {
        let bytes =
            archive(&[("debian-binary", b"2.0\n"), ("odd/", b"abc"), ("data.tar", b"xyzw")]);
        let mut reader = Reader::new(&bytes[..]).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().name, "debian-binary");
        assert_eq!(reader.next().unwrap().unwrap(), Header { name: "odd".into(), size: 3 });
        let mut first = [0; 1];
        reader.member().read_exact(&mut first).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().name, "data.tar");
        let mut data = Vec::new();
        reader.member().read_to_end(&mut data).unwrap();
        assert_eq!(data, b"xyzw");
        assert!(reader.next().unwrap().is_none());
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        let good = archive(&[("a", b"abc")]);
        let mut cases = vec![(b"!<arch".to_vec(), "cut short"), (vec![b'x'; 80], "not an ar")];
        cases.push((good[..30].to_vec(), "header is cut short"));
        cases.push((good[..70].to_vec(), "cut short: 2 bytes"));
        for (at, byte, message) in [(8, b'\n', "bad member name"), (56, b'-', "not a number")] {
            let mut bad = good.clone();
            bad[at] = byte;
            cases.push((bad, message));
        }
        for (bytes, message) in cases {
            let result = Reader::new(&bytes[..]).and_then(|mut r| {
                while r.next()?.is_some() {}
                Ok(())
            });
            let error = result.unwrap_err().to_string();
            assert!(error.contains(message), "{error} / {message}");
        }
    }
}
