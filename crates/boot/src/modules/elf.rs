//! What depmod needs from one kernel module: `.modinfo`, exported and wanted
//! symbols. Reads ELF of either class and byte order; unpacks `.xz`, `.zst`, `.gz`.

use std::io::{self, Read};

use object::read::elf::{ElfFile32, ElfFile64, FileHeader, SectionHeader, SectionTable, Sym};
use object::{Endianness, FileKind, elf};

use super::{ModuleError, Names};

/// Larger than any module with debug information; what a compressed one may
/// become at most.
pub const MAX_MODULE: u64 = 512 << 20;

/// How a module file is packed, by its name as kmod does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// `.ko`
    Plain,
    /// `.ko.xz`
    Xz,
    /// `.ko.zst`
    Zstd,
    /// `.ko.gz`
    Gzip,
}

impl Packing {
    /// The packing and the name without `.ko` and what follows; `None` if the
    /// name is not a module's.
    pub fn of(name: &[u8]) -> Option<(Packing, &[u8])> {
        let kinds: [(&[u8], Packing); 4] = [
            (b".ko", Packing::Plain),
            (b".ko.xz", Packing::Xz),
            (b".ko.zst", Packing::Zstd),
            (b".ko.gz", Packing::Gzip),
        ];
        kinds.iter().find_map(|(suffix, packing)| {
            name.strip_suffix(*suffix).filter(|stem| !stem.is_empty()).map(|s| (*packing, s))
        })
    }
}

/// What one module file says about itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The bytes of `.modinfo`: `key=value`, each ended by NULs.
    pub modinfo: Vec<u8>,
    /// Symbols that it exports.
    pub exports: Names,
    /// Symbols that it takes from elsewhere, in the order of its symbol table.
    pub wants: Names,
}

/// Unpacks `bytes` as `packing` says, up to [`MAX_MODULE`] bytes.
pub fn unpack(packing: Packing, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    match packing {
        Packing::Plain => return Ok(bytes),
        Packing::Xz => read_limited(liblzma::read::XzDecoder::new(&bytes[..]), &mut out)?,
        Packing::Zstd => read_limited(zstd::Decoder::with_buffer(&bytes[..])?, &mut out)?,
        Packing::Gzip => read_limited(flate2::bufread::GzDecoder::new(&bytes[..]), &mut out)?,
    }
    Ok(out)
}

fn read_limited(reader: impl Read, out: &mut Vec<u8>) -> io::Result<()> {
    reader.take(MAX_MODULE + 1).read_to_end(out)?;
    if out.len() as u64 > MAX_MODULE {
        let message = format!("unpacks to more than the limit of {MAX_MODULE} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(())
}

/// Reads the facts from the bytes of an unpacked module.
pub fn parse(bytes: &[u8]) -> Result<Facts, object::Error> {
    match FileKind::parse(bytes)? {
        FileKind::Elf32 => facts(ElfFile32::<Endianness>::parse(bytes)?.elf_header(), bytes),
        // What is neither gets the error that it is no 64-bit ELF.
        _ => facts(ElfFile64::<Endianness>::parse(bytes)?.elf_header(), bytes),
    }
}

fn facts<E: FileHeader<Endian = Endianness>>(
    header: &E,
    bytes: &[u8],
) -> Result<Facts, object::Error> {
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let mut facts = Facts::default();
    if let Some((_, section)) = sections.section_by_name(endian, b".modinfo") {
        facts.modinfo = section.data(endian, bytes)?.to_vec();
    }
    let crcs = read_symbols(endian, &sections, bytes, &mut facts)?;
    if !crcs {
        // A kernel without MODVERSIONS: the names stand in a section of their own.
        if let Some((_, section)) = sections.section_by_name(endian, b"__ksymtab_strings") {
            let names = section.data(endian, bytes)?.split(|b| *b == 0);
            names.filter(|n| !n.is_empty()).for_each(|n| facts.exports.push(n));
        }
    }
    Ok(facts)
}

/// Collects wanted symbols, and exported ones from their `__crc_` marks.
/// Returns whether there was any such mark.
fn read_symbols<E: FileHeader<Endian = Endianness>>(
    endian: Endianness,
    sections: &SectionTable<'_, E>,
    bytes: &[u8],
    facts: &mut Facts,
) -> Result<bool, object::Error> {
    let symbols = sections.symbols(endian, bytes, elf::SHT_SYMTAB)?;
    let strings = symbols.strings();
    for symbol in symbols.iter() {
        let name = symbol.name(endian, strings)?;
        if let Some(exported) = name.strip_prefix(b"__crc_") {
            facts.exports.push(exported);
        } else if symbol.st_shndx(endian) == elf::SHN_UNDEF && !name.is_empty() {
            facts.wants.push(name);
        }
    }
    Ok(!facts.exports.is_empty())
}

/// [`unpack`] and [`parse`] with errors that name the file.
pub(super) fn read(path: &str, packing: Packing, bytes: Vec<u8>) -> Result<Facts, ModuleError> {
    let bytes = unpack(packing, bytes)
        .map_err(|source| ModuleError::Unpack { path: path.into(), source })?;
    parse(&bytes).map_err(|source| ModuleError::Elf { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_goes_by_the_name() {
        assert_eq!(Packing::of(b"a-b.ko.xz"), Some((Packing::Xz, &b"a-b"[..])));
        assert_eq!(Packing::of(b"x.ko"), Some((Packing::Plain, &b"x"[..])));
        for no in [&b".ko"[..], b"x.ko.bz2", b"x.ko.xz.tmp", b"vmlinuz"] {
            assert_eq!(Packing::of(no), None);
        }
    }

    #[test]
    fn what_is_no_elf_is_an_error() {
        assert!(parse(b"").is_err());
        assert!(parse(b"MZ not a module at all, but long enough to look at it").is_err());
        assert!(parse(&[0; 128]).is_err());
    }

    #[test]
    fn what_is_not_packed_as_named_is_an_error() {
        for packing in [Packing::Xz, Packing::Zstd, Packing::Gzip] {
            assert!(unpack(packing, b"plain".to_vec()).is_err());
        }
        let packed = zstd::encode_all(&b"module"[..], 1).unwrap();
        assert_eq!(unpack(Packing::Zstd, packed).unwrap(), b"module");
    }
}
