//! `firstboot`: systemd-firstboot's command line.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use clap::{Arg, ArgMatches};
use provision::firstboot::{self, Copied, Facts, Options, RootPassword};
use tree::Tree;

use super::{Done, Tool, World, flag, value};

pub const TOOL: Tool = Tool {
    verb: "firstboot",
    name: Some("systemd-firstboot"),
    about: "Set locale, keymap, time zone, host name, root's account of an image, as \
            systemd-firstboot does",
    options,
    refused: &[
        "prompt",
        "prompt-locale",
        "prompt-keymap",
        "prompt-keymap-auto",
        "prompt-timezone",
        "prompt-hostname",
        "prompt-root-password",
        "prompt-root-shell",
        "welcome",
        "chrome",
        "mute-console",
    ],
    edit,
};

fn options() -> Vec<Arg> {
    vec![
        value("locale", "LOCALE", "LANG="),
        value("locale-messages", "LOCALE", "LC_MESSAGES="),
        value("keymap", "KEYMAP", "The console's keymap"),
        value("timezone", "ZONE", "The time zone, as Europe/Berlin"),
        value("hostname", "NAME", "The host name; ? stands for a digit that the machine chooses"),
        flag("setup-machine-id", "Make a random machine ID: never for an image that is copied"),
        value("machine-id", "ID", "Set this machine ID"),
        value("machine-tags", "TAGS", "TAGS= of /etc/machine-info, joined by colons"),
        value("root-password", "PASSWORD", "Root's password"),
        value("root-password-file", "FILE", "Root's password is the first line of this file"),
        value("root-password-hashed", "HASH", "Root's password as crypt(5) has it"),
        value("root-shell", "SHELL", "Root's shell"),
        value("kernel-command-line", "LINE", "/etc/kernel/cmdline"),
        flag("copy-locale", "Copy the locale of this machine"),
        flag("copy-keymap", "Copy the keymap of this machine"),
        flag("copy-timezone", "Copy the time zone of this machine"),
        flag("copy-root-password", "Copy the hash of root's password of this machine"),
        flag("copy-root-shell", "Copy root's shell of this machine"),
        flag("copy", "Copy all five"),
        flag("force", "Replace what is there"),
        flag("delete-root-password", "Root needs no password"),
        flag("reset", "Remove what is there first"),
    ]
}

fn edit(tree: &mut Tree, matches: &ArgMatches, world: &World) -> Result<Done, String> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let options = Options {
        locale: text("locale"),
        locale_messages: text("locale-messages"),
        keymap: text("keymap"),
        timezone: text("timezone"),
        hostname: text("hostname"),
        setup_machine_id: matches.get_flag("setup-machine-id"),
        machine_id: text("machine-id").map(|id| machine_id(&id)).transpose()?,
        machine_tags: text("machine-tags"),
        root_password: root_password(matches)?,
        root_shell: text("root-shell"),
        kernel_command_line: text("kernel-command-line"),
        copied: copied(matches)?,
        force: matches.get_flag("force"),
        reset: matches.get_flag("reset"),
    };
    let facts = Facts { now: world.now, random: world.random, credentials: credentials()? };
    let notes = firstboot::apply(tree, &options, &facts).map_err(|e| e.to_string())?;
    Ok(Done { notes, ..Done::default() })
}

/// 128 bits as 32 digits, or as a UUID has them.
fn machine_id(text: &str) -> Result<String, String> {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    let digits = text.replace('-', "").to_ascii_lowercase();
    let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    match (groups[..] == [32] || groups[..] == [8, 4, 4, 4, 12]) && is_hex {
        true => Ok(digits),
        false => Err(format!("--machine-id={text}: not an ID: 32 hexadecimal digits or a UUID")),
    }
}

fn root_password(matches: &ArgMatches) -> Result<Option<RootPassword>, String> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let given = ["root-password", "root-password-file", "root-password-hashed"];
    let copies = matches.get_flag("copy-root-password") || matches.get_flag("copy");
    if matches.get_flag("delete-root-password") {
        if copies || given.iter().any(|name| matches.contains_id(name)) {
            return Err("--delete-root-password cannot be combined with another option that sets \
                        root's password"
                .into());
        }
        return Ok(Some(RootPassword::Empty));
    }
    if let Some(hash) = text("root-password-hashed") {
        return Ok(Some(RootPassword::Hashed(hash)));
    }
    if let Some(password) = text("root-password") {
        return Ok(Some(RootPassword::Plain(password)));
    }
    let Some(file) = text("root-password-file") else { return Ok(None) };
    let content = fs::read_to_string(&file).map_err(|e| format!("cannot read {file}: {e}"))?;
    Ok(Some(RootPassword::Plain(content.lines().next().unwrap_or_default().to_owned())))
}

/// What this machine has of what is to be copied.
fn copied(matches: &ArgMatches) -> Result<Copied, String> {
    let wanted = |name: &str| matches.get_flag(name) || matches.get_flag("copy");
    let read = |wanted: bool, path: &str| match wanted.then(|| fs::read(path)) {
        None => Ok(None),
        Some(Ok(content)) => Ok(Some(content)),
        Some(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Some(Err(e)) => Err(format!("cannot read {path}: {e}")),
    };
    let field = |content: Option<Vec<u8>>, index: usize| {
        let text = String::from_utf8_lossy(&content?).into_owned();
        let line = text.lines().find(|line| line.starts_with("root:"))?.to_owned();
        line.split(':').nth(index).map(str::to_owned)
    };
    let timezone = wanted("copy-timezone").then(|| fs::read_link("/etc/localtime").ok()).flatten();
    Ok(Copied {
        locale: read(wanted("copy-locale"), "/etc/locale.conf")?,
        keymap: read(wanted("copy-keymap"), "/etc/vconsole.conf")?,
        timezone: timezone.map(|link| link.into_os_string().into_encoded_bytes()),
        root_password: field(read(wanted("copy-root-password"), "/etc/shadow")?, 1),
        root_shell: field(read(wanted("copy-root-shell"), "/etc/passwd")?, 6),
    })
}

/// The most that a credential may have, as systemd has it.
const CREDENTIAL_LIMIT: u64 = 1 << 20;

/// The credentials of `$CREDENTIALS_DIRECTORY` that it knows.
fn credentials() -> Result<BTreeMap<String, String>, String> {
    let names = [
        "firstboot.locale",
        "firstboot.locale-messages",
        "firstboot.keymap",
        "firstboot.timezone",
        "firstboot.hostname",
        "firstboot.machine-tags",
        "passwd.hashed-password.root",
        "passwd.plaintext-password.root",
        "passwd.shell.root",
    ];
    let mut found = BTreeMap::new();
    let Some(dir) = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from) else {
        return Ok(found);
    };
    for name in names {
        let path = dir.join(name);
        match fs::metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Ok(meta) if meta.len() > CREDENTIAL_LIMIT => {
                return Err(format!("{} is larger than a credential may be", path.display()));
            }
            _ => {}
        }
        let value = fs::read_to_string(&path)
            .map_err(|e| format!("cannot read the credential {}: {e}", path.display()))?;
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}
