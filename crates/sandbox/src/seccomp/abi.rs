//! Which system-call number is which call, per architecture.
//!
//! Only the calls that the filter or the supervisor know are here. On x86-64 also the
//! 32-bit interface, which programs of a foreign i386 architecture use; elsewhere a
//! 32-bit program is refused (`ENOSYS`) where owners must be watched.

/// A call by what it means, whatever its number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sys {
    Stat,
    Lstat,
    Fstat,
    Fstatat,
    Statx,
    Chown,
    Lchown,
    Fchown,
    Fchownat,
    Mknod,
    Mknodat,
    Open,
    Creat,
    Openat,
    Openat2,
    Mkdir,
    Mkdirat,
    Symlink,
    Symlinkat,
    Setxattr,
    Lsetxattr,
    Fsetxattr,
    Getxattr,
    Lgetxattr,
    Fgetxattr,
    Listxattr,
    Llistxattr,
    Flistxattr,
    Removexattr,
    Lremovexattr,
    Fremovexattr,
    XattrAt,
    Setuid,
    Setgid,
    Setreuid,
    Setregid,
    Setresuid,
    Setresgid,
    Setfsuid,
    Setfsgid,
    Setgroups,
    Getuid,
    Geteuid,
    Getgid,
    Getegid,
    Getresuid,
    Getresgid,
    Getgroups,
    Chroot,
    PivotRoot,
    Unshare,
    Setns,
    Uname,
    Mmap,
    Socket,
    Ioctl,
    IoUring,
    Sync,
    /// A 16-bit or otherwise superseded way to change owners.
    Old,
}

/// `AUDIT_ARCH_*` of the machine mkgold is built for.
#[cfg(target_arch = "x86_64")]
pub(crate) const NATIVE_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
pub(crate) const NATIVE_ARCH: u32 = 0xC000_00B7;
/// `AUDIT_ARCH_I386`.
pub(crate) const COMPAT_ARCH: u32 = 0x4000_0003;

/// The calls of the machine itself.
#[cfg(target_arch = "x86_64")]
pub(crate) const NATIVE: &[(u32, Sys)] = &[
    (4, Sys::Stat),
    (6, Sys::Lstat),
    (5, Sys::Fstat),
    (262, Sys::Fstatat),
    (332, Sys::Statx),
    (92, Sys::Chown),
    (94, Sys::Lchown),
    (93, Sys::Fchown),
    (260, Sys::Fchownat),
    (133, Sys::Mknod),
    (259, Sys::Mknodat),
    (2, Sys::Open),
    (85, Sys::Creat),
    (257, Sys::Openat),
    (437, Sys::Openat2),
    (83, Sys::Mkdir),
    (258, Sys::Mkdirat),
    (88, Sys::Symlink),
    (266, Sys::Symlinkat),
    (188, Sys::Setxattr),
    (189, Sys::Lsetxattr),
    (190, Sys::Fsetxattr),
    (191, Sys::Getxattr),
    (192, Sys::Lgetxattr),
    (193, Sys::Fgetxattr),
    (194, Sys::Listxattr),
    (195, Sys::Llistxattr),
    (196, Sys::Flistxattr),
    (197, Sys::Removexattr),
    (198, Sys::Lremovexattr),
    (199, Sys::Fremovexattr),
    (463, Sys::XattrAt),
    (464, Sys::XattrAt),
    (465, Sys::XattrAt),
    (466, Sys::XattrAt),
    (105, Sys::Setuid),
    (106, Sys::Setgid),
    (113, Sys::Setreuid),
    (114, Sys::Setregid),
    (117, Sys::Setresuid),
    (119, Sys::Setresgid),
    (122, Sys::Setfsuid),
    (123, Sys::Setfsgid),
    (116, Sys::Setgroups),
    (102, Sys::Getuid),
    (107, Sys::Geteuid),
    (104, Sys::Getgid),
    (108, Sys::Getegid),
    (118, Sys::Getresuid),
    (120, Sys::Getresgid),
    (115, Sys::Getgroups),
    (161, Sys::Chroot),
    (155, Sys::PivotRoot),
    (272, Sys::Unshare),
    (308, Sys::Setns),
    (63, Sys::Uname),
    (9, Sys::Mmap),
    (41, Sys::Socket),
    (16, Sys::Ioctl),
    (425, Sys::IoUring),
    (426, Sys::IoUring),
    (427, Sys::IoUring),
    (162, Sys::Sync),
    (74, Sys::Sync),
    (75, Sys::Sync),
    (306, Sys::Sync),
    (277, Sys::Sync),
    (26, Sys::Sync),
];

