//! The kernels of a Tree: `/usr/lib/modules/VERSION/vmlinuz` as
//! kernel-install(8) has it, or `/boot/vmlinuz-VERSION` as Debian has it.

use std::collections::BTreeMap;

use tree::{Content, Tree, TreePath};

use crate::version;

/// A kernel and where it is.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// As `uname -r` prints it.
    pub version: String,
    /// Its image, links followed.
    pub path: TreePath,
    /// The image's bytes.
    pub image: Content,
}

/// Why the kernels cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// A version becomes part of names in the ESP.
    #[error("the name of the kernel {0} is not UTF-8")]
    Name(TreePath),
}

/// All kernels, newest first. One version is listed once: what lies with its
/// modules counts more than what lies in `/boot`. A dangling link is no kernel.
pub fn find(tree: &Tree) -> Result<Vec<Kernel>, KernelError> {
    let mut found: BTreeMap<String, Kernel> = BTreeMap::new();
    for (version, path) in candidates(tree) {
        let Ok(real) = tree.resolve(&path) else { continue };
        let Some(image) = tree.get(&real).and_then(tree::Node::content) else { continue };
        let version = String::from_utf8(version).map_err(|_| KernelError::Name(path))?;
        let image = image.clone();
        found.entry(version.clone()).or_insert(Kernel { version, path: real, image });
    }
    let mut kernels: Vec<Kernel> = found.into_values().collect();
    kernels.sort_by(|a, b| version::compare(&b.version, &a.version));
    Ok(kernels)
}

fn candidates(tree: &Tree) -> Vec<(Vec<u8>, TreePath)> {
    let mut all = Vec::new();
    let dir = |path| tree.resolve(&TreePath::literal(path)).ok();
    for modules in ["usr/lib/modules", "lib/modules"].into_iter().filter_map(dir) {
        for (path, _) in tree.children(&modules) {
            if let Ok(image) = path.join("vmlinuz") {
                all.push((path.name().to_vec(), image));
            }
        }
    }
    if let Some(boot) = dir("boot") {
        for (path, _) in tree.children(&boot) {
            // arm64 and riscv64 call theirs vmlinux on Debian.
            let name = path.name();
            let version = name.strip_prefix(b"vmlinuz-").or_else(|| name.strip_prefix(b"vmlinux-"));
            if let Some(version) = version.filter(|v| !v.is_empty()) {
                all.push((version.to_vec(), path.clone()));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use tree::Meta;

    fn p(s: &'static str) -> TreePath {
        TreePath::literal(s)
    }

    #[test]
    fn kernels_come_newest_first_from_both_places() {
        let mut t = Tree::new();
        t.make_dirs(&p("usr/lib")).unwrap();
        t.add_symlink(p("lib"), "usr/lib").unwrap();
        t.write(&p("boot/vmlinuz-6.12.9-amd64"), 0o644, *b"old").unwrap();
        t.write(&p("boot/vmlinuz-6.12.10-amd64"), 0o644, *b"boot").unwrap();
        t.write(&p("lib/modules/6.12.10-amd64/vmlinuz"), 0o644, *b"usr").unwrap();
        t.make_dirs(&p("usr/lib/modules/6.13.0-nokernel")).unwrap();
        t.add_symlink(p("boot/vmlinuz-7.0"), "gone").unwrap();
        t.add_symlink(p("boot/vmlinuz"), "vmlinuz-6.12.10-amd64").unwrap();
        let found = find(&t).unwrap();
        let versions: Vec<_> = found.iter().map(|k| k.version.as_str()).collect();
        assert_eq!(versions, ["6.12.10-amd64", "6.12.9-amd64"]);
        assert_eq!(found[0].path, p("usr/lib/modules/6.12.10-amd64/vmlinuz"));
        assert_eq!(found[0].image.read(9).unwrap(), b"usr");
    }

    #[test]
    fn a_version_that_is_not_text_is_an_error() {
        let mut t = Tree::new();
        t.make_dirs(&p("boot")).unwrap();
        let bad = TreePath::new(b"boot/vmlinuz-\xff").unwrap();
        t.add_file(bad, Meta::file(0o644), Content::empty()).unwrap();
        assert!(find(&t).is_err());
    }
}
