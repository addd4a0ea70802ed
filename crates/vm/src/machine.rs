//! A machine as data, and QEMU's arguments for it.

use std::ffi::OsString;
use std::path::PathBuf;

use base64::Engine;
use serde::{Deserialize, Serialize};

/// What runs the guest's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The host's virtualisation. Opening `/dev/kvm` is no proof that guests run.
    Kvm,
    /// QEMU's own translator: works everywhere, ten times slower.
    Tcg,
}

/// UEFI firmware: code read-only, variables in a copy of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firmware {
    /// `OVMF_CODE_4M.fd` or its like.
    pub code: PathBuf,
    /// A writable copy of `OVMF_VARS_4M.fd`.
    pub variables: PathBuf,
}

/// How the machine finds its kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Boot {
    /// Through firmware, from the disk.
    Uefi(Firmware),
    /// Through firmware, which is handed an EFI program: a unified kernel image.
    Program {
        /// The firmware.
        firmware: Firmware,
        /// The program.
        program: PathBuf,
    },
    /// QEMU loads kernel and initrd itself.
    Direct {
        /// The kernel image.
        kernel: PathBuf,
        /// The initrd, if any.
        initrd: Option<PathBuf>,
        /// The kernel command line.
        command_line: String,
    },
}

/// Where the machine's serial port leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Serial {
    /// Standard input and output, as they are.
    Stdio,
    /// The same, with QEMU's own commands after Ctrl-a: Ctrl-a x ends it.
    Terminal,
    /// Nowhere.
    None,
}

/// A disk of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The file.
    pub path: PathBuf,
    /// What the file is: an image as it is, or an [`overlay`](crate::overlay).
    pub format: DiskFormat,
    /// The size of its sectors, if not 512.
    pub sector_size: Option<u32>,
}

/// What a disk's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFormat {
    /// The bytes of the disk.
    Raw,
    /// QEMU's own format.
    Qcow2,
}

impl From<PathBuf> for Disk {
    fn from(path: PathBuf) -> Disk {
        Disk { path, format: DiskFormat::Raw, sector_size: None }
    }
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// What runs the guest's code.
    pub accelerator: Accelerator,
    /// How it boots.
    pub boot: Boot,
    /// The disks, the first is the one to boot from.
    pub disks: Vec<Disk>,
    /// Where its serial port leads.
    pub serial: Serial,
    /// Whether it may start again; otherwise that ends it.
    pub reboots: bool,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Number of CPUs.
    pub cpus: u32,
    /// Whether it has a network card (user-mode networking).
    pub network: bool,
    /// System credentials: name and value, handed over by SMBIOS.
    pub credentials: Vec<(String, Vec<u8>)>,
    /// More kernel command line, handed over by SMBIOS (systemd-stub, systemd-boot).
    pub extra_command_line: Vec<String>,
    /// Further arguments, verbatim.
    pub extra: Vec<OsString>,
}

