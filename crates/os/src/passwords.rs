//! Whether a password is the one that a line of shadow(5) holds.
//!
//! Only yescrypt, which Debian has made by default since 11, and only with what its
//! libcrypt asks for: a hash says how much memory and time it takes to check, and the
//! hash may be anybody's.

use yescrypt::{PasswordVerifier, Yescrypt};

/// Flags, N and r as libcrypt writes them at its costs 5 (the default) and below; one
/// check takes 16 MiB at most.
const COSTS: [&str; 5] = ["$y$j75$", "$y$j85$", "$y$j7T$", "$y$j8T$", "$y$j9T$"];

/// True if `password` gives `hash`; false also for schemes that are not known.
pub fn is(hash: &str, password: &str) -> bool {
    COSTS.iter().any(|cost| hash.starts_with(cost))
        && Yescrypt::default().verify_password(password.as_bytes(), hash).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_is_the_password_and_costs_are_bounded() {
        assert!(!is("$y$jFT$LdJMENpBABJJ3hIHjB1Bi.$x", "x") && !is("*", "x") && !is("", ""));
        let own = crate::firstboot::hash_password("debian", b"seed").unwrap();
        assert!(is(&own, "debian") && !is(&own, "root"));
    }
}
