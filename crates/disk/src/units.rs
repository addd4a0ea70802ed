//! Units: bytes, sectors and the size of a sector, so that they cannot be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A number of bytes, or a position counted in bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A number of sectors, or a position counted in sectors (an LBA).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sectors(pub u64);

/// The size of a logical sector: a power of two from 512 to 4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct SectorSize(u32);

/// The number is not the size of a sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sector of {0} bytes is not supported: it must be a power of two from 512 to 4096")]
pub struct BadSectorSize(pub u32);

impl SectorSize {
    /// What nearly every disk says it has.
    pub const S512: SectorSize = SectorSize(512);
    /// Advanced format, native.
    pub const S4096: SectorSize = SectorSize(4096);
    /// Every size there is, smallest first.
    pub const ALL: [SectorSize; 4] =
        [SectorSize(512), SectorSize(1024), SectorSize(2048), SectorSize(4096)];

    /// Checks the size.
    pub fn new(bytes: u32) -> Result<Self, BadSectorSize> {
        let known = Self::ALL.into_iter().find(|s| s.0 == bytes);
        known.ok_or(BadSectorSize(bytes))
    }

    /// In bytes.
    pub fn get(self) -> u64 {
        u64::from(self.0)
    }

    /// In bytes, for indexing memory.
    pub fn bytes(self) -> usize {
        self.0 as usize
    }
}

impl TryFrom<u32> for SectorSize {
    type Error = BadSectorSize;
    fn try_from(bytes: u32) -> Result<Self, BadSectorSize> {
        Self::new(bytes)
    }
}

impl From<SectorSize> for u32 {
    fn from(size: SectorSize) -> u32 {
        size.0
    }
}

impl Sectors {
    /// In bytes; `None` if that does not fit 64 bits.
    pub fn bytes(self, size: SectorSize) -> Option<Bytes> {
        self.0.checked_mul(size.get()).map(Bytes)
    }
}

impl Bytes {
    /// From a number with a suffix of base 1024, as options and settings have it: `512M`.
    pub fn parse(text: &str) -> Option<Bytes> {
        crate::definition::value::size(text).map(Bytes)
    }

    /// In sectors; `None` if it is not a whole number of them.
    pub fn sectors(self, size: SectorSize) -> Option<Sectors> {
        self.0.is_multiple_of(size.get()).then_some(Sectors(self.0 / size.get()))
    }
}

/// The next multiple of `grain` (a power of two); `None` if it does not fit.
pub(crate) fn round_up(value: u64, grain: u64) -> Option<u64> {
    value.checked_next_multiple_of(grain)
}

/// The multiple of `grain` that is not above `value`.
pub(crate) fn round_down(value: u64, grain: u64) -> u64 {
    value - value % grain
}

impl fmt::Display for Bytes {
    /// As systemd prints sizes: base 1024, one decimal that is cut and not rounded,
    /// and no decimal at all where it would be a zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(60, 'E'), (50, 'P'), (40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')];
        for (shift, letter) in units {
            if self.0 >> shift == 0 {
                continue;
            }
            let (whole, rest) = (self.0 >> shift, self.0 & ((1 << shift) - 1));
            let tenth = (u128::from(rest) * 10) >> shift;
            return match tenth {
                0 => write!(f, "{whole}{letter}"),
                _ => write!(f, "{whole}.{tenth}{letter}"),
            };
        }
        write!(f, "{}B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_powers_of_two_from_512_to_4096_are_sectors() {
        for good in [512, 1024, 2048, 4096] {
            assert_eq!(SectorSize::new(good).unwrap().get(), u64::from(good));
        }
        for bad in [0, 1, 256, 513, 520, 4095, 8192, u32::MAX] {
            assert_eq!(SectorSize::new(bad), Err(BadSectorSize(bad)));
        }
    }

    #[test]
    fn conversions_are_exact_or_refused() {
        assert_eq!(Sectors(3).bytes(SectorSize::S4096), Some(Bytes(12288)));
        assert_eq!(Sectors(u64::MAX).bytes(SectorSize::S512), None);
        assert_eq!(Bytes(1024).sectors(SectorSize::S512), Some(Sectors(2)));
        assert_eq!(Bytes(1025).sectors(SectorSize::S512), None);
        assert_eq!(round_up(u64::MAX, 4096), None);
        assert_eq!((round_up(1, 4096), round_down(4095, 4096)), (Some(4096), 0));
    }

    #[test]
    fn sizes_read_as_systemd_prints_them() {
        let cases = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1K"),
            (1536, "1.5K"),
            (10 << 20, "10M"),
            ((10 << 20) + (1 << 20) / 10 - 1, "10M"),
            (1049927680, "1001.2M"),
            (u64::MAX, "15.9E"),
        ];
        for (bytes, text) in cases {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
