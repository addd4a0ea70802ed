//! Packages from a server that misbehaves: the right error, and a clean retry.

mod common;

use std::time::Duration;

use apt::archive::{Archive, PackageFile};
use apt::fetch::{FetchError, FetchOptions, Proxies};
use apt::{Cache, Uri};
use common::server::Trick;
use common::{Repo, chain, files, options, settings};
use report::{Recorder, Silent};
use store::Key;

fn package(repo: &Repo, name: &str) -> PackageFile {
    let package = repo.packages.iter().find(|p| p.name == name).unwrap();
    let uri = Uri::parse(&format!("{}{}", repo.server.base(), Repo::deb_path(name))).unwrap();
    PackageFile {
        what: format!("{name} 1 amd64"),
        sha256: Key::of(&package.bytes),
        size: package.bytes.len() as u64,
        uris: vec![uri],
    }
}

fn all(repo: &Repo) -> Vec<PackageFile> {
    ["a", "b", "c"].iter().map(|name| package(repo, name)).collect()
}

fn assert_fetched(repo: &Repo, paths: &[std::path::PathBuf]) {
    assert_eq!(paths.len(), repo.packages.len());
    for (path, package) in paths.iter().zip(&repo.packages) {
        assert_eq!(std::fs::read(path).unwrap(), package.bytes, "{}", package.name);
    }
}

/// No object but the right ones, whatever went wrong before.
fn assert_no_wrong_object(cache: &std::path::Path) {
    for path in files(&cache.join("debs")) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(Key::of(&std::fs::read(&path).unwrap()).to_string(), name);
    }
}

#[test]
fn packages_arrive_in_order_over_kept_connections_and_once() {
    let repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    let archive = Archive::new(
        Cache::open(dir.path()).unwrap(),
        FetchOptions { threads: 1, ..options() },
        settings(),
    );
    let recorder = Recorder::default();
    assert_fetched(&repo, &archive.fetch_packages(&all(&repo), &recorder).unwrap());
    assert_eq!(repo.server.requests().len(), 3);
    assert_eq!(repo.server.connections(), 1);
    let total: u64 = repo.packages.iter().map(|p| p.bytes.len() as u64).sum();
    let last = recorder.events().into_iter().filter_map(|e| match e {
        report::Event::Progress { done, .. } => Some(done),
        _ => None,
    });
    assert_eq!(last.max(), Some(total));
    assert_fetched(&repo, &archive.fetch_packages(&all(&repo), &Silent).unwrap());
    assert_eq!(repo.server.requests().len(), 0);
    assert_eq!(files(&dir.path().join("partial")).len(), 0);
}

/// What the error says while the server misbehaves for good.
#[test]
fn each_misbehaviour_has_its_error_and_is_over_when_the_server_behaves() {
    let a = Repo::deb_path("a");
    let cases = [
        (Trick::Truncate(1000), "broke off"),
        (Trick::Stall(1000), "broke off"),
        (Trick::Status(404), "package a 1 amd64 has vanished from the mirror"),
        (Trick::Status(410), "mkgold lock --update"),
        (Trick::Status(403), "refuses access (HTTP status 403)"),
        (Trick::Status(500), "HTTP status 500"),
        (Trick::Redirect(a.clone()), "redirected more than 5 times"),
        (Trick::Redirect("ftp://x/y".to_owned()), "no URI"),
        (Trick::Redirect("file:///etc/passwd".to_owned()), "local file"),
        (Trick::Endless, "wrong size"),
        (Trick::Larger, "wrong size: the server offers 300010 bytes, 300000 were announced"),
    ];
    for (trick, says) in cases {
        let repo = Repo::new();
        let dir = tempfile::tempdir().unwrap();
        let archive = common::archive(dir.path());
        repo.server.trick(&a, trick.clone(), usize::MAX);
        let error = archive.fetch_packages(&all(&repo), &Silent).unwrap_err();
        let text = chain(&error);
        assert!(text.contains(says), "{trick:?}: {text}");
        assert!(!text.contains("127.0.0.1"), "{text}");
        assert_no_wrong_object(dir.path());
        repo.server.behave();
        assert_fetched(&repo, &archive.fetch_packages(&all(&repo), &Silent).unwrap());
        assert_eq!(files(&dir.path().join("partial")).len(), 0, "{trick:?}");
    }
}

