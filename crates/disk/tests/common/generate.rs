//! Makes cases from numbers: the same number, the same case, on every machine.

use super::{Case, Run};

/// SplitMix64: small, well known, and nobody else's version can change it.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn uuid(&mut self) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())
    }
}

const TYPES: [&str; 24] = [
    "root", "root", "usr", "home", "srv", "var", "tmp", "esp", "xbootldr", "swap",
    "linux-generic", "user-home", "root-secondary", "root-x86_64", "root-verity", "usr-verity",
    "root-verity-sig", "usr-arm64", "root-riscv64", "home", "linux-generic", "root", "swap",
    "0fc63daf-8483-4772-8e79-3d69d8477de5",
];
const SIZES: [&str; 16] = [
    "0", "1", "4096", "5000", "100K", "1M", "3M", "10M", "12345678", "20M", "33M", "64M", "100M",
    "1.5G", "4G", "40G",
];
const DISKS: [u64; 14] = [
    1 << 20, 2 << 20, 4 << 20, 5 << 20, 12 << 20, 32 << 20, 50_000_000, 64 << 20, 100 << 20,
    256 << 20, 1 << 30, 5_000_000_001, 100 << 30, 2 << 40,
];

pub fn case(id: u64) -> Case {
    let r = &mut Random::new(id.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let sector = r.of(&[512, 512, 512, 512, 1024, 2048, 4096]);
    let mut definitions = definitions(r, 0);
    let at = r.below(DISKS.len() as u64) as usize;
    let mut size = DISKS[at];
    let auto = r.chance(20);
    let seed = r.uuid();
    let dry = false;
    let first = Run {
        definitions: definitions.clone(),
        size: if auto { "auto".into() } else { size.to_string() },
        sector,
        seed: seed.clone(),
        dry,
    };
    let mut runs = vec![first];
    for _ in 0..r.below(3) {
        if r.chance(70) {
            definitions.extend(self::definitions(r, runs.len() as u64 * 10));
            definitions.sort();
            definitions.dedup_by(|a, b| a.0 == b.0);
        }
        if r.chance(30) && !definitions.is_empty() {
            let at = r.below(definitions.len() as u64) as usize;
            definitions.remove(at);
        }
        size = size.max(r.of(&DISKS)).saturating_mul(if r.chance(30) { 2 } else { 1 });
        let seed = if r.chance(80) { seed.clone() } else { r.uuid() };
        let size = if r.chance(10) { "auto".into() } else { size.to_string() };
        runs.push(Run { definitions: definitions.clone(), size, sector, seed, dry });
    }
    Case { id, runs }
}

fn definitions(r: &mut Random, base: u64) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let count = r.of(&[0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 8]);
    for i in 0..count {
        let name = format!("{:02}-p.conf", (base + i) % 100);
        let (text, rest) = definition(r, &all);
        if r.chance(8) {
            all.push((format!("{name}.d/10-more.conf"), format!("[Partition]\n{rest}")));
            all.push((name, text));
        } else {
            all.push((name, format!("{text}{rest}")));
        }
    }
    all
}

/// A definition, in two parts that make one.
fn definition(r: &mut Random, before: &[(String, String)]) -> (String, String) {
    let text = format!("[Partition]\nType={}\n", r.of(&TYPES));
    let mut rest = String::new();
    let mut put = |key: &str, value: String| rest += &format!("{key}={value}\n");
    if r.chance(60) {
        put("SizeMinBytes", r.of(&SIZES).into());
    }
    if r.chance(40) {
        put("SizeMaxBytes", r.of(&SIZES).into());
    }
    if r.chance(35) {
        put("Weight", r.of(&["0", "1", "250", "333", "1000", "3000", "1000000"]).into());
    }
    if r.chance(15) {
        put("PaddingWeight", r.of(&["0", "100", "1000", "7"]).into());
    }
    if r.chance(12) {
        put("PaddingMinBytes", r.of(&SIZES[..10]).into());
    }
    if r.chance(12) {
        put("PaddingMaxBytes", r.of(&SIZES).into());
    }
    if r.chance(25) {
        put("Priority", r.of(&["-5", "0", "1", "1", "2", "100"]).into());
    }
    if r.chance(25) {
        put("Label", r.of(&["data", "Ünicode ✓", "a \"quoted\" $x", "%a-x", "%%"]).into());
    }
    if r.chance(6) {
        let uuid = r.uuid();
        put("UUID", r.of(&["null", "", uuid.as_str()]).into());
    }
    if r.chance(10) {
        put("Flags", r.of(&["0x8000000000000004", "1", "7", "0b101", "4611686018427387904"]).into());
    }
    for key in ["NoAuto", "ReadOnly", "GrowFileSystem"] {
        if r.chance(12) {
            put(key, r.of(&["yes", "no", "", "maybe", "on"]).into());
        }
    }
    if r.chance(3) {
        put("Nonsense", "1".into());
    }
    let main = before.iter().map(|(name, _)| name).find(|name| !name.contains('/'));
    if let (true, Some(main)) = (r.chance(8), main) {
        put("SupplementFor", main.trim_end_matches(".conf").into());
    }
    (text, rest)
}
