//! What systemd-firstboot(1) sets, as an edit of a Tree: locale, keymap, time
//! zone, host name, root's password and shell.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tree::{Content, Kind, Meta, Mtime, Node, Tree, TreePath};
use yescrypt::{PasswordHasher, Yescrypt};

use crate::accounts::{Accounts, Database};
use crate::{OsError, env_file, sysusers};

/// Root's password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootPassword {
    /// Hashed by us with yescrypt.
    Plain(String),
    /// A crypt(5) hash, taken verbatim.
    Hashed(String),
    /// Log in without one.
    Empty,
}

/// The settings; what is `None` is left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `LANG=`.
    pub locale: Option<String>,
    /// `LC_MESSAGES=`.
    pub locale_messages: Option<String>,
    /// `KEYMAP=`.
    pub keymap: Option<String>,
    /// Name of a zone, as `Europe/Berlin`.
    pub timezone: Option<String>,
    /// The static host name; a template with `?` is allowed.
    pub hostname: Option<String>,
    /// Root's password.
    pub root_password: Option<RootPassword>,
    /// Root's shell.
    pub root_shell: Option<String>,
}

/// Applies the settings. `salt_seed` makes the salt of a plain password: equal
/// inputs give equal bytes, different images different salts.
pub fn apply(
    tree: &mut Tree,
    settings: &Settings,
    salt_seed: &[u8],
    mtime: Mtime,
) -> Result<(), OsError> {
    let mut locale = Vec::new();
    locale.extend(settings.locale.as_ref().map(|l| ("LANG", l)));
    let messages = settings.locale_messages.as_ref();
    let messages = messages.filter(|m| settings.locale.as_ref() != Some(m));
    locale.extend(messages.map(|m| ("LC_MESSAGES", m)));
    for (setting, value) in &locale {
        check(setting, value, is_valid_locale, "not the name of a locale")?;
    }
    write_assignments(tree, "etc/locale.conf", &locale, mtime)?;
    if let Some(keymap) = &settings.keymap {
        check("Keymap", keymap, is_valid_name, "not the name of a keymap")?;
        write_assignments(tree, "etc/vconsole.conf", &[("KEYMAP", keymap)], mtime)?;
    }
    if let Some(zone) = &settings.timezone {
        set_timezone(tree, zone, mtime)?;
    }
    if let Some(hostname) = &settings.hostname {
        let message = "not a host name: labels of letters, digits and -, joined by dots";
        check("Hostname", hostname, is_valid_hostname, message)?;
        put(tree, "etc/hostname", format!("{hostname}\n"), mtime)?;
    }
    set_root(tree, settings, salt_seed, mtime)
}

fn check(
    setting: &'static str,
    value: &str,
    is_valid: fn(&str) -> bool,
    message: &str,
) -> Result<(), OsError> {
    match is_valid(value) {
        true => Ok(()),
        false => Err(OsError::Value { setting, value: value.into(), message: message.into() }),
    }
}

fn is_valid_locale(name: &str) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || "_.-@".contains(c);
    !name.is_empty() && name.len() < 128 && name.chars().all(ok) && !name.starts_with('.')
}

fn is_valid_name(name: &str) -> bool {
    !name.is_empty() && name.len() < 128 && !name.contains(|c: char| c == '/' || c.is_control())
}

fn is_valid_hostname(name: &str) -> bool {
    let label = |l: &str| {
        let ok = |c: char| c.is_ascii_alphanumeric() || "-_?".contains(c);
        !l.is_empty() && l.chars().all(ok) && !l.starts_with('-') && !l.ends_with('-')
    };
    name.len() <= 64 && name.trim_end_matches('.').split('.').all(label)
}

fn put(tree: &mut Tree, path: &'static str, text: String, mtime: Mtime) -> Result<(), OsError> {
    let path = tree.resolve_parent(&TreePath::literal(path)).map_err(tree::TreeError::from)?;
    tree.make_dirs(&path.parent().expect("a file in /etc"))?;
    let kind = Kind::File(Content::inline(text.into_bytes()));
    tree.put(path, Node { meta: Meta::file(0o644).at(mtime), kind })?;
    Ok(())
}

