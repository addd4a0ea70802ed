//! Ending everything that a command started, where no pid namespace does it.
//!
//! Runs in the sandbox's first process, which is a "child subreaper": whatever loses its
//! parent becomes its child. It kills its children until none is left. Same rules as
//! in [`super::child`]: no allocation.

use super::child::tell_end;
use super::plan::Fds;

/// Waits for the command or for the order to stop, then kills what is left.
pub(super) fn wait_and_kill(fds: &Fds, command: i32) {
    // SAFETY: all-zero is a valid signal set, which the calls below fill.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is ours; both signals were blocked before.
    unsafe {
        libc::sigaddset(&mut set, libc::SIGCHLD);
        libc::sigaddset(&mut set, libc::SIGTERM);
    }
    loop {
        let mut status = 0;
        // SAFETY: the status is ours.
        let ended = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
        if ended == command {
            kill_rest();
            tell_end(fds, status);
            return;
        }
        if ended > 0 {
            continue;
        }
        // SAFETY: the set is ours; no information is asked for.
        let signal = unsafe { libc::sigwaitinfo(&set, std::ptr::null_mut()) };
        if signal == libc::SIGTERM {
            kill_rest();
            return;
        }
    }
}

/// Passes over `/proc` after which we give up: a process that cannot be killed.
const MAX_PASSES: u32 = 5000;

/// Kills children until there are none: grandchildren become children in turn.
fn kill_rest() {
    for _ in 0..MAX_PASSES {
        let found = kill_children();
        loop {
            let mut status = 0;
            // SAFETY: the status is ours.
            let ended = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
            if ended < 0 {
                return;
            }
            if ended == 0 {
                break;
            }
        }
        if !found {
            // Dead, but not yet ours to wait for.
            // SAFETY: sleeps; no remainder is asked for.
            unsafe { libc::usleep(1000) };
        }
    }
}

#[repr(C)]
struct Entry {
    inode: u64,
    offset: i64,
    length: u16,
    kind: u8,
}
/// Where the name starts in `struct linux_dirent64`.
const NAME_AT: usize = 19;

/// Sends SIGKILL to every process whose parent is this one; true if there was any.
fn kill_children() -> bool {
    // SAFETY: a terminated string; a failed open gives a negative number.
    let proc = unsafe {
        libc::open(c"/proc".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC)
    };
    if proc < 0 {
        return false;
    }
    let mut found = false;
    let mut buffer = [0u64; 512];
    let size = size_of_val(&buffer);
    loop {
        let start: *mut u8 = buffer.as_mut_ptr().cast();
        // SAFETY: the kernel fills at most `size` bytes of the buffer.
        let got = unsafe { libc::syscall(libc::SYS_getdents64, proc, start, size) };
        if got <= 0 {
            break;
        }
        let mut at = 0usize;
        while at + NAME_AT < got as usize {
            // SAFETY: the kernel put an entry here; entries are aligned to eight bytes.
            let (length, name) = unsafe {
                let entry = start.add(at).cast::<Entry>();
                ((*entry).length, start.add(at + NAME_AT))
            };
            // SAFETY: the name is terminated within the entry.
            if let Some(pid) = unsafe { number(name) } {
                // SAFETY: `getppid` and `kill` take numbers.
                if parent_of(proc, pid) == Some(unsafe { libc::getpid() }) {
                    // SAFETY: our own child, which nobody else waits for.
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                    found = true;
                }
            }
            if length == 0 {
                break;
            }
            at += usize::from(length);
        }
    }
    // SAFETY: a descriptor that this function opened.
    unsafe { libc::close(proc) };
    found
}

/// The number that a terminated string is.
///
/// # Safety
/// `text` must point to a terminated string.
unsafe fn number(mut text: *const u8) -> Option<i32> {
    let mut n: i32 = 0;
    let mut digits = 0;
    loop {
        // SAFETY: not past the terminator, which ends the loop.
        match unsafe { *text } {
            0 => return (digits > 0).then_some(n),
            digit @ b'0'..=b'9' => n = n.checked_mul(10)?.checked_add(i32::from(digit - b'0'))?,
            _ => return None,
        }
        digits += 1;
        // SAFETY: the terminator was not reached.
        text = unsafe { text.add(1) };
    }
}

/// The parent that `/proc/PID/stat` names: the second field after the command, which is
/// in parentheses and may hold any character.
fn parent_of(proc: i32, pid: i32) -> Option<i32> {
    let mut path = [0u8; 32];
    let mut at = path.len() - 6;
    path[at..at + 5].copy_from_slice(b"/stat");
    let mut rest = pid;
    while rest > 0 && at > 0 {
        at -= 1;
        path[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // SAFETY: the path is terminated by the array's last byte.
    let fd =
        unsafe { libc::openat(proc, path[at..].as_ptr().cast(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return None;
    }
    let mut text = [0u8; 512];
    // SAFETY: reads into our buffer; closes our descriptor.
    let got = unsafe {
        let got = libc::read(fd, text.as_mut_ptr().cast(), text.len());
        libc::close(fd);
        got
    };
    parse_parent(text.get(..usize::try_from(got).ok()?)?)
}

fn parse_parent(stat: &[u8]) -> Option<i32> {
    let end = stat.iter().rposition(|b| *b == b')')?;
    let mut fields = stat.get(end + 2..)?.split(|b| *b == b' ');
    fields.next()?;
    let mut n: i32 = 0;
    for digit in fields.next()? {
        n = n.checked_mul(10)?.checked_add(i32::from(digit.checked_sub(b'0')?))?;
    }
    Some(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parse_parent(b"12 (sh) S 7 12 12 0"), Some(7));
        assert_eq!(parse_parent(b"12 (a) R 9 (b) S 4711 1"), Some(4711));
        assert_eq!(parse_parent(b"12 (sh"), None);
    }

    #[test]
    fn our_own_parent_is_where_proc_says() {
        let proc = std::fs::File::open("/proc").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&proc);
        let parent = std::os::unix::process::parent_id() as i32;
        assert_eq!(parent_of(fd, std::process::id() as i32), Some(parent));
    }
}
