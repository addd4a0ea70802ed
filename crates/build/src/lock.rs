//! `mkgold.lock`: every package of every set by name, version and hash, and the
//! Release files that they came from.
//!
//! Format: TOML, version 1, sorted, so that a version control system shows what
//! an update changed. It names suites, never mirrors: where a suite is fetched
//! from is the configuration's business, what is fetched is the lock's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The version of the format.
const VERSION: u32 = 1;
/// More than any lock: ten thousand packages take four megabytes.
const LIMIT: u64 = 64 << 20;
const HEAD: &str = "# Made by mkgold. Commit it; `mkgold lock --update` renews it.\n";

/// A group of packages that are chosen together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Set {
    /// The image itself.
    Image,
    /// The default initrd.
    Initrd,
    /// Programs that the build uses.
    Tools,
    /// What build scripts get on top of the image (`BuildPackages=`).
    Build,
    /// The virtual machine of `mkgold vm`.
    Vm,
}

/// Why a lock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It cannot be read.
    #[error("read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no lock of this version.
    #[error("{}: {message}; `mkgold lock --update` makes a new one", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// The lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`VERSION`].
    version: u32,
    /// The Debian architecture.
    pub architecture: String,
    /// What the image's packages of each generation are dated with, in seconds
    /// since 1970; see [`Lock::follow`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generations: Vec<i64>,
    /// For each set a digest of what was asked for: another request, another lock.
    #[serde(default)]
    pub requests: BTreeMap<Set, String>,
    /// The Release files.
    #[serde(default, rename = "release")]
    pub releases: Vec<LockedRelease>,
    /// Those that only tools come from.
    #[serde(default, rename = "tool-release", skip_serializing_if = "Vec::is_empty")]
    pub tool_releases: Vec<LockedRelease>,
    /// The packages, by name, version and architecture.
    #[serde(default, rename = "package")]
    pub packages: Vec<LockedPackage>,
}

/// A Release file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedRelease {
    /// The suite, as the sources name it.
    pub suite: String,
    /// Its `Date:`, in seconds since 1970.
    pub date: i64,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// The source package.
    pub source: String,
    /// The suite it comes from; none for a file of `PackageDirectories=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<String>,
    /// Where it is below the archive's root.
    pub filename: String,
    /// Size of the .deb in bytes.
    pub size: u64,
    /// SHA-256 of the .deb.
    pub sha256: String,
    /// The sets that it is in.
    pub sets: BTreeSet<Set>,
    /// The sets in which nobody asked for it by name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub automatic: BTreeSet<Set>,
    /// With which generation it came into the image.
    #[serde(default, skip_serializing_if = "is_first")]
    pub generation: usize,
}

fn is_first(generation: &usize) -> bool {
    *generation == 0
}

impl Lock {
    /// An empty lock.
    pub fn new(architecture: &str) -> Lock {
        Lock {
            version: VERSION,
            architecture: architecture.to_owned(),
            generations: Vec::new(),
            requests: BTreeMap::new(),
            releases: Vec::new(),
            tool_releases: Vec::new(),
            packages: Vec::new(),
        }
    }

