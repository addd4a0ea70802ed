//! Entry points for fuzzing: each takes any bytes and must return.

use tree::{Mtime, Tree, TreePath};

use crate::{Fix, Intent, Severity, Subject, check, seal};

/// A root and an ESP made of the bytes: entries separated by NUL bytes, each a kind
/// (`f`, `l`, `h`, `d`, or the same in capitals for the ESP), a path and, after a
/// line's end, the text or target. Sealing them leaves nothing that it could mend.
pub fn fuzz_seal(data: &[u8]) {
    let (mut root, mut esp) = (Tree::new(), Tree::new());
    for entry in data.split(|b| *b == 0).take(200) {
        let Some((kind, rest)) = entry.split_first() else { continue };
        let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        let (path, text) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
        let Ok(path) = TreePath::new(path) else { continue };
        let tree = if kind.is_ascii_uppercase() { &mut esp } else { &mut root };
        let _ = add(tree, kind.to_ascii_lowercase(), path, text);
    }
    let intent = Intent::default();
    let Ok(_) = seal(&mut root, Some(&mut esp), &intent, Mtime::secs(0)) else { return };
    let report = check(&Subject::new(&root, Some(&esp), &intent));
    for (rule, finding) in report.findings(Severity::Error) {
        assert_eq!(
            finding.fix,
            Fix::ByHand,
            "{rule} {}: {} is left",
            finding.path,
            finding.message
        );
    }
    let id = root.read(&os::machine_id::path(), 100).and_then(Result::ok).unwrap_or_default();
    assert!(!os::machine_id::is_valid(String::from_utf8_lossy(&id).trim()), "no machine ID");
}

fn add(tree: &mut Tree, kind: u8, path: TreePath, text: &[u8]) -> Result<(), tree::TreeError> {
    if let Some(parent) = path.parent() {
        tree.make_dirs(&parent)?;
    }
    match kind {
        b'd' => tree.make_dirs(&path).map(drop),
        b'l' if !text.is_empty() => tree.add_symlink(path, text).map(drop),
        b'h' => {
            let target = TreePath::new(text).unwrap_or_else(|_| TreePath::root());
            tree.add_link(path, &target)
        }
        _ => tree.write(&path, 0o600, text).map(drop),
    }
}
