//! What `repart` needs from the machine: facts for specifiers, the seed, the clock, the
//! trees to copy from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use disk::definition::{Definition, Facts, Wanted};
use disk::{Architecture, Guid};
use os::env_file;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use tree::dir::Owners;
use tree::{Tree, TreePath};

use super::image;
use super::options::Options;
use crate::verbs::variable;

/// No file that is read here is larger.
const MAX_FILE: u64 = 64 << 10;
/// What os-release has for specifiers.
const OS_RELEASE: [(char, &str); 6] = [
    ('A', "IMAGE_VERSION"),
    ('B', "BUILD_ID"),
    ('M', "IMAGE_ID"),
    ('o', "ID"),
    ('w', "VERSION_ID"),
    ('W', "VARIANT_ID"),
];

/// The architecture of this machine.
pub fn architecture() -> Result<Architecture, String> {
    let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
    let known = Architecture::from_name(&machine);
    known
        .ok_or_else(|| format!("there are no partition types for {machine}, which this machine is"))
}

/// A file of a root, links being followed within it; `None` if there is none.
fn read_below(root: &Path, path: &str) -> Result<Option<String>, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", root.join(path).display());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| failed(e.into()))?;
    let opened = openat2(fd, path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
    match opened.map_err(std::io::Error::from) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(e)),
        Ok(fd) => {
            let mut text = String::new();
            File::from(fd).take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
            Ok(Some(text))
        }
    }
}

/// Where definitions and what specifiers stand for come from.
pub enum Root {
    /// A directory of this machine.
    Dir(PathBuf),
    /// What is in an image.
    Image(Tree),
}

impl Root {
    /// As the options have it; by default `/`, in an initrd the system that it mounts.
    pub fn new(options: &Options) -> Result<Root, String> {
        if let Some(image) = &options.image {
            return image::tree(image, options.sector_size).map(Root::Image);
        }
        let initrd = Path::new("/etc/initrd-release").exists();
        let usr = || {
            let dev = |path: &str| std::fs::metadata(path).map(|m| m.dev()).ok();
            dev("/sysusr/usr").is_some_and(|d| Some(d) != dev("/sysusr"))
        };
        let default = || match initrd {
            true if usr() => "/sysusr".into(),
            true => "/sysroot".into(),
            false => "/".into(),
        };
        Ok(Root::Dir(options.root.clone().unwrap_or_else(default)))
    }

    fn read(&self, path: &str) -> Result<Option<String>, String> {
        match self {
            Root::Dir(root) => read_below(root, path),
            Root::Image(tree) => {
                let path = TreePath::new(path).map_err(|e| e.to_string())?;
                let content = tree.lookup(&path).and_then(|node| node.content());
                let bytes = content.map(|c| c.read(MAX_FILE)).transpose();
                let bytes = bytes.map_err(|e| format!("{path}: {e}"))?;
                Ok(bytes.map(|b| String::from_utf8_lossy(&b).into_owned()))
            }
        }
    }
}

