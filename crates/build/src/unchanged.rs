//! Nothing changed, nothing to do: recognises that the outputs are there as the
//! same inputs made them.
//!
//! What went in is hashed: the configuration, the lock, the program itself, and
//! for every tree and file that the configuration names what `stat` says of it.
//! The store keeps, under that key, what `stat` said of the outputs when they were
//! published. Both equal: a build would do the same again.
//!
//! What it is not: used where something can change that is not seen. A script may
//! read the whole host, so a project with scripts is always built; so is one
//! whose seed is random or whose packages come without a lock. An input that was
//! changed so recently that the next change could have the same time is not
//! trusted either.

use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::Config;
use config::config::UuidChoice;
use serde::{Deserialize, Serialize};
use store::{Key, KeyHasher, Store};

use crate::resolve;
use crate::sources::ImageSources;

/// Kind of the objects.
const KIND: &str = "built";
/// Two changes nearer to each other may have one time stamp: the kernel's clock
/// for files ticks every few milliseconds.
const TICK: Duration = Duration::from_millis(40);
/// What a build made, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The outputs, the image last.
    pub outputs: Vec<PathBuf>,
    /// How many packages the image has.
    pub packages: usize,
    /// Digest of what `stat` says of the outputs.
    state: Key,
}

/// What went into a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inputs(Key);

impl Inputs {
    /// Reads what goes in; `None` if that cannot be known.
    pub fn of(config: &Config, output: &Path, sources: &ImageSources) -> Option<Inputs> {
        let scripts = &config.scripts;
        let lists = [&scripts.sync, &scripts.prepare, &scripts.build, &scripts.postinst];
        let more = [&scripts.finalize, &scripts.postoutput];
        let has_scripts = lists.iter().chain(&more).any(|list| !list.is_empty());
        if has_scripts || config.output.seed == Some(UuidChoice::Random) {
            return None;
        }
        let mut hasher = KeyHasher::new("inputs of a build 2");
        let program = std::fs::metadata("/proc/self/exe").ok()?;
        add_stat(&mut hasher, &program);
        hasher.add(output.as_os_str().as_bytes());
        hasher.add(&serde_json::to_vec(config).expect("plain data serialises"));
        hasher.add(format!("{sources:?}").as_bytes());
        let lock = std::fs::read(resolve::lock_path(&config.project.directory)).ok()?;
        hasher.add(&lock);
        let mut newest = UNIX_EPOCH;
        for path in named(config) {
            add_tree(&mut hasher, path, &mut newest)?;
        }
        let settled = newest + TICK < SystemTime::now();
        settled.then(|| Inputs(hasher.finish()))
    }

    /// What these inputs made, if it is still there.
    pub fn outputs(&self, store: &Store) -> Option<Remembered> {
        let bytes = store.read(KIND, &self.0).ok()??;
        let remembered: Remembered = serde_json::from_slice(&bytes).ok()?;
        (state(&remembered.outputs)? == remembered.state).then_some(remembered)
    }

    /// Remembers what these inputs made. Best effort: without it, a build that
    /// could be skipped is done.
    pub fn remember(&self, store: &Store, outputs: &[PathBuf], packages: usize) {
        let Some(state) = state(outputs) else { return };
        let remembered = Remembered { outputs: outputs.to_vec(), packages, state };
        let bytes = serde_json::to_vec(&remembered).expect("plain data serialises");
        let _ = store.put(KIND, &self.0, &bytes);
    }
}

/// Every file and tree that the configuration names and that goes into the image.
fn named(config: &Config) -> Vec<&Path> {
    let content = &config.content;
    let sources = [&content.skeleton_trees, &content.extra_trees, &config.build.sandbox_trees];
    let paths =
        [&content.base_trees, &content.package_directories, &config.output.repart_directories];
    let sources = sources.into_iter().flatten().map(|tree| tree.source.as_path());
    let paths = paths.into_iter().chain([&config.boot.initrds]).flatten().map(PathBuf::as_path);
    sources.chain(paths).collect()
}

fn add_tree(hasher: &mut KeyHasher, path: &Path, newest: &mut SystemTime) -> Option<()> {
    for entry in walkdir::WalkDir::new(path).follow_root_links(true).sort_by_file_name() {
        let entry = entry.ok()?;
        let meta = entry.metadata().ok()?;
        hasher.add(entry.path().as_os_str().as_bytes());
        add_stat(hasher, &meta);
        *newest = (*newest).max(time(meta.ctime(), meta.ctime_nsec())?);
    }
    Some(())
}

