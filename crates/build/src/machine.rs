//! `mkgold vm`: the image that was built, in a virtual machine.
//!
//! What it is: from the runtime settings to a [`Machine`], and QEMU run with it, out
//! of the tools tree in the sandbox. What it is not: QEMU's arguments (`vm`).
//!
//! The image is a golden one, and a boot would end that: unless `Ephemeral=no` is said,
//! all writes go to an overlay that is thrown away.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::config::Credential;
use config::types::{self, Compression, Feature, OutputFormat};
use config::{Config, Loaded};
use report::Reporter;
use sandbox::{Command, Status, Stdin, Stdout};
use store::Store;
use tree::{Mtime, TreePath};
use vm::{Accelerator, Boot, Disk, DiskFormat, Firmware, Machine, Serial};

use crate::context::Context;
use crate::error::BuildError;
use crate::lock::{Lock, Set};
use crate::outputs::io_error;
use crate::packages::Archives;
use crate::pipeline::{Options, output_directory};
use crate::resolve;
use crate::tools::{self, Runner, Tools};

/// How long the probe of KVM may take: it needs less than one second where KVM works.
const PROBE: Duration = Duration::from_secs(5);
/// What a credential may have: more does not fit into SMBIOS tables.
const MAX_CREDENTIAL: u64 = 32 << 10;
/// Where QEMU sees the image, and the files of this run.
const IMAGE: &str = "image";
const RUN: &str = "machine";

/// What is not in the configuration.
pub struct Host {
    /// Whether writes are kept: [`keeps_writes`].
    pub keep_writes: bool,
    /// How many processors there are.
    pub cpus: u32,
}

/// The output that a verb works on.
pub fn built(config: &Config, verb: &str) -> Result<PathBuf, BuildError> {
    let path = output_directory(config).join(config.output.file_name());
    if config.output.outer_compression() != Compression::None {
        return Err(BuildError::Image(format!(
            "{verb}: the image is compressed; build it with CompressOutput=no"
        )));
    }
    if path.symlink_metadata().is_err() {
        let path = path.display();
        return Err(BuildError::Image(format!(
            "{verb}: {path} does not exist: run `mkgold build` first"
        )));
    }
    Ok(path)
}

/// Boots what was built; QEMU's exit status.
pub fn run(
    config: &Config,
    options: &Options,
    host: &Host,
    reporter: &dyn Reporter,
) -> Result<i32, BuildError> {
    refuse(config)?;
    let image = built(config, "vm")?;
    let store = Store::open(&options.cache)?;
    let archives = Archives::of(config, &store, &options.host_apt, options.fetch.clone())?;
    let lock = machine_lock(config, &archives, options, reporter)?;
    let context = Context {
        store,
        reporter,
        privilege: options.privilege.clone(),
        work: &options.work,
        epoch: Mtime::secs(lock.newest().unwrap_or(0)),
        threads: options.threads,
        rebuild: false,
    };
    let tools = Tools::open(Set::Vm, &lock, config, &archives, options, &context)?;
    let tools = tools.ok_or_else(|| {
        BuildError::Image("vm: the archives offer no qemu-system-x86 and ovmf".into())
    })?;
    let runner = Runner { tools: &tools, context: &context };
    let dir = context.workdir("machine");
    std::fs::create_dir_all(&dir).map_err(io_error("make", &dir))?;
    let files = Files { image, dir, runner: &runner };
    let machine = files.machine(config, host)?;
    if machine.accelerator == Accelerator::Tcg {
        reporter.note("without KVM: the machine is several times slower");
    }
    if machine.serial == Serial::Terminal {
        reporter.note("Ctrl-a x ends the machine");
    }
    let status = files.run(&machine, config);
    sandbox::remove_dir(&files.dir)?;
    status
}

