//! What apt itself makes of Debian's archive, compared with what this crate makes of it.
//!
//! The signed files and indices are fetched by the oracle's own `apt-get update`, from
//! the mirror that this machine's sources name; both sides then read the same files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use apt::archive::{Archive, LoadedSource, Settings};
use apt::sources::{Keyring, SignedBy};
use apt::{
    Cache, DebianOptions, FetchOptions, KeyRoots, Mirrors, Origin, Pins, Source, SourceList, Uri,
    debian_sources, default_mirror,
};
use debian::PackageRecord;
use report::Silent;
use testkit::oracle;

/// Debian's archive as apt fetched it: `dists/SUITE/…` below one directory.
struct Mirror {
    dir: tempfile::TempDir,
    suites: Vec<String>,
}

/// Fetched once for all tests.
fn mirror() -> &'static Mirror {
    static MIRROR: OnceLock<Mirror> = OnceLock::new();
    MIRROR.get_or_init(|| {
        let host = SourceList::read(Path::new("/etc/apt"));
        let mirrors = default_mirror("debian", &host.sources)
            .expect("the sources of this machine name a Debian mirror");
        fetch_with_apt(&mirrors)
    })
}

fn options(dir: &Path) -> Vec<String> {
    let dir = dir.display();
    vec![
        "-o".to_owned(),
        format!("Dir::Etc={dir}/etc"),
        "-o".to_owned(),
        format!("Dir::State={dir}/state"),
        "-o".to_owned(),
        format!("Dir::State::status={dir}/status"),
        "-o".to_owned(),
        format!("Dir::Cache={dir}/cache"),
        "-o".to_owned(),
        "APT::Sandbox::User=root".to_owned(),
        "-o".to_owned(),
        "Acquire::Languages=none".to_owned(),
        "-o".to_owned(),
        "Acquire::GzipIndexes=false".to_owned(),
        "-o".to_owned(),
        "APT::Architecture=amd64".to_owned(),
    ]
}

fn apt(program: &str, dir: &Path, arguments: &[&str]) -> String {
    let mut all = options(dir);
    all.extend(arguments.iter().map(|a| (*a).to_owned()));
    oracle::stdout(program, all, &[dir])
}

/// A directory for apt with these sources.
fn state(dir: &Path, sources: &str) {
    for sub in
        ["etc/preferences.d", "etc/apt.conf.d", "state/lists/partial", "cache/archives/partial"]
    {
        fs::create_dir_all(dir.join(sub)).unwrap();
    }
    fs::write(dir.join("status"), "").unwrap();
    fs::write(dir.join("etc/sources.list"), sources).unwrap();
}

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

fn fetch_with_apt(mirrors: &Mirrors) -> Mirror {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    let mut suites = Vec::new();
    for release in ["bookworm", "trixie"] {
        let options = DebianOptions { backports: true, ..DebianOptions::default() };
        for source in debian_sources(release, mirrors, &options).unwrap() {
            lines += &format!("deb [signed-by={KEYRING}] {} {} main\n", source.uri, source.suite);
            suites.push(source.suite);
        }
    }
    state(dir.path(), &lines);
    apt("apt-get", dir.path(), &["update"]);
    let format = "$(RELEASE) $(FILENAME)";
    let targets =
        apt("apt-get", dir.path(), &["indextargets", "--format", format, "Created-By: Packages"]);
    for line in targets.lines() {
        let (suite, file) = line.split_once(' ').unwrap();
        let release = file.replace("_main_binary-amd64_Packages", "_InRelease");
        let dist = dir.path().join("mirror/dists").join(suite);
        fs::create_dir_all(dist.join("main/binary-amd64")).unwrap();
        fs::copy(file, dist.join("main/binary-amd64/Packages")).unwrap();
        fs::copy(release, dist.join("InRelease")).unwrap();
    }
    Mirror { dir, suites }
}

fn sources(suites: &[String], keyring: Keyring) -> Vec<Source> {
    let uri =
        Uri::parse(&format!("file:{}", mirror().dir.path().join("mirror").display())).unwrap();
    let signed_by = SignedBy { keyrings: vec![keyring], fingerprints: Vec::new() };
    let one =
        |suite: &String| Source::new(uri.clone(), suite, &["main".to_owned()], signed_by.clone());
    suites.iter().map(one).collect()
}

