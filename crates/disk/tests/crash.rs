//! The power is cut while a disk is changed (S8): at every write, and in other orders of
//! the writes that the syncs allow. `long_crash.rs` tries more of them.

mod power;
#[path = "power/scenarios.rs"]
mod scenarios;

#[test]
fn a_power_cut_at_any_write_loses_nothing_and_the_next_run_finishes() {
    let cuts = scenarios::check(25);
    assert!(cuts.cuts > 700 && cuts.distinct > 500, "only {cuts:?}");
}
