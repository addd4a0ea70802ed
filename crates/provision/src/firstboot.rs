//! systemd-firstboot(1), as an edit of a Tree.
//!
//! Differs from `os::firstboot`, which is what a build sets whatever was there: here
//! what is there stays unless forced, each step has its sources in order (copied from
//! the host, asked for, a credential), and the checks are systemd's. Prompting is the
//! command's business.

use std::collections::BTreeMap;

use os::accounts::{Accounts, Database};
use os::env_file;
pub use os::firstboot::RootPassword;
use tree::{Content, Kind, Meta, Mtime, Node, Tree, TreeError, TreePath};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `LANG=`.
    pub locale: Option<String>,
    /// `LC_MESSAGES=`.
    pub locale_messages: Option<String>,
    /// `KEYMAP=`.
    pub keymap: Option<String>,
    /// Name of a zone.
    pub timezone: Option<String>,
    /// A host name, or a pattern of one.
    pub hostname: Option<String>,
    /// Whether a random machine ID is set.
    pub setup_machine_id: bool,
    /// A given one: 32 hexadecimal digits.
    pub machine_id: Option<String>,
    /// `TAGS=` of machine-info.
    pub machine_tags: Option<String>,
    /// Root's password.
    pub root_password: Option<RootPassword>,
    /// Root's shell.
    pub root_shell: Option<String>,
    /// `/etc/kernel/cmdline`.
    pub kernel_command_line: Option<String>,
    /// What the host has, of what is to be copied.
    pub copied: Copied,
    /// Whether what is there is replaced.
    pub force: bool,
    /// Whether what is there is removed first.
    pub reset: bool,
}

/// What is copied from the host, where it has it.
#[derive(Debug, Clone, Default)]
pub struct Copied {
    /// `/etc/locale.conf`, as it is.
    pub locale: Option<Vec<u8>>,
    /// `/etc/vconsole.conf`, as it is.
    pub keymap: Option<Vec<u8>>,
    /// What `/etc/localtime` points to.
    pub timezone: Option<Vec<u8>>,
    /// Root's hash.
    pub root_password: Option<String>,
    /// Root's shell.
    pub root_shell: Option<String>,
}

/// What it takes from the world.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Today, for `/etc/shadow`.
    pub now: Mtime,
    /// For a machine ID and the salt of a password.
    pub random: [u8; 32],
    /// `$CREDENTIALS_DIRECTORY`.
    pub credentials: BTreeMap<String, String>,
}

