//! systemd's own tools on the cases of `toolbox/`: what they make of each must be what is
//! recorded. With `MKGOLD_RECORD` set it is recorded.

mod toolbox;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use toolbox::{Answer, cases};

/// The answers, one case per line.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/toolbox-257.jsonl");

#[test]
#[ignore = "oracle"]
fn systemd_answers_what_is_recorded() {
    let answers = ask();
    if std::env::var_os("MKGOLD_RECORD").is_some() {
        let lines = answers.iter().map(|(name, answer)| {
            let mut line = serde_json::json!({ "case": name });
            let object = line.as_object_mut().unwrap();
            object.extend(answer.to_json().as_object().unwrap().clone());
            line.to_string() + "\n"
        });
        fs::write(RECORDED, lines.collect::<String>()).unwrap();
        return;
    }
    let recorded = fs::read_to_string(RECORDED).unwrap();
    let recorded: BTreeMap<String, Answer> = recorded
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|value| (value["case"].as_str().unwrap().to_owned(), Answer::of_json(&value)))
        .collect();
    assert_eq!(answers.len(), recorded.len());
    for (name, answer) in &answers {
        assert_eq!(recorded.get(name), Some(answer), "{name}");
    }
}

/// All cases in one go: entering the root takes longer than they do.
fn ask() -> Vec<(String, Answer)> {
    let dir = tempfile::tempdir().unwrap();
    let cases = cases::all();
    let mut script = String::from("cd /mnt\numask 022\n");
    for (id, case) in cases.iter().enumerate() {
        case.lay_out(&dir.path().join(format!("{id}")), &dir.path().join(format!("{id}.c")));
        let words: Vec<_> = case.arguments.iter().map(|word| quote(word)).collect();
        writeln!(
            script,
            "CREDENTIALS_DIRECTORY=/mnt/{id}.c {} --root=/mnt/{id} {} >{id}.out 2>&1 </dev/null; \
             echo $? >{id}.status",
            case.tool,
            words.join(" ")
        )
        .unwrap();
    }
    let file = dir.path().join("script");
    fs::write(&file, script).unwrap();
    let output =
        testkit::oracle::shell("sh /mnt/script", dir.path(), &[]).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer = |(id, case): (usize, &toolbox::Case)| {
        let status = fs::read_to_string(dir.path().join(format!("{id}.status"))).unwrap();
        let status = status.trim().parse().unwrap();
        assert_ne!(status, 127, "{} is not in the oracle root", case.tool);
        (case.name.clone(), case.answer(&root(dir.path(), id), status))
    };
    cases.iter().enumerate().map(answer).collect()
}

fn root(dir: &Path, id: usize) -> std::path::PathBuf {
    dir.join(format!("{id}"))
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
