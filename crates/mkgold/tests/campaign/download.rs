//! An archive that misbehaves, met by the whole command line.
//!
//! The packages are Debian's; the archive that offers them is the test's own, with its own
//! key, so that it can lie about everything.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use testkit::openpgp;
use testkit::server::{Server, Trick};

use crate::common::{self, SMALL, command, fail, mkgold, open_dir, succeed, sums, write_project};
use crate::project;
use crate::watch::{Places, Watch};

const DAY: Duration = Duration::from_secs(86_400);
const INRELEASE: &str = "/debian/dists/trixie/InRelease";
const INDEX: &str = "/debian/dists/trixie/main/binary-amd64/Packages";

/// A package as the lock names it.
struct Package {
    path: String,
    stanza: String,
}

/// The archive, the project that uses it, and what was built from it.
struct Ground {
    server: Server,
    cert: sequoia_openpgp::Cert,
    packages: Vec<Package>,
    work: tempfile::TempDir,
    /// When the test began: what is offered does not change while it runs.
    now: SystemTime,
    expected: BTreeMap<String, String>,
    /// Messages that do not say what is wrong.
    unclear: RefCell<Vec<String>>,
}

/// `key = "value"` or `key = value` of a lock's `[[package]]`.
fn field<'a>(block: &'a str, key: &str) -> &'a str {
    let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    line.unwrap_or_else(|| panic!("no {key} in {block}")).trim_matches('"')
}

impl Ground {
    fn new() -> Ground {
        let work = open_dir();
        // What Debian has.
        let real = work.path().join("real");
        project(&real, SMALL, &[]);
        let lock = fs::read_to_string(real.join("mkgold.lock")).unwrap();
        let server = Server::start();
        let packages = lock.split("[[package]]").skip(1).map(|block| offer(&server, block));
        let packages: Vec<Package> = packages.collect();
        let cert = openpgp::key(SystemTime::now() - 30 * DAY, None);
        let now = SystemTime::now();
        let mut ground = Ground {
            now,
            server,
            cert,
            packages,
            work,
            expected: BTreeMap::new(),
            unclear: RefCell::default(),
        };
        ground.publish(1, "");
        ground.write_project();
        succeed(ground.command("cache").arg("build"));
        ground.expected = sums(&ground.at("output"));
        assert!(ground.expected.contains_key("small_1.tar.zst"), "{:?}", ground.expected);
        ground
    }