/// Why it is refused. Nothing is changed then.
#[derive(Debug, thiserror::Error)]
pub enum FirstbootError {
    /// A value cannot be set.
    #[error("{option}={value}: {message}")]
    Value {
        /// The option.
        option: &'static str,
        /// What it is set to.
        value: String,
        /// What is wrong with it.
        message: &'static str,
    },
    /// A file is in the way.
    #[error("{path} is not a regular file, so it is not changed; remove it first")]
    NotAFile {
        /// Which.
        path: TreePath,
    },
    /// An edit is impossible.
    #[error(transparent)]
    Os(#[from] os::OsError),
}

impl From<TreeError> for FirstbootError {
    fn from(error: TreeError) -> Self {
        FirstbootError::Os(error.into())
    }
}

type Result<T> = std::result::Result<T, FirstbootError>;

/// Sets what is asked for and not there yet. Returns notes for people: what was left
/// alone, and why.
pub fn apply(tree: &mut Tree, options: &Options, facts: &Facts) -> Result<Vec<String>> {
    check(tree, options)?;
    let mut step = Step { tree, options, facts, notes: Vec::new() };
    if options.reset {
        step.reset();
    }
    step.locale()?;
    step.keymap()?;
    step.timezone()?;
    step.hostname()?;
    step.root_account()?;
    step.kernel_command_line()?;
    step.machine_id()?;
    step.machine_tags()?;
    Ok(step.notes)
}

fn check(tree: &Tree, options: &Options) -> Result<()> {
    let refuse =
        |option, value: &Option<String>, message, is_valid: &dyn Fn(&str) -> bool| match value {
            Some(value) if !is_valid(value) => {
                Err(FirstbootError::Value { option, value: value.clone(), message })
            }
            _ => Ok(()),
        };
    let name = "not the name of a locale";
    refuse("--locale", &options.locale, name, &is_safe_name)?;
    refuse("--locale-messages", &options.locale_messages, name, &is_safe_name)?;
    refuse("--keymap", &options.keymap, "not the name of a keymap", &is_safe_name)?;
    let message = "not a time zone of the image's /usr/share/zoneinfo: check the spelling, or \
                   install tzdata (tzdata-legacy for old names) in it";
    refuse("--timezone", &options.timezone, message, &|zone| is_timezone(tree, zone))?;
    let message = "not a host name: labels of letters, digits, - and _, joined by dots, 64 \
                   characters at most; ? is replaced by a digit that follows from the machine ID";
    refuse("--hostname", &options.hostname, message, &is_hostname)?;
    let message = "not tags: words of letters, digits, . and - with = between key and value, \
                   joined by colons";
    refuse("--machine-tags", &options.machine_tags, message, &|tags| tags_of(tags).is_some())?;
    let message = "not a shell in the image: its whole path is needed, without links that lead \
                   nowhere; install the package that has it";
    refuse("--root-shell", &options.root_shell, message, &|shell| is_shell(tree, shell))?;
    match &options.root_password {
        Some(RootPassword::Hashed(hash)) if hash.contains([':', '\n']) => {
            Err(FirstbootError::Value {
                option: "--root-password-hashed",
                value: hash.clone(),
                message: "not a hash of crypt(5)",
            })
        }
        _ => Ok(()),
    }
}

/// What a locale or keymap may be called: a file's name without quotes and the like.
fn is_safe_name(name: &str) -> bool {
    let bad = |c: char| c.is_ascii_control() || "/\"'\\".contains(c);
    !matches!(name, "" | "." | "..") && name.len() < 128 && !name.contains(bad)
}

fn is_timezone(tree: &Tree, zone: &str) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || "-_+/".contains(c);
    if zone.split('/').any(str::is_empty) || !zone.chars().all(ok) {
        return false;
    }
    // An image without tzdata still knows UTC; of others only the image can tell.
    let file = TreePath::new(format!("usr/share/zoneinfo/{zone}"));
    zone == "UTC"
        || file.ok().and_then(|f| tree.lookup(&f)).and_then(Node::content).is_some_and(|content| {
            let mut magic = [0; 4];
            content.read_at(&mut magic, 0).is_ok_and(|n| magic[..n] == *b"TZif")
        })
}

fn is_hostname(name: &str) -> bool {
    let label = |label: &str| {
        let ok = |c: char| c.is_ascii_alphanumeric() || "-_?".contains(c);
        !label.is_empty()
            && label.chars().all(ok)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= 64 && name.split('.').all(label)
}

/// Sorted, each once; `None` if one is no tag, or a key has two values.
fn tags_of(text: &str) -> Option<Vec<&str>> {
    let mut tags: Vec<&str> = text.split(':').collect();
    tags.sort_unstable();
    tags.dedup();
    let key = |tag: &str| tag.split_once('=').map(|(key, _)| key.to_owned());
    let mut keys: Vec<_> = tags.iter().filter_map(|tag| key(tag)).collect();
    let all = keys.len();
    keys.dedup();
    (keys.len() == all && tags.iter().all(|tag| is_tag(tag))).then_some(tags)
}

fn is_tag(tag: &str) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || ".=-".contains(c);
    let name = tag.split_once('=').map_or(tag, |(key, _)| key);
    !tag.is_empty()
        && tag.len() <= 255
        && tag.chars().all(ok)
        && !tag.starts_with(['-', '.', '='])
        && !tag.ends_with(['-', '.'])
        && !name.ends_with(['-', '.'])
}

