//! A plan as JSON and as text, in the columns of systemd-repart.

use serde_json::{Map, Value, json};

use super::{Activity, Plan, PlannedPartition};
use crate::gpt::dump::node;
use crate::{Bytes, Version};

impl Activity {
    /// As the `activity` column has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Activity::Create => "create",
            Activity::Resize => "resize",
            Activity::Unchanged => "unchanged",
        }
    }
}

impl Plan {
    /// What `--json=` prints.
    pub fn to_json(&self) -> Value {
        let some = |f: fn(&PlannedPartition) -> bool| self.partitions.iter().any(f);
        let hashes = some(|p| p.roothash.is_some());
        let drop_ins = some(|p| !p.drop_ins.is_empty());
        let rows = self.partitions.iter().map(|p| {
            let mut row = Map::new();
            let mut put = |key: &str, value: Value| row.insert(key.to_owned(), value);
            put("type", json!(p.kind.to_string()));
            put("label", json!(if p.label.is_empty() { "-" } else { &p.label }));
            put("uuid", json!(p.uuid));
            put("partno", json!(p.slot));
            put("file", json!(p.file));
            put("node", json!(self.node(p)));
            put("offset", json!(p.offset));
            put("old_size", json!(p.old_size));
            put("raw_size", json!(p.size));
            put("old_padding", json!(p.old_padding));
            put("raw_padding", json!(p.padding));
            put("activity", json!(p.activity.as_str()));
            if hashes {
                put("roothash", json!(p.roothash));
            }
            if drop_ins {
                // 257 has an empty list where a partition has none, but not a foreign one.
                let listed = !p.drop_ins.is_empty()
                    || (self.version < Version::V262 && p.definition.is_some());
                let some = listed.then_some(&p.drop_ins);
                put("drop-in_files", json!(some));
            }
            Value::Object(row)
        });
        Value::Array(rows.collect())
    }

    /// The name of the partition's device node.
    pub fn node(&self, partition: &PlannedPartition) -> String {
        node(&self.device, partition.slot)
    }

    /// The table for people: what each partition is and how it changes.
    pub fn to_text(&self) -> String {
        if self.partitions.is_empty() {
            return "Empty partition table.\n".into();
        }
        let number = if self.version < Version::V262 { "PARTNO" } else { "PART" };
        let header = ["TYPE", "LABEL", "UUID", number, "FILE", "RAW SIZE", "SIZE", "PADDING"];
        let mut rows: Vec<Vec<String>> = vec![header.map(str::to_owned).to_vec()];
        rows.extend(self.partitions.iter().map(row));
        let sum = |f: fn(&PlannedPartition) -> u64| {
            let total = self.partitions.iter().map(f).fold(0, u64::saturating_add);
            format!("Σ = {}", Bytes(total))
        };
        let mut footer = vec![String::new(); 6];
        footer.extend([sum(|p| p.size.0), sum(|p| p.padding.0)]);
        rows.push(footer);
        if self.partitions.iter().any(|p| !p.drop_ins.is_empty()) {
            let lists = self.partitions.iter().map(|p| p.drop_ins.join(" "));
            let column = std::iter::once("DROP-IN FILES".to_owned()).chain(lists);
            rows.iter_mut().zip(column.chain([String::new()])).for_each(|(row, c)| row.push(c));
        }
        // 257 has numbers and padding on the left.
        let right: &[usize] = if self.version < Version::V262 { &[5, 6] } else { &[3, 5, 6, 7] };
        aligned(&rows, right)
    }
}

fn row(p: &PlannedPartition) -> Vec<String> {
    let file = p.file.as_deref().and_then(|f| f.rsplit('/').next()).unwrap_or("-");
    let label = if p.label.is_empty() { "-" } else { &p.label };
    vec![
        p.kind.to_string(),
        label.to_owned(),
        p.uuid.to_string(),
        p.slot.to_string(),
        file.to_owned(),
        p.size.0.to_string(),
        change(p, p.old_size, p.size),
        change(p, p.old_padding, p.padding),
    ]
}

/// `32M → 64M`, `→ 32M` for what is new, `32M` for what stays.
fn change(p: &PlannedPartition, old: Bytes, new: Bytes) -> String {
    match p.activity {
        Activity::Create => format!("→ {new}"),
        _ if old != new => format!("{old} → {new}"),
        _ => new.to_string(),
    }
}

/// Columns as wide as they have to be, those in `right` to the right. The last one is
/// not filled up.
fn aligned(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows[0].len();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let fill = " ".repeat(widths[column] - cell.chars().count());
            match (right.contains(&column), column + 1 == columns) {
                (true, _) => out.extend([&fill, cell.as_str()]),
                (false, true) => out.push_str(cell),
                (false, false) => out.extend([cell.as_str(), &fill]),
            }
            out.push(if column + 1 == columns { '\n' } else { ' ' });
        }
    }
    out
}
