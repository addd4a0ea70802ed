//! `mkosi.images/`: more than one image, and which of them the main one depends on.
//!
//! Each directory and each `.conf` file there is an image of its own, which is read as a
//! project is, with what the main image hands down to it below. The order is the one in
//! which they could be built: those that nothing is waited for first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use super::{Extent, Loader, MAIN_IMAGE};
use crate::diagnostic::{Diagnostic, Origin, did_you_mean};
use crate::layer::{Layer, Layers, Stored};
use crate::source::resolve;
use crate::table::{SETTINGS, Scope};
use crate::value::Value;

/// The most images of one project.
pub const MAX_IMAGES: usize = 1000;

/// What was read of one image.
pub(crate) struct Image {
    pub name: String,
    pub layers: Layers,
    /// The files whose settings apply, in order.
    pub applied: Vec<PathBuf>,
    /// The variables of its environment files.
    pub environment: BTreeMap<String, String>,
    /// The images it depends on.
    pub dependencies: Vec<String>,
}

impl Loader<'_> {
    /// What was read of the image, taken out of the loader.
    pub(super) fn image(&mut self) -> Image {
        let environment = self.environment_files();
        self.includes.clear();
        self.included.clear();
        Image {
            name: self.image.clone(),
            layers: std::mem::take(&mut self.layers),
            applied: std::mem::take(&mut self.applied),
            environment,
            dependencies: Vec::new(),
        }
    }

    /// The images that `main` depends on, in order.
    pub(super) fn images(&mut self, directory: &Path, main: &mut Image) -> Vec<Image> {
        let below = directory.join("mkosi.images");
        let mut images = Vec::new();
        if self.files.is_dir(&below) {
            images = self.read_images(&below, main);
        }
        let names: BTreeSet<String> = images.iter().map(|i| i.name.clone()).collect();
        main.dependencies = match main.layers.touched("Dependencies") {
            true => dependencies(main, &names),
            false => names.iter().cloned().collect(),
        };
        for image in &mut images {
            image.dependencies = dependencies(image, &names);
        }
        let needed = needed(main, &images);
        images.retain(|image| needed.contains(&image.name));
        images.iter().chain(std::iter::once(&*main)).for_each(|i| self.missing(i, &names));
        let (ordered, cycle) = in_order(images);
        if let Some(image) = cycle.first() {
            let names: Vec<_> = cycle.iter().map(|i| i.name.as_str()).collect();
            let message = format!("images that wait for each other: {}", names.join(", "));
            let at = origins(image).first().map_or(Origin::path(&below), |s| s.origin.clone());
            self.report(Diagnostic::error(&at, "", message));
        }
        ordered
    }

    fn read_images(&mut self, below: &Path, main: &Image) -> Vec<Image> {
        let mut found: Vec<(String, PathBuf)> = Vec::new();
        for name in self.names(below) {
            let path = below.join(&name);
            if self.files.is_dir(&path) {
                found.push((name, resolve(self.files, &path)));
            } else if let Some(stem) = name.strip_suffix(".conf") {
                found.push((stem.to_string(), path));
            }
        }
        found.sort();
        if found.len() > MAX_IMAGES {
            self.stop(below, format!("more than {MAX_IMAGES} images"));
        }
        let twice = found.windows(2).find(|w| w[0].0 == w[1].0).map(|w| w[0].0.clone());
        let reserved = found.iter().map(|(name, _)| name).find(|n| *n == MAIN_IMAGE);
        if let Some(name) = twice.as_ref().or(reserved) {
            let message = format!("more than one image is called {name:?}");
            self.report(Diagnostic::error(&Origin::path(below), "", message));
        }
        let mut images = Vec::new();
        for (name, path) in found {
            images.extend(self.read_image(name, &path, main));
        }
        self.image = MAIN_IMAGE.into();
        images
    }

    /// One image, if its `[Match]` holds.
    fn read_image(&mut self, name: String, path: &Path, main: &Image) -> Option<Image> {
        if self.stopped {
            return None;
        }
        self.image = name;
        self.layers = Layers { inherited: self.handed_down(main), ..Layers::default() };
        self.cwd = self.project.to_path_buf();
        let read = self.configuration(path, Extent { profiles: true, local: true });
        let image = self.image();
        read.then_some(image)
    }

    /// What the main image's settings are to the others.
    fn handed_down(&mut self, main: &Image) -> Layer {
        let mut layer = Layer::default();
        let mut values = 0;
        for setting in SETTINGS.iter() {
            let down = matches!(setting.scope(), Scope::Inherited | Scope::Universal);
            if down && main.layers.touched(setting.name) {
                let stored: Vec<_> = main.layers.values(setting).into_iter().cloned().collect();
                values += stored.len();
                layer.hand_down(setting.name, stored);
            }
        }
        let passed = main.layers.list("PassEnvironment").unwrap_or_default();
        let passed: BTreeSet<_> = passed.into_iter().filter_map(text).collect();
        let is_passed =
            |s: &&Stored| matches!(&s.value, Value::Pair { name, .. } if passed.contains(name));
        let environment = main.layers.list("Environment").unwrap_or_default();
        let environment: Vec<_> = environment.into_iter().filter(is_passed).cloned().collect();
        if !environment.is_empty() {
            values += environment.len();
            layer.hand_down("Environment", environment);
        }
        self.count(values);
        layer
    }

    /// The images that an image depends on have to be there.
    fn missing(&mut self, image: &Image, names: &BTreeSet<String>) {
        let named = origins(image).into_iter().filter_map(|s| Some((text(s)?, &s.origin)));
        for (name, origin) in named.filter(|(name, _)| !names.contains(name)) {
            let help = did_you_mean(&name, names.iter().map(String::as_str));
            let message = format!("mkosi.images has no image {name:?}");
            let usual = "images are the files and directories of mkosi.images/".to_string();
            let diagnostic = Diagnostic::error(origin, &name, message);
            self.report(diagnostic.help_opt(help.or(Some(usual))));
        }
    }
}

