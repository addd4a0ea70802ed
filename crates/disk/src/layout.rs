//! The layout of a disk whose project brings none, and the definitions that its image
//! ships.
//!
//! What it is: text of repart.d(5), as mkosi(1) documents its own default layout: an
//! ESP from `/boot` and `/efi`, a minimized root. Two things differ, for golden
//! images: the ESP is sized from what goes in ([`esp_size`]) instead of 512M, and the
//! image ships definitions with which its root grows on first boot (S3, S5).

use crate::Bytes;

const MIB: u64 = 1 << 20;
/// A FAT32 file system on sectors of 512 bytes that firmware takes; also what
/// systemd-repart makes an ESP at least.
const ESP_MIN: u64 = 100 * MIB;
/// What the next kernel may be larger than this one, in sixteenths.
const GROWTH: u64 = 4;
/// Room for a loader update, its fallback copy, entries and a random seed.
const LOADER: u64 = 8 * MIB;

/// How large the ESP has to be: what goes in, a second kernel of the same kind that is
/// a quarter larger (an update installs the new one before it removes the old), the
/// boot loader's own needs, and FAT's tables. `kernel` is what one kernel takes: a UKI,
/// or a kernel with its initrd; 0 if none is installed there.
pub fn esp_size(content: Bytes, kernel: Bytes) -> Bytes {
    let next = kernel.0.saturating_add(kernel.0 / 16 * GROWTH);
    let files = content.0.saturating_add(next).saturating_add(LOADER);
    // Two tables of 4 bytes per cluster of at least 512 bytes: a sixty-fourth.
    let with_tables = files.saturating_add(files / 64).saturating_add(MIB);
    let rounded = with_tables.checked_next_multiple_of(MIB).unwrap_or(u64::MAX - (MIB - 1));
    Bytes(rounded.max(ESP_MIN))
}

/// The definitions for a disk image: name and text, in order. `esp` is the size of the
/// ESP of a bootable image.
pub fn default_definitions(esp: Option<Bytes>, root_format: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    if let Some(Bytes(size)) = esp {
        // Sectors of 512 bytes: an image is written to disks that have those, and a
        // FAT32 of 4096-byte sectors would need 260M.
        let text = format!(
            "[Partition]\nType=esp\nFormat=vfat\nFileSystemSectorSize=512\nCopyFiles=/boot:/\n\
             CopyFiles=/efi:/\nSizeMinBytes={size}\nSizeMaxBytes={size}\n"
        );
        all.push(("00-esp.conf".to_owned(), text));
    }
    let root =
        format!("[Partition]\nType=root\nFormat={root_format}\nCopyFiles=/\nMinimize=guess\n");
    all.push(("10-root.conf".to_owned(), root));
    all
}

/// The definitions that the image ships so that systemd-repart grows it on first boot:
/// path in the image and text. The root's partition takes all free space; its file
/// system follows because of bit 59, which `Type=root` sets (S5). The ESP is not named,
/// so it is left as it is.
pub fn shipped_definitions() -> Vec<(&'static str, &'static str)> {
    vec![("usr/lib/repart.d/50-root.conf", "[Partition]\nType=root\n")]
}
