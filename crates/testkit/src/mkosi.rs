//! Today's mkosi, which is newer than the release that the oracle root is made of:
//! its Python module out of Debian sid's package, run by the oracle's Python.
//!
//! The package is fetched and verified by the oracle's apt from the mirror that the
//! root was made with, and unpacked into a directory of the caller's.

use std::fs;
use std::path::{Path, PathBuf};

use crate::oracle;

/// Where mkosi lies in a root file system.
pub const MODULE: &str = "usr/lib/python3/dist-packages/mkosi";

// $1 is where the package is unpacked. A mirror that stands still is new enough: which
// mkosi it is, is recorded. Everything apt writes goes to the namespace's
// own /tmp.
const FETCH: &str = r#"
set -e
mkdir -p /tmp/lists/partial /tmp/cache/archives/partial /tmp/deb
cd /tmp/deb
set -- "$1" -q -o Dir::Etc::SourceList=/tmp/sid.sources -o Dir::Etc::SourceParts=- \
    -o Dir::State::Lists=/tmp/lists -o Dir::Cache=/tmp/cache -o APT::Sandbox::User=root \
    -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false
into=$1; shift
cat >/tmp/sid.sources <<END
Types: deb
URIs: $URI
Suites: sid
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
apt-get "$@" update
apt-get "$@" download mkosi
dpkg-deb -x mkosi_*.deb "$into"
"#;

/// The directory of mkosi's module below `cache`, fetched if it is not there yet or
/// `anew`. Panics, so that the test fails, if it cannot be had.
pub fn module(cache: &Path, anew: bool) -> PathBuf {
    let place = cache.join("mkosi-sid");
    if anew && place.exists() {
        fs::remove_dir_all(&place).expect("the old module can be removed");
    }
    if !place.join(MODULE).exists() {
        fetch(cache, &place);
    }
    place.join(MODULE)
}

fn fetch(cache: &Path, place: &Path) {
    let work = tempfile::Builder::new().prefix("mkosi-").tempdir_in(cache).expect("a directory");
    let script = format!("URI='{}'\n{FETCH}", mirror());
    let mut command = oracle::command_with_network("/bin/sh", &[work.path()]);
    let output = command.args(["-c", &script, "fetch"]).arg(work.path()).output();
    let output = output.expect("unshare runs");
    assert!(
        output.status.success() && work.path().join(MODULE).exists(),
        "mkosi could not be fetched from sid: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // Another test may have been quicker: its copy is as good.
    let _ = fs::rename(work.path(), place);
    assert!(place.join(MODULE).exists(), "no module in {}", place.display());
}

/// The mirror that the oracle root's apt uses for Debian's archive.
fn mirror() -> String {
    let directory = oracle::root().join("etc/apt/sources.list.d");
    let files = fs::read_dir(&directory).expect("the oracle has sources of apt");
    let mut paths: Vec<_> = files.map(|f| f.expect("a name").path()).collect();
    paths.sort();
    let texts = paths.iter().filter_map(|path| fs::read_to_string(path).ok());
    let uri = texts.flat_map(|text| {
        let uris = text.lines().filter_map(|l| l.strip_prefix("URIs:"));
        uris.map(|u| u.trim().to_string()).collect::<Vec<_>>()
    });
    uri.into_iter().next().unwrap_or_else(|| panic!("no URIs: in {}", directory.display()))
}
