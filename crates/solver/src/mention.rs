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
use hashbrown::HashMap;

use crate::universe::{Universe, VerId};

/// The names met so far and their numbers.
#[derive(Debug, Default)]
pub(crate) struct Mentions<'u> {
    numbers: HashMap<&'u str, u32>,
    /// The next version to read.
    next: u32,
}

impl<'u> Mentions<'u> {
    /// The number of `name`; the highest of all where it is never mentioned.
    pub fn number(&mut self, universe: &'u Universe, name: &str) -> u32 {
        self.first(universe, |numbers| numbers.get(name).copied()).unwrap_or(u32::MAX)
    }

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
        self.meet(record.name.as_str());
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
        for name in fields.into_iter().flat_map(|field| field.names()) {
            self.meet(name);
        }
    }

    fn meet(&mut self, name: &'u str) {
        let number = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        self.numbers.entry(name).or_insert(number);
    }
}
