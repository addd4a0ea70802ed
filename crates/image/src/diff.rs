//! In what two images differ: the disk, the packages, and every file.
//!
//! What it is not: a tool for builds (`build::compare`, which wants the same bytes). Two
//! images of one content on other file systems are equal here.

use std::collections::BTreeSet;
use std::io::{self, Read};

use serde::Serialize;
use tree::{Content, Kind, Node, Tree, TreePath};

use crate::summary::Summary;
use crate::{Partition, System};

/// Bytes of two contents that are compared at a time.
const STEP: usize = 1 << 20;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `disk`, `partition`, `os-release`, `entry`, `package`, `file` or `identity`.
    pub what: &'static str,
    /// Which one.
    pub name: String,
    /// How it is in the first, if it is there.
    pub left: Option<String>,
    /// How it is in the second, if it is there.
    pub right: Option<String>,
}

/// Everything that differs, in a fixed order.
pub fn differences(
    left: (&Summary, &System),
    right: (&Summary, &System),
) -> io::Result<Vec<Difference>> {
    let mut found = Vec::new();
    let (a, b) = (left.0, right.0);
    pairs("disk", disk(a), disk(b), &mut found);
    pairs("partition", partitions(a), partitions(b), &mut found);
    pairs("os-release", a.os_release.clone(), b.os_release.clone(), &mut found);
    pairs("entry", entries(a), entries(b), &mut found);
    pairs("package", a.packages.clone(), b.packages.clone(), &mut found);
    pairs("identity", identity(a), identity(b), &mut found);
    let volumes = [
        ("", Some(&left.1.root), Some(&right.1.root)),
        ("ESP:", left.1.esp.as_ref(), right.1.esp.as_ref()),
        ("XBOOTLDR:", left.1.xbootldr.as_ref(), right.1.xbootldr.as_ref()),
    ];
    let empty = Tree::new();
    for (prefix, left, right) in volumes {
        files(prefix, left.unwrap_or(&empty), right.unwrap_or(&empty), &mut found)?;
    }
    Ok(found)
}

fn pairs(
    what: &'static str,
    left: impl IntoIterator<Item = (String, String)>,
    right: impl IntoIterator<Item = (String, String)>,
    found: &mut Vec<Difference>,
) {
    let left: std::collections::BTreeMap<_, _> = left.into_iter().collect();
    let right: std::collections::BTreeMap<_, _> = right.into_iter().collect();
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    for name in names {
        let (a, b) = (left.get(name), right.get(name));
        if a != b {
            let (left, right) = (a.cloned(), b.cloned());
            found.push(Difference { what, name: name.clone(), left, right });
        }
    }
}

fn disk(summary: &Summary) -> Vec<(String, String)> {
    let size = summary.size.map(|size| ("size".to_owned(), size.to_string()));
    let table = summary.table.as_ref().map(|t| ("table".to_owned(), format!("{t:?}")));
    size.into_iter().chain(table).collect()
}

fn partitions(summary: &Summary) -> Vec<(String, String)> {
    let text = |p: &Partition| {
        let id = |id: Option<String>| id.unwrap_or_else(|| "-".into());
        let guid = p.guid.map(|guid| guid.to_string());
        format!(
            "{} '{}' at {} of {} bytes, flags {:#x}, UUID {}, {} '{}' {}",
            p.title(),
            p.name,
            p.offset,
            p.size,
            p.attributes,
            id(guid),
            p.probe.holds,
            id(p.probe.label.clone()),
            id(p.probe.uuid.clone()),
        )
    };
    summary.partitions.iter().map(|p| (p.number.to_string(), text(p))).collect()
}

fn entries(summary: &Summary) -> Vec<(String, String)> {
    let text = |e: &crate::summary::BootEntry| {
        format!("{}: {}", e.title.as_deref().unwrap_or("(no title)"), e.options)
    };
    summary.entries.iter().map(|e| (e.path.clone(), text(e))).collect()
}

fn identity(summary: &Summary) -> Vec<(String, String)> {
    vec![("first boot".into(), summary.first_boot.why.clone())]
}

fn files(prefix: &str, left: &Tree, right: &Tree, found: &mut Vec<Difference>) -> io::Result<()> {
    let paths: BTreeSet<&TreePath> =
        left.iter().chain(right.iter()).map(|(path, _, _)| path).collect();
    for path in paths {
        let (a, b) = (left.get(path), right.get(path));
        let same = match (a, b) {
            (Some(a), Some(b)) => describe(a) == describe(b) && same_content(a, b)?,
            _ => false,
        };
        if same {
            continue;
        }
        let (mut left, mut right) = (a.map(describe), b.map(describe));
        if left == right {
            let other = |text: &mut Option<String>, mark: &str| {
                if let Some(text) = text {
                    text.push_str(mark);
                }
            };
            other(&mut left, ", one content");
            other(&mut right, ", another content");
        }
        found.push(Difference { what: "file", name: format!("{prefix}{path}"), left, right });
    }
    Ok(())
}

/// Everything about a node but its content and time.
fn describe(node: &Node) -> String {
    let meta = &node.meta;
    let kind = match &node.kind {
        Kind::Dir => "directory".into(),
        Kind::File(content) => format!("file of {} bytes", content.len()),
        Kind::Symlink(target) => format!("link to {}", String::from_utf8_lossy(target)),
        Kind::CharDev(d) => format!("character device {}:{}", d.major, d.minor),
        Kind::BlockDev(d) => format!("block device {}:{}", d.major, d.minor),
        Kind::Fifo => "pipe".into(),
        Kind::Socket => "socket".into(),
    };
    let mut text = format!("{kind}, {:04o} {}:{}", meta.mode, meta.uid, meta.gid);
    for (name, value) in &meta.xattrs {
        let value: String = value.iter().take(64).map(|b| format!("{b:02x}")).collect();
        text.push_str(&format!(", {}={value}", String::from_utf8_lossy(name)));
    }
    text
}

fn same_content(a: &Node, b: &Node) -> io::Result<bool> {
    let (Some(a), Some(b)) = (a.content(), b.content()) else { return Ok(true) };
    if a.len() != b.len() {
        return Ok(false);
    }
    same_bytes(a, b)
}

fn same_bytes(a: &Content, b: &Content) -> io::Result<bool> {
    let (mut a, mut b) = (a.reader(), b.reader());
    let (mut left, mut right) = (vec![0; STEP], vec![0; STEP]);
    loop {
        let n = a.read(&mut left)?;
        b.read_exact(&mut right[..n])?;
        if left[..n] != right[..n] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}
