//! A Tree as a tar stream (POSIX.1-2001 pax), for tools that read one and as an
//! output format.
//!
//! Everything a Tree has arrives: long names, nanoseconds, ids above the ustar
//! range, xattrs (`SCHILY.xattr.`, as GNU tar, mkfs.erofs, mksquashfs and mke2fs
//! read them), devices, hard links. The bytes depend on the Tree alone.

use std::collections::HashMap;
use std::io::{self, Write};

use tar::{EntryType, Header};

use crate::{Content, Kind, Meta, Node, Tree, TreePath};

/// Padding after each content.
const BLOCK: u64 = 512;
/// The largest value in the eight-digit octal fields of a ustar header.
const OCTAL_7: u64 = 0o7777777;
/// The same for eleven digits: sizes and times.
const OCTAL_11: u64 = 0o77777777777;

/// Writes `tree` as one archive, names relative to the root (`./usr/bin/sh`), in
/// path order; the root directory is the first entry.
pub fn write(tree: &Tree, out: &mut dyn Write) -> io::Result<()> {
    let mut first: HashMap<_, &TreePath> = HashMap::new();
    for (path, id, node) in tree.iter() {
        match first.get(&id) {
            Some(first) => entry(out, path, node, Some(first))?,
            None => {
                first.insert(id, path);
                entry(out, path, node, None)?;
            }
        }
    }
    out.write_all(&[0; 2 * BLOCK as usize])
}

fn entry(
    out: &mut dyn Write,
    path: &TreePath,
    node: &Node,
    link_to: Option<&TreePath>,
) -> io::Result<()> {
    let mut name = b"./".to_vec();
    name.extend_from_slice(path.as_bytes());
    if node.is_dir() && !path.is_root() {
        name.push(b'/');
    }
    let mut records = Records::default();
    let mut header = Header::new_ustar();
    records.name(&mut header, &name);
    records.meta(&mut header, &node.meta)?;
    let content = match link_to {
        Some(first) => {
            header.set_entry_type(EntryType::Link);
            let target = [b"./", first.as_bytes()].concat();
            records.link(&mut header, &target);
            None
        }
        None => records.kind(&mut header, &node.kind)?,
    };
    let size = content.map_or(0, Content::len);
    records.number("size", size, OCTAL_11, |v| header.set_size(v));
    header.set_cksum();
    records.write(out)?;
    out.write_all(header.as_bytes())?;
    if let Some(content) = content {
        let copied = io::copy(&mut content.reader(), out)?;
        if copied != size {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{path}: cut short")));
        }
        pad(out, size)?;
    }
    Ok(())
}

fn pad(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let rest = (BLOCK - size % BLOCK) % BLOCK;
    out.write_all(&[0; BLOCK as usize][..rest as usize])
}