/// What cannot be done, before anything is.
fn refuse(config: &Config) -> Result<(), BuildError> {
    let unsupported = |what: String, hint| Err(BuildError::Unsupported { what, hint: Some(hint) });
    let format = config.output.format;
    if !matches!(format, OutputFormat::Disk | OutputFormat::Uki) {
        return unsupported(format!("vm with Format={format}"), "build a disk or a uki");
    }
    if tools::machine_packages(config).is_none() {
        let architecture = config.distribution.architecture;
        let what = format!("vm with an image for {architecture} on this machine");
        return unsupported(what, "x86-64 images run on x86-64 machines");
    }
    match config.runtime.firmware {
        types::Firmware::Auto | types::Firmware::Uefi => {}
        other => return unsupported(format!("Firmware={other}"), "use uefi"),
    }
    match config.runtime.console {
        types::Console::Gui => unsupported("Console=gui".into(), "use interactive"),
        _ => Ok(()),
    }
}

/// A lock with the machine's packages: the project's, if it fits. The image is there
/// already, so the rest of it does not matter.
fn machine_lock(
    config: &Config,
    archives: &Archives,
    options: &Options,
    reporter: &dyn Reporter,
) -> Result<Lock, BuildError> {
    let path = resolve::lock_path(&config.project.directory);
    let wanted = tools::digests(config, archives)?.remove(&Set::Vm);
    let there = Lock::read(&path)?;
    if let Some(lock) = there
        && lock.requests.get(&Set::Vm) == wanted.as_ref()
    {
        return Ok(lock);
    }
    if options.locked {
        let reason = "has no fitting packages for vm".into();
        return Err(BuildError::Locked { path, reason });
    }
    let mut lock = Lock::new(archives.architecture());
    let nothing = BTreeSet::new();
    let offer = archives.offer(options.now, reporter, &nothing)?;
    tools::choose(&mut lock, config, (archives, &offer), options, reporter, &nothing)?;
    Ok(lock)
}

/// The files of a machine that runs.
struct Files<'a> {
    image: PathBuf,
    dir: PathBuf,
    runner: &'a Runner<'a>,
}

/// The path of a file of this run, as QEMU sees it.
fn inside(name: &str) -> PathBuf {
    Path::new("/").join(RUN).join(name)
}

/// Writes a file of this run; its path, as QEMU sees it.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, BuildError> {
    let path = dir.join(name);
    std::fs::write(&path, bytes).map_err(io_error("write", &path))?;
    Ok(inside(name))
}

/// Whether writes are kept: only if somebody wrote so, since a boot ends goldenness.
pub fn keeps_writes(loaded: &Loaded) -> bool {
    loaded.sources.contains_key("Ephemeral") && !loaded.config.runtime.ephemeral
}

/// The image itself, grown, or an overlay of that size on it in `dir`.
fn disk(image: &Path, dir: &Path, config: &Config, host: &Host) -> Result<Disk, BuildError> {
    let len = std::fs::metadata(image).map_err(io_error("examine", image))?.len();
    let size = config.runtime.runtime_size.unwrap_or(0).next_multiple_of(4096).max(len);
    let mut disk = Disk::from(Path::new("/").join(IMAGE));
    disk.sector_size = config.output.sector_size.filter(|size| *size != 512);
    if !host.keep_writes {
        let overlay = vm::overlay::qcow2(&disk.path, size)
            .map_err(|e| BuildError::Image(format!("RuntimeSize=: {e}")))?;
        disk.path = write(dir, "overlay.qcow2", &overlay)?;
        disk.format = DiskFormat::Qcow2;
        return Ok(disk);
    }
    if size > len {
        let file = File::options().write(true).open(image).map_err(io_error("open", image))?;
        file.set_len(size).map_err(io_error("grow", image))?;
    }
    Ok(disk)
}

/// Shows the image to QEMU: writable only where writes are kept.
fn with_image(command: Command, image: &Path, disks: &[Disk]) -> Command {
    let shown = TreePath::literal(IMAGE);
    let overlaid = disks.iter().any(|disk| disk.format == DiskFormat::Qcow2);
    match overlaid || disks.is_empty() {
        true => command.bind_ro(image, shown),
        false => command.bind_rw(image, shown),
    }
}

