//! The solver against apt-get on every list of `data/lists.txt`.

mod common;
mod live;

#[test]
#[ignore = "long: asks apt-get 140 times"]
fn trixie_is_solved_as_by_apt() {
    live::compare_lists("trixie", false, &[]);
}

#[test]
#[ignore = "long: asks apt-get 140 times"]
fn bookworm_is_solved_as_by_apt() {
    live::compare_lists("bookworm", false, &[]);
}

#[test]
#[ignore = "long: asks apt-get 30 times"]
fn trixie_with_i386_is_solved_as_by_apt() {
    live::compare_lists("trixie", true, &[]);
}

#[test]
#[ignore = "long: asks apt-get 30 times"]
fn bookworm_with_i386_is_solved_as_by_apt() {
    live::compare_lists("bookworm", true, &[]);
}
