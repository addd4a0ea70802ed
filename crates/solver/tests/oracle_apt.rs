//! The solver against apt-get on some lists of each release: those with the most to
//! choose. `long_apt.rs` has all.

mod common;
mod live;

const LISTS: [&str; 6] =
    ["baseline", "many-alternatives", "mail-postfix", "podman", "dkms", "removal"];

#[test]
#[ignore = "oracle"]
fn some_lists_of_trixie_are_solved_as_by_apt() {
    live::compare_lists("trixie", false, &LISTS);
}

#[test]
#[ignore = "oracle"]
fn some_lists_of_bookworm_are_solved_as_by_apt() {
    live::compare_lists("bookworm", false, &LISTS);
}