#[test]
fn altered_bytes_are_refused_and_not_kept() {
    let repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    let archive = common::archive(dir.path());
    let path = Repo::deb_path("a");
    let good = repo.server.get(&path);
    let mut bad = good.clone();
    bad[123_456] ^= 1;
    repo.server.put(&path, bad.clone());
    for _ in 0..2 {
        let error = archive.fetch_packages(&all(&repo), &Silent).unwrap_err();
        let FetchError::Hash { expected, found, .. } = error else { panic!("{error}") };
        assert_eq!((expected, found), (Key::of(&good), Key::of(&bad)));
        assert_no_wrong_object(dir.path());
    }
    repo.server.put(&path, good);
    assert_fetched(&repo, &archive.fetch_packages(&all(&repo), &Silent).unwrap());
}

#[test]
fn a_cut_transfer_goes_on_where_it_ended() {
    let repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    let archive = common::archive(dir.path());
    let path = Repo::deb_path("a");
    repo.server.trick(&path, Trick::Truncate(100_000), 2);
    archive.fetch_packages(&[package(&repo, "a")], &Silent).unwrap();
    let ranges: Vec<_> = repo.server.requests().into_iter().map(|(_, range)| range).collect();
    let from = |range: &Option<String>| -> usize {
        range.as_deref().map_or(0, |r| r["bytes=".len()..r.len() - 1].parse().unwrap())
    };
    assert_eq!(ranges.len(), 3);
    // What arrived of the cut body is kept; a part of it may have been lost on the way.
    let froms: Vec<_> = ranges.iter().map(from).collect();
    assert_eq!(froms[0], 0);
    assert!(froms[1] > 0 && froms[1] <= 100_000, "{froms:?}");
    assert!(froms[2] > froms[1] && froms[2] <= froms[1] + 100_000, "{froms:?}");
}

/// What was there before is poisoned, or the server does not do ranges: all from the
/// start, once, and then it is right.
#[test]
fn a_resumed_transfer_that_cannot_work_starts_again() {
    for trick in [None, Some(Trick::IgnoreRange), Some(Trick::WrongRange), Some(Trick::Status(416))]
    {
        for garbage in [false, true] {
            let repo = Repo::new();
            let dir = tempfile::tempdir().unwrap();
            let archive = common::archive(dir.path());
            let path = Repo::deb_path("a");
            repo.server.trick(&path, Trick::Truncate(50_000), usize::MAX);
            archive.fetch_packages(&[package(&repo, "a")], &Silent).unwrap_err();
            repo.server.behave();
            let partial = files(&dir.path().join("partial"));
            assert_eq!(partial.len(), 1);
            if garbage {
                let length = std::fs::metadata(&partial[0]).unwrap().len() as usize;
                std::fs::write(&partial[0], vec![7; length]).unwrap();
            }
            if let Some(trick) = trick.clone() {
                let times = if matches!(trick, Trick::Status(_)) { 1 } else { usize::MAX };
                repo.server.trick(&path, trick, times);
            }
            let paths = archive.fetch_packages(&[package(&repo, "a")], &Silent).unwrap();
            assert_eq!(std::fs::read(&paths[0]).unwrap(), repo.packages[0].bytes, "{trick:?}");
        }
    }
}

#[test]
fn a_partial_file_that_is_too_long_or_complete_is_handled() {
    let repo = Repo::new();
    let package = package(&repo, "b");
    for content in [vec![1; 5000], vec![1; 1000], repo.packages[1].bytes.clone()] {
        let dir = tempfile::tempdir().unwrap();
        let archive = common::archive(dir.path());
        let hex = package.sha256.to_string();
        let shard = dir.path().join("partial").join(&hex[..2]);
        std::fs::create_dir_all(&shard).unwrap();
        std::fs::write(shard.join(format!("debs.{hex}")), &content).unwrap();
        let paths = archive.fetch_packages(std::slice::from_ref(&package), &Silent).unwrap();
        assert_eq!(std::fs::read(&paths[0]).unwrap(), repo.packages[1].bytes);
        let expected = usize::from(content != repo.packages[1].bytes);
        assert_eq!(repo.server.requests().len(), expected, "a complete file needs no request");
    }
}

#[test]
fn a_server_with_a_hiccup_or_a_slow_one_is_waited_for() {
    let repo = Repo::new();
    for trick in [Trick::Status(503), Trick::Status(429), Trick::Truncate(0), Trick::Slow] {
        let dir = tempfile::tempdir().unwrap();
        repo.server.trick(&Repo::deb_path("a"), trick, 2);
        let paths = common::archive(dir.path()).fetch_packages(&all(&repo), &Silent).unwrap();
        assert_fetched(&repo, &paths);
    }
}

