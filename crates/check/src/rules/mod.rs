//! The registry. One file per rule; what is merely "must be absent" is a row of
//! the table in [`leftovers`].

mod accounts;
mod boot_files;
mod copies;
mod device_names;
mod disk_table;
mod empty_etc;
mod encryption;
mod entry_names;
pub(crate) mod first_boot;
mod first_boot_state;
mod growth;
pub(crate) mod host_keys;
mod image_fields;
mod leftovers;
mod machine_id;
mod modes;
mod os_release;
mod os_release_text;
mod partition_types;
pub(crate) mod snakeoil;
mod suggestions;

use crate::{Finding, Fix, Outcome, Rule, Severity, Subject, Volume};
use tree::{Kind, Meta, Mtime, Node, Tree, TreePath};

const UNIT_DIR: &str = "usr/lib/systemd/system";

/// Every rule, in the order in which reports show them.
pub static RULES: std::sync::LazyLock<Vec<&'static dyn Rule>> = std::sync::LazyLock::new(|| {
    let mut rules: Vec<&'static dyn Rule> =
        vec![&machine_id::MachineId, &machine_id::DbusMachineId, &host_keys::HostKeys];
    rules.extend(leftovers::TABLE.iter().map(|row| row as &dyn Rule));
    rules.extend([
        &snakeoil::Snakeoil as &dyn Rule,
        &copies::Copies as &dyn Rule,
        &entry_names::EntryToken,
        &entry_names::EntryNames,
        &entry_names::CommandLines,
        &boot_files::TOKEN,
        &boot_files::ENTRIES,
        &boot_files::LOADER,
        &boot_files::SPACE,
        &boot_files::ROOT,
        &empty_etc::HIERARCHY,
        &empty_etc::NSS_SYSTEMD,
        &suggestions::USERS,
        &suggestions::FILES,
        &os_release::EtcOsRelease,
        &empty_etc::NSS_MYHOSTNAME,
        &growth::RULE,
        &encryption::VOLUMES,
        &encryption::KEY_FILES,
        &first_boot_state::RULE,
        &first_boot::FirstBootUnits,
        &image_fields::VALID,
        &image_fields::PRESENT,
        &image_fields::PRISTINE,
        &image_fields::SPECIFIERS,
        &os_release_text::RULE,
        &partition_types::RULE,
        &disk_table::DUPLICATES,
        &disk_table::SOUND,
        &device_names::FSTAB,
        &device_names::CRYPTTAB,
        &accounts::EMPTY,
        &accounts::GUESSED,
        &accounts::SHARED,
        &modes::WRITABLE,
        &modes::PRIVILEGED,
        &modes::DEVICES,
        &modes::OWNERS,
    ]);
    rules
});

/// A rule that is data and one function.
pub struct Plain {
    id: &'static str,
    title: &'static str,
    looks_at: &'static str,
    why: &'static str,
    mend: &'static str,
    severity: Severity,
    volumes: &'static [Volume],
    check: fn(&Subject) -> Outcome,
}

impl Rule for Plain {
    fn id(&self) -> &'static str {
        self.id
    }

    fn title(&self) -> &'static str {
        self.title
    }

    fn looks_at(&self) -> String {
        self.looks_at.into()
    }

    fn why(&self) -> &'static str {
        self.why
    }

    fn mend(&self) -> &'static str {
        self.mend
    }

    fn severity(&self) -> Severity {
        self.severity
    }

    fn volumes(&self) -> &'static [Volume] {
        self.volumes
    }

    fn check(&self, subject: &Subject) -> Outcome {
        (self.check)(subject)
    }
}

/// Text files of an image are no longer than this.
const TEXT_MAX: u64 = 4 << 20;

/// The text that `path` leads to; `None` if there is none, or it cannot be read.
fn text(tree: &Tree, path: &TreePath) -> Option<String> {
    let bytes = tree.read(path, TEXT_MAX)?.ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The lines of a table (fstab, crypttab, passwd) that are no comments, with numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(n, line)| (n + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// A finding about a partition.
fn on_partition(partition: &image::Partition, message: impl Into<String>) -> Finding {
    let path = TreePath::new(partition.number.to_string()).expect("a number is a name");
    let message = format!("{}: {}", partition.title(), message.into());
    finding(Volume::Disk, &path, message, Fix::ByHand)
}

fn finding(volume: Volume, path: &TreePath, message: impl Into<String>, fix: Fix) -> Finding {
    Finding { volume, path: path.clone(), message: message.into(), fix }
}

/// Adds a unit, wanted statically by `target`, so that no preset and no first boot has
/// to enable it.
fn add_unit(
    root: &mut Tree,
    name: &str,
    text: &'static str,
    target: &str,
    mtime: Mtime,
) -> Result<(), os::OsError> {
    let dir = TreePath::literal(UNIT_DIR);
    root.make_dirs(&dir)?;
    let put = |root: &mut Tree, path: String, meta: Meta, kind: Kind| {
        let path = TreePath::new(path).map_err(tree::TreeError::from)?;
        root.put(path, Node { meta: meta.at(mtime), kind })
    };
    let content = tree::Content::inline(text.as_bytes());
    put(root, format!("{UNIT_DIR}/{name}"), Meta::file(0o644), Kind::File(content))?;
    let wants = format!("{UNIT_DIR}/{target}.wants");
    let wants_path = TreePath::new(&wants).map_err(tree::TreeError::from)?;
    if !root.contains(&wants_path) {
        root.make_dirs(&wants_path)?;
        root.get_mut(&wants_path).expect("just made").meta.mtime = mtime;
    }
    let link = Kind::Symlink(format!("../{name}").into_bytes().into());
    put(root, format!("{wants}/{name}"), Meta::symlink(), link)?;
    Ok(())
}