/// The calls of the machine itself.
#[cfg(target_arch = "aarch64")]
pub(crate) const NATIVE: &[(u32, Sys)] = &[
    (80, Sys::Fstat),
    (79, Sys::Fstatat),
    (291, Sys::Statx),
    (55, Sys::Fchown),
    (54, Sys::Fchownat),
    (33, Sys::Mknodat),
    (56, Sys::Openat),
    (437, Sys::Openat2),
    (34, Sys::Mkdirat),
    (36, Sys::Symlinkat),
    (5, Sys::Setxattr),
    (6, Sys::Lsetxattr),
    (7, Sys::Fsetxattr),
    (8, Sys::Getxattr),
    (9, Sys::Lgetxattr),
    (10, Sys::Fgetxattr),
    (11, Sys::Listxattr),
    (12, Sys::Llistxattr),
    (13, Sys::Flistxattr),
    (14, Sys::Removexattr),
    (15, Sys::Lremovexattr),
    (16, Sys::Fremovexattr),
    (463, Sys::XattrAt),
    (464, Sys::XattrAt),
    (465, Sys::XattrAt),
    (466, Sys::XattrAt),
    (146, Sys::Setuid),
    (144, Sys::Setgid),
    (145, Sys::Setreuid),
    (143, Sys::Setregid),
    (147, Sys::Setresuid),
    (149, Sys::Setresgid),
    (151, Sys::Setfsuid),
    (152, Sys::Setfsgid),
    (159, Sys::Setgroups),
    (174, Sys::Getuid),
    (175, Sys::Geteuid),
    (176, Sys::Getgid),
    (177, Sys::Getegid),
    (148, Sys::Getresuid),
    (150, Sys::Getresgid),
    (158, Sys::Getgroups),
    (51, Sys::Chroot),
    (41, Sys::PivotRoot),
    (97, Sys::Unshare),
    (268, Sys::Setns),
    (160, Sys::Uname),
    (222, Sys::Mmap),
    (198, Sys::Socket),
    (29, Sys::Ioctl),
    (425, Sys::IoUring),
    (426, Sys::IoUring),
    (427, Sys::IoUring),
    (81, Sys::Sync),
    (82, Sys::Sync),
    (83, Sys::Sync),
    (267, Sys::Sync),
    (84, Sys::Sync),
    (227, Sys::Sync),
];

