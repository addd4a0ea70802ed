//! What the first boot of an image will make of disks of several sizes (S9).
//!
//! What it is: the planner asked once for each size, with what cannot be met and the size
//! that it would need, as text and as a picture. What it is not: reading the image; its
//! table and its own definitions come in.
//!
//! A disk is taken to be a block device with the sectors that the table is made for. The
//! identifiers of new partitions derive from the machine ID, which is not known, so none
//! is shown.

use std::fmt::Write;

use crate::Bytes;
use crate::definition::CopyBlocks;
use crate::plan::{self, DropReason, Plan, PlanError, Request, Size, Style};

/// Sizes are looked for in steps of this.
const STEP: u64 = 1 << 20;
/// The parts of an SVG picture, in its units.
const WIDTH: u64 = 960;
const BAR: u64 = 28;
const ROW: u64 = 76;
/// Colours of partitions: what stays, what grows, what is new.
const COLOURS: [&str; 3] = ["#9aa5b1", "#5b8def", "#3fa66b"];

/// What happens on a disk of one size.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The size of the disk.
    pub size: Bytes,
    /// What is there afterwards, or why nothing is done.
    pub outcome: Result<Plan, PlanError>,
    /// The definitions that make no partition for want of room.
    pub unmet: Vec<Unmet>,
}

/// A definition that needs a larger disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// Its file.
    pub file: String,
    /// From which size on it is met, if any disk is large enough.
    pub needs: Option<Bytes>,
}

/// Plans for each size. `request` has the table that the image has; its size and its
/// contents are not looked at.
pub fn preview(request: &Request<'_>, sizes: &[Bytes]) -> Vec<Preview> {
    let mut request = request.clone();
    request.content = copied_sizes(&request);
    sizes.iter().map(|size| one(&mut request, *size)).collect()
}

/// `CopyBlocks=auto` copies the partition that is booted: the first of its type.
fn copied_sizes(request: &Request<'_>) -> std::collections::BTreeMap<usize, Bytes> {
    let Some(table) = request.existing.map(|f| &f.table) else { return Default::default() };
    let booted = |i: usize| {
        let d = &request.definitions[i];
        let auto = d.copy_blocks == Some(CopyBlocks::Auto);
        let source = table.entries.values().find(|e| auto && e.kind == d.kind)?;
        Some((i, source.sectors()?.bytes(table.sector_size)?))
    };
    (0..request.definitions.len()).filter_map(booted).collect()
}

fn one(request: &mut Request<'_>, size: Bytes) -> Preview {
    let current = request.existing.and_then(|f| f.disk.bytes(f.table.sector_size));
    let current = current.unwrap_or_default();
    if size < current {
        let outcome = Err(PlanError::DoesNotFit { size, needed: current });
        return Preview { size, outcome, unmet: Vec::new() };
    }
    request.size = Size::Fixed(size);
    let outcome = plan::plan(request);
    let files: Vec<String> = outcome.as_ref().map_or(Vec::new(), |plan| {
        let short = plan.dropped.iter().filter(|d| d.reason != DropReason::Supplement);
        short.map(|d| d.file.clone()).collect()
    });
    let unmet =
        files.into_iter().map(|file| Unmet { needs: needs(request, &file, size), file }).collect();
    Preview { size, outcome, unmet }
}

