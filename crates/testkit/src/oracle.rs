//! Running the original tools in their own root file system.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The variable that names the root file system with the original tools.
pub const VARIABLE: &str = "MKGOLD_ORACLE";

// Runs in a mount namespace of its own: $1 is the root, $2 the number of binds, which
// follow in pairs (where it is, where it appears). The root has an empty /dev, as every
// golden one. The namespace takes the mounts with it when it ends.
const ENTER: &str = r#"
set -e
root=$1; binds=$2; shift 2
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
while [ "$binds" -gt 0 ]; do
    mkdir -p "$root/$2"
    mount --bind "$1" "$root/$2"
    shift 2; binds=$((binds - 1))
done
exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    TZ=UTC HOME=/root "$@"
"#;

// The same with the network: the host's resolv.conf, over the root's `/etc`. The host
// name is that of mkgold's sandbox, for some packages' scripts write it down.
const NETWORK: &str = r#"
set -e
hostname localhost
mount -t tmpfs tmpfs "$1/run"
mkdir "$1/run/upper" "$1/run/work"
mount -t overlay overlay -o "lowerdir=$1/etc,upperdir=$1/run/upper,workdir=$1/run/work" "$1/etc"
[ ! -e /etc/resolv.conf ] || cp -L --remove-destination /etc/resolv.conf "$1/etc/resolv.conf"
mount --rbind /sys "$1/sys"
"#;

/// The root file system with the original tools. Panics, so that the test fails,
/// if it is not there.
pub fn root() -> PathBuf {
    let root = std::env::var_os(VARIABLE).unwrap_or_else(|| {
        panic!("{VARIABLE} is not set: run `cargo xtask oracles` and set it to what that prints")
    });
    let root = PathBuf::from(root);
    assert!(root.join("usr/bin/env").exists(), "{VARIABLE}={} is no root", root.display());
    root
}

/// A command in the oracle root, with a `/tmp` of its own. The directories `binds` are
/// visible inside under their own paths. Works as root and as an ordinary user, who is
/// root of a user namespace with one id then.
pub fn command(program: impl AsRef<OsStr>, binds: &[&Path]) -> Command {
    enter(&root(), ENTER, program.as_ref(), &same(binds))
}

/// A shell script in the oracle root, `dir` at `/mnt`, and more directories (where they
/// are, where they appear).
pub fn shell(script: &str, dir: &Path, more: &[(&Path, &Path)]) -> Command {
    let binds: Vec<_> = [(dir, Path::new("/mnt"))].iter().chain(more).copied().collect();
    let mut command = enter(&root(), ENTER, OsStr::new("/bin/sh"), &binds);
    command.args(["-c", script]);
    command
}

/// As [`command`], but it finds hosts by name and has `/sys`.
pub fn command_with_network(program: impl AsRef<OsStr>, binds: &[&Path]) -> Command {
    command_in(&root(), program, binds)
}

/// As [`command_with_network`] in another root file system. What it writes to `/etc`
/// and `/tmp` is gone afterwards.
pub fn command_in(root: &Path, program: impl AsRef<OsStr>, binds: &[&Path]) -> Command {
    enter(root, &format!("{NETWORK}{ENTER}"), program.as_ref(), &same(binds))
}

fn same<'a>(binds: &[&'a Path]) -> Vec<(&'a Path, &'a Path)> {
    binds.iter().map(|path| (*path, *path)).collect()
}

fn enter(root: &Path, script: &str, program: &OsStr, binds: &[(&Path, &Path)]) -> Command {
    let mut command = Command::new("unshare");
    // chroot(8) is not in the PATH of Debian's ordinary users.
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.args(["--mount", "--uts", "--propagation=private"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--", "/bin/sh", "-c", script, "enter"]);
    command.arg(root).arg(binds.len().to_string());
    command.args(binds.iter().flat_map(|(from, to)| [from, to]));
    command.arg(program);
    command
}

/// Runs a tool of the oracle and returns its output, whatever its exit status.
/// Panics if the tool is missing.
pub fn output<I, S>(program: &str, args: I, binds: &[&Path]) -> Output
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = command(program, binds);
    command.args(args);
    let output = command.output().expect("unshare is part of util-linux, which is essential");
    assert_ne!(output.status.code(), Some(127), "{program} is not in the oracle root");
    output
}

/// Runs a tool of the oracle that must succeed; returns its standard output.
pub fn stdout<I, S>(program: &str, args: I, binds: &[&Path]) -> String
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let args: Vec<OsString> = args.into_iter().map(|a| a.as_ref().to_owned()).collect();
    let output = output(program, &args, binds);
    assert!(
        output.status.success(),
        "{program} {args:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("the tool prints UTF-8")
}
