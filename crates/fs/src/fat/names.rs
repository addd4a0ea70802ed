//! Names and times of directory entries. A name that is not a plain upper-case
//! 8.3 name gets a long name as well, in UTF-16.

use std::collections::{HashMap, HashSet};

use tree::Mtime;

/// Bytes of one directory entry.
pub(super) const ENTRY_LEN: usize = 32;
/// UTF-16 units in one entry of a long name.
const UNITS: usize = 13;
/// Where these units are in the entry.
const UNIT_AT: [usize; UNITS] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
/// A short name: eight characters and three, padded with spaces.
pub(super) type Short = [u8; 11];

/// A name as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub short: Short,
    /// The long name; empty if the short one says it all.
    pub long: Vec<u16>,
}

impl Name {
    /// Directory entries that it takes.
    pub fn entries(&self) -> usize {
        1 + self.long.len().div_ceil(UNITS)
    }
}

/// Gives out names of one directory, no two of them alike.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: HashSet<Short>,
    folded: HashSet<String>,
    next: HashMap<Short, u32>,
}

/// Checks a name and says what FAT would make of it that nobody wants.
fn check(name: &[u8]) -> Result<&str, String> {
    let name = std::str::from_utf8(name).map_err(|_| "its name is not UTF-8".to_owned())?;
    if let Some(bad) = name.chars().find(|c| *c < ' ' || "\"*/:<>?\\|\x7f".contains(*c)) {
        return Err(format!("its name has {bad:?}, which FAT does not take"));
    }
    if name.ends_with(['.', ' ']) || name.starts_with(' ') {
        return Err("its name begins with a space or ends in a dot or space".into());
    }
    if name.encode_utf16().count() > 255 {
        return Err("its name is longer than 255 UTF-16 units".into());
    }
    Ok(name)
}

impl Names {
    /// Names for all entries of a directory. Those that fit 8.3 as they are come
    /// first, so that their short names do not depend on the others.
    pub fn assign<'a>(
        names: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<Vec<Name>, (usize, String)> {
        let mut all = Names::default();
        let mut found: Vec<Option<Name>> = Vec::new();
        for (i, name) in names.clone().enumerate() {
            let name = check(name).map_err(|why| (i, why))?;
            if !all.folded.insert(name.to_lowercase()) {
                return Err((i, "its name differs from another only in case".into()));
            }
            let fits = exact(name).filter(|short| all.taken.insert(*short));
            found.push(fits.map(|short| Name { short, long: long_unless(name, &short) }));
        }
        for (i, (slot, name)) in found.iter_mut().zip(names).enumerate() {
            if slot.is_none() {
                let name = check(name).map_err(|why| (i, why))?;
                let short = all.numbered(name);
                *slot = Some(Name { short, long: name.encode_utf16().collect() });
            }
        }
        Ok(found.into_iter().map(|n| n.expect("every slot was filled")).collect())
    }

    /// `LONGNA~1.TXT` and so on.
    fn numbered(&mut self, name: &str) -> Short {
        let (stem, extension) = match name.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() => (stem, extension),
            _ => (name, ""),
        };
        let mut basis = [b' '; 11];
        let stem: Vec<u8> = stem.chars().filter_map(short_char).take(6).collect();
        let extension: Vec<u8> = extension.chars().filter_map(short_char).take(3).collect();
        basis[..stem.len()].copy_from_slice(&stem);
        basis[8..8 + extension.len()].copy_from_slice(&extension);
        loop {
            let number = self.next.entry(basis).and_modify(|n| *n += 1).or_insert(1);
            let tail = format!("~{number}").into_bytes();
            let keep = stem.len().min(8 - tail.len());
            let mut short = basis;
            short[..8].fill(b' ');
            short[..keep].copy_from_slice(&stem[..keep]);
            short[keep..keep + tail.len()].copy_from_slice(&tail);
            if self.taken.insert(short) {
                return short;
            }
        }
    }
}

fn allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'()-@^_`{}~".contains(c)
}

fn short_char(c: char) -> Option<u8> {
    match c {
        ' ' | '.' => None,
        c if allowed(c) => Some(c.to_ascii_uppercase() as u8),
        _ => Some(b'_'),
    }
}