/// The smallest disk larger than `from` on which the definition makes a partition.
fn needs(request: &mut Request<'_>, file: &str, from: Bytes) -> Option<Bytes> {
    let mut met = |size: u64| {
        request.size = Size::Fixed(Bytes(size));
        plan::plan(request).is_ok_and(|plan| plan.dropped.iter().all(|d| d.file != file))
    };
    let (mut low, mut high) = (from.0 / STEP, (from.0 / STEP).max(1));
    while !met(high * STEP) {
        low = high;
        high = high.checked_mul(2).filter(|h| *h <= plan::MAX_DISK / STEP)?;
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if met(middle * STEP) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(Bytes(high * STEP))
}

/// All of it as text.
pub fn text(previews: &[Preview], columns: usize, style: Style) -> String {
    let style = Style { uuid: false, ..style };
    let mut out = String::new();
    for preview in previews {
        let _ = writeln!(out, "On a disk of {}:\n", preview.size);
        match &preview.outcome {
            Ok(plan) => {
                let _ = writeln!(out, "{}\n{}", plan.to_text_as(style), plan.bar(columns, style));
            }
            Err(e) => {
                let _ = writeln!(out, "nothing is done: {e}\n");
            }
        }
        for line in unmet_lines(preview) {
            let _ = writeln!(out, "{line}\n");
        }
    }
    out
}

/// A size in steps of [`STEP`], without the loss of digits that other sizes are shown with.
fn enough(size: Bytes) -> String {
    match size.0 / STEP {
        mib if mib.is_multiple_of(1024) => format!("{}G", mib / 1024),
        mib => format!("{mib}M"),
    }
}

fn unmet_lines(preview: &Preview) -> Vec<String> {
    let line = |unmet: &Unmet| match unmet.needs {
        Some(size) => {
            format!("{} is not met: it needs a disk of {}", unmet.file, enough(size))
        }
        None => format!("{} is not met on any disk", unmet.file),
    };
    preview.unmet.iter().map(line).collect()
}

/// All of it as an SVG picture.
pub fn svg(previews: &[Preview]) -> String {
    let lines: u64 = previews.iter().map(|p| p.unmet.len() as u64).sum();
    let height = ROW * previews.len() as u64 + 18 * lines + 40;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n"
    );
    let mut y = 10;
    for preview in previews {
        let _ = writeln!(out, "<text x=\"0\" y=\"{}\">{}</text>", y + 10, preview.size);
        match &preview.outcome {
            Ok(plan) => bar(plan, y + 16, &mut out),
            Err(e) => {
                let why = escaped(&format!("nothing is done: {e}"));
                let _ = writeln!(out, "<text x=\"8\" y=\"{}\">{why}</text>", y + 32);
            }
        }
        y += ROW;
        for line in unmet_lines(preview) {
            let _ = writeln!(out, "<text x=\"8\" y=\"{}\">{}</text>", y - 4, escaped(&line));
            y += 18;
        }
    }
    for (i, what) in ["unchanged", "grown", "new"].iter().enumerate() {
        let x = 8 + 100 * i as u64;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{}\"/>\
             <text x=\"{}\" y=\"{}\">{what}</text>",
            COLOURS[i],
            x + 18,
            y + 11
        );
    }
    out + "</svg>\n"
}

fn bar(plan: &Plan, y: u64, out: &mut String) {
    let total = u128::from(plan.disk_size.0.max(1));
    let place = |at: u64| (u128::from(at) * u128::from(WIDTH) / total) as u64;
    let _ = writeln!(
        out,
        "<rect x=\"0\" y=\"{y}\" width=\"{WIDTH}\" height=\"{BAR}\" fill=\"none\" stroke=\"#444\"/>"
    );
    for p in &plan.partitions {
        let colour = COLOURS[match p.activity {
            plan::Activity::Unchanged => 0,
            plan::Activity::Resize => 1,
            plan::Activity::Create => 2,
        }];
        let (from, to) = (place(p.offset.0), place(p.offset.0.saturating_add(p.size.0)));
        let width = (to - from).max(2);
        let name = if p.label.is_empty() { p.kind.to_string() } else { p.label.clone() };
        let title = escaped(&format!("{name}: {}", p.size));
        let _ = writeln!(
            out,
            "<rect x=\"{from}\" y=\"{y}\" width=\"{width}\" height=\"{BAR}\" fill=\"{colour}\" \
             stroke=\"#fff\"><title>{title}</title></rect>"
        );
        // A name that does not fit is still the title of its box.
        if width > 7 * title.chars().count() as u64 {
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{}\" fill=\"#fff\">{title}</text>",
                from + 5,
                y + 18
            );
        }
    }
}

/// As text in XML; what XML cannot have is left out.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
