//! What needs namespaces (root, or unprivileged ones): names are resolved in a root
//! that holds this static binary and three files (no loader, no libc, no NSS modules),
//! and a cache on a file system that is full.

mod common;

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;

use apt::fetch::Fetcher;
use apt::{Cache, FetchError, PackageFile, Uri};
use common::server::Server;

const CHILD: &str = "MKGOLD_TEST_EMPTY_ROOT";

#[test]
#[ignore = "oracle"]
fn names_resolve_in_an_empty_root_whatever_nsswitch_says() {
    if std::env::var_os(CHILD).is_some() {
        return inside();
    }
    let root = tempfile::tempdir().unwrap();
    let etc = root.path().join("etc");
    std::fs::create_dir_all(&etc).unwrap();
    std::fs::create_dir_all(root.path().join("tmp")).unwrap();
    std::fs::write(etc.join("hosts"), "127.0.0.1 in-hosts.test\n").unwrap();
    std::fs::write(etc.join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    // As systemd writes it: the first two would have to be loaded.
    std::fs::write(
        etc.join("nsswitch.conf"),
        "hosts: mymachines resolve [!UNAVAIL=return] files dns\n",
    )
    .unwrap();
    std::fs::copy(std::env::current_exe().unwrap(), root.path().join("test")).unwrap();
    let mut command = Command::new("unshare");
    // chroot(8) is not in the PATH of Debian's ordinary users.
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.args(["--user", "--map-root-user", "--net", "--mount", "--", "chroot"]);
    command.arg(root.path()).arg("/test");
    command.args(["--ignored", "--exact", "names_resolve_in_an_empty_root_whatever_nsswitch_says"]);
    let output = command.env(CHILD, "1").output().expect("unshare is part of util-linux");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("1 passed"), "{text}");
}

/// The directory of the small file system.
const SMALL: &str = "MKGOLD_TEST_SMALL_DISK";

#[test]
#[ignore = "oracle"]
fn a_full_disk_is_said_and_the_download_goes_on_when_there_is_room() {
    if let Some(dir) = std::env::var_os(SMALL) {
        return on_small_disk(std::path::Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=256k none \"$1\" && exec \"$2\" --ignored --exact \
                  a_full_disk_is_said_and_the_download_goes_on_when_there_is_room";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--", "sh", "-c", script, "sh"]);
    command.arg(dir.path()).arg(std::env::current_exe().unwrap());
    let output = command.env(SMALL, dir.path()).output().expect("unshare is part of util-linux");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}

fn on_small_disk(dir: &std::path::Path) {
    let repo = common::Repo::new();
    let bytes = &repo.packages[0].bytes;
    let uri = format!("{}{}", repo.server.base(), common::Repo::deb_path("a"));
    let package = PackageFile {
        what: "a".to_owned(),
        sha256: store::Key::of(bytes),
        size: bytes.len() as u64,
        uris: vec![Uri::parse(&uri).unwrap()],
    };
    let archive = common::archive(dir);
    let get = || archive.fetch_packages(std::slice::from_ref(&package), &report::Silent);
    let error = get().unwrap_err();
    assert!(matches!(error, FetchError::Cache(_)), "{error:?}");
    assert!(error.to_string().starts_with("no space left for"), "{error}");
    assert!(common::files(&dir.join("debs")).is_empty());
    // With a source: otherwise mount(8) repeats the old options, an owner outside of this
    // namespace among them.
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "remount,size=4m", "none"]).arg(dir);
    assert!(mount.status().unwrap().success());
    repo.server.requests();
    assert_eq!(&std::fs::read(&get().unwrap()[0]).unwrap(), bytes);
    assert!(repo.server.requests()[0].1.is_some(), "it went on where it ended");
}

/// In the empty root, in a network of its own.
fn inside() {
    loopback_up();
    let asked = name_server();
    let server = Server::start();
    server.put("/file", b"hello".to_vec());
    let port = server.base().rsplit_once(':').unwrap().1.to_owned();
    let cache = tempfile::tempdir_in("/tmp").unwrap();
    let fetcher = Fetcher::new(Cache::open(cache.path()).unwrap(), common::options());
    let get = |host: &str| {
        let uri = Uri::parse(&format!("http://{host}:{port}/file")).unwrap();
        fetcher.get(&uri, 100)
    };
    assert_eq!(get("in-hosts.test").unwrap(), b"hello");
    assert_eq!(get("by-dns.test").unwrap(), b"hello");
    let error = get("unknown.test").unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    let asked = asked.lock().unwrap().clone();
    assert!(asked.iter().any(|name| name == "by-dns.test"), "{asked:?}");
    assert!(!asked.iter().any(|name| name == "in-hosts.test"), "{asked:?}");
}

fn loopback_up() {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // SAFETY: `ifreq` is plain data, and the ioctl reads a name and flags from it.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Answers `by-dns.test` with 127.0.0.1 and everything else with "no such name".
fn name_server() -> std::sync::Arc<std::sync::Mutex<Vec<String>>> {
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).unwrap();
    let names = asked.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            let query = &buffer[..n];
            let (name, end) = question(query);
            names.lock().unwrap().push(name.clone());
            let is_a = query[end..end + 2] == [0, 1];
            let known = name == "by-dns.test";
            let mut reply = query[..2].to_vec();
            reply.extend([0x81, if known { 0x80 } else { 0x83 }]);
            reply.extend([0, 1, 0, u8::from(known && is_a), 0, 0, 0, 0]);
            reply.extend(&query[12..end + 4]);
            if known && is_a {
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&reply, from).unwrap();
        }
    });
    asked
}

/// The name asked for, and where it ends.
fn question(query: &[u8]) -> (String, usize) {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..at + 1 + length]).into_owned());
        at += 1 + length;
    }
    (labels.join(".").to_lowercase(), at + 1)
}