/// The images that are there of those that an image depends on.
fn dependencies(image: &Image, names: &BTreeSet<String>) -> Vec<String> {
    let named = origins(image).into_iter().filter_map(text);
    named.filter(|name| names.contains(name)).collect()
}

fn origins(image: &Image) -> Vec<&Stored> {
    image.layers.list("Dependencies").unwrap_or_default()
}

fn text(stored: &Stored) -> Option<String> {
    match &stored.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

/// The names of all images that the main one needs, by way of others, too.
fn needed(main: &Image, images: &[Image]) -> BTreeSet<String> {
    let of: BTreeMap<_, _> = images.iter().map(|i| (&i.name, &i.dependencies)).collect();
    let mut needed = BTreeSet::new();
    let mut queue: VecDeque<_> = main.dependencies.iter().collect();
    while let Some(name) = queue.pop_front() {
        if needed.insert(name.clone()) {
            queue.extend(of.get(name).into_iter().copied().flatten());
        }
    }
    needed
}

/// The images in the order in which they can be built, and those that never can. Those
/// that are ready stand in the order in which they, or what they waited for, were named.
fn in_order(images: Vec<Image>) -> (Vec<Image>, Vec<Image>) {
    let mut named: Vec<&str> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
    let mut waited_for: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for image in &images {
        let once: BTreeSet<&str> = image.dependencies.iter().map(String::as_str).collect();
        waiting.insert(&image.name, once.len());
        named.extend(std::iter::once(image.name.as_str()).filter(|n| seen.insert(*n)));
        named.extend(image.dependencies.iter().map(String::as_str).filter(|n| seen.insert(*n)));
        once.into_iter().for_each(|name| waited_for.entry(name).or_default().push(&image.name));
    }
    let mut ready: VecDeque<&str> = named.into_iter().filter(|n| waiting[n] == 0).collect();
    let mut place: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(name) = ready.pop_front() {
        place.insert(name.to_string(), place.len());
        for next in waited_for.remove(name).unwrap_or_default() {
            let left = waiting.get_mut(next).expect("every image waits for so many");
            *left -= 1;
            if *left == 0 {
                ready.push_back(next);
            }
        }
    }
    let (mut ordered, never): (Vec<_>, Vec<_>) =
        images.into_iter().partition(|i| place.contains_key(&i.name));
    ordered.sort_by_key(|i| place[&i.name]);
    (ordered, never)
}
