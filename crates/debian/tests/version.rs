//! The order of versions against dpkg's own answers, and its laws.

use std::cmp::Ordering;
use std::collections::HashSet;

use debian::{Version, VersionConstraint};
use proptest::prelude::*;

#[test]
fn order_is_dpkgs() {
    let mut pairs = 0;
    let lines = include_str!("data/version_order.txt").lines().filter(|l| !l.starts_with('#'));
    for line in lines {
        let parts: Vec<_> = line.split(' ').collect();
        let [a, order, b] = parts.as_slice() else { panic!("{line}") };
        let expected = match *order {
            "<" => Ordering::Less,
            "=" => Ordering::Equal,
            ">" => Ordering::Greater,
            other => panic!("{other}"),
        };
        let (a, b) = (Version::new(a).expect(a), Version::new(b).expect(b));
        assert_eq!(a.cmp(&b), expected, "{line}");
        if expected.is_eq() {
            assert_eq!(HashSet::from([a, b]).len(), 1, "{line}: equal versions hash equally");
        }
        pairs += 1;
    }
    assert!(pairs > 400, "{pairs}");
}

#[test]
fn parts_are_split_at_the_first_colon_and_the_last_dash() {
    let version = Version::new("2:1.2:3-4-5+b1").unwrap();
    assert_eq!(version.epoch(), 2);
    assert_eq!(version.upstream(), "1.2:3-4");
    assert_eq!(version.revision(), Some("5+b1"));
    assert_eq!(version.without_epoch(), "1.2:3-4-5+b1");
    assert_eq!(Version::new("1").unwrap().revision(), None);
}

/// What `dpkg --validate-version` of dpkg 1.21 refuses.
#[test]
fn bad_versions_are_refused() {
    for bad in ["", ":1", "a:1", "-1:1", "2147483648:1", "1:", "1-", "1 2", "1_2", "1-2_3", "1/2"] {
        assert!(Version::new(bad).is_err(), "{bad:?}");
    }
    assert!(Version::new(&"1".repeat(10_000)).is_err());
}

#[test]
fn constraints_hold_as_their_operators_say() {
    let cases = [
        ("<<", [true, false, false]),
        ("<=", [true, true, false]),
        ("=", [false, true, false]),
        (">=", [false, true, true]),
        (">>", [false, false, true]),
    ];
    for (operator, expected) in cases {
        let field = debian::Relations::new(&format!("x ({operator} 1.5-2)")).unwrap();
        let relation = field.relations().next().unwrap();
        let constraint: VersionConstraint = relation.constraint.unwrap().to_owned();
        let found = ["1.5-1", "0:1.5-02", "1.5-2+b1"]
            .map(|candidate| constraint.matches(&Version::new(candidate).unwrap()));
        assert_eq!(found, expected, "{operator}");
        assert_eq!(constraint.to_string(), format!("{operator} 1.5-2"));
    }
}

fn version() -> impl Strategy<Value = Version> {
    "([0-3]:)?[0-2]([0-2a.+~]{0,5}[0-9a])?(-[0-2a.+~]{1,3})?"
        .prop_filter_map("a version", |text| Version::new(&text).ok())
}

proptest! {
    #[test]
    fn order_is_total(a in version(), b in version(), c in version()) {
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        prop_assert_eq!(a == b, a.cmp(&b).is_eq());
        if a <= b && b <= c {
            prop_assert!(a <= c);
        }
    }

    #[test]
    fn a_tilde_is_before_and_a_suffix_after(a in version()) {
        let before = Version::new(&format!("{a}~")).unwrap();
        let after = Version::new(&format!("{a}.1")).unwrap();
        prop_assert!(before < a && a < after);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in ".{0,40}") {
        debian::fuzzing::fuzz_version(text.as_bytes());
    }
}
