//! The tools whose work is one call into `os`.

use clap::{Arg, ArgMatches};
use os::machine_id::{self, State};
use os::preset::{self, Scope};
use os::{sysusers, tmpfiles};
use provision::skeleton;
use tree::{Kind, Tree, TreePath};

use super::{Done, Tool, World, flag, value};

pub const MACHINE_ID: Tool = Tool {
    verb: "machine-id-setup",
    name: Some("systemd-machine-id-setup"),
    about: "Give one machine its ID, as systemd-machine-id-setup does: never an image that is \
            copied",
    options: || vec![flag("print", "Print the ID")],
    refused: &["commit"],
    edit: set_machine_id,
};

fn set_machine_id(tree: &mut Tree, matches: &ArgMatches, world: &World) -> Result<Done, String> {
    let failed = |e: os::OsError| e.to_string();
    let id = match machine_id::state(tree).map_err(failed)? {
        State::Valid(id) => id,
        _ => {
            let id = provision::new_machine_id(tree, &world.random);
            provision::write_machine_id(tree, &id, world.now).map_err(|e| e.to_string())?;
            id
        }
    };
    let answer = if matches.get_flag("print") { vec![id] } else { Vec::new() };
    Ok(Done { answer, ..Done::default() })
}

pub const SYSUSERS: Tool = Tool {
    verb: "sysusers",
    name: Some("systemd-sysusers"),
    about: "Make the users and groups that sysusers.d of the image declares, as \
            systemd-sysusers does",
    options: Vec::new,
    refused: &["replace", "inline", "cat-config", "tldr"],
    edit: make_users,
};

fn make_users(tree: &mut Tree, _: &ArgMatches, world: &World) -> Result<Done, String> {
    let failed = |e: os::OsError| e.to_string();
    let before = tree.clone();
    let declarations = sysusers::Declarations::read(tree).map_err(failed)?;
    let applied = sysusers::apply(tree, &declarations, world.now).map_err(failed)?;
    provision::keep_old_accounts(&before, tree).map_err(|e| e.to_string())?;
    let groups = applied.groups.iter();
    let groups = groups.map(|(name, gid)| format!("Creating group '{name}' with GID {gid}."));
    let users = applied.users.iter();
    let users = users.map(|(name, uid)| format!("Creating user '{name}' with UID {uid}."));
    let notes = declarations.warnings.iter().cloned().chain(groups).chain(users);
    Ok(Done { notes: notes.chain(applied.failures.clone()).collect(), ..Done::default() })
}

pub const TMPFILES: Tool = Tool {
    verb: "tmpfiles",
    name: Some("systemd-tmpfiles"),
    about: "Make and remove what tmpfiles.d of the image says, as systemd-tmpfiles --create \
            --remove --boot does before the first boot",
    options: tmpfiles_options,
    refused: &["clean", "purge", "user", "replace", "inline", "prefix", "cat-config", "tldr"],
    edit: make_tmpfiles,
};

fn tmpfiles_options() -> Vec<Arg> {
    vec![
        flag("create", "Make files and directories"),
        flag("remove", "Remove what is to be removed"),
        flag("boot", "Also lines that count at boot only"),
        flag("graceful", "Leave out lines whose user or group is unknown"),
        Arg::new("exclude-prefix")
            .long("exclude-prefix")
            .value_name("PATH")
            .action(clap::ArgAction::Append)
            .help("Leave out what is below this path"),
        Arg::new("exclude-hidden")
            .short('E')
            .action(clap::ArgAction::SetTrue)
            .help("Leave out what is below /dev, /proc, /run and /sys"),
    ]
}

fn make_tmpfiles(tree: &mut Tree, matches: &ArgMatches, world: &World) -> Result<Done, String> {
    for name in ["create", "remove", "boot"] {
        if !matches.get_flag(name) {
            return Err(format!(
                "--{name} is missing: mkgold does what is done before the first boot, \
                 --create --remove --boot, and no part of it alone yet"
            ));
        }
    }
    let failed = |e: os::OsError| e.to_string();
    let mut exclude: Vec<&str> =
        matches.get_many::<String>("exclude-prefix").into_iter().flatten().map(|p| &**p).collect();
    if matches.get_flag("exclude-hidden") {
        exclude.extend(["/dev", "/proc", "/run", "/sys"]);
    }
    let options = tmpfiles::Options { architecture: None, exclude: &exclude };
    let declarations = tmpfiles::Declarations::read(tree, &options).map_err(failed)?;
    let failures = tmpfiles::apply(tree, &declarations, world.now).map_err(failed)?;
    let status = match (declarations.wrong, failures.is_empty()) {
        (0, true) => 0,
        (0, false) => CANNOT_CREATE,
        _ => BAD_LINES,
    };
    let notes = declarations.warnings.iter().cloned().chain(failures).collect();
    Ok(Done { notes, status, ..Done::default() })
}

/// `EX_DATAERR`: lines are wrong.
const BAD_LINES: u8 = 65;
/// `EX_CANTCREAT`: lines are right, but something could not be made.
const CANNOT_CREATE: u8 = 73;

pub const PRESET: Tool = Tool {
    verb: "preset-all",
    name: None,
    about: "Enable and disable the units of the image as its presets say, as systemctl \
            preset-all does",
    options: || {
        vec![
            flag("global", "Every user's units"),
            flag("system", "The system's units (the default)"),
            value("preset-mode", "MODE", "full: enable and disable (the only one supported)"),
        ]
    },
    refused: &["user", "runtime", "now"],
    edit: apply_presets,
};

fn apply_presets(tree: &mut Tree, matches: &ArgMatches, world: &World) -> Result<Done, String> {
    match matches.get_one::<String>("preset-mode").map(String::as_str) {
        None | Some("full") => {}
        Some(mode @ ("enable-only" | "disable-only")) => {
            return Err(format!("--preset-mode={mode} is not supported by mkgold yet"));
        }
        Some(mode) => {
            return Err(format!("--preset-mode={mode}: full, enable-only or disable-only"));
        }
    }
    let scope = if matches.get_flag("global") { Scope::Global } else { Scope::System };
    preset::apply_all(tree, scope, &unit_directory(tree, scope), world.now)
        .map_err(|e| e.to_string())?;
    Ok(Done::default())
}

/// How links name the directory of the distribution's units: before /usr was merged, as
/// the package did.
fn unit_directory(tree: &Tree, scope: Scope) -> String {
    let kind = if scope == Scope::Global { "user" } else { "system" };
    let merged = TreePath::literal("lib");
    let is_merged = match tree.get(&merged).map(|node| &node.kind) {
        Some(Kind::Symlink(_)) | None => true,
        Some(_) => !tree.contains(&TreePath::literal("lib/systemd/system")),
    };
    format!("{}/lib/systemd/{kind}", if is_merged { "/usr" } else { "" })
}

pub const SKELETON: Tool = Tool {
    verb: "skeleton",
    name: None,
    about: "Make the directories and links that a root file system with only /usr needs, as \
            systemd does when it switches to it",
    options: Vec::new,
    refused: &[],
    edit: |tree, _, world| {
        skeleton::apply(tree, world.now).map_err(|e| e.to_string())?;
        Ok(Done::default())
    },
};
