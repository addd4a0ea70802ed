//! GUIDs: the sixteen bytes as text shows them, and as a GPT stores them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A 128-bit identifier. The bytes are in the order of the text (big endian), which
/// is also what systemd hashes; a GPT stores the first three fields little endian
/// (UEFI specification, appendix A), see [`Guid::to_gpt`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Guid([u8; 16]);

/// The text is not a GUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a UUID (32 hexadecimal digits, or those as 8-4-4-4-12)")]
pub struct BadGuid(pub String);

/// Where each group of the dashed text begins and ends, in digits.
const GROUPS: [(usize, usize); 5] = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];

impl Guid {
    /// All zero: in a GPT, an entry that is not used.
    pub const NIL: Guid = Guid([0; 16]);

    /// From the bytes in textual order.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Guid(bytes)
    }

    /// The bytes in textual order.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// From the sixteen bytes of a GPT.
    pub fn from_gpt(bytes: [u8; 16]) -> Self {
        Guid(swap_fields(bytes))
    }

    /// The sixteen bytes for a GPT.
    pub fn to_gpt(self) -> [u8; 16] {
        swap_fields(self.0)
    }

    /// True if all bits are zero.
    pub fn is_nil(&self) -> bool {
        self.0 == [0; 16]
    }

    /// The same with the version and variant of a random UUID (RFC 9562, 5.4).
    pub fn as_version_4(mut self) -> Self {
        self.0[6] = (self.0[6] & 0x0f) | 0x40;
        self.0[8] = (self.0[8] & 0x3f) | 0x80;
        self
    }

    /// 32 digits without dashes.
    pub fn plain(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// A GUID known to be good at compile time: lower case and dashed. Anything
    /// else does not compile when used in a constant.
    pub const fn literal(text: &str) -> Self {
        let (text, mut bytes) = (text.as_bytes(), [0; 16]);
        assert!(text.len() == 36, "a literal GUID has 36 characters");
        let (mut at, mut digit) = (0, 0);
        while at < text.len() {
            if text[at] != b'-' {
                bytes[digit / 2] = (bytes[digit / 2] << 4) | hex_digit(text[at]);
                digit += 1;
            }
            at += 1;
        }
        assert!(digit == 32, "a literal GUID has 32 digits");
        Guid(bytes)
    }
}

const fn hex_digit(c: u8) -> u8 {
    match c {
        b'0'..=b'9' => c - b'0',
        b'a'..=b'f' => c - b'a' + 10,
        _ => panic!("a literal GUID is made of lower-case hexadecimal digits"),
    }
}

fn swap_fields(mut b: [u8; 16]) -> [u8; 16] {
    b[0..4].reverse();
    b[4..6].reverse();
    b[6..8].reverse();
    b
}

impl FromStr for Guid {
    type Err = BadGuid;

    fn from_str(text: &str) -> Result<Self, BadGuid> {
        let bad = || BadGuid(text.chars().take(64).collect());
        let plain: String = match text.len() {
            32 => text.to_owned(),
            36 => {
                let dash = |i: usize| text.as_bytes()[i] == b'-';
                if ![8, 13, 18, 23].into_iter().all(dash) {
                    return Err(bad());
                }
                text.chars().filter(|c| *c != '-').collect()
            }
            _ => return Err(bad()),
        };
        if plain.len() != 32 || !plain.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut bytes = [0; 16];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&plain[2 * i..2 * i + 2], 16).map_err(|_| bad())?;
        }
        Ok(Guid(bytes))
    }
}

impl TryFrom<String> for Guid {
    type Error = BadGuid;
    fn try_from(text: String) -> Result<Self, BadGuid> {
        text.parse()
    }
}

impl From<Guid> for String {
    fn from(guid: Guid) -> String {
        guid.to_string()
    }
}

impl fmt::Display for Guid {
    /// Lower case with dashes; upper case with the alternate flag (`{:#}`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut plain = self.plain();
        if f.alternate() {
            plain.make_ascii_uppercase();
        }
        for (i, (from, to)) in GROUPS.into_iter().enumerate() {
            let dash = if i == 0 { "" } else { "-" };
            write!(f, "{dash}{}", &plain[from..to])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpt_stores_the_first_three_fields_little_endian() {
        let esp = Guid::literal("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        // The bytes that every EFI system partition has in its entry.
        let stored = [
            0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e,
            0xc9, 0x3b,
        ];
        assert_eq!(esp.to_gpt(), stored);
        assert_eq!(Guid::from_gpt(stored), esp);
    }

    #[test]
    fn text_is_read_plain_or_dashed_and_nothing_else() {
        let esp = Guid::literal("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        for good in ["c12a7328f81f11d2ba4b00a0c93ec93b", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"] {
            assert_eq!(good.parse(), Ok(esp));
        }
        assert_eq!(format!("{esp:#}"), "C12A7328-F81F-11D2-BA4B-00A0C93EC93B");
        let bad = [
            "",
            "c12a7328",
            "c12a7328-f81f-11d2-ba4b00-a0c93ec93b",
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93",
            "g12a7328f81f11d2ba4b00a0c93ec93b",
            "+12a7328f81f11d2ba4b00a0c93ec93b",
            "c12a7328-f81f-11d2-ba4b-00a0c93ec-3b",
            "ü12a7328f81f11d2ba4b00a0c93ec9b",
        ];
        for bad in bad {
            assert!(bad.parse::<Guid>().is_err(), "{bad}");
        }
    }
}
