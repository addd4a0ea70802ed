use super::*;
use rstest::rstest;

fn read(text: &str, name: &str) -> SourceList {
    let mut list = SourceList::default();
    list.add_bytes(text.as_bytes(), Path::new(name));
    list
}

fn one(text: &str, name: &str) -> Source {
    let mut list = read(text, name);
    assert!(list.errors.is_empty(), "{:?}", list.errors);
    assert_eq!(list.sources.len(), 1);
    list.sources.remove(0)
}

#[test]
fn both_formats_say_the_same() {
    let line = "deb [ arch=amd64,i386 trusted=no check-valid-until=no by-hash=force \
                signed-by=/usr/share/keyrings/a.gpg,0123456789abcdef0123456789ABCDEF01234567! \
                valid-until-max=86400 ] http://h/debian trixie main contrib # comment\n";
    let paragraph = "# comment\nTypes: deb\nURIs: http://h/debian\nSuites: trixie\n\
                Components: main\n# comment\n contrib\nArchitectures: amd64 i386\nTrusted: no\n\
                Check-Valid-Until: no\nBy-Hash: force\nValid-Until-Max: 86400\n\
                Signed-By: /usr/share/keyrings/a.gpg 0123456789abcdef0123456789ABCDEF01234567!\n";
    let mut a = one(line, "a.list");
    let mut b = one(paragraph, "a.sources");
    assert_eq!((&*a.defined_in, &*b.defined_in), ("a.list:1", "a.sources:2"));
    a.defined_in.clear();
    b.defined_in.clear();
    assert_eq!(a, b);
    assert_eq!(a.components, ["main", "contrib"]);
    assert_eq!(a.architectures, ["amd64", "i386"]);
    assert_eq!((a.trusted, a.check_valid_until, a.by_hash), (Some(false), false, ByHash::Force));
    assert_eq!(a.signed_by.keyrings, [Keyring::File("/usr/share/keyrings/a.gpg".into())]);
    let fingerprint = "0123456789ABCDEF0123456789ABCDEF01234567!";
    assert_eq!(a.signed_by.fingerprints, [fingerprint]);
    assert_eq!(a.valid_until_max, Some(86400));
}

#[test]
fn every_uri_goes_with_every_suite_and_disabled_ones_go_nowhere() {
    let text = "Types: deb deb-src\nURIs: http://a/d http://b/d\nSuites: x x-updates\n\
                Components: main\n\nTypes: deb\nURIs: http://c\nSuites: x\nComponents: main\n\
                Enabled: no\n\nTypes: deb-src\nURIs: http://c\nSuites: x\nComponents: main\n";
    let list = read(text, "a.sources");
    assert!(list.errors.is_empty(), "{:?}", list.errors);
    let found: Vec<_> = list.sources.iter().map(|s| format!("{} {}", s.uri, s.suite)).collect();
    assert_eq!(
        found,
        ["http://a/d x", "http://a/d x-updates", "http://b/d x", "http://b/d x-updates"]
    );
}

#[test]
fn a_key_can_stand_in_the_source() {
    let text = "Types: deb\nURIs: file:/srv\nSuites: ./\nSigned-By:\n \
                -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEabc\n =xyz\n \
                -----END PGP PUBLIC KEY BLOCK-----\n";
    let block = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEabc\n=xyz\n\
                 -----END PGP PUBLIC KEY BLOCK-----\n";
    assert_eq!(one(text, "a.sources").signed_by.keyrings, [Keyring::Inline(block.to_owned())]);
}

#[rstest]
#[case("deb http://h/d ./", "http://h/d/InRelease")]
#[case("deb http://h/d /", "http://h/d/InRelease")]
#[case("deb http://h/d sub/dir/", "http://h/d/sub/dir/InRelease")]
#[case("deb http://h/d trixie main", "http://h/d/dists/trixie/InRelease")]
#[case("deb http://h/d/ buster/updates main", "http://h/d/dists/buster/updates/InRelease")]
fn where_the_release_file_is(#[case] line: &str, #[case] uri: &str) {
    assert_eq!(one(line, "a.list").dist_uri("InRelease").unwrap().as_str(), uri);
}

