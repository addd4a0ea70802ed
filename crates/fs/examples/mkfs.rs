//! Makes a file system from a directory and tells how long it took: for
//! measuring against the mkfs tools. `mkfs ext4 DIR IMAGE [BYTES]`
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::Instant;

use tree::dir::{self, Owners};
use uuid::Uuid;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [format, from, to, rest @ ..] = &args[..] else {
        return Err("mkfs FORMAT DIR IMAGE [BYTES]".into());
    };
    let start = Instant::now();
    let options = dir::Options { owners: Owners::Preserve, mtime: None, xattrs: true };
    let tree = dir::read(Path::new(from), &options)?;
    let read = start.elapsed();
    let out = std::fs::File::create(to)?;
    let given = rest.first().map(|s| s.parse()).transpose()?;
    let start = Instant::now();
    let size = write(format, &tree, given, &out)?;
    println!("read {read:?}, measure and write {:?}, {size} bytes", start.elapsed());
    Ok(())
}

fn write(
    format: &str,
    tree: &tree::Tree,
    given: Option<u64>,
    out: &std::fs::File,
) -> Result<u64, Box<dyn std::error::Error>> {
    let uuid = Uuid::from_bytes([7; 16]);
    Ok(match format {
        "ext4" => {
            let mut options = fs::ext4::Ext4Options::new(uuid, 0);
            options.size = given.map_or_else(|| fs::ext4::measure(tree, &options), Ok)?;
            fs::ext4::write(tree, &options, out, 0)?;
            options.size
        }
        "erofs" => {
            let options = fs::erofs::ErofsOptions { uuid, label: String::new(), epoch: 0 };
            fs::erofs::write(tree, &options, out, 0)?
        }
        "vfat" => {
            let mut options = fs::fat::FatOptions::new(7, 0);
            options.size = given.map_or_else(|| fs::fat::measure(tree, &options), Ok)?;
            fs::fat::write(tree, &options, out, 0)?;
            options.size
        }
        _ => return Err("no such format".into()),
    })
}
