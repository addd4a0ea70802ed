//! From what is to be watched to a BPF program (`seccomp(2)`, classic BPF).

use super::abi::{COMPAT, COMPAT_ARCH, NATIVE, NATIVE_ARCH, Sys};

/// One BPF instruction: the kernel's `struct sock_filter`.
pub(crate) type Instruction = libc::sock_filter;

const LD: u16 = 0x20;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const JSET: u16 = 0x45;
const RET: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const ERRNO: u32 = 0x0005_0000;

const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const X32_BIT: u32 = 0x4000_0000;

/// Flags of `open` that make a file (asm-generic; alike on x86 and arm64).
const MAKES_FILE: u32 = (libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY)) as u32;
/// Address families that reach other machines.
const FAMILIES: [u32; 3] = [libc::AF_INET as u32, libc::AF_INET6 as u32, libc::AF_PACKET as u32];
/// `prctl` options that decide whether capabilities survive a change of user.
const KEEPS_CAPABILITIES: [u32; 2] = [libc::PR_SET_KEEPCAPS as u32, libc::PR_SET_SECUREBITS as u32];
const NEW_ROOTS: u32 = (libc::CLONE_NEWNS | libc::CLONE_NEWUSER) as u32;

/// What the supervisor is asked about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Watch {
    /// There is a supervisor at all.
    pub supervisor: bool,
    /// Owners are in the ledger: chown, stat, making files, changing ids.
    pub owners: bool,
    /// Some owners may not be mapped: chown is tried, and recorded if refused.
    pub chown: bool,
    /// Devices are in the ledger: mknod and stat.
    pub devices: bool,
    /// The host name cannot be changed: uname.
    pub uname: bool,
    /// There is no `/proc`: calls on paths such as `/proc/self/fd/3`.
    pub proc: bool,
    /// There is no empty network namespace: refuse Internet sockets.
    pub no_network: bool,
}

impl Watch {
    fn stat(self) -> bool {
        self.owners || self.devices || self.chown || self.proc
    }
}

/// The whole program.
pub(crate) fn program(watch: Watch) -> Vec<Instruction> {
    let native = section(NATIVE, watch, true);
    let compat = section(COMPAT, watch, false);
    let mut code = vec![stmt(LD, OFFSET_ARCH)];
    // Jumps over a section do not fit a conditional jump's eight bits.
    code.push(jump(JEQ, NATIVE_ARCH, 0, 1));
    code.push(stmt(JA, 1));
    code.push(stmt(JA, native.len() as u32));
    code.extend(native);
    if COMPAT.is_empty() {
        // Owners changed behind our back would be lost: refuse. Otherwise harmless.
        code.push(stmt(RET, if watch.supervisor { errno(libc::ENOSYS) } else { ALLOW }));
        return code;
    }
    code.push(jump(JEQ, COMPAT_ARCH, 1, 0));
    code.push(stmt(RET, errno(libc::ENOSYS)));
    code.extend(compat);
    code
}

fn section(table: &[(u32, Sys)], watch: Watch, native: bool) -> Vec<Instruction> {
    let mut code = vec![stmt(LD, OFFSET_NR)];
    if native && cfg!(target_arch = "x86_64") {
        code.push(jump(JGE, X32_BIT, 0, 1));
        code.push(stmt(RET, errno(libc::ENOSYS)));
    }
    for (number, sys) in table {
        let body = rule(*sys, watch);
        if !body.is_empty() {
            code.push(jump(JEQ, *number, 0, body.len() as u8));
            code.extend(body);
        }
    }
    code.push(stmt(RET, ALLOW));
    code
}

