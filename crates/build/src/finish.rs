//! From a configured tree to a golden one: metadata, accounts, presets, first-boot
//! settings, removals, and last the seal.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use check::Intent;
use config::Config;
use config::config::UuidChoice;
use config::types::Ssh;
use glob::{MatchOptions, Pattern};
use os::firstboot::{RootPassword, Settings};
use os::os_release::Carrier;
use os::preset::{self, Scope};
use os::sysusers::{self, Declarations};
use os::tmpfiles;
use tree::{Meta, Mtime, Node, Tree, TreePath};

use crate::error::BuildError;
use crate::outputs::io_error;

/// Where a Debian tree's links to units of the distribution point: `/lib` before
/// its systemd was built for a merged `/usr` (Debian 13), but for units of users.
/// `kind` is `system` or `user`.
fn unit_dir(tree: &Tree, kind: &str) -> String {
    let list = tree.read(&TreePath::literal("var/lib/dpkg/info/systemd.list"), 4 << 20);
    let list = list.and_then(Result::ok).unwrap_or_default();
    let old = format!("/lib/systemd/{kind}");
    let is_old = list.split(|b| *b == b'\n').any(|line| line == old.as_bytes());
    if is_old { old } else { format!("/usr{old}") }
}

/// What systemd starts from: a clock that is not before the image, and `/init` where the
/// kernel looks first when the tree is an initrd.
fn start(tree: &mut Tree, epoch: Mtime) -> Result<(), BuildError> {
    let clock = TreePath::literal("usr/lib/clock-epoch");
    if !tree.contains(&clock) {
        write(tree, "usr/lib/clock-epoch", 0o644, Vec::new(), epoch)?;
    }
    let init = TreePath::literal("init");
    if !tree.contains(&init) {
        let kind = tree::Kind::Symlink(b"/usr/lib/systemd/systemd"[..].into());
        tree.put(init, Node { meta: Meta::symlink().at(epoch), kind })?;
    }
    Ok(())
}

/// The first-boot settings once more as credentials of the image: they count where
/// `/etc` starts empty (systemd-firstboot, systemd-sysusers and others read them).
fn credentials(tree: &mut Tree, settings: &Settings, epoch: Mtime) -> Result<(), BuildError> {
    // Never the plain one: what firstboot made of it.
    let hash = settings.root_password.as_ref().and_then(|_| os::firstboot::root_hash(tree));
    let all = [
        ("firstboot.locale", 0o644, settings.locale.clone()),
        ("firstboot.locale-messages", 0o644, settings.locale_messages.clone()),
        ("firstboot.keymap", 0o644, settings.keymap.clone()),
        ("firstboot.timezone", 0o644, settings.timezone.clone()),
        ("passwd.hashed-password.root", 0o600, hash),
        ("passwd.shell.root", 0o644, settings.root_shell.clone()),
    ];
    for (name, mode, value) in all {
        if let Some(value) = value {
            write(tree, &format!("usr/lib/credstore/{name}"), mode, value.into_bytes(), epoch)?;
        }
    }
    Ok(())
}

/// What comes after the last tree and script that may bring units and users.
pub fn configure(
    tree: &mut Tree,
    config: &Config,
    epoch: Mtime,
) -> Result<Vec<String>, BuildError> {
    let output = &config.output;
    os::os_release::stamp(
        tree,
        Carrier::Etc,
        output.image_id.as_deref(),
        output.image_version.as_deref(),
        epoch,
    )?;
    let declarations = Declarations::read(tree)?;
    let mut warnings = declarations.warnings.clone();
    let applied = sysusers::apply(tree, &declarations, epoch)?;
    warnings.extend(applied.failures.into_iter().map(|f| format!("sysusers: {f}")));
    warnings.extend(make_tmpfiles(tree, config, epoch)?);
    if tree.contains(&TreePath::literal("usr/lib/systemd/systemd")) {
        for (scope, kind) in [(Scope::System, "system"), (Scope::Global, "user")] {
            let units = unit_dir(tree, kind);
            preset::apply_all(tree, scope, &units, epoch)?;
        }
        start(tree, epoch)?;
    }
    let settings = settings(config);
    os::firstboot::apply(tree, &settings, &salt_seed(config), epoch)?;
    if !config.content.make_initrd {
        credentials(tree, &settings, epoch)?;
    }
    if config.system.autologin {
        autologin(tree, epoch)?;
    }
    if config.system.ssh == Ssh::Always {
        warnings.extend(ssh(tree, epoch)?);
    }
    if config.content.make_initrd {
        boot::initrd::finish::make_initrd(tree)?;
    }
    Ok(warnings)
}