#[test]
fn redirections_and_second_places_are_followed() {
    let repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    let mut moved = package(&repo, "a");
    moved.uris[0] = Uri::parse(&format!("{}/old/a.deb", repo.server.base())).unwrap();
    repo.server.trick("/old/a.deb", Trick::Redirect(Repo::deb_path("a")), 1);
    let mut second = package(&repo, "b");
    second.uris.insert(0, Uri::parse(&format!("{}/gone", repo.server.base())).unwrap());
    let paths = common::archive(dir.path()).fetch_packages(&[moved, second], &Silent).unwrap();
    assert_eq!(std::fs::read(&paths[1]).unwrap(), repo.packages[1].bytes);
}

#[test]
fn nobody_listens() {
    let repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    let mut package = package(&repo, "a");
    // A port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    package.uris[0] = Uri::parse(&format!("http://127.0.0.1:{port}/a.deb")).unwrap();
    let error =
        common::archive(dir.path()).fetch_packages(&[package.clone()], &Silent).unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("--offline"), "{error}");
    let error = common::offline(dir.path()).fetch_packages(&[package], &Silent).unwrap_err();
    assert!(matches!(&error, FetchError::Offline { what } if what == "a 1 amd64"), "{error}");
}

#[test]
fn a_proxy_is_asked_in_absolute_form_unless_the_host_needs_none() {
    let repo = Repo::new();
    let package = PackageFile {
        uris: vec![Uri::parse("http://archive.invalid/debian/pool/main/b_1_amd64.deb").unwrap()],
        ..package(&repo, "b")
    };
    let fetch = |none_for: Vec<String>| {
        let dir = tempfile::tempdir().unwrap();
        let proxies = Proxies { http: Some(repo.server.base()), https: None, none_for };
        let options = FetchOptions { proxies, retries: 0, ..options() };
        let archive = Archive::new(Cache::open(dir.path()).unwrap(), options, settings());
        archive.fetch_packages(std::slice::from_ref(&package), &Silent).map(|_| ())
    };
    fetch(Vec::new()).unwrap();
    let requests = repo.server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].0, Repo::deb_path("b"));
    assert_eq!(repo.server.targets(), ["http://archive.invalid/debian/pool/main/b_1_amd64.deb"]);
    let error = fetch(vec![".invalid".to_owned()]).unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error:?}");
    assert_eq!(repo.server.requests().len(), 0);
}

#[test]
fn users_and_passwords_of_archive_and_proxy_are_sent_to_the_right_one() {
    let repo = Repo::new();
    let at = repo.server.base().replace("http://", "");
    let fetch = |uri: String, proxies: Proxies| {
        let dir = tempfile::tempdir().unwrap();
        let package = PackageFile { uris: vec![Uri::parse(&uri).unwrap()], ..package(&repo, "b") };
        let options = FetchOptions { proxies, ..options() };
        let archive = Archive::new(Cache::open(dir.path()).unwrap(), options, settings());
        archive.fetch_packages(&[package], &Silent).unwrap();
        repo.server.credentials()
    };
    let path = Repo::deb_path("b");
    // printf 'u:p@ss' | base64
    let mine = fetch(format!("http://u:p%40ss@{at}{path}"), Proxies::default());
    assert_eq!(mine, ["authorization: Basic dTpwQHNz"]);
    let http = Some(format!("http://x:y@{at}"));
    let both = fetch(
        format!("http://u:p%40ss@archive.invalid{path}"),
        Proxies { http, ..Proxies::default() },
    );
    let mut both = both;
    both.sort();
    assert_eq!(both, ["authorization: Basic dTpwQHNz", "proxy-authorization: Basic eDp5"]);
    assert!(!repo.server.targets().iter().any(|target| target.contains('@')));
}

#[test]
fn local_archives_are_copied_and_checked() {
    let repo = Repo::new();
    let mirror = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = mirror.path().join("b c.deb");
    std::fs::write(&file, &repo.packages[1].bytes).unwrap();
    let root = Uri::parse(&format!("copy:{}", mirror.path().display())).unwrap();
    let package = PackageFile { uris: vec![root.join("b c.deb").unwrap()], ..package(&repo, "b") };
    let archive = common::archive(dir.path());
    let get = || archive.fetch_packages(std::slice::from_ref(&package), &Silent);
    let path = get().unwrap().remove(0);
    assert_eq!(std::fs::read(&path).unwrap(), repo.packages[1].bytes);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&file, vec![0; 1000]).unwrap();
    assert!(matches!(get().unwrap_err(), FetchError::Hash { .. }));
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(get().unwrap_err(), FetchError::Vanished { .. }));
}

