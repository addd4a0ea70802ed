//! A configuration for people and for programs, from the settings table.
//!
//! The JSON has the shape of `mkosi --json summary` of mkosi 27, key by key; the
//! text is grouped by section.

use std::fmt::Write;

use serde_json::{Map, Value as Json, json};

use crate::config::{output_name, source_date_epoch};
use crate::loader::MAIN_IMAGE;
use crate::reading::Reading;
use crate::table::{Kind, SETTINGS, Section, Setting, Shape, State};
use crate::types::{Compression, default_release};
use crate::value::{self, Value};

/// `Initrds=` for the initrd that is made where none is given.
const DEFAULT: &str = "default";
/// The image that mkosi makes it of.
const DEFAULT_INITRD: &str = "default-initrd";

impl Reading {
    /// The configuration as `mkosi --json summary` would show it. It holds the root
    /// password as mkosi's does.
    pub fn to_json(&self) -> Json {
        json!({ "Images": [self.image()], "Tools": null })
    }

    /// The main image, every setting of it.
    pub(crate) fn image(&self) -> Map<String, Json> {
        let mut image = Map::new();
        image.insert("Image".into(), MAIN_IMAGE.into());
        image.insert("Files".into(), json!(self.read.applied));
        for setting in SETTINGS.iter().filter(|s| s.in_summary()) {
            image.insert(setting.name.into(), self.setting(setting));
        }
        self.build_subdirectory(&mut image);
        self.default_initrd(&mut image);
        image.sort_keys();
        image
    }

    /// A setting's value, or its default.
    fn setting(&self, s: &Setting) -> Json {
        let layers = &self.read.layers;
        let stored: Vec<&Value> = layers.values(s).into_iter().map(|v| &v.value).collect();
        if s.is_list() {
            let given = layers.list(s.name).is_some();
            return match s.name {
                "SplitArtifacts" if given => artifacts(&stored),
                "ProxyExclude" if !given => Json::Null,
                _ if given => list(s, &stored),
                _ => self.default(s),
            };
        }
        match stored.last() {
            Some(Value::Text(text)) if s.kind == Kind::ToolsTree && text == "default" => {
                json!(self.project.join("mkosi.tools"))
            }
            Some(Value::Bool(false)) if s.kind == Kind::ToolsTree => Json::Null,
            Some(value) => scalar(value),
            None => self.default(s),
        }
    }

    /// What a setting is that nothing was assigned to.
    fn default(&self, s: &Setting) -> Json {
        let text = |name: &str| self.text(name);
        match s.name {
            "Architecture" => self.facts.architecture.as_str().into(),
            "Release" => default_release(&text("Distribution").unwrap_or_default()).into(),
            "Output" => output_name(text("ImageId"), text("ImageVersion")).into(),
            "OutputExtension" => extension(&text("Format").unwrap_or_default()).into(),
            "CompressOutput" => compression(&text("Format").unwrap_or_default()).into(),
            "BuildSources" => json!([{ "Source": self.project, "Target": null }]),
            "Checksum" => (self.setting(crate::table::get("Sign")) == Json::Bool(true)).into(),
            "ProxyClientKey" => self.setting(crate::table::get("ProxyClientCertificate")),
            "Machine" if layers_touch(&self.read.layers, s) => Json::Null,
            "Machine" => {
                let name = self.project.file_name().map(|n| n.to_string_lossy().into_owned());
                name.unwrap_or_default().into()
            }
            "SourceDateEpoch" => {
                json!(source_date_epoch(&self.read, &self.facts).ok().flatten())
            }
            _ => plain_default(s),
        }
    }

    /// mkosi names the default initrd by the image that it is and by its output.
    fn default_initrd(&self, image: &mut Map<String, Json>) {
        let directory = match self.read.layers.scalar("OutputDirectory").map(|s| &s.value) {
            Some(Value::Path(directory)) => directory,
            _ => &self.project,
        };
        let output = json!(directory.join("initrd"));
        let Some(Json::Array(initrds)) = image.get_mut("Initrds") else { return };
        let mut wanted = false;
        for initrd in initrds.iter_mut().filter(|i| *i == DEFAULT) {
            (*initrd, wanted) = (output.clone(), true);
        }
        let bootable = self.text("Bootable").is_some_and(|b| b == "enabled");
        let bare = self.text("Format").is_some_and(|f| f == "uki" || f == "esp");
        if self.read.layers.list("Initrds").is_none() && bootable && !bare {
            initrds.push(output);
            wanted = true;
        }
        if let (Some(Json::Array(names)), true) = (image.get_mut("Dependencies"), wanted) {
            names.push(DEFAULT_INITRD.into());
        }
    }

