//! Where the planner differs from systemd-repart on purpose (PARITY.md). That the
//! original does what is said of it here is what `recorded.rs` and `oracle_repart.rs`
//! compare, with [`Compat::original_bugs`].

use disk::definition::{Definition, Facts, Source, load};
use disk::plan::{Plan, Request, Size, plan};
use disk::{Architecture, Bytes, Compat, Version, derive};

const SEED: &str = "750b6cd5-c4ae-4012-a15e-7be3c29e6a47";
const MIB: u64 = 1 << 20;

fn planned(texts: &[(&str, &str)], size: Size, original_bugs: bool) -> Plan {
    let compat = Compat { version: Version::V257, original_bugs };
    let texts: Vec<_> = texts
        .iter()
        .map(|(name, text)| ((*name).to_owned(), format!("[Partition]\n{text}")))
        .collect();
    let facts = Facts::new(Architecture::X8664);
    let definitions: Vec<Definition> =
        load(Source::Texts(&texts), &facts, compat).unwrap().definitions;
    let request = Request {
        definitions: &definitions,
        content: Default::default(),
        existing: None,
        size,
        seed: SEED.parse().unwrap(),
        sector_size: None,
        grain: None,
        block_device: false,
        device: "img.raw".into(),
        defer: Default::default(),
        current: Bytes(0),
        compat,
    };
    plan(&request).unwrap()
}

#[test]
fn a_limit_on_one_side_of_a_supplement_is_kept() {
    // As small as can be: the size is the lower limit, and so is the padding.
    let sizes = |target: &str, supplement: &str, bugs| {
        let target = format!("Type=esp\n{target}");
        let supplement = format!("Type=xbootldr\nSupplementFor=10-esp\n{supplement}");
        let texts = [("10-esp.conf", &target[..]), ("20-more.conf", &supplement)];
        let plan = planned(&texts, Size::Auto, bugs);
        assert_eq!(plan.partitions.len(), 1, "they are one partition");
        (plan.partitions[0].size.0 / MIB, plan.partitions[0].padding.0 / MIB)
    };
    let (size, padding) = ("SizeMinBytes=300M\n", "PaddingMinBytes=20M\n");
    // (of the target, of the supplement, what is documented, what the original does)
    for (target, supplement, ours, theirs) in [
        (size, "", (300, 0), (10, 0)),
        ("", size, (300, 0), (300, 0)),
        (size, "SizeMinBytes=200M\n", (300, 0), (300, 0)),
        (padding, "", (10, 20), (10, 0)),
        ("", padding, (10, 20), (10, 0)),
        (padding, "PaddingMinBytes=30M\n", (10, 30), (10, 30)),
    ] {
        assert_eq!(sizes(target, supplement, false), ours, "{target}/{supplement}");
        assert_eq!(sizes(target, supplement, true), theirs, "{target}/{supplement}, original");
    }
}

#[test]
fn a_derived_uuid_that_is_taken_is_replaced_by_another_derived_one() {
    // What root would get, taken by somebody who asks for it.
    const ROOT: &str = "60f33797-1d71-4dcb-aa6f-20564f036cd0";
    // HMAC-SHA256 of the seed over "mkgold-replacement", ROOT and 0 as 64 bits, little
    // endian, made a UUID of version 4; computed by Python's hmac.
    const OTHER: &str = "ec1b1f44-80f0-4b65-80b0-15af0d6c2e9a";
    let uuids = |home: &str| {
        let texts = [("10-root.conf", "Type=root\n"), ("20-home.conf", home)];
        let plan = planned(&texts, Size::Fixed(Bytes(100 * MIB)), false);
        let uuids: Vec<_> = plan.partitions.iter().map(|p| p.uuid.to_string()).collect();
        let derived = derive::file_system(&plan.partitions[0].uuid);
        assert_eq!(plan.partitions[0].fs_uuid, derived);
        (uuids, plan.warnings.iter().any(|w| w.contains(ROOT) && w.contains("in use")))
    };
    let (free, warned) = uuids("Type=home\n");
    assert_eq!((&free[0][..], warned), (ROOT, false));
    let taken = format!("Type=home\nUUID={ROOT}\n");
    assert_eq!(uuids(&taken), (vec![OTHER.to_owned(), ROOT.to_owned()], true));
}
