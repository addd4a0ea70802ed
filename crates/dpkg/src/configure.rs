//! How the image's own programs are called once files are laid out.
//!
//! What it is: arguments and environment, the same for every build. What it is not:
//! running them (`sandbox`).

use crate::Command;

/// Keeps services from being started while packages are configured: written to
/// this path of the tree before scripts run, removed after (invoke-rc.d(8)).
pub const POLICY_RC_D: &str = "usr/sbin/policy-rc.d";
/// Its content: “action forbidden by policy”. Mode 0755.
pub const POLICY_RC_D_TEXT: &str = "#!/bin/sh\nexit 101\n";

/// What dpkg is told to force: keep existing conffiles and ask nothing, and write
/// without fsync (nothing of a build survives a crash anyway).
const FORCE: [&str; 3] = ["--force-confdef", "--force-confold", "--force-unsafe-io"];

/// `DPKG_FORCE` of scripts that run as if by a dpkg with those options.
pub(crate) const DPKG_FORCE: &str = "security-mac,downgrade,unsafe-io,confold,confdef";

/// The environment of everything that runs in the tree. Nothing of the caller's.
/// `INITRD=No` keeps Debian's kernel hooks from making an initrd, which takes longer
/// than all the rest and which mkgold makes itself (mkosi sets it too).
pub fn environment() -> Vec<(String, String)> {
    [
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("HOME", "/root"),
        ("INITRD", "No"),
        ("LC_ALL", "C.UTF-8"),
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("TERM", "dumb"),
        ("TZ", "UTC"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// `dpkg --configure -a`. Before the last time, triggers wait, as apt has it: what
/// they do would be done again.
pub fn command(is_last: bool) -> Command {
    let mut argv = vec!["dpkg".to_owned()];
    argv.extend(FORCE.map(str::to_owned));
    if !is_last {
        argv.push("--no-triggers".to_owned());
    }
    argv.extend(["--configure", "-a"].map(str::to_owned));
    Command { argv, environment: environment(), package: None }
}
