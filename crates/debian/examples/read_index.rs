//! Reads `Packages` indices and says how long it took: `read_index FILE…`.

#![allow(clippy::print_stdout, reason = "a program for measuring")]

use std::time::Instant;

use debian::Interner;
use debian::deb822::{Paragraph, Paragraphs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut interner = Interner::new();
    for file in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&file)?;
        let start = Instant::now();
        let mut paragraphs = Paragraphs::new(&text);
        let mut paragraph = Paragraph::default();
        let mut fields = 0;
        while paragraphs.read_into(&mut paragraph)? {
            fields += paragraph.fields().len();
        }
        println!("{file}: {} bytes, {fields} fields in {:?}", text.len(), start.elapsed());
        let start = Instant::now();
        let records = debian::read_packages_with(&text, &mut interner)?;
        println!("{} records in {:?}", records.len(), start.elapsed());
    }
    Ok(())
}
