//! Has systemd-repart in the directory `$MKGOLD_ORACLE` answer cases.
//!
//! All cases go through one script in one chroot.

use std::path::Path;

use disk::Version;
use testkit::oracle;

use super::{Answer, Case, IMAGE, make_initial, write_definitions};

/// What the oracle says it is, and which of our versions that is.
pub fn version() -> (String, Version) {
    let nothing = tempfile::tempdir().unwrap();
    let out = in_oracle(nothing.path(), "systemd-repart --version | head -n 1");
    let text = out.trim().to_owned();
    match text.split(' ').nth(1) {
        Some("257") => (text, Version::V257),
        Some("262") => (text, Version::V262),
        _ => panic!("the oracle has {text:?}; known are systemd 257 and 262"),
    }
}

/// Runs `script` in the oracle with `scratch` at `/mnt`. Returns what it prints.
pub fn in_oracle(scratch: &Path, script: &str) -> String {
    let output = oracle::shell(script, scratch, &[]).output().expect("unshare(1) runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the oracle failed: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The answers to each of the cases; none where the original crashed.
pub fn answers(cases: &[Case]) -> Vec<Option<Vec<Answer>>> {
    let dir = tempfile::tempdir().unwrap();
    let mut script = String::from("export TMPDIR=/mnt; cd /mnt\n");
    for case in cases {
        let name = format!("c{}", case.id);
        script += &format!("( mkdir -p /mnt/{name}; cd /mnt/{name}\n");
        if let Some(initial) = &case.disk {
            std::fs::create_dir_all(dir.path().join(&name)).unwrap();
            make_initial(initial, &dir.path().join(&name).join(IMAGE));
        }
        for (i, run) in case.runs.iter().enumerate() {
            write_definitions(&dir.path().join(format!("{name}/d{i}")), &run.definitions);
            script += &run_script(i, run, case.disk.is_none());
        }
        script += &format!("rm -f {IMAGE} )\n");
    }
    // Definitions are in the answers by their path, so each run has them at one place.
    std::fs::write(dir.path().join("script"), script).unwrap();
    in_oracle(dir.path(), ". /mnt/script");
    cases.iter().map(|case| collect(dir.path(), case)).collect()
}

fn run_script(i: usize, run: &super::Run, creates: bool) -> String {
    let (mut dry, mut before) = ("no", String::new());
    let mut options = String::new();
    let mut option = |name: &str, value: &str| options += &format!(" --{name}={value}");
    if run.dry {
        option("empty", "force");
        dry = "yes";
        before = format!("truncate -s {} {IMAGE}\n", run.size);
    } else if i == 0 && creates {
        option("empty", "create");
    }
    if !run.size.is_empty() {
        option("size", &run.size);
    }
    if run.sector != 0 {
        option("sector-size", &run.sector.to_string());
    }
    run.options.iter().for_each(|(name, value)| option(name, value));
    let sector = match run.sector {
        0 => "",
        _ => &format!("--sector-size {}", run.sector),
    };
    let bytes = if run.sector == 0 { 512 } else { run.sector };
    let (head, tail) = (2 * bytes + 16384, bytes + 16384);
    format!(
        "rm -rf /mnt/d; mv d{i} /mnt/d\n{before}\
         systemd-repart --offline=yes --dry-run={dry}{options} \
         --seed={seed} --definitions=/mnt/d \
         --json=short {IMAGE} >json{i} 2>err{i} || {{ echo $? >rc; exit 0; }}\n\
         touch ok{i}\n\
         sfdisk --dump {sector} {IMAGE} >dump{i} 2>/dev/null\n\
         head -c {head} {IMAGE} | sha256sum >head{i}; tail -c {tail} {IMAGE} | sha256sum >tail{i}\n",
        seed = run.seed
    )
}

fn collect(dir: &Path, case: &Case) -> Option<Vec<Answer>> {
    let dir = dir.join(format!("c{}", case.id));
    let status = std::fs::read_to_string(dir.join("rc")).map_or(0, |t| t.trim().parse().unwrap());
    if status >= 128 {
        return None;
    }
    let below = format!("\"/mnt/c{}/img", case.id);
    let mut answers = Vec::new();
    for (i, run) in case.runs.iter().enumerate() {
        let text = |name: &str| {
            std::fs::read_to_string(dir.join(format!("{name}{i}"))).unwrap_or_default()
        };
        let ok = dir.join(format!("ok{i}")).exists();
        let made = ok && !run.dry;
        let when = |made: bool, text: String| if made { text } else { String::new() };
        answers.push(Answer {
            ok,
            status: Some(if ok { 0 } else { status }),
            // An existing image is named by its whole path.
            json: when(ok, text("json").trim().replace(&below, "\"img")),
            dump: when(made, text("dump")),
            head: when(made, text("head").chars().take(16).collect()),
            tail: when(made, text("tail").chars().take(16).collect()),
        });
        if !ok {
            break;
        }
    }
    Some(answers)
}
