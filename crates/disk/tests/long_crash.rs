//! More orders in which writes may reach a disk whose power is cut; see `crash.rs`.

mod power;
#[path = "power/scenarios.rs"]
mod scenarios;

#[test]
#[ignore = "long: 2000 more orders for each of eight ways to change a disk"]
fn sixteen_thousand_orders_of_writes_lose_nothing() {
    let cuts = scenarios::check(2000);
    assert!(cuts > 16_000, "only {cuts} cuts");
}