fn write_assignments(
    tree: &mut Tree,
    path: &'static str,
    assignments: &[(&str, &String)],
    mtime: Mtime,
) -> Result<(), OsError> {
    if assignments.is_empty() {
        return Ok(());
    }
    let line = |(key, value): &(&str, &String)| format!("{key}={}\n", env_file::quote(value));
    put(tree, path, assignments.iter().map(line).collect(), mtime)
}

fn set_timezone(tree: &mut Tree, zone: &str, mtime: Mtime) -> Result<(), OsError> {
    let error =
        |message: String| OsError::Value { setting: "Timezone", value: zone.to_owned(), message };
    let path = format!("usr/share/zoneinfo/{zone}");
    let file = TreePath::new(&path).map_err(|e| error(e.to_string()))?;
    let has_zones = tree.contains(&TreePath::literal("usr/share/zoneinfo"));
    // An image without tzdata still knows UTC.
    if zone != "UTC" && (!has_zones || tree.lookup(&file).and_then(Node::content).is_none()) {
        let help = "is not in the image's /usr/share/zoneinfo; add the package tzdata \
                    (or tzdata-legacy) to Packages=, or check the spelling";
        return Err(error(help.into()));
    }
    let link = TreePath::literal("etc/localtime");
    tree.make_dirs(&TreePath::literal("etc"))?;
    let kind = Kind::Symlink(format!("../{path}").into_bytes().into());
    tree.put(link, Node { meta: Meta::symlink().at(mtime), kind })?;
    Ok(())
}

/// What the second field of root's line in `/etc/shadow` is.
pub fn root_hash(tree: &Tree) -> Option<String> {
    let shadow = Accounts::read(tree, Database::Shadow).ok()?;
    shadow.get("root").map(|fields| fields[1].clone())
}

fn set_root(
    tree: &mut Tree,
    settings: &Settings,
    salt_seed: &[u8],
    mtime: Mtime,
) -> Result<(), OsError> {
    if settings.root_password.is_none() && settings.root_shell.is_none() {
        return Ok(());
    }
    let hash = match &settings.root_password {
        None => None,
        Some(RootPassword::Empty) => Some(String::new()),
        Some(RootPassword::Hashed(hash)) => {
            let message = "not a crypt(5) hash";
            check("RootPassword", hash, |h| !h.contains([':', '\n']), message)?;
            Some(hash.clone())
        }
        Some(RootPassword::Plain(password)) => Some(hash_password(password, salt_seed)?),
    };
    if let Some(shell) = &settings.root_shell {
        let there = TreePath::new(shell).ok().and_then(|p| tree.lookup(&p)).is_some();
        if !shell.starts_with('/') || !there {
            let message = "is not in the image; install the package that provides it".into();
            return Err(OsError::Value { setting: "RootShell", value: shell.clone(), message });
        }
    }
    let default_shell = settings.root_shell.as_deref().unwrap_or(sysusers::root_shell(tree));
    let mut passwd = Accounts::read(tree, Database::Passwd)?;
    let mut shadow = Accounts::read(tree, Database::Shadow)?;
    if passwd.get("root").is_none() {
        let fields = ["root", "x", "0", "0", "Super User", "/root", default_shell];
        passwd.add(fields.map(str::to_owned).to_vec());
    }
    let root = passwd.get_mut("root").expect("just made");
    root[1] = "x".into();
    if let Some(shell) = &settings.root_shell {
        root[6] = shell.clone();
    }
    let days = (mtime.secs.max(0) / 86400).to_string();
    if shadow.get("root").is_none() {
        let fields = ["root", "!*", &days, "", "", "", "", "", ""];
        shadow.add(fields.map(str::to_owned).to_vec());
    }
    let root = shadow.get_mut("root").expect("just made");
    if let Some(hash) = hash {
        root[1] = hash;
        root[2] = days;
    }
    passwd.write(tree, mtime)?;
    shadow.write(tree, mtime)
}