/// Whether it is there.
fn is_shell(tree: &Tree, shell: &str) -> bool {
    let is_normal = !shell.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."));
    let bad = |c: char| c.is_ascii_control() || c == ':';
    let Some(node) = TreePath::new(shell).ok().and_then(|path| tree.lookup(&path)) else {
        return false;
    };
    shell.starts_with('/') && is_normal && !shell.contains(bad) && !node.is_dir()
}

struct Step<'a> {
    tree: &'a mut Tree,
    options: &'a Options,
    facts: &'a Facts,
    notes: Vec<String>,
}

impl Step<'_> {
    fn reset(&mut self) {
        for path in ["locale.conf", "vconsole.conf", "hostname", "machine-id", "kernel/cmdline"] {
            self.remove(path);
        }
        self.remove("localtime");
    }

    fn remove(&mut self, name: &str) {
        let path = TreePath::new(format!("etc/{name}")).expect("a path");
        if let Ok(path) = self.tree.resolve_parent(&path) {
            self.tree.remove(&path);
        }
    }

    /// Where the file of `/etc` really is, if it is to be written; links as the last part
    /// are not followed, they are replaced.
    fn place(&mut self, name: &str, what: &str) -> Result<Option<TreePath>> {
        let path = TreePath::new(format!("etc/{name}")).expect("a path");
        let path = self.tree.resolve_parent(&path).map_err(TreeError::from)?;
        // The original does so, whether or not it writes anything.
        self.tree.make_dirs(&path.parent().expect("a file in /etc"))?;
        if self.tree.contains(&path) && !self.options.force {
            self.notes.push(format!("{path} is there, so {what} stays (--force changes it)"));
            return Ok(None);
        }
        Ok(Some(path))
    }

    fn credential(&self, name: &str) -> Option<String> {
        self.facts.credentials.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// A credential that makes no sense is left out, with a note.
    fn valid_credential(&mut self, name: &str, is_valid: fn(&str) -> bool) -> Option<String> {
        let value = self.credential(name)?;
        if !is_valid(&value) {
            self.notes.push(format!("credential {name}: '{value}' is not valid, ignored"));
            return None;
        }
        Some(value)
    }

    fn write(&mut self, path: TreePath, content: Vec<u8>) -> Result<()> {
        let dir = path.parent().expect("a file in /etc");
        self.tree.make_dirs(&dir)?;
        let meta = Meta::file(0o644).at(self.facts.now);
        self.tree.put(path, Node { meta, kind: Kind::File(Content::inline(content)) })?;
        Ok(())
    }

    fn locale(&mut self) -> Result<()> {
        let Some(path) = self.place("locale.conf", "the locale")? else { return Ok(()) };
        if let Some(copy) = &self.options.copied.locale {
            return self.write(path, copy.clone());
        }
        let asked = self.options.locale.is_some() || self.options.locale_messages.is_some();
        let (mut lang, mut messages) =
            (self.options.locale.clone(), self.options.locale_messages.clone());
        if !asked {
            lang = self.credential("firstboot.locale");
            messages = self.credential("firstboot.locale-messages");
        }
        let messages = messages.filter(|messages| Some(messages) != lang.as_ref());
        let lines = [("LANG", lang), ("LC_MESSAGES", messages)];
        let line = |(key, value): &(&str, Option<String>)| {
            value.as_ref().map(|value| format!("{key}={}\n", env_file::quote(value)))
        };
        let text: String = lines.iter().filter_map(line).collect();
        match text.is_empty() {
            true => Ok(()),
            false => self.write(path, text.into_bytes()),
        }
    }

    fn keymap(&mut self) -> Result<()> {
        let Some(path) = self.place("vconsole.conf", "the keymap")? else { return Ok(()) };
        if let Some(copy) = &self.options.copied.keymap {
            return self.write(path, copy.clone());
        }
        let Some(keymap) = self
            .options
            .keymap
            .clone()
            .or_else(|| self.valid_credential("firstboot.keymap", is_safe_name))
        else {
            return Ok(());
        };
        let mut text = format!("KEYMAP={}\n", env_file::quote(&keymap));
        for (key, value) in self.xkb(&keymap)? {
            text.push_str(&format!("{key}={}\n", env_file::quote(&value)));
        }
        self.write(path, text.into_bytes())
    }

    /// What the keymap is for X, by the image's `kbd-model-map`: keymap, layout, model,
    /// variant, options; `-` for none.
    fn xkb(&self, keymap: &str) -> Result<Vec<(&'static str, String)>> {
        let map = TreePath::literal("usr/share/systemd/kbd-model-map");
        let Some(text) = self.tree.read(&map, 1 << 20) else { return Ok(Vec::new()) };
        let text = text.map_err(|source| os::OsError::Read { path: map, source })?;
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let mut rows = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
        let Some(row) = rows.find(|row| row.len() >= 5 && row[0] == keymap) else {
            return Ok(Vec::new());
        };
        let keys = ["XKBLAYOUT", "XKBMODEL", "XKBVARIANT", "XKBOPTIONS"];
        let pairs = keys.into_iter().zip(&row[1..]).filter(|(_, value)| **value != "-");
        Ok(pairs.map(|(key, value)| (key, (*value).to_owned())).collect())
    }

    fn timezone(&mut self) -> Result<()> {
        let Some(path) = self.place("localtime", "the time zone")? else { return Ok(()) };
        let target = match (&self.options.copied.timezone, &self.options.timezone) {
            (Some(link), _) => link.clone(),
            (None, Some(zone)) => format!("../usr/share/zoneinfo/{zone}").into_bytes(),
            (None, None) => {
                let Some(zone) = self.credential("firstboot.timezone") else { return Ok(()) };
                if !is_timezone(self.tree, &zone) {
                    let note = format!("credential firstboot.timezone: '{zone}' is none, ignored");
                    self.notes.push(note);
                    return Ok(());
                }
                format!("../usr/share/zoneinfo/{zone}").into_bytes()
            }
        };
        self.tree.make_dirs(&path.parent().expect("in /etc"))?;
        let meta = Meta::symlink().at(self.facts.now);
        self.tree.put(path, Node { meta, kind: Kind::Symlink(target.into()) })?;
        Ok(())
    }

    fn hostname(&mut self) -> Result<()> {
        let Some(path) = self.place("hostname", "the host name")? else { return Ok(()) };
        let asked = self.options.hostname.clone();
        let Some(name) = asked.or_else(|| self.valid_credential("firstboot.hostname", is_hostname))
        else {
            return Ok(());
        };
        let name = name.strip_suffix('.').unwrap_or(&name);
        // The only file whose links are followed.
        let path = self.tree.resolve(&path).map_err(TreeError::from)?;
        self.write(path, format!("{name}\n").into_bytes())
    }

    fn kernel_command_line(&mut self) -> Result<()> {
        let what = "the kernel command line";
        let Some(path) = self.place("kernel/cmdline", what)? else { return Ok(()) };
        match &self.options.kernel_command_line {
            Some(line) => self.write(path, format!("{line}\n").into_bytes()),
            None => Ok(()),
        }
    }

    fn machine_id(&mut self) -> Result<()> {
        let Some(path) = self.place("machine-id", "the machine ID")? else { return Ok(()) };
        let id = match &self.options.machine_id {
            Some(id) => id.clone(),
            None if self.options.setup_machine_id => crate::identity::random_id(&self.facts.random),
            None => return Ok(()),
        };
        self.write(path, format!("{id}\n").into_bytes())
    }

    fn machine_tags(&mut self) -> Result<()> {
        let Some(path) = self.place("machine-info", "what machine-info says")? else {
            return Ok(());
        };
        let asked = self.options.machine_tags.clone();
        let is_valid = |tags: &str| tags_of(tags).is_some();
        let tags = asked.or_else(|| self.valid_credential("firstboot.machine-tags", is_valid));
        let Some(tags) = tags else { return Ok(()) };
        let tags = tags_of(&tags).expect("checked").join(":");
        self.write(path, format!("TAGS=\"{tags}\"\n").into_bytes())
    }

    fn root_account(&mut self) -> Result<()> {
        let exists = |database| regular(self.tree, database);
        let (passwd, shadow) = (exists(Database::Passwd)?, exists(Database::Shadow)?);
        if !self.options.force && passwd && shadow && self.is_root_configured()? {
            let note = "root has an account, so its password and shell stay (--force changes them)";
            self.notes.push(note.into());
            return Ok(());
        }
        let (password, shell) = (self.root_password()?, self.root_shell()?);
        match (&password, &shell) {
            (None, None) => Ok(()),
            _ => self.write_root(password, shell),
        }
    }

    /// Whether root can log in, or somebody has decided that it cannot. Both files are there.
    fn is_root_configured(&self) -> Result<bool> {
        let passwd = Accounts::read(self.tree, Database::Passwd)?;
        let shadow = Accounts::read(self.tree, Database::Shadow)?;
        Ok(match (passwd.get("root"), shadow.get("root")) {
            (None, _) => false,
            (Some(account), _) if account[1] != "x" => true,
            (Some(_), None) => false,
            (Some(_), Some(secret)) => secret[1] != "!unprovisioned",
        })
    }

    /// The hash to be.
    fn root_password(&self) -> Result<Option<String>> {
        if let Some(copy) = &self.options.copied.root_password {
            return Ok(Some(copy.clone()));
        }
        let hash = |password: &str| os::firstboot::hash_password(password, &self.facts.random);
        Ok(match &self.options.root_password {
            Some(RootPassword::Empty) => Some(String::new()),
            Some(RootPassword::Hashed(hash)) => Some(hash.clone()),
            Some(RootPassword::Plain(password)) => Some(hash(password)?),
            None => match self.credential("passwd.hashed-password.root") {
                Some(hash) => Some(hash),
                None => {
                    let plain = self.credential("passwd.plaintext-password.root");
                    plain.map(|password| hash(&password)).transpose()?
                }
            },
        })
    }

    fn root_shell(&mut self) -> Result<Option<String>> {
        let asked = self.options.root_shell.clone();
        if let Some(shell) = asked.or_else(|| self.options.copied.root_shell.clone()) {
            return Ok(Some(shell));
        }
        let Some(shell) = self.credential("passwd.shell.root") else { return Ok(None) };
        if !is_shell(self.tree, &shell) {
            let note = format!("credential passwd.shell.root: there is no '{shell}', ignored");
            self.notes.push(note);
            return Ok(None);
        }
        Ok(Some(shell))
    }

    fn write_root(&mut self, password: Option<String>, shell: Option<String>) -> Result<()> {
        let mut passwd = Accounts::read(self.tree, Database::Passwd)?;
        let mut shadow = Accounts::read(self.tree, Database::Shadow)?;
        let days = self.facts.now.secs.max(0) / (24 * 60 * 60);
        let strings = |fields: &[&str]| fields.iter().map(|&field| field.to_owned()).collect();
        if passwd.get("root").is_none() {
            let default = os::sysusers::root_shell(self.tree);
            passwd.add(strings(&["root", "x", "0", "0", "Super User", "/root", default]));
        }
        if shadow.get("root").is_none() {
            let mut secret: Vec<String> = strings(&["root", "!*"]);
            secret.push(days.to_string());
            secret.extend(strings(&["", "", "", "", "", ""]) as Vec<String>);
            shadow.add(secret);
        }
        let account = passwd.get_mut("root").expect("there, or just made");
        if let Some(shell) = shell {
            account[6] = shell;
        }
        if let Some(password) = password {
            account[1] = "x".into();
            let secret = shadow.get_mut("root").expect("there, or just made");
            secret[1] = password;
            secret[2] = days.to_string();
        }
        passwd.write(self.tree, self.facts.now)?;
        Ok(shadow.write(self.tree, self.facts.now)?)
    }
}

/// Whether the file is there. What is no file is not replaced.
fn regular(tree: &Tree, database: Database) -> Result<bool> {
    let path = tree.resolve_parent(&database.path()).map_err(TreeError::from)?;
    match tree.get(&path).map(|node| &node.kind) {
        None => Ok(false),
        Some(Kind::File(_)) => Ok(true),
        Some(_) => Err(FirstbootError::NotAFile { path }),
    }
}
