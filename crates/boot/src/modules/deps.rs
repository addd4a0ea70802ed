//! Which module needs which: by the symbols that one exports and another wants.

use std::collections::HashMap;

use super::{ModuleError, ModuleSet};

/// Dependencies between the modules of one [`ModuleSet`], by index into it.
#[derive(Debug)]
pub struct Dependencies {
    direct: Vec<Vec<u32>>,
    rank: Vec<u32>,
}

/// Symbol → module that exports it. Only looked up, never iterated, so that its
/// order reaches nothing.
pub(super) type Owners<'a> = HashMap<&'a [u8], u32>;

impl ModuleSet {
    pub(super) fn owners(&self) -> Owners<'_> {
        let exports = |(i, m): (usize, &'_ super::Module)| (i as u32, m.exports.len());
        let total = self.modules.iter().enumerate().map(exports).map(|(_, n)| n).sum();
        let mut owners = Owners::with_capacity(total);
        for (i, module) in self.modules.iter().enumerate() {
            // Of two exporters depmod takes the later.
            owners.extend(module.exports.iter().map(|symbol| (symbol, i as u32)));
        }
        owners
    }

    /// Computes who needs whom, and an order in which users come before what
    /// they use.
    pub fn dependencies(&self) -> Result<Dependencies, ModuleError> {
        self.dependencies_by(&self.owners())
    }

    pub(super) fn dependencies_by(&self, owners: &Owners<'_>) -> Result<Dependencies, ModuleError> {
        let mut users = vec![0u32; self.modules.len()];
        let mut direct = Vec::with_capacity(self.modules.len());
        for module in &self.modules {
            let mut needs: Vec<u32> = Vec::new();
            for symbol in module.wants.iter() {
                // What nobody exports is the kernel's own.
                let Some(owner) = owners.get(symbol) else { continue };
                if !needs.contains(owner) {
                    needs.push(*owner);
                    users[*owner as usize] += 1;
                }
            }
            direct.push(needs);
        }
        let rank = self.topological(&direct, users)?;
        Ok(Dependencies { direct, rank })
    }

    /// Kahn's algorithm with a stack, which gives depmod's order of
    /// dependencies in a line of modules.dep.
    fn topological(
        &self,
        direct: &[Vec<u32>],
        mut users: Vec<u32>,
    ) -> Result<Vec<u32>, ModuleError> {
        let mut free: Vec<u32> =
            (0..users.len() as u32).filter(|i| users[*i as usize] == 0).collect();
        let mut rank = vec![u32::MAX; users.len()];
        let mut next = 0;
        while let Some(module) = free.pop() {
            rank[module as usize] = next;
            next += 1;
            for need in &direct[module as usize] {
                users[*need as usize] -= 1;
                if users[*need as usize] == 0 {
                    free.push(*need);
                }
            }
        }
        if let Some(stuck) = rank.iter().position(|r| *r == u32::MAX) {
            return Err(ModuleError::Cycle(self.cycle(direct, &rank, stuck)));
        }
        Ok(rank)
    }

    /// Walks from a module that was never free until one comes twice.
    fn cycle(&self, direct: &[Vec<u32>], rank: &[u32], stuck: usize) -> Vec<String> {
        let mut path = vec![stuck];
        loop {
            let at = path[path.len() - 1];
            // A stuck module is used by a stuck one, so walking along users
            // cannot end but in a cycle.
            let user = (0..direct.len())
                .find(|u| rank[*u] == u32::MAX && direct[*u].contains(&(at as u32)))
                .expect("a module that is never free has a user that is never free");
            if let Some(start) = path.iter().position(|p| *p == user) {
                path.push(user);
                return path[start..].iter().rev().map(|i| self.modules[*i].name.clone()).collect();
            }
            path.push(user);
        }
    }
}

impl Dependencies {
    /// What a module needs directly, in the order in which it asks.
    pub fn direct(&self, module: usize) -> &[u32] {
        &self.direct[module]
    }

    /// All that a module needs, users before what they use: to load it, load
    /// from the end.
    pub fn all(&self, module: usize) -> Vec<u32> {
        let mut seen: Vec<u32> = Vec::new();
        let mut pending: Vec<u32> = self.direct[module].clone();
        while let Some(need) = pending.pop() {
            if !seen.contains(&need) {
                seen.push(need);
                pending.extend(&self.direct[need as usize]);
            }
        }
        seen.sort_by_key(|m| self.rank[*m as usize]);
        seen
    }
}
