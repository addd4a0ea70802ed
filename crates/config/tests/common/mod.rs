//! Projects for comparing with mkosi: the format of `data/projects.txt`, and the
//! comparison.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::source::MemoryFiles;
use config::{Argument, Diagnostic, Facts, Reading, Request, cli, read_from};
use serde_json::{Map, Value};

/// Where every project lies, in memory and in recorded answers.
pub const ROOT: &str = "/mnt/p";

/// A project and how it is called.
#[derive(Debug, Clone, Default)]
pub struct Project {
    pub name: String,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub nodes: Vec<(String, Node)>,
}

#[derive(Debug, Clone)]
pub enum Node {
    File(String, u32),
    Directory,
    Link(String),
}

/// The projects of `data/projects.txt`.
pub fn projects() -> Vec<Project> {
    parse(include_str!("../data/projects.txt"))
}

fn parse(text: &str) -> Vec<Project> {
    let mut projects: Vec<Project> = Vec::new();
    let mut part = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            projects.push(Project { name: name.into(), ..Project::default() });
            continue;
        }
        let Some(project) = projects.last_mut() else { continue };
        if let Some(header) = line.strip_prefix("-- ") {
            part = header.to_string();
            match header {
                "args" | "env" => {}
                h if h.ends_with('/') => {
                    project.nodes.push((h.trim_end_matches('/').into(), Node::Directory));
                }
                h => project.nodes.push(node(h)),
            }
            continue;
        }
        match part.as_str() {
            "args" => project.args.push(line.into()),
            "env" => {
                let (name, value) = line.split_once('=').expect("NAME=VALUE");
                project.env.insert(name.into(), value.into());
            }
            _ => match project.nodes.last_mut() {
                Some((_, Node::File(body, _))) => {
                    body.push_str(line);
                    body.push('\n');
                }
                other => panic!("text below {other:?} in {}", project.name),
            },
        }
    }
    projects
}

fn node(header: &str) -> (String, Node) {
    if let Some((path, target)) = header.split_once(" -> ") {
        return (path.into(), Node::Link(target.into()));
    }
    match header.split_once(" mode=") {
        Some((path, mode)) => {
            let mode = u32::from_str_radix(mode, 8).expect("an octal mode");
            (path.into(), Node::File(String::new(), mode))
        }
        None => (header.into(), Node::File(String::new(), 0o644)),
    }
}

/// The generated projects of `data/generated.txt`.
pub fn generated() -> Vec<Project> {
    parse(include_str!("../data/generated.txt"))
}

impl Project {
    /// The project in the format of `data/projects.txt`.
    pub fn to_text(&self) -> String {
        let mut text = format!("== {}\n", self.name);
        if !self.args.is_empty() {
            text.push_str(&format!("-- args\n{}\n", self.args.join("\n")));
        }
        for (name, value) in &self.env {
            text.push_str(&format!("-- env\n{name}={value}\n"));
        }
        for (path, node) in &self.nodes {
            text.push_str(&match node {
                Node::Directory => format!("-- {path}/\n"),
                Node::Link(target) => format!("-- {path} -> {target}\n"),
                Node::File(body, 0o644) => format!("-- {path}\n{body}"),
                Node::File(body, mode) => format!("-- {path} mode={mode:o}\n{body}"),
            });
        }
        text
    }

    /// The directory below the root that `-C` names.
    pub fn directory(&self) -> PathBuf {
        let at = self.args.iter().position(|a| a == "-C");
        Path::new(ROOT).join(at.map_or("", |at| &self.args[at + 1]))
    }

    /// Whether mkgold would not take the embedded default. The others get an empty
    /// `mkosi.conf`, so that special paths alone can be compared.
    pub fn is_configured(&self) -> bool {
        let names =
            ["mkosi.conf", "mkosi.conf.d", "mkosi.local", "mkosi.local.conf", "mkosi.profiles"];
        let first = |p: &str| p.split('/').next().unwrap_or_default().to_string();
        let configures = |p: &str| names.contains(&first(p).as_str()) || p == "mkosi/mkosi.conf";
        self.nodes.iter().any(|(p, _)| configures(p)) || self.args.iter().any(|a| a == "-C")
    }

    /// The project in memory, with a little of a system around it.
    pub fn files(&self) -> MemoryFiles {
        let mut files = MemoryFiles::default();
        if !self.is_configured() {
            files.file(Path::new(ROOT).join("mkosi.conf"), "");
        }
        files.directory(ROOT).directory("/etc").directory("/root");
        for (path, node) in &self.nodes {
            let path = Path::new(ROOT).join(path);
            match node {
                Node::File(body, mode) => files.file_with_mode(path, body.as_str(), *mode),
                Node::Directory => files.directory(path),
                Node::Link(target) => files.link(path, target),
            };
        }
        files
    }