#[test]
fn many_fetch_the_same_at_once_and_it_is_fetched_once() {
    let repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    repo.server.trick(&Repo::deb_path("a"), Trick::Slow, usize::MAX);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // Its own cache handle, as another process would have.
                let archive = common::archive(dir.path());
                assert_fetched(&repo, &archive.fetch_packages(&all(&repo), &Silent).unwrap());
            });
        }
    });
    let a = Repo::deb_path("a");
    assert_eq!(repo.server.requests().iter().filter(|(path, _)| *path == a).count(), 1);
}

#[test]
fn an_error_stops_the_others_soon_and_is_the_one_reported() {
    let repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    repo.server.trick(&Repo::deb_path("a"), Trick::Slow, usize::MAX);
    repo.server.trick(&Repo::deb_path("c"), Trick::Status(404), usize::MAX);
    let error = common::archive(dir.path()).fetch_packages(&all(&repo), &Silent).unwrap_err();
    assert!(matches!(&error, FetchError::Vanished { package, .. } if package == "c 1 amd64"));
    assert!(
        Cache::open(dir.path()).unwrap().find("debs", &package(&repo, "a").sha256, None).is_none()
    );
}

#[test]
fn an_empty_file_can_be_fetched() {
    let repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    repo.server.put("/empty", Vec::new());
    let uris = vec![Uri::parse(&format!("{}/empty", repo.server.base())).unwrap()];
    let package = PackageFile { what: "empty".to_owned(), sha256: Key::of(b""), size: 0, uris };
    let paths = common::archive(dir.path()).fetch_packages(&[package], &Silent).unwrap();
    assert_eq!(std::fs::metadata(&paths[0]).unwrap().len(), 0);
}

#[test]
fn the_pause_grows_and_patience_ends() {
    let repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    repo.server.trick(&Repo::deb_path("b"), Trick::Status(502), usize::MAX);
    let options = FetchOptions { backoff: Duration::from_millis(30), retries: 2, ..options() };
    let archive = Archive::new(Cache::open(dir.path()).unwrap(), options, settings());
    let start = std::time::Instant::now();
    let error = archive.fetch_packages(&[package(&repo, "b")], &Silent).unwrap_err();
    assert!(matches!(error, FetchError::Status { status: 502, .. }));
    assert_eq!(repo.server.requests().len(), 3);
    assert!(start.elapsed() >= Duration::from_millis(90));
}

/// Where the child of the next test keeps its cache, and what it fetches.
const CHILD: &str = "MKGOLD_TEST_KILLED_CHILD";

/// A download process is killed with SIGKILL again and again; what it leaves is never
/// taken for a package, is taken up, and is gone in the end.
#[test]
fn kill_9_leaves_nothing_that_is_trusted() {
    if let Ok(arguments) = std::env::var(CHILD) {
        return killed_child(&arguments);
    }
    let repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    let a = package(&repo, "a");
    repo.server.trick(&Repo::deb_path("a"), Trick::Slow, usize::MAX);
    let mut grown = 0;
    for round in 0..4 {
        let arguments = format!("{}\n{}", dir.path().display(), a.uris[0]);
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill_9_leaves_nothing_that_is_trusted"])
            .env(CHILD, arguments)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(120 + 30 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_no_wrong_object(dir.path());
        let partial: u64 = files(&dir.path().join("partial"))
            .iter()
            .map(|p| std::fs::metadata(p).unwrap().len())
            .sum();
        grown = grown.max(partial);
    }
    assert!(grown > 0, "no kill came in the middle of the transfer");
    repo.server.behave();
    let paths = common::archive(dir.path()).fetch_packages(&[a], &Silent).unwrap();
    assert_eq!(std::fs::read(&paths[0]).unwrap(), repo.packages[0].bytes);
    assert_eq!(files(&dir.path().join("partial")).len(), 0);
}

fn killed_child(arguments: &str) {
    let (cache, uri) = arguments.split_once('\n').unwrap();
    let bytes = common::noise(300_000, 1);
    let package = PackageFile {
        what: "a".to_owned(),
        sha256: Key::of(&bytes),
        size: bytes.len() as u64,
        uris: vec![Uri::parse(uri).unwrap()],
    };
    common::archive(std::path::Path::new(cache)).fetch_packages(&[package], &Silent).unwrap();
}
