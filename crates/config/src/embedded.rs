//! The configuration of a project that has none: a small Debian stable for this
//! machine's architecture that boots to a login prompt.
//!
//! It is ordinary configuration in the language itself, so that `cat-config` can
//! show it and a person can copy it and go on from there.

/// What stands for the directory in the names of these files.
pub const DIRECTORY: &str = "/built-in";

/// Settings that a user-wide `mkgold.conf` may have: what belongs to the machine,
/// and does not change what is in an image.
pub const USER_WIDE: &[&str] = &["Mirror", "CacheDirectory", "PackageCacheDirectory"];

const MAIN: &str = include_str!("embedded/mkosi.conf");
const BOOT: &str = include_str!("embedded/mkosi.conf.d/boot.conf");
const AMD64: &str = include_str!("embedded/mkosi.conf.d/linux-amd64.conf");
const ARM64: &str = include_str!("embedded/mkosi.conf.d/linux-arm64.conf");
const RISCV64: &str = include_str!("embedded/mkosi.conf.d/linux-riscv64.conf");

/// The files with their names, in the order in which they are read. Which of them
/// apply is decided by their own `[Match]`.
pub fn files() -> [(&'static str, &'static str); 5] {
    [
        ("mkosi.conf", MAIN),
        ("mkosi.conf.d/boot.conf", BOOT),
        ("mkosi.conf.d/linux-amd64.conf", AMD64),
        ("mkosi.conf.d/linux-arm64.conf", ARM64),
        ("mkosi.conf.d/linux-riscv64.conf", RISCV64),
    ]
}