    /// The directory below `BuildDirectory=` that `BuildKey=` names.
    fn build_subdirectory(&self, image: &mut Map<String, Json>) {
        let Some(Value::Path(directory)) =
            self.read.layers.scalar("BuildDirectory").map(|s| &s.value)
        else {
            return;
        };
        let key = self.text("BuildKey").unwrap_or_default();
        let path = match &*key {
            "-" => directory.clone(),
            key => directory.join(self.delayed(key)),
        };
        image.insert("BuildSubdirectory".into(), json!(path));
    }

    /// A text with its delayed specifiers (`&d` …) replaced.
    fn delayed(&self, text: &str) -> String {
        let mut out = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match (c, chars.clone().next()) {
                ('&', Some('&')) => out.push('&'),
                ('&', Some('I')) => out.push_str(MAIN_IMAGE),
                ('&', Some(letter @ ('d' | 'r' | 'a' | 'i' | 'v'))) => {
                    let names = [
                        ('d', "Distribution"),
                        ('r', "Release"),
                        ('a', "Architecture"),
                        ('i', "ImageId"),
                        ('v', "ImageVersion"),
                    ];
                    let name = names.iter().find(|(c, _)| *c == letter).map(|(_, name)| *name);
                    out.push_str(&name.and_then(|n| self.named(n)).unwrap_or_default());
                }
                ('&', Some(_)) => {}
                (c, _) => {
                    out.push(c);
                    continue;
                }
            }
            chars.next();
        }
        out
    }

    /// A setting that is text.
    fn named(&self, name: &str) -> Option<String> {
        self.setting(crate::table::get(name)).as_str().map(String::from)
    }

    fn text(&self, name: &str) -> Option<String> {
        let setting = crate::table::get(name);
        match self.read.layers.scalar(name).map(|s| &s.value) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => Some(setting.default.to_string()).filter(|d| !d.is_empty()),
        }
    }

    pub(crate) fn shown_setting(&self, s: &Setting) -> String {
        match self.setting(s) {
            Json::Null => "none".to_string(),
            v if s.secret && !v.as_array().is_some_and(Vec::is_empty) => "(set)".into(),
            v => plain(&v),
        }
    }

    /// The configuration for people: what is set, by section, without secrets.
    pub fn summary_text(&self) -> String {
        let json = self.to_json();
        let image = &json["Images"][0];
        let mut out = format!("PROJECT: {}\n", self.project.display());
        if self.unsupported.is_empty() {
            let _ = writeln!(out, "{:>26}: {}", "Output File", self.config().output.file_name());
        }
        let given = self.sources();
        for section in Section::ALL {
            let shown = |s: &&&Setting| s.state == State::Works || given.contains_key(s.name);
            let rows = SETTINGS.iter().filter(|s| s.section == section).filter(shown);
            let mut lines = String::new();
            for s in rows {
                if image.get(s.name).is_none() {
                    continue;
                }
                let shown = self.shown_setting(s);
                let shown = shown.replace('\n', &format!("\n{:28}", ""));
                let _ = writeln!(lines, "{:>26}: {shown}", s.name);
            }
            if !lines.is_empty() {
                let _ = write!(out, "\n{}:\n{lines}", section.as_str().to_uppercase());
            }
        }
        out
    }
}

/// Whether anything was assigned, if only nothing.
fn layers_touch(layers: &crate::layer::Layers, s: &Setting) -> bool {
    layers.upper.slot(s.name).is_some() || layers.files.slot(s.name).is_some()
}

/// `SplitArtifacts=`: a boolean stands for the default with or without partitions.
fn artifacts(values: &[&Value]) -> Json {
    let mut names: Vec<&str> = Vec::new();
    for value in values {
        match value {
            Value::Text(text) if text == "yes" => {
                names.extend(["uki", "kernel", "initrd", "partitions"])
            }
            Value::Text(text) if text == "no" => names.extend(["uki", "kernel", "initrd"]),
            Value::Text(text) => names.push(text),
            _ => {}
        }
    }
    json!(names)
}

/// The file name's extension that belongs to a format.
fn extension(format: &str) -> &'static str {
    match format {
        "disk" | "esp" | "sysext" | "confext" | "portable" => "raw",
        "cpio" => "cpio",
        "tar" => "tar",
        "uki" | "addon" => "efi",
        _ => "",
    }
}

