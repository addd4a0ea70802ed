//! From a directory in which commands ran back to a Tree.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags};
use tree::{Content, Device, Kind, Meta, Node, Tree, TreePath, Xattrs};

use super::Workspace;
use super::scan::{Found, scan};
use crate::ledger::{Identity, Key, Override};
use crate::supervisor::in_ledger;
use crate::{ContentSink, Error, confined, sys};
use tree::acl;

pub(super) fn read_back(
    workspace: &mut Workspace,
    sink: &mut dyn ContentSink,
) -> Result<Tree, Error> {
    let found = scan(&workspace.root, &workspace.root_path)?;
    let touched = workspace.ledger.take_touched();
    let reader = Reader::new(workspace, &found, touched);
    let tree = reader.tree(sink)?;
    workspace.tree = tree.clone();
    let live: HashSet<Key> = found.values().map(|found| found.key).collect();
    workspace.ledger.retain(|key| live.contains(&key));
    workspace.known = found;
    Ok(tree)
}

struct Reader<'a> {
    workspace: &'a Workspace,
    found: &'a BTreeMap<TreePath, Found>,
    touched: HashSet<Key>,
    /// The inodes that were there before, to recognise what was renamed.
    before: HashMap<Key, &'a TreePath>,
    /// The names in each directory that changed since the lay-out.
    changed_dirs: HashSet<TreePath>,
}

impl<'a> Reader<'a> {
    fn new(
        workspace: &'a Workspace,
        found: &'a BTreeMap<TreePath, Found>,
        touched: HashSet<Key>,
    ) -> Reader<'a> {
        let known = &workspace.known;
        let before = known.iter().map(|(path, found)| (found.key, path)).collect();
        let mut changed_dirs = HashSet::new();
        let mut note = |path: &TreePath| changed_dirs.extend(path.parent());
        for (path, now) in found {
            if known.get(path).is_none_or(|before| before.key != now.key) {
                note(path);
            }
        }
        known.keys().filter(|path| !found.contains_key(path)).for_each(note);
        Reader { workspace, found, touched, before, changed_dirs }
    }

    fn tree(&self, sink: &mut dyn ContentSink) -> Result<Tree, Error> {
        let mut tree = Tree::new();
        let mut first: HashMap<Key, &TreePath> = HashMap::new();
        for (path, now) in self.found {
            if now.links > 1 && !now.is_dir() {
                if let Some(existing) = first.get(&now.key) {
                    tree.add_link(path.clone(), existing)?;
                    continue;
                }
                first.insert(now.key, path);
            }
            let node = match self.unchanged(path, now) {
                Some(node) => node.clone(),
                None => self
                    .node(path, now, sink)
                    .map_err(Error::io("read back", path.below(&self.workspace.root_path)))?,
            };
            if path.is_root() {
                tree.put(path.clone(), node)?;
            } else {
                tree.add(path.clone(), node)?;
            }
        }
        Ok(tree)
    }

    /// The node as it was, if stat proves that nothing changed.
    fn unchanged(&self, path: &TreePath, now: &Found) -> Option<&Node> {
        let known = self.workspace.known.get(path)?;
        let same = known.key == now.key
            && known.ctime == now.ctime
            && known.size == now.size
            && known.mode == now.mode
            && known.mtime == now.mtime;
        if !same || self.touched.contains(&now.key) {
            return None;
        }
        self.workspace.tree.get(path)
    }

    fn node(&self, path: &TreePath, now: &Found, sink: &mut dyn ContentSink) -> io::Result<Node> {
        let (parent, fd) = if path.is_root() {
            (self.workspace.root.try_clone()?, self.workspace.root.try_clone()?)
        } else {
            let (parent, name) = confined::open_parent(self.workspace.root.as_fd(), path)?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(&parent, &name, flags, Mode::empty())?;
            (parent, fd)
        };
        let (id, _) = Identity::of(fd.as_fd())?;
        let mut over = self.workspace.ledger.get(&id);
        let kind = self.kind(path, now, &parent, &fd, &over, sink)?;
        let (uid, gid) = over.owner.unwrap_or((now.uid, now.gid));
        let mode = (now.mode & 0o7777) as u16;
        let xattrs = self.xattrs(&fd, now, std::mem::take(&mut over.xattrs))?;
        let mtime = match self.workspace.tree.get(path) {
            Some(old) if now.is_dir() && old.is_dir() && !self.changed_dirs.contains(path) => {
                self.old_mtime(path, now, old)
            }
            _ => now.mtime,
        };
        Ok(Node { meta: Meta { mode, uid, gid, mtime, xattrs }, kind })
    }

    /// A directory's time from before, unless it is another directory now.
    fn old_mtime(&self, path: &TreePath, now: &Found, old: &Node) -> tree::Mtime {
        let same = self.workspace.known.get(path).is_some_and(|before| before.key == now.key);
        if same { old.meta.mtime } else { now.mtime }
    }

    fn kind(
        &self,
        path: &TreePath,
        now: &Found,
        parent: &OwnedFd,
        fd: &OwnedFd,
        over: &Override,
        sink: &mut dyn ContentSink,
    ) -> io::Result<Kind> {
        if let Some(special) = over.special {
            return Ok(match special.block {
                true => Kind::BlockDev(special.device),
                false => Kind::CharDev(special.device),
            });
        }
        let device = Device { major: now.device.0, minor: now.device.1 };
        Ok(match now.kind() {
            libc::S_IFDIR => Kind::Dir,
            libc::S_IFLNK => {
                let target = rustix::fs::readlinkat(fd, c"", Vec::new())?;
                Kind::Symlink(target.into_bytes().into())
            }
            libc::S_IFIFO => Kind::Fifo,
            libc::S_IFSOCK => Kind::Socket,
            libc::S_IFCHR => Kind::CharDev(device),
            libc::S_IFBLK => Kind::BlockDev(device),
            _ => Kind::File(self.content(path, now, parent, sink)?),
        })
    }

    fn content(
        &self,
        path: &TreePath,
        now: &Found,
        parent: &OwnedFd,
        sink: &mut dyn ContentSink,
    ) -> io::Result<Content> {
        let name = CString::new(path.name())?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(parent, &name, flags, Mode::empty())?);
        let old = [self.before.get(&now.key).copied(), Some(path)];
        for old in old.into_iter().flatten() {
            let old = self.workspace.tree.get(old).and_then(Node::content);
            if let Some(old) = old.filter(|old| old.len() == now.size)
                && is_content(&file, old)?
            {
                return Ok(old.clone());
            }
        }
        sink.add(&file, now.size)
    }

    /// The attributes of the file system that count, and those of the ledger.
    fn xattrs(&self, fd: &OwnedFd, now: &Found, recorded: Xattrs) -> io::Result<Xattrs> {
        let mut all = Xattrs::new();
        let policy = &self.workspace.policy;
        if now.kind() != libc::S_IFLNK {
            let path = CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
            for name in sys::list_xattr(&path)? {
                let known = name.starts_with(b"user.")
                    || matches!(&name[..], b"security.capability" | acl::ACCESS | acl::DEFAULT);
                if known && !in_ledger(&name, policy) {
                    let mut value = sys::get_xattr(&path, &CString::new(&name[..])?)?;
                    if name == b"security.capability" {
                        value = capability_without_namespace(value);
                    }
                    all.insert(name, value);
                }
            }
        }
        for (name, mut value) in recorded {
            if name == acl::ACCESS {
                value = acl::with_mode(&value, now.mode);
            }
            all.insert(name, value);
        }
        Ok(all)
    }
}

