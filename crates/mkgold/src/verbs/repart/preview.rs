//! `--preview=SIZES`: what the first boot of an image makes of disks of these sizes (S9).
//!
//! The definitions are the image's own: they are read from its root file system, or from
//! its `/usr` where it has nothing else, without mounting it.

use std::path::Path;

use disk::definition::{self, Facts, Source};
use disk::gpt::{self, Found};
use disk::plan::{Request, Size};
use disk::{Bytes, Compat, Designator, Guid, preview};
use tree::{Blob, Tree, TreePath};

use super::options::Options;
use super::{Stop, drawing, open, print, say, world};

/// Shows it, and draws it if that is wanted.
pub fn run(options: &Options, path: &Path, sizes: &[Bytes]) -> Result<(), Stop> {
    let mut file = open(path, false)?;
    let found = gpt::read(&mut file, options.sector_size)
        .map_err(|e| Stop::Failed(format!("{}: {e}", path.display())))?;
    let compat = Compat { version: options.version, original_bugs: false };
    let tree = match options.definitions.is_empty() {
        true => image_tree(path, &found)?,
        false => Tree::new(),
    };
    let source = match options.definitions.as_slice() {
        [] => Source::Tree(&tree),
        dirs => Source::Dirs(dirs),
    };
    let loaded = definition::load(source, &facts(options, &tree)?, compat);
    let loaded = loaded.map_err(|refused| Stop::Failed(refused.to_string()))?;
    loaded.warnings.iter().for_each(|warning| say(&warning.to_string()));
    let request = Request {
        definitions: &loaded.definitions,
        content: Default::default(),
        existing: Some(&found),
        current: Bytes(0),
        size: Size::Keep,
        seed: Guid::NIL,
        sector_size: None,
        grain: options.grain,
        block_device: true,
        device: path.display().to_string(),
        defer: options.defer.clone(),
        compat,
    };
    let previews = preview::preview(&request, sizes);
    if let Some(picture) = &options.preview_picture {
        let written = std::fs::write(picture, preview::svg(&previews));
        written.map_err(|e| Stop::Failed(format!("{}: {e}", picture.display())))?;
    }
    let (columns, style) = drawing(options);
    print(&preview::text(&previews, columns, style))
}

fn facts(options: &Options, tree: &Tree) -> Result<Facts, String> {
    let mut facts = Facts::new(options.architecture.map_or_else(world::architecture, Ok)?);
    let release = os::os_release::read(tree).map_err(|e| e.to_string())?;
    facts.specifiers = world::of_release(&release);
    Ok(facts)
}

/// What the image has below `/`, or below `/usr` alone.
fn image_tree(path: &Path, found: &Found) -> Result<Tree, Stop> {
    let table = &found.table;
    let of = |designator| table.entries.values().filter(move |e| e.kind.designator() == designator);
    let entries = of(Designator::Root).map(|e| (e, false));
    let mut why = "it has no root and no usr partition".to_owned();
    for (entry, is_usr) in entries.chain(of(Designator::Usr).map(|e| (e, true))) {
        let Some(offset) = entry.first.bytes(table.sector_size) else { continue };
        let blob = Blob::at_path(path);
        let read = match fs::ext4::read(&blob, offset.0) {
            Ok(tree) => Ok(tree),
            Err(first) => fs::erofs::read(&blob, offset.0).map_err(|e| format!("{first}; {e}")),
        };
        match read {
            Ok(tree) if is_usr => return below_usr(&tree).map_err(Stop::Failed),
            Ok(tree) => return Ok(tree),
            Err(e) => why = e,
        }
    }
    Err(Stop::Failed(format!(
        "{}: the definitions of the image cannot be read ({why}); give them with --definitions=",
        path.display()
    )))
}

/// The parts of a `/usr` that matter here, at their places below `/`.
fn below_usr(usr: &Tree) -> Result<Tree, String> {
    let mut tree = Tree::new();
    let top = TreePath::literal("usr");
    tree.make_dirs(&TreePath::literal("usr/lib")).map_err(|e| e.to_string())?;
    for wanted in ["lib/repart.d", "lib/os-release"] {
        for (path, _, node) in usr.subtree(&TreePath::literal(wanted)) {
            let to = top.join(path.as_bytes()).map_err(|e| e.to_string())?;
            tree.put(to, node.clone()).map_err(|e| e.to_string())?;
        }
    }
    Ok(tree)
}