impl Files<'_> {
    fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, BuildError> {
        write(&self.dir, name, bytes)
    }

    fn machine(&self, config: &Config, host: &Host) -> Result<Machine, BuildError> {
        let runtime = &config.runtime;
        let ovmf = self.runner.tools.root().join("usr/share/OVMF");
        let variables = ovmf.join("OVMF_VARS_4M.fd");
        let variables = std::fs::read(&variables).map_err(io_error("read", &variables))?;
        let firmware = Firmware {
            code: "/usr/share/OVMF/OVMF_CODE_4M.fd".into(),
            variables: self.write("variables.fd", &variables)?,
        };
        let program = Path::new("/").join(IMAGE);
        let (boot, disks) = match config.output.format {
            OutputFormat::Uki => (Boot::Program { firmware, program }, Vec::new()),
            _ => {
                let disk = disk(&self.image, &self.dir, config, host)?;
                (Boot::Uefi(firmware), vec![disk])
            }
        };
        let mut extra_command_line = runtime.kernel_command_line_extra.clone();
        if !config.boot.kernel_command_line.iter().any(|word| word.starts_with("console=")) {
            extra_command_line.insert(0, "console=ttyS0".into());
        }
        Ok(Machine {
            accelerator: self.accelerator(runtime.kvm)?,
            boot,
            disks,
            serial: match runtime.console {
                types::Console::Headless => Serial::None,
                types::Console::ReadOnly => Serial::Stdio,
                _ if std::io::stdin().is_terminal() => Serial::Terminal,
                _ => Serial::Stdio,
            },
            reboots: true,
            memory_mib: (runtime.ram >> 20).max(1),
            cpus: if runtime.cpus == 0 { host.cpus } else { runtime.cpus },
            network: true,
            credentials: credentials(config)?,
            extra_command_line,
            extra: runtime.qemu_args.iter().map(Into::into).collect(),
        })
    }

    fn accelerator(&self, wanted: Feature) -> Result<Accelerator, BuildError> {
        if wanted == Feature::Disabled {
            return Ok(Accelerator::Tcg);
        }
        match (self.why_no_kvm()?, wanted) {
            (None, _) => Ok(Accelerator::Kvm),
            (Some(why), Feature::Enabled) => Err(BuildError::Image(format!("KVM=yes: {why}"))),
            (Some(_), _) => Ok(Accelerator::Tcg),
        }
    }

    /// `None` if KVM runs a guest.
    fn why_no_kvm(&self) -> Result<Option<String>, BuildError> {
        let device = Path::new("/dev/kvm");
        if let Err(e) = File::options().read(true).write(true).open(device) {
            return Ok(Some(format!("/dev/kvm cannot be opened: {e}")));
        }
        let firmware = self.write("probe.bin", &vm::probe::firmware())?;
        let command = self
            .qemu()
            .args(vm::probe::arguments(Accelerator::Kvm, &firmware))
            .bind_rw(device, TreePath::literal("dev/kvm"))
            .timeout(PROBE);
        Ok(match self.runner.command(command) {
            Ok(()) => Some("the guest ended QEMU in an unknown way".into()),
            Err(sandbox::Error::Failed(failure)) => match failure.status {
                Status::Exited(vm::probe::RAN) => None,
                Status::TimedOut(_) => Some("/dev/kvm is there, but guests do not run".into()),
                _ => Some(failure.to_string()),
            },
            Err(other) => return Err(other.into()),
        })
    }

    fn qemu(&self) -> Command {
        Command::new("qemu-system-x86_64").bind_rw(&self.dir, TreePath::literal(RUN))
    }

    fn run(&self, machine: &Machine, config: &Config) -> Result<i32, BuildError> {
        let mut command = self.qemu().args(machine.arguments()).network(machine.network);
        command = with_image(command, &self.image, &machine.disks);
        if machine.accelerator == Accelerator::Kvm {
            command = command.bind_rw("/dev/kvm", TreePath::literal("dev/kvm"));
        }
        // QEMU's network asks the name servers for the guest.
        let resolver = Path::new("/etc/resolv.conf");
        if machine.network && resolver.exists() {
            command = command.bind_ro(resolver, TreePath::literal("etc/resolv.conf"));
        }
        let stdin = match config.runtime.console {
            types::Console::ReadOnly | types::Console::Headless => Stdin::Null,
            _ => Stdin::Inherit,
        };
        match self.runner.command(command.stdin(stdin).stdout(Stdout::Inherit)) {
            Ok(()) => Ok(0),
            Err(sandbox::Error::Failed(failure)) => match failure.status {
                Status::Exited(code) => Ok(code),
                Status::Signalled(signal) => Ok(128 + signal),
                Status::TimedOut(_) => Err(sandbox::Error::Failed(failure).into()),
            },
            Err(other) => Err(other.into()),
        }
    }
}