    fn at(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn write_project(&self) {
        let key: String = openpgp::armored(&self.cert)
            .lines()
            .map(|line| format!(" {}\n", if line.is_empty() { "." } else { line }))
            .collect();
        let sources = format!(
            "Types: deb\nURIs: {}/debian\nSuites: trixie\nComponents: main\nSigned-By:\n{key}",
            self.server.base()
        );
        let path = "mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources";
        write_project(&self.at("project"), &[("mkosi.conf", SMALL), (path, &sources)]);
    }

    fn release(&self, days: u32, fields: &str) -> String {
        let date = |ago: Duration| {
            let time = jiff::Timestamp::try_from(self.now - ago).unwrap();
            time.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
        };
        let index = self.index();
        let sum = store::Key::of(index.as_bytes());
        let fields = fields.replace("YESTERDAY", &date(DAY / 2));
        format!(
            "Origin: Test\nLabel: Test\nSuite: stable\nCodename: trixie\nDate: {}\n{fields}\
             Architectures: amd64\nComponents: main\nSHA256:\n {sum} {} main/binary-amd64/Packages\n",
            date(days * DAY),
            index.len()
        )
    }

    fn index(&self) -> String {
        self.packages.iter().map(|package| package.stanza.as_str()).collect()
    }

    fn signed(&self, text: &str) -> Vec<u8> {
        openpgp::clear_sign(&self.cert, text, SystemTime::now() - Duration::from_secs(60))
    }

    /// Offers a Release file that is so many days old.
    fn publish(&self, days: u32, fields: &str) {
        self.server.put(INRELEASE, self.signed(&self.release(days, fields)));
        self.server.put(INDEX, self.index().into_bytes());
    }

    fn command(&self, cache: &str) -> Command {
        let mut build =
            command(&mkgold(), &self.at("project"), &self.at(cache), &self.at("output"));
        build.arg("--force");
        build
    }

    /// The largest package, of which a part is on its way for a while.
    fn large(&self) -> String {
        let size = |package: &&Package| self.server.get(&package.path).len();
        self.packages.iter().max_by_key(size).unwrap().path.clone()
    }

    fn nothing_happened(&self, cache: &str, what: &str) {
        assert_eq!(sums(&self.at("output")), self.expected, "{what}: the outputs");
        let (project, cache, output) = (self.at("project"), self.at(cache), self.at("output"));
        Places { project: &project, cache: &cache, output: &output }.is_clean(what);
    }

    /// A command fails, says why and changes nothing; once all is well, the same command
    /// works, from the same cache.
    fn fails(&self, what: &str, says: &str, verb: &[&str], break_it: impl FnOnce(&Ground)) {
        let _ = fs::remove_dir_all(self.at("fresh"));
        let lock = fs::read(self.at("project/mkgold.lock")).unwrap();
        break_it(self);
        let begin = Instant::now();
        let said = fail(self.command("fresh").args(verb), 1);
        if !said.contains(says) {
            self.unclear.borrow_mut().push(format!("{what}: not {says:?} in: {said}"));
        }
        self.nothing_happened("fresh", what);
        assert_eq!(fs::read(self.at("project/mkgold.lock")).unwrap(), lock, "{what}: the lock");
        self.server.behave();
        self.restore();
        succeed(self.command("fresh").args(verb));
        succeed(self.command("fresh").arg("build"));
        self.nothing_happened("fresh", what);
        let last = said.lines().last().unwrap_or_default();
        println!("{what} ({:.1} s): {last}", begin.elapsed().as_secs_f64());
    }

    fn restore(&self) {
        self.publish(1, "");
        for package in &self.packages {
            let original = common::downloads().join("debs").join(deb_of(&package.stanza));
            self.server.put(&package.path, fs::read(original).unwrap());
        }
    }
}

fn deb_of(stanza: &str) -> PathBuf {
    let sum = stanza.lines().find_map(|line| line.strip_prefix("SHA256: ")).unwrap();
    Path::new(&sum[..2]).join(sum)
}

/// Puts a locked package on the server; all of them are essential and need nothing.
fn offer(server: &Server, block: &str) -> Package {
    let of = |key| field(block, key);
    let stanza = format!(
        "Package: {}\nVersion: {}\nArchitecture: {}\nEssential: yes\nFilename: {}\nSize: {}\n\
         SHA256: {}\n\n",
        of("name"),
        of("version"),
        of("architecture"),
        of("filename"),
        of("size"),
        of("sha256")
    );
    let bytes = fs::read(common::downloads().join("debs").join(deb_of(&stanza))).unwrap();
    let path = format!("/debian/{}", of("filename"));
    server.put(&path, bytes);
    Package { path, stanza }
}

const BUILD: &[&str] = &["build"];
const UPDATE: &[&str] = &["--update", "lock"];
/// More often than anybody tries again.
const ALWAYS: usize = 1000;

#[test]
#[ignore = "campaign: builds from a broken archive"]
fn a_broken_archive_is_a_clear_error_and_changes_nothing() {
    let ground = Ground::new();
    let watch = Watch::begin();
    packages(&ground);
    releases(&ground);
    watch.nothing_runs("downloads");
    assert!(ground.unclear.borrow().is_empty(), "{:#?}", ground.unclear.borrow());
}

fn packages(ground: &Ground) {
    let deb = ground.large();
    let trick = |trick: Trick| {
        let deb = deb.clone();
        move |ground: &Ground| ground.server.trick(&deb, trick, ALWAYS)
    };
    ground.fails("package cut short", "the transfer broke off", BUILD, trick(Trick::Truncate(0)));
    ground.fails("package too long", "wrong size", BUILD, trick(Trick::Larger));
    ground.fails("package gone", "vanished from the mirror", BUILD, trick(Trick::Status(404)));
    ground.fails("server in trouble", "HTTP status 503", BUILD, trick(Trick::Status(503)));
    let itself = Trick::Redirect(format!("{}{deb}", ground.server.base()));
    ground.fails("package in a circle", "redirected more than", BUILD, trick(itself));
    ground.fails("package altered", "wrong hash", BUILD, |ground| {
        let mut bytes = ground.server.get(&deb);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        ground.server.put(&deb, bytes);
    });
}

fn releases(ground: &Ground) {
    let serve = |path: &'static str, trick: Trick| {
        move |ground: &Ground| ground.server.trick(path, trick, ALWAYS)
    };
    ground.fails("Release gone", "no InRelease and no Release file", UPDATE, |g| {
        g.server.remove(INRELEASE)
    });
    let itself = Trick::Redirect(format!("{}{INRELEASE}", ground.server.base()));
    ground.fails("Release in a circle", "redirected", UPDATE, serve(INRELEASE, itself));
    ground.fails("signed by somebody else", "sign", UPDATE, |ground| {
        let other = openpgp::key(SystemTime::now() - 30 * DAY, None);
        let at = SystemTime::now() - Duration::from_secs(60);
        let text = openpgp::clear_sign(&other, &ground.release(1, ""), at);
        ground.server.put(INRELEASE, text);
    });
    ground.fails("Release altered", "signature", UPDATE, |ground| {
        let text = String::from_utf8(ground.server.get(INRELEASE)).unwrap();
        ground.server.put(INRELEASE, text.replace("Label: Test", "Label: Tost").into_bytes());
    });
    ground.fails("Release expired", "expired", UPDATE, |ground| {
        ground.publish(2, "Valid-Until: YESTERDAY\n");
    });
    ground.fails("index altered", "wrong hash", UPDATE, |ground| {
        let index = ground.index().replace("Essential: yes", "Essential: yep");
        ground.server.put(INDEX, index.into_bytes());
    });
    ground.fails(
        "index cut short",
        "the transfer broke off",
        UPDATE,
        serve(INDEX, Trick::Truncate(100)),
    );
}

