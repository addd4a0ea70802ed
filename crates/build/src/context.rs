//! What every step of a build needs: the cache, the reporter, the time that
//! things are dated with, a place to work.

use std::path::{Path, PathBuf};

use report::Reporter;
use sandbox::Privilege;
use store::Store;
use tree::{Mtime, Tree};

use crate::workdir::WorkDir;

/// See the module's head.
pub struct Context<'a> {
    /// The cache.
    pub store: Store,
    /// Where progress and warnings go.
    pub reporter: &'a dyn Reporter,
    /// What the process may do.
    pub privilege: Privilege,
    /// Where trees are laid out that scripts run in.
    pub work: &'a WorkDir,
    /// What everything is dated with that has no older time of its own.
    pub epoch: Mtime,
    /// How many threads may work.
    pub threads: usize,
    /// Do not use cached trees.
    pub rebuild: bool,
}

impl Context<'_> {
    /// A directory on disk for what is not a tree, or not known yet.
    pub fn workdir(&self, name: &str) -> PathBuf {
        self.work.on_disk(name)
    }

    /// The same at another time.
    pub fn at(&self, epoch: Mtime) -> Context<'_> {
        let (store, privilege) = (self.store.clone(), self.privilege.clone());
        let (reporter, work, rebuild) = (self.reporter, self.work, self.rebuild);
        Context { store, reporter, privilege, work, epoch, threads: self.threads, rebuild }
    }

    /// Sets every time after the epoch to it: what was made during the build is
    /// dated alike whenever that was.
    pub fn clamp_times(&self, tree: &mut Tree) {
        clamp_times(tree, self.epoch);
    }
}

/// Sets every time after `epoch` to it.
pub fn clamp_times(tree: &mut Tree, epoch: Mtime) {
    let late: Vec<_> = tree
        .iter()
        .filter(|(_, _, node)| node.meta.mtime > epoch)
        .map(|(path, _, _)| path.clone())
        .collect();
    for path in late {
        tree.get_mut(&path).expect("just listed").meta.mtime = epoch;
    }
}

/// The cache directory: `--cache-directory`, else `$XDG_CACHE_HOME/mkgold`, else
/// `~/.cache/mkgold`, else (a user without home) `/var/tmp/mkgold-UID`.
pub fn default_cache_dir(env: impl Fn(&str) -> Option<String>, uid: u32) -> PathBuf {
    let absolute = |name| env(name).map(PathBuf::from).filter(|p: &PathBuf| p.is_absolute());
    match (absolute("XDG_CACHE_HOME"), absolute("HOME")) {
        (Some(cache), _) => cache.join("mkgold"),
        (None, Some(home)) => home.join(".cache/mkgold"),
        (None, None) => Path::new("/var/tmp").join(format!("mkgold-{uid}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tree::{Content, Meta, TreePath};

    #[test]
    fn only_later_times_are_clamped() {
        let mut t = Tree::new();
        for (name, secs) in [("old", 5), ("new", 50)] {
            let meta = Meta::file(0o644).at(Mtime { secs, nanos: 7 });
            t.add_file(TreePath::literal(name), meta, Content::empty()).unwrap();
        }
        clamp_times(&mut t, Mtime::secs(10));
        let mtime = |name| t.get(&TreePath::literal(name)).unwrap().meta.mtime;
        assert_eq!(mtime("old"), Mtime { secs: 5, nanos: 7 });
        assert_eq!(mtime("new"), Mtime::secs(10));
    }

    #[test]
    fn the_cache_is_below_home_unless_said() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        };
        let dir = default_cache_dir(env(&[("HOME", "/home/me"), ("XDG_CACHE_HOME", "rel")]), 7);
        assert_eq!(dir, Path::new("/home/me/.cache/mkgold"));
        let dir = default_cache_dir(env(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]), 7);
        assert_eq!(dir, Path::new("/c/mkgold"));
        assert_eq!(default_cache_dir(env(&[]), 7), Path::new("/var/tmp/mkgold-7"));
    }
}
