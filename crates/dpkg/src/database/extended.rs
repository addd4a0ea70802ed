//! `/var/lib/apt/extended_states`: which packages nobody asked for by name.

use std::collections::BTreeSet;

use debian::deb822::{Error, Paragraphs};

/// The file's new text: what `existing` says, and that each of `automatic` (name,
/// architecture) was installed automatically. The architecture of an `all`
/// package is the tree's own, as apt has it. Sorted by name, then architecture.
pub fn extended_states<'a>(
    existing: &str,
    automatic: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<String, Error> {
    let mut known = BTreeSet::new();
    let mut out = String::with_capacity(existing.len());
    let mut paragraphs = Paragraphs::new(existing);
    let mut paragraph = Default::default();
    while paragraphs.read_into(&mut paragraph)? {
        let get = |name| paragraph.get(name).unwrap_or_default().to_owned();
        known.insert((get("Package"), get("Architecture")));
    }
    out.push_str(existing.trim_end_matches('\n'));
    if !out.is_empty() {
        out.push_str("\n\n");
    }
    let new: BTreeSet<_> = automatic.into_iter().collect();
    for (name, architecture) in new {
        if !known.contains(&(name.to_owned(), architecture.to_owned())) {
            out.push_str(&format!(
                "Package: {name}\nArchitecture: {architecture}\nAuto-Installed: 1\n\n"
            ));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_packages_stay_as_they_are() {
        let existing = "Package: b\nArchitecture: amd64\nAuto-Installed: 0\n\n";
        let states = extended_states(existing, [("c", "amd64"), ("b", "amd64"), ("a", "i386")]);
        let expected = "Package: b\nArchitecture: amd64\nAuto-Installed: 0\n\n\
            Package: a\nArchitecture: i386\nAuto-Installed: 1\n\n\
            Package: c\nArchitecture: amd64\nAuto-Installed: 1\n\n";
        assert_eq!(states.unwrap(), expected);
    }
}
