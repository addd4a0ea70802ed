//! In which order names were first mentioned.
//!
//! apt numbers packages as it meets their names while it reads the indices: a
//! stanza's own name first, then the names in its Pre-Depends, Depends, Conflicts,
//! Breaks, Recommends, Suggests, Replaces, Enhances and Provides. Where nothing
//! else decides between two packages, that number does; and sets such as
//! `?essential` are walked in its order. (Found by comparing the order in which
//! `apt-get -s -o Debug::pkgDepCache::Marker=1` marks packages.)
//!
//! Numbering a whole index would cost more than solving, so it is read only as far
//! as needed: comparing two names stops at the one that comes first.

use debian::PackageRecord;
use hashbrown::{HashMap, HashSet};

use crate::universe::{Universe, VerId};

/// The names met so far and their numbers.
#[derive(Debug, Default)]
pub(crate) struct Mentions<'u> {
    numbers: HashMap<&'u str, u32>,
    /// The next version to read.
    next: u32,
}

impl<'u> Mentions<'u> {
    /// Whether `a` was mentioned before `b`.
    pub fn before(&mut self, universe: &'u Universe, a: &str, b: &str) -> bool {
        let order = self.first(universe, |numbers| match (numbers.get(a), numbers.get(b)) {
            (Some(a), Some(b)) => Some(a < b),
            (Some(_), None) => Some(true),
            (None, Some(_)) => Some(false),
            (None, None) => None,
        });
        order.unwrap_or(a < b)
    }

    /// Reads on until `look` finds something.
    fn first<T>(
        &mut self,
        universe: &'u Universe,
        look: impl Fn(&HashMap<&'u str, u32>) -> Option<T>,
    ) -> Option<T> {
        loop {
            if let Some(found) = look(&self.numbers) {
                return Some(found);
            }
            if self.next as usize >= universe.len() {
                return None;
            }
            self.read(universe.record(VerId(self.next)));
            self.next += 1;
        }
    }

    fn read(&mut self, record: &'u PackageRecord) {
        for name in names_in(record) {
            let number = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
            self.numbers.entry(name).or_insert(number);
        }
    }
}

/// The names that a stanza mentions, in the order in which apt meets them.
fn names_in(record: &PackageRecord) -> impl Iterator<Item = &str> {
    let fields = [
        &record.pre_depends,
        &record.depends,
        &record.conflicts,
        &record.breaks,
        &record.recommends,
        &record.suggests,
        &record.replaces,
        &record.enhances,
        &record.provides,
    ];
    let names = fields.into_iter().flat_map(|field| field.names());
    std::iter::once(record.name.as_str()).chain(names)
}

/// The place of the first mention of each of `names`; nothing for what is never
/// mentioned. Reads no further than the last of them, and numbers nothing else.
pub(crate) fn places<'n>(
    universe: &Universe,
    names: impl Iterator<Item = &'n str>,
) -> HashMap<&'n str, usize> {
    let mut missing: HashSet<&str> = names.collect();
    let mut found = HashMap::new();
    // Most names differ from all that are wanted in length and ends.
    let shape = |name: &str| {
        let bytes = name.as_bytes();
        let ends = bytes.first().zip(bytes.last());
        let (first, last) = ends.unwrap_or((&0, &0));
        (usize::from(*first) * 7 + usize::from(*last) * 31 + bytes.len() * 131) % SHAPES
    };
    let mut wanted = [false; SHAPES];
    missing.iter().for_each(|name| wanted[shape(name)] = true);
    let mut place = 0;
    for version in &universe.versions {
        if missing.is_empty() {
            break;
        }
        for name in names_in(&version.record) {
            if wanted[shape(name)]
                && let Some(name) = missing.take(name)
            {
                found.insert(name, place);
            }
            place += 1;
        }
    }
    found
}

/// The size of the table that tells most names apart.
const SHAPES: usize = 4096;