#[rstest]
#[case("rpm http://h/d x main", "the type “rpm”")]
#[case("deb", "the URI is missing")]
#[case("deb http://h/d", "the suite is missing")]
#[case("deb http://h/d x", "no component")]
#[case("deb http://h/d ./ main", "flat archive")]
#[case("deb cdrom:[x]/ x main", "cannot")]
#[case("deb [arch=amd64 http://h/d x main", "“[”")]
#[case("deb [trusted] http://h/d x main", "NAME=VALUE")]
#[case("deb [trusted=maybe] http://h/d x main", "“maybe”")]
#[case("deb [truested=yes] http://h/d x main", "unknown option “truested”")]
#[case("deb [allow-weak=yes] http://h/d x main", "not supported")]
#[case("deb [signed-by=a.gpg] http://h/d x main", "a.gpg")]
#[case("deb [signed-by=ABCDEF01] http://h/d x main", "whole fingerprint")]
#[case("deb http://h/d ../../x main", "without “..”")]
#[case("deb [valid-until-max=-1] http://h/d x main", "number of seconds")]
fn errors_name_the_line(#[case] line: &str, #[case] says: &str) {
    let list = read(&format!("\n{line}\ndeb http://h/d good main\n"), "/etc/apt/x.list");
    let error = list.errors[0].to_string();
    assert!(error.starts_with("/etc/apt/x.list:2: "), "{error}");
    // “cannot” stands for the URI error's own words.
    assert!(
        error.contains(says) || says == "cannot" && error.contains("can be fetched"),
        "{error}"
    );
    assert_eq!(list.sources.len(), 1, "the good line counts");
}

#[test]
fn paragraph_errors_name_the_line() {
    for (text, says) in [
        ("URIs: http://h\nSuites: x\nComponents: main\n", "Types: is missing"),
        ("Types: deb\nSuites: x\nComponents: main\n", "URIs: is missing"),
        ("Types: deb\nURIs: http://h\nComponents: main\n", "Suites: is missing"),
        ("Types: deb\nURIs: http://h\nSuites: x\n", "no component"),
        ("Types: deb\nURIs: http://h\nSuites: x\nComponents: main\nSignedBy: /k\n", "“signedby”"),
        ("nonsense\n", "neither a field"),
    ] {
        let list = read(text, "a.sources");
        assert!(list.errors[0].to_string().contains(says), "{:?}", list.errors);
        assert!(list.errors[0].to_string().starts_with("a.sources:1: "));
    }
}

#[test]
fn architectures_are_those_of_the_build_unless_the_source_narrows_them() {
    let own = ["amd64".to_owned(), "i386".to_owned()];
    let wanted = |options: &str| {
        one(&format!("deb {options} http://h/d x main"), "a.list").wanted_architectures(&own)
    };
    assert_eq!(wanted(""), ["amd64", "i386"]);
    assert_eq!(wanted("[arch=i386,arm64]"), ["i386"]);
    assert_eq!(wanted("[arch-=i386]"), ["amd64"]);
    assert_eq!(wanted("[arch=amd64 arch+=i386,amd64]"), ["amd64", "i386"]);
}

#[test]
fn a_tree_is_read_like_etc_apt() {
    let dir = tempfile::tempdir().unwrap();
    let parts = dir.path().join("sources.list.d");
    fs::create_dir(&parts).unwrap();
    fs::write(dir.path().join("sources.list"), "deb http://1/ a main\n").unwrap();
    fs::write(parts.join("z.list"), "deb http://3/ a main\n").unwrap();
    fs::write(parts.join("b.sources"), "Types: deb\nURIs: http://2\nSuites: a\nComponents: m\n")
        .unwrap();
    fs::write(parts.join("old.list.disabled"), "garbage\n").unwrap();
    fs::write(parts.join("old.list~"), "garbage\n").unwrap();
    let sources = SourceList::read_strict(dir.path()).unwrap();
    let uris: Vec<_> = sources.iter().map(|s| s.uri.as_str()).collect();
    assert_eq!(uris, ["http://1/", "http://2", "http://3/"]);
    fs::write(parts.join("c.list"), "garbage\n").unwrap();
    assert_eq!(SourceList::read(dir.path()).sources.len(), 3);
    assert!(SourceList::read_strict(dir.path()).unwrap_err().to_string().contains("c.list:1"));
    assert!(SourceList::read_strict(Path::new("/nonexistent")).unwrap().is_empty());
}

