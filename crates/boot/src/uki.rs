//! Unified kernel images (UAPI.5): a UEFI program, systemd's stub, with kernel,
//! initrd, command line and the rest as sections behind its own.
//!
//! The result is a list of parts: new headers in memory, then ranges of the stub
//! and of what goes in. Nothing large is copied. The layout is ukify's (257),
//! byte for byte (`tests/oracle_uki.rs`). Signing is not done here.

use tree::{Content, Part, Tree, TreePath};

use crate::arch::EfiArch;
use crate::pe::{Image, PeError, SECTION_HEADER, Section, optional, u32_at};

const EFI_APPLICATION: u16 = 10;
const DATA: u32 = 0x4000_0040;
const CODE: u32 = 0x4000_0020;
/// Data directory of the certificate table: must not survive new sections.
const SECURITY_DIRECTORY: usize = 4;
const MAX_SBAT: u64 = 64 << 10;
const SBAT_HEADER: &str = "sbat,1,";

/// The UKI's own SBAT entry, as the specification gives it for images without
/// one of their vendor's.
const SBAT: &str = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n\
    uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/\n";

/// Why a UKI cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum UkiError {
    /// The image has no stub.
    #[error("no {0} in the tree: a unified kernel image needs the package systemd-boot-efi")]
    NoStub(TreePath),
    /// The stub or the kernel is no image.
    #[error("{what} cannot be used for a unified kernel image")]
    Pe {
        /// Which one.
        what: &'static str,
        /// Why.
        #[source]
        source: PeError,
    },
    /// The stub is something else.
    #[error("the stub is not a UEFI program for {0}")]
    Arch(&'static str),
    /// The stub is damaged.
    #[error("the stub cannot be extended: {0}")]
    Stub(&'static str),
    /// The stub's headers leave no room.
    #[error("the stub has no room for the headers of {0} sections")]
    NoRoom(usize),
    /// Addresses have 32 bits.
    #[error("kernel and initrd are too large for a unified kernel image (4 GiB)")]
    TooLarge,
    /// The merged SBAT does not fit where the stub has its own.
    #[error("the SBAT entries do not fit into the stub's .sbat section ({0} bytes)")]
    Sbat(u32),
}

/// What goes into a UKI. Empty or absent parts get no section.
#[derive(Debug, Clone)]
pub struct Uki {
    /// `.linux`
    pub linux: Content,
    /// `.initrd`
    pub initrd: Option<Content>,
    /// `.ucode`, CPU microcode
    pub microcode: Option<Content>,
    /// `.osrel`, the text of os-release
    pub os_release: Content,
    /// `.cmdline`, without a newline
    pub cmdline: String,
    /// `.uname`, the kernel's version
    pub uname: String,
    /// `.dtb`
    pub device_tree: Option<Content>,
    /// `.splash`, a BMP
    pub splash: Option<Content>,
    /// SBAT lines of the project in place of the generic one.
    pub sbat: Option<String>,
}

impl Uki {
    /// In the order of the file.
    fn sections(&self) -> Vec<(&'static str, Content)> {
        let text = |text: &str| Some(Content::inline(text.as_bytes().to_vec()));
        let all = [
            (".osrel", Some(self.os_release.clone())),
            (".cmdline", text(&self.cmdline)),
            (".dtb", self.device_tree.clone()),
            (".uname", text(&self.uname)),
            (".splash", self.splash.clone()),
            (".linux", Some(self.linux.clone())),
            (".initrd", self.initrd.clone()),
            (".ucode", self.microcode.clone()),
        ];
        let present = |(name, content): (_, Option<Content>)| Some((name, content?));
        all.into_iter().filter_map(present).filter(|(_, content)| !content.is_empty()).collect()
    }

    /// The UKI as a file, built on `stub`.
    pub fn build(&self, stub: &Content, arch: EfiArch) -> Result<Content, UkiError> {
        let pe = |what| move |source| UkiError::Pe { what, source };
        let image = Image::parse(stub).map_err(pe("the stub"))?;
        if image.machine != arch.pe_machine() || image.subsystem != EFI_APPLICATION {
            return Err(UkiError::Arch(arch.efi_name()));
        }
        let sbat = self.merged_sbat(stub, &image)?;
        let mut layout = Layout::new(image, sbat)?;
        for (name, content) in self.sections() {
            layout.append(name, content)?;
        }
        layout.finish(stub)
    }

    /// The stub's entries, then ours.
    fn merged_sbat(&self, stub: &Content, image: &Image) -> Result<Vec<u8>, UkiError> {
        let read =
            |source: std::io::Error| UkiError::Pe { what: "the stub", source: source.into() };
        let own = self.sbat.as_deref().unwrap_or(SBAT);
        let Some(section) = image.content(stub, ".sbat") else { return Ok(Vec::new()) };
        let bytes = section.read(MAX_SBAT).map_err(read)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.trim_end_matches('\0').lines();
        let ours = own.lines().filter(|line| !line.starts_with(SBAT_HEADER));
        let lines: Vec<&str> = lines.chain(ours).filter(|line| !line.is_empty()).collect();
        Ok((lines.join("\n") + "\n\0").into_bytes())
    }
}

/// The stub of the image's own systemd.
pub fn stub(tree: &Tree, arch: EfiArch) -> Result<Content, UkiError> {
    let name = format!("usr/lib/systemd/boot/efi/linux{}.efi.stub", arch.efi_name());
    let path = TreePath::new(&name).expect("a relative path without '..'");
    tree.lookup(&path).and_then(|n| n.content().cloned()).ok_or(UkiError::NoStub(path))
}

/// The sections of any PE image, with their content.
pub fn inspect(image: &Content) -> Result<Vec<(Section, Content)>, PeError> {
    let sections = Image::parse(image)?.sections.into_iter();
    Ok(sections.map(|s| (s.clone(), s.content(image))).collect())
}

/// Headers in the making, and the data of new sections.
struct Layout {
    image: Image,
    sbat: Vec<u8>,
    added: Vec<(Section, Content)>,
    next_address: u32,
    next_offset: u32,
    data_size: u32,
}

impl Layout {
    fn new(mut image: Image, sbat: Vec<u8>) -> Result<Layout, UkiError> {
        let mut layout = (0, image.headers.len() as u32);
        for section in &mut image.sections {
            if section.name == ".sbat" && !sbat.is_empty() {
                let size = u32::try_from(sbat.len()).map_err(|_| UkiError::TooLarge)?;
                if size > section.raw_size {
                    return Err(UkiError::Sbat(section.raw_size));
                }
                section.virtual_size = size;
            }
            let end = section.virtual_address.checked_add(section.virtual_size);
            let raw_end = section.raw_offset.checked_add(section.raw_size);
            let (end, raw_end) = end.zip(raw_end).ok_or(UkiError::TooLarge)?;
            layout = (layout.0.max(end), layout.1.max(raw_end));
        }
        let next_address = align(layout.0.into(), image.section_alignment)?;
        let next_offset = align(layout.1.into(), image.file_alignment)?;
        Ok(Layout { image, sbat, added: Vec::new(), next_address, next_offset, data_size: 0 })
    }

    fn append(&mut self, name: &str, content: Content) -> Result<(), UkiError> {
        let size = u32::try_from(content.len()).map_err(|_| UkiError::TooLarge)?;
        let raw_size = align(size.into(), self.image.file_alignment)?;
        let section = Section {
            name: name.into(),
            virtual_size: size,
            virtual_address: self.next_address,
            raw_size,
            raw_offset: self.next_offset,
            characteristics: if name == ".linux" { CODE } else { DATA },
        };
        let address = u64::from(self.next_address) + u64::from(size);
        self.next_address = align(address, self.image.section_alignment)?;
        self.next_offset = self.next_offset.checked_add(raw_size).ok_or(UkiError::TooLarge)?;
        self.data_size = self.data_size.checked_add(size).ok_or(UkiError::TooLarge)?;
        self.added.push((section, content));
        Ok(())
    }

    fn finish(mut self, stub: &Content) -> Result<Content, UkiError> {
        let headers = self.headers()?;
        let mut parts = vec![Content::inline(headers)];
        let mut at = parts[0].len();
        let sbat = self.image.sections.iter().find(|s| s.name == ".sbat" && !self.sbat.is_empty());
        let old_end = self.added.first().map_or(self.next_offset, |(s, _)| s.raw_offset);
        if let Some(sbat) = sbat {
            let before = u64::from(sbat.raw_offset).checked_sub(at);
            let before = before.ok_or(UkiError::Stub("its .sbat section overlaps its headers"))?;
            parts.push(stub.slice(at, before));
            at = u64::from(sbat.raw_offset) + u64::from(sbat.raw_size);
            let padding = sbat.raw_size as usize - self.sbat.len();
            self.sbat.extend(vec![0; padding]);
            parts.push(Content::inline(std::mem::take(&mut self.sbat)));
        }
        // No section ends after it, so it is not before the end of any.
        let rest = stub.slice(at, u64::from(old_end) - at);
        let missing = u64::from(old_end) - at - rest.len();
        parts.extend([rest, hole(missing)]);
        for (section, content) in &self.added {
            parts.push(content.clone());
            parts.push(hole(u64::from(section.raw_size) - content.len()));
        }
        Ok(Content::concat(parts.iter().filter(|part| !part.is_empty())))
    }

    fn headers(&self) -> Result<Vec<u8>, UkiError> {
        let mut headers = self.image.headers.clone();
        let all: Vec<&Section> =
            self.image.sections.iter().chain(self.added.iter().map(|(s, _)| s)).collect();
        let end = self.image.section_table + SECTION_HEADER * all.len();
        if end > headers.len() || all.len() > crate::pe::MAX_SECTIONS {
            return Err(UkiError::NoRoom(all.len()));
        }
        for (i, section) in all.iter().enumerate() {
            let at = self.image.section_table + SECTION_HEADER * i;
            let old = i < self.image.sections.len();
            write_section(&mut headers[at..at + SECTION_HEADER], section, old);
        }
        let mut put =
            |at: usize, value: u32| headers[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let base = self.image.optional;
        let data = u32_at(&self.image.headers, base + optional::INITIALIZED_DATA)
            .map_err(|source| UkiError::Pe { what: "the stub", source })?;
        put(base + optional::INITIALIZED_DATA, data.wrapping_add(self.data_size));
        put(base + optional::SIZE_OF_IMAGE, self.next_address);
        // UEFI ignores the checksum; ukify writes none.
        put(base + optional::CHECKSUM, 0);
        // A signature of the stub would not match any more.
        let directories = base + if self.image.plus { 112 } else { 96 };
        let security = directories + 8 * SECURITY_DIRECTORY;
        if security + 8 <= self.image.section_table {
            put(security, 0);
            put(security + 4, 0);
        }
        let count = all.len() as u16;
        headers[self.image.coff + 2..self.image.coff + 4].copy_from_slice(&count.to_le_bytes());
        Ok(headers)
    }
}

/// Writes a section header; of the stub's own only sizes and addresses.
fn write_section(at: &mut [u8], section: &Section, old: bool) {
    if !old {
        at.fill(0);
        at[..section.name.len()].copy_from_slice(section.name.as_bytes());
    }
    for (offset, value) in [
        (8, section.virtual_size),
        (12, section.virtual_address),
        (16, section.raw_size),
        (20, section.raw_offset),
        (36, section.characteristics),
    ] {
        at[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }
}

fn align(n: u64, to: u32) -> Result<u32, UkiError> {
    let aligned = n.checked_next_multiple_of(to.into());
    aligned.and_then(|n| u32::try_from(n).ok()).ok_or(UkiError::TooLarge)
}

fn hole(len: u64) -> Content {
    Content::parts(vec![Part::Hole { len }])
}
