//! Prepare and build scripts: with the build packages over the image, in a copy that is
//! thrown away; what is left in `$DESTDIR` goes into the image.
//!
//! With `Incremental=`, what prepare scripts made is cached.
//!
//! `$DESTDIR` lies inside the copy, so that owners and devices made there are kept
//! whatever the privileges.

use report::Unit;
use store::KeyHasher;
use tree::{Tree, TreePath};

use crate::context::Context;
use crate::error::BuildError;
use crate::install::Install;
use crate::layer::{self, Pack};
use crate::provenance::Trail;
use crate::scripts::{DEST, Phase, Scripts};
use crate::{initrd, overlay};

/// Runs them; returns the image with what was built.
pub fn run(
    mut tree: Tree,
    install: &Install,
    context: &Context,
    scripts: &mut Scripts,
    trail: &mut Trail,
) -> Result<Tree, BuildError> {
    tree = prepare(tree, Phase::PrepareFinal, context, scripts, trail)?;
    if !scripts.has(Phase::Build) {
        return Ok(tree);
    }
    // What happens in the copy is no step of the image.
    let mut ignored = Trail::default();
    let mut copy = with_packages(&tree, install, context)?;
    copy = prepare(copy, Phase::PrepareBuild, context, scripts, &mut ignored)?;
    let dest = TreePath::literal(DEST);
    copy.make_dirs(&dest)?;
    copy = scripts.run(copy, Phase::Build, context, &mut ignored)?;
    let built = subtree(&copy, &dest)?;
    overlay::apply(&mut tree, &built, &TreePath::root(), &mut Default::default())?;
    context.clamp_times(&mut tree);
    trail.record("build scripts ($DESTDIR)", &tree);
    Ok(tree)
}

/// Runs the prepare scripts, or with `Incremental=` takes what they made before of the
/// same: as mkosi does, whatever else they read (sources, the network).
fn prepare(
    tree: Tree,
    phase: Phase,
    context: &Context,
    scripts: &mut Scripts,
    trail: &mut Trail,
) -> Result<Tree, BuildError> {
    let Some(key) = scripts.cache_key(&tree, phase, context)? else {
        return scripts.run(tree, phase, context, trail);
    };
    if let Some(tree) = layer::cached(context, &key)? {
        context.reporter.step("scripts", phase.name(), None, Unit::Items).cached();
        trail.record(format!("{} scripts", phase.name()), &tree);
        return Ok(tree);
    }
    layer::refuse_strict(scripts.config(), context, "the results of prepare scripts")?;
    let tree = scripts.run(tree, phase, context, trail)?;
    // What they left for later steps elsewhere would be missing the next time.
    if scripts.left_no_artifacts()? {
        layer::save(&context.store, &key, &tree)?;
    }
    Ok(tree)
}

/// The image with the build packages, configured; cached by what it is made of.
fn with_packages(tree: &Tree, install: &Install, context: &Context) -> Result<Tree, BuildError> {
    if install.packages.is_empty() {
        return Ok(tree.clone());
    }
    let mut hasher = KeyHasher::new("build packages 1");
    hasher.add(&context.epoch.secs.to_le_bytes()).add(&[u8::from(install.with_docs)]);
    install.packages.iter().for_each(|package| {
        hasher.add(&package.id().0);
    });
    initrd::hash_subtree(&mut hasher, tree, &TreePath::root())?;
    let key = hasher.finish();
    if let Some(layer) = layer::cached(context, &key)? {
        let what = format!("{} build packages", install.packages.len());
        context.reporter.step("install", what, None, Unit::Items).cached();
        return Ok(layer);
    }
    let mut pack = Pack::begin(&context.store, &key)?;
    let tree = install.run(tree.clone(), context, &mut pack, "build-packages")?;
    pack.commit()?;
    layer::save(&context.store, &key, &tree)?;
    Ok(tree)
}

/// The tree below `dir` as a tree of its own.
fn subtree(tree: &Tree, dir: &TreePath) -> Result<Tree, BuildError> {
    let mut own = Tree::new();
    let mut first = std::collections::HashMap::new();
    for (path, id, node) in tree.subtree(dir) {
        let Some(path) = path.strip_prefix(dir) else { continue };
        if path.is_root() {
            // Its meta is the sandbox's, not the project's.
            continue;
        }
        match first.get(&id) {
            Some(first) => own.add_link(path, first)?,
            None => {
                own.add(path.clone(), node.clone())?;
                first.insert(id, path);
            }
        }
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subtree_keeps_links_and_owners() {
        let p = TreePath::literal;
        let mut tree = Tree::new();
        tree.write(&p("work/dest/usr/bin/tool"), 0o4755, *b"x").unwrap();
        tree.get_mut(&p("work/dest/usr/bin/tool")).unwrap().meta.uid = 7;
        tree.add_link(p("work/dest/twin"), &p("work/dest/usr/bin/tool")).unwrap();
        tree.write(&p("work/destination"), 0o644, *b"x").unwrap();
        let own = subtree(&tree, &p("work/dest")).unwrap();
        let paths: Vec<_> = own.iter().map(|(path, _, _)| path.to_string()).collect();
        assert_eq!(paths, ["/", "/twin", "/usr", "/usr/bin", "/usr/bin/tool"]);
        let tool = own.get(&p("usr/bin/tool")).unwrap();
        assert_eq!((tool.meta.mode, tool.meta.uid, own.links(&p("twin"))), (0o4755, 7, 2));
    }
}
