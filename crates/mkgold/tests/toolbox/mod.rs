//! Cases for the tools of the first boot, and what a tool makes of each: run by mkgold in
//! `toolbox_recorded.rs`, by the original in `oracle_toolbox.rs`.

pub mod cases;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A root file system, how a tool is called on it, and with which credentials.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub tool: &'static str,
    /// Path → `d MODE`, `l TARGET`, or `f MODE CONTENT`.
    pub tree: BTreeMap<String, String>,
    pub arguments: Vec<String>,
    pub credentials: Vec<(&'static str, &'static str)>,
}

/// What came of it: the exit status, and the tree if it is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: i32,
    pub after: BTreeMap<String, String>,
}

impl Answer {
    #[allow(dead_code, reason = "recording alone needs it")]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "status": self.status, "after": self.after })
    }

    pub fn of_json(value: &serde_json::Value) -> Answer {
        let after = value["after"].as_object().expect("an object").iter();
        let text = |v: &serde_json::Value| v.as_str().expect("a string").to_owned();
        Answer {
            status: value["status"].as_i64().expect("a number") as i32,
            after: after.map(|(path, entry)| (path.clone(), text(entry))).collect(),
        }
    }
}

impl Case {
    /// Makes the root file system at `root`, the credentials at `credentials`.
    pub fn lay_out(&self, root: &Path, credentials: &Path) {
        fs::create_dir_all(root).unwrap();
        set_mode(root, 0o755);
        for (path, entry) in &self.tree {
            let at = root.join(path);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            let (kind, rest) = entry.split_once(' ').unwrap();
            if kind == "l" {
                symlink(rest, at).unwrap();
                continue;
            }
            let (mode, content) = rest.split_once(' ').unwrap_or((rest, ""));
            match kind {
                "d" => fs::create_dir_all(&at).unwrap(),
                "f" => fs::write(&at, content).unwrap(),
                other => panic!("{other}"),
            }
            set_mode(&at, u32::from_str_radix(mode, 8).unwrap());
        }
        fs::create_dir_all(credentials).unwrap();
        for (name, value) in &self.credentials {
            fs::write(credentials.join(name), value).unwrap();
        }
    }

    /// What is at `root` after the tool has ended with `status`. A tool that failed has left
    /// what it did before; that does not count.
    pub fn answer(&self, root: &Path, status: i32) -> Answer {
        let mut after = BTreeMap::new();
        if status == 0 {
            walk(root, root, &mut after);
        }
        // It locks the accounts, and leaves the lock.
        after.remove("etc/.pwd.lock");
        let random = self.arguments.iter().any(|a| a == "--setup-machine-id")
            || self.tool == "systemd-machine-id-setup";
        if let Some(id) = after.get_mut("etc/machine-id").filter(|_| random) {
            *id = without_id(id, &self.tree);
        }
        if let Some(entry) = after.get_mut("etc/vconsole.conf") {
            *entry = keymap_alone(entry);
        }
        for name in ["etc/shadow", "etc/shadow-"] {
            if let Some(entry) = after.get_mut(name) {
                *entry = without_today(entry);
            }
        }
        Answer { status, after }
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let meta = fs::symlink_metadata(&path).unwrap();
        let mode = meta.mode() & 0o7777;
        if meta.is_symlink() {
            found.insert(name, format!("l {}", fs::read_link(&path).unwrap().display()));
        } else if meta.is_dir() {
            found.insert(name, format!("d {mode:o}"));
            walk(root, &path, found);
        } else if meta.is_file() {
            // What is nobody's to read is root's and ours to read.
            let readable = mode | 0o400;
            set_mode(&path, readable);
            let text = fs::read(&path).unwrap();
            set_mode(&path, mode);
            found.insert(name, format!("f {mode:o} {}", String::from_utf8_lossy(&text)));
        } else {
            found.insert(name, format!("? {mode:o}"));
        }
    }
}

/// Without comments on who wrote it, and without what the keymap is for X: 257 does not
/// write that, 262 and mkgold do (PARITY.md).
fn keymap_alone(entry: &str) -> String {
    let [kind, mode, content] = entry.splitn(3, ' ').collect::<Vec<_>>()[..] else {
        return entry.to_owned();
    };
    let lines = content.split_inclusive('\n');
    let kept = lines.filter(|line| !line.starts_with('#') && !line.starts_with("XKB"));
    format!("{kind} {mode} {}", kept.collect::<String>())
}

/// A random ID reads `ID`; one that was there before stays.
fn without_id(entry: &str, before: &BTreeMap<String, String>) -> String {
    let id = entry.trim_end().rsplit(' ').next().unwrap_or_default();
    let was_there = before.values().any(|old| old.contains(id));
    let is_id = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id && !was_there { entry.replace(id, "ID") } else { entry.to_owned() }
}

/// The day of the last change reads `TODAY` where it is today, or was when the test began.
fn without_today(entry: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let today = now.as_secs() / 86400;
    let day = |field: &str| match field.parse::<u64>() {
        Ok(day) if day == today || day + 1 == today => "TODAY".to_owned(),
        _ => field.to_owned(),
    };
    let line = |line: &str| {
        let fields: Vec<_> = line.split(':').enumerate().collect();
        let fields = fields.into_iter().map(|(i, f)| if i == 2 { day(f) } else { f.to_owned() });
        fields.collect::<Vec<_>>().join(":")
    };
    entry.split('\n').map(line).collect::<Vec<_>>().join("\n")
}
