//! [`Control`]: a package's control paragraph, and the form dpkg gives it in
//! `/var/lib/dpkg/status`.
//!
//! dpkg does not copy the paragraph: it writes the fields that it knows in its own
//! order and spelling, dependencies normalised, and the others after them as they
//! came. This does the same (deb-control(5); order and spelling as observed).
//!
//! What it is not: a parser of paragraphs (`debian::deb822`) or a database.

use std::borrow::Cow;

use debian::deb822::Paragraphs;
use debian::{Architecture, Constraint, PackageName, Relation, Relations, Version};

/// The fields that dpkg knows, in the order in which it writes them.
const KNOWN: &[(&str, Form)] = &[
    ("Package", Form::Text),
    ("Essential", Form::Flag),
    ("Protected", Form::Flag),
    ("Status", Form::Database),
    ("Priority", Form::Priority),
    ("Section", Form::Text),
    ("Installed-Size", Form::Text),
    ("Origin", Form::Text),
    ("Maintainer", Form::Text),
    ("Bugs", Form::Text),
    ("Architecture", Form::Text),
    ("Multi-Arch", Form::MultiArch),
    ("Source", Form::Text),
    ("Version", Form::Version),
    ("Config-Version", Form::Database),
    ("Replaces", Form::Relations),
    ("Provides", Form::Relations),
    ("Depends", Form::Relations),
    ("Pre-Depends", Form::Relations),
    ("Recommends", Form::Relations),
    ("Suggests", Form::Relations),
    ("Breaks", Form::Relations),
    ("Conflicts", Form::Relations),
    ("Enhances", Form::Relations),
    ("Conffiles", Form::Database),
    ("Description", Form::Text),
    ("Triggers-Pending", Form::Database),
    ("Triggers-Awaited", Form::Database),
];

/// How a known field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    /// Only if it says yes.
    Flag,
    /// Unless it says no.
    MultiArch,
    Relations,
    /// A known word in small letters, another as it is.
    Priority,
    Version,
    /// Comes from the database, never from a package.
    Database,
}

/// Why a control paragraph cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Not a paragraph.
    #[error(transparent)]
    Syntax(#[from] debian::deb822::Error),
    /// Not one paragraph.
    #[error("there is not exactly one paragraph")]
    Count,
    /// A part without which there is no package.
    #[error("the {0} is missing")]
    Missing(&'static str),
    /// A field that makes no sense.
    #[error("field {field}: {reason}")]
    Field {
        /// Its name.
        field: String,
        /// What is wrong with its value.
        reason: String,
    },
}

/// A checked control paragraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    name: PackageName,
    version: Version,
    architecture: Architecture,
    fields: Vec<(String, String)>,
}

impl Control {
    /// Parses and checks a package's `control` file.
    pub fn parse(bytes: &[u8]) -> Result<Control, ControlError> {
        let mut paragraphs = Paragraphs::from_bytes(bytes)?;
        let mut paragraph = Default::default();
        if !paragraphs.read_into(&mut paragraph)? {
            return Err(ControlError::Count);
        }
        if paragraphs.read_into(&mut Default::default())? {
            return Err(ControlError::Count);
        }
        let fields: Vec<(String, String)> =
            paragraph.fields().iter().map(|f| (f.name.into(), f.value.clone().into())).collect();
        Control::from_fields(fields)
    }

    /// Checks fields that come from anywhere.
    pub(crate) fn from_fields(fields: Vec<(String, String)>) -> Result<Control, ControlError> {
        let get = |name: &'static str| find(&fields, name).ok_or(ControlError::Missing(name));
        let bad = |field: &str, error: &dyn std::fmt::Display| ControlError::Field {
            field: field.into(),
            reason: error.to_string(),
        };
        let name = PackageName::new(get("Package")?).map_err(|e| bad("Package", &e))?;
        let version = Version::new(get("Version")?).map_err(|e| bad("Version", &e))?;
        let architecture = get("Architecture")?;
        let architecture = Architecture::new(architecture).map_err(|e| bad("Architecture", &e))?;
        for (field, value) in &fields {
            match form(field) {
                Some(Form::Relations) => {
                    Relations::new(value).map_err(|e| bad(field, &e))?;
                }
                Some(Form::Database) => {
                    return Err(bad(field, &"only dpkg's database may have it"));
                }
                Some(Form::Flag) if !matches!(&value[..], "yes" | "no") => {
                    return Err(bad(field, &"neither yes nor no"));
                }
                Some(Form::MultiArch)
                    if !matches!(&value[..], "no" | "same" | "foreign" | "allowed") =>
                {
                    return Err(bad(field, &"not one of no, same, foreign, allowed"));
                }
                _ => {}
            }
        }
        Ok(Control { name, version, architecture, fields })
    }

    /// The package's name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Its version.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Its architecture, `all` included.
    pub fn architecture(&self) -> &str {
        self.architecture.as_str()
    }

    /// A field, whatever the case of its name.
    pub fn get(&self, name: &str) -> Option<&str> {
        find(&self.fields, name)
    }

    /// The relations of a dependency field; empty where the field is absent.
    pub fn relations(&self, field: &str) -> Relations {
        let text = self.get(field).unwrap_or_default();
        Relations::new(text).expect("checked when it was parsed")
    }

    /// True for packages marked Essential.
    pub fn is_essential(&self) -> bool {
        self.get("Essential") == Some("yes")
    }