/// What tmpfiles.d declares, but what lies where something is mounted. As mkosi: a
/// line that is wrong or cannot be done is said and does not end the build.
fn make_tmpfiles(
    tree: &mut Tree,
    config: &Config,
    epoch: Mtime,
) -> Result<Vec<String>, BuildError> {
    let options = tmpfiles::Options {
        architecture: Some(config.distribution.architecture.as_str()),
        exclude: &tmpfiles::HIDDEN,
    };
    let mut declarations = tmpfiles::Declarations::read(tree, &options)?;
    let mut warnings = std::mem::take(&mut declarations.warnings);
    warnings.extend(tmpfiles::apply(tree, &declarations, epoch)?);
    Ok(warnings.into_iter().map(|w| format!("tmpfiles: {w}")).collect())
}

fn settings(config: &Config) -> Settings {
    let system = &config.system;
    let password = system.root_password.as_ref().map(|p| match (p.hashed, p.text.is_empty()) {
        (_, true) => RootPassword::Empty,
        (true, _) => RootPassword::Hashed(p.text.clone()),
        (false, _) => RootPassword::Plain(p.text.clone()),
    });
    Settings {
        locale: system.locale.clone(),
        locale_messages: system.locale_messages.clone(),
        keymap: system.keymap.clone(),
        timezone: system.timezone.clone(),
        hostname: system.hostname.clone(),
        root_password: password,
        root_shell: system.root_shell.clone(),
    }
}

/// What makes the salt of a plain password: the same for the same image.
fn salt_seed(config: &Config) -> Vec<u8> {
    let output = &config.output;
    format!("{:?} {:?} {:?}", output.seed, output.image_id, output.image_version).into_bytes()
}

/// `Autologin=`: root on the console, the first virtual terminal and the serial ports.
fn autologin(tree: &mut Tree, epoch: Mtime) -> Result<(), BuildError> {
    let units = [
        (
            "console-getty",
            "-o '-p -f -- \\\\u' --autologin root --noclear --keep-baud console 115200,38400,9600 $TERM",
        ),
        ("getty@tty1", "-o '-p -f -- \\\\u' --autologin root --noclear %I $TERM"),
        (
            "serial-getty@",
            "-o '-p -f -- \\\\u' --autologin root --keep-baud 115200,57600,38400,9600 %I $TERM",
        ),
    ];
    for (unit, arguments) in units {
        let text = format!(
            "[Service]\nExecStart=\nExecStart=-/sbin/agetty {arguments}\nStandardInput=tty\n\
             StandardOutput=tty\n"
        );
        let path = format!("usr/lib/systemd/system/{unit}.service.d/autologin.conf");
        write(tree, &path, 0o644, text.into_bytes(), epoch)?;
    }
    Ok(())
}

/// Writes a file as the build's own: replaced, `mode`, root, dated `epoch`; so
/// are directories that had to be made.
pub fn write(
    tree: &mut Tree,
    path: &str,
    mode: u16,
    bytes: Vec<u8>,
    epoch: Mtime,
) -> Result<TreePath, BuildError> {
    let path = tree.resolve(&TreePath::new(path)?).map_err(tree::TreeError::from)?;
    let missing: Vec<_> = path.ancestors().filter(|dir| !tree.contains(dir)).collect();
    if let Some(parent) = path.parent() {
        tree.make_dirs(&parent)?;
    }
    for dir in missing {
        tree.get_mut(&dir).expect("just made").meta.mtime = epoch;
    }
    let kind = tree::Kind::File(tree::Content::inline(bytes));
    tree.put(path.clone(), Node { meta: Meta::file(mode).at(epoch), kind })?;
    Ok(path)
}

/// `RemoveFiles=`: absolute shell patterns; a pattern that ends in a slash removes
/// what is in the directory.
pub fn remove_files(tree: &mut Tree, patterns: &[String]) -> Result<usize, BuildError> {
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    let mut removed = 0;
    for text in patterns {
        let (text, contents) = match text.strip_suffix('/') {
            Some(text) => (text, true),
            None => (text.as_str(), false),
        };
        let pattern = Pattern::new(text.trim_start_matches('/'))
            .map_err(|e| BuildError::Image(format!("RemoveFiles={text}: {e}")))?;
        let matches = |path: &TreePath| {
            let text = String::from_utf8_lossy(path.as_bytes()).into_owned();
            pattern.matches_with(&text, options)
        };
        let found: Vec<TreePath> =
            tree.iter().map(|(path, _, _)| path.clone()).filter(|p| matches(p)).collect();
        for path in found.iter().filter(|p| !p.is_root()) {
            if contents {
                let children: Vec<_> = tree.children(path).map(|(p, _)| p.clone()).collect();
                removed += children.iter().map(|child| tree.remove(child)).sum::<usize>();
            } else {
                removed += tree.remove(path);
            }
        }
    }
    Ok(removed)
}

