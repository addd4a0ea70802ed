//! Dependency fields: the grammar, its limits, and what walking them yields.

use debian::{ArchQualifier, Architecture, Relations};
use proptest::prelude::*;

#[test]
fn groups_and_alternatives_keep_their_order() {
    let text = "a, b:any (>= 1:2-3) | c | d:i386(<<4),\n e ( = 5 ) , f (< 1), g (> 2),";
    let field = Relations::new(text).unwrap();
    let groups: Vec<Vec<String>> =
        field.groups().map(|g| g.alternatives().map(|r| r.to_string()).collect()).collect();
    let expected: [&[&str]; 5] = [
        &["a"],
        &["b:any (>= 1:2-3)", "c", "d:i386 (<< 4)"],
        &["e (= 5)"],
        &["f (<= 1)"],
        &["g (>= 2)"],
    ];
    assert_eq!(groups, expected);
    let second = field.groups().nth(1).unwrap();
    let qualifiers: Vec<_> = second.alternatives().map(|r| r.qualifier).collect();
    assert_eq!(qualifiers, [Some(ArchQualifier::Any), None, Some(ArchQualifier::Arch("i386"))]);
    let names: Vec<_> = field.names().collect();
    assert_eq!(names, ["a", "b", "c", "d", "e", "f", "g"]);
    let canonical = "a, b:any (>= 1:2-3) | c | d:i386 (<< 4), e (= 5), f (<= 1), g (>= 2)";
    assert_eq!(field.to_string(), canonical);
}

#[test]
fn restrictions_apply_to_architecture_and_profile() {
    let cases = [
        ("x", "amd64", &[][..], true),
        ("x [amd64]", "amd64", &[], true),
        ("x [amd64 i386]", "arm64", &[], false),
        ("x [!amd64]", "amd64", &[], false),
        ("x [!amd64 !i386]", "arm64", &[], true),
        ("x [linux-any]", "amd64", &[], true),
        ("x [linux-any]", "hurd-i386", &[], false),
        ("x <!nocheck>", "amd64", &[], true),
        ("x <!nocheck>", "amd64", &["nocheck"], false),
        ("x <stage1 cross>", "amd64", &["stage1"], false),
        ("x <stage1> <cross>", "amd64", &["cross"], true),
        ("x (>= 1) [amd64] <!nodoc>", "amd64", &["nodoc"], false),
    ];
    for (text, arch, profiles, expected) in cases {
        let field = Relations::new(text).unwrap();
        let relation = field.relations().next().unwrap();
        let arch = Architecture::new(arch).unwrap();
        assert_eq!(relation.restrictions.apply(&arch, profiles), expected, "{text} {arch}");
        assert_eq!(field.to_string(), text);
    }
}

#[test]
fn what_is_no_relation_is_refused_and_named() {
    let cases = [
        ("a | | b", "package name"),
        ("a (1)", "operator"),
        ("a (=> 1)", "operator"),
        ("a (>= )", "it is empty"),
        ("a (>= 1", "“)” is missing"),
        ("a [amd64", "“]” is missing"),
        ("a []", "no architecture is listed"),
        ("a [amd64 !i386]", "all or none"),
        ("a <>", "build profiles"),
        ("a <x", "build profiles"),
        ("a b", "something follows"),
        ("a:", "no architecture"),
        ("a:-x", "no architecture"),
        ("${shlibs:Depends}", "package name"),
        ("../etc/passwd", "package name"),
        ("a (>= 1) (<< 2)", "something follows"),
    ];
    for (text, message) in cases {
        let error = Relations::new(text).expect_err(text).to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn serde_keeps_the_text_and_checks_it() {
    let field = Relations::new("a | b (>= 2)").unwrap();
    let json = serde_json::to_string(&field).unwrap();
    assert_eq!(json, "\"a | b (>= 2)\"");
    assert_eq!(serde_json::from_str::<Relations>(&json).unwrap(), field);
    assert!(serde_json::from_str::<Relations>("\"a (\"").is_err());
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "[a-c:, |()<>=!\\[\\]1-2\\-\n]{0,40}") {
        debian::fuzzing::fuzz_relations(text.as_bytes());
        if let Ok(field) = Relations::new(&text) {
            let names: Vec<_> = field.relations().map(|r| r.name.to_owned()).collect();
            let fast: Vec<_> = field.names().map(str::to_owned).collect();
            prop_assert_eq!(names, fast);
        }
    }
}
