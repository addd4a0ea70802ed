//! The tree of one image against mmdebstrap's, and dpkg and apt at work in two.

mod mmdebstrap;

#[test]
#[ignore = "oracle"]
fn the_tree_of_a_server_is_that_of_apt_and_dpkg() {
    mmdebstrap::compare_trees(&["server"]);
}

#[test]
#[ignore = "oracle"]
fn packages_are_whole_and_apt_installs_more() {
    mmdebstrap::use_images();
}

#[test]
fn what_dpkg_and_apt_complain_about_is_seen() {
    let said = "Reading package lists...\nmissing     /usr/share/man/man1/x.1.gz\n\
                missing   c /etc/x\n??5??????   /usr/bin/x\n??5?????? c /etc/y\nW: twice\n";
    assert_eq!(mmdebstrap::complaints(said, false).len(), 4);
    assert_eq!(mmdebstrap::complaints(said, true).len(), 5);
}
