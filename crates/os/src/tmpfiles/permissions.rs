//! Modes, owners, ACLs and extended attributes of what is there.
//!
//! Follows chmod(2), chown(2) and acl(5): an access ACL and the permission bits are one;
//! a change of owner takes capabilities of a file away.

use tree::acl::{self, Entry};
use tree::{Kind, Meta, Node, Tree, TreePath};

use super::argument::{Acl, Permission};
use super::line::{Argument, Attributes};
use super::make::Failure;

/// An attribute's value at most (`XATTR_SIZE_MAX`).
const VALUE_LIMIT: usize = 65536;
/// An attribute's name at most (`XATTR_NAME_MAX`).
const NAME_LIMIT: usize = 255;

/// Whether a node was made just now, for what has `:` before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    New,
    Old,
}

fn node<'a>(tree: &'a mut Tree, path: &TreePath) -> &'a mut Node {
    tree.get_mut(path).expect("the caller has found it")
}

/// Changes the permission bits, and the access ACL with them.
pub fn chmod(meta: &mut Meta, mode: u16) {
    meta.mode = mode & 0o7777;
    if let Some(acl) = meta.xattrs.get_mut(acl::ACCESS) {
        *acl = acl::with_mode(acl, u32::from(mode));
    }
}

/// What a file loses whose content or owner changes.
pub fn drop_capabilities(meta: &mut Meta) {
    meta.xattrs.remove(&b"security.capability"[..]);
}

/// Gives a node the mode and owner of a line.
pub fn set(tree: &mut Tree, path: &TreePath, wanted: &Attributes, state: State) {
    let node = node(tree, path);
    let is_new = state == State::New;
    let old = (node.meta.uid, node.meta.gid);
    let pick = |owner: Option<super::line::Owner>, now: u32| {
        owner.filter(|o| is_new || !o.only_new).map_or(now, |o| o.id)
    };
    let new = (pick(wanted.user, old.0), pick(wanted.group, old.1));
    if new != old {
        (node.meta.uid, node.meta.gid) = new;
        if !node.is_dir() {
            drop_capabilities(&mut node.meta);
        }
    }
    let mode = wanted.mode.filter(|m| is_new || !m.only_new);
    if let Some(mode) = mode.filter(|_| !matches!(node.kind, Kind::Symlink(_))) {
        let bits = if mode.masked { mask(mode.bits, node) } else { mode.bits };
        chmod(&mut node.meta, bits);
    }
}

/// `~`: what nobody has in the file is not given.
fn mask(bits: u16, node: &Node) -> u16 {
    let classes = [0o111, 0o222, 0o444].into_iter();
    let gone: u16 = classes.filter(|class| node.meta.mode & class == 0).sum();
    let special = if node.is_dir() { 0 } else { 0o7000 };
    bits & !gone & !special
}

/// Carries out what the types `a`, `h` and `t` say of a node.
pub fn adjust(
    tree: &mut Tree,
    path: &TreePath,
    argument: &Argument,
    more: bool,
) -> Result<(), Failure> {
    let node = node(tree, path);
    let is_link = matches!(node.kind, Kind::Symlink(_));
    match argument {
        Argument::Acl(_) if is_link => Ok(()),
        Argument::Acl(acl) => set_acl(node, acl, more),
        Argument::Xattrs(list) => {
            list.iter().try_for_each(|(name, value)| set_xattr(path, node, name, value))
        }
        Argument::Flags(letters) => flags(path, node, letters),
        Argument::None | Argument::Bytes(_) | Argument::Device(_) => Ok(()),
    }
}

/// A tree has no file attributes. That copies are made on write (`C`) means nothing to
/// the file systems that are written either, so that it can be passed over.
fn flags(path: &TreePath, node: &Node, letters: &str) -> Result<(), Failure> {
    if !node.is_dir() && !matches!(node.kind, Kind::File(_)) {
        return Err(Failure::Line(format!("{path} can have no file attributes")));
    }
    if letters.chars().all(|c| c == 'C') {
        return Ok(());
    }
    Err(Failure::Line(format!(
        "{path}: file attributes ('{letters}') are not kept in an image; the first boot sets them"
    )))
}

fn set_xattr(path: &TreePath, node: &mut Node, name: &[u8], value: &[u8]) -> Result<(), Failure> {
    let refuse = |why: &str| {
        let name = String::from_utf8_lossy(name).into_owned();
        Err(Failure::Line(format!("{path}: extended attribute {name}: {why}")))
    };
    let has_content = node.is_dir() || matches!(node.kind, Kind::File(_));
    if name.len() > NAME_LIMIT || value.len() > VALUE_LIMIT {
        return refuse("too long");
    }
    match name.iter().position(|b| *b == b'.').map(|dot| (&name[..dot], &name[dot + 1..])) {
        Some((_, b"")) | None => return refuse("has no namespace"),
        Some((b"user", _)) if !has_content => return refuse("for files and directories only"),
        Some((b"user" | b"trusted", _)) => {}
        Some((b"security", b"capability")) => return refuse("is binary"),
        Some((b"security", _)) => {}
        Some(_) => return refuse("unknown namespace"),
    }
    node.meta.xattrs.insert(name.to_vec(), value.to_vec());
    Ok(())
}

