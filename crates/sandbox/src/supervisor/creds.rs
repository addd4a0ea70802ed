//! Who a process would be: the ids that `setuid(2)` and its family claim to set.
//!
//! With one id mapped no process can really change its user. So that `su`, `setpriv`
//! and daemons' start-up code go their usual way, the calls succeed and the ids are
//! remembered, and what such a process creates is recorded as that user's.
//!
//! Where they are remembered must follow fork and exec without our seeing either: each
//! process carries the number of its entry in its own soft limit `RLIMIT_LOCKS`, which
//! the kernel has ignored since Linux 2.4.25, and which children inherit.
//!
//! What it is not: access control. A process "as another user" is denied nothing that
//! root may do. Rules: `credentials(7)`, `setresuid(2)`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::tracee::Tracee;
use crate::seccomp::abi::Sys;
use crate::seccomp::notify::Reply;

/// How many different sets of ids a workspace remembers.
const MAX_SETS: usize = 65536;
/// The kernel's `NGROUPS_MAX`.
const MAX_GROUPS: u32 = 65536;
/// `linux/securebits.h`.
const SECBIT_NO_SETUID_FIXUP: u32 = 1 << 2;
const SECBIT_KEEP_CAPS: u32 = 1 << 4;
/// "Leave this id as it is" in `setresuid` and its kin.
const SAME: u32 = u32::MAX;

/// Real, effective, saved and file-system id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ids {
    real: u32,
    effective: u32,
    saved: u32,
    pub fs: u32,
}

impl Ids {
    fn all(id: u32) -> Ids {
        Ids { real: id, effective: id, saved: id, fs: id }
    }

    fn has(&self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// `setuid`, `setgid`.
    fn set(self, id: u32, privileged: bool) -> Result<Ids, i32> {
        match () {
            () if id == SAME => Err(libc::EINVAL),
            () if privileged => Ok(Ids::all(id)),
            () if id == self.real || id == self.saved => Ok(Ids { effective: id, fs: id, ..self }),
            () => Err(libc::EPERM),
        }
    }

    /// `setreuid`, `setregid`.
    fn set_re(self, real: u32, effective: u32, privileged: bool) -> Result<Ids, i32> {
        let real_ok = real == SAME || real == self.real || real == self.effective;
        let effective_ok = effective == SAME || self.has(effective);
        let allowed = privileged || (real_ok && effective_ok);
        if !allowed {
            return Err(libc::EPERM);
        }
        let mut new = self;
        new.real = if real == SAME { self.real } else { real };
        new.effective = if effective == SAME { self.effective } else { effective };
        if real != SAME || (effective != SAME && effective != self.real) {
            new.saved = new.effective;
        }
        new.fs = new.effective;
        Ok(new)
    }

    /// `setresuid`, `setresgid`.
    fn set_res(self, ids: [u32; 3], privileged: bool) -> Result<Ids, i32> {
        if !privileged && !ids.iter().all(|id| *id == SAME || self.has(*id)) {
            return Err(libc::EPERM);
        }
        let pick = |new: u32, old: u32| if new == SAME { old } else { new };
        let effective = pick(ids[1], self.effective);
        let (real, saved) = (pick(ids[0], self.real), pick(ids[2], self.saved));
        Ok(Ids { real, effective, saved, fs: effective })
    }
}

/// The ids of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Creds {
    pub uid: Ids,
    pub gid: Ids,
    pub groups: Vec<u32>,
    /// Capabilities are to survive the next change of user (`PR_SET_KEEPCAPS`).
    keep: bool,
    /// They did.
    kept: bool,
}

impl Creds {
    /// A process that was started as this user and group, without further groups.
    pub(crate) fn of(uid: u32, gid: u32) -> Creds {
        Creds { uid: Ids::all(uid), gid: Ids::all(gid), ..Creds::default() }
    }

    fn privileged(&self) -> bool {
        self.uid.effective == 0 || self.kept
    }

    /// What a change of user does to capabilities (`capabilities(7)`).
    fn after_change_from(mut self, before: &Creds) -> Creds {
        if self.uid.has(0) {
            self.kept = false;
        } else if before.uid.has(0) {
            self.kept = self.keep;
        }
        self
    }

    /// A new program as another user than root has no capabilities.
    fn after_exec(mut self) -> Creds {
        (self.keep, self.kept) = (false, false);
        self
    }

    /// Whether the process would be root for the file system.
    pub(crate) fn is_root(&self) -> bool {
        self.uid.fs == 0
    }