fn mirrors(text: &str) -> Option<Mirrors> {
    default_mirror("debian", &read(text, "sources.list").sources)
}

#[test]
fn the_machine_names_the_mirror() {
    let found = mirrors(
        "deb https://third.example/linux/debian bookworm stable\n\
         deb [signed-by=/usr/share/keyrings/other.gpg] https://fourth.example/debian bookworm main\n\
         deb http://fifth.example/apt bookworm main\n\
         deb http://mirror.example/debian bookworm main non-free-firmware\n\
         deb http://mirror.example/debian bookworm-updates main\n\
         deb http://sec.example/debian-security bookworm-security main\n\
         deb http://mirror.example/debian-ports sid main\n",
    );
    let found = found.unwrap();
    assert_eq!(found.archive.as_str(), "http://mirror.example/debian");
    assert_eq!(found.security.unwrap().as_str(), "http://sec.example/debian-security");
    assert_eq!(found.ports.unwrap().as_str(), "http://mirror.example/debian-ports");
}

#[test]
fn a_mirror_with_another_path_counts_when_the_keyring_is_debians() {
    let found = mirrors(
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
         https://repo.example/artifactory/debian-remote trixie main\n",
    );
    let found = found.unwrap();
    assert_eq!(found.archive.path(), "/artifactory/debian-remote");
    assert_eq!(found.security, None);
}

#[test]
fn other_distributions_name_no_debian_mirror() {
    assert_eq!(mirrors("deb http://archive.example/ubuntu noble main universe\n"), None);
    assert_eq!(mirrors("deb http://h.example/linux/debian bookworm stable\n"), None);
    assert_eq!(mirrors(""), None);
    let debian = read("deb http://m.example/debian sid main\n", "sources.list").sources;
    assert_eq!(default_mirror("ubuntu", &debian), None);
}

#[test]
fn debian_sources_are_those_that_mkosi_writes() {
    let mirrors = Mirrors::beside(&Uri::parse("http://m.example/debian/").unwrap());
    let show = |release: &str, options: &DebianOptions| {
        let sources = debian_sources(release, &mirrors, options).unwrap();
        let one = |s: &Source| format!("{} {} {}", s.uri.path(), s.suite, s.components.join(","));
        sources.iter().map(one).collect::<Vec<_>>()
    };
    let options = DebianOptions::default();
    assert_eq!(
        show("trixie", &options),
        [
            "/debian/ trixie main",
            "/debian/ trixie-updates main",
            "/debian-security trixie-security main",
        ]
    );
    assert_eq!(show("sid", &options), ["/debian/ sid main"]);
    let components = vec!["main".to_owned(), "contrib".to_owned()];
    let all = DebianOptions { components, backports: true, debug: true, ..options.clone() };
    assert_eq!(
        show("bookworm", &all),
        [
            "/debian/ bookworm main,contrib",
            "/debian-debug bookworm-debug main,contrib",
            "/debian/ bookworm-updates main,contrib",
            "/debian-security bookworm-security main,contrib",
            "/debian/ bookworm-backports main,contrib",
        ]
    );
    let unknown = Mirrors { security: None, ..mirrors.clone() };
    let error = debian_sources("trixie", &unknown, &options).unwrap_err();
    assert_eq!(error, DebianSourcesError::NoSecurity("trixie".to_owned()));
    assert_eq!(debian_sources("sid", &unknown, &options).unwrap().len(), 1);
}