/// The name as 8.3, if only its case is lost.
fn exact(name: &str) -> Option<Short> {
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    let fits = |part: &str, max: usize| part.len() <= max && part.chars().all(allowed);
    if stem.is_empty() || !fits(stem, 8) || !fits(extension, 3) {
        return None;
    }
    let mut short = [b' '; 11];
    short[..stem.len()].copy_from_slice(stem.to_ascii_uppercase().as_bytes());
    short[8..8 + extension.len()].copy_from_slice(extension.to_ascii_uppercase().as_bytes());
    Some(short)
}

fn long_unless(name: &str, short: &Short) -> Vec<u16> {
    match short_text(short, 0).as_deref() {
        Some(shown) if shown == name => Vec::new(),
        _ => name.encode_utf16().collect(),
    }
}

/// What a short name reads as. `case` is Windows NT's byte: 8 for a stem in lower
/// case, 16 for an extension. `None` if it is not ASCII: the code page is unknown.
pub(super) fn short_text(short: &Short, case: u8) -> Option<String> {
    let part = |bytes: &[u8], lower: bool| {
        let text = std::str::from_utf8(bytes).ok()?.trim_end_matches(' ').to_owned();
        Some(if lower { text.to_ascii_lowercase() } else { text })
    };
    if !short.is_ascii() {
        return None;
    }
    let (stem, extension) = (part(&short[..8], case & 8 != 0)?, part(&short[8..], case & 16 != 0)?);
    Some(if extension.is_empty() { stem } else { format!("{stem}.{extension}") })
}

/// Ties the entries of a long name to the short one.
pub(super) fn checksum(short: &Short) -> u8 {
    short.iter().fold(0u8, |sum, b| sum.rotate_right(1).wrapping_add(*b))
}

/// The entries of the long name, last part first.
pub(super) fn long_entries(name: &Name) -> Vec<[u8; ENTRY_LEN]> {
    let count = name.long.len().div_ceil(UNITS);
    let entry = |i: usize| {
        let mut entry = [0; ENTRY_LEN];
        entry[0] = (i + 1) as u8 | if i + 1 == count { 0x40 } else { 0 };
        entry[11] = 0x0f;
        entry[13] = checksum(&name.short);
        for (j, at) in UNIT_AT.into_iter().enumerate() {
            let unit = match (i * UNITS + j).cmp(&name.long.len()) {
                std::cmp::Ordering::Less => name.long[i * UNITS + j],
                std::cmp::Ordering::Equal => 0,
                std::cmp::Ordering::Greater => 0xffff,
            };
            entry[at..at + 2].copy_from_slice(&unit.to_le_bytes());
        }
        entry
    };
    (0..count).rev().map(entry).collect()
}

/// Puts a long name together from its entries.
#[derive(Debug, Default)]
pub(super) struct LongName {
    units: Vec<u16>,
    left: u8,
    sum: u8,
}

impl LongName {
    /// Takes in one entry; one out of order forgets everything before it.
    pub fn push(&mut self, entry: &[u8]) {
        let (order, first) = (entry[0] & 0x3f, entry[0] & 0x40 != 0);
        if first && (1..=20).contains(&order) {
            *self = LongName {
                units: vec![0; usize::from(order) * UNITS],
                left: order,
                sum: entry[13],
            };
        }
        if order == 0 || order != self.left || entry[13] != self.sum {
            *self = LongName::default();
            return;
        }
        self.left -= 1;
        for (j, at) in UNIT_AT.into_iter().enumerate() {
            let unit = u16::from_le_bytes([entry[at], entry[at + 1]]);
            self.units[usize::from(self.left) * UNITS + j] = unit;
        }
    }

    /// The name, if it is complete and belongs to `short`.
    pub fn take(&mut self, short: &Short) -> Option<String> {
        let LongName { units, left, sum } = std::mem::take(self);
        if left != 0 || units.is_empty() || sum != checksum(short) {
            return None;
        }
        let end = units.iter().position(|u| *u == 0).unwrap_or(units.len());
        String::from_utf16(&units[..end]).ok()
    }
}