    /// Whether it is in the group.
    pub(crate) fn in_group(&self, gid: u32) -> bool {
        self.gid.fs == gid || self.groups.contains(&gid)
    }
}

/// Every set of ids that some process has or had. Number 0 is root.
#[derive(Debug)]
pub(crate) struct CredTable {
    sets: Mutex<Vec<Arc<Creds>>>,
    changed: AtomicBool,
}

impl Default for CredTable {
    fn default() -> Self {
        let sets = Mutex::new(vec![Arc::new(Creds::default())]);
        CredTable { sets, changed: AtomicBool::new(false) }
    }
}

impl CredTable {
    /// The number of a set: what a process carries.
    pub(crate) fn number(&self, creds: Creds) -> Option<u64> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.store(true, Ordering::Release);
        if let Some(n) = sets.iter().position(|set| **set == creds) {
            return Some(n as u64);
        }
        if sets.len() >= MAX_SETS {
            return None;
        }
        sets.push(Arc::new(creds));
        Some(sets.len() as u64 - 1)
    }

    /// Who the process would be.
    pub(crate) fn of(&self, t: &Tracee<'_>) -> Arc<Creds> {
        let number = if self.changed.load(Ordering::Acquire) { carried(t.pid()) } else { None };
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let index = number.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        // A number that nobody gave out, or the initial limit: root.
        sets.get(index).unwrap_or(&sets[0]).clone()
    }

    fn give(&self, t: &Tracee<'_>, creds: Creds) -> Reply {
        let Some(number) = self.number(creds) else { return Reply::Errno(libc::EAGAIN) };
        match limit(t.pid(), Some(number)) {
            Some(_) => Reply::Value(0),
            None => Reply::Errno(libc::EPERM),
        }
    }
}

fn carried(pid: u32) -> Option<u64> {
    limit(pid, None)
}

/// Reads, then perhaps sets, the soft limit in which a process carries its number.
fn limit(pid: u32, new: Option<u64>) -> Option<u64> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let none = std::ptr::null::<libc::rlimit64>();
    let call = |new: *const libc::rlimit64, old: &mut libc::rlimit64| {
        // SAFETY: both structures are ours; the new one is only read, or null.
        unsafe { libc::syscall(libc::SYS_prlimit64, pid, libc::RLIMIT_LOCKS, new, old) }
    };
    if call(none, &mut old) != 0 {
        return None;
    }
    if let Some(number) = new {
        let set = libc::rlimit64 { rlim_cur: number, rlim_max: old.rlim_max };
        if call(&set, &mut old) != 0 {
            return None;
        }
    }
    Some(old.rlim_cur)
}

/// Answers a call that reads or changes the ids of a process.
pub(crate) fn call(table: &CredTable, sys: Sys, t: &Tracee<'_>) -> Option<Reply> {
    use Sys::*;
    let now = table.of(t);
    let mut new = (*now).clone();
    let root = now.privileged();
    let set = |result: Result<Ids, i32>, slot: &mut Ids| result.map(|ids| *slot = ids);
    let changed = match sys {
        Getuid => return Some(Reply::Value(now.uid.real.into())),
        Geteuid => return Some(Reply::Value(now.uid.effective.into())),
        Getgid => return Some(Reply::Value(now.gid.real.into())),
        Getegid => return Some(Reply::Value(now.gid.effective.into())),
        Getresuid => return Some(write_three(t, now.uid)),
        Getresgid => return Some(write_three(t, now.gid)),
        Getgroups => return Some(get_groups(t, &now.groups)),
        Setuid => set(now.uid.set(t.int(0), root), &mut new.uid),
        Setgid => set(now.gid.set(t.int(0), root), &mut new.gid),
        Setreuid => set(now.uid.set_re(t.int(0), t.int(1), root), &mut new.uid),
        Setregid => set(now.gid.set_re(t.int(0), t.int(1), root), &mut new.gid),
        Setresuid => set(now.uid.set_res([t.int(0), t.int(1), t.int(2)], root), &mut new.uid),
        Setresgid => set(now.gid.set_res([t.int(0), t.int(1), t.int(2)], root), &mut new.gid),
        Setfsuid => return Some(set_fs(table, t, new, root, true)),
        Setfsgid => return Some(set_fs(table, t, new, root, false)),
        Setgroups => set_groups(t, root, &mut new.groups),
        Prctl => {
            new.keep = match t.int(0) as i32 {
                libc::PR_SET_KEEPCAPS => t.arg(1) != 0,
                _ => t.int(1) & (SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP) != 0,
            };
            carry(table, t, &now, new);
            return None;
        }
        Exec => {
            carry(table, t, &now, new.after_exec());
            return None;
        }
        _ => return None,
    };
    Some(match changed {
        Err(errno) => Reply::Errno(errno),
        Ok(()) if new == *now => Reply::Value(0),
        Ok(()) => table.give(t, new.after_change_from(&now)),
    })
}