/// What the configuration sets on purpose.
pub fn intent(config: &Config, project_files: BTreeSet<TreePath>) -> Intent {
    Intent {
        hostname: config.system.hostname.is_some(),
        machine_info: false,
        machine_id: config.system.machine_id.is_some(),
        project_files,
        entry_token: None,
        root_password: config.system.root_password.is_some() || config.system.autologin,
    }
}

/// The seal: removes what would be shared by clones, sets the state of a machine
/// that has never booted.
pub fn seal(
    tree: &mut Tree,
    esp: Option<&mut Tree>,
    intent: &Intent,
    epoch: Mtime,
) -> Result<check::Sealed, BuildError> {
    // An absent machine-id is a first boot too, but only with a writable /etc.
    if os::machine_id::state(tree)? == os::machine_id::State::Absent {
        os::machine_id::reset(tree, epoch)?;
    }
    Ok(check::seal(tree, esp, intent, epoch)?)
}

/// `MachineId=`, against all advice; without it the seal decides.
pub fn machine_id(tree: &mut Tree, config: &Config, epoch: Mtime) -> Result<(), BuildError> {
    let id = match config.system.machine_id {
        None => return Ok(()),
        Some(UuidChoice::Fixed(id)) => id,
        Some(UuidChoice::Random) => {
            let mut bytes = [0; 16];
            let path = Path::new("/dev/urandom");
            std::fs::File::open(path)
                .and_then(|mut file| file.read_exact(&mut bytes))
                .map_err(io_error("read", path))?;
            uuid::Builder::from_random_bytes(bytes).into_uuid()
        }
    };
    Ok(os::machine_id::set(tree, &id.simple().to_string(), epoch)?)
}