/// Date and time words, in UTC: from 1980 to 2107 in steps of two seconds.
/// Anything outside becomes the nearest time there is.
pub(super) fn encode_time(time: Mtime) -> (u16, u16) {
    const FIRST: i64 = 315_532_800;
    const LAST: i64 = 4_354_819_198;
    let secs = time.secs.clamp(FIRST, LAST);
    let (days, second) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let date = (year - 1980) << 9 | month << 5 | day;
    let clock = (second / 3600) << 11 | (second / 60 % 60) << 5 | (second % 60 / 2);
    (date as u16, clock as u16)
}

/// The time that the words say; months and days out of range are kept in range.
pub(super) fn decode_time(date: u16, clock: u16) -> Mtime {
    let (date, clock) = (i64::from(date), i64::from(clock));
    let days = days(1980 + (date >> 9), (date >> 5 & 15).clamp(1, 12), (date & 31).max(1));
    let second = (clock >> 11) * 3600 + (clock >> 5 & 63) * 60 + (clock & 31) * 2;
    Mtime::secs(days * 86_400 + second)
}

/// Year, month and day of a day since 1970, proleptic Gregorian. A year that
/// begins in March has its leap day last, which makes the months regular.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// The reverse of [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shorts(names: &[&str]) -> Vec<(String, usize)> {
        let names = Names::assign(names.iter().map(|n| n.as_bytes())).unwrap();
        names.iter().map(|n| (short_text(&n.short, 0).unwrap(), n.long.len())).collect()
    }

    #[test]
    fn short_names() {
        let found =
            shorts(&["BOOTX64.EFI", "loader.conf", "loader.config", "efi", ".hidden", "a b.c.d"]);
        let expected = [
            ("BOOTX64.EFI", 0),
            ("LOADER~1.CON", 11),
            ("LOADER~2.CON", 13),
            ("EFI", 3),
            ("HIDDEN~1", 7),
            ("ABC~1.D", 7),
        ];
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!((found.0.as_str(), found.1), expected);
        }
        assert_eq!(shorts(&["longer-one", "LONGER~1"])[0].0, "LONGER~2", "exact names go first");
    }

    #[test]
    fn names_that_fat_does_not_take() {
        let bad = |names: &[&[u8]]| Names::assign(names.iter().copied()).unwrap_err();
        assert!(bad(&[b"a:b"]).1.contains("':'"));
        assert!(bad(&[b"a\xff"]).1.contains("UTF-8"));
        assert!(bad(&[b"dot."]).1.contains("dot"));
        assert_eq!(bad(&[b"abc", b"x", b"ABC"]).0, 2);
    }

    #[test]
    fn long_names_come_back() {
        let text = "vmlinuz-6.12.0-größer-ÿ-🐧-13";
        let name = Names::assign([text.as_bytes()].into_iter()).unwrap().remove(0);
        let mut long = LongName::default();
        for entry in long_entries(&name) {
            long.push(&entry);
        }
        assert_eq!(long.take(&name.short).as_deref(), Some(text));
    }

    #[test]
    fn the_checksum_is_that_of_the_specification() {
        // Computed by hand for "A          ": rotate and add over 11 bytes.
        let mut sum = 0u32;
        for b in b"A          " {
            sum = (((sum & 1) << 7 | sum >> 1) + u32::from(*b)) & 0xff;
        }
        assert_eq!(u32::from(checksum(b"A          ")), sum);
    }

    #[test]
    fn times() {
        // date -u -d @N +'%Y-%m-%d %H:%M:%S'
        for (secs, date, clock) in [
            (0, 0x0021, 0),                                                   // before 1980
            (1_700_000_000, 43 << 9 | 11 << 5 | 14, 22 << 11 | 13 << 5 | 10), // 2023-11-14 22:13:20
            (951_782_400, 20 << 9 | 2 << 5 | 29, 0),                          // 2000-02-29
            (1 << 40, 127 << 9 | 12 << 5 | 31, 23 << 11 | 59 << 5 | 29),
        ] {
            assert_eq!(encode_time(Mtime::secs(secs)), (date, clock), "{secs}");
        }
        assert_eq!(
            decode_time(43 << 9 | 11 << 5 | 14, 22 << 11 | 13 << 5 | 10).secs,
            1_700_000_000
        );
    }
}