/// How an output is compressed if nothing is said.
fn compression(format: &str) -> &'static str {
    match format {
        "tar" | "cpio" | "uki" | "esp" | "addon" => Compression::Zstd.as_str(),
        "oci" => Compression::Gz.as_str(),
        _ => Compression::None.as_str(),
    }
}

/// The default that the table gives.
fn plain_default(s: &Setting) -> Json {
    match (s.shape, s.kind) {
        (Shape::List(_), Kind::Assignment | Kind::Label) => json!({}),
        (Shape::List(_), _) => {
            let words = value::split(s, s.default).unwrap_or_default();
            json!(words)
        }
        (_, Kind::KeySource | Kind::CertificateSource) => key_source("file"),
        (_, Kind::Bool) => (s.default == "yes").into(),
        (_, _) if s.default.is_empty() => Json::Null,
        (_, Kind::VSock) => json!(-1),
        (_, Kind::Integer(..)) => json!(s.default.parse::<i64>().unwrap_or_default()),
        (_, Kind::Size) => json!(value::size_bytes(s.default)),
        _ => s.default.into(),
    }
}

/// `file`, or `engine:NAME` and `provider:NAME`.
fn key_source(text: &str) -> Json {
    let (kind, source) = text.split_once(':').unwrap_or((text, ""));
    json!({ "Type": kind, "Source": source })
}

/// The values of a list. Packages are a set to apt: mkosi sorts some of those lists; of
/// variables with one name the last counts.
fn list(s: &Setting, values: &[&Value]) -> Json {
    if matches!(s.kind, Kind::Assignment | Kind::Label) {
        let pair = |v: &&Value| match v {
            Value::Pair { name, value } => Some((name.clone(), Json::from(value.clone()))),
            _ => None,
        };
        let mut map: Map<String, Json> = values.iter().filter_map(pair).collect();
        map.sort_keys();
        return map.into();
    }
    if s.kind == Kind::Credential {
        return credentials(values);
    }
    let mut items: Vec<Json> = values.iter().map(|v| scalar(v)).collect();
    if s.is_set() {
        items.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    }
    items.into()
}

fn credentials(values: &[&Value]) -> Json {
    let mut shown = Vec::new();
    for value in values {
        let (name, path, text) = match value {
            Value::Pair { name, value } => (name.clone(), None, Some(value.clone())),
            Value::Path(path) => {
                let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
                (name.unwrap_or_default(), Some(path.clone()), None)
            }
            _ => continue,
        };
        shown.push(json!({ "Name": name, "Path": path, "Value": text }));
    }
    Json::Array(shown)
}

fn scalar(value: &Value) -> Json {
    match value {
        Value::Text(text) => text.clone().into(),
        Value::Bool(b) => (*b).into(),
        Value::Number(n) => (*n).into(),
        Value::Path(path) => json!(path),
        Value::Uuid(None) => "random".into(),
        Value::Uuid(Some(uuid)) => uuid.to_string().into(),
        Value::Tree { source, target } => json!({ "Source": source, "Target": target }),
        Value::Password { text, hashed } => json!([text, hashed]),
        Value::Pair { name, value } => json!([name, value]),
        Value::Drive(d) => json!({
            "Id": d.id, "Size": d.size, "Directory": d.directory, "Options": d.options,
            "FileId": d.file, "Flags": d.flags,
        }),
        Value::KeySource { kind, source } => json!({ "Type": kind, "Source": source }),
    }
}

/// A stored value as a person reads it.
pub(crate) fn shown(value: &Value) -> String {
    plain(&scalar(value))
}

/// A value as a person reads it: lists by line, booleans as yes and no.
fn plain(value: &Json) -> String {
    match value {
        Json::Null => "none".into(),
        Json::Bool(true) => "yes".into(),
        Json::Bool(false) => "no".into(),
        Json::String(text) => text.clone(),
        Json::Array(items) if items.is_empty() => "none".into(),
        Json::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join("\n"),
        Json::Object(map) if map.contains_key("Target") => match &map["Target"] {
            Json::Null => plain(&map["Source"]),
            target => format!("{}:{}", plain(&map["Source"]), plain(target)),
        },
        Json::Object(map) if map.is_empty() => "none".into(),
        Json::Object(map) => {
            map.iter().map(|(k, v)| format!("{k}={}", plain(v))).collect::<Vec<_>>().join("\n")
        }
        number => number.to_string(),
    }
}