fn load(suites: &[String], cache: &Path, keyring: Keyring) -> Vec<LoadedSource> {
    let settings = Settings {
        architectures: vec!["amd64".to_owned()],
        keys: KeyRoots { roots: vec![oracle::root()], debian_by_default: false },
        check_signatures: true,
    };
    let archive = Archive::new(Cache::open(cache).unwrap(), FetchOptions::default(), settings);
    archive.refresh(&sources(suites, keyring), SystemTime::now(), &Silent).unwrap()
}

type Row = (String, String, String, String, u64, String);

fn row(record: &PackageRecord) -> Row {
    (
        record.name.to_string(),
        record.version.as_str().to_owned(),
        record.architecture.to_string(),
        record.sha256.unwrap().to_string(),
        record.size,
        record.filename.as_deref().unwrap().to_owned(),
    )
}

/// The packages that apt knows with one suite as its only source; all versions of
/// those in `several`.
fn rows_of_apt(suite: &str, several: &[&str]) -> BTreeSet<Row> {
    let dir = tempfile::tempdir().unwrap();
    let root = mirror().dir.path();
    let keyring = format!("signed-by={KEYRING}");
    let line = format!("deb [{keyring}] file:{}/mirror {suite} main\n", root.display());
    state(dir.path(), &line);
    let with = |program: &str, arguments: &[&str]| {
        let mut all = options(dir.path());
        all.extend(arguments.iter().map(|a| (*a).to_owned()));
        oracle::stdout(program, all, &[dir.path(), root])
    };
    with("apt-get", &["update"]);
    let mut text = with("apt-cache", &["dumpavail"]);
    // `dumpavail` shows the best version of each package; some suites have two.
    let mut arguments = vec!["show"];
    arguments.extend(several);
    if !several.is_empty() {
        text += &with("apt-cache", &arguments);
    }
    // Read without this project's parser: it is what is being tested.
    let stanza = |stanza: &str| {
        let field = |name: &str| {
            let mut lines = stanza.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap().to_owned()
        };
        (
            field("Package"),
            field("Version"),
            field("Architecture"),
            field("SHA256"),
            field("Size").parse().unwrap(),
            field("Filename"),
        )
    };
    text.split("\n\n").filter(|s| !s.trim().is_empty()).map(stanza).collect()
}

/// The embedded certificates accept what Debian signs, and each suite has exactly the
/// packages that apt sees.
#[test]
#[ignore = "oracle"]
fn the_same_packages_as_apt() {
    let cache = tempfile::tempdir().unwrap();
    let suites = &mirror().suites;
    assert!(suites.iter().any(|s| s == "trixie-security"), "{suites:?}");
    let loaded = load(suites, cache.path(), Keyring::DebianArchive);
    for (suite, source) in suites.iter().zip(&loaded) {
        let ours: BTreeSet<Row> = source.records().map(|(record, _)| row(record)).collect();
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        ours.iter().for_each(|row| *count.entry(&row.0).or_default() += 1);
        let several: Vec<_> =
            count.iter().filter(|(_, n)| **n > 1).map(|(name, _)| *name).collect();
        assert!(several.len() < 100, "{suite}: {several:?}");
        let theirs = rows_of_apt(suite, &several);
        let missing: Vec<_> = theirs.difference(&ours).take(5).collect();
        let extra: Vec<_> = ours.difference(&theirs).take(5).collect();
        assert!(missing.is_empty() && extra.is_empty(), "{suite}: {missing:?} {extra:?}");
        if matches!(suite.as_str(), "trixie" | "bookworm") {
            assert!(ours.len() > 50_000, "{suite}: {}", ours.len());
        }
        // The second time everything comes from the cache, and is the same.
    }
    let again = load(suites, cache.path(), Keyring::File(KEYRING.into()));
    for (first, second) in loaded.iter().zip(&again) {
        assert!(first.indices.iter().zip(&second.indices).all(|(a, b)| a.records == b.records));
    }
}

