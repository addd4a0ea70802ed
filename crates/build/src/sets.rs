//! The packages of a build: fetched and unpacked, then the image's configured on
//! top of each other, generation by generation, each cached.

use std::collections::BTreeSet;
use std::sync::Arc;

use config::Config;
use dpkg::Package;
use report::Unit;
use store::{Key, KeyHasher};
use tree::{Content, Mtime, Tree, TreePath};

use crate::context::Context;
use crate::error::BuildError;
use crate::install::{self, Install};
use crate::layer::{self, Pack};
use crate::lock::{Lock, LockedPackage, Set};
use crate::packages::Archives;
use crate::{initrd, kernels, overlay};

/// Changed when the steps change what comes out of equal inputs.
const VERSION: &str = "4";

/// Packages that are configured together; see [`Lock::follow`].
struct Generation {
    packages: Vec<Arc<Package>>,
    epoch: Mtime,
}

/// The unpacked packages of a build.
pub struct Sets {
    image: Vec<Generation>,
    automatic: BTreeSet<(String, String)>,
    initrd: Vec<Arc<Package>>,
    build: Vec<Arc<Package>>,
    count: usize,
}

impl Sets {
    /// Fetches and unpacks what is not there yet.
    pub fn fetch(
        archives: &Archives,
        lock: &Lock,
        config: &Config,
        context: &Context,
    ) -> Result<Sets, BuildError> {
        let mut image = lock.of(Set::Image);
        image.sort_by_key(|p| p.generation);
        let (initrd, build) = (lock.of(Set::Initrd), lock.of(Set::Build));
        let all = image.iter().chain(&initrd).chain(&build).copied();
        let all: Vec<&LockedPackage> = all.collect();
        let mut packages = archives.packages(&all, &context.store, context.reporter)?;
        // Beside what follows; who needs the answer asks, and waits.
        let store = context.store.clone();
        std::thread::spawn(move || store.check());
        let build = packages.split_off(image.len() + initrd.len());
        let initrd = packages.split_off(image.len());
        let automatic = image
            .iter()
            .filter(|p| p.automatic.contains(&Set::Image))
            .map(|p| (p.name.clone(), p.architecture.clone()))
            .collect();
        let count = packages.len();
        let mut packages = packages.into_iter();
        let generations = image.chunk_by(|a, b| a.generation == b.generation).map(|chunk| {
            let configured = config.content.source_date_epoch.is_some();
            let date = lock.generations.get(chunk[0].generation).filter(|_| !configured);
            let epoch = date.map_or(context.epoch, |date| Mtime::secs(*date));
            Generation { packages: packages.by_ref().take(chunk.len()).collect(), epoch }
        });
        Ok(Sets { image: generations.collect(), automatic, initrd, build, count })
    }

    /// How many packages the image has.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What build scripts get on top of the image.
    pub fn build_packages<'a>(&'a self, config: &Config, archives: &'a Archives) -> Install<'a> {
        let (with_docs, architecture) = (config.content.with_docs, archives.architecture());
        Install { packages: &self.build, with_docs, architecture }
    }

    /// Names and architectures of the image's packages that nobody asked for.
    pub fn automatic(&self) -> &BTreeSet<(String, String)> {
        &self.automatic
    }

    /// The image's packages, configured; cached by what they are.
    pub fn install(
        &self,
        config: &Config,
        archives: &Archives,
        context: &Context,
    ) -> Result<Tree, BuildError> {
        let epoch = self.image.first().map_or(context.epoch, |g| g.epoch);
        let skeleton = self.skeleton(config, archives, &context.at(epoch))?;
        let keys = self.layer_keys(config, &skeleton)?;
        let what = format!("{} packages", self.count);
        let (mut done, mut tree) = (0, skeleton);
        for (n, key) in keys.iter().enumerate().rev() {
            if let Some(layer) = layer::cached(context, key)? {
                context.reporter.step("install", &what, None, Unit::Items).cached();
                (done, tree) = (n + 1, layer);
                break;
            }
        }
        if done < keys.len() {
            layer::refuse_strict(config, context, "the configured packages")?;
            context.store.whole()?;
        }
        for (generation, key) in self.image.iter().zip(&keys).skip(done) {
            let context = context.at(generation.epoch);
            let install = Install {
                packages: &generation.packages,
                with_docs: config.content.with_docs,
                architecture: archives.architecture(),
            };
            let mut pack = Pack::begin(&context.store, key)?;
            tree = install.run(tree, &context, &mut pack, "image")?;
            pack.commit()?;
            layer::save(&context.store, key, &tree)?;
        }
        let architecture = archives.architecture();
        install::write_extended_states(&mut tree, &self.automatic, architecture, context.epoch)?;
        Ok(tree)
    }