/// A file capability that is bound to a user namespace (revision 3) says which; in an
/// image it is root's (revision 2). Format: `linux/capability.h`, `vfs_ns_cap_data`.
pub(crate) fn capability_without_namespace(mut value: Vec<u8>) -> Vec<u8> {
    const REVISION_3: u8 = 3;
    const LEN_2: usize = 20;
    if value.len() == LEN_2 + 4 && value[3] == REVISION_3 {
        value.truncate(LEN_2);
        value[3] = 2;
    }
    value
}

/// Whether the file, which has the same size, has the same bytes.
fn is_content(file: &File, content: &Content) -> io::Result<bool> {
    const CHUNK: usize = 64 * 1024;
    let mut ours = vec![0; CHUNK];
    let mut theirs = vec![0; CHUNK];
    let mut at = 0;
    while at < content.len() {
        let want = CHUNK.min(usize::try_from(content.len() - at).unwrap_or(CHUNK));
        file.read_exact_at(&mut theirs[..want], at)?;
        if content.read_at(&mut ours[..want], at)? != want || ours[..want] != theirs[..want] {
            return Ok(false);
        }
        at += want as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_root_s_in_an_image() {
        // cap_net_raw+ep as setcap writes it, and as the kernel stores it in a user
        // namespace whose root is uid 1000.
        let two = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut three = two.to_vec();
        three[3] = 3;
        three.extend_from_slice(&1000u32.to_le_bytes());
        assert_eq!(capability_without_namespace(three), two);
        assert_eq!(capability_without_namespace(two.to_vec()), two);
    }
}
