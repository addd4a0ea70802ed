//! The same projects through the real mkosi.
//!
//! `MKGOLD_ORACLE` names the oracle root; the module of Debian sid's mkosi is laid over
//! the one in it ([`testkit::mkosi`]). `oracle_mkosi.rs` asks about some projects,
//! `long_mkosi.rs` about all; with `MKGOLD_RECORD` set that fetches mkosi anew and
//! writes the answers to `tests/data/`:
//! `MKGOLD_RECORD=1 cargo test -p mkgold-config --test long_mkosi -- --ignored`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use crate::common::{Answer, Node, Project, ROOT, Recording, generated, projects, unexplained};
use crate::generate::project;
use serde_json::Value;
use testkit::oracle;

fn write(project: &Project, directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    for (path, node) in &project.nodes {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match node {
            Node::Directory => fs::create_dir_all(&path).unwrap(),
            Node::Link(target) => symlink(target, &path).unwrap(),
            Node::File(body, mode) => {
                fs::write(&path, body).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
        }
    }
}

/// Runs mkosi in every project from one process that forks: loading the program
/// for each of some hundred projects takes ten times as long as running it.
const DRIVER: &str = r#"
import json, os, runpy, sys
import mkosi, mkosi.config, mkosi.__main__
for n, (args, env) in enumerate(json.load(open("/mnt/jobs.json"))):
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(f"/mnt/{n:04}.out", flags), 1)
        os.dup2(os.open(f"/mnt/{n:04}.err", flags), 2)
        os.chdir(f"/mnt/c{n:04}")
        os.environ.update(env)
        sys.argv = ["mkosi", *args, "--json", "summary"]
        runpy.run_module("mkosi", run_name="__main__", alter_sys=True)
        sys.exit(0)
    _, status = os.waitpid(pid, 0)
    open(f"/mnt/{n:04}.rc", "w").write(str(status))
"#;

/// Runs mkosi on all projects; the answers by name and mkosi's version.
fn ask(projects: &[Project]) -> (String, Vec<Answer>) {
    let work = tempfile::tempdir().unwrap();
    fs::set_permissions(work.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (index, project) in projects.iter().enumerate() {
        write(project, &work.path().join(format!("c{index:04}")));
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let module = testkit::mkosi::module(cache, std::env::var_os("MKGOLD_RECORD").is_some());
    let jobs: Vec<_> = projects.iter().map(|p| (&p.args, &p.env)).collect();
    fs::write(work.path().join("jobs.json"), serde_json::to_vec(&jobs).unwrap()).unwrap();
    fs::write(work.path().join("driver.py"), DRIVER).unwrap();
    let run = "python3 -m mkosi --version >/mnt/version; exec python3 /mnt/driver.py";
    fs::write(work.path().join("run.sh"), run).unwrap();
    let installed = Path::new("/").join(testkit::mkosi::MODULE);
    let over = [(&*module, &*installed)];
    let mut command = oracle::shell("exec sh /mnt/run.sh", work.path(), &over);
    let status = command.stdin(Stdio::null()).status().expect("unshare runs");
    assert!(status.success(), "the oracle could not be run: {status}");
    let version = fs::read_to_string(work.path().join("version")).expect("mkosi has a version");
    let version = version.trim().trim_start_matches("mkosi ").to_string();
    let answers = (0..projects.len()).map(|index| answer(work.path(), index)).collect();
    (version, answers)
}

fn answer(work: &Path, index: usize) -> Answer {
    let read = |kind: &str| fs::read_to_string(work.join(format!("{index:04}.{kind}"))).unwrap();
    let place = format!("/mnt/c{index:04}");
    if read("rc").trim() != "0" {
        let error = read("err");
        let last = error.lines().rfind(|l| l.starts_with('‣')).or(error.lines().last());
        return Answer::Error(last.unwrap_or_default().replace(&place, ROOT));
    }
    let text = read("out").replace(&place, ROOT);
    let json: Value = serde_json::from_str(&text).expect("mkosi writes JSON");
    let images = json["Images"].as_array().expect("images");
    let name = place.rsplit('/').next();
    let mut image = images.last().and_then(Value::as_object).expect("an image").clone();
    if image.get("Machine").and_then(Value::as_str) == name {
        image.insert("Machine".into(), "p".into());
    }
    if let Some(Value::Array(files)) = image.get_mut("Files") {
        // What mkosi includes from itself lies in a temporary directory.
        files.retain(|f| f.as_str().is_some_and(|f| f.starts_with(ROOT)));
    }
    Answer::Image(image)
}

fn record(version: String, projects: &[Project], mut answers: Vec<Answer>) -> Recording {
    let Some(Answer::Image(base)) = answers.pop() else {
        panic!("mkosi refused the empty project")
    };
    let mut by_name = BTreeMap::new();
    for (project, answer) in projects.iter().zip(answers) {
        let answer = match answer {
            Answer::Image(image) => {
                Answer::Image(image.into_iter().filter(|(k, v)| base.get(k) != Some(v)).collect())
            }
            error => error,
        };
        by_name.insert(project.name.clone(), answer);
    }
    Recording { version, base, answers: by_name }
}

/// How many generated projects are recorded.
const RECORDED: u64 = 300;

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("it is data")
}

/// A recording as text: an answer in a line.
fn text(recording: &Recording) -> String {
    let answers: Vec<_> = recording
        .answers
        .iter()
        .map(|(name, answer)| format!("{}:{}", json(name), json(answer)))
        .collect();
    let (version, base) = (json(&recording.version), json(&recording.base));
    let answers = answers.join(",\n");
    format!("{{\"version\":{version},\n\"base\":{base},\n\"answers\":{{\n{answers}\n}}}}\n")
}

/// Asks a living mkosi about one of `step` projects, those that were written by hand and
/// the generated ones; to record it generates them anew.
pub fn ask_about_one_of(step: usize) {
    let mut projects: Vec<_> = projects().into_iter().step_by(step).collect();
    let recording = std::env::var_os("MKGOLD_RECORD").is_some();
    let asked: Vec<_> = match recording {
        true => (0..RECORDED).map(project).collect(),
        false => generated().into_iter().step_by(step).collect(),
    };
    if recording {
        let text: String = asked.iter().map(Project::to_text).collect();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/generated.txt");
        fs::write(path, text).unwrap();
    }
    projects.extend(asked);
    let mut asked = projects.clone();
    asked.push(Project { name: "empty".into(), ..Project::default() });
    let (version, answers) = ask(&asked);
    let recording = record(version, &projects, answers);
    if step == 1 && std::env::var_os("MKGOLD_RECORD").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mkosi.json");
        fs::write(path, text(&recording)).unwrap();
        return;
    }
    let found = unexplained(&recording, crate::known::KNOWN, &projects);
    assert!(found.is_empty(), "mkosi {}:\n{}", recording.version, found.join("\n"));
}
