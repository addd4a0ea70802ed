//! Configuration directories with precedence and masking, as conf-files in
//! systemd: the same basename in an earlier directory wins; an empty file or a
//! link to `/dev/null` masks; the result is sorted by basename.

use std::collections::BTreeMap;

use tree::{Kind, Tree, TreePath};

/// The effective files named `*SUFFIX` of `dirs` (earlier wins), sorted by name.
pub fn files(tree: &Tree, dirs: &[&str], suffix: &str) -> Vec<TreePath> {
    let mut found: BTreeMap<Vec<u8>, Option<TreePath>> = BTreeMap::new();
    for dir in dirs {
        let Ok(dir) = TreePath::new(dir) else { continue };
        let Ok(dir) = tree.resolve(&dir) else { continue };
        for (path, node) in tree.children(&dir) {
            if !path.name().ends_with(suffix.as_bytes()) {
                continue;
            }
            let masked = match &node.kind {
                Kind::File(content) => content.is_empty(),
                Kind::Symlink(target) => **target == *b"/dev/null",
                _ => continue,
            };
            found.entry(path.name().to_vec()).or_insert_with(|| (!masked).then(|| path.clone()));
        }
    }
    found.into_values().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedence_and_masks() {
        let mut t = Tree::new();
        let mut file = |path: &str, text: &str| {
            t.write(&TreePath::new(path).unwrap(), 0o644, text.as_bytes()).unwrap();
        };
        file("usr/lib/x.d/10-a.conf", "a");
        file("usr/lib/x.d/20-b.conf", "b");
        file("usr/lib/x.d/30-c.conf", "c");
        file("usr/lib/x.d/readme", "no");
        file("etc/x.d/20-b.conf", "mine");
        file("etc/x.d/05-z.conf", "first");
        t.add_symlink(TreePath::literal("etc/x.d/30-c.conf"), "/dev/null").unwrap();
        let files = files(&t, &["etc/x.d", "run/x.d", "usr/lib/x.d"], ".conf");
        let shown: Vec<_> = files.iter().map(|p| p.to_string()).collect();
        assert_eq!(shown, ["/etc/x.d/05-z.conf", "/usr/lib/x.d/10-a.conf", "/etc/x.d/20-b.conf"]);
    }
}