/// What happens to one call; empty if it is simply allowed. Ends with a return.
fn rule(sys: Sys, watch: Watch) -> Vec<Instruction> {
    use Sys::*;
    let notify_if = |wanted: bool| if wanted { vec![stmt(RET, NOTIFY)] } else { Vec::new() };
    match sys {
        Sync => vec![stmt(RET, errno(0))],
        // In every mode, so that what is refused in one is refused in all.
        Old | IoUring => vec![stmt(RET, errno(libc::ENOSYS))],
        Ioctl => when_one_of(1, &[libc::TIOCSTI as u32], errno(libc::EPERM)),
        Socket if watch.no_network => when_one_of(0, &FAMILIES, errno(libc::EAFNOSUPPORT)),
        Socket => Vec::new(),
        _ if !watch.supervisor => Vec::new(),
        XattrAt => vec![stmt(RET, errno(libc::ENOSYS))],
        Openat2 if watch.proc => vec![stmt(RET, errno(libc::ENOSYS))],
        Openat2 if watch.owners => vec![stmt(RET, errno(libc::ENOSYS))],
        Openat2 => Vec::new(),
        Stat | Lstat | Fstat | Fstatat | Statx => notify_if(watch.stat()),
        Chown | Lchown | Fchown | Fchownat => notify_if(watch.owners || watch.chown),
        Mknod | Mknodat => notify_if(watch.owners || watch.devices),
        Creat | Mkdir | Mkdirat | Symlink | Symlinkat => notify_if(watch.owners),
        Open | Openat if watch.proc => notify_if(true),
        Readlink | Readlinkat | Access | Faccessat | Linkat | Chmod | Fchmodat | Utimensat
        | Statfs => notify_if(watch.proc),
        Open if watch.owners => when_set(1, MAKES_FILE),
        Openat if watch.owners => when_set(2, MAKES_FILE),
        Open | Openat => Vec::new(),
        Setxattr | Lsetxattr | Fsetxattr | Getxattr | Lgetxattr | Fgetxattr | Listxattr
        | Llistxattr | Flistxattr | Removexattr | Lremovexattr | Fremovexattr => notify_if(true),
        Setuid | Setgid | Setreuid | Setregid | Setresuid | Setresgid | Setfsuid | Setfsgid
        | Setgroups | Getuid | Geteuid | Getgid | Getegid | Getresuid | Getresgid | Getgroups => {
            notify_if(watch.owners)
        }
        Prctl if watch.owners => when_one_of(0, &KEEPS_CAPABILITIES, NOTIFY),
        Prctl => Vec::new(),
        Exec => notify_if(watch.owners),
        Chroot | PivotRoot | Setns => notify_if(true),
        Unshare => when_set(0, NEW_ROOTS),
        Uname => notify_if(watch.uname),
        Mmap => shared_writable_mappings(),
    }
}

/// A mapping through which a file can change without its times doing so (tmpfs).
fn shared_writable_mappings() -> Vec<Instruction> {
    const SHARED: u32 = libc::MAP_SHARED as u32;
    vec![
        stmt(LD, low(2)),
        jump(JSET, libc::PROT_WRITE as u32, 0, 4),
        stmt(LD, low(3)),
        jump(JSET, libc::MAP_ANONYMOUS as u32, 2, 0),
        jump(JSET, SHARED, 0, 1),
        stmt(RET, NOTIFY),
        stmt(RET, ALLOW),
    ]
}

fn when_set(argument: u32, bits: u32) -> Vec<Instruction> {
    vec![stmt(LD, low(argument)), jump(JSET, bits, 0, 1), stmt(RET, NOTIFY), stmt(RET, ALLOW)]
}

fn when_one_of(argument: u32, values: &[u32], action: u32) -> Vec<Instruction> {
    let mut code = vec![stmt(LD, low(argument))];
    for (i, value) in values.iter().enumerate() {
        let last = i + 1 == values.len();
        code.push(jump(JEQ, *value, (values.len() - 1 - i) as u8, u8::from(last)));
    }
    code.extend([stmt(RET, action), stmt(RET, ALLOW)]);
    code
}

/// Offset of the low half of an argument; all machines we know are little-endian.
fn low(argument: u32) -> u32 {
    16 + 8 * argument
}

fn errno(number: i32) -> u32 {
    ERRNO | number as u32
}