/// `Ssh=always`: SSH over vsock. A systemd with a generator for it (256 and later) does
/// it by itself wherever there is an SSH server.
fn ssh(tree: &mut Tree, epoch: Mtime) -> Result<Option<String>, BuildError> {
    let is_there = |path: &'static str| tree.lookup(&TreePath::literal(path)).is_some();
    if !is_there("usr/sbin/sshd") {
        let message =
            "Ssh=always: the image has no /usr/sbin/sshd; add openssh-server to Packages=";
        return Ok(Some(message.into()));
    }
    if is_there("usr/lib/systemd/system-generators/systemd-ssh-generator") {
        return Ok(None);
    }
    let dir = "usr/lib/systemd/system";
    let socket = "[Unit]\nDescription=SSH over vsock\nConditionVirtualization=vm\n\n\
                  [Socket]\nListenStream=vsock::22\nAccept=yes\n";
    let keys = "sshd-keygen.service mkgold-ssh-host-keys.service";
    let service = format!(
        "[Unit]\nDescription=SSH over vsock\nWants={keys}\nAfter={keys}\n\n[Service]\n\
         ExecStart=-/usr/sbin/sshd -i\nStandardInput=socket\nRuntimeDirectory=sshd\n\
         RuntimeDirectoryPreserve=yes\n"
    );
    write(tree, &format!("{dir}/mkgold-ssh-vsock.socket"), 0o644, socket.into(), epoch)?;
    write(tree, &format!("{dir}/mkgold-ssh-vsock@.service"), 0o644, service.into(), epoch)?;
    let wants = tree.make_dirs(&TreePath::new(format!("{dir}/sockets.target.wants"))?)?;
    let kind = tree::Kind::Symlink(b"../mkgold-ssh-vsock.socket"[..].into());
    let link = Node { meta: Meta::symlink().at(epoch), kind };
    tree.put(wants.join("mkgold-ssh-vsock.socket")?, link)?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;

    #[test]
    fn links_to_units_lead_where_the_release_has_them() {
        let list = TreePath::literal("var/lib/dpkg/info/systemd.list");
        let mut tree = Tree::new();
        tree.write(&list, 0o644, *b"/usr/lib/systemd/system\n/usr/lib/systemd/user\n").unwrap();
        assert_eq!(unit_dir(&tree, "system"), "/usr/lib/systemd/system");
        assert_eq!(unit_dir(&tree, "user"), "/usr/lib/systemd/user");
        tree.write(&list, 0o644, *b"/lib/systemd/system\n/usr/lib/systemd/user\n").unwrap();
        assert_eq!(unit_dir(&tree, "system"), "/lib/systemd/system");
        assert_eq!(unit_dir(&tree, "user"), "/usr/lib/systemd/user");
    }

    #[test]
    fn files_are_removed_by_pattern() {
        let mut t = Tree::new();
        for path in ["usr/share/a/x.txt", "usr/share/a/y.txt", "usr/share/b/z", "etc/keep"] {
            t.write(&TreePath::literal(path), 0o644, *b"").unwrap();
        }
        let patterns = ["/usr/share/*/x.txt".to_owned(), "/usr/share/b/".to_owned()];
        assert_eq!(remove_files(&mut t, &patterns).unwrap(), 2);
        assert!(t.contains(&TreePath::literal("usr/share/b")));
        assert!(t.contains(&TreePath::literal("usr/share/a/y.txt")));
        assert_eq!(remove_files(&mut t, &["/usr/*".to_owned()]).unwrap(), 4);
        assert!(remove_files(&mut t, &["/[".to_owned()]).is_err());
    }

    #[test]
    fn a_tree_is_configured_as_mkosi_does() {
        let p = TreePath::literal;
        let mut t = Tree::new();
        t.write(&p("usr/lib/systemd/systemd"), 0o755, *b"").unwrap();
        t.write(&p("usr/lib/os-release"), 0o644, *b"ID=debian\n").unwrap();
        for scope in ["system", "user"] {
            let unit = TreePath::new(format!("usr/lib/systemd/{scope}/a.service")).unwrap();
            t.write(&unit, 0o644, *b"[Install]\nWantedBy=default.target\n").unwrap();
        }
        let conf = b"d /var/lib/%o 0750 - svc\nd /run/x\nbroken\nL /file/x\nf /file\n";
        t.write(&p("usr/lib/tmpfiles.d/a.conf"), 0o644, *conf).unwrap();
        t.write(&p("usr/lib/sysusers.d/a.conf"), 0o644, *b"g svc 300\n").unwrap();
        let args = ["Locale=C.UTF-8", "Timezone=UTC", "RootPassword=secret"];
        let warnings = configure(&mut t, &config(&args), Mtime::secs(7)).unwrap();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].starts_with("tmpfiles: /usr/lib/tmpfiles.d/a.conf:3:1: "));
        assert!(warnings[1].starts_with("tmpfiles: /usr/lib/tmpfiles.d/a.conf:4: "));
        let made = &t.get(&p("var/lib/debian")).unwrap().meta;
        assert_eq!((made.mode, made.gid, made.mtime), (0o750, 300, Mtime::secs(7)));
        assert!(!t.contains(&p("run")));
        let link = |path| match &t.get(&p(path)).unwrap().kind {
            tree::Kind::Symlink(target) => String::from_utf8_lossy(target).into_owned(),
            other => panic!("{path} is {other:?}"),
        };
        let user = link("etc/systemd/user/default.target.wants/a.service");
        assert_eq!(user, "/usr/lib/systemd/user/a.service");
        let system = link("etc/systemd/system/default.target.wants/a.service");
        assert_eq!(system, "/usr/lib/systemd/system/a.service");
        assert_eq!(link("init"), "/usr/lib/systemd/systemd");
        assert_eq!(t.get(&p("usr/lib/clock-epoch")).unwrap().meta.mtime, Mtime::secs(7));
        let read = |path| t.read(&p(path), 999).unwrap().unwrap();
        assert_eq!(read("usr/lib/credstore/firstboot.locale"), b"C.UTF-8");
        assert_eq!(read("usr/lib/credstore/firstboot.timezone"), b"UTC");
        let hash =
            String::from_utf8(read("usr/lib/credstore/passwd.hashed-password.root")).unwrap();
        let shadow = String::from_utf8(read("etc/shadow")).unwrap();
        assert!(hash.starts_with("$y$") && shadow.contains(&format!("root:{hash}:")), "{shadow}");
        assert_eq!(
            t.get(&p("usr/lib/credstore/passwd.hashed-password.root")).unwrap().meta.mode,
            0o600
        );
    }

    #[test]
    fn ssh_over_vsock_is_left_to_the_generator() {
        let p = TreePath::literal;
        let mut t = Tree::new();
        assert!(ssh(&mut t, Mtime::secs(1)).unwrap().unwrap().contains("openssh-server"));
        t.write(&p("usr/sbin/sshd"), 0o755, *b"").unwrap();
        let mut newer = t.clone();
        assert_eq!(ssh(&mut t, Mtime::secs(1)).unwrap(), None);
        let socket = p("usr/lib/systemd/system/sockets.target.wants/mkgold-ssh-vsock.socket");
        assert!(t.lookup(&socket).unwrap().content().is_some());
        let generator = p("usr/lib/systemd/system-generators/systemd-ssh-generator");
        newer.write(&generator, 0o755, *b"").unwrap();
        ssh(&mut newer, Mtime::secs(1)).unwrap();
        assert!(!newer.contains(&socket));
    }
}