/// Records a change that the kernel carries out as well.
fn carry(table: &CredTable, t: &Tracee<'_>, now: &Creds, new: Creds) {
    if new != *now {
        table.give(t, new);
    }
}

/// `setfsuid` and `setfsgid` never fail: they return what was there before.
fn set_fs(table: &CredTable, t: &Tracee<'_>, mut new: Creds, root: bool, user: bool) -> Reply {
    let ids = if user { &mut new.uid } else { &mut new.gid };
    let (before, wanted) = (ids.fs, t.int(0));
    if wanted != SAME && wanted != before && (root || ids.has(wanted)) {
        ids.fs = wanted;
        table.give(t, new);
    }
    Reply::Value(before.into())
}

fn set_groups(t: &Tracee<'_>, root: bool, groups: &mut Vec<u32>) -> Result<(), i32> {
    let count = t.int(0);
    if !root {
        return Err(libc::EPERM);
    }
    if count > MAX_GROUPS {
        return Err(libc::EINVAL);
    }
    let bytes = t.read(t.arg(1), count as usize * 4).ok_or(libc::EFAULT)?;
    *groups = bytes.chunks_exact(4).map(|c| u32::from_ne_bytes([c[0], c[1], c[2], c[3]])).collect();
    groups.sort_unstable();
    Ok(())
}

fn get_groups(t: &Tracee<'_>, groups: &[u32]) -> Reply {
    let room = t.int(0) as i32;
    let bytes: Vec<u8> = groups.iter().flat_map(|g| g.to_ne_bytes()).collect();
    match room {
        0 => Reply::Value(groups.len() as i64),
        ..0 => Reply::Errno(libc::EINVAL),
        _ if (room as usize) < groups.len() => Reply::Errno(libc::EINVAL),
        _ => match t.write(t.arg(1), &bytes) {
            Ok(()) => Reply::Value(groups.len() as i64),
            Err(errno) => Reply::Errno(errno),
        },
    }
}

fn write_three(t: &Tracee<'_>, ids: Ids) -> Reply {
    for (n, id) in [ids.real, ids.effective, ids.saved].into_iter().enumerate() {
        if let Err(errno) = t.write(t.arg(n), &id.to_ne_bytes()) {
            return Reply::Errno(errno);
        }
    }
    Reply::Value(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_gives_everything_up_at_once_and_cannot_go_back() {
        let user = Ids::all(0).set(1000, true).unwrap();
        assert_eq!(user, Ids::all(1000));
        assert_eq!(user.set(0, false), Err(libc::EPERM));
        assert_eq!(user.set(SAME, false), Err(libc::EINVAL));
        assert_eq!(user.set_res([0, SAME, SAME], false), Err(libc::EPERM));
    }

    #[test]
    fn a_saved_id_is_a_way_back() {
        let down = Ids::all(0).set_res([SAME, 1000, 0], true).unwrap();
        assert_eq!((down.real, down.effective, down.saved, down.fs), (0, 1000, 0, 1000));
        assert_eq!(down.set(0, false).unwrap().effective, 0);
        // setreuid(2): the saved id follows when the real one is set.
        let swapped = Ids::all(0).set_re(1000, SAME, true).unwrap();
        assert_eq!((swapped.real, swapped.effective, swapped.saved), (1000, 0, 0));
        let both = Ids::all(0).set_re(1000, 1000, true).unwrap();
        assert_eq!(both, Ids::all(1000));
    }

    #[test]
    fn capabilities_survive_if_asked_and_not_the_next_program() {
        let root = Creds { keep: true, ..Creds::default() };
        let user = Creds { uid: Ids::all(1000), ..root.clone() }.after_change_from(&root);
        assert!(user.privileged() && !user.is_root());
        assert!(!user.after_exec().privileged());
        let plain = Creds { uid: Ids::all(1000), ..Creds::default() };
        assert!(!plain.after_change_from(&Creds::default()).privileged());
    }

    #[test]
    fn equal_sets_have_one_number() {
        let table = CredTable::default();
        let one = table.number(Creds::of(1000, 1000)).unwrap();
        assert_ne!(one, 0);
        assert_eq!(table.number(Creds::of(1000, 1000)), Some(one));
        assert_eq!(table.number(Creds::default()), Some(0));
    }
}
