//! What UEFI calls the processor: in file names of the ESP, and in PE headers.

/// An architecture that UEFI boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EfiArch {
    /// amd64, `x64`
    X64,
    /// i386, `ia32`
    Ia32,
    /// arm64, `aa64`
    Aa64,
    /// armhf, `arm`
    Arm,
    /// riscv64
    Riscv64,
    /// loong64, `loongarch64`
    LoongArch64,
}

impl EfiArch {
    /// By Debian's name of the architecture.
    pub fn from_debian(name: &str) -> Option<EfiArch> {
        Some(match name {
            "amd64" => EfiArch::X64,
            "i386" => EfiArch::Ia32,
            "arm64" => EfiArch::Aa64,
            "armhf" | "armel" => EfiArch::Arm,
            "riscv64" => EfiArch::Riscv64,
            "loong64" => EfiArch::LoongArch64,
            _ => return None,
        })
    }

    /// As in `systemd-bootx64.efi`; in capitals in `BOOTX64.EFI`.
    pub fn efi_name(self) -> &'static str {
        match self {
            EfiArch::X64 => "x64",
            EfiArch::Ia32 => "ia32",
            EfiArch::Aa64 => "aa64",
            EfiArch::Arm => "arm",
            EfiArch::Riscv64 => "riscv64",
            EfiArch::LoongArch64 => "loongarch64",
        }
    }

    /// `IMAGE_FILE_MACHINE_*`.
    pub fn pe_machine(self) -> u16 {
        match self {
            EfiArch::X64 => 0x8664,
            EfiArch::Ia32 => 0x014c,
            EfiArch::Aa64 => 0xaa64,
            EfiArch::Arm => 0x01c2,
            EfiArch::Riscv64 => 0x5064,
            EfiArch::LoongArch64 => 0x6264,
        }
    }
}
