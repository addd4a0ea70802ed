//! Comparing versions by the UAPI Version Format Specification
//! (<https://uapi-group.org/specifications/specs/version_format_specification/>),
//! for `[Match] ImageVersion=` and `MinimumVersion=`.

use std::cmp::Ordering;

/// Whether a character takes part in the comparison.
fn valid(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'~' | b'^')
}

/// Which of two versions is the newer one.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        a = skip(a, |c| !valid(c));
        b = skip(b, |c| !valid(c));
        // A tilde sorts before everything, the end included.
        match before(&mut a, &mut b, b'~') {
            Some(Ordering::Equal) => continue,
            Some(order) => return order,
            None => {}
        }
        if a.is_empty() || b.is_empty() {
            return (!a.is_empty()).cmp(&!b.is_empty());
        }
        let mut separated = false;
        for separator in *b"-^." {
            match before(&mut a, &mut b, separator) {
                Some(Ordering::Equal) => separated = true,
                Some(order) => return order,
                None => continue,
            }
            break;
        }
        if separated {
            continue;
        }
        let order = if a[0].is_ascii_digit() || b[0].is_ascii_digit() {
            number(&mut a, &mut b)
        } else {
            word(&mut a, &mut b)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// A side that begins with `c` is the older one; if both do, it is skipped.
fn before(a: &mut &[u8], b: &mut &[u8], c: u8) -> Option<Ordering> {
    match (a.first() == Some(&c), b.first() == Some(&c)) {
        (true, false) => Some(Ordering::Less),
        (false, true) => Some(Ordering::Greater),
        (true, true) => {
            (*a, *b) = (&a[1..], &b[1..]);
            Some(Ordering::Equal)
        }
        (false, false) => None,
    }
}

fn skip(text: &[u8], unwanted: impl Fn(u8) -> bool) -> &[u8] {
    let at = text.iter().position(|c| !unwanted(*c)).unwrap_or(text.len());
    &text[at..]
}

fn take<'a>(text: &mut &'a [u8], wanted: impl Fn(u8) -> bool) -> &'a [u8] {
    let rest = skip(text, wanted);
    let taken = &text[..text.len() - rest.len()];
    *text = rest;
    taken
}

/// Numbers of any length: without leading zeros the longer one is the larger. A
/// missing number is older than any.
fn number(a: &mut &[u8], b: &mut &[u8]) -> Ordering {
    let (x, y) = (take(a, |c| c.is_ascii_digit()), take(b, |c| c.is_ascii_digit()));
    let significant = |n| skip(n, |c| c == b'0');
    let present = (!x.is_empty()).cmp(&!y.is_empty());
    let (x, y) = (significant(x), significant(y));
    present.then(x.len().cmp(&y.len())).then_with(|| x.cmp(y))
}

fn word(a: &mut &[u8], b: &mut &[u8]) -> Ordering {
    let x = take(a, |c| c.is_ascii_alphabetic());
    let y = take(b, |c| c.is_ascii_alphabetic());
    x.cmp(y)
}

/// Whether `version` meets a condition such as `>=1.2`; without an operator it
/// must be equal.
pub fn satisfies(version: &str, condition: &str) -> bool {
    let holds = |operator: &str, order: Ordering| match operator {
        "==" => order.is_eq(),
        "!=" => order.is_ne(),
        ">=" => order.is_ge(),
        "<=" => order.is_le(),
        "<" => order.is_lt(),
        _ => order.is_gt(),
    };
    for operator in ["==", "!=", ">=", "<=", "<", ">"] {
        if let Some(other) = condition.strip_prefix(operator) {
            return holds(operator, compare(version, other));
        }
    }
    compare(version, condition).is_eq()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the specification, oldest first.
    #[test]
    fn the_order_of_the_specification() {
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
                assert_eq!(compare(a, b), i.cmp(&j), "{a} {b}");
            }
        }
    }

    #[test]
    fn equal_and_near_versions() {
        for (a, order, b) in [
            ("11", "=", "11"),
            ("systemd-123", "=", "systemd-123"),
            ("foo-123", ">", "bar-122"),
            ("123a", ">", "123"),
            ("12_3", ">", "12_2"),
            ("001", "=", "1"),
            ("1.10", ">", "1.9"),
            ("99999999999999999999", ">", "9"),
            ("bar-123", "<", "foo-122"),
            ("123.45-67.88", "<", "123.45-67.89"),
            ("A", "<", "a"),
            ("", "<", "1"),
            ("~", "<", ""),
        ] {
            let got = match compare(a, b) {
                Ordering::Less => "<",
                Ordering::Equal => "=",
                Ordering::Greater => ">",
            };
            assert_eq!(got, order, "{a} {b}");
        }
    }

    #[test]
    fn conditions() {
        for (v, c, holds) in [
            ("1.10", ">=1.9", true),
            ("1.10", "<1.2", false),
            ("1.10", "1.10", true),
            ("1.10", "!=1.10", false),
            ("1.10", "==1.10", true),
            ("2", ">1", true),
            ("2", "<=1", false),
        ] {
            assert_eq!(satisfies(v, c), holds, "{v} {c}");
        }
    }

    proptest::proptest! {
        #[test]
        fn it_is_an_order(a in "[a-c0-2.~^_-]{0,6}", b in "[a-c0-2.~^_-]{0,6}") {
            proptest::prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        }
    }
}