/// The pax records of one entry: what does not fit into the ustar header.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    /// `LENGTH KEY=VALUE\n`, where the length counts itself.
    fn push(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while len != rest + len.to_string().len() {
            len = rest + len.to_string().len();
        }
        self.0.extend_from_slice(len.to_string().as_bytes());
        self.0.push(b' ');
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    fn name(&mut self, header: &mut Header, name: &[u8]) {
        let field = &mut header.as_old_mut().name;
        if name.len() <= field.len() {
            field[..name.len()].copy_from_slice(name);
        } else {
            self.push(b"path", name);
            let len = field.len();
            field.copy_from_slice(&name[..len]);
        }
    }

    fn link(&mut self, header: &mut Header, target: &[u8]) {
        let field = &mut header.as_old_mut().linkname;
        if target.len() <= field.len() {
            field[..target.len()].copy_from_slice(target);
        } else {
            self.push(b"linkpath", target);
        }
    }

    fn number(&mut self, key: &str, value: u64, max: u64, set: impl FnOnce(u64)) {
        if value > max {
            self.push(key.as_bytes(), value.to_string().as_bytes());
        }
        set(value.min(max));
    }

    fn meta(&mut self, header: &mut Header, meta: &Meta) -> io::Result<()> {
        header.set_mode(meta.mode.into());
        self.number("uid", meta.uid.into(), OCTAL_7, |v| header.set_uid(v));
        self.number("gid", meta.gid.into(), OCTAL_7, |v| header.set_gid(v));
        let mtime = meta.mtime;
        let plain = u64::try_from(mtime.secs).ok().filter(|s| *s <= OCTAL_11 && mtime.nanos == 0);
        header.set_mtime(u64::try_from(mtime.secs).unwrap_or(0).min(OCTAL_11));
        if plain.is_none() {
            self.push(b"mtime", decimal(mtime.secs, mtime.nanos).as_bytes());
        }
        for (name, value) in &meta.xattrs {
            if name.contains(&b'=') {
                let message = "an attribute name with '=' cannot be written to a tar archive";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            self.push(&[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
        Ok(())
    }

    fn kind<'a>(&mut self, header: &mut Header, kind: &'a Kind) -> io::Result<Option<&'a Content>> {
        let mut device = |entry_type, device: &crate::Device| {
            header.set_entry_type(entry_type);
            header.set_device_major(device.major)?;
            header.set_device_minor(device.minor)
        };
        match kind {
            Kind::Dir => header.set_entry_type(EntryType::Directory),
            Kind::Fifo => header.set_entry_type(EntryType::Fifo),
            Kind::CharDev(number) => device(EntryType::Char, number)?,
            Kind::BlockDev(number) => device(EntryType::Block, number)?,
            Kind::Symlink(target) => {
                header.set_entry_type(EntryType::Symlink);
                self.link(header, target);
            }
            Kind::Socket => {
                let message = "a tar archive cannot hold a socket; remove it (RemoveFiles=)";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            Kind::File(content) => {
                header.set_entry_type(EntryType::Regular);
                return Ok(Some(content));
            }
        }
        Ok(None)
    }

    fn write(self, out: &mut dyn Write) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..9].copy_from_slice(b"PaxHeader");
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(self.0.len() as u64);
        header.set_cksum();
        out.write_all(header.as_bytes())?;
        out.write_all(&self.0)?;
        pad(out, self.0.len() as u64)
    }
}

/// Seconds and nanoseconds as pax writes a time; `-1.25` is 1.25 s before 1970.
fn decimal(secs: i64, nanos: u32) -> String {
    let total = i128::from(secs) * 1_000_000_000 + i128::from(nanos);
    let sign = if total < 0 { "-" } else { "" };
    let (whole, part) =
        (total.unsigned_abs() / 1_000_000_000, total.unsigned_abs() % 1_000_000_000);
    if part == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part:09}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Mtime};
    use std::io::Read;

    fn p(s: &'static str) -> TreePath {
        TreePath::literal(s)
    }

    #[test]
    fn an_independent_reader_sees_everything() {
        let mut t = Tree::new();
        let long = TreePath::new("d/".repeat(60) + "file").unwrap();
        t.make_dirs(&long.parent().unwrap()).unwrap();
        let mut meta = Meta::file(0o4755).owned_by(3_000_000, 7).at(Mtime { secs: -2, nanos: 5 });
        meta.xattrs.insert(b"security.capability".to_vec(), vec![1, 0, b'=']);
        t.add_file(long.clone(), meta, Content::inline(*b"content")).unwrap();
        t.add_link(p("twin"), &long).unwrap();
        t.add_symlink(p("sym"), "/tar/get").unwrap();
        let kind = Kind::CharDev(Device { major: 5, minor: 1 });
        t.add(p("tty"), Node { meta: Meta::new(0o600), kind }).unwrap();

        let mut bytes = Vec::new();
        write(&t, &mut bytes).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let pax: Vec<_> = entry
                .pax_extensions()
                .unwrap()
                .into_iter()
                .flatten()
                .map(|r| r.unwrap())
                .map(|r| (r.key().unwrap().to_owned(), r.value_bytes().to_vec()))
                .collect();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if path.ends_with("/file") {
                assert_eq!(content, b"content");
                assert_eq!(entry.header().mode().unwrap(), 0o4755);
                assert!(pax.contains(&("uid".into(), b"3000000".to_vec())));
                assert!(pax.contains(&("mtime".into(), b"-1.999999995".to_vec())));
                let capability = ("SCHILY.xattr.security.capability".into(), vec![1, 0, 61]);
                assert!(pax.contains(&capability));
            }
            seen.push((path, entry.header().entry_type()));
        }
        let kinds: Vec<_> = seen.iter().rev().take(3).map(|(p, t)| (p.as_str(), *t)).collect();
        assert_eq!(kinds[0], ("./twin", EntryType::Link));
        assert_eq!(kinds[1], ("./tty", EntryType::Char));
        assert_eq!(kinds[2], ("./sym", EntryType::Symlink));
        assert_eq!(seen[0].0, "./");
        assert_eq!(seen.len(), t.len());
    }

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for n in [1, 5, 90, 95, 96, 97, 98, 990, 995] {
            let mut records = Records::default();
            records.push(b"k", &vec![b'v'; n]);
            let space = records.0.iter().position(|b| *b == b' ').unwrap();
            let len: usize = std::str::from_utf8(&records.0[..space]).unwrap().parse().unwrap();
            assert_eq!(len, records.0.len(), "value of {n}");
        }
    }

    #[test]
    fn times_before_the_epoch() {
        assert_eq!(decimal(-2, 500_000_000), "-1.500000000");
        assert_eq!(decimal(-1, 0), "-1");
        assert_eq!(decimal(3, 1), "3.000000001");
    }
}
