//! What a build may leave: looked for in the system and in its directories.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::privilege;

/// How long a process may take to end after its builder was killed. Machines stand
/// still at times.
const PATIENCE: Duration = Duration::from_secs(120);

/// The mounts of this process and the processes that descend from it.
pub struct Watch {
    mounts: String,
}

impl Watch {
    /// Begins. From now on, orphans of what this process starts become its children. As
    /// root, this thread leaves the mounts of the machine, which others may change.
    pub fn begin() -> Watch {
        // SAFETY: numbers, a terminated string, and null pointers that are not used.
        unsafe {
            libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
            if privilege::is_root() {
                let none = std::ptr::null();
                assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
                let private = libc::MS_REC | libc::MS_PRIVATE;
                assert_eq!(libc::mount(none, c"/".as_ptr(), none, private, none.cast()), 0);
            }
        }
        Watch { mounts: mounts() }
    }

    /// Nothing that was started since runs any more, nothing is mounted. Gives how long
    /// the last process took to end.
    pub fn nothing_runs(&self, what: &str) -> Duration {
        let start = Instant::now();
        loop {
            reap();
            let left = descendants();
            if left.is_empty() {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: still running: {left:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(mounts(), self.mounts, "{what}: mounts");
        start.elapsed()
    }
}

fn mounts() -> String {
    fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
}

/// Takes note of children that have ended and that nobody waits for. The tests of this
/// binary run one after the other, and none has a child of its own at this time.
fn reap() {
    // SAFETY: no status is asked for.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

/// Living processes below this one: number and name.
fn descendants() -> Vec<(u32, String)> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(") ") else { continue };
        let mut fields = tail.split(' ');
        let (state, parent) = (fields.next().unwrap(), fields.next().unwrap());
        // The first thread may have ended before the others, which have its files open.
        let threads = fs::read_dir(entry.path().join("task")).map_or(0, Iterator::count);
        if !matches!(state, "Z" | "X") || threads > 1 {
            parents.insert(pid, (parent.parse::<u32>().unwrap(), head.to_owned()));
        }
    }
    let ours = |mut pid: u32| {
        while let Some((parent, _)) = parents.get(&pid) {
            if *parent == std::process::id() {
                return true;
            }
            pid = *parent;
        }
        false
    };
    parents.iter().filter(|(pid, _)| ours(**pid)).map(|(pid, (_, n))| (*pid, n.clone())).collect()
}

/// The places in which builds work.
pub struct Places<'a> {
    pub project: &'a Path,
    pub cache: &'a Path,
    pub output: &'a Path,
}

impl Places<'_> {
    /// What is there that is neither input, output nor cache.
    pub fn litter(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for name in ["work", "tmp"] {
            found.extend(entries(&self.cache.join(name)));
        }
        let hidden = |path: &PathBuf| path.file_name().unwrap().as_encoded_bytes()[0] == b'.';
        found.extend(entries(self.output).into_iter().filter(hidden));
        let inputs = ["mkosi.conf", "mkosi.extra", "mkosi.sandbox", "mkgold.lock"];
        let script = |name: &str| name.starts_with("mkosi.") && name.ends_with(".chroot");
        found.extend(entries(self.project).into_iter().filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            !inputs.contains(&&*name) && !script(&name)
        }));
        found
    }

    pub fn is_clean(&self, what: &str) {
        let litter = self.litter();
        assert!(litter.is_empty(), "{what}: left {litter:?}");
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let paths: BTreeSet<_> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.into_iter().collect()
}
