//! More orders in which writes may reach a disk whose power is cut; see `crash.rs`.
#![allow(clippy::print_stdout, reason = "figures for docs/")]

mod power;
#[path = "power/scenarios.rs"]
mod scenarios;

#[test]
#[ignore = "long: 5000 more orders for each of eight ways to change a disk"]
fn forty_thousand_orders_of_writes_lose_nothing() {
    let count = scenarios::check(5000);
    println!(
        "{} ways to change a disk, {} units written; {} cuts, {} of them different; nothing lost",
        count.scenarios, count.units, count.cuts, count.distinct
    );
    assert!(count.cuts > 40_000 && count.distinct > 10_000, "{count:?}");
}