fn stmt(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A classic BPF machine, for the instructions used here.
    fn run(code: &[Instruction], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        let load = |k: u32| match k {
            OFFSET_NR => nr,
            OFFSET_ARCH => arch,
            _ => (args[((k - 16) / 8) as usize] >> (if (k - 16) % 8 == 4 { 32 } else { 0 })) as u32,
        };
        let (mut at, mut a) = (0usize, 0u32);
        loop {
            let i = &code[at];
            at += 1;
            let branch = |yes: bool| usize::from(if yes { i.jt } else { i.jf });
            match i.code {
                LD => a = load(i.k),
                JA => at += i.k as usize,
                JEQ => at += branch(a == i.k),
                JGE => at += branch(a >= i.k),
                JSET => at += branch(a & i.k != 0),
                RET => return i.k,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    fn number(table: &[(u32, Sys)], sys: Sys) -> u32 {
        table.iter().find(|(_, s)| *s == sys).expect("in the table").0
    }

    const FULL: Watch = Watch {
        supervisor: true,
        owners: true,
        chown: true,
        devices: true,
        uname: true,
        proc: false,
        no_network: true,
    };

    #[test]
    fn syncs_do_nothing_and_ordinary_calls_pass() {
        for watch in [Watch::default(), FULL] {
            let code = program(watch);
            for (nr, _) in NATIVE.iter().filter(|(_, s)| *s == Sys::Sync) {
                assert_eq!(run(&code, NATIVE_ARCH, *nr, [0; 6]), ERRNO);
            }
            assert_eq!(run(&code, NATIVE_ARCH, 100_000, [0; 6]), ALLOW);
            assert_eq!(run(&code, 0xdead, 1, [0; 6]), errno(libc::ENOSYS));
        }
    }

    #[test]
    fn only_opens_that_make_files_are_watched() {
        let code = program(FULL);
        let open = |flags: i32| {
            let nr = number(NATIVE, Sys::Openat);
            run(&code, NATIVE_ARCH, nr, [0, 0, flags as u32 as u64, 0, 0, 0])
        };
        assert_eq!(open(libc::O_RDWR | libc::O_CREAT), NOTIFY);
        assert_eq!(open(libc::O_RDWR | libc::O_TMPFILE), NOTIFY);
        assert_eq!(open(libc::O_RDONLY | libc::O_DIRECTORY), ALLOW);
        assert_eq!(open(libc::O_RDONLY), ALLOW);
    }

    #[test]
    fn only_shared_writable_file_mappings_are_watched() {
        let code = program(Watch { supervisor: true, ..Watch::default() });
        let mmap = |prot: i32, flags: i32| {
            let nr = number(NATIVE, Sys::Mmap);
            run(&code, NATIVE_ARCH, nr, [0, 0, prot as u64, flags as u64, 0, 0])
        };
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        assert_eq!(mmap(rw, libc::MAP_SHARED), NOTIFY);
        assert_eq!(mmap(rw, libc::MAP_SHARED_VALIDATE), NOTIFY);
        assert_eq!(mmap(rw, libc::MAP_PRIVATE), ALLOW);
        assert_eq!(mmap(rw, libc::MAP_SHARED | libc::MAP_ANONYMOUS), ALLOW);
        assert_eq!(mmap(libc::PROT_READ, libc::MAP_SHARED), ALLOW);
    }

    #[test]
    fn each_wish_adds_its_calls() {
        let action =
            |watch, sys, args| run(&program(watch), NATIVE_ARCH, number(NATIVE, sys), args);
        let none = Watch::default();
        let base = Watch { supervisor: true, ..none };
        assert_eq!(action(none, Sys::Fsetxattr, [0; 6]), ALLOW);
        assert_eq!(action(base, Sys::Fsetxattr, [0; 6]), NOTIFY);
        assert_eq!(action(base, Sys::Statx, [0; 6]), ALLOW);
        assert_eq!(action(Watch { devices: true, ..base }, Sys::Statx, [0; 6]), NOTIFY);
        assert_eq!(action(base, Sys::Openat2, [0; 6]), ALLOW);
        assert_eq!(action(FULL, Sys::Openat2, [0; 6]), errno(libc::ENOSYS));
        let inet = [libc::AF_INET as u64, 0, 0, 0, 0, 0];
        let unix = [libc::AF_UNIX as u64, 0, 0, 0, 0, 0];
        assert_eq!(action(base, Sys::Socket, inet), ALLOW);
        assert_eq!(action(FULL, Sys::Socket, inet), errno(libc::EAFNOSUPPORT));
        assert_eq!(action(FULL, Sys::Socket, unix), ALLOW);
        let packet = [libc::AF_PACKET as u64, 0, 0, 0, 0, 0];
        assert_eq!(action(FULL, Sys::Socket, packet), errno(libc::EAFNOSUPPORT));
        let keep = [libc::PR_SET_KEEPCAPS as u64, 1, 0, 0, 0, 0];
        assert_eq!(action(FULL, Sys::Prctl, keep), NOTIFY);
        assert_eq!(action(FULL, Sys::Prctl, [4, 1, 0, 0, 0, 0]), ALLOW);
        let sti = [0, libc::TIOCSTI, 0, 0, 0, 0];
        assert_eq!(action(none, Sys::Ioctl, sti), errno(libc::EPERM));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_32_bit_interface_has_no_back_door() {
        let code = program(FULL);
        assert_eq!(run(&code, NATIVE_ARCH, X32_BIT | 92, [0; 6]), errno(libc::ENOSYS));
        let compat = |nr| run(&code, COMPAT_ARCH, nr, [0; 6]);
        assert_eq!(compat(number(COMPAT, Sys::Chown)), NOTIFY);
        assert_eq!(compat(182), errno(libc::ENOSYS), "16-bit chown");
        assert_eq!(compat(118), ERRNO, "fsync");
        assert_eq!(compat(4), ALLOW, "write");
    }
}
