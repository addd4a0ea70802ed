//! Times parsing an index and loading its records: `measure_index PACKAGES-FILE`.
#![allow(clippy::print_stdout, reason = "a measurement")]

use std::time::Instant;

fn main() {
    let path = std::env::args().nth(1).expect("the path of a Packages file");
    let text = std::fs::read(path).expect("a file that can be read");
    let timed = |what: &str, start: Instant| {
        println!("{what}: {:.1} ms", start.elapsed().as_secs_f64() * 1e3)
    };
    let start = Instant::now();
    let records = apt::index::parse("Packages", &text).expect("an index");
    timed("parse", start);
    let start = Instant::now();
    let bytes = apt::records::encode(&records);
    timed("encode", start);
    println!(
        "{} records, {} MiB text, {} MiB kept",
        records.len(),
        text.len() >> 20,
        bytes.len() >> 20
    );
    for _ in 0..5 {
        let start = Instant::now();
        let again = apt::records::decode(&bytes).expect("what was encoded");
        timed("decode", start);
        assert!(again == records);
    }
}
