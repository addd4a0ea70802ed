//! Writing the database to a Tree.

use tree::{Content, Kind, Meta, Mtime, Node, Tree, TreePath};

use super::load::file;
use super::{Database, DatabaseError, Installed};

impl Database {
    /// Writes everything that changed, as dpkg would have left it. Files that dpkg
    /// generates get `mtime`; control files keep that of their archive.
    pub fn write(&mut self, tree: &mut Tree, mtime: Mtime) -> Result<(), DatabaseError> {
        let mut out = Output { tree, mtime };
        for dir in ["info", "triggers", "updates"] {
            out.dir(dir)?;
        }
        for (name, mode) in [("lock", 0o640), ("lock-frontend", 0o640), ("triggers/Lock", 0o600)] {
            out.file_if_missing(name, mode, b"")?;
        }
        out.file_if_missing("triggers/Unincorp", 0o644, b"")?;
        out.file_if_missing("info/format", 0o644, b"1\n")?;
        for installed in self.packages.values_mut() {
            out.package(installed)?;
        }
        if let Some(text) = self.triggers.file_text() {
            out.file("triggers/File", 0o644, text.into_bytes())?;
        }
        for (trigger, text) in self.triggers.named_texts() {
            out.file(&format!("triggers/{trigger}"), 0o644, text.into_bytes())?;
        }
        self.triggers.written();
        let status = self.status_text();
        let old = std::mem::replace(&mut self.status, status.clone());
        out.file("status", 0o644, status)?;
        out.file("status-old", 0o644, old)
    }

    /// The text of `status`.
    pub fn status_text(&self) -> Vec<u8> {
        let installed =
            self.packages.iter().map(|(id, installed)| ((**id).clone(), installed.stanza()));
        let others = self.others.iter().map(|(id, raw)| (id.clone(), raw.clone()));
        let mut all: Vec<_> = installed.chain(others).collect();
        all.sort();
        all.into_iter().flat_map(|(_, stanza)| stanza.into_bytes()).collect()
    }
}

struct Output<'a> {
    tree: &'a mut Tree,
    mtime: Mtime,
}

impl Output<'_> {
    fn dir(&mut self, name: &str) -> Result<(), DatabaseError> {
        let path = file(name);
        let is_new = self.tree.lookup(&path).is_none();
        let real = self.tree.make_dirs(&path)?;
        if let Some(node) = self.tree.get_mut(&real).filter(|_| is_new) {
            node.meta.mtime = self.mtime;
        }
        Ok(())
    }

    fn file_if_missing(&mut self, name: &str, mode: u16, text: &[u8]) -> Result<(), DatabaseError> {
        match self.tree.lookup(&file(name)) {
            Some(_) => Ok(()),
            None => self.file(name, mode, text.to_vec()),
        }
    }

    fn file(&mut self, name: &str, mode: u16, text: Vec<u8>) -> Result<(), DatabaseError> {
        let meta = Meta::file(mode).at(self.mtime);
        self.put(&file(name), meta, Content::inline(text))
    }

    fn put(&mut self, path: &TreePath, meta: Meta, content: Content) -> Result<(), DatabaseError> {
        // dpkg writes a new file and renames it: a link at the name is replaced.
        let path = self.tree.resolve_parent(path).map_err(tree::TreeError::from)?;
        Ok(self.tree.put(path, Node { meta, kind: Kind::File(content) })?)
    }

    fn package(&mut self, installed: &mut Installed) -> Result<(), DatabaseError> {
        let name = installed.control.info_name();
        let package = installed.package.take();
        let members = package.iter().flat_map(|package| package.members());
        for member in members.filter(|m| !matches!(&m.name[..], "control" | "list")) {
            let path = file(&format!("info/{name}.{}", member.name));
            let meta = Meta::file(member.mode).at(member.mtime);
            self.put(&path, meta, Content::inline(member.bytes.clone()))?;
        }
        if let Some(sums) = installed.sums.take() {
            self.file(&format!("info/{name}.md5sums"), 0o644, sums)?;
        }
        if package.is_some() || installed.list_changed {
            let list = installed.list.iter().flat_map(list_line).collect();
            self.file(&format!("info/{name}.list"), 0o644, list)?;
            installed.list_changed = false;
        }
        Ok(())
    }
}

/// The root is `/.` in a list.
fn list_line(path: &TreePath) -> Vec<u8> {
    let path = if path.is_root() { b"." } else { path.as_bytes() };
    [b"/", path, b"\n"].concat()
}