fn time(secs: i64, nanos: i64) -> Option<SystemTime> {
    let (secs, nanos) = (u64::try_from(secs).ok()?, u32::try_from(nanos).ok()?);
    UNIX_EPOCH.checked_add(Duration::new(secs, nanos))
}

/// All that changes when a file does: its contents cannot without the last two.
fn add_stat(hasher: &mut KeyHasher, meta: &Metadata) {
    let numbers = [meta.dev(), meta.ino(), u64::from(meta.mode()), meta.size(), meta.rdev()];
    for number in numbers {
        hasher.add(&number.to_le_bytes());
    }
    for number in [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()] {
        hasher.add(&number.to_le_bytes());
    }
}

/// What `stat` says of the outputs; `None` if one is missing.
fn state(outputs: &[PathBuf]) -> Option<Key> {
    let mut hasher = KeyHasher::new("outputs of a build 1");
    for path in outputs {
        add_tree(&mut hasher, path, &mut UNIX_EPOCH.clone())?;
    }
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs;

    struct Project {
        dir: tempfile::TempDir,
        store: Store,
    }

    impl Project {
        fn new() -> Project {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&dir.path().join("cache")).unwrap();
            let project = Project { dir, store };
            for (name, text) in [
                ("p/mkosi.conf", "[Output]\nFormat=disk\n"),
                ("p/mkosi.extra/etc/file", "one"),
                ("p/mkgold.lock", "lock"),
                ("out/image.raw", "image"),
            ] {
                project.write(name, text);
            }
            project
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn inputs(&self) -> Option<Inputs> {
            std::thread::sleep(TICK + Duration::from_millis(10));
            let facts = config::Facts {
                architecture: config::Architecture::from_debian("amd64").unwrap(),
                home: None,
                config_dir: None,
                env: BTreeMap::new(),
            };
            let request = config::Request { args: Vec::new() };
            let project = self.dir.path().join("p");
            let loaded = config::load(&project, &request, &facts).unwrap();
            let sources = ImageSources::None(String::new());
            Inputs::of(&loaded.config, &self.dir.path().join("out"), &sources)
        }

        fn image(&self) -> Vec<PathBuf> {
            vec![self.dir.path().join("out/image.raw")]
        }
    }

    #[test]
    fn the_same_inputs_find_their_outputs() {
        let project = Project::new();
        let inputs = project.inputs().unwrap();
        assert_eq!(inputs.outputs(&project.store), None);
        inputs.remember(&project.store, &project.image(), 7);
        let found = project.inputs().unwrap().outputs(&project.store).unwrap();
        assert_eq!((found.outputs, found.packages), (project.image(), 7));
    }

    #[test]
    fn a_changed_input_is_seen() {
        let project = Project::new();
        let before = project.inputs().unwrap();
        for (name, text) in [
            ("p/mkosi.extra/etc/file", "two"),
            ("p/mkosi.extra/etc/new", ""),
            ("p/mkgold.lock", "other"),
            ("p/mkosi.conf", "[Output]\nFormat=tar\n"),
        ] {
            let last = project.inputs();
            project.write(name, text);
            assert_ne!(project.inputs(), last, "{name}");
        }
        assert_ne!(project.inputs().unwrap(), before);
    }

    #[test]
    fn a_changed_output_is_seen() {
        let project = Project::new();
        let inputs = project.inputs().unwrap();
        inputs.remember(&project.store, &project.image(), 7);
        project.write("out/image.raw", "other");
        assert_eq!(inputs.outputs(&project.store), None);
        fs::remove_file(&project.image()[0]).unwrap();
        assert_eq!(inputs.outputs(&project.store), None);
    }

    #[test]
    fn what_cannot_be_known_is_not_skipped() {
        let project = Project::new();
        project.write("p/mkosi.postinst", "#!/bin/sh\n");
        let path = project.dir.path().join("p/mkosi.postinst");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(project.inputs(), None, "a script");
        fs::remove_file(path).unwrap();
        assert!(project.inputs().is_some());
        fs::remove_file(project.dir.path().join("p/mkgold.lock")).unwrap();
        assert_eq!(project.inputs(), None, "no lock");
    }
}
