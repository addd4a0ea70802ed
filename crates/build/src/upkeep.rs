//! Keeping the cache: what no build uses goes after a while, and what the builds of a
//! project used is written down, so that `mkgold clean --force` can remove it.
//!
//! What it is not: how things are removed while others build (`store`). All of it is done
//! after the outputs have got their names, and never where nothing changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use config::Config;
use report::Reporter;
use store::{Collected, Key, KeyHasher, Store, StoreError};

/// Kind of the lists of what projects used.
const USES: store::Kind = "uses";
/// What scripts and mkgold made of packages: goes with `clean --force`.
const TREES: [&str; 4] = ["layer", "initrd", "modules", "built"];
/// The contents of both trees and packages.
const PACKS: &str = "pack";
/// Packages, what says which there are, and tools: goes with `clean --force --force`.
const PACKAGES: [&str; 9] = [
    PACKS,
    "package",
    "debs",
    "indices",
    "records",
    "releases",
    "release-signatures",
    "tools",
    "tools-sum",
];

/// Kinds and keys of objects.
type Uses = BTreeMap<String, BTreeSet<Key>>;

/// What is to be kept of a cache.
#[derive(Debug, Clone, Copy)]
pub struct Upkeep {
    /// How long, without being used; for ever if not set.
    pub keep: Option<Duration>,
    /// The time.
    pub now: SystemTime,
}

/// After a build that used these caches. Whatever fails, the outputs are there: it is a
/// warning.
pub fn after_build(config: &Config, stores: &[&Store], upkeep: Upkeep, reporter: &dyn Reporter) {
    for store in stores {
        tell_damaged(store, reporter);
        if let Err(error) = remember(config, store).and_then(|()| collect(store, upkeep, reporter))
        {
            reporter.warn(format!("the cache could not be looked after: {error}"));
        }
    }
}

/// A disk that changes bytes is worth a word.
fn tell_damaged(store: &Store, reporter: &dyn Reporter) {
    for path in store.damaged() {
        reporter.warn(format!(
            "{}: damaged cache object; it was removed and made again. If that happens more \
             than once, check the disk",
            path.display()
        ));
    }
}

fn collect(store: &Store, upkeep: Upkeep, reporter: &dyn Reporter) -> Result<(), StoreError> {
    let Some(age) = upkeep.keep else { return Ok(()) };
    if let Some(Collected { files, bytes }) = store.collect_daily(age, upkeep.now)?
        && files > 0
    {
        let (days, mib) = (age.as_secs() / (24 * 60 * 60), bytes >> 20);
        reporter.note(format!(
            "{files} objects that no build used for {days} days left the cache ({mib} MiB)"
        ));
    }
    Ok(())
}

fn uses_key(config: &Config) -> Key {
    let mut hasher = KeyHasher::new("uses of a project 1");
    hasher.add(config.project.directory.as_os_str().as_encoded_bytes());
    hasher.finish()
}

/// Adds what was used to what earlier builds used, as far as that is still there.
fn remember(config: &Config, store: &Store) -> Result<(), StoreError> {
    let key = uses_key(config);
    let mut uses = uses(store, &key)?;
    for (kind, keys) in &mut uses {
        keys.retain(|key| store.has(kind, key));
    }
    for (kind, key) in store.used().into_iter().filter(|(kind, _)| *kind != USES) {
        uses.entry(kind.to_owned()).or_default().insert(key);
    }
    store.put(USES, &key, &postcard::to_stdvec(&uses).expect("plain data serialises"))
}

fn uses(store: &Store, key: &Key) -> Result<Uses, StoreError> {
    let bytes = store.read(USES, key)?;
    Ok(bytes.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default())
}

/// Removes what the builds of a project left in the caches: configured trees, and with
/// `packages` what they were made of. Other projects that have the same make it again;
/// builds under way keep what they have.
pub fn clean(config: &Config, cache: &Path, packages: bool) -> Result<Collected, StoreError> {
    let mut collected = Collected::default();
    let own = config.build.package_cache_directory.as_deref();
    let caches: Vec<PathBuf> = [Some(cache), own].into_iter().flatten().map(Into::into).collect();
    for cache in caches.into_iter().filter(|cache| cache.is_dir()) {
        clean_store(&Store::open(&cache)?, &uses_key(config), packages, &mut collected)?;
    }
    Ok(collected)
}

fn clean_store(
    store: &Store,
    key: &Key,
    packages: bool,
    collected: &mut Collected,
) -> Result<(), StoreError> {
    let uses = uses(store, key)?;
    let of = |kind: &str| uses.get(kind).into_iter().flatten().copied().collect::<Vec<Key>>();
    for kind in TREES.iter().chain(PACKAGES.iter().filter(|_| packages)) {
        for key in of(kind) {
            store.remove(kind, &key, collected)?;
        }
    }
    // A pack without a package holds what scripts made.
    for key in of(PACKS) {
        if !store.has("package", &key) {
            store.remove(PACKS, &key, collected)?;
        }
    }
    if packages {
        store.remove(USES, key, &mut Collected::default())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &Path) -> Store {
        Store::open(dir).unwrap()
    }

    #[test]
    fn clean_removes_what_this_project_s_builds_used() {
        let dir = tempfile::tempdir().unwrap();
        let (config, other) = (crate::testing::config(&[]), crate::testing::config(&[]));
        let key = |name: &str| Key::of(name.as_bytes());
        let build = store(dir.path());
        for (kind, name) in [
            ("layer", "a"),
            ("pack", "contents of a"),
            ("pack", "deb"),
            ("package", "deb"),
            ("debs", "deb"),
        ] {
            build.put(kind, &key(name), b"x").unwrap();
        }
        remember(&config, &build).unwrap();
        let second = store(dir.path());
        second.put("layer", &key("b"), b"x").unwrap();
        remember(&config, &second).unwrap();
        let theirs = store(dir.path());
        theirs.put("layer", &key("c"), b"x").unwrap();
        theirs.put("debs", &key("theirs"), b"x").unwrap();
        remember(&other, &theirs).unwrap();

        assert_eq!(clean(&config, dir.path(), false).unwrap().files, 3);
        let has = |kind, name| build.has(kind, &key(name));
        assert!(!has("layer", "a") && !has("layer", "b") && !has("pack", "contents of a"));
        assert!(has("pack", "deb") && has("package", "deb") && has("debs", "deb"));
        assert_eq!(clean(&config, dir.path(), true).unwrap().files, 3);
        assert!(!has("pack", "deb") && !has("package", "deb") && !has("debs", "deb"));
        assert!(has("layer", "c") && has("debs", "theirs"));
        assert_eq!(clean(&config, dir.path(), true).unwrap().files, 0);
        assert_eq!(clean(&config, &dir.path().join("none"), true).unwrap().files, 0);
    }
}