/// `Credentials=`, files read.
fn credentials(config: &Config) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
    let read = |name: &str, credential: &Credential| {
        let value = match credential {
            Credential::Value(text) => text.clone().into_bytes(),
            Credential::File(path) => std::fs::read(path).map_err(io_error("read", path))?,
        };
        if value.len() as u64 > MAX_CREDENTIAL {
            return Err(BuildError::Image(format!(
                "Credentials={name}: {} bytes are more than the {MAX_CREDENTIAL} that a \
                 machine can be handed",
                value.len()
            )));
        }
        Ok((name.to_owned(), value))
    };
    config.runtime.credentials.iter().map(|(name, c)| read(name, c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE_SIZE: u64 = 3_000_320;

    fn load(settings: &[(&str, &str)]) -> Loaded {
        let dir = tempfile::tempdir().unwrap();
        let args = settings.iter().map(|(name, value)| config::Argument::new(*name, *value));
        let request = config::Request { args: args.collect() };
        config::load(dir.path(), &request, &config::Facts::default()).unwrap()
    }

    /// The disk that QEMU gets, whether it may write to the image, and how long the image
    /// is afterwards.
    fn started(dir: &Path, settings: &[(&str, &str)]) -> (Disk, bool, u64) {
        let image = dir.join("golden.raw");
        std::fs::write(&image, vec![7; IMAGE_SIZE as usize]).unwrap();
        let loaded = load(settings);
        let host = Host { keep_writes: keeps_writes(&loaded), cpus: 1 };
        let disk = disk(&image, dir, &loaded.config, &host).unwrap();
        let command = with_image(Command::new("qemu"), &image, std::slice::from_ref(&disk));
        let kept = Command::new("qemu").bind_rw(&image, TreePath::literal(IMAGE));
        let writable = format!("{command:?}") == format!("{kept:?}");
        let bytes = std::fs::read(&image).unwrap();
        assert!(bytes[..IMAGE_SIZE as usize].iter().all(|byte| *byte == 7), "the image stays");
        (disk, writable, bytes.len() as u64)
    }

    #[test]
    fn writes_are_thrown_away_unless_somebody_wrote_no() {
        let dir = tempfile::tempdir().unwrap();
        for settings in [&[][..], &[("Ephemeral", "yes")], &[("RuntimeSize", "64M")]] {
            let (disk, writable, len) = started(dir.path(), settings);
            assert_eq!(disk.format, DiskFormat::Qcow2, "{settings:?}");
            assert_eq!(disk.path, Path::new("/machine/overlay.qcow2"), "{settings:?}");
            // The header of qcow2: the size of what the guest sees, at byte 24.
            let overlay = std::fs::read(dir.path().join("overlay.qcow2")).unwrap();
            let size = u64::from_be_bytes(overlay[24..32].try_into().unwrap());
            let grown = settings.iter().any(|(name, _)| *name == "RuntimeSize");
            assert_eq!(size, if grown { 64 << 20 } else { IMAGE_SIZE }, "{settings:?}");
            assert_eq!((writable, len), (false, IMAGE_SIZE), "{settings:?}");
        }
        for (more, length) in [(None, IMAGE_SIZE), (Some(("RuntimeSize", "64M")), 64 << 20)] {
            let settings: Vec<_> = [("Ephemeral", "no")].into_iter().chain(more).collect();
            let (disk, writable, len) = started(dir.path(), &settings);
            assert_eq!((disk.format, disk.path), (DiskFormat::Raw, "/image".into()));
            assert_eq!((writable, len), (true, length));
        }
    }
}