impl Machine {
    /// One CPU, 2 GiB, no network, no second start: what the tests boot. Under the
    /// translator a guest with more CPUs can stall for minutes on a loaded host, when
    /// the thread of one waits for a timer of another.
    pub fn new(accelerator: Accelerator, boot: Boot, disk: impl Into<PathBuf>) -> Machine {
        Machine {
            accelerator,
            boot,
            disks: vec![disk.into().into()],
            serial: Serial::Stdio,
            reboots: false,
            memory_mib: 2048,
            cpus: 1,
            network: false,
            credentials: Vec::new(),
            extra_command_line: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// QEMU's arguments: no display, no devices but those that are named.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        let mut push = |words: &[&str]| args.extend(words.iter().map(OsString::from));
        push(&["-nodefaults", "-no-user-config", "-display", "none"]);
        push(if self.reboots { &[] } else { &["-no-reboot"] });
        push(&["-machine", "q35,smm=off,hpet=off"]);
        match self.accelerator {
            Accelerator::Kvm => push(&["-accel", "kvm", "-cpu", "host"]),
            Accelerator::Tcg => push(&["-accel", "tcg,thread=multi", "-cpu", "max"]),
        }
        push(&["-smp", &self.cpus.to_string(), "-m", &format!("{}M", self.memory_mib)]);
        match self.serial {
            Serial::Stdio => {
                push(&["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
            }
            Serial::Terminal => {
                push(&["-chardev", "stdio,id=console,signal=off,mux=on"]);
                push(&["-serial", "chardev:console", "-mon", "console"]);
            }
            Serial::None => push(&["-serial", "none"]),
        }
        push(&["-object", "rng-random,filename=/dev/urandom,id=rng0"]);
        push(&["-device", "virtio-rng-pci,rng=rng0"]);
        match self.network {
            true => push(&["-nic", "user,model=virtio-net-pci"]),
            false => push(&["-nic", "none"]),
        }
        self.boot_arguments(&mut args);
        self.disk_arguments(&mut args);
        self.smbios_arguments(&mut args);
        args.extend(self.extra.iter().cloned());
        args
    }

    fn disk_arguments(&self, args: &mut Vec<OsString>) {
        for (n, disk) in self.disks.iter().enumerate() {
            let format = match disk.format {
                DiskFormat::Raw => "raw",
                DiskFormat::Qcow2 => "qcow2",
            };
            let mut drive =
                OsString::from(format!("if=none,id=disk{n},format={format},cache=unsafe,file="));
            drive.push(escape(&disk.path));
            args.extend([OsString::from("-drive"), drive]);
            let sectors = disk.sector_size.map_or_else(String::new, |size| {
                format!(",logical_block_size={size},physical_block_size={size}")
            });
            let device = format!("virtio-blk-pci,drive=disk{n},bootindex={}{sectors}", n + 1);
            args.extend(["-device".into(), device.into()]);
        }
    }

    /// What systemd takes from the firmware's tables: smbios(7) of the manual pages
    /// systemd.system-credentials(7), systemd-stub(7) and systemd-boot(7).
    fn smbios_arguments(&self, args: &mut Vec<OsString>) {
        let mut smbios = |value: String| {
            let value = value.replace(',', ",,");
            args.extend(["-smbios".into(), format!("type=11,value={value}").into()]);
        };
        for (name, value) in &self.credentials {
            match std::str::from_utf8(value) {
                Ok(text) if !text.contains(char::is_control) => {
                    smbios(format!("io.systemd.credential:{name}={text}"));
                }
                _ => {
                    let encoded = base64::prelude::BASE64_STANDARD.encode(value);
                    smbios(format!("io.systemd.credential.binary:{name}={encoded}"));
                }
            }
        }
        // Each is read once, so all words have to be in one string.
        if !self.extra_command_line.is_empty() {
            let line = self.extra_command_line.join(" ");
            for loader in ["stub", "boot"] {
                smbios(format!("io.systemd.{loader}.kernel-cmdline-extra={line}"));
            }
        }
    }

    fn boot_arguments(&self, args: &mut Vec<OsString>) {
        match &self.boot {
            Boot::Uefi(firmware) => firmware.arguments(args),
            Boot::Program { firmware, program } => {
                firmware.arguments(args);
                args.extend(["-kernel".into(), program.into()]);
            }
            Boot::Direct { kernel, initrd, command_line } => {
                args.extend(["-kernel".into(), kernel.into()]);
                if let Some(initrd) = initrd {
                    args.extend(["-initrd".into(), initrd.into()]);
                }
                args.extend(["-append".into(), command_line.into()]);
            }
        }
    }
}

impl Firmware {
    fn arguments(&self, args: &mut Vec<OsString>) {
        let flash = [(&self.code, "on"), (&self.variables, "off")];
        for (unit, (path, readonly)) in flash.into_iter().enumerate() {
            let mut drive = OsString::from(format!(
                "if=pflash,format=raw,unit={unit},readonly={readonly},file="
            ));
            drive.push(escape(path));
            args.extend([OsString::from("-drive"), drive]);
        }
    }
}

/// A comma in a value of QEMU's option lists is written twice.
fn escape(path: &std::path::Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = path.as_os_str().as_bytes();
    let double = |b: &u8| if *b == b',' { vec![b',', b','] } else { vec![*b] };
    OsString::from_vec(bytes.iter().flat_map(double).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(machine: &Machine) -> String {
        let args: Vec<_> =
            machine.arguments().iter().map(|a| a.to_string_lossy().into_owned()).collect();
        args.join(" ")
    }

    #[test]
    fn uefi_from_a_disk_with_a_comma() {
        let firmware = Firmware { code: "/c.fd".into(), variables: "/v.fd".into() };
        let mut machine = Machine::new(Accelerator::Tcg, Boot::Uefi(firmware), "/a,b.raw");
        machine.disks[0].sector_size = Some(4096);
        machine.credentials.push(("firstboot.locale".into(), b"a,b".into()));
        machine.credentials.push(("binary".into(), b"\xff\n".into()));
        machine.extra_command_line = vec!["console=ttyS0,115200".into(), "quiet".into()];
        let text = text(&machine);
        for part in [
            "if=pflash,format=raw,unit=0,readonly=on,file=/c.fd",
            "if=none,id=disk0,format=raw,cache=unsafe,file=/a,,b.raw",
            "bootindex=1,logical_block_size=4096,physical_block_size=4096",
            "value=io.systemd.credential:firstboot.locale=a,,b",
            "value=io.systemd.credential.binary:binary=/wo=",
            "io.systemd.stub.kernel-cmdline-extra=console=ttyS0,,115200 quiet",
            "io.systemd.boot.kernel-cmdline-extra=console=ttyS0,,115200 quiet",
            "-accel tcg,thread=multi",
            "-nic none",
            "-no-reboot",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_terminal_has_the_monitor_and_may_reboot() {
        let firmware = Firmware { code: "/c.fd".into(), variables: "/v.fd".into() };
        let boot = Boot::Program { firmware, program: "/linux.efi".into() };
        let mut machine = Machine::new(Accelerator::Kvm, boot, "/d");
        machine.disks.clear();
        (machine.serial, machine.reboots) = (Serial::Terminal, true);
        let text = text(&machine);
        assert!(text.contains("-kernel /linux.efi") && text.contains("mux=on"), "{text}");
        assert!(text.contains("-mon console") && !text.contains("-no-reboot"), "{text}");
        assert!(!text.contains("virtio-blk"), "{text}");
    }

    #[test]
    fn direct_boot_has_no_firmware() {
        let boot = Boot::Direct {
            kernel: "/k".into(),
            initrd: Some("/i".into()),
            command_line: "root=x".into(),
        };
        let text = text(&Machine::new(Accelerator::Kvm, boot, "/d"));
        assert!(text.contains("-kernel /k -initrd /i -append root=x"), "{text}");
        assert!(!text.contains("pflash"), "{text}");
    }
}