    /// Reads the file; `None` if it is not there.
    pub fn read(path: &Path) -> Result<Option<Lock>, LockError> {
        let io = |source| LockError::Io { path: path.to_owned(), source };
        let format = |message| LockError::Format { path: path.to_owned(), message };
        match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(e)),
            Ok(meta) if meta.len() > LIMIT => return Err(format("is too large".into())),
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(path).map_err(io)?;
        Lock::parse(&text).map(Some).map_err(format)
    }

    /// Reads a lock from text.
    pub fn parse(text: &str) -> Result<Lock, String> {
        let lock: Lock = toml::from_str(text).map_err(|e| e.to_string())?;
        if lock.version != VERSION {
            return Err(format!("is of version {}, this mkgold knows {VERSION}", lock.version));
        }
        for package in &lock.packages {
            let name = &package.name;
            if package.generation >= lock.generations.len().max(1) {
                return Err(format!("package {name}: generation has no date"));
            }
            if store::Key::from_hex(&package.sha256).is_none() {
                return Err(format!("package {name}: sha256 is not a SHA-256"));
            }
            if package.filename.split('/').any(|c| c == "..") {
                return Err(format!("package {name}: filename leads out of the archive"));
            }
        }
        Ok(lock)
    }

    /// The text of the lock, sorted.
    pub fn to_text(&self) -> String {
        let mut sorted = self.clone();
        sorted.packages.sort();
        sorted.releases.sort();
        HEAD.to_owned() + "\n" + &toml::to_string(&sorted).expect("a lock serialises")
    }

    /// Adds a package to a set, or the set to a package that is there.
    pub fn add(&mut self, package: LockedPackage) {
        let same = |p: &&mut LockedPackage| p.sha256 == package.sha256;
        match self.packages.iter_mut().find(same) {
            Some(there) => {
                there.sets.extend(package.sets);
                there.automatic.extend(package.automatic);
            }
            None => self.packages.push(package),
        }
    }

    /// The packages of one set, by name.
    pub fn of(&self, set: Set) -> Vec<&LockedPackage> {
        let mut packages: Vec<_> = self.packages.iter().filter(|p| p.sets.contains(&set)).collect();
        packages.sort();
        packages
    }

    /// Sorts the image's packages into generations: those of `old` stay where they
    /// are as long as all of a generation are still wanted, the rest comes after.
    ///
    /// A generation is configured as a whole, on top of those before it. As the
    /// lock says which package came when, a build from nothing does the same steps
    /// as one that finds the earlier generations in the cache: equal bytes, and a
    /// package that is added costs only its own configuration. `lock --update`
    /// begins again with one.
    pub fn follow(&mut self, old: Option<&Lock>) {
        let mut came: BTreeMap<&str, usize> = BTreeMap::new();
        let mut dates = Vec::new();
        for (generation, date) in old.iter().flat_map(|old| old.generations.iter().enumerate()) {
            let all = old.into_iter().flat_map(|old| &old.packages);
            let mut of = all
                .filter(|p| p.sets.contains(&Set::Image) && p.generation == generation)
                .map(|p| p.sha256.as_str());
            let wanted: BTreeSet<&str> = self.of(Set::Image).iter().map(|p| &*p.sha256).collect();
            if !of.clone().all(|p| wanted.contains(p)) {
                break;
            }
            of.by_ref().for_each(|p| {
                came.insert(p, generation);
            });
            dates.push(*date);
        }
        let last = dates.len();
        for package in &mut self.packages {
            let in_image = package.sets.contains(&Set::Image);
            let generation = came.get(package.sha256.as_str()).copied().unwrap_or(last);
            package.generation = if in_image { generation } else { 0 };
        }
        if self.packages.iter().any(|p| p.sets.contains(&Set::Image) && p.generation == last) {
            dates.push(self.newest().unwrap_or(0));
        }
        self.generations = dates;
    }

    /// The date of the newest Release file: what everything in the image is dated
    /// with unless `SourceDateEpoch=` says otherwise.
    pub fn newest(&self) -> Option<i64> {
        self.releases.iter().map(|r| r.date).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, set: Set) -> LockedPackage {
        LockedPackage {
            name: name.into(),
            version: "1.0-1".into(),
            architecture: "amd64".into(),
            source: name.into(),
            suite: Some("trixie".into()),
            filename: format!("pool/main/{name}.deb"),
            size: 5,
            sha256: store::Key::of(name.as_bytes()).to_string(),
            sets: [set].into(),
            automatic: BTreeSet::new(),
            generation: 0,
        }
    }

    fn lock_of(names: &[&str], date: i64, old: Option<&Lock>) -> Lock {
        let mut lock = Lock::new("amd64");
        names.iter().for_each(|name| lock.add(package(name, Set::Image)));
        lock.releases.push(LockedRelease { suite: "t".into(), date, sha256: "x".into() });
        lock.follow(old);
        lock
    }

    fn generations(lock: &Lock) -> Vec<(&str, usize)> {
        lock.of(Set::Image).iter().map(|p| (p.name.as_str(), p.generation)).collect()
    }

    #[test]
    fn what_is_added_is_the_next_generation() {
        let first = lock_of(&["b", "d"], 1, None);
        assert_eq!(
            (generations(&first), &first.generations[..]),
            (vec![("b", 0), ("d", 0)], &[1][..])
        );
        let second = lock_of(&["a", "b", "d"], 2, Some(&first));
        assert_eq!(generations(&second), [("a", 1), ("b", 0), ("d", 0)]);
        assert_eq!(second.generations, [1, 2]);
        let third = lock_of(&["a", "b", "c", "d"], 3, Some(&second));
        assert_eq!(generations(&third), [("a", 1), ("b", 0), ("c", 2), ("d", 0)]);
        assert_eq!(Lock::parse(&third.to_text()).unwrap().to_text(), third.to_text());
    }

    #[test]
    fn what_is_removed_ends_the_generations_that_stay() {
        let first = lock_of(&["b", "d"], 1, None);
        let second = lock_of(&["a", "b", "d"], 2, Some(&first));
        let back = lock_of(&["b", "d"], 3, Some(&second));
        assert_eq!(
            (generations(&back), &back.generations[..]),
            (vec![("b", 0), ("d", 0)], &[1][..])
        );
        let other = lock_of(&["a", "b"], 4, Some(&second));
        assert_eq!(
            (generations(&other), &other.generations[..]),
            (vec![("a", 0), ("b", 0)], &[4][..])
        );
    }

    #[test]
    fn the_text_reads_back_and_is_sorted() {
        let mut lock = Lock::new("amd64");
        lock.add(package("b", Set::Image));
        lock.add(package("a", Set::Image));
        lock.add(package("a", Set::Initrd));
        lock.requests.insert(Set::Image, "00".into());
        lock.releases.push(LockedRelease { suite: "t".into(), date: 9, sha256: "x".into() });
        let text = lock.to_text();
        let back = Lock::parse(&text).unwrap();
        assert_eq!(back.to_text(), text);
        let names = |set| back.of(set).iter().map(|p| p.name.as_str()).collect::<Vec<_>>();
        assert_eq!(names(Set::Image), ["a", "b"]);
        assert_eq!(names(Set::Initrd), ["a"]);
        assert_eq!(back.newest(), Some(9));
    }

    #[test]
    fn what_is_no_lock_is_refused() {
        let mut lock = Lock::new("amd64");
        lock.add(package("a", Set::Image));
        let text = lock.to_text();
        let bad = [
            text.replace("version = 1\n", "version = 2\n"),
            text.replace("pool/main", "../main"),
            text.replace("sha256 = \"", "sha256 = \"zz"),
            text.replace("architecture = ", "unknown = 1\narchitecture = "),
            "what".into(),
        ];
        for text in bad {
            assert!(Lock::parse(&text).is_err(), "{text}");
        }
        assert_eq!(Lock::read(Path::new("/no/such/lock")).unwrap(), None);
    }
}
