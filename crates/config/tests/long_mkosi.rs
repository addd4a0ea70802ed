//! Every project through a living mkosi.

mod common;
mod generate;
mod known;
mod live;

#[test]
#[ignore = "long: asks mkosi some hundred times"]
fn mkosi_reads_every_configuration_alike() {
    live::ask_about_one_of(1);
}
