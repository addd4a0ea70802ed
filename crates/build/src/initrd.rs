//! The initrd of an image: a userland of its own packages, and each kernel's
//! modules ([`crate::kernels`]); both cached by what they are made of.

use std::sync::Arc;

use boot::initrd::{Settings, finish, recipe};
use dpkg::Package;
use os::preset::{self, Scope};
use os::sysusers::{self, Declarations};
use store::{Key, KeyHasher};
use tree::{Blob, Content, Segment, Tree, TreePath};

use crate::context::Context;
use crate::error::BuildError;
use crate::install::{Install, usr_merge};

/// Kind of compressed archives in the store.
const ARCHIVE: &str = "initrd";
/// zstd's level: beyond it the archive hardly shrinks and the build takes longer.
const LEVEL: i32 = 3;
/// Changed when the recipe or the writer changes what comes out.
pub(crate) const VERSION: &str = "2";

pub(crate) fn settings(context: &Context) -> Settings {
    Settings { latest: Some(context.epoch), level: LEVEL, threads: context.threads as u32 }
}

/// What is asked for: mkosi's default initrd, and `InitrdPackages=`.
pub fn specs<'a>(available: impl IntoIterator<Item = &'a str>, more: &[String]) -> Vec<String> {
    let mut specs = vec!["?essential".to_owned()];
    specs.extend(recipe::packages(available));
    specs.extend(more.iter().cloned());
    specs
}

/// The userland, compressed.
pub fn userland(
    context: &Context,
    packages: &[Arc<Package>],
    architecture: &str,
    own_packages: bool,
) -> Result<Content, BuildError> {
    let mut hasher = KeyHasher::new("initrd userland");
    hasher.add(VERSION.as_bytes()).add(&context.epoch.secs.to_le_bytes());
    hasher.add(&[u8::from(own_packages)]);
    packages.iter().for_each(|p| {
        hasher.add(&p.id().0);
    });
    cached(context, &hasher.finish(), || {
        let tree = userland_tree(context, packages, architecture, own_packages)?;
        Ok(boot::initrd::userland(&tree, settings(context))?)
    })
}

fn userland_tree(
    context: &Context,
    packages: &[Arc<Package>],
    architecture: &str,
    own_packages: bool,
) -> Result<Tree, BuildError> {
    let mut tree = Tree::new();
    usr_merge(&mut tree, packages, architecture, context.epoch)?;
    let install = Install { packages, with_docs: false, architecture };
    install.unpack_only(&mut tree, context)?;
    // base-passwd's script would copy these.
    for name in ["passwd", "group"] {
        let master = TreePath::new(format!("usr/share/base-passwd/{name}.master"))?;
        if let Some(node) = tree.get(&master).cloned() {
            tree.put(TreePath::new(format!("etc/{name}"))?, node)?;
        }
    }
    finish::prepare(&mut tree)?;
    let declarations = Declarations::read(&tree)?;
    sysusers::apply(&mut tree, &declarations, context.epoch)?;
    preset::apply_all(&mut tree, Scope::System, "/usr/lib/systemd/system", context.epoch)?;
    let keep = if own_packages { finish::Keep::Packages } else { finish::Keep::Needed };
    finish::finish(&mut tree, keep)?;
    boot::initrd::finish::make_initrd(&mut tree)?;
    context.clamp_times(&mut tree);
    Ok(tree)
}

/// Hashes what a subtree is: paths, metadata, and where contents are. Contents of
/// the store are named by their blob, others by their bytes.
pub fn hash_subtree(hasher: &mut KeyHasher, tree: &Tree, dir: &TreePath) -> Result<(), BuildError> {
    for (path, _, node) in tree.subtree(dir) {
        hasher.add(path.as_bytes());
        hasher.add(format!("{:?}", node.meta).as_bytes());
        match node.content() {
            Some(content) => hash_content(hasher, path, content)?,
            None => {
                hasher.add(format!("{:?}", node.kind).as_bytes());
            }
        }
    }
    Ok(())
}

pub(crate) fn hash_content(
    hasher: &mut KeyHasher,
    path: &TreePath,
    content: &Content,
) -> Result<(), BuildError> {
    for segment in content.segments() {
        match segment {
            Segment::Bytes(bytes) => hasher.add(bytes),
            Segment::Hole { len } => hasher.add(&len.to_le_bytes()),
            Segment::Range { blob, offset, len } => match Blob::id(blob) {
                Some(id) => hasher.add(&id).add(&offset.to_le_bytes()).add(&len.to_le_bytes()),
                None => {
                    let bytes = content.read(1 << 30);
                    let failed = |source| BuildError::Content { path: path.clone(), source };
                    hasher.add(&Key::of(&bytes.map_err(failed)?).0)
                }
            },
        };
    }
    Ok(())
}

/// The archive of `key` out of the store, or made and kept there.
pub(crate) fn cached(
    context: &Context,
    key: &Key,
    make: impl FnOnce() -> Result<Content, BuildError>,
) -> Result<Content, BuildError> {
    if let Some((blob, len)) = context.store.blob(ARCHIVE, key)? {
        return Ok(Content::range(blob, 0, len));
    }
    let content = make()?;
    let mut pending = context.store.create(ARCHIVE)?;
    let path = pending.path().to_owned();
    let len = std::io::copy(&mut content.reader(), pending.file_mut());
    let len = len.map_err(crate::outputs::io_error("write", &path))?;
    Ok(Content::range(pending.seal(key)?, 0, len))
}
