//! The files that depmod writes, from a [`ModuleSet`]. Verified byte for byte
//! against kmod's depmod on Debian's kernels (`tests/oracle_depmod.rs`).

use std::collections::BTreeMap;

use super::deps::Owners;
use super::trie::{Trie, TrieError};
use super::{Dependencies, Module, ModuleError, ModuleSet, symhash};

/// File name → bytes.
pub type DepmodFiles = BTreeMap<&'static str, Vec<u8>>;

impl ModuleSet {
    /// `modules.dep`, `.alias`, `.symbols`, `.softdep`, `.weakdep`, `.devname`,
    /// and the binary indices, as `depmod -a` makes them.
    pub fn depmod(&self) -> Result<DepmodFiles, ModuleError> {
        let owners = self.owners();
        let deps = self.dependencies_by(&owners)?;
        let lines = self.dep_lines(&deps);
        let (aliases, (symbols, symbols_bin)) =
            rayon::join(|| self.alias_trie().encode(), || self.symbols(&owners));
        let mut files = DepmodFiles::from([
            ("modules.dep", lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect()),
            ("modules.alias", self.aliases()),
            ("modules.symbols", symbols),
            ("modules.softdep", self.listed("softdep", "Soft")),
            ("modules.weakdep", self.listed("weakdep", "Weak")),
            ("modules.devname", self.device_names()),
        ]);
        for (file, bytes) in [
            ("modules.dep.bin", self.dep_trie(&lines).encode()),
            ("modules.alias.bin", aliases),
            ("modules.symbols.bin", symbols_bin),
            ("modules.builtin.bin", self.builtin_trie()),
            ("modules.builtin.alias.bin", self.builtin_alias_trie().encode()),
        ] {
            files.insert(file, bytes.map_err(|source| ModuleError::Index { file, source })?);
        }
        Ok(files)
    }

    fn dep_lines(&self, deps: &Dependencies) -> Vec<Vec<u8>> {
        let line = |(i, module): (usize, &Module)| {
            let mut line = format!("{}:", module.path).into_bytes();
            for need in deps.all(i) {
                line.push(b' ');
                line.extend_from_slice(self.modules[need as usize].path.as_bytes());
            }
            line
        };
        self.modules.iter().enumerate().map(line).collect()
    }

    fn dep_trie<'a>(&'a self, lines: &'a [Vec<u8>]) -> Trie<'a> {
        let mut trie = Trie::default();
        for (i, (module, line)) in self.modules.iter().zip(lines).enumerate() {
            trie.insert(module.name.clone().into_bytes(), line, i as u32);
        }
        trie
    }

    fn aliases(&self) -> Vec<u8> {
        let mut out = b"# Aliases extracted from modules themselves.\n".to_vec();
        for module in &self.modules {
            for alias in module.info("alias") {
                push_line(&mut out, &[b"alias", alias, module.name.as_bytes()]);
            }
        }
        out
    }

