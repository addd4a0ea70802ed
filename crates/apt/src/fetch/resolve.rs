//! Name resolution in a static binary.
//!
//! glibc's `getaddrinfo` loads the modules that `nsswitch.conf` names at run time.
//! In a static binary that fails, or loads a library of another glibc into the
//! process. `files` and `dns` are built in since glibc 2.34: with these two,
//! `/etc/hosts` and the servers of `/etc/resolv.conf` answer, and nothing is loaded.

/// Tells glibc, once, to look up hosts in `/etc/hosts` and by DNS and nowhere else.
#[cfg(all(target_os = "linux", target_env = "gnu", target_feature = "crt-static"))]
pub(crate) fn use_built_in() {
    use std::ffi::{c_char, c_int};
    use std::sync::Once;

    unsafe extern "C" {
        /// `<nss.h>`: overrides the line of `nsswitch.conf` for a database.
        fn __nss_configure_lookup(database: *const c_char, line: *const c_char) -> c_int;
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: both arguments are NUL-terminated and live for ever; the function
        // copies what it needs and is called before the first lookup of this client.
        unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
    });
}

/// Dynamic binaries and other C libraries resolve names as the system does.
#[cfg(not(all(target_os = "linux", target_env = "gnu", target_feature = "crt-static")))]
pub(crate) fn use_built_in() {}
