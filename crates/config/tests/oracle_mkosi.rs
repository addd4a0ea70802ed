//! A living mkosi confirms the recordings that `recorded.rs` is tested with.

mod common;
mod generate;
mod known;
mod live;

#[test]
#[ignore = "oracle"]
fn mkosi_reads_the_same_configuration() {
    live::ask_about_one_of(4);
}
