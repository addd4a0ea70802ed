//! A plan as JSON and as text, in the columns of systemd-repart.

use std::collections::BTreeMap;

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
        let split = some(|p| p.split_path.is_some());
        let rows = self.partitions.iter().map(|p| {
            let mut row = Map::new();
            let mut put = |key: &str, value: Value| row.insert(key.to_owned(), value);
            put("type", json!(p.kind.to_string()));
            put("label", json!(shown_label(p)));
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
            if split {
                put("split_path", json!(p.split_path.as_deref().unwrap_or("-")));
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
        self.to_text_as(Style::default())
    }

    /// The same, as somebody wants it.
    pub fn to_text_as(&self, style: Style) -> String {
        if self.partitions.is_empty() {
            return "Empty partition table.\n".into();
        }
        let number = if self.version < Version::V262 { "PARTNO" } else { "PART" };
        let header = ["TYPE", "LABEL", "UUID", number, "FILE", "RAW SIZE", "SIZE", "PADDING"];
        let mut rows: Vec<Vec<String>> = vec![header.map(str::to_owned).to_vec()];
        rows.extend(self.partitions.iter().map(|p| row(p, style)));
        let sum = |f: fn(&PlannedPartition) -> u64| {
            let total = self.partitions.iter().map(f).fold(0, u64::saturating_add);
            format!("{} = {}", if style.utf8 { "Σ" } else { "S" }, Bytes(total))
        };
        let mut footer = vec![String::new(); 6];
        footer.extend([sum(|p| p.size.0), sum(|p| p.padding.0)]);
        rows.push(footer);
        if self.partitions.iter().any(|p| !p.drop_ins.is_empty()) {
            let lists = self.partitions.iter().map(|p| p.drop_ins.join(" "));
            let column = std::iter::once("DROP-IN FILES".to_owned()).chain(lists);
            rows.iter_mut().zip(column.chain([String::new()])).for_each(|(row, c)| row.push(c));
        }
        if !style.legend {
            rows.remove(0);
        }
        // 257 has numbers and padding on the left.
        let mut right = if self.version < Version::V262 { vec![5, 6] } else { vec![3, 5, 6, 7] };
        if !style.uuid {
            rows.iter_mut().for_each(|row| {
                row.remove(2);
            });
            right.iter_mut().for_each(|column| *column -= 1);
        }
        aligned(&rows, &right)
    }

    /// A picture of the disk, `columns` wide: a bar, and below it what is where.
    pub fn bar(&self, columns: usize, style: Style) -> String {
        let cells = columns.clamp(2, MAX_COLUMNS) - 2;
        let cell = |at: u64| {
            let total = u128::from(self.disk_size.0.max(1));
            (u128::from(at) * cells as u128 / total) as usize
        };
        let glyphs = if style.utf8 {
            ["▒", "░", "│ ", "├─", "└─"]
        } else {
            ["X", "-", "| ", "|-", "`-"]
        };
        let mut used = vec![false; cells];
        let mut starts = Vec::new();
        for p in &self.partitions {
            let from = cell(p.offset.0).min(cells.saturating_sub(1));
            let to = cell(p.offset.0.saturating_add(p.size.0)).min(cells);
            used.iter_mut().take(to).skip(from).for_each(|c| *c = true);
            starts.push(from);
        }
        let mut out = String::from(" ");
        used.iter().for_each(|used| out.push_str(if *used { glyphs[0] } else { glyphs[1] }));
        out.push('\n');
        // The last partition is explained first, so that no line crosses another.
        for at in (0..starts.len()).rev() {
            self.legend_line(at, &starts, cells, &glyphs, &mut out);
        }
        out
    }

    /// The line of the partition `at`: what begins before it goes on to its own line.
    fn legend_line(
        &self,
        at: usize,
        starts: &[usize],
        cells: usize,
        glyphs: &[&str; 5],
        out: &mut String,
    ) {
        let own = starts[at];
        let mut marks: BTreeMap<usize, String> = BTreeMap::new();
        for start in &starts[..at] {
            marks.insert(*start, glyphs[2].to_owned());
        }
        let branches = marks.contains_key(&own);
        let corner = if branches { glyphs[3] } else { glyphs[4] };
        marks.insert(own, format!("{corner} {}", self.hint(&self.partitions[at])));
        out.push(' ');
        let mut column = 0;
        while column < cells {
            match marks.get(&column) {
                Some(mark) => {
                    out.push_str(mark);
                    column += mark.chars().count();
                }
                None => {
                    out.push(' ');
                    column += 1;
                }
            }
        }
        out.push('\n');
    }

    /// What a partition is called below the bar.
    fn hint(&self, p: &PlannedPartition) -> String {
        match &p.file {
            Some(file) => file.rsplit('/').next().unwrap_or_default().to_owned(),
            None => match shown_label(p).as_str() {
                "-" => self.node(p),
                label => label.to_owned(),
            },
        }
    }
}

/// How tables and bars are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// With a line that names the columns.
    pub legend: bool,
    /// With characters beyond ASCII.
    pub utf8: bool,
    /// With the partitions' UUIDs.
    pub uuid: bool,
}

impl Default for Style {
    fn default() -> Self {
        Style { legend: true, utf8: true, uuid: true }
    }
}

/// No terminal is wider.
const MAX_COLUMNS: usize = 4096;

/// The label; that of a foreign partition without one is what its type is called.
fn shown_label(p: &PlannedPartition) -> String {
    match p.label.as_str() {
        "" if p.definition.is_none() => p.kind.identifier().unwrap_or_else(|| "-".into()),
        "" => "-".into(),
        label => label.to_owned(),
    }
}

fn row(p: &PlannedPartition, style: Style) -> Vec<String> {
    let file = p.file.as_deref().and_then(|f| f.rsplit('/').next()).unwrap_or("-");
    vec![
        p.kind.to_string(),
        shown_label(p),
        p.uuid.to_string(),
        p.slot.to_string(),
        file.to_owned(),
        p.size.0.to_string(),
        change(p, p.old_size, p.size, style),
        change(p, p.old_padding, p.padding, style),
    ]
}

/// `32M → 64M`, `→ 32M` for what is new, `32M` for what stays.
fn change(p: &PlannedPartition, old: Bytes, new: Bytes, style: Style) -> String {
    let arrow = if style.utf8 { "→" } else { "->" };
    match p.activity {
        Activity::Create => format!("{arrow} {new}"),
        _ if old != new => format!("{old} {arrow} {new}"),
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

/// JSON on many lines, as systemd writes it: tabs, and a blank before each colon.
pub fn pretty(value: &Value) -> String {
    let mut out = String::new();
    pretty_into(value, 0, &mut out);
    out
}

fn pretty_into(value: &Value, depth: usize, out: &mut String) {
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"\t".repeat(depth));
    };
    match value {
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                line(out, depth + 1);
                pretty_into(item, depth + 1, out);
            }
            line(out, depth);
            out.push(']');
        }
        Value::Object(fields) if !fields.is_empty() => {
            out.push('{');
            for (i, (key, field)) in fields.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                line(out, depth + 1);
                out.push_str(&format!("{} : ", Value::String(key.clone())));
                pretty_into(field, depth + 1, out);
            }
            line(out, depth);
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}
