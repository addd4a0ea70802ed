//! `growfs`, `makefs`, `makeswap`: what the first boot does with partitions that are
//! there (S4, S5), also under the names of systemd's tools.
//!
//! What it is not: logic of formats (`fs`) and devices (`disk::device`).

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};
use disk::Medium;
use disk::device::{self, Device};
use fs::ext4::Ext4Options;
use fs::fat::FatOptions;
use fs::grow::Kind;
use fs::swap::SwapOptions;
use rustix::fs::FlockOperation;
use tree::Tree;

use super::repart::{chain, world};

/// The names under which this is systemd's, with the verbs that they are.
pub const NAMES: [(&str, &str); 2] = [("systemd-growfs", "growfs"), ("systemd-makefs", "makefs")];

/// Runs one of the verbs with what follows the name; returns the exit status.
pub fn run(verb: &str, words: &[OsString]) -> u8 {
    let all = std::iter::once(OsString::from(verb)).chain(words.iter().cloned());
    let matches = match command(verb).try_get_matches_from(all) {
        Ok(matches) => matches,
        Err(e) => {
            let _ = e.print();
            return u8::from(e.use_stderr());
        }
    };
    let done = match verb {
        "growfs" => growfs(&matches),
        "makeswap" => makefs("swap", &path(&matches, "device")),
        _ => makefs(&text(&matches, "type"), &path(&matches, "device")),
    };
    match done {
        Ok(message) => {
            say(&message);
            0
        }
        Err(message) => {
            say(&message);
            1
        }
    }
}

fn say(message: &str) {
    let _ = writeln!(anstream::stderr(), "{message}");
}

fn command(verb: &str) -> Command {
    let needed = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).value_name(value).required(true).help(help)
    };
    let device = needed("device", "DEVICE", "A block device or an image file");
    let command = Command::new("mkgold").version(env!("CARGO_PKG_VERSION"));
    match verb {
        "growfs" => command
            .about("Grows a mounted file system (ext4, xfs, btrfs) to its device")
            .arg(
                Arg::new("dry-run")
                    .short('n')
                    .long("dry-run")
                    .action(ArgAction::SetTrue)
                    .help("Only say what would be done"),
            )
            .arg(needed("mountpoint", "MOUNTPOINT", "Where it is mounted")),
        "makeswap" => command.about("Makes swap space where nothing is yet").arg(device),
        _ => command
            .about("Makes a file system where nothing is yet")
            .arg(needed("type", "TYPE", "ext4, vfat or swap"))
            .arg(device),
    }
}

fn text(matches: &ArgMatches, name: &str) -> String {
    matches.get_one::<String>(name).cloned().expect("the parser wants it")
}

fn path(matches: &ArgMatches, name: &str) -> PathBuf {
    PathBuf::from(text(matches, name))
}

fn growfs(matches: &ArgMatches) -> Result<String, String> {
    let at = path(matches, "mountpoint");
    let shown = at.display();
    let failed = |e: &dyn std::error::Error| format!("{shown}: {}", chain(e));
    let mount = File::open(&at).map_err(|e| failed(&e))?;
    let device = device::mounted(&at).map_err(|e| failed(&e))?;
    let device = device.ok_or_else(|| format!("{shown} is not where one device is mounted"))?;
    if device.could_grow() {
        return Err(format!(
            "{shown}: the encrypted device below can be larger; to grow it is not supported yet \
             (use cryptsetup resize)"
        ));
    }
    let kind = Kind::of(&mount).map_err(|e| failed(&e))?;
    if matches.get_flag("dry-run") {
        let (name, size) = (kind.name(), device.size);
        return Ok(format!("{shown}: the {name} file system would have up to {size} bytes."));
    }
    let size = kind.grow(&mount, device.size).map_err(|e| failed(&e))?;
    Ok(format!("{shown}: the {} file system has {size} bytes.", kind.name()))
}

fn makefs(kind: &str, path: &Path) -> Result<String, String> {
    let shown = path.display();
    let failed = |e: &dyn std::error::Error| format!("{shown}: {}", chain(e));
    if !matches!(kind, "ext4" | "vfat" | "swap") {
        return Err(format!("makefs: {kind} is not supported yet; use ext4, vfat or swap"));
    }
    let mut file = File::options().read(true).write(true).open(path).map_err(|e| failed(&e))?;
    let found = file.metadata().map_err(|e| failed(&e))?.file_type();
    if !found.is_block_device() && !found.is_file() {
        return Err(format!("{shown} is neither a block device nor an image file"));
    }
    // udev and others who are about to look at it wait.
    let disk = device::whole(&file).map_err(|e| failed(&e))?;
    for locked in [Some(&file), disk.as_ref()].into_iter().flatten() {
        rustix::fs::flock(locked, FlockOperation::LockExclusive).map_err(|e| failed(&e))?;
    }
    let size = Medium::len(&mut file).map_err(|e| failed(&e))?;
    if let Some(there) = fs::probe::probe(&file, size).map_err(|e| failed(&e))? {
        return Ok(format!("{shown} has {there}: it is left as it is."));
    }
    let sector = match found.is_block_device() {
        true => Device::sectors(&file, path).map_err(|e| failed(&e))?.get(),
        false => 512,
    };
    file.clear(0, size, true).map_err(|e| failed(&e))?;
    let uuid = uuid::Uuid::from_bytes(*world::random()?.as_bytes());
    let label = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    write(kind, &label, uuid, (size, sector), &file).map_err(|e| failed(&e))?;
    file.sync_all().map_err(|e| failed(&e))?;
    Ok(format!("{shown} has {kind} now."))
}

fn write(
    kind: &str,
    label: &str,
    uuid: uuid::Uuid,
    (size, sector): (u64, u64),
    file: &File,
) -> Result<(), fs::FsError> {
    use build::filler::{cut, fat_label};
    let (tree, epoch) = (Tree::new(), world::now());
    match kind {
        "ext4" => {
            let mut options = Ext4Options::new(uuid, size);
            (options.label, options.epoch) = (cut(label, 16), epoch);
            fs::ext4::write(&tree, &options, file, 0)
        }
        "vfat" => {
            let id = uuid.as_fields().0;
            let mut options = FatOptions::new(id, size);
            options.sector_size = u32::try_from(sector).unwrap_or(512);
            (options.label, options.epoch) = (fat_label(label), epoch);
            fs::fat::write(&tree, &options, file, 0)
        }
        _ => fs::swap::write(&SwapOptions { uuid, label: cut(label, 15), size }, file, 0),
    }
}
