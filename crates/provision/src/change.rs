//! What an edit changed, as a list that can be shown and carried out.

use std::fmt;

use serde::{Serialize, Serializer};
use tree::{Content, Kind, Meta, Node, Tree, TreePath};

/// One path that is to become another.
///
/// Times are not among it: what is written gets the time at which it is written, and what
/// else is in a directory keeps its own.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// It goes; directories are empty by then.
    Remove {
        /// Which.
        #[serde(serialize_with = "path_text")]
        path: TreePath,
        /// Whether it is a directory.
        directory: bool,
    },
    /// A file, link, directory, device, pipe or socket appears, atomically where it
    /// replaces another.
    Make {
        /// Where.
        #[serde(serialize_with = "path_text")]
        path: TreePath,
        /// Whether something of another content is there.
        replaces: bool,
        /// What it is.
        #[serde(flatten)]
        what: Made,
        /// Mode, owner, attributes.
        #[serde(flatten, serialize_with = "shown_meta")]
        meta: Meta,
    },
    /// Another name of a file that is there by then.
    Link {
        /// Where.
        #[serde(serialize_with = "path_text")]
        path: TreePath,
        /// The other name.
        #[serde(serialize_with = "path_text")]
        to: TreePath,
    },
    /// Mode, owner or attributes change, the content stays.
    Adjust {
        /// Of what.
        #[serde(serialize_with = "path_text")]
        path: TreePath,
        /// What they are then.
        #[serde(flatten, serialize_with = "shown_meta")]
        meta: Meta,
        /// Whether it is a symbolic link, which has no mode.
        #[serde(skip)]
        symlink: bool,
    },
}

/// What is made.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Made {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its length in bytes.
        bytes: u64,
        /// The bytes.
        #[serde(skip)]
        content: Content,
    },
    /// A symbolic link.
    Symlink {
        /// Its target.
        target: String,
        /// Its target, exactly.
        #[serde(skip)]
        exact: Box<[u8]>,
    },
    /// A character device.
    CharDevice(tree::Device),
    /// A block device.
    BlockDevice(tree::Device),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

fn path_text<S: Serializer>(path: &TreePath, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(path)
}

#[derive(Serialize)]
struct ShownMeta {
    mode: String,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    xattrs: Vec<String>,
}

fn shown_meta<S: Serializer>(meta: &Meta, to: S) -> Result<S::Ok, S::Error> {
    let names = meta.xattrs.keys().map(|n| String::from_utf8_lossy(n).into_owned());
    let mode = format!("{:04o}", meta.mode);
    ShownMeta { mode, uid: meta.uid, gid: meta.gid, xattrs: names.collect() }.serialize(to)
}

impl Made {
    fn of(kind: &Kind) -> Made {
        match kind {
            Kind::Dir => Made::Directory,
            Kind::File(content) => Made::File { bytes: content.len(), content: content.clone() },
            Kind::Symlink(target) => Made::Symlink {
                target: String::from_utf8_lossy(target).into_owned(),
                exact: target.clone(),
            },
            Kind::CharDev(device) => Made::CharDevice(*device),
            Kind::BlockDev(device) => Made::BlockDevice(*device),
            Kind::Fifo => Made::Fifo,
            Kind::Socket => Made::Socket,
        }
    }
}

/// The changes, in the order in which they are made: removals from the leaves up, then
/// what is made from the root down.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Plan(pub Vec<Change>);

impl Plan {
    /// What turns `before` into `after`, which was made of a clone of it.
    pub fn between(before: &Tree, after: &Tree) -> Plan {
        let mut plan = Vec::new();
        for (path, _, old) in before.iter().rev() {
            let stays = after.get(path).is_some_and(|new| {
                // A directory is not replaced by renaming something over it.
                new.is_dir() == old.is_dir()
            });
            if !stays {
                plan.push(Change::Remove { path: path.clone(), directory: old.is_dir() });
            }
        }
        for (path, _, new) in after.iter() {
            plan.extend(change(before, after, path, new));
        }
        Plan(plan)
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn change(before: &Tree, after: &Tree, path: &TreePath, new: &Node) -> Option<Change> {
    let old = before.get(path).filter(|old| old.is_dir() == new.is_dir());
    if let Some(old) = old
        && same_kind(&old.kind, &new.kind)
    {
        let adjusted = old.meta.mode != new.meta.mode
            || (old.meta.uid, old.meta.gid) != (new.meta.uid, new.meta.gid)
            || old.meta.xattrs != new.meta.xattrs;
        let symlink = matches!(new.kind, Kind::Symlink(_));
        let meta = new.meta.clone();
        return adjusted.then(|| Change::Adjust { path: path.clone(), meta, symlink });
    }
    if let Some(to) = first_name(after, path) {
        return Some(Change::Link { path: path.clone(), to });
    }
    Some(Change::Make {
        path: path.clone(),
        replaces: old.is_some(),
        what: Made::of(&new.kind),
        meta: new.meta.clone(),
    })
}

/// The name, before `path`, of a file that has several.
fn first_name(tree: &Tree, path: &TreePath) -> Option<TreePath> {
    let inode = tree.inode_id(path)?;
    if tree.links(path) < 2 {
        return None;
    }
    let first = tree.iter().find(|(_, id, _)| *id == inode).map(|(first, ..)| first.clone());
    first.filter(|first| first != path)
}

/// Whether the content stays. Content that comes from elsewhere in the file systems is
/// another only if it is read from another place: an edit that does not touch a file
/// keeps where its bytes are.
fn same_kind(old: &Kind, new: &Kind) -> bool {
    match (old, new) {
        (Kind::File(a), Kind::File(b)) => a.is_same_place(b),
        (Kind::Symlink(a), Kind::Symlink(b)) => a == b,
        (Kind::CharDev(a), Kind::CharDev(b)) | (Kind::BlockDev(a), Kind::BlockDev(b)) => a == b,
        _ => old.name() == new.name(),
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Change::Remove { path, directory: true } => write!(f, "- {path}/"),
            Change::Remove { path, .. } => write!(f, "- {path}"),
            Change::Link { path, to } => write!(f, "+ {path} (another name of {to})"),
            Change::Adjust { path, meta, .. } => {
                write!(f, "~ {path} ({:04o} {}:{})", meta.mode, meta.uid, meta.gid)
            }
            Change::Make { path, replaces, what, meta } => {
                let sign = if *replaces { '~' } else { '+' };
                let owner = format_args!("{:04o} {}:{}", meta.mode, meta.uid, meta.gid);
                match what {
                    Made::Directory => write!(f, "{sign} {path}/ ({owner})"),
                    Made::File { bytes, .. } => {
                        write!(f, "{sign} {path} ({owner}, {bytes} bytes)")
                    }
                    Made::Symlink { target, .. } => write!(f, "{sign} {path} → {target}"),
                    Made::CharDevice(device) => {
                        write!(f, "{sign} {path} ({owner}, c {}:{})", device.major, device.minor)
                    }
                    Made::BlockDevice(device) => {
                        write!(f, "{sign} {path} ({owner}, b {}:{})", device.major, device.minor)
                    }
                    Made::Fifo => write!(f, "{sign} {path} ({owner}, named pipe)"),
                    Made::Socket => write!(f, "{sign} {path} ({owner}, socket)"),
                }
            }
        }
    }
}
