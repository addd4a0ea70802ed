//! A signed archive on a loopback server that misbehaves on request.
#![allow(dead_code, reason = "each test file uses a part")]

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use apt::archive::{Archive, Settings};
use apt::fetch::FetchOptions;
use apt::keys::KeyRoots;
use apt::sources::{Keyring, SignedBy, Source};
use apt::{Cache, Uri};
use sequoia_openpgp::Cert;
use server::Server;
use store::Key;
use testkit::openpgp;
pub use testkit::openpgp::armored;
pub use testkit::server;

/// The time of the tests: 2026-01-10.
pub const NOW: i64 = 1_768_003_200;
pub const DAY: i64 = 86_400;

pub fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap())
}

/// A key pair made ten days before `NOW`.
pub fn key(valid_days: Option<u64>) -> Cert {
    openpgp::key(time(NOW - 10 * DAY), valid_days)
}

pub fn clear_sign(cert: &Cert, text: &str, at: i64) -> Vec<u8> {
    openpgp::clear_sign(cert, text, time(at))
}

pub fn detach_sign(cert: &Cert, text: &str, at: i64) -> Vec<u8> {
    openpgp::detach_sign(cert, text, time(at))
}

/// Bytes that are not all the same.
pub fn noise(size: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..size).map(|_| next()).collect()
}

pub struct Package {
    pub name: &'static str,
    pub bytes: Vec<u8>,
}

/// A tiny archive: suite `trixie`, component `main`, on a server.
pub struct Repo {
    pub server: Server,
    pub cert: Cert,
    pub packages: Vec<Package>,
    /// Fields that the Release file has more.
    pub fields: String,
    pub date: i64,
    pub by_hash: bool,
}

impl Repo {
    pub fn new() -> Repo {
        let packages = vec![
            Package { name: "a", bytes: noise(300_000, 1) },
            Package { name: "b", bytes: noise(1000, 2) },
            Package { name: "c", bytes: noise(70_000, 3) },
        ];
        let repo = Repo {
            server: Server::start(),
            cert: key(None),
            packages,
            fields: "Suite: stable\nCodename: trixie\n".to_owned(),
            date: NOW - DAY,
            by_hash: true,
        };
        repo.publish();
        repo
    }

    pub fn deb_path(name: &str) -> String {
        format!("/debian/pool/main/{name}_1_amd64.deb")
    }

    pub fn packages_text(&self) -> String {
        let one = |p: &Package| {
            let sum = Key::of(&p.bytes);
            let (name, size) = (p.name, p.bytes.len());
            format!(
                "Package: {name}\nVersion: 1\nArchitecture: amd64\nDepends: b | c (>= 1)\n\
                 Filename: pool/main/{name}_1_amd64.deb\nSize: {size}\nSHA256: {sum}\n\n"
            )
        };
        self.packages.iter().map(one).collect()
    }

    pub fn release_text(&self) -> String {
        let text = self.packages_text();
        let compressed = gz(text.as_bytes());
        let line =
            |path: &str, bytes: &[u8]| format!(" {} {} {path}\n", Key::of(bytes), bytes.len());
        let date = jiff::Timestamp::from_second(self.date).unwrap();
        let date = date.strftime("%a, %d %b %Y %H:%M:%S UTC");
        let by_hash = if self.by_hash { "Acquire-By-Hash: yes\n" } else { "" };
        format!(
            "Origin: Test\nLabel: Test\n{}Date: {date}\n{by_hash}Architectures: amd64\nComponents: main\n\
             Description: with\n - a dash\nSHA256:\n{}{}",
            self.fields,
            line("main/binary-amd64/Packages", text.as_bytes()),
            line("main/binary-amd64/Packages.gz", &compressed),
        )
    }

    /// Puts everything on the server.
    pub fn publish(&self) {
        self.publish_packages();
        let text = self.release_text();
        self.put("InRelease", clear_sign(&self.cert, &text, self.date));
    }

    /// As `publish`, with `Release` and `Release.gpg`.
    pub fn publish_detached(&self) {
        self.publish_packages();
        let text = self.release_text();
        self.put("Release", text.clone().into_bytes());
        self.put("Release.gpg", detach_sign(&self.cert, &text, self.date));
        self.server.remove("/debian/dists/trixie/InRelease");
    }

    pub fn publish_packages(&self) {
        let compressed = gz(self.packages_text().as_bytes());
        self.server.remove_below("/debian/dists/trixie/main");
        if self.by_hash {
            let path = format!("main/binary-amd64/by-hash/SHA256/{}", Key::of(&compressed));
            self.put(&path, compressed.clone());
        }
        self.put("main/binary-amd64/Packages.gz", compressed);
        for package in &self.packages {
            self.server.put(&Self::deb_path(package.name), package.bytes.clone());
        }
    }

    pub fn put(&self, file: &str, bytes: Vec<u8>) {
        self.server.put(&format!("/debian/dists/trixie/{file}"), bytes);
    }

    pub fn source(&self) -> Source {
        let uri = Uri::parse(&format!("{}/debian", self.server.base())).unwrap();
        let keyrings = vec![Keyring::Inline(armored(&self.cert))];
        let signed_by = SignedBy { keyrings, fingerprints: Vec::new() };
        let mut source = Source::new(uri, "trixie", &["main".to_owned()], signed_by);
        source.defined_in = "test".to_owned();
        source
    }
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Quick to give up.
pub fn options() -> FetchOptions {
    FetchOptions {
        threads: 4,
        retries: 2,
        backoff: Duration::from_millis(5),
        connect_timeout: Duration::from_secs(2),
        stall_timeout: Duration::from_millis(400),
        max_redirects: 5,
        ..FetchOptions::default()
    }
}

pub fn settings() -> Settings {
    Settings {
        architectures: vec!["amd64".to_owned()],
        keys: KeyRoots { roots: vec!["/nonexistent".into()], debian_by_default: false },
        check_signatures: true,
    }
}

pub fn archive(cache: &std::path::Path) -> Archive {
    Archive::new(Cache::open(cache).unwrap(), options(), settings())
}

pub fn offline(cache: &std::path::Path) -> Archive {
    let options = FetchOptions { offline: true, ..options() };
    Archive::new(Cache::open(cache).unwrap(), options, settings())
}

/// An error with all its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

/// Every file below a directory.
pub fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        // Nothing was kept there yet.
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() { left.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}
