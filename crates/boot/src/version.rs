//! Version order as the UAPI group's Version Format Specification (UAPI.10)
//! defines it: what sorts boot entries, kernels and A/B partitions.

use std::cmp::Ordering;

/// Compares two versions. Bytes outside `[A-Za-z0-9~^.-]` only separate.
pub fn compare(a: impl AsRef<[u8]>, b: impl AsRef<[u8]>) -> Ordering {
    let (mut a, mut b) = (a.as_ref(), b.as_ref());
    loop {
        (a, b) = (skip_separators(a), skip_separators(b));
        // Before the end of a version sorts only a tilde.
        if let Some(order) = marker(&mut a, &mut b, b'~') {
            return order;
        }
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        for byte in [b'-', b'^', b'.'] {
            if let Some(order) = marker(&mut a, &mut b, byte) {
                return order;
            }
        }
        let order = if starts_with_digit(a) || starts_with_digit(b) {
            number(take(&mut a, u8::is_ascii_digit), take(&mut b, u8::is_ascii_digit))
        } else {
            take(&mut a, u8::is_ascii_alphabetic).cmp(take(&mut b, u8::is_ascii_alphabetic))
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// If one side alone begins with `byte`, it is the lower; if both do, it is taken off.
fn marker(a: &mut &[u8], b: &mut &[u8], byte: u8) -> Option<Ordering> {
    match (a.first() == Some(&byte), b.first() == Some(&byte)) {
        (true, true) => {
            (*a, *b) = (&a[1..], &b[1..]);
            None
        }
        (true, false) => Some(Ordering::Less),
        (false, true) => Some(Ordering::Greater),
        (false, false) => None,
    }
}

fn skip_separators(s: &[u8]) -> &[u8] {
    let meaning = |b: &u8| b.is_ascii_alphanumeric() || b"~^.-".contains(b);
    &s[s.iter().position(meaning).unwrap_or(s.len())..]
}

fn starts_with_digit(s: &[u8]) -> bool {
    s.first().is_some_and(u8::is_ascii_digit)
}

fn take<'a>(s: &mut &'a [u8], wanted: fn(&u8) -> bool) -> &'a [u8] {
    let (taken, rest) = s.split_at(s.iter().position(|b| !wanted(b)).unwrap_or(s.len()));
    *s = rest;
    taken
}

/// By value, whatever the length: no number type is large enough.
fn number(a: &[u8], b: &[u8]) -> Ordering {
    let trim = |s: &[u8]| s.iter().position(|b| *b != b'0').unwrap_or(s.len());
    let (a, b) = (&a[trim(a)..], &b[trim(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_specification() {
        let ascending = [
            "122.1",
            "123~rc1-1",
            "123",
            "123-a",
            "123-a.1",
            "123-1",
            "123-1.1",
            "123^post1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124-1",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} and {b}");
            }
        }
        for (a, b, order) in [
            ("11α", "11β", Ordering::Equal),
            ("B", "a", Ordering::Less),
            ("", "0", Ordering::Less),
            ("0", "", Ordering::Greater),
            ("", "~", Ordering::Greater),
            ("1_", "1", Ordering::Equal),
            ("1+", "1", Ordering::Equal),
            ("_1", "1", Ordering::Equal),
            ("1_2_3", "1.3.3", Ordering::Greater),
            ("0001", "1", Ordering::Equal),
            ("99999999999999999999999", "100000000000000000000000", Ordering::Less),
        ] {
            assert_eq!(compare(a, b), order, "{a} and {b}");
            assert_eq!(compare(b, a), order.reverse(), "{b} and {a}");
        }
    }

    #[test]
    fn kernels_as_debian_names_them() {
        assert!(compare("6.12.9+deb13-amd64", "6.12.117+deb13-amd64").is_lt());
        assert!(compare("6.1.0-9-amd64", "6.1.0-37-amd64").is_lt());
        assert!(compare("6.12~rc4-amd64", "6.12.1-amd64").is_lt());
    }
}