    /// The arguments as settings.
    pub fn request(&self) -> Request {
        let mut args = Vec::new();
        let mut words = self.args.iter();
        while let Some(word) = words.next() {
            if word == "-C" {
                words.next();
                continue;
            }
            if let Some((option, value)) = word.split_once('=').filter(|_| word.starts_with("--")) {
                args.push(Argument::new(option, value));
                continue;
            }
            let flag = cli::find(word).and_then(|s| s.flag);
            let value = match flag {
                Some(value) => value.to_string(),
                None => words.next().expect("an option's value").clone(),
            };
            args.push(Argument::new(word, value));
        }
        Request { args }
    }

    /// What mkgold makes of it.
    pub fn read(&self) -> Result<Reading, Vec<Diagnostic>> {
        let facts = Facts { home: Some("/root".into()), env: self.env.clone(), ..Facts::default() };
        read_from(&self.files(), &self.directory(), &self.request(), &facts)
    }
}

/// mkosi's answer to one project: the supported keys of the main image, or an
/// error.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    Image(Map<String, Value>),
    Error(String),
}

/// Recorded answers. Keys that equal those of the empty project are left out.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Recording {
    pub version: String,
    pub base: Map<String, Value>,
    pub answers: BTreeMap<String, Answer>,
}

impl Recording {
    /// The whole answer to a project.
    pub fn answer(&self, name: &str) -> Option<Answer> {
        Some(match self.answers.get(name)? {
            Answer::Error(text) => Answer::Error(text.clone()),
            Answer::Image(changed) => {
                let mut image = self.base.clone();
                image.extend(changed.clone());
                Answer::Image(image)
            }
        })
    }
}

/// A difference from mkosi that is meant, with its reason.
pub struct Known {
    /// Which projects: those whose name begins so; empty for all.
    pub projects: &'static str,
    /// Which key; `error` where one of the two refuses.
    pub key: &'static str,
    pub reason: &'static str,
}

/// Every difference between mkosi's answer and ours: (key, mkosi's, ours).
pub fn differences(answer: &Answer, project: &Project) -> Vec<(String, String, String)> {
    let ours = project.read();
    let image = match (answer, &ours) {
        (Answer::Error(_), Err(_)) => return Vec::new(),
        (Answer::Error(text), Ok(_)) => {
            return vec![("error".into(), text.clone(), "accepted".into())];
        }
        (Answer::Image(_), Err(errors)) => {
            let texts: Vec<_> = errors.iter().map(|d| d.message.clone()).collect();
            return vec![("error".into(), "accepted".into(), texts.join("; "))];
        }
        (Answer::Image(image), Ok(_)) => image,
    };
    let mut json = ours.expect("handled above").to_json();
    let own = json["Images"][0].as_object_mut().expect("an image");
    if let (Some(Value::Array(files)), false) = (own.get_mut("Files"), project.is_configured()) {
        files.retain(|f| f.as_str() != Some(&format!("{ROOT}/mkosi.conf")));
    }
    let keys: std::collections::BTreeSet<_> = own.keys().chain(image.keys()).collect();
    let shown = |value: Option<&Value>| value.map_or("no such key".into(), Value::to_string);
    let differs = |key: &&String| own.get(*key) != image.get(*key);
    let row = |key: &String| (key.clone(), shown(image.get(key)), shown(own.get(key)));
    keys.into_iter().filter(differs).map(row).collect()
}

/// The name under which differences of defaults are explained.
pub const DEFAULTS: &str = "(defaults)";

/// Compares a recording with what mkgold makes of the projects; returns the
/// differences that no entry of `known` explains, and the entries that explain
/// nothing where all projects are compared. A default that differs is one
/// difference, not one for each project.
pub fn unexplained(recording: &Recording, known: &[Known], projects: &[Project]) -> Vec<String> {
    let mut used = vec![false; known.len()];
    let mut unexplained = Vec::new();
    // A project with an empty file: without any, the embedded default is built.
    let mut empty = Project { name: DEFAULTS.into(), ..Project::default() };
    empty.nodes.push(("mkosi.conf".into(), Node::File(String::new(), 0o644)));
    let base = Answer::Image(recording.base.clone());
    let mut defaults = differences(&base, &empty);
    defaults.retain(|(key, ..)| key != "Files");
    let mut explain = |name: &str, found: &[(String, String, String)]| {
        for (key, theirs, own) in found {
            let explains = |k: &Known| k.key == key && name.starts_with(k.projects);
            match known.iter().position(explains) {
                Some(at) => used[at] = true,
                None => {
                    let shown = format!("{name}: {key}\n    mkosi:  {theirs}\n    mkgold: {own}");
                    unexplained.push(shown);
                }
            }
        }
    };
    explain(DEFAULTS, &defaults);
    for project in projects {
        let Some(answer) = recording.answer(&project.name) else {
            explain(&project.name, &[("no answer".into(), String::new(), String::new())]);
            continue;
        };
        let mut found = differences(&answer, project);
        found.retain(|difference| !defaults.contains(difference));
        explain(&project.name, &found);
    }
    let complete = projects.len() > self::projects().len();
    for (known, used) in known.iter().zip(used) {
        if !used && complete {
            unexplained.push(format!("nothing differs: {:?} {}", known.projects, known.key));
        }
    }
    unexplained
}
