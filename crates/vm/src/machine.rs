//! A machine as data, and QEMU's arguments for it.

use std::ffi::OsString;
use std::path::PathBuf;

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

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// What runs the guest's code.
    pub accelerator: Accelerator,
    /// How it boots.
    pub boot: Boot,
    /// Raw disk images, the first is the one to boot from.
    pub disks: Vec<PathBuf>,
    /// Whether writes to the disks are thrown away.
    pub ephemeral: bool,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Number of CPUs.
    pub cpus: u32,
    /// Whether it has a network card (user-mode networking).
    pub network: bool,
    /// System credentials: name and value, handed over by SMBIOS.
    pub credentials: Vec<(String, String)>,
    /// More kernel command line, handed over by SMBIOS (systemd-stub, systemd-boot).
    pub extra_command_line: Vec<String>,
    /// Further arguments, verbatim.
    pub extra: Vec<OsString>,
}

impl Machine {
    /// Two CPUs, 2 GiB, writes kept, no network: what the tests boot.
    pub fn new(accelerator: Accelerator, boot: Boot, disk: impl Into<PathBuf>) -> Machine {
        Machine {
            accelerator,
            boot,
            disks: vec![disk.into()],
            ephemeral: false,
            memory_mib: 2048,
            cpus: 2,
            network: false,
            credentials: Vec::new(),
            extra_command_line: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// QEMU's arguments: serial console on standard input and output, no display,
    /// and a reset ends the process instead of booting again.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        let mut push = |words: &[&str]| args.extend(words.iter().map(OsString::from));
        push(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        push(&["-machine", "q35,smm=off,hpet=off"]);
        match self.accelerator {
            Accelerator::Kvm => push(&["-accel", "kvm", "-cpu", "host"]),
            Accelerator::Tcg => push(&["-accel", "tcg,thread=multi", "-cpu", "max"]),
        }
        push(&["-smp", &self.cpus.to_string(), "-m", &format!("{}M", self.memory_mib)]);
        push(&["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        push(&["-object", "rng-random,filename=/dev/urandom,id=rng0"]);
        push(&["-device", "virtio-rng-pci,rng=rng0"]);
        match self.network {
            true => push(&["-nic", "user,model=virtio-net-pci"]),
            false => push(&["-nic", "none"]),
        }
        self.boot_arguments(&mut args);
        for (n, disk) in self.disks.iter().enumerate() {
            let mut drive = OsString::from(format!("if=none,id=disk{n},format=raw,cache=unsafe"));
            drive.push(if self.ephemeral { ",snapshot=on,file=" } else { ",file=" });
            drive.push(escape(disk));
            args.extend([OsString::from("-drive"), drive]);
            let device = format!("virtio-blk-pci,drive=disk{n},bootindex={}", n + 1);
            args.extend(["-device".into(), device.into()]);
        }
        let mut smbios = |value: String| args.extend(["-smbios".into(), value.into()]);
        for (name, value) in &self.credentials {
            let value = value.replace(',', ",,");
            smbios(format!("type=11,value=io.systemd.credential:{name}={value}"));
        }
        for word in &self.extra_command_line {
            let word = word.replace(',', ",,");
            smbios(format!("type=11,value=io.systemd.stub.kernel-cmdline-extra={word}"));
        }
        args.extend(self.extra.iter().cloned());
        args
    }

    fn boot_arguments(&self, args: &mut Vec<OsString>) {
        match &self.boot {
            Boot::Uefi(firmware) => {
                let flash = [(&firmware.code, "on"), (&firmware.variables, "off")];
                for (unit, (path, readonly)) in flash.into_iter().enumerate() {
                    let mut drive = OsString::from(format!(
                        "if=pflash,format=raw,unit={unit},readonly={readonly},file="
                    ));
                    drive.push(escape(path));
                    args.extend([OsString::from("-drive"), drive]);
                }
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
        machine.ephemeral = true;
        machine.credentials.push(("firstboot.locale".into(), "a,b".into()));
        let text = text(&machine);
        assert!(text.contains("if=pflash,format=raw,unit=0,readonly=on,file=/c.fd"), "{text}");
        assert!(text.contains("snapshot=on,file=/a,,b.raw"), "{text}");
        assert!(text.contains("io.systemd.credential:firstboot.locale=a,,b"), "{text}");
        assert!(text.contains("-accel tcg,thread=multi") && text.contains("-nic none"), "{text}");
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
