//! [`Tree`]: a root file system in memory, the type in the middle of mkgold.
//!
//! What it is: paths → inodes with mode, owner, times, xattrs, hard links and
//! *where the bytes are*. Ordered, so iteration and everything derived from it
//! is deterministic. Owners, devices and xattrs live here and nowhere else,
//! which is why a build needs no root.
//!
//! What it is not: a file-system format (see `fs`), policy (see `os`, `check`),
//! or a cache (see `store`).
//!
//! Data flow: sources ([`dir`], `dpkg`, readers in `fs`) make a Tree; edits are
//! functions on `&mut Tree`; sinks ([`tar`], `boot::initrd`, writers in `fs`)
//! iterate over it.

pub mod acl;
pub mod content;
pub mod dir;
mod path;
mod resolve;
pub mod tar;
mod tree;

pub use content::{Blob, Content, Part, ReadAt, Segment};
pub use path::{PathError, TreePath};
pub use resolve::ResolveError;
pub use tree::{
    Device, Inode, InodeId, Kind, KindName, Meta, Mtime, Node, Tree, TreeError, Xattrs,
};
