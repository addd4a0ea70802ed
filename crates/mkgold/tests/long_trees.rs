//! The trees of images of fifteen lists of packages against mmdebstrap's.

#[allow(dead_code, reason = "oracle_trees.rs uses the rest")]
mod mmdebstrap;

#[test]
#[ignore = "long: builds thirty trees"]
fn trees_are_those_of_apt_and_dpkg() {
    mmdebstrap::compare_trees(&[]);
}
