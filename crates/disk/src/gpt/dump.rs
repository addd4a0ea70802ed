//! A table as text and as JSON, in the formats of sfdisk(8) `--dump` and `--json`.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::{SLOTS, Table};
use crate::{Designator, Sectors, TypeGuid};

/// The name of partition `slot` (counted from 0) of `device`, as libfdisk makes it.
pub fn node(device: &str, slot: u32) -> String {
    let infix = if device.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    format!("{device}{infix}{}", slot + 1)
}

/// The text that `sfdisk --dump` prints, and that `sfdisk` takes as a script. `disk` is
/// the real size of the disk.
pub fn text(table: &Table, disk: Sectors, device: &str) -> String {
    let mut out = format!(
        "label: gpt\nlabel-id: {:#}\ndevice: {device}\nunit: sectors\nfirst-lba: {}\n\
         last-lba: {}\n",
        table.guid, table.first_usable.0, table.last_usable.0
    );
    if table.slots != SLOTS {
        let _ = writeln!(out, "table-length: {}", table.slots);
    }
    if let Some(grain) = unusual_grain(table, disk) {
        let _ = writeln!(out, "grain: {grain}");
    }
    let _ = writeln!(out, "sector-size: {}", table.sector_size.get());
    if !table.entries.is_empty() {
        out.push('\n');
    }
    for (slot, entry) in &table.entries {
        let size = entry.sectors().map_or(0, |s| s.0);
        let _ = write!(
            out,
            "{} : start={:>12}, size={size:>12}, type={}, uuid={:#}",
            node(device, *slot),
            entry.first.0,
            kind(entry.kind),
            entry.guid
        );
        if !entry.name.is_empty() {
            let _ = write!(out, ", name=\"{}\"", quoted(&entry.name.to_string()));
        }
        if let Some(attributes) = attributes(entry.attributes) {
            let _ = write!(out, ", attrs=\"{attributes}\"");
        }
        out.push('\n');
    }
    out
}

/// What `sfdisk --json` prints.
pub fn json(table: &Table, disk: Sectors, device: &str) -> Value {
    let mut label = Map::new();
    let mut put = |key: &str, value: Value| label.insert(key.to_owned(), value);
    put("label", json!("gpt"));
    put("id", json!(format!("{:#}", table.guid)));
    put("device", json!(device));
    put("unit", json!("sectors"));
    put("firstlba", json!(table.first_usable.0));
    put("lastlba", json!(table.last_usable.0));
    if table.slots != SLOTS {
        put("table-length", json!(table.slots.to_string()));
    }
    if let Some(grain) = unusual_grain(table, disk) {
        put("grain", json!(grain.to_string()));
    }
    put("sectorsize", json!(table.sector_size.get()));
    let partitions: Vec<Value> = table
        .entries
        .iter()
        .map(|(slot, entry)| {
            let mut row = Map::new();
            let mut put = |key: &str, value: Value| row.insert(key.to_owned(), value);
            put("node", json!(node(device, *slot)));
            put("start", json!(entry.first.0));
            put("size", json!(entry.sectors().map_or(0, |s| s.0)));
            put("type", json!(kind(entry.kind)));
            put("uuid", json!(format!("{:#}", entry.guid)));
            if !entry.name.is_empty() {
                put("name", json!(entry.name.to_string()));
            }
            if let Some(attributes) = attributes(entry.attributes) {
                put("attrs", json!(attributes));
            }
            Value::Object(row)
        })
        .collect();
    if !partitions.is_empty() {
        put("partitions", Value::Array(partitions));
    }
    json!({ "partitiontable": label })
}

/// A type as libfdisk has it in its own table: upper case but for one.
fn kind(kind: TypeGuid) -> String {
    match kind.designator() {
        Designator::UserHome => kind.0.to_string(),
        _ => format!("{:#}", kind.0),
    }
}

/// What libfdisk aligns new partitions to where that is not 1 MiB: on a disk of no
/// more than four of those.
fn unusual_grain(table: &Table, disk: Sectors) -> Option<u64> {
    let small = disk.0 <= 4 * super::ALIGNMENT / table.sector_size.get();
    small.then_some(table.sector_size.get())
}

/// The attribute bits by name; those of the type (48 to 63) by number.
fn attributes(bits: u64) -> Option<String> {
    let named = ["RequiredPartition", "NoBlockIOProtocol", "LegacyBIOSBootable"];
    let mut words: Vec<String> = named
        .iter()
        .enumerate()
        .filter(|(bit, _)| bits >> bit & 1 == 1)
        .map(|(_, name)| (*name).to_owned())
        .collect();
    let own: Vec<String> =
        (48..64).filter(|bit| bits >> bit & 1 == 1).map(|bit| bit.to_string()).collect();
    if !own.is_empty() {
        words.push(format!("GUID:{}", own.join(",")));
    }
    (!words.is_empty()).then(|| words.join(" "))
}

/// What a shell would take as special, and all but printable ASCII, as `\xHH`.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' | b'`' | b'$' => {
                let _ = write!(out, "\\x{byte:02x}");
            }
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out
}