/// One byte more or less in a file that Debian signed.
#[test]
#[ignore = "oracle"]
fn altered_files_of_debian_are_refused() {
    use apt::openpgp::{Trust, verify_clear_signed};
    let path = mirror().dir.path().join("mirror/dists/trixie/InRelease");
    let good = fs::read(&path).unwrap();
    let trust = Trust::debian_archive();
    let now = SystemTime::now();
    let verified = verify_clear_signed(&good, &trust, now).unwrap();
    assert!(!verified.signers.is_empty());
    // Debian's Release files hold no line that starts with a dash.
    let whole = String::from_utf8(good.clone()).unwrap();
    let (_, body) = whole.split_once("\n\n").unwrap();
    let (body, _) = body.split_once("\n-----BEGIN PGP SIGNATURE-----").unwrap();
    let ours = String::from_utf8(verified.text).unwrap();
    assert_eq!(ours.trim_end_matches('\n'), body);
    for at in [100, 1000, 50_000, good.len() - 500] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(verify_clear_signed(&bad, &trust, now).is_err(), "byte {at}");
        let mut cut = good.clone();
        cut.remove(at);
        assert!(verify_clear_signed(&cut, &trust, now).is_err(), "byte {at}");
    }
}

const PREFERENCES: &str = "\
Explanation: general ones
Package: *
Pin: release n=trixie-backports
Pin-Priority: 600

Package: *
Pin: release a=stable-updates, l=Debian
Pin-Priority: 450

Package: *
Pin: release v=12*, o=Debian
Pin-Priority: 300

Package: linux-* libc6
Pin: release n=bookworm
Pin-Priority: 1001

Package: /^gcc-1[0-9]$/ src:openssl
Pin: version *deb12*
Pin-Priority: -5

Package: systemd systemd-* udev
Pin: release n=trixie-backports
Pin-Priority: 990

Package: python3 python3-minimal:any perl:amd64 perl-base:i386
Pin: version 3.1[13]*
Pin-Priority: 777

Package: bash
Pin: release c=main, b=amd64
Pin-Priority: 111

Package: bash dash
Pin: release *
Pin-Priority: 222

Package: curl
Pin: origin \"\"
Pin-Priority: 333

Package: wget
Pin: origin nowhere.example
Pin-Priority: 444
";

/// name → version → (its priority, the priorities of the sources that have it).
type Policy = BTreeMap<String, BTreeMap<String, (i32, Vec<i32>)>>;

fn policy_of_apt(text: &str) -> Policy {
    let mut policy = Policy::new();
    let (mut name, mut version) = (String::new(), String::new());
    for line in text.lines() {
        let words: Vec<_> = line.trim_start_matches([' ', '*']).split(' ').collect();
        let indent = line.len() - line.trim_start_matches([' ', '*']).len();
        if indent == 0 {
            name = line.trim_end_matches(':').to_owned();
        } else if indent == 5 {
            version = words[0].to_owned();
            let entry = (words[1].parse().unwrap(), Vec::new());
            policy.entry(name.clone()).or_default().insert(version.clone(), entry);
        } else if indent > 5 {
            let versions = policy.get_mut(&name).unwrap();
            versions.get_mut(&version).unwrap().1.push(words[0].parse().unwrap());
        }
    }
    for versions in policy.values_mut() {
        versions.values_mut().for_each(|(_, sources)| sources.sort());
    }
    policy
}

fn our_policy(loaded: &[LoadedSource], pins: &Pins, names: &BTreeSet<String>) -> Policy {
    let mut found: BTreeMap<(String, String), (&PackageRecord, Vec<&Origin>)> = BTreeMap::new();
    for (record, origin) in loaded.iter().flat_map(LoadedSource::records) {
        if names.contains(record.name.as_str()) {
            let key = (record.name.to_string(), record.version.as_str().to_owned());
            found.entry(key).or_insert((record, Vec::new())).1.push(origin);
        }
    }
    let mut policy = Policy::new();
    for ((name, version), (record, origins)) in found {
        let mut sources: Vec<_> = origins.iter().map(|o| pins.source_priority(o)).collect();
        sources.sort();
        let entry = (pins.priority(record, &origins), sources);
        policy.entry(name).or_default().insert(version, entry);
    }
    policy
}