/// A yescrypt hash as Debian's libcrypt makes by default (`$y$j9T$…`).
pub fn hash_password(password: &str, salt_seed: &[u8]) -> Result<String, OsError> {
    let mut hasher = Sha256::new();
    hasher.update(b"mkgold root password salt");
    hasher.update((salt_seed.len() as u64).to_le_bytes());
    hasher.update(salt_seed);
    hasher.update(password.as_bytes());
    let salt: [u8; 32] = hasher.finalize().into();
    let hash = Yescrypt::default().hash_password_with_salt(password.as_bytes(), &salt[..16]);
    hash.map(|h| h.as_str().to_owned()).map_err(|e| OsError::Value {
        setting: "RootPassword",
        value: "(hidden)".into(),
        message: format!("cannot be hashed: {e}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(s: &'static str) -> TreePath {
        TreePath::literal(s)
    }

    fn text(t: &Tree, path: &'static str) -> String {
        String::from_utf8(t.read(&p(path), 9999).unwrap().unwrap()).unwrap()
    }

    fn image() -> Tree {
        let mut t = Tree::new();
        t.write(&p("usr/share/zoneinfo/Europe/Berlin"), 0o644, *b"TZif").unwrap();
        t.write(&p("usr/bin/bash"), 0o755, *b"#").unwrap();
        t.add_symlink(p("bin"), "usr/bin").unwrap();
        t.write(&p("etc/passwd"), 0o644, *b"root:x:0:0:root:/root:/bin/sh\n").unwrap();
        t.write(&p("etc/shadow"), 0o640, *b"root:*:19000:0:99999:7:::\n").unwrap();
        t
    }

    #[test]
    fn writes_what_firstboot_writes() {
        let mut t = image();
        let settings = Settings {
            locale: Some("C.UTF-8".into()),
            locale_messages: Some("de_DE.UTF-8".into()),
            keymap: Some("us".into()),
            timezone: Some("Europe/Berlin".into()),
            hostname: Some("box-??".into()),
            root_password: Some(RootPassword::Hashed("$y$x".into())),
            root_shell: Some("/bin/bash".into()),
        };
        apply(&mut t, &settings, b"seed", Mtime::secs(86400 * 20000)).unwrap();
        assert_eq!(text(&t, "etc/locale.conf"), "LANG=C.UTF-8\nLC_MESSAGES=de_DE.UTF-8\n");
        assert_eq!(text(&t, "etc/vconsole.conf"), "KEYMAP=us\n");
        assert_eq!(text(&t, "etc/hostname"), "box-??\n");
        assert_eq!(text(&t, "etc/passwd"), "root:x:0:0:root:/root:/bin/bash\n");
        assert_eq!(text(&t, "etc/shadow"), "root:$y$x:20000:0:99999:7:::\n");
        let link = t.get(&p("etc/localtime")).unwrap();
        assert!(
            matches!(&link.kind, Kind::Symlink(to) if **to == *b"../usr/share/zoneinfo/Europe/Berlin")
        );
    }

    #[test]
    fn a_plain_password_verifies_and_does_not_vary() {
        use yescrypt::PasswordVerifier;
        let hash = hash_password("secret", b"a").unwrap();
        assert!(hash.starts_with("$y$j"), "{hash}");
        Yescrypt::default().verify_password(b"secret", hash.as_str()).unwrap();
        assert!(Yescrypt::default().verify_password(b"other", hash.as_str()).is_err());
        assert_eq!(hash, hash_password("secret", b"a").unwrap());
        assert_ne!(hash, hash_password("secret", b"b").unwrap());
    }

    #[test]
    fn wrong_values_are_named() {
        let cases = [
            Settings { timezone: Some("Mars/Base".into()), ..Settings::default() },
            Settings { timezone: Some("../../etc/passwd".into()), ..Settings::default() },
            Settings { hostname: Some("a b".into()), ..Settings::default() },
            Settings { root_shell: Some("/bin/zsh".into()), ..Settings::default() },
            Settings { locale: Some("x y".into()), ..Settings::default() },
        ];
        for settings in cases {
            let error = apply(&mut image(), &settings, b"", Mtime::secs(0)).unwrap_err();
            assert!(matches!(error, OsError::Value { .. }), "{error}");
        }
    }

    #[test]
    fn nothing_set_touches_nothing() {
        let mut t = image();
        apply(&mut t, &Settings::default(), b"", Mtime::secs(0)).unwrap();
        assert_eq!(t.len(), image().len());
    }
}