/// The i386 calls, on x86-64. `stat`, `getuid` and their kin with 16-bit results are
/// left alone: no program linked since 2001 uses them.
#[cfg(target_arch = "x86_64")]
pub(crate) const COMPAT: &[(u32, Sys)] = &[
    (195, Sys::Stat),
    (196, Sys::Lstat),
    (197, Sys::Fstat),
    (300, Sys::Fstatat),
    (383, Sys::Statx),
    (212, Sys::Chown),
    (198, Sys::Lchown),
    (207, Sys::Fchown),
    (298, Sys::Fchownat),
    (14, Sys::Mknod),
    (297, Sys::Mknodat),
    (5, Sys::Open),
    (8, Sys::Creat),
    (295, Sys::Openat),
    (437, Sys::Openat2),
    (39, Sys::Mkdir),
    (296, Sys::Mkdirat),
    (83, Sys::Symlink),
    (304, Sys::Symlinkat),
    (226, Sys::Setxattr),
    (227, Sys::Lsetxattr),
    (228, Sys::Fsetxattr),
    (229, Sys::Getxattr),
    (230, Sys::Lgetxattr),
    (231, Sys::Fgetxattr),
    (232, Sys::Listxattr),
    (233, Sys::Llistxattr),
    (234, Sys::Flistxattr),
    (235, Sys::Removexattr),
    (236, Sys::Lremovexattr),
    (237, Sys::Fremovexattr),
    (463, Sys::XattrAt),
    (464, Sys::XattrAt),
    (465, Sys::XattrAt),
    (466, Sys::XattrAt),
    (213, Sys::Setuid),
    (214, Sys::Setgid),
    (203, Sys::Setreuid),
    (204, Sys::Setregid),
    (208, Sys::Setresuid),
    (210, Sys::Setresgid),
    (215, Sys::Setfsuid),
    (216, Sys::Setfsgid),
    (206, Sys::Setgroups),
    (199, Sys::Getuid),
    (201, Sys::Geteuid),
    (200, Sys::Getgid),
    (202, Sys::Getegid),
    (209, Sys::Getresuid),
    (211, Sys::Getresgid),
    (205, Sys::Getgroups),
    (61, Sys::Chroot),
    (217, Sys::PivotRoot),
    (310, Sys::Unshare),
    (346, Sys::Setns),
    (122, Sys::Uname),
    (192, Sys::Mmap),
    (359, Sys::Socket),
    (54, Sys::Ioctl),
    (425, Sys::IoUring),
    (426, Sys::IoUring),
    (427, Sys::IoUring),
    (36, Sys::Sync),
    (118, Sys::Sync),
    (148, Sys::Sync),
    (344, Sys::Sync),
    (314, Sys::Sync),
    (144, Sys::Sync),
    (23, Sys::Old),
    (46, Sys::Old),
    (70, Sys::Old),
    (71, Sys::Old),
    (81, Sys::Old),
    (164, Sys::Old),
    (170, Sys::Old),
    (138, Sys::Old),
    (139, Sys::Old),
    (16, Sys::Old),
    (95, Sys::Old),
    (182, Sys::Old),
];
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const COMPAT: &[(u32, Sys)] = &[];

/// Which call a notification is about.
pub(crate) fn decode(arch: u32, number: i32) -> Option<Sys> {
    let table = match arch {
        NATIVE_ARCH => NATIVE,
        COMPAT_ARCH => COMPAT,
        _ => return None,
    };
    let number = u32::try_from(number).ok()?;
    table.iter().find(|(n, _)| *n == number).map(|(_, sys)| *sys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_native_numbers_are_the_c_library_s() {
        let pairs = [
            (libc::SYS_statx, Sys::Statx),
            (libc::SYS_newfstatat, Sys::Fstatat),
            (libc::SYS_fchownat, Sys::Fchownat),
            (libc::SYS_mknodat, Sys::Mknodat),
            (libc::SYS_openat, Sys::Openat),
            (libc::SYS_lsetxattr, Sys::Lsetxattr),
            (libc::SYS_fremovexattr, Sys::Fremovexattr),
            (libc::SYS_setresuid, Sys::Setresuid),
            (libc::SYS_getgroups, Sys::Getgroups),
            (libc::SYS_setfsgid, Sys::Setfsgid),
            (libc::SYS_setns, Sys::Setns),
            (libc::SYS_uname, Sys::Uname),
            (libc::SYS_mmap, Sys::Mmap),
            (libc::SYS_sync_file_range, Sys::Sync),
            (libc::SYS_msync, Sys::Sync),
            (libc::SYS_syncfs, Sys::Sync),
        ];
        for (number, sys) in pairs {
            assert_eq!(decode(NATIVE_ARCH, number as i32), Some(sys), "{sys:?}");
        }
        assert_eq!(decode(NATIVE_ARCH, 100_000), None);
        assert_eq!(decode(1, 1), None);
    }

    #[test]
    fn no_number_is_there_twice() {
        for table in [NATIVE, COMPAT] {
            let mut numbers: Vec<_> = table.iter().map(|(n, _)| n).collect();
            numbers.sort();
            let len = numbers.len();
            numbers.dedup();
            assert_eq!(numbers.len(), len);
        }
    }
}