    /// What is there before the first package.
    fn skeleton(
        &self,
        config: &Config,
        archives: &Archives,
        context: &Context,
    ) -> Result<Tree, BuildError> {
        let content = &config.content;
        let mut tree = match archives.base() {
            Some(base) => base.tree.clone(),
            None => {
                let mut tree = Tree::new();
                let root = tree.get_mut(&TreePath::root()).expect("always there");
                root.meta.mtime = context.epoch;
                tree
            }
        };
        let first = self.image.first().map_or(&[][..], |g| &g.packages);
        install::usr_merge(&mut tree, first, archives.architecture(), context.epoch)?;
        let store = &context.store;
        overlay::apply_all(&mut tree, &content.skeleton_trees, store, context.epoch)?;
        let distribution = config.distribution.distribution.to_string();
        let image_id = config.output.image_id.as_deref();
        let token = os::entry_token::choose(&tree, None, image_id, &distribution)?;
        os::entry_token::write(&mut tree, &token, context.epoch)?;
        Ok(tree)
    }

    /// A key for each generation: what it is and what it stands on.
    fn layer_keys(&self, config: &Config, skeleton: &Tree) -> Result<Vec<Key>, BuildError> {
        let mut hasher = KeyHasher::new("configured layer");
        hasher.add(VERSION.as_bytes());
        hasher.add(&[u8::from(config.content.with_docs)]);
        initrd::hash_subtree(&mut hasher, skeleton, &TreePath::root())?;
        let mut keys = Vec::new();
        for generation in &self.image {
            hasher.add(&generation.epoch.secs.to_le_bytes());
            for package in &generation.packages {
                hasher.add(&package.id().0);
            }
            keys.push(hasher.finish());
        }
        Ok(keys)
    }

    /// The userland of the default initrd, if one is made.
    pub fn initrd(
        &self,
        config: &Config,
        archives: &Archives,
        context: &Context,
    ) -> Result<Option<Content>, BuildError> {
        if self.initrd.is_empty() {
            return Ok(None);
        }
        let step = context.reporter.step("initrd", "userland", None, Unit::Items);
        let own = !config.boot.initrd_packages.is_empty();
        let content = initrd::userland(context, &self.initrd, archives.architecture(), own)?;
        step.done();
        // Best effort: what fails here fails again, and is reported, where it is used.
        let _ = self.warm_kernels(config, archives, context);
        Ok(Some(content))
    }

    /// Reads the kernels' modules while the packages' scripts run.
    fn warm_kernels(
        &self,
        config: &Config,
        archives: &Archives,
        context: &Context,
    ) -> Result<(), BuildError> {
        let skeleton = self.skeleton(config, archives, context)?;
        let keys = self.layer_keys(config, &skeleton)?;
        if keys.last().is_some_and(|key| layer::is_there(&context.store, key)) {
            return Ok(());
        }
        let packages: Vec<_> = self.image.iter().flat_map(|g| g.packages.clone()).collect();
        let mut tree = skeleton;
        let with_docs = config.content.with_docs;
        let architecture = archives.architecture();
        let install = Install { packages: &packages, with_docs, architecture };
        install.unpack_only(&mut tree, context)?;
        kernels::warm(context, &tree, &config.boot.kernel_initrd_modules);
        Ok(())
    }
}
