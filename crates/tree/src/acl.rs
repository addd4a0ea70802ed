//! POSIX ACLs as the extended attributes that the kernel hands out: read, written, and
//! kept in line with the permission bits.
//!
//! An access ACL and the permission bits are two views of one thing: whoever changes one
//! changes the other ([`set_access`], [`with_mode`]). Format: `linux/posix_acl_xattr.h`;
//! rules: `acl(5)`. What it is not: the text form, and names of users.

/// The attribute that limits access to the file itself.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute of a directory that new files in it inherit.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
/// The owner.
pub const USER_OBJ: u16 = 0x01;
/// A named user.
pub const USER: u16 = 0x02;
/// The owning group.
pub const GROUP_OBJ: u16 = 0x04;
/// A named group.
pub const GROUP: u16 = 0x08;
/// What named users and all groups may have at most.
pub const MASK: u16 = 0x10;
/// Everybody else.
pub const OTHER: u16 = 0x20;

/// The id of an entry that names nobody.
pub const NO_ID: u32 = u32::MAX;

/// One entry; their order in an ACL is that of tag and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Whom it is about.
    pub tag: u16,
    /// Which user or group; [`NO_ID`] where the tag says it all.
    pub id: u32,
    /// Read 4, write 2, execute 1.
    pub perm: u16,
}

/// The entries; `None` if the bytes are no valid ACL.
pub fn parse(bytes: &[u8]) -> Option<Vec<Entry>> {
    let (version, entries) = bytes.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || entries.len() % 8 != 0 {
        return None;
    }
    let entries: Vec<Entry> = entries
        .chunks_exact(8)
        .map(|e| Entry {
            tag: u16::from_le_bytes([e[0], e[1]]),
            perm: u16::from_le_bytes([e[2], e[3]]),
            id: u32::from_le_bytes([e[4], e[5], e[6], e[7]]),
        })
        .collect();
    valid(&entries).then_some(entries)
}

/// `posix_acl_valid`: the tags in order, each of the three base entries once, a
/// mask where there are named entries.
fn valid(entries: &[Entry]) -> bool {
    let count = |tag: u16| entries.iter().filter(|e| e.tag == tag).count();
    let known = USER_OBJ | USER | GROUP_OBJ | GROUP | MASK | OTHER;
    let named = count(USER) + count(GROUP) > 0;
    entries.windows(2).all(|w| w[0].tag <= w[1].tag)
        && entries.iter().all(|e| e.tag.count_ones() == 1 && e.tag & known != 0 && e.perm <= 7)
        && [USER_OBJ, GROUP_OBJ, OTHER].iter().all(|tag| count(*tag) == 1)
        && count(MASK) <= 1
        && (!named || count(MASK) == 1)
}

/// The attribute's value. The entries must be in order.
pub fn bytes(entries: &[Entry]) -> Vec<u8> {
    let mut out = VERSION.to_le_bytes().to_vec();
    for e in entries {
        out.extend_from_slice(&e.tag.to_le_bytes());
        out.extend_from_slice(&e.perm.to_le_bytes());
        out.extend_from_slice(&e.id.to_le_bytes());
    }
    out
}

/// The entry whose permissions are the group bits of the mode.
fn group_class(entries: &[Entry]) -> u16 {
    if entries.iter().any(|e| e.tag == MASK) { MASK } else { GROUP_OBJ }
}

/// The permission bits that an access ACL stands for.
pub fn mode_of(entries: &[Entry]) -> u32 {
    let perm = |tag: u16| entries.iter().find(|e| e.tag == tag).map_or(0, |e| u32::from(e.perm));
    perm(USER_OBJ) << 6 | perm(group_class(entries)) << 3 | perm(OTHER)
}

/// What setting an access ACL means: the new permission bits, and the ACL if it says
/// more than those. `None` if it is not valid.
pub fn set_access(acl: &[u8]) -> Option<(u32, bool)> {
    let entries = parse(acl)?;
    Some((mode_of(&entries), entries.len() > 3))
}

/// Whether the bytes are a valid ACL.
pub fn is_valid(acl: &[u8]) -> bool {
    parse(acl).is_some()
}

/// A recorded access ACL with the permission bits that the file has now.
pub fn with_mode(acl: &[u8], mode: u32) -> Vec<u8> {
    let Some(mut entries) = parse(acl) else { return acl.to_vec() };
    let class = group_class(&entries);
    for e in &mut entries {
        match e.tag {
            USER_OBJ => e.perm = (mode >> 6 & 7) as u16,
            OTHER => e.perm = (mode & 7) as u16,
            tag if tag == class => e.perm = (mode >> 3 & 7) as u16,
            _ => {}
        }
    }
    bytes(&entries)
}

/// What a new file with the wanted bits inherits from its directory's default ACL:
/// an access ACL, if the bits do not say it all, and its permission bits.
pub fn inherit(default: &[u8], mode: u32) -> Option<(Option<Vec<u8>>, u32)> {
    let entries = parse(default)?;
    let bits = mode & mode_of(&entries);
    let access = with_mode(default, bits);
    Some(((entries.len() > 3).then_some(access), bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        bytes(
            &entries
                .iter()
                .map(|(tag, perm, id)| Entry { tag: *tag, perm: *perm, id: *id })
                .collect::<Vec<_>>(),
        )
    }

    const NONE: u32 = u32::MAX;

    #[test]
    fn bits_and_acl_are_one() {
        let adm = acl(&[(1, 7, NONE), (4, 5, NONE), (8, 5, 4), (0x10, 5, NONE), (0x20, 0, NONE)]);
        assert_eq!(set_access(&adm), Some((0o750, true)));
        let minimal = acl(&[(1, 6, NONE), (4, 4, NONE), (0x20, 4, NONE)]);
        assert_eq!(set_access(&minimal), Some((0o644, false)));
        let changed = with_mode(&adm, 0o707);
        let expected =
            acl(&[(1, 7, NONE), (4, 5, NONE), (8, 5, 4), (0x10, 0, NONE), (0x20, 7, NONE)]);
        assert_eq!(changed, expected, "the group bits are the mask");
    }

    #[test]
    fn new_files_inherit_no_more_than_they_ask_for() {
        let d = acl(&[(1, 7, NONE), (4, 5, NONE), (8, 7, 4), (0x10, 7, NONE), (0x20, 5, NONE)]);
        let (access, bits) = inherit(&d, 0o640).unwrap();
        assert_eq!(bits, 0o640);
        let expected =
            acl(&[(1, 6, NONE), (4, 5, NONE), (8, 7, 4), (0x10, 4, NONE), (0x20, 0, NONE)]);
        assert_eq!(access, Some(expected));
    }

    #[test]
    fn broken_acls_are_refused() {
        for bad in [
            &b""[..],
            b"\x02\0\0",
            b"\x01\0\0\0",
            &acl(&[(1, 7, NONE), (4, 5, NONE)]),
            &acl(&[(1, 7, NONE), (4, 5, NONE), (8, 5, 4), (0x20, 0, NONE)]),
            &acl(&[(4, 7, NONE), (1, 5, NONE), (0x20, 0, NONE)]),
            &acl(&[(1, 8, NONE), (4, 5, NONE), (0x20, 0, NONE)]),
        ] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }
}
