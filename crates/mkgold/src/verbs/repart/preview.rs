//! `--preview=SIZES`: what the first boot of an image makes of disks of these sizes (S9).
//!
//! The definitions are the image's own: they are read from its root file system, or from
//! its `/usr` where it has nothing else, without mounting it.

use std::path::Path;

use disk::definition::{self, Facts, Source};
use disk::gpt;
use disk::plan::{Request, Size};
use disk::{Bytes, Compat, Guid, preview};
use tree::Tree;

use super::options::Options;
use super::{Stop, drawing, image, open, print, say, world};

/// Shows it, and draws it if that is wanted.
pub fn run(options: &Options, path: &Path, sizes: &[Bytes]) -> Result<(), Stop> {
    let mut file = open(path, false)?.0;
    let found = gpt::read(&mut file, options.sector_size)
        .map_err(|e| Stop::Failed(format!("{}: {e}", path.display())))?;
    let compat = Compat { version: options.version, original_bugs: false };
    let tree = match options.definitions.is_empty() {
        true => image::system(path, &found).map_err(Stop::Failed)?,
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
