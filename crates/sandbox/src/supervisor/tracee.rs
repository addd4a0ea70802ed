//! A process that waits in a system call: its arguments and its memory.

use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;

use crate::seccomp::abi::COMPAT_ARCH;
use crate::seccomp::notify::{self, Notification};
use crate::sys::check;

/// The longest path, its NUL included.
const PATH_MAX: usize = 4096;
const PAGE: u64 = 4096;

pub(crate) struct Tracee<'a> {
    notification: &'a Notification,
    listener: BorrowedFd<'a>,
}

impl<'a> Tracee<'a> {
    pub(crate) fn new(notification: &'a Notification, listener: BorrowedFd<'a>) -> Self {
        Tracee { notification, listener }
    }

    /// Its thread id, as this process sees it.
    pub(crate) fn pid(&self) -> u32 {
        self.notification.pid
    }

    pub(crate) fn id(&self) -> u64 {
        self.notification.id
    }

    pub(crate) fn listener(&self) -> BorrowedFd<'a> {
        self.listener
    }

    /// True if it called through the 32-bit interface.
    pub(crate) fn compat(&self) -> bool {
        self.notification.arch == COMPAT_ARCH
    }

    /// An argument as an address or a size.
    pub(crate) fn arg(&self, n: usize) -> u64 {
        let arg = self.notification.args[n];
        if self.compat() { arg & 0xffff_ffff } else { arg }
    }

    /// An argument that is an `unsigned int` (ids, modes, flags).
    pub(crate) fn int(&self, n: usize) -> u32 {
        self.notification.args[n] as u32
    }

    /// An argument that is a file descriptor.
    pub(crate) fn fd(&self, n: usize) -> i32 {
        self.notification.args[n] as i32
    }

    /// True if what was learnt about the process by its pid was about this process.
    pub(crate) fn valid(&self) -> bool {
        notify::still_valid(self.listener, self.notification.id)
    }

    /// Fills `buf` from its memory; fewer bytes if the mapping ends.
    fn read_some(&self, address: u64, buf: &mut [u8]) -> io::Result<usize> {
        let local = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
        let remote = libc::iovec { iov_base: address as *mut _, iov_len: buf.len() };
        // SAFETY: the local vector describes `buf`; the kernel checks the remote one.
        let got = unsafe { libc::process_vm_readv(self.pid() as i32, &local, 1, &remote, 1, 0) };
        check(got as i64).map(|n| n as usize)
    }

    /// Exactly `len` bytes of its memory.
    pub(crate) fn read(&self, address: u64, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        if len == 0 {
            return Some(bytes);
        }
        let got = self.read_some(address, &mut bytes).ok()?;
        (got == len && self.valid()).then_some(bytes)
    }

    /// A terminated string of fewer than `limit` bytes.
    pub(crate) fn string(&self, address: u64, limit: usize) -> Option<CString> {
        let mut text = Vec::new();
        let mut at = address;
        while text.len() < limit {
            // To the end of the page only: the next one may not be there.
            let rest = (PAGE - at % PAGE) as usize;
            let mut page = [0u8; PAGE as usize];
            let want = rest.min(limit - text.len()).min(if text.is_empty() { 256 } else { rest });
            let got = self.read_some(at, &mut page[..want]).ok()?;
            if got == 0 {
                return None;
            }
            if let Some(end) = page[..got].iter().position(|b| *b == 0) {
                text.extend_from_slice(&page[..end]);
                return if self.valid() { CString::new(text).ok() } else { None };
            }
            text.extend_from_slice(&page[..got]);
            at = at.checked_add(got as u64)?;
        }
        None
    }

    pub(crate) fn path(&self, address: u64) -> Option<CString> {
        self.string(address, PATH_MAX)
    }

    /// Writes into its memory. `EFAULT` is the caller's to report.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), i32> {
        if bytes.is_empty() {
            return Ok(());
        }
        if !self.valid() {
            return Err(libc::EINTR);
        }
        let local =
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let remote = libc::iovec { iov_base: address as *mut _, iov_len: bytes.len() };
        // SAFETY: the kernel only reads the local vector and checks the remote one.
        let put = unsafe { libc::process_vm_writev(self.pid() as i32, &local, 1, &remote, 1, 0) };
        if put == bytes.len() as isize { Ok(()) } else { Err(libc::EFAULT) }
    }
}