    /// True if instances of several architectures may be installed at once.
    pub fn is_multi_arch_same(&self) -> bool {
        self.get("Multi-Arch") == Some("same")
    }

    /// The name that its files in the database begin with.
    pub fn info_name(&self) -> String {
        match self.is_multi_arch_same() {
            true => format!("{}:{}", self.name, self.architecture),
            false => self.name.to_string(),
        }
    }

    /// The paragraph as dpkg writes it to `status`. `database` has the fields that
    /// are not the package's own; an empty value leaves a field out.
    pub fn status_paragraph(&self, database: &[(&str, &str)]) -> String {
        let mut out = String::with_capacity(2048);
        for (field, form) in KNOWN {
            let value = match form {
                Form::Database => {
                    database.iter().find(|(name, _)| name == field).map(|(_, value)| *value)
                }
                _ => self.get(field),
            };
            let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
            match form {
                Form::Flag if value != "yes" => {}
                Form::MultiArch if value == "no" => {}
                Form::Relations => {
                    let text = normal_relations(&self.relations(field));
                    if !text.is_empty() {
                        push(&mut out, field, &text);
                    }
                }
                Form::Priority => push(&mut out, field, &normal_priority(value)),
                Form::Version => push(&mut out, field, &normal_version(value)),
                _ => push(&mut out, field, value),
            }
        }
        for (field, value) in self.fields.iter().filter(|(field, _)| form(field).is_none()) {
            push(&mut out, field, value);
        }
        out.push('\n');
        out
    }
}

fn push(out: &mut String, field: &str, value: &str) {
    out.push_str(field);
    // A value that starts on the next line has no blank before it.
    out.push_str(if value.starts_with('\n') { ":" } else { ": " });
    out.push_str(value);
    out.push('\n');
}

/// As dpkg writes them: one blank between the parts, versions normal.
fn normal_relations(relations: &Relations) -> String {
    let alternative = |relation: Relation<'_>| {
        let version = relation.constraint.map(|c| (c.operator, normal_version(c.version)));
        let constraint = version.as_ref();
        let constraint =
            constraint.map(|(operator, v)| Constraint { operator: *operator, version: v });
        Relation { constraint, ..relation }.to_string()
    };
    let group = |group: debian::Group<'_>| {
        group.alternatives().map(alternative).collect::<Vec<_>>().join(" | ")
    };
    relations.groups().map(group).collect::<Vec<_>>().join(", ")
}

/// Without an epoch of zero.
fn normal_version(version: &str) -> Cow<'_, str> {
    match version.split_once(':').map(|(epoch, rest)| (epoch.trim_start_matches('0'), rest)) {
        Some(("", rest)) => rest.into(),
        Some((epoch, rest)) => format!("{epoch}:{rest}").into(),
        None => version.into(),
    }
}

fn normal_priority(priority: &str) -> Cow<'_, str> {
    let known = ["required", "important", "standard", "optional", "extra"];
    match known.iter().find(|name| name.eq_ignore_ascii_case(priority)) {
        Some(name) => (*name).into(),
        None => priority.into(),
    }
}

fn form(field: &str) -> Option<Form> {
    KNOWN.iter().find(|(name, _)| name.eq_ignore_ascii_case(field)).map(|(_, form)| *form)
}

fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| &value[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written to a database by dpkg 1.22.22 for the control file above it.
    const CONTROL: &str = "Version: 1.0-1\nX-Own:  kept \nPackage: demo\nEssential: no\n\
        depends: a(>=1),b|c:any (<< 2) ,\nArchitecture: amd64\nmulti-arch: same\n\
        Description: short\n long\n .\n more\nMaintainer: M <m@example.org>\n";
    const STATUS: &str = "Package: demo\nStatus: install ok unpacked\n\
        Maintainer: M <m@example.org>\nArchitecture: amd64\nMulti-Arch: same\n\
        Version: 1.0-1\nDepends: a (>= 1), b | c:any (<< 2)\nConffiles:\n /etc/d newconffile\n\
        Description: short\n long\n .\n more\nX-Own: kept\n\n";

    #[test]
    fn the_status_paragraph_is_dpkgs() {
        let control = Control::parse(CONTROL.as_bytes()).unwrap();
        let database = [("Status", "install ok unpacked"), ("Conffiles", "\n /etc/d newconffile")];
        assert_eq!(control.status_paragraph(&database), STATUS);
        assert_eq!(control.info_name(), "demo:amd64");
    }

    #[test]
    fn unusable_paragraphs_are_refused() {
        let cases = [
            ("", "exactly one"),
            ("Package: a\nVersion: 1\n", "Architecture"),
            ("Package: ../x\nVersion: 1\nArchitecture: all\n", "Package"),
            ("Package: a\nVersion: !\nArchitecture: all\n", "Version"),
            ("Package: a\nVersion: 1\nArchitecture: ../..\n", "Architecture"),
            ("Package: a\nVersion: 1\nArchitecture: all\nStatus: x\n", "only dpkg"),
            ("Package: a\nVersion: 1\nArchitecture: all\nDepends: (\n", "Depends"),
            ("Package: a\nVersion: 1\nArchitecture: all\n\nPackage: b\n", "exactly one"),
        ];
        for (text, message) in cases {
            let error = Control::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message), "{error} / {message}");
        }
    }
}