    fn alias_trie(&self) -> Trie<'_> {
        let mut trie = Trie::default();
        for (i, module) in self.modules.iter().enumerate() {
            for alias in module.info("alias").filter_map(normalise_alias) {
                trie.insert(alias, module.name.as_bytes(), i as u32);
            }
        }
        trie
    }

    fn symbols(&self, owners: &Owners<'_>) -> (Vec<u8>, Result<Vec<u8>, TrieError>) {
        let mut symbols: Vec<(&[u8], u32)> = owners.iter().map(|(s, owner)| (*s, *owner)).collect();
        symbols.sort_by_cached_key(|(symbol, _)| symhash::sort_key(symbol));
        let mut out = b"# Aliases for symbols, used by symbol_request().\n".to_vec();
        let mut trie = Trie::default();
        for (symbol, owner) in symbols {
            let key = [&b"symbol:"[..], symbol].concat();
            let name = self.modules[owner as usize].name.as_bytes();
            push_line(&mut out, &[b"alias", &key, name]);
            trie.insert(key, name, owner);
        }
        (out, trie.encode())
    }

    fn listed(&self, key: &str, title: &str) -> Vec<u8> {
        let head = format!("# {title} dependencies extracted from modules themselves.\n");
        let mut out = head.into_bytes();
        for module in &self.modules {
            for value in module.info(key) {
                push_line(&mut out, &[key.as_bytes(), module.name.as_bytes(), value]);
            }
        }
        out
    }

    /// Modules that can be loaded by opening their static device node.
    fn device_names(&self) -> Vec<u8> {
        let mut out = b"# Device nodes to trigger on-demand module loading.\n".to_vec();
        for module in &self.modules {
            let mut name = None;
            let mut device = None;
            for alias in module.info("alias") {
                if let Some(devname) = alias.strip_prefix(b"devname:") {
                    name = Some(devname);
                } else if let Some(found) = device_number(alias) {
                    device = Some(found);
                }
                if let (Some(name), Some(device)) = (name, &device) {
                    push_line(&mut out, &[module.name.as_bytes(), name, device.as_bytes()]);
                    break;
                }
            }
        }
        out
    }

    fn builtin_trie(&self) -> Result<Vec<u8>, TrieError> {
        let mut trie = Trie::default();
        for name in self.builtin_names() {
            trie.insert(name.into_bytes(), b"", 0);
        }
        trie.encode()
    }

    fn builtin_alias_trie(&self) -> Trie<'_> {
        let mut trie = Trie::default();
        for (module, key, value) in self.builtin_info() {
            if let (b"alias", Some(alias)) = (key, normalise_alias(value)) {
                trie.insert(alias, module, 0);
            }
        }
        trie
    }

    /// Records of `modules.builtin.modinfo`: module, key, value.
    pub fn builtin_info(&self) -> impl Iterator<Item = (&[u8], &[u8], &[u8])> {
        self.builtin_modinfo.split(|b| *b == 0).filter_map(|record| {
            let dot = record.iter().position(|b| *b == b'.')?;
            let (module, rest) = (&record[..dot], &record[dot + 1..]);
            let equals = rest.iter().position(|b| *b == b'=')?;
            Some((module, &rest[..equals], &rest[equals + 1..]))
        })
    }
}

fn push_line(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend(words.join(&b' '));
    out.push(b'\n');
}

/// `char-major-10-229` → `c10:229`.
fn device_number(alias: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(alias).ok()?;
    let (kind, numbers) = match text.strip_prefix("char-major-") {
        Some(numbers) => ('c', numbers),
        None => ('b', text.strip_prefix("block-major-")?),
    };
    let (major, minor) = numbers.split_once('-')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    Some(format!("{kind}{major}:{minor}"))
}

/// As modprobe looks aliases up: `-` and `_` are the same, except in brackets.
/// `None` if the brackets do not match; depmod leaves those out of the index.
pub(super) fn normalise_alias(alias: &[u8]) -> Option<Vec<u8>> {
    let mut inside = false;
    let mut out = Vec::with_capacity(alias.len());
    for byte in alias {
        match byte {
            b']' if !inside => return None,
            b']' => inside = false,
            b'[' => inside = true,
            b'-' if !inside => {
                out.push(b'_');
                continue;
            }
            _ => {}
        }
        out.push(*byte);
    }
    (!inside).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_normalised_outside_brackets() {
        assert_eq!(normalise_alias(b"a-b_[c-d]-e").unwrap(), b"a_b_[c-d]_e");
        assert_eq!(normalise_alias(b"a]-b"), None);
        assert_eq!(normalise_alias(b"a[-b"), None);
    }

    #[test]
    fn device_numbers_need_a_minor() {
        assert_eq!(device_number(b"char-major-10-229").as_deref(), Some("c10:229"));
        assert_eq!(device_number(b"block-major-7-0").as_deref(), Some("b7:0"));
        for no in ["char-major-10-*", "block-major-259", "devname:fuse"] {
            assert_eq!(device_number(no.as_bytes()), None);
        }
    }
}