/// The disk that the root is on, if there is one disk.
pub fn disk_behind(root: &Root) -> Result<Option<PathBuf>, String> {
    let Root::Dir(root) = root else { return Ok(None) };
    if let Ok(link) = std::fs::canonicalize("/run/systemd/volatile-root") {
        return Ok(Some(link));
    }
    for dir in [root.clone(), root.join("usr")] {
        let found = disk::device::behind(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// What specifiers stand for, and what the environment says about formats.
pub fn facts(options: &Options, root: &Root) -> Result<Facts, String> {
    let mut facts = Facts::new(architecture()?);
    facts.retype = options.architecture;
    facts.wanted = match (&options.include, &options.exclude) {
        (Some(kinds), _) => Wanted::Only(kinds.clone()),
        (None, Some(kinds)) => Wanted::AllBut(kinds.clone()),
        (None, None) => Wanted::All,
    };
    facts.specifiers = specifiers(root)?;
    facts.override_format = variable("SYSTEMD_REPART_OVERRIDE_FSTYPE").filter(|v| !v.is_empty());
    let prefix = "SYSTEMD_REPART_OVERRIDE_FSTYPE_";
    for (name, value) in std::env::vars_os() {
        let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else { continue };
        if let Some(designator) = name.strip_prefix(prefix) {
            let designator = designator.to_ascii_lowercase().replace('_', "-");
            facts.override_format_of.insert(designator, value);
        }
    }
    Ok(facts)
}

fn specifiers(root: &Root) -> Result<BTreeMap<char, String>, String> {
    let mut all = BTreeMap::new();
    let release = match root.read("etc/os-release")? {
        Some(text) => Some(text),
        None => root.read("usr/lib/os-release")?,
    };
    all.extend(of_release(&env_file::parse(&release.unwrap_or_default())));
    all.extend(machine_id(root)?.map(|id| ('m', id.plain())));
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy().into_owned();
    all.insert('l', host.split('.').next().unwrap_or_default().to_owned());
    let info = env_file::parse(&root.read("etc/machine-info")?.unwrap_or_default());
    all.insert('q', info.get("PRETTY_HOSTNAME").unwrap_or(&host).clone());
    all.insert('H', host);
    all.insert('v', uname.release().to_string_lossy().into_owned());
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    all.extend(boot.ok().map(|id| ('b', id.trim().replace('-', ""))));
    let temporary = ["TMPDIR", "TEMP", "TMP"].into_iter().find_map(variable);
    all.insert('T', temporary.clone().unwrap_or_else(|| "/tmp".into()));
    all.insert('V', temporary.unwrap_or_else(|| "/var/tmp".into()));
    Ok(all)
}

/// The specifiers that stand for something in os-release.
pub fn of_release(release: &BTreeMap<String, String>) -> BTreeMap<char, String> {
    let value = |(specifier, key)| Some((specifier, release.get(key)?.clone()));
    OS_RELEASE.into_iter().filter_map(value).collect()
}

/// The ID of the root, if it has one.
fn machine_id(root: &Root) -> Result<Option<Guid>, String> {
    let text = root.read("etc/machine-id")?.unwrap_or_default();
    Ok(text.trim().parse().ok().filter(|id: &Guid| !id.is_nil()))
}

/// What identifiers derive from, and whether it was made up.
pub fn seed(options: &Options, root: &Root) -> Result<(Guid, bool), String> {
    match options.seed.as_deref() {
        Some("random") => Ok((random()?, true)),
        Some(text) => text.parse().map(|seed| (seed, false)).map_err(|e| format!("--seed: {e}")),
        None => match machine_id(root)? {
            Some(id) => Ok((id, false)),
            None => Ok((random()?, true)),
        },
    }
}

/// Sixteen random bytes, as a UUID.
pub fn random() -> Result<Guid, String> {
    let mut bytes = [0; 16];
    let read = File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes));
    read.map_err(|e| format!("/dev/urandom: {e}"))?;
    Ok(Guid::from_bytes(bytes).as_version_4())
}

/// `$SOURCE_DATE_EPOCH`, in seconds.
pub fn epoch() -> Result<Option<i64>, String> {
    let Some(text) = variable("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let wrong = |_| format!("SOURCE_DATE_EPOCH={text}: this is not a number of seconds");
    text.parse().map(Some).map_err(wrong)
}

/// Now, in seconds.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs() as i64)
}

/// Where files are copied from: nothing is read if nothing is copied.
pub fn source(options: &Options, root: &Root, definitions: &[&Definition]) -> Result<Tree, String> {
    let reads = |d: &&&Definition| !d.copy_files.is_empty() || d.copy_blocks.is_some();
    let Some(first) = definitions.iter().find(reads) else { return Ok(Tree::new()) };
    if let (Root::Image(tree), None) = (root, &options.copy_source) {
        return Ok(tree.clone());
    }
    let Some(dir) = options.copy_source.as_deref().or(options.root.as_deref()) else {
        return Err(format!(
            "{}: CopyFiles= and CopyBlocks= need --copy-source=, --root= or --image=; to copy from the \
             running system is not supported yet",
            first.path
        ));
    };
    let how = tree::dir::Options { owners: Owners::Preserve, mtime: None, xattrs: true };
    tree::dir::read(dir, &how).map_err(|e| e.to_string())
}

/// Refuses variables that would change what is made and are not heeded.
pub fn refuse_variables(definitions: &[&Definition]) -> Result<(), String> {
    for d in definitions {
        let Some(format) = &d.format else { continue };
        let name = format!("SYSTEMD_REPART_MKFS_OPTIONS_{}", format.to_uppercase());
        if variable(&name).is_some_and(|value| !value.trim().is_empty()) {
            return Err(format!("${name} is not supported: file systems are not made by mkfs"));
        }
    }
    Ok(())
}