fn set_acl(node: &mut Node, wanted: &Acl, more: bool) -> Result<(), Failure> {
    let invalid = || {
        Failure::Line(
            "the ACL is not valid: an entry of the owner, the group or others is there twice"
                .into(),
        )
    };
    let base = base(node.meta.mode);
    let old = |name| node.meta.xattrs.get(name).and_then(|bytes| acl::parse(bytes));
    if !wanted.access.is_empty() {
        let all = old(acl::ACCESS).unwrap_or_else(|| base.to_vec());
        let old = if more { all.clone() } else { Vec::new() };
        let new = access(&wanted.access, &all, node);
        let plain = wanted.access.iter().filter(|p| !p.if_executable).map(|p| p.entry);
        let masked = mask_of(&plain.collect::<Vec<_>>()).or_else(|| mask_of(&new));
        let bytes = acl::bytes(&merge(new, &old, &base, masked.filter(|_| !more)));
        check_size(&bytes)?;
        let (mode, is_more) = acl::set_access(&bytes).ok_or_else(invalid)?;
        node.meta.mode = node.meta.mode & 0o7000 | mode as u16;
        match is_more {
            true => node.meta.xattrs.insert(acl::ACCESS.to_vec(), bytes),
            false => node.meta.xattrs.remove(acl::ACCESS),
        };
    }
    if !wanted.default.is_empty() && node.is_dir() {
        let old = node.meta.xattrs.get(acl::DEFAULT).and_then(|bytes| acl::parse(bytes));
        let new: Vec<Entry> = wanted.default.iter().map(|p| p.entry).collect();
        let old = old.filter(|_| more).unwrap_or_default();
        let masked = mask_of(&new).filter(|_| !more);
        let bytes = acl::bytes(&merge(new, &old, &base, masked));
        check_size(&bytes)?;
        acl::parse(&bytes).ok_or_else(invalid)?;
        node.meta.xattrs.insert(acl::DEFAULT.to_vec(), bytes);
    }
    Ok(())
}

fn check_size(acl: &[u8]) -> Result<(), Failure> {
    match acl.len() <= VALUE_LIMIT {
        true => Ok(()),
        false => Err(Failure::Line("the ACL has more entries than the kernel takes".into())),
    }
}

/// The entries with `X` resolved.
fn access(wanted: &[Permission], old: &[Entry], node: &Node) -> Vec<Entry> {
    let runs = |entries: &[Entry]| entries.iter().any(|e| e.perm & 1 != 0 && e.tag != acl::MASK);
    let plain: Vec<Entry> = wanted.iter().map(|p| p.entry).collect();
    let executable = node.is_dir() || runs(&plain) || runs(old);
    let execute = |p: &Permission| match p.if_executable && executable {
        true => Entry { perm: p.entry.perm | 1, ..p.entry },
        false => p.entry,
    };
    wanted.iter().map(execute).collect()
}

/// The ACL of a mode alone.
fn base(mode: u16) -> [Entry; 3] {
    let entry = |tag, shift: u32| Entry { tag, id: acl::NO_ID, perm: mode >> shift & 7 };
    [entry(acl::USER_OBJ, 6), entry(acl::GROUP_OBJ, 3), entry(acl::OTHER, 0)]
}

fn is_named(entry: &Entry) -> bool {
    matches!(entry.tag, acl::USER | acl::GROUP)
}

/// The mask that an ACL needs and does not have: all that any group or named user has.
fn mask_of(entries: &[Entry]) -> Option<Entry> {
    let needed = entries.iter().any(is_named) && !entries.iter().any(|e| e.tag == acl::MASK);
    let counts = |e: &&Entry| is_named(e) || e.tag == acl::GROUP_OBJ;
    let perm = entries.iter().filter(counts).fold(0, |perm, e| perm | e.perm);
    needed.then_some(Entry { tag: acl::MASK, id: acl::NO_ID, perm })
}

/// The new entries over the old ones, base entries and the mask completed. `mask` is that
/// of the new entries alone, where those replace the old ones: as systemd, which makes it
/// before it adds the base.
fn merge(new: Vec<Entry>, old: &[Entry], base: &[Entry], mask: Option<Entry>) -> Vec<Entry> {
    let mut all = old.to_vec();
    for entry in new {
        match all.iter_mut().find(|e| !old.is_empty() && (e.tag, e.id) == (entry.tag, entry.id)) {
            Some(there) => *there = entry,
            None => all.push(entry),
        }
    }
    for entry in base {
        if !all.iter().any(|e| e.tag == entry.tag) {
            all.push(*entry);
        }
    }
    if !all.iter().any(|e| e.tag == acl::MASK) {
        all.extend(mask.or_else(|| mask_of(&all)));
    }
    all.sort_by_key(|e| (e.tag, e.id));
    all
}
