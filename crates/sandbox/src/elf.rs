//! Why a program cannot be executed, in words a person can act on.
//!
//! Reads no more than the start of the file: `elf(5)`, and `#!` as in `execve(2)`.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::command::Command;
use crate::confined;

/// As much of a file as the kernel looks at.
const HEAD: usize = 256;

/// `e_machine` numbers and the names that Debian and qemu-user give them.
const MACHINES: [(u16, &str, &str); 9] = [
    (3, "i386", "qemu-i386"),
    (8, "mips", "qemu-mips"),
    (20, "powerpc", "qemu-ppc"),
    (21, "ppc64el", "qemu-ppc64le"),
    (22, "s390x", "qemu-s390x"),
    (40, "armhf", "qemu-arm"),
    (62, "amd64", "qemu-x86_64"),
    (183, "arm64", "qemu-aarch64"),
    (243, "riscv64", "qemu-riscv64"),
];

#[cfg(target_arch = "x86_64")]
const OURS: &[u16] = &[62, 3];
#[cfg(target_arch = "aarch64")]
const OURS: &[u16] = &[183];

/// What the start of a file says about how to run it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// A program for this machine type.
    Elf(u16),
    /// A script for this interpreter.
    Script(PathBuf),
    /// Neither.
    Other,
}

pub(crate) fn parse(head: &[u8]) -> Head {
    if head.starts_with(b"\x7fELF") && head.len() >= 20 {
        let machine = [head[18], head[19]];
        return Head::Elf(match head[5] {
            2 => u16::from_be_bytes(machine),
            _ => u16::from_le_bytes(machine),
        });
    }
    let Some(rest) = head.strip_prefix(b"#!") else { return Head::Other };
    let line = rest.split(|b| *b == b'\n').next().unwrap_or_default();
    match line.split(|b| *b == b' ' || *b == b'\t').find(|word| !word.is_empty()) {
        Some(word) => Head::Script(OsStr::from_bytes(word).into()),
        None => Head::Other,
    }
}

/// Looks at the program that the kernel refused to run in `root`.
pub(crate) fn why_not(root: &Path, command: &Command, error: &io::Error) -> String {
    let program = &command.argv[0];
    let with_slash = program.as_bytes().contains(&b'/');
    let on_path = || {
        let path = command.env.get(OsStr::new("PATH")).map(|p| p.as_bytes().to_vec());
        let dirs = path.unwrap_or_default();
        let found =
            dirs.split(|b| *b == b':').map(|dir| Path::new(OsStr::from_bytes(dir)).join(program));
        found.into_iter().find(|path| head(root, path).is_some())
    };
    let Some(path) = (if with_slash { Some(program.into()) } else { on_path() }) else {
        return format!("{} is not on its PATH", program.to_string_lossy());
    };
    match head(root, &path).map(|head| parse(&head)) {
        Some(Head::Elf(machine)) if !OURS.contains(&machine) => foreign(&path, machine),
        Some(Head::Script(interpreter)) => match head(root, &interpreter).map(|h| parse(&h)) {
            None => format!("its interpreter {} is not there", interpreter.display()),
            Some(Head::Elf(machine)) if !OURS.contains(&machine) => foreign(&interpreter, machine),
            Some(_) => error.to_string(),
        },
        Some(Head::Elf(_)) if error.kind() == io::ErrorKind::NotFound => {
            "the dynamic loader or a library that it is linked with is not there".into()
        }
        Some(Head::Other) if error.raw_os_error() == Some(libc::ENOEXEC) => {
            "it is neither a program nor a script that begins with #!".into()
        }
        _ => error.to_string(),
    }
}

fn foreign(path: &Path, machine: u16) -> String {
    let known = MACHINES.iter().find(|(number, _, _)| *number == machine);
    let (name, qemu) = known.map_or(("an unknown machine", "qemu-user"), |(_, n, q)| (*n, *q));
    format!(
        "{} is built for {name}, which needs binfmt: install qemu-user-static and \
         binfmt-support on the host, so that {qemu} is registered in \
         /proc/sys/fs/binfmt_misc with flag F",
        path.display()
    )
}

fn head(root: &Path, path: &Path) -> Option<Vec<u8>> {
    let root = confined::open_host_dir(root).ok()?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
    let mut bytes = Vec::new();
    std::fs::File::from(file.ok()?).take(HEAD as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        elf[18] = 183;
        assert_eq!(parse(&elf), Head::Elf(183));
        (elf[5], elf[18], elf[19]) = (2, 0, 22);
        assert_eq!(parse(&elf), Head::Elf(22));
        assert_eq!(parse(b"#! /bin/sh -e\nx"), Head::Script("/bin/sh".into()));
        assert_eq!(parse(b"#!\n"), Head::Other);
        assert_eq!(parse(b""), Head::Other);
    }

    #[test]
    fn the_reason_names_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        elf[18..20].copy_from_slice(&243u16.to_le_bytes());
        std::fs::write(dir.path().join("prog"), &elf).unwrap();
        std::fs::write(dir.path().join("script"), "#!/no/such\n").unwrap();
        let why = |program: &str, errno| {
            let error = io::Error::from_raw_os_error(errno);
            why_not(dir.path(), &Command::new(program), &error)
        };
        let foreign = why("/prog", libc::ENOEXEC);
        assert!(foreign.contains("riscv64") && foreign.contains("needs binfmt"), "{foreign}");
        assert!(why("/script", libc::ENOENT).contains("/no/such"));
        assert!(why("nothing", libc::ENOENT).contains("PATH"));
    }
}
