//! PE images as far as UEFI programs need it: headers and sections (Microsoft's
//! "PE Format"). Reads a [`Content`] in pieces, so that an image of any size costs
//! its headers only.

use std::io;

use tree::Content;

/// Headers of UEFI programs are a page or less; this is 16 pages.
const MAX_HEADERS: u64 = 64 << 10;
/// The loaders of Windows and EDK2 stop at 96 or so.
pub const MAX_SECTIONS: usize = 96;
pub(crate) const SECTION_HEADER: usize = 40;

/// Offsets in the optional header, the same in PE32 and PE32+.
pub(crate) mod optional {
    pub const INITIALIZED_DATA: usize = 8;
    pub const SECTION_ALIGNMENT: usize = 32;
    pub const FILE_ALIGNMENT: usize = 36;
    pub const SIZE_OF_IMAGE: usize = 56;
    pub const SIZE_OF_HEADERS: usize = 60;
    pub const CHECKSUM: usize = 64;
    pub const SUBSYSTEM: usize = 68;
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PeError {
    /// Its bytes cannot be read.
    #[error("cannot read the PE image")]
    Read(#[from] io::Error),
    /// It is not one, or is damaged.
    #[error("not a valid PE image: {0}")]
    Format(&'static str),
}

/// One section as its header has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Up to eight bytes, `.linux`.
    pub name: String,
    /// Size in memory; of UKI sections the size of the content.
    pub virtual_size: u32,
    /// Address, relative to the image's.
    pub virtual_address: u32,
    /// Size in the file, padded.
    pub raw_size: u32,
    /// Offset in the file.
    pub raw_offset: u32,
    /// `IMAGE_SCN_*`.
    pub characteristics: u32,
}

/// The headers of an image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Everything before the first section's data.
    pub(crate) headers: Vec<u8>,
    pub(crate) coff: usize,
    pub(crate) optional: usize,
    pub(crate) section_table: usize,
    /// The magic says PE32+ (64 bits).
    pub plus: bool,
    /// `IMAGE_FILE_MACHINE_*`.
    pub machine: u16,
    /// `IMAGE_SUBSYSTEM_*`; 10 is an EFI application.
    pub subsystem: u16,
    /// Alignment of sections in memory.
    pub section_alignment: u32,
    /// Alignment of sections in the file.
    pub file_alignment: u32,
    /// In the order of the headers.
    pub sections: Vec<Section>,
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Result<u16, PeError> {
    let field = at.checked_add(2).and_then(|end| bytes.get(at..end));
    let field = field.ok_or(PeError::Format("the headers are cut short"))?;
    Ok(u16::from_le_bytes([field[0], field[1]]))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, PeError> {
    let low = u16_at(bytes, at)?;
    let high = u16_at(bytes, at.saturating_add(2))?;
    Ok(u32::from(high) << 16 | u32::from(low))
}

impl Image {
    /// Reads the headers.
    pub fn parse(content: &Content) -> Result<Image, PeError> {
        let mut headers = vec![0; content.len().min(MAX_HEADERS) as usize];
        let read = content.read_at(&mut headers, 0)?;
        headers.truncate(read);
        if !headers.starts_with(b"MZ") {
            return Err(PeError::Format("it does not begin with MZ"));
        }
        let start = u32_at(&headers, 0x3c)? as usize;
        let signature = start.checked_add(4).and_then(|end| headers.get(start..end));
        if signature != Some(b"PE\0\0") {
            return Err(PeError::Format("no PE signature where the header says"));
        }
        let coff = start + 4;
        let optional = coff + 20;
        let section_table = optional + usize::from(u16_at(&headers, coff + 16)?);
        let plus = match u16_at(&headers, optional)? {
            0x10b => false,
            0x20b => true,
            _ => return Err(PeError::Format("an unknown kind of optional header")),
        };
        // The fixed fields, before the data directories.
        if section_table - optional < if plus { 112 } else { 96 } {
            return Err(PeError::Format("its optional header is too short"));
        }
        let count = usize::from(u16_at(&headers, coff + 2)?);
        if count > MAX_SECTIONS {
            return Err(PeError::Format("too many sections"));
        }
        let at = |i| section_table + SECTION_HEADER * i;
        let sections = (0..count).map(|i| section(&headers, at(i))).collect::<Result<_, _>>()?;
        let image = Image {
            coff,
            optional,
            section_table,
            plus,
            machine: u16_at(&headers, coff)?,
            subsystem: u16_at(&headers, optional + optional::SUBSYSTEM)?,
            section_alignment: u32_at(&headers, optional + optional::SECTION_ALIGNMENT)?,
            file_alignment: u32_at(&headers, optional + optional::FILE_ALIGNMENT)?,
            sections,
            headers,
        };
        image.check(content.len())
    }

    fn check(mut self, len: u64) -> Result<Image, PeError> {
        let power = |n: u32| n.is_power_of_two() && n <= 1 << 24;
        if !power(self.section_alignment) || !power(self.file_alignment) {
            return Err(PeError::Format("an impossible alignment"));
        }
        for section in &self.sections {
            let end = u64::from(section.raw_offset) + u64::from(section.raw_size);
            if section.raw_size > 0 && end > len {
                return Err(PeError::Format("a section reaches beyond the end of the file"));
            }
            if section.virtual_address.checked_add(section.virtual_size).is_none() {
                return Err(PeError::Format("a section reaches beyond 4 GiB"));
            }
        }
        let size = u32_at(&self.headers, self.optional + optional::SIZE_OF_HEADERS)? as usize;
        let table_end = self.section_table + SECTION_HEADER * self.sections.len();
        if size < table_end || size > self.headers.len() {
            return Err(PeError::Format("its headers do not fit into the size they claim"));
        }
        self.headers.truncate(size);
        Ok(self)
    }

    /// The content of the first section called `name`, without padding.
    pub fn content(&self, image: &Content, name: &str) -> Option<Content> {
        let section = self.sections.iter().find(|s| s.name == name)?;
        Some(section.content(image))
    }
}

impl Section {
    /// Its bytes: what memory has of what the file has.
    pub fn content(&self, image: &Content) -> Content {
        let size = self.virtual_size.min(self.raw_size);
        image.slice(self.raw_offset.into(), size.into())
    }
}

fn section(headers: &[u8], at: usize) -> Result<Section, PeError> {
    let name = headers.get(at..at + 8).ok_or(PeError::Format("the headers are cut short"))?;
    let end = name.iter().position(|b| *b == 0).unwrap_or(8);
    Ok(Section {
        name: String::from_utf8_lossy(&name[..end]).into_owned(),
        virtual_size: u32_at(headers, at + 8)?,
        virtual_address: u32_at(headers, at + 12)?,
        raw_size: u32_at(headers, at + 16)?,
        raw_offset: u32_at(headers, at + 20)?,
        characteristics: u32_at(headers, at + 36)?,
    })
}