#[test]
#[ignore = "campaign: builds from a broken archive"]
fn an_older_release_is_refused_by_those_who_saw_the_newer() {
    let ground = Ground::new();
    succeed(ground.command("cache").args(UPDATE));
    ground.publish(9, "");
    let said = fail(ground.command("cache").args(UPDATE), 1);
    assert!(said.contains("older"), "{said}");
    ground.nothing_happened("cache", "replayed Release");
    println!("replayed Release: {}", said.lines().last().unwrap_or_default());
    ground.publish(1, "");
    succeed(ground.command("cache").args(UPDATE));
}

#[test]
#[ignore = "campaign: builds from a broken archive"]
fn what_broke_off_goes_on_where_it_ended() {
    let ground = Ground::new();
    let deb = ground.large();
    let half = ground.server.get(&deb).len() / 2;
    for (what, trick) in [
        ("connection cut", Trick::Truncate(half)),
        ("connection stalled for half a minute", Trick::Hang(half)),
    ] {
        let _ = fs::remove_dir_all(ground.at("fresh"));
        ground.server.requests();
        ground.server.trick(&deb, trick, 1);
        let begin = Instant::now();
        succeed(ground.command("fresh").arg("build"));
        ground.nothing_happened("fresh", what);
        resumed(&ground, &deb, half, what);
        println!("{what}: resumed, {:.1} s", begin.elapsed().as_secs_f64());
    }
}

fn resumed(ground: &Ground, deb: &str, half: usize, what: &str) {
    let requests = ground.server.requests();
    let asked: Vec<_> = requests.iter().filter(|(path, _)| path == deb).collect();
    let rest = format!("bytes={half}-");
    assert!(asked.iter().any(|(_, range)| range.as_deref() == Some(&*rest)), "{what}: {asked:?}");
}

#[test]
#[ignore = "campaign: kills downloads"]
fn a_killed_download_goes_on_where_it_ended() {
    let ground = Ground::new();
    let watch = Watch::begin();
    let deb = ground.large();
    let half = ground.server.get(&deb).len() / 2;
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGINT] {
        let what = format!("download, signal {signal}");
        let _ = fs::remove_dir_all(ground.at("fresh"));
        ground.server.requests();
        ground.server.trick(&deb, Trick::Hang(half), 1);
        let mut build = ground.command("fresh");
        build.arg("build").stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = build.spawn().unwrap();
        wait_for_half(&ground.at("fresh"), half as u64);
        // SAFETY: numbers only; the process has not been waited for.
        unsafe { libc::kill(running.id() as i32, signal) };
        let status = running.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(signal));
        watch.nothing_runs(&what);
        if signal != libc::SIGKILL {
            ground.nothing_happened("fresh", &what);
        }
        succeed(ground.command("fresh").arg("build"));
        ground.nothing_happened("fresh", &what);
        resumed(&ground, &deb, half, &what);
        println!("{what}: resumed");
    }
}

/// Until the first half of the largest package has arrived.
fn wait_for_half(cache: &Path, half: u64) {
    let begin = Instant::now();
    let arrived = || {
        let shards = fs::read_dir(cache.join("partial")).into_iter().flatten().flatten();
        let files = shards.flat_map(|shard| fs::read_dir(shard.path()).into_iter().flatten());
        files.flatten().any(|file| file.metadata().is_ok_and(|m| m.len() == half))
    };
    while !arrived() {
        assert!(begin.elapsed() < Duration::from_secs(300), "nothing arrives");
        std::thread::sleep(Duration::from_millis(5));
    }
}