#[test]
#[ignore = "oracle"]
fn priorities_are_those_of_apt_cache_policy() {
    let root = mirror().dir.path();
    let cache = tempfile::tempdir().unwrap();
    let suites = &mirror().suites;
    let loaded = load(suites, cache.path(), Keyring::DebianArchive);
    let named = "bash dash curl wget libc6 openssl libssl3 libssl3t64 systemd systemd-sysv udev \
                 python3 python3-minimal perl perl-base gcc-12 gcc-13 gcc-14 hello base-files";
    let mut names: BTreeSet<String> = named.split_whitespace().map(str::to_owned).collect();
    for (number, (record, _)) in loaded.iter().flat_map(LoadedSource::records).enumerate() {
        if number % 97 == 0 || record.name.as_str().starts_with("linux-image") {
            names.insert(record.name.to_string());
        }
    }
    for (preferences, target) in [
        ("", None),
        (PREFERENCES, None),
        (PREFERENCES, Some("trixie-backports")),
        ("", Some("oldstable")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let line = |suite: &String| {
            format!("deb [signed-by={KEYRING}] file:{}/mirror {suite} main\n", root.display())
        };
        state(dir.path(), &suites.iter().map(line).collect::<String>());
        fs::write(dir.path().join("etc/preferences"), preferences).unwrap();
        let mut all = options(dir.path());
        if let Some(target) = target {
            all.extend(["-o".to_owned(), format!("APT::Default-Release={target}")]);
        }
        let mut update = all.clone();
        update.push("update".to_owned());
        oracle::stdout("apt-get", update, &[dir.path(), root]);
        all.push("policy".to_owned());
        all.extend(names.iter().cloned());
        let theirs = policy_of_apt(&oracle::stdout("apt-cache", all, &[dir.path(), root]));

        let mut pins =
            Pins::read(&dir.path().join("etc"), &debian::Architecture::new("amd64").unwrap())
                .unwrap();
        if let Some(target) = target {
            pins.set_target(target).unwrap();
        }
        let ours = our_policy(&loaded, &pins, &names);
        assert!(ours.len() > 1000, "{}", ours.len());
        for (name, versions) in &ours {
            assert_eq!(Some(versions), theirs.get(name), "{name}, target {target:?}");
        }
    }
}

/// Records of `.deb` files that dpkg-deb built, in every compression.
#[test]
#[ignore = "oracle"]
fn local_packages_are_read_as_dpkg_deb_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let debs = dir.path().join("my debs");
    fs::create_dir(&debs).unwrap();
    for (number, compression) in ["xz", "gzip", "zstd", "none"].iter().enumerate() {
        let tree = dir.path().join(format!("tree{number}"));
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        let control = format!(
            "Package: local{number}\nVersion: 1:{number}.0-1\nArchitecture: all\n\
             Maintainer: T <t@example.org>\nDepends: libc6 (>= 2.{number}), bash | dash\n\
             Description: x\n y\n"
        );
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        let file = debs.join(format!("local{number}.deb"));
        oracle::stdout(
            "dpkg-deb",
            [
                "--root-owner-group".into(),
                "--uniform-compression".into(),
                format!("-Z{compression}"),
                "--build".into(),
                tree.display().to_string(),
                file.display().to_string(),
            ],
            &[dir.path()],
        );
    }
    let loaded = LoadedSource::from_dir(&debs, "local").unwrap();
    assert_eq!(loaded.records().count(), 4);
    for (record, _) in loaded.records() {
        let package = apt::PackageFile::of(record, &loaded.source).unwrap();
        let path: PathBuf = package.uris[0].file_path().unwrap();
        let shown = path.display().to_string();
        let field = |name: &str| {
            let out = oracle::stdout("dpkg-deb", ["--field", &shown, name], &[dir.path()]);
            out.trim_end().to_owned()
        };
        assert_eq!(record.name.as_str(), field("Package"));
        assert_eq!(record.version.as_str(), field("Version"));
        assert_eq!(record.depends.as_str(), field("Depends"));
        let sum = oracle::stdout("sha256sum", [&shown], &[dir.path()]);
        assert!(sum.starts_with(&package.sha256.to_string()));
        assert_eq!(fs::metadata(&path).unwrap().len(), record.size);
    }
}
