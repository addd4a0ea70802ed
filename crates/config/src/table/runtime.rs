//! `[Runtime]`: booting the image. (`[Host]` is its older name.)

use super::{Choice, FEATURE, Kind, Section, Setting, Special, Split, row};

const R: Section = Section::Runtime;

static CONSOLES: Choice =
    Choice::of("a console mode", &["interactive", "read-only", "native", "gui", "headless"], &[]);
static FIRMWARES: Choice =
    Choice::of("a firmware", &["auto", "linux", "linux-noinitrd", "uefi", "uefi-secure-boot"], &[]);
static MONITORS: Choice = Choice::of("a virtual machine monitor", &["qemu"], &["vmspawn"]);
static NETWORKS: Choice = Choice::of("a kind of network", &["user"], &["interface", "none"]);
static DISKS: Choice =
    Choice::of("a disk type", &["virtio-blk"], &["virtio-scsi", "nvme", "scsi-cd"]);

pub(super) static RUNTIME: &[Setting] = &[
    row(R, "NSpawnSettings", "settings", "PATH", Kind::ExistingPath,
        "A .nspawn file placed beside the image.")
        .special(&[Special::Path("mkosi.nspawn")]).refused(&[]),
    row(R, "VirtualMachineMonitor", "vmm", "NAME", Kind::Choice(&MONITORS),
        "What runs the machine.").default("qemu").refused(&["qemu"]),
    row(R, "Console", "console", "MODE", Kind::Choice(&CONSOLES),
        "The machine's console: interactive, read-only, native (with QEMU's monitor), gui, headless.")
        .default("interactive"),
    row(R, "CPUs", "cpus", "NUMBER", Kind::Integer(0, 8192),
        "The machine's processors; 0 for as many as there are here.").default("2").aliases(&["QemuSmp"]),
    row(R, "RAM", "ram", "SIZE", Kind::Size,
        "The machine's memory.").default("2G").aliases(&["QemuMem"]),
    row(R, "MaxMem", "maxmem", "SIZE", Kind::Size,
        "The most memory the machine can be given.").refused(&[]),
    row(R, "KVM", "kvm", "FEATURE", Kind::Choice(&FEATURE),
        "Whether the machine runs on KVM; auto does so where it works.").default("auto").aliases(&["QemuKvm"]),
    row(R, "CXL", "cxl", "BOOL", Kind::Bool, "Whether the machine has CXL.").refused(&["no"]),
    row(R, "VSock", "vsock", "FEATURE", Kind::Choice(&FEATURE),
        "Whether the machine has a vsock.").aliases(&["QemuVsock"]).refused(&["disabled", "auto"]).default("auto"),
    row(R, "VSockCID", "vsock-cid", "NUMBER", Kind::VSock,
        "The vsock's connection ID.").aliases(&["QemuVsockConnectionId"]).refused(&["auto"]).default("auto"),
    row(R, "TPM", "tpm", "FEATURE", Kind::Choice(&FEATURE),
        "Whether the machine has a TPM.").aliases(&["QemuSwtpm"]).refused(&["disabled", "auto"]).default("auto"),
    row(R, "Removable", "removable", "BOOL", Kind::Bool,
        "Whether the disk is a removable one.").aliases(&["QemuRemovable"]).refused(&["no"]),
    row(R, "DiskType", "disk-type", "TYPE", Kind::Choice(&DISKS),
        "How the disk is attached.").refused(&["virtio-blk"]).default("virtio-blk"),
    row(R, "Firmware", "firmware", "FIRMWARE", Kind::Choice(&FIRMWARES),
        "The machine's firmware: uefi, uefi-secure-boot, linux (direct kernel boot), auto.")
        .default("auto").aliases(&["QemuFirmware"]),
    row(R, "FirmwareVariables", "firmware-variables", "PATH", Kind::PathOr(&["microsoft", "microsoft-mok", "custom"]),
        "The firmware's variables.").aliases(&["QemuFirmwareVariables"]).refused(&[]),
    row(R, "Linux", "linux", "PATH", Kind::Text,
        "The kernel for direct boot.").aliases(&["QemuKernel"]).refused(&[]),
    row(R, "Drives", "drive", "DRIVE", Kind::Drive,
        "More drives.").list(Split::Spaces).aliases(&["QemuDrives"]).refused(&[]),
    row(R, "QemuArgs", "", "ARGUMENTS", Kind::Text,
        "More arguments for QEMU, quoted as in a shell.").list(Split::Shell),
    row(R, "Ephemeral", "ephemeral", "BOOL", Kind::Bool,
        "Whether the machine runs on a copy that is thrown away.").default("no"),
    row(R, "Credentials", "credential", "NAME=VALUE", Kind::Credential,
        "System credentials for the machine: NAME=VALUE, or a file or directory whose names and contents they are.")
        .list(Split::Shell).special(&[Special::Path("mkosi.credentials")]).secret(),
    row(R, "KernelCommandLineExtra", "kernel-command-line-extra", "OPTIONS", Kind::Text,
        "Kernel options added when the machine is booted.").list(Split::Spaces),
    row(R, "RuntimeTrees", "runtime-tree", "PATH[:TARGET]", Kind::Tree,
        "Directories the machine sees.").list(Split::Commas).refused(&[]),
    row(R, "RuntimeSize", "runtime-size", "SIZE", Kind::Size,
        "The size to which the disk is grown before it is booted."),
    row(R, "RuntimeNetwork", "runtime-network", "KIND", Kind::Choice(&NETWORKS),
        "The machine's network.").default("user").refused(&["user"]),
    row(R, "RuntimeBuildSources", "runtime-build-sources", "BOOL", Kind::Bool,
        "Whether the machine sees the build sources.").refused(&["no"]),
    row(R, "BindUser", "bind-user", "BOOL", Kind::Bool,
        "Whether the machine sees the user's home.").refused(&["no"]),
    row(R, "SshKey", "ssh-key", "PATH", Kind::ExistingPath, "The key for connecting to the machine.")
        .special(&[Special::Path("mkosi.key")])
        .no_effect("mkgold has no ssh verb"),
    row(R, "SshCertificate", "ssh-certificate", "PATH", Kind::ExistingPath,
        "The certificate that the machine is given for SSH.")
        .special(&[Special::Path("mkosi.crt")]).no_effect("mkgold has no ssh verb"),
    row(R, "Machine", "machine", "NAME", Kind::Text,
        "The machine's name.").no_effect("machines are not registered by name; the image does not depend on it"),
    row(R, "Register", "register", "FEATURE", Kind::Choice(&FEATURE),
        "Whether the machine is registered with systemd-machined.").refused(&["disabled", "auto"]).default("auto"),
    row(R, "ForwardJournal", "forward-journal", "PATH", Kind::Path,
        "Where the machine's journal is sent.").refused(&[]),
    row(R, "StorageTargetMode", "storage-target-mode", "FEATURE", Kind::Choice(&FEATURE),
        "Whether disks are served over NVMe-TCP.").no_effect("mkgold has no serve verb").default("auto"),
    row(R, "SysupdateDirectory", "sysupdate-directory", "PATH", Kind::ExistingPath,
        "Transfer definitions for systemd-sysupdate.")
        .special(&[Special::Path("mkosi.sysupdate")]).no_effect("mkgold has no sysupdate verb"),
    row(R, "RuntimeScratch", "runtime-scratch", "FEATURE", Kind::Choice(&FEATURE),
        "Whether the machine has scratch space in /var/tmp.").removed("mkosi 26 dropped it; use RuntimeSize="),
    row(R, "RuntimeHome", "runtime-home", "BOOL", Kind::Bool,
        "Whether the machine sees the user's home.").removed("mkosi 26 replaced it by BindUser="),
    row(R, "UnitProperties", "unit-property", "PROPERTY", Kind::Text,
        "Properties of the scope that runs the machine.").list(Split::Spaces).removed("mkosi 26 dropped it"),
    row(R, "CDROM", "cdrom", "BOOL", Kind::Bool,
        "Whether the image is attached as a CD-ROM.").removed("mkosi 26 dropped it"),
];
