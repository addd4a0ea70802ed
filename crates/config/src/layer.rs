//! Values on their way: what files set, and what the command line sets above it.
//!
//! Two layers exist while a project is read. The *file* layer grows as files are
//! read; the *upper* layer holds the command line and, once they were read, the
//! `mkosi.local` files. A scalar of the upper layer hides the file layer's; a
//! list of the upper layer follows the file layer's, unless the upper layer
//! emptied it. Below both, a subimage has what the main image hands down to it.

use std::collections::BTreeMap;

use crate::diagnostic::Origin;
use crate::table::Setting;
use crate::value::Value;

/// A value with the place where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The value.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// What one layer says about one setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slot {
    /// Whether an empty assignment came before these values.
    pub reset: bool,
    /// A list's values; at most one for a scalar. None at all: the default.
    pub values: Vec<Stored>,
}

/// A layer: what was set, by setting.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    slots: BTreeMap<&'static str, Slot>,
}

impl Layer {
    /// Assigns: an empty assignment (`None`) resets, lists grow, scalars change.
    pub fn assign(&mut self, setting: &'static Setting, values: Option<Vec<Stored>>) {
        let slot = self.slots.entry(setting.name).or_default();
        match values {
            None => *slot = Slot { reset: true, values: Vec::new() },
            Some(values) if setting.is_list() => slot.values.extend(values),
            Some(values) => slot.values = values.into_iter().last().into_iter().collect(),
        }
    }

    /// Puts values in that are no assignment of the image's own.
    pub fn hand_down(&mut self, name: &'static str, values: Vec<Stored>) {
        self.slots.insert(name, Slot { reset: false, values });
    }

    /// What this layer says about a setting, if anything.
    pub fn slot(&self, name: &str) -> Option<&Slot> {
        self.slots.get(name)
    }

    /// Puts `self` above `files`, whose values become part of this layer.
    pub fn absorb(&mut self, files: Layer, is_list: impl Fn(&str) -> bool) {
        for (name, below) in files.slots {
            match self.slots.get_mut(name) {
                None => {
                    // The reset only concerned that file: it does not reach the
                    // configuration that is read after it.
                    let reset = below.reset && !is_list(name);
                    self.slots.insert(name, Slot { reset, ..below });
                }
                Some(above) if is_list(name) && !above.reset => {
                    let own = std::mem::take(&mut above.values);
                    above.values = below.values;
                    above.values.extend(own);
                }
                Some(_) => {}
            }
        }
    }
}

/// All layers of an image.
#[derive(Debug, Default)]
pub struct Layers {
    /// What the main image hands down to a subimage.
    pub inherited: Layer,
    /// What files set.
    pub files: Layer,
    /// What the command line and local files set.
    pub upper: Layer,
}

impl Layers {
    /// A scalar's value; `None` if nothing set it or it was reset.
    pub fn scalar(&self, name: &str) -> Option<&Stored> {
        let slot = self.upper.slot(name).or_else(|| self.files.slot(name));
        slot.or_else(|| self.inherited.slot(name))?.values.last()
    }

    /// A list's values; `None` if nothing touched it, so that a default counts.
    pub fn list(&self, name: &str) -> Option<Vec<&Stored>> {
        let slots = [&self.inherited, &self.files, &self.upper].map(|layer| layer.slot(name));
        if slots.iter().all(Option::is_none) {
            return None;
        }
        let resets = |slot: &Option<&Slot>| slot.is_some_and(|s| s.reset);
        let first = slots.iter().rposition(resets).unwrap_or(0);
        let values = slots[first..].iter().flatten().flat_map(|s| &s.values);
        Some(values.collect())
    }

    /// Whether anything was assigned, if only nothing.
    pub fn touched(&self, name: &str) -> bool {
        let slots = [&self.inherited, &self.files, &self.upper].map(|layer| layer.slot(name));
        slots.iter().any(Option::is_some)
    }

    /// The values whatever the shape, in order.
    pub fn values(&self, setting: &Setting) -> Vec<&Stored> {
        match setting.is_list() {
            true => self.list(setting.name).unwrap_or_default(),
            false => self.scalar(setting.name).into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::get;

    fn stored(text: &str) -> Option<Vec<Stored>> {
        Some(vec![Stored { value: Value::Text(text.into()), origin: Origin::path("f") }])
    }

    fn texts(layers: &Layers, name: &str) -> Vec<String> {
        let text = |s: &Stored| match &s.value {
            Value::Text(t) => t.clone(),
            other => panic!("{other:?}"),
        };
        layers.values(get(name)).into_iter().map(text).collect()
    }

    #[test]
    fn the_upper_layer_hides_scalars_and_follows_lists() {
        let mut layers = Layers::default();
        let (host, line) = (get("Hostname"), get("KernelCommandLine"));
        layers.files.assign(host, stored("file"));
        layers.files.assign(line, stored("a"));
        layers.upper.assign(line, stored("z"));
        assert_eq!(texts(&layers, "Hostname"), ["file"]);
        assert_eq!(texts(&layers, "KernelCommandLine"), ["a", "z"]);
        layers.upper.assign(host, None);
        assert!(texts(&layers, "Hostname").is_empty());
        layers.upper.assign(line, None);
        layers.upper.assign(line, stored("y"));
        assert_eq!(texts(&layers, "KernelCommandLine"), ["y"]);
    }

    #[test]
    fn a_local_reset_does_not_reach_the_project() {
        let is_list = |n: &str| get(n).is_list();
        let line = get("KernelCommandLine");
        let mut local = Layer::default();
        local.assign(line, None);
        local.assign(line, stored("x"));
        let mut layers = Layers::default();
        layers.upper.assign(line, stored("cli"));
        layers.upper.absorb(local, is_list);
        layers.files.assign(line, stored("c"));
        assert_eq!(texts(&layers, "KernelCommandLine"), ["c", "x", "cli"]);
    }
}
